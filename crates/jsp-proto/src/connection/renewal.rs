//! In-band exchanges: a fresh hybrid secret for the keys of a running connection.

use jsp_crypto::{HandshakeError, Mode, Renewal, Role};
use jsp_wire::params::feature;
use jsp_wire::{CloseCode, Instant};

use super::Connection;
use crate::error::TransportError;

impl Connection {
    /// Updates the keys when they have sealed enough.
    pub(super) fn maintain_keys(&mut self, now: Instant) -> Result<(), TransportError> {
        if self.keys.is_exhausted() {
            let reason = "the keys are used up and could not be updated";
            return Err(TransportError::new(CloseCode::AEAD_LIMIT, reason));
        }
        let (packets, after) = (self.config.key_update_packets, self.config.key_update_after);
        if self.keys.update_is_due(now, packets, after) {
            self.update_keys(now);
        }
        self.renew_if_stale(now);
        Ok(())
    }

    /// Steps to the next keys, unless the last step has not settled yet.
    pub(super) fn update_keys(&mut self, now: Instant) -> bool {
        let pto = self.pto();
        self.keys.update(now, pto)
    }

    /// True when both sides know in-band exchanges.
    pub(super) fn has_exchange(&self) -> bool {
        self.exchange.is_complete() && self.exchange.has_feature(feature::EXCHANGE)
    }

    /// A resumed connection has no secret but the ticket's and X25519's: the client brings a hybrid
    /// one in with its first packets.
    // spec: HS-83
    pub(super) fn renew_if_resumed(&mut self, now: Instant) {
        let security = self.exchange.security.as_ref();
        if security.is_some_and(|security| security.mode == Mode::Resumed) {
            self.begin_exchange(now);
        }
    }

    /// The present secret has served for long enough.
    pub(super) fn renew_if_stale(&mut self, now: Instant) {
        let (after, bytes) = (self.config.exchange_after, self.config.exchange_bytes);
        if self.exchange.session.is_stale(now, after, bytes) {
            self.begin_exchange(now);
        }
    }

    fn begin_exchange(&mut self, now: Instant) {
        if self.role == Role::Server || !self.has_exchange() || !self.lifecycle.is_established() {
            return;
        }
        let Some(security) = self.exchange.security.as_deref() else { return };
        let round = self.exchange.session.round();
        match Renewal::begin(security, round, &mut self.rng) {
            Ok((renewal, message)) => {
                self.keys.freeze();
                self.exchange.session.offer(renewal, message);
            }
            Err(error) => self.fail(now, exchange_error(&error)),
        }
    }

    /// A piece of the peer's part of an exchange.
    pub(super) fn on_exchange(
        &mut self,
        now: Instant,
        content: &[u8],
    ) -> Result<(), TransportError> {
        let Some(message) = self.exchange.session.on_fragment(content)? else { return Ok(()) };
        if self.role == Role::Server {
            return self.answer_exchange(&message);
        }
        let reason = "an answer to an exchange that was not begun";
        let unasked = TransportError::new(CloseCode::PROTOCOL_VIOLATION, reason);
        let renewal = self.exchange.session.take_offered().ok_or(unasked)?;
        let fresh = renewal.finish(&message).map_err(|error| exchange_error(&error))?;
        self.keys.fold(&fresh);
        self.exchange.session.ready(fresh);
        self.try_fold(now);
        Ok(())
    }

    fn answer_exchange(&mut self, offer: &[u8]) -> Result<(), TransportError> {
        self.exchange.session.may_answer()?;
        let Some(security) = self.exchange.security.as_deref() else { return Ok(()) };
        let round = self.exchange.session.round();
        let (message, fresh) = Renewal::answer(security, round, offer, &mut self.rng)
            .map_err(|error| exchange_error(&error))?;
        self.keys.fold(&fresh);
        self.exchange.session.answer(fresh, message);
        Ok(())
    }

    /// The client steps to the keys with the secret in them, once its last update has settled.
    pub(super) fn try_fold(&mut self, now: Instant) {
        let pto = self.pto();
        if self.exchange.session.is_ready() && self.keys.step_to_folded(now, pto) {
            self.note_folded(now);
            // The server is to hear of it, whether there is something to say or not.
            self.control.ask_ping();
        }
    }

    /// When that can be, if it is waited for.
    pub(super) fn fold_at(&self, now: Instant) -> Option<Instant> {
        let waits = self.exchange.session.is_ready();
        self.keys.folded_at(now, self.pto()).filter(|_| waits)
    }

    /// The keys have stepped: if it was to a secret that was waited for, it is in now.
    pub(super) fn note_folded(&mut self, now: Instant) {
        let Some(fresh) = self.exchange.session.take_fresh(now) else { return };
        if let Some(security) = self.exchange.security.as_deref_mut() {
            security.renew(&fresh);
        }
        self.keys.thaw();
        self.allow_tickets(now);
    }
}

/// The peer broke the rules of the exchange, or the library failed.
fn exchange_error(error: &HandshakeError) -> TransportError {
    match error {
        HandshakeError::Backend => {
            TransportError::new(CloseCode::INTERNAL, "the cryptographic library failed")
        }
        _ => TransportError::new(CloseCode::KEY_UPDATE, "a message of an exchange is not right"),
    }
}
