//! When to look, while changes come in bursts: a network that comes up is a dozen of them in some 100 ms, and a
//! router's table never rests.

use std::time::Duration;

use tokio::time::Instant;

/// Between two looks of a burst: what belongs together comes within less, and a pause of this length is not heard.
const PAUSE_MIN: Duration = Duration::from_millis(20);

/// The same, after many changes that concerned no path.
const PAUSE_MAX: Duration = Duration::from_millis(640);

/// Spaces looks.
pub(super) struct Pace {
    last: Option<Instant>,
    pause: Duration,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self { last: None, pause: PAUSE_MIN }
    }

    /// When a change that is told now may be looked at; `None` for at once.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        let at = self.last?.checked_add(self.pause)?;
        (at > now).then_some(at)
    }

    /// A look is taken, and has `found` something of use or not.
    pub(super) fn looked(&mut self, now: Instant, found: bool) {
        let since = self.last.map(|last| now.saturating_duration_since(last));
        // Twice the pause without a change: that storm is over.
        let in_storm = since.is_some_and(|since| since < self.pause.saturating_mul(2));
        self.pause = if found || !in_storm {
            PAUSE_MIN
        } else {
            self.pause.saturating_mul(2).min(PAUSE_MAX)
        };
        self.last = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks as soon as it may at changes that never end, for so long.
    fn looks(pace: &mut Pace, now: &mut Instant, time: Duration, found: bool) -> usize {
        let (end, mut count) = (*now + time, 0);
        while *now < end {
            pace.looked(*now, found);
            count += 1;
            *now = pace.due(*now).expect("not at once after a look");
        }
        count
    }

    #[test]
    fn the_first_change_is_looked_at_once_and_a_burst_every_20_ms() {
        let (mut pace, mut now) = (Pace::new(), Instant::now());
        assert_eq!(pace.due(now), None);
        let second = Duration::from_secs(1);
        assert_eq!(looks(&mut pace, &mut now, second, true), 50);
        // It has been quiet.
        now += PAUSE_MIN;
        assert_eq!(pace.due(now), None);
    }

    #[test]
    fn a_storm_that_concerns_nobody_costs_less_and_less() {
        let (mut pace, mut now) = (Pace::new(), Instant::now());
        let minute = Duration::from_secs(60);
        assert!(looks(&mut pace, &mut now, minute, false) < 105);
        let waits = pace.due(now - PAUSE_MAX).map(|at| at - (now - PAUSE_MAX));
        assert_eq!(waits, Some(PAUSE_MAX), "the bound that is documented");
        // A change of use in its midst: what belongs to it is seen soon.
        pace.looked(now, true);
        assert_eq!(pace.due(now), Some(now + PAUSE_MIN));
        // And after the storm.
        assert!(looks(&mut pace, &mut now, minute, false) < 105);
        now += PAUSE_MAX * 2;
        pace.looked(now, false);
        assert_eq!(pace.due(now), Some(now + PAUSE_MIN));
    }
}
