//! The corridor in: endpoint, seal, space, path, dispatch.

use bytes::{Buf, Bytes, BytesMut};
use jsp_crypto::Role;
use jsp_wire::header::{LongHeader, Protected};
use jsp_wire::{
    CloseCode, ConnectionId, Frame, FrameIter, Header, Instant, LongType, Route, Shape, limits,
};

use super::Connection;
use crate::batch::Ecn;
use crate::error::TransportError;
use crate::event::CloseReason;
use crate::exchange::Early;
use crate::keys::{Generation, SpaceId};
use crate::path::Budget;
use crate::path::validation::Candidate;
use crate::seal;
use crate::spaces;

/// A packet that has been opened.
pub(super) struct Opened {
    pub(super) space: SpaceId,
    pub(super) pn: u64,
    pub(super) payload: Bytes,
    pub(super) ecn: Option<Ecn>,
    pub(super) route: Route,
    /// Bytes of the datagram that brought it, as it was on the wire.
    pub(super) received: usize,
}

/// Where a datagram came from.
#[derive(Clone, Copy)]
pub(super) struct Arrival {
    pub(super) route: Route,
    pub(super) ecn: Option<Ecn>,
    /// Bytes of the whole datagram, as it was on the wire.
    pub(super) len: usize,
}

/// What stands at the start of a datagram, free of its bytes: they are opened in place.
enum PacketKind {
    Long { header: LongPacket, packet_len: usize },
    Short,
    Retry,
    VersionNegotiation,
}

/// What is needed of a long header.
#[derive(Clone, Copy)]
struct LongPacket {
    kind: LongType,
    scid: ConnectionId,
    pn_offset: usize,
}

impl PacketKind {
    fn of(datagram: &[u8]) -> Option<Self> {
        match Header::parse(datagram).ok()? {
            Header::Long(header) => {
                let LongHeader { kind, scid, pn_offset, packet_len, .. } = header;
                Some(Self::Long { header: LongPacket { kind, scid, pn_offset }, packet_len })
            }
            Header::Short => Some(Self::Short),
            Header::Retry { .. } => Some(Self::Retry),
            Header::VersionNegotiation { .. } => Some(Self::VersionNegotiation),
            Header::OtherVersion { .. } => None,
        }
    }
}

/// Packets by which a server does nothing but acknowledge what comes behind a hello.
const INITIAL_ACKS_MAX: usize = 1;

/// What is said to a peer that uses the shape that means nothing.
const RESERVED_SHAPE: TransportError =
    TransportError::new(CloseCode::FRAME_ENCODING, "a packet has the reserved shape");

impl Connection {
    /// Takes a datagram that the endpoint found to be ours.
    // spec: WIRE-7
    pub(crate) fn handle_datagram(
        &mut self,
        now: Instant,
        route: Route,
        ecn: Option<Ecn>,
        datagram: BytesMut,
    ) {
        let Some(begins) = self.focus_on(now, &route, &datagram) else { return };
        let path = self.paths.active.id;
        let len = datagram.len().saturating_add(self.paths.active.wrapping);
        self.paths.on_received(&route, len);
        self.trace.datagram_received(len);
        self.handle_packets(now, route, ecn, datagram);
        if begins && self.paths.get(path).is_some_and(|p| p.numbers.window.expected() == 0) {
            // It was nobody's.
            self.unbegin_path(path);
        }
        self.return_to_first();
    }

    /// Takes the packets of a datagram that is accounted for already.
    pub(crate) fn handle_packets(
        &mut self,
        now: Instant,
        route: Route,
        ecn: Option<Ecn>,
        mut datagram: BytesMut,
    ) {
        let len = datagram.len().saturating_add(self.paths.active.wrapping);
        let arrival = Arrival { route, ecn, len };
        while !datagram.is_empty() && !self.lifecycle.is_drained() {
            let Some(kind) = PacketKind::of(&datagram) else { return };
            match kind {
                PacketKind::Long { header, packet_len } => {
                    let rest = datagram.split_off(packet_len.min(datagram.len()));
                    let result = self.handle_long(now, arrival, &header, datagram);
                    self.settle(now, result);
                    datagram = rest;
                }
                PacketKind::Short => {
                    let result = self.handle_short(now, arrival, datagram);
                    self.settle(now, result);
                    return self.handle_recovered(now, arrival);
                }
                PacketKind::Retry => return self.handle_retry(now, &datagram),
                PacketKind::VersionNegotiation => {
                    return self.handle_version_negotiation(now, &datagram);
                }
            }
        }
    }

    pub(super) fn settle(&mut self, now: Instant, result: Result<(), TransportError>) {
        if let Err(error) = result {
            self.fail(now, error);
        }
    }

    /// Packets that came before the keys for them.
    // spec: CON-19
    pub(super) fn replay_early(&mut self, now: Instant) {
        for Early { route, ecn, packet } in self.exchange.take_early() {
            let arrival = Arrival { route, ecn, len: packet.len() };
            let result = self.handle_short(now, arrival, packet);
            self.settle(now, result);
        }
    }

    /// Door 2 for the handshake's packets: whichever keys open it say whose it is.
    fn handle_long(
        &mut self,
        now: Instant,
        arrival: Arrival,
        header: &LongPacket,
        mut packet: BytesMut,
    ) -> Result<(), TransportError> {
        let space = match header.kind {
            LongType::Initial => SpaceId::Initial,
            LongType::Handshake => SpaceId::Handshake,
            // spec: WIRE-37
            LongType::ZeroRtt => return self.handle_early(now, arrival, header.pn_offset, packet),
        };
        let Some(numbers) = spaces::view(space, &self.early, &self.paths.active) else {
            return Ok(());
        };
        // Initial packets are few, and anybody on the way can make one with a high number: those
        // must not hide the true ones. So it is with all packets until a server has proved itself.
        // spec: CON-26
        let is_initial = space == SpaceId::Initial;
        let is_anybodys = is_initial || self.is_unproved();
        let expected = if is_anybodys { 0 } else { numbers.window.expected() };
        let packet_len = packet.len();
        let mut opened = None;
        for keys in self.keys.open_long(space) {
            let mut trial = packet.clone();
            let range = seal::open_long(&mut trial, header.pn_offset, expected, keys);
            if let Some((pn, range)) = range {
                opened = Some((pn, range));
                packet = trial;
                break;
            }
        }
        let Some((pn, range)) = opened else {
            self.heed_refusal(now, header, packet);
            return Ok(());
        };
        let reserved_clear = packet.first().is_some_and(|first| first & 0x0c == 0);
        let payload = packet.freeze().slice(range);
        let Some(numbers) = spaces::select(space, &mut self.early, &mut self.paths.active) else {
            return Ok(());
        };
        // A candidate's numbers are not those of the server that will have been the true one.
        let is_new = (is_anybodys && !is_initial) || numbers.window.commit(pn);
        let takes_doubles = is_initial && self.role == Role::Client;
        if !is_new && !takes_doubles {
            return Ok(());
        }
        self.on_long_opened(now, space, &header.scid);
        let Arrival { route, ecn, len } = arrival;
        self.trace.packet_received(now, space, pn, packet_len);
        let opened = Opened { space, pn, payload, ecn, route, received: len };
        // spec: CON-8
        let result = if reserved_clear && !opened.payload.is_empty() {
            self.handle_handshake_payload(now, opened)
        } else {
            let reason = "a handshake packet has reserved bits set or holds nothing";
            Err(TransportError::new(CloseCode::PROTOCOL_VIOLATION, reason))
        };
        let is_anybodys = is_initial || self.is_unproved();
        match result {
            Err(error) if is_anybodys && self.lifecycle.is_open() => {
                if self.role == Role::Client {
                    self.doubt_peer(now, CloseReason::LocalError(error));
                }
                Ok(())
            }
            result => result,
        }
    }

    /// Something speaks against the peer in a packet that anybody on the way could have made: a true
    /// server, or client, gets the time to show itself before the attempt is given up.
    // spec: CON-25
    pub(super) fn doubt_peer(&mut self, now: Instant, reason: CloseReason) {
        self.exchange.note_rejection(reason);
        let pto = self.pto();
        self.lifecycle.hasten(now, pto);
    }

    /// A server that has another identity than the pinned one cannot read our hello, and says so
    /// under keys that need no pin. That proves nothing, so it only shortens the wait.
    fn heed_refusal(&mut self, now: Instant, header: &LongPacket, mut packet: BytesMut) {
        let ids = self.exchange.ids();
        let pinned = self.exchange.pin.is_some() && !self.keys.has(SpaceId::Handshake);
        if !pinned || header.kind != LongType::Initial || self.role != Role::Client {
            return;
        }
        let dcid = ids.hello_destination();
        let version = jsp_wire::VERSION_1;
        let keys = jsp_crypto::initial_keys(Role::Client, version, dcid.as_bytes(), None);
        let opened = seal::open_long(&mut packet, header.pn_offset, 0, &keys.remote);
        let Some((_, payload)) = opened else { return };
        let frames = packet.get(payload).unwrap_or_default();
        // The true server answers a damaged hello like this too, but cannot name what we sent.
        // spec: CON-29
        let refused = FrameIter::new(frames).flatten().any(|frame| {
            matches!(frame, Frame::Close(close)
                if close.code == CloseCode::IDENTITY && self.exchange.has_sent_hello(close.reason))
        });
        if refused {
            self.doubt_peer(now, CloseReason::NotThePinnedServer);
        }
    }

    /// What a packet of the handshake proves before its frames are read.
    fn on_long_opened(&mut self, now: Instant, space: SpaceId, source: &ConnectionId) {
        self.lifecycle.on_received(now);
        if self.exchange.forget_wrong_server() {
            self.lifecycle.take_time();
        }
        if self.role == Role::Client && !self.exchange.is_complete() {
            self.remote_ids.set_handshake_id(*source);
        }
        if space == SpaceId::Handshake && self.role == Role::Server {
            // Only who has our hello can have these keys: the address is proved, if it went to no other.
            // spec: CON-9
            if !self.exchange.early_data.is_answered_elsewhere() {
                self.paths.active.budget = Budget::Unlimited;
            }
            self.lifecycle.take_time();
            self.discard_space(SpaceId::Initial);
        }
    }

    pub(super) fn handle_handshake_payload(
        &mut self,
        now: Instant,
        opened: Opened,
    ) -> Result<(), TransportError> {
        let mut eliciting = false;
        let mut is_last_word = false;
        for frame in FrameIter::new(&opened.payload) {
            let frame = frame?;
            is_last_word |= matches!(frame, Frame::Close(_));
            if !frame.is_allowed_in_handshake() {
                let reason = "a handshake packet holds a frame that belongs to later packets";
                return Err(TransportError::new(CloseCode::PROTOCOL_VIOLATION, reason));
            }
            eliciting |= frame.is_ack_eliciting();
            self.dispatch(now, &opened, &frame)?;
        }
        // A refusal has a number of its own, which the server's answer to a full hello uses again.
        // spec: CON-39, CON-51
        let is_servers = opened.space == SpaceId::Initial || !self.is_unproved();
        if is_servers && !is_last_word && !self.has_answered_enough(opened.space) {
            self.note_for_ack(now, &opened, eliciting);
        }
        Ok(())
    }

    /// Doors 2 to 6 for everything after the handshake.
    pub(super) fn handle_short(
        &mut self,
        now: Instant,
        arrival: Arrival,
        packet: BytesMut,
    ) -> Result<(), TransportError> {
        if !self.exchange.is_complete() {
            let Arrival { route, ecn, .. } = arrival;
            // A copy: the packet may be a slice of a much larger buffer.
            let packet = BytesMut::from(&packet[..]);
            self.exchange.keep_early(Early { route, ecn, packet });
            return Ok(());
        }
        let tail = packet.last_chunk::<{ limits::RESET_TOKEN_LEN }>().copied();
        match self.open_short(now, arrival, packet)? {
            Some((opened, shape)) => self.handle_data_payload(now, &opened, shape, false),
            None => {
                // What nobody sealed for us may be the peer's word that it has forgotten us.
                if self.is_reset(tail) {
                    self.lose(now, CloseReason::Reset);
                }
                Ok(())
            }
        }
    }

    /// Doors 2 and 3: unmask, full number, open; nothing when the packet is not one of ours, or not
    /// for the first time. Nothing has changed then but the count of forgeries; and one that is the peer's, though it came
    /// before, may have the address asked that the path was led away from.
    fn open_short(
        &mut self,
        now: Instant,
        arrival: Arrival,
        mut packet: BytesMut,
    ) -> Result<Option<(Opened, Option<Shape>)>, TransportError> {
        let pn_offset = self.local_id_len(&packet).saturating_add(1);
        let Ok(sample) = Protected::sample(&packet, pn_offset) else { return Ok(None) };
        let Some(header_key) = self.keys.remote_header() else { return Ok(None) };
        let mask = header_key.mask(&sample);
        let Ok(fields) = Protected::unmask_short(&mut packet, pn_offset, mask) else {
            return Ok(None);
        };
        let path = self.paths.active.id;
        let expected = self.paths.active.numbers.window.expected();
        let pn = jsp_wire::pn::expand(fields.truncated_pn, fields.pn_len, expected);
        let Some((key, generation)) = self.keys.open_short(now, fields.key_phase, path, pn) else {
            return Ok(None);
        };
        let header_len = pn_offset.saturating_add(fields.pn_len);
        let Some((head, body)) = packet.split_at_mut_checked(header_len) else { return Ok(None) };
        let Ok(len) = key.open_on_path(path.0, pn, head, body) else {
            if self.lifecycle.is_resting() {
                // Who forges packets must not make connections large that rest.
                self.keys.rest();
            }
            return self.keys.on_forgery().map(|()| None);
        };
        self.heed_origin(now, &arrival.route);
        // Not asked before: how long a forgery takes would tell which number and phase it was taken for.
        // spec: CON-69
        if generation == Generation::TooSoon {
            return Ok(None);
        }
        let numbers = &mut self.paths.active.numbers;
        // Repair was quicker: the network has not lost it.
        // spec: FEC-7
        if numbers.acks.is_recovered(pn) {
            numbers.acks.on_late(pn, arrival.ecn);
            return Ok(None);
        }
        // spec: CON-40
        if !numbers.window.commit(pn) {
            return Ok(None);
        }
        packet.advance(header_len);
        packet.truncate(len);
        let payload = packet.freeze();
        let is_newest = pn >= expected;
        self.lifecycle.on_received(now);
        if let Some(rhythm) = &mut self.paths.active.rhythm {
            rhythm.arrivals.note(now);
        }
        match generation {
            Generation::Previous | Generation::TooSoon => {}
            Generation::Current => self.keys.on_opened_current(path, pn),
            Generation::Next => {
                let pto = self.pto();
                self.keys.on_peer_update(now, path, pn, pto);
                self.note_folded(now);
            }
        }
        if is_newest {
            self.consider_route(now, arrival);
        }
        let Arrival { route, ecn, len } = arrival;
        let opened = Opened { space: SpaceId::Data, pn, payload, ecn, route, received: len };
        Ok(Some((opened, fields.shape)))
    }

    /// Door 6 for a 1-RTT packet.
    pub(super) fn handle_data_payload(
        &mut self,
        now: Instant,
        opened: &Opened,
        shape: Option<Shape>,
        is_recovered: bool,
    ) -> Result<(), TransportError> {
        // spec: WIRE-35
        let shape = shape.ok_or(RESERVED_SHAPE)?;
        let pn = opened.pn;
        if !is_recovered {
            self.keep_symbol(pn, shape, &opened.payload);
        }
        self.exchange.session.on_bytes(opened.payload.len());
        self.trace.packet_received(now, SpaceId::Data, pn, opened.received);
        let taken = self.take_frames(now, opened, shape);
        self.scratch.about = None;
        // What stands before a frame that is an error has come.
        self.streams.end_of_packet(now)?;
        let Some(eliciting) = taken? else { return Ok(()) };
        self.note_for_ack(now, opened, eliciting);
        if is_recovered {
            self.note_recovered(pn);
        }
        Ok(())
    }

    /// True when a client has had so many acknowledgements of Initial packets that more are of no use: anybody can
    /// make such packets, and each acknowledgement is kept until the handshake is over.
    // spec: CON-101
    fn has_answered_enough(&self, space: SpaceId) -> bool {
        let numbers = spaces::view(space, &self.early, &self.paths.active);
        let is_asked = space == SpaceId::Initial && self.role == Role::Server;
        is_asked && numbers.is_some_and(|numbers| numbers.recovery.quiet() >= INITIAL_ACKS_MAX)
    }

    /// A peer that has lost its state answers with a token that only it could know.
    fn is_reset(&self, tail: Option<[u8; limits::RESET_TOKEN_LEN]>) -> bool {
        self.role == Role::Client && tail.is_some_and(|tail| self.remote_ids.is_reset(&tail))
    }

    /// Bytes of the connection id in a packet that came to us: ids of ours have one length or none.
    fn local_id_len(&self, packet: &[u8]) -> usize {
        let first = self.local_ids.first();
        let named = packet.get(1..limits::CONNECTION_ID_LEN_LOCAL.saturating_add(1));
        let is_named = named.is_some_and(|id| self.local_ids.all().any(|own| own.as_bytes() == id));
        if is_named { limits::CONNECTION_ID_LEN_LOCAL } else { first.len() }
    }

    /// The newest packet came from elsewhere: the peer may have moved, or its NAT did.
    // spec: CON-14
    fn consider_route(&mut self, now: Instant, arrival: Arrival) {
        let path = &self.paths.active;
        let known = match &path.candidate {
            Some(candidate) if candidate.route.same_ends(&arrival.route) => true,
            Some(_) => path.route.same_ends(&arrival.route),
            // A path whose trial went without an answer is asked again.
            None => path.is_settled_at(&arrival.route),
        };
        if known || self.role == Role::Client || !self.lifecycle.is_established() {
            return;
        }
        let challenge = self.rng.array();
        let candidate = Candidate::new(now, arrival.route, challenge, arrival.len);
        self.put_on_trial(candidate);
    }
}
