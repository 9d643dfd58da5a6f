//! How much somebody may still do: an amount that grows back with time.

use std::time::Duration;

use jsp_wire::Instant;

/// A bucket of tokens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowance {
    /// What grows back in each period, and how long that is.
    rate: u64,
    period: Duration,
    most: u64,
    left: u64,
    /// Until when what has grown back is counted.
    counted: Instant,
}

impl Allowance {
    /// So much a second, and at most so much at once.
    pub(super) fn new(per_second: u64, most: u64) -> Self {
        let period = Duration::from_secs(1);
        Self { rate: per_second, period, most, left: most, counted: Instant::ZERO }
    }

    /// So much a minute, all of it at once at most.
    pub(super) fn per_minute(rate: u64) -> Self {
        Self { period: Duration::from_secs(60), ..Self::new(rate, rate) }
    }

    /// Takes an amount; false, and nothing taken, when there is not so much.
    pub(super) fn take(&mut self, now: Instant, amount: u64) -> bool {
        self.grow(now);
        let may = amount <= self.left;
        if may {
            self.left -= amount;
        }
        may
    }

    /// Whether little is left: less than a quarter of what there is at most.
    pub(super) fn is_low(&self) -> bool {
        self.left < self.most / 4
    }

    /// Whether all has grown back.
    pub(super) fn is_whole(&mut self, now: Instant) -> bool {
        self.grow(now);
        self.left >= self.most
    }

    fn grow(&mut self, now: Instant) {
        let period = self.period.as_nanos().max(1);
        let grown = now.since(self.counted).as_nanos().saturating_mul(self.rate.into()) / period;
        let grown = u64::try_from(grown).unwrap_or(u64::MAX);
        if grown > 0 {
            self.left = self.left.saturating_add(grown).min(self.most);
            // The rest of a division is not lost: time is counted for what has grown.
            let nanos = u128::from(grown).saturating_mul(period) / u128::from(self.rate.max(1));
            let nanos = u64::try_from(nanos).unwrap_or(u64::MAX);
            self.counted = self.counted + Duration::from_nanos(nanos);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_grows_back() {
        let at = |millis: u64| Instant::ZERO + Duration::from_millis(millis);
        let mut bytes = Allowance::new(1000, 2000);
        assert!(bytes.take(at(0), 2000) && !bytes.take(at(0), 1));
        assert!(!bytes.take(at(500), 501) && bytes.take(at(500), 500));
        assert!(!bytes.take(at(60_000), 2001) && bytes.take(at(60_000), 2000));
        // Asked often, it grows no slower.
        let mut asks = Allowance::per_minute(60);
        assert!((0..60).all(|_| asks.take(at(0), 1)));
        let taken = (0..600).filter(|tenth| asks.take(at(tenth * 100), 1)).count();
        assert_eq!(taken, 59);
    }
}
