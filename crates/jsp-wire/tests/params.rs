//! Lists, transport parameters, profiles and openings.

#[path = "../../../fuzz/bodies/wire.rs"]
#[allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]
mod bodies;

use jsp_wire::params::{TransportParams, id};
use jsp_wire::stream::{Framing, Open, Profile, open_id};
use jsp_wire::{ConnectionId, DecodeError, PreferredAddress, Reader, limits, tlv};
use proptest::prelude::*;

const INVALID: DecodeError = DecodeError::Invalid;

/// A list of these entries behind the source id that every list has.
fn list(entries: &[(u64, &[u8])]) -> Vec<u8> {
    bodies::encode(|w| {
        tlv::write(w, id::INITIAL_SOURCE_ID, &[1, 2, 3, 4])?;
        entries.iter().try_for_each(|(id, value)| tlv::write(w, *id, value))
    })
}

fn read(entries: &[(u64, &[u8])]) -> Result<TransportParams, DecodeError> {
    let bytes = list(entries);
    bodies::params(&bytes);
    TransportParams::read(&bytes)
}

fn preferred() -> PreferredAddress {
    PreferredAddress {
        v4: Some("192.0.2.7:4433".parse().unwrap()),
        v6: Some("[2001:db8::7]:4434".parse().unwrap()),
        id: ConnectionId::new(&[4; 4]).unwrap(),
        reset_token: [5; 16],
    }
}

fn full() -> TransportParams {
    let id = |byte, len: usize| ConnectionId::new(&[byte; 20][..len]);
    TransportParams {
        initial_source_id: id(1, 4).unwrap(),
        original_destination_id: id(2, 8),
        retry_source_id: id(3, 20),
        idle_timeout_ms: 30_000,
        datagram_len_max: 1472,
        data_max: 1 << 24,
        stream_data_max: 1 << 20,
        streams_max: limits::STREAMS_OPEN_MAX,
        message_len_max: 1 << 30,
        ack_delay_max_us: (1 << 24) - 1,
        connection_ids_max: 8,
        reset_token: Some([9; 16]),
        features: 0x0f,
        paths_max: 4,
        preferred: Some(preferred()),
    }
}

#[test]
fn parameters_round_trip() {
    for params in [full(), TransportParams::default()] {
        for grease in [0, 1, 77, u16::MAX] {
            let bytes = bodies::encode(|w| params.write(w, grease));
            assert_eq!(TransportParams::read(&bytes), Ok(params));
        }
    }
}

#[test]
// spec-test: WIRE-20
fn even_ids_are_critical() {
    assert!(read(&[(0x19, b"odd"), (0x1001, b"")]).is_ok());
    assert_eq!(read(&[(0x08, b"even")]), Err(INVALID));
    assert_eq!(read(&[(0x1000, b"")]), Err(INVALID));
}

#[test]
// spec-test: WIRE-21
fn an_id_comes_once_in_a_bounded_list() {
    assert_eq!(read(&[(0x15, b"a"), (0x15, b"a")]), Err(INVALID));
    assert_eq!(read(&[(id::INITIAL_SOURCE_ID, &[1, 2, 3, 4])]), Err(INVALID));
    let many = |count: u64| (0..count).map(|n| (101 + 2 * n, &b""[..])).collect::<Vec<_>>();
    // The source id is one more.
    let most = limits::TLV_ENTRIES_MAX as u64 - 1;
    assert!(read(&many(most)).is_ok());
    assert_eq!(read(&many(most + 1)), Err(INVALID));
}

#[test]
// spec-test: WIRE-22
fn the_source_id_must_be_there() {
    assert_eq!(TransportParams::read(&[]), Err(INVALID));
    assert_eq!(TransportParams::read(&[1, 1, 5]), Err(INVALID));
    assert!(TransportParams::read(&[2, 0]).is_ok());
}

#[test]
// spec-test: WIRE-23
fn values_have_their_form_and_range() {
    let number = |value| bodies::encode(|w| w.varint(value));
    for (id, value, fits) in [
        (id::DATAGRAM_LEN_MAX, 1199, false),
        (id::DATAGRAM_LEN_MAX, 1200, true),
        (id::ACK_DELAY_MAX_US, (1 << 24) - 1, true),
        (id::ACK_DELAY_MAX_US, 1 << 24, false),
        (id::CONNECTION_IDS_MAX, 1, false),
        (id::CONNECTION_IDS_MAX, 2, true),
        (id::STREAMS_MAX, 1 << 20, true),
        (id::STREAMS_MAX, (1 << 20) + 1, false),
    ] {
        assert_eq!(read(&[(id, &number(value))]).is_ok(), fits, "{id:x} {value}");
    }
    let wrong: [(u64, &[u8]); 6] = [
        (id::IDLE_TIMEOUT_MS, b""),
        (id::IDLE_TIMEOUT_MS, &[1, 1]),
        (id::DATA_MAX, &[0x40]),
        (id::RESET_TOKEN, &[0; 15]),
        (id::RESET_TOKEN, &[0; 17]),
        (id::ORIGINAL_DESTINATION_ID, &[0; 21]),
    ];
    for entry in wrong {
        assert!(read(&[entry]).is_err(), "{entry:?}");
    }
    let whole = bodies::encode(|w| full().write(w, 7));
    for len in 0..whole.len() {
        // A cut between entries leaves a list; any other is refused.
        bodies::params(&whole[..len]);
    }
}

#[test]
// spec-test: WIRE-47
fn a_preferred_address_has_one_form() {
    let value = |v4: &[u8; 6], v6: &[u8; 18], id: &[u8], more: &[u8]| {
        let id_len = [id.len() as u8];
        [&v4[..], v6, &id_len, id, &[5; 16], more].concat()
    };
    let (v4, v6) = ([192, 0, 2, 7, 0, 9], [7; 18]);
    for (v4, v6, fits) in [
        (v4, v6, true),
        (v4, [0; 18], true),
        ([0; 6], v6, true),
        ([0; 6], [0; 18], false),
        ([192, 0, 2, 7, 0, 0], v6, false),
        ([0, 0, 0, 0, 0, 9], v6, false),
    ] {
        for (id, fits) in [(1, fits), (20, fits), (0, false), (21, false)] {
            let value = value(&v4, &v6, &[4; 21][..id], b"");
            let read = read(&[(id::PREFERRED_ADDRESS, &value)]);
            assert_eq!(read.is_ok(), fits, "{value:?}");
            let told = read.ok().and_then(|params| params.preferred);
            assert!(told.is_none_or(|told| told.v4.is_some() == (v4 != [0; 6])));
        }
    }
    let whole = value(&v4, &v6, &[4; 4], b"");
    assert!((0..whole.len()).all(|n| read(&[(id::PREFERRED_ADDRESS, &whole[..n])]).is_err()));
    assert!(read(&[(id::PREFERRED_ADDRESS, &value(&v4, &v6, &[4; 4], b"x"))]).is_err());
}

#[test]
// spec-test: WIRE-24
// spec-test: WIRE-29
fn grease_is_written_and_means_nothing() {
    let known: Vec<u64> =
        (0..=id::PREFERRED_ADDRESS).chain(open_id::LABEL..=open_id::REPLAY_SAFE).collect();
    assert!(known.into_iter().all(|id| !tlv::is_grease(id)));
    for grease in 0..=u16::MAX {
        let id = tlv::grease_id(grease);
        assert!(tlv::is_grease(id) && id % 2 == 1 && id % 31 == 29);
    }
    assert!(!tlv::is_grease(60) && tlv::is_grease(91));
    for grease in [0, 500, u16::MAX] {
        let bytes = bodies::encode(|w| TransportParams::default().write(w, grease));
        let entries = tlv::TlvIter::new(&bytes).flatten();
        assert!(entries.map(|e| e.id).eq([id::INITIAL_SOURCE_ID, tlv::grease_id(grease)]));
    }
}

#[test]
// spec-test: WIRE-30
fn all_profiles() {
    for bits in 0..=127u8 {
        let bytes = bits & 8 == 0;
        let valid = bits & 3 != 3 && (!bytes || bits & 7 == 0);
        match Profile::from_bits(bits) {
            Ok(profile) => {
                assert!(valid && profile.is_valid());
                assert_eq!(profile.to_bits(), bits);
                assert_eq!(profile.framing == Framing::Bytes, bytes);
                assert_eq!(Profile::from_bits(bits | 0x80), Ok(profile));
            }
            Err(error) => assert!(!valid && error == INVALID, "{bits:x}"),
        }
    }
}

#[test]
// spec-test: WIRE-31
fn openings() {
    let open = |entries: &[(u64, &[u8])]| {
        let params = bodies::encode(|w| {
            entries.iter().try_for_each(|(id, value)| tlv::write(w, *id, value))
        });
        bodies::encode(|w| Open { profile: Profile::SIGNALLING, params: &params }.write(w))
    };
    let read = |bytes: &[u8]| Open::read(&mut Reader::new(bytes)).map(|open| open.len());
    let bytes = open(&[(open_id::LABEL, b"chat"), (open_id::WEIGHT, &[9]), (0x7f, b"?")]);
    let parsed = Open::read(&mut Reader::new(&bytes)).unwrap();
    assert_eq!(parsed.param(open_id::LABEL), Some(&b"chat"[..]));
    assert_eq!(parsed.param_varint(open_id::WEIGHT), Some(9));
    assert_eq!(parsed.param_varint(open_id::CODEC), None);
    assert_eq!(parsed.len(), bytes.len());
    assert!(!parsed.is_empty());
    assert!(read(&open(&[(open_id::LABEL, &[b'x'; 255])])).is_ok());
    for wrong in [
        open(&[(open_id::LABEL, &[b'x'; 256])]),
        open(&[(0x02, b"")]),
        open(&[(open_id::LABEL, b"a"), (open_id::LABEL, b"b")]),
        vec![0x8b, 2, 1, 1],
        vec![0x03],
    ] {
        assert!(read(&wrong).is_err(), "{wrong:x?}");
        bodies::params(&wrong);
    }
    assert_eq!(read(&[0x88, 3, 1, 1]), Err(DecodeError::Truncated));
}

#[test]
fn every_flipped_bit_is_answered() {
    let whole = bodies::encode(|w| full().write(w, 7));
    for bit in 0..8 * whole.len() {
        let mut flipped = whole.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        bodies::params(&flipped);
    }
}

proptest! {
    #[test]
    fn any_bytes_are_answered(data in proptest::collection::vec(any::<u8>(), 0..300)) {
        bodies::params(&data);
    }

    #[test]
    fn any_list_is_answered(
        entries in proptest::collection::vec((0u64..24, proptest::collection::vec(any::<u8>(), 0..17)), 0..8),
    ) {
        let bytes = bodies::encode(|w| {
            entries.iter().try_for_each(|(id, value)| tlv::write(w, *id, value))
        });
        bodies::params(&bytes);
    }
}
