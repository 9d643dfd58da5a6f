//! Unix time beside our own count of nanoseconds: dates in identities, tickets, and the hours of the wrapping are told
//! by it. Our own count goes on evenly; a host's clock is set, and goes on while the host sleeps.

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::sync::Arc;

use jsp_wire::Instant;

/// How far the time may be from the one that is told before it follows, in milliseconds: it starts in whole seconds.
const APART_MAX_MS: u64 = 1000;

/// Unix time as an endpoint and its connections know it, who share it.
#[derive(Clone)]
pub(crate) struct UnixTime {
    /// Milliseconds since 1970 UTC at `Instant::ZERO`.
    at_zero_ms: Arc<AtomicU64>,
}

impl UnixTime {
    /// The time that was so many seconds after 1970 at `Instant::ZERO`.
    pub(crate) fn starting(seconds_at_zero: u64) -> Self {
        Self { at_zero_ms: Arc::new(AtomicU64::new(seconds_at_zero.saturating_mul(1000))) }
    }

    /// Milliseconds since 1970 UTC.
    pub(crate) fn millis(&self, now: Instant) -> u64 {
        // One thread at a time has the endpoint: there is nothing to order.
        self.at_zero_ms().saturating_add(now.as_nanos() / 1_000_000)
    }

    /// Seconds since 1970 UTC.
    pub(crate) fn seconds(&self, now: Instant) -> u64 {
        self.millis(now) / 1000
    }

    /// Milliseconds since 1970 UTC at `Instant::ZERO`, as it is known now.
    pub(crate) fn at_zero_ms(&self) -> u64 {
        self.at_zero_ms.load(Ordering::Relaxed)
    }

    /// What [`UnixTime::at_zero_ms`] should be, for it is `since_1970` now; `None` when it is about right.
    // spec: HS-227
    pub(crate) fn corrected(&self, now: Instant, since_1970: Duration) -> Option<u64> {
        let told = u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX);
        let is_apart = told.abs_diff(self.millis(now)) > APART_MAX_MS;
        is_apart.then(|| told.saturating_sub(now.as_nanos() / 1_000_000))
    }

    pub(crate) fn set(&self, at_zero_ms: u64) {
        self.at_zero_ms.store(at_zero_ms, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    // spec-test: HS-227
    fn it_follows_what_it_is_told_beyond_a_second() {
        let time = UnixTime::starting(1_800_000_000);
        let shared = time.clone();
        let now = Instant::from_nanos(5_999_000_000);
        assert_eq!((time.millis(now), time.seconds(now)), (1_800_000_005_999, 1_800_000_005));
        let tell = |told: Duration| {
            let corrected = time.corrected(now, told);
            corrected.into_iter().for_each(|at_zero_ms| time.set(at_zero_ms));
            corrected
        };
        for near in [1_800_000_004_999, 1_800_000_006_999] {
            assert_eq!(tell(Duration::from_millis(near)), None);
            assert_eq!(time.millis(now), 1_800_000_005_999);
        }
        assert_eq!(tell(Duration::from_millis(1_800_000_007_000)), Some(1_800_000_001_001));
        assert_eq!(shared.millis(now), 1_800_000_007_000);
        assert_eq!(shared.millis(now + Duration::from_secs(3)), 1_800_000_010_000);
        // Set back, and to what no clock shows.
        assert!(tell(Duration::from_secs(1_000_000_000)).is_some());
        assert_eq!(shared.seconds(now), 1_000_000_000);
        tell(Duration::ZERO);
        tell(Duration::MAX);
        assert_eq!(shared.millis(now), u64::MAX);
    }
}
