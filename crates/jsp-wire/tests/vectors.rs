//! The published vectors, in both directions: what the values become, and what the bytes become.

use jsp_wire::frame::{
    Ack, AckFrequency, Attributes, BytesFrame, Close, Fragment, HandshakeFragment, Kind,
    MessageFrame, MessageNumber, NewConnectionId, PathAbandon, PathId, PathStatus, PathUse,
    ReceiveTimes, RecoveredNumbers, Repair, ResetStream, Skip, StreamLimit, Symbol, write_ack,
    write_recovered,
};
use jsp_wire::header::{
    LongFields, Protected, patch_length, write_retry, write_short, write_version_negotiation,
};
use jsp_wire::stream::{Class, Delivery, Framing, Open, Profile};
use jsp_wire::{
    CloseCode, ConnectionId, Frame, FrameIter, Full, Header, LongType, Payload, PreferredAddress,
    Reader, Shape, StreamId, TransportParams, Writer, frame, pn,
};
use serde_json::Value;

const SHAPES: [Shape; 7] = [
    Shape::Frames,
    Shape::Message,
    Shape::Bytes,
    Shape::OneShot,
    Shape::Fragment,
    Shape::Repair,
    Shape::Ack,
];

fn load(name: &str) -> Value {
    let path = format!("{}/../../vectors/wire-{name}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    serde_json::from_str(&text).unwrap()
}

fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    let list = value[name].as_array().unwrap_or_else(|| panic!("no list {name}"));
    assert!(!list.is_empty());
    list
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("no text {name} in {value}"))
}

fn number(value: &Value, name: &str) -> u64 {
    text(value, name).parse().unwrap()
}

fn count(value: &Value, name: &str) -> usize {
    value[name].as_u64().unwrap() as usize
}

fn flag(value: &Value, name: &str) -> bool {
    value[name].as_bool().unwrap_or_else(|| panic!("no flag {name} in {value}"))
}

fn from_hex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2));
    (0..text.len()).step_by(2).map(|n| u8::from_str_radix(&text[n..n + 2], 16).unwrap()).collect()
}

fn bytes(value: &Value, name: &str) -> Vec<u8> {
    from_hex(text(value, name))
}

/// Bytes that live as long as the test: frames borrow.
fn kept(value: &Value, name: &str) -> &'static [u8] {
    bytes(value, name).leak()
}

fn id(value: &Value, name: &str) -> ConnectionId {
    ConnectionId::new(&bytes(value, name)).unwrap()
}

fn encode<T>(write: impl FnOnce(&mut Writer<'_>) -> Result<T, Full>) -> Vec<u8> {
    let mut buffer = [0; 2048];
    let mut writer = Writer::new(&mut buffer);
    write(&mut writer).unwrap();
    writer.written().to_vec()
}

#[test]
fn varints() {
    for case in list(&load("varint"), "cases") {
        let (value, bytes) = (number(case, "value"), bytes(case, "hex"));
        assert_eq!(encode(|w| w.varint(value)), bytes);
        assert_eq!(Reader::new(&bytes).varint(), Ok(value));
    }
}

#[test]
fn packet_numbers() {
    let file = load("packet-number");
    for case in list(&file, "sent") {
        let acked = case["largest_acknowledged"].as_str().map(|text| text.parse().unwrap());
        assert_eq!(pn::len(number(case, "number"), acked), count(case, "bytes"));
    }
    for case in list(&file, "received") {
        let low = number(case, "low") as u32;
        let found = pn::expand(low, count(case, "bytes"), number(case, "expected"));
        assert_eq!(found, number(case, "number"));
    }
}

#[test]
fn long_headers() {
    let file = load("headers");
    let (rest, mask) = (bytes(&file, "rest"), bytes(&file, "mask").try_into().unwrap());
    for case in list(&file, "long") {
        let kind = match text(case, "type") {
            "initial" => LongType::Initial,
            "0-rtt" => LongType::ZeroRtt,
            "handshake" => LongType::Handshake,
            other => panic!("{other}"),
        };
        let (dcid, scid) = (id(case, "dcid"), id(case, "scid"));
        let (token, pn, pn_len) =
            (bytes(case, "token"), number(case, "number"), count(case, "number_bytes"));
        let fields = LongFields { kind, dcid, scid, token: &token, pn, pn_len };
        let mut layout = None;
        let mut packet = encode(|w| {
            layout = Some(fields.write(w)?);
            w.bytes(&rest)
        });
        let layout = layout.unwrap();
        patch_length(&mut packet, layout, pn_len + rest.len()).unwrap();
        assert_eq!(packet, bytes(case, "hex"));
        assert_eq!(layout.pn_offset, count(case, "number_offset"));
        Protected::mask(&mut packet, layout.pn_offset, mask).unwrap();
        assert_eq!(packet, bytes(case, "masked"));

        let mut packet = bytes(case, "masked");
        let Ok(Header::Long(header)) = Header::parse(&packet) else { panic!("{case}") };
        assert_eq!((header.kind, header.dcid, header.scid), (kind, dcid, scid));
        assert_eq!((header.token, header.packet_len), (&token[..], packet.len()));
        let pn_offset = header.pn_offset;
        let (low, len) = Protected::unmask_long(&mut packet, pn_offset, mask).unwrap();
        assert_eq!(packet, bytes(case, "hex"));
        assert_eq!((u64::from(low), len), (pn & ((1 << (8 * pn_len)) - 1), pn_len));
    }
}

#[test]
fn short_headers() {
    let file = load("headers");
    let (rest, mask) = (bytes(&file, "rest"), bytes(&file, "mask").try_into().unwrap());
    for case in list(&file, "short") {
        let (dcid, phase) = (id(case, "dcid"), flag(case, "key_phase"));
        let (shape, pn, pn_len) =
            (SHAPES[count(case, "shape")], number(case, "number"), count(case, "number_bytes"));
        let mut packet = encode(|w| {
            write_short(w, &dcid, shape, phase, pn, pn_len)?;
            w.bytes(&rest)
        });
        assert_eq!(packet, bytes(case, "hex"));
        let pn_offset = 1 + dcid.len();
        Protected::mask(&mut packet, pn_offset, mask).unwrap();
        assert_eq!(packet, bytes(case, "masked"));
        assert_eq!(Header::parse(&packet), Ok(Header::Short));
        let fields = Protected::unmask_short(&mut packet, pn_offset, mask).unwrap();
        assert_eq!(packet, bytes(case, "hex"));
        assert_eq!((fields.shape, fields.key_phase, fields.pn_len), (Some(shape), phase, pn_len));
        assert_eq!(u64::from(fields.truncated_pn), pn & ((1 << (8 * pn_len)) - 1));
    }
}

#[test]
fn packets_without_a_number() {
    let file = load("headers");
    for case in list(&file, "retry") {
        let (dcid, scid) = (id(case, "dcid"), id(case, "scid"));
        let (token, tag, packet) = (bytes(case, "token"), bytes(case, "tag"), bytes(case, "hex"));
        let written = encode(|w| {
            write_retry(w, &dcid, &scid, &token)?;
            w.bytes(&tag)
        });
        assert_eq!(written, packet);
        let covered = &packet[..packet.len() - 16];
        let integrity_tag = tag.try_into().unwrap();
        let header = Header::Retry { dcid, scid, token: &token, integrity_tag, covered };
        assert_eq!(Header::parse(&packet), Ok(header));
    }
    for case in list(&file, "version_negotiation") {
        let (dcid, scid, packet) = (bytes(case, "dcid"), bytes(case, "scid"), bytes(case, "hex"));
        let listed: Vec<Vec<u8>> =
            list(case, "versions").iter().map(|v| from_hex(v.as_str().unwrap())).collect();
        let versions: Vec<u32> =
            listed.iter().map(|v| u32::from_be_bytes(v[..].try_into().unwrap())).collect();
        assert_eq!(encode(|w| write_version_negotiation(w, &dcid, &scid, &versions)), packet);
        let versions = &listed.concat()[..];
        let header = Header::VersionNegotiation { dcid: &dcid, scid: &scid, versions };
        assert_eq!(Header::parse(&packet), Ok(header));
    }
    for case in list(&file, "refused") {
        assert!(Header::parse(&bytes(case, "hex")).is_err(), "{case}");
    }
}

#[test]
fn frames() {
    let file = load("frames");
    for case in list(&file, "frames") {
        let (frame, bytes) = (build(case), bytes(case, "hex"));
        assert_eq!(encode(|w| frame.write(w)), bytes, "{case}");
        assert_eq!(FrameIter::new(&bytes).collect::<Vec<_>>(), [Ok(frame)], "{case}");
    }
    for case in list(&file, "refused") {
        let bytes = bytes(case, "hex");
        assert!(FrameIter::new(&bytes).any(|frame| frame.is_err()), "{case}");
    }
}

#[test]
fn repairs() {
    let file = load("frames");
    for case in list(&file, "repairs") {
        let (symbol, bytes) = (bytes(case, "symbol"), bytes(case, "hex"));
        let below = list(case, "members_below").iter().map(|n| n.as_u64().unwrap());
        let back = below.clone().min().unwrap();
        let members = below.fold(0, |members, n| members | 1 << (n - back));
        let abandons = case["abandons"].as_bool().unwrap();
        let repair = Repair { back: back as u8, abandons, members, symbol: &symbol };
        assert_eq!(Repair::read(&bytes), Ok(repair), "{case}");
        let written = encode(|w| {
            repair.write_head(w)?;
            w.bytes(&symbol)
        });
        assert_eq!(written, bytes, "{case}");
    }
    for case in list(&file, "recovered") {
        let (largest, section) = (number(case, "largest"), bytes(case, "hex"));
        let numbers: Vec<u64> = list(case, "numbers")
            .iter()
            .map(|number| number.as_str().unwrap().parse().unwrap())
            .collect();
        let read = RecoveredNumbers::read(&section, largest).unwrap();
        assert_eq!(read.collect::<Vec<_>>(), numbers, "{case}");
        let written = encode(|w| {
            write_recovered(w, largest, numbers.iter().copied());
            Ok(())
        });
        assert_eq!(written, section, "{case}");
    }
}

/// Each type of frame has a vector.
#[test]
fn frames_are_complete() {
    let file = load("frames");
    let mut kinds: Vec<u64> = list(&file, "frames")
        .iter()
        .map(|case| Reader::new(&bytes(case, "hex")).varint().unwrap())
        .map(|kind| match kind {
            0x08..=0x0f => frame::kind::ACK,
            0x10..=0x1f => frame::kind::BYTES,
            0x20..=0x3f => frame::kind::MESSAGE,
            kind => kind,
        })
        .collect();
    kinds.sort_unstable();
    kinds.dedup();
    let all = (0..=frame::kind::ACK).chain([frame::kind::BYTES, frame::kind::MESSAGE]);
    assert!(kinds.into_iter().eq(all.chain(frame::kind::RESET_STREAM..=frame::kind::PATH_STATUS)));
}

#[test]
fn shapes() {
    for case in list(&load("frames"), "shapes") {
        let (shape, frame, bytes) =
            (SHAPES[count(case, "shape")], build(&case["frame"]), bytes(case, "hex"));
        let mut payload = Payload::read(shape, &bytes).unwrap();
        assert_eq!(payload.next(), Some(Ok(frame)), "{case}");
        let written = encode(|w| match &frame {
            Frame::Message(message) => {
                assert_eq!(message.shape(true), Some(shape));
                message.write_shape_head(w)?;
                w.bytes(message.data)
            }
            Frame::Bytes(piece) => {
                piece.write_shape_head(w)?;
                w.bytes(piece.data)
            }
            Frame::Ack(ack) => write_ack(w, false, ack.delay_8us, ack.ranges(), None, &[], &[]),
            Frame::Repair(data) => w.bytes(data),
            other => panic!("{other:?}"),
        });
        assert_eq!(written, bytes, "{case}");
    }
}

#[test]
fn parameters() {
    let file = load("params");
    for case in list(&file, "parameters") {
        let optional = |name: &str| case[name].as_str().map(|_| id(case, name));
        let params = TransportParams {
            initial_source_id: id(case, "initial_source_id"),
            original_destination_id: optional("original_destination_id"),
            retry_source_id: optional("retry_source_id"),
            idle_timeout_ms: number(case, "idle_timeout_ms"),
            datagram_len_max: number(case, "datagram_len_max"),
            data_max: number(case, "data_max"),
            stream_data_max: number(case, "stream_data_max"),
            streams_max: number(case, "streams_max"),
            message_len_max: number(case, "message_len_max"),
            ack_delay_max_us: number(case, "ack_delay_max_us"),
            connection_ids_max: number(case, "connection_ids_max"),
            reset_token: case["reset_token"].as_str().map(|t| from_hex(t).try_into().unwrap()),
            features: number(case, "features"),
            paths_max: number(case, "paths_max"),
            preferred: case["preferred_address"]
                .as_str()
                .map(|value| PreferredAddress::read(&from_hex(value)).unwrap()),
        };
        let bytes = bytes(case, "hex");
        assert_eq!(encode(|w| params.write(w, number(case, "grease") as u16)), bytes);
        assert_eq!(TransportParams::read(&bytes), Ok(params));
    }
    for case in list(&file, "refused") {
        assert!(TransportParams::read(&bytes(case, "hex")).is_err(), "{case}");
    }
    for case in list(&file, "openings") {
        let (open, bytes) = (open(case), bytes(case, "hex"));
        assert_eq!(encode(|w| open.write(w)), bytes);
        assert_eq!(Open::read(&mut Reader::new(&bytes)), Ok(open));
    }
}

fn open(value: &Value) -> Open<'static> {
    let profile = Profile {
        framing: match text(value, "framing") {
            "bytes" => Framing::Bytes,
            "messages" => Framing::Messages,
            other => panic!("{other}"),
        },
        delivery: match text(value, "delivery") {
            "reliable" => Delivery::Reliable,
            "partial" => Delivery::Partial,
            "unreliable" => Delivery::Unreliable,
            other => panic!("{other}"),
        },
        ordered: flag(value, "ordered"),
        class: match text(value, "class") {
            "control" => Class::Control,
            "real time" => Class::RealTime,
            "interactive" => Class::Interactive,
            "scavenger" => Class::Scavenger,
            other => panic!("{other}"),
        },
        unidirectional: flag(value, "unidirectional"),
    };
    Open { profile, params: kept(value, "list") }
}

fn maybe_open(value: &Value) -> Option<Open<'static>> {
    (!value["open"].is_null()).then(|| open(&value["open"]))
}

/// The frame that a vector describes.
fn build(value: &Value) -> Frame<'static> {
    let stream = || StreamId(number(value, "stream"));
    let one = || number(value, "value");
    let limit = || StreamLimit { stream: stream(), value: one() };
    let data = || kept(value, "data");
    match text(value, "frame") {
        "PADDING" => Frame::Padding(one() as usize),
        "PING" => Frame::Ping,
        "HANDSHAKE" => Frame::Handshake(HandshakeFragment {
            id: bytes(value, "id").try_into().unwrap(),
            offset: number(value, "offset") as u16,
            total: number(value, "total") as u16,
            data: data(),
        }),
        "CLOSE" => Frame::Close(Close {
            by_application: flag(value, "by_application"),
            code: CloseCode(number(value, "code")),
            reason: kept(value, "reason"),
        }),
        "MAX_DATA" => Frame::MaxData(one()),
        "MAX_STREAM_DATA" => Frame::MaxStreamData(limit()),
        "MAX_STREAMS" => Frame::MaxStreams(one()),
        "SKIP" => Frame::Skip(Skip {
            stream: stream(),
            floor: number(value, "floor"),
            credit_below: number(value, "credit_below"),
        }),
        "ACK" => Frame::Ack(ack(value)),
        "BYTES" => Frame::Bytes(BytesFrame {
            stream: stream(),
            open: maybe_open(value),
            offset: number(value, "offset"),
            fin: flag(value, "fin"),
            data: data(),
            to_end: flag(value, "to_end"),
        }),
        "MESSAGE" => Frame::Message(message(value)),
        "RESET_STREAM" => Frame::ResetStream(ResetStream {
            stream: stream(),
            code: number(value, "code"),
            final_bytes: number(value, "final_bytes"),
        }),
        "STOP_SENDING" => Frame::StopSending(limit()),
        "DATA_BLOCKED" => Frame::DataBlocked(one()),
        "STREAM_DATA_BLOCKED" => Frame::StreamDataBlocked(limit()),
        "STREAMS_BLOCKED" => Frame::StreamsBlocked(one()),
        "NEW_CONNECTION_ID" => Frame::NewConnectionId(NewConnectionId {
            sequence: number(value, "sequence"),
            retire_prior_to: number(value, "retire_prior_to"),
            id: id(value, "id"),
            reset_token: bytes(value, "reset_token").try_into().unwrap(),
        }),
        "RETIRE_CONNECTION_ID" => Frame::RetireConnectionId(one()),
        "PATH_CHALLENGE" => Frame::PathChallenge(data().try_into().unwrap()),
        "PATH_RESPONSE" => Frame::PathResponse(data().try_into().unwrap()),
        "ACK_FREQUENCY" => Frame::AckFrequency(AckFrequency {
            sequence: number(value, "sequence"),
            threshold: number(value, "threshold"),
            delay_max_us: number(value, "delay_max_us"),
            reordering: number(value, "reordering"),
        }),
        "IMMEDIATE_ACK" => Frame::ImmediateAck,
        "HANDSHAKE_DONE" => Frame::HandshakeDone,
        "OPEN" => Frame::Open { stream: stream(), open: open(&value["open"]) },
        "FINISH" => Frame::Finish(limit()),
        "CONSUMED" => Frame::Consumed(limit()),
        "TICKET" => Frame::Ticket(data()),
        "EXCHANGE" => Frame::Exchange(data()),
        "REPAIR" => Frame::Repair(data()),
        "SYMBOL" => Frame::Symbol(Symbol {
            stream: stream(),
            number: number(value, "number"),
            total: number(value, "total"),
            id: number(value, "id") as u32,
            data: data(),
        }),
        "ABOUT_PATH" => Frame::AboutPath(path(value)),
        "PATH_ABANDON" => {
            Frame::PathAbandon(PathAbandon { path: path(value), code: number(value, "code") })
        }
        "PATH_STATUS" => Frame::PathStatus(PathStatus {
            path: path(value),
            sequence: number(value, "sequence"),
            usage: [PathUse::Available, PathUse::Standby, PathUse::Down]
                [number(value, "use") as usize],
        }),
        other => panic!("{other}"),
    }
}

fn path(value: &Value) -> PathId {
    PathId(number(value, "path") as u32)
}

fn message(value: &Value) -> MessageFrame<'static> {
    let number_of = &value["number"];
    let fragment = value["fragment"].as_array().map(|pair| {
        let part = |n: usize| pair[n].as_str().unwrap().parse().unwrap();
        Fragment { offset: part(0), total: part(1) }
    });
    MessageFrame {
        stream: StreamId(number(value, "stream")),
        open: maybe_open(value),
        number: if number_of.is_string() {
            MessageNumber::Full(number(value, "number"))
        } else {
            MessageNumber::Low8(number(number_of, "low_8") as u8)
        },
        fragment,
        attributes: Attributes {
            text: flag(value, "text"),
            kind: [Kind::Data, Kind::Metadata, Kind::Signalling][count(value, "kind")],
            timestamp_ms: value["timestamp_ms"].as_str().map(|text| text.parse().unwrap()),
        },
        fin: flag(value, "fin"),
        data: kept(value, "data"),
        to_end: flag(value, "to_end"),
    }
}

/// An ACK exists only as it was read, so the vector's is written by hand.
fn ack(value: &Value) -> Ack<'static> {
    let parse = |value: &Value| value.as_str().unwrap().parse::<u64>().unwrap();
    let ranges: Vec<(u64, u64)> =
        list(value, "ranges").iter().map(|range| (parse(&range[0]), parse(&range[1]))).collect();
    let (times, recovered) = (bytes(value, "times"), bytes(value, "recovered"));
    let ecn = value["ecn"].as_array();
    let bits = u64::from(ecn.is_some())
        | u64::from(!times.is_empty()) << 1
        | u64::from(!recovered.is_empty()) << 2;
    let bytes = encode(|w| {
        w.varint(frame::kind::ACK | bits)?;
        w.varint(ranges[0].1)?;
        w.varint(number(value, "delay_8us"))?;
        w.varint(ranges.len() as u64 - 1)?;
        w.varint(ranges[0].1 - ranges[0].0)?;
        for pair in ranges.windows(2) {
            w.varint(pair[0].0 - pair[1].1 - 2)?;
            w.varint(pair[1].1 - pair[1].0)?;
        }
        ecn.into_iter().flatten().try_for_each(|count| w.varint(parse(count)))?;
        let sections = [&times, &recovered].into_iter().filter(|section| !section.is_empty());
        sections.into_iter().try_for_each(|section| w.length_prefixed(section))
    });
    match Frame::read(&mut Reader::new(bytes.leak())) {
        Ok(Frame::Ack(ack)) => ack,
        other => panic!("{other:?}"),
    }
}

#[test]
// spec-test: WIRE-43
fn receive_times() {
    let file = load("frames");
    for case in list(&file, "receive_times") {
        let section = bytes(case, "hex");
        let times = ReceiveTimes::read(number(case, "largest"), &section).unwrap();
        let told: Vec<(u64, u16)> = times.collect();
        let parse = |value: &Value| value.as_str().unwrap().parse::<u64>().unwrap();
        let wanted: Vec<(u64, u16)> = list(case, "times")
            .iter()
            .map(|pair| (parse(&pair[0]), parse(&pair[1]) as u16))
            .collect();
        assert_eq!(told, wanted);
    }
    for case in list(&file, "receive_times_refused") {
        let section = bytes(case, "hex");
        assert!(ReceiveTimes::read(number(case, "largest"), &section).is_err(), "{case}");
    }
}
