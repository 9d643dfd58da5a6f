//! How much repair pays: pure functions from what a path does to a percentage.
//!
//! A lost packet comes again after a round trip and the time to detect the loss; by repair it comes when
//! as many repairs have arrived as packets were lost in its burst. So repair pays only where more
//! repairs fit into that round trip than a burst has packets:
//! `percentage * packets a second * (round trip + detection) > burst`. Thin flows get none.
//!
//! What is not sent again is lost for good: there the question is whether as many repairs come through as
//! packets were lost, while it is of use.

use core::time::Duration;

use jsp_wire::Instant;

use super::encoder::{REACH, WINDOW};
use super::history::{BUCKETS, History, Losses};
use super::protection::USE_WITHOUT_LIFETIME;

/// What may be chosen, in percent of the protected packets.
pub(crate) const RATES: [u8; 6] = [5, 10, 20, 33, 50, 100];

/// Most that is spent on messages without a lifetime, in percent: they arrive in any case, repair only
/// brings them sooner.
const RATE_WITHOUT_DEADLINE_MAX: u8 = 20;

/// A message without a lifetime should come this long after the first that was sent with it at most.
const WAIT_WITHOUT_DEADLINE: Duration = Duration::from_millis(60);

/// And within this part of what a retransmission takes, or repair is not worth its bytes.
const PART_OF_RETRANSMISSION: f64 = 0.75;

/// Share of messages that may be late: with a lifetime, and without.
const LATE_WITH_DEADLINE: f64 = 0.005;
const LATE_WITHOUT_DEADLINE: f64 = 0.01;

/// Share of messages that go once of which so many may be lost before repair begins: a single loss in a
/// second that is thinly filled counts for so much.
const LOST_TOLERATED: f64 = 0.01;

/// Part of what else travels on a full path that repairs may take the place of.
const PART_OF_OTHERS: f64 = 0.5;

/// Losses that come with a longer queue than this are congestion: more packets would add to it.
const QUEUE_MAX: Duration = Duration::from_millis(20);

/// The percentage falls when less would have sufficed for this long.
const CALM_BEFORE_LESS: Duration = Duration::from_secs(3);

/// What the path and its congestion control say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Network {
    /// Smoothed round-trip time.
    pub(crate) rtt: Duration,
    /// Time from when an acknowledgement could have come until a packet is held lost.
    pub(crate) detect: Duration,
    /// The permit leaves room beyond what the application sends.
    pub(crate) has_room: bool,
}

/// All that the choice depends on.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Inputs {
    pub(crate) losses: Losses,
    /// Packets a second that ask for protection.
    pub(crate) rate: f64,
    /// Part of the path's packets that they are, 0 to 1.
    pub(crate) part: f64,
    /// How long a message is worth sending, if that ends.
    pub(crate) deadline: Option<Duration>,
    /// Messages are not sent again when they are lost.
    pub(crate) once: bool,
    pub(crate) network: Network,
}

impl Losses {
    /// Packets were lost because a queue was full.
    fn is_congestion(&self) -> bool {
        self.queued > QUEUE_MAX
    }
}

impl Inputs {
    /// How long a packet that is sent again is late, in seconds.
    fn retransmission(&self) -> f64 {
        self.network.rtt.saturating_add(self.network.detect).as_secs_f64()
    }

    /// How late a packet may come, in seconds after those that were not lost.
    fn slack(&self) -> f64 {
        let Some(deadline) = self.deadline else {
            if self.once {
                return USE_WITHOUT_LIFETIME.as_secs_f64();
            }
            let patience = self.retransmission() * PART_OF_RETRANSMISSION;
            return patience.min(WAIT_WITHOUT_DEADLINE.as_secs_f64());
        };
        deadline.saturating_sub(self.network.rtt / 2).as_secs_f64()
    }

    /// Share of messages that may be late.
    fn target(&self) -> f64 {
        if self.is_bounded() { LATE_WITH_DEADLINE } else { LATE_WITHOUT_DEADLINE }
    }

    /// What comes too late, or not at all, is of no use.
    fn is_bounded(&self) -> bool {
        self.deadline.is_some() || self.once
    }

    /// Protected packets in a burst of `len` packets of the path.
    fn burst(&self, len: u32) -> f64 {
        (f64::from(len) * self.part).max(1.0)
    }

    /// Predicted share of messages that come late with this percentage of repair.
    fn late(&self, percent: u8) -> f64 {
        if self.once {
            return self.lost(percent);
        }
        let share = self.losses.share;
        let repairs = self.rate * f64::from(percent) / 100.0 * (1.0 - share);
        let (mut lost, mut late) = (0.0, 0.0);
        for (count, len) in self.losses.runs.iter().zip(BUCKETS) {
            let burst = self.burst(len);
            let packets = burst * f64::from(*count);
            let lasts = burst / self.rate.max(1.0);
            let by_repair = lasts + burst / repairs.max(f64::MIN_POSITIVE);
            let by_resending = self.retransmission() + lasts;
            lost += packets;
            if by_repair <= self.slack().min(self.retransmission()) {
                continue;
            }
            // What is sent again may be lost again.
            late += if by_resending <= self.slack() { packets * share } else { packets };
        }
        if lost > 0.0 { share * late / lost } else { 0.0 }
    }

    /// Predicted share of messages that are lost for good. A burst is made good when of the packets that
    /// leave while it is of use, and the repairs among them, no more get lost than there are repairs to
    /// spare.
    // spec: FEC-28
    fn lost(&self, percent: u8) -> f64 {
        let rate = self.rate.max(1.0);
        // A repair reaches back over so many packets of the path, whatever they hold.
        let reach = REACH as f64 * self.part / rate;
        let (mut lost, mut missed) = (0.0, 0.0);
        for (count, len) in self.losses.runs.iter().zip(BUCKETS) {
            let burst = self.burst(len);
            let packets = burst * f64::from(*count);
            let time = (self.slack().min(reach) - burst / rate).max(0.0);
            let others = whole((rate * time).min(WINDOW as f64));
            let repairs = whole(others * f64::from(percent) / 100.0);
            let spare = repairs - burst.ceil();
            lost += packets;
            missed += packets * more_lost(spare, repairs + others, self.losses.share);
        }
        if lost > 0.0 { self.losses.share * missed / lost } else { 0.0 }
    }

    /// Repairs may leave: the path has room, or others on it make room who can wait.
    // spec: FEC-13
    fn has_room(&self, percent: u8) -> bool {
        let repairs = self.part * f64::from(percent) / 100.0;
        self.network.has_room || repairs <= (1.0 - self.part) * PART_OF_OTHERS
    }

    /// More repairs leave in the time of a retransmission than nine of ten bursts have packets.
    fn pays(&self, percent: u8) -> bool {
        let repairs = f64::from(percent) / 100.0 * self.rate * self.retransmission();
        self.once || repairs > self.burst(self.losses.burst())
    }
}

/// So many whole ones: what is missing by rounding is there.
fn whole(packets: f64) -> f64 {
    (packets + 1e-6).floor()
}

/// The chance that of `packets`, each lost with this chance, more than `few` are.
fn more_lost(few: f64, packets: f64, chance: f64) -> f64 {
    if few < 0.0 {
        return 1.0;
    }
    let chance = chance.clamp(0.0, 0.9);
    let mut exactly = (1.0 - chance).powf(packets);
    let (mut fewer, mut count) = (exactly, 0.0);
    while count < few {
        exactly *= (packets - count) / (count + 1.0) * chance / (1.0 - chance);
        count += 1.0;
        fewer += exactly;
    }
    (1.0 - fewer).max(0.0)
}

/// The cheapest percentage of repair that brings enough messages in time; 0 where retransmission does,
/// or repair cannot.
// spec: FEC-12, FEC-13
pub(crate) fn choose(inputs: &Inputs) -> u8 {
    let unprotected = inputs.late(0);
    let tolerated = if inputs.once { LOST_TOLERATED } else { inputs.target() };
    if inputs.losses.is_congestion() || unprotected <= tolerated {
        return 0;
    }
    let dearest = if inputs.is_bounded() { 100 } else { RATE_WITHOUT_DEADLINE_MAX };
    let is_worth = |rate: &u8| *rate <= dearest && inputs.pays(*rate) && inputs.has_room(*rate);
    let worth = RATES.into_iter().filter(is_worth);
    let mut best = (0, unprotected / 2.0);
    for rate in worth {
        let late = inputs.late(rate);
        if late <= inputs.target() {
            return rate;
        }
        // Where nothing suffices, what helps by half at least, and no more than helps.
        if late < best.1 {
            best = (rate, late);
        }
    }
    best.0
}

/// The percentage in force, which rises at once and falls slowly.
#[derive(Debug)]
pub(crate) struct Controller {
    percent: u8,
    /// When to look at the path again.
    look_at: Instant,
    /// Since when less would do.
    calm_since: Option<Instant>,
}

impl Controller {
    pub(crate) fn new() -> Self {
        Self { percent: 0, look_at: Instant::ZERO, calm_since: None }
    }

    /// The percentage in force.
    pub(crate) fn percent(&self) -> u8 {
        self.percent
    }

    /// Looks at the path once in a round trip, and at once after losses. While the forecaster is alarmed it
    /// may be getting worse, and the percentage does not fall.
    // spec: FEC-12
    pub(crate) fn adapt(
        &mut self,
        now: Instant,
        history: &mut History,
        network: &Network,
        is_alarmed: bool,
    ) {
        let has_news = history.take_news();
        if now < self.look_at && !has_news {
            return;
        }
        self.look_at = now + network.rtt;
        let losses = history.losses(now);
        let wanted = choose(&Inputs {
            losses,
            rate: history.rate(now),
            part: history.part(now),
            deadline: history.life(),
            once: history.once(),
            network: *network,
        });
        if losses.is_congestion() {
            self.percent = 0;
        }
        self.move_to(now, wanted, is_alarmed);
    }

    fn move_to(&mut self, now: Instant, wanted: u8, is_alarmed: bool) {
        if wanted >= self.percent || is_alarmed {
            self.percent = wanted.max(self.percent);
            self.calm_since = None;
            return;
        }
        let since = *self.calm_since.get_or_insert(now);
        if now.since(since) >= CALM_BEFORE_LESS {
            self.percent = wanted;
            self.calm_since = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{LossRun, Protection};
    use super::*;
    use crate::streams::config::FecPolicy;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Bursts of exponential length with this mean, as fades of a link leave them.
    fn bursts(mean: f64) -> [u32; BUCKETS.len()] {
        let mut below = 1.0;
        BUCKETS.map(|len| {
            let beyond = (-f64::from(len) / mean).exp();
            let count = (below - beyond) * 1000.0;
            below = beyond;
            count as u32
        })
    }

    /// A path of a one-way delay in ms, with 5 % losses in fades of so many packets on average.
    fn fading(owd: u64, rate: f64, mean: f64) -> Inputs {
        Inputs {
            losses: Losses { share: 0.05, runs: bursts(mean), queued: Duration::ZERO },
            rate,
            part: 1.0,
            deadline: None,
            once: false,
            network: Network { rtt: ms(2 * owd), detect: ms(3), has_room: true },
        }
    }

    #[test]
    /// spec-test: FEC-12
    fn repair_is_for_media_and_long_paths_not_for_thin_flows() {
        // The scenarios S2 and S5: 1000 packets a second, fades of 3 ms.
        assert_eq!(choose(&fading(30, 1000.0, 3.0)), 20);
        assert_eq!(choose(&fading(150, 1000.0, 3.0)), 20);
        // S1, S1b and S3: 100 packets a second, fades of 30 and 3 ms.
        assert_eq!(choose(&fading(30, 100.0, 3.0)), 0);
        assert_eq!(choose(&fading(30, 100.0, 0.3)), 0);
        assert_eq!(choose(&fading(150, 100.0, 3.0)), 0);
        // A path without losses.
        let clean = Inputs { losses: Losses::default(), ..fading(30, 1000.0, 3.0) };
        assert_eq!(choose(&clean), 0);
    }

    #[test]
    /// spec-test: FEC-12
    fn a_deadline_that_leaves_time_to_send_again_needs_no_repair() {
        // A tenth is lost again when it is sent again.
        let mut inputs = fading(10, 1000.0, 1.0);
        inputs.losses.share = 0.02;
        inputs.deadline = Some(ms(150));
        assert_eq!(choose(&inputs), 0);
        inputs.deadline = Some(ms(20));
        assert!(choose(&inputs) > 0);
        // Nothing brings a message in time that is late already.
        inputs.deadline = Some(ms(9));
        assert_eq!(choose(&inputs), 0);
    }

    #[test]
    /// spec-test: FEC-13
    fn losses_with_a_queue_or_without_room_get_no_repair() {
        let inputs = fading(30, 1000.0, 3.0);
        let mut congested = inputs;
        congested.losses.queued = ms(21);
        assert_eq!(choose(&congested), 0);
        let mut full = inputs;
        full.network.has_room = false;
        assert_eq!(choose(&full), 0);
    }

    /// Voice of 50 packets a second that goes once, 30 ms one way, and loses packets one by one.
    fn voice(share: f64) -> Inputs {
        let mut runs = [0; BUCKETS.len()];
        runs[0] = 100;
        let losses = Losses { share, runs, queued: Duration::ZERO };
        Inputs { losses, once: true, ..fading(30, 50.0, 1.0) }
    }

    #[test]
    /// spec-test: FEC-28
    fn what_is_not_sent_again_is_repaired_though_it_is_thin() {
        assert_eq!(choose(&voice(0.05)), 100);
        assert_eq!(choose(&voice(0.02)), 50);
        // A single loss in a second is no reason.
        assert_eq!(choose(&voice(0.01)), 0);
        assert!(voice(0.05).lost(100) < 0.002 && voice(0.05).lost(50) > 0.005);
        // How long another try would take is all the same.
        for owd in [1, 300] {
            let network = Network { rtt: ms(2 * owd), ..voice(0.05).network };
            assert_eq!(choose(&Inputs { network, ..voice(0.05) }), 100, "{owd}");
        }
        // Many packets need fewer repairs each; what is of no use when a repair comes needs none.
        assert_eq!(choose(&Inputs { rate: 1000.0, ..voice(0.05) }), 20);
        assert_eq!(choose(&Inputs { deadline: Some(ms(45)), ..voice(0.05) }), 0);
        // The same message would be sent again, if it could.
        assert_eq!(choose(&Inputs { once: false, ..voice(0.05) }), 0);
        // Beside so much else no repair reaches back to the packet before.
        assert_eq!(choose(&Inputs { part: 0.002, ..voice(0.05) }), 0);
    }

    #[test]
    /// spec-test: FEC-13
    fn on_a_full_path_others_make_room_for_repairs() {
        let mut full = voice(0.05);
        full.network.has_room = false;
        assert_eq!(choose(&full), 0);
        for (part, most) in [(0.3, 100), (0.4, 50), (0.9, 5)] {
            full.part = part;
            assert!(full.has_room(most) && most == 100 || !full.has_room(most + 50), "{part}");
        }
        full.part = 0.1;
        assert_eq!(choose(&full), 100);
    }

    fn history(second: u64, runs: &[(u32, u32)]) -> History {
        let mut history = History::new();
        let now = Instant::from_nanos(second * 1_000_000_000);
        let protection =
            Protection::of(FecPolicy::Auto, jsp_wire::Class::RealTime, Instant::FAR_FUTURE);
        for (arrived, lost) in runs {
            history.on_run(now, LossRun { arrived: *arrived, lost: *lost, queued: ms(0) });
        }
        for _ in 0..1000 {
            history.on_sent(now, &protection.unwrap());
        }
        history
    }

    #[test]
    /// spec-test: FEC-12
    fn the_percentage_rises_at_once_and_falls_after_three_seconds() {
        let network = Network { rtt: ms(60), detect: ms(3), has_room: true };
        let at = |ms: u64| Instant::from_nanos(ms * 1_000_000);
        let mut controller = Controller::new();
        controller.adapt(at(1_000), &mut history(1, &[(1000, 0)]), &network, false);
        assert_eq!(controller.percent(), 0);
        let bad: Vec<_> = (0..17).map(|_| (57, 3)).collect();
        controller.adapt(at(1_001), &mut history(1, &bad), &network, false);
        let high = controller.percent();
        assert!(high > 0);
        let mut good = |ms: u64, is_alarmed| {
            let mut history = history(ms / 1000, &[(1000, 0)]);
            controller.adapt(at(ms), &mut history, &network, is_alarmed);
            controller.percent()
        };
        assert_eq!(good(2_000, false), high);
        assert_eq!(good(4_900, false), high);
        assert_eq!(good(4_970, true), high);
        assert_eq!(good(5_100, false), high);
        assert_eq!(good(8_200, false), 0);
    }

    proptest! {
        #[test]
        fn any_inputs_have_an_answer_and_more_loss_never_less_of_it(
            share in 0.0f64..1.0,
            mean in 0.1f64..100.0,
            rate in 0.0f64..1e6,
            owd in 0u64..1000,
            deadline in proptest::option::of(0u64..1000),
            once: bool,
            part in 0.0f64..1.0,
            has_room: bool,
        ) {
            let mut inputs = fading(owd, rate, mean);
            inputs.losses.share = share;
            inputs.deadline = deadline.map(ms);
            (inputs.once, inputs.part, inputs.network.has_room) = (once, part, has_room);
            let chosen = choose(&inputs);
            prop_assert!(chosen == 0 || RATES.contains(&chosen));
            prop_assert!(inputs.late(chosen) <= inputs.late(0));
        }
    }
}
