//! Proof that the peer is where its datagrams come from (RFC 9000, section 8.2).

use core::time::Duration;
use std::collections::VecDeque;

use jsp_wire::{Instant, Route};

use crate::path::Budget;

/// Challenges that may wait for an answer; the latest win.
const RESPONSES_MAX: usize = 8;

/// Challenges sent before a candidate is given up.
const CHALLENGES_MAX: u8 = 4;

/// A route that is on trial.
pub(crate) struct Candidate {
    pub(crate) route: Route,
    pub(crate) challenge: [u8; 8],
    pub(crate) budget: Budget,
    sent: u8,
    next_at: Instant,
}

impl Candidate {
    pub(crate) fn new(now: Instant, route: Route, challenge: [u8; 8], received: usize) -> Self {
        let budget = Budget::for_received(received);
        Self { route, challenge, budget, sent: 0, next_at: now }
    }

    /// True when a challenge is due.
    pub(crate) fn wants(&self, now: Instant) -> bool {
        self.sent < CHALLENGES_MAX && now >= self.next_at
    }

    pub(crate) fn on_sent(&mut self, now: Instant, pto: Duration) {
        self.sent = self.sent.saturating_add(1);
        self.next_at = now + pto * u32::from(self.sent);
    }

    /// True when all challenges went unanswered.
    pub(crate) fn is_hopeless(&self, now: Instant) -> bool {
        self.sent >= CHALLENGES_MAX && now >= self.next_at
    }

    pub(crate) fn poll_timeout(&self) -> Instant {
        self.next_at
    }
}

/// Answers owed to the peer's challenges, each to the route its challenge came by.
#[derive(Default)]
pub(crate) struct Responses {
    owed: VecDeque<(Route, [u8; 8])>,
}

impl Responses {
    /// The peer asks for an answer.
    // spec: CON-12
    pub(crate) fn push(&mut self, route: Route, data: [u8; 8]) {
        if self.owed.len() >= RESPONSES_MAX {
            self.owed.pop_front();
        }
        self.owed.push_back((route, data));
    }

    /// The oldest answer that goes by `route`.
    pub(crate) fn pop_for(&mut self, route: &Route) -> Option<[u8; 8]> {
        let place = self.owed.iter().position(|(owed, _)| owed.same_peer(route))?;
        self.owed.remove(place).map(|(_, data)| data)
    }

    /// The oldest answer that goes elsewhere.
    pub(crate) fn pop_not_for(&mut self, route: &Route) -> Option<(Route, [u8; 8])> {
        let place = self.owed.iter().position(|(owed, _)| !owed.same_peer(route))?;
        self.owed.remove(place)
    }

    pub(crate) fn wants(&self) -> bool {
        !self.owed.is_empty()
    }
}
