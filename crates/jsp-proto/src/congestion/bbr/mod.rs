//! BBR after draft-ietf-ccwg-bbr (BBRv3), bounded by delay.
//!
//! The model is the draft's: what the path delivers and how long it takes when nothing waits say
//! how fast to send. Where the draft asks losses whether it sends too much, this asks the
//! queue first, because the path also serves voice, and because radios lose packets without
//! any queue:
//!
//! - Startup and probes for more end when packets begin to wait, not when they are lost.
//! - A queue that stands for a whole round trip proves that the bottleneck is busy; what it
//!   delivers then is its capacity, and replaces what the model holds.
//! - Losses without a queue are made up for, unless they follow from our own rate (a policer).

mod bounds;
mod model;
mod probe;
mod startup;
mod uneven;
mod window;

use core::time::Duration;

use jsp_wire::Instant;

use super::losses::{Losses, Verdict};
use super::rivals::Rivals;
use super::{AckSample, LossSample, rate_of, scale, window_initial};
use crate::pack::{packed, packed_enum};
use crate::recovery::Rtt;
use bounds::{BETA, Bounds};
use model::{Model, Round};
use probe::{Cruise, Up};
use startup::FullPipe;
use uneven::Uneven;

/// Rate while the path is unknown: in each round trip twice what came back in the one before
/// (draft-ietf-ccwg-bbr, `StartupPacingGain`, 4 ln 2).
const STARTUP_GAIN: f64 = 2.77;

/// Rate while what startup put into queues drains (`DrainPacingGain`, 0.5 in the draft: this is
/// its older value, twice as quick).
const DRAIN_GAIN: f64 = 0.35;

/// Rate while what a probe put into queues drains (`ProbeBW_DOWN` has 0.9, and drains for as long as
/// the probe took: others wait meanwhile).
const DOWN_GAIN: f64 = 0.65;

/// Share of the rate that is left free, so that a queue from rounding drains
/// (`PacingMarginPercent`, 1).
const MARGIN: f64 = 0.99;

/// Share of losses in a round, above the usual, that means congestion when packets wait
/// (`LossThresh`), and how many packets at least.
const LOSS_SHARE: f64 = 0.02;
const LOSS_PACKETS: u32 = 3;

/// What is left of the flight after a loss beside others, who go down to 0.7 (RFC 9438, section 4.6)
/// but come back without a pause. What a probe found is not drained: it would only be handed to them.
const RIVALS_BETA: f64 = 0.85;
const RIVALS_DOWN_GAIN: f64 = 1.0;

/// A probe for more, and each round without one, should make packets wait no longer than a
/// quarter of the round-trip time, within these bounds.
const WAIT_MIN: Duration = Duration::from_millis(9);
const WAIT_MAX: Duration = Duration::from_millis(10);

/// A policer is looked for at this share of what arrives, and then given this share: a bucket that
/// is empty must fill again.
const TRIAL_SHARE: f64 = 0.9;
const POLICED_SHARE: f64 = 0.98;

/// The controller.
#[derive(Clone, Debug)]
pub(crate) struct Bbr {
    mtu: u64,
    model: Model,
    losses: Losses,
    bounds: Bounds,
    rivals: Rivals,
    uneven: Uneven,
    phase: Phase,
    pipe: FullPipe,
    /// The last probe stopped before it had found all there is.
    found: bool,
    /// The last probe was too much: the next one goes no further at first.
    too_high: bool,
    window: u64,
    /// Packets that left by then belong to the congestion that was answered last.
    answered_at: Option<Instant>,
    /// What to return to when losses turn out not to have been.
    undo: Option<Undo>,
}
packed!(Bbr {
    mtu,
    model,
    losses,
    bounds,
    rivals,
    uneven,
    phase,
    pipe,
    found,
    too_high,
    window,
    answered_at,
    undo
});

/// What the controller is about.
#[derive(Clone, Copy, Debug)]
enum Phase {
    /// Learning what the path delivers.
    Startup,
    /// Draining what startup put into queues.
    Drain,
    /// Sending what the path delivers.
    Cruise(Cruise),
    /// Filling the path before a probe, so that it meets the queue and not a gap.
    Refill,
    /// Probing whether it delivers more.
    Up(Up),
    /// Draining what the probe put into queues, for so many rounds so far.
    Down(u8),
    /// Looking for the round-trip time without any queue.
    ProbeRtt(probe::LowTide),
}
packed_enum!(Phase {
   Startup,
   Drain = 1,
   Cruise(cruise) = 2,
   Refill = 3,
   Up(up) = 4,
   Down(rounds) = 5,
   ProbeRtt(tide) = 6
});

#[derive(Clone, Copy, Debug)]
struct Undo {
    bandwidth: u64,
    bounds: Bounds,
    window: u64,
    /// What the losses put an end to.
    from: Ended,
    /// Packets of the episode that have not arrived.
    missing: u32,
}
packed!(Undo { bandwidth, bounds, window, from, missing });

/// What congestion put an end to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ended {
    Startup,
    Probe,
    Nothing,
}
packed_enum!(Ended { Startup, Probe = 1, Nothing = 2 });

impl Bbr {
    /// A path that carries datagrams of `mtu` bytes, and of which nothing is known.
    pub(crate) fn new(mtu: usize) -> Self {
        Self {
            mtu: mtu as u64,
            model: Model::new(),
            losses: Losses::new(),
            bounds: Bounds::default(),
            rivals: Rivals::default(),
            uneven: Uneven::new(),
            phase: Phase::Startup,
            pipe: FullPipe::new(),
            found: false,
            too_high: false,
            window: window_initial(mtu),
            answered_at: None,
            undo: None,
        }
    }

    pub(super) fn window(&self) -> u64 {
        self.window.max(self.window_min())
    }

    pub(super) fn is_starting(&self) -> bool {
        matches!(self.phase, Phase::Startup)
    }

    pub(super) fn set_mtu(&mut self, mtu: usize) {
        self.mtu = mtu as u64;
    }

    /// Bytes a second at which packets may leave that are expected to wait in this queue.
    // spec: CC-13, CC-14, CC-50
    pub(super) fn pacing_rate(&self, rtt: &Rtt, queue: Duration) -> u64 {
        if self.has_cushion() {
            return rate_of(self.window(), rtt.smoothed(), 5, 4);
        }
        let rate = scale(self.bandwidth(), self.pacing_gain(queue) * MARGIN);
        match self.phase {
            Phase::Startup => {
                // The first samples are of a handshake, and say little.
                let first = window_initial(usize::try_from(self.mtu).unwrap_or(usize::MAX));
                rate.max(rate_of(first, rtt.smoothed(), 2, 1))
            }
            _ => rate.max(rate_of(self.window_min(), rtt.smoothed(), 1, 1)),
        }
    }

    /// Bytes a second that the path delivers, as far as known.
    fn bandwidth(&self) -> u64 {
        match self.phase {
            Phase::Startup | Phase::Refill | Phase::Up(_) => self.model.bandwidth(),
            _ => self.bounds.rate(self.model.bandwidth()),
        }
    }

    fn pacing_gain(&self, queue: Duration) -> f64 {
        match &self.phase {
            Phase::Startup => self.startup_gain(),
            Phase::Drain => DRAIN_GAIN,
            Phase::Down(_) if self.rivals.present() => RIVALS_DOWN_GAIN,
            Phase::Down(_) => DOWN_GAIN,
            Phase::Refill => self.losses.compensation(),
            // What is expected of the queue is sooner known than what is seen of it.
            Phase::Up(_) if !self.rivals.present() && queue >= self.wait_max() / 2 => {
                self.losses.compensation()
            }
            Phase::Up(up) => up.gain(self.losses.compensation()),
            Phase::Cruise(_) => self.cruise_gain() * self.losses.compensation(),
            Phase::ProbeRtt(_) => 1.0,
        }
    }

    /// Takes what arrived.
    pub(super) fn on_ack(&mut self, now: Instant, sample: &AckSample, rtt: &Rtt) {
        let ended = self.model.on_ack(now, sample, rtt.adjusted());
        self.uneven.on_ack(now, sample.bytes_acked);
        if let Some(round) = ended {
            self.on_round(now, &round);
        }
        if !self.losses.exceed(self.model.round().acked, LOSS_SHARE, 1) {
            self.bounds.raise(self.model.in_flight());
        }
        self.step(now, sample, ended.as_ref());
        self.update_window(sample, rtt);
    }

    fn step(&mut self, now: Instant, sample: &AckSample, ended: Option<&Round>) {
        if self.has_cushion() {
            return self.step_cushioned(now, ended);
        }
        match self.phase {
            Phase::Startup => self.step_startup(now, sample, ended),
            Phase::Drain => self.step_drain(now, sample.in_flight),
            Phase::Cruise(cruise) => self.step_cruise(now, cruise, sample, ended),
            Phase::Refill => self.step_refill(now, ended),
            Phase::Up(up) => self.step_up(now, up, sample, ended),
            Phase::Down(rounds) => {
                let rounds = rounds.saturating_add(u8::from(ended.is_some()));
                self.step_down(now, rounds, sample.in_flight);
            }
            Phase::ProbeRtt(tide) => self.step_probe_rtt(now, tide, sample, ended),
        }
    }

    /// What a round that has ended says, whatever the phase is.
    fn on_round(&mut self, now: Instant, round: &Round) {
        let wait = self.model.standing_delay(round);
        let stands = round.samples >= 2 && wait > self.wait_max();
        let congested = self.losses.exceed(round.acked, LOSS_SHARE, LOSS_PACKETS);
        let cruises = matches!(self.phase, Phase::Cruise(cruise) if cruise.is_settled(round));
        let rounds = self.model.rounds();
        let verdict = self.losses.on_round(round.seen(), rounds, self.mtu, cruises && !stands);
        self.obey(verdict);
        if self.is_lossy() {
            self.bounds = Bounds::default();
        }
        if round.app_limited || matches!(self.phase, Phase::Startup | Phase::ProbeRtt(_)) {
            return;
        }
        self.look_for_unevenness(now, wait, stands);
        if self.uneven.is_active() {
            return;
        }
        let asks = matches!(self.phase, Phase::Refill | Phase::Up(_));
        if !asks && self.rivals.on_round(now, stands) {
            self.bounds = Bounds::default();
            self.phase = self.refill(now);
        }
        if !stands || self.rivals.present() {
            return;
        }
        // spec: CC-16
        if round.rate_max > 0 {
            self.model.set_bandwidth(round.rate_max.min(self.model.bandwidth()));
        }
        if congested || asks {
            self.phase = Phase::Down(0);
        }
    }

    // spec: CC-18
    fn obey(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Nothing => {}
            Verdict::Try(rate) => self.model.set_ceiling(Some(scale(rate, TRIAL_SHARE))),
            Verdict::Policed => self.model.raise_ceiling(POLICED_SHARE / TRIAL_SHARE),
            Verdict::Over => self.model.set_ceiling(None),
        }
    }

    /// How long packets should wait at most.
    fn wait_max(&self) -> Duration {
        let rtt = self.model.rtt_min().unwrap_or_default();
        (rtt / 4).clamp(WAIT_MIN, WAIT_MAX)
    }

    pub(super) fn on_loss(&mut self, now: Instant, sample: &LossSample) {
        self.losses.on_loss(sample.bytes_lost, sample.packets);
        if let Some(undo) = &mut self.undo {
            undo.missing = undo.missing.saturating_add(sample.packets);
        }
        let acked = self.model.round().acked;
        let waits = self.rivals.present() || self.model.queue_delay() > self.wait_max() / 2;
        let (share, packets) =
            if self.rivals.present() { (0.0, 1) } else { (LOSS_SHARE, LOSS_PACKETS) };
        if !waits || !self.losses.exceed(acked, share, packets) {
            return;
        }
        if self.is_answered(sample.largest_lost_sent_at) {
            return;
        }
        if self.has_cushion() {
            self.answered_at = Some(now);
            return self.uneven.on_loss();
        }
        let undo = Undo {
            bandwidth: self.model.bandwidth(),
            bounds: self.bounds,
            window: self.window,
            from: match self.phase {
                Phase::Startup => Ended::Startup,
                Phase::Refill | Phase::Up(_) => Ended::Probe,
                _ => Ended::Nothing,
            },
            missing: sample.packets,
        };
        self.yield_to(now, sample.prior_in_flight);
        self.undo = Some(undo);
    }

    // spec: ECN-2
    pub(super) fn on_ecn_ce(&mut self, now: Instant, sent_at: Instant) {
        if self.is_answered(sent_at) {
            return;
        }
        // The network's own word cannot turn out wrong.
        self.undo = None;
        if self.has_cushion() {
            self.answered_at = Some(now);
            return self.uneven.on_loss();
        }
        self.yield_to(now, self.model.in_flight());
    }

    // spec: CC-7
    fn is_answered(&self, sent_at: Instant) -> bool {
        self.answered_at.is_some_and(|at| sent_at <= at)
    }

    /// The path says that `in_flight` bytes are too much. A probe has found a lasting bound; else
    /// go down to what is delivered until the next one.
    // spec: CC-16, CC-24, CC-26
    fn yield_to(&mut self, now: Instant, in_flight: u64) {
        self.answered_at = Some(now);
        let target = self.model.bdp().min(self.window);
        if self.is_lossy() {
            let delivered = self.model.rate_latest().max(scale(self.model.bandwidth(), BETA));
            self.model.set_bandwidth(delivered.min(self.model.bandwidth()));
        }
        match self.phase {
            Phase::Startup | Phase::Drain if self.is_lossy() => self.phase = Phase::Drain,
            Phase::ProbeRtt(_) if self.is_lossy() => {}
            _ if self.is_lossy() => self.phase = Phase::Down(0),
            Phase::Startup => {
                let delivered = self.model.delivered_latest();
                self.bounds.too_high(delivered.max(self.model.bdp()), target);
                self.phase = Phase::Drain;
            }
            Phase::Refill | Phase::Up(_) | Phase::Cruise(_) | Phase::Down(_)
                if self.rivals.present() =>
            {
                self.bounds.share(scale(in_flight, RIVALS_BETA));
                self.model.next_cycle();
                self.phase = Phase::Down(0);
            }
            Phase::Refill | Phase::Up(_) => {
                self.bounds.too_high(in_flight, target);
                self.too_high = true;
                self.model.next_cycle();
                self.phase = Phase::Down(0);
            }
            Phase::Drain | Phase::Cruise(_) | Phase::Down(_) | Phase::ProbeRtt(_) => {
                let known = (self.model.bandwidth(), self.window);
                let delivered = (self.model.rate_latest(), self.model.delivered_latest());
                self.bounds.lower(known, delivered);
            }
        }
    }

    /// Losses are the path's own, as far as nobody fills the queue.
    fn is_lossy(&self) -> bool {
        !self.rivals.present() && self.losses.is_lossy(LOSS_SHARE)
    }

    // spec: CC-11
    pub(super) fn on_spurious_loss(&mut self, now: Instant, packets: u32) {
        self.losses.on_spurious(u64::from(packets).saturating_mul(self.mtu), packets);
        let Some(undo) = &mut self.undo else { return };
        undo.missing = undo.missing.saturating_sub(packets);
        if undo.missing > 0 {
            return;
        }
        let Some(undo) = self.undo.take() else { return };
        self.model.set_bandwidth(undo.bandwidth.max(self.model.bandwidth()));
        self.bounds.widen(&undo.bounds);
        self.window = self.window.max(undo.window);
        self.phase = match (undo.from, self.phase) {
            (_, Phase::ProbeRtt(tide)) => Phase::ProbeRtt(tide),
            (Ended::Startup, _) => Phase::Startup,
            (Ended::Probe, _) => self.refill(now),
            (Ended::Nothing, phase) => phase,
        };
    }

    /// Nothing arrived for a long time. The model stays: acknowledgements bring the window back to
    /// it. Where packets did not wait before, it was an outage, and not congestion: then it goes on as
    /// it began.
    // spec: CC-12
    pub(super) fn on_persistent_congestion(&mut self) {
        let first = window_initial(usize::try_from(self.mtu).unwrap_or(usize::MAX));
        let waited = self.rivals.present() || self.model.queue_delay() > self.wait_max() / 2;
        self.window = if waited { 0 } else { self.window.min(first) };
        self.undo = None;
    }
}

#[cfg(test)]
mod tests;
