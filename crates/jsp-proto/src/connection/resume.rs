//! Tickets given and taken, and early data.

use core::time::Duration;

use bytes::BytesMut;
use jsp_crypto::{
    ClientTicket, Fingerprint, Mode, PathMemory, Role, TicketContents, TicketGrant, features,
};
use jsp_wire::header::{LongFields, LongType};
use jsp_wire::{CloseCode, FrameIter, Instant, Route, TransportParams, limits};

use super::filled::Sealed;
use super::inbound::{Arrival, Opened};
use super::outbound::{HANDSHAKE_ROOM_MIN, Purpose, numbers_used_up};
use super::redirect::HELLO_DATAGRAMS;
use super::{Connection, EARLY_ATTEMPT_MAX};
use crate::config::TransportConfig;
use crate::early_data::EarlyData;
use crate::error::TransportError;
use crate::event::Event;
use crate::exchange;
use crate::keys::SpaceId;
use crate::packet::PacketBuilder;
use crate::padding::Fill;
use crate::path::{Budget, Path};
use crate::permit::Allowance;
use crate::recovery::Rtt;
use crate::seal;
use crate::token::Token;

/// Least round-trip time that is believed of the last connection: a shorter one would have the
/// handshake asked after before it can be answered.
const RTT_RECALLED_MIN: Duration = Duration::from_millis(25);

/// What a client remembers of the connection that its ticket came from.
pub(super) struct Remembered {
    own: Option<Fingerprint>,
    early: Option<(u32, TransportParams)>,
}

impl Remembered {
    pub(super) fn of(ticket: &ClientTicket, early: bool) -> Self {
        let params = TransportParams::read(ticket.params()).ok();
        let early = params.filter(|_| early).map(|params| (ticket.max_early_data(), params));
        Self { own: ticket.own(), early }
    }
}

/// The path may be what it was: a first guess of its round-trip time, and a rate to try.
// spec: CC-43
pub(super) fn recall(path: &mut Path, config: &TransportConfig, memory: PathMemory) {
    if memory.rtt_min_us > 0 {
        let guess = Duration::from_micros(u64::from(memory.rtt_min_us)).saturating_mul(2);
        path.rtt = Rtt::new(guess.max(RTT_RECALLED_MIN).min(config.rtt_initial));
    }
    if memory.rate_kib > 0 && memory.rtt_min_us > 0 && config.initial_path_memory.is_none() {
        path.resume_from(crate::path::memory::PathMemory {
            delivery_rate_kib: memory.rate_kib,
            rtt_min_micros: memory.rtt_min_us,
        });
    }
}

impl Connection {
    /// A client that resumes: early data may go under the limits of the last connection.
    pub(super) fn remember(&mut self, now: Instant, remembered: &Remembered) {
        self.exchange.own = remembered.own;
        if let Some((max, params)) = &remembered.early {
            let tries_ms = EARLY_ATTEMPT_MAX.as_millis() as u64;
            let until_ms = self.exchange.unix_time.millis(now).saturating_add(tries_ms);
            self.exchange.early_data = EarlyData::offered(*max, until_ms);
            self.streams.begin_early(now, params);
            self.lifecycle.shorten_handshake(now + EARLY_ATTEMPT_MAX);
        }
    }

    /// The server cannot use the ticket, as somebody says: a full hello goes besides.
    // spec: CON-51
    pub(super) fn fall_back(&mut self, now: Instant) {
        let Some(machine) = self.exchange.machine.as_mut() else { return };
        match machine.fall_back(&mut self.rng) {
            Ok(true) => {
                self.exchange.early_data.pause();
                if let Some(numbers) = self.early.get_mut(SpaceId::Initial) {
                    numbers.recovery.discard();
                    numbers.recovery.set_deadlock_guard(true);
                }
                self.paths.active.probes.forgive(SpaceId::Initial);
                self.pump_handshake(now);
                // Early data that nobody acknowledges may fill the window.
                self.paths.active.probes.owe(SpaceId::Initial, HELLO_DATAGRAMS);
            }
            Ok(false) => {}
            Err(error) => self.fail_handshake(now, error),
        }
    }

    /// A 0-RTT packet, if there are early data to go.
    // spec: CON-52, PRV-2
    pub(super) fn early_packet(
        &mut self,
        now: Instant,
        room: &mut [u8],
        allowance: Allowance,
        fill: Fill,
    ) -> Result<Option<Sealed>, TransportError> {
        let len = room.len().min(self.exchange.early_data.room());
        let wants = self.wants_packet(now, SpaceId::Data, allowance);
        let (Some(room), Some(keys)) = (room.get_mut(..len), self.keys.early()) else {
            return Ok(None);
        };
        if !wants || len < HANDSHAKE_ROOM_MIN {
            return Ok(None);
        }
        let numbers = &mut self.paths.active.numbers;
        let pn = numbers.numbers.peek();
        let fields = LongFields {
            kind: LongType::ZeroRtt,
            dcid: *self.remote_ids.current(),
            scid: self.local_ids.first(),
            token: &[],
            pn,
            pn_len: jsp_wire::pn::len(pn, None),
        };
        let layout = seal::write_long_header(room, &fields)?;
        let header_len = layout.pn_offset.saturating_add(fields.pn_len);
        let payload_end = room.len().saturating_sub(limits::TAG_LEN);
        let payload = room.get_mut(header_len..payload_end).unwrap_or_default();
        let mut packet = PacketBuilder::new(payload, &mut self.scratch.tokens, false);
        self.streams.write(now, &mut packet);
        self.trace.padding_sent(packet.fill(header_len, &fill));
        let built = packet.finish();
        if built.len == 0 {
            return Ok(None);
        }
        numbers.numbers.next_pn().ok_or_else(numbers_used_up)?;
        let len = seal::seal_long(room, layout, &fields, built, keys)?;
        self.exchange.early_data.on_sent(len);
        let sealed = Sealed { len, pn, ack_eliciting: built.ack_eliciting };
        self.on_packet_sent(now, SpaceId::Data, &sealed, Purpose::Regular)?;
        Ok(Some(sealed))
    }

    /// What came with the hello may be lost with it: it goes again.
    pub(super) fn doubt_early(&mut self, now: Instant) {
        if !self.exchange.early_data.is_undecided() {
            return;
        }
        let mut doubted = core::mem::take(&mut self.scratch.tokens);
        doubted.clear();
        while self.paths.active.numbers.recovery.probe_tokens(&mut doubted) {}
        for token in doubted.drain(..) {
            if let Token::Stream(token) = token {
                self.streams.on_doubt(now, token);
            }
        }
        self.scratch.tokens = doubted;
    }

    /// The handshake is complete, and it is known what became of early data.
    // spec: CON-55
    pub(super) fn settle_early(&mut self, now: Instant) {
        self.keys.discard_early();
        let was_undecided = self.exchange.early_data.is_undecided();
        self.exchange.early_data.end();
        let accepted = self.exchange.security.as_ref().is_some_and(|security| security.early_data);
        if !was_undecided || accepted {
            return;
        }
        if let Some(params) = self.exchange.peer {
            self.streams.forget_remembered(now, &params);
        }
        let mut fates = core::mem::take(&mut self.scratch.fates);
        self.paths.active.numbers.recovery.surrender(&mut fates);
        self.settle_fates(now, SpaceId::Data, &mut fates);
        self.scratch.fates = fates;
    }

    /// Doors 2 to 6 for a 0-RTT packet: a server that has accepted early data reads it.
    // spec: WIRE-37, CON-53
    pub(super) fn handle_early(
        &mut self,
        now: Instant,
        arrival: Arrival,
        pn_offset: usize,
        mut packet: BytesMut,
    ) -> Result<(), TransportError> {
        let Some(keys) = self.keys.early().filter(|_| self.exchange.early_data.is_accepting())
        else {
            return Ok(());
        };
        let packet_len = packet.len();
        let expected = self.paths.active.numbers.window.expected();
        let Some((pn, range)) = seal::open_long(&mut packet, pn_offset, expected, keys) else {
            return Ok(());
        };
        if !self.paths.active.numbers.window.commit(pn) {
            return Ok(());
        }
        self.exchange.early_data.on_received(packet_len)?;
        self.lifecycle.on_received(now);
        self.trace.packet_received(now, SpaceId::Data, pn, packet_len);
        let reserved_clear = packet.first().is_some_and(|first| first & 0x0c == 0);
        let payload = packet.freeze().slice(range);
        if !reserved_clear || payload.is_empty() {
            let reason = "a 0-RTT packet has reserved bits set or holds nothing";
            return Err(TransportError::new(CloseCode::PROTOCOL_VIOLATION, reason));
        }
        let Arrival { route, ecn, len } = arrival;
        let opened = Opened { space: SpaceId::Data, pn, payload, ecn, route, received: len };
        let taken = self.take_early_frames(now, &opened);
        self.streams.end_of_packet(now)?;
        self.note_for_ack(now, &opened, taken?);
        Ok(())
    }

    /// Takes the frames of a 0-RTT packet; answers whether one asks for an acknowledgement.
    fn take_early_frames(&mut self, now: Instant, opened: &Opened) -> Result<bool, TransportError> {
        let mut eliciting = false;
        for frame in FrameIter::new(&opened.payload) {
            let frame = frame?;
            self.streams.check_early_frame(&frame)?;
            eliciting |= frame.is_ack_eliciting();
            self.dispatch(now, opened, &frame)?;
        }
        Ok(eliciting)
    }

    /// True for a server that has taken early data of a client that is not proved to be there.
    pub(crate) fn is_half_resumed(&self) -> bool {
        self.lifecycle.is_open() && self.exchange.early_data.is_accepting()
    }

    /// The hello came again, from elsewhere: the answer goes there from here on, within what this
    /// address has paid for. Answers whether the handshake is still open to that.
    pub(crate) fn adopt_route(&mut self, now: Instant, route: Route, received: usize) -> bool {
        let path = &mut self.paths.active;
        if !self.exchange.early_data.is_accepting() || path.budget == Budget::Unlimited {
            return false;
        }
        if path.route.same_peer(&route) {
            path.budget.on_received(received);
        } else {
            path.route = route;
            path.budget = Budget::for_received(received);
            self.exchange.early_data.answer_elsewhere();
        }
        for space in [SpaceId::Initial, SpaceId::Handshake] {
            if let Some(flight) = self.exchange.flight(space) {
                flight.restart();
            }
        }
        self.lifecycle.on_received(now);
        true
    }

    /// True for a client whose server may give it tickets.
    pub(super) fn takes_tickets(&self) -> bool {
        self.role == Role::Client && self.has_resumption()
    }

    fn has_resumption(&self) -> bool {
        let security = self.exchange.security.as_ref().filter(|_| self.exchange.is_complete());
        security.is_some_and(|security| security.features & features::RESUME != 0)
    }

    /// The server gives a ticket.
    pub(super) fn on_ticket(&mut self, now: Instant, content: &[u8]) -> Result<(), TransportError> {
        let reason = "a ticket could not be read";
        let malformed = TransportError::new(CloseCode::FRAME_ENCODING, reason);
        let grant = TicketGrant::from_bytes(content).ok_or(malformed)?;
        let now_ms = self.exchange.unix_time.millis(now);
        let (Some(security), Some(params)) = (&self.exchange.security, &self.exchange.peer) else {
            return Ok(());
        };
        let shown = security.awaits_verdict || security.mode == Mode::Resumed;
        let own = self.exchange.own.filter(|_| shown);
        let params = exchange::encode_params(params, 0);
        if let Some(ticket) = ClientTicket::keep(&grant, security, own, &params, now_ms) {
            self.exchange.session.keep_ticket(ticket);
            self.events.push_back(Event::TicketReceived);
        }
        Ok(())
    }

    /// A server may give tickets from here on: when all secrets that are to be in them are there.
    pub(super) fn allow_tickets(&mut self, now: Instant) {
        let waits = self.has_exchange()
            && self.exchange.security.as_ref().is_some_and(|security| !security.hybrid);
        let issues = self.role == Role::Server && !self.config.ticket_lifetime.is_zero();
        if issues && !waits && self.has_resumption() {
            self.exchange.session.allow_tickets(now);
        }
    }

    /// True when the endpoint is to make a ticket.
    pub(crate) fn ticket_is_due(&self, now: Instant) -> bool {
        self.lifecycle.is_established() && self.exchange.session.ticket_is_due(now)
    }

    /// What a ticket of this connection says, and the nonce of its secret; the endpoint adds what it
    /// knows itself.
    pub(crate) fn ticket_contents(&mut self, now: Instant) -> Option<(TicketContents, [u8; 8])> {
        let nonce: [u8; 8] = self.rng.array();
        let uid = self.rng.array();
        let path = &self.paths.active;
        let rtt_min = if path.rtt.has_sample() { path.rtt.min() } else { Duration::ZERO };
        let rate_kib = path.path_memory().map_or(0, |memory| memory.delivery_rate_kib);
        let security = self.exchange.security.as_ref()?;
        let protocol = security.application_protocol.as_deref();
        let lifetime_s = u32::try_from(self.config.ticket_lifetime.as_secs()).unwrap_or(u32::MAX);
        let contents = TicketContents {
            post_quantum: security.post_quantum,
            suite: security.suite,
            issued_ms: self.exchange.unix_time.millis(now),
            lifetime_s: lifetime_s.min(jsp_crypto::TICKET_LIFETIME_MAX),
            home_shard: 0,
            uid,
            psk: *security.resumption_psk(&nonce),
            params_hash: self.config.early_hash(protocol),
            client: security.peer,
            max_early_data: self.config.early_data_max,
            prefix_hash: [0; 4],
            path: PathMemory {
                rate_kib,
                rtt_min_us: u32::try_from(rtt_min.as_micros()).unwrap_or(u32::MAX),
            },
        };
        Some((contents, nonce))
    }

    /// The endpoint has made a ticket, or cannot.
    pub(crate) fn give_ticket(&mut self, now: Instant, grant: Option<&TicketGrant>) {
        match grant {
            Some(grant) => self.exchange.session.give_ticket(now, grant.to_bytes()),
            None => self.exchange.session.forbid_tickets(),
        }
    }
}
