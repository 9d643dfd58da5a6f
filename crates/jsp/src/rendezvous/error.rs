//! What goes wrong between a peer, its coordinator and other peers.

use jsp_crypto::Fingerprint;
use jsp_nat::rendezvous::Refusal;
use thiserror::Error;

use crate::error::{ConnectError, ConnectionError, OpenError, SendError};

/// Why a peer is not registered.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RegisterError {
    /// The coordinator cannot be connected to.
    #[error("the coordinator: {0}")]
    Connect(#[from] ConnectError),
    /// The connection to the coordinator ended.
    #[error("the coordinator closed the connection: {0}")]
    Closed(#[from] ConnectionError),
    /// The server does not answer as a coordinator.
    #[error("the server does not answer as a coordinator; is it a jspd?")]
    NoCoordinator,
}

impl From<OpenError> for RegisterError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::ConnectionLost(error) => Self::Closed(*error),
            OpenError::LimitReached | OpenError::InvalidConfig => Self::NoCoordinator,
        }
    }
}

/// Why a peer cannot be called.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CallError {
    /// The coordinator gives no way to it.
    #[error("{peer} cannot be called: {reason}")]
    Refused {
        /// Who was called.
        peer: Fingerprint,
        /// What the coordinator says.
        reason: Refusal,
    },
    /// The peer cannot be connected to.
    #[error("{}", no_connection(peer, error))]
    Connect {
        /// Who was called.
        peer: Fingerprint,
        /// Why. Its `remote` is the coordinator: where the peer is, nobody knows.
        error: ConnectError,
    },
    /// The coordinator is gone.
    #[error("the coordinator is gone: {0}")]
    CoordinatorLost(#[from] SendError),
}

/// Says by the peer's name what [`ConnectError`] says by an address, which is the coordinator's here.
fn no_connection(peer: &Fingerprint, error: &ConnectError) -> String {
    match error {
        ConnectError::Timeout { .. } => format!(
            "{peer} is registered with the coordinator but does not answer; it may have gone without a word: try again in a minute"
        ),
        ConnectError::Refused { reason, .. } => format!("{peer} refused the connection: {reason}"),
        ConnectError::Identity { .. } => {
            format!(
                "somebody else than {peer} answers there; the coordinator, or somebody before it, leads calls elsewhere"
            )
        }
        ConnectError::VersionMismatch { offered, .. } => {
            format!("{peer} speaks other versions of the protocol ({offered:x?}); update one side")
        }
        ConnectError::Handshake { error, .. } => {
            format!("the handshake with {peer} failed: {error}")
        }
        ConnectError::Ended { error, .. } => {
            format!("the connection to {peer} ended during the handshake: {error}")
        }
        other => format!("no connection to {peer}: {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_fails_tells_of_the_peer_and_not_of_the_coordinator() {
        let peer = crate::Identity::generate().fingerprint();
        let remote = "192.0.2.1:4433".parse().unwrap();
        let reason = "no".to_owned();
        for error in [
            ConnectError::Timeout { remote },
            ConnectError::Refused { remote, reason },
            ConnectError::Identity { remote, expected: peer, got: None },
            ConnectError::VersionMismatch { remote, offered: vec![7] },
            ConnectError::Ended { remote, error: ConnectionError::NotThePinnedServer },
            ConnectError::EndpointClosed,
        ] {
            let text = CallError::Connect { peer, error }.to_string();
            assert!(text.contains(&peer.to_string()) && !text.contains("192.0.2.1"), "{text}");
        }
    }
}
