//! How long packets wait in queues.

use core::time::Duration;

use jsp_wire::Instant;

/// Samples from which the waiting time is judged: the least of them counts, so that a single late
/// packet is no queue.
const RECENT_SAMPLES: usize = 3;

/// A round-trip time within this fraction of the minimum confirms the minimum; or, on short paths,
/// within the time by which hosts alone make it vary.
const CONFIRM_DIVISOR: u32 = 16;
const CONFIRM_MIN: Duration = Duration::from_millis(1);

/// What is known of the queue.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Queue {
    /// The round-trip time when nothing waits.
    base: Option<Duration>,
    /// When a sample last confirmed it.
    confirmed_at: Instant,
    /// The latest waiting times and when they became known, in a ring.
    recent: [(Instant, Duration); RECENT_SAMPLES],
    recent_at: usize,
}

impl Queue {
    /// Takes a round-trip time, and the waiting time on the way to the peer where that is known.
    /// Answers how long packets wait by this sample alone.
    // spec: CC-29
    pub(super) fn on_sample(
        &mut self,
        now: Instant,
        rtt: Duration,
        one_way: Option<Duration>,
    ) -> Duration {
        let base = self.base.map_or(rtt, |base| base.min(rtt));
        self.base = Some(base);
        let delay = one_way.unwrap_or(rtt.saturating_sub(base));
        if delay <= (base / CONFIRM_DIVISOR).max(CONFIRM_MIN) {
            self.confirmed_at = now;
        }
        if let Some(slot) = self.recent.get_mut(self.recent_at) {
            *slot = (now, delay);
        }
        self.recent_at = (self.recent_at + 1) % RECENT_SAMPLES;
        delay
    }

    /// How long packets wait.
    pub(super) fn delay(&self) -> Duration {
        self.recent.iter().map(|(_, delay)| *delay).min().unwrap_or_default()
    }

    /// Packets that come now waited less than those just before them, by at least half the time
    /// between: the queue drains by itself, as after a radio's pause.
    // spec: CC-30
    pub(super) fn drains(&self) -> bool {
        let oldest = self.recent.get(self.recent_at);
        let newest = self.recent.get((self.recent_at + RECENT_SAMPLES - 1) % RECENT_SAMPLES);
        let (Some((from, before)), Some((to, after))) = (oldest, newest) else { return false };
        after < before && before.saturating_sub(*after) >= to.since(*from) / 2
    }

    /// The round-trip time when nothing waits; `None` before the first sample.
    pub(super) fn base(&self) -> Option<Duration> {
        self.base
    }

    /// How long ago an empty queue was seen last.
    pub(super) fn age(&self, now: Instant) -> Duration {
        now.since(self.confirmed_at)
    }

    /// The round-trip time when nothing waits is this, whatever was seen before.
    pub(super) fn set_base(&mut self, now: Instant, base: Duration) {
        self.base = Some(base);
        self.confirmed_at = now;
        self.recent = [(now, Duration::ZERO); RECENT_SAMPLES];
    }
}
