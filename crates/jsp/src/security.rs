//! What a connection's keys are worth: how they came about, and whom they prove.

use std::task::Poll;

use jsp_crypto::{Kem, Mode, PeerIdentity, Suite};

use crate::connection::Connection;
use crate::error::{ConnectError, ConnectionError};
use crate::shard::{Phase, Place};

/// What the handshake has established.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Security {
    /// The protocol version.
    pub version: u32,
    /// The cipher suite.
    pub suite: Suite,
    /// The key exchange.
    pub kem: Kem,
    /// Who the peer has proved to be; `None` for a client that showed no identity, and for one that has sent early
    /// data until the handshake is confirmed.
    pub peer: Option<PeerIdentity>,
    /// The application protocol that both sides named.
    pub application_protocol: Option<Vec<u8>>,
    /// Feature bits that both sides offered.
    pub features: u64,
    /// In full, or resumed by a ticket.
    pub mode: Mode,
    /// The server has accepted early data, in this connection.
    pub early_data: bool,
    /// What is sent stays secret from a quantum computer, by this connection's own exchange or by that
    /// of the one that the ticket came from.
    pub post_quantum: bool,
    /// A hybrid exchange of this very connection is in the keys of this moment: not even a stolen ticket
    /// opens it. A resumed connection has it within a round trip.
    pub hybrid: bool,
}

impl Security {
    /// What there is, once there is something.
    pub(crate) fn of(connection: &jsp_proto::Connection) -> Option<Self> {
        let security = connection.security()?;
        Some(Self {
            version: security.version,
            suite: security.suite,
            kem: security.kem,
            // Before that, a ticket has said who it was, and whoever copied the hello has that too.
            peer: security.peer.filter(|_| connection.is_complete()),
            application_protocol: security.application_protocol.clone(),
            features: security.features,
            mode: security.mode,
            early_data: security.early_data,
            post_quantum: security.post_quantum,
            hybrid: security.hybrid,
        })
    }

    pub(crate) fn floor(&self) -> jsp_crypto::Floor {
        jsp_crypto::Floor { version: self.version, post_quantum: self.post_quantum }
    }
}

impl Connection {
    /// Waits until the connection is made; at once when it is. Of use after
    /// [`Endpoint::connect_early`](crate::Endpoint::connect_early); with
    /// [`Trust::FirstUse`](crate::Trust::FirstUse), it is also what remembers a server that is met for
    /// the first time.
    ///
    /// Cancel-safe.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub async fn connected(&self) -> Result<(), ConnectError> {
        let remote = self.remote_addr();
        let outcome = self
            .inner
            .wait(Place::Connected, |core, inner, _| match core.state(inner.key) {
                Some(state) => match &state.phase {
                    Phase::Handshake => Poll::Pending,
                    Phase::Open => Poll::Ready(Ok(state.unremembered.take())),
                    Phase::Closed(error) => {
                        let error = ConnectionError::clone(error);
                        let outcome = state.unremembered.as_deref();
                        Poll::Ready(Err(match outcome {
                            Some(outcome) => outcome.explain(error),
                            None => ConnectError::new(remote, error),
                        }))
                    }
                },
                None => Poll::Ready(Err(ConnectError::EndpointClosed)),
            })
            .await?;
        match outcome.zip(self.security()) {
            Some((outcome, security)) => outcome.remember(security.floor()),
            None => Ok(()),
        }
    }

    /// Waits until the handshake is confirmed (RFC 9001, section 4.1.2): this side knows that the other one has
    /// completed it; at once when it does.
    ///
    /// A server that accepts early data has a connection before that. Until then its client is known by a ticket
    /// alone, and need not be there: what has arrived may have been copied, though it is delivered once at most.
    /// Wait for this before anything is done that such a copy must not bring about.
    ///
    /// Cancel-safe.
    ///
    /// # Errors
    /// When the connection is over.
    pub async fn handshake_confirmed(&self) -> Result<(), ConnectionError> {
        self.inner
            .wait(Place::Connected, |core, inner, _| match core.live(inner.key) {
                Ok((connection, _)) if connection.is_confirmed() => Poll::Ready(Ok(())),
                Ok(_) => Poll::Pending,
                Err(error) => Poll::Ready(Err(error)),
            })
            .await
    }

    /// Who the peer has proved to be, here or, where the connection was resumed, in the connection that
    /// the ticket came from; `None` for a client that showed no identity, and before the handshake is
    /// complete: a server that accepts early data waits for [`Connection::handshake_confirmed`].
    pub fn peer_identity(&self) -> Option<PeerIdentity> {
        self.security()?.peer
    }

    /// What is established at this moment, or was at the last of a connection that is over; `None` when nothing
    /// is, as at a client before the handshake is complete.
    pub fn security(&self) -> Option<Security> {
        let mut core = self.inner.shard.lock();
        if let Ok((connection, _)) = core.live(self.inner.key)
            && let Some(security) = Security::of(connection)
        {
            return Some(security);
        }
        let security = core.state(self.inner.key).and_then(|state| state.security.clone());
        drop(core);
        security.map(|security| (*security).clone())
    }

    /// Fills `out` with at most 8160 secret bytes that both sides of this connection, and nobody
    /// else, get for the same label and context.
    ///
    /// # Errors
    /// When the connection is over; [`ConnectionError::EndpointClosed`] also before the handshake is complete, for which
    /// [`Connection::connected`] waits.
    ///
    /// # Panics
    /// When `out` is longer than 8160 bytes.
    pub fn export(
        &self,
        label: &str,
        context: &[u8],
        out: &mut [u8],
    ) -> Result<(), ConnectionError> {
        assert!(out.len() <= 8160, "at most 8160 bytes can be exported");
        let mut core = self.inner.shard.lock();
        let (connection, _) = core.live(self.inner.key)?;
        let security = connection.security().ok_or(ConnectionError::EndpointClosed)?;
        security.export(label, context, out).map_err(|_| ConnectionError::EndpointClosed)
    }
}
