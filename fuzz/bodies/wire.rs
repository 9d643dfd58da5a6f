//! What must hold of any bytes that come as a packet, as frames, as shapes, as parameters.
//!
//! Each function takes arbitrary bytes and panics when a rule is broken. The fuzz targets feed them
//! for ever, the tests of the crate feed them the corpora and inputs of their own.

use std::cell::RefCell;

use jsp_wire::frame::{
    Ack, AckFrequency, Attributes, BytesFrame, Close, EcnCounts, Fragment, HandshakeFragment, Kind,
    MessageFrame, MessageNumber, NewConnectionId, PathAbandon, PathId, PathStatus, PathUse,
    ResetStream, Skip, StreamLimit, write_ack,
};
use jsp_wire::header::{self, LongFields, LongHeader, Protected};
use jsp_wire::stream::{Class, Delivery, Framing, Open, Profile};
use jsp_wire::{
    CloseCode, ConnectionId, Frame, FrameIter, Full, Header, Payload, Reader, Shape, StreamId,
    TransportParams, Writer, limits, pn, route::Route, tlv, varint,
};

/// Room for anything that is written again: never longer than the longest input, plus a header.
const ROOM: usize = 70_000;

/// Writes into a buffer that is large enough.
pub fn encode<T>(write: impl FnOnce(&mut Writer<'_>) -> Result<T, Full>) -> Vec<u8> {
    BUFFER.with_borrow_mut(|buffer| {
        let mut writer = Writer::new(buffer);
        write(&mut writer).expect("there is room");
        writer.written().to_vec()
    })
}

thread_local! {
    /// Made once: a sanitizer makes large allocations slow.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; ROOM]);
}

/// The shapes in the order of their numbers.
pub const SHAPES: [Shape; 7] = [
    Shape::Frames,
    Shape::Message,
    Shape::Bytes,
    Shape::OneShot,
    Shape::Fragment,
    Shape::Repair,
    Shape::Ack,
];

/// A packet: its header reads back as it was written, and the mask comes off as it went on.
pub fn header(data: &[u8]) {
    let Ok(parsed) = Header::parse(data) else { return };
    match parsed {
        Header::Long(long) => long_header(data, &long),
        Header::Short => short_header(data),
        Header::Retry { dcid, scid, token, integrity_tag, covered } => {
            assert!(token.len() <= limits::TOKEN_LEN_MAX);
            let mut again = encode(|w| header::write_retry(w, &dcid, &scid, token));
            assert_eq!(again[1..], covered[1..]);
            again.extend_from_slice(&integrity_tag);
            assert_eq!(again[1..], data[1..]);
        }
        Header::VersionNegotiation { dcid, scid, versions } => {
            let list: Vec<u32> = versions
                .chunks_exact(4)
                .map(|version| u32::from_be_bytes(version.try_into().expect("four bytes")))
                .collect();
            let again = encode(|w| header::write_version_negotiation(w, dcid, scid, &list));
            assert_eq!(again[1..], data[1..]);
        }
        Header::OtherVersion { version, dcid, scid } => {
            assert!(version != 0 && version != jsp_wire::VERSION_1);
            assert!(7 + dcid.len() + scid.len() <= data.len());
        }
    }
}

/// A mask that depends on the packet, as a real one does.
fn mask_of(packet: &[u8]) -> [u8; 5] {
    core::array::from_fn(|n| packet.iter().rev().nth(n).copied().unwrap_or(0x5a))
}

fn long_header(data: &[u8], long: &LongHeader<'_>) {
    assert!(long.pn_offset <= long.packet_len && long.packet_len <= data.len());
    let packet = &data[..long.packet_len];
    if Protected::sample(packet, long.pn_offset).is_err() {
        assert!(packet.len() < long.pn_offset + 20);
        return;
    }
    let mask = mask_of(packet);
    let mut open = packet.to_vec();
    let (low, pn_len) =
        Protected::unmask_long(&mut open, long.pn_offset, mask).expect("long enough");
    assert!((1..=4).contains(&pn_len));
    let fields = LongFields {
        kind: long.kind,
        dcid: long.dcid,
        scid: long.scid,
        token: long.token,
        pn: u64::from(low),
        pn_len,
    };
    let mut buffer = vec![0; packet.len() + 8];
    let mut writer = Writer::new(&mut buffer);
    let layout = fields.write(&mut writer).expect("there is room");
    let rest = &packet[long.pn_offset + pn_len..];
    writer.bytes(rest).expect("there is room");
    let len = writer.len();
    buffer.truncate(len);
    if header::patch_length(&mut buffer, layout, len - layout.pn_offset).is_ok() {
        let Ok(Header::Long(again)) = Header::parse(&buffer) else { panic!("no long header") };
        let kept = LongHeader { pn_offset: again.pn_offset, packet_len: again.packet_len, ..*long };
        assert_eq!(again, kept);
        assert_eq!(again.packet_len, len);
    }
    Protected::mask(&mut open, long.pn_offset, mask).expect("long enough");
    assert_eq!(open, packet);
}

fn short_header(packet: &[u8]) {
    for id_len in [0, limits::CONNECTION_ID_LEN_LOCAL] {
        let pn_offset = 1 + id_len;
        if Protected::sample(packet, pn_offset).is_err() {
            continue;
        }
        let mask = mask_of(packet);
        let mut open = packet.to_vec();
        let fields = Protected::unmask_short(&mut open, pn_offset, mask).expect("long enough");
        let dcid = ConnectionId::new(&open[1..pn_offset]).expect("a short id");
        if let Some(shape) = fields.shape {
            let pn = u64::from(fields.truncated_pn);
            let again = encode(|w| {
                header::write_short(w, &dcid, shape, fields.key_phase, pn, fields.pn_len)
            });
            assert_eq!(again, open[..pn_offset + fields.pn_len]);
            let expected = pn ^ 0x3fff_0000_0000;
            let full = pn::expand(fields.truncated_pn, fields.pn_len, expected);
            let window = 1u64 << (8 * fields.pn_len);
            assert_eq!(full % window, pn);
            assert!(full.abs_diff(expected) <= window / 2);
        }
        Protected::mask(&mut open, pn_offset, mask).expect("long enough");
        assert_eq!(open, packet);
    }
}

/// A payload of frames: what can be read can be written, in no more bytes, and reads the same.
pub fn frames(data: &[u8]) {
    let (mut count, mut written, mut failed) = (0, 0, false);
    for frame in FrameIter::new(data) {
        assert!(!failed, "nothing follows an error");
        count += 1;
        match frame {
            Ok(frame) => written += frame_again(&frame),
            Err(_) => failed = true,
        }
    }
    assert!(count <= data.len() && written <= data.len());
}

/// Writes a frame that was read, reads it again, and answers its length.
fn frame_again(frame: &Frame<'_>) -> usize {
    let bytes = encode(|w| frame.write(w));
    let mut reader = Reader::new(&bytes);
    assert_eq!(Frame::read(&mut reader), Ok(*frame));
    assert!(reader.is_empty());
    if let Frame::Ack(ack) = frame {
        ack_ranges(ack);
    }
    bytes.len()
}

fn ack_ranges(ack: &Ack<'_>) {
    let (mut below, mut count) = (u64::MAX, 0);
    for (low, high) in ack.ranges() {
        assert!(low <= high && high < below);
        // Ranges that touch would be one.
        below = low.saturating_sub(1);
        count += 1;
    }
    assert!((1..=limits::ACK_RANGES_MAX).contains(&count));
}

/// A payload under a shape, which the first byte tells.
pub fn shapes(data: &[u8]) {
    let Some((choice, payload)) = data.split_first() else { return };
    let shape = SHAPES[usize::from(*choice) % SHAPES.len()];
    let Ok(mut read) = Payload::read(shape, payload) else { return };
    if shape == Shape::Frames {
        return frames(payload);
    }
    let frame = read.next().expect("one frame").expect("that could be read");
    assert!(read.next().is_none());
    let again = encode(|w| shape_again(w, shape, &frame));
    let mut read = Payload::read(shape, &again).expect("what was written reads");
    assert_eq!(read.next(), Some(Ok(frame)));
    assert!(again.len() <= payload.len());
}

fn shape_again(writer: &mut Writer<'_>, shape: Shape, frame: &Frame<'_>) -> Result<(), Full> {
    match frame {
        Frame::Message(message) => {
            assert_eq!(message.shape(true), Some(shape));
            if let Ok(number) = message.number.resolve(1000) {
                assert!(number <= varint::MAX);
            }
            message.write_shape_head(writer)?;
            writer.bytes(message.data)
        }
        Frame::Bytes(bytes) => {
            assert!(bytes.fits_shape());
            bytes.write_shape_head(writer)?;
            writer.bytes(bytes.data)
        }
        Frame::Ack(ack) => {
            ack_ranges(ack);
            write_ack(writer, false, ack.delay_8us, ack.ranges(), None, &[], &[])
        }
        Frame::Repair(data) => writer.bytes(data),
        other => panic!("no shape holds {other:?}"),
    }
}

/// A list: as transport parameters, as an opening, and entry by entry.
pub fn params(data: &[u8]) {
    if let Ok(params) = TransportParams::read(data) {
        let grease = data.iter().fold(0u16, |sum, byte| sum.rotate_left(3) ^ u16::from(*byte));
        let again = encode(|w| params.write(w, grease));
        assert_eq!(TransportParams::read(&again), Ok(params));
    }
    if tlv::check_unique(data).is_ok() {
        let entries: Vec<_> =
            tlv::TlvIter::new(data).map(|entry| entry.expect("checked")).collect();
        assert!(entries.len() < 64);
        let again = encode(|w| entries.iter().try_for_each(|e| tlv::write(w, e.id, e.value)));
        assert!(tlv::TlvIter::new(&again).eq(entries.into_iter().map(Ok)));
    }
    let mut reader = Reader::new(data);
    if let Ok(open) = Open::read(&mut reader) {
        let again = encode(|w| open.write(w));
        assert_eq!(again.len(), open.len());
        assert_eq!(Open::read(&mut Reader::new(&again)), Ok(open));
        assert_eq!(open.param(0x04), None, "even ids are critical");
    }
}

/// A frame made from the bytes: written it reads the same; cut anywhere it is refused, unless its
/// data go to the end of the packet.
pub fn roundtrip(data: &[u8]) {
    let mut source = Source { rest: data };
    with_frame(&mut source, |frame| {
        let bytes = encode(|w| frame.write(w));
        assert_eq!(FrameIter::new(&bytes).collect::<Vec<_>>(), [Ok(*frame)]);
        for len in (1..bytes.len()).take(200) {
            let cut = FrameIter::new(&bytes[..len]).next().expect("there are bytes");
            let same = |cut: Frame<'_>| {
                core::mem::discriminant(&cut) == core::mem::discriminant(frame)
                    && matches!(
                        cut,
                        Frame::Padding(_)
                            | Frame::Bytes(BytesFrame { to_end: true, .. })
                            | Frame::Message(MessageFrame { to_end: true, .. })
                    )
            };
            assert!(cut.is_err() || cut.is_ok_and(same), "{frame:?} cut to {len}: {cut:?}");
            let mut small = vec![0; len];
            let mut writer = Writer::new(&mut small);
            if !matches!(frame, Frame::Ack(_)) {
                assert_eq!(frame.write(&mut writer), Err(Full));
                assert_eq!(writer.len(), 0, "nothing partial stays");
            }
        }
    });
    assert!((1..=3).contains(&source.route().to_cookie_bytes()[0]));
}

/// The encoding of the frame that [`roundtrip`] makes of the bytes.
pub fn some_frame(data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    with_frame(&mut Source { rest: data }, |frame| bytes = encode(|w| frame.write(w)));
    bytes
}

/// Values drawn from bytes; zeros once they are used up.
struct Source<'a> {
    rest: &'a [u8],
}

impl<'a> Source<'a> {
    fn u8(&mut self) -> u8 {
        let (first, rest) = self.rest.split_first().unwrap_or((&0, &[]));
        self.rest = rest;
        *first
    }

    /// A varint of any length, whatever the first byte says.
    fn varint(&mut self) -> u64 {
        let len = [0, 1, 2, 4, 8][usize::from(self.u8() % 5)];
        (0..len).fold(0, |value, _| value << 8 | u64::from(self.u8())) & varint::MAX
    }

    fn bytes(&mut self, max: usize) -> &'a [u8] {
        let len = usize::from(self.u8()).min(max).min(self.rest.len());
        let (head, rest) = self.rest.split_at(len);
        self.rest = rest;
        head
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        core::array::from_fn(|_| self.u8())
    }

    fn stream(&mut self) -> StreamId {
        StreamId(self.varint())
    }

    fn profile(&mut self) -> Profile {
        let bits = self.u8();
        let messages = bits & 1 != 0;
        let delivery = [Delivery::Reliable, Delivery::Partial, Delivery::Unreliable];
        Profile {
            framing: if messages { Framing::Messages } else { Framing::Bytes },
            delivery: delivery[if messages { usize::from(bits >> 1 & 3) % 3 } else { 0 }],
            ordered: !messages || bits & 8 != 0,
            class: Class::ALL[usize::from(bits >> 4 & 3)],
            unidirectional: bits & 0x40 != 0,
        }
    }

    fn limit(&mut self) -> StreamLimit {
        StreamLimit { stream: self.stream(), value: self.varint() }
    }

    fn route(&mut self) -> Route {
        let remote = (self.array::<16>(), u16::from_be_bytes(self.array())).into();
        match self.u8() % 4 {
            0 => Route::udp(remote),
            1 => Route::udp((self.array::<4>(), 1).into()),
            2 => Route::Relayed { via: remote, peer: self.varint() },
            _ => Route::Tunnel { id: self.varint() },
        }
    }

    fn ranges(&mut self) -> Vec<(u64, u64)> {
        let mut high = self.varint();
        let mut ranges = Vec::new();
        for _ in 0..self.u8() {
            let low = high.saturating_sub(self.varint());
            ranges.push((low, high));
            let Some(next) = low.checked_sub(2).and_then(|h| h.checked_sub(self.varint())) else {
                break;
            };
            high = next;
        }
        if ranges.is_empty() { vec![(high, high)] } else { ranges }
    }

    /// An opening with the list in `list`, which is valid by construction.
    fn list(&mut self) -> Vec<u8> {
        let count = u64::from(self.u8() % 4);
        encode(|w| (0..count).try_for_each(|n| tlv::write(w, 2 * n + 1, self.bytes(20))))
    }
}

/// Makes one frame of any kind.
fn with_frame(source: &mut Source<'_>, check: impl FnOnce(&Frame<'_>)) {
    let list = source.list();
    let open = Open { profile: source.profile(), params: &list };
    match source.u8() % 29 {
        0 => check(&Frame::Padding(1 + usize::from(source.u8()))),
        1 => check(&Frame::Ping),
        2 => check(&handshake(source)),
        3 => check(&Frame::Close(Close {
            by_application: source.u8() & 1 != 0,
            code: CloseCode(source.varint()),
            reason: source.bytes(limits::CLOSE_REASON_LEN_MAX),
        })),
        4 => check(&Frame::MaxData(source.varint())),
        5 => check(&Frame::MaxStreamData(source.limit())),
        6 => check(&Frame::MaxStreams(source.varint() >> 1)),
        7 => {
            let stream = source.stream();
            let (floor, credit_below) = (source.varint(), source.varint());
            check(&Frame::Skip(Skip { stream, floor, credit_below }));
        }
        8..=11 => with_ack(source, check),
        12 => check(&Frame::Bytes(bytes_frame(source, open))),
        13..=15 => check(&Frame::Message(message(source, open))),
        16 => check(&Frame::ResetStream(ResetStream {
            stream: source.stream(),
            code: source.varint(),
            final_bytes: source.varint(),
        })),
        17 => check(&Frame::StopSending(source.limit())),
        18 => check(&Frame::DataBlocked(source.varint())),
        19 => check(&Frame::StreamDataBlocked(source.limit())),
        20 => check(&Frame::StreamsBlocked(source.varint() >> 1)),
        21 => check(&new_connection_id(source)),
        22 => check(&Frame::RetireConnectionId(source.varint())),
        23 => check(&Frame::PathChallenge(source.array())),
        24 => check(&Frame::PathResponse(source.array())),
        25 => check(&Frame::AckFrequency(AckFrequency {
            sequence: source.varint(),
            threshold: source.varint(),
            delay_max_us: source.varint(),
            reordering: source.varint(),
        })),
        26 => check(&Frame::Open { stream: source.stream(), open }),
        27 => check(&Frame::Finish(source.limit())),
        _ => check(&rare(source)),
    }
}

fn rare<'a>(source: &mut Source<'a>) -> Frame<'a> {
    let path = PathId(u32::from_be_bytes(source.array()));
    match source.u8() % 9 {
        0 => Frame::ImmediateAck,
        1 => Frame::HandshakeDone,
        2 => Frame::Consumed(source.limit()),
        3 => Frame::Ticket(source.bytes(255)),
        4 => Frame::Exchange(source.bytes(255)),
        5 => Frame::AboutPath(path),
        6 => Frame::PathAbandon(PathAbandon { path, code: source.varint() }),
        7 => {
            let usage = [PathUse::Standby, PathUse::Down][usize::from(source.u8() & 1)];
            Frame::PathStatus(PathStatus { path, sequence: source.varint(), usage })
        }
        _ => Frame::Repair(source.bytes(255)),
    }
}

fn handshake<'a>(source: &mut Source<'a>) -> Frame<'a> {
    let id = source.array();
    let given = source.bytes(255);
    let data = if given.is_empty() { &[7] } else { given };
    let room = limits::HANDSHAKE_MESSAGE_LEN_MAX - data.len();
    let offset = usize::from(u16::from_be_bytes(source.array())) % (room + 1);
    let more = usize::from(source.u8()).min(room - offset);
    let total = (offset + data.len() + more) as u16;
    Frame::Handshake(HandshakeFragment { id, offset: offset as u16, total, data })
}

fn new_connection_id(source: &mut Source<'_>) -> Frame<'static> {
    let sequence = source.varint();
    let len = 1 + usize::from(source.u8()) % limits::CONNECTION_ID_LEN_MAX;
    let bytes: [u8; limits::CONNECTION_ID_LEN_MAX] = source.array();
    Frame::NewConnectionId(NewConnectionId {
        sequence,
        retire_prior_to: source.varint().min(sequence),
        id: ConnectionId::new(&bytes[..len]).expect("at most 20 bytes"),
        reset_token: source.array(),
    })
}

/// An ACK exists only as bytes, so it is made by writing and reading.
fn with_ack(source: &mut Source<'_>, check: impl FnOnce(&Frame<'_>)) {
    let flags = source.u8();
    let counts = EcnCounts { ect0: source.varint(), ect1: source.varint(), ce: source.varint() };
    let ecn = (flags & 1 != 0).then_some(counts);
    let times = source.bytes(if flags & 2 != 0 { 255 } else { 0 });
    let recovered = source.bytes(if flags & 4 != 0 { 255 } else { 0 });
    let (delay, ranges) = (source.varint(), source.ranges());
    let bytes =
        encode(|w| write_ack(w, true, delay, ranges.iter().copied(), ecn, times, recovered));
    let Ok(Frame::Ack(ack)) = Frame::read(&mut Reader::new(&bytes)) else {
        panic!("an ACK that was written does not read");
    };
    assert!(ack.ranges().eq(ranges.into_iter().take(limits::ACK_RANGES_MAX)));
    assert_eq!((ack.delay_8us, ack.ecn), (delay, ecn));
    assert_eq!((ack.times, ack.recovered), (times, recovered));
    check(&Frame::Ack(ack));
}

fn bytes_frame<'a: 'b, 'b>(source: &mut Source<'a>, open: Open<'b>) -> BytesFrame<'b> {
    let (flags, stream, offset) = (source.u8(), source.stream(), source.varint());
    BytesFrame {
        stream,
        open: (flags & 1 != 0).then_some(open),
        offset: offset.min(varint::MAX - 255),
        fin: flags & 2 != 0,
        to_end: flags & 4 != 0,
        data: source.bytes(255),
    }
}

fn message<'a: 'b, 'b>(source: &mut Source<'a>, open: Open<'b>) -> MessageFrame<'b> {
    let (flags, stream, number) = (source.u8(), source.stream(), source.varint());
    let attributes = Attributes {
        text: flags & 1 != 0,
        kind: [Kind::Data, Kind::Metadata, Kind::Signalling][usize::from(flags >> 1 & 3) % 3],
        timestamp_ms: (flags & 8 != 0).then(|| source.varint()),
    };
    let (more, offset) = (source.u8(), source.varint().min(varint::MAX - 600));
    let data = source.bytes(255);
    let total = offset + data.len() as u64 + u64::from(more);
    let fragment = (more & 1 != 0 && !data.is_empty()).then_some(Fragment { offset, total });
    MessageFrame {
        stream,
        open: (flags & 16 != 0).then_some(open),
        number: MessageNumber::Full(number),
        fragment,
        attributes,
        fin: flags & 32 != 0,
        to_end: flags & 64 != 0,
        data,
    }
}
