//! How many bytes the model lets be in flight.

use core::time::Duration;

use super::{Bbr, Phase};
use crate::congestion::{AckSample, bytes_in, scale, window_initial, window_min};
use crate::recovery::Rtt;

/// Bandwidth-delay products in flight while the path is unknown (`StartupCwndGain`).
const STARTUP_WINDOW: f64 = 2.0;

/// Bandwidth-delay products in flight when the model is trusted; acknowledgements come in lumps of
/// an eighth of a round trip.
const WINDOW_GAIN: f64 = 1.25;

/// The window follows round-trip times that vary up to this many minimal ones.
const WINDOW_GAIN_MAX: f64 = 4.0;

/// Hosts send and acknowledge in lumps of this time, be the path ever so short, and three of them
/// are under way: one on each side and one between (`offload_budget`, three times `send_quantum`).
const LUMP_TIME: Duration = Duration::from_millis(1);
const LUMPS: u64 = 3;

/// No lump is larger than a batch of segmentation offload.
const LUMP_MAX: u64 = 64 * 1024;

/// Packets that may always be in flight (`MinPipeCwnd`).
const PACKETS_MIN: u64 = 4;

/// Bandwidth-delay products in flight while others fill the queue (`DefaultCwndGain`, and `ProbeBW_UP`'s).
const RIVALS_WINDOW: f64 = 2.0;
const RIVALS_WINDOW_UP: f64 = 2.25;

impl Bbr {
    /// The window follows its target as fast as bytes arrive, and down at once.
    // spec: CC-19
    pub(super) fn update_window(&mut self, sample: &AckSample, rtt: &Rtt) {
        let grown = self.window.saturating_add(sample.bytes_acked);
        let target = self.window_target(rtt);
        self.window = match self.phase {
            // The path is unknown: what is known of it bounds nothing yet.
            Phase::Startup => {
                let first = window_initial(usize::try_from(self.mtu).unwrap_or(usize::MAX));
                grown.min(target.max(first).max(self.window.min(target.saturating_mul(2))))
            }
            _ => grown.min(target),
        }
        .max(self.window_min());
    }

    fn window_target(&self, rtt: &Rtt) -> u64 {
        if self.has_cushion() {
            return self.uneven.window(self.model.rtt_min().unwrap_or_default());
        }
        let bdp = self.model.bdp();
        // A probe fills what it is allowed: lumps that are larger than those of a receiver like
        // ours would only wait.
        let lumps_max = if matches!(self.phase, Phase::Up(_)) { bdp / 6 } else { bdp };
        let lumps = self.model.extra_acked().min(lumps_max);
        let lumps = lumps.saturating_add(self.mtu.saturating_mul(3));
        let bytes = match &self.phase {
            Phase::Startup | Phase::Drain => self.pipe(STARTUP_WINDOW),
            Phase::ProbeRtt(_) => return self.low_tide_window(),
            Phase::Up(_) if self.rivals.present() => scale(bdp, RIVALS_WINDOW_UP),
            _ if self.rivals.present() => scale(bdp, RIVALS_WINDOW),
            Phase::Up(up) => {
                let wait = self.wait_max().saturating_mul(up.stretch());
                bdp.saturating_add(bytes_in(self.model.bandwidth(), wait))
            }
            Phase::Cruise(_) | Phase::Refill | Phase::Down(_) => {
                let usual = rtt.smoothed().saturating_add(rtt.var().saturating_mul(2));
                let longest = usual.max(self.model.rtt_max());
                let varying = bytes_in(self.model.bandwidth(), longest);
                varying.min(scale(bdp, WINDOW_GAIN_MAX)).max(self.pipe(WINDOW_GAIN))
            }
        };
        let compensated = scale(bytes, self.losses.compensation());
        self.bound(self.brake(compensated.saturating_add(lumps)))
    }

    /// So many bandwidth-delay products, but not less than what the hosts have under way.
    // spec: CC-28
    pub(super) fn pipe(&self, products: f64) -> u64 {
        let lump = bytes_in(self.model.bandwidth(), LUMP_TIME).min(LUMP_MAX);
        scale(self.model.bdp(), products).max(lump.saturating_mul(LUMPS))
    }

    /// What was too much before is not tried again, but by a probe.
    // spec: CC-24, CC-26
    fn bound(&self, target: u64) -> u64 {
        match self.phase {
            Phase::Startup => target,
            Phase::Refill | Phase::Up(_) => target.min(self.bounds.long()),
            Phase::Drain | Phase::Down(_) => {
                target.min(self.bounds.long()).min(self.bounds.short())
            }
            Phase::Cruise(_) | Phase::ProbeRtt(_) => {
                target.min(self.bounds.with_headroom(self.mtu)).min(self.bounds.short())
            }
        }
    }

    /// When packets wait far too long, what is in flight comes down at once to what arrives in a
    /// round trip, and returns as soon as they do not.
    // spec: CC-16
    fn brake(&self, target: u64) -> u64 {
        let allowed = self.wait_max().saturating_mul(2);
        let startup = matches!(self.phase, Phase::Startup);
        let unknown = startup || self.model.rate_latest() == 0;
        if unknown || self.rivals.present() || self.model.queue_delay() <= allowed {
            return target;
        }
        let rtt = self.model.rtt_min().unwrap_or_default();
        let arriving =
            bytes_in(self.model.rate_latest(), rtt.saturating_add(Duration::from_millis(4)));
        target.min(arriving.saturating_add(self.mtu.saturating_mul(3)))
    }

    // spec: CC-2
    pub(super) fn window_min(&self) -> u64 {
        let mtu = usize::try_from(self.mtu).unwrap_or(usize::MAX);
        window_min(mtu).max(self.mtu.saturating_mul(PACKETS_MIN))
    }
}
