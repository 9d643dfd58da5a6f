//! A client that has another way to its server: when the present one falls silent, and how the other is
//! tried.

use core::time::Duration;

use jsp_crypto::Role;
use jsp_wire::{Instant, Route};

use super::Connection;
use crate::event::Event;
use crate::path::Budget;
use crate::path::silence::Silence;
use crate::path::validation::Candidate;

/// How long the carrier of a path may bring no acknowledgement while another path works.
const CARRIER_SILENCE: Duration = Duration::from_secs(5);

impl Connection {
    /// Tells [`Event::PathSilent`] from here on: the peer has acknowledged nothing of what was sent to
    /// it for 500 ms, or two round trips where these are longer. Who has sent nothing hears of nothing.
    pub fn watch_silence(&mut self, now: Instant) {
        for path in self.paths.iter_mut() {
            path.silence = Some(Silence::new(now));
        }
    }

    /// True while a silence that was told lasts, on the path that is used first.
    pub fn is_silent(&self) -> bool {
        self.paths.active.silence.is_some_and(|silence| silence.is_told())
    }

    /// When a silence of the path at hand is to be told: unless another one works. A reliable carrier
    /// says by itself when it is gone.
    pub(super) fn silence_at(&self) -> Option<Instant> {
        let path = &self.paths.active;
        let silence = path.silence.as_ref().filter(|_| !path.route.is_reliable())?;
        if self.paths.others.iter().any(|path| !path.is_failing()) {
            return None;
        }
        let oldest = path.numbers.recovery.oldest_eliciting();
        self.lifecycle.is_established().then(|| silence.due(oldest, path.rtt.smoothed())).flatten()
    }

    /// When what is under way on the path at hand is to go by others because its carrier brings nothing, and
    /// another path works: no probe time-out says that a carrier is gone, and what it has taken would wait for
    /// ever.
    // spec: CAR-34
    pub(super) fn carrier_over_at(&self) -> Option<Instant> {
        let path = &self.paths.active;
        let is_carrier = path.route.is_reliable();
        let oldest = path.numbers.recovery.oldest_eliciting().filter(|_| is_carrier)?;
        let has_other = self.paths.others.iter().any(|path| !path.is_failing());
        has_other.then(|| oldest + CARRIER_SILENCE)
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
        if !may || self.paths.iter().any(|path| path.route.same_peer(&route)) {
            return false;
        }
        let mut candidate = Candidate::new(now, route, self.rng.array(), 0);
        // The server has proved itself, and nobody has asked us to write there.
        candidate.budget = Budget::Unlimited;
        self.paths.active.candidate = Some(Box::new(candidate));
        true
    }
}
