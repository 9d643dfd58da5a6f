//! The times that an endpoint goes by besides `now`.

use core::time::Duration;

use jsp_wire::Instant;

use super::Endpoint;

impl Endpoint {
    /// Tells the present Unix time, counted from 1970 UTC. To be called whenever the driver wakes up, and before a
    /// connection is begun: a host's clock is set at times, and `now` may stand still while the host sleeps. Up to a
    /// second of difference is let be. Early data are taken at most once however the time leaps; where it was set
    /// back, they are refused until it has caught up.
    pub fn set_unix_time(&mut self, now: Instant, since_1970: Duration) {
        if let Some(at_zero_ms) = self.unix_time.corrected(now, since_1970) {
            // First: nothing is judged by the new time before.
            self.tickets.on_time_set(at_zero_ms);
            self.unix_time.set(at_zero_ms);
        }
    }

    /// Milliseconds since 1970 UTC.
    pub(super) fn unix_ms(&self, now: Instant) -> u64 {
        self.unix_time.millis(now)
    }

    /// Seconds since 1970 UTC.
    pub(super) fn unix_seconds(&self, now: Instant) -> u64 {
        self.unix_time.seconds(now)
    }
}

/// The time of cookies in seconds: one that nobody sets, so that no cookie becomes new again.
// spec: HS-229
pub(super) fn cookie_seconds(now: Instant) -> u64 {
    now.as_nanos() / 1_000_000_000
}
