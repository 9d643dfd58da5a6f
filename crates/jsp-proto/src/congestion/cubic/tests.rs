//! CUBIC against the figures of RFC 9438.

use super::*;

const MTU: usize = 1200;
const RTT: Duration = Duration::from_millis(100);

fn at(ms: u64) -> Instant {
    Instant::from_nanos(ms * 1_000_000)
}

fn rtt_of(rtt: Duration) -> Rtt {
    let mut value = Rtt::new(rtt);
    value.update(Instant::ZERO, rtt, Duration::ZERO);
    value
}

fn ack(bytes_acked: u64, in_flight: u64, largest_sent_at: Instant) -> AckSample {
    AckSample {
        bytes_acked,
        in_flight,
        largest_sent_at,
        has_losses: false,
        has_rtt_sample: true,
        app_limited: false,
        queue_delay: None,
        rate: None,
        packets_acked: 1,
    }
}

fn loss(sent_at: Instant, packets: u32, prior_in_flight: u64) -> LossSample {
    let bytes_lost = u64::from(packets) * MTU as u64;
    LossSample { bytes_lost, packets, largest_lost_sent_at: sent_at, prior_in_flight }
}

/// A controller in congestion avoidance whose window was `packets` before one loss at time zero,
/// past its recovery.
fn after_loss(packets: u64, rtt: &Rtt) -> Cubic {
    let mut cubic = Cubic::new(MTU);
    cubic.window = (packets * MTU as u64) as f64;
    cubic.threshold = cubic.window;
    cubic.on_loss(at(0), &loss(Instant::ZERO, 1, packets * MTU as u64));
    cubic.on_ack(at(1), &ack(0, 0, at(1)), rtt);
    cubic
}

/// Acknowledges one window each round trip from `from` to `to`.
fn climb(cubic: &mut Cubic, rtt: &Rtt, from: u64, to: u64) {
    let step = rtt.smoothed().as_millis() as u64;
    let mut now = from;
    while now + step <= to {
        now += step;
        // In a hundred ACKs, spread over the round trip.
        for n in 0..100 {
            let bytes = cubic.window() / 100;
            let time = at(now - step) + rtt.smoothed() * n / 100;
            cubic.on_ack(time, &ack(bytes, cubic.window(), time), rtt);
        }
    }
}

#[test]
/// spec-test: CC-5
fn k_and_the_curve_are_those_of_the_specification() {
    // RFC 9438, section 4.2: W_max 100 packets, down to 70: K = cbrt(30 / 0.4).
    assert!((k(100.0, 70.0) - 4.217).abs() < 0.001);
    let seconds = Duration::from_secs_f64;
    assert!((curve(seconds(0.0), k(100.0, 70.0), 100.0) - 70.0).abs() < 1e-6);
    assert!((curve(seconds(4.217), k(100.0, 70.0), 100.0) - 100.0).abs() < 1e-3);
    // Two seconds beyond K: 0.4 * 2^3 packets more.
    assert!((curve(seconds(6.217), k(100.0, 70.0), 100.0) - 103.2).abs() < 1e-2);
    assert!((ALPHA - 0.529).abs() < 0.001);
}

#[test]
/// spec-test: CC-5
fn the_window_follows_the_curve_back_to_where_it_was() {
    let rtt = rtt_of(RTT);
    let mut cubic = after_loss(1000, &rtt);
    assert_eq!(cubic.window(), 700 * MTU as u64);
    // K = cbrt(300 / 0.4) = 9.086 s.
    climb(&mut cubic, &rtt, 0, 4500);
    let half_way = cubic.window() / MTU as u64;
    let expected = 1000.0 + C * (4.5f64 - 9.086).powi(3);
    assert!((half_way as f64 - expected).abs() < 12.0, "{half_way} instead of {expected}");
    climb(&mut cubic, &rtt, 4500, 9100);
    let back = cubic.window() / MTU as u64;
    assert!((990..=1003).contains(&back), "{back}");
}

#[test]
/// spec-test: CC-6
fn on_short_round_trips_it_is_as_fast_as_reno() {
    // 20 packets at 10 ms: the curve needs 2.5 s, Reno with alpha 0.53 gets there in 113 rounds.
    let rtt = rtt_of(Duration::from_millis(10));
    let mut cubic = after_loss(20, &rtt);
    climb(&mut cubic, &rtt, 0, 500);
    let packets = cubic.window / MTU as f64;
    let reno_friendly = 14.0 + ALPHA * 50.0;
    assert!(packets > 20.0, "{packets}");
    // Beyond the old window it adds a whole packet in a round trip.
    assert!(packets < reno_friendly + 25.0, "{packets} against {reno_friendly}");
    assert!(packets >= 20.0 + (50.0 - 6.0 / ALPHA) * 0.9, "{packets}");
}

#[test]
/// spec-test: CC-7
fn one_reduction_for_all_losses_of_a_round_trip() {
    let rtt = rtt_of(RTT);
    let mut cubic = Cubic::new(MTU);
    cubic.window = 100.0 * MTU as f64;
    cubic.on_loss(at(100), &loss(at(0), 1, 100 * MTU as u64));
    cubic.on_loss(at(110), &loss(at(50), 5, 99 * MTU as u64));
    cubic.on_ecn_ce(at(120), at(100), 94 * MTU as u64);
    cubic.on_ack(at(201), &ack(0, 0, at(101)), &rtt);
    assert_eq!(cubic.window(), 70 * MTU as u64);
    // A packet that left after the reduction: another one.
    cubic.on_ecn_ce(at(300), at(150), 70 * MTU as u64);
    cubic.on_ack(at(401), &ack(0, 0, at(301)), &rtt);
    assert!(cubic.window().abs_diff(49 * MTU as u64) <= 1);
    // Fast convergence: 70 were less than the 100 before.
    assert!((cubic.window_max / MTU as f64 - 59.5).abs() < 0.01);
}

#[test]
/// spec-test: CC-2
fn the_window_never_falls_below_two_packets() {
    let mut cubic = Cubic::new(MTU);
    for n in 1..50u64 {
        cubic.on_loss(at(n * 10), &loss(at(n * 10 - 1), 1, 2 * MTU as u64));
        assert!(cubic.window() >= 2 * MTU as u64);
    }
    cubic.on_persistent_congestion();
    assert_eq!(cubic.window(), 2 * MTU as u64);
}

#[test]
/// spec-test: CC-3
fn slow_start_doubles_until_the_round_trip_time_rises() {
    let mut rtt = rtt_of(RTT);
    let mut cubic = Cubic::new(MTU);
    let mut windows = vec![cubic.window()];
    for round in 0..12u64 {
        // From the sixth round on, a queue builds up.
        let ms = if round < 6 { 100 } else { 100 + (round - 5) * 20 };
        let window = cubic.window();
        for n in 0..10 {
            let sent_at = at(round * 1000 + n);
            let now = sent_at + Duration::from_millis(ms);
            rtt.update(now, Duration::from_millis(ms), Duration::ZERO);
            cubic.on_ack(now, &ack(window / 10, window, sent_at), &rtt);
        }
        windows.push(cubic.window());
    }
    for pair in windows.windows(2).take(6) {
        assert!(pair[1] >= pair[0] * 2 - 10, "{windows:?}");
    }
    assert!(!cubic.is_slow_start());
    // Doubling would have made it 64 times as much.
    assert!(windows[12] < windows[6] * 5, "{windows:?}");
}

#[test]
/// spec-test: CC-8
fn a_window_that_is_not_used_does_not_grow() {
    let rtt = rtt_of(RTT);
    let mut cubic = after_loss(100, &rtt);
    climb(&mut cubic, &rtt, 0, 1000);
    let used = cubic.window();
    // Ten seconds of an application that sends a packet now and then.
    for n in 0..100u64 {
        let now = at(1000 + n * 100);
        cubic.on_sent(MTU as u64, MTU as u64);
        let sample = AckSample { app_limited: true, ..ack(MTU as u64, 0, now) };
        cubic.on_ack(now, &sample, &rtt);
    }
    assert!(cubic.window() <= used + 2 * MTU as u64, "{} {used}", cubic.window());
    // The curve goes on from where it was, not from ten seconds later.
    cubic.on_ack(at(11_000), &ack(MTU as u64, used, at(10_999)), &rtt);
    assert!(cubic.window() < used + 3 * MTU as u64);
}

#[test]
/// spec-test: CC-8
fn a_first_flight_that_fills_the_window_grows_it_even_if_the_application_was_quiet_before() {
    let rtt = rtt_of(RTT);
    let mut cubic = Cubic::new(MTU);
    let window = cubic.window();
    cubic.on_sent(window, window);
    let sample = AckSample { app_limited: true, ..ack(window, 0, at(0)) };
    cubic.on_ack(at(100), &sample, &rtt);
    assert_eq!(cubic.window(), 2 * window);
}

#[test]
/// spec-test: CC-9
fn in_recovery_the_window_comes_down_in_proportion() {
    let rtt = rtt_of(RTT);
    let mut cubic = Cubic::new(MTU);
    let mtu = MTU as u64;
    cubic.window = (100 * mtu) as f64;
    cubic.on_loss(at(100), &loss(at(0), 1, 100 * mtu));
    // One packet may leave at once, not thirty fewer than before.
    assert_eq!(cubic.window(), 100 * mtu);
    let mut in_flight = 99 * mtu;
    let mut sent = 0;
    for n in 0..98u64 {
        in_flight -= mtu;
        cubic.on_ack(at(100 + n), &ack(mtu, in_flight, at(n)), &rtt);
        while in_flight + mtu <= cubic.window() {
            cubic.on_sent(mtu, in_flight + mtu);
            in_flight += mtu;
            sent += 1;
        }
    }
    assert!((67..=70).contains(&sent), "{sent}");
    cubic.on_ack(at(200), &ack(mtu, in_flight, at(101)), &rtt);
    assert!((70 * mtu..71 * mtu).contains(&cubic.window()));
}

#[test]
/// spec-test: CC-11
fn a_reduction_is_undone_when_every_loss_was_spurious() {
    let rtt = rtt_of(RTT);
    let mut cubic = after_loss(100, &rtt);
    climb(&mut cubic, &rtt, 0, 1000);
    let before = cubic.window();
    let now = at(2000);
    cubic.on_loss(now, &loss(at(1990), 2, before));
    cubic.on_loss(now, &loss(at(1991), 1, before));
    cubic.on_spurious_loss(2);
    assert!(cubic.window() < before, "one is still missing");
    cubic.on_ack(at(2101), &ack(0, 0, at(2001)), &rtt);
    cubic.on_spurious_loss(1);
    assert_eq!(cubic.window(), before);
    assert!(cubic.epoch.is_some());
    // What has been undone cannot be undone again.
    cubic.on_spurious_loss(1);
    assert_eq!(cubic.window(), before);
}

#[test]
/// spec-test: CC-11
fn the_networks_own_mark_is_not_undone() {
    let rtt = rtt_of(RTT);
    let mut cubic = Cubic::new(MTU);
    cubic.window = 100.0 * MTU as f64;
    cubic.on_ecn_ce(at(100), at(50), 100 * MTU as u64);
    cubic.on_spurious_loss(1);
    cubic.on_ack(at(201), &ack(0, 0, at(101)), &rtt);
    assert_eq!(cubic.window(), 70 * MTU as u64);
}

#[test]
/// spec-test: CC-12
fn persistent_congestion_starts_over_up_to_the_old_threshold() {
    let rtt = rtt_of(RTT);
    let mut cubic = after_loss(100, &rtt);
    cubic.on_persistent_congestion();
    assert_eq!(cubic.window(), 2 * MTU as u64);
    assert!(cubic.is_slow_start());
    assert_eq!(cubic.threshold as u64, 70 * MTU as u64);
}

#[test]
/// spec-test: CC-10
fn pacing_leaves_room_to_grow() {
    let rtt = rtt_of(RTT);
    let mut cubic = Cubic::new(MTU);
    assert_eq!(cubic.pacing_rate(&rtt), 12_000 * 10 * 2);
    cubic.threshold = 0.0;
    assert_eq!(cubic.pacing_rate(&rtt), 12_000 * 10 * 5 / 4);
}
