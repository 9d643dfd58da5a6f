"""The server's side of the handshake, and an echo service for one client."""

from __future__ import annotations

import hmac
import ipaddress
import secrets
import socket
import time
from collections.abc import Callable

from . import wire
from .connection import Address, Connection, Ended
from .crypto import Keys, cookie, fingerprint, initial_keys, public_key, retry_tag
from .exchange import Joiner, pieces
from .frames import Frame, parse_frames
from .handshake import ServerHandshake
from .lists import SERVER_ONLY
from .phases import unmask
from .recovery import DATA
from .wire import HANDSHAKE, INITIAL, Refused

SILENCE = 2.0  # seconds


def address_bytes(peer: Address) -> bytes:
    """What stands for a plain UDP address in a cookie (WIRE-38)."""
    mapped = b"\0" * 10 + b"\xff" * 2 + ipaddress.IPv4Address(peer[0]).packed
    return b"\1" + mapped + peer[1].to_bytes(2, "big") + bytes(8)


class Listener:
    """Waits for one hello, behind a Retry (chapter 2, section 9, and 6.1)."""

    def __init__(self, sock: socket.socket, seed: bytes, scheme: int) -> None:
        self.sock, self.seed, self.scheme = sock, seed, scheme
        self.cookie_key = secrets.token_bytes(32)
        self.pin = fingerprint(public_key(seed, scheme))
        self.joiner = Joiner()

    def take(self, datagram: bytes, peer: Address) -> tuple[wire.Long, bytes, bytes, bytes] | None:
        """Header, hello, original destination id and pin, once a hello is whole."""
        head = wire.parse_long(datagram, 0)
        if not isinstance(head, wire.Long) or head.type != INITIAL or len(head.dcid) != 8:
            return None
        if len(datagram) < 1200:  # CON-1
            return None
        for pin in (self.pin, b""):
            frames = self._open(datagram[: head.end], head, pin)
            if frames is not None:
                break
        else:
            return None
        if not head.token:
            self._retry(head, peer)
            return None
        odcid = head.token[5:13]
        if not self._is_cookie(head.token, peer):  # CON-37
            return None
        whole = [self.joiner.add(frame) for frame in frames if frame["frame"] == "HANDSHAKE"]
        hello = next(filter(None, whole), None)
        return (head, hello, odcid, pin) if hello else None

    def _open(self, packet: bytes, head: wire.Long, pin: bytes) -> list[Frame] | None:
        """The frames of a client's first packets, if they are sealed for `pin` (HS-31)."""
        keys = initial_keys(head.dcid, pin)[0]
        plain = unmask(keys, packet, head.number_at, 0)
        payload = keys.open(plain[2], plain[0], plain[1]) if plain else None
        return parse_frames(payload) if payload is not None else None

    def _retry(self, head: wire.Long, peer: Address) -> None:
        """Asks for a proof of address, by a cookie that is not bound to the core."""
        now, scid = int(time.time()), secrets.token_bytes(8)
        token = cookie(self.cookie_key, 0, now, head.dcid, None, address_bytes(peer))
        packet = b"\xf0" + wire.VERSION.to_bytes(4, "big") + bytes([len(head.scid)]) + head.scid
        packet += bytes([len(scid)]) + scid + token
        self.sock.sendto(packet + retry_tag(head.dcid, packet), peer)

    def _is_cookie(self, token: bytes, peer: Address) -> bool:
        """Whether this server made the token for this address, within 10 seconds (HS-50, HS-51)."""
        made = int.from_bytes(token[1:5], "big")
        fresh = 0 <= int(time.time()) - made <= 10
        again = cookie(self.cookie_key, 0, made, token[5:13], None, address_bytes(peer))
        return fresh and hmac.compare_digest(again, token)


class Server(Connection):
    """A connection that the peer opens."""

    def __init__(
        self,
        listener: Listener,
        peer: Address,
        first: tuple[wire.Long, bytes, bytes, bytes],
        protocol: bytes,
        lose: Callable[[], bool],
    ) -> None:
        head, hello, odcid, pin = first
        super().__init__(listener.sock, peer, False, secrets.token_bytes(8), head.scid, lose)
        self.handshake = ServerHandshake(listener.seed, listener.scheme, hello, protocol)
        self.joiner, self.complete = Joiner(), False
        more = {"original_destination_id": odcid, "retry_source_id": head.dcid}
        done, flight = self.handshake.flight(self.parameters(more))
        self.establish(done)
        wrong = any(self.theirs[name] is not None for name in SERVER_ONLY)
        if wrong or self.theirs["initial_source_id"] != head.scid:  # CON-6
            raise Refused("parameters of the client", wire.PARAMETERS)
        initial, space = self.spaces[INITIAL], self.spaces[HANDSHAKE]
        initial.receive, initial.send = initial_keys(head.dcid, pin)
        initial.queue.extend(pieces(self.handshake.server_hello))
        suite, schedule = done.schedule.suite, done.schedule
        space.receive = Keys(suite, schedule.handshake("client"))
        space.send = Keys(suite, schedule.handshake("server"))
        space.queue.extend(pieces(flight))

    def ready(self) -> bool:
        return self.complete

    def on_message(self, space: int, frame: Frame) -> None:
        flight = self.joiner.add(frame) if space == HANDSHAKE and not self.complete else None
        if flight is None:
            return
        self.handshake.client_flight(flight)
        self.complete = self.confirmed = True  # CON-17
        self.drop(HANDSHAKE)
        self.spaces[DATA].queue.append({"frame": "HANDSHAKE_DONE"})
        self.open_early()


def serve(listener: Listener, protocol: bytes, lose: Callable[[], bool], seconds: float) -> Server:
    """Echoes each message of each stream of one client, until it has left.

    A CLOSE may be lost, and is not sent again to who is silent: so silence after the streams' end
    ends the service too.
    """
    listener.sock.settimeout(seconds)
    first = None
    while first is None:
        datagram, peer = listener.sock.recvfrom(65536)
        if not lose():
            first = listener.take(datagram, peer)
    server = Server(listener, peer, first, protocol, lose)

    def turn() -> bool:
        for stream in server.streams.accepted:
            stream.outbox.extend(stream.inbox)
            stream.inbox.clear()
            stream.wants_end = stream.over
        ends = [stream.end_told for stream in server.streams.accepted]
        flying = server.spaces[DATA].in_flight()
        return all(ends) and bool(ends) and not flying and time.monotonic() > server.heard + SILENCE

    try:
        server.run(turn, seconds)
    except Ended:
        if not server.complete:
            raise
    return server
