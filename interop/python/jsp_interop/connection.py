"""One connection of either role, from its first datagram to its last (chapter 6)."""

from __future__ import annotations

import hmac
import secrets
import select
import socket
import time
from collections.abc import Callable
from typing import Any

from . import wire
from .crypto import Keys
from .frames import Frame, encode, encode_shape, parse_frames, parse_shape
from .handshake import Established
from .lists import parameters, parse_parameters
from .phases import Phases, seal, unmask
from .recovery import DATA, Recovery, Sent, Space, is_eliciting
from .streams import MESSAGE_MAX, STREAM_WINDOW, STREAMS_MAX, Streams
from .wire import HANDSHAKE, INITIAL, PROTOCOL_VIOLATION, Refused

DATAGRAM = 1200  # MTU-1: this program never probes for more
IDLE = 30.0  # seconds
EARLY_PACKETS, EARLY_BYTES = 10, 16384  # CON-19
CONNECTION_ID_LIMIT = 0x09
IN_HANDSHAKE = ("PADDING", "PING", "ACK", "HANDSHAKE", "CLOSE")  # WIRE-13
SENT_ONCE = ("PADDING", "PING", "ACK", "CLOSE", "PATH_RESPONSE")
NOTES = {"PADDING", "PING", "IMMEDIATE_ACK", "PATH_RESPONSE"}  # nothing follows from these here
NOTES |= {"DATA_BLOCKED", "STREAM_DATA_BLOCKED", "STREAMS_BLOCKED"}

Address = tuple[str, int]


class Ended(Exception):
    """The connection is over; the text says why."""


class Connection:
    """What client and server share. `lose` says of each datagram whether it is lost on purpose."""

    def __init__(
        self,
        sock: socket.socket,
        peer: Address,
        client: bool,
        scid: bytes,
        dcid: bytes,
        lose: Callable[[], bool],
    ) -> None:
        self.sock, self.peer, self.client, self.lose = sock, peer, client, lose
        self.scid, self.dcid, self.token = scid, dcid, b""
        self.spaces = {kind: Space(kind) for kind in (INITIAL, HANDSHAKE, DATA)}
        self.spaces[DATA].skip_at = 64 + secrets.randbelow(64)
        self.recovery, self.streams = Recovery(), Streams(client)
        self.established: Established | None = None
        self.phases: Phases | None = None
        self.theirs: dict[str, Any] = {}
        self.confirmed = False
        self.peer_validated = False  # a client knows that the server has proof of its address
        self.budget = float("inf")  # bytes for an address that is not proved (CON-10)
        self.early: list[bytes] = []
        self.ids: dict[int, bytes] = {}  # those that the peer has given, by sequence
        self.reset_tokens: dict[int, bytes] = {}
        self.retired = 0
        self.source = (0, b"")  # which keys opened the packet at hand, and its `scid`
        self.probing = False
        self.farewell = b""  # the datagram with CLOSE
        self.ended = ""
        self.heard = time.monotonic()
        self.key_updates = self.repeated = 0

    # What the roles do differently

    def on_message(self, space: int, frame: Frame) -> None:
        """Takes a HANDSHAKE frame."""
        raise NotImplementedError

    def on_other_long(self, head: wire.Retry | wire.VersionNegotiation, packet: bytes) -> None:
        """A Retry or a version negotiation packet; only a client obeys one."""

    def doubt(self, reason: str) -> None:
        """Something was wrong with a packet that anybody can make (CON-8, CON-25)."""

    def receive_keys(self, space: int) -> list[Keys]:
        """The keys that a packet with a long header may be sealed with."""
        keys = self.spaces[space].receive
        return [keys] if keys else []

    def before_datagram(self) -> None:
        """Before a datagram is made."""

    def ready(self) -> bool:
        """Whether the handshake is complete (CON-19)."""
        return self.established is not None

    # Parameters

    def parameters(self, more: dict[str, Any]) -> bytes:
        told: dict[str, Any] = {"idle_timeout": int(IDLE * 1000), "initial_source_id": self.scid}
        told |= {"data_max": self.streams.granted, "stream_data_max": STREAM_WINDOW}
        told |= {"streams_max": STREAMS_MAX, "message_len_max": MESSAGE_MAX}
        return parameters(told | more, secrets.randbelow(1000))

    def establish(self, done: Established) -> None:
        """Takes the peer's parameters and derives the keys of data (HS-37)."""
        self.established = done
        self.theirs = parse_parameters(done.parameters)
        self.streams.credit.limit = self.theirs["data_max"]
        self.streams.peer_max = self.theirs["streams_max"]
        self.streams.peer_window = self.theirs["stream_data_max"]
        self.recovery.peer_ack_delay = self.theirs["ack_delay_max"] / 1e6
        suite, schedule = done.schedule.suite, done.schedule
        client = Keys(suite, schedule.data("client", done.t2))
        server = Keys(suite, schedule.data("server", done.t2))
        self.phases = Phases(client, server) if self.client else Phases(server, client)
        if self.theirs["reset_token"]:
            self.reset_tokens[0] = self.theirs["reset_token"]

    def is_confirmed(self) -> bool:
        """Whether the handshake is confirmed (CON-17)."""
        return self.confirmed

    def open_early(self) -> None:
        """Opens the 1-RTT packets that came before the handshake was complete."""
        early, self.early = self.early, []
        for packet in early:
            self.handle(packet)

    # Packets that arrive

    def handle(self, datagram: bytes) -> None:
        """Takes one datagram: several packets, or what is none (WIRE-7)."""
        at, self.budget = 0, self.budget + 3 * len(datagram)
        try:
            while at < len(datagram):
                if not datagram[at] & 0x80:
                    return self._short(datagram[at:])
                head = wire.parse_long(datagram, at)
                if not isinstance(head, wire.Long):
                    return self.on_other_long(head, datagram[at:]) if head else None
                if not self.client or head.dcid == self.scid:
                    self._long(head, datagram[at : head.end], head.number_at - at)
                at = head.end
        except Refused as error:
            self.close(error.code, 0, str(error).encode())

    def _long(self, head: wire.Long, packet: bytes, at: int) -> None:
        if head.type not in (INITIAL, HANDSHAKE):  # WIRE-37
            return
        space = self.spaces[head.type]
        # CON-26: of packets that anybody can make, no number counts
        anyone = self.client and (head.type == INITIAL or not self.established)
        for index, keys in enumerate(self.receive_keys(head.type)):
            for expected in {space.highest + 1, 0} if anyone else {space.highest + 1}:
                plain = unmask(keys, packet, at, expected)
                payload = keys.open(plain[2], plain[0], plain[1]) if plain else None
                if plain and payload is not None and (anyone or plain[2] not in space.received):
                    self.source = (index, head.scid)
                    return self._opened(space, plain[0][0], plain[2], payload)

    def _opened(self, space: Space, flags: int, number: int, payload: bytes) -> None:
        """Takes the frames of a packet with a long header."""
        now = self.heard = time.monotonic()
        try:
            if flags & 0x0C:  # CON-8
                raise Refused("reserved bits", PROTOCOL_VIOLATION)
            frames = parse_frames(payload)
            if any(frame["frame"] not in IN_HANDSHAKE for frame in frames):
                raise Refused("a frame of data in the handshake", PROTOCOL_VIOLATION)
            for frame in frames:
                self._frame(space, frame, number, now)
        except Refused as error:
            if space.id != INITIAL and self.established:
                raise
            return self.doubt(f"{error} (code {error.code:#x})")
        space.take(number, is_eliciting(frames), now)
        if space.id == HANDSHAKE and not self.client:  # CON-9, CON-18
            self.budget = float("inf")
            self.drop(INITIAL)

    def _short(self, packet: bytes) -> None:
        at, space, now = 1 + len(self.scid), self.spaces[DATA], time.monotonic()
        if not self.phases or not self.ready():
            if len(self.early) < EARLY_PACKETS and sum(map(len, self.early)) <= EARLY_BYTES:
                self.early.append(packet)
            return
        plain = unmask(self.phases.receive, packet, at, space.highest + 1)
        if not plain or not wire.is_short(packet) or packet[1:at] != self.scid:
            return self._maybe_reset(packet)
        header, sealed, number = plain
        bit, shape, phase = header[0] >> 5 & 1, header[0] >> 2 & 7, self.phases.phase
        if number in space.received:
            return
        payload = self.phases.open(bit, number, header, sealed, self.recovery.pto())
        if payload is None:
            return self._maybe_reset(packet)
        self.heard = now
        self.key_updates += self.phases.phase - phase
        frames = parse_shape(shape, payload)
        if shape == 1:
            low = frames[0]["number"]["low_8"]
            frames[0]["number"] = self.streams.of(frames[0]).complete(low, number)
            if frames[0]["number"] is None:  # STR-18
                return
        space.take(number, is_eliciting(frames), now)
        for frame in frames:
            self._frame(space, frame, number, now)

    def _maybe_reset(self, packet: bytes) -> None:
        """A stateless reset ends the connection without a word (CON-32)."""
        tokens = list(self.reset_tokens.values())
        if any([hmac.compare_digest(packet[-16:], token) for token in tokens]):
            self.ended = "stateless reset"

    # Frames

    def _frame(self, space: Space, frame: Frame, number: int, now: float) -> None:
        match frame:
            case {"frame": name} if name in NOTES:
                pass
            case {"frame": "ACK"}:
                self._acked(space, frame, now)
            case {"frame": "HANDSHAKE"}:
                self.on_message(space.id, frame)
            case {"frame": "CLOSE", "space": by, "code": code, "reason": reason}:
                who = "application" if by else "transport"
                text = f"the peer has closed: {who} {code:#x} {reason!r}"
                if self.client and (space.id == INITIAL or not self.established):
                    self.doubt(text)  # CON-25
                else:
                    self.ended = text  # CON-34
            case {"frame": "MAX_DATA", "limit": limit}:
                self.streams.credit.limit = max(self.streams.credit.limit, limit)
            case {"frame": "MAX_STREAMS", "limit": limit}:
                self.streams.peer_max = max(self.streams.peer_max, limit)
            case {"frame": "HANDSHAKE_DONE"}:
                if not self.client:  # CON-28
                    raise Refused("HANDSHAKE_DONE from a client", PROTOCOL_VIOLATION)
                self.confirmed = self.peer_validated = True
                self.drop(HANDSHAKE)  # CON-17
            case {"frame": "PATH_CHALLENGE", "data": data}:  # CON-12
                space.queue.append({"frame": "PATH_RESPONSE", "data": data})
            case {"frame": "ACK_FREQUENCY", "delay_max": delay}:
                if delay >= 2**24:  # ACK-12; every packet is acknowledged at once anyway
                    raise Refused("a delay of acknowledgements", PROTOCOL_VIOLATION)
            case {"frame": "NEW_CONNECTION_ID"}:
                self._new_id(frame)
            case {"frame": "TICKET" | "EXCHANGE" | "REPAIR" | "SYMBOL" | "RETIRE_CONNECTION_ID"
                  | "ABOUT_PATH" | "PATH_ABANDON" | "PATH_STATUS" as name}:
                # WIRE-36, CON-21, PTH-2: nothing of this was negotiated or issued
                raise Refused(f"{name} out of place", PROTOCOL_VIOLATION)
            case {"stream": _}:
                answer = self.streams.take(frame, number)
                space.queue.extend([answer] if answer else [])

    def _new_id(self, frame: Frame) -> None:
        """Keeps the id, and retires what the peer asks to (CON-22, CON-23)."""
        sequence, prior = frame["sequence"], frame["retire_prior_to"]
        if not self.dcid:
            raise Refused("an id from a peer without ids", PROTOCOL_VIOLATION)
        self.retired = max(self.retired, prior)
        if sequence not in self.ids and sequence >= self.retired:
            self.ids[sequence] = frame["id"]
            self.reset_tokens[sequence] = frame["reset_token"]
        for old in [each for each in self.ids if each < self.retired]:
            del self.ids[old]
            self.reset_tokens.pop(old, None)
            self.spaces[DATA].queue.append({"frame": "RETIRE_CONNECTION_ID", "sequence": old})
        if not 0 < len(self.ids) <= 8:
            raise Refused("too many ids, or none", CONNECTION_ID_LIMIT)
        self.dcid = self.ids[min(self.ids)]

    def _acked(self, space: Space, ack: Frame, now: float) -> None:
        new = self.recovery.on_ack(space, ack, now)
        for sent in new:
            for frame in sent.frames:
                self.streams.on_acked(frame)
            if space.id == DATA and self.phases and sent.phase == self.phases.phase:
                self.phases.confirmed = self.phases.confirmed or now
        if space.id != INITIAL:
            self.peer_validated = True
        if any(sent.eliciting for sent in new) and (self.peer_validated or not self.client):
            self.recovery.timeouts = 0  # REC-14

    # Packets that leave

    def flush(self) -> None:
        """Sends what may be sent, in datagrams of at most 1200 bytes."""
        while not self.ended and self.budget >= DATAGRAM:
            self.before_datagram()
            initial = self._packet(INITIAL, DATAGRAM)
            datagram = initial + self._packet(HANDSHAKE, DATAGRAM - len(initial))
            if initial:  # CON-7: zeros, which may stand behind a long header only
                datagram += bytes(DATAGRAM - len(datagram))
            else:
                datagram += self._packet(DATA, DATAGRAM - len(datagram))
            if not datagram:
                return
            self.transmit(datagram)

    def transmit(self, datagram: bytes) -> None:
        self.budget -= len(datagram)
        if not self.lose():
            self.sock.sendto(datagram, self.peer)

    def _send_keys(self, kind: int) -> Keys | None:
        if kind == DATA:
            return self.phases.send if self.phases and self.ready() else None
        return self.spaces[kind].send

    def _packet(self, kind: int, room: int) -> bytes:
        """One packet of a space, or nothing."""
        space, keys = self.spaces[kind], self._send_keys(kind)
        room -= 1 + len(self.dcid) + 4 + 16
        if kind != DATA:
            room -= 4 + 1 + 1 + len(self.scid) + 2
            room -= 2 + len(self.token) if kind == INITIAL else 0
        if keys is None or room < 30:
            return b""
        frames = [space.ack(time.monotonic())] if space.ack_due else []
        frames += self._frames(kind, room - sum(len(encode(frame)) for frame in frames))
        if not frames:
            return b""
        packet = self._seal(space, keys, frames)
        if kind == HANDSHAKE and self.client:  # CON-18
            self.drop(INITIAL)
        return packet

    def _frames(self, kind: int, room: int) -> list[Frame]:
        """Frames from the queue, then data, as far as room and window allow."""
        frames, queue = list[Frame](), self.spaces[kind].queue
        flying = sum(sent.size for space in self.spaces.values() for sent in space.in_flight())
        if kind == DATA and flying >= self.recovery.window and not self.probing:
            return frames
        self.probing = False
        while queue and len(encode(queue[0])) <= room:
            frames.append(queue.popleft())
            room -= len(encode(frames[-1]))
        while kind == DATA and not queue and (frame := self.streams.next_frame(room)):
            frames.append(frame)
            room -= len(encode(frame))
        return frames

    def _seal(self, space: Space, keys: Keys, frames: list[Frame]) -> bytes:
        number = space.number()
        size = wire.number_length(number, space.acknowledged)
        phase = self.phases.phase if self.phases and space.id == DATA else 0
        shape = self._shape(frames) if space.id == DATA else 0
        payload = encode_shape(shape, frames[0]) if shape else b"".join(map(encode, frames))
        payload += bytes(max(0, 4 - size - len(payload)))  # PADDING up to the sample (WIRE-6)
        if space.id == DATA:
            header = wire.short_header(self.dcid, phase & 1, shape, number, size)
        else:
            ids = (self.dcid, self.scid, self.token)
            header = wire.long_header(space.id, *ids, number, size, len(payload) + 16)
        packet = seal(keys, number, header, size, payload)
        sent = space.sent[number] = Sent(time.monotonic(), len(packet), frames, phase)
        if sent.eliciting:
            space.probed = sent.time
        return packet

    def _shape(self, frames: list[Frame]) -> int:
        """Spends no type on a frame that is alone (ACK-9, STR-12)."""
        frame = frames[0]
        if len(frames) > 1 or frame["frame"] not in ("ACK", "MESSAGE"):
            return 0
        if frame["frame"] == "ACK":
            return 6
        if frame["open"] or len(frame["data"]) < 3:
            return 0
        if frame["fragment"]:
            return 4
        ahead = frame["number"] - self.streams.all[frame["stream"]].highest_acknowledged
        return 1 if "again" not in frame and ahead <= 127 else 0

    def drop(self, kind: int) -> None:
        """Discards the keys of a space, and what was in flight under them (CON-18, REC-4)."""
        space = self.spaces[kind]
        space.send, space.receive, space.ack_due = None, None, False
        space.sent.clear()
        space.queue.clear()

    # Time

    def timers(self) -> None:
        """Declares losses, sends probes, grants credit, notices silence."""
        now = time.monotonic()
        for space in self.spaces.values():
            for sent in self.recovery.take_lost(space, now):
                self.repeat(space, sent)
        at, due = self._next_probe()
        if due and now >= at:
            self._probe(due)
        self.spaces[DATA].queue.extend(self.streams.grants())
        idle = min(IDLE, self.theirs.get("idle_timeout", 0) / 1000 or IDLE)
        if now - self.heard > max(idle, 3 * self.recovery.pto()):  # CON-30
            self.ended = "nothing was received for the idle time"

    def repeat(self, space: Space, sent: Sent) -> None:
        """Queues what a packet carried once more."""
        again = [frame for frame in sent.frames if frame["frame"] not in SENT_ONCE]
        space.queue.extend(self.streams.newest(frame) for frame in again)
        self.repeated += len(again)

    def _next_probe(self) -> tuple[float, Space | None]:
        """When which space sends a probe (REC-12, REC-13, CON-11, CON-27)."""
        times: list[tuple[float, Space | None]] = [(float("inf"), None)]
        for space in self.spaces.values():
            unsure = self.client and not self.peer_validated and space.send and space.probed
            if self.recovery.deadline(space) is None and (space.in_flight() or unsure):
                turns = self.recovery.timeouts
                backoff = 2 ** min(turns, 8) if space.id == DATA else 2 ** (turns % 2)
                times.append((space.probed + self.recovery.pto(space.id) * backoff, space))
        return min(times, key=lambda each: each[0])

    def _probe(self, space: Space) -> None:
        """Sends again what is not acknowledged, of data one packet, or a PING (REC-16, CON-27)."""
        self.recovery.timeouts += 1
        self.probing, space.probed = True, time.monotonic()
        for sent in space.in_flight()[: 1 if space.id == DATA else None]:
            self.repeat(space, sent)
        if not space.queue:
            space.queue.append({"frame": "PING"})

    def run(self, done: Callable[[], bool], seconds: float) -> None:
        """Sends and receives until `done`; TimeoutError after `seconds`, Ended at the end."""
        end = time.monotonic() + seconds
        while not done():
            self.flush()
            if self.ended:
                raise Ended(self.ended)
            now = time.monotonic()
            if now >= end:
                raise TimeoutError("the peer takes too long")
            losses = [self.recovery.deadline(space) for space in self.spaces.values()]
            times = [end, self._next_probe()[0], now + 0.1, *(at for at in losses if at)]
            if select.select([self.sock], [], [], max(min(times) - now, 0.0))[0]:
                datagram, address = self.sock.recvfrom(65536)
                if address == self.peer and not self.lose():
                    self.handle(datagram)
            self.timers()

    # What an application calls

    def update_keys(self) -> bool:
        """Begins a key update, unless it is too early for one (CON-44)."""
        if self.phases is None or not self.phases.may_update(self.recovery.pto()):
            return False
        self.phases.advance(time.monotonic())
        self.key_updates += 1
        return True

    def close(self, code: int, by: int = 1, reason: bytes = b"") -> None:
        """Sends CLOSE, of the application (`by` 1) or of the transport (CON-33, CON-35)."""
        if self.ended:
            return
        if by and not self.ready():
            code, by, reason = 0, 0, b""
        frame: Frame = {"frame": "CLOSE", "space": by, "code": code, "reason": reason[:255]}
        for kind in (INITIAL, HANDSHAKE, DATA):
            keys = self._send_keys(kind)
            self.farewell += self._seal(self.spaces[kind], keys, [frame]) if keys else b""
        self.transmit(self.farewell)
        self.ended = f"closed here with {code:#x} {reason.decode(errors='replace')}"

    def linger(self) -> None:
        """Answers what comes in three probe time-outs, at the 1st, 2nd, 4th .. packet (CON-33)."""
        end, came = time.monotonic() + 3 * self.recovery.pto(), 0
        while self.farewell and (wait := end - time.monotonic()) > 0:
            if select.select([self.sock], [], [], wait)[0]:
                came += self.sock.recvfrom(65536)[1] == self.peer
                if came & (came - 1) == 0:
                    self.transmit(self.farewell)
