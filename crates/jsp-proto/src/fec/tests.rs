//! Encoder and decoder together: what was lost comes back byte for byte, and nothing that a peer says
//! costs more than a constant.

use std::collections::BTreeSet;

use jsp_wire::frame::Repair;
use jsp_wire::{Instant, Shape, Writer, limits};
use proptest::prelude::*;

use super::decoder::{Decoder, ROWS_MAX, Recovered};
use super::encoder::{Encoder, WINDOW};
use super::{PathFec, Protection};

const NOW: Instant = Instant::from_nanos(1_000_000_000);

fn at(us: u64) -> Instant {
    Instant::from_nanos(1_000_000_000 + us * 1000)
}

/// A packet that nobody could mistake for another.
fn packet(pn: u64, len: usize) -> Vec<u8> {
    let mut state = pn.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .collect()
}

/// A packet leaves whose repairs leave by themselves.
fn keep(
    encoder: &mut Encoder,
    now: Instant,
    (pn, content): (u64, &[u8]),
    percent: u32,
    expires: Instant,
) {
    let protection = Protection { expires, soonest: expires, ..Protection::ENDLESS };
    encoder.keep(now, (pn, Shape::Frames, content), (percent, 0), &protection);
}

/// The content of the repair that is due, in the packet `pn`.
fn repair(encoder: &mut Encoder, now: Instant, pn: u64) -> Option<Vec<u8>> {
    let mut room = [0; 1600];
    let mut writer = Writer::new(&mut room);
    encoder.write(now, pn, |_, _| true, &mut writer).then(|| writer.written().to_vec())
}

fn take(decoder: &mut Decoder, pn: u64, content: &[u8]) {
    decoder.on_repair(pn, &Repair::read(content).unwrap());
}

fn drain(decoder: &mut Decoder) -> Vec<Recovered> {
    std::iter::from_fn(|| decoder.pop()).collect()
}

proptest! {
    #[test]
    /// spec-test: FEC-2
    /// spec-test: FEC-3
    fn as_many_repairs_as_losses_bring_everything_back(
        lens in proptest::collection::vec(641usize..1500, 1..=WINDOW),
        first in 0u64..1 << 40,
        losses in proptest::collection::btree_set(0usize..WINDOW, 1..=20),
        repairs_lost in proptest::collection::vec(any::<bool>(), 40),
    ) {
        let mut encoder = Encoder::new();
        let mut decoder = Decoder::new(first);
        let lost: BTreeSet<usize> = losses.into_iter().filter(|n| *n < lens.len()).collect();
        for (n, len) in lens.iter().enumerate() {
            let (pn, bytes) = (first + n as u64, packet(first + n as u64, *len));
            keep(&mut encoder, NOW, (pn, &bytes), 0, Instant::FAR_FUTURE);
            if !lost.contains(&n) {
                decoder.keep(pn, Shape::Frames, &bytes);
            }
        }
        let mut arrived = 0;
        let numbers = first + lens.len() as u64..first + 96;
        for (pn, is_lost) in numbers.zip(repairs_lost) {
            encoder.owe(NOW);
            let content = repair(&mut encoder, NOW, pn).unwrap();
            if !is_lost && arrived < lost.len() {
                take(&mut decoder, pn, &content);
                arrived += 1;
            }
        }
        prop_assume!(arrived >= lost.len());
        let mut recovered = drain(&mut decoder);
        recovered.sort_by_key(|one| one.pn);
        let expected: Vec<Recovered> = lost
            .iter()
            .map(|n| {
                let pn = first + *n as u64;
                Recovered { pn, shape: Shape::Frames, content: packet(pn, lens[*n]) }
            })
            .collect();
        prop_assert_eq!(recovered, expected);
    }

    #[test]
    /// spec-test: FEC-6
    fn whatever_is_lost_nothing_is_recovered_that_was_not_sent(
        steps in proptest::collection::vec((20usize..1500, 0u8..10, any::<bool>()), 1..400),
        percent in 1u32..=100,
        loss in 0u8..6,
    ) {
        let mut encoder = Encoder::new();
        let mut decoder = Decoder::new(0);
        let (mut pn, mut sent) = (0u64, Vec::new());
        let mut late = Vec::new();
        for (n, (len, luck, disorder)) in steps.into_iter().enumerate() {
            let now = at(n as u64 * 1000);
            let bytes = packet(pn, len);
            keep(&mut encoder, now, (pn, &bytes), percent, Instant::FAR_FUTURE);
            sent.push(bytes.clone());
            if luck >= loss {
                decoder.keep(pn, Shape::Frames, &bytes);
            } else if disorder {
                late.push(pn);
            }
            pn += 1;
            if let Some(content) = repair(&mut encoder, now, pn) {
                sent.push(Vec::new());
                if luck % 5 != 0 {
                    take(&mut decoder, pn, &content);
                }
                pn += 1;
            }
            if n % 3 == 0 && let Some(pn) = late.pop() {
                decoder.keep(pn, Shape::Frames, &sent[pn as usize]);
            }
            for one in drain(&mut decoder) {
                prop_assert_eq!(&one.content, &sent[one.pn as usize], "number {}", one.pn);
            }
        }
    }

    #[test]
    /// spec-test: FEC-5
    fn lies_cost_a_constant(
        steps in proptest::collection::vec(
            (any::<u64>(), 0u64..400, any::<[u8; 20]>(), 0usize..1600, any::<bool>()),
            1..120,
        ),
    ) {
        let mut decoder = Decoder::new(0);
        let mut pn = 0u64;
        for (leap, step, head, len, is_repair) in steps {
            pn = if leap % 97 == 0 { leap >> 2 } else { (pn + step).saturating_sub(200) };
            if is_repair {
                let mut content = vec![1 + head[0] % 8, 1 + head[1] % 120];
                content.extend(&head[2..2 + usize::from(content[1]).div_ceil(8)]);
                let span = content[1];
                content[2] |= 1;
                let top = usize::from(span - 1);
                content[2 + top / 8] |= 1 << (top % 8);
                if let Some(last) = content.last_mut() {
                    *last &= 0xff >> (7 - top % 8);
                }
                content.extend(packet(leap, len + 3));
                let repair = Repair::read(&content).unwrap();
                decoder.on_repair(pn, &repair);
            } else {
                decoder.keep(pn, Shape::Frames, &packet(pn, len));
            }
            let _ = decoder.pop();
        }
        while decoder.pop().is_some() {}
        let symbols = limits::REPAIR_REACH + ROWS_MAX;
        prop_assert!(decoder.kept() <= symbols * (limits::PROTECTED_LEN_MAX + 2));
    }
}

#[test]
/// spec-test: FEC-5
fn repairs_that_repeat_or_contradict_change_nothing() {
    let mut encoder = Encoder::new();
    let mut decoder = Decoder::new(0);
    for pn in 0..8 {
        keep(&mut encoder, NOW, (pn, &packet(pn, 200)), 100, Instant::FAR_FUTURE);
        if pn > 1 {
            decoder.keep(pn, Shape::Frames, &packet(pn, 200));
        }
    }
    let first = repair(&mut encoder, at(10_000), 8).unwrap();
    for _ in 0..100 {
        take(&mut decoder, 8, &first);
    }
    let mut lie = first.clone();
    *lie.last_mut().unwrap() ^= 1;
    take(&mut decoder, 8, &lie);
    assert_eq!(drain(&mut decoder), []);
    let second = repair(&mut encoder, at(10_000), 9).unwrap();
    take(&mut decoder, 9, &second);
    let mut recovered = drain(&mut decoder);
    recovered.sort_by_key(|one| one.pn);
    let expected =
        [0, 1].map(|pn| Recovered { pn, shape: Shape::Frames, content: packet(pn, 200) });
    assert_eq!(recovered, expected);
    // And all of them again, when nothing is unknown.
    take(&mut decoder, 9, &lie);
    take(&mut decoder, 10, &first);
    assert_eq!(drain(&mut decoder), []);
}

#[test]
/// spec-test: FEC-5
fn what_came_before_the_first_repair_is_no_member() {
    let mut encoder = Encoder::new();
    for pn in 0..4 {
        keep(&mut encoder, NOW, (pn, &packet(pn, 200)), 100, Instant::FAR_FUTURE);
    }
    let content = repair(&mut encoder, at(10_000), 4).unwrap();
    let mut decoder = Decoder::new(1);
    for pn in 1..4 {
        decoder.keep(pn, Shape::Frames, &packet(pn, 200));
    }
    take(&mut decoder, 4, &content);
    assert_eq!(drain(&mut decoder), []);
}

#[test]
/// spec-test: FEC-14
fn settled_and_expired_packets_get_no_repair() {
    let mut encoder = Encoder::new();
    let mut room = [0; 1600];
    for pn in 0..4 {
        let expires = if pn == 3 { at(500) } else { Instant::FAR_FUTURE };
        keep(&mut encoder, NOW, (pn, &packet(pn, 200)), 100, expires);
    }
    assert!(!encoder.write(at(10_000), 4, |_, _| false, &mut Writer::new(&mut room)));
    assert_eq!(encoder.kept(), 0);
    for pn in 4..8 {
        let expires = if pn == 7 { at(20_500) } else { Instant::FAR_FUTURE };
        keep(&mut encoder, at(20_000), (pn, &packet(pn, 200)), 100, expires);
    }
    let mut writer = Writer::new(&mut room);
    assert!(encoder.write(at(30_000), 8, |pn, _| pn != 4, &mut writer));
    let repair = Repair::read(writer.written()).unwrap();
    assert_eq!((repair.back, repair.members), (2, 0b11));
}

#[test]
/// spec-test: FEC-14
/// spec-test: FEC-16
fn what_goes_once_is_repaired_for_a_while_though_it_is_held_lost() {
    let mut encoder = Encoder::new();
    let mut room = [0; 1600];
    for (pn, once) in [(0, true), (1, false), (2, true)] {
        let now = at(pn * 20_000);
        let protection = Protection::ENDLESS.going(once);
        let content = packet(pn, 200);
        encoder.keep(now, (pn, Shape::Frames, &content), (100, 0), &protection);
    }
    let mut members = |us, pn| {
        encoder.on_probe(at(us));
        let mut writer = Writer::new(&mut room);
        // All are held lost.
        let written = encoder.write(at(us), pn, |_, though_lost| though_lost, &mut writer);
        written.then(|| {
            let repair = Repair::read(writer.written()).unwrap();
            (repair.abandons, pn - u64::from(repair.back), repair.members)
        })
    };
    assert_eq!(members(59_000, 3), Some((true, 2, 0b101)));
    assert_eq!(members(61_000, 4), Some((true, 2, 0b1)));
    assert_eq!(members(101_000, 5), None);
}

#[test]
/// spec-test: FEC-9
fn small_and_large_packets_never_share_a_repair() {
    let mut encoder = Encoder::new();
    for pn in 0..40 {
        let len = if pn % 2 == 0 { 200 } else { 1200 };
        keep(&mut encoder, at(pn * 1000), (pn, &packet(pn, len)), 50, Instant::FAR_FUTURE);
    }
    let mut pn = 40;
    let mut seen = BTreeSet::new();
    while let Some(content) = repair(&mut encoder, at(60_000), pn) {
        let repair = Repair::read(&content).unwrap();
        let highest = pn - u64::from(repair.back);
        let odd = highest % 2 == 1;
        for n in (0..128).filter(|n| repair.members >> n & 1 == 1) {
            assert_eq!((highest - n) % 2 == 1, odd);
        }
        assert_eq!(repair.symbol.len(), if odd { 1202 } else { 202 });
        seen.insert(odd);
        pn += 1;
    }
    assert_eq!(seen.len(), 2);
}

#[test]
/// spec-test: FEC-11
fn repairs_come_half_a_gap_behind_at_the_percentage_and_never_in_bursts() {
    let mut encoder = Encoder::new();
    let (mut pn, mut repairs) = (0, 0);
    for n in 0..1000u64 {
        keep(&mut encoder, at(n * 1000), (pn, &packet(pn, 200)), 20, Instant::FAR_FUTURE);
        pn += 1;
        if let Some(due) = encoder.due() {
            if n > 100 {
                assert_eq!(due.since(at(n * 1000)).as_micros(), 500);
            }
            assert!(repair(&mut encoder, due, pn).is_some());
            assert!(repair(&mut encoder, due, pn + 1).is_none());
            pn += 1;
            repairs += 1;
        }
    }
    assert_eq!(repairs, 201);
    // What could not leave is not made up for.
    for n in 1000..1100 {
        keep(&mut encoder, at(n * 1000), (pn, &packet(pn, 200)), 100, Instant::FAR_FUTURE);
        pn += 1;
    }
    let burst = (pn..).take_while(|pn| repair(&mut encoder, at(2_000_000), *pn).is_some()).count();
    assert_eq!(burst, 2);
}

#[test]
/// spec-test: FEC-9
fn a_repair_of_the_longest_packets_fits_the_path() {
    for (mtu, id_len) in [(1200, 0usize), (1452, 4), (1472, 20)] {
        let len = Encoder::source_len_max(mtu);
        // The shortest header that a packet of this length may have had.
        let content = len - (1 + id_len + 1) - limits::TAG_LEN;
        let mut encoder = Encoder::new();
        for pn in (0..96).filter(|pn| pn % 2 == 1) {
            keep(&mut encoder, NOW, (pn, &packet(pn, content)), 100, Instant::FAR_FUTURE);
        }
        let content = repair(&mut encoder, at(10_000), 96).unwrap();
        let header = 1 + id_len + limits::PN_LEN_MAX;
        assert!(header + content.len() + limits::TAG_LEN <= mtu, "{mtu}: {}", content.len());
        assert!(len + 32 >= mtu, "{mtu}: {len}");
    }
}

#[test]
/// spec-test: FEC-11
fn a_repair_rides_in_the_packet_after_the_one_that_earned_it() {
    let mut encoder = Encoder::new();
    let (mut rode, mut alone) = (0, 0);
    for pn in 0..1000u64 {
        let now = at(pn * 1000);
        if let Some(due) = encoder.due().filter(|due| *due <= now) {
            alone += usize::from(repair(&mut encoder, due, pn).is_some());
        }
        let mut room = [0; 1000];
        let mut writer = Writer::new(&mut room);
        if let Some(len) = encoder.ride(now, pn, |_, _| true, &mut writer) {
            assert_eq!(len, writer.len());
            let mut frames = jsp_wire::FrameIter::new(writer.written());
            let Some(Ok(jsp_wire::Frame::Repair(content))) = frames.next() else { panic!() };
            assert!(
                Repair::read(content).is_ok_and(|repair| repair.back == 1)
                    && frames.next().is_none()
            );
            rode += 1;
        }
        let content = packet(pn, 200);
        encoder.keep(now, (pn, Shape::Message, &content), (20, 1000), &Protection::ENDLESS);
    }
    assert!(rode >= 195 && alone <= 5, "{rode} {alone}");
    // Without room it leaves by itself.
    (1000..1005).for_each(|pn| {
        let source = (pn, Shape::Message, &packet(pn, 200)[..]);
        encoder.keep(at(pn * 1000), source, (20, 1000), &Protection::ENDLESS);
    });
    let mut short = [0; 100];
    assert!(encoder.rides());
    assert_eq!(encoder.ride(at(1_005_000), 1005, |_, _| true, &mut Writer::new(&mut short)), None);
    assert!(!encoder.rides() && repair(&mut encoder, at(1_006_000), 1005).is_some());
}

#[test]
/// spec-test: FEC-16
/// spec-test: FEC-17
fn what_the_newest_repair_leaves_out_may_have_expired_and_stays_lost() {
    let sent: Vec<Vec<u8>> = (0..3).map(|pn| packet(pn, 1000)).collect();
    // Two of three are lost. The first is gone by the second repair, which brings only the other back.
    let recovered = |lives: fn(u64) -> Instant| {
        let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new(0));
        for (pn, bytes) in (0..).zip(&sent) {
            keep(&mut encoder, NOW, (pn, bytes), 0, lives(pn));
        }
        decoder.keep(2, Shape::Frames, &sent[2]);
        for pn in [3, 4] {
            let now = at(pn * 10_000);
            encoder.owe(now);
            take(&mut decoder, pn, &repair(&mut encoder, now, pn).unwrap());
        }
        let mut numbers: Vec<u64> = drain(&mut decoder).iter().map(|one| one.pn).collect();
        numbers.sort_unstable();
        numbers
    };
    assert_eq!(recovered(|_| Instant::FAR_FUTURE), [0, 1]);
    assert_eq!(recovered(|_| at(90_000)), [0, 1]);
    assert_eq!(recovered(|pn| if pn == 0 { at(35_000) } else { Instant::FAR_FUTURE }), [1]);
}

#[test]
/// spec-test: FEC-17
fn a_repair_that_comes_late_does_not_bring_back_what_a_newer_one_left_out() {
    let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new(0));
    keep(&mut encoder, NOW, (0, &packet(0, 1000)), 0, at(15_000));
    encoder.owe(NOW);
    let early = repair(&mut encoder, NOW, 1).unwrap();
    keep(&mut encoder, at(20_000), (2, &packet(2, 1000)), 0, at(90_000));
    encoder.owe(at(20_000));
    let newer = repair(&mut encoder, at(20_000), 3).unwrap();
    decoder.keep(2, Shape::Frames, &packet(2, 1000));
    take(&mut decoder, 3, &newer);
    take(&mut decoder, 1, &early);
    assert_eq!(drain(&mut decoder), []);
}

#[test]
/// spec-test: FEC-18
fn a_packet_holds_one_repair_at_most() {
    let mut fec = PathFec::new();
    let content = b"\x01\x01\x01\0\x03abc";
    assert_eq!(fec.on_repair(7, content), Ok(()));
    assert!(fec.on_repair(7, content).is_err());
    assert_eq!(fec.on_repair(8, content), Ok(()));
}

#[test]
/// spec-test: FEC-11
fn a_stream_without_repair_does_not_end_that_of_another() {
    let mut fec = PathFec::new();
    let fixed = Protection { percent: 20, auto: false, ..Protection::ENDLESS };
    let content = packet(0, 200);
    for pn in 0..4 {
        let asked = if pn % 2 == 0 { &fixed } else { &Protection::ENDLESS };
        fec.on_sent(at(pn * 1000), (pn, Shape::Message, &content), asked, (230, 1200));
        assert!(fec.is_protecting(), "{pn}");
    }
}
