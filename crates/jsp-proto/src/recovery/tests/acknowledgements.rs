//! What an acknowledgement settles, measures and may not claim.

use super::*;

#[test]
/// spec-test: REC-4
fn flight_is_what_left_and_has_no_fate() {
    let mut bench = Bench::warm();
    bench.send(at(200));
    let quiet = SentInfo { ack_eliciting: false, in_flight: false, size: 50, ..bench.info() };
    bench.send_as(at(200), quiet);
    assert_eq!(bench.recovery.bytes_in_flight(), 1200);
    assert!(bench.recovery.has_ack_eliciting_in_flight());
    assert_eq!(bench.recovery.largest_sent(), Some(2));
    let outcome = bench.ack(at(300), &[(0, 2)]);
    assert_eq!((outcome.bytes_acked, outcome.largest_acked_size), (1200, 1200));
    assert_eq!(bench.recovery.bytes_in_flight(), 0);
    assert!(!bench.recovery.has_ack_eliciting_in_flight());
    assert_eq!(bench.with(Fate::Acked), [1, 2]);
    assert_eq!(bench.recovery.largest_acked(), Some(2));
    // The same once more brings nothing.
    let again = bench.ack(at(301), &[(0, 2)]);
    assert_eq!(again, AckOutcome::default());
}

#[test]
fn a_silence_begins_with_the_last_acknowledgement() {
    let mut bench = Bench::warm();
    assert_eq!(bench.recovery.silent_since(), None);
    (0..4).for_each(|n| _ = bench.send(at(200 + n)));
    assert_eq!(bench.recovery.silent_since(), Some(at(200)));
    bench.ack(at(6000), &[(0, 1)]);
    assert_eq!(bench.recovery.silent_since(), Some(at(6000)));
    // The same once more is no sign of life, and what a path left behind does not count where it is now.
    bench.ack(at(7000), &[(0, 1)]);
    assert_eq!(bench.recovery.silent_since(), Some(at(6000)));
    bench.recovery.on_moved(at(8000));
    assert_eq!(bench.recovery.silent_since(), Some(at(8000)));
    bench.ack(at(9000), &[(0, 4)]);
    assert_eq!(bench.recovery.silent_since(), None);
}

#[test]
/// spec-test: REC-1
fn a_sample_needs_the_largest_number_to_be_news_and_an_eliciting_packet_among_it() {
    let mut bench = Bench::warm();
    assert_eq!(bench.rtt.smoothed(), ms(100));
    let (first, second) = (bench.send(at(200)), bench.send(at(210)));
    let outcome = bench.try_ack(at(330), ms(20), &[(second, second)]).expect("a true ACK");
    assert_eq!(outcome.rtt_sample, Some(ms(120)));
    assert_eq!(bench.rtt.adjusted(), ms(100));
    // An older packet says nothing of the round trip now.
    assert_eq!(bench.ack(at(400), &[(first, second)]).rtt_sample, None);
    let quiet = SentInfo { ack_eliciting: false, in_flight: false, ..bench.info() };
    let quiet = bench.send_as(at(500), quiet);
    assert_eq!(bench.ack(at(900), &[(quiet, quiet)]).rtt_sample, None);
}

#[test]
/// spec-test: REC-2
fn a_delay_beyond_what_the_peer_promised_is_cut() {
    let mut bench = Bench::warm();
    let pn = bench.send(at(200));
    bench.try_ack(at(400), ms(90), &[(pn, pn)]).expect("a true ACK");
    assert_eq!(bench.rtt.adjusted(), ms(175));
}

#[test]
/// spec-test: REC-10
fn an_ack_of_the_future_is_an_attack() {
    let mut bench = Bench::warm();
    let pn = bench.send(at(200));
    let error = bench.try_ack(at(300), ms(0), &[(0, pn + 1)]).expect_err("never sent");
    assert_eq!(error.code, CloseCode::ACK_OF_UNSENT);
    assert_eq!(bench.recovery.bytes_in_flight(), 1200, "nothing has changed");
    assert!(bench.fates.is_empty());
    let mut fresh = Bench::new();
    assert!(fresh.try_ack(at(0), ms(0), &[(0, 0)]).is_err());
}

#[test]
/// spec-test: REC-11
fn an_ack_of_a_number_left_out_is_an_attack_even_when_all_around_it_is_settled() {
    let mut bench = Bench::warm();
    let skipped = bench.next_pn;
    bench.next_pn += 1;
    let after = bench.send(at(200));
    assert_eq!(after, skipped + 1);
    bench.ack(at(300), &[(0, skipped - 1), (after, after)]);
    assert_eq!(bench.recovery.bytes_in_flight(), 0);
    for _ in 0..10 {
        bench.send(at(400));
    }
    let error = bench.try_ack(at(500), ms(0), &[(skipped - 1, after + 2)]).expect_err("left out");
    assert_eq!(error.code, CloseCode::ACK_OF_UNSENT);
    let outcome = bench.ack(at(500), &[(after, after + 10)]);
    assert_eq!(outcome.bytes_acked, 12_000);
}

/// spec-test: REC-17
#[test]
fn acknowledgements_measure_the_delivery_rate() {
    let mut bench = Bench::warm();
    let mut sample = None;
    for n in 0..300u64 {
        bench.send(at(1000 + n));
        if n >= 100 {
            sample = bench.ack(at(1000 + n), &[(0, 1 + n - 100)]).rate_sample.or(sample);
        }
    }
    let rate = sample.expect("a sample").rate;
    assert!((1_150_000..=1_250_000).contains(&rate), "{rate}");
}

#[test]
/// spec-test: ACK-15
fn receive_times_count_once_and_only_for_what_the_same_ack_settles() {
    let mut bench = Bench::new();
    bench.recovery.take_times();
    for n in 0..4 {
        bench.send(at(n));
    }
    let mut ack = |now, low: u64, high: u64, section: &[u8]| {
        let mut buf = [0u8; 100];
        let mut writer = Writer::new(&mut buf);
        let ranges = [(low, high)].into_iter();
        frame::write_ack(&mut writer, true, 0, ranges, None, section, &[]).expect("room");
        let Ok(Frame::Ack(ack)) = Frame::read(&mut jsp_wire::Reader::new(writer.written())) else {
            panic!("an ACK")
        };
        let Bench { recovery, rtt, delivery, fates, .. } = &mut bench;
        let outcome = recovery.on_ack(now, &ack, DELAY_MAX, rtt, delivery, fates)?;
        Ok(outcome.arrivals.in_order().map(|arrival| (arrival.sent_at, arrival.stamp)).collect())
    };
    let none: Result<Vec<_>, TransportError> = Ok(Vec::new());
    // Packets 2 and 0; 0 is not acknowledged.
    assert_eq!(ack(at(50), 1, 2, &[1, 0, 1, 2]), Ok(vec![(at(2), 256)]));
    // Again, and nothing is new.
    assert_eq!(ack(at(51), 1, 2, &[1, 0]), none);
    let error: Result<Vec<(Instant, u16)>, TransportError> = ack(at(52), 1, 3, &[1]);
    assert_eq!(error.map_err(|error| error.code), Err(CloseCode::FRAME_ENCODING));
    assert_eq!(ack(at(53), 0, 3, &[1, 4, 2, 4]), Ok(vec![(at(0), 256), (at(3), 260)]));
}
