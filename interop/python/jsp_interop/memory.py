"""What is left of a connection's secrets in the memory of the peer's process, once it is over."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

from .client import Client
from .crypto import Keys, Schedule
from .handshake import Established
from .streams import Stream

SECONDS = 20  # an ended connection is remembered for 10 (CON-81)
CHUNK = 1 << 22


def named_secrets(done: Established, updates: int) -> dict[str, bytes]:
    """Everything that leads to the content of a connection, by name.

    Not the IVs, which are the nonces of the first packets and open nothing.
    """
    schedule: Schedule = done.schedule
    suite, found = schedule.suite, dict[str, bytes]()
    found |= {"ml-kem": schedule.ml_kem, "x25519": schedule.x25519}
    found |= {"handshake": schedule.hs, "master": schedule.master}
    found["exporter"] = schedule.derive(schedule.master, "exporter", done.t2)
    for role in ("client", "server"):
        found[f"{role} finished"] = schedule.derive(
            schedule.handshake(role), role + " finished", b""
        )
        keys = [("handshake", Keys(suite, schedule.handshake(role)))]
        phase = Keys(suite, schedule.data(role, done.t2))
        for count in range(updates + 2):  # the next phase may stand ready
            keys.append((f"data {count}", phase))
            phase = phase.next_phase()
        for name, each in keys:
            found[f"{role} {name} secret"] = each.secret
            found[f"{role} {name} key"] = suite.label(each.secret, "jsp1 key", b"", suite.key_len)
            found[f"{role} {name} hp"] = each.hp
    return found


def writable(process: int) -> Iterator[tuple[int, bytes]]:
    """The memory that the process may write, a piece at a time; pieces overlap."""
    for line in Path(f"/proc/{process}/maps").read_text().splitlines():
        span, rights = line.split()[:2]
        if "rw" not in rights:
            continue
        at, end = (int(part, 16) for part in span.split("-"))
        with open(f"/proc/{process}/mem", "rb", buffering=0) as memory:
            while at < end:
                memory.seek(at)
                try:
                    piece = memory.read(min(CHUNK, end - at))
                except OSError:  # unmapped since
                    break
                yield at, piece
                if len(piece) <= 64:
                    break
                at += len(piece) - (64 if at + len(piece) < end else 0)


def search(process: int, wanted: dict[str, bytes]) -> list[str]:
    """The names of what is found, each with its place."""
    return [
        f"{name} at {at + where:#x}"
        for at, piece in writable(process)
        for name, secret in wanted.items()
        if (where := piece.find(secret)) >= 0
    ]


def must_forget(client: Client, process: int) -> str:
    """Sends and receives, updates keys, closes: then no secret of it is left in the process."""
    client.run(lambda: client.established is not None, 10)
    stream: Stream = client.streams.open()
    for count in range(2):
        stream.outbox.append(b"a secret of the application, which may stay")
        client.run(lambda count=count: len(stream.inbox) > count, 10)
        if not count:
            client.run(client.update_keys, 10)
    if client.established is None:
        raise AssertionError("no handshake")
    wanted = named_secrets(client.established, client.key_updates)
    before = search(process, wanted)
    if not before:
        raise AssertionError("the search finds no key of a connection that is open")
    client.close(0)
    client.linger()
    end = time.monotonic() + SECONDS
    while (left := search(process, wanted)) and time.monotonic() < end:
        time.sleep(0.1)
    if left:
        raise AssertionError(f"left in memory: {', '.join(left)}")
    return f"{len(before)} of {len(wanted)} secrets in use, 0 left"


def is_readable() -> bool:
    """Whether this system shows the memory of a process."""
    return sys.platform == "linux"
