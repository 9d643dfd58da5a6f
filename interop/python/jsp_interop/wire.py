"""Varints, packet numbers and headers (chapter 1, sections 1.1 to 1.3)."""

from __future__ import annotations

from dataclasses import dataclass

VERSION = 0x4A535001
VARINT_MAX = 2**62 - 1
INITIAL, HANDSHAKE, RETRY = 0, 2, 3  # types of long headers (1.1)
FRAME_ENCODING, PARAMETERS, PROTOCOL_VIOLATION = 0x07, 0x08, 0x0A  # codes of CLOSE (1.8)


class Refused(Exception):
    """A peer said what closes the connection; `code` is what CLOSE tells (1.8)."""

    def __init__(self, what: str, code: int = FRAME_ENCODING) -> None:
        super().__init__(what)
        self.code = code


class Reader:
    """Reads fields one after another; what is cut short is refused (WIRE-12, WIRE-14)."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def left(self) -> int:
        return len(self.data) - self.at

    def take(self, size: int) -> bytes:
        if size > self.left():
            raise Refused("cut short")
        self.at += size
        return self.data[self.at - size : self.at]

    def rest(self) -> bytes:
        return self.take(self.left())

    def uint(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def varint(self) -> int:
        """A varint of any form (WIRE-40)."""
        first = self.uint(1)
        size = 1 << (first >> 6)
        return (first & 0x3F) << 8 * (size - 1) | self.uint(size - 1)

    def counted(self) -> bytes:
        return self.take(self.varint())


def varint(value: int) -> bytes:
    """The shortest form of a varint, as frame types need it (WIRE-10)."""
    for power in range(4):
        bits = 8 * (1 << power) - 2
        if value < 1 << bits:
            return (power << bits | value).to_bytes(1 << power, "big")
    raise ValueError(f"{value} is no varint")


def counted(data: bytes) -> bytes:
    return varint(len(data)) + data


# Packet numbers (1.2)


def number_length(number: int, acknowledged: int) -> int:
    """How many bytes of a packet number to send; `acknowledged` is -1 at the start (WIRE-8)."""
    return next((n for n in (1, 2, 3) if number - acknowledged < 1 << (8 * n - 1)), 4)


def complete(low: int, bits: int, expected: int, highest: int = VARINT_MAX) -> int:
    """The number closest to `expected` that ends in `low`; the higher of two (WIRE-9, WIRE-15)."""
    size = 1 << bits
    near = expected - expected % size + low
    fit = [n for n in (near - size, near, near + size) if 0 <= n <= highest]
    return min(fit, key=lambda n: (abs(n - expected), -n))


# Headers (1.1)


@dataclass
class Long:
    """The header of an Initial or Handshake packet; `number_at` and `end` are places in it."""

    type: int
    dcid: bytes
    scid: bytes
    token: bytes
    number_at: int
    end: int


@dataclass
class Retry:
    dcid: bytes
    scid: bytes
    token: bytes
    tag: bytes


@dataclass
class VersionNegotiation:
    dcid: bytes
    scid: bytes
    versions: list[int]


def parse_long(datagram: bytes, start: int) -> Long | Retry | VersionNegotiation | None:
    """Reads a long header; None is a packet to drop without looking further."""
    reader = Reader(datagram)
    reader.at = start
    try:
        flags, version = reader.uint(1), reader.uint(4)
        dcid = reader.take(reader.uint(1))
        scid = reader.take(reader.uint(1))
        if version == 0:  # WIRE-26
            lists = reader.rest()
            if not lists or len(lists) % 4:
                return None
            each = [lists[i : i + 4] for i in range(0, len(lists), 4)]
            return VersionNegotiation(dcid, scid, [int.from_bytes(v, "big") for v in each])
        if version != VERSION or not flags & 0x40 or max(len(dcid), len(scid)) > 20:
            return None  # WIRE-3, WIRE-1, WIRE-2
        kind = flags >> 4 & 3
        if kind == RETRY:
            token = reader.take(max(reader.left() - 16, 0))
            # WIRE-41, WIRE-25
            ok = 0 < len(token) <= 128
            return Retry(dcid, scid, token, reader.take(16)) if ok else None
        token = reader.counted() if kind == INITIAL else b""
        length = reader.varint()
        if len(token) > 128 or length > reader.left():  # WIRE-25, WIRE-28
            return None
        return Long(kind, dcid, scid, token, reader.at, reader.at + length)
    except Refused:
        return None


def long_header(
    kind: int, dcid: bytes, scid: bytes, token: bytes, number: int, size: int, sealed: int
) -> bytes:
    """A long header with `size` bytes of the number; `sealed` counts payload and tag (WIRE-4).

    The length takes two bytes, whatever its value, as in the vectors.
    """
    head = bytes([0xC0 | kind << 4 | size - 1]) + VERSION.to_bytes(4, "big")
    head += bytes([len(dcid)]) + dcid + bytes([len(scid)]) + scid
    if kind == INITIAL:
        head += counted(token)
    low = number % (1 << 8 * size)
    return head + (0x4000 | size + sealed).to_bytes(2, "big") + low.to_bytes(size, "big")


def short_header(dcid: bytes, phase: int, shape: int, number: int, size: int) -> bytes:
    """A short header with the payload's shape in bits 2 to 4 (WIRE-5)."""
    low = number % (1 << 8 * size)
    flags = 0x40 | phase << 5 | shape << 2 | size - 1
    return bytes([flags]) + dcid + low.to_bytes(size, "big")


def is_short(datagram: bytes) -> bool:
    """Whether a datagram that is no long header may be a packet (WIRE-1, WIRE-6)."""
    return len(datagram) >= 21 and datagram[0] & 0xC0 == 0x40


def apply_mask(packet: bytes, number_at: int, size: int, mask: bytes) -> bytes:
    """Covers or uncovers the flags and the `size` bytes of the packet number (WIRE-27)."""
    flags = packet[0] ^ mask[0] & (0x0F if packet[0] & 0x80 else 0x3F)
    number = bytes(a ^ b for a, b in zip(packet[number_at : number_at + size], mask[1:]))
    return bytes([flags]) + packet[1:number_at] + number + packet[number_at + size :]
