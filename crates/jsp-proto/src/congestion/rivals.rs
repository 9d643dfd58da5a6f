//! Whether others fill the queue. A sender that keeps queues short starves beside one that fills
//! them until something is lost; beside such, the bound on delay must rest (the mode switch of Copa,
//! NSDI 2018, section 2.2, with another test).

use core::time::Duration;

use jsp_wire::Instant;

use crate::pack::packed;

/// Rounds in a row in which the queue stood although we sent a quarter less than arrived: a queue
/// of two bandwidth-delay products would be gone, were it ours.
const STANDING_ROUNDS: u32 = 8;

/// And for how long at least: others of our kind on longer ways take so long to see it.
const STANDING_TIME: Duration = Duration::from_millis(1500);

/// How long, and for how many rounds, no queue must have stood until others are thought gone:
/// longer than CUBIC takes on common paths to fill a queue again.
const GONE_TIME: Duration = Duration::from_secs(3);
const GONE_ROUNDS: u32 = 16;

/// What is known of others.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rivals {
    present: bool,
    standing: u32,
    standing_since: Option<Instant>,
    /// When a queue stood last, and rounds since.
    stood_at: Option<Instant>,
    clear: u32,
}
packed!(Rivals { present, standing, standing_since, stood_at, clear });

impl Rivals {
    /// Others fill the queue.
    pub(super) fn present(&self) -> bool {
        self.present
    }

    /// Others have come, as something else shows.
    pub(super) fn come(&mut self, now: Instant) {
        self.present = true;
        self.stood_at = Some(now);
        self.clear = 0;
    }

    /// A round has ended in which we did not ask for more; `stands` says that all its packets
    /// waited. True when others have come.
    // spec: CC-22
    pub(super) fn on_round(&mut self, now: Instant, stands: bool) -> bool {
        if stands {
            self.standing = self.standing.saturating_add(1);
            self.stood_at = Some(now);
            self.clear = 0;
            let time = now.since(*self.standing_since.get_or_insert(now));
            let come = !self.present && self.standing >= STANDING_ROUNDS && time >= STANDING_TIME;
            self.present |= come;
            return come;
        }
        self.standing = 0;
        self.standing_since = None;
        self.clear = self.clear.saturating_add(1);
        let quiet = self.stood_at.is_none_or(|at| now.since(at) >= GONE_TIME);
        if quiet && self.clear >= GONE_ROUNDS {
            self.present = false;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    /// spec-test: CC-22
    fn a_queue_that_does_not_go_is_not_ours() {
        let at = |round: u64| Instant::from_nanos(round * 250_000_000);
        let mut rivals = Rivals::default();
        for round in 0..7 {
            assert!(!rivals.on_round(at(round), true));
        }
        assert!(!rivals.on_round(at(7), false), "it went");
        for round in 8..15 {
            assert!(!rivals.on_round(at(round), true));
        }
        assert!(rivals.on_round(at(15), true) && rivals.present());
        // They are gone when nothing stood for three seconds and sixteen rounds.
        for round in 16..31 {
            rivals.on_round(at(round), false);
            assert!(rivals.present(), "{round}");
        }
        rivals.on_round(at(31), false);
        assert!(!rivals.present());
    }
}
