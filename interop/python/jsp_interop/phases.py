"""Sealing and opening packets, and the keys of 1-RTT packets through updates (1.3, 6.6)."""

from __future__ import annotations

import time
from dataclasses import dataclass

from .crypto import Keys
from .wire import apply_mask, complete


def seal(keys: Keys, number: int, header: bytes, size: int, payload: bytes) -> bytes:
    """A packet, sealed and then masked; the number's `size` bytes end the header (1.3)."""
    packet = header + keys.seal(number, header, payload)
    at = len(header) - size
    return apply_mask(packet, at, size, keys.mask(packet[at + 4 : at + 20]))


def unmask(keys: Keys, packet: bytes, at: int, expected: int) -> tuple[bytes, bytes, int] | None:
    """Header, sealed payload and number of a packet; None when it is too short (WIRE-6)."""
    if len(packet) < at + 20:
        return None
    mask = keys.mask(packet[at + 4 : at + 20])
    size = (packet[0] ^ mask[0]) % 4 + 1
    plain = apply_mask(packet, at, size, mask)
    low = int.from_bytes(plain[at : at + size], "big")
    return plain[: at + size], plain[at + size :], complete(low, 8 * size, expected)


@dataclass
class Phases:
    """Both directions' keys of data, of this phase and the one before (CON-41 to CON-44)."""

    send: Keys
    receive: Keys
    phase: int = 0
    previous: Keys | None = None
    first: int | None = None  # the lowest number received in this phase
    changed: float = 0.0
    confirmed: float | None = None  # when a packet of this phase was first acknowledged

    def advance(self, now: float) -> None:
        """Replaces both directions' keys (HS-39)."""
        self.previous, self.receive = self.receive, self.receive.next_phase()
        self.send = self.send.next_phase()
        self.phase += 1
        self.first, self.changed, self.confirmed = None, now, None

    def open(self, bit: int, number: int, header: bytes, sealed: bytes, pto: float) -> bytes | None:
        """The payload, under the keys that the phase bit asks for (CON-41 to CON-43)."""
        if bit == self.phase & 1:
            payload = self.receive.open(number, header, sealed)
            if payload is not None:
                self.first = number if self.first is None else min(number, self.first)
            return payload
        if self.previous and (self.first is None or number < self.first):
            return self.previous.open(number, header, sealed)
        now = time.monotonic()
        payload = self.receive.next_phase().open(number, header, sealed)
        if payload is None or (self.phase and now - self.changed < min(3 * pto, 0.2)):
            return None
        self.advance(now)
        self.first = number
        return payload

    def may_update(self, pto: float) -> bool:
        """Whether this side may begin an update (CON-44)."""
        wait = max(6 * pto, 0.2)
        return self.confirmed is not None and time.monotonic() - self.confirmed > wait
