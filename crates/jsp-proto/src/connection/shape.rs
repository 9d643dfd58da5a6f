//! What the corridor out asks the padding: sizes of datagrams, and whether it is time for one.

use jsp_wire::Instant;

use super::Connection;
use super::outbound::Purpose;
use crate::compose::{self, DataSources};
use crate::keys::SpaceId;
use crate::padding::{Extent, Fill};
use crate::path::Duty;
use crate::permit::Allowance;
use crate::spaces;

impl Connection {
    /// The extent of the next datagram, which may have `room` bytes.
    pub(super) fn extent(&mut self, room: usize) -> Extent {
        let in_handshake = !self.is_confirmed();
        let rng = &mut self.rng;
        self.paths.padder.extent(room, in_handshake, || rng.u64())
    }

    /// Least bytes that the next datagram needs.
    pub(super) fn least_room(&self) -> usize {
        self.paths.padder.least(!self.is_confirmed())
    }

    /// True when datagrams have their times, and it is not the next one's yet.
    // spec: PRV-5
    pub(super) fn awaits_slot(&self, now: Instant) -> bool {
        self.has_slots() && self.paths.padder.slot_is_due(now) == Some(false)
    }

    /// True when datagrams leave at their times only.
    pub(super) fn has_slots(&self) -> bool {
        self.lifecycle.is_established() && self.paths.padder.has_slots()
    }

    /// The time of the next datagram, where there are such times.
    pub(super) fn next_slot(&self, now: Instant) -> Option<Instant> {
        self.paths.padder.next_slot(now).filter(|_| self.has_slots())
    }

    /// A datagram has left, or may not: the next one has its own time.
    // spec: PRV-6
    pub(super) fn use_slot(&mut self, now: Instant) {
        if !self.has_slots() {
            return;
        }
        self.paths.padder.take_slot(now);
        // The timetable holds us back, not the network.
        let in_flight = self.bytes_in_flight();
        self.paths.active.delivery.mark_app_limited(in_flight);
    }

    /// What a 1-RTT packet that nothing special asks for is built for.
    // spec: PRV-5
    pub(super) fn purpose(&self) -> Purpose {
        if self.has_slots() { Purpose::Cover } else { Purpose::Regular }
    }

    /// True when a packet of this space has something to say now.
    pub(super) fn wants_packet(
        &mut self,
        now: Instant,
        space: SpaceId,
        allowance: Allowance,
    ) -> bool {
        if space == SpaceId::Data && self.exchange.early_data.may_send() {
            return allowance.allows_data() && self.streams.wants(now);
        }
        if self.paths.active.probes.owes(space) {
            return true;
        }
        // Data are what there is most often: then nobody else is asked.
        let carries = space == SpaceId::Data && self.paths.active.duty == Duty::All;
        if carries && allowance.allows_data() && self.streams.wants(now) {
            return true;
        }
        let has_slots = self.has_slots();
        let crossing = self.crossing(now, space == SpaceId::Data);
        let path = &mut *self.paths.active;
        let has_answer = self.paths.responses.wants_for(path);
        let acks = spaces::view(space, &self.early, path)
            .is_some_and(|numbers| numbers.acks.wants_ack_now(now))
            || (space == SpaceId::Data
                && path.duty == Duty::All
                && compose::acks_elsewhere(now, &mut self.paths.others).next().is_some());
        if acks || space != SpaceId::Data {
            return acks || (self.exchange.flight_wants(space) && allowance.allows_data());
        }
        let sources = DataSources {
            duty: path.duty,
            answer: None,
            others: &mut self.paths.others,
            notices: &mut self.paths.notices,
            control: &mut self.control,
            local_ids: &mut self.local_ids,
            remote_ids: &mut self.remote_ids,
            session: &mut self.exchange.session,
            streams: &mut self.streams,
            ack_request: &mut path.ack_request,
            is_last: false,
            overdue: None,
            crossing,
            path: path.id,
            is_cold: path.warmth.is_owed,
            rider: None,
        };
        // Neither window nor pacer hold an answer back: the peer may be waiting to hear from us at
        // all, and the window to be opened by what it then sends.
        has_answer || (allowance.allows_data() && (has_slots || sources.wants(now)))
    }

    /// True when a packet of a later space follows one of `space` in the same datagram.
    pub(super) fn is_followed(
        &mut self,
        now: Instant,
        space: SpaceId,
        allowance: Allowance,
    ) -> bool {
        let later = SpaceId::ALL.into_iter().skip_while(|other| *other != space).skip(1);
        let mut ready = later.filter(|later| match later {
            SpaceId::Data if self.exchange.early_data.may_send() => self.keys.early().is_some(),
            _ => self.keys.has(*later) && !self.is_premature(*later),
        });
        let candidates = [ready.next(), ready.next()];
        candidates.into_iter().flatten().any(|later| self.wants_packet(now, later, allowance))
    }

    /// Fills a datagram that ends in a packet with a long header up to its size: what follows such a packet is
    /// not a packet, and is ignored. A datagram with a hello has at least the size that every path must carry.
    // spec: CON-7, PRV-2
    pub(super) fn pad_behind(&mut self, room: &mut [u8], fill: Fill) -> usize {
        let len = fill.before;
        let mut wanted = fill.extent.fit(len.max(fill.least));
        if fill.extent.pads() {
            // A hello has less room where its length is drawn.
            wanted = wanted.min(room.len()).max(len);
        }
        let Some(rest) = room.get_mut(len..wanted) else { return len };
        rest.fill(0);
        if fill.extent.pads() {
            self.trace.padding_sent(wanted.saturating_sub(len));
        }
        wanted
    }
}

/// Bytes that a REPAIR frame spends on type and length, which the shape does not need.
pub(super) const REPAIR_HEAD_LEN: usize = 4;
