//! What forward error correction says: layouts, refusals, and what must hold of any bytes.

use jsp_wire::frame::{RecoveredNumbers, Repair, protected_part, write_recovered};
use jsp_wire::{DecodeError, Writer, limits};
use proptest::prelude::*;

fn encode(repair: &Repair<'_>) -> Option<Vec<u8>> {
    let mut buffer = [0; 2048];
    let mut writer = Writer::new(&mut buffer);
    repair.write_head(&mut writer).ok()?;
    writer.bytes(repair.symbol).ok()?;
    Some(writer.written().to_vec())
}

#[test]
/// spec-test: FEC-4
fn a_repair_names_its_members_downwards() {
    let repair = Repair { back: 2, abandons: false, members: 0b101_0000_0001, symbol: b"\0\x01a" };
    let bytes = encode(&repair).unwrap();
    assert_eq!(bytes, b"\x02\x0b\x01\x05\0\x01a");
    assert_eq!(Repair::read(&bytes), Ok(repair));
    assert_eq!((repair.span(), repair.head_len()), (11, 4));
    let repair = Repair { abandons: true, ..repair };
    let bytes = encode(&repair).unwrap();
    assert_eq!(bytes, b"\x82\x0b\x01\x05\0\x01a");
    assert_eq!(Repair::read(&bytes), Ok(repair));
}

#[test]
/// spec-test: FEC-4
fn repairs_that_cannot_be_are_refused() {
    for (wrong, why) in [
        (&b""[..], "nothing"),
        (b"\x01\x01", "no members"),
        (b"\x00\x01\x01abc", "a member above the packet"),
        (b"\x01\x00abc", "no span"),
        (b"\x01\x09\x01abc", "the lowest of the span is no member"),
        (b"\x01\x02\x02abc", "the highest is no member"),
        (b"\x01\x02\x07abc", "bits beyond the span"),
        (b"\x01\x02\x03ab", "no packet in the symbol"),
        (b"\x7f\x02\x03abc", "a member out of reach"),
        (b"\x01\x80abc", "a span out of reach"),
        (b"\xff\xff\xffabc", "everything out of reach"),
    ] {
        assert!(Repair::read(wrong).is_err(), "{why}");
    }
    assert!(Repair::read(b"\x7e\x02\x03abc").is_ok());
    for members in [0, 2, 1 << 127 | 1] {
        assert_eq!(encode(&Repair { back: 1, abandons: false, members, symbol: b"abc" }), None);
    }
    assert_eq!(encode(&Repair { back: 0, abandons: false, members: 1, symbol: b"abc" }), None);
}

fn section(largest: u64, numbers: &[u64]) -> Vec<u8> {
    let mut buffer = [0; 512];
    let mut writer = Writer::new(&mut buffer);
    write_recovered(&mut writer, largest, numbers.iter().copied());
    writer.written().to_vec()
}

fn read(section: &[u8], largest: u64) -> Result<Vec<u64>, DecodeError> {
    RecoveredNumbers::read(section, largest).map(Iterator::collect)
}

#[test]
/// spec-test: FEC-7
fn recovered_numbers_fall_from_the_largest() {
    assert_eq!(section(1000, &[1000, 999, 900, 0]), [0, 0, 0x40, 98, 0x43, 0x83]);
    assert_eq!(read(&[0, 0, 0x40, 98, 0x43, 0x83], 1000), Ok(vec![1000, 999, 900, 0]));
    assert_eq!(read(&[], 7), Ok(vec![]));
    // Below zero, behind zero, cut short, and one too many.
    assert!(read(&[8], 7).is_err());
    assert!(read(&[7, 0], 7).is_err());
    assert!(read(&[0x40], 7).is_err());
    assert!(read(&[0; limits::RECOVERED_NUMBERS_MAX], 1000).is_ok());
    assert!(read(&[0; limits::RECOVERED_NUMBERS_MAX + 1], 1000).is_err());
}

proptest! {
    #[test]
    fn repairs_round_trip(back in 1u8.., members in any::<u128>(), symbol in ".{3,40}") {
        let repair = Repair { back, abandons: members & 2 != 0, members: members | 1, symbol: symbol.as_bytes() };
        match encode(&repair) {
            Some(bytes) => prop_assert_eq!(Repair::read(&bytes), Ok(repair)),
            None => prop_assert!(u32::from(back) + repair.span() > 128),
        }
    }

    #[test]
    fn any_bytes_are_a_repair_that_writes_itself_or_none(
        bytes in proptest::collection::vec(any::<u8>(), 0..40),
        largest in any::<u64>(),
    ) {
        if let Ok(repair) = Repair::read(&bytes) {
            prop_assert_eq!(encode(&repair), Some(bytes.clone()));
        }
        if let Ok(numbers) = read(&bytes, largest >> 2) {
            prop_assert!(numbers.is_sorted_by(|a, b| a > b));
            prop_assert_eq!(read(&section(largest >> 2, &numbers), largest >> 2), Ok(numbers));
        }
    }
}

#[test]
/// spec-test: FEC-2
fn acknowledgements_in_front_and_the_repair_behind_are_not_protected() {
    let ack = [0x08, 9, 0, 0, 0];
    let (ping, repair) = ([0x01], [0x40, 0x51, 3, 7, 7, 7]);
    let part = |parts: &[&[u8]]| protected_part(&parts.concat()).unwrap().to_vec();
    assert_eq!(part(&[&ack, &ping, &repair]), ping);
    assert_eq!(part(&[&ping, &ack, &repair, &ping]), [&ping[..], &ack].concat());
    assert_eq!(part(&[&ack, &ack, &ping, &ping]), [1, 1]);
    assert!(part(&[&ack]).is_empty() && part(&[&ack, &repair]).is_empty());
    assert!(protected_part(&[0x01, 0x40, 0x51, 3]).is_err());
}
