//! What must hold of any bytes that come as a packet, as frames, as shapes, as parameters.
//!
//! Each function takes arbitrary bytes and panics when a rule is broken. The fuzz targets feed them
//! for ever, the tests of the crate feed them the corpora and inputs of their own.

use std::cell::RefCell;

use jsp_wire::frame::{Ack, BytesFrame, MessageFrame, write_ack};
use jsp_wire::header::{self, LongFields, LongHeader, Protected};
use jsp_wire::stream::Open;
use jsp_wire::{
    ConnectionId, Frame, FrameIter, Full, Header, Payload, Reader, Shape, TransportParams, Writer,
    limits, pn, tlv, varint,
};

#[path = "wire_made.rs"]
mod made;

use made::{Source, with_frame};

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
