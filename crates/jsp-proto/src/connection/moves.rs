//! An address on trial has answered: the path goes there, and comes back when it falls silent.

use jsp_crypto::Role;
use jsp_wire::{Instant, PathId, Route};

use super::Connection;
use crate::event::Event;
use crate::keys::SpaceId;
use crate::path::validation::Candidate;

impl Connection {
    /// The candidate has proved itself: datagrams go there now.
    pub(super) fn on_path_response(&mut self, now: Instant, answer: [u8; 8]) {
        let answered = self.paths.active.candidate.take_if(|c| c.challenge == answer);
        match answered {
            Some(candidate) if self.paths.active.is_validated => self.go_to(now, &candidate),
            Some(candidate) => self.on_path_proved(candidate.route),
            None => {}
        }
    }

    fn go_to(&mut self, now: Instant, candidate: &Candidate) {
        let route = candidate.route;
        let peer = self.exchange.peer.map_or(u64::MAX, |peer| peer.datagram_len_max);
        let ceiling = usize::try_from(peer).unwrap_or(usize::MAX);
        let path = &mut *self.paths.active;
        let (id, before, was_silent) = (path.id, path.route, path.is_silent());
        path.move_to(now, route, &self.config, ceiling);
        path.leave(before, candidate.is_led);
        if !before.same_ends(&route) {
            self.remote_ids.move_to(id, &route);
        }
        self.end_trials();
        if route.is_reliable() || before.same_peer(&route) || was_silent {
            // Its acknowledgement shows what was lost on the way before: no probe will, or not soon.
            // spec: CAR-13
            self.paths.active.probes.owe(SpaceId::Data, 1);
        }
        if was_silent && !route.is_reliable() {
            self.doubt_here(now, true);
        }
        self.events.push_back(Event::PathChanged { path: id, route });
        self.seek_home(now);
    }

    /// The path at hand is silent: the peer may be where it was before, or a client that could follow this server has not
    /// heard where it is.
    // spec: CON-82, CON-84
    pub(super) fn seek_refuge(&mut self, now: Instant) {
        if self.paths.active.is_silent() {
            self.ask_refuge(now);
            if self.paths.active.may_have_moved && self.paths.active.candidate.is_none() {
                self.announce_move(now);
            }
        }
    }

    /// Something speaks for it that the peer is where the path is at home.
    // spec: CON-83
    fn seek_home(&mut self, now: Instant) {
        if self.paths.active.refuge.as_ref().is_some_and(|refuge| refuge.is_home) {
            self.ask_refuge(now);
        }
    }

    /// A packet of the peer came by this route, for the first time or not.
    // spec: CON-83
    pub(super) fn heed_origin(&mut self, now: Instant, route: &Route) {
        let refuge = self.paths.active.refuge.as_ref();
        // A server does not ask: anybody can send what a client has sent once more, from where that was before.
        if self.role == Role::Client && refuge.is_some_and(|refuge| refuge.route.same_peer(route)) {
            self.seek_home(now);
        }
    }

    fn ask_refuge(&mut self, now: Instant) {
        let is_open = self.lifecycle.is_established();
        if let Some(refuge) = self.paths.active.refuge_to_ask().filter(|_| is_open) {
            let candidate = Candidate::trusted(now, refuge.route, self.rng.array());
            self.put_on_trial(candidate);
        }
    }

    /// The peer is asked at another address; where it was asked before, it is not any more.
    pub(super) fn put_on_trial(&mut self, candidate: Candidate) {
        self.paths.active.candidate = Some(Box::new(candidate));
        self.end_trials();
    }

    /// Our own address may be another: nothing leaves there that bears an id which the one before was seen with.
    // spec: CON-72
    pub(super) fn change_ids(&mut self, path: PathId) {
        self.remote_ids.end_trials(path, |_| false);
        self.remote_ids.refresh(path);
    }

    /// The path goes nowhere but to its candidate and its refuge: ids that others have seen are of no use any more.
    // spec: CON-72
    pub(super) fn end_trials(&mut self) {
        let path = &self.paths.active;
        self.remote_ids.end_trials(path.id, |route| path.may_go_to(route));
    }
}
