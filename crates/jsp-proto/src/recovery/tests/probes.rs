//! Probe timeouts: when they are due, how they back off, and what a probe carries.

use super::*;

#[test]
/// spec-test: REC-12, REC-13, REC-14
fn probe_timeouts_back_off_and_an_ack_ends_that() {
    let mut bench = Bench::warm();
    assert_eq!(bench.timer(), None, "nothing is waited for");
    bench.send(at(200));
    let pto = bench.rtt.pto_base(DELAY_MAX);
    assert_eq!(pto, ms(100 + 4 * 50 + 25));
    let mut due = at(200) + pto;
    assert_eq!(bench.timer(), Some((due, TimerKind::Probe)));
    assert_eq!(bench.timeout(due - Duration::from_nanos(1)).probes, 0);
    for (round, probes) in [1, 2, 2, 2].into_iter().enumerate() {
        let outcome = bench.timeout(due);
        assert_eq!((outcome.probes, outcome.lost.packets), (probes, 0));
        assert_eq!(bench.recovery.pto_count(), round as u32 + 1);
        let next = bench.timer().expect("the next one").0;
        assert_eq!(next - due, pto * (2 << round));
        due = next;
    }
    bench.ack(due, &[(1, 1)]);
    assert_eq!(bench.recovery.pto_count(), 0);
    bench.send(due);
    assert_eq!(bench.timer(), Some((due + bench.rtt.pto_base(DELAY_MAX), TimerKind::Probe)));
}

#[test]
/// spec-test: REC-37
fn what_need_not_go_again_puts_off_no_probe() {
    let mut bench = Bench::warm();
    bench.send(at(200));
    let pto = bench.rtt.pto_base(DELAY_MAX);
    for token in [None, Some(Token::PathChallenge), Some(Token::MtuProbe { size: 1400 })] {
        let info = bench.info();
        let Bench { recovery, delivery, .. } = &mut bench;
        recovery.on_sent(at(300), info, token.as_slice(), false, delivery).expect("no overload");
        bench.next_pn += 1;
        assert_eq!(bench.timer(), Some((at(200) + pto, TimerKind::Probe)));
    }
    bench.send(at(400));
    assert_eq!(bench.timer(), Some((at(400) + pto, TimerKind::Probe)));
}

#[test]
/// spec-test: REC-13
fn back_off_ends_at_a_minute() {
    let mut bench = Bench::warm();
    bench.send(at(200));
    for _ in 0..100 {
        let due = bench.timer().expect("always").0;
        bench.timeout(due);
    }
    let (due, _) = bench.timer().expect("always");
    let before = bench.recovery.eliciting_sent_at.expect("sent");
    assert_eq!(due - before, PTO_MAX);
    bench.recovery.reset_backoff();
    assert_eq!(bench.timer().expect("always").0 - before, bench.rtt.pto_base(DELAY_MAX));
}

#[test]
/// spec-test: REC-12
fn a_client_probes_with_nothing_in_flight_until_the_server_knows_its_address() {
    let mut bench = Bench::warm();
    bench.recovery.set_deadlock_guard(true);
    let due = at(0) + bench.rtt.pto_base(DELAY_MAX);
    assert_eq!(bench.timer(), Some((due, TimerKind::Probe)));
    bench.timeout(due);
    let pn = bench.send(due);
    bench.ack(due + ms(100), &[(pn, pn)]);
    assert_eq!(bench.recovery.pto_count(), 1, "the server may still be without budget");
    bench.recovery.set_deadlock_guard(false);
    assert_eq!(bench.timer(), None);
    bench.send(at(5000));
    let Bench { recovery, rtt, .. } = &bench;
    assert_eq!(recovery.poll_timeout(rtt, DELAY_MAX, false), None);
}

#[test]
/// spec-test: REC-16
fn a_probe_carries_what_is_oldest_and_the_original_still_counts() {
    let mut bench = Bench::warm();
    let (a, b) = (bench.send(at(200)), bench.send(at(210)));
    let due = bench.timer().expect("waiting").0;
    assert_eq!(bench.timeout(due).probes, 1);
    let mut tokens = Vec::new();
    assert!(bench.recovery.probe_tokens(&mut tokens));
    assert_eq!(tokens, [Token::NewConnectionId { sequence: a }]);
    assert_eq!(bench.recovery.bytes_in_flight(), 2400, "not declared lost");
    // The next probe takes the next.
    assert!(bench.recovery.probe_tokens(&mut tokens));
    assert_eq!(tokens.last(), Some(&Token::NewConnectionId { sequence: b }));
    assert!(!bench.recovery.probe_tokens(&mut tokens));
    // The second arrives, and so the first is lost: the fate of the second comes first.
    let outcome = bench.ack(due + ms(50), &[(b, b)]);
    assert_eq!((outcome.lost.packets, outcome.bytes_acked), (1, 1200));
    assert_eq!(bench.with(Fate::Acked), [b]);
    assert_eq!(bench.with(Fate::Lost), [a]);
    assert_eq!(bench.fates.last(), Some(&(Token::NewConnectionId { sequence: a }, Fate::Lost)));
    // And a late acknowledgement of the original is told.
    assert_eq!(bench.ack(due + ms(60), &[(a, b)]).spurious, 1);
    assert_eq!((bench.with(Fate::Acked), bench.with(Fate::Late)), (vec![b], vec![a]));
}
