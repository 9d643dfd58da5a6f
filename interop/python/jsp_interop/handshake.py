"""JSH-1: the messages of the handshake and both sides' steps (chapter 2, sections 2 to 4 and 6)."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from kyber_py.ml_kem import ML_KEM_768

from .crypto import (
    ML_DSA_65,
    SUITES,
    VERSION_BYTES,
    Schedule,
    check_delegation,
    fingerprint,
    is_key,
    public_key,
    sign,
    verify,
)
from .wire import Reader, Refused

CLIENT_HELLO, SERVER_HELLO, EXTENSIONS, IDENTITY, SIGNATURE, FINISHED = range(1, 7)
PARAMETERS, PROTOCOLS, VERSIONS_SEEN, VERSIONS, IDENTITY_WANTED, FEATURES = range(2, 13, 2)
PADDING = 0x13
HYBRID = 1
LONG_HELLO = 2400
FAILED = 0x10  # HS-45: the code whatever the check that failed


def refuse_unless(good: bool, what: str) -> None:
    if not good:
        raise Refused(what, FAILED)


def block(data: bytes, width: int) -> bytes:
    """`<1>` and `<2>`: a byte string after a length of `width` bytes."""
    return len(data).to_bytes(width, "big") + data


def message(kind: int, body: bytes) -> bytes:
    return bytes([kind]) + block(body, 2)


def messages(flight: bytes) -> Iterator[tuple[int, bytes]]:
    """The messages of a flight, with their headers."""
    reader = Reader(flight)
    while reader.left():
        at, kind = reader.at, reader.uint(1)
        reader.take(reader.uint(2))
        yield kind, flight[at : reader.at]


def grease(width: int = 1, template: int = 0x0A) -> bytes:
    """`0x?a` of `width` bytes; of an extension `0x?a?b` (HS-7)."""
    return bytes(secrets.randbelow(16) << 4 | template for _ in range(width))


def extension(kind: int, body: bytes) -> bytes:
    return kind.to_bytes(2, "big") + block(body, 2)


def parse_extensions(data: bytes, known: tuple[int, ...]) -> dict[int, bytes]:
    """All extensions of a message for which `known` are (HS-5, HS-6, HS-8)."""
    reader, found = Reader(data), dict[int, bytes]()
    while reader.left():
        kind, body = reader.uint(2), reader.take(reader.uint(2))
        refuse_unless(kind not in found and len(found) < 32, "extensions")
        refuse_unless(kind % 2 == 1 or kind in known, f"extension {kind:#x}")
        found[kind] = body
    refuse_unless(PARAMETERS in found, "no transport parameters")
    return found


def protocols(data: bytes) -> list[bytes]:
    reader, names = Reader(data), list[bytes]()
    while reader.left():
        names.append(reader.take(reader.uint(1)))
    refuse_unless(all(names), "a protocol without a name")
    return names


@dataclass
class Hello:
    """What a CLIENT_HELLO offers, read from its bytes."""

    raw: bytes
    core: bytes = field(init=False)
    suites: bytes = field(init=False)
    x25519: bytes = field(init=False)
    ek: bytes = field(init=False)
    schemes: bytes = field(init=False)
    extensions: dict[int, bytes] = field(init=False)

    def __post_init__(self) -> None:
        reader = Reader(self.raw)
        refuse_unless(len(self.raw) <= 4096 and reader.uint(1) == CLIENT_HELLO, "hello")  # HS-2
        refuse_unless(reader.uint(2) == reader.left(), "a hello that is cut")  # HS-4
        reader.take(32)
        versions, self.suites, kems, self.schemes = (reader.take(reader.uint(1)) for _ in range(4))
        # HS-3, HS-9, HS-11
        quads = [versions[i : i + 4] for i in range(0, len(versions), 4)]
        offered = VERSION_BYTES in quads and HYBRID in kems and self.schemes
        refuse_unless(bool(offered), "nothing in common")
        self.x25519, ek_hash = reader.take(32), reader.take(32)
        reader.take(8)
        self.core = self.raw[3 : reader.at]
        known = (PARAMETERS, PROTOCOLS, VERSIONS_SEEN)
        self.extensions = parse_extensions(reader.take(reader.uint(2)), known)
        self.ek = reader.take(reader.uint(2))
        refuse_unless(not reader.left(), "bytes behind a hello")
        # HS-20, HS-17
        fits = hashlib.sha256(self.ek).digest() == ek_hash and len(self.ek) == 1184
        refuse_unless(fits, "another encapsulation key than the core says")


@dataclass
class Keyring:
    """A side's part in the key exchange (section 4)."""

    x25519: X25519PrivateKey = field(default_factory=X25519PrivateKey.generate)

    def public(self) -> bytes:
        return self.x25519.public_key().public_bytes_raw()

    def exchange(self, public: bytes) -> bytes:
        """The shared secret; an all-zero one is refused (HS-18)."""
        try:
            return self.x25519.exchange(X25519PublicKey.from_public_bytes(public))
        except ValueError as error:
            raise Refused("an X25519 key of small order", FAILED) from error


@dataclass
class Established:
    """What a handshake ends in."""

    schedule: Schedule
    t2: bytes
    parameters: bytes
    protocol: bytes = b""
    identity: bytes = b""


class ClientHandshake:
    """The client: one hello, and any number of servers that answer it."""

    def __init__(
        self, pin: bytes, parameters: bytes, protocol: bytes, suites: bytes, schemes: bytes
    ) -> None:
        self.pin, self.protocol, self.suites, self.schemes = pin, protocol, suites, schemes
        self.keyring = Keyring()
        ek, self.dk = ML_KEM_768.keygen()
        core = secrets.token_bytes(32) + block(grease(4) + VERSION_BYTES, 1)
        core += block(grease() + suites, 1) + block(bytes([HYBRID]) + grease(), 1)
        core += block(schemes + grease(), 1) + self.keyring.public()
        core += hashlib.sha256(ek).digest() + secrets.token_bytes(1) + bytes(7)
        extensions = extension(PARAMETERS, parameters) + extension(VERSIONS_SEEN, b"")
        extensions += extension(int.from_bytes(grease() + grease(1, 0x0B), "big"), b"")
        if protocol:
            names = block(protocol, 1) + block(grease(2), 1)
            extensions += extension(PROTOCOLS, names)
        if ML_DSA_65 in schemes:  # HS-103
            have = len(core) + len(extensions) + len(ek) + 7
            extensions += extension(PADDING, bytes(max(0, LONG_HELLO - have - 4)))
        self.hello = message(CLIENT_HELLO, core + block(extensions, 2) + block(ek, 2))

    def server_hello(self, raw: bytes) -> Schedule:
        """The keys that a SERVER_HELLO leads to (HS-13, HS-17, HS-18)."""
        reader = Reader(raw)
        refuse_unless(reader.uint(1) == SERVER_HELLO and reader.uint(2) == reader.left(), "layout")
        reader.take(32)
        version, suite, kem, scheme = reader.take(4), reader.uint(1), reader.uint(1), reader.uint(1)
        chosen = version == VERSION_BYTES and suite in self.suites
        chosen = chosen and kem == HYBRID and scheme in self.schemes
        refuse_unless(chosen, "a choice that was not offered")
        public, ciphertext = reader.take(32), reader.rest()
        refuse_unless(len(ciphertext) == 1088, "a ciphertext of another length")
        ml_kem = ML_KEM_768.decaps(self.dk, ciphertext)
        x25519 = self.keyring.exchange(public)
        return Schedule(SUITES[suite], self.hello + raw, ml_kem, x25519, scheme=scheme)

    def server_flight(self, schedule: Schedule, flight: bytes) -> tuple[Established, bytes] | None:
        """Verifies EXTENSIONS, IDENTITY, SIGNATURE, FINISHED; gives the client flight too.

        None for a flight of which not even FINISHED fits: it says nothing of the server (HS-44).
        """
        parts = list(messages(flight))
        order = [EXTENSIONS, IDENTITY, SIGNATURE, FINISHED]
        refuse_unless([kind for kind, _ in parts] == order, "the flight's order")
        extensions, identity, signature, finished = (raw[3:] for _, raw in parts)
        transcript = schedule.transcript + b"".join(raw for _, raw in parts[:3])
        expected = schedule.finished("server", transcript)
        if not hmac.compare_digest(finished, expected):
            return None
        owner, online = verify_identity(
            schedule, "server", parts[1][1], identity, signature, parts[0][1]
        )
        # HS-101, HS-106
        known = owner[0] in self.schemes and online[0] in self.schemes
        refuse_unless(known and online[0] == schedule.scheme, "a scheme that was not offered")
        # HS-57
        refuse_unless(
            not self.pin or fingerprint(owner) == self.pin, "another identity than the pin's"
        )
        known = (PARAMETERS, PROTOCOLS, VERSIONS, IDENTITY_WANTED, FEATURES)
        found = parse_extensions(extensions, known)
        chosen = found.get(PROTOCOLS, b"")  # HS-16
        refuse_unless(chosen in (b"", block(self.protocol, 1)), "a protocol that was not offered")
        versions = found.get(
            VERSIONS, b""
        )  # HS-15: the first that the client speaks is its only one
        quads = [versions[i : i + 4] for i in range(0, len(versions), 4)]
        refuse_unless(VERSION_BYTES in quads, "versions without the one chosen")
        refuse_unless(len(found.get(FEATURES, b"")) == 8, "no features")  # HS-8
        transcript += parts[3][1]
        t2 = schedule.suite.digest(transcript)
        done = Established(schedule, t2, found[PARAMETERS], chosen[1:], owner)
        return done, message(FINISHED, schedule.finished("client", transcript))


def verify_identity(
    schedule: Schedule, role: str, raw: bytes, identity: bytes, signature: bytes, before: bytes
) -> tuple[bytes, bytes]:
    """The identity that has signed the transcript through IDENTITY (HS-34, HS-35), and its key."""
    owner = online = identity[1:]
    if identity[:1] == b"\2":
        delegated = check_delegation(identity[1:], int(time.time()))
        refuse_unless(delegated is not None, "a delegation that does not hold")
        owner, online = delegated or (b"", b"")
    refuse_unless(identity[:1] in (b"\1", b"\2") and is_key(online), "kind of identity")
    digest = schedule.suite.digest(schedule.transcript + before + raw)
    refuse_unless(verify(online, role, digest, signature), "SIGNATURE")
    return owner, online


class ServerHandshake:
    """The server: answers one hello."""

    def __init__(self, seed: bytes, scheme: int, raw: bytes, protocol: bytes) -> None:
        self.seed, self.scheme, self.hello, self.keyring = seed, scheme, Hello(raw), Keyring()
        refuse_unless(scheme in self.hello.schemes, "no signature scheme in common")  # HS-104
        offered = protocols(self.hello.extensions.get(PROTOCOLS, b""))
        refuse_unless(not protocol or protocol in offered, "no protocol in common")  # HS-16
        self.protocol = protocol
        suite = next((s for s in self.hello.suites if s in (1, 2, 3)), 0)  # HS-10
        refuse_unless(suite > 0, "no suite in common")
        ml_kem, ciphertext = ML_KEM_768.encaps(self.hello.ek)
        body = secrets.token_bytes(32) + VERSION_BYTES + bytes([suite, HYBRID, scheme])
        self.server_hello = message(SERVER_HELLO, body + self.keyring.public() + ciphertext)
        x25519 = self.keyring.exchange(self.hello.x25519)
        self.schedule = Schedule(SUITES[suite], raw + self.server_hello, ml_kem, x25519)

    def flight(self, parameters: bytes) -> tuple[Established, bytes]:
        """The server flight, and what it leads to."""
        extensions = extension(PARAMETERS, parameters) + extension(VERSIONS, VERSION_BYTES)
        extensions += extension(FEATURES, bytes(8))
        if self.protocol:
            extensions += extension(PROTOCOLS, block(self.protocol, 1))
        out = message(EXTENSIONS, extensions) + message(IDENTITY, b"\1" + self.key())
        both, digest = self.schedule.transcript, self.schedule.suite.digest
        out += message(SIGNATURE, sign(self.seed, "server", digest(both + out), self.scheme))
        out += message(FINISHED, self.schedule.finished("server", both + out))
        told = self.hello.extensions[PARAMETERS]
        self.transcript = both + out
        return Established(self.schedule, digest(self.transcript), told, self.protocol), out

    def key(self) -> bytes:
        return public_key(self.seed, self.scheme)

    def client_flight(self, flight: bytes) -> None:
        """Verifies the client's FINISHED; the server has asked for no identity (HS-46, HS-48)."""
        expected = message(FINISHED, self.schedule.finished("client", self.transcript))
        refuse_unless(hmac.compare_digest(flight, expected), "FINISHED of the client")
