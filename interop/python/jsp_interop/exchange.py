"""Handshake messages in HANDSHAKE frames: cut into pieces, and joined again (6.1)."""

from __future__ import annotations

import hashlib

from .frames import Frame

CHUNK = 1000  # bytes of a message in one packet, so that a token of any length fits beside them


def pieces(message: bytes) -> list[Frame]:
    """The HANDSHAKE frames of a message, or of a flight, which counts as one (HS-21)."""
    head: Frame = {"frame": "HANDSHAKE", "id": hashlib.sha256(message).digest()[:8]}
    return [
        head | {"offset": at, "total": len(message), "data": message[at : at + CHUNK]}
        for at in range(0, len(message), CHUNK)
    ]


class Joiner:
    """Joins the pieces of at most 4 messages, in any order (CON-3, CON-4)."""

    def __init__(self) -> None:
        self.waiting: dict[bytes, tuple[bytearray, bytearray]] = {}
        self.taken: set[bytes] = set()

    def add(self, frame: Frame) -> bytes | None:
        """The whole message, once, when this piece completes it."""
        name, at, total = frame["id"], frame["offset"], frame["total"]
        if name in self.taken:
            return None
        if name not in self.waiting and len(self.waiting) == 4:
            del self.waiting[next(iter(self.waiting))]
        data, have = self.waiting.setdefault(name, (bytearray(total), bytearray(total)))
        if len(data) != total:
            return None
        end = at + len(frame["data"])
        data[at:end], have[at:end] = frame["data"], b"\1" * (end - at)
        if 0 in have:
            return None
        del self.waiting[name]
        if hashlib.sha256(data).digest()[:8] != name:
            return None
        self.taken.add(name)
        return bytes(data)
