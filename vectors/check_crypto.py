"""Checks vectors/crypto-*.json by an independent implementation.

Written from docs/spec/02-handshake.md alone. Needs the PyPI packages
`cryptography` and `kyber-py`. Run: python3 vectors/check_crypto.py
"""

import base64
import hashlib
import hmac
import json
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESGCMSIV, ChaCha20Poly1305
from kyber_py.ml_kem import ML_KEM_768

VERSION = (0x4A535001).to_bytes(4, "big")
# AEAD, key length, hash.
SUITES = {
    1: (ChaCha20Poly1305, 32, "sha256"),
    2: (AESGCM, 16, "sha256"),
    3: (AESGCM, 32, "sha384"),
    4: (AESGCMSIV, 32, "sha384"),
}


def load(name):
    return json.loads((Path(__file__).parent / f"crypto-{name}.json").read_text())


def unhex(text):
    return bytes.fromhex(text)


def mac(alg, key, message):
    return hmac.new(key, message, alg).digest()


def label(alg, secret, name, context, length):
    info = length.to_bytes(2, "big") + VERSION + bytes([len(name)]) + name
    info += bytes([len(context)]) + context
    block, out, counter = b"", b"", 1
    while len(out) < length:
        block = mac(alg, secret, block + info + bytes([counter]))
        out += block
        counter += 1
    return out[:length]


def signed(purpose, content):
    return b" " * 64 + b"JSP1 " + purpose + b"\0" + content


def verify(seed, signature, purpose, content):
    key = Ed25519PrivateKey.from_private_bytes(seed).public_key()
    key.verify(signature, signed(purpose, content))


def seal(suite, secret, pn, header, text):
    aead, key_len, alg = SUITES[suite]
    key = label(alg, secret, b"jsp1 key", b"", key_len)
    iv = label(alg, secret, b"jsp1 iv", b"", 12)
    nonce = (int.from_bytes(iv, "big") ^ pn).to_bytes(12, "big")
    return aead(key).encrypt(nonce, text, header)


def check_direction(suite, secret, vector):
    _, key_len, alg = SUITES[suite]
    header, text = unhex(vector["header"]), unhex(vector["plaintext"])
    assert seal(suite, secret, vector["pn"], header, text) == unhex(vector["sealed"])
    key = label(alg, secret, b"jsp1 hp", b"", key_len)
    sample = unhex(vector["mask_sample"])
    if suite == 1:
        mask = Cipher(algorithms.ChaCha20(key, sample), None).encryptor().update(bytes(5))
    else:
        mask = Cipher(algorithms.AES(key), modes.ECB()).encryptor().update(sample)[:5]
    assert mask == unhex(vector["mask"])


def messages(flight):
    while flight:
        length = 3 + int.from_bytes(flight[1:3], "big")
        yield flight[0], flight[:length], flight[3:length]
        flight = flight[length:]


def check_flight(alg, transcript, flight, secret, role, seed):
    """Checks signatures and Finished values; gives the longer transcript."""
    for kind, whole, body in messages(flight):
        digest = hashlib.new(alg, transcript).digest()
        if kind == 5:
            verify(seed, body, role, digest)
        if kind == 6:
            key = label(alg, secret, b"jsp1 " + role + b" finished", b"", len(digest))
            assert body == mac(alg, key, digest)
        transcript += whole
    return transcript


def exchange(vector, client_hello, server_hello):
    """The ML-KEM secret (empty without the hybrid) and the X25519 secret."""
    server_public, ciphertext = server_hello[42:74], server_hello[74:]
    client = X25519PrivateKey.from_private_bytes(unhex(vector["client_x25519_private"]))
    server = X25519PrivateKey.from_private_bytes(unhex(vector["server_x25519_private"]))
    assert server.public_key().public_bytes_raw() == server_public
    x25519 = client.exchange(X25519PublicKey.from_public_bytes(server_public))
    if "client_ml_kem_seed" not in vector:
        assert ciphertext == b""
        return b"", x25519
    seed = unhex(vector["client_ml_kem_seed"])
    ek, dk = ML_KEM_768._keygen_internal(seed[:32], seed[32:])
    assert client_hello[-1184:] == ek and hashlib.sha256(ek).digest() in client_hello[:400]
    secret, made = ML_KEM_768._encaps_internal(ek, unhex(vector["server_ml_kem_message"]))
    assert made == ciphertext and ML_KEM_768.decaps(dk, ciphertext) == secret
    return secret, x25519


def check_transcript(vector):
    suite = vector["suite"]
    alg = SUITES[suite][2]
    client_hello, server_hello = unhex(vector["client_hello"]), unhex(vector["server_hello"])
    kem, x25519 = exchange(vector, client_hello, server_hello)

    def digest(data):
        return hashlib.new(alg, data).digest()

    t1 = digest(client_hello + server_hello)
    size = len(t1)
    zero = bytes(size)

    def derive(secret, name, context):
        return label(alg, secret, name, context, size)

    early = mac(alg, zero, zero)
    handshake = mac(alg, derive(early, b"jsp1 derived", t1), kem + x25519)
    master = mac(alg, derive(handshake, b"jsp1 derived", t1), zero)
    client = derive(handshake, b"jsp1 client handshake", t1)
    server = derive(handshake, b"jsp1 server handshake", t1)
    check_direction(suite, client, vector["handshake_keys"]["client"])
    check_direction(suite, server, vector["handshake_keys"]["server"])

    both = client_hello + server_hello
    flight = unhex(vector["server_flight"])
    through = check_flight(alg, both, flight, server, b"server", unhex(vector["server_seed"]))
    t2 = digest(through)
    flight = unhex(vector["client_flight"])
    seed = unhex(vector.get("client_seed", "00" * 32))
    t3 = digest(check_flight(alg, through, flight, client, b"client", seed))

    for role in ("client", "server"):
        secret = derive(master, f"jsp1 {role} data".encode(), t2)
        check_direction(suite, secret, vector["data_keys"][role])
        later = derive(secret, b"jsp1 ku", b"")
        made = seal(suite, later, 1, b"packet header", b"packet text")
        assert made == unhex(vector[f"phase_1_{role}_sealed"])
    exporter = derive(master, b"jsp1 exporter", t2)
    value = derive(exporter, b"jsp1 export label", digest(b"example"))
    value = label(alg, value, b"jsp1 export value", digest(b"context"), 32)
    assert value == unhex(vector["export_example_context"])
    resumption = derive(master, b"jsp1 resumption", t3)
    psk = label(alg, resumption, b"jsp1 ticket", digest(b"\0"), 32)
    assert psk == unhex(vector["resumption_psk_nonce_00"])


def check_initial(vector):
    salt = hashlib.sha256(b"JetStreamProto initial" + VERSION).digest()
    pin = unhex(vector["pin"]) or bytes(32)
    secret = mac("sha256", salt, unhex(vector["dcid"]) + pin)
    for role in ("client", "server"):
        traffic = label("sha256", secret, f"jsp1 {role} initial".encode(), b"", 32)
        check_direction(1, traffic, vector["keys"][role])


def check_stateless(vector):
    odcid, key = unhex(vector["odcid"]), unhex(vector["cookie_key"])
    head = b"\0" + (vector["time"] // 2 * 2).to_bytes(4, "big") + odcid
    for name, bound in (("cookie", b"\1" + unhex(vector["core_hash"])), ("cookie_unbound", b"\0")):
        tag = mac("sha256", key, b"jsp1 cookie" + head + bound + unhex(vector["address"]))
        assert head + tag[:16] == unhex(vector[name])
    key = hashlib.sha256(b"JetStreamProto retry" + VERSION).digest()
    body = len(odcid).to_bytes(8, "big") + odcid + unhex(vector["retry_packet"])
    assert mac("sha256", key, body)[:16] == unhex(vector["retry_tag"])
    token = mac("sha256", unhex(vector["reset_key"]), b"jsp1 reset" + odcid)
    assert token[:16] == unhex(vector["reset_token"])


def check_identity(vector):
    public, seed = unhex(vector["public"]), unhex(vector["seed"])
    fingerprint = hashlib.sha256(b"jsp1 identity\1\1\0\x20" + public).digest()
    assert fingerprint == unhex(vector["fingerprint"])
    checksum = hashlib.sha256(b"jsp1 fingerprint" + fingerprint).digest()[:2]
    text = base64.b32encode(fingerprint + checksum).decode().lower().rstrip("=")
    assert vector["fingerprint_text"] == "jsp1" + text
    verify(seed, unhex(vector["signature"]), b"example", unhex(vector["content"]))
    delegation = unhex(vector["delegation"])
    verify(seed, delegation[88:], b"delegation", delegation[:88])
    dates = b"".join(vector[name].to_bytes(8, "big") for name in ("not_before", "not_after", "serial"))
    assert delegation[:32] == public and delegation[64:88] == dates


def main():
    for vector in load("labels"):
        secret, context = unhex(vector["secret"]), unhex(vector["context"])
        out = unhex(vector["out"])
        alg = SUITES[vector["suite"]][2]
        assert label(alg, secret, vector["label"].encode(), context, len(out)) == out
    for vector in load("seal"):
        check_direction(vector["suite"], unhex(vector["secret"]), vector["keys"])
    for vector in load("initial"):
        check_initial(vector)
    check_stateless(load("stateless"))
    check_identity(load("identity"))
    for vector in load("transcript"):
        check_transcript(vector)
    print("all vectors agree")


if __name__ == "__main__":
    main()
