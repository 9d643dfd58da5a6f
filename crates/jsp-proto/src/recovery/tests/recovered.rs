//! Packets that repair packets brought back: marks in an ACK, and runs of losses.

use super::*;

/// An ACK of `ranges` that marks some numbers as recovered.
fn ack_marked(
    bench: &mut Bench,
    now: Instant,
    ranges: &[(u64, u64)],
    marked: &[u64],
) -> AckOutcome {
    let (mut buf, mut room) = ([0u8; 4096], [0u8; 256]);
    let mut section = Writer::new(&mut room);
    let largest = ranges.last().map_or(0, |range| range.1);
    frame::write_recovered(&mut section, largest, marked.iter().rev().copied());
    let mut writer = Writer::new(&mut buf);
    let list = ranges.iter().rev().copied();
    frame::write_ack(&mut writer, true, 0, list, None, &[], section.written()).expect("room");
    bench.hear(now, Shape::Frames, writer.written()).expect("a true ACK")
}

fn token(pn: u64, fate: Fate) -> (Token, Fate) {
    (Token::NewConnectionId { sequence: pn }, fate)
}

#[test]
/// spec-test: FEC-8
fn a_recovered_packet_is_lost_to_the_path_but_not_to_its_owners() {
    let mut bench = Bench::warm();
    let first = bench.send(at(1000));
    bench.send(at(1001));
    let outcome = ack_marked(&mut bench, at(1102), &[(first, first + 1)], &[first]);
    assert_eq!(bench.fates, [token(first + 1, Fate::Acked), token(first, Fate::Acked)]);
    assert_eq!(outcome.bytes_acked, u64::from(SIZE));
    assert_eq!((outcome.lost.packets, outcome.lost.bytes_lost), (1, u64::from(SIZE)));
    assert_eq!(bench.recovery.bytes_in_flight(), 0);
    // Told again, with the mark or without it, it is no news and not spurious.
    bench.fates.clear();
    for marked in [&[first][..], &[]] {
        let again = ack_marked(&mut bench, at(1110), &[(first, first + 1)], marked);
        assert_eq!((again.spurious, again.lost.packets, again.bytes_acked), (0, 0, 0));
    }
    assert!(bench.fates.is_empty());
}

#[test]
/// spec-test: FEC-8
fn a_recovered_packet_that_was_held_lost_before_is_counted_once() {
    let mut bench = Bench::warm();
    let first = bench.send(at(1000));
    bench.send(at(1001));
    assert_eq!(bench.ack(at(1102), &[(first + 1, first + 1)]).lost.packets, 1);
    bench.fates.clear();
    let outcome = ack_marked(&mut bench, at(1110), &[(first, first + 1)], &[first]);
    assert_eq!(bench.fates, [token(first, Fate::Late)]);
    assert_eq!((outcome.spurious, outcome.lost.packets), (0, 0));
}

#[test]
/// spec-test: FEC-8
fn a_recovered_packet_that_was_only_late_is_no_loss() {
    let mut bench = Bench::warm();
    // Disorder was seen: there is a window of 25 ms.
    for pn in [bench.send(at(1000)), bench.send(at(1001))].into_iter().rev() {
        bench.ack(at(1101), &[(pn, pn)]);
    }
    bench.fates.clear();
    let first = bench.send(at(2000));
    bench.send(at(2001));
    let outcome = ack_marked(&mut bench, at(2102), &[(first, first + 1)], &[first]);
    assert_eq!(outcome.lost.packets, 0);
    assert_eq!(bench.recovery.bytes_in_flight(), u64::from(SIZE));
    assert_eq!(bench.fates.len(), 2);
    let late = ack_marked(&mut bench, at(2110), &[(first, first + 1)], &[]);
    assert_eq!((late.lost.packets, late.bytes_acked), (0, u64::from(SIZE)));
    assert_eq!(bench.recovery.bytes_in_flight(), 0);
    assert_eq!(bench.fates.len(), 2);
    // One that stays away is lost when the window has passed.
    let third = bench.send(at(3000));
    bench.send(at(3001));
    ack_marked(&mut bench, at(3102), &[(third, third + 1)], &[third]);
    let (due, _) = bench.timer().expect("a window");
    assert_eq!(bench.timeout(due).lost.packets, 1);
    assert!(!bench.fates.contains(&token(third, Fate::Lost)));
}

#[test]
fn runs_of_losses_are_told_in_the_order_of_sending() {
    let mut bench = Bench::warm();
    assert_eq!(bench.recovery.loss_runs().count(), 0);
    let first = bench.send(at(1000));
    for ms in 1..8 {
        bench.send(at(1000 + ms));
    }
    // The second was recovered, the fourth and fifth are missing.
    let ranges = [(first, first + 2), (first + 5, first + 7)];
    ack_marked(&mut bench, at(1107), &ranges, &[first + 1]);
    let runs: Vec<_> = bench.recovery.loss_runs().map(|run| (run.arrived, run.lost)).collect();
    assert_eq!(runs, [(1, 1), (1, 2), (2, 0)]);
}
