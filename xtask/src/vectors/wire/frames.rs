//! Frames of every type, and payloads of every shape.

use jsp_wire::frame::{
    AckFrequency, Attributes, BytesFrame, Close, EcnCounts, Fragment, HandshakeFragment, Kind,
    MessageFrame, MessageNumber, NewConnectionId, PathAbandon, PathId, PathStatus, PathUse,
    ReceiveTimes, Repair, ResetStream, Skip, StreamLimit, Symbol, write_ack, write_receive_times,
    write_recovered,
};
use jsp_wire::stream::{Class, Open, Profile};
use jsp_wire::{CloseCode, ConnectionId, Frame, Payload, Reader, Shape, StreamId};
use serde_json::{Value, json};

use super::params::describe_open;
use super::{encode, hex, hex_of, refused};

const STREAM: StreamId = StreamId(4);
const LIMIT: StreamLimit = StreamLimit { stream: StreamId(70), value: 1 << 20 };
const FAR: u64 = 1 << 40;

pub(super) fn all() -> Value {
    let mut cases: Vec<Value> = control().iter().chain(&data()).map(case).collect();
    cases.extend(acks().iter().map(|bytes| case(&read(bytes))));
    json!({
        "description": "Frames, each alone in its packet; and payloads of the shapes other than 0",
        "frames": cases,
        "shapes": shapes(),
        "receive_times": receive_times(),
        "receive_times_refused": [
            {"what": "the stamp is cut", "largest": "9", "hex": "01"},
            {"what": "a pair is cut", "largest": "9", "hex": "010203"},
            {"what": "a number goes below 0", "largest": "1", "hex": "01020101"},
            {"what": "a time is too far back", "largest": "9", "hex": "01020080008001"},
            {"what": "there are 16 pairs", "largest": "99", "hex": format!("0102{}", "0000".repeat(16))},
        ],
        "repairs": repairs(),
        "recovered": recovered(),
        "refused": refused(&[
            ("a type is not in its shortest form", &[0x40, 0x01]),
            ("a type is not known", &[0x40, 0x52]),
            ("a frame is cut", &[0x05, 0x04]),
            ("an ACK goes below 0", &[0x08, 5, 0, 0, 6]),
            ("a further range of an ACK goes below 0", &[0x08, 5, 0, 1, 0, 4, 0]),
            ("a piece of a handshake message is empty", &[2, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 1, 0]),
            ("the space of a CLOSE is 2", &[3, 2, 0, 0]),
            ("a fragment is empty", &[0x25, 4, 0, 0, 1, 0]),
            ("a fragment ends beyond its message", &[0x25, 4, 0, 0, 1, 2, b'a', b'b']),
            ("attributes have kind 3", &[0x30, 4, 0, 6]),
            ("attributes have bit 4", &[0x30, 4, 0, 0x10]),
            ("a byte stream is unreliable", &[0x40, 0x4c, 4, 0x02]),
            ("an id of no bytes is new", &[&[0x40, 0x45, 1, 0, 0][..], &[0; 16]].concat()),
        ]),
    })
}

fn case(frame: &Frame<'_>) -> Value {
    let mut value = describe(frame);
    value["hex"] = hex(|writer| frame.write(writer)).into();
    value
}

/// An ACK exists only as it was read.
fn read(bytes: &[u8]) -> Frame<'_> {
    Frame::read(&mut Reader::new(bytes)).expect("a frame that was written can be read")
}

fn control() -> Vec<Frame<'static>> {
    let connection_id = ConnectionId::new(&[0xc1, 0xc2, 0xc3, 0xc4]).expect("a short id");
    vec![
        Frame::Padding(3),
        Frame::Ping,
        Frame::Handshake(HandshakeFragment {
            id: *b"\x01\x02\x03\x04\x05\x06\x07\x08",
            offset: 1100,
            total: 1400,
            data: b"part of a hello",
        }),
        Frame::Close(Close { by_application: false, code: CloseCode::FRAME_ENCODING, reason: b"" }),
        Frame::Close(Close { by_application: true, code: CloseCode(1000), reason: b"bye" }),
        Frame::MaxData(FAR),
        Frame::MaxStreamData(LIMIT),
        Frame::MaxStreams(100),
        Frame::Skip(Skip { stream: STREAM, floor: 17, credit_below: 5000 }),
        Frame::ResetStream(ResetStream { stream: STREAM, code: 9, final_bytes: 77 }),
        Frame::StopSending(LIMIT),
        Frame::DataBlocked(FAR),
        Frame::StreamDataBlocked(LIMIT),
        Frame::StreamsBlocked(64),
        Frame::NewConnectionId(NewConnectionId {
            sequence: 3,
            retire_prior_to: 1,
            id: connection_id,
            reset_token: [0xee; 16],
        }),
        Frame::RetireConnectionId(2),
        Frame::PathChallenge(*b"whatever"),
        Frame::PathResponse(*b"whatever"),
        Frame::AckFrequency(AckFrequency {
            sequence: 1,
            threshold: 10,
            delay_max_us: 20_000,
            reordering: 3,
        }),
        Frame::ImmediateAck,
        Frame::HandshakeDone,
        Frame::Open { stream: StreamId(8), open: chat() },
        Frame::Finish(LIMIT),
        Frame::Consumed(LIMIT),
        Frame::Ticket(b"ticket"),
        Frame::Exchange(b"exchange"),
        Frame::Repair(b"repair"),
        Frame::Symbol(Symbol {
            stream: STREAM,
            number: 7,
            total: 25_601,
            id: 101,
            data: &[0x5a; 256],
        }),
        Frame::AboutPath(PathId(3)),
        Frame::PathAbandon(PathAbandon { path: PathId(2), code: 1 }),
        Frame::PathStatus(PathStatus { path: PathId(1), sequence: 70, usage: PathUse::Standby }),
    ]
}

fn chat() -> Open<'static> {
    Open {
        profile: Profile { class: Class::Interactive, ..Profile::SIGNALLING },
        params: b"\x01\x04chat",
    }
}

fn data() -> Vec<Frame<'static>> {
    let bytes = BytesFrame {
        stream: STREAM,
        open: None,
        offset: 0,
        fin: false,
        data: b"abc",
        to_end: false,
    };
    let message = MessageFrame {
        stream: STREAM,
        open: None,
        number: MessageNumber::Full(0),
        fragment: None,
        attributes: Attributes::default(),
        fin: false,
        data: b"abc",
        to_end: false,
    };
    let timed = Attributes { text: true, kind: Kind::Data, timestamp_ms: Some(1_800_000_000_000) };
    let about = Attributes { text: false, kind: Kind::Metadata, timestamp_ms: None };
    let file = Open { profile: Profile::from_bits(0x30).expect("a profile"), params: &[] };
    let fragment = Some(Fragment { offset: 1200, total: 100_000 });
    vec![
        Frame::Bytes(bytes),
        Frame::Bytes(BytesFrame {
            open: Some(file),
            offset: FAR,
            fin: true,
            to_end: true,
            ..bytes
        }),
        Frame::Bytes(BytesFrame { fin: true, data: b"", ..bytes }),
        Frame::Message(message),
        Frame::Message(MessageFrame {
            open: Some(chat()),
            number: MessageNumber::Full(300),
            ..message
        }),
        Frame::Message(MessageFrame { fragment, fin: true, to_end: true, ..message }),
        Frame::Message(MessageFrame { attributes: timed, ..message }),
        Frame::Message(MessageFrame { attributes: about, data: b"", to_end: true, ..message }),
    ]
}

fn acks() -> Vec<Vec<u8>> {
    let marks = EcnCounts { ect0: 1000, ect1: 0, ce: 7 };
    let many: Vec<(u64, u64)> =
        (0..6).map(|n| (FAR - 100 * n * n - n, FAR - 100 * n * n)).collect();
    let ack = |ranges: &[(u64, u64)], ecn, times: &[u8], recovered: &[u8]| {
        encode(|w| write_ack(w, true, 125, ranges.iter().copied(), ecn, times, recovered))
    };
    vec![
        ack(&[(0, 0)], None, &[], &[]),
        ack(&[(90, 100), (50, 88), (0, 1)], None, &[], &[]),
        ack(&many, Some(marks), &[], &[]),
        ack(&[(5, 9)], Some(marks), b"times", b"recovered"),
    ]
}

/// Sections of ACKs, with the packets that they tell of and their stamps.
fn receive_times() -> Vec<Value> {
    let cases: [(u64, &[(u64, u64)]); 4] = [
        (0, &[(0, 0)]),
        (100, &[(100, 7_813)]),
        (100, &[(100, 70_000), (99, 69_999), (97, 69_900), (20, 60_000)]),
        (FAR, &[(FAR, 65_540), (FAR - 1000, 65_530)]),
    ];
    let describe = |(largest, packets): &(u64, &[(u64, u64)])| {
        let others = packets.iter().skip(1).copied();
        let section = encode(|w| write_receive_times(w, packets[0], others));
        let times: Vec<Value> = ReceiveTimes::read(*largest, &section)
            .expect("a section that was written can be read")
            .map(|(pn, stamp)| json!([pn.to_string(), stamp.to_string()]))
            .collect();
        json!({"largest": largest.to_string(), "hex": hex_of(&section), "times": times})
    };
    cases.iter().map(describe).collect()
}

fn shapes() -> Vec<Value> {
    let read = |number: usize, shape, bytes: &[u8]| {
        let mut payload = Payload::read(shape, bytes).expect("a payload that can be read");
        let frame = payload.next().expect("one frame").expect("that can be read");
        json!({"shape": number, "frame": describe(&frame), "hex": hex_of(bytes)})
    };
    vec![
        read(1, Shape::Message, b"\x04\xfehello"),
        read(2, Shape::Bytes, b"\x04\x80\x01\x00\x00hello"),
        read(3, Shape::OneShot, b"\x04\x6ehello"),
        read(4, Shape::Fragment, b"\x04\x07\x44\xb0\x80\x01\x00\x00hello"),
        read(5, Shape::Repair, b"symbol"),
        read(6, Shape::Ack, b"\x40\x64\x10\x01\x0a\x00\x26"),
    ]
}

/// Contents of REPAIR: the members by how far they lie below the packet.
fn repairs() -> Vec<Value> {
    let case = |back: u8, abandons: bool, members: u128| {
        let repair = Repair { back, abandons, members, symbol: b"\0\x03abc" };
        let below = (0..u128::BITS).filter(|n| members >> n & 1 == 1);
        json!({
            "members_below": below.map(|n| n + u32::from(back)).collect::<Vec<_>>(),
            "abandons": abandons,
            "symbol": hex_of(repair.symbol),
            "hex": hex(|w| {
                repair.write_head(w)?;
                w.bytes(repair.symbol)
            }),
        })
    };
    vec![
        case(1, false, 1),
        case(2, false, 0b101_0000_0001),
        case(1, true, u128::MAX >> 1),
        case(127, true, 1),
    ]
}

/// Sections of an ACK that name recovered packets.
fn recovered() -> Vec<Value> {
    let case = |largest: u64, numbers: &[u64]| {
        let section = encode(|w| {
            write_recovered(w, largest, numbers.iter().copied());
            Ok(())
        });
        json!({
            "largest": largest.to_string(),
            "numbers": numbers.iter().map(u64::to_string).collect::<Vec<_>>(),
            "hex": hex_of(&section),
        })
    };
    vec![case(1000, &[1000, 999, 900, 0]), case(FAR, &[FAR - 7, FAR - 100])]
}

fn describe(frame: &Frame<'_>) -> Value {
    let one = |name: &str, value: u64| json!({"frame": name, "value": value.to_string()});
    let named = |name: &str| json!({"frame": name});
    let opaque = |name: &str, data: &[u8]| json!({"frame": name, "data": hex_of(data)});
    let limit = |name: &str, limit: &StreamLimit| {
        let (stream, value) = (limit.stream.0.to_string(), limit.value.to_string());
        json!({"frame": name, "stream": stream, "value": value})
    };
    match frame {
        Frame::Padding(run) => one("PADDING", *run as u64),
        Frame::Ping => named("PING"),
        Frame::Handshake(f) => json!({
            "frame": "HANDSHAKE", "id": hex_of(&f.id), "offset": f.offset.to_string(),
            "total": f.total.to_string(), "data": hex_of(f.data),
        }),
        Frame::Close(f) => json!({
            "frame": "CLOSE", "by_application": f.by_application,
            "code": f.code.0.to_string(), "reason": hex_of(f.reason),
        }),
        Frame::MaxData(value) => one("MAX_DATA", *value),
        Frame::MaxStreamData(f) => limit("MAX_STREAM_DATA", f),
        Frame::MaxStreams(value) => one("MAX_STREAMS", *value),
        Frame::Skip(f) => json!({
            "frame": "SKIP", "stream": f.stream.0.to_string(), "floor": f.floor.to_string(),
            "credit_below": f.credit_below.to_string(),
        }),
        Frame::Ack(_) | Frame::Bytes(_) | Frame::Message(_) => describe_data(frame),
        Frame::ResetStream(f) => json!({
            "frame": "RESET_STREAM", "stream": f.stream.0.to_string(), "code": f.code.to_string(),
            "final_bytes": f.final_bytes.to_string(),
        }),
        Frame::StopSending(f) => limit("STOP_SENDING", f),
        Frame::DataBlocked(value) => one("DATA_BLOCKED", *value),
        Frame::StreamDataBlocked(f) => limit("STREAM_DATA_BLOCKED", f),
        Frame::StreamsBlocked(value) => one("STREAMS_BLOCKED", *value),
        Frame::NewConnectionId(f) => json!({
            "frame": "NEW_CONNECTION_ID", "sequence": f.sequence.to_string(),
            "retire_prior_to": f.retire_prior_to.to_string(), "id": hex_of(f.id.as_bytes()),
            "reset_token": hex_of(&f.reset_token),
        }),
        Frame::RetireConnectionId(value) => one("RETIRE_CONNECTION_ID", *value),
        Frame::PathChallenge(data) => opaque("PATH_CHALLENGE", data),
        Frame::PathResponse(data) => opaque("PATH_RESPONSE", data),
        Frame::AckFrequency(f) => json!({
            "frame": "ACK_FREQUENCY", "sequence": f.sequence.to_string(),
            "threshold": f.threshold.to_string(), "delay_max_us": f.delay_max_us.to_string(),
            "reordering": f.reordering.to_string(),
        }),
        Frame::ImmediateAck => named("IMMEDIATE_ACK"),
        Frame::HandshakeDone => named("HANDSHAKE_DONE"),
        Frame::Open { stream, open } => json!({
            "frame": "OPEN", "stream": stream.0.to_string(), "open": describe_open(open),
        }),
        Frame::Finish(f) => limit("FINISH", f),
        Frame::Consumed(f) => limit("CONSUMED", f),
        Frame::Ticket(data) => opaque("TICKET", data),
        Frame::Exchange(data) => opaque("EXCHANGE", data),
        Frame::Repair(data) => opaque("REPAIR", data),
        Frame::Symbol(f) => json!({
            "frame": "SYMBOL", "stream": f.stream.0.to_string(), "number": f.number.to_string(),
            "total": f.total.to_string(), "id": f.id.to_string(), "data": hex_of(f.data),
        }),
        Frame::AboutPath(_) | Frame::PathAbandon(_) | Frame::PathStatus(_) => describe_path(frame),
    }
}

fn describe_path(frame: &Frame<'_>) -> Value {
    match frame {
        Frame::AboutPath(path) => json!({"frame": "ABOUT_PATH", "path": path.0.to_string()}),
        Frame::PathAbandon(f) => json!({
            "frame": "PATH_ABANDON", "path": f.path.0.to_string(), "code": f.code.to_string(),
        }),
        Frame::PathStatus(f) => json!({
            "frame": "PATH_STATUS", "path": f.path.0.to_string(),
            "sequence": f.sequence.to_string(),
            "use": match f.usage {
                PathUse::Available => "0",
                PathUse::Standby => "1",
                PathUse::Down => "2",
            },
        }),
        other => describe(other),
    }
}

fn describe_data(frame: &Frame<'_>) -> Value {
    match frame {
        Frame::Ack(f) => json!({
            "frame": "ACK",
            "delay_8us": f.delay_8us.to_string(),
            "ranges": f.ranges().map(|(low, high)| [low.to_string(), high.to_string()])
                .collect::<Vec<_>>(),
            "ecn": f.ecn.map(|ecn| [ecn.ect0, ecn.ect1, ecn.ce].map(|count| count.to_string())),
            "times": hex_of(f.times),
            "recovered": hex_of(f.recovered),
        }),
        Frame::Bytes(f) => json!({
            "frame": "BYTES",
            "stream": f.stream.0.to_string(),
            "open": f.open.as_ref().map(describe_open),
            "offset": f.offset.to_string(),
            "fin": f.fin,
            "to_end": f.to_end,
            "data": hex_of(f.data),
        }),
        Frame::Message(f) => json!({
            "frame": "MESSAGE",
            "stream": f.stream.0.to_string(),
            "open": f.open.as_ref().map(describe_open),
            "number": match f.number {
                MessageNumber::Full(number) => json!(number.to_string()),
                MessageNumber::Low8(low) => json!({"low_8": low.to_string()}),
            },
            "fragment": f.fragment.map(|f| [f.offset.to_string(), f.total.to_string()]),
            "text": f.attributes.text,
            "kind": match f.attributes.kind {
                Kind::Data => 0,
                Kind::Metadata => 1,
                Kind::Signalling => 2,
            },
            "timestamp_ms": f.attributes.timestamp_ms.map(|ms| ms.to_string()),
            "fin": f.fin,
            "to_end": f.to_end,
            "data": hex_of(f.data),
        }),
        other => describe(other),
    }
}
