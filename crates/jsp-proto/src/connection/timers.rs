//! Deadlines: functions of the owners' state, folded with their reasons.

use jsp_wire::{Instant, PathId};

use super::Connection;
use super::outbound::HANDSHAKE_ROOM_MIN;
use crate::keys::SpaceId;
use crate::path::Duty;
use crate::permit;
use crate::spaces;
use crate::token::{Fate, Token};

/// What a connection waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Reason {
    /// The handshake, idle, closing or draining time ends.
    Lifecycle,
    /// A packet is held lost, or asked after.
    Recovery,
    /// An acknowledgement has been held back long enough.
    Ack,
    /// The pacer lets the next packet go.
    Pacing,
    /// A repair symbol is due.
    Repair,
    /// A message expires, or a rate cap lets a stream go on.
    Streams,
    /// A sign of life is due.
    KeepAlive,
    /// A larger datagram is to be tried.
    PathMtu,
    /// The path may look worse from here on, or better.
    Forecast,
    /// A path on trial is to be asked again, or given up.
    PathValidation,
    /// A datagram of a constant rate is due.
    Padding,
    /// Keys with a fresh secret in them are to be used.
    KeyUpdate,
    /// Nothing happens: memory that is easily had again is given back.
    Rest,
    /// Ticket keys that are of no use any more are to be wiped; it may come when there is no connection.
    TicketKeys,
}

/// Probe time-outs of a handshake space until its back-off starts anew: the handshake has an end of
/// its own, and a flight is a few packets, so patience helps nobody.
const HANDSHAKE_DOUBLINGS_MAX: u32 = 2;

impl Connection {
    /// The earliest deadline, and whose it is.
    pub(crate) fn poll_timeout(&mut self, now: Instant) -> Option<(Instant, Reason)> {
        let pto = self.pto();
        let mut soonest = Soonest::default();
        soonest.offer(self.lifecycle.poll_timeout(pto), Reason::Lifecycle);
        if !self.lifecycle.is_open() {
            return soonest.0;
        }
        soonest.offer(self.lifecycle.keep_alive_at(), Reason::KeepAlive);
        soonest.offer(self.lifecycle.rests_at(), Reason::Rest);
        if self.is_usable() {
            soonest.offer(self.streams.poll_timeout(), Reason::Streams);
            soonest.offer(self.fold_at(now), Reason::KeyUpdate);
        }
        for path in self.plan().iter() {
            self.paths.focus(path);
            self.offer_path(now, &mut soonest);
        }
        self.return_to_first();
        soonest.0
    }

    /// The deadlines of the path at hand.
    fn offer_path(&mut self, now: Instant, soonest: &mut Soonest) {
        for space in self.spaces_here().iter().copied() {
            let delay = self.ack_delay_for(space);
            let may_probe = self.may_probe(space);
            let path = &self.paths.active;
            let Some(numbers) = spaces::view(space, &self.early, path) else { continue };
            let at = numbers.recovery.poll_timeout(&path.rtt, delay, may_probe);
            soonest.offer(at.map(|(at, _)| at), Reason::Recovery);
            let may_tell = self.keys.has(space) && self.has_budget() && path.is_validated;
            if may_tell && !self.has_slots() {
                soonest.offer(numbers.acks.poll_timeout(), Reason::Ack);
            }
        }
        if !self.is_usable() {
            return;
        }
        let candidate = self.paths.active.candidate.as_ref().map(|c| c.poll_timeout());
        soonest.offer(candidate, Reason::PathValidation);
        if !self.paths.active.is_validated {
            return;
        }
        soonest.offer(self.look_at(now), Reason::Forecast);
        soonest.offer(self.silence_at(), Reason::Forecast);
        soonest.offer(self.carrier_over_at(), Reason::PathValidation);
        soonest.offer(self.crossing_at(now), Reason::Forecast);
        soonest.offer(self.warm_at(), Reason::KeepAlive);
        // Everything that waits to be sent waits for its time, where there are such times.
        if let Some(slot) = self.next_slot(now) {
            return soonest.offer(Some(slot), Reason::Padding);
        }
        soonest.offer(self.repair_at(now), Reason::Repair);
        let may_send = self.exchange.may_send_data() || self.exchange.early_data.may_send();
        let carries = self.paths.active.duty == Duty::All;
        let has_frames = (may_send && carries && self.streams.wants(now))
            || (carries && self.control.wants())
            || (self.paths.active.duty >= Duty::Copies
                && self.streams.has_doubles(self.paths.active.id));
        if self.has_budget() && (has_frames || self.owes_repair(now)) {
            let (in_flight, urgent) = (self.bytes_in_flight(), self.is_urgent());
            let held = permit::held_until(now, &self.paths.active, urgent);
            let path = &mut self.paths.active;
            let at = held.or_else(|| permit::paced_until(now, path, in_flight, urgent));
            soonest.offer(at, Reason::Pacing);
        }
        soonest.offer(self.paths.active.mtud.poll_timeout(), Reason::PathMtu);
    }

    /// The number spaces of the path at hand: those of the handshake belong to the first.
    pub(super) fn spaces_here(&self) -> &'static [SpaceId] {
        if self.paths.active.id == PathId::FIRST { &SpaceId::ALL } else { &[SpaceId::Data] }
    }

    fn ack_delay_for(&self, space: SpaceId) -> core::time::Duration {
        match space {
            SpaceId::Data => self.peer_ack_delay_max(),
            SpaceId::Initial | SpaceId::Handshake => core::time::Duration::ZERO,
        }
    }

    /// Packets that may not be sent yet are not probed for. A server without budget waits for the
    /// client. What a reliable carrier has taken arrives, however long that takes.
    // spec: CAR-9
    fn may_probe(&self, space: SpaceId) -> bool {
        let is_premature = match space {
            SpaceId::Data => !self.exchange.is_complete(),
            _ => self.is_premature(space),
        };
        let carried = self.paths.active.route.is_reliable();
        self.keys.has(space) && !is_premature && !carried && self.has_budget()
    }

    /// Without room for a packet of the handshake, waking up is of no use: the client must write.
    fn has_budget(&self) -> bool {
        let least = self.least_room().max(HANDSHAKE_ROOM_MIN);
        self.paths.active.datagram_len_max() >= least
    }

    /// Acts on every deadline that has passed.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        let pto = self.pto();
        if let Some(reason) = self.lifecycle.handle_timeout(now, pto) {
            let reason = self.exchange.explain(reason);
            self.announce_end(now, reason);
        }
        if !self.lifecycle.is_open() {
            return;
        }
        for path in self.paths.ids().iter() {
            if self.paths.focus(path) {
                self.handle_path_timeout(now);
            }
        }
        self.return_to_first();
        self.streams.handle_timeout(now);
        self.try_fold(now);
        if self.lifecycle.keep_alive_at().is_some_and(|at| now >= at) {
            self.control.ask_ping();
            self.lifecycle.on_kept_alive(now);
        }
        if self.lifecycle.rests_at().is_some_and(|at| now >= at) {
            self.rest();
        }
    }

    /// The deadlines of the path at hand.
    fn handle_path_timeout(&mut self, now: Instant) {
        for space in self.spaces_here() {
            self.on_recovery_timeout(now, *space);
        }
        if self.look_at(now).is_some_and(|at| now >= at) {
            self.look(now);
        }
        if self.silence_at().is_some_and(|at| now >= at) {
            self.tell_silence();
        }
        self.tend_path(now);
    }

    fn on_recovery_timeout(&mut self, now: Instant, space: SpaceId) {
        let delay = self.ack_delay_for(space);
        let may_probe = self.may_probe(space);
        let prior_in_flight = self.bytes_in_flight();
        let mut fates = core::mem::take(&mut self.scratch.fates);
        let path = &mut *self.paths.active;
        let fec = path.fec.as_mut().filter(|_| space == SpaceId::Data);
        let (rtt, data) = (&path.rtt, &mut path.numbers);
        let numbers = match space {
            SpaceId::Data => Some(data),
            _ => self.early.get_mut(space),
        };
        let Some(numbers) = numbers else {
            self.scratch.fates = fates;
            return;
        };
        let due = numbers.recovery.poll_timeout(rtt, delay, may_probe);
        if due.is_none_or(|(at, _)| at > now) {
            self.scratch.fates = fates;
            return;
        }
        let outcome = numbers.recovery.on_timeout(now, rtt, delay, may_probe, &mut fates);
        if outcome.probes > 0 {
            let mut doubted = core::mem::take(&mut self.scratch.tokens);
            doubted.clear();
            // A message of the handshake is of use as a whole only: all of it goes again.
            // spec: CON-27
            let whole = space != SpaceId::Data;
            while numbers.recovery.probe_tokens(&mut doubted) && whole {}
            if whole && numbers.recovery.pto_count() >= HANDSHAKE_DOUBLINGS_MAX {
                numbers.recovery.reset_backoff();
            }
            if let Some(fec) = fec {
                fec.on_probe(now);
            }
            self.paths.active.probes.owe(space, outcome.probes);
            if space == SpaceId::Data {
                self.trace.probe_timed_out();
            }
            if space == SpaceId::Initial {
                self.doubt_early(now);
            }
            if space == SpaceId::Handshake && self.exchange.is_complete() {
                // The server may be done with the handshake, and look for us elsewhere: only a
                // packet of the present keys shows it where we are.
                self.paths.active.probes.owe(SpaceId::Data, 1);
            }
            self.doubt(now, &doubted, &mut fates);
            self.scratch.tokens = doubted;
            if space == SpaceId::Data {
                self.doubt_size(now);
                self.doubt_path(now, &mut fates);
                self.seek_refuge(now);
            }
        }
        self.apply_loss(now, &outcome.lost, prior_in_flight);
        self.settle_fates(now, space, &mut fates);
        self.scratch.fates = fates;
        if space == SpaceId::Data {
            // What was overdue may be settled now: nothing is silent then.
            self.look(now);
        }
        if space == SpaceId::Initial && outcome.probes > 0 {
            // Nothing has come of the Retry that was obeyed: another may be the server's.
            self.obey_next_retry(now);
        }
    }
}

impl Connection {
    /// A probe leaves by the path at hand without a timeout. `all` that is under way there goes again with it
    /// and after it, not only what is oldest, when the path is known to have carried nothing.
    // spec: REC-16
    pub(super) fn doubt_here(&mut self, now: Instant, all: bool) {
        let mut doubted = core::mem::take(&mut self.scratch.tokens);
        doubted.clear();
        let path = &mut *self.paths.active;
        while path.numbers.recovery.probe_tokens(&mut doubted) && all {}
        if let Some(fec) = path.fec.as_mut() {
            fec.on_probe(now);
        }
        let mut fates = core::mem::take(&mut self.scratch.fates);
        self.doubt(now, &doubted, &mut fates);
        self.scratch.tokens = doubted;
        self.doubt_size(now);
        self.settle_fates(now, SpaceId::Data, &mut fates);
        self.scratch.fates = fates;
    }

    /// A probe is due: these, which are under way, go again with it or by another path, for they may be what was
    /// lost. Nothing is held lost by that.
    pub(super) fn doubt(&mut self, now: Instant, tokens: &[Token], fates: &mut Vec<(Token, Fate)>) {
        for token in tokens {
            match token {
                Token::Stream(token) => self.streams.on_doubt(now, *token),
                token => fates.push((*token, Fate::Lost)),
            }
        }
    }

    /// It may be that datagrams are too long for the path at hand.
    fn doubt_size(&mut self, now: Instant) {
        let count = self.paths.active.numbers.recovery.pto_count();
        if self.paths.active.mtud.on_probe_timeout(now, count) {
            let path = &mut self.paths.active;
            path.congestion.set_mtu(path.mtud.current());
        }
    }
}

/// The earliest of the deadlines offered.
#[derive(Default)]
struct Soonest(Option<(Instant, Reason)>);

impl Soonest {
    fn offer(&mut self, at: Option<Instant>, reason: Reason) {
        if let Some(at) = at
            && self.0.is_none_or(|(soonest, _)| at < soonest)
        {
            self.0 = Some((at, reason));
        }
    }
}
