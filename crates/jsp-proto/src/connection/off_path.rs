//! Datagrams to other addresses than the path's: challenges, and answers to challenges.

use jsp_wire::{Instant, Route, limits};

use super::Connection;
use super::outbound::{DATA_ROOM_MIN, Purpose};
use crate::batch::Batch;
use crate::error::TransportError;
use crate::padding::{Extent, Fill};
use crate::permit::Allowance;

impl Connection {
    /// The answer to a challenge that goes by the path itself. Neither window nor pacer hold it back: the peer
    /// may be waiting to hear from us at all, and the window to be opened by what it then sends.
    pub(super) fn answer_here(&mut self, may_answer: bool) -> Option<[u8; 8]> {
        may_answer.then(|| self.paths.responses.pop_for(&self.paths.active)).flatten()
    }

    /// Challenges to an address on trial, and answers to challenges from elsewhere. `None` when
    /// there are none; `Some(false)` when the batch is for another route.
    pub(super) fn off_path_datagram(
        &mut self,
        now: Instant,
        batch: &mut Batch,
    ) -> Result<Option<bool>, TransportError> {
        if !self.lifecycle.is_established() {
            return Ok(None);
        }
        if !batch.is_empty() {
            // What is due leaves with the next batch, which begins empty.
            let due = self.paths.active.candidate.as_ref().is_some_and(|c| c.wants(now));
            let owed = self.paths.responses.wants_elsewhere(&self.paths.active);
            return Ok((due || owed).then_some(false));
        }
        let pto = self.paths.active.pto(self.peer_ack_delay_max());
        if let Some(candidate) = &mut self.paths.active.candidate
            && candidate.wants(now)
        {
            let (route, challenge) = (candidate.route, candidate.challenge);
            let room_len = candidate.budget.remaining();
            candidate.on_sent(now, pto);
            let purpose = Purpose::Challenge(route, challenge);
            return self.datagram_to(now, batch, route, room_len, purpose);
        }
        let Some(owed) = self.paths.responses.pop_not_for(&self.paths.active) else {
            return Ok(None);
        };
        let candidate =
            self.paths.active.candidate.as_ref().filter(|c| c.route.same_ends(&owed.route));
        // spec: CON-10
        let room_len = candidate.map_or(owed.allowance, |c| c.budget.remaining());
        let purpose = Purpose::Response(owed.route, owed.data);
        self.datagram_to(now, batch, owed.route, room_len, purpose)
    }

    fn datagram_to(
        &mut self,
        now: Instant,
        batch: &mut Batch,
        route: Route,
        room_len: usize,
        purpose: Purpose,
    ) -> Result<Option<bool>, TransportError> {
        let wrapping = self.paths.active.wrapping;
        let room_len = room_len.saturating_sub(wrapping).min(limits::MTU_BASE);
        let mut extent = self.extent(room_len);
        if extent.room < DATA_ROOM_MIN {
            // What a small datagram has paid for must do, or the peer could not move.
            extent = Extent::any(room_len);
        }
        if extent.room < DATA_ROOM_MIN {
            return Ok(None);
        }
        let Some(room) = batch.room(extent.room) else { return Ok(None) };
        let fill = Fill::alone(extent);
        let Some(sealed) = self.data_packet(now, room, Allowance::Probe, purpose, fill)? else {
            return Ok(None);
        };
        let path = &mut self.paths.active;
        let len = sealed.len.saturating_add(wrapping);
        if let Some(candidate) = path.candidate.as_mut().filter(|c| c.route.same_ends(&route)) {
            candidate.budget.on_sent(len);
        }
        // Where the path leads there itself, its last words go within the same bound.
        if path.route.same_peer(&route) {
            path.budget.on_sent(len);
        }
        batch.commit(route, None, sealed.len);
        Ok(Some(true))
    }
}
