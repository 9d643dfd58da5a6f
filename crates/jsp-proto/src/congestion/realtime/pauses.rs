//! Whether the path stops and goes, as mobile radios do: then a long wait says little of the rate.

use core::time::Duration;

use jsp_wire::Instant;

/// A wait that is longer than that of the round before by this was a pause: what we send above the rate
/// makes packets wait by less in a round trip.
const PAUSE: Duration = Duration::from_millis(40);

/// So many of them within this time show that the path has its way with them.
const PAUSES: usize = 3;
const WITHIN: Duration = Duration::from_secs(8);

/// The latest pauses of a path.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pauses {
    at: [Option<Instant>; PAUSES],
    next: usize,
    before: Duration,
}

impl Pauses {
    /// A round has ended, in which no packet waited longer than this.
    // spec: CC-47
    pub(super) fn on_round(&mut self, now: Instant, longest: Duration) {
        if longest >= self.before.saturating_add(PAUSE) {
            if let Some(slot) = self.at.get_mut(self.next) {
                *slot = Some(now);
            }
            self.next = (self.next + 1) % PAUSES;
        }
        self.before = longest;
    }

    /// Pauses are what this path is like.
    pub(super) fn are_usual(&self, now: Instant) -> bool {
        self.at.iter().all(|at| at.is_some_and(|at| now.since(at) <= WITHIN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn at(ms: u32) -> Instant {
        Instant::ZERO + MS * ms
    }

    #[test]
    /// spec-test: CC-47
    fn three_pauses_within_eight_seconds_are_usual() {
        let mut pauses = Pauses::default();
        for start in [0, 2000, 4000] {
            assert!(!pauses.are_usual(at(start)));
            for (round, wait) in [(1, 0), (2, 90), (3, 30), (4, 0)] {
                pauses.on_round(at(start + 100 * round), MS * wait);
            }
        }
        assert!(pauses.are_usual(at(4400)));
        assert!(pauses.are_usual(at(8200)) && !pauses.are_usual(at(8201)));
    }

    #[test]
    /// spec-test: CC-47
    fn a_queue_that_grows_or_comes_once_is_none() {
        let mut pauses = Pauses::default();
        for round in 1..100u32 {
            pauses.on_round(at(100 * round), MS * (round % 10 * 15));
        }
        pauses.on_round(at(10_000), MS * 500);
        pauses.on_round(at(10_100), MS * 600);
        assert!(!pauses.are_usual(at(10_100)));
    }
}
