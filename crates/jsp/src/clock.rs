//! The endpoint's clock: the runtime's monotonic time, counted from one origin.

use std::time::{SystemTime, UNIX_EPOCH};

use jsp_wire::Instant;

/// Turns the runtime's time into the transport's and back. It follows `tokio::time::pause`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: tokio::time::Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { origin: tokio::time::Instant::now() }
    }

    pub(crate) fn now(&self) -> Instant {
        let nanos = self.origin.elapsed().as_nanos();
        Instant::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// The runtime's name for an instant; an instant beyond the runtime's reach is a year away.
    pub(crate) fn to_runtime(self, instant: Instant) -> tokio::time::Instant {
        const YEAR: std::time::Duration = std::time::Duration::from_secs(365 * 86_400);
        let since_origin = instant.since(Instant::ZERO);
        self.origin
            .checked_add(since_origin.min(self.origin.elapsed() + YEAR))
            .unwrap_or(self.origin)
    }
}

/// Seconds since 1970, for the dates in identities; 0 when the system's clock stands before that.
pub(crate) fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
