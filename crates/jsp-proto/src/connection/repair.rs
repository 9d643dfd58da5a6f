//! Doors 7 and 9 out and 4 in: forward error correction over what packets hold.

use bytes::Bytes;
use jsp_wire::params::feature;
use jsp_wire::{CloseCode, Instant, Shape, Writer, frame, limits};

use super::Connection;
use super::filled::Sealed;
use super::inbound::{Arrival, Opened};
use super::outbound::{DATA_ROOM_MIN, Purpose};
use super::shape::REPAIR_HEAD_LEN;
use crate::batch::Batch;
use crate::error::TransportError;
use crate::fec::controller::Network;
use crate::fec::{PathFec, Recovered};
use crate::forecast::AlarmLevel;
use crate::keys::SpaceId;
use crate::packet::{Built, PacketBuilder};
use crate::padding::Fill;
use crate::path::{Duty, Path};
use crate::permit::{self, Allowance};
use crate::seal::{self, ShortHeader};

/// A loss is found this part of a round trip after the acknowledgement that could have told of the
/// packet: what acknowledgements are held back, and a little for disorder.
const DETECTION_PART: u32 = 8;

impl Connection {
    /// True when both sides know forward error correction.
    // spec: FEC-1
    pub(super) fn has_fec(&self) -> bool {
        self.exchange.has_feature(feature::FEC)
    }

    /// Door 7: a packet with this payload is to be sealed, and may ask for protection.
    pub(super) fn protect(
        &mut self,
        now: Instant,
        (pn, header_len): (u64, usize),
        payload: &[u8],
        built: &Built,
    ) {
        // What a reliable carrier takes arrives.
        // spec: CAR-11
        let protects = self.has_fec() && !self.paths.active.route.is_reliable();
        let Some(asked) = built.protection.filter(|_| protects) else { return };
        let (from, to) = built.content;
        let Some(content) = payload.get(from..to) else { return };
        let len = header_len.saturating_add(content.len()).saturating_add(limits::TAG_LEN);
        let mtu = self.repair_room();
        let path = &mut self.paths.active;
        let fec = path.fec.get_or_insert_with(|| Box::new(PathFec::new()));
        fec.on_sent(now, (pn, built.shape, content), &asked, (len, mtu));
    }

    /// Bytes for a datagram that holds what may be protected: so few that a repair, which is longer,
    /// still fits the path.
    // spec: FEC-9
    pub(super) fn room_beside_repairs(&self, room: usize) -> usize {
        let path = &self.paths.active;
        let protects = path.fec.as_ref().is_some_and(|fec| fec.is_protecting());
        if !protects || !self.streams.is_urgent() {
            return room;
        }
        let less = room.min(self.source_len_max());
        // Of declared sizes, the next below may not exist: then there is no protection.
        if self.paths.padder.has_size_within(less) { less } else { room }
    }

    /// Longest packet that can be protected: a repair of it has a datagram of its own.
    fn source_len_max(&self) -> usize {
        PathFec::source_len_max(self.repair_room())
    }

    /// Bytes that a datagram with a repair may have, less what only a padded one needs.
    fn repair_room(&self) -> usize {
        let mtu = self.paths.active.mtud.current();
        match self.paths.padder.declared() {
            Some(sizes) => sizes.within(mtu).unwrap_or(0).saturating_sub(REPAIR_HEAD_LEN),
            None => mtu,
        }
    }

    /// When a repair will be due; one that is due already waits for the permit.
    // spec: FEC-11
    pub(super) fn repair_at(&self, now: Instant) -> Option<Instant> {
        let due = self.paths.active.fec.as_ref()?.due()?;
        (due > now).then_some(due)
    }

    /// True when a repair is due on a path that carries data.
    pub(super) fn owes_repair(&self, now: Instant) -> bool {
        let path = &self.paths.active;
        let due = path.fec.as_ref().and_then(|fec| fec.due()).filter(|_| path.duty == Duty::All);
        due.is_some_and(|due| due <= now)
    }

    /// A datagram with the repair that is due, if window and pacer let it go. `None` when there is none;
    /// `Some(false)` when the batch has no room for it.
    // spec: FEC-10
    pub(super) fn repair_datagram(
        &mut self,
        now: Instant,
        batch: &mut Batch,
    ) -> Result<Option<bool>, TransportError> {
        let fec = self.paths.active.fec.as_ref();
        if fec.is_none() {
            return Ok(None);
        }
        // One that can ride waits for the packet that is to be written now.
        let is_held = permit::held_until(now, &self.paths.active, self.is_urgent()).is_some();
        let rides = fec.is_some_and(|fec| fec.rides()) && self.streams.wants(now) && !is_held;
        if !self.owes_repair(now) || rides || self.paths.active.probes.any() {
            return Ok(None);
        }
        let in_flight = self.bytes_in_flight();
        let permit = permit::permit(now, &mut self.paths.active, in_flight, false, false);
        let Some(permit) = permit.filter(|permit| permit.allowance == Allowance::Anything) else {
            return Ok(None);
        };
        let (route, ecn) = (self.paths.active.route, self.ecn_mark());
        let extent = self.extent(permit.room);
        let Some(room) = batch.room(extent.room) else { return Ok(Some(false)) };
        let fill = Fill::alone(extent);
        let Some(sealed) = self.repair_packet(now, room, fill)? else { return Ok(None) };
        self.use_slot(now);
        self.account_datagram(sealed.len);
        self.trace.repair_sent(sealed.len);
        batch.commit(route, ecn, sealed.len);
        Ok(Some(true))
    }

    fn repair_packet(
        &mut self,
        now: Instant,
        room: &mut [u8],
        fill: Fill,
    ) -> Result<Option<Sealed>, TransportError> {
        let Path { id, numbers, fec, .. } = &mut *self.paths.active;
        let Some(fec) = fec.as_mut().filter(|_| room.len() >= DATA_ROOM_MIN) else {
            return Ok(None);
        };
        let pn = numbers.numbers.peek();
        let pn_len = jsp_wire::pn::len(pn, numbers.recovery.largest_acked());
        let path = *id;
        let Some(dcid) = self.remote_ids.on_path(path).copied() else { return Ok(None) };
        let fields = ShortHeader { path, dcid: &dcid, phase: self.keys.phase(), pn, pn_len };
        let header_len = seal::write_short_header(room, &fields)?.saturating_add(pn_len);
        let payload_end = room.len().saturating_sub(limits::TAG_LEN);
        let payload = room.get_mut(header_len..payload_end).unwrap_or_default();
        // The frame that tells its length comes before the content, where something follows it.
        let head = if fill.extent.pads() { REPAIR_HEAD_LEN } else { 0 };
        let content = payload.get_mut(head..).unwrap_or_default();
        let mut packet = PacketBuilder::new(content, &mut self.scratch.tokens, true);
        let recovery = &numbers.recovery;
        if !fec.write(now, pn, recovery.wants_repair(), packet.writer()) {
            return Ok(None);
        }
        packet.set_shape(Shape::Repair);
        packet.elicit_ack();
        let mut built = packet.finish();
        if fill.extent.pads() {
            self.trace.padding_sent(frame_repair(payload, header_len, &mut built, &fill)?);
        }
        self.seal_data(now, room, &fields, (built, Purpose::Repair))
    }

    /// After an acknowledgement: what the path has lost decides on how much repair it gets.
    // spec: FEC-12
    pub(super) fn adapt_repair(&mut self, now: Instant) {
        let Path { fec: Some(fec), numbers, rtt, delivery, forecast, .. } = &mut *self.paths.active
        else {
            return;
        };
        let is_alarmed = forecast.alarm().level > AlarmLevel::Clear;
        fec.on_runs(now, numbers.recovery.loss_runs());
        let network = Network {
            rtt: rtt.smoothed(),
            detect: rtt.smoothed().checked_div(DETECTION_PART).unwrap_or_default(),
            has_room: delivery.app_limited(),
        };
        fec.adapt(now, &network, is_alarmed);
    }

    /// Door 4: an authentic packet came, with this payload.
    pub(super) fn keep_symbol(&mut self, pn: u64, shape: Shape, payload: &[u8]) {
        if let Some(fec) = &mut self.paths.active.fec {
            fec.keep(pn, shape, payload);
        }
    }

    /// A packet that was put together from repair symbols has been read.
    // spec: FEC-7
    pub(super) fn note_recovered(&mut self, pn: u64) {
        self.paths.active.numbers.acks.on_recovered(pn);
        self.trace.packet_recovered();
    }

    /// A repair symbol of the peer.
    pub(super) fn on_repair(&mut self, pn: u64, content: &[u8]) -> Result<(), TransportError> {
        let fec = self.paths.active.fec.get_or_insert_with(|| Box::new(PathFec::new()));
        Ok(fec.on_repair(pn, content)?)
    }

    /// Packets that could be put together are handled as if they came in the datagram that completed them,
    /// whatever theirs was, and without a mark of the network. They need not be opened: the peer has sealed
    /// all that they were made of.
    // spec: FEC-6, CON-10
    pub(super) fn handle_recovered(&mut self, now: Instant, arrival: Arrival) {
        while let Some(recovered) = self.paths.active.fec.as_mut().and_then(|fec| fec.recovered()) {
            let Recovered { pn, shape, content } = recovered;
            if !self.paths.active.numbers.window.commit(pn) {
                continue;
            }
            let (route, received) = (arrival.route, arrival.len);
            let payload = Bytes::from(content);
            let opened = Opened { space: SpaceId::Data, pn, payload, ecn: None, route, received };
            let result = self.handle_data_payload(now, &opened, Some(shape), true);
            self.settle(now, result);
            if self.lifecycle.is_drained() {
                return;
            }
        }
    }
}

/// Makes a frame with padding behind it of the content of a repair, which stands where the frame's content goes;
/// answers the bytes of padding.
// spec: PRV-3
fn frame_repair(
    payload: &mut [u8],
    header_len: usize,
    built: &mut Built,
    fill: &Fill,
) -> Result<usize, TransportError> {
    let internal = || TransportError::new(CloseCode::INTERNAL, "a repair could not be framed");
    let (head, content) = payload.split_at_mut_checked(REPAIR_HEAD_LEN).ok_or_else(internal)?;
    frame::write_repair_head(&mut Writer::new(head), built.len).map_err(|_| internal())?;
    let framed = REPAIR_HEAD_LEN.saturating_add(built.len);
    let sealed = header_len.saturating_add(framed).saturating_add(limits::TAG_LEN);
    let padding = fill.missing(sealed);
    let end = built.len.saturating_add(padding);
    content.get_mut(built.len..end).ok_or_else(internal)?.fill(0);
    (built.shape, built.len) = (Shape::Frames, framed.saturating_add(padding));
    Ok(padding)
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::super::tests::{NOW, address, pair};
    use super::*;
    use crate::endpoint::Datagram;
    use crate::fec::Protection;
    use crate::padding::Extent;

    /// A packet that is protected until a second has passed, and the repair of it before that.
    fn challenge_and_repair(peer: &mut Connection, now: Instant, data: [u8; 8]) -> [Vec<u8>; 2] {
        let (mut packet, mut repair) = (vec![0; 1000], vec![0; 1200]);
        let purpose = Purpose::Challenge(peer.route(), data);
        let fill = Fill::alone(Extent::any(packet.len()));
        let sealed =
            peer.data_packet(now, &mut packet, Allowance::Probe, purpose, fill).unwrap().unwrap();
        packet.truncate(sealed.len);
        let expires = now + core::time::Duration::from_secs(1);
        let asked =
            Protection { percent: 100, auto: false, expires, soonest: expires, once: false };
        let mut payload = [0; 1000];
        let mut tokens = Vec::new();
        let mut again = PacketBuilder::new(&mut payload[..sealed.len - 30], &mut tokens, false);
        crate::compose::path_challenge(&mut again, data);
        again.protect(asked);
        let built = again.finish();
        peer.protect(now, (sealed.pn, 14), &payload, &built);
        let due = now + core::time::Duration::from_millis(20);
        let fill = Fill::alone(Extent::any(repair.len()));
        let sealed = peer.repair_packet(due, &mut repair, fill).unwrap().unwrap();
        repair.truncate(sealed.len);
        [packet, repair]
    }

    #[test]
    /// spec-test: CON-10
    fn an_address_pays_with_datagrams_and_not_with_what_is_put_together_of_them() {
        let [(mut client, at), (mut server, with)] = pair();
        let peer = client.connection(at).unwrap();
        let first = challenge_and_repair(peer, NOW, [1; 8]);
        let [lost, repair] =
            challenge_and_repair(peer, NOW + core::time::Duration::from_secs(2), [2; 8]);
        assert_ne!(lost.len(), repair.len());
        let mut arrive = |host, bytes: &[u8]| {
            let payload = BytesMut::from(bytes);
            server.handle_datagram(NOW, Datagram { route: address(host), ecn: None, payload });
        };
        first.iter().for_each(|bytes| arrive(1, bytes));
        arrive(7, &repair);
        let server = server.connection(with).unwrap();
        let owed = server.paths.responses.pop_not_for(&server.paths.active).unwrap();
        assert_eq!((owed.data, owed.allowance), ([2; 8], 3 * repair.len()));
    }
}
