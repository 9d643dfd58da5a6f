//! The in-band exchange: a fresh hybrid secret for a running connection.
//!
//! ```text
//! client                      server
//! EXCHANGE_OFFER     -->
//!                    <--      EXCHANGE_ANSWER
//! first packet of the next phase, whose keys have the secret in them
//! ```

use crate::handshake::codec::Reader;
use crate::handshake::messages::{frame, unframe};
use crate::handshake::{HandshakeError, Security, agreement_key};
use crate::primitives::{Agree, Decapsulate};
use crate::rng::Rng;
use crate::schedule::Schedule;
use crate::secret::{Digest, Secret32};
use alloc::boxed::Box;
use alloc::vec::Vec;

const EXCHANGE_OFFER: u8 = 7;
const EXCHANGE_ANSWER: u8 = 8;

/// An exchange that a client has begun.
pub struct Renewal {
    round: u32,
    private: Box<dyn Agree>,
    decapsulation: Box<dyn Decapsulate>,
    offer: Vec<u8>,
}

/// The secret of an exchange, to be folded into keys.
pub struct Fresh {
    kem: Secret32,
    x25519: Secret32,
    messages: Vec<u8>,
}

impl Renewal {
    /// Begins exchange number `round` of a connection: itself, and the message
    /// for the server.
    // spec: HS-80
    pub fn begin(
        security: &Security,
        round: u32,
        rng: &mut dyn Rng,
    ) -> Result<(Self, Vec<u8>), HandshakeError> {
        let primitives = security.schedule.backend.primitives();
        let private = agreement_key(primitives, rng)?;
        let (decapsulation, ek) = primitives.kem_generate(rng).ok_or(HandshakeError::Backend)?;
        let offer = message(EXCHANGE_OFFER, round, &private.public(), &ek)?;
        Ok((Self { round, private, decapsulation, offer: offer.clone() }, offer))
    }

    /// The number of this exchange.
    pub fn round(&self) -> u32 {
        self.round
    }

    /// Takes the server's answer.
    pub fn finish(self, answer: &[u8]) -> Result<Fresh, HandshakeError> {
        const WHAT: HandshakeError = HandshakeError::Malformed("exchange answer");
        let (round, public, ciphertext) = read(EXCHANGE_ANSWER, answer).ok_or(WHAT)?;
        if round != self.round {
            return Err(HandshakeError::Unexpected);
        }
        let x25519 = self.private.agree(&public).ok_or(HandshakeError::KeyShare)?;
        // spec: HS-17
        let kem = self.decapsulation.decapsulate(ciphertext).ok_or(HandshakeError::KeyShare)?;
        let mut messages = self.offer;
        messages.extend_from_slice(answer);
        Ok(Fresh { kem, x25519, messages })
    }

    /// A server's part: answers the client's offer number `round`.
    pub fn answer(
        security: &Security,
        round: u32,
        offer: &[u8],
        rng: &mut dyn Rng,
    ) -> Result<(Vec<u8>, Fresh), HandshakeError> {
        const WHAT: HandshakeError = HandshakeError::Malformed("exchange offer");
        let (offered, public, ek) = read(EXCHANGE_OFFER, offer).ok_or(WHAT)?;
        if offered != round {
            return Err(HandshakeError::Unexpected);
        }
        let primitives = security.schedule.backend.primitives();
        let private = agreement_key(primitives, rng)?;
        let x25519 = private.agree(&public).ok_or(HandshakeError::KeyShare)?;
        let (ciphertext, kem) =
            primitives.kem_encapsulate(ek, rng).ok_or(HandshakeError::KeyShare)?;
        let answer = message(EXCHANGE_ANSWER, round, &private.public(), &ciphertext)?;
        let mut messages = offer.to_vec();
        messages.extend_from_slice(&answer);
        Ok((answer, Fresh { kem, x25519, messages }))
    }
}

impl Fresh {
    /// A secret of the connection with this one in it.
    // spec: HS-81
    pub(crate) fn fold(&self, schedule: &Schedule, secret: &Digest) -> Digest {
        let hash = schedule.hash(&[&self.messages]);
        let salt = schedule.expand(secret, "jsp1 derived", hash.as_bytes());
        schedule.extract(&salt, &[self.kem.as_slice(), self.x25519.as_slice()])
    }
}

fn message(kind: u8, round: u32, x25519: &[u8; 32], kem: &[u8]) -> Result<Vec<u8>, HandshakeError> {
    let mut body = Vec::with_capacity(kem.len().saturating_add(36));
    body.extend_from_slice(&round.to_be_bytes());
    body.extend_from_slice(x25519);
    body.extend_from_slice(kem);
    frame(kind, &body).ok_or(HandshakeError::Backend)
}

fn read(kind: u8, message: &[u8]) -> Option<(u32, [u8; 32], &[u8])> {
    let mut outer = Reader::new(message);
    let (_, body) = unframe(&mut outer, kind)?;
    let mut reader = Reader::new(body);
    let parts = (reader.u32()?, reader.array()?, reader.rest());
    outer.is_empty().then_some(parts)
}
