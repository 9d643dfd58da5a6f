"""Lists, openings of streams, and transport parameters (chapter 1, sections 1.6 and 1.7)."""

from __future__ import annotations

from typing import Any

from .wire import FRAME_ENCODING, PARAMETERS, VARINT_MAX, Reader, Refused, counted, varint

Opening = dict[str, Any]
"""How to take a stream's data: delivery, order, framing, class, direction, list."""

DELIVERIES = ("reliable", "partial", "unreliable")
CLASSES = ("control", "real time", "interactive", "scavenger")
LABEL = 0x01


def parse_list(data: bytes, known: tuple[int, ...], code: int) -> dict[int, bytes]:
    """A list of `id | length | value` (WIRE-20, WIRE-21)."""
    reader, found = Reader(data), dict[int, bytes]()
    while reader.left():
        try:
            key, value = reader.varint(), reader.counted()
        except Refused as error:
            raise Refused("a list is cut", code) from error
        if key in found or len(found) == 63 or (key % 2 == 0 and key not in known):
            raise Refused(f"entry {key} of a list", code)
        found[key] = value
    return found


def parse_opening(reader: Reader) -> Opening:
    """How to take a stream's data (1.6)."""
    profile = reader.uint(1)
    messages = bool(profile & 8)
    if profile & 3 == 3 or (not messages and profile & 7):  # WIRE-30
        raise Refused("a profile that there is not")
    entries = reader.counted() if profile & 0x80 else b""
    if len(parse_list(entries, (), FRAME_ENCODING).get(LABEL, b"")) > 255:  # WIRE-31
        raise Refused("a label is too long")
    return {
        "delivery": DELIVERIES[profile & 3],
        "ordered": not profile & 4,
        "framing": "messages" if messages else "bytes",
        "class": CLASSES[profile >> 4 & 3],
        "unidirectional": bool(profile & 0x40),
        "list": entries,
    }


def opening(value: Opening) -> bytes:
    profile = DELIVERIES.index(value["delivery"]) | CLASSES.index(value["class"]) << 4
    profile |= (not value["ordered"]) << 2 | (value["framing"] == "messages") << 3
    profile |= value["unidirectional"] << 6 | bool(value["list"]) << 7
    return bytes([profile]) + (counted(value["list"]) if value["list"] else b"")


# id: name, default, lowest, highest; of connection ids and tokens: name, None, shortest, longest
PARAMETER_TABLE: dict[int, tuple[str, int | None, int, int]] = {
    0x01: ("idle_timeout", 0, 0, VARINT_MAX),
    0x02: ("initial_source_id", None, 0, 20),
    0x03: ("datagram_len_max", 65507, 1200, VARINT_MAX),
    0x04: ("original_destination_id", None, 0, 20),
    0x05: ("data_max", 0, 0, VARINT_MAX),
    0x06: ("retry_source_id", None, 0, 20),
    0x07: ("stream_data_max", 0, 0, VARINT_MAX),
    0x09: ("streams_max", 0, 0, 2**20),
    0x0B: ("message_len_max", 0, 0, VARINT_MAX),
    0x0D: ("ack_delay_max", 25000, 0, 2**24 - 1),
    0x0F: ("connection_ids_max", 2, 2, VARINT_MAX),
    0x11: ("reset_token", None, 16, 16),
    0x13: ("features", 0, 0, VARINT_MAX),
    0x15: ("paths_max", 1, 1, 4),
    0x17: ("preferred_address", None, 42, 61),
}
SERVER_ONLY = ("original_destination_id", "retry_source_id", "reset_token", "preferred_address")


def check_preferred(data: bytes) -> None:
    """The form of a preferred address (WIRE-47)."""
    reader, present = Reader(data), []
    for size in (4, 16):
        host, port = reader.uint(size), reader.uint(2)
        if bool(host) != bool(port):
            raise Refused("half of an address is preferred", PARAMETERS)
        present.append(port)
    size = reader.uint(1)
    if not any(present) or not 1 <= size <= 20 or reader.left() != size + 16:
        raise Refused("a preferred address that is none", PARAMETERS)


def parse_parameters(data: bytes) -> dict[str, Any]:
    """Transport parameters, complete with their defaults (WIRE-22, WIRE-23)."""
    found = parse_list(data, tuple(PARAMETER_TABLE), PARAMETERS)
    out: dict[str, Any] = {name: default for name, default, _, _ in PARAMETER_TABLE.values()}
    for key, (name, default, low, high) in PARAMETER_TABLE.items():
        if key not in found:
            continue
        reader, out[name] = Reader(found[key]), found[key]
        try:
            out[name] = reader.rest() if default is None else reader.varint()
        except Refused as error:
            raise Refused(f"{name} is cut", PARAMETERS) from error
        size = len(out[name]) if default is None else out[name]
        if reader.left() or not low <= size <= high:
            raise Refused(f"{name} is out of its range", PARAMETERS)
    if out["preferred_address"] is not None:
        check_preferred(out["preferred_address"])
    if out["initial_source_id"] is None:
        raise Refused("the source id is missing", PARAMETERS)
    return out


def parameters(values: dict[str, Any], grease: int) -> bytes:
    """The list that tells `values`; `grease` chooses an id without meaning (WIRE-24, WIRE-29)."""
    out = varint(29 + 31 * 2 * grease) + counted(b"")
    for key, (name, _, _, _) in PARAMETER_TABLE.items():
        if name in values:
            value = values[name]
            out += varint(key) + counted(value if isinstance(value, bytes) else varint(value))
    return out
