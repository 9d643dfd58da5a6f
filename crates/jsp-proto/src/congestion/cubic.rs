//! CUBIC (RFC 9438), with HyStart++ in slow start and proportional rate reduction in recovery.

use core::time::Duration;

use jsp_wire::Instant;

use super::hystart::{Advice, HyStart};
use super::prr::Prr;
use super::{AckSample, LossSample, rate_of, window_initial, window_min};
use crate::recovery::Rtt;

/// How steep the curve is, in packets a second cubed (RFC 9438, section 4.6).
const C: f64 = 0.4;

/// What is left of the window after a loss (RFC 9438, section 4.6).
const BETA: f64 = 0.7;

/// Growth in packets a round trip at which a sender that backs off to [`BETA`] is as fast as Reno:
/// 3 (1 - beta) / (1 + beta) (RFC 9438, section 4.3).
const ALPHA: f64 = 3.0 * (1.0 - BETA) / (1.0 + BETA);

/// The window grows by at most half in a round trip (RFC 9438, section 4.2).
const TARGET_MAX: f64 = 1.5;

/// The controller.
#[derive(Clone, Debug)]
pub(crate) struct Cubic {
    mtu: u64,
    /// Bytes. Kept with its fraction: growth of less than a byte an ACK must not be lost.
    window: f64,
    /// Bytes at which slow start ends.
    threshold: f64,
    hystart: HyStart,
    /// Congestion avoidance since the last reduction.
    epoch: Option<Epoch>,
    /// Bytes of the window before the last reduction, lowered when the windows shrink from
    /// reduction to reduction.
    window_max: f64,
    /// Bytes of the window before the last reduction.
    window_prior: f64,
    recovery: Option<Episode>,
    /// Packets that left by then belong to the last episode.
    episode_began: Option<Instant>,
    undo: Option<Undo>,
    usage: Usage,
    last_ack_at: Option<Instant>,
}

/// How much of the window was used in this round trip and the one before.
#[derive(Clone, Copy, Debug, Default)]
struct Usage {
    /// The round ends when a packet sent after this is acknowledged.
    round_began: Option<Instant>,
    /// Most bytes in flight.
    peak: u64,
    peak_before: u64,
}

impl Usage {
    fn on_sent(&mut self, in_flight: u64) {
        self.peak = self.peak.max(in_flight);
    }

    fn on_ack(&mut self, now: Instant, sent_at: Instant, in_flight: u64) {
        if self.round_began.is_none_or(|began| sent_at > began) {
            self.round_began = Some(now);
            self.peak_before = self.peak;
            self.peak = in_flight;
        }
    }

    fn peak(&self) -> u64 {
        self.peak.max(self.peak_before)
    }
}

/// One climb of the cubic curve.
#[derive(Clone, Copy, Debug)]
struct Epoch {
    /// Moves on while the application does not use the window.
    began: Instant,
    /// Seconds until the curve is back at `window_max`.
    k: f64,
    /// Bytes: where Reno would be.
    reno: f64,
}

/// A recovery that has not ended.
#[derive(Clone, Copy, Debug)]
struct Episode {
    prr: Prr,
    /// Bytes that may be in flight until the next ACK.
    window: u64,
}

/// What to return to when the losses turn out not to have been.
#[derive(Clone, Debug)]
struct Undo {
    window: f64,
    threshold: f64,
    window_max: f64,
    window_prior: f64,
    epoch: Option<Epoch>,
    hystart: HyStart,
    /// Packets of the episode that have not arrived.
    missing: u32,
}

impl Cubic {
    /// A path that carries datagrams of `mtu` bytes, and of which nothing is known.
    pub(crate) fn new(mtu: usize) -> Self {
        Self {
            mtu: mtu as u64,
            window: window_initial(mtu) as f64,
            threshold: f64::INFINITY,
            hystart: HyStart::new(),
            epoch: None,
            window_max: 0.0,
            window_prior: 0.0,
            recovery: None,
            episode_began: None,
            undo: None,
            usage: Usage::default(),
            last_ack_at: None,
        }
    }

    pub(super) fn window(&self) -> u64 {
        match &self.recovery {
            Some(episode) => episode.window.max(self.window_min()),
            None => (self.window as u64).max(self.window_min()),
        }
    }

    // spec: CC-10
    pub(super) fn pacing_rate(&self, rtt: &Rtt) -> u64 {
        let (numerator, denominator) = if self.is_slow_start() { (2, 1) } else { (5, 4) };
        // In recovery the window follows each ACK, and is itself the brake.
        rate_of((self.window as u64).max(self.window_min()), rtt.smoothed(), numerator, denominator)
    }

    pub(super) fn is_starting(&self) -> bool {
        self.is_slow_start()
    }

    pub(super) fn set_mtu(&mut self, mtu: usize) {
        self.mtu = mtu as u64;
    }

    /// The window still grows exponentially.
    fn is_slow_start(&self) -> bool {
        self.recovery.is_none() && self.window < self.threshold
    }

    pub(super) fn on_sent(&mut self, bytes: u64, in_flight: u64) {
        self.usage.on_sent(in_flight);
        if let Some(episode) = &mut self.recovery {
            episode.prr.on_sent(bytes);
        }
    }

    pub(super) fn on_ack(&mut self, now: Instant, sample: &AckSample, rtt: &Rtt) {
        let before = self.last_ack_at.replace(now).unwrap_or(now);
        self.usage.on_ack(now, sample.largest_sent_at, sample.in_flight);
        if let Some(episode) = &mut self.recovery {
            let is_over = self.episode_began.is_none_or(|began| sample.largest_sent_at > began);
            if !is_over {
                let losses = sample.has_losses;
                episode.window =
                    episode.prr.on_ack(sample.bytes_acked, sample.in_flight, losses, self.mtu);
                return;
            }
            self.recovery = None;
        }
        if sample.app_limited && !self.uses_window() {
            self.hold_epoch(now.since(before));
            return;
        }
        if self.window < self.threshold {
            self.slow_start(now, sample, rtt);
        } else {
            self.avoid_congestion(now, sample.bytes_acked, rtt);
        }
    }

    /// The window, not the application, was the limit: a window that nobody has filled has not been
    /// tested, and must not grow (RFC 9438, section 5.8; the tests are those of Linux).
    // spec: CC-8
    fn uses_window(&self) -> bool {
        let peak = self.usage.peak();
        if self.window < self.threshold {
            self.window() < peak.saturating_mul(2)
        } else {
            self.window() <= peak.saturating_add(self.mtu.saturating_mul(3))
        }
    }

    // spec: CC-3
    fn slow_start(&mut self, now: Instant, sample: &AckSample, rtt: &Rtt) {
        let rtt_sample = sample.has_rtt_sample.then(|| rtt.adjusted());
        let advice =
            self.hystart.on_ack(now, sample.bytes_acked, sample.largest_sent_at, rtt_sample);
        match advice {
            Advice::Grow(bytes) => self.window += bytes as f64,
            Advice::Exit => {
                self.threshold = self.window;
                self.epoch = None;
            }
        }
    }

    // spec: CC-5, CC-6
    fn avoid_congestion(&mut self, now: Instant, bytes_acked: u64, rtt: &Rtt) {
        let mtu = self.mtu as f64;
        let acked = bytes_acked as f64;
        let window = self.window;
        if self.epoch.is_none() && self.window_max < window {
            // Nothing bounds the curve from above: it starts convex.
            self.window_max = window;
        }
        let window_max = self.window_max;
        let epoch = self.epoch.get_or_insert_with(|| Epoch {
            began: now,
            k: k(window_max / mtu, window / mtu),
            reno: window,
        });
        let elapsed = now.since(epoch.began);
        let alpha = if epoch.reno < self.window_prior { ALPHA } else { 1.0 };
        epoch.reno += alpha * mtu * acked / window;
        let curve_now = curve(elapsed, epoch.k, window_max / mtu) * mtu;
        if curve_now < epoch.reno {
            // Reno would be faster: be as fast, no slower (the Reno-friendly region).
            self.window = window.max(epoch.reno);
            return;
        }
        let ahead = elapsed.saturating_add(rtt.smoothed());
        let target = curve(ahead, epoch.k, window_max / mtu) * mtu;
        // `clamp` would bring the formatting of floats into every program, for its panic.
        let target = target.max(window).min(window * TARGET_MAX);
        self.window = window + (target - window) / window * acked;
    }

    /// The curve does not climb while nobody uses it (RFC 9438, section 5.8).
    // spec: CC-8
    fn hold_epoch(&mut self, idle: Duration) {
        if let Some(epoch) = &mut self.epoch {
            epoch.began = epoch.began + idle;
        }
    }

    pub(super) fn on_loss(&mut self, now: Instant, sample: &LossSample) {
        if self.is_known(sample.largest_lost_sent_at) {
            if let Some(undo) = &mut self.undo {
                undo.missing = undo.missing.saturating_add(sample.packets);
            }
            return;
        }
        self.undo = Some(Undo {
            window: self.window,
            threshold: self.threshold,
            window_max: self.window_max,
            window_prior: self.window_prior,
            epoch: self.epoch,
            hystart: self.hystart.clone(),
            missing: sample.packets,
        });
        self.reduce(now, sample.prior_in_flight, sample.bytes_lost);
    }

    pub(super) fn on_ecn_ce(&mut self, now: Instant, sent_at: Instant, prior_in_flight: u64) {
        if self.is_known(sent_at) {
            return;
        }
        // The network's own word cannot turn out wrong.
        self.undo = None;
        self.reduce(now, prior_in_flight, 0);
    }

    /// A packet that left at `sent_at` belongs to the episode that was already answered.
    // spec: CC-7
    fn is_known(&self, sent_at: Instant) -> bool {
        self.episode_began.is_some_and(|began| sent_at <= began)
    }

    // spec: CC-5, CC-7
    fn reduce(&mut self, now: Instant, prior_in_flight: u64, bytes_lost: u64) {
        let window = self.window;
        self.window_prior = window;
        // Fast convergence: a window that shrinks makes room for newcomers.
        self.window_max =
            if window < self.window_max { window * (1.0 + BETA) / 2.0 } else { window };
        self.window = (window * BETA).max(self.window_min() as f64);
        self.threshold = self.window;
        self.epoch = None;
        self.hystart = HyStart::new();
        self.episode_began = Some(now);
        let prr = Prr::new(self.window as u64, prior_in_flight);
        // One packet may leave at once; the rest as acknowledgements come.
        let in_flight = prior_in_flight.saturating_sub(bytes_lost);
        self.recovery = Some(Episode { prr, window: in_flight.saturating_add(self.mtu) });
    }

    // spec: CC-11
    pub(super) fn on_spurious_loss(&mut self, packets: u32) {
        let Some(undo) = &mut self.undo else { return };
        undo.missing = undo.missing.saturating_sub(packets);
        if undo.missing > 0 {
            return;
        }
        let Some(undo) = self.undo.take() else { return };
        self.window = self.window.max(undo.window);
        self.threshold = undo.threshold;
        self.window_max = undo.window_max;
        self.window_prior = undo.window_prior;
        self.epoch = undo.epoch;
        self.hystart = undo.hystart;
        self.recovery = None;
    }

    // spec: CC-12
    pub(super) fn on_persistent_congestion(&mut self) {
        self.window = self.window_min() as f64;
        self.recovery = None;
        self.epoch = None;
        self.undo = None;
        self.hystart = HyStart::new();
    }

    fn window_min(&self) -> u64 {
        window_min(usize::try_from(self.mtu).unwrap_or(usize::MAX))
    }
}

/// Seconds that the curve takes from `window` up to `window_max`, both in packets
/// (RFC 9438, section 4.2, figure 2).
fn k(window_max: f64, window: f64) -> f64 {
    ((window_max - window).max(0.0) / C).cbrt()
}

/// The curve, in packets (RFC 9438, section 4.2, figure 1).
fn curve(elapsed: Duration, k: f64, window_max: f64) -> f64 {
    C * (elapsed.as_secs_f64() - k).powi(3) + window_max
}

#[cfg(test)]
mod tests;
