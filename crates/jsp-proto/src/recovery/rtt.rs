//! Round-trip time of a path (RFC 9002, section 5).

use core::time::Duration;

use jsp_wire::Instant;

use crate::pack::packed;

/// Timers cannot be trusted below this (RFC 9002, section 6.1.2, `kGranularity`).
pub(crate) const GRANULARITY: Duration = Duration::from_millis(1);

/// What is known about the round-trip time of a path.
#[derive(Clone, Debug)]
pub(crate) struct Rtt {
    /// The latest sample as it was measured.
    latest: Duration,
    /// The latest sample less the time that the peer held its acknowledgement back.
    adjusted: Duration,
    smoothed: Duration,
    var: Duration,
    min: Duration,
    first_sample_at: Option<Instant>,
}
packed!(Rtt { latest, adjusted, smoothed, var, min, first_sample_at });

impl Rtt {
    /// Before the first sample, `initial` stands for it.
    pub(crate) fn new(initial: Duration) -> Self {
        Self {
            latest: initial,
            adjusted: initial,
            smoothed: initial,
            var: initial / 2,
            min: initial,
            first_sample_at: None,
        }
    }

    /// Takes a sample. `ack_delay` is what the peer says it waited, already bounded.
    // spec: REC-1, REC-2, REC-3
    pub(crate) fn update(&mut self, now: Instant, sample: Duration, ack_delay: Duration) {
        self.latest = sample;
        if self.first_sample_at.is_none() {
            self.first_sample_at = Some(now);
            self.min = sample;
            self.adjusted = sample;
            self.smoothed = sample;
            self.var = sample / 2;
            return;
        }
        self.min = self.min.min(sample);
        // Not below the minimum: RFC 9002, section 5.3, would not subtract at all then, which makes a
        // queue of the peer's delay when the sample is the shortest but for that.
        self.adjusted = sample.saturating_sub(ack_delay).max(self.min);
        let deviation = self.smoothed.abs_diff(self.adjusted);
        self.var = (self.var.saturating_mul(3).saturating_add(deviation)) / 4;
        self.smoothed = (self.smoothed.saturating_mul(7).saturating_add(self.adjusted)) / 8;
    }

    /// The smoothed round-trip time.
    pub(crate) fn smoothed(&self) -> Duration {
        self.smoothed
    }

    /// The smallest sample since the start, or since the path was given up as congested.
    pub(crate) fn min(&self) -> Duration {
        self.min
    }

    /// The latest sample as it was measured.
    pub(crate) fn latest(&self) -> Duration {
        self.latest
    }

    /// The latest sample without the peer's delay: what the network took.
    pub(crate) fn adjusted(&self) -> Duration {
        self.adjusted
    }

    /// How much samples vary.
    pub(crate) fn var(&self) -> Duration {
        self.var
    }

    /// True once anything has been measured.
    pub(crate) fn has_sample(&self) -> bool {
        self.first_sample_at.is_some()
    }

    /// When the first sample was taken.
    pub(crate) fn first_sample_at(&self) -> Option<Instant> {
        self.first_sample_at
    }

    /// How long to wait for an acknowledgement before a probe, without back-off.
    /// `ack_delay_max` is what the peer may wait; zero while the handshake lasts.
    // spec: REC-12
    pub(crate) fn pto_base(&self, ack_delay_max: Duration) -> Duration {
        let margin = self.var.saturating_mul(4).max(GRANULARITY);
        self.smoothed.saturating_add(margin).saturating_add(ack_delay_max)
    }

    /// The path has changed under us: the next sample is the new minimum.
    pub(crate) fn forget_min(&mut self) {
        self.min = Duration::MAX;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    #[test]
    /// spec-test: REC-1
    fn the_first_sample_replaces_the_assumption() {
        let mut rtt = Rtt::new(333 * MS);
        assert!(!rtt.has_sample());
        assert_eq!(rtt.pto_base(Duration::ZERO), 999 * MS);
        rtt.update(at(5), 100 * MS, 50 * MS);
        assert_eq!((rtt.smoothed(), rtt.var(), rtt.min()), (100 * MS, 50 * MS, 100 * MS));
        assert_eq!(rtt.first_sample_at(), Some(at(5)));
    }

    #[test]
    /// spec-test: REC-2
    fn the_peers_delay_is_taken_out_but_never_below_the_minimum() {
        let mut rtt = Rtt::new(333 * MS);
        rtt.update(at(1), 100 * MS, Duration::ZERO);
        rtt.update(at(2), 125 * MS, 20 * MS);
        assert_eq!(rtt.adjusted(), 105 * MS);
        // A peer that claims more delay than there was is believed as far as that.
        rtt.update(at(3), 110 * MS, 20 * MS);
        assert_eq!(rtt.adjusted(), 100 * MS);
        assert_eq!(rtt.latest(), 110 * MS);
        // The minimum knows nothing of delays.
        assert_eq!(rtt.min(), 100 * MS);
    }

    #[test]
    /// spec-test: REC-3
    fn weights_are_an_eighth_and_a_quarter() {
        let mut rtt = Rtt::new(333 * MS);
        rtt.update(at(1), 100 * MS, Duration::ZERO);
        rtt.update(at(2), 180 * MS, Duration::ZERO);
        assert_eq!(rtt.smoothed(), 110 * MS);
        // (3 * 50 + |100 - 180|) / 4: the deviation is from the old average.
        assert_eq!(rtt.var(), Duration::from_micros(57_500));
    }

    #[test]
    /// spec-test: REC-12
    fn the_probe_timeout_has_a_floor_for_its_margin() {
        let mut rtt = Rtt::new(333 * MS);
        for n in 0..200 {
            rtt.update(at(n), 20 * MS, Duration::ZERO);
        }
        assert_eq!(rtt.pto_base(Duration::ZERO), 21 * MS);
        assert_eq!(rtt.pto_base(25 * MS), 46 * MS);
    }

    #[test]
    fn a_forgotten_minimum_comes_from_the_next_sample() {
        let mut rtt = Rtt::new(333 * MS);
        rtt.update(at(1), 10 * MS, Duration::ZERO);
        rtt.forget_min();
        rtt.update(at(2), 50 * MS, Duration::ZERO);
        assert_eq!(rtt.min(), 50 * MS);
    }
}
