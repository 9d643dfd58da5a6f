//! The corridor out, datagram by datagram: by which path, of which kind, and whether there is room for it.

use jsp_wire::Instant;

use super::Connection;
use super::filled::{Filled, Next};
use super::outbound::Purpose;
use crate::batch::Batch;
use crate::error::TransportError;
use crate::padding::{Extent, Fill};
use crate::path::Budget;
use crate::permit::{self, Allowance};

impl Connection {
    /// Fills the batch with datagrams for one route. Call again with an empty batch until it says that
    /// this was all, or nothing.
    pub(crate) fn poll_transmit(&mut self, now: Instant, batch: &mut Batch) -> Filled {
        let mut filled = Filled::Nothing;
        for path in self.plan().iter() {
            self.paths.focus(path);
            filled = self.fill_here(now, batch);
            if filled != Filled::Nothing {
                break;
            }
        }
        self.return_to_first();
        // Other paths may have something too.
        if filled == Filled::All && self.paths.len() > 1 { Filled::Some } else { filled }
    }

    /// Fills the batch with datagrams of the path at hand.
    fn fill_here(&mut self, now: Instant, batch: &mut Batch) -> Filled {
        loop {
            let next = match self.next_datagram(now, batch) {
                Ok(next) => next,
                Err(error) if self.lifecycle.is_open() => {
                    self.fail(now, error);
                    continue;
                }
                // The last words themselves cannot be sent: asking again would change nothing.
                Err(_) => {
                    self.lifecycle.on_farewell_sent();
                    Next::NotHere
                }
            };
            return match next {
                Next::Added => continue,
                _ if batch.is_empty() => Filled::Nothing,
                // What left may have changed what may follow, while there is a handshake.
                Next::Nothing if self.is_confirmed() => Filled::All,
                Next::NotHere | Next::Nothing => Filled::Some,
            };
        }
    }

    /// Adds at most one datagram.
    fn next_datagram(&mut self, now: Instant, batch: &mut Batch) -> Result<Next, TransportError> {
        if self.lifecycle.farewell().is_some() {
            return self.farewell_datagram(now, batch).map(Next::added);
        }
        if !self.lifecycle.is_open() {
            return Ok(Next::Nothing);
        }
        if let Some(done) = self.off_path_datagram(now, batch)? {
            return Ok(Next::added(done));
        }
        // spec: PTH-7
        if !self.paths.active.is_validated {
            return Ok(Next::Nothing);
        }
        let route = self.paths.active.route;
        let ecn = self.ecn_mark();
        if !batch.is_open_for(&route, ecn) || self.awaits_slot(now) {
            return Ok(Next::NotHere);
        }
        if let Some(size) = self.mtu_probe_size(now) {
            return self.probe_datagram(now, batch, size).map(Next::added);
        }
        if let Some(done) = self.repair_datagram(now, batch)? {
            return Ok(Next::added(done));
        }
        let in_flight = self.bytes_in_flight();
        let (probe, urgent) = (self.paths.active.probes.any(), self.is_urgent());
        let Some(permit) = permit::permit(now, &mut self.paths.active, in_flight, probe, urgent)
        else {
            // The slot has passed all the same: nothing would wake the driver for it but itself.
            self.use_slot(now);
            return Ok(Next::Nothing);
        };
        let extent = self.extent(self.room_beside_repairs(permit.room));
        let Some(room) = batch.room(extent.room) else { return Ok(Next::NotHere) };
        if permit.is_held {
            // What arrives meanwhile tells nothing of the path's rate.
            self.paths.active.delivery.mark_app_limited(in_flight);
        }
        self.streams.set_turn(self.paths.active.pacer.turn());
        let len = self.regular_datagram(now, room, permit.allowance, extent)?;
        self.use_slot(now);
        if len == 0 {
            return Ok(Next::Nothing);
        }
        if permit.trickles {
            self.paths.active.trickle.on_sent(now);
        }
        self.account_datagram(len);
        batch.commit(route, ecn, len);
        Ok(Next::Added)
    }

    pub(super) fn account_datagram(&mut self, len: usize) {
        let path = &mut self.paths.active;
        let len = len.saturating_add(path.wrapping);
        path.budget.on_sent(len);
        path.carrier_room = path.carrier_room.saturating_sub(len);
        self.trace.padding_sent(path.wrapping);
        if self.ecn_mark().is_some() {
            self.paths.active.ecn.on_sent();
        }
        self.trace.datagram_sent(len);
    }

    /// Bytes of the datagram that would tell whether the path carries more, when it is time for it.
    fn mtu_probe_size(&mut self, now: Instant) -> Option<usize> {
        let settled = self.lifecycle.is_established() && self.paths.active.rtt.has_sample();
        if !settled || self.paths.active.budget != Budget::Unlimited {
            return None;
        }
        let in_flight = self.bytes_in_flight();
        let path = &mut self.paths.active;
        // The probe waits its turn like everything else that counts.
        let size = path.mtud.next_probe_size(now)?;
        (in_flight.saturating_add(size as u64) <= path.congestion.window()).then_some(size)
    }

    /// A datagram of a trial size; it says nothing but PING.
    fn probe_datagram(
        &mut self,
        now: Instant,
        batch: &mut Batch,
        size: usize,
    ) -> Result<bool, TransportError> {
        let (route, ecn) = (self.paths.active.route, self.ecn_mark());
        let Some(room) = batch.room(size) else { return Ok(false) };
        let purpose = Purpose::MtuProbe(size);
        let fill = Fill::alone(Extent::any(size));
        let sealed = self.data_packet(now, room, Allowance::Anything, purpose, fill)?;
        let Some(sealed) = sealed else { return Ok(false) };
        // Only now: a probe that was not sent is never settled.
        self.paths.active.mtud.probe(now);
        self.account_datagram(sealed.len);
        batch.commit(route, ecn, sealed.len);
        Ok(true)
    }
}
