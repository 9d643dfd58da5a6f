"""Checks every file of `vectors/`; a file without a check here is a failure too."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV
from kyber_py.ml_kem import ML_KEM_768

from . import crypto, frames, handshake, lists, senses, wire
from .crypto import SUITES, Keys, Schedule
from .frames import Frame
from .wire import Reader, Refused

Vector = dict[str, Any]


def must(good: object, what: object) -> None:
    if not good:
        raise AssertionError(f"does not agree: {what}")


def must_refuse(read: Callable[[], object], what: object) -> None:
    try:
        got = read()
    except Refused:
        return
    must(got is None, f"{what} is taken as {got}")


def unhex(text: str) -> bytes:
    return bytes.fromhex(text)


def plain(value: Any) -> Any:
    """A frame as the vectors write it: numbers as decimal text, bytes in hexadecimal."""
    match value:
        case bool() | None | str():
            return value
        case int():
            return str(value)
        case bytes():
            return value.hex()
        case dict():
            return {key: plain(each) for key, each in value.items()}
        case _:
            return [plain(each) for each in value]


# Fields that the vectors call otherwise than the specification.
RENAMED = {
    "ACK": {"delay": "delay_8us"},
    "ACK_FREQUENCY": {"delay_max": "delay_max_us"},
    "MAX_DATA": {"limit": "value"},
    "MAX_STREAM_DATA": {"limit": "value"},
    "DATA_BLOCKED": {"limit": "value"},
    "STREAM_DATA_BLOCKED": {"limit": "value"},
    "MAX_STREAMS": {"limit": "value"},
    "STREAMS_BLOCKED": {"limit": "value"},
    "STOP_SENDING": {"code": "value"},
    "RETIRE_CONNECTION_ID": {"sequence": "value"},
    "FINISH": {"end": "value"},
    "CONSUMED": {"number": "value"},
}


def as_vector(frame: Frame) -> Vector:
    names = RENAMED.get(frame["frame"], {})
    out = {names.get(key, key): plain(value) for key, value in frame.items()}
    if frame["frame"] == "MESSAGE":
        out["kind"] = frame["kind"]
    if frame["frame"] == "CLOSE":
        out["by_application"] = out.pop("space") == "1"
    return out


def check_frames(vectors: Vector) -> None:
    for vector in vectors["frames"]:
        data, want = unhex(vector["hex"]), {k: v for k, v in vector.items() if k != "hex"}
        found = frames.parse_frames(data)
        must(b"".join(map(frames.encode, found)) == data, vector)
        if want["frame"] == "PADDING":
            must(len(found) == int(want["value"]), vector)
        else:
            must([as_vector(frame) for frame in found] == [want], vector)
    for vector in vectors["shapes"]:
        data, want = unhex(vector["hex"]), dict(vector["frame"])
        (frame,) = frames.parse_shape(vector["shape"], data)
        must(as_vector(frame) == want, vector)
        must(frames.encode_shape(vector["shape"], frame) == data, vector)
    for vector in vectors["refused"]:
        must_refuse(lambda: frames.parse_frames(unhex(vector["hex"])), vector)
    check_sections(vectors)


def check_sections(vectors: Vector) -> None:
    for vector in vectors["receive_times"]:
        times = senses.parse_receive_times(unhex(vector["hex"]), int(vector["largest"]))
        must(plain(times) == vector["times"], vector)
    for vector in vectors["receive_times_refused"]:
        data, largest = unhex(vector["hex"]), int(vector["largest"])
        must_refuse(lambda: senses.parse_receive_times(data, largest), vector)
    for vector in vectors["recovered"]:
        numbers = senses.parse_recovered(unhex(vector["hex"]), int(vector["largest"]))
        must(plain(numbers) == vector["numbers"], vector)
    for vector in vectors["repairs"]:
        below, symbol = senses.parse_repair(unhex(vector["hex"]))
        must(below == vector["members_below"] and symbol.hex() == vector["symbol"], vector)


def check_headers(vectors: Vector) -> None:
    mask, rest = unhex(vectors["mask"]), unhex(vectors["rest"])
    kinds = {"initial": wire.INITIAL, "0-rtt": 1, "handshake": wire.HANDSHAKE}
    for vector in vectors["long"]:
        data, size = unhex(vector["hex"]), vector["number_bytes"]
        head = wire.parse_long(data, 0)
        dcid, scid, token = (unhex(vector[name]) for name in ("dcid", "scid", "token"))
        kind, at, number = kinds[vector["type"]], vector["number_offset"], int(vector["number"])
        must(head == wire.Long(kind, dcid, scid, token, at, len(data)), vector)
        made = wire.long_header(kind, dcid, scid, token, number, size, len(rest)) + rest
        must(made == data, vector)
        masked = wire.apply_mask(data, at, size, mask)
        must(masked == unhex(vector["masked"]), vector)
    for vector in vectors["short"]:
        data, size, dcid = unhex(vector["hex"]), vector["number_bytes"], unhex(vector["dcid"])
        phase, number = vector["key_phase"], int(vector["number"])
        must(wire.short_header(dcid, phase, vector["shape"], number, size) + rest == data, vector)
        must(wire.apply_mask(data, 1 + len(dcid), size, mask) == unhex(vector["masked"]), vector)
    for vector in vectors["retry"]:
        want = [unhex(vector[name]) for name in ("dcid", "scid", "token", "tag")]
        must(wire.parse_long(unhex(vector["hex"]), 0) == wire.Retry(*want), vector)
    for vector in vectors["version_negotiation"]:
        versions = [int(version, 16) for version in vector["versions"]]
        answer = wire.VersionNegotiation(unhex(vector["dcid"]), unhex(vector["scid"]), versions)
        must(wire.parse_long(unhex(vector["hex"]), 0) == answer, vector)
    for vector in vectors["refused"]:
        data = unhex(vector["hex"])
        if data[0] & 0x80:
            must_refuse(lambda: wire.parse_long(data, 0), vector)
        else:
            must(not wire.is_short(data), vector)


def check_numbers(vectors: Vector) -> None:
    for vector in vectors["sent"]:
        acknowledged = vector["largest_acknowledged"]
        before = -1 if acknowledged is None else int(acknowledged)
        size = wire.number_length(int(vector["number"]), before)
        must(size == vector["bytes"], vector)
    for vector in vectors["received"]:
        number = wire.complete(int(vector["low"]), 8 * vector["bytes"], int(vector["expected"]))
        must(number == int(vector["number"]), vector)


def check_parameters(vectors: Vector) -> None:
    renamed = {"idle_timeout": "idle_timeout_ms", "ack_delay_max": "ack_delay_max_us"}
    for vector in vectors["parameters"]:
        values = lists.parse_parameters(unhex(vector["hex"]))
        got = {renamed.get(key, key): plain(value) for key, value in values.items()}
        must(got == {k: v for k, v in vector.items() if k not in ("hex", "grease")}, vector)
        entries = lists.parse_list(unhex(vector["hex"]), tuple(lists.PARAMETER_TABLE), 0)
        grease = int(vector["grease"])
        must(entries[29 + 62 * grease] == grease.to_bytes(2, "big"), vector)
        told = {key: value for key, value in values.items() if value is not None}
        must(lists.parse_parameters(lists.parameters(told, 7)) == values, vector)
    for vector in vectors["openings"]:
        data, want = unhex(vector["hex"]), {k: v for k, v in vector.items() if k != "hex"}
        opening = lists.parse_opening(Reader(data))
        must(plain(opening) == want and lists.opening(opening) == data, vector)
    for vector in vectors["refused"]:
        must_refuse(lambda: lists.parse_parameters(unhex(vector["hex"])), vector)


def check_varints(vectors: Vector) -> None:
    for vector in vectors["cases"]:
        data = unhex(vector["hex"])
        value = Reader(data).varint()
        must(str(value) == vector["value"] and wire.varint(value) == data, vector)


# Chapter 2


def check_keys(keys: Keys, vector: Vector) -> None:
    header, text = unhex(vector["header"]), unhex(vector["plaintext"])
    sealed = keys.seal(vector["pn"], header, text)
    must(sealed.hex() == vector["sealed"], vector)
    must(keys.open(vector["pn"], header, sealed) == text, vector)
    must(keys.mask(unhex(vector["mask_sample"])).hex() == vector["mask"], vector)


def check_labels(vectors: list[Vector]) -> None:
    for vector in vectors:
        out, suite = unhex(vector["out"]), SUITES[vector["suite"]]
        secret, context = unhex(vector["secret"]), unhex(vector["context"])
        must(suite.label(secret, vector["label"], context, len(out)) == out, vector)
        must(vector["version"] == wire.VERSION, vector)


def check_seal(vectors: list[Vector]) -> None:
    for vector in vectors:
        check_keys(Keys(SUITES[vector["suite"]], unhex(vector["secret"])), vector["keys"])


def check_initial(vectors: list[Vector]) -> None:
    for vector in vectors:
        client, server = crypto.initial_keys(unhex(vector["dcid"]), unhex(vector["pin"]))
        check_keys(client, vector["keys"]["client"])
        check_keys(server, vector["keys"]["server"])
        must(vector["version"] == wire.VERSION, vector)


def check_stateless(vector: Vector) -> None:
    key, odcid, address = (unhex(vector[name]) for name in ("cookie_key", "odcid", "address"))
    for name, core in (("cookie", unhex(vector["core_hash"])), ("cookie_unbound", None)):
        made = crypto.cookie(key, 0, vector["time"], odcid, core, address)
        must(made.hex() == vector[name], name)
    tag = crypto.retry_tag(odcid, unhex(vector["retry_packet"]))
    must(tag.hex() == vector["retry_tag"], "Retry")
    must(vector["retry_version"] == wire.VERSION, "version of the Retry")
    reset_key, reset_host = (unhex(vector[name]) for name in ("reset_key", "reset_host"))
    token = crypto.reset_token(reset_key, odcid, reset_host)
    must(token.hex() == vector["reset_token"], "reset token")


def check_identities(vectors: list[Vector]) -> None:
    for vector in vectors:
        check_identity(vector)


def check_identity(vector: Vector) -> None:
    scheme, seed = vector["scheme"], unhex(vector["seed"])
    public = bytes([scheme]) + unhex(vector["public"])
    must(crypto.public_key(seed, scheme) == public, "public key")
    name = crypto.fingerprint(public)
    must(name.hex() == vector["fingerprint"], "fingerprint")
    must(crypto.parse_fingerprint(vector["fingerprint_text"]) == name, "text of a fingerprint")
    purpose, content = vector["purpose"], unhex(vector["content"])
    signature = unhex(vector["signature"])
    must(crypto.verify(public, purpose, content, signature), "signature")
    must(not crypto.verify(public, "other", content, signature), "signature for another purpose")
    again = crypto.sign(seed, purpose, content, scheme)
    # What ML-DSA signs may differ each time.
    must(again == signature or scheme == crypto.ML_DSA_65, "signature made anew")
    must(crypto.verify(public, purpose, content, again), "own signature")
    delegation = unhex(vector["delegation"])
    begin, end = vector["not_before"], vector["not_after"]
    online = crypto.public_key(unhex(vector["online_seed"]), vector["online_scheme"])
    for when in (begin, end):
        must(crypto.check_delegation(delegation, when) == (public, online), f"delegation at {when}")
    for when in (begin - 1, end + 1):
        must(crypto.check_delegation(delegation, when) is None, f"delegation at {when}")
    head = delegation[: len(public) + len(online) + 24]
    must(int.from_bytes(head[-8:], "big") == vector["serial"], "serial")
    for at in (0, 1, len(public), len(public) + 1, len(head) - 1, len(head), len(delegation) - 1):
        changed = delegation[:at] + bytes([delegation[at] ^ 1]) + delegation[at + 1 :]
        must(crypto.check_delegation(changed, begin) is None, f"a delegation changed at {at}")


def shared_secrets(vector: Vector, hello: bytes, server_hello: bytes) -> tuple[bytes, bytes]:
    """The ML-KEM secret, empty without the hybrid, and the X25519 secret."""
    names = ("client_x25519_private", "server_x25519_private")
    keyrings = [X25519PrivateKey.from_private_bytes(unhex(vector[name])) for name in names]
    client, server = (handshake.Keyring(key) for key in keyrings)
    must(server.public() == server_hello[42:74], "x25519 of the server")
    x25519 = client.exchange(server.public())
    if "client_ml_kem_seed" not in vector:
        must(len(server_hello) == 74, "a ciphertext without the hybrid")
        return b"", x25519
    parsed, seed = handshake.Hello(hello), unhex(vector["client_ml_kem_seed"])
    must(parsed.x25519 == client.public(), "x25519 of the client")
    ek, dk = ML_KEM_768.key_derive(seed)
    ml_kem, ciphertext = ML_KEM_768._encaps_internal(ek, unhex(vector["server_ml_kem_message"]))
    must(parsed.ek == ek and server_hello[74:] == ciphertext, "ML-KEM")
    must(ML_KEM_768.decaps(dk, ciphertext) == ml_kem, "decapsulation")
    return ml_kem, x25519


def check_flight(schedule: Schedule, role: str, transcript: bytes, flight: bytes) -> bytes:
    """Signature and Finished of a flight; the transcript with it."""
    identity = b""
    for kind, raw in handshake.messages(flight):
        if kind == handshake.IDENTITY:
            identity = raw[4:]
        if kind == handshake.SIGNATURE:
            digest = schedule.suite.digest(transcript)
            must(crypto.verify(identity, role, digest, raw[3:]), f"signature of the {role}")
        if kind == handshake.FINISHED:
            must(raw[3:] == schedule.finished(role, transcript), f"Finished of the {role}")
        transcript += raw
    return transcript


def check_transcript(vectors: list[Vector]) -> None:
    for vector in vectors:
        suite, hello = SUITES[vector["suite"]], unhex(vector["client_hello"])
        answer = unhex(vector["server_hello"])
        schedule = Schedule(suite, hello + answer, *shared_secrets(vector, hello, answer))
        through = hello + answer
        through = check_flight(schedule, "server", through, unhex(vector["server_flight"]))
        t2 = suite.digest(through)
        through = check_flight(schedule, "client", through, unhex(vector["client_flight"]))
        for role in ("client", "server"):
            check_keys(Keys(suite, schedule.handshake(role)), vector["handshake_keys"][role])
            data = Keys(suite, schedule.data(role, t2))
            check_keys(data, vector["data_keys"][role])
            sealed = data.next_phase().seal(1, b"packet header", b"packet text")
            must(sealed.hex() == vector[f"phase_1_{role}_sealed"], "key update")
        exported = schedule.export(t2, b"example", b"context", 32)
        must(exported.hex() == vector["export_example_context"], "exporter")
        psk = schedule.ticket_secret(suite.digest(through), b"\0")
        must(psk.hex() == vector["resumption_psk_nonce_00"], "resumption")


def check_ticket(vector: Vector) -> bytes:
    """The sealed ticket of a TICKET frame (section 11)."""
    sha256 = SUITES[1]

    def prf(secret: bytes, name: bytes) -> bytes:
        return sha256.mac(secret, b"jsp1 prf" + len(name).to_bytes(8, "big") + name)

    frame, contents = unhex(vector["ticket_frame"]), unhex(vector["ticket_contents"])
    ticket = frame[16:]
    must(len(ticket) == 153 and len(contents) == 121, "length of a ticket")
    must(contents[33:65] == unhex(vector["psk"]), "psk of a ticket")
    must(frame[:8] == contents[11:15] + contents[105:109], "lifetime and early data")
    epoch, nonce = ticket[:4], ticket[4:16]
    must(int.from_bytes(epoch, "big") == vector["ticket_epoch"], "epoch")
    key = prf(unhex(vector["ticket_secret"]), b"ticket key")
    known = b"jsp1 ticket" + epoch + unhex(vector["server_fingerprint"])
    must(AESGCMSIV(key).encrypt(nonce, contents, known) == ticket[16:], "sealed ticket")
    return ticket


def check_resumed_hello(vector: Vector, early: bytes, ticket: bytes) -> bytes:
    """Binder and age of a hello with a ticket."""
    suite, hello = SUITES[vector["suite"]], unhex(vector["client_hello"])
    size = len(early)
    start, binder = hello[: -size - 1], hello[-size:]
    must(hello[-size - 1] == size, "length of the binder")
    key = suite.label(early, "jsp1 client binder", b"", size)
    must(suite.mac(key, suite.digest(start)) == binder, "binder")
    at = hello.index(ticket)
    mask = suite.label(early, "jsp1 ticket age", hello[3:35], 4)
    age = int.from_bytes(hello[at - 4 : at], "big") ^ int.from_bytes(mask, "big")
    must(age == vector["age_ms"], "age of a ticket")
    must(hello[at - 5] == int("early_keys" in vector), "early data wanted")
    return hello


def check_resumption(vectors: list[Vector]) -> None:
    for vector in vectors:
        suite, ticket = SUITES[vector["suite"]], check_ticket(vector)
        size = len(suite.digest(b""))
        early = suite.mac(bytes(size), unhex(vector["psk"]))
        hello = check_resumed_hello(vector, early, ticket)
        answer = unhex(vector["server_hello"])
        must(answer[39:42] == bytes([suite.id, 3, 0]), "choice of a server that resumes")
        server = X25519PrivateKey.from_private_bytes(unhex(vector["server_x25519_private"]))
        must(server.public_key().public_bytes_raw() == answer[42:], "x25519 of the server")
        client = X25519PrivateKey.from_private_bytes(unhex(vector["client_x25519_private"]))
        x25519 = client.exchange(server.public_key())
        if "early_keys" in vector:
            secret = suite.label(early, "jsp1 client early", suite.digest(hello), size)
            check_keys(Keys(suite, secret), vector["early_keys"])
        schedule = Schedule(suite, hello + answer, b"", x25519, unhex(vector["psk"]))
        flight = unhex(vector["server_flight"])
        kinds = [kind for kind, _ in handshake.messages(flight)]
        must(kinds == [3, handshake.FINISHED], "flight of a server that resumes")
        through = check_flight(schedule, "server", hello + answer, flight)
        t2 = suite.digest(through)
        through = check_flight(schedule, "client", through, unhex(vector["client_flight"]))
        for role in ("client", "server"):
            check_keys(Keys(suite, schedule.handshake(role)), vector["handshake_keys"][role])
            check_keys(Keys(suite, schedule.data(role, t2)), vector["data_keys"][role])
        psk = schedule.ticket_secret(suite.digest(through), b"\0")
        must(psk.hex() == vector["resumption_psk_nonce_00"], "resumption")
        check_exchange(suite, vector["exchange"])


def check_exchange(suite: crypto.Suite, vector: Vector) -> None:
    """An in-band exchange (section 12)."""
    offer, answer = unhex(vector["offer"]), unhex(vector["answer"])
    must((offer[0], answer[0]) == (7, 8) and offer[3:7] == answer[3:7] == bytes(4), "round")
    ek, _ = ML_KEM_768.key_derive(unhex(vector["client_ml_kem_seed"]))
    ml_kem, ct = ML_KEM_768._encaps_internal(ek, unhex(vector["server_ml_kem_message"]))
    must(offer[39:] == ek and answer[39:] == ct, "ML-KEM of an exchange")
    client = X25519PrivateKey.from_private_bytes(unhex(vector["client_x25519_private"]))
    x25519 = client.exchange(X25519PublicKey.from_public_bytes(answer[7:39]))
    size = len(suite.digest(b""))
    secret = suite.label(unhex(vector["data_secret"]), "jsp1 ku", b"", size)
    salt = suite.label(secret, "jsp1 derived", suite.digest(offer + answer), size)
    folded = Keys(suite, suite.mac(salt, ml_kem + x25519))
    sealed = folded.seal(1, b"packet header", b"packet text")
    must(sealed.hex() == vector["phase_1_folded_sealed"], "keys of an exchange")


CHECKS: dict[str, Callable[[Any], None]] = {
    "crypto-identity": check_identities,
    "crypto-initial": check_initial,
    "crypto-labels": check_labels,
    "crypto-resumption": check_resumption,
    "crypto-seal": check_seal,
    "crypto-stateless": check_stateless,
    "crypto-transcript": check_transcript,
    "wire-frames": check_frames,
    "wire-headers": check_headers,
    "wire-packet-number": check_numbers,
    "wire-params": check_parameters,
    "wire-varint": check_varints,
}


def run(folder: Path) -> int:
    """Checks all files of `folder` and gives their number."""
    found = {path.stem: path for path in folder.glob("*.json")}
    must(found.keys() == CHECKS.keys(), f"files and checks {found.keys() ^ CHECKS.keys()}")
    for name, check in CHECKS.items():
        check(json.loads(found[name].read_text()))
    return len(found)
