//! Frames and shapes: layouts, refusals, and what must hold of any bytes.

#[path = "../../../fuzz/bodies/wire.rs"]
#[allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]
mod bodies;

use jsp_wire::frame::{
    Attributes, BytesFrame, EcnCounts, Fragment, HandshakeFragment, Kind, MessageFrame,
    MessageNumber, ReceiveTimes, kind, write_ack, write_receive_times,
};
use jsp_wire::{
    CloseCode, DecodeError, Frame, FrameIter, Full, Payload, Reader, Shape, StreamId, Writer,
    limits, varint,
};
use proptest::prelude::*;

const INVALID: DecodeError = DecodeError::Invalid;
const TRUNCATED: DecodeError = DecodeError::Truncated;

fn first(bytes: &[u8]) -> Result<Frame<'_>, DecodeError> {
    FrameIter::new(bytes).next().expect("there are bytes")
}

/// Bytes of a frame of this type: varints are written, single bytes too as they are below 64.
fn frame(kind: u64, fields: &[u64], tail: &[u8]) -> Vec<u8> {
    bodies::encode(|w| {
        w.varint(kind)?;
        fields.iter().try_for_each(|field| w.varint(*field))?;
        w.bytes(tail)
    })
}

#[test]
// spec-test: WIRE-10
// spec-test: WIRE-11
fn all_types_of_two_bytes() {
    for kind in 0..1u64 << 14 {
        let mut bytes = (kind as u16 | 0x4000).to_be_bytes().to_vec();
        bytes.extend([0; 64]);
        let found = first(&bytes);
        if kind < 0x40 {
            assert_eq!(found, Err(INVALID), "{kind:x} is not in its shortest form");
        } else if kind > kind::PATH_STATUS {
            assert_eq!(found, Err(INVALID), "{kind:x} is not known");
        } else if kind == kind::SYMBOL {
            assert_eq!(found, Err(INVALID), "a symbol of no bytes");
        } else if kind == kind::NEW_CONNECTION_ID {
            assert_eq!(found, Err(INVALID), "an id of no bytes");
        } else {
            assert!(found.is_ok(), "{kind:x}: {found:?}");
        }
        bodies::frames(&bytes);
    }
    for kind in [0x56u64, 1 << 14, 1 << 30, varint::MAX] {
        assert_eq!(first(&frame(kind, &[], &[0; 64])), Err(INVALID));
    }
    assert_eq!(first(&[0x80, 0, 0, 0x40, 0, 0, 0, 0]), Err(INVALID));
    assert_eq!(first(&[0xc0, 0, 0, 0, 0, 0, 0, 1]), Err(INVALID));
}

#[test]
fn all_inputs_of_two_bytes() {
    bodies::frames(&[]);
    bodies::shapes(&[]);
    bodies::params(&[]);
    for one in 0..=255u8 {
        for data in [&[one][..], &[one, 0, 0, 0], &[0x40, one, 0, 1, 2]] {
            bodies::frames(data);
            bodies::params(data);
        }
        for two in 0..=255u8 {
            bodies::frames(&[one, two]);
            bodies::params(&[one, two]);
            for shape in 0..7 {
                bodies::shapes(&[shape, one, two]);
            }
        }
    }
}

#[test]
// spec-test: WIRE-12
fn an_iterator_ends_at_the_first_error() {
    let mut bytes = frame(kind::PING, &[], &[]);
    bytes.extend(frame(kind::MAX_STREAM_DATA, &[4, 1 << 20], &[]));
    bytes.pop();
    let found: Vec<_> = FrameIter::new(&bytes).collect();
    assert_eq!(found, [Ok(Frame::Ping), Err(TRUNCATED)]);
    let found: Vec<_> = FrameIter::new(&[0, 0, 0, 1, 0x3f]).collect();
    assert_eq!(found, [Ok(Frame::Padding(3)), Ok(Frame::Ping), Err(TRUNCATED)]);
}

#[test]
// spec-test: WIRE-13
fn frames_of_the_handshake() {
    let bytes = [
        &frame(kind::PADDING, &[], &[])[..],
        &frame(kind::PING, &[], &[]),
        &frame(kind::ACK, &[0, 0, 0, 0], &[]),
        &frame(kind::HANDSHAKE, &[], &[1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 1, 1, 9]),
        &frame(kind::CLOSE, &[0, 0, 0], &[]),
    ]
    .concat();
    let mut count = 0;
    for frame in FrameIter::new(&bytes) {
        assert!(frame.unwrap().is_allowed_in_handshake());
        count += 1;
    }
    assert_eq!(count, 5);
    for kind in (0x04..0x08).chain(0x10..=kind::PATH_STATUS) {
        let zeros = frame(kind, &[], &[0; 64]);
        if let Ok(frame) = first(&zeros) {
            assert!(!frame.is_allowed_in_handshake(), "{frame:?}");
        }
    }
}

#[test]
// spec-test: FEC-20
fn symbols_of_large_messages() {
    let symbol = |total: u64, id: u64, len: usize| {
        let head = frame(kind::SYMBOL, &[6, 3, total, id, len as u64], &[]);
        [head, vec![1; len]].concat()
    };
    for (total, id, len, fits) in [
        (25_600, 100, 256, true),
        (25_345, 263, 256, true),
        (25_344, 100, 256, false),
        (25_600, 99, 256, false),
        (25_600, 264, 256, false),
        (2048 * 1400, 2048, 1400, true),
        (2048 * 1400, 4159, 1400, true),
        (2048 * 1400, 4160, 1400, false),
        (2048 * 1400 + 1, 2049, 1400, false),
        (100_000, 1000, 248, false),
        (100_000, 1000, 260, false),
        (200_000, 1000, 1408, false),
        (varint::MAX, 1 << 40, 256, false),
        (0, 0, 0, false),
    ] {
        let bytes = symbol(total, id, len);
        let found = first(&bytes);
        assert_eq!(found.is_ok(), fits, "{total} {id} {len}: {found:?}");
        bodies::frames(&bytes);
    }
}

#[test]
// spec-test: WIRE-19
fn pieces_of_handshake_messages() {
    let piece = |offset: u16, total: u16, data: &[u8]| {
        bodies::encode(|w| {
            w.u8(2)?;
            w.bytes(&[7; 8])?;
            w.u16(offset)?;
            w.u16(total)?;
            w.length_prefixed(data)
        })
    };
    for (offset, total, len, fits) in [
        (0, 1, 1, true),
        (0, 1, 0, false),
        (1, 2, 2, false),
        (4000, 4096, 96, true),
        (4000, 4096, 97, false),
        (12191, 12288, 97, true),
        (0, 12289, 10, false),
        (u16::MAX, u16::MAX, 1, false),
    ] {
        let bytes = piece(offset, total, &[1; 97][..len]);
        let found = first(&bytes);
        assert_eq!(found.is_ok(), fits, "{offset} {total} {len}: {found:?}");
        bodies::frames(&bytes);
    }
}

#[test]
// spec-test: WIRE-46
fn pieces_of_exchange_messages() {
    let data = [1; 97];
    for (offset, total, len, fits) in [
        (0u16, 1u16, 1usize, true),
        (0, 1, 0, false),
        (1, 2, 2, false),
        (4000, 4096, 96, true),
        (4000, 4096, 97, false),
        (0, 4097, 10, false),
    ] {
        let piece = HandshakeFragment { id: [7; 8], offset, total, data: &data[..len] };
        let bytes = bodies::encode(|w| piece.write_exchange(w));
        assert!(bytes.len() <= HandshakeFragment::EXCHANGE_HEAD_LEN + len);
        let Ok(Frame::Exchange(content)) = first(&bytes) else { panic!("{offset} {total} {len}") };
        let read = HandshakeFragment::read_exchange(content);
        assert_eq!(read.ok(), fits.then_some(piece), "{offset} {total} {len}");
    }
    for len in 0..12 {
        assert!(HandshakeFragment::read_exchange(&[0; 12][..len]).is_err());
    }
}

#[test]
// spec-test: WIRE-32
fn close_frames() {
    let Ok(Frame::Close(close)) = first(&[3, 1, 0x2a, 2, b'o', b'k']) else { panic!() };
    assert_eq!((close.by_application, close.code, close.reason), (true, CloseCode(42), &b"ok"[..]));
    assert_eq!(first(&[3, 2, 0, 0]), Err(INVALID));
    assert!(first(&frame(kind::CLOSE, &[0, 0, 255], &[b'x'; 255])).is_ok());
    assert_eq!(first(&frame(kind::CLOSE, &[0, 0, 256], &[b'x'; 256])), Err(INVALID));
}

#[test]
// spec-test: WIRE-33
fn new_connection_ids() {
    for (sequence, retire, len, fits) in
        [(1, 0, 4, true), (5, 5, 20, true), (1, 0, 0, false), (1, 0, 21, false), (4, 5, 8, false)]
    {
        let bytes =
            frame(kind::NEW_CONNECTION_ID, &[sequence, retire, len], &vec![3; len as usize + 16]);
        let found = first(&bytes);
        assert_eq!(found.is_ok(), fits, "{found:?}");
        assert!(first(&bytes[..bytes.len() - 1]).is_err());
    }
}

#[test]
// spec-test: WIRE-34
fn attributes_of_messages() {
    let message = |attributes: &[u8]| frame(kind::MESSAGE + 16, &[4, 7], attributes);
    let with = |text, kind, timestamp_ms| Attributes { text, kind, timestamp_ms };
    for (bytes, expected) in [
        (&[0x01][..], with(true, Kind::Data, None)),
        (&[0x02], with(false, Kind::Metadata, None)),
        (&[0x0d, 0x40, 0x50], with(true, Kind::Signalling, Some(80))),
    ] {
        let bytes = message(bytes);
        let Ok(Frame::Message(found)) = first(&bytes) else { panic!() };
        assert_eq!((found.attributes, found.data.len()), (expected, 0));
        bodies::frames(&bytes);
    }
    for wrong in [0x06, 0x07, 0x10, 0x20, 0x40, 0x80] {
        assert_eq!(first(&message(&[wrong, 0, 0])), Err(INVALID), "{wrong:x}");
    }
}

#[test]
// spec-test: WIRE-16
fn bytes_end_within_62_bits() {
    let at = |offset, data: &[u8]| frame(kind::BYTES + 4, &[4, offset], data);
    assert!(first(&at(varint::MAX - 3, b"abc")).is_ok());
    assert_eq!(first(&at(varint::MAX - 3, b"abcd")), Err(INVALID));
    let shape = bodies::encode(|w| {
        w.varint(4)?;
        w.varint(varint::MAX - 3)?;
        w.bytes(b"abcd")
    });
    assert_eq!(Payload::read(Shape::Bytes, &shape).unwrap_err(), INVALID);
    assert!(Payload::read(Shape::Bytes, &shape[..shape.len() - 1]).is_ok());
}

#[test]
// spec-test: WIRE-17
fn fragments_lie_within_their_message() {
    let at = |offset, total, data: &[u8]| frame(kind::MESSAGE + 4, &[4, 0, offset, total], data);
    assert!(first(&at(0, 3, b"abc")).is_ok());
    for (offset, total, data) in
        [(0, 2, &b"abc"[..]), (1, 3, b"abc"), (0, 3, b""), (varint::MAX, varint::MAX, b"a")]
    {
        let bytes = at(offset, total, data);
        assert_eq!(first(&bytes), Err(INVALID), "{offset} {total}");
        assert_eq!(Payload::read(Shape::Fragment, &bytes[1..]).unwrap_err(), INVALID);
    }
}

#[test]
// spec-test: WIRE-14
fn a_shape_is_one_frame_to_the_end() {
    let one = |shape, bytes| Payload::read(shape, bytes).unwrap().next().unwrap().unwrap();
    let stream = StreamId(4);
    let plain = MessageFrame {
        stream,
        open: None,
        number: MessageNumber::Low8(9),
        fragment: None,
        attributes: Attributes::default(),
        fin: false,
        data: b"hi",
        to_end: true,
    };
    assert_eq!(one(Shape::Message, b"\x04\x09hi"), Frame::Message(plain));
    let fragment = Some(Fragment { offset: 1, total: 9 });
    let piece = MessageFrame { number: MessageNumber::Full(5), fragment, ..plain };
    assert_eq!(one(Shape::Fragment, b"\x04\x05\x01\x09hi"), Frame::Message(piece));
    let bytes = BytesFrame { stream, open: None, offset: 3, fin: false, data: b"hi", to_end: true };
    assert_eq!(one(Shape::Bytes, b"\x04\x03hi"), Frame::Bytes(bytes));
    let Frame::Message(shot) = one(Shape::OneShot, b"\x04\x28hi") else { panic!() };
    assert_eq!((shot.number, shot.fin, shot.data), (MessageNumber::Full(0), true, &b"hi"[..]));
    assert_eq!(shot.open.unwrap().profile.to_bits(), 0x28);
    assert_eq!(one(Shape::Repair, b"hi"), Frame::Repair(b"hi"));
    let Frame::Ack(ack) = one(Shape::Ack, &[9, 1, 0, 2]) else { panic!() };
    assert!(ack.ranges().eq([(7, 9)]));
    for (shape, wrong) in [
        (Shape::Frames, &b""[..]),
        (Shape::Message, b"\x04"),
        (Shape::Fragment, b"\x04\x05\x01"),
        (Shape::Bytes, b"\x04"),
        (Shape::OneShot, b"\x04"),
        (Shape::Ack, &[9, 1, 0]),
        (Shape::Ack, &[9, 1, 0, 2, 0]),
    ] {
        assert!(Payload::read(shape, wrong).is_err(), "{shape:?}");
    }
}

#[test]
// spec-test: WIRE-15
fn message_numbers_are_completed() {
    for (low, expected, number) in [
        (0u8, 0, 0),
        (127, 0, 127),
        (255, 0, 255),
        (0, 256, 256),
        (255, 256, 255),
        (0x7f, 0x1_0000, 0x1_007f),
        (0x81, 0x1_0000, 0xff81),
        (255, varint::MAX, varint::MAX),
    ] {
        assert_eq!(MessageNumber::Low8(low).resolve(expected), Ok(number), "{low} {expected}");
    }
    for expected in [0u64, 5, 300, 1 << 40] {
        for ahead in 0..=limits::MESSAGE_NUMBER_LOW8_REACH {
            let number = expected + ahead;
            assert_eq!(MessageNumber::Low8(number as u8).resolve(expected), Ok(number));
        }
    }
    assert_eq!(MessageNumber::Full(7).resolve(1 << 40), Ok(7));
}

#[test]
// spec-test: WIRE-18
fn acks_stay_above_zero_and_below_257_ranges() {
    assert!(first(&frame(kind::ACK, &[5, 0, 0, 5], &[])).is_ok());
    assert_eq!(first(&frame(kind::ACK, &[5, 0, 0, 6], &[])), Err(INVALID));
    assert!(first(&frame(kind::ACK, &[5, 0, 1, 0, 1, 2], &[])).is_ok());
    assert_eq!(first(&frame(kind::ACK, &[5, 0, 1, 0, 1, 3], &[])), Err(INVALID));
    assert_eq!(first(&frame(kind::ACK, &[5, 0, 1, 0, 4, 0], &[])), Err(INVALID));
    assert!(first(&frame(kind::ACK, &[varint::MAX, 0, 0, varint::MAX], &[])).is_ok());
    let ranges = |count: u64| {
        let mut fields = vec![10_000, 0, count - 1, 0];
        fields.extend(core::iter::repeat_n([0, 0], count as usize - 1).flatten());
        frame(kind::ACK, &fields, &[])
    };
    let bytes = ranges(256);
    let Ok(Frame::Ack(ack)) = first(&bytes) else { panic!() };
    assert_eq!(ack.ranges().count(), 256);
    assert_eq!(ack.ranges().last(), Some((10_000 - 510, 10_000 - 510)));
    assert_eq!(first(&ranges(257)), Err(INVALID));
    assert_eq!(first(&frame(kind::ACK, &[1 << 40, 0, varint::MAX, 0], &[])), Err(INVALID));
}

#[test]
fn equal_acks_are_those_that_say_the_same() {
    // The gap once in one byte and once in two.
    let (short, long) = ([8, 9, 0, 1, 0, 1, 0], [8, 9, 0, 1, 0, 0x40, 1, 0]);
    assert_eq!(first(&short), first(&long));
    assert_ne!(first(&short), first(&[8, 9, 0, 1, 0, 2, 0]));
    assert_ne!(first(&short), first(&[8, 9, 0, 0, 0]));
    bodies::frames(&long);
}

#[test]
fn an_ack_takes_the_room_there_is() {
    let mark = EcnCounts { ect0: varint::MAX, ect1: 0, ce: varint::MAX };
    let sections: [(Option<EcnCounts>, &[u8]); 3] =
        [(None, &[]), (Some(mark), &[]), (Some(mark), &[5; 100])];
    for step in [2u64, 300, 1 << 20, 1 << 50] {
        let top = varint::MAX;
        let all: Vec<(u64, u64)> = (0..2000u64)
            .map_while(|n| top.checked_sub(n.checked_mul(step)?))
            .map(|high| (high, high))
            .collect();
        for (ecn, times) in sections {
            let mut best = 0;
            for room in 0..1500 {
                let mut buffer = vec![0; room];
                let mut writer = Writer::new(&mut buffer);
                let list = all.iter().copied();
                let result = write_ack(&mut writer, true, u64::MAX, list, ecn, times, &[]);
                if result.is_err() {
                    assert_eq!(writer.len(), 0, "nothing partial stays");
                    assert!(best == 0 && room < 160, "what fitted less room fits more");
                    continue;
                }
                let Ok(Frame::Ack(ack)) = first(writer.written()) else { panic!() };
                let count = ack.ranges().count();
                assert!(ack.ranges().eq(all.iter().copied().take(count)));
                assert!(count >= best && count <= limits::ACK_RANGES_MAX);
                assert_eq!((ack.ecn, ack.times), (ecn, times));
                best = count;
            }
            let wanted = all.len().min(limits::ACK_RANGES_MAX);
            // Gap and run of the further ranges; beside them type, largest, delay, the count's two
            // bytes, and first run.
            let each = if step == 2 { 2 } else { varint::len(step - 2) + 1 };
            let sections_len = if times.is_empty() { 0 } else { 2 + times.len() }
                + if ecn.is_some() { 17 } else { 0 };
            let fits = 1 + (1499 - (1 + 8 + 8 + 2 + 1) - sections_len) / each;
            assert_eq!(best, wanted.min(fits), "{step}");
        }
    }
    let mut buffer = [0; 100];
    let mut writer = Writer::new(&mut buffer);
    let none = core::iter::empty();
    assert_eq!(write_ack(&mut writer, true, 0, none, None, &[], &[]), Err(Full));
}

proptest::proptest! {
    #[test]
    // spec-test: WIRE-43
    fn receive_times_read_back_as_written(
        largest in 0u64..1 << 62,
        stamp in 0u64..1 << 40,
        steps in proptest::collection::vec((0u64..300, 0u64..1 << 15), 0..12),
    ) {
        let mut packets = vec![(largest, stamp)];
        for (distance, earlier) in steps {
            let (pn, units) = packets[packets.len() - 1];
            if pn > distance && units >= earlier {
                packets.push((pn - distance - 1, units - earlier));
            }
        }
        let others = packets.iter().skip(1).copied();
        let section = bodies::encode(|w| write_receive_times(w, packets[0], others));
        let told: Vec<(u64, u16)> = ReceiveTimes::read(largest, &section).unwrap().collect();
        let wanted: Vec<(u64, u16)> =
            packets.iter().map(|(pn, units)| (*pn, *units as u16)).collect();
        proptest::prop_assert_eq!(told, wanted);
    }

    #[test]
    // spec-test: WIRE-43
    fn any_section_of_receive_times_is_refused_or_read_to_its_end(
        largest in 0u64..1 << 62,
        section in proptest::collection::vec(proptest::num::u8::ANY, 0..60),
    ) {
        if let Ok(times) = ReceiveTimes::read(largest, &section) {
            let told: Vec<(u64, u16)> = times.collect();
            proptest::prop_assert_eq!(told.is_empty(), section.is_empty());
            proptest::prop_assert!(told.windows(2).all(|pair| pair[1].0 < pair[0].0));
        }
    }
}

#[test]
fn an_ack_leaves_no_byte_that_a_range_would_fit() {
    let ranges = [(90u64, 95u64), (80, 85), (70, 75)];
    // Type, largest in two bytes, delay, count, first run; then two bytes for each further range.
    for (room, count) in [(6, 1), (7, 1), (8, 2), (9, 2), (10, 3), (11, 3)] {
        let mut buffer = vec![0; room];
        let mut writer = Writer::new(&mut buffer);
        write_ack(&mut writer, true, 0, ranges.iter().copied(), None, &[], &[]).unwrap();
        let Ok(Frame::Ack(ack)) = first(writer.written()) else { panic!() };
        assert_eq!(ack.ranges().count(), count, "{room}");
    }
}

#[test]
fn an_ack_ends_before_ranges_out_of_order() {
    let good = (50u64, 60u64);
    for wrong in [(40, 49), (49, 49), (45, 55), (55, 70), (50, 60), (70, 80), (30, 20)] {
        let mut buffer = [0; 100];
        let mut writer = Writer::new(&mut buffer);
        let list = [good, wrong, (1, 2)];
        write_ack(&mut writer, true, 0, list.iter().copied(), None, &[], &[]).unwrap();
        let Ok(Frame::Ack(ack)) = first(writer.written()) else { panic!() };
        assert!(ack.ranges().eq([good]), "{wrong:?}");
    }
    let upside_down = core::iter::once((7, 6));
    let mut buffer = [0; 100];
    let mut writer = Writer::new(&mut buffer);
    assert_eq!(write_ack(&mut writer, true, 0, upside_down, None, &[], &[]), Err(Full));
}

#[test]
fn what_only_a_type_tells_of_is_not_written_without_one() {
    let counts = Some(EcnCounts { ect0: 1, ect1: 0, ce: 0 });
    let sections: [(_, &[u8], &[u8]); 3] =
        [(counts, &[], &[]), (None, &[1], &[]), (None, &[], &[1])];
    for (ecn, times, recovered) in sections {
        let mut buffer = [0; 100];
        let mut writer = Writer::new(&mut buffer);
        let list = core::iter::once((1, 2));
        assert_eq!(write_ack(&mut writer, false, 0, list, ecn, times, recovered), Err(Full));
        assert_eq!(writer.len(), 0);
    }
}

#[test]
// spec-test: WIRE-42
fn streams_are_counted_as_far_as_ids_reach() {
    let most = limits::STREAMS_COUNT_MAX;
    assert_eq!(StreamId::new(most, true).0, varint::MAX);
    for kind in [kind::MAX_STREAMS, kind::STREAMS_BLOCKED] {
        assert!(first(&frame(kind, &[most], &[])).is_ok());
        assert_eq!(first(&frame(kind, &[most + 1], &[])), Err(INVALID));
    }
}

#[test]
fn a_fragment_with_a_short_number_has_no_shape() {
    let mut message = MessageFrame {
        stream: StreamId(4),
        open: None,
        number: MessageNumber::Full(9),
        fragment: Some(Fragment { offset: 0, total: 9 }),
        attributes: Attributes::default(),
        fin: false,
        data: b"abc",
        to_end: true,
    };
    assert_eq!(message.shape(true), Some(Shape::Fragment));
    message.number = MessageNumber::Low8(9);
    assert_eq!(message.shape(true), None);
}

#[test]
fn a_number_in_short_form_has_no_frame() {
    let mut reader = Reader::new(b"\x04\x09hi");
    let Ok(mut payload) = Payload::read(Shape::Message, reader.take_rest()) else { panic!() };
    let frame = payload.next().unwrap().unwrap();
    assert_eq!(frame.write(&mut Writer::new(&mut [0; 20])), Err(Full));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn any_bytes_are_answered(data in proptest::collection::vec(any::<u8>(), 0..300)) {
        bodies::frames(&data);
        bodies::shapes(&data);
    }

    #[test]
    fn any_bytes_behind_a_known_type_are_answered(
        kind in 0..=kind::PATH_STATUS,
        tail in proptest::collection::vec(0u8..80, 0..60),
    ) {
        bodies::frames(&frame(kind, &[], &tail));
    }

    #[test]
    fn any_frame_round_trips(data in proptest::collection::vec(any::<u8>(), 0..200)) {
        bodies::roundtrip(&data);
    }

    #[test]
    fn any_flipped_bit_of_a_frame_is_answered(
        data in proptest::collection::vec(any::<u8>(), 0..60),
    ) {
        let bytes = bodies::some_frame(&data);
        for bit in 0..8 * bytes.len() {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            bodies::frames(&flipped);
        }
    }
}
