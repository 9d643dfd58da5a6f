//! When a packet is lost: gaps, the reordering window, and persistent congestion.

use super::*;

#[test]
/// spec-test: REC-5, REC-6
fn without_reordering_a_gap_is_a_loss_at_once() {
    let mut bench = Bench::warm();
    // All at one instant: the number decides what left first.
    let sent: Vec<u64> = (0..4).map(|_| bench.send(at(200))).collect();
    let outcome = bench.ack(at(300), &[(sent[1], sent[1])]);
    assert_eq!(outcome.lost.packets, 1);
    assert_eq!(outcome.lost.bytes_lost, 1200);
    assert_eq!(outcome.lost.largest_lost_sent_at, Some(at(200)));
    assert_eq!(bench.with(Fate::Lost), [sent[0]]);
    // Those behind it are not lost: they may be on their way.
    assert_eq!(bench.recovery.bytes_in_flight(), 2400);
    assert_eq!(bench.timer().map(|(_, kind)| kind), Some(TimerKind::Probe));
}

#[test]
/// spec-test: REC-7, REC-9
fn once_reordering_is_seen_a_gap_stays_open_for_a_quarter_of_the_round_trip() {
    let mut bench = Bench::warm();
    let (a, b) = (bench.send(at(200)), bench.send(at(200)));
    assert_eq!(bench.ack(at(300), &[(b, b)]).lost.packets, 1);
    // The first was only late: by no time at all, so the window is at its least.
    let late = bench.ack(at(301), &[(a, b)]);
    assert_eq!((late.spurious, late.bytes_acked), (1, 0));
    let (c, d) = (bench.send(at(400)), bench.send(at(400)));
    let outcome = bench.ack(at(500), &[(d, d)]);
    assert_eq!(outcome.lost, LossOutcome::default());
    assert_eq!(bench.timer(), Some((at(525), TimerKind::Loss)));
    assert_eq!(bench.timeout(at(524)), TimeoutOutcome::default());
    let lost = bench.timeout(at(525)).lost;
    assert_eq!((lost.packets, bench.with(Fate::Lost)), (1, vec![a, c]));
    assert_eq!(bench.timer(), None);
}

#[test]
/// spec-test: REC-7
fn a_packet_inside_the_window_is_not_lost() {
    let mut bench = Bench::warm();
    bench.recovery.reorder.on_reordered(at(0));
    let (a, b) = (bench.send(at(200)), bench.send(at(200)));
    assert_eq!(bench.ack(at(300), &[(b, b)]).lost.packets, 0);
    let outcome = bench.ack(at(324), &[(a, b)]);
    assert_eq!((outcome.lost.packets, outcome.spurious, outcome.bytes_acked), (0, 0, 1200));
    assert_eq!(bench.timer(), None);
}

#[test]
/// spec-test: REC-8
fn the_window_widens_to_what_would_have_sufficed_and_narrows_slowly() {
    let mut bench = Bench::warm();
    let (a, b) = (bench.send(at(200)), bench.send(at(200)));
    bench.ack(at(300), &[(b, b)]);
    // 60 ms late: three quarters of 100 ms.
    bench.ack(at(360), &[(a, b)]);
    assert_eq!(bench.recovery.reorder.width(&bench.rtt), ms(75));
    // The window never exceeds the smoothed round-trip time.
    let (c, d) = (bench.send(at(400)), bench.send(at(400)));
    bench.ack(at(500), &[(d, d)]);
    bench.timeout(at(575));
    assert_eq!(bench.ack(at(900), &[(c, d)]).spurious, 1);
    assert_eq!(bench.recovery.reorder.width(&bench.rtt), bench.rtt.smoothed());
    let wide = bench.recovery.reorder.width(&bench.rtt);
    // 32 loss episodes without a spurious one halve it twice.
    let mut now = 2000;
    for _ in 0..33 {
        let (_, second) = (bench.send(at(now)), bench.send(at(now)));
        bench.ack(at(now + 100), &[(second, second)]);
        bench.timeout(at(now + 300));
        now += 1000;
    }
    assert!(bench.recovery.reorder.width(&bench.rtt) < wide);
}

#[test]
/// spec-test: REC-7
fn the_window_is_no_finer_than_timers() {
    let mut rtt = Rtt::new(ms(333));
    rtt.update(at(0), Duration::from_micros(200), Duration::ZERO);
    let mut window = ReorderWindow::new();
    assert_eq!(window.width(&rtt), Duration::ZERO);
    window.on_reordered(at(0));
    assert_eq!(window.width(&rtt), ms(1));
}

#[test]
/// spec-test: REC-9
fn lost_packets_are_understood_for_three_probe_timeouts() {
    for (wait, spurious) in [(2, 1), (4, 0)] {
        let mut bench = Bench::warm();
        let (a, b) = (bench.send(at(200)), bench.send(at(200)));
        bench.ack(at(300), &[(b, b)]);
        let pto = bench.rtt.pto_base(DELAY_MAX);
        let later = at(300) + pto * wait;
        let c = bench.send(later - ms(100));
        bench.ack(later, &[(b, c)]);
        let outcome = bench.ack(later, &[(a, c)]);
        assert_eq!(outcome.spurious, spurious, "{wait}");
        assert_eq!(bench.with(Fate::Lost), [a]);
        assert!(!bench.with(Fate::Acked).contains(&a));
        assert_eq!(bench.with(Fate::Late).contains(&a), spurious == 1);
        assert_eq!(bench.recovery.bytes_in_flight(), 0);
    }
}

#[test]
/// spec-test: REC-15
fn nothing_but_loss_for_three_probe_timeouts_is_persistent_congestion() {
    // With the sample that the last ACK brings: 3 * (100 + 4 * 37.5 + 25).
    let duration = ms(825);
    // (how long the losses stretch beyond the duration, an ACK between, the verdict)
    for (beyond, between, verdict) in [(10, false, true), (0, false, false), (10, true, false)] {
        let mut bench = Bench::warm();
        let first = bench.send(at(200));
        let middle = bench.send(at(300));
        let last = bench.send(at(200) + duration + ms(beyond));
        let end = bench.send(at(5000));
        let mut lost = LossOutcome::default();
        if between {
            lost = bench.ack(at(4000), &[(middle, middle)]).lost;
            assert_eq!(lost.packets, 1);
        }
        // The time of the middle packet's ACK changes the estimate: the stretch is broken anyway.
        let outcome = bench.ack(at(5100), &[(end, end)]);
        lost.packets += outcome.lost.packets;
        assert_eq!(lost.packets, if between { 2 } else { 3 });
        assert_eq!(outcome.lost.persistent_congestion, verdict, "{beyond} {between}");
        assert!(first < last);
        if verdict {
            // What the path's minimum was before is forgotten with the next sample.
            let pn = bench.send(at(6000));
            bench.ack(at(6400), &[(pn, pn)]);
            assert_eq!(bench.rtt.min(), ms(400));
        }
    }
}

#[test]
/// spec-test: REC-15
fn losses_before_the_first_sample_are_not_persistent_congestion() {
    let mut bench = Bench::new();
    for n in 0..100 {
        bench.send(at(n * 100));
    }
    let pn = bench.send(at(20_000));
    let outcome = bench.ack(at(20_050), &[(pn, pn)]);
    assert_eq!(outcome.lost.packets, 100);
    assert!(!outcome.lost.persistent_congestion);
}

#[test]
/// spec-test: MTU-4
fn a_lost_mtu_probe_is_no_sign_of_congestion() {
    let mut bench = Bench::warm();
    let probe = SentInfo { is_mtu_probe: true, size: 1452, ..bench.info() };
    bench.send_as(at(200), probe);
    let next = bench.send(at(200));
    assert_eq!(bench.recovery.bytes_in_flight(), 2652);
    let lost = bench.ack(at(300), &[(next, next)]).lost;
    assert_eq!(lost, LossOutcome { lost_mtu_probe: Some(1452), ..LossOutcome::default() });
    let probe = SentInfo { is_mtu_probe: true, size: 1400, ..bench.info() };
    let probe = bench.send_as(at(400), probe);
    let outcome = bench.ack(at(500), &[(probe, probe)]);
    assert_eq!((outcome.acked_mtu_probe, outcome.largest_acked_size), (Some(1400), 0));
    assert_eq!(bench.recovery.bytes_in_flight(), 0);
}
