//! What the path is about to do: an alarm that sounds before any time-out, and a forecast of the next
//! 100 to 300 ms.
//!
//! Three signals speak, each for itself: acknowledgements that are overdue, congestion marks, and what
//! the application knows (an interface went down, the radio technology changed). A delay that rises and
//! losses in bursts are none of them: on recorded cellular links silence said the same, and earlier.
//! Whoever acts on an alarm must act cheaply: on these links 6 of 10 alarms are followed by a queue.
//!
//! The alarm is a function of state and time; [`Forecast::poll_timeout`] says when time alone may
//! change it. With nothing in flight nothing is waited for.

mod signals;

use core::cmp::Ordering;
use core::time::Duration;

use jsp_wire::Instant;

use crate::pack::{packed, packed_enum};
use crate::path::owd::Owd;
use crate::recovery::Rtt;

pub use self::signals::Signals;

/// How bad it looks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Hash)]
pub enum AlarmLevel {
    /// Nothing unusual.
    #[default]
    Clear,
    /// Something is unusual.
    Watch,
    /// The path is failing.
    Degraded,
}
packed_enum!(AlarmLevel { Clear, Watch = 1, Degraded = 2 });

/// What an alarm goes by.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum AlarmCause {
    /// An acknowledgement is overdue.
    AckSilence,
    /// The network marked packets as congested (ECN).
    CongestionMarks,
    /// The application said so, or the driver that watches the network for it.
    Hint,
}
packed_enum!(AlarmCause { AckSilence, CongestionMarks = 1, Hint = 2 });

/// What the forecaster says about a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub struct Alarm {
    /// How bad it looks.
    pub level: AlarmLevel,
    /// The signal that speaks loudest; `None` when all is clear.
    pub cause: Option<AlarmCause>,
}
packed!(Alarm { level, cause });

/// What an application knows about its network before packets tell.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum NetworkHint {
    /// The interface that the path uses went down.
    InterfaceDown,
    /// The interface is up again, or another one has taken its place: a packet leaves at once, so that the
    /// peer learns of a new address. The side of a server asks its client from there.
    InterfaceUp,
    /// The radio changes its technology or its cell, for example from LTE to 3G.
    RadioChanged,
}

/// The next 100 to 300 ms, if things go on as they do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Outlook {
    /// How much longer the losses or the silence of this moment are expected to last; zero when
    /// there are none.
    pub burst_residual: Duration,
    /// How long packets that leave 200 ms from now will wait in queues.
    pub queue_delay: Duration,
    /// How bad it looks.
    pub alarm: AlarmLevel,
    /// How long a packet that leaves now is expected to travel: half the shortest round trip, the queue, and
    /// what is left of losses or silence.
    pub travel: Duration,
}

impl Outlook {
    /// Whether a packet that leaves now fares better here than there: by the alarm, and between equals by
    /// the time that it travels.
    #[must_use]
    pub fn is_better_than(&self, other: &Self) -> bool {
        (self.alarm, self.travel) < (other.alarm, other.travel)
    }
}

/// How far [`Outlook`] looks ahead.
const HORIZON: Duration = Duration::from_millis(200);

/// What looks unusual now and then is one alarm, not many: it ends after so long without a sign.
const HOLD: Duration = Duration::from_millis(200);

/// A hint of a change of radio stands for this long: hand-overs take 50 to 300 ms.
const HINT_FOR: Duration = Duration::from_millis(500);

/// A dead interface stands for this long, unless it is said to be up again or an acknowledgement
/// proves it.
const DOWN_FOR: Duration = Duration::from_secs(10);

/// What is overdue by less passes by itself as often as not: the hiccups of a cellular scheduler.
const SILENCE_WATCH: Duration = Duration::from_millis(10);

/// Silence this much longer than what is overdue already is a failure rather than a hiccup.
const SILENCE_DEGRADED: Duration = Duration::from_millis(30);

/// Of such a share of losses, those that hit a message twice are more than one in 2500: what delays
/// one in 1000 is then a second loss.
const LOSES_MUCH: f64 = 0.02;

/// Packets over which the share of losses is averaged.
const LOSS_PACKETS: f64 = 400.0;

/// Packets lost together that count as a burst.
const BURST_PACKETS: u32 = 2;

/// Bursts that are remembered.
const BURSTS_MAX: usize = 16;

/// Residual of a burst when none was ever seen that lasted so long: as long again as it has lasted.
const RESIDUAL_UNKNOWN: u32 = 1;

/// What the forecaster is asked with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scene<'a> {
    pub(crate) now: Instant,
    /// When the oldest ack-eliciting packet without fate left.
    pub(crate) oldest: Option<Instant>,
    pub(crate) owd: &'a Owd,
    pub(crate) rtt: &'a Rtt,
    /// How long the peer may hold an acknowledgement back.
    pub(crate) ack_delay_max: Duration,
}

impl Scene<'_> {
    /// How long a packet that leaves now travels if none is lost. Without receive times the round trip tells
    /// of queues both ways.
    fn travel(&self) -> Duration {
        if !self.rtt.has_sample() {
            return self.rtt.smoothed() / 2;
        }
        let least = self.rtt.min();
        let queue = if self.owd.is_known() {
            self.owd.queue()
        } else {
            self.rtt.smoothed().saturating_sub(least)
        };
        (least / 2).saturating_add(queue)
    }
}

/// The forecaster of one path.
#[derive(Clone, Debug, Default)]
pub(crate) struct Forecast {
    signals: Signals,
    acks: AckClock,
    loss: LossShare,
    bursts: Bursts,
    marks_until: Instant,
    /// When the alarm ends, once no signal speaks any more.
    ends: Option<Instant>,
    hint: Option<(AlarmLevel, Instant)>,
    current: Alarm,
    /// Everything that time alone changed before this instant is in `current`.
    asked_at: Instant,
}
packed!(Forecast { signals, acks, loss, bursts, marks_until, ends, hint, current, asked_at });

impl Forecast {
    /// One that listens to these signals.
    pub(crate) fn new(signals: Signals) -> Self {
        Self { signals, ..Self::default() }
    }

    /// An ack-eliciting packet leaves.
    pub(crate) fn on_sent(&mut self, now: Instant) {
        self.acks.on_sent(now);
    }

    /// An ACK of so many packets came, with a sample of the round-trip time or without.
    pub(crate) fn on_ack(&mut self, now: Instant, has_sample: bool, packets: u32) {
        self.acks.on_ack(now, has_sample);
        self.loss.note(packets, 0.0);
        if let Some((AlarmLevel::Degraded, _)) = self.hint {
            // It is not down.
            self.hint = None;
        }
    }

    /// Packets that left between `first` and `last` are lost.
    pub(crate) fn on_loss(&mut self, packets: u32, first: Instant, last: Instant) {
        self.loss.note(packets, 1.0);
        if packets >= BURST_PACKETS {
            let lasted = last.since(first).saturating_add(self.acks.gap);
            self.bursts.push(lasted);
        }
    }

    /// The network marked packets: it stands for a round trip.
    pub(crate) fn on_marks(&mut self, now: Instant, rtt: Duration) {
        self.marks_until = now + rtt;
    }

    /// The application knows something.
    pub(crate) fn on_hint(&mut self, now: Instant, hint: NetworkHint) {
        self.hint = match hint {
            NetworkHint::InterfaceDown => Some((AlarmLevel::Degraded, now + DOWN_FOR)),
            NetworkHint::RadioChanged => Some((AlarmLevel::Watch, now + HINT_FOR)),
            NetworkHint::InterfaceUp => None,
        };
    }

    /// How long after a packet left its acknowledgement is overdue; `None` while nothing has been seen that
    /// would tell.
    // spec: SEN-3
    pub(crate) fn ack_due_after(&self, rtt: &Rtt, ack_delay_max: Duration) -> Option<Duration> {
        if !self.acks.is_known() {
            let patience = rtt.pto_base(ack_delay_max).saturating_mul(2);
            return rtt.has_sample().then_some(patience);
        }
        // While little is lost acknowledgements wait for a packet that they can ride along in, and when
        // that is lost, for the next.
        let held = if self.loses_much() { Duration::ZERO } else { ack_delay_max };
        Some(self.acks.due_after(rtt, held.saturating_mul(2)))
    }

    /// Share of packets that are lost, 0 to 1, over the last hundreds of them.
    pub(crate) fn loss(&self) -> f64 {
        self.loss.share
    }

    /// What is sent again may well be lost again.
    pub(crate) fn loses_much(&self) -> bool {
        self.loss.share >= LOSES_MUCH
    }

    /// The alarm of the last look.
    pub(crate) fn alarm(&self) -> Alarm {
        self.current
    }

    /// The loudest signal of an alarm that speaks at the last look; the alarm itself goes on for a while.
    pub(crate) fn speaking(&self) -> Option<AlarmCause> {
        self.current.cause.filter(|_| self.ends.is_none())
    }

    /// Looks again; answers the alarm when its level is another than before.
    pub(crate) fn look(&mut self, scene: &Scene<'_>) -> Option<Alarm> {
        self.asked_at = scene.now;
        let alarm = self.judge(scene);
        let alarm = self.hold(scene.now, alarm);
        let changed = alarm.level != self.current.level;
        self.current = alarm;
        changed.then_some(alarm)
    }

    /// An alarm does not end with the last of its signals: the next one is often near.
    // spec: SEN-4
    fn hold(&mut self, now: Instant, alarm: Alarm) -> Alarm {
        let was_clear = self.current.level == AlarmLevel::Clear;
        if was_clear || alarm.level > AlarmLevel::Clear {
            self.ends = None;
            return alarm;
        }
        if now < *self.ends.get_or_insert(now + HOLD) {
            return Alarm { level: AlarmLevel::Watch, ..self.current };
        }
        self.ends = None;
        alarm
    }

    /// The loudest of the signals.
    // spec: SEN-4
    fn judge(&self, scene: &Scene<'_>) -> Alarm {
        let signals = [
            (self.hinted(scene.now), AlarmCause::Hint),
            (self.silence(scene), AlarmCause::AckSilence),
            (until(scene.now, self.marks_until), AlarmCause::CongestionMarks),
        ];
        let mut alarm = Alarm::default();
        for (level, cause) in signals {
            if level > alarm.level && self.signals.has(cause) {
                alarm = Alarm { level, cause: Some(cause) };
            }
        }
        alarm
    }

    fn hinted(&self, now: Instant) -> AlarmLevel {
        match self.hint {
            Some((level, until)) if now < until => level,
            _ => AlarmLevel::Clear,
        }
    }

    fn silence(&self, scene: &Scene<'_>) -> AlarmLevel {
        match self.silent_since(scene) {
            Some(since) if scene.now >= since + SILENCE_DEGRADED => AlarmLevel::Degraded,
            Some(since) if scene.now >= since + SILENCE_WATCH => AlarmLevel::Watch,
            _ => AlarmLevel::Clear,
        }
    }

    /// When the acknowledgement of the oldest packet is overdue.
    // spec: SEN-3
    fn silent_since(&self, scene: &Scene<'_>) -> Option<Instant> {
        let oldest = scene.oldest?;
        // The peer holds the acknowledgement of a packet with nothing behind it back.
        let is_last = self.acks.sent_at.is_none_or(|at| at <= oldest);
        let held = if is_last { scene.ack_delay_max } else { Duration::ZERO };
        Some(oldest + self.ack_due_after(scene.rtt, scene.ack_delay_max)? + held)
    }

    /// When the alarm may change although nothing happens; the instant of the scene does not matter.
    pub(crate) fn poll_timeout(&self, scene: &Scene<'_>) -> Option<Instant> {
        let silent = self.silent_since(scene);
        let ends = self.hint.map(|(_, until)| until);
        [
            // What is overdue may ride along from then on.
            silent,
            silent.map(|since| since + SILENCE_WATCH),
            silent.map(|since| since + SILENCE_DEGRADED),
            ends,
            Some(self.marks_until),
            self.ends,
        ]
        .into_iter()
        .flatten()
        .filter(|at| *at > self.asked_at)
        .min()
    }

    /// The next 100 to 300 ms, and how a packet that leaves now would fare.
    // spec: SEN-5
    pub(crate) fn outlook(&self, scene: &Scene<'_>) -> Outlook {
        let silent = self.silent_since(scene).filter(|since| scene.now >= *since);
        let burst_residual = match (silent, scene.oldest) {
            // What was sent a silence ago was in the burst already.
            (Some(_), Some(oldest)) => {
                let lasted = scene.now.since(oldest).saturating_sub(scene.rtt.smoothed());
                self.bursts.residual(lasted)
            }
            _ => Duration::ZERO,
        };
        let queue_delay = scene.owd.queue_in(scene.now, HORIZON);
        let travel = scene.travel().saturating_add(burst_residual);
        Outlook { burst_residual, queue_delay, alarm: self.current.level, travel }
    }
}

fn until(now: Instant, end: Instant) -> AlarmLevel {
    if now < end { AlarmLevel::Watch } else { AlarmLevel::Clear }
}

/// When acknowledgements come.
#[derive(Clone, Debug, Default)]
struct AckClock {
    samples: u32,
    /// Smoothed time between two ack-eliciting packets, and between two ACKs.
    gap: Duration,
    ack_gap: Duration,
    sent_at: Option<Instant>,
    acked_at: Option<Instant>,
}
packed!(AckClock { samples, gap, ack_gap, sent_at, acked_at });

/// Samples of the round-trip time before it is known when acknowledgements come.
const SAMPLES_MIN: u32 = 8;

/// A longer gap between packets says that there is no stream.
const GAP_MAX: Duration = Duration::from_millis(50);

/// Timers are no finer.
const MARGIN_MIN: Duration = Duration::from_millis(1);

impl AckClock {
    fn on_sent(&mut self, now: Instant) {
        if let Some(before) = self.sent_at.replace(now) {
            let gap = now.since(before).min(GAP_MAX);
            let eighths = self.gap.saturating_mul(7).saturating_add(gap) / 8;
            self.gap = if self.gap.is_zero() { gap } else { eighths };
        }
    }

    fn on_ack(&mut self, now: Instant, has_sample: bool) {
        if let Some(before) = self.acked_at.replace(now) {
            self.ack_gap = follow(self.ack_gap, now.since(before));
        }
        self.samples = self.samples.saturating_add(u32::from(has_sample));
    }

    /// Enough has been seen to tell when they come.
    fn is_known(&self) -> bool {
        self.samples >= SAMPLES_MIN
    }

    /// Round trip, four deviations as in RFC 6298, and a gap that the peer may wait for its second packet
    /// or for one of its own, `held` at least.
    fn due_after(&self, rtt: &Rtt, held: Duration) -> Duration {
        let gap = self.gap.max(self.ack_gap).min(GAP_MAX);
        let margin = rtt.var().saturating_mul(4).max(MARGIN_MIN);
        rtt.smoothed().saturating_add(margin).saturating_add(gap.max(held))
    }
}

/// Up slowly, for gaps are long where something was lost; down fast. A sample counts for
/// [`GAP_MAX`] at most.
fn follow(average: Duration, sample: Duration) -> Duration {
    let sample = sample.min(GAP_MAX);
    match sample.cmp(&average) {
        _ if average.is_zero() => sample,
        Ordering::Greater => average.saturating_mul(31).saturating_add(sample) / 32,
        _ => average.saturating_mul(3).saturating_add(sample) / 4,
    }
}

/// How many packets are lost.
#[derive(Clone, Copy, Debug, Default)]
struct LossShare {
    share: f64,
}
packed!(LossShare { share });

impl LossShare {
    /// So many packets had the fate `lost`, 0 or 1.
    fn note(&mut self, packets: u32, lost: f64) {
        let weight = f64::from(packets) / (f64::from(packets) + LOSS_PACKETS);
        self.share += (lost - self.share) * weight;
    }
}

/// How long the latest bursts of losses lasted.
#[derive(Clone, Debug, Default)]
struct Bursts {
    /// A ring of [`BURSTS_MAX`] at most: most paths never need it.
    lasted: Vec<Duration>,
    count: usize,
}
packed!(Bursts { lasted, count });

impl Bursts {
    fn push(&mut self, lasted: Duration) {
        let at = self.count % BURSTS_MAX;
        match self.lasted.get_mut(at) {
            Some(slot) => *slot = lasted,
            None => self.lasted.push(lasted),
        }
        self.count = self.count.wrapping_add(1);
    }

    /// Mean of what was left of those that lasted as long as this one has.
    fn residual(&self, so_far: Duration) -> Duration {
        let left = self.lasted.iter().filter_map(|lasted| lasted.checked_sub(so_far));
        let (sum, count) =
            left.fold((Duration::ZERO, 0u32), |(sum, n), left| (sum.saturating_add(left), n + 1));
        if count == 0 { so_far.saturating_mul(RESIDUAL_UNKNOWN) } else { sum / count }
    }
}

#[cfg(test)]
mod tests;
