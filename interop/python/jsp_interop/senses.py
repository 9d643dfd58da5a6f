"""Sections of ACK and the layout of REPAIR (1.5.1, 8.1, 8.2): read here, and not negotiated."""

from __future__ import annotations

from .wire import Reader, Refused


def parse_receive_times(section: bytes, largest: int) -> list[tuple[int, int]]:
    """Packet numbers and when they arrived, modulo 2^16 units (WIRE-43)."""
    reader = Reader(section)
    times = [(largest, reader.uint(2))]
    while reader.left():
        number, time = times[-1]
        distance, earlier = reader.varint(), reader.varint()
        number -= distance + 1
        if number < 0 or earlier > 2**15 or len(times) == 16:
            raise Refused("receive times")
        times.append((number, (time - earlier) % 2**16))
    return times


def parse_recovered(section: bytes, largest: int) -> list[int]:
    """The packet numbers that an ACK names as recovered (FEC-7)."""
    reader, numbers = Reader(section), list[int]()
    while reader.left():
        before = numbers[-1] - 1 if numbers else largest
        numbers.append(before - reader.varint())
        if numbers[-1] < 0 or len(numbers) > 64:
            raise Refused("recovered packets")
    return numbers


def parse_repair(data: bytes) -> tuple[list[int], bytes]:
    """How far below the packet of a repair its members lie, and its symbol (FEC-4)."""
    reader = Reader(data)
    back, span = reader.uint(1) & 0x7F, reader.uint(1)
    bits = int.from_bytes(reader.take((span + 7) // 8), "little")
    symbol = reader.rest()
    ends = back and span and bits & 1 and bits >> span - 1 == 1
    if not ends or back + span > 128 or len(symbol) < 3:
        raise Refused("a repair")
    return [back + n for n in range(span) if bits >> n & 1], symbol
