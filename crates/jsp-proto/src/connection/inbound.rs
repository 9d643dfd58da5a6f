//! The corridor in: endpoint, seal, space, path, dispatch.

use bytes::{Bytes, BytesMut};
use jsp_crypto::Role;
use jsp_wire::header::{LongHeader, Protected};
use jsp_wire::{
    CloseCode, ConnectionId, FrameIter, Header, Instant, LongType, Payload, Route, limits,
};

use super::Connection;
use crate::batch::Ecn;
use crate::error::TransportError;
use crate::event::CloseReason;
use crate::keys::{Generation, SpaceId};
use crate::path::Budget;
use crate::path::validation::Candidate;
use crate::spaces;

/// A packet that has been opened.
pub(super) struct Opened {
    pub(super) space: SpaceId,
    pub(super) pn: u64,
    pub(super) payload: Bytes,
    pub(super) ecn: Option<Ecn>,
    pub(super) route: Route,
}

/// Where a datagram came from.
#[derive(Clone, Copy)]
struct Arrival {
    route: Route,
    ecn: Option<Ecn>,
    /// Bytes of the whole datagram.
    len: usize,
}

impl Connection {
    /// Takes a datagram that the endpoint found to be ours.
    pub(crate) fn handle_datagram(
        &mut self,
        now: Instant,
        route: Route,
        ecn: Option<Ecn>,
        mut datagram: BytesMut,
    ) {
        let arrival = Arrival { route, ecn, len: datagram.len() };
        self.paths.on_received(&route, datagram.len());
        self.trace.datagram_received(datagram.len());
        while !datagram.is_empty() && !self.lifecycle.is_drained() {
            let rest = match Header::parse(&datagram) {
                Ok(Header::Long(header)) => {
                    let rest = datagram.split_off(header.packet_len.min(datagram.len()));
                    let (kind, dcid, scid, pn_offset) =
                        (header.kind, header.dcid, header.scid, header.pn_offset);
                    let header =
                        LongHeader { kind, dcid, scid, token: &[], pn_offset, packet_len: 0 };
                    let result = self.handle_long(now, arrival, &header, datagram);
                    self.settle(now, result);
                    rest
                }
                Ok(Header::Short) => {
                    let result = self.handle_short(now, arrival, datagram);
                    self.settle(now, result);
                    return;
                }
                Ok(Header::Retry { .. }) => return self.handle_retry(now, &datagram),
                Ok(Header::VersionNegotiation { dcid, scid, versions }) => {
                    return self.handle_version_negotiation(now, dcid, scid, versions);
                }
                Ok(Header::OtherVersion { .. }) | Err(_) => return,
            };
            datagram = rest;
        }
    }

    fn settle(&mut self, now: Instant, result: Result<(), TransportError>) {
        if let Err(error) = result {
            self.fail(now, error);
        }
    }

    /// Door 2 for the handshake's packets: whichever keys open it say whose it is.
    fn handle_long(
        &mut self,
        now: Instant,
        arrival: Arrival,
        header: &LongHeader<'_>,
        mut packet: BytesMut,
    ) -> Result<(), TransportError> {
        let space = match header.kind {
            LongType::Initial => SpaceId::Initial,
            LongType::Handshake => SpaceId::Handshake,
            LongType::ZeroRtt => return Ok(()),
        };
        let Ok(sample) = Protected::sample(&packet, header.pn_offset) else { return Ok(()) };
        let Some(numbers) = spaces::view(space, &self.early, &self.paths.active) else {
            return Ok(());
        };
        let expected = numbers.window.expected();
        let mut opened = None;
        for keys in self.keys.open_long(space) {
            let mut trial = packet.clone();
            let mask = keys.header.mask(&sample);
            let Ok((low, pn_len)) = Protected::unmask_long(&mut trial, header.pn_offset, mask)
            else {
                continue;
            };
            let pn = jsp_wire::pn::expand(low, pn_len, expected);
            let header_len = header.pn_offset.saturating_add(pn_len);
            let Some((head, body)) = trial.split_at_mut_checked(header_len) else { continue };
            if let Ok(len) = keys.packet.open_in_place(pn, head, body) {
                opened = Some((pn, header_len, len));
                packet = trial;
                break;
            }
        }
        let Some((pn, header_len, len)) = opened else { return Ok(()) };
        let reserved_clear = packet.first().is_some_and(|first| first & 0x0c == 0);
        let payload = packet.freeze().slice(header_len..header_len.saturating_add(len));
        let Some(numbers) = spaces::select(space, &mut self.early, &mut self.paths.active) else {
            return Ok(());
        };
        if !numbers.window.commit(pn) {
            return Ok(());
        }
        // spec: CON-8
        if !reserved_clear || payload.is_empty() {
            let reason = "a handshake packet has reserved bits set or holds nothing";
            return Err(TransportError::new(CloseCode::PROTOCOL_VIOLATION, reason));
        }
        self.on_long_opened(now, space, &header.scid);
        let Arrival { route, ecn, .. } = arrival;
        self.handle_handshake_payload(now, Opened { space, pn, payload, ecn, route })
    }

    /// What a packet of the handshake proves before its frames are read.
    fn on_long_opened(
        &mut self,
        now: Instant,
        space: SpaceId,
        source: &ConnectionId,
    ) {
        self.lifecycle.on_received(now);
        if self.role == Role::Client && !self.exchange.is_complete() {
            self.remote_ids.set_handshake_id(*source);
        }
        if space == SpaceId::Handshake && self.role == Role::Server {
            // Only who has our hello can have these keys: the address is proved.
            // spec: CON-9
            self.paths.active.budget = Budget::Unlimited;
            self.discard_space(SpaceId::Initial);
        }
    }

    pub(super) fn handle_handshake_payload(
        &mut self,
        now: Instant,
        opened: Opened,
    ) -> Result<(), TransportError> {
        let mut eliciting = false;
        for frame in FrameIter::new(&opened.payload) {
            let frame = frame?;
            if !frame.is_allowed_in_handshake() {
                let reason = "a handshake packet holds a frame that belongs to later packets";
                return Err(TransportError::new(CloseCode::PROTOCOL_VIOLATION, reason));
            }
            eliciting |= frame.is_ack_eliciting();
            self.dispatch(now, &opened, &frame)?;
        }
        self.note_for_ack(now, &opened, eliciting);
        Ok(())
    }

    /// Doors 2 to 6 for everything after the handshake.
    fn handle_short(
        &mut self,
        now: Instant,
        arrival: Arrival,
        mut packet: BytesMut,
    ) -> Result<(), TransportError> {
        if self.is_reset(&packet) {
            self.lose(now, CloseReason::Reset);
            return Ok(());
        }
        if !self.exchange.is_complete() {
            self.exchange.keep_early(packet, arrival.route);
            return Ok(());
        }
        let pn_offset = self.local_id_len(&packet).saturating_add(1);
        let Ok(sample) = Protected::sample(&packet, pn_offset) else { return Ok(()) };
        let Some(header_key) = self.keys.remote_header() else { return Ok(()) };
        let mask = header_key.mask(&sample);
        let Ok(fields) = Protected::unmask_short(&mut packet, pn_offset, mask) else {
            return Ok(());
        };
        let window = &self.paths.active.numbers.window;
        let pn = jsp_wire::pn::expand(fields.truncated_pn, fields.pn_len, window.expected());
        if !window.accept(pn) {
            return Ok(());
        }
        let Some((key, generation)) = self.keys.open_short(fields.key_phase, pn) else {
            return Ok(());
        };
        let header_len = pn_offset.saturating_add(fields.pn_len);
        let Some((head, body)) = packet.split_at_mut_checked(header_len) else { return Ok(()) };
        let Ok(len) = key.open_in_place(pn, head, body) else { return self.keys.on_forgery() };
        let payload = packet.freeze().slice(header_len..header_len.saturating_add(len));
        let is_newest = pn >= window.expected();
        // spec: CON-40
        self.paths.active.numbers.window.commit(pn);
        self.lifecycle.on_received(now);
        if generation == Generation::Next {
            let pto = self.pto();
            self.keys.on_peer_update(now, pn, pto)?;
        }
        if is_newest {
            self.consider_route(now, arrival);
        }
        let shape = fields.shape.ok_or_else(|| {
            TransportError::new(CloseCode::FRAME_ENCODING, "a packet has the reserved shape")
        })?;
        let Arrival { route, ecn, len } = arrival;
        self.trace.packet_received(now, SpaceId::Data, pn, len);
        let opened = Opened { space: SpaceId::Data, pn, payload, ecn, route };
        let mut eliciting = false;
        for frame in Payload::read(shape, &opened.payload)? {
            let frame = frame?;
            eliciting |= frame.is_ack_eliciting();
            self.dispatch(now, &opened, &frame)?;
        }
        self.note_for_ack(now, &opened, eliciting);
        Ok(())
    }

    /// Door 5: the space remembers what it must acknowledge.
    fn note_for_ack(&mut self, now: Instant, opened: &Opened, eliciting: bool) {
        let space = opened.space;
        if let Some(numbers) = spaces::select(space, &mut self.early, &mut self.paths.active) {
            numbers.acks.on_packet(now, opened.pn, eliciting, opened.ecn);
        }
    }

    /// A peer that has lost its state answers with a token that only it could know.
    fn is_reset(&self, packet: &[u8]) -> bool {
        self.role == Role::Client && self.remote_ids.is_reset(packet)
    }

    /// Bytes of the connection id in a packet that came to us: ids of ours have one length or none.
    fn local_id_len(&self, packet: &[u8]) -> usize {
        let first = self.local_ids.first();
        let named = packet.get(1..limits::CONNECTION_ID_LEN_LOCAL.saturating_add(1));
        let is_named = named.is_some_and(|id| self.local_ids.all().any(|own| own.as_bytes() == id));
        if is_named { limits::CONNECTION_ID_LEN_LOCAL } else { first.len() }
    }

    /// The newest packet came from elsewhere: the peer may have moved, or its NAT did.
    fn consider_route(&mut self, now: Instant, arrival: Arrival) {
        let known = self.paths.active.route.same_peer(&arrival.route)
            || self.paths.candidate.as_ref().is_some_and(|c| c.route.same_peer(&arrival.route));
        if known || self.role == Role::Client || !self.lifecycle.is_established() {
            return;
        }
        let challenge = self.rng.array();
        let candidate = Candidate::new(now, arrival.route, challenge, arrival.len);
        self.paths.candidate = Some(Box::new(candidate));
    }

    /// The server wants a proof of address: the hello goes again with the cookie.
    // spec: CON-15
    fn handle_retry(&mut self, now: Instant, datagram: &[u8]) {
        let Ok(Header::Retry { scid, token, .. }) = Header::parse(datagram) else { return };
        let ids = *self.exchange.ids();
        let untouched = self.role == Role::Client
            && ids.retry_source.is_none()
            && self.keys.has(SpaceId::Initial)
            && !self.keys.has(SpaceId::Handshake);
        let original = ids.original_destination;
        let genuine = jsp_crypto::verify_retry_integrity_tag(
            jsp_wire::VERSION_1,
            original.as_bytes(),
            datagram,
        );
        if !untouched || !genuine || token.is_empty() {
            return;
        }
        self.exchange.token = Bytes::copy_from_slice(token);
        self.exchange.set_retry_source(scid);
        self.remote_ids.set_handshake_id(scid);
        let pin = self.exchange.pin.as_ref();
        let version = jsp_wire::VERSION_1;
        let keys = jsp_crypto::initial_keys(Role::Client, version, scid.as_bytes(), pin);
        self.keys.set_initial(keys);
        if let Some(numbers) = self.early.get_mut(SpaceId::Initial) {
            numbers.recovery.discard();
            numbers.recovery.set_deadlock_guard(true);
        }
        if let Some(flight) = self.exchange.flight(SpaceId::Initial) {
            flight.restart();
        }
        self.lifecycle.on_received(now);
    }

    /// The server speaks other versions. A list with ours in it is a forgery.
    // spec: CON-16
    fn handle_version_negotiation(
        &mut self,
        now: Instant,
        dcid: &[u8],
        scid: &[u8],
        versions: &[u8],
    ) {
        let offered: Vec<u32> = versions
            .chunks_exact(4)
            .filter_map(|chunk| chunk.try_into().ok().map(u32::from_be_bytes))
            .collect();
        let ours = self.role == Role::Client
            && !self.keys.has(SpaceId::Handshake)
            && dcid == self.local_ids.first().as_bytes()
            && scid == self.exchange.ids().original_destination.as_bytes();
        if ours && !offered.contains(&jsp_wire::VERSION_1) && self.lifecycle.is_open() {
            self.lose(now, CloseReason::VersionMismatch { offered });
        }
    }
}
