//! From the first message to the first data: what the key exchange says, done.

use jsp_crypto::{HandshakeError, Output, Role, Security};
use jsp_wire::frame::HandshakeFragment;
use jsp_wire::params::feature;
use jsp_wire::{CloseCode, Instant, TransportParams};

use super::Connection;
use crate::error::TransportError;
use crate::event::{CloseReason, Event};
use crate::handshake::space_of;
use crate::keys::SpaceId;
use crate::lifecycle::Farewell;
use crate::path::Budget;
use crate::path::validation::Candidate;

impl Connection {
    /// The hello that made the endpoint create this connection.
    pub(super) fn on_first_hello(&mut self, now: Instant, hello: &[u8], received: &[u64]) {
        if let Some(numbers) = self.early.get_mut(SpaceId::Initial) {
            for pn in received {
                numbers.window.commit(*pn);
                numbers.acks.on_packet(now, *pn, true, None);
            }
        }
        self.read_message(now, SpaceId::Initial, hello);
    }

    /// A piece of a handshake message.
    pub(super) fn on_fragment(
        &mut self,
        now: Instant,
        space: SpaceId,
        fragment: &HandshakeFragment<'_>,
    ) -> Result<(), TransportError> {
        // The endpoint has joined the hello; a client has nothing else to say in Initial packets. Nothing
        // that a server says there is longer than its hello: it would only take room.
        // spec: CON-183
        let is_no_hello = usize::from(fragment.total) > jsp_crypto::SERVER_HELLO_LEN_MAX;
        if space == SpaceId::Initial && (self.role == Role::Server || is_no_hello) {
            return Ok(());
        }
        let Some(flight) = self.exchange.flight(space) else {
            // spec: WIRE-44
            let reason = "a handshake message came after the handshake";
            return if space == SpaceId::Data {
                Err(TransportError::new(CloseCode::PROTOCOL_VIOLATION, reason))
            } else {
                Ok(())
            };
        };
        if let Some(joined) = flight.on_fragment(fragment)? {
            self.read_message(now, space, &joined.message);
        }
        Ok(())
    }

    fn read_message(&mut self, now: Instant, space: SpaceId, message: &[u8]) {
        let level = match space {
            SpaceId::Initial => jsp_crypto::Level::Initial,
            SpaceId::Handshake => jsp_crypto::Level::Handshake,
            SpaceId::Data => jsp_crypto::Level::Data,
        };
        let unix_seconds = self.exchange.unix_time.seconds(now);
        let Some(machine) = self.exchange.machine.as_mut() else { return };
        let result = machine.read(level, message, unix_seconds, &mut self.rng);
        let is_failed = machine.is_failed();
        let hopeless = is_failed || self.role == Role::Server;
        let rejection = machine.last_rejection().cloned();
        let last_hope_gone = machine.live_candidates() == 0 && rejection.is_some();
        match result {
            Ok(()) => self.pump_handshake(now),
            // A server that has answered already ignores what it cannot use.
            Err(HandshakeError::Unexpected) if !is_failed => {}
            // A forged hello must not end a client's attempt: the real one may follow.
            Err(error) if hopeless => self.fail_handshake(now, error),
            Err(error) => {
                let error = rejection.unwrap_or(error);
                self.exchange.note_rejection(CloseReason::Handshake(error));
                if last_hope_gone {
                    let pto = self.pto();
                    self.lifecycle.hasten(now, pto);
                }
            }
        }
    }

    /// The handshake cannot succeed any more: the peer hears a code, the application the reason.
    pub(super) fn fail_handshake(&mut self, now: Instant, error: HandshakeError) {
        if self.lifecycle.is_open() {
            let farewell = Farewell {
                by_application: false,
                code: CloseCode(error.close_code()),
                reason: Vec::new(),
            };
            let pto = self.pto();
            self.lifecycle.close(now, farewell, pto);
            self.announce_end(now, CloseReason::Handshake(error));
        }
    }

    /// Does what the key exchange asks for, in its order.
    pub(super) fn pump_handshake(&mut self, now: Instant) {
        while let Some(output) = self.exchange.machine.as_mut().and_then(|machine| machine.poll()) {
            if let Err(error) = self.on_output(now, output) {
                return self.fail(now, error);
            }
        }
    }

    fn on_output(&mut self, now: Instant, output: Output) -> Result<(), TransportError> {
        match output {
            Output::Send { level, message } => {
                if let Some(flight) = self.exchange.flight(space_of(level)) {
                    flight.send(message);
                }
            }
            Output::HandshakeKeys { candidate, keys } => {
                self.keys.add_handshake(candidate, keys);
                if self.role == Role::Client {
                    self.early_deadlock_guard(true);
                }
            }
            Output::EarlyKeys(keys) => self.keys.set_early(keys),
            Output::Provisional(security) => {
                self.exchange.security = Some(Box::new(security));
                self.events.push_back(Event::Connected);
            }
            Output::Committed { candidate } => self.keys.commit(candidate),
            Output::DataKeys(keys) => self.keys.set_data(keys)?,
            Output::PeerParams(bytes) => {
                let source = *self.remote_ids.current();
                let params = self.exchange.on_peer_params(self.role, &bytes, &source)?;
                self.on_peer_params(now, &params);
            }
            Output::Complete(security) => self.on_complete(now, security),
        }
        Ok(())
    }

    pub(super) fn on_peer_params(&mut self, now: Instant, params: &TransportParams) {
        self.lifecycle.on_peer_idle_timeout(params.idle_timeout_ms);
        self.streams.set_peer_params(now, params);
        if let Some(token) = params.reset_token {
            self.remote_ids.set_reset_token(token);
        }
        if let Some(preferred) = params.preferred {
            self.remote_ids.set_preferred(preferred.id, preferred.reset_token);
        }
        let ceiling = usize::try_from(params.datagram_len_max).unwrap_or(usize::MAX);
        let path = &mut self.paths.active;
        path.mtud.limit(ceiling);
        // We always offer them.
        // spec: ACK-14
        if params.features & feature::ACK_TIMES != 0 {
            path.numbers.acks.tell_times();
            path.numbers.recovery.take_times();
        }
    }

    /// Both sides are who they should be.
    // spec: CON-266
    fn on_complete(&mut self, now: Instant, security: Security) {
        let is_overdue = self.exchange.early_data.is_overdue(self.exchange.unix_time.millis(now));
        if is_overdue && !security.early_data {
            return self.give_up(now);
        }
        let awaits_verdict = security.awaits_verdict;
        let is_known = self.exchange.early_data.is_accepting();
        self.exchange.complete(security);
        self.exchange.session.on_complete(now);
        self.lifecycle.on_established(now);
        self.settle_early(now);
        self.plan_skip();
        if !awaits_verdict && !is_known {
            self.events.push_back(Event::Connected);
        }
        self.renew_if_resumed(now);
        if self.role == Role::Server {
            self.control.announce_handshake_done();
            self.confirm_handshake(now);
            self.prove_address(now);
        }
        self.replay_early(now);
    }

    /// The client has tried for too long, if not by its own count: its host may have slept.
    fn give_up(&mut self, now: Instant) {
        let pto = self.pto();
        let code = CloseCode::NO_ERROR;
        let farewell = Farewell { by_application: false, code, reason: Vec::new() };
        self.lifecycle.close(now, farewell, pto);
        self.announce_end(now, CloseReason::HandshakeTimeout);
    }

    /// The client's finish proves the address that the hello went to. Where it went to several, the latest is asked
    /// whether the client is there.
    // spec: CON-10, CON-264
    fn prove_address(&mut self, now: Instant) {
        let challenge = self.rng.array();
        let path = &mut self.paths.active;
        if path.budget == Budget::Unlimited || !self.exchange.early_data.is_answered_elsewhere() {
            path.budget = Budget::Unlimited;
            return;
        }
        path.is_validated = false;
        let trial = Candidate::here(now, path, challenge);
        self.put_on_trial(trial);
    }

    /// Leaves out one packet number ahead: who acknowledges it is lying.
    pub(super) fn plan_skip(&mut self) {
        let random = self.rng.u64();
        let path = &mut self.paths.active;
        let packets = path.congestion.window().checked_div(path.mtud.current() as u64).unwrap_or(0);
        path.numbers.numbers.plan_skip(random, packets);
    }

    /// Both sides know that the handshake is complete: its keys are of no more use.
    // spec: CON-17
    pub(super) fn confirm_handshake(&mut self, now: Instant) {
        if self.keys.has(SpaceId::Handshake) && self.exchange.is_complete() {
            self.discard_space(SpaceId::Initial);
            self.discard_space(SpaceId::Handshake);
            if self.exchange.security.as_ref().is_some_and(|security| security.awaits_verdict) {
                self.events.push_back(Event::Connected);
            }
            self.events.push_back(Event::HandshakeConfirmed);
            self.paths.active.numbers.recovery.reset_backoff();
            self.trace.established(now, self.exchange.security.as_deref());
            self.allow_tickets(now);
            self.tell_paths();
        }
    }

    /// Keys, numbers and messages of a space are gone for good.
    // spec: CON-18
    pub(super) fn discard_space(&mut self, space: SpaceId) {
        if !self.keys.has(space) {
            return;
        }
        self.keys.discard(space);
        self.early.discard(space);
        self.exchange.discard(space);
        self.paths.active.probes.forgive(space);
    }
}
