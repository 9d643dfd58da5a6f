use super::super::rate_of;
use super::*;
use crate::pacer::Pace;
use crate::recovery::RateSample;

const MTU: u64 = 1200;
const RTT: Duration = Duration::from_millis(50);
const MS: Duration = Duration::from_millis(1);

/// A controller that hears one ACK each 10 ms.
struct Bench {
    control: RealTime,
    rtt: Rtt,
    now: Instant,
    /// The window is full whenever something leaves.
    used: bool,
    /// What receive times tell.
    one_way: Option<Duration>,
}

impl Bench {
    fn new() -> Self {
        Self {
            control: RealTime::new(MTU as usize),
            rtt: Rtt::new(Duration::from_millis(333)),
            now: Instant::from_nanos(1_000_000_000),
            used: true,
            one_way: None,
        }
    }

    /// An ACK of a packet that took `rtt`, while `rate` bytes a second were delivered.
    fn ack(&mut self, rtt: Duration, rate: u64) {
        self.now = self.now + 10 * MS;
        self.rtt.update(self.now, rtt, Duration::ZERO);
        let in_flight = if self.used { self.control.window() } else { MTU };
        self.control.on_sent(in_flight);
        let sample = AckSample {
            bytes_acked: rate / 100,
            in_flight,
            largest_sent_at: self.now - rtt,
            has_losses: false,
            has_rtt_sample: true,
            app_limited: !self.used,
            queue_delay: self.one_way,
            rate: Some(RateSample {
                rate,
                delivered: rate / 20,
                prior_delivered: 0,
                sent_in_flight: in_flight,
                interval: RTT,
                app_limited: !self.used,
            }),
            packets_acked: (rate / 100 / MTU).max(1) as u32,
        };
        self.control.on_ack(self.now, &sample, &self.rtt);
    }

    /// What the window delivers without a queue, for so many ACKs.
    fn fill(&mut self, acks: u32) {
        for _ in 0..acks {
            let rate = rate_of(self.control.window(), RTT, 1, 1);
            self.ack(RTT, rate);
        }
    }

    /// A window of 100 packets that has seen a queue.
    fn steady() -> Self {
        let mut bench = Self::new();
        bench.fill(20);
        bench.control.window = 100 * MTU;
        bench.control.reference = Some(100 * MTU);
        bench.fill(1);
        bench.control.window = 100 * MTU;
        bench
    }

    fn lose(&mut self, packets: u32) {
        let sample = LossSample {
            bytes_lost: u64::from(packets) * MTU,
            packets,
            largest_lost_sent_at: self.now - RTT,
            prior_in_flight: self.control.window(),
        };
        self.control.on_loss(self.now, &sample);
    }

    fn mark(&mut self, packets: u64, sent_at: Instant) {
        let prior_in_flight = self.control.window();
        self.control.on_ecn_ce(self.now, &MarkSample { packets, sent_at, prior_in_flight });
    }

    /// So many of the packets of each ACK are marked, all of which left with ECT(1).
    fn mark_scalable(&mut self, packets: u64) {
        let (sent_at, prior_in_flight) = (self.now - RTT, self.control.window());
        let marks = MarkSample { packets, sent_at, prior_in_flight };
        self.control.on_scalable_marks(self.now, &marks);
    }

    /// The window in packets.
    fn packets(&self) -> u64 {
        self.control.window() / MTU
    }
}

#[test]
/// spec-test: CC-29
fn the_target_is_shorter_for_larger_windows() {
    let mut control = RealTime::new(MTU as usize);
    assert_eq!(control.target(), TARGET_MAX);
    control.window = 1000 * MTU;
    assert_eq!(control.target(), 22 * MS);
}

#[test]
/// spec-test: CC-29, CC-30
fn a_queue_is_answered_by_what_it_says_of_the_rate_once_in_a_round_trip() {
    let mut bench = Bench::steady();
    let target = bench.control.target();
    (0..3).for_each(|_| bench.ack(RTT + 50 * MS, 500_000));
    // 100 packets took 100 ms; 50 ms and two thirds of the target are meant.
    let meant = (RTT + target * 2 / 3).as_millis() as u64;
    assert!((meant - 1..=meant + 1).contains(&bench.packets()), "{}", bench.packets());
    let before = bench.packets();
    (0..4).for_each(|_| bench.ack(RTT + 52 * MS, 500_000));
    assert_eq!(bench.packets(), before);
}

#[test]
/// spec-test: CC-30
fn a_steep_rise_is_answered_at_once_and_a_queue_that_drains_is_not() {
    let mut bench = Bench::steady();
    (0..3).for_each(|_| bench.ack(RTT + 50 * MS, 200_000));
    let first = bench.packets();
    (0..3).for_each(|_| bench.ack(RTT + 150 * MS, 200_000));
    assert!(bench.packets() * 10 <= first * 6, "{} {first}", bench.packets());
    let mut bench = Bench::steady();
    let before = bench.packets();
    // All that a pause held back comes at once.
    for wait in (6..20).rev() {
        bench.ack(RTT + wait * 10 * MS, 2_400_000);
    }
    assert!(bench.packets() >= before, "{}", bench.packets());
}

#[test]
/// spec-test: CC-29
fn where_receive_times_tell_a_queue_on_the_way_back_counts_for_nothing() {
    let mut bench = Bench::steady();
    bench.one_way = Some(Duration::ZERO);
    (0..50).for_each(|_| bench.ack(RTT + 80 * MS, 1_000_000));
    assert!(bench.packets() >= 100, "{}", bench.packets());
    bench.one_way = Some(60 * MS);
    (0..4).for_each(|_| bench.ack(RTT + 80 * MS, 500_000));
    assert!(bench.packets() < 100, "{}", bench.packets());
}

#[test]
/// spec-test: CC-31
fn losses_count_only_when_packets_wait() {
    let mut bench = Bench::steady();
    bench.lose(20);
    assert_eq!(bench.packets(), 100);
    (0..3).for_each(|_| bench.ack(RTT + 10 * MS, 1_000_000));
    let before = bench.control.window();
    bench.lose(20);
    assert_eq!(bench.control.window(), scale(before, LOSS_LEFT));
    bench.lose(20);
    assert_eq!(bench.control.window(), scale(before, LOSS_LEFT), "once for a round trip");
    bench.control.on_spurious_loss(40);
    assert_eq!(bench.control.window(), before);
}

#[test]
/// spec-test: CC-31
fn a_single_loss_while_packets_wait_costs_little_and_a_full_queue_is_remembered() {
    let mut bench = Bench::steady();
    (0..3).for_each(|_| bench.ack(RTT + 10 * MS, 1_000_000));
    let before = bench.control.window();
    bench.lose(1);
    assert_eq!(bench.control.window(), scale(before, SINGLE_LOSS_LEFT));
    let mut bench = Bench::steady();
    (0..3).for_each(|_| bench.ack(RTT + 10 * MS, 1_000_000));
    bench.lose(10);
    assert_eq!(bench.control.target(), 7 * MS);
    bench.fill(700);
    assert!(bench.control.target() >= TARGET_MIN);
}

#[test]
/// spec-test: ECN-2, CC-7, CC-32
fn marks_count_as_losses_and_more_where_many_are_marked() {
    let mut bench = Bench::steady();
    bench.mark(1, bench.now - RTT);
    assert_eq!(bench.packets(), 80);
    bench.mark(1, bench.now - RTT);
    assert_eq!(bench.packets(), 80);
    let mut bench = Bench::steady();
    let acked = bench.control.round.acked;
    bench.mark(acked / MTU + 1, bench.now - RTT);
    assert_eq!(bench.packets(), 50);
}

#[test]
/// spec-test: ECN-4, CC-48
fn marks_of_ect1_are_answered_by_their_share() {
    let mut bench = Bench::steady();
    bench.mark_scalable(1);
    assert_eq!(bench.packets(), 50, "the first one as all of them");
    bench.mark_scalable(1);
    assert_eq!(bench.packets(), 50, "once in a round trip");
    // One packet in ten is marked, in each ACK.
    for _ in 0..600 {
        bench.control.window = 100 * MTU;
        let rate = 2_000_000;
        bench.ack(RTT, rate);
        bench.mark_scalable(rate / 100 / MTU / 10 + 1);
    }
    let left = bench.control.scalable.left();
    assert!((0.91..0.95).contains(&left), "two of sixteen: {left}");
    assert!(!bench.control.doubts_scalable_marks());
}

#[test]
/// spec-test: CC-48
fn a_loss_in_a_round_with_few_marks_takes_what_they_left_to_take() {
    let mut bench = Bench::steady();
    (0..600).for_each(|n| {
        bench.control.window = 100 * MTU;
        bench.ack(RTT + 40 * MS, 2_000_000);
        bench.mark_scalable(u64::from(n % 100 == 0));
    });
    bench.control.window = 100 * MTU;
    bench.control.answered = None;
    bench.mark_scalable(1);
    let left = bench.packets();
    assert!(left > 85, "{left}");
    bench.lose(20);
    let after = bench.packets();
    assert!((79..=80).contains(&after), "as a loss alone: {after}");
    bench.lose(20);
    assert_eq!(bench.packets(), after, "once in a round trip");
}

#[test]
/// spec-test: CC-49
fn where_ect1_is_marked_the_queue_is_kept_shorter_and_bursts_are_small() {
    let mut bench = Bench::steady();
    let rate = 2_400_000;
    let usual = (bench.control.target(), bench.control.pace(&bench.rtt));
    let advice = bench.control.media_rate(&bench.rtt);
    bench.mark_scalable(1);
    bench.control.window = 100 * MTU;
    let (target, pace) = (bench.control.target(), bench.control.pace(&bench.rtt));
    assert!(target == 10 * MS && usual.0 > 20 * MS);
    assert_eq!(pace, Pace::smooth(usual.1.rate / 125 * 105));
    assert!(bench.control.media_rate(&bench.rtt) > advice);
    bench.control.reference = Some(100 * MTU);
    bench.fill(5);
    assert!((102..=104).contains(&bench.packets()), "{}", bench.packets());
    // Without marks all is as before.
    (0..520).for_each(|_| bench.ack(RTT, rate));
    bench.control.window = 100 * MTU;
    assert_eq!(bench.control.target(), usual.0);
}

#[test]
/// spec-test: ECN-5
fn marks_that_begin_late_come_from_an_older_queue() {
    let late = |mark_from: u32, waits: &dyn Fn(u32) -> u32| {
        let mut bench = Bench::steady();
        for n in 0..400 {
            let wait = waits(n);
            bench.ack(RTT + wait * MS, 1_500_000);
            if wait >= mark_from {
                bench.mark_scalable(1);
            }
        }
        bench.control.doubts_scalable_marks()
    };
    // Waits that grow to 20 ms, and fall, again and again.
    let tide = |n: u32| if n % 80 < 40 { n % 80 / 2 } else { 0 };
    assert!(late(15, &tide));
    assert!(!late(1, &tide), "they began early");
    assert!(late(15, &|_| 15), "without an end");
    // A link that becomes slower, once.
    assert!(!late(1, &|n| if n / 40 == 1 { 30 } else { 0 }));
}

#[test]
/// spec-test: CC-33
fn growth_is_slow_near_the_reference_and_fast_far_from_it() {
    let grown = |window: u64| {
        let mut bench = Bench::steady();
        bench.control.window = window * MTU;
        bench.fill(5);
        bench.packets() as f64 / window as f64
    };
    assert!((1.03..1.1).contains(&grown(100)), "{}", grown(100));
    assert!(grown(20) > 1.6, "{}", grown(20));
    assert!(grown(200) > 1.2, "{}", grown(200));
}

#[test]
/// spec-test: CC-33
fn a_quiet_application_neither_grows_nor_shrinks_the_window() {
    let mut bench = Bench::steady();
    bench.used = false;
    for n in 0..2000 {
        bench.ack(RTT + n % 3 * MS, 10_000);
    }
    assert_eq!(bench.packets(), 100);
    let mut bench = Bench::new();
    bench.used = false;
    (0..2000).for_each(|_| bench.ack(RTT, 10_000));
    assert_eq!(bench.control.window(), window_initial(MTU as usize));
}

#[test]
/// spec-test: CC-2, CC-12
fn the_floor_holds_and_what_was_known_comes_back_soon() {
    let mut bench = Bench::steady();
    bench.control.on_persistent_congestion();
    assert_eq!(bench.control.window(), 2 * MTU);
    bench.fill(60);
    assert!(bench.packets() >= 80, "{}", bench.packets());
    for n in 0..200 {
        bench.ack(RTT + (100 + n * 10) as u32 * MS, 1000);
    }
    assert!(bench.control.window() >= 2 * MTU);
}

#[test]
/// spec-test: CC-34
fn beside_others_the_target_rests_for_a_bounded_time() {
    let mut bench = Bench::steady();
    (0..400).for_each(|_| bench.ack(RTT + 60 * MS, 600_000));
    assert_eq!(bench.control.target(), TARGET_RELAXED);
    assert!(bench.packets() >= 85, "what it had before: {}", bench.packets());
    let mut tight = 0;
    for _ in 0..2500 {
        bench.ack(RTT + 60 * MS, 600_000);
        tight += u32::from(bench.control.target() < TARGET_RELAXED);
    }
    assert!((100..1000).contains(&tight), "{tight}");
    bench.fill(700);
    assert!(bench.control.target() < TARGET_RELAXED);
}

#[test]
/// spec-test: CC-35
fn an_empty_queue_is_made_where_none_was_seen_for_long() {
    let mut bench = Bench::steady();
    // A queue that is shorter than the target, or a way that has become longer.
    let mut ebb = 0;
    for _ in 0..900 {
        bench.ack(RTT + 15 * MS, 1_500_000);
        ebb += u32::from(bench.control.window() <= bench.control.window / 2);
    }
    assert!((10..40).contains(&ebb), "{ebb}");
    assert_eq!(bench.control.queue.base(), Some(RTT + 15 * MS));
    assert!(bench.control.tide.is_none());
}

#[test]
/// spec-test: CC-52
fn whoever_knows_the_way_one_way_hears_that_it_has_become_longer() {
    let mut bench = Bench::steady();
    bench.one_way = Some(15 * MS);
    let mut told = 0;
    for _ in 0..900 {
        bench.ack(RTT + 15 * MS, 1_500_000);
        if bench.control.take_new_base() {
            told += 1;
            bench.one_way = Some(Duration::ZERO);
        }
    }
    assert_eq!(told, 1);
    assert!(bench.control.queue.delay() < MS && bench.control.tide.is_none());
}

#[test]
/// spec-test: CC-36
fn the_advice_is_below_what_may_leave_and_follows_the_queue() {
    let mut bench = Bench::steady();
    let calm = bench.control.media_rate(&bench.rtt);
    assert!(calm < bench.control.pace(&bench.rtt).rate);
    assert!((1_900_000..2_100_000).contains(&calm), "{calm}");
    (0..3).for_each(|_| bench.ack(RTT + 200 * MS, 400_000));
    let late = bench.control.media_rate(&bench.rtt);
    assert!(late * 5 <= calm, "{late} {calm}");
}
