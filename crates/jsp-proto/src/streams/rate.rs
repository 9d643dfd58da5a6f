//! A stream's own rate cap.

use core::time::Duration;

use jsp_wire::Instant;

/// What may go at once after a silence: this much time's worth of the rate.
const BURST: Duration = Duration::from_millis(20);

/// Smallest burst, in bytes: two packets.
const BURST_MIN: u64 = 2400;

const NANOS: u128 = 1_000_000_000;

/// A token bucket that may be overdrawn by one packet.
#[derive(Debug)]
pub(super) struct RateCap {
    /// Bytes per second.
    rate: u64,
    /// Bytes that may go now; below zero after an overdraft.
    tokens: i64,
    last: Instant,
}

impl RateCap {
    pub(super) fn new(rate: u64) -> Self {
        // A cap of nothing would hold the stream for ever.
        let rate = rate.max(1);
        Self { rate, tokens: Self::burst(rate), last: Instant::ZERO }
    }

    fn burst(rate: u64) -> i64 {
        let bytes = u128::from(rate) * BURST.as_nanos() / NANOS;
        i64::try_from(bytes).unwrap_or(i64::MAX / 2).max(BURST_MIN as i64)
    }

    /// When the stream may send; `None` when it may already.
    pub(super) fn wait(&mut self, now: Instant) -> Option<Instant> {
        let elapsed = now.since(self.last).as_nanos();
        let gained = elapsed * u128::from(self.rate) / NANOS;
        if gained > 0 {
            let gained = i64::try_from(gained).unwrap_or(i64::MAX);
            self.tokens = self.tokens.saturating_add(gained).min(Self::burst(self.rate));
            self.last = now;
        }
        if self.tokens > 0 {
            return None;
        }
        let missing = u128::from(self.tokens.unsigned_abs()) + 1;
        let nanos = (missing * NANOS).div_ceil(u128::from(self.rate));
        Some(self.last + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
    }

    /// `bytes` were sent.
    // spec: STR-43
    pub(super) fn spend(&mut self, bytes: usize) {
        self.tokens = self.tokens.saturating_sub(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_run_rate_is_the_cap() {
        let mut cap = RateCap::new(100_000);
        let mut now = Instant::from_nanos(5);
        let (mut sent, end) = (0u64, now + Duration::from_secs(10));
        while now < end {
            match cap.wait(now) {
                None => {
                    cap.spend(1200);
                    sent += 1200;
                }
                Some(until) => {
                    assert!(until > now);
                    now = until;
                }
            }
        }
        assert!((995_000..=1_005_000).contains(&sent), "{sent}");
    }
}
