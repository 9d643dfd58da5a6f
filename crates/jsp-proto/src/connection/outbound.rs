//! The corridor out: permit, compose, packet, seal, recovery, batch.

use jsp_crypto::Role;
use jsp_wire::header::{LongFields, LongType};
use jsp_wire::{CloseCode, ConnectionId, Instant, PathId, Route, limits};

use super::Connection;
use super::filled::Sealed;
use crate::batch::Ecn;
use crate::compose::{self, DataSources};
use crate::error::TransportError;
use crate::fec::Rider;
use crate::handshake::Flight;
use crate::keys::SpaceId;
use crate::lifecycle::Farewell;
use crate::packet::{Built, PacketBuilder};
use crate::padding::{Extent, Fill};
use crate::path::Path;
use crate::permit::{self, Allowance};
use crate::recovery::SentInfo;
use crate::seal::{self, ShortHeader};
use crate::spaces;
use crate::token::Token;

/// What a 1-RTT packet is built for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Whatever there is to say.
    Regular,
    /// The same, or a PING where there is nothing: a datagram is due.
    Cover,
    /// To learn whether a datagram of this size passes.
    MtuProbe(usize),
    /// To learn whether the peer is there.
    Challenge(Route, [u8; 8]),
    /// To show that we are here.
    Response(Route, [u8; 8]),
    /// To bring packets back that the network may have lost.
    Repair,
    /// The last word.
    Farewell,
}

impl Connection {
    pub(super) fn ecn_mark(&self) -> Option<Ecn> {
        let path = &self.paths.active;
        let marks = self.lifecycle.is_established() && !path.route.is_reliable();
        path.ecn.mark().filter(|_| marks)
    }

    pub(super) fn bytes_in_flight(&self) -> u64 {
        let data = self.paths.active.numbers.recovery.bytes_in_flight();
        let is_first = self.paths.active.id == PathId::FIRST;
        data.saturating_add(if is_first { self.early.bytes_in_flight() } else { 0 })
    }

    /// Packets of all spaces that have something to say, side by side in one datagram.
    pub(super) fn regular_datagram(
        &mut self,
        now: Instant,
        room: &mut [u8],
        allowance: Allowance,
        extent: Extent,
    ) -> Result<usize, TransportError> {
        let mut fill = Fill::alone(extent);
        let mut ends_in_data = false;
        // The client's first data are of no use to a server that has not its flight: a lost one
        // would be missed for a probe time-out.
        // spec: CON-38
        let is_first_flight = self.role == Role::Client && self.exchange.is_complete();
        if is_first_flight && allowance.allows_data() && self.streams.wants(now) {
            self.exchange.flight(SpaceId::Handshake).into_iter().for_each(Flight::join_data);
        }
        for space in self.spaces_here().iter().copied() {
            let Some(rest) = room.get_mut(fill.before..) else { break };
            if space == SpaceId::Data && self.exchange.early_data.may_send() {
                fill.is_last = true;
                let sealed = self.early_packet(now, rest, allowance, fill)?;
                fill.before = fill.before.saturating_add(sealed.map_or(0, |sealed| sealed.len));
                continue;
            }
            // A packet with a short header takes all that follows it: behind a hello, which is to be
            // padded, there is room only for one that pads itself.
            let is_padded = fill.least > 0 && space == SpaceId::Data && !extent.pads();
            if !self.keys.has(space) || self.is_premature(space) || is_padded {
                continue;
            }
            fill.is_last = !self.is_followed(now, space, allowance);
            let sealed = match space {
                SpaceId::Data => self.data_packet(now, rest, allowance, self.purpose(), fill)?,
                _ => self.handshake_packet(now, rest, allowance, space, fill)?,
            };
            let Some(sealed) = sealed else { continue };
            fill.before = fill.before.saturating_add(sealed.len);
            ends_in_data = space == SpaceId::Data;
            if space == SpaceId::Initial && sealed.ack_eliciting {
                fill.least = limits::MTU_BASE;
            }
        }
        let mut len = fill.before;
        if len > 0 && !ends_in_data {
            len = self.pad_behind(room, fill);
        }
        if len == 0 && allowance == Allowance::Anything {
            let in_flight = self.bytes_in_flight();
            self.paths.active.delivery.mark_app_limited(in_flight);
        }
        Ok(len)
    }

    /// A server must not send data to a client that has not proved itself, a client has no data
    /// keys before the server has, and does not know which candidate's Handshake keys are right. For Initial packets
    /// it is too late once the client has its flight: that says more than they do, and the datagram that begins with
    /// one is taken for a stranger's.
    // spec: CON-39, CON-102
    pub(super) fn is_premature(&self, space: SpaceId) -> bool {
        match space {
            SpaceId::Initial => self.role == Role::Client && self.exchange.is_complete(),
            SpaceId::Handshake => self.is_unproved(),
            SpaceId::Data => !self.exchange.may_send_data(),
        }
    }

    fn handshake_packet(
        &mut self,
        now: Instant,
        room: &mut [u8],
        allowance: Allowance,
        space: SpaceId,
        mut fill: Fill,
    ) -> Result<Option<Sealed>, TransportError> {
        if !self.wants_packet(now, space, allowance) {
            return Ok(None);
        }
        let wants = self.exchange.flight_wants(space) && allowance.allows_data();
        let probe = self.paths.active.probes.owes(space);
        let Some(numbers) = spaces::select(space, &mut self.early, &mut self.paths.active) else {
            return Ok(None);
        };
        let Some(keys) = self.keys.seal_long(space) else { return Ok(None) };
        let token = self.exchange.token();
        if room.len() < token.len().saturating_add(HANDSHAKE_ROOM_MIN) {
            return Ok(None);
        }
        let pn = numbers.numbers.peek();
        // A hello goes where its keys belong to, whatever id somebody has answered from since.
        // spec: CON-66
        let is_hello = wants && space == SpaceId::Initial && self.role == Role::Client;
        let dcid = if is_hello {
            self.exchange.ids().hello_destination()
        } else {
            *self.remote_ids.current()
        };
        let fields = LongFields {
            kind: if space == SpaceId::Initial { LongType::Initial } else { LongType::Handshake },
            dcid,
            scid: self.local_ids.first(),
            token: &token,
            pn,
            pn_len: jsp_wire::pn::len(pn, numbers.recovery.largest_acked()),
        };
        let layout = seal::write_long_header(room, &fields)?;
        let header_len = layout.pn_offset.saturating_add(fields.pn_len);
        let payload_end = room.len().saturating_sub(limits::TAG_LEN);
        let payload = room.get_mut(header_len..payload_end).unwrap_or_default();
        let mut packet = PacketBuilder::new(payload, &mut self.scratch.tokens, false);
        let flight = self.exchange.flight(space);
        // A client that drops its Initial keys with this packet must have one under way that it
        // will ask after: a server without budget has no other way to hear of it.
        // spec: CON-24
        let insist = space == SpaceId::Handshake && self.role == Role::Client;
        let ping = probe || (insist && self.keys.has(SpaceId::Initial));
        compose::handshake_packet(now, &mut packet, allowance, &mut numbers.acks, flight, ping);
        if space == SpaceId::Initial && packet.is_ack_eliciting() {
            fill.least = limits::MTU_BASE;
        }
        self.trace.padding_sent(packet.fill(header_len, &fill));
        let built = packet.finish();
        if built.len == 0 {
            return Ok(None);
        }
        numbers.numbers.next_pn().ok_or_else(numbers_used_up)?;
        let len = seal::seal_long(room, layout, &fields, built, keys)?;
        if space == SpaceId::Initial {
            self.exchange.note_hello(room.get(..len).unwrap_or_default());
        }
        let sealed = Sealed { len, pn, ack_eliciting: built.ack_eliciting };
        self.on_packet_sent(now, space, &sealed, Purpose::Regular)?;
        if space == SpaceId::Handshake && self.role == Role::Client {
            self.discard_space(SpaceId::Initial);
        }
        Ok(Some(sealed))
    }

    pub(super) fn data_packet(
        &mut self,
        now: Instant,
        room: &mut [u8],
        allowance: Allowance,
        purpose: Purpose,
        fill: Fill,
    ) -> Result<Option<Sealed>, TransportError> {
        let is_cover = purpose == Purpose::Cover;
        let regular = purpose == Purpose::Regular || is_cover;
        let is_idle = regular && !self.wants_packet(now, SpaceId::Data, allowance);
        if is_idle || room.len() < DATA_ROOM_MIN {
            return Ok(None);
        }
        let Some(dcid) = self.destination(purpose) else { return Ok(None) };
        let probe = self.paths.active.probes.owes(SpaceId::Data) && regular;
        let ping = is_cover || probe;
        let may_bundle = regular && allowance.allows_data();
        let (overdue, crossing) = (self.overdue(now, may_bundle), self.crossing(now, may_bundle));
        let (lane, answer) = (self.lane(), self.answer_here(regular));
        let is_last = may_bundle && permit::is_last(&self.paths.active, self.bytes_in_flight());
        let path = &mut *self.paths.active;
        let pn = path.numbers.numbers.peek();
        // spec: FEC-10
        let may_ride = regular && (allowance == Allowance::Anything || probe);
        let fec = path.fec.as_deref_mut().filter(|_| may_ride);
        let rider = Rider::new(fec, &path.numbers.recovery, pn);
        let mut sources = DataSources {
            duty: path.duty,
            answer,
            others: &mut self.paths.others,
            notices: &mut self.paths.notices,
            control: &mut self.control,
            local_ids: &mut self.local_ids,
            remote_ids: &mut self.remote_ids,
            session: &mut self.exchange.session,
            streams: &mut self.streams,
            ack_request: &mut path.ack_request,
            is_last,
            overdue,
            crossing,
            path: path.id,
            is_cold: path.warmth.is_owed,
            rider,
        };
        let pn_len = jsp_wire::pn::len(pn, path.numbers.recovery.largest_acked());
        let phase = self.keys.phase();
        let fields = ShortHeader { path: lane.path, dcid: &dcid, phase, pn, pn_len };
        let header_len = seal::write_short_header(room, &fields)?.saturating_add(pn_len);
        let payload_end = room.len().saturating_sub(limits::TAG_LEN);
        let payload = room.get_mut(header_len..payload_end).unwrap_or_default();
        let may_shape = regular && !sources.has_riders() && !fill.extent.pads();
        let mut packet = PacketBuilder::new(payload, &mut self.scratch.tokens, may_shape).by(lane);
        let acks = &mut path.numbers.acks;
        match purpose {
            Purpose::Regular | Purpose::Cover => {
                compose::data_packet(now, &mut packet, allowance, acks, &mut sources, ping);
            }
            _ => compose_special(&mut packet, purpose, self.lifecycle.farewell()),
        }
        self.trace.padding_sent(packet.fill(header_len, &fill));
        let built = packet.finish();
        if built.len == 0 {
            return Ok(None);
        }
        self.trace.repair_sent(sources.rider.map_or(0, |rider| rider.written()));
        let payload = room.get(header_len..).unwrap_or_default();
        self.protect(now, (pn, header_len), payload, &built);
        self.seal_data(now, room, &fields, (built, purpose))
    }

    /// The id that a 1-RTT packet of the path at hand bears.
    // spec: CON-72
    fn destination(&mut self, purpose: Purpose) -> Option<ConnectionId> {
        let here = &self.paths.active;
        match purpose {
            Purpose::Challenge(to, _) | Purpose::Response(to, _) if !here.route.same_ends(&to) => {
                self.remote_ids.beside_path(here.id, &to, |route| here.may_go_to(route))
            }
            _ => self.remote_ids.on_path(here.id).copied(),
        }
    }

    /// Door 7 for 1-RTT packets: what was built behind the header in `room` takes its number and is sealed.
    pub(super) fn seal_data(
        &mut self,
        now: Instant,
        room: &mut [u8],
        fields: &ShortHeader<'_>,
        (built, purpose): (Built, Purpose),
    ) -> Result<Option<Sealed>, TransportError> {
        let pn = fields.pn;
        self.paths.active.numbers.numbers.next_pn().ok_or_else(numbers_used_up)?;
        let Some((key, header_key, _)) = self.keys.seal_short(fields.path, pn) else {
            return Ok(None);
        };
        let len = seal::seal_short(room, fields, built, key, header_key)?;
        let sealed = Sealed { len, pn, ack_eliciting: built.ack_eliciting };
        self.on_packet_sent(now, SpaceId::Data, &sealed, purpose)?;
        if purpose != Purpose::Farewell {
            self.maintain_keys(now)?;
        }
        Ok(Some(sealed))
    }

    /// Door 8: the ledger takes the packet and what it carried.
    pub(super) fn on_packet_sent(
        &mut self,
        now: Instant,
        space: SpaceId,
        sealed: &Sealed,
        purpose: Purpose,
    ) -> Result<(), TransportError> {
        let on_path =
            !matches!(purpose, Purpose::Challenge(..) | Purpose::Response(..) | Purpose::Farewell);
        // Datagrams elsewhere, and last words, leave without a mark.
        let ecn = self.ecn_mark().filter(|_| on_path);
        let path = &mut self.paths.active;
        let is_mtu_probe = matches!(purpose, Purpose::MtuProbe(_));
        // Packets to another address are not the path's: they never count against its window.
        let in_flight = sealed.ack_eliciting && on_path;
        let size = sealed.len.min(usize::from(u16::MAX)) as u16;
        let info = SentInfo {
            pn: sealed.pn,
            size,
            ack_eliciting: sealed.ack_eliciting,
            in_flight,
            is_mtu_probe,
            ecn,
        };
        let app_limited = path.delivery.app_limited();
        let tokens = &self.scratch.tokens;
        if space == SpaceId::Data {
            let Path { numbers, delivery, .. } = &mut **path;
            numbers.recovery.on_sent(now, info, tokens, app_limited, delivery)?;
        } else if let Some(numbers) = self.early.get_mut(space) {
            numbers.recovery.on_sent(now, info, tokens, app_limited, &mut path.delivery)?;
        }
        if in_flight {
            let total = self.bytes_in_flight();
            let path = &mut self.paths.active;
            path.congestion.on_sent(now, u64::from(size), total);
            path.pacer.on_sent(usize::from(size));
            if space == SpaceId::Data && !is_mtu_probe {
                path.forecast.on_sent(now);
            }
        }
        if self.scratch.tokens.iter().any(|token| matches!(token, Token::Stream(_))) {
            self.paths.busy_at = now;
        }
        self.lifecycle.on_sent(now, sealed.ack_eliciting);
        if sealed.ack_eliciting {
            self.paths.active.probes.on_sent(space);
            self.paths.active.warmth.on_sent(now);
        }
        self.exchange.session.on_bytes(sealed.len);
        self.trace.packet_sent(now, space, sealed.pn, sealed.len, &self.scratch.tokens);
        Ok(())
    }
}

/// Least room for a packet of the handshake beside its token: header, a little payload, tag.
pub(super) const HANDSHAKE_ROOM_MIN: usize = 96;

/// Least room for a 1-RTT packet: longest header, a little payload, tag.
pub(super) const DATA_ROOM_MIN: usize =
    1 + limits::CONNECTION_ID_LEN_MAX + limits::PN_LEN_MAX + 8 + limits::TAG_LEN;

/// A packet with one purpose beside the usual.
fn compose_special(packet: &mut PacketBuilder<'_>, purpose: Purpose, farewell: Option<&Farewell>) {
    match purpose {
        Purpose::MtuProbe(size) => compose::mtu_probe(packet, size),
        Purpose::Challenge(_, data) => compose::path_challenge(packet, data),
        Purpose::Response(_, data) => compose::path_response(packet, data),
        Purpose::Farewell => {
            if let Some(farewell) = farewell {
                compose::farewell(packet, farewell);
            }
        }
        // Their own doors: `compose::data_packet` and `repair_packet`.
        Purpose::Regular | Purpose::Cover | Purpose::Repair => {}
    }
}

pub(super) fn numbers_used_up() -> TransportError {
    TransportError::new(CloseCode::AEAD_LIMIT, "all packet numbers are used")
}
