//! How good alarms are, against what the queue really did.

use std::time::Duration;

use jsp_wire::Instant;

/// A wait from which on a queue counts as long.
pub const LONG_WAIT: Duration = Duration::from_millis(100);
/// Long waits this close to each other belong to one episode.
const SAME_EPISODE: Duration = Duration::from_millis(500);
/// An alarm counts for an episode that begins at most this much later.
const AHEAD_MAX: Duration = Duration::from_millis(500);

/// A stretch of time.
pub type Span = (Instant, Instant);

/// What alarms were worth.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Score {
    /// Episodes of long waits.
    pub episodes: usize,
    /// Episodes that an alarm went before, or fell into.
    pub foreseen: usize,
    /// Alarms.
    pub alarms: usize,
    /// Alarms that an episode followed, or that fell into one.
    pub justified: usize,
    /// From the first alarm for an episode to its beginning, in seconds; negative when it was late.
    pub leads: Vec<f64>,
}

impl Score {
    /// Share of episodes that were foreseen.
    pub fn recall(&self) -> f64 {
        self.foreseen as f64 / self.episodes.max(1) as f64
    }

    /// Share of alarms that were justified.
    pub fn precision(&self) -> f64 {
        self.justified as f64 / self.alarms.max(1) as f64
    }

    /// Harmonic mean of both.
    pub fn f1(&self) -> f64 {
        let (recall, precision) = (self.recall(), self.precision());
        2.0 * recall * precision / (recall + precision).max(f64::MIN_POSITIVE)
    }

    /// The same with the counts of another world added.
    pub fn and(mut self, other: Self) -> Self {
        self.episodes += other.episodes;
        self.foreseen += other.foreseen;
        self.alarms += other.alarms;
        self.justified += other.justified;
        self.leads.extend(other.leads);
        self
    }
}

/// Stretches in which packets waited long: from when the first of them had waited so long to the turn of
/// the last. `waits` are turns and the waits before them.
pub fn episodes(waits: &[(Instant, Duration)]) -> Vec<Span> {
    let mut out: Vec<Span> = Vec::new();
    for (turn, wait) in waits.iter().filter(|(_, wait)| *wait > LONG_WAIT) {
        let beyond = wait.saturating_sub(LONG_WAIT).as_nanos() as u64;
        let long_since = Instant::from_nanos(turn.as_nanos().saturating_sub(beyond));
        match out.last_mut() {
            Some((_, end)) if long_since <= *end + SAME_EPISODE => *end = (*turn).max(*end),
            _ => out.push((long_since, *turn)),
        }
    }
    out
}

/// Lays alarms, in order, beside episodes.
pub fn score(alarms: &[Span], episodes: &[Span]) -> Score {
    let belongs = |alarm: &Span, episode: &Span| {
        alarm.0 <= episode.1 && episode.0 <= alarm.1.max(alarm.0 + AHEAD_MAX)
    };
    let mut score = Score { episodes: episodes.len(), alarms: alarms.len(), ..Score::default() };
    for episode in episodes {
        let Some(first) = alarms.iter().find(|alarm| belongs(alarm, episode)) else { continue };
        score.foreseen += 1;
        let seconds = |at: Instant| at.as_nanos() as f64 / 1e9;
        score.leads.push(seconds(episode.0) - seconds(first.0));
    }
    let justified = |alarm: &&Span| episodes.iter().any(|episode| belongs(alarm, episode));
    score.justified = alarms.iter().filter(justified).count();
    score
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    #[test]
    fn long_waits_make_episodes() {
        let wait = |turn, ms| (at(turn), Duration::from_millis(ms));
        let waits = [wait(500, 10), wait(1_200, 150), wait(1_300, 200), wait(5_000, 101)];
        assert_eq!(episodes(&waits), [(at(1_150), at(1_300)), (at(4_999), at(5_000))]);
    }

    #[test]
    fn alarms_are_early_late_false_or_missing() {
        let episodes = [(at(1_000), at(1_500)), (at(5_000), at(5_500)), (at(9_000), at(9_100))];
        let alarms = [(at(900), at(1_200)), (at(3_000), at(3_100)), (at(5_100), at(5_200))];
        let score = score(&alarms, &episodes);
        assert_eq!((score.episodes, score.foreseen), (3, 2));
        assert_eq!((score.alarms, score.justified), (3, 2));
        assert!((score.leads[0] - 0.1).abs() < 1e-9 && (score.leads[1] + 0.1).abs() < 1e-9);
        assert!((score.f1() - 2.0 / 3.0).abs() < 1e-9);
        assert_eq!(score.clone().and(score).episodes, 6);
    }
}
