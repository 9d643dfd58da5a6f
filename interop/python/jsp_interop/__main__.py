"""`python -m jsp_interop VECTORS PEER`: checks the vectors, then talks to the Rust program PEER."""

from __future__ import annotations

import random
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from . import memory, refusals, vectors
from .client import Client, ask_versions, echo, must_end
from .connection import Address
from .crypto import ED25519, ML_DSA_65, fingerprint_text, parse_fingerprint
from .server import Listener, serve
from .wire import VERSION

PROTOCOL = b"interop/1"
SIZES = (0, 1, 20, 100, 1000, 1200, 5000, 20000)
LOSS = 0.1
SECONDS = 60  # for any one case


def losses(share: float, seed: int) -> Callable[[], bool]:
    """Says of each datagram whether it is lost."""
    generator = random.Random(seed)
    return lambda: generator.random() < share


def case(name: str, run: Callable[[], str]) -> None:
    start = time.monotonic()
    told = run()
    print(f"{name:34} ok  {time.monotonic() - start:5.2f} s  {told}", flush=True)


def against_server(address: Address, pin: bytes) -> None:
    """This client against the server of the Rust program."""

    def connect(
        suite: int = 1, protocol: bytes = PROTOCOL, known: bytes = pin, lost: float = 0.0
    ) -> Client:
        return Client(address, known, protocol, bytes([suite]), losses(lost, suite))

    def messages(suite: int, known: bytes, lost: float, update: bool) -> str:
        generator = random.Random(suite)
        batch = [generator.randbytes(generator.choice(SIZES)) for _ in range(100)]
        client = connect(suite, known=known, lost=lost)
        echo(client, batch, update)
        if not client.retried or client.key_updates != update:
            raise AssertionError("no Retry was obeyed, or no key update was made")
        return f"{len(batch)} messages both ways, {client.repeated} frames repeated"

    def refused(client: Client, reason: str) -> str:
        must_end(client, reason)
        return reason

    def versions() -> str:
        told = ask_versions(address)
        vectors.must(VERSION in told, told)
        return ", ".join(map(hex, told))

    for suite in (1, 2, 3):
        case(f"client, suite {suite}, key update", partial(messages, suite, pin, 0.0, True))
        case(f"client, suite {suite}, a tenth lost", partial(messages, suite, pin, LOSS, False))
    case("client without a pin", lambda: messages(1, b"", 0.0, False))
    case("wrong pin", lambda: refused(connect(known=secrets.token_bytes(32)), "another identity"))
    case("no protocol in common", lambda: refused(connect(protocol=b"other"), "transport 0x10"))
    case("no suite in common", lambda: refused(connect(suite=4), "transport 0x10"))
    case("version negotiation", versions)
    case("refusals of frames", lambda: f"{refusals.run(connect)} as the specification says")


def against_memory(address: Address, pin: bytes, process: int) -> None:
    """What the Rust program remembers of connections that are over."""
    if not memory.is_readable():
        print("SKIPPED: secrets left in memory: this system does not show it", flush=True)
        return
    for suite in (1, 2, 3):
        client = Client(address, pin, PROTOCOL, bytes([suite]))
        case(f"memory, suite {suite}", partial(memory.must_forget, client, process))


def against_ml_dsa(address: Address, pin: bytes) -> None:
    """This client against a server whose identity is of ML-DSA-65."""

    def messages(lost: float) -> str:
        schemes = bytes([ED25519, ML_DSA_65])
        client = Client(address, pin, PROTOCOL, schemes=schemes, lose=losses(lost, 5))
        batch = [bytes([n]) * 100 for n in range(20)]
        echo(client, batch, False)
        identity = client.established.identity if client.established else b""
        vectors.must(identity[:1] == bytes([ML_DSA_65]), "an identity of ML-DSA-65")
        return f"{len(batch)} messages both ways, {client.repeated} frames repeated"

    case("client, ML-DSA-65", lambda: messages(0.0))
    case("client, ML-DSA-65, a tenth lost", lambda: messages(LOSS))

    def refused() -> str:
        must_end(Client(address, pin, PROTOCOL), "transport 0x10")
        return "transport 0x10"

    case("no signature in common", refused)


def against_client(peer: str, scheme: int, lost: float) -> str:
    """This server against the client of the Rust program."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    listener = Listener(sock, secrets.token_bytes(32), scheme)
    address = f"127.0.0.1:{sock.getsockname()[1]}"
    command = [peer, "echo", address, fingerprint_text(listener.pin)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as client:
        try:
            server = serve(listener, PROTOCOL, losses(lost, 1), SECONDS)
            told = client.communicate(timeout=SECONDS)[0].strip()
        finally:
            client.kill()
    closed = "closed: application 0x0" in server.ended or (lost and not server.ended)
    if client.returncode != 0 or not closed:
        raise AssertionError(f"the client ended with {client.returncode}: {server.ended}")
    return f"{told}, {server.repeated} frames repeated"


def main() -> None:
    folder, peer = Path(sys.argv[1]), sys.argv[2]
    case("vectors", lambda: f"{vectors.run(folder)} files")
    for scheme, run in (("ed25519", against_server), ("ml-dsa-65", against_ml_dsa)):
        with subprocess.Popen([peer, "serve", scheme], stdout=subprocess.PIPE, text=True) as server:
            try:
                where, pin = server.stdout.readline().split() if server.stdout else ("", "")
                host, port = where.split(":")
                run((host, int(port)), parse_fingerprint(pin))
                if scheme == "ed25519":
                    against_memory((host, int(port)), parse_fingerprint(pin), server.pid)
            finally:
                server.kill()
    case("server", lambda: against_client(peer, ED25519, 0.0))
    case("server, a tenth lost", lambda: against_client(peer, ED25519, LOSS))
    case("server, ML-DSA-65", lambda: against_client(peer, ML_DSA_65, 0.0))
    case("server, ML-DSA-65, a tenth lost", lambda: against_client(peer, ML_DSA_65, LOSS))


main()
