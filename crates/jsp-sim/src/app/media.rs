//! The rate of a source that adapts, by what an application can see of its connection.

use std::time::Duration;

use jsp_proto::ConnectionStats;
use jsp_wire::Instant;

use super::plan::MediaPlan;

/// Round-trip time above the smallest at which the source slows down.
const DELAY_MAX: Duration = Duration::from_millis(40);
/// What waits to be sent or acknowledged may last for the smallest round trip and this.
const BACKLOG_MAX: Duration = Duration::from_millis(80);
/// Factor of a slowdown.
const SLOWER: f64 = 0.8;
/// Factor of each frame that meets no delay: at 30 frames a second the rate doubles in 1.2 s.
const FASTER: f64 = 1.02;

/// The rate of a source under way.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct MediaRate {
    bps: f64,
    /// Slowdowns take a round trip to show.
    slowed_at: Option<Instant>,
}

impl MediaRate {
    /// Bits per second of the frame that is made now.
    pub(super) fn next(&mut self, now: Instant, plan: &MediaPlan, stats: &ConnectionStats) -> u64 {
        let floor = plan.floor_bps as f64;
        self.bps = self.bps.max(floor);
        let waiting = Duration::from_secs_f64(stats.buffered as f64 * 8.0 / self.bps);
        let is_late =
            stats.rtt > stats.rtt_min + DELAY_MAX || waiting > stats.rtt_min + BACKLOG_MAX;
        let settled = self.slowed_at.is_none_or(|at| now.since(at) >= stats.rtt);
        if is_late && settled {
            self.bps *= SLOWER;
            self.slowed_at = Some(now);
        } else if !is_late {
            self.bps *= FASTER;
        }
        self.bps = self.bps.clamp(floor, plan.ceiling_bps as f64);
        self.bps as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_rises_while_nothing_waits_and_falls_when_something_does() {
        let plan = MediaPlan {
            start: Instant::ZERO,
            end: Instant::FAR_FUTURE,
            every: Duration::from_millis(33),
            floor_bps: 100_000,
            ceiling_bps: 1_000_000,
        };
        let rtt = Duration::from_millis(60);
        let calm = ConnectionStats { rtt, rtt_min: rtt, ..ConnectionStats::default() };
        let mut rate = MediaRate::default();
        let mut now = Instant::ZERO;
        for _ in 0..200 {
            rate.next(now, &plan, &calm);
            now = now + plan.every;
        }
        assert_eq!(rate.next(now, &plan, &calm), 1_000_000);
        let busy = ConnectionStats { rtt: rtt * 2, ..calm };
        assert_eq!(rate.next(now, &plan, &busy), 800_000);
        assert_eq!(rate.next(now, &plan, &busy), 800_000, "once a round trip");
    }
}
