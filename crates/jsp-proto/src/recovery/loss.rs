//! When a packet is lost: the kernels of time-based detection (the ideas of RFC 8985) and of
//! persistent congestion (RFC 9002, section 7.6). Pure state; the ledger is not known here.

use core::time::Duration;

use jsp_wire::Instant;

use super::rtt::{GRANULARITY, Rtt};
use crate::pack::packed;

/// Loss episodes without a spurious one after which a widened window halves
/// (RFC 8985, section 6.2, step 4: 16 recoveries).
const EPISODES_UNTIL_NARROWER: u8 = 16;

/// How much disorder the path shows, and so how long a gap may stay open.
#[derive(Clone, Debug)]
pub(super) struct ReorderWindow {
    /// Zero until any reordering has been seen; then quarters of the minimum round-trip time.
    quarters: u32,
    /// Loss episodes left until the window narrows.
    episodes_left: u8,
    /// The window widens at most once in a round trip.
    widened_at: Option<Instant>,
    /// Round-trip time of the most recently sent packet that has been acknowledged.
    reference_rtt: Duration,
}
packed!(ReorderWindow { quarters, episodes_left, widened_at, reference_rtt });

impl ReorderWindow {
    pub(super) fn new() -> Self {
        Self {
            quarters: 0,
            episodes_left: EPISODES_UNTIL_NARROWER,
            widened_at: None,
            reference_rtt: Duration::ZERO,
        }
    }

    /// How long after a later packet's acknowledgement an earlier one may still come.
    // spec: REC-6, REC-7, REC-8
    pub(super) fn width(&self, rtt: &Rtt) -> Duration {
        if self.quarters == 0 {
            return Duration::ZERO;
        }
        let width = (rtt.min() / 4).saturating_mul(self.quarters);
        width.min(rtt.smoothed()).max(GRANULARITY)
    }

    /// When a packet that left at `sent_at`, before one that has been acknowledged, is lost.
    // spec: REC-5
    pub(super) fn lost_at(&self, sent_at: Instant, width: Duration) -> Instant {
        sent_at + self.reference_rtt.saturating_add(width)
    }

    /// The most recently sent packet so far has been acknowledged after `rtt`.
    pub(super) fn set_reference(&mut self, rtt: Duration) {
        self.reference_rtt = rtt;
    }

    /// A packet was acknowledged after one that left later.
    pub(super) fn on_reordered(&mut self, now: Instant) {
        if self.quarters == 0 {
            self.quarters = 1;
            self.widened_at = Some(now);
        }
    }

    /// A packet that left at `sent_at` and was held lost has arrived all the same.
    // spec: REC-8
    pub(super) fn on_spurious(&mut self, now: Instant, sent_at: Instant, rtt: &Rtt) {
        self.episodes_left = EPISODES_UNTIL_NARROWER;
        let quarter = (rtt.min() / 4).max(Duration::from_nanos(1));
        let late = now.since(sent_at + self.reference_rtt);
        // What would have sufficed for this packet.
        let quarters_in = |time: Duration| {
            let whole = time.as_nanos() / quarter.as_nanos();
            u32::try_from(whole).unwrap_or(u32::MAX).saturating_add(1)
        };
        let stepped = match self.widened_at {
            Some(at) if now.since(at) < rtt.smoothed() => self.quarters,
            _ => self.quarters.saturating_add(1),
        };
        let wider = quarters_in(late).max(stepped).min(quarters_in(rtt.smoothed()));
        if wider > self.quarters {
            self.quarters = wider;
            self.widened_at = Some(now);
        }
    }

    /// A new loss episode begins.
    pub(super) fn on_episode(&mut self) {
        if self.quarters <= 1 {
            return;
        }
        self.episodes_left = self.episodes_left.saturating_sub(1);
        if self.episodes_left == 0 {
            self.quarters = (self.quarters / 2).max(1);
            self.episodes_left = EPISODES_UNTIL_NARROWER;
        }
    }
}

/// The stretch of packets that were all lost, up to where detection has come.
#[derive(Clone, Debug, Default)]
pub(super) struct LostRun {
    /// When the first ack-eliciting packet of the stretch left.
    since: Option<Instant>,
}
packed!(LostRun { since });

impl LostRun {
    /// A packet between was acknowledged.
    pub(super) fn interrupt(&mut self) {
        self.since = None;
    }

    /// Another ack-eliciting packet of the stretch is lost. True when the stretch has become as
    /// long as `duration`: the network carried nothing for that time.
    // spec: REC-15
    pub(super) fn extend(&mut self, sent_at: Instant, rtt: &Rtt, duration: Duration) -> bool {
        // Before the first sample the duration is a guess.
        if rtt.first_sample_at().is_none_or(|first| sent_at < first) {
            return false;
        }
        let since = *self.since.get_or_insert(sent_at);
        if sent_at.since(since) <= duration {
            return false;
        }
        self.since = Some(sent_at);
        true
    }
}
