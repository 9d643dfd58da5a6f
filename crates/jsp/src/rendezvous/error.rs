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
            OpenError::ConnectionLost(error) => Self::Closed(error),
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
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The coordinator is gone.
    #[error("the coordinator is gone: {0}")]
    CoordinatorLost(#[from] SendError),
}
