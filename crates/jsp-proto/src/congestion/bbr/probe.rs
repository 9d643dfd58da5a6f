//! The steady cycle: send what the path delivers, ask now and then whether it delivers more, drain
//! what that put into queues; and look for the shortest round-trip time when it was not seen for
//! long.

use core::time::Duration;

use jsp_wire::Instant;

use super::model::{Model, Round, time_of};
use super::{Bbr, Phase};
use crate::congestion::{AckSample, scale};
use crate::pack::packed;

/// Time between two probes for more, and what is added to it at random, so that flows which share
/// a path do not probe together (draft-ietf-ccwg-bbr: 2 to 3 s).
const CRUISE: Duration = Duration::from_secs(2);
const CRUISE_SPREAD_NANOS: u64 = 1_000_000_000;

/// A probe sends what makes a queue grow by about this in a round trip: that is how late its news
/// comes.
const UP_WAIT: Duration = Duration::from_millis(10);

/// Least and most that a probe sends above the known rate, as a share of it. The most is reached
/// in steps, while each step finds more.
const UP_EXCESS_MIN: f64 = 0.05;
const UP_EXCESS_FIRST_MAX: f64 = 0.25;
const UP_EXCESS_MAX: f64 = 0.5;

/// By how much the excess grows with each step.
const UP_GROWTH: f64 = 1.5;

/// By how much a probe may raise the lasting bound beside others: where many share, a fair share is small,
/// and soon gone.
const UP_FAIR: f64 = 1.75;

/// Rounds of one step: what is sent in the first is acknowledged in the second.
const UP_ROUNDS: u8 = 2;

/// A step has found more when the bandwidth has risen by this share of the excess.
const UP_FOUND: f64 = 0.5;

/// Rounds until the next probe when the last one found this much more, and had to stop because
/// packets waited.
const SOON_ROUNDS: u32 = 4;
const SOON_FOUND: f64 = 1.08;

/// Packets that a flow may have waiting while it cruises: the same number for all flows of a path,
/// so that faster ones give way to slower ones.
const CRUISE_PACKETS_WAITING: u64 = 2;

/// Bounds for the time that these packets take.
const CRUISE_WAIT_MIN: Duration = Duration::from_millis(2);
const CRUISE_WAIT_MAX: Duration = Duration::from_millis(8);

/// Time in which the excess drains at least: flows with short ways must not give way before others
/// have seen it.
const CRUISE_DRAIN: Duration = Duration::from_millis(60);

/// Least rate while cruising, as a share of the bandwidth.
const CRUISE_GAIN_MIN: f64 = 0.75;

/// The minimum of the round-trip time must have been confirmed within this time.
const RTT_MIN_AGE: Duration = Duration::from_secs(5);

/// How long, and with how many bandwidth-delay products in flight, it is looked for
/// (`ProbeRTTDuration`, `ProbeRTTCwndGain`).
const LOW_TIDE: Duration = Duration::from_millis(200);
const LOW_TIDE_WINDOW: f64 = 0.5;

/// One stretch of steady sending.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cruise {
    began: Instant,
    probe_at: Instant,
}
packed!(Cruise { began, probe_at });

impl Cruise {
    /// `soon` says that the last probe had to stop before it had found all there is.
    fn new(now: Instant, soon: bool, rtt: Duration) -> Self {
        if soon {
            return Self { began: now, probe_at: now + rtt.saturating_mul(SOON_ROUNDS) };
        }
        // The low digits of the clock are random enough to keep flows apart.
        let mixed = now.as_nanos().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
        let spread = Duration::from_nanos(mixed % CRUISE_SPREAD_NANOS);
        Self { began: now, probe_at: now + CRUISE + spread }
    }

    /// What a round tells is of packets that left while cruising: its losses too, which come a
    /// round trip later than what arrives.
    pub(super) fn is_settled(&self, round: &Round) -> bool {
        round.began() > Some(self.began)
    }
}

/// One probe for more.
#[derive(Clone, Copy, Debug)]
pub(super) struct Up {
    began: Instant,
    /// Share of the bandwidth that is sent above it.
    excess: f64,
    /// The bandwidth when the probe began, and when its step did.
    first: u64,
    base: u64,
    /// Most bytes in flight beside others, who need as long to give way.
    fair: u64,
    rounds: u8,
    steps: u32,
}
packed!(Up { began, excess, first, base, fair, rounds, steps });

impl Up {
    pub(super) fn new(now: Instant, model: &Model, fair: Option<u64>) -> Self {
        let rtt = model.rtt_min().unwrap_or(UP_WAIT).as_secs_f64().max(0.001);
        let careful = (UP_WAIT.as_secs_f64() / rtt).clamp(UP_EXCESS_MIN, UP_EXCESS_FIRST_MAX);
        let excess = if fair.is_some() { UP_EXCESS_FIRST_MAX } else { careful };
        let base = model.bandwidth();
        Self {
            began: now,
            excess,
            first: base,
            base,
            fair: fair.unwrap_or(u64::MAX),
            rounds: 0,
            steps: 0,
        }
    }

    /// What makes up for losses is part of the excess, as long as it is the smaller part.
    // spec: CC-14
    pub(super) fn gain(&self, compensation: f64) -> f64 {
        (1.0 + self.excess).max(compensation * (1.0 + self.excess / 2.0))
    }

    /// What is heard is of packets that left before the probe began.
    fn is_young(&self, sample: &AckSample) -> bool {
        sample.largest_sent_at <= self.began
    }

    /// How many times the usual wait the window allows: later steps send more in a round trip.
    pub(super) fn stretch(&self) -> u32 {
        1 + (self.steps / 2).min(3)
    }

    /// The bound on the flight, not the path, was the limit: nothing is known yet.
    fn restart(&mut self, bandwidth: u64) {
        self.rounds = 0;
        self.base = bandwidth;
    }

    /// A round has ended; false when the path does not deliver more.
    fn goes_on(&mut self, bandwidth: u64) -> bool {
        self.rounds = self.rounds.saturating_add(1);
        if self.rounds < UP_ROUNDS {
            return true;
        }
        if (bandwidth as f64) < self.base as f64 * (1.0 + self.excess * UP_FOUND) {
            return false;
        }
        self.rounds = 0;
        self.base = bandwidth;
        self.steps = self.steps.saturating_add(1);
        self.excess = (self.excess * UP_GROWTH).min(UP_EXCESS_MAX);
        true
    }
}

/// Rounds of draining at most: a queue that is still there then is not ours.
const DOWN_ROUNDS: u8 = 3;

/// A stretch with little in flight.
#[derive(Clone, Copy, Debug)]
pub(super) struct LowTide {
    /// Set once so little is in flight.
    until: Option<Instant>,
    rtt_min: Option<Duration>,
    rounds: u32,
}
packed!(LowTide { until, rtt_min, rounds });

impl Bbr {
    /// Less than the bandwidth while packets wait: the excess is gone in about a round trip.
    // spec: CC-14
    pub(super) fn cruise_gain(&self) -> f64 {
        if self.rivals.present() {
            return 1.0;
        }
        let own = time_of(self.mtu.saturating_mul(CRUISE_PACKETS_WAITING), self.model.bandwidth());
        let allowed = own.clamp(CRUISE_WAIT_MIN, CRUISE_WAIT_MAX);
        let excess = self.model.queue_delay().saturating_sub(allowed);
        let time = self.model.rtt_min().unwrap_or_default().max(CRUISE_DRAIN);
        (1.0 - excess.as_secs_f64() / time.as_secs_f64()).clamp(CRUISE_GAIN_MIN, 1.0)
    }

    pub(super) fn step_cruise(
        &mut self,
        now: Instant,
        cruise: Cruise,
        sample: &AckSample,
        ended: Option<&Round>,
    ) {
        if ended.is_none() || sample.app_limited {
            return;
        }
        if self.model.rtt_min_age(now) > RTT_MIN_AGE {
            self.enter_probe_rtt(now);
        } else if now >= cruise.probe_at && !self.losses.is_policed() {
            self.phase = self.refill(now);
        }
    }

    /// Forgets what bounds for a short time, and fills the path for a round.
    // spec: CC-23
    pub(super) fn refill(&mut self, now: Instant) -> Phase {
        self.bounds.reset_short();
        self.model.restart_round(now);
        Phase::Refill
    }

    // spec: CC-23
    pub(super) fn step_refill(&mut self, now: Instant, ended: Option<&Round>) {
        if ended.is_some() {
            let fair = scale(self.bounds.long(), UP_FAIR);
            let fair = self.rivals.present().then_some(fair);
            self.phase = Phase::Up(Up::new(now, &self.model, fair));
        }
    }

    // spec: CC-14
    pub(super) fn step_up(
        &mut self,
        now: Instant,
        mut up: Up,
        sample: &AckSample,
        ended: Option<&Round>,
    ) {
        let young = up.is_young(sample);
        let allowed = self.wait_max().saturating_mul(if young { 2 } else { 1 });
        let waits = !self.rivals.present() && self.model.queue_delay() >= allowed;
        let enough = up.fair != u64::MAX && self.bounds.long() >= up.fair;
        let careful = self.too_high && sample.in_flight >= self.bounds.long();
        let filled = sample.in_flight.saturating_add(sample.bytes_acked).saturating_add(self.mtu);
        if filled >= self.window && self.window >= self.bounds.long() {
            up.restart(self.model.bandwidth());
            self.bounds.probe_upward(sample.bytes_acked, self.window, self.mtu, ended.is_some());
        }
        let more = match ended {
            Some(_) if sample.app_limited => false,
            Some(_) if !young => up.goes_on(self.model.bandwidth()),
            _ => true,
        };
        self.phase = Phase::Up(up);
        if waits || careful || enough || !more {
            self.found = waits && self.model.bandwidth() as f64 > up.first as f64 * SOON_FOUND;
            // What was too much is not any more, if nothing is lost until the next probe.
            self.found |= careful;
            self.too_high = false;
            self.model.next_cycle();
            self.step_down(now, 0, sample.in_flight);
        }
    }

    // spec: CC-27
    pub(super) fn step_down(&mut self, now: Instant, rounds: u8, in_flight: u64) {
        self.phase = Phase::Down(rounds);
        let meant = self.pipe(1.0).min(self.bounds.with_headroom(self.mtu));
        if in_flight <= meant || rounds >= DOWN_ROUNDS {
            self.cruise(now);
        }
    }

    pub(super) fn cruise(&mut self, now: Instant) {
        let soon = core::mem::take(&mut self.found);
        let rtt = self.model.rtt_min().unwrap_or_default();
        self.phase = Phase::Cruise(Cruise::new(now, soon, rtt));
    }

    // spec: CC-20
    pub(super) fn enter_probe_rtt(&mut self, _now: Instant) {
        self.phase = Phase::ProbeRtt(LowTide { until: None, rtt_min: None, rounds: 0 });
    }

    pub(super) fn low_tide_window(&self) -> u64 {
        scale(self.model.bdp(), LOW_TIDE_WINDOW).max(self.window_min())
    }

    // spec: CC-20
    pub(super) fn step_probe_rtt(
        &mut self,
        now: Instant,
        mut tide: LowTide,
        sample: &AckSample,
        ended: Option<&Round>,
    ) {
        match tide.until {
            None if sample.in_flight <= self.low_tide_window() => tide.until = Some(now + LOW_TIDE),
            None => {}
            Some(until) => {
                if let Some(round) = ended {
                    tide.rounds = tide.rounds.saturating_add(1);
                    tide.rtt_min = match (tide.rtt_min, round.rtt_min) {
                        (Some(a), Some(b)) => Some(a.min(b)),
                        (a, b) => a.or(b),
                    };
                }
                if now >= until && tide.rounds >= 2 {
                    if let Some(rtt) = tide.rtt_min {
                        self.model.set_rtt_min(now, rtt);
                    }
                    self.cruise(now);
                    return;
                }
            }
        }
        self.phase = Phase::ProbeRtt(tide);
    }
}
