//! Several paths: how they begin and end, and which of them is used for what.

use jsp_crypto::Role;
use jsp_wire::frame::{
    MessageFrame, MessageNumber, NewConnectionId, PathAbandon, PathStatus, PathUse,
};
use jsp_wire::{CloseCode, Header, Instant, PathId, Route, limits};

use super::Connection;
use crate::error::{PathError, TransportError};
use crate::event::{Event, PathEnd};
use crate::forecast::NetworkHint;
use crate::keys::SpaceId;
use crate::path::silence::Silence;
use crate::path::validation::Candidate;
use crate::path::{Budget, Duty, Path};
use crate::stats::PathInfo;

/// A path that has answered nothing for so long, while another one works, is over.
const SILENT_PTOS_MAX: u32 = 8;

/// Packets of a path that is over may still come for so many probe time-outs.
const STRAYS_PTOS: u32 = 3;

impl Connection {
    /// Begins a further path by this route, on trial.
    ///
    /// # Errors
    /// See [`PathError`]; nothing has begun.
    // spec: PTH-7
    pub(crate) fn open_path(&mut self, now: Instant, route: Route) -> Result<PathId, PathError> {
        if self.role != Role::Client {
            return Err(PathError::NotTheClient);
        }
        if !self.is_confirmed() || !self.lifecycle.is_established() {
            return Err(PathError::NotReady);
        }
        if self.paths_max() < 2 {
            return Err(PathError::Unsupported);
        }
        if self.paths.iter().any(|path| path.route == route) {
            return Err(PathError::Exists);
        }
        let id = self.paths.beginning(self.paths_max()).ok_or(PathError::TooMany)?;
        if !self.remote_ids.begin_path(id) {
            return Err(PathError::NotReady);
        }
        self.begin_path(now, id, route, Budget::Unlimited);
        Ok(id)
    }

    /// Uses a path no more. What is under way there goes again by others, and so the last path cannot go.
    ///
    /// # Errors
    /// See [`PathError`].
    pub fn abandon_path(&mut self, now: Instant, path: PathId) -> Result<(), PathError> {
        if self.role != Role::Client {
            return Err(PathError::NotTheClient);
        }
        self.check_is_open(path)?;
        if self.paths.iter().all(|other| other.id == path || !other.is_validated) {
            return Err(PathError::LastPath);
        }
        self.end_path(now, path, PathEnd::Abandoned);
        Ok(())
    }

    /// Says what a path is to be used for, by both sides.
    ///
    /// # Errors
    /// See [`PathError`].
    pub fn set_path_use(&mut self, path: PathId, usage: PathUse) -> Result<(), PathError> {
        self.check_is_open(path)?;
        if self.paths_max() < 2 {
            return Err(PathError::Unsupported);
        }
        self.change_usage(path, |path| path.usage.want(usage));
        Ok(())
    }

    /// Tells what the application knows about the network of one path before packets can.
    ///
    /// # Errors
    /// See [`PathError`].
    pub fn hint_path(
        &mut self,
        now: Instant,
        path: PathId,
        hint: NetworkHint,
    ) -> Result<(), PathError> {
        self.check_is_open(path)?;
        self.paths.focus(path);
        self.hint_here(now, hint);
        self.return_to_first();
        Ok(())
    }

    /// The paths there are, the one that is used first before the others.
    pub fn paths(&self) -> impl Iterator<Item = PathInfo> + '_ {
        self.paths.iter().map(|path| PathInfo {
            id: path.id,
            route: path.route,
            is_validated: path.is_validated,
            usage: path.usage.effective(),
            rtt: path.rtt.smoothed(),
            loss: path.forecast.loss(),
            alarm: path.forecast.alarm(),
            congestion_window: path.congestion.window(),
            bytes_in_flight: path.numbers.recovery.bytes_in_flight(),
            datagram_len: path.mtud.current(),
        })
    }

    fn check_is_open(&self, path: PathId) -> Result<(), PathError> {
        if !self.lifecycle.is_open() {
            return Err(PathError::NotReady);
        }
        self.paths.get(path).map(|_| ()).ok_or(PathError::Unknown)
    }

    /// How many paths there may be at once.
    // spec: PTH-1
    pub(super) fn paths_max(&self) -> u64 {
        let peers = self.exchange.peer.map_or(1, |peer| peer.paths_max);
        peers.min(self.config.paths_max)
    }

    /// The paths that the peer should have ids for.
    // spec: PTH-3
    pub(super) fn paths_with_ids(&self) -> impl Iterator<Item = PathId> + use<> {
        let next = self.paths.beginning(self.paths_max());
        self.paths.ids().iter().chain(next)
    }

    fn begin_path(&mut self, now: Instant, id: PathId, route: Route, budget: Budget) {
        let mut trial = Candidate::new(now, route, self.rng.array(), 0);
        trial.budget = budget;
        let mut path = Path::further(id, trial, &self.config);
        path.silence = self.paths.active.silence.map(|_| Silence::new(now));
        if let Some(peer) = self.exchange.peer {
            path.mtud.limit(usize::try_from(peer.datagram_len_max).unwrap_or(usize::MAX));
        }
        if self.paths.active.numbers.acks.tells_times() {
            path.numbers.acks.tell_times();
            path.numbers.recovery.take_times();
        }
        self.paths.add(path);
        self.watch_others(true);
    }

    /// Whether paths are watched for a silence that another one could help with: acknowledgements wait for no
    /// later packet than the next then.
    fn watch_others(&mut self, is_watched: bool) {
        for path in self.paths.iter_mut() {
            path.numbers.acks.set_prompt(is_watched);
            if !is_watched {
                path.rhythm = None;
            } else if path.rhythm.is_none() {
                path.rhythm = Some(Box::default());
            }
        }
    }

    /// A packet came to an id of a path that is not there. Where it may begin it does, on trial: whoever asks
    /// takes it back when the packet is not the peer's.
    // spec: PTH-7
    pub(super) fn admit_path(&mut self, now: Instant, id: PathId, route: Route) -> bool {
        let may_begin = self.role == Role::Server
            && self.lifecycle.is_established()
            && self.paths.beginning(self.paths_max()) == Some(id)
            && self.remote_ids.begin_path(id);
        if may_begin {
            self.begin_path(now, id, route, Budget::Bytes(0));
        }
        may_begin
    }

    /// A path that a packet began was nobody's: it is as if it had not been there.
    pub(super) fn unbegin_path(&mut self, id: PathId) {
        self.paths.unadd(id);
        self.remote_ids.unbegin_path(id);
        if self.paths.len() == 1 {
            self.watch_others(false);
        }
    }

    /// Brings the corridor to the path that a datagram belongs to. Answers whether that path begins with it;
    /// `None` for one that is over, or that may not begin.
    // spec: PTH-6
    pub(super) fn focus_on(
        &mut self,
        now: Instant,
        route: &Route,
        datagram: &[u8],
    ) -> Option<bool> {
        if self.paths_max() < 2 {
            return Some(false);
        }
        let is_short = matches!(Header::parse(datagram), Ok(Header::Short));
        let id = if !is_short {
            PathId::FIRST
        } else if self.local_ids.first().is_empty() {
            self.paths.by_route(route)
        } else {
            let end = limits::CONNECTION_ID_LEN_LOCAL.saturating_add(1);
            self.local_ids.path_of(datagram.get(1..end)?)?
        };
        if self.paths.focus(id) {
            return Some(false);
        }
        let begins = !self.paths.was_used(id) && self.admit_path(now, id, *route);
        (begins && self.paths.focus(id)).then_some(true)
    }

    /// Something holds for a path that changes what it is used for.
    fn change_usage(&mut self, path: PathId, change: impl FnOnce(&mut Path) -> bool) {
        let has_many = self.paths_max() > 1;
        let Some(mut usage) = self.paths.get_mut(path).and_then(|p| change(p).then_some(p.usage))
        else {
            return;
        };
        let is_known = self.paths.get(path).is_some_and(|path| path.is_validated);
        // Of a path that the peer does not know yet it hears once it does.
        if has_many && is_known {
            self.paths.notices.tell(path, &mut usage);
        }
        if let Some(path) = self.paths.get_mut(path) {
            path.usage = usage;
        }
    }

    /// A hint about the path at hand.
    pub(super) fn hint_here(&mut self, now: Instant, hint: NetworkHint) {
        if !self.lifecycle.is_established() {
            return;
        }
        let path = &mut self.paths.active;
        path.forecast.on_hint(now, hint);
        let id = path.id;
        match hint {
            NetworkHint::InterfaceDown => {
                self.change_usage(id, |path| path.usage.set_down(true));
                self.rescue(now);
            }
            // spec: SEN-11
            NetworkHint::InterfaceUp => {
                path.numbers.recovery.reset_backoff();
                path.probes.owe(SpaceId::Data, 1);
                let was_down = path.usage.is_down();
                self.change_usage(id, |path| path.usage.set_down(false));
                self.change_ids(id);
                self.doubt_here(now, was_down);
                self.announce_move(now);
            }
            NetworkHint::RadioChanged => {}
        }
        self.look(now);
    }

    /// The peer says what a path is to be used for.
    pub(super) fn on_path_status(
        &mut self,
        now: Instant,
        status: &PathStatus,
    ) -> Result<(), TransportError> {
        self.check_path_is_known(status.path)?;
        let here = self.paths.active.id;
        if self.paths.focus(status.path) && self.paths.active.usage.on_status(status) {
            if status.usage == PathUse::Down {
                self.rescue(now);
            } else {
                // It may have been given up for lost.
                self.paths.active.numbers.recovery.reset_backoff();
            }
        }
        self.paths.focus(here);
        Ok(())
    }

    /// The peer uses a path no more.
    // spec: PTH-17
    pub(super) fn on_path_abandon(
        &mut self,
        now: Instant,
        end: &PathAbandon,
    ) -> Result<(), TransportError> {
        let is_last = self.paths.len() == 1 && self.paths.active.id == end.path;
        if is_last || self.role == Role::Client || !self.may_be_known(end.path) {
            let reason = "a path was abandoned that its sender must keep";
            return Err(TransportError::new(CloseCode::PROTOCOL_VIOLATION, reason));
        }
        let unused = self.paths.pass(end.path);
        if self.paths.get(end.path).is_some() {
            self.end_path(now, end.path, PathEnd::ByPeer);
            return Ok(());
        }
        // Nothing came of it, nor will of those before it that it passes over; they have ids of ours all the same.
        let until = now + self.pto().saturating_mul(STRAYS_PTOS);
        for id in unused.0.min(end.path.0)..=end.path.0 {
            self.forget_path(now, PathId(id), until);
        }
        Ok(())
    }

    /// Tells a client that it may begin a further path.
    pub(super) fn tell_paths(&mut self) {
        let next = self.paths.beginning(self.paths_max()).filter(|_| self.is_confirmed());
        if self.role == Role::Client && next.is_some_and(|path| self.remote_ids.may_begin(path)) {
            self.events.push_back(Event::PathsAvailable);
        }
    }

    /// A path was there, or the peer may think of beginning it: it may know of some that have come and gone.
    fn may_be_known(&self, path: PathId) -> bool {
        self.paths_max() > 1 && self.paths.is_near(path)
    }

    // spec: PTH-4
    fn check_path_is_known(&self, path: PathId) -> Result<(), TransportError> {
        if self.paths_max() > 1 && self.paths.was_used(path) {
            return Ok(());
        }
        let reason = "a frame is about a path that was never there";
        Err(TransportError::new(CloseCode::PROTOCOL_VIOLATION, reason))
    }

    /// The peer gives an id for a path.
    // spec: PTH-3
    pub(super) fn on_path_id(
        &mut self,
        path: PathId,
        id: &NewConnectionId,
    ) -> Result<(), TransportError> {
        if self.may_be_known(path) {
            self.remote_ids.on_new(path, id)?;
            self.tell_paths();
            if self.paths.was_used(path) && self.paths.get(path).is_none() {
                self.remote_ids.end_path(path);
            }
            return Ok(());
        }
        let reason = "a connection id is for a path that may not begin";
        Err(TransportError::new(CloseCode::PROTOCOL_VIOLATION, reason))
    }

    /// False when a message comes too late to tell which one it is.
    // spec: PTH-10
    pub(super) fn can_place(
        &mut self,
        pn: u64,
        message: &MessageFrame<'_>,
    ) -> Result<bool, TransportError> {
        let is_short = !matches!(message.number, MessageNumber::Full(_));
        if is_short && self.paths.active.id != PathId::FIRST {
            let reason = "a message on a further path has a shortened number";
            return Err(TransportError::new(CloseCode::PROTOCOL_VIOLATION, reason));
        }
        Ok(self.streams.can_place(pn, message))
    }

    /// Lets something look at another path; the corridor comes back, unless it was its own end.
    pub(super) fn about(
        &mut self,
        path: Option<PathId>,
        then: impl FnOnce(&mut Self) -> Result<(), TransportError>,
    ) -> Result<(), TransportError> {
        let Some(path) = path else { return then(self) };
        self.check_path_is_known(path)?;
        let here = self.paths.active.id;
        // What is about a path that is over is of no use any more.
        let result = if self.paths.focus(path) { then(self) } else { Ok(()) };
        self.paths.focus(here);
        result
    }

    /// A path is over: what was under way there goes again by others, and its ids are given back.
    // spec: PTH-17, PTH-18
    fn end_path(&mut self, now: Instant, id: PathId, cause: PathEnd) {
        let here = self.paths.active.id;
        if !self.paths.focus(id) || self.paths.len() == 1 {
            self.paths.focus(here);
            return;
        }
        let until = now + self.pto().saturating_mul(STRAYS_PTOS);
        self.take_back(now);
        self.paths.remove(id);
        self.paths.focus(here);
        self.forget_path(now, id, until);
        if cause != PathEnd::ByPeer && self.role == Role::Client {
            let code = u64::from(cause == PathEnd::Unanswered);
            self.paths.notices.end(id, code);
        }
        self.events.push_back(Event::PathClosed { path: id, cause });
    }

    /// Names and answers of a path that is not there any more. `until` then packets of it may still come.
    fn forget_path(&mut self, now: Instant, id: PathId, until: Instant) {
        self.remote_ids.end_path(id);
        self.local_ids.end_path(id, until);
        self.paths.responses.end_path(id);
        if self.paths.len() == 1 {
            self.streams.forget_doubles();
            self.paths.active.duty = Duty::All;
            self.watch_others(false);
        }
        self.look(now);
    }

    /// Looks after the path at hand: signs of life, trials, and the end of a path that is silent.
    pub(super) fn tend_path(&mut self, now: Instant) {
        if self.warm_at().is_some_and(|at| now >= at) {
            self.paths.active.warmth.owe();
        }
        let is_dry = self.carrier_over_at().is_some_and(|at| now >= at);
        let path = &mut self.paths.active;
        let hopeless = path.candidate.take_if(|candidate| candidate.is_hopeless(now));
        if let Some(candidate) = &hopeless {
            path.found_nobody(&candidate.route);
        }
        let gave_up = hopeless.is_some();
        if gave_up {
            self.end_trials();
        }
        let path = &mut self.paths.active;
        let is_dead = path.numbers.recovery.pto_count() >= SILENT_PTOS_MAX;
        let is_unproved = gave_up && !path.is_validated;
        let is_over =
            is_unproved || is_dry || (is_dead && self.paths.others.iter().any(|p| !p.is_failing()));
        // The server waits for the client to say so: until then packets may come.
        if is_over && self.role == Role::Client {
            self.end_path(now, self.paths.active.id, PathEnd::Unanswered);
        } else if is_dry {
            self.take_back(now);
        }
    }

    /// A path has proved itself, maybe elsewhere than it led: an id that was seen there goes no further.
    // spec: CON-72
    pub(super) fn on_path_proved(&mut self, route: Route) {
        let path = &mut self.paths.active;
        path.is_validated = true;
        let before = core::mem::replace(&mut path.route, route);
        if !before.same_ends(&route) {
            self.remote_ids.move_to(path.id, &route);
        }
        self.end_trials();
        let path = &mut self.paths.active;
        path.budget = Budget::Unlimited;
        path.warmth.owe();
        let id = path.id;
        let mut usage = path.usage;
        if usage.wanted() != PathUse::Available {
            self.paths.notices.tell(id, &mut usage);
            self.paths.active.usage = usage;
        }
        self.plan_skip();
        self.events.push_back(if id == PathId::FIRST {
            Event::PathChanged { path: id, route }
        } else {
            Event::PathOpened { path: id, route }
        });
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use jsp_wire::{Frame, Shape};

    use super::super::inbound::Opened;
    use super::super::tests::{NOW, address, pair};
    use super::*;

    /// What becomes of a packet in which these frames stand so often.
    fn take(connection: &mut Connection, frames: &[Frame<'_>], times: usize) -> Option<CloseCode> {
        let mut payload = vec![0; 60 * times];
        let mut writer = jsp_wire::Writer::new(&mut payload);
        for frame in (0..times).flat_map(|_| frames) {
            frame.write(&mut writer).unwrap();
        }
        let len = writer.len();
        payload.truncate(len);
        let payload = Bytes::from(payload);
        let (space, route) = (SpaceId::Data, address(1));
        let opened = Opened { space, pn: 900, payload, ecn: None, route, received: 1200 };
        let result = connection.handle_data_payload(NOW, &opened, Some(Shape::Frames), false);
        result.err().map(|error| error.code)
    }

    #[test]
    // spec-test: CON-20, PTH-18
    fn paths_that_never_began_leave_no_ids_behind() {
        let [_, (mut server, with)] = pair();
        let mut batch = crate::Batch::new(65_507, 44);
        // One after the other, and then some that are passed over.
        for n in (1..=100).chain((102..=300).step_by(2)).chain((304..=700).step_by(4)) {
            let abandon = Frame::PathAbandon(PathAbandon { path: PathId(n), code: 0 });
            assert_eq!(take(server.connection(with).unwrap(), &[abandon], 1), None);
            while server.poll_transmit(NOW, &mut batch) {
                batch.clear();
            }
            let ids = server.connection(with).unwrap().local_ids().count();
            assert!(ids <= 4 + 8 + 1, "{ids} ids after {n} paths");
        }
    }

    #[test]
    // spec-test: CON-64
    fn frames_about_paths_that_say_nothing_new_are_counted() {
        let abandon = Frame::PathAbandon(PathAbandon { path: PathId(1), code: 0 });
        let [(mut client, at), (mut server, with)] = pair();
        let server = server.connection(with).unwrap();
        assert_eq!(take(server, &[abandon], 900), None);
        assert_eq!(take(server, &[abandon], 101), Some(CloseCode::EXCESSIVE_LOAD));
        let client = client.connection(at).unwrap();
        let (id, reset_token) = (jsp_wire::ConnectionId::new(&[7; 4]).unwrap(), [7; 16]);
        let id = NewConnectionId { sequence: 1, retire_prior_to: 0, id, reset_token };
        let frames = [Frame::AboutPath(PathId(1)), Frame::NewConnectionId(id)];
        assert_eq!(take(client, &frames, 900), None);
        assert_eq!(take(client, &frames, 101), Some(CloseCode::EXCESSIVE_LOAD));
    }
}
