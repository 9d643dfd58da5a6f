"""Frames that a server must close the connection for, and the code that it must tell."""

from __future__ import annotations

from collections.abc import Callable

from .client import Client
from .connection import Ended
from .frames import Frame, message
from .lists import Opening
from .recovery import DATA
from .streams import OPENING

STREAM = 2  # the client's first (STR-1)
FLOOD = [
    {"frame": "NEW_CONNECTION_ID", "sequence": n, "retire_prior_to": 0, "id": bytes([n] * 8)}
    | {"reset_token": bytes([n] * 16)}
    for n in range(1, 10)
]


def ack(*ranges: tuple[int, int]) -> Frame:
    frame: Frame = {"frame": "ACK", "delay": 0, "ranges": list(ranges), "ecn": None}
    return frame | {"times": b"", "recovered": b""}


def opens(stream: int, opening: Opening = OPENING) -> Frame:
    return {"frame": "OPEN", "stream": stream, "open": opening}


def finish(stream: int, end: int) -> Frame:
    return {"frame": "FINISH", "stream": stream, "end": end}


def skip(stream: int, floor: int, credit: int) -> Frame:
    return {"frame": "SKIP", "stream": stream, "floor": floor, "credit_below": credit}


def reset(stream: int, final: int) -> Frame:
    return {"frame": "RESET_STREAM", "stream": stream, "code": 0, "final_bytes": final}


OPEN = opens(STREAM)
BYTES: Frame = {"frame": "BYTES", "stream": STREAM, "open": None, "offset": 0, "fin": False}
CASES: list[tuple[str, int, list[Frame]]] = [
    ("STR-2", 0x04, [opens(2**30)]),
    ("STR-4", 0x05, [finish(0, 0)]),
    ("STR-4", 0x05, [reset(0, 0)]),
    ("STR-4", 0x05, [{"frame": "STOP_SENDING", "stream": 0, "code": 0}]),
    ("STR-8", 0x05, [message(STREAM, 0, b"x")]),
    ("STR-9", 0x05, [opens(1)]),
    ("STR-9", 0x05, [OPEN, opens(STREAM, OPENING | {"class": "scavenger"})]),
    ("STR-9", 0x05, [OPEN, BYTES | {"data": b"x", "to_end": False}]),
    ("STR-13", 0x0A, [OPEN, message(STREAM, 131072, b"x")]),
    ("STR-14", 0x06, [OPEN, finish(STREAM, 5), finish(STREAM, 6)]),
    ("STR-14", 0x06, [OPEN, finish(STREAM, 1), message(STREAM, 1, b"x")]),
    ("STR-15", 0x0A, [OPEN, message(STREAM, 0, b"x", (0, 9)), message(STREAM, 0, b"x", (1, 8))]),
    ("STR-16", 0x0E, [OPEN, message(STREAM, 0, b"x", (0, 2**40))]),
    ("STR-25", 0x06, [OPEN, message(STREAM, 1, b"x"), reset(STREAM, 5)]),
    ("STR-25", 0x03, [OPEN, reset(STREAM, 2**50)]),
    ("STR-39", 0x0A, [OPEN, message(STREAM, 1, b"x"), skip(STREAM, 2, 32)]),
    ("STR-39", 0x06, [OPEN, finish(STREAM, 1), skip(STREAM, 2, 64)]),
    ("STR-38", 0x0A, [OPEN, {"frame": "CONSUMED", "stream": STREAM, "number": 7}]),
    (
        "ACK-12",
        0x0A,
        [
            {"frame": "ACK_FREQUENCY", "sequence": 0, "threshold": 9}
            | {"delay_max": 2**24, "reordering": 1}
        ],
    ),
    ("REC-10", 0x0F, [ack((10**6, 10**6))]),
    ("WIRE-18", 0x07, [ack(*((n, n) for n in range(3000, 0, -10)))]),
    ("WIRE-36", 0x0A, [{"frame": "TICKET", "data": b"x"}]),
    ("WIRE-36", 0x0A, [{"frame": "EXCHANGE", "data": b"x"}]),
    ("WIRE-36", 0x0A, [{"frame": "REPAIR", "data": b"xxxxx"}]),
    ("WIRE-42", 0x07, [{"frame": "MAX_STREAMS", "limit": 2**61}]),
    ("CON-21", 0x0A, [{"frame": "RETIRE_CONNECTION_ID", "sequence": 99}]),
    ("CON-22", 0x09, FLOOD),
    ("CON-28", 0x0A, [{"frame": "HANDSHAKE_DONE"}]),
]


def run(connect: Callable[[], Client]) -> int:
    """Sends each case over a connection of its own; gives how many there are."""
    for rule, code, frames in CASES:
        client = connect()
        client.run(client.is_confirmed, 10)
        client.spaces[DATA].queue.extend(frames)
        try:
            client.run(lambda: False, 2)
        except (Ended, TimeoutError) as error:
            if f"transport {code:#x} " not in str(error):
                wanted = f"{rule}: {frames} must end in CLOSE {code:#x}"
                raise AssertionError(f"{wanted}, and did in: {error}") from error
    return len(CASES)
