"""Packet number spaces, acknowledgement and loss (chapter 4)."""

from __future__ import annotations

import secrets
from collections import deque
from dataclasses import dataclass, field

from .crypto import Keys
from .frames import Frame
from .wire import Refused

ACK_OF_UNSENT = 0x0F
DATA = 3  # the space of 1-RTT packets; the others are called as their long headers' types
WINDOW_MIN, WINDOW_START, WINDOW_MAX = 2 * 1200, 10 * 1200, 64 * 1200


def is_eliciting(frames: list[Frame]) -> bool:
    """Whether a packet with these frames is to be acknowledged (ACK-1)."""
    return any(frame["frame"] not in ("PADDING", "ACK", "CLOSE") for frame in frames)


class Ranges:
    """The numbers received, as at most 256 ranges, the highest first (ACK-2, ACK-5)."""

    def __init__(self) -> None:
        self.ranges: list[tuple[int, int]] = []
        self.floor = 0

    def __contains__(self, number: int) -> bool:
        return number < self.floor or any(low <= number <= high for low, high in self.ranges)

    def add(self, number: int) -> None:
        merged = [(number, number)]
        for low, high in self.ranges:
            if low <= merged[0][1] + 1 and merged[0][0] <= high + 1:
                merged[0] = (min(low, merged[0][0]), max(high, merged[0][1]))
            else:
                merged.append((low, high))
        self.ranges = sorted(merged, reverse=True)
        if len(self.ranges) > 256:
            self.floor = self.ranges.pop()[1] + 1


@dataclass
class Sent:
    time: float
    size: int
    frames: list[Frame]
    phase: int

    @property
    def eliciting(self) -> bool:
        return is_eliciting(self.frames)


@dataclass
class Space:
    """One packet number space: what was sent and received in it, and what waits to be sent."""

    id: int
    send: Keys | None = None
    receive: Keys | None = None
    queue: deque[Frame] = field(default_factory=deque)
    next_number: int = 0
    skip_at: int = -1  # ACK-4: the number to leave out; none in the spaces of the handshake
    skip_distance: int = 64
    skipped: deque[int] = field(default_factory=lambda: deque(maxlen=8))
    sent: dict[int, Sent] = field(default_factory=dict)
    lost: dict[int, Sent] = field(default_factory=dict)
    acknowledged: int = -1
    probed: float = 0.0  # when the last ack-eliciting packet left (REC-12)
    received: Ranges = field(default_factory=Ranges)
    highest: int = -1
    arrived: float = 0.0  # when the packet `highest` did
    ack_due: bool = False

    def number(self) -> int:
        """The next packet number; now and then one is left out (ACK-3, ACK-4)."""
        if self.next_number == self.skip_at:
            self.skipped.append(self.next_number)
            self.next_number += 1
            self.skip_at += self.skip_distance + secrets.randbelow(self.skip_distance)
            self.skip_distance = min(2 * self.skip_distance, 65536)
        self.next_number += 1
        return self.next_number - 1

    def take(self, number: int, eliciting: bool, now: float) -> None:
        """Marks a number as received; what elicits an ACK is acknowledged at once (ACK-7)."""
        self.received.add(number)
        self.ack_due |= eliciting
        if number > self.highest:
            self.highest, self.arrived = number, now

    def ack(self, now: float) -> Frame:
        self.ack_due = False
        delay = int((now - self.arrived) * 1e6 / 8)
        ack: Frame = {"frame": "ACK", "delay": delay, "ranges": self.received.ranges[:64]}
        return ack | {"ecn": None, "times": b"", "recovered": b""}

    def in_flight(self) -> list[Sent]:
        return [sent for sent in self.sent.values() if sent.eliciting]


@dataclass
class Recovery:
    """Round-trip time, loss and a small congestion window, over all spaces of a path."""

    smoothed: float = 0.333  # REC-1: what is assumed before the first sample
    variation: float = 0.333 / 2
    minimum: float = 0.0
    latest: float = 0.333  # R of REC-5
    latest_sent: float = -1.0
    quarters: int = 0  # the reorder window in quarters of the minimum (REC-6 to REC-8)
    peer_ack_delay: float = 0.025
    timeouts: int = 0
    window: int = WINDOW_START
    reduced: float = 0.0

    def on_ack(self, space: Space, ack: Frame, now: float) -> list[Sent]:
        """The packets that an ACK newly acknowledges."""
        ranges: list[tuple[int, int]] = ack["ranges"]
        if ranges[0][1] >= space.next_number:  # REC-10
            raise Refused("an ACK of what was not sent", ACK_OF_UNSENT)
        if any(low <= skip <= high for skip in space.skipped for low, high in ranges):  # REC-11
            raise Refused("an ACK of a number that was left out", ACK_OF_UNSENT)

        def covers(number: int) -> bool:
            return any(low <= number <= high for low, high in ranges)

        new = [(number, space.sent.pop(number)) for number in list(space.sent) if covers(number)]
        for number in [number for number in space.lost if covers(number)]:
            self._spurious(space.lost.pop(number), now)
        if not new:
            return []
        number, newest = max(new, key=lambda each: each[0])
        eliciting = any(sent.eliciting for _, sent in new)
        if number == ranges[0][1] and number > space.acknowledged and eliciting:  # REC-1
            delay = min(ack["delay"] * 8e-6, self.peer_ack_delay) if space.id == DATA else 0.0
            self._sample(now - newest.time, delay)
        if newest.time > self.latest_sent:
            self.latest_sent, self.latest = newest.time, now - newest.time
        if self.quarters == 0 and number < space.acknowledged:  # REC-6, REC-7
            self.quarters = 1
        space.acknowledged = max(space.acknowledged, number)
        self.window = min(self.window + sum(sent.size for _, sent in new), WINDOW_MAX)
        return [sent for _, sent in new]

    def _sample(self, sample: float, delay: float) -> None:
        """REC-2 and REC-3, as in RFC 9002."""
        if not self.minimum:
            self.minimum = self.smoothed = sample
            self.variation = sample / 2
            return
        self.minimum = min(self.minimum, sample)
        sample = max(sample - delay, self.minimum)
        self.variation += (abs(self.smoothed - sample) - self.variation) / 4
        self.smoothed += (sample - self.smoothed) / 8

    def _spurious(self, sent: Sent, now: float) -> None:
        """A packet held lost has arrived: the window to wait was too short (REC-8)."""
        missing = now - sent.time - self.latest
        unit = max(self.minimum / 4, 0.001)
        self.quarters = max(self.quarters + 1, int(missing / unit) + 1)

    def reorder_window(self) -> float:
        window = self.quarters * self.minimum / 4
        return min(max(window, 0.001), self.smoothed) if self.quarters else 0.0

    def deadline(self, space: Space) -> float | None:
        """When the next packet is lost for certain (REC-5)."""
        waiting = [sent.time for number, sent in space.sent.items() if number < space.acknowledged]
        return min(waiting) + self.latest + self.reorder_window() if waiting else None

    def take_lost(self, space: Space, now: float) -> list[Sent]:
        wait = self.latest + self.reorder_window()
        late = [
            number
            for number, sent in space.sent.items()
            if number < space.acknowledged and sent.time + wait <= now
        ]
        lost = [space.sent.pop(number) for number in late]
        space.lost = {n: sent for n, sent in space.lost.items() if sent.time + 3 * self.pto() > now}
        space.lost |= dict(zip(late, lost))  # REC-9
        if any(sent.time > self.reduced for sent in lost):  # once in a round trip
            self.window, self.reduced = max(self.window // 2, WINDOW_MIN), now
        return lost

    def pto(self, space_id: int = DATA) -> float:
        """The probe time-out without back-off (REC-12)."""
        delay = self.peer_ack_delay if space_id == DATA else 0.0
        return self.smoothed + max(4 * self.variation, 0.001) + delay
