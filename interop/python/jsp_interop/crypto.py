"""Key schedule, packet protection, signatures, identities, cookies (chapter 2, 5 to 10)."""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey, MLDSA65PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESGCMSIV, ChaCha20Poly1305

from .wire import VERSION

VERSION_BYTES = VERSION.to_bytes(4, "big")


@dataclass(frozen=True)
class Suite:
    """An AEAD, the length of its key, and the hash `H` that goes with it (section 1)."""

    id: int
    aead: type[ChaCha20Poly1305 | AESGCM | AESGCMSIV]
    key_len: int
    hash_name: str

    def digest(self, data: bytes) -> bytes:
        return hashlib.new(self.hash_name, data).digest()

    def mac(self, key: bytes, data: bytes) -> bytes:
        """HMAC, and so HKDF-Extract with `key` as the salt."""
        return hmac.digest(key, data, self.hash_name)

    def label(self, secret: bytes, name: str, context: bytes, size: int) -> bytes:
        """HKDF-Label of section 5, with the version in its info (HS-30)."""
        info = size.to_bytes(2, "big") + VERSION_BYTES
        info += b"".join(bytes([len(part)]) + part for part in (name.encode(), context))
        block = out = b""
        while len(out) < size:
            block = self.mac(secret, block + info + bytes([len(out) // len(self.digest(b"")) + 1]))
            out += block
        return out[:size]


SUITES = {
    1: Suite(1, ChaCha20Poly1305, 32, "sha256"),
    2: Suite(2, AESGCM, 16, "sha256"),
    3: Suite(3, AESGCM, 32, "sha384"),
    4: Suite(4, AESGCMSIV, 32, "sha384"),
}


@dataclass
class Keys:
    """Protects the packets of one direction (section 7)."""

    suite: Suite
    secret: bytes
    hp: bytes = b""
    iv: int = field(init=False)
    aead: ChaCha20Poly1305 | AESGCM | AESGCMSIV = field(init=False)

    def __post_init__(self) -> None:
        suite, secret = self.suite, self.secret
        self.aead = suite.aead(suite.label(secret, "jsp1 key", b"", suite.key_len))
        self.iv = int.from_bytes(suite.label(secret, "jsp1 iv", b"", 12), "big")
        self.hp = self.hp or suite.label(secret, "jsp1 hp", b"", suite.key_len)

    def _nonce(self, number: int) -> bytes:
        return (self.iv ^ number).to_bytes(12, "big")  # HS-40

    def seal(self, number: int, header: bytes, payload: bytes) -> bytes:
        return self.aead.encrypt(self._nonce(number), payload, header)

    def open(self, number: int, header: bytes, sealed: bytes) -> bytes | None:
        try:
            return self.aead.decrypt(self._nonce(number), sealed, header)
        except InvalidTag:
            return None

    def mask(self, sample: bytes) -> bytes:
        """As RFC 9001, section 5.4, by ChaCha20 or AES (HS-41)."""
        if self.suite.id == 1:
            return Cipher(algorithms.ChaCha20(self.hp, sample), None).encryptor().update(bytes(5))
        return Cipher(algorithms.AES(self.hp), modes.ECB()).encryptor().update(sample)[:5]

    def next_phase(self) -> Keys:
        """The keys behind an update; header keys stay (HS-39)."""
        suite, size = self.suite, len(self.secret)
        return Keys(suite, suite.label(self.secret, "jsp1 ku", b"", size), self.hp)


def initial_keys(dcid: bytes, pin: bytes) -> tuple[Keys, Keys]:
    """The client's and the server's Initial keys; without a pin it is empty (HS-31)."""
    suite = SUITES[1]
    salt = hashlib.sha256(b"JetStreamProto initial" + VERSION_BYTES).digest()
    secret = suite.mac(salt, dcid + (pin or bytes(32)))
    labels = ("jsp1 client initial", "jsp1 server initial")
    client, server = (Keys(suite, suite.label(secret, name, b"", 32)) for name in labels)
    return client, server


@dataclass
class Schedule:
    """The secrets of one handshake (section 5), from both hellos and the shared secrets."""

    suite: Suite
    transcript: bytes
    ml_kem: bytes
    x25519: bytes
    psk: bytes = b""
    scheme: int = 0  # that the server signs with, where that is known

    def __post_init__(self) -> None:
        self.t1 = self.suite.digest(self.transcript)
        zero = bytes(len(self.t1))
        early = self.suite.mac(zero, self.psk or zero)
        # HS-32: the ML-KEM secret stands first.
        self.hs = self.suite.mac(self.derive(early, "derived", self.t1), self.ml_kem + self.x25519)
        self.master = self.suite.mac(self.derive(self.hs, "derived", self.t1), zero)

    def derive(self, secret: bytes, name: str, context: bytes) -> bytes:
        return self.suite.label(secret, "jsp1 " + name, context, len(self.t1))

    def handshake(self, role: str) -> bytes:
        return self.derive(self.hs, role + " handshake", self.t1)

    def data(self, role: str, t2: bytes) -> bytes:
        return self.derive(self.master, role + " data", t2)

    def finished(self, role: str, transcript: bytes) -> bytes:
        """The HMAC of the transcript so far under a side's Finished key (HS-36)."""
        key = self.derive(self.handshake(role), role + " finished", b"")
        return self.suite.mac(key, self.suite.digest(transcript))

    def export(self, t2: bytes, label: bytes, context: bytes, size: int) -> bytes:
        """A secret for the application (HS-38)."""
        digest = self.suite.digest
        secret = self.derive(
            self.derive(self.master, "exporter", t2), "export label", digest(label)
        )
        return self.suite.label(secret, "jsp1 export value", digest(context), size)

    def ticket_secret(self, t3: bytes, nonce: bytes) -> bytes:
        """The secret of a ticket, reserved (section 5)."""
        secret = self.derive(self.master, "resumption", t3)
        return self.suite.label(secret, "jsp1 ticket", self.suite.digest(nonce), 32)


# Signatures and identities (sections 6 and 10). A key is its algorithm and its bytes.

ED25519, ML_DSA_65 = 1, 2
KEY_SIZES = {ED25519: 32, ML_DSA_65: 1952}
SIGNATURE_SIZES = {ED25519: 64, ML_DSA_65: 3309}

P = 2**255 - 19
D = -121665 * pow(121666, -1, P) % P


def _is_strict_point(encoded: bytes) -> bool:
    """Whether a point is canonical and not of small order (HS-35).

    The y of points of order 1, 2 and 4 is 1, -1 and 0; doubling one of order 8 gives y = 0, which
    makes d y^4 + 2 y^2 - 1 zero.
    """
    y = int.from_bytes(encoded, "little") & (1 << 255) - 1
    return y < P and y not in (0, 1, P - 1) and (D * y**4 + 2 * y**2 - 1) % P != 0


def signed(purpose: str, content: bytes) -> bytes:
    return b" " * 64 + b"JSP1 " + purpose.encode() + b"\0" + content  # HS-19


def _private(seed: bytes, scheme: int) -> Ed25519PrivateKey | MLDSA65PrivateKey:
    if scheme == ED25519:
        return Ed25519PrivateKey.from_private_bytes(seed)
    return MLDSA65PrivateKey.from_seed_bytes(seed)


def public_key(seed: bytes, scheme: int = ED25519) -> bytes:
    return bytes([scheme]) + _private(seed, scheme).public_key().public_bytes_raw()


def sign(seed: bytes, purpose: str, content: bytes, scheme: int = ED25519) -> bytes:
    return _private(seed, scheme).sign(signed(purpose, content))


def is_key(key: bytes) -> bool:
    return len(key) > 1 and len(key) - 1 == KEY_SIZES.get(key[0])  # HS-102


def verify(key: bytes, purpose: str, content: bytes, signature: bytes) -> bool:
    if not is_key(key) or len(signature) != SIGNATURE_SIZES[key[0]]:
        return False
    if key[0] == ED25519 and not (_is_strict_point(key[1:]) and _is_strict_point(signature[:32])):
        return False
    try:
        if key[0] == ED25519:
            Ed25519PublicKey.from_public_bytes(key[1:]).verify(signature, signed(purpose, content))
        else:
            MLDSA65PublicKey.from_public_bytes(key[1:]).verify(signature, signed(purpose, content))
    except (InvalidSignature, ValueError):
        return False
    return True


def fingerprint(key: bytes) -> bytes:
    size = (len(key) - 1).to_bytes(2, "big")
    return hashlib.sha256(b"jsp1 identity\1" + key[:1] + size + key[1:]).digest()  # HS-60


def _checksum(value: bytes) -> bytes:
    return hashlib.sha256(b"jsp1 fingerprint" + value).digest()[:2]


def fingerprint_text(value: bytes) -> str:
    return "jsp1" + base64.b32encode(value + _checksum(value)).decode().lower().rstrip("=")


def parse_fingerprint(text: str) -> bytes:
    """Reads the text form; ValueError when its checksum does not fit (HS-61)."""
    raw = base64.b32decode(text.removeprefix("jsp1").upper() + "=")
    if len(raw) != 34 or fingerprint_text(raw[:32]) != text:
        raise ValueError("no fingerprint")
    return raw[:32]


def check_delegation(body: bytes, now: int) -> tuple[bytes, bytes] | None:
    """Identity and online key of a delegation that holds at `now` (HS-55, HS-56)."""
    keys, at = list[bytes](), 0
    for _ in range(2):
        size = 1 + KEY_SIZES.get(body[at] if at < len(body) else 0, 0)
        keys.append(body[at : at + size])
        at += size
    begin, end = (int.from_bytes(body[at + n : at + n + 8], "big") for n in (0, 8))
    good = all(map(is_key, keys)) and begin <= now <= end and end - begin <= 72 * 3600
    if not good or not verify(keys[0], "delegation", body[: at + 24], body[at + 24 :]):
        return None
    return keys[0], keys[1]


# Cookies, Retry, stateless reset (section 9)


def cookie(
    key: bytes, epoch: int, time: int, odcid: bytes, core_hash: bytes | None, address: bytes
) -> bytes:
    head = bytes([epoch]) + (time // 2 * 2).to_bytes(4, "big") + odcid  # HS-49
    bound = b"\0" if core_hash is None else b"\1" + core_hash
    return head + hmac.digest(key, b"jsp1 cookie" + head + bound + address, "sha256")[:16]


def retry_tag(odcid: bytes, packet: bytes) -> bytes:
    """The tag of a Retry, over the packet before it (HS-53)."""
    key = hashlib.sha256(b"JetStreamProto retry" + VERSION_BYTES).digest()
    return hmac.digest(key, len(odcid).to_bytes(8, "big") + odcid + packet, "sha256")[:16]


def reset_token(key: bytes, cid: bytes, host: bytes) -> bytes:
    return hmac.digest(key, b"jsp1 reset" + cid + host, "sha256")[:16]  # HS-54
