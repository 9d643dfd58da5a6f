//! JSH-1: the handshake as a machine.
//!
//! Whole messages go in by [`Handshake::read`]; what follows from them comes
//! out of [`Handshake::poll`], in the order in which it must be acted on. The
//! machine neither fragments nor retransmits: that is the transport's part.
//!
//! ```text
//! client                                   server
//! CLIENT_HELLO          -- Initial -->
//!                      <-- Initial --      SERVER_HELLO
//!                      <-- Handshake --    EXTENSIONS IDENTITY SIGNATURE FINISHED
//!                      <-- Data --         (may already send)
//! [IDENTITY SIGNATURE]
//! FINISHED              -- Handshake -->
//! ```
//!
//! A client with a ticket sends a shorter hello, whose end proves that it holds
//! the ticket's secret, and 0-RTT packets with it if the application wants
//! that; the server then answers without IDENTITY and SIGNATURE, or asks for a
//! full hello ([`Handshake::fall_back`]).
//!
//! A client goes on after a message that it had to refuse (see
//! [`Handshake::is_failed`]): anybody on the way can inject a server hello, and
//! only the one whose flight verifies commits the client.

mod client;
mod client_auth;
pub(crate) mod codec;
mod config;
mod error;
mod flight;
mod grease;
mod key_share;
pub(crate) mod messages;
mod offer;
mod proof;
mod resume;
mod secrets;
mod security;
mod server;
#[cfg(test)]
mod tests;

pub use crate::primitives::Backend;
pub use client::MAX_CANDIDATES;
pub use config::{
    ClientAuth, ClientConfig, ClientVerifier, Kem, KemPolicy, ServerConfig, ServerIdentity,
    ServerVerifier, SignaturePolicy, VerifierRejection, features,
};
pub use error::{HandshakeError, close};
pub use key_share::KeyShare;
pub use messages::SERVER_HELLO_LEN_MAX;
pub use resume::{RefusedTicket, Resumption};
pub use security::{ExportTooLong, Mode, PeerIdentity, Security};

use crate::client_ticket::ClientTicket;
use crate::packet::{DirectionKeys, Keys};
use crate::primitives::{Agree, Primitives};
use crate::rng::Rng;
use crate::schedule::DataKeys;
use crate::wiped::off_the_stack;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use zeroize::Zeroizing;

/// Version 1 of the protocol, `"JSP\x01"`.
pub const VERSION_1: u32 = 0x4a53_5001;

/// The two sides of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// The side that sends the first hello.
    Client,
    /// The side that answers.
    Server,
}

/// The encryption level that a message travels at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Level {
    /// Keys from public values.
    Initial,
    /// Keys from the key exchange.
    Handshake,
    /// Keys from the authenticated exchange; no handshake message travels here.
    Data,
}

/// What a handshake wants done, or has found out.
#[allow(clippy::large_enum_variant, reason = "one at a time, and taken apart at once")]
pub enum Output {
    /// Send this whole message at this level, reliably.
    Send {
        /// The level.
        level: Level,
        /// The message; the transport fragments it.
        message: Vec<u8>,
    },
    /// The keys of the Handshake level. A client may get up to five sets, one
    /// for each server hello it has seen, and tries each on what arrives.
    HandshakeKeys {
        /// Which server hello they belong to, from 0; always 0 on a server.
        candidate: u8,
        /// The keys.
        keys: Keys,
    },
    /// The keys of 0-RTT packets: a client seals with them until it has those of
    /// the Data level, a server that accepts early data opens with them.
    EarlyKeys(DirectionKeys),
    /// Server only, where early data are accepted: what is established so far.
    /// The client is known by its ticket; that it is there now is proved with
    /// [`Output::Complete`].
    Provisional(Security),
    /// Client only: this candidate's flight has verified. Drop the Handshake
    /// keys of all others. Comes before everything else that the flight causes.
    Committed {
        /// The candidate of [`Output::HandshakeKeys`].
        candidate: u8,
    },
    /// The keys of the Data level. A server gets them with the client's flight. One that accepts
    /// early data gets them with its own, and may send at once; it must not act on data received
    /// under them before [`Output::Complete`].
    DataKeys(DataKeys),
    /// The peer's transport parameters. Authenticated on a client; on a server
    /// they come with the hello and are authenticated by [`Output::Complete`].
    PeerParams(Vec<u8>),
    /// The handshake is complete and the peer proved.
    Complete(Security),
}

/// One side of one handshake.
pub struct Handshake {
    state: State,
    outputs: VecDeque<Output>,
    role: Role,
}

/// Each state is a value of its own type, consumed by the step that leaves it.
enum State {
    ClientWaiting(Box<client::Waiting>),
    ServerListening(server::Listening),
    ServerWaiting(Box<server::Waiting>),
    Done,
    Failed,
}

/// What a step gives: the state to be in, and the error if the message was refused.
struct Step {
    state: State,
    result: Result<(), HandshakeError>,
}

impl Step {
    fn to(state: State) -> Self {
        Self { state, result: Ok(()) }
    }

    fn refuse(state: State, error: HandshakeError) -> Self {
        Self { state, result: Err(error) }
    }
}

impl Handshake {
    /// Starts a client: makes the hello, which [`Handshake::poll`] then gives.
    /// `transport_params` are opaque here and reach the server authenticated.
    pub fn client(
        config: Arc<ClientConfig>,
        transport_params: &[u8],
        rng: &mut dyn Rng,
    ) -> Result<Self, HandshakeError> {
        Self::client_after_negotiation(config, transport_params, &[], rng)
    }

    /// [`Handshake::client`] with keys that were made before. A share that does not suit the
    /// configuration is let go of, and others are made.
    pub fn client_sharing(
        config: Arc<ClientConfig>,
        transport_params: &[u8],
        share: Option<KeyShare>,
        rng: &mut dyn Rng,
    ) -> Result<Self, HandshakeError> {
        let mut outputs = VecDeque::new();
        let params = transport_params;
        let waiting = client::Waiting::start(config, params, &[], share, rng, &mut outputs)?;
        Ok(Self { state: State::ClientWaiting(Box::new(waiting)), outputs, role: Role::Client })
    }

    /// [`Handshake::client`] after a version negotiation packet: `versions_seen`
    /// are the versions it named, which the server checks.
    pub fn client_after_negotiation(
        config: Arc<ClientConfig>,
        transport_params: &[u8],
        versions_seen: &[u32],
        rng: &mut dyn Rng,
    ) -> Result<Self, HandshakeError> {
        let mut outputs = VecDeque::new();
        let params = transport_params;
        let waiting =
            client::Waiting::start(config, params, versions_seen, None, rng, &mut outputs)?;
        Ok(Self { state: State::ClientWaiting(Box::new(waiting)), outputs, role: Role::Client })
    }

    /// Starts a client that holds a ticket, at `now_ms` (milliseconds since 1970
    /// UTC); `early` says that 0-RTT packets are to follow. A ticket that is too
    /// old or does not suit the configuration is let go of, and the handshake is
    /// a full one.
    pub fn client_resuming(
        config: Arc<ClientConfig>,
        ticket: ClientTicket,
        early: bool,
        transport_params: &[u8],
        now_ms: u64,
        rng: &mut dyn Rng,
    ) -> Result<Self, HandshakeError> {
        let mut outputs = VecDeque::new();
        let params = transport_params;
        let waiting = if client::accepts_ticket(&config, &ticket, now_ms) {
            client::Waiting::resume(config, ticket, early, params, now_ms, rng, &mut outputs)?
        } else {
            client::Waiting::start(config, params, &[], None, rng, &mut outputs)?
        };
        Ok(Self { state: State::ClientWaiting(Box::new(waiting)), outputs, role: Role::Client })
    }

    /// The server says that it cannot use the ticket: a waiting client sends a
    /// full hello besides. Whoever said so, answers to both hellos are still
    /// taken. False when there is no ticket under way, or it was done before.
    pub fn fall_back(&mut self, rng: &mut dyn Rng) -> Result<bool, HandshakeError> {
        match &mut self.state {
            State::ClientWaiting(state) => state.fall_back(rng, &mut self.outputs),
            _ => Ok(false),
        }
    }

    /// Whether the hello of a waiting client brings a ticket.
    pub fn is_resuming(&self) -> bool {
        matches!(&self.state, State::ClientWaiting(state) if state.is_resuming())
    }

    /// Starts a server, which waits for a client hello.
    pub fn server(config: Arc<ServerConfig>, transport_params: Vec<u8>) -> Self {
        Self::server_resuming(config, transport_params, None)
    }

    /// [`Handshake::server`] for a hello whose ticket was checked by
    /// [`Resumption::check`].
    pub fn server_resuming(
        config: Arc<ServerConfig>,
        transport_params: Vec<u8>,
        resumption: Option<Resumption>,
    ) -> Self {
        let listening = server::Listening::new(config, transport_params, resumption);
        Self {
            state: State::ServerListening(listening),
            outputs: VecDeque::new(),
            role: Role::Server,
        }
    }

    /// Takes one whole handshake message (or flight) that arrived at `level`.
    ///
    /// `unix_seconds` (since 1970 UTC) is for the validity of delegations. On
    /// an error the caller asks [`Handshake::is_failed`]: a failed handshake
    /// must be closed; one that has not failed has ignored the message.
    pub fn read(
        &mut self,
        level: Level,
        message: &[u8],
        unix_seconds: u64,
        rng: &mut dyn Rng,
    ) -> Result<(), HandshakeError> {
        let Self { state, outputs: out, .. } = self;
        let state = core::mem::replace(state, State::Failed);
        let step = off_the_stack(|| match state {
            State::ClientWaiting(state) => match level {
                Level::Initial => state.read_server_hello(message, out),
                Level::Handshake => state.read_flight(message, unix_seconds, out),
                Level::Data => {
                    Step::refuse(State::ClientWaiting(state), HandshakeError::Unexpected)
                }
            },
            State::ServerListening(state) => match level {
                Level::Initial => state.read_client_hello(message, rng, out),
                _ => Step::refuse(State::ServerListening(state), HandshakeError::Unexpected),
            },
            State::ServerWaiting(state) => match level {
                Level::Handshake => state.read_flight(message, unix_seconds, out),
                _ => Step::refuse(State::ServerWaiting(state), HandshakeError::Unexpected),
            },
            State::Done => Step::refuse(State::Done, HandshakeError::Unexpected),
            State::Failed => Step::refuse(State::Failed, HandshakeError::Failed),
        });
        self.state = step.state;
        step.result
    }

    /// The next thing to do, in order; `None` until another message is read.
    pub fn poll(&mut self) -> Option<Output> {
        let output = self.outputs.pop_front();
        // Half-open connections wait with empty queues, and outputs are large.
        if self.outputs.is_empty() {
            self.outputs = VecDeque::new();
        }
        output
    }

    /// Which side this is.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Whether the peer is proved and nothing more will be read.
    pub fn is_complete(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Whether the handshake has ended in failure. After an error, `false`
    /// means that the message was dropped and the right one may still come.
    pub fn is_failed(&self) -> bool {
        matches!(self.state, State::Failed)
    }

    /// How many server hellos a waiting client still holds to be possible. 0
    /// after a refused flight means that the only server heard of was refused;
    /// a transport then waits a little for another and closes.
    pub fn live_candidates(&self) -> usize {
        match &self.state {
            State::ClientWaiting(state) => state.live_candidates(),
            _ => 0,
        }
    }

    /// Why a waiting client last refused a server's whole flight: the error to
    /// report when no right one comes.
    pub fn last_rejection(&self) -> Option<&HandshakeError> {
        match &self.state {
            State::ClientWaiting(state) => state.last_rejection(),
            _ => None,
        }
    }
}

/// A fresh X25519 key.
pub(crate) fn agreement_key(
    primitives: &dyn Primitives,
    rng: &mut dyn Rng,
) -> Result<Box<dyn Agree>, HandshakeError> {
    let private: Zeroizing<[u8; 32]> = Zeroizing::new(crate::rng::array(rng));
    primitives.x25519(&private).ok_or(HandshakeError::Backend)
}
