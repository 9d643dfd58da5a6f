use super::super::bytes_in;
use super::*;
use crate::recovery::RateSample;

const MTU: u64 = 1200;
const RTT: Duration = Duration::from_millis(50);
const MS: Duration = Duration::from_millis(1);

/// A controller that hears one ACK each 10 ms.
struct Bench {
    bbr: Bbr,
    rtt: Rtt,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        let now = Instant::from_nanos(1_000_000_000);
        Self { bbr: Bbr::new(MTU as usize), rtt: Rtt::new(Duration::from_millis(333)), now }
    }

    /// An ACK of a packet that took `rtt`, while `rate` bytes a second were delivered.
    fn ack(&mut self, rtt: Duration, rate: u64, app_limited: bool) {
        self.now = self.now + 10 * MS;
        self.rtt.update(self.now, rtt, Duration::ZERO);
        let bytes = rate / 100;
        let rate = RateSample {
            rate,
            delivered: rate / 20,
            prior_delivered: 0,
            sent_in_flight: rate / 20,
            interval: RTT,
            app_limited,
        };
        let sample = AckSample {
            bytes_acked: bytes,
            in_flight: bytes_in(rate.rate, RTT).min(self.bbr.window()),
            largest_sent_at: self.now - rtt,
            has_losses: false,
            has_rtt_sample: true,
            app_limited,
            queue_delay: None,
            rate: Some(rate),
            packets_acked: 1,
        };
        self.bbr.on_ack(self.now, &sample, &self.rtt);
    }

    /// Up to a steady megabyte a second.
    fn steady() -> Self {
        let mut bench = Self::new();
        for _ in 0..100 {
            bench.ack(RTT, 1_000_000, false);
        }
        assert!(matches!(bench.bbr.phase, Phase::Cruise(_)), "{:?}", bench.bbr.phase);
        bench
    }

    fn lose(&mut self, packets: u32) {
        let sample = LossSample {
            bytes_lost: u64::from(packets) * MTU,
            packets,
            largest_lost_sent_at: self.now - RTT,
            prior_in_flight: 50_000,
        };
        self.bbr.on_loss(self.now, &sample);
    }
}

#[test]
/// spec-test: CC-13
fn startup_ends_when_the_rate_grows_no_more() {
    let mut bench = Bench::new();
    let mut rate = 100_000;
    for _ in 0..4 {
        (0..6).for_each(|_| bench.ack(RTT, rate, false));
        assert!(matches!(bench.bbr.phase, Phase::Startup), "{rate}");
        rate *= 2;
    }
    (0..30).for_each(|_| bench.ack(RTT, rate / 2, false));
    assert!(!matches!(bench.bbr.phase, Phase::Startup));
}

#[test]
/// spec-test: CC-13
fn startup_ends_as_soon_as_packets_wait() {
    let mut bench = Bench::new();
    (0..8).for_each(|_| bench.ack(RTT, 100_000, false));
    (0..3).for_each(|_| bench.ack(RTT + 10 * MS, 120_000, false));
    assert!(matches!(bench.bbr.phase, Phase::Startup));
    bench.ack(RTT + 10 * MS, 120_000, false);
    assert!(!matches!(bench.bbr.phase, Phase::Startup));
}

#[test]
fn startup_goes_on_while_the_application_is_quiet() {
    let mut bench = Bench::new();
    let before = bench.bbr.pacing_rate(&bench.rtt, Duration::ZERO);
    (0..500).for_each(|_| bench.ack(RTT, 10_000, true));
    assert!(matches!(bench.bbr.phase, Phase::Startup));
    assert!(bench.bbr.pacing_rate(&bench.rtt, Duration::ZERO) >= before);
    assert!(bench.bbr.window() >= window_initial(MTU as usize));
}

#[test]
/// spec-test: CC-14
fn the_steady_rate_is_the_bandwidth_less_a_margin_and_gives_way_to_a_queue() {
    let mut bench = Bench::steady();
    assert_eq!(bench.bbr.pacing_rate(&bench.rtt, Duration::ZERO), 990_000);
    (0..4).for_each(|_| bench.ack(RTT + 10 * MS, 1_000_000, false));
    let slower = bench.bbr.pacing_rate(&bench.rtt, Duration::ZERO);
    assert!((800_000..950_000).contains(&slower), "{slower}");
}

#[test]
/// spec-test: CC-50
fn a_probe_adds_nothing_to_a_queue_that_is_expected() {
    let mut bench = Bench::steady();
    bench.bbr.phase = Phase::Up(Up::new(bench.now, &bench.bbr.model, None));
    let rate = |queue| bench.bbr.pacing_rate(&bench.rtt, queue);
    assert!(rate(Duration::ZERO) > 1_100_000 && rate(4 * MS) == rate(Duration::ZERO));
    assert_eq!(rate(5 * MS), 990_000);
}

#[test]
/// spec-test: CC-15
fn a_quiet_application_makes_the_path_no_slower_but_may_make_it_faster() {
    let mut bench = Bench::steady();
    (0..2000).for_each(|_| bench.ack(RTT, 10_000, true));
    assert_eq!(bench.bbr.model.bandwidth(), 1_000_000);
    bench.ack(RTT, 1_500_000, true);
    assert_eq!(bench.bbr.model.bandwidth(), 1_500_000);
}

#[test]
/// spec-test: CC-16
fn a_queue_that_stands_for_a_round_shows_the_capacity() {
    let mut bench = Bench::steady();
    (0..20).for_each(|_| bench.ack(RTT + 20 * MS, 500_000, false));
    assert_eq!(bench.bbr.model.bandwidth(), 500_000);
}

#[test]
/// spec-test: CC-17
fn losses_count_only_when_packets_wait() {
    let mut bench = Bench::steady();
    bench.lose(20);
    assert_eq!(bench.bbr.bandwidth(), 1_000_000);
    (0..4).for_each(|_| bench.ack(RTT + 8 * MS, 800_000, false));
    bench.lose(20);
    assert_eq!(bench.bbr.bandwidth(), 800_000);
}

#[test]
/// spec-test: CC-11
fn losses_that_were_none_are_undone() {
    let mut bench = Bench::steady();
    (0..4).for_each(|_| bench.ack(RTT + 8 * MS, 800_000, false));
    bench.lose(5);
    assert_eq!(bench.bbr.bandwidth(), 800_000);
    bench.bbr.on_spurious_loss(bench.now, 4);
    assert_eq!(bench.bbr.bandwidth(), 800_000);
    bench.bbr.on_spurious_loss(bench.now, 1);
    assert_eq!(bench.bbr.bandwidth(), 1_000_000);
}

#[test]
/// spec-test: ECN-2, CC-7
fn a_mark_is_answered_once_for_each_round_trip() {
    let mut bench = Bench::steady();
    bench.ack(RTT, 100_000, false);
    bench.bbr.on_ecn_ce(bench.now, bench.now - RTT);
    assert_eq!(bench.bbr.bandwidth(), 700_000);
    bench.bbr.on_ecn_ce(bench.now + 10 * MS, bench.now - 40 * MS);
    assert_eq!(bench.bbr.bandwidth(), 700_000);
    bench.bbr.on_ecn_ce(bench.now + 60 * MS, bench.now + 10 * MS);
    assert!((489_000..=490_000).contains(&bench.bbr.bandwidth()));
}

#[test]
/// spec-test: CC-23, CC-26, CC-27
fn a_probe_refills_the_path_and_forgets_what_bounded_for_a_short_time() {
    let mut bench = Bench::steady();
    bench.bbr.on_ecn_ce(bench.now, bench.now);
    bench.bbr.bounds.lower((1_000_000, 100_000), (500_000, 20_000));
    assert_eq!(bench.bbr.bandwidth(), 700_000);
    let mut seen = Vec::new();
    for _ in 0..400 {
        bench.ack(RTT, 1_000_000, false);
        let phase = match bench.bbr.phase {
            Phase::Cruise(_) => "cruise",
            Phase::Refill => "refill",
            Phase::Up(_) => "up",
            Phase::Down(_) => "down",
            _ => "other",
        };
        if phase == "refill" {
            assert_eq!(bench.bbr.bandwidth(), 1_000_000);
        }
        if seen.last() != Some(&phase) {
            seen.push(phase);
        }
    }
    let cycle = ["cruise", "refill", "up"];
    assert!(seen.starts_with(&cycle), "{seen:?}");
    // What is in flight does not come down: the drain has an end all the same.
    bench.bbr.phase = Phase::Down(0);
    let mut acks = 0;
    while matches!(bench.bbr.phase, Phase::Down(_)) {
        bench.now = bench.now + 10 * MS;
        let sample = AckSample {
            bytes_acked: 10_000,
            in_flight: 200_000,
            largest_sent_at: bench.now - RTT,
            has_losses: false,
            has_rtt_sample: false,
            app_limited: false,
            queue_delay: None,
            rate: None,
            packets_acked: 1,
        };
        bench.bbr.on_ack(bench.now, &sample, &bench.rtt);
        acks += 1;
        assert!(acks <= 24, "three rounds of six acknowledgements, and the one that goes on");
    }
    assert!(acks > 12, "{acks}");
}

#[test]
/// spec-test: CC-2, CC-12
fn after_silence_the_window_is_small_and_grows_back_with_what_arrives() {
    let mut bench = Bench::steady();
    let before = bench.bbr.window();
    bench.bbr.on_persistent_congestion();
    assert_eq!(bench.bbr.window(), window_initial(MTU as usize), "an outage");
    (0..10).for_each(|_| bench.ack(RTT, 1_000_000, false));
    assert_eq!(bench.bbr.window(), before);
    // The same after packets have waited.
    (0..4).for_each(|_| bench.ack(RTT + 8 * MS, 1_000_000, false));
    bench.bbr.on_persistent_congestion();
    assert_eq!(bench.bbr.window(), 4 * MTU);
    (0..10).for_each(|_| bench.ack(RTT, 1_000_000, false));
    assert_eq!(bench.bbr.window(), before);
}

#[test]
/// spec-test: CC-19
fn the_window_holds_little_more_than_the_path() {
    let bench = Bench::steady();
    let window = bench.bbr.window();
    assert!((62_500..80_000).contains(&window), "{window}");
}

#[test]
/// spec-test: CC-20
fn a_longer_way_is_found_out() {
    let mut bench = Bench::steady();
    // The route has become 30 ms longer; all packets seem to wait.
    for _ in 0..800 {
        bench.ack(RTT + 30 * MS, 1_000_000, false);
    }
    assert_eq!(bench.bbr.model.rtt_min(), Some(RTT + 30 * MS));
    (0..600).for_each(|_| bench.ack(RTT + 30 * MS, 1_000_000, false));
    assert!(bench.bbr.bandwidth() >= 990_000, "{:?}", bench.bbr);
}

#[test]
/// spec-test: CC-20
fn a_minimum_that_is_confirmed_is_not_looked_for() {
    let mut bench = Bench::steady();
    for n in 0..3000 {
        let extra = if n % 100 == 0 { MS } else { 4 * MS };
        bench.ack(RTT + extra, 1_000_000, false);
        assert!(!matches!(bench.bbr.phase, Phase::ProbeRtt(_)));
    }
    (0..1200).for_each(|_| bench.ack(RTT + 4 * MS, 1_000_000, false));
    assert_eq!(bench.bbr.model.rtt_min(), Some(RTT + 4 * MS));
}

#[test]
/// spec-test: CC-17, CC-18
fn a_policer_loses_nothing_at_a_lower_rate_and_a_radio_as_much() {
    let mut round = Round::default();
    round.acked = 54 * MTU;
    round.rate_max = 900_000;
    let after = |losses: &mut Losses, lost: u32| {
        losses.on_loss(u64::from(lost) * MTU, lost);
        losses.on_round(round.seen(), 1, MTU, true)
    };
    let suspicious = || {
        let mut losses = Losses::new();
        for _ in 0..20 {
            match after(&mut losses, 6) {
                Verdict::Nothing => assert_eq!(losses.compensation(), 1.0),
                verdict => {
                    assert_eq!(verdict, Verdict::Try(900_000));
                    return losses;
                }
            }
        }
        unreachable!("a tenth is lost");
    };
    let conclude = |losses: &mut Losses, lost: u32| {
        let mut verdicts = (0..200).map(|_| after(losses, lost));
        verdicts.find(|verdict| *verdict != Verdict::Nothing)
    };

    let mut radio = suspicious();
    assert!(radio.is_policed());
    assert_eq!(conclude(&mut radio, 6), Some(Verdict::Over));
    assert!(!radio.is_policed());
    assert!((1.1..1.13).contains(&radio.compensation()), "{}", radio.compensation());
    assert_eq!(conclude(&mut radio, 6), None);

    let mut policer = suspicious();
    after(&mut policer, 6);
    assert_eq!(conclude(&mut policer, 0), Some(Verdict::Policed));
    assert_eq!(conclude(&mut policer, 0), None);
    assert_eq!(policer.compensation(), 1.0);
    assert_eq!(policer.on_round(round.seen(), 502, MTU, true), Verdict::Over);

    // A fade, and then another: chance, no policer.
    let mut fading = suspicious();
    assert_eq!(conclude(&mut fading, 0), Some(Verdict::Policed));
    assert_eq!(conclude(&mut fading, 6), Some(Verdict::Over));
}

#[test]
/// spec-test: CC-28
fn on_a_short_path_the_window_holds_what_the_hosts_have_under_way() {
    for (rate, held) in [(10_000_000, 30_000), (1_000_000_000, 196_608)] {
        let mut bench = Bench::new();
        (0..200).for_each(|_| bench.ack(Duration::from_micros(20), rate, false));
        let window = bench.bbr.window();
        assert!((held..held * 5 / 4 + 5 * MTU).contains(&window), "{rate}: {window}");
        bench.bbr.phase = Phase::Drain;
        bench.bbr.step_drain(bench.now, held + MTU);
        assert!(matches!(bench.bbr.phase, Phase::Drain), "{rate}");
        bench.bbr.step_drain(bench.now, held);
        assert!(matches!(bench.bbr.phase, Phase::Up(_)), "{rate}");
    }
}

#[test]
/// spec-test: CC-20
fn what_hosts_make_of_a_short_round_trip_confirms_it() {
    let mut bench = Bench::new();
    bench.ack(Duration::from_micros(20), 10_000_000, false);
    for _ in 0..1000 {
        bench.ack(Duration::from_micros(400), 10_000_000, false);
        assert!(!matches!(bench.bbr.phase, Phase::ProbeRtt(_)));
    }
}
