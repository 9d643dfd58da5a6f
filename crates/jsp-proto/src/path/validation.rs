//! Proof that the peer is where its datagrams come from (RFC 9000, section 8.2).

use core::time::Duration;

use jsp_wire::{Instant, PathId, Route, limits};

use crate::bounded::Bounded;
use crate::path::{Budget, Path};

/// Challenges that may wait for an answer; the latest win.
const RESPONSES_MAX: usize = 8;

/// Challenges sent before a candidate is given up.
const CHALLENGES_MAX: u8 = 4;

/// A route that is on trial.
pub(crate) struct Candidate {
    pub(crate) route: Route,
    pub(crate) challenge: [u8; 8],
    pub(crate) budget: Budget,
    /// The peer has asked from there, and nobody else vouches for it.
    pub(crate) is_led: bool,
    sent: u8,
    next_at: Instant,
}

impl Candidate {
    pub(crate) fn new(now: Instant, route: Route, challenge: [u8; 8], received: usize) -> Self {
        let budget = Budget::for_received(received).on(&route);
        Self { route, challenge, budget, is_led: false, sent: 0, next_at: now }
    }

    /// The address that a path leads to already, as far as its `budget` goes.
    pub(crate) fn here(now: Instant, path: &Path, challenge: [u8; 8]) -> Self {
        Self { budget: path.budget, ..Self::new(now, path.route, challenge, 0) }
    }

    /// An address that nobody has to pay for: the peer is known to have been there, or to have proved itself
    /// before it was told of.
    pub(crate) fn trusted(now: Instant, route: Route, challenge: [u8; 8]) -> Self {
        Self { budget: Budget::Unlimited, ..Self::new(now, route, challenge, 0) }
    }

    /// True when a challenge is due.
    pub(crate) fn wants(&self, now: Instant) -> bool {
        self.sent < CHALLENGES_MAX && now >= self.next_at
    }

    pub(crate) fn on_sent(&mut self, now: Instant, pto: Duration) {
        self.sent = self.sent.saturating_add(1);
        self.next_at = now + pto.saturating_mul(self.sent.into());
    }

    /// True when all challenges went unanswered.
    pub(crate) fn is_hopeless(&self, now: Instant) -> bool {
        self.sent >= CHALLENGES_MAX && now >= self.next_at
    }

    pub(crate) fn poll_timeout(&self) -> Instant {
        self.next_at
    }
}

/// An answer owed to one challenge.
pub(crate) struct Owed {
    /// The path that the challenge belongs to.
    pub(crate) path: PathId,
    /// Where the challenge came from.
    pub(crate) route: Route,
    /// What it said.
    pub(crate) data: [u8; 8],
    /// Bytes that may go to an address of which nothing else is known.
    pub(crate) allowance: usize,
}

impl Owed {
    fn is_for(&self, path: &Path) -> bool {
        self.path == path.id && path.is_settled_at(&self.route)
    }

    fn is_beside(&self, path: &Path) -> bool {
        self.path == path.id && !path.is_settled_at(&self.route)
    }
}

/// Answers owed to the peer's challenges, each to the route its challenge came by.
#[derive(Default)]
pub(crate) struct Responses {
    owed: Bounded<Owed, RESPONSES_MAX>,
}

impl Responses {
    /// True when no answer is owed.
    pub(crate) fn is_empty(&self) -> bool {
        self.owed.is_empty()
    }

    /// The peer asks for an answer, in a datagram of `received` bytes. `is_settled` says that the
    /// route is the path's own, and proved. Elsewhere the latest challenge alone is answered, so that many in
    /// one datagram do not draw more than it paid for.
    // spec: CON-12
    pub(crate) fn push(
        &mut self,
        path: PathId,
        route: Route,
        data: [u8; 8],
        (received, is_settled): (usize, bool),
    ) {
        if !is_settled {
            self.owed.retain(|owed| owed.path != path || !owed.route.same_ends(&route));
        }
        // A challenge that is asked again is answered once.
        self.owed.retain(|owed| owed.data != data);
        let allowance = received.saturating_mul(limits::AMPLIFICATION_FACTOR as usize);
        self.owed.push_evicting(Owed { path, route, data, allowance });
    }

    /// The oldest answer that goes by the path itself.
    pub(crate) fn pop_for(&mut self, path: &Path) -> Option<[u8; 8]> {
        let place = self.owed.iter().position(|owed| owed.is_for(path))?;
        self.owed.remove(place).map(|owed| owed.data)
    }

    /// The oldest answer of the path that goes elsewhere.
    pub(crate) fn pop_not_for(&mut self, path: &Path) -> Option<Owed> {
        let place = self.owed.iter().position(|owed| owed.is_beside(path))?;
        self.owed.remove(place)
    }

    /// True when an answer goes by the path itself.
    pub(crate) fn wants_for(&self, path: &Path) -> bool {
        self.owed.iter().any(|owed| owed.is_for(path))
    }

    /// True when an answer of the path goes elsewhere.
    pub(crate) fn wants_elsewhere(&self, path: &Path) -> bool {
        self.owed.iter().any(|owed| owed.is_beside(path))
    }

    /// The path is over.
    pub(crate) fn end_path(&mut self, path: PathId) {
        self.owed.retain(|owed| owed.path != path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::TransportConfig;

    fn path() -> Path {
        let route = Route::udp("192.0.2.1:1".parse().unwrap());
        Path::new(route, Budget::Unlimited, &TransportConfig::default())
    }

    #[test]
    // spec-test: CON-12
    fn eight_answers_are_owed_at_most_and_the_latest_win() {
        let mut responses = Responses::default();
        let path = path();
        let route = path.route;
        for n in 0..20 {
            responses.push(PathId::FIRST, route, [n; 8], (100, true));
        }
        let answers: Vec<_> = core::iter::from_fn(|| responses.pop_for(&path)).collect();
        assert_eq!(answers, (12..20).map(|n| [n; 8]).collect::<Vec<_>>());
    }

    #[test]
    fn challenges_from_elsewhere_in_one_datagram_draw_one_answer() {
        let mut responses = Responses::default();
        let active = path();
        let other = Route::udp("192.0.2.7:1".parse().unwrap());
        for n in 0..8 {
            responses.push(PathId::FIRST, other, [n; 8], (50, false));
        }
        assert!(responses.wants_elsewhere(&active) && !responses.wants_for(&active));
        let owed = responses.pop_not_for(&active).unwrap();
        assert_eq!((owed.data, owed.allowance), ([7; 8], 150));
        assert!(responses.pop_not_for(&active).is_none());
    }

    #[test]
    fn a_candidate_is_given_up_after_four_challenges() {
        let route = Route::udp("192.0.2.1:1".parse().unwrap());
        let pto = Duration::from_millis(100);
        let mut now = Instant::from_nanos(5);
        let mut candidate = Candidate::new(now, route, [1; 8], 1200);
        let mut challenges = 0;
        while !candidate.is_hopeless(now) {
            if candidate.wants(now) {
                candidate.on_sent(now, pto);
                challenges += 1;
            }
            now = candidate.poll_timeout();
        }
        assert_eq!(challenges, CHALLENGES_MAX);
        assert_eq!(now.since(Instant::from_nanos(5)), pto * 10);
    }
}
