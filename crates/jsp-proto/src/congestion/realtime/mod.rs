//! A window that keeps queues short, for connections that carry live media: in the manner of
//! SCReAMv2 (draft-johansson-ccwg-rfc8298bis-screamv2), with a decrease that is computed, not tried.
//!
//! What is in flight and how long it takes say what the path delivers: `flight = rate * (base +
//! delay)`. So when packets wait longer than they should, the window goes at once to what this rate
//! fills with two thirds of the queue that is allowed. While they wait less, it grows: slowly near where it
//! was right last, faster the farther it is from there.

mod growth;
mod pauses;
mod queue;
mod rates;
mod scalable;

use core::time::Duration;

use jsp_wire::Instant;

use super::losses::{Losses, Seen, Verdict};
use super::rivals::Rivals;
use super::{AckSample, LossSample, MarkSample, bytes_in, scale, window_initial, window_min};
use crate::recovery::Rtt;
use pauses::Pauses;
use queue::Queue;
use scalable::Scalable;

/// How long packets should wait at most: less where many are in flight, so that faster flows give
/// way to slower ones (the idea of Swift, SIGCOMM 2020, section 3.5).
const TARGET_MIN: Duration = Duration::from_millis(20);
const TARGET_MAX: Duration = Duration::from_millis(40);

/// The same behind a queue that marks ECT(1): it marks long before, and what waits longer came with a lower rate.
const TARGET_SCALABLE: Duration = Duration::from_millis(10);

/// Packets in flight from which on the target shrinks, with their square root.
const TARGET_PACKETS: f64 = 10.0;

/// A queue stands when all packets of a round wait this much longer than the target: less is what flows
/// of our own kind make with each other.
const STANDING: f64 = 1.05;

/// The target while others fill the queue, and how long that is believed without a new look.
const TARGET_RELAXED: Duration = Duration::from_millis(150);
const RELAXED_TIME: Duration = Duration::from_secs(20);

/// Share of the target that a decrease leaves to the queue.
const AIM_SHARE: f64 = 2.0 / 3.0;

/// One answer to the queue leaves at least this share of the window; and where the path pauses by itself, as
/// much as losses leave.
const CUT_MIN: f64 = 0.5;
const CUT_PAUSING_MIN: f64 = LOSS_LEFT;

/// What is left after losses while packets wait, and after marks at most (RFC 9438, section 4.6, has
/// 0.7; a queue that is kept short asks for less).
const LOSS_LEFT: f64 = 0.8;

/// What is left after a single loss while packets wait: less than growth brings back where losses
/// are the path's own.
const SINGLE_LOSS_LEFT: f64 = 0.95;

/// Packets wait, for losses, when they wait this part of the round trip, and this time.
const LOSS_WAIT_DIVISOR: u32 = 8;
const LOSS_WAIT_MIN: Duration = Duration::from_millis(2);

/// What is left when every packet is marked (RFC 8257, section 3.3).
const MARKS_LEFT_MIN: f64 = 0.5;

/// Share of losses in a round, above the usual, that means congestion when packets wait, and how
/// many packets at least.
const LOSS_SHARE: f64 = 0.02;
const LOSS_PACKETS: u32 = 3;

/// Share of losses that ends the first growth although packets do not wait.
const LOSS_SHARE_FIRST: f64 = 0.1;

/// A queue that was full keeps the target to this share of its delay, but not below this part of the
/// usual target, for so long.
const FULL_SHARE: f64 = 0.7;
const FULL_DIVISOR: u32 = 5;
const FULL_TIME: Duration = Duration::from_secs(5);

/// A policer is looked for at this share of what arrives, and then given this share.
const TRIAL_SHARE: f64 = 0.9;
const POLICED_SHARE: f64 = 0.98;

/// The application uses the window when so much of it was in flight at some time.
const USED_SHARE: f64 = 0.7;

/// An empty queue must have been seen within this time; else it is made, for so long and so many rounds,
/// with this share of the window in flight.
const BASE_AGE: Duration = Duration::from_secs(5);
const LOW_TIDE: Duration = Duration::from_millis(100);
const LOW_TIDE_ROUNDS: u32 = 3;
const LOW_TIDE_SHARE: f64 = 0.5;

/// The controller.
#[derive(Clone, Debug)]
pub(crate) struct RealTime {
    mtu: u64,
    queue: Queue,
    pauses: Pauses,
    scalable: Scalable,
    losses: Losses,
    rivals: Rivals,
    /// When others are forgotten, and looked for again; and the window beside them.
    relaxed_until: Option<Instant>,
    relaxed_window: u64,
    /// The window before a queue stood.
    alone_window: u64,
    round: Round,
    rounds: u64,
    /// Most bytes in flight in this round and in the one before.
    flight: [u64; 2],
    window: u64,
    /// The window that was right last; `None` before anything was too much.
    reference: Option<u64>,
    /// Packets that left by then belong to what was answered last, and how long they waited then.
    answered: Option<(Instant, Duration)>,
    /// What the answer left of the window, if losses of the same round may take more; 0 if not.
    answer_left: f64,
    /// Bytes a second that a policer seems to pass.
    ceiling: Option<u64>,
    /// When a queue was full last, and how long packets waited then.
    full: Option<(Instant, Duration)>,
    tide: Option<Tide>,
    /// A time with little in flight has just shown how long the way itself is.
    has_new_base: bool,
    undo: Option<Undo>,
}

/// What was seen in a round trip: from one packet's sending to its acknowledgement.
#[derive(Clone, Copy, Debug, Default)]
struct Round {
    began: Option<Instant>,
    acked: u64,
    marked: u64,
    rate_max: u64,
    /// Least waiting time and least round-trip time, of so many samples.
    delay: Option<Duration>,
    rtt: Option<Duration>,
    samples: u32,
    /// Longest waiting time.
    longest: Duration,
}

/// A time with little in flight, so that the queue is empty.
#[derive(Clone, Copy, Debug)]
struct Tide {
    until: Instant,
    rounds: u32,
    rtt: Option<Duration>,
}

#[derive(Clone, Copy, Debug)]
struct Undo {
    window: u64,
    reference: Option<u64>,
    /// Packets of the episode that have not arrived.
    missing: u32,
}

impl RealTime {
    /// A path that carries datagrams of `mtu` bytes, and of which nothing is known.
    pub(crate) fn new(mtu: usize) -> Self {
        Self {
            mtu: mtu as u64,
            queue: Queue::default(),
            pauses: Pauses::default(),
            scalable: Scalable::default(),
            losses: Losses::new(),
            rivals: Rivals::default(),
            relaxed_until: None,
            relaxed_window: 0,
            alone_window: 0,
            round: Round::default(),
            rounds: 0,
            flight: [0; 2],
            window: window_initial(mtu),
            reference: None,
            answered: None,
            answer_left: 0.0,
            ceiling: None,
            full: None,
            tide: None,
            has_new_base: false,
            undo: None,
        }
    }

    /// True once after an empty queue was made.
    // spec: CC-52
    pub(super) fn take_new_base(&mut self) -> bool {
        core::mem::take(&mut self.has_new_base)
    }

    // spec: CC-35
    pub(super) fn window(&self) -> u64 {
        let window = match self.tide {
            Some(_) => scale(self.window, LOW_TIDE_SHARE),
            None => self.window,
        };
        window.max(self.floor())
    }

    pub(super) fn is_starting(&self) -> bool {
        self.reference.is_none()
    }

    pub(super) fn set_mtu(&mut self, mtu: usize) {
        self.mtu = mtu as u64;
    }

    /// Bytes that may always be in flight.
    // spec: CC-2
    fn floor(&self) -> u64 {
        window_min(usize::try_from(self.mtu).unwrap_or(usize::MAX))
    }

    fn first_window(&self) -> u64 {
        window_initial(usize::try_from(self.mtu).unwrap_or(usize::MAX))
    }

    /// `in_flight` bytes are under way, with those that leave now.
    pub(super) fn on_sent(&mut self, in_flight: u64) {
        let [current, _] = &mut self.flight;
        *current = (*current).max(in_flight);
    }

    /// Takes what arrived.
    pub(super) fn on_ack(&mut self, now: Instant, sample: &AckSample, rtt: &Rtt) {
        let ended = self.take_round(now, sample);
        if sample.has_rtt_sample || sample.queue_delay.is_some() {
            let delay = self.queue.on_sample(now, rtt.adjusted(), sample.queue_delay);
            self.round.on_delay(delay, rtt.adjusted());
        }
        if let Some(round) = ended {
            self.on_round(now, &round);
        }
        if self.tide.is_some() {
            return;
        }
        let (delay, target) = (self.queue.delay(), self.target());
        if delay > target {
            self.give_way(now, sample, delay);
        } else {
            self.grow(sample.bytes_acked, delay, target);
        }
        self.bound();
    }

    fn take_round(&mut self, now: Instant, sample: &AckSample) -> Option<Round> {
        let ended = match self.round.began {
            Some(began) if sample.largest_sent_at <= began => None,
            began => {
                let fresh = Round { began: Some(now), ..Round::default() };
                let ended = core::mem::replace(&mut self.round, fresh);
                began.map(|_| ended)
            }
        };
        self.round.acked = self.round.acked.saturating_add(sample.bytes_acked);
        self.scalable.on_ack(sample.packets_acked);
        let rate = sample.rate.map_or(0, |rate| rate.rate);
        self.round.rate_max = self.round.rate_max.max(rate);
        ended
    }

    fn on_round(&mut self, now: Instant, round: &Round) {
        self.rounds = self.rounds.saturating_add(1);
        let waited = round.delay.unwrap_or_default();
        let stands = round.samples >= 2 && waited > self.target_alone().mul_f64(STANDING);
        self.judge_losses(round);
        self.pauses.on_round(now, round.longest);
        let packet = Duration::from_secs_f64(self.mtu as f64 / round.rate_max.max(1) as f64);
        let waited_all = round.delay.filter(|_| round.samples >= 2);
        self.scalable.on_round(now, waited_all, packet);
        self.full = self.full.filter(|(at, _)| now.since(*at) < FULL_TIME);
        self.look_for_rivals(now, stands);
        self.ebb(now, round);
        let [current, _] = self.flight;
        self.flight = [0, current];
    }

    // spec: CC-31
    fn judge_losses(&mut self, round: &Round) {
        // Media never asks for all that is allowed; what it uses tells as much.
        let app_limited = !self.is_used();
        let seen = Seen { acked: round.acked, rate_max: round.rate_max, app_limited };
        if self.losses.exceed(round.acked, LOSS_SHARE_FIRST, LOSS_PACKETS) {
            self.reference = self.reference.or(Some(self.window));
        }
        let steady = round.longest < TARGET_MIN / 2 && self.tide.is_none();
        match self.losses.on_round(seen, self.rounds, self.mtu, steady) {
            Verdict::Nothing => {}
            Verdict::Try(rate) => self.ceiling = Some(scale(rate, TRIAL_SHARE)),
            Verdict::Policed => {
                self.ceiling = self.ceiling.map(|rate| scale(rate, POLICED_SHARE / TRIAL_SHARE));
            }
            Verdict::Over => self.ceiling = None,
        }
    }

    /// Makes an empty queue where none was seen for long.
    // spec: CC-35
    fn ebb(&mut self, now: Instant, round: &Round) {
        let Some(tide) = &mut self.tide else {
            let doubtful = !self.rivals.present() && self.queue.age(now) > BASE_AGE;
            if doubtful && self.is_used() {
                self.tide = Some(Tide { until: now + LOW_TIDE, rounds: 0, rtt: None });
            }
            return;
        };
        tide.rounds = tide.rounds.saturating_add(1);
        // What was in flight before has arrived in the first round.
        if tide.rounds >= 2 {
            tide.rtt = tide.rtt.min(round.rtt).or(tide.rtt).or(round.rtt);
        }
        if now >= tide.until && tide.rounds >= LOW_TIDE_ROUNDS {
            if let Some(base) = tide.rtt {
                self.queue.set_base(now, base);
                self.has_new_base = true;
            }
            self.tide = None;
        }
    }

    // spec: CC-34
    fn look_for_rivals(&mut self, now: Instant, stands: bool) {
        if self.relaxed_until.is_some_and(|until| now >= until) {
            // It may be our own by now: look again.
            self.relaxed_window = self.window;
            self.rivals = Rivals::default();
        }
        if !stands && !self.rivals.present() {
            self.alone_window = self.window;
        }
        if self.rivals.on_round(now, stands) {
            self.relaxed_until = Some(now + RELAXED_TIME);
            self.window = self.window.max(self.relaxed_window).max(self.alone_window);
        } else if !self.rivals.present() {
            self.relaxed_until = None;
        }
    }

    /// How long packets should wait at most.
    fn target(&self) -> Duration {
        if self.rivals.present() { TARGET_RELAXED } else { self.target_alone() }
    }

    /// Where a queue was full at less, most of that counts.
    // spec: CC-29, CC-31, CC-49
    fn target_alone(&self) -> Duration {
        let packets = self.window as f64 / self.mtu.max(1) as f64;
        let share = (TARGET_PACKETS / packets.max(TARGET_PACKETS)).sqrt();
        let usual = TARGET_MIN.saturating_add((TARGET_MAX - TARGET_MIN).mul_f64(share));
        let usual = if self.scalable.is_active() { TARGET_SCALABLE } else { usual };
        match self.full {
            Some((_, delay)) => usual.min(delay.mul_f64(FULL_SHARE).max(usual / FULL_DIVISOR)),
            None => usual,
        }
    }

    /// Most bytes in flight lately.
    fn flight(&self) -> u64 {
        let [current, before] = self.flight;
        current.max(before)
    }

    /// The application fills the window.
    fn is_used(&self) -> bool {
        self.flight().saturating_add(self.mtu) >= scale(self.window, USED_SHARE)
    }

    /// Packets wait too long: go down to what the path delivers with some of the queue that is allowed.
    // spec: CC-30
    fn give_way(&mut self, now: Instant, sample: &AckSample, delay: Duration) {
        let target = self.target();
        let again = match self.answered {
            Some((at, before)) if sample.largest_sent_at <= at => {
                delay > before.saturating_add(target)
            }
            _ => true,
        };
        if !again || self.queue.drains() {
            return;
        }
        self.answered = Some((now, delay));
        self.answer_left = 0.0;
        self.undo = None;
        let least = if self.pauses.are_usual(now) { CUT_PAUSING_MIN } else { CUT_MIN };
        let base = self.queue.base().unwrap_or_default();
        let meant = base.saturating_add(target.mul_f64(AIM_SHARE));
        let left = meant.as_secs_f64() / base.saturating_add(delay).as_secs_f64().max(1e-9);
        let used = self.is_used();
        let from = if used { self.window.min(self.flight()) } else { self.window };
        self.reference = Some(self.window);
        // What was delivered in a round trip would make no queue.
        let delivered = sample.rate.map_or(0, |rate| bytes_in(rate.rate, base));
        let lowered = scale(from, left.max(least)).max(delivered);
        self.window = lowered.min(self.window).max(self.floor());
    }

    /// A policer's rate bounds the window, and so does the floor.
    fn bound(&mut self) {
        if let (Some(rate), Some(base)) = (self.ceiling, self.queue.base()) {
            self.window = self.window.min(bytes_in(rate, base));
        }
        self.window = self.window.max(self.floor());
    }

    // spec: CC-31
    pub(super) fn on_loss(&mut self, now: Instant, sample: &LossSample) {
        self.losses.on_loss(sample.bytes_lost, sample.packets);
        if let Some(undo) = &mut self.undo {
            undo.missing = undo.missing.saturating_add(sample.packets);
        }
        let beside = self.rivals.present();
        let base = self.queue.base().unwrap_or_default();
        let long = (base / LOSS_WAIT_DIVISOR).min(self.target() / 4).max(LOSS_WAIT_MIN);
        let waits = beside || self.queue.delay() > long;
        let answered = self.is_answered(sample.largest_lost_sent_at);
        // Marks of ECT(1) come in each round, and take little: what a loss takes is beyond that.
        // spec: CC-48
        let before = if answered { self.answer_left } else { 1.0 };
        if !waits || before <= 0.0 {
            return;
        }
        let many = beside || self.losses.exceed(self.round.acked, LOSS_SHARE, LOSS_PACKETS);
        let undo = Undo { window: self.window, reference: self.reference, missing: sample.packets };
        if !many && self.losses.is_lossy(LOSS_SHARE) {
            return;
        }
        if self.losses.exceed(self.round.acked, LOSS_SHARE, 1) {
            self.full = Some((now, self.queue.delay()));
        }
        let left = if many { LOSS_LEFT } else { SINGLE_LOSS_LEFT };
        self.lower(now, (left / before).min(1.0));
        self.undo = Some(undo);
    }

    // spec: ECN-2, CC-32
    pub(super) fn on_ecn_ce(&mut self, now: Instant, marks: &MarkSample) {
        let bytes = marks.packets.saturating_mul(self.mtu);
        self.round.marked = self.round.marked.saturating_add(bytes);
        if self.is_answered(marks.sent_at) {
            return;
        }
        let share = self.round.marked as f64 / self.round.acked.max(self.round.marked) as f64;
        self.lower(now, (1.0 - share / 2.0).clamp(MARKS_LEFT_MIN, LOSS_LEFT));
        self.undo = None;
    }

    // spec: CC-7
    fn is_answered(&self, sent_at: Instant) -> bool {
        self.answered.is_some_and(|(at, _)| sent_at <= at)
    }

    fn lower(&mut self, now: Instant, left: f64) {
        self.answered = Some((now, self.queue.delay()));
        self.answer_left = 0.0;
        self.reference = Some(self.window);
        self.window = scale(self.window, left).max(self.floor());
    }

    // spec: CC-11
    pub(super) fn on_spurious_loss(&mut self, packets: u32) {
        self.losses.on_spurious(u64::from(packets).saturating_mul(self.mtu), packets);
        let Some(undo) = &mut self.undo else { return };
        undo.missing = undo.missing.saturating_sub(packets);
        if undo.missing == 0 {
            self.window = self.window.max(undo.window);
            self.reference = undo.reference;
            self.undo = None;
        }
    }

    /// Nothing arrived for a long time.
    // spec: CC-12
    pub(super) fn on_persistent_congestion(&mut self) {
        self.reference = Some(self.window);
        self.window = self.floor();
        self.undo = None;
    }
}

impl Round {
    fn on_delay(&mut self, delay: Duration, rtt: Duration) {
        let least = |old: Option<Duration>, new: Duration| Some(old.map_or(new, |o| o.min(new)));
        self.delay = least(self.delay, delay);
        self.rtt = least(self.rtt, rtt);
        self.samples = self.samples.saturating_add(1);
        self.longest = self.longest.max(delay);
    }
}

#[cfg(test)]
mod tests;
