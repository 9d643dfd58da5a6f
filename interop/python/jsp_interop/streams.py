"""Streams of reliable ordered messages, in both directions (chapter 3)."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from . import frames
from .frames import Frame
from .lists import Opening, opening
from .wire import PROTOCOL_VIOLATION, Refused, complete

REFUSED, FLOW_CONTROL, STREAM_LIMIT, STREAM_STATE = 0x02, 0x03, 0x04, 0x05
FINAL_SIZE, MESSAGE_TOO_LARGE = 0x06, 0x0E
MESSAGE_COST = 32  # section 3.3
MESSAGE_MAX = 2**20
STREAM_WINDOW, CONNECTION_WINDOW = 2**16, 2**17
STREAMS_MAX = 4  # that the peer may open, in the life of a connection
MESSAGE_WHOLE = 1080  # a message of this size fits uncut into a packet of 1200 bytes (STR-11)
LATEST_PACKETS = 4096  # whose message numbers are remembered for WIRE-15


OPENING: Opening = {
    "delivery": "reliable",
    "ordered": True,
    "framing": "messages",
    "class": "interactive",
    "unidirectional": False,
    "list": b"",
}


@dataclass
class Credit:
    """One account of section 3.3."""

    limit: int
    used: int = 0


@dataclass
class Incoming:
    """A message of which pieces have arrived."""

    total: int
    data: bytearray
    have: bytearray
    missing: int

    def add(self, offset: int, piece: bytes) -> int:
        """How many bytes are new; pieces may overlap (STR-10)."""
        new = self.have[offset : offset + len(piece)].count(0)
        self.data[offset : offset + len(piece)] = piece
        self.have[offset : offset + len(piece)] = b"\1" * len(piece)
        self.missing -= new
        return new


@dataclass
class Stream:
    """A stream of the profile that `OPENING` says."""

    id: int
    opening: Opening | None  # None once the peer knows it (STR-3)
    sending: Credit
    granted: int = STREAM_WINDOW

    # What leaves
    outbox: deque[bytes] = field(default_factory=deque)
    offset: int = 0  # of the message in progress, `outbox[0]`
    next_number: int = 0
    highest_acknowledged: int = -1
    wants_end: bool = False
    end_told: bool = False
    reset_sent: bool = False

    # What arrives
    inbox: deque[bytes] = field(default_factory=deque)
    incoming: dict[int, Incoming] = field(default_factory=dict)
    deliver: int = 0  # the number of the next message for the application
    end: int | None = None
    used: int = 0
    consumed: int = 0
    reset: bool = False
    numbers: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=LATEST_PACKETS))

    @property
    def over(self) -> bool:
        """Whether all that the peer sends has arrived."""
        return self.reset or (self.end is not None and self.deliver >= self.end)

    def next_frame(self, room: int, connection: Credit) -> Frame | None:
        """A message or a piece of one, in at most `room` bytes, or the end of the stream.

        No message starts before both credits hold all of it (STR-21, STR-23).
        """
        if self.reset_sent:
            return None
        if not self.outbox:
            if not self.wants_end or self.end_told or self.opening:
                return None
            self.end_told = True
            return {"frame": "FINISH", "stream": self.id, "end": self.next_number}
        data = self.outbox[0]
        cost = MESSAGE_COST + len(data)
        if self.offset == 0 and min(c.limit - c.used for c in (self.sending, connection)) < cost:
            return None
        overhead = 40 + (len(opening(self.opening)) if self.opening else 0)
        size = len(data) - self.offset
        if len(data) > MESSAGE_WHOLE:
            size = min(size, room - overhead)
            if size < min(64, len(data) - self.offset):
                return None
        elif size + overhead > room:
            return None
        if self.offset == 0:
            for credit in (self.sending, connection):
                credit.used += cost
        cut = (self.offset, len(data)) if len(data) > MESSAGE_WHOLE else None
        frame = frames.message(
            self.id, self.next_number, data[self.offset : self.offset + size], cut
        )
        frame["open"] = self.opening
        self.offset += size
        if self.offset == len(data):
            self.outbox.popleft()
            self.offset = 0
            self.next_number += 1
        return frame

    def complete(self, low: int, number: int) -> int | None:
        """The number of a shape message in packet `number`; None if unknown (WIRE-15, STR-18)."""
        if len(self.numbers) == LATEST_PACKETS and number <= min(self.numbers)[0]:
            return None
        before = [message for packet, message in self.numbers if packet < number]
        return complete(low, 8, max(before) + 1 if before else 0)

    def take(self, packet: int, frame: Frame) -> int:
        """Takes a MESSAGE frame; gives the credit that it used."""
        number, fragment = frame["number"], frame["fragment"]
        self.numbers.append((packet, number))
        if frame["fin"]:
            self.finish(number + 1)
        if self.end is not None and number >= self.end:  # STR-14
            raise Refused("a message beyond the end", FINAL_SIZE)
        if number < self.deliver or self.reset:
            return 0
        if number - self.deliver >= 131072:  # STR-13
            raise Refused("a message number far ahead", PROTOCOL_VIOLATION)
        offset, total = fragment or (0, len(frame["data"]))
        if total > MESSAGE_MAX:  # STR-16
            raise Refused("a large message", MESSAGE_TOO_LARGE)
        used = 0
        if number not in self.incoming:
            used = MESSAGE_COST
            empty = Incoming(total, bytearray(total), bytearray(total), total)
            self.incoming[number] = empty
        message = self.incoming[number]
        if message.total != total:  # STR-15
            raise Refused("fragments tell different sizes", PROTOCOL_VIOLATION)
        used += message.add(offset, frame["data"])
        self.used += used
        self._deliver()
        return used

    def _deliver(self) -> None:
        while (message := self.incoming.get(self.deliver)) and message.missing == 0:
            self.inbox.append(bytes(message.data))
            self.consumed += MESSAGE_COST + message.total
            del self.incoming[self.deliver]
            self.deliver += 1

    def finish(self, end: int) -> None:
        came = max(self.deliver, max(self.incoming, default=-1) + 1)
        if self.end not in (None, end) or end < came:
            raise Refused("the end changes, or lies before what came", FINAL_SIZE)  # STR-14
        self.end = end

    def skip(self, floor: int, credit_below: int) -> int:
        """Gives up what is incomplete below the floor; gives the credit that it used (STR-35)."""
        if floor <= self.deliver:
            return 0
        if self.end is not None and floor > self.end:  # STR-39
            raise Refused("a floor beyond the end", FINAL_SIZE)
        below = {number: self.incoming[number] for number in self.incoming if number < floor}
        came = sum(MESSAGE_COST + each.total - each.missing for each in below.values())
        more = credit_below - self.consumed - came
        if more < 0:  # STR-39
            raise Refused("less credit than what arrived", PROTOCOL_VIOLATION)
        for number in sorted(below):
            if self.incoming.pop(number).missing == 0:
                self.inbox.append(bytes(below[number].data))
        self.used += more
        self.consumed, self.deliver = credit_below, floor
        self._deliver()
        return more

    def take_reset(self, final: int) -> int:
        """Settles the credit of a stream that was reset; gives what that uses (STR-25)."""
        if final < self.used:
            raise Refused("a reset tells less than what came", FINAL_SIZE)
        if final > self.granted:
            raise Refused("a reset tells more than was granted", FLOW_CONTROL)
        more = final - self.used
        self.used = self.consumed = final
        self.reset = True
        return more

    def grant(self) -> Frame | None:
        """MAX_STREAM_DATA when it is worth a quarter of the window (STR-20)."""
        lowest = self.incoming.get(self.deliver)
        limit = self.consumed + STREAM_WINDOW + (lowest.total if lowest else 0)
        if limit - self.granted < STREAM_WINDOW // 4:
            return None
        self.granted = limit
        return {"frame": "MAX_STREAM_DATA", "stream": self.id, "limit": limit}


class Streams:
    """All streams of a connection, and its credit (3.1, 3.3)."""

    def __init__(self, client: bool) -> None:
        self.client = client
        self.all: dict[int, Stream] = {}
        self.accepted: list[Stream] = []
        self.credit = Credit(0)
        self.granted, self.used = CONNECTION_WINDOW + MESSAGE_MAX, 0
        self.peer_max, self.peer_window = 0, 0

    def open(self) -> Stream:
        """Opens a stream with the next ordinal; the client's 0 has index 1 (STR-1, STR-2)."""
        ordinal = sum(name & 1 != self.client for name in self.all)
        if ordinal >= self.peer_max:
            raise RuntimeError("the peer's limit of streams is reached")
        name = ordinal + 1 << 1 if self.client else ordinal << 1 | 1
        self.all[name] = Stream(name, OPENING, Credit(self.peer_window))
        return self.all[name]

    def of(self, frame: Frame) -> Stream:
        """The stream of a frame, which may open it (STR-2, STR-8, STR-9)."""
        name, told = frame["stream"], frame.get("open")
        if name in self.all:
            return self.all[name]
        if name & 1 != self.client or name == 0 or told is None:
            raise Refused("a stream that was never opened", STREAM_STATE)
        if (name >> 1) - (not name & 1) >= STREAMS_MAX:
            raise Refused("a stream beyond the limit", STREAM_LIMIT)
        if told | {"class": "", "list": b""} != OPENING | {"class": "", "list": b""}:
            raise Refused("a stream of a kind that this program does not know", REFUSED)
        self.all[name] = Stream(name, None, Credit(self.peer_window))
        self.accepted.append(self.all[name])
        return self.all[name]

    def take(self, frame: Frame, packet: int) -> Frame | None:
        """Takes a frame of a stream; gives the frame that answers it."""
        stream = self.of(frame)
        match frame:
            case {"frame": "MESSAGE"}:
                self.used += stream.take(packet, frame)
            case {"frame": "FINISH", "end": end}:
                stream.finish(end)
            case {"frame": "MAX_STREAM_DATA", "limit": limit}:
                stream.sending.limit = max(stream.sending.limit, limit)
            case {"frame": "RESET_STREAM", "final_bytes": final}:
                self.used += stream.take_reset(final)
            case {"frame": "STOP_SENDING", "code": code} if not stream.reset_sent:  # STR-26
                stream.reset_sent, used = True, stream.sending.used
                answer: Frame = {"frame": "RESET_STREAM", "stream": stream.id, "code": code}
                return answer | {"final_bytes": used}
            case {"frame": "CONSUMED", "number": number} if number > stream.next_number:  # STR-38
                raise Refused("consumed what was not sent", PROTOCOL_VIOLATION)
            case {"frame": "SKIP", "floor": floor, "credit_below": credit}:
                self.used += stream.skip(floor, credit)
            case {"frame": "BYTES"}:  # STR-9
                raise Refused("bytes on a stream of messages", STREAM_STATE)
        if self.used > self.granted or stream.used > stream.granted:  # STR-22
            raise Refused("more than was granted", FLOW_CONTROL)
        return None

    def on_acked(self, frame: Frame) -> None:
        """A frame has arrived: with an opening, the stream is open (STR-3)."""
        stream = self.all.get(frame.get("stream", -1))
        if stream and frame["frame"] == "MESSAGE":
            stream.opening = None if frame["open"] else stream.opening
            stream.highest_acknowledged = max(stream.highest_acknowledged, frame["number"])

    def waits(self) -> bool:
        """Whether an application's data wait to be sent."""
        return any(stream.outbox for stream in self.all.values())

    def next_frame(self, room: int) -> Frame | None:
        each = (stream.next_frame(room, self.credit) for stream in self.all.values())
        return next(filter(None, each), None)

    def grants(self) -> list[Frame]:
        """New credit, when it is worth a quarter of a window (STR-20)."""
        told = [frame for stream in self.all.values() if (frame := stream.grant())]
        consumed = sum(stream.consumed for stream in self.all.values())
        limit = consumed + CONNECTION_WINDOW + MESSAGE_MAX
        if limit - self.granted >= CONNECTION_WINDOW // 4:
            self.granted = limit
            told.append({"frame": "MAX_DATA", "limit": limit})
        return told

    def newest(self, frame: Frame) -> Frame:
        """What is sent instead of a frame that was lost: a limit in its newest value (3.3)."""
        if frame["frame"] == "MAX_DATA":
            return frame | {"limit": self.granted}
        if frame["frame"] == "MAX_STREAM_DATA":
            return frame | {"limit": self.all[frame["stream"]].granted}
        return frame | {"again": True}
