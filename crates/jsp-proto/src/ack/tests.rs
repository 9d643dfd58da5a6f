//! What is acknowledged, and when.

use std::collections::BTreeSet;

use jsp_wire::Frame;
use proptest::prelude::*;

use super::received::RANGES_MAX;
use super::*;

const DELAY: Duration = Duration::from_millis(25);

fn at(ms: u64) -> Instant {
    Instant::from_nanos(ms * 1_000_000)
}

/// What an ACK said: ranges from the highest down, delay, counts, shape, whether it elicits.
struct Written {
    ranges: Vec<(u64, u64)>,
    delay_8us: u64,
    ecn: Option<EcnCounts>,
    shape: Shape,
    ack_eliciting: bool,
    tokens: Vec<Token>,
}

fn write(acks: &mut AckPolicy, now: Instant, alone: bool) -> Option<Written> {
    let mut room = [0u8; 1200];
    let mut tokens = Vec::new();
    let mut packet = PacketBuilder::new(&mut room, &mut tokens, true);
    let written = acks.write(now, &mut packet, alone);
    let built = packet.finish();
    assert_eq!(written, built.len > 0);
    if !written {
        return None;
    }
    let mut payload = jsp_wire::Payload::read(built.shape, &room[..built.len]).expect("readable");
    let Some(Ok(Frame::Ack(ack))) = payload.next() else { panic!("no ACK") };
    Some(Written {
        ranges: ack.ranges().collect(),
        delay_8us: ack.delay_8us,
        ecn: ack.ecn,
        shape: built.shape,
        ack_eliciting: built.ack_eliciting,
        tokens,
    })
}

fn wish(sequence: u64, threshold: u64, delay_max_us: u64, reordering: u64) -> AckFrequency {
    AckFrequency { sequence, threshold, delay_max_us, reordering }
}

proptest! {
    #[test]
    /// spec-test: ACK-5
    fn ranges_agree_with_a_set(
        numbers in proptest::collection::vec(0u64..300, 1..300),
        forget in proptest::option::of(0u64..300),
    ) {
        let mut ranges = ReceivedRanges::default();
        let mut set = BTreeSet::new();
        for (step, &pn) in numbers.iter().enumerate() {
            prop_assert_eq!(ranges.insert(pn), set.insert(pn));
            if step == numbers.len() / 2 && let Some(forget) = forget {
                ranges.forget_through(forget);
                set.retain(|&pn| pn > forget);
            }
            let named: BTreeSet<u64> = ranges.iter().flat_map(|(low, high)| low..=high).collect();
            prop_assert_eq!(&named, &set);
            let apart = ranges.iter().zip(ranges.iter().skip(1)).all(|(a, b)| b.1 + 1 < a.0);
            prop_assert!(apart, "{:?}", ranges);
            prop_assert_eq!(ranges.largest(), set.last().copied());
        }
    }
}

#[test]
/// spec-test: ACK-5
fn of_too_many_ranges_the_lowest_are_forgotten() {
    let mut ranges = ReceivedRanges::default();
    for n in 0..1000u64 {
        assert!(ranges.insert(n * 2));
    }
    assert_eq!(ranges.len(), RANGES_MAX);
    assert_eq!(ranges.largest(), Some(1998));
    assert_eq!(ranges.iter().last(), Some(((1000 - 256) * 2, (1000 - 256) * 2)));
    // What would be forgotten at once is not taken.
    assert!(!ranges.insert(5));
}

#[test]
/// spec-test: ACK-6
fn packets_of_the_handshake_are_acknowledged_at_once() {
    let mut acks = AckPolicy::new(Duration::ZERO);
    acks.on_packet(at(1), 0, true, None);
    assert!(acks.wants_ack_now(at(1)));
    assert!(write(&mut acks, at(1), false).is_some());
    assert!(!acks.wants_ack_now(at(1)));
}

#[test]
/// spec-test: ACK-1, ACK-7
fn every_second_packet_or_after_the_delay() {
    let mut acks = AckPolicy::new(DELAY);
    acks.on_packet(at(0), 0, true, None);
    assert!(!acks.wants_ack_now(at(24)));
    assert!(acks.has_news());
    assert_eq!(acks.poll_timeout(), Some(at(25)));
    assert!(acks.wants_ack_now(at(25)));
    acks.on_packet(at(10), 1, true, None);
    assert!(acks.wants_ack_now(at(10)));
    let written = write(&mut acks, at(12), true).expect("an ACK");
    assert_eq!(written.ranges, [(0, 1)]);
    // Two milliseconds since the largest arrived, in units of 8 microseconds.
    assert_eq!(written.delay_8us, 250);
    assert_eq!(acks.poll_timeout(), None);
    assert!(!acks.wants_ack_now(at(1000)));
}

#[test]
/// spec-test: ACK-7
fn packets_that_ask_for_nothing_start_nothing() {
    let mut acks = AckPolicy::new(DELAY);
    for pn in 0..100 {
        acks.on_packet(at(pn), pn, false, None);
    }
    assert!(!acks.wants_ack_now(at(10_000)));
    assert!(!acks.has_news());
    assert_eq!(acks.poll_timeout(), None);
}

#[test]
/// spec-test: ACK-8
fn gaps_late_packets_and_congestion_marks_are_told_at_once() {
    let mut acks = AckPolicy::new(DELAY);
    acks.on_packet(at(0), 0, true, None);
    write(&mut acks, at(0), true);
    acks.on_packet(at(1), 2, true, None);
    assert!(acks.wants_ack_now(at(1)), "a gap");
    write(&mut acks, at(1), true);
    acks.on_packet(at(2), 3, true, None);
    assert!(!acks.wants_ack_now(at(2)), "the gap has been told");
    acks.on_packet(at(3), 1, true, None);
    assert!(acks.wants_ack_now(at(3)), "a late packet");
    write(&mut acks, at(3), true);
    acks.on_packet(at(4), 4, true, Some(Ecn::Ce));
    assert!(acks.wants_ack_now(at(4)), "a mark");
    write(&mut acks, at(4), true);
    acks.on_packet(at(5), 5, true, None);
    acks.ask_now();
    assert!(acks.wants_ack_now(at(5)), "the peer asked");
}

#[test]
/// spec-test: ACK-9
fn an_ack_that_stands_alone_needs_no_type_and_one_with_counts_is_a_frame() {
    let mut acks = AckPolicy::new(DELAY);
    assert!(write(&mut acks, at(0), true).is_none(), "nothing to say");
    acks.on_packet(at(0), 7, true, None);
    let alone = write(&mut acks, at(0), true).expect("an ACK");
    assert_eq!((alone.shape, alone.ecn, alone.ack_eliciting), (Shape::Ack, None, false));
    assert_eq!(alone.tokens, [Token::Ack { path: PathId::FIRST, largest: 7 }]);
    assert!(write(&mut acks, at(0), true).is_none(), "nothing new to say");
    acks.on_packet(at(1), 8, true, Some(Ecn::Ect0));
    acks.on_packet(at(1), 9, true, Some(Ecn::Ce));
    let counted = write(&mut acks, at(1), true).expect("an ACK");
    assert_eq!(counted.shape, Shape::Frames);
    assert_eq!(counted.ecn, Some(EcnCounts { ect0: 1, ect1: 0, ce: 1 }));
}

#[test]
/// spec-test: ACK-10
fn acks_that_drag_gaps_along_ask_for_an_echo() {
    let mut acks = AckPolicy::new(DELAY);
    // A single gap, as it is left on purpose, does not.
    for n in (0..50).chain(51..200u64) {
        acks.on_packet(at(n), n, true, None);
        assert!(!write(&mut acks, at(n), true).expect("an ACK").ack_eliciting);
    }
    acks.on_fate(150, Fate::Acked);
    let mut sooner = None;
    for n in 0..100u64 {
        let pn = 300 + 2 * n;
        acks.on_packet(at(pn), pn, true, None);
        if write(&mut acks, at(pn), true).expect("an ACK").ack_eliciting {
            sooner = Some(n);
            break;
        }
    }
    assert!(sooner.expect("a PING") <= 16, "{sooner:?}");
}

#[test]
/// spec-test: ACK-11
fn what_the_peer_has_heard_is_not_told_again() {
    let mut acks = AckPolicy::new(DELAY);
    for pn in [0, 1, 4, 5, 8, 9] {
        acks.on_packet(at(pn), pn, true, None);
    }
    let first = write(&mut acks, at(10), false).expect("an ACK");
    assert_eq!(first.ranges, [(8, 9), (4, 5), (0, 1)]);
    acks.on_fate(9, Fate::Lost);
    acks.on_packet(at(11), 12, true, None);
    assert_eq!(write(&mut acks, at(11), false).expect("an ACK").ranges.len(), 4);
    acks.on_fate(9, Fate::Acked);
    acks.on_packet(at(12), 13, true, None);
    let last = write(&mut acks, at(12), false).expect("an ACK");
    assert_eq!(last.ranges, [(12, 13)]);
}

#[test]
/// spec-test: ACK-12
fn the_peers_wish_holds_and_the_latest_wish_wins() {
    let mut acks = AckPolicy::new(DELAY);
    acks.set_frequency(&wish(1, 4, 10_000, 3)).expect("in range");
    acks.set_frequency(&wish(0, 0, 1_000, 0)).expect("an older one is ignored");
    for pn in 0..4 {
        acks.on_packet(at(0), pn, true, None);
    }
    assert!(!acks.wants_ack_now(at(9)));
    assert_eq!(acks.poll_timeout(), Some(at(10)));
    acks.on_packet(at(1), 4, true, None);
    assert!(acks.wants_ack_now(at(1)));
    write(&mut acks, at(1), true);
    // A gap counts when it is three wide.
    acks.on_packet(at(2), 6, true, None);
    assert!(!acks.wants_ack_now(at(2)));
    acks.on_packet(at(2), 7, true, None);
    assert!(!acks.wants_ack_now(at(2)));
    acks.on_packet(at(2), 8, true, None);
    assert!(acks.wants_ack_now(at(2)));
    write(&mut acks, at(2), true);
    // Never, if the peer says so; and not longer than was promised.
    acks.set_frequency(&wish(2, 100, 1_000_000, 0)).expect("in range");
    acks.on_packet(at(3), 20, true, None);
    assert!(!acks.wants_ack_now(at(3)));
    assert_eq!(acks.poll_timeout(), Some(at(28)));
    let error = acks.set_frequency(&wish(3, 1, 1 << 24, 1)).expect_err("out of range");
    assert_eq!(error.code, CloseCode::PROTOCOL_VIOLATION);
}

#[test]
/// spec-test: ACK-13
fn a_fast_stream_is_acknowledged_eight_times_in_a_round_trip() {
    let mut acks = AckPolicy::new(DELAY);
    acks.set_rtt(Duration::from_millis(40));
    // 4000 packets a second: 20 in an eighth of 40 ms.
    let mut sent = Vec::new();
    for pn in 0..4000u64 {
        let now = Instant::from_nanos(pn * 250_000);
        acks.on_packet(now, pn, true, None);
        if acks.wants_ack_now(now) {
            sent.push(pn);
            write(&mut acks, now, true).expect("an ACK");
        }
    }
    let early = sent.iter().filter(|&&pn| pn < 100).count();
    assert!(early >= 49, "{early}");
    let late = sent.iter().filter(|&&pn| pn >= 2000).count();
    assert!((90..=110).contains(&late), "{late} for 12.5 round trips");
    // The stream ends: the rest is told within an eighth of the round trip.
    let end = Instant::from_nanos(4000 * 250_000);
    acks.on_packet(end, 4000, true, None);
    assert!(acks.poll_timeout().expect("pending") <= end + Duration::from_millis(5));
}

#[test]
/// spec-test: ACK-13
fn a_thin_stream_keeps_the_default() {
    let mut acks = AckPolicy::new(DELAY);
    acks.set_rtt(Duration::from_millis(60));
    let mut sent = 0;
    for pn in 0..1000u64 {
        acks.on_packet(at(pn * 10), pn, true, None);
        if acks.wants_ack_now(at(pn * 10)) {
            write(&mut acks, at(pn * 10), true).expect("an ACK");
            sent += 1;
        }
    }
    assert_eq!(sent, 500);
}

#[test]
fn what_does_not_fit_is_left_for_the_next_packet() {
    let mut acks = AckPolicy::new(DELAY);
    acks.on_packet(at(0), 1 << 40, true, None);
    let mut room = [0u8; 4];
    let mut tokens = Vec::new();
    let mut packet = PacketBuilder::new(&mut room, &mut tokens, true);
    assert!(!acks.write(at(0), &mut packet, true));
    assert!(packet.finish().len == 0);
    assert!(acks.has_news());
}

#[test]
/// spec-test: ACK-11
fn what_was_told_again_and_again_is_told_no_more() {
    let mut acks = AckPolicy::new(DELAY);
    let mut told = Vec::new();
    for n in (0..50).chain(51..300u64) {
        acks.on_packet(at(n), n, true, None);
        told.push(write(&mut acks, at(n), true).expect("an ACK").ranges.len());
    }
    let gap = told.iter().filter(|ranges| **ranges == 2).count();
    assert!((64..=130).contains(&gap), "{gap}");
    assert_eq!(told.last(), Some(&1));
}

/// What the next ACK says of receive times: packets and stamps.
fn told(acks: &mut AckPolicy, now: Instant) -> Vec<(u64, u16)> {
    let (mut room, mut tokens) = ([0u8; 1200], Vec::new());
    let mut packet = PacketBuilder::new(&mut room, &mut tokens, true);
    assert!(acks.write(now, &mut packet, true));
    let built = packet.finish();
    let mut payload = jsp_wire::Payload::read(built.shape, &room[..built.len]).expect("readable");
    let Some(Ok(Frame::Ack(ack))) = payload.next() else { panic!("no ACK") };
    frame::ReceiveTimes::read(ack.largest, ack.times).expect("readable").collect()
}

#[test]
/// spec-test: ACK-14
fn receive_times_are_told_of_a_few_packets_and_not_too_often() {
    let stamp = |ms: u64| (ms * 1000 / 128) as u16;
    let mut acks = AckPolicy::new(DELAY);
    acks.on_packet(at(1), 0, true, None);
    assert_eq!(told(&mut acks, at(1)), [], "nobody has asked for them");
    acks.tell_times();
    for pn in 1..4 {
        acks.on_packet(at(pn * 10), pn, true, None);
    }
    assert_eq!(told(&mut acks, at(30)), [(3, stamp(30)), (2, stamp(20)), (1, stamp(10))]);
    acks.on_packet(at(40), 4, true, None);
    assert_eq!(told(&mut acks, at(49)), [], "only just told");
    // Of many packets, the last and the first.
    for pn in 5..15 {
        acks.on_packet(at(50 + pn), pn, true, None);
    }
    assert_eq!(told(&mut acks, at(70)), [(14, stamp(64)), (5, stamp(55))]);
    // As many as there is room for.
    for pn in 15..19 {
        acks.on_packet(at(70 + pn), pn, true, None);
    }
    assert_eq!(told(&mut acks, at(90)).len(), 4);
    // A packet that came later than the one named before it is not told of.
    acks.on_packet(at(120), 20, true, None);
    acks.on_packet(at(121), 19, true, None);
    assert_eq!(told(&mut acks, at(121)), [(20, stamp(120))]);
}

#[test]
fn there_is_room_for_times_of_packets_far_apart() {
    let (mut log, mut room) = (ArrivalLog::default(), [0; SECTION_LEN_MAX]);
    // Distances of four bytes and times of two or four.
    let packets: Vec<_> = (1..=5u64).map(|n| (n * 100_000, at(n * 2000))).collect();
    for (pn, now) in &packets[..4] {
        log.on_packet(*now, *pn);
    }
    let (pn, now) = packets[4];
    let len = log.section(now, (pn, now), &mut room);
    let section = frame::ReceiveTimes::read(pn, &room[..len]).expect("readable");
    let told: Vec<_> = section.map(|(pn, _)| pn).collect();
    assert_eq!(told, [500_000, 400_000, 300_000, 200_000, 100_000]);
}

/// Packets arrive and leave each 10 ms, so many of a hundred that arrive are lost; answers how many of the
/// last hundred that left took an acknowledgement along, and how many were sent alone.
fn ridden(lost_percent: u64) -> (usize, usize) {
    let mut acks = AckPolicy::new(DELAY);
    let (mut ridden, mut alone) = (0, 0);
    for n in 0..600u64 {
        if n % 100 >= lost_percent {
            acks.on_packet(at(n * 10), n, true, None);
        }
        if acks.wants_ack_now(at(n * 10)) {
            alone += usize::from(n >= 500);
            write(&mut acks, at(n * 10), true).expect("an ACK");
        }
        let leaves = at(n * 10 + 9);
        assert!(acks.poll_timeout().is_none_or(|due| due > leaves), "late");
        if acks.rides(leaves) {
            ridden += usize::from(n >= 500);
            write(&mut acks, leaves, false).expect("an ACK");
        }
    }
    (ridden, alone)
}

#[test]
/// spec-test: ACK-17
fn where_little_is_missing_acknowledgements_wait_for_a_later_packet() {
    assert_eq!(ridden(0), (50, 0));
    let (rides, alone) = ridden(5);
    assert!(rides >= 90 && alone <= 2, "{rides} {alone}");
}

#[test]
/// spec-test: ACK-17
fn where_silence_is_watched_no_acknowledgement_waits_for_a_later_packet() {
    let mut acks = AckPolicy::new(DELAY);
    for n in 0..200u64 {
        acks.on_packet(at(n * 10), n, true, None);
        acks.rides(at(n * 10 + 9));
    }
    assert_eq!(acks.received(), 200);
    write(&mut acks, at(2000), false).expect("an ACK");
    for n in [200, 201] {
        acks.on_packet(at(2000), n, true, None);
    }
    assert!(!acks.wants_ack_now(at(2000)));
    acks.set_prompt(true);
    assert!(acks.wants_ack_now(at(2000)));
}

#[test]
/// spec-test: FEC-7
fn what_was_recovered_is_marked_until_it_comes() {
    let mut acks = AckPolicy::new(DELAY);
    for n in 0..4 {
        acks.on_packet(at(n), n, true, None);
    }
    acks.on_recovered(2);
    assert!(acks.is_recovered(2) && !acks.is_recovered(3));
    acks.on_late(2, Some(Ecn::Ce));
    assert!(!acks.is_recovered(2));
    let counts = EcnCounts { ect0: 0, ect1: 0, ce: 1 };
    assert_eq!(write(&mut acks, at(9), true).and_then(|ack| ack.ecn), Some(counts));
}

#[test]
/// spec-test: ACK-7, ACK-12
fn a_gap_counts_from_its_lowest_number_and_until_it_is_filled() {
    let patient = || {
        let mut acks = AckPolicy::new(DELAY);
        acks.set_frequency(&wish(0, 100, 25_000, 3)).unwrap();
        acks
    };
    let told = |acks: &mut AckPolicy, numbers: &[u64]| -> Vec<bool> {
        let told = numbers.iter().map(|pn| {
            acks.on_packet(at(0), *pn, true, None);
            acks.wants_ack_now(at(0))
        });
        told.collect()
    };
    assert_eq!(told(&mut patient(), &[0, 1, 2, 3, 4, 5]), [false; 6]);
    assert_eq!(told(&mut patient(), &[0, 2, 3, 4]), [false, false, false, true]);
    let mut acks = patient();
    assert_eq!(told(&mut acks, &[0, 2, 3, 1]), [false, false, false, true], "late");
    write(&mut acks, at(0), true).expect("an ACK");
    assert_eq!(told(&mut acks, &[4, 5, 6]), [false; 3], "the gap is filled");
    let mut acks = AckPolicy::new(DELAY);
    acks.set_frequency(&wish(0, 100, 25_000, 0)).unwrap();
    assert_eq!(told(&mut acks, &[0, 9, 3]), [false; 3], "who does not care for order is not told");
    // Without anything that asks for one, nobody can ask for one.
    let mut acks = patient();
    acks.ask_now();
    assert!(!acks.wants_ack_now(at(0)));
}

#[test]
/// spec-test: ACK-12, ACK-13
fn only_the_usual_wish_leaves_room_for_fewer_acknowledgements() {
    let adapts = |threshold, reordering| {
        let mut acks = AckPolicy::new(DELAY);
        acks.set_frequency(&wish(0, threshold, 25_000, reordering)).unwrap();
        acks.frequency.adapts
    };
    assert!(adapts(1, 1) && !adapts(2, 1) && !adapts(1, 2) && !adapts(0, 0));
}

/// What another path's packet with so much room says of this path, and whether it is due elsewhere after that.
fn elsewhere(acks: &mut AckPolicy, room: usize, closed: bool) -> (Vec<&'static str>, bool) {
    let mut room = vec![0u8; room];
    let mut tokens = Vec::new();
    let mut packet = PacketBuilder::new(&mut room, &mut tokens, true);
    if closed {
        packet.set_shape(Shape::Ack);
    }
    acks.write_elsewhere(at(0), &mut packet);
    let built = packet.finish();
    if built.len == 0 {
        return (Vec::new(), acks.wants_ack_elsewhere(at(0)));
    }
    let frames = jsp_wire::Payload::read(built.shape, &room[..built.len]).expect("readable");
    let name = |frame| match frame {
        Ok(Frame::AboutPath(PathId(3))) => "about path 3",
        Ok(Frame::Ack(_)) => "ack",
        _ => "something else",
    };
    (frames.map(name).collect(), acks.wants_ack_elsewhere(at(0)))
}

#[test]
/// spec-test: PTH-9, PTH-19
fn another_path_tells_what_this_one_still_owes() {
    let mut acks = AckPolicy::new(DELAY).of(PathId(3));
    assert_eq!(elsewhere(&mut acks, 1200, false), (vec![], false), "nothing to tell");
    acks.on_packet(at(0), 0, true, None);
    acks.on_packet(at(0), 1, true, None);
    assert!(acks.wants_ack_elsewhere(at(0)));
    assert_eq!(elsewhere(&mut acks, ABOUT_ROOM_MIN - 1, false), (vec![], true), "no room");
    assert_eq!(elsewhere(&mut acks, 1200, true), (vec![], true), "no frame fits behind a shape");
    let both = vec!["about path 3", "ack"];
    assert_eq!(elsewhere(&mut acks, ABOUT_ROOM_MIN, false), (both.clone(), false));
    // By its own path it is due as before.
    assert!(acks.wants_ack_now(at(0)) && acks.has_news());
    assert_eq!(write(&mut acks, at(0), true).map(|ack| ack.ranges), Some(vec![(0, 1)]));
    assert!(!acks.wants_ack_now(at(0)));
    assert_eq!(elsewhere(&mut acks, 1200, false), (vec![], false), "it is all told");
    acks.on_packet(at(0), 2, true, Some(Ecn::Ce));
    assert_eq!(elsewhere(&mut acks, 1200, false), (both, false));
}

#[test]
fn receive_times_are_told_once_both_sides_know_them() {
    let mut acks = AckPolicy::new(DELAY);
    assert!(!acks.tells_times());
    acks.tell_times();
    assert!(acks.tells_times());
}

#[test]
fn what_is_not_packed_is_taken_out_and_put_back() {
    let mut acks = AckPolicy::new(DELAY);
    acks.tell_times();
    acks.on_packet(at(1), 1, true, None);
    acks.on_recovered(1);
    let apart = acks.take_apart();
    assert!(acks.times.is_none() && !acks.is_recovered(1));
    acks.put_back(apart);
    assert!(acks.times.is_some() && acks.is_recovered(1));
}

#[test]
// spec-test: ACK-13
fn large_packets_of_a_fast_stream_are_acknowledged_more_often() {
    let threshold = |len| {
        let mut acks = AckPolicy::new(DELAY);
        for pn in 0..5_000u64 {
            acks.on_packet(Instant::from_nanos(1 + pn * 10_000), pn, true, None);
            acks.on_bytes(len);
        }
        acks.threshold()
    };
    assert_eq!((threshold(1_200), threshold(65_507)), (44, 1));
}

#[test]
fn the_room_for_an_ack_holds_the_longest_sections() {
    // A stamp and four pairs; the recovered numbers, two bytes each.
    assert_eq!((SECTION_LEN_MAX, RECOVERED_LEN_MAX), (50, 2 * limits::RECOVERED_NUMBERS_MAX));
    assert_eq!(ABOUT_ROOM_MIN, 80 + 50 + 2 * limits::RECOVERED_NUMBERS_MAX);
}
