"""The client's side of the handshake, and the echo run against a server."""

from __future__ import annotations

import hashlib
import secrets
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from . import wire
from .connection import DATAGRAM, Address, Connection, Ended
from .crypto import Keys, Schedule, initial_keys, retry_tag
from .exchange import Joiner, pieces
from .frames import Frame, parse_frames
from .handshake import ClientHandshake
from .recovery import Space
from .wire import HANDSHAKE, INITIAL, Refused

IDENTITY = 0x12


@dataclass
class Candidate:
    """A server that has answered; several may, and one of them is the server (section 8)."""

    schedule: Schedule
    receive: Keys
    scid: bytes
    joiner: Joiner = field(default_factory=Joiner)
    dead: bool = False


class Client(Connection):
    """A connection that this side opens."""

    def __init__(
        self,
        peer: Address,
        pin: bytes,
        protocol: bytes = b"",
        suites: bytes = b"\1\3\2",
        lose: Callable[[], bool] = lambda: False,
        schemes: bytes = b"\1",
    ) -> None:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("127.0.0.1", 0))
        super().__init__(sock, peer, True, secrets.token_bytes(4), secrets.token_bytes(8), lose)
        self.pin, self.odcid = pin, self.dcid
        self.names: set[bytes] = set()  # the starts of the hashes of what has left
        self.handshake = ClientHandshake(pin, self.parameters({}), protocol, suites, schemes)
        self.candidates: list[Candidate] = []
        self.joiner = Joiner()
        self.retried = b""
        self.doubted: tuple[float, str] | None = None
        self.flight_waits = True  # until the first data have left (CON-38)
        self._hello()

    def _hello(self) -> None:
        """The hello in Initial packets to `dcid` (HS-31, CON-15)."""
        space = self.spaces[INITIAL]
        space.send, space.receive = initial_keys(self.dcid, self.pin)
        space.sent.clear()
        space.queue.clear()
        space.queue.extend(pieces(self.handshake.hello))

    def on_other_long(self, head: wire.Retry | wire.VersionNegotiation, packet: bytes) -> None:
        if self.retried or self.candidates or self.spaces[INITIAL].highest >= 0:
            return  # CON-15, CON-16: only before any other packet
        if isinstance(head, wire.VersionNegotiation):
            ours = (head.dcid, head.scid) == (self.scid, self.dcid)
            if ours and wire.VERSION not in head.versions:
                self.doubt(f"the server speaks the versions {head.versions}")
        elif head.dcid == self.scid and head.tag == retry_tag(self.odcid, packet[:-16]):
            self.retried = self.dcid = head.scid
            self.token = head.token
            self._hello()

    def doubt(self, reason: str) -> None:
        """Waits 1.5 seconds for a better answer (CON-25)."""
        if not self.established and not self.doubted:
            self.doubted = (time.monotonic() + 1.5, reason)

    def timers(self) -> None:
        super().timers()
        if self.doubted and not self.established and time.monotonic() > self.doubted[0]:
            self.ended = self.doubted[1]

    def receive_keys(self, space: int) -> list[Keys]:
        if space == HANDSHAKE and not self.established:
            return [candidate.receive for candidate in self.candidates]
        keys = super().receive_keys(space)
        if space == INITIAL and keys and self.pin:
            keys.append(initial_keys(self.dcid, b"")[1])
        return keys

    def _seal(self, space: Space, keys: Keys, frames: list[Frame]) -> bytes:
        packet = super()._seal(space, keys, frames)
        if space.id == INITIAL:
            self.names.add(hashlib.sha256(packet).digest()[:8])
        return packet

    def _opened(self, space: Space, flags: int, number: int, payload: bytes) -> None:
        """Under the keys of no pin only the word counts that the pin is wrong (CON-29)."""
        if space.id != INITIAL or self.source[0] == 0:
            return super()._opened(space, flags, number, payload)
        for frame in parse_frames(payload):
            told = (frame["frame"], frame.get("space"), frame.get("code"))
            if told == ("CLOSE", 0, IDENTITY) and frame["reason"] in self.names:
                self.doubt("the server has another identity than the pin says")

    def on_message(self, space: int, frame: Frame) -> None:
        if space == INITIAL:
            raw = self.joiner.add(frame)
            if raw and not self.established and len(self.candidates) < 5:  # HS-43
                schedule = self.handshake.server_hello(raw)
                keys = Keys(schedule.suite, schedule.handshake("server"))
                self.candidates.append(Candidate(schedule, keys, self.source[1]))
        elif not self.established:
            candidate = self.candidates[self.source[0]]
            flight = None if candidate.dead else candidate.joiner.add(frame)
            if flight:
                self._verify(candidate, flight)

    def _verify(self, candidate: Candidate, flight: bytes) -> None:
        """Takes a server flight, or ends its candidate alone (HS-42, HS-44)."""
        try:
            verified = self.handshake.server_flight(candidate.schedule, flight)
        except Refused:
            candidate.dead = True
            raise
        if verified is None:
            return
        done, answer = verified
        self.establish(done)
        self.dcid = self.ids[0] = candidate.scid
        space = self.spaces[HANDSHAKE]
        space.receive = candidate.receive
        space.send = Keys(done.schedule.suite, done.schedule.handshake("client"))
        space.queue.extend(pieces(answer))
        self._check_ids(candidate.scid)
        self.open_early()

    def _check_ids(self, scid: bytes) -> None:
        """The server repeats the ids that the handshake used (CON-5)."""
        told = self.theirs
        fits = told["original_destination_id"] == self.odcid and told["initial_source_id"] == scid
        if not fits or told["retry_source_id"] != (self.retried or None):
            raise Refused("ids that the handshake did not use", wire.PARAMETERS)

    def before_datagram(self) -> None:
        """With the first data, a flight that left before goes once more (CON-38)."""
        space = self.spaces[HANDSHAKE]
        if self.flight_waits and self.streams.waits():
            self.flight_waits = False
            for sent in space.in_flight() if not space.queue else []:
                self.repeat(space, sent)


def ask_versions(peer: Address) -> list[int]:
    """What a server answers to a version that nobody speaks (1.1, WIRE-39)."""
    dcid, scid = secrets.token_bytes(8), secrets.token_bytes(5)
    packet = b"\xc0\x0a\x1a\x2a\x3a\x08" + dcid + b"\x05" + scid
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(5)
        sock.sendto(packet + bytes(DATAGRAM - len(packet)), peer)
        head = wire.parse_long(sock.recv(65536), 0)
    if not isinstance(head, wire.VersionNegotiation) or (head.dcid, head.scid) != (scid, dcid):
        raise AssertionError(f"no version negotiation packet, but {head}")
    return head.versions


def echo(client: Client, messages: list[bytes], update: bool) -> None:
    """Connects, sends all messages on one stream, and compares what comes back."""
    client.run(lambda: client.established is not None, 10)
    stream = client.streams.open()
    half = len(messages) // 2
    stream.outbox.extend(messages[:half])
    client.run(lambda: len(stream.inbox) == half, 20)
    if update:
        client.run(client.update_keys, 10)
    stream.outbox.extend(messages[half:])
    stream.wants_end = True
    client.run(lambda: len(stream.inbox) == len(messages), 20)
    client.run(lambda: stream.over and client.confirmed, 10)
    if list(stream.inbox) != messages:
        raise AssertionError("what came back is not what was sent")
    client.close(0)
    client.linger()


def must_end(client: Client, reason: str) -> None:
    """The attempt must end for `reason`."""
    try:
        client.run(client.is_confirmed, 5)
    except Ended as error:
        if reason in str(error):
            return
        raise
    raise AssertionError(f"a connection is made that should have ended: {reason}")
