"""Frames and the shapes of payloads (chapter 1, sections 1.4 and 1.5)."""

from __future__ import annotations

from typing import Any

from .lists import opening, parse_opening
from .wire import VARINT_MAX, Reader, Refused, counted, varint

Frame = dict[str, Any]
"""A frame: its name under `frame`, and its fields as the specification calls them."""

# Kinds of fields: v varint, * length and data, o opening, uN integer, N bytes.


def _table(text: str) -> dict[int, tuple[str, list[tuple[str, str]]]]:
    out = {}
    for line in text.strip().splitlines():
        kind, name, *fields = line.split()
        pairs = [(field.partition("=")[0], field.partition("=")[2] or "v") for field in fields]
        out[int(kind, 16)] = (name, pairs)
    return out


PLAIN = _table("""
    0x01 PING
    0x02 HANDSHAKE id=8 offset=u2 total=u2 data=*
    0x03 CLOSE space=u1 code reason=*
    0x04 MAX_DATA limit
    0x05 MAX_STREAM_DATA stream limit
    0x06 MAX_STREAMS limit
    0x07 SKIP stream floor credit_below
    0x40 RESET_STREAM stream code final_bytes
    0x41 STOP_SENDING stream code
    0x42 DATA_BLOCKED limit
    0x43 STREAM_DATA_BLOCKED stream limit
    0x44 STREAMS_BLOCKED limit
    0x45 NEW_CONNECTION_ID sequence retire_prior_to id=c reset_token=16
    0x46 RETIRE_CONNECTION_ID sequence
    0x47 PATH_CHALLENGE data=8
    0x48 PATH_RESPONSE data=8
    0x49 ACK_FREQUENCY sequence threshold delay_max reordering
    0x4a IMMEDIATE_ACK
    0x4b HANDSHAKE_DONE
    0x4c OPEN stream open=o
    0x4d FINISH stream end
    0x4e CONSUMED stream number
    0x4f TICKET data=*
    0x50 EXCHANGE data=*
    0x51 REPAIR data=*
    0x52 SYMBOL stream number total id data=*
    0x53 ABOUT_PATH path
    0x54 PATH_ABANDON path code
    0x55 PATH_STATUS path sequence use=u1
""")
PLAIN_TYPES = {name: kind for kind, (name, _) in PLAIN.items()}


def _parse_field(reader: Reader, kind: str) -> Any:
    match kind:
        case "v":
            return reader.varint()
        case "*":
            return reader.counted()
        case "o":
            return parse_opening(reader)
        case "c":
            return reader.take(reader.uint(1))
        case _:
            return reader.uint(int(kind[1:])) if kind[0] == "u" else reader.take(int(kind))


def _field(kind: str, value: Any) -> bytes:
    match kind:
        case "v":
            return varint(value)
        case "*":
            return counted(value)
        case "o":
            return opening(value)
        case "c":
            return bytes([len(value)]) + bytes(value)
        case _:
            return int(value).to_bytes(int(kind[1:]), "big") if kind[0] == "u" else bytes(value)


def _check(frame: Frame) -> None:
    """What a frame of a plain layout must hold beyond its layout."""
    match frame:
        case {"frame": "HANDSHAKE", "offset": offset, "total": total, "data": data}:
            ok = data and offset + len(data) <= total <= 12288  # WIRE-19
        case {"frame": "CLOSE", "space": space, "reason": reason}:
            ok = space < 2 and len(reason) < 256  # WIRE-32
        case {"frame": "NEW_CONNECTION_ID", "id": name, "sequence": sequence}:
            ok = 1 <= len(name) <= 20 and frame["retire_prior_to"] <= sequence  # WIRE-33
        case {"frame": "MAX_STREAMS" | "STREAMS_BLOCKED", "limit": limit}:
            ok = limit < 2**61  # WIRE-42
        case {"frame": "PATH_STATUS", "use": use}:
            ok = use < 3  # PTH-12
        case _:
            ok = True
    if not ok:
        raise Refused(f"{frame['frame']} holds what it must not")


def parse_frames(payload: bytes) -> list[Frame]:
    """The frames of a payload of shape 0 (WIRE-14)."""
    reader, frames = Reader(payload), list[Frame]()
    while reader.left():
        at = reader.at
        kind = reader.varint()
        if len(varint(kind)) != reader.at - at:  # WIRE-10
            raise Refused("a type is not in its shortest form")
        if kind == 0:
            frames.append({"frame": "PADDING"})
        elif 0x08 <= kind < 0x10:
            frames.append(_parse_ack(reader, kind))
        elif 0x10 <= kind < 0x40:
            frames.append(_parse_data(reader, kind))
        elif kind in PLAIN:
            name, fields = PLAIN[kind]
            frame = {"frame": name} | {key: _parse_field(reader, form) for key, form in fields}
            _check(frame)
            frames.append(frame)
        else:
            raise Refused(f"frame type {kind:#x}")  # WIRE-11
    if not frames:
        raise Refused("no frame")
    return frames


def encode(frame: Frame) -> bytes:
    """A frame with its type."""
    match frame["frame"]:
        case "PADDING":
            return b"\0"
        case "ACK":
            return _ack(frame)
        case "BYTES" | "MESSAGE":
            return _data(frame)
        case name:
            kind = PLAIN_TYPES[name]
            return varint(kind) + b"".join(_field(form, frame[key]) for key, form in PLAIN[kind][1])


def _parse_ranges(reader: Reader) -> Frame:
    largest, delay, count = reader.varint(), reader.varint(), reader.varint()
    low = largest - reader.varint()
    ranges = [(low, largest)]
    if count > 255:  # WIRE-18
        raise Refused("an ACK with more than 256 ranges")
    for _ in range(count):
        high = low - reader.varint() - 2
        low = high - reader.varint()
        ranges.append((low, high))
    if low < 0:
        raise Refused("an ACK goes below 0")
    ack = {"frame": "ACK", "delay": delay, "ranges": ranges}
    return ack | {"ecn": None, "times": b"", "recovered": b""}


def _parse_ack(reader: Reader, kind: int) -> Frame:
    ack = _parse_ranges(reader)
    if kind & 1:
        ack["ecn"] = [reader.varint() for _ in range(3)]
    if kind & 2:
        ack["times"] = reader.counted()
    if kind & 4:
        ack["recovered"] = reader.counted()
    return ack


def ack_fields(frame: Frame) -> bytes:
    """The fields of an ACK without its sections: what shape ack holds too."""
    ranges: list[tuple[int, int]] = frame["ranges"]
    low, largest = ranges[0]
    out = varint(largest) + varint(frame["delay"]) + varint(len(ranges) - 1) + varint(largest - low)
    for (before, _), (low, high) in zip(ranges, ranges[1:]):
        out += varint(before - high - 2) + varint(high - low)
    return out


def _ack(frame: Frame) -> bytes:
    sections = [frame["times"], frame["recovered"]]
    kind = 8 | bool(frame["ecn"]) | bool(sections[0]) << 1 | bool(sections[1]) << 2
    out = varint(kind) + ack_fields(frame) + b"".join(map(varint, frame["ecn"] or ()))
    return out + b"".join(counted(section) for section in sections if section)


def _parse_data(reader: Reader, kind: int) -> Frame:
    """BYTES (1.5.2) and MESSAGE (1.5.3)."""
    message = kind >= 0x20
    frame: Frame = {"frame": "MESSAGE" if message else "BYTES", "stream": reader.varint()}
    frame |= {"fin": bool(kind & 2), "open": parse_opening(reader) if kind & 8 else None}
    if message:
        frame["number"] = reader.varint()
        frame["fragment"] = (reader.varint(), reader.varint()) if kind & 4 else None
        bits = reader.uint(1) if kind & 0x10 else 0
        frame |= {"text": bool(bits & 1), "kind": bits >> 1 & 3}
        frame["timestamp_ms"] = reader.varint() if bits & 8 else None
        if bits & 0xF0 or frame["kind"] == 3:  # WIRE-34
            raise Refused("attributes that there are not")
    else:
        frame["offset"] = reader.varint() if kind & 4 else 0
    frame["to_end"] = not kind & 1
    frame["data"] = reader.counted() if kind & 1 else reader.rest()
    return _checked_data(frame)


def _checked_data(frame: Frame) -> Frame:
    size, fragment = len(frame["data"]), frame.get("fragment")
    if fragment and (not size or fragment[0] + size > fragment[1]):  # WIRE-17
        raise Refused("a fragment that is empty or ends beyond its message")
    if frame.get("offset", 0) + size > VARINT_MAX:  # WIRE-16
        raise Refused("bytes beyond 2^62 - 1")
    return frame


def _data(frame: Frame) -> bytes:
    kind = (not frame["to_end"]) | frame["fin"] << 1 | bool(frame["open"]) << 3
    out = varint(frame["stream"]) + (opening(frame["open"]) if frame["open"] else b"")
    if frame["frame"] == "MESSAGE":
        out += varint(frame["number"])
        if frame["fragment"]:
            out += b"".join(map(varint, frame["fragment"]))
        stamp = frame["timestamp_ms"]
        bits = frame["text"] | frame["kind"] << 1 | (stamp is not None) << 3
        kind |= 0x20 | bool(frame["fragment"]) << 2 | bool(bits) << 4
        out += (bytes([bits]) if bits else b"") + (varint(stamp) if stamp is not None else b"")
    else:
        kind |= 0x10 | bool(frame["offset"]) << 2
        out += varint(frame["offset"]) if frame["offset"] else b""
    data = frame["data"]
    return varint(kind) + out + (data if frame["to_end"] else counted(data))


def message(
    stream: int, number: int, data: bytes, fragment: tuple[int, int] | None = None
) -> Frame:
    """A MESSAGE frame of binary data with a length; `fragment` is offset and total."""
    frame: Frame = {"frame": "MESSAGE", "stream": stream, "number": number, "data": data}
    frame |= {"fragment": fragment, "fin": False, "open": None, "to_end": False}
    return frame | {"text": False, "kind": 0, "timestamp_ms": None}


# Shapes of a short header's payload (1.4)


def parse_shape(shape: int, payload: bytes) -> list[Frame]:
    """The frames that a payload stands for; the number of shape message is not complete yet."""
    reader = Reader(payload)
    if shape == 0:
        return parse_frames(payload)
    if shape == 5:
        return [{"frame": "REPAIR", "data": payload}]
    if shape == 6:
        ack = _parse_ranges(reader)
        if reader.left():
            raise Refused("something follows a shape ack")
        return [ack]
    if shape == 7:  # WIRE-35
        raise Refused("shape 7")
    frame = message(reader.varint(), 0, b"")
    if shape == 1:
        frame["number"] = {"low_8": reader.uint(1)}
    elif shape == 2:
        frame = {"frame": "BYTES", "stream": frame["stream"], "offset": reader.varint()}
        frame |= {"fin": False, "open": None}
    elif shape == 3:
        frame |= {"open": parse_opening(reader), "fin": True}
    else:
        frame |= {"number": reader.varint(), "fragment": (reader.varint(), reader.varint())}
    return [_checked_data(frame | {"data": reader.rest(), "to_end": True})]


def encode_shape(shape: int, frame: Frame) -> bytes:
    """The payload of a packet whose header tells `shape`."""
    data: bytes = frame["data"] if shape != 6 else b""
    if shape == 5:
        return data
    if shape == 6:
        return ack_fields(frame)
    number = frame.get("number", 0)
    low = number["low_8"] if isinstance(number, dict) else number % 256
    fields = {
        1: lambda: bytes([low]),
        2: lambda: varint(frame["offset"]),
        3: lambda: opening(frame["open"]),
        4: lambda: varint(number) + b"".join(map(varint, frame["fragment"])),
    }[shape]()
    return varint(frame["stream"]) + fields + data
