//! A client that has another way to its server: when the present one falls silent, and how the other is
//! tried.

use jsp_crypto::Role;
use jsp_wire::{Instant, Route};

use super::Connection;
use crate::event::Event;
use crate::path::Budget;
use crate::path::silence::Silence;
use crate::path::validation::Candidate;

impl Connection {
    /// Tells [`Event::PathSilent`] from here on: the peer has acknowledged nothing of what was sent to
    /// it for 500 ms, or two round trips where these are longer. Who has sent nothing hears of nothing.
    pub fn watch_silence(&mut self, now: Instant) {
        self.paths.active.silence = Some(Silence::new(now));
    }

    /// True while a silence that was told lasts.
    pub fn is_silent(&self) -> bool {
        self.paths.active.silence.is_some_and(|silence| silence.is_told())
    }

    /// When a silence is to be told. A reliable carrier says by itself when it is gone.
    pub(super) fn silence_at(&self) -> Option<Instant> {
        let path = &self.paths.active;
        let silence = path.silence.as_ref().filter(|_| !path.route.is_reliable())?;
        let oldest = path.numbers.recovery.oldest_eliciting();
        self.lifecycle.is_established().then(|| silence.due(oldest, path.rtt.smoothed())).flatten()
    }

    // spec: CAR-30
    pub(super) fn tell_silence(&mut self) {
        if let Some(silence) = &mut self.paths.active.silence {
            silence.on_told();
            self.events.push_back(Event::PathSilent);
        }
    }

    /// Asks the server by `route`; when it answers there, the path goes that way. False when there is
    /// nothing to ask: the path is there already, or the handshake is not complete.
    // spec: CAR-31
    pub(crate) fn try_route(&mut self, now: Instant, route: Route) -> bool {
        let may = self.role == Role::Client && self.lifecycle.is_established();
        if !may || self.paths.active.route.same_peer(&route) {
            return false;
        }
        let mut candidate = Candidate::new(now, route, self.rng.array(), 0);
        // The server has proved itself, and nobody has asked us to write there.
        candidate.budget = Budget::Unlimited;
        self.paths.candidate = Some(Box::new(candidate));
        true
    }
}
