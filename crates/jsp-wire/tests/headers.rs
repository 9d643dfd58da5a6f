//! Headers: what is read, what is dropped, what is masked.

#[path = "../../../fuzz/bodies/wire.rs"]
#[allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]
mod bodies;

use jsp_wire::frame::HandshakeFragment;
use jsp_wire::header::{
    LongFields, LongLayout, Protected, patch_length, patch_shape, write_retry, write_short,
    write_version_negotiation,
};
use jsp_wire::{
    ConnectionId, DecodeError, Frame, Full, Header, LongType, Reader, Shape, VERSION_1, Writer,
    limits, route::Route, varint,
};
use proptest::prelude::*;

fn id(len: usize) -> ConnectionId {
    ConnectionId::new(&[0xa0; 20][..len]).unwrap()
}

/// An Initial packet whose packet number and payload take `rest` bytes.
fn initial(token: &[u8], rest: usize) -> (Vec<u8>, LongLayout) {
    let (dcid, scid) = (id(8), id(4));
    let fields =
        LongFields { kind: LongType::Initial, dcid, scid, token, pn: 0x0102_0304, pn_len: 4 };
    let mut packet = vec![0x77; 40 + token.len() + rest];
    let mut writer = Writer::new(&mut packet);
    let layout = fields.write(&mut writer).unwrap();
    packet.truncate(layout.pn_offset + rest);
    patch_length(&mut packet, layout, rest).unwrap();
    (packet, layout)
}

#[test]
fn a_long_header_reads_as_it_was_written() {
    let (packet, layout) = initial(&[5; 29], 40);
    let Ok(Header::Long(header)) = Header::parse(&packet) else { panic!() };
    assert_eq!((header.kind, header.dcid, header.scid), (LongType::Initial, id(8), id(4)));
    assert_eq!(header.token, [5; 29]);
    assert_eq!((header.pn_offset, header.packet_len), (layout.pn_offset, packet.len()));
    bodies::header(&packet);
}

#[test]
// spec-test: WIRE-1
fn the_fixed_bit_must_be_set() {
    let (mut packet, _) = initial(&[], 40);
    packet[0] &= !0x40;
    assert_eq!(Header::parse(&packet), Err(DecodeError::Invalid));
    assert_eq!(Header::parse(&[0x00; 40]), Err(DecodeError::Invalid));
    assert_eq!(Header::parse(&[0x3f; 40]), Err(DecodeError::Invalid));
    assert_eq!(Header::parse(&[0x40; 40]), Ok(Header::Short));
}

#[test]
// spec-test: WIRE-2
// spec-test: WIRE-3
fn long_ids_are_for_other_versions() {
    let mut packet = vec![0xc0];
    packet.extend(VERSION_1.to_be_bytes());
    packet.push(21);
    packet.extend([1; 21]);
    packet.push(0);
    packet.extend([0, 20]);
    packet.extend([0; 20]);
    assert_eq!(Header::parse(&packet), Err(DecodeError::Invalid));
    packet[4] = 2;
    let Ok(Header::OtherVersion { version, dcid, scid }) = Header::parse(&packet) else { panic!() };
    assert_eq!((version, dcid, scid), (VERSION_1 + 1, &[1; 21][..], &[][..]));
    // What stands behind the ids makes no difference, nor does the fixed bit.
    packet[0] = 0x80;
    assert!(matches!(Header::parse(&packet[..28]), Ok(Header::OtherVersion { .. })));
    assert_eq!(Header::parse(&packet[..27]), Err(DecodeError::Truncated));
    packet[5] = 255;
    assert_eq!(Header::parse(&packet), Err(DecodeError::Truncated));
}

#[test]
// spec-test: WIRE-28
fn a_packet_ends_within_its_datagram() {
    let (packet, layout) = initial(&[], 40);
    for cut in 1..=40 {
        let cut = &packet[..packet.len() - cut];
        assert_eq!(Header::parse(cut), Err(DecodeError::Truncated));
    }
    let mut with_next = packet.clone();
    with_next.extend([0; 100]);
    let Ok(Header::Long(header)) = Header::parse(&with_next) else { panic!() };
    assert_eq!(header.packet_len, packet.len());
    let mut longer = packet.clone();
    patch_length(&mut longer, layout, 41).unwrap();
    assert_eq!(Header::parse(&longer), Err(DecodeError::Truncated));
    assert_eq!(patch_length(&mut longer, layout, 1 << 14), Err(Full));
}

#[test]
// spec-test: WIRE-25
// spec-test: WIRE-41
fn tokens_are_bounded() {
    let (packet, _) = initial(&[1; 128], 40);
    assert!(matches!(Header::parse(&packet), Ok(Header::Long(_))));
    let (packet, _) = initial(&[1; 129], 40);
    assert_eq!(Header::parse(&packet), Err(DecodeError::Invalid));
    for (len, fits) in [(0, false), (1, true), (128, true), (129, false)] {
        let token = vec![9; len];
        let mut buffer = [0; 200];
        let mut writer = Writer::new(&mut buffer);
        assert_eq!(write_retry(&mut writer, &id(0), &id(8), &token).is_ok(), fits);
        let mut packet = vec![0xf0, 0x4a, 0x53, 0x50, 1, 0, 8];
        packet.extend(id(8).as_bytes());
        packet.extend(&token);
        assert_eq!(writer.written(), if fits { &packet[..] } else { &[] });
        packet.extend([3; 16]);
        match Header::parse(&packet) {
            Ok(Header::Retry { dcid, scid, token: found, integrity_tag, covered }) => {
                assert!(fits);
                assert_eq!((dcid, scid, found), (id(0), id(8), &token[..]));
                assert_eq!(integrity_tag, [3; 16]);
                assert_eq!(covered, &packet[..packet.len() - 16]);
            }
            other => assert!(!fits && other == Err(DecodeError::Invalid), "{len}: {other:?}"),
        }
    }
    assert_eq!(Header::parse(&[0xf0, 0x4a, 0x53, 0x50, 1, 0, 0, 1]), Err(DecodeError::Truncated));
}

#[test]
// spec-test: WIRE-26
fn a_list_of_versions_is_whole() {
    let versions = [VERSION_1, 0x0a0a_0a0a];
    let packet = bodies::encode(|w| write_version_negotiation(w, &[1; 30], &[], &versions));
    let Ok(Header::VersionNegotiation { dcid, scid, versions }) = Header::parse(&packet) else {
        panic!()
    };
    assert_eq!((dcid, scid), (&[1; 30][..], &[][..]));
    assert_eq!(versions, [0x4a, 0x53, 0x50, 1, 0x0a, 0x0a, 0x0a, 0x0a]);
    let list = packet.len() - 8;
    for len in list..packet.len() {
        let whole = len == list + 4;
        assert_eq!(Header::parse(&packet[..len]).is_ok(), whole, "{len}");
    }
    let mut buffer = [0; 300];
    let mut writer = Writer::new(&mut buffer);
    assert_eq!(write_version_negotiation(&mut writer, &[0; 256], &[], &[1]), Err(Full));
    assert_eq!(write_version_negotiation(&mut writer, &[1], &[2], &[]), Err(Full));
    assert_eq!(writer.len(), 0);
}

#[test]
// spec-test: WIRE-4
// spec-test: WIRE-5
// spec-test: WIRE-35
fn a_short_header_bears_shape_phase_and_number() {
    for (number, shape) in bodies::SHAPES.into_iter().enumerate() {
        for (pn_len, key_phase) in [(1, false), (2, true), (3, false), (4, true)] {
            let pn = 0x0a_0b0c_0d0e;
            let packet = bodies::encode(|w| write_short(w, &id(4), shape, key_phase, pn, pn_len));
            let flags = 0x40 | u8::from(key_phase) << 5 | (number as u8) << 2 | (pn_len as u8 - 1);
            assert_eq!(packet[..5], [flags, 0xa0, 0xa0, 0xa0, 0xa0]);
            assert_eq!(packet[5..], [0x0b, 0x0c, 0x0d, 0x0e][4 - pn_len..]);
            let fields = Protected::unmask_short(&mut packet.clone(), 5, [0; 5]).unwrap();
            assert_eq!((fields.shape, fields.key_phase), (Some(shape), key_phase));
            assert_eq!(u64::from(fields.truncated_pn), pn & ((1 << (8 * pn_len)) - 1));
        }
    }
    let mut packet = [0x40 | 7 << 2, 0, 0, 0, 0];
    assert_eq!(Protected::unmask_short(&mut packet, 1, [0; 5]).unwrap().shape, None);
    patch_shape(&mut packet, Shape::Bytes);
    assert_eq!(packet[0], 0x48);
    for wrong in [0, 5] {
        let mut buffer = [0; 40];
        let mut writer = Writer::new(&mut buffer);
        assert_eq!(write_short(&mut writer, &id(0), Shape::Ack, false, 0, wrong), Err(Full));
    }
}

#[test]
fn a_header_without_room_leaves_nothing() {
    let fields = LongFields {
        kind: LongType::Initial,
        dcid: id(8),
        scid: id(4),
        token: &[7; 29],
        pn: 1,
        pn_len: 2,
    };
    let writes: [&dyn Fn(&mut Writer<'_>) -> bool; 4] = [
        &|w| write_short(w, &id(4), Shape::Frames, false, 1, 2).is_ok(),
        &|w| fields.write(w).is_ok(),
        &|w| write_retry(w, &id(8), &id(8), &[7; 29]).is_ok(),
        &|w| write_version_negotiation(w, &[1; 8], &[2; 8], &[1, 2]).is_ok(),
    ];
    for write in writes {
        let fits = (0..100usize).find(|room| {
            let mut buffer = vec![0; *room];
            let mut writer = Writer::new(&mut buffer);
            let fits = write(&mut writer);
            assert_eq!(writer.len(), if fits { *room } else { 0 });
            fits
        });
        assert!(fits.is_some());
    }
}

#[test]
fn the_longest_hello_fits_its_datagrams() {
    let token = [7; limits::TOKEN_LEN_MAX];
    let fields = LongFields {
        kind: LongType::Initial,
        dcid: id(limits::CONNECTION_ID_LEN_MAX),
        scid: id(limits::CONNECTION_ID_LEN_MAX),
        token: &token,
        pn: u64::from(u32::MAX),
        pn_len: limits::PN_LEN_MAX,
    };
    let mut offset = 0;
    for _ in 0..limits::HELLO_FRAGMENTS_MAX {
        let mut buffer = [0; limits::MTU_BASE - limits::TAG_LEN];
        let mut writer = Writer::new(&mut buffer);
        fields.write(&mut writer).unwrap();
        let room = writer.remaining() - HandshakeFragment::HEAD_LEN;
        let len = room.min(limits::HELLO_LEN_MAX - offset);
        let data = vec![1; len];
        let total = limits::HELLO_LEN_MAX as u16;
        let fragment = HandshakeFragment { id: [2; 8], offset: offset as u16, total, data: &data };
        Frame::Handshake(fragment).write(&mut writer).unwrap();
        offset += len;
    }
    assert_eq!(offset, limits::HELLO_LEN_MAX);
}

#[test]
// spec-test: WIRE-6
fn a_packet_without_a_whole_sample_is_dropped() {
    let packet: Vec<u8> = (0..40).collect();
    assert_eq!(Protected::sample(&packet, 5).unwrap().to_vec(), packet[9..25]);
    assert!(Protected::sample(&packet[..25], 5).is_ok());
    assert_eq!(Protected::sample(&packet[..24], 5), Err(DecodeError::Truncated));
    assert_eq!(Protected::sample(&packet, usize::MAX), Err(DecodeError::Truncated));
    let short = Protected::unmask_short(&mut [0x43, 0, 0], 1, [0; 5]);
    assert_eq!(short, Err(DecodeError::Truncated));
}

#[test]
// spec-test: WIRE-27
fn the_mask_covers_low_bits_and_number() {
    for (first, hidden) in [(0xc3, 0x0f), (0x43, 0x3f)] {
        let mut packet = [0u8; 30];
        packet[0] = first;
        Protected::mask(&mut packet, 10, [0xff, 1, 2, 3, 4]).unwrap();
        assert_eq!(packet[0], first ^ hidden);
        assert_eq!(packet[9..15], [0, 1, 2, 3, 4, 0]);
    }
    // A number of one byte: the others are ciphertext and stay.
    let mut packet = [0x40, 0, 0];
    Protected::mask(&mut packet, 1, [0, 1, 2, 3, 4]).unwrap();
    assert_eq!(packet, [0x40, 1, 0]);
}

#[test]
// spec-test: WIRE-38
fn a_cookie_sees_one_form_of_an_address() {
    let v4 = Route::udp("192.0.2.1:443".parse().unwrap()).to_cookie_bytes();
    let mapped = Route::udp("[::ffff:192.0.2.1]:443".parse().unwrap()).to_cookie_bytes();
    assert_eq!(v4, mapped);
    let head = [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1, 1, 187];
    assert_eq!((&v4[..19], &v4[19..]), (&head[..], &[0; 8][..]));
    let via = "192.0.2.1:443".parse().unwrap();
    let relayed = Route::Relayed { via, peer: 7 }.to_cookie_bytes();
    assert_eq!((relayed[0], &relayed[1..19], relayed[26]), (2, &head[1..], 7));
    let tunnel = Route::Tunnel { id: 0x0102 }.to_cookie_bytes();
    assert_eq!((tunnel[0], &tunnel[25..]), (3, &[1, 2][..]));
    assert!(tunnel[1..25].iter().all(|byte| *byte == 0));
}

#[test]
// spec-test: WIRE-40
fn varints_may_be_longer_than_needed() {
    let forms: [&[u8]; 4] =
        [&[0x25], &[0x40, 0x25], &[0x80, 0, 0, 0x25], &[0xc0, 0, 0, 0, 0, 0, 0, 0x25]];
    for form in forms {
        assert_eq!(Reader::new(form).varint(), Ok(37));
        for len in 0..form.len() {
            assert_eq!(Reader::new(&form[..len]).varint(), Err(DecodeError::Truncated));
        }
    }
}

#[test]
fn every_input_of_two_bytes_and_every_first_byte_is_answered() {
    bodies::header(&[]);
    let (long, _) = initial(&[2; 29], 40);
    for first in 0..=255u8 {
        bodies::header(&[first]);
        let mut packet = long.clone();
        packet[0] = first;
        bodies::header(&packet);
        for second in 0..=255 {
            bodies::header(&[first, second]);
        }
    }
}

#[test]
fn every_cut_and_every_flipped_bit_of_a_packet_is_answered() {
    let mut packets = vec![initial(&[2; 29], 40).0];
    packets.push(bodies::encode(|w| write_retry(w, &id(4), &id(8), &[7; 45])));
    packets.push(bodies::encode(|w| write_version_negotiation(w, &[1; 8], &[2; 4], &[1, 2])));
    packets.push(bodies::encode(|w| {
        write_short(w, &id(4), Shape::Message, true, 77, 2)?;
        w.bytes(&[9; 30])
    }));
    for packet in packets {
        for len in 0..packet.len() {
            bodies::header(&packet[..len]);
        }
        for bit in 0..8 * packet.len() {
            let mut flipped = packet.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            bodies::header(&flipped);
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_answered(data in proptest::collection::vec(any::<u8>(), 0..1500)) {
        bodies::header(&data);
    }

    #[test]
    fn any_bytes_of_version_1_are_answered(
        first in 0x80u8..,
        dcid in 0usize..22,
        tail in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut data = vec![first];
        data.extend(VERSION_1.to_be_bytes());
        data.push(dcid as u8);
        data.extend(tail);
        bodies::header(&data);
    }

    #[test]
    fn varints_round_trip(value in 0..=varint::MAX, shift in 0u32..62) {
        let value = value >> shift;
        let bytes = bodies::encode(|w| w.varint(value));
        prop_assert_eq!(bytes.len(), varint::len(value));
        prop_assert_eq!(Reader::new(&bytes).varint(), Ok(value));
        prop_assert!(limits::PN_MAX == varint::MAX);
    }
}
