//! What can go wrong with a session.

use std::sync::Arc;

use jsp::ConnectError;
use thiserror::Error;

/// Why a session is over, or does not begin.
#[derive(Clone, Debug, Error)]
pub enum SessionError {
    /// The server could not be reached, or is not the one that it should be.
    #[error(transparent)]
    Connect(Arc<ConnectError>),
    /// The other side could not be reached in the way of [`Session::connect_by`](crate::Session::connect_by).
    #[error("the other side cannot be reached: {0}")]
    Unreachable(Arc<dyn std::error::Error + Send + Sync>),
    /// The server does not hold the session any more: its grace time is over, or it was started anew.
    #[error(
        "the server does not know the session any more; connect anew, and send again what Channel::unconfirmed tells"
    )]
    Forgotten,
    /// The server has as many sessions as it may hold, or does not offer any.
    #[error("the server takes no session: {0}; try later, or ask who runs it")]
    Refused(String),
    /// A side has ended it.
    #[error("the session was ended with code {0}")]
    Ended(u64),
    /// The store failed: nothing more can be promised.
    #[error("the session's store failed: {0}; mend it and connect again")]
    Store(String),
}

impl From<ConnectError> for SessionError {
    fn from(error: ConnectError) -> Self {
        Self::Connect(Arc::new(error))
    }
}

/// Why a channel is not opened.
#[derive(Clone, Debug, Error)]
pub enum OpenError {
    /// There are too many, or the label is too long.
    #[error(transparent)]
    Refused(#[from] jsp_app::session::OpenError),
    /// The session is over.
    #[error(transparent)]
    Session(SessionError),
}

/// Why a message is not sent.
#[derive(Clone, Debug, Error)]
pub enum SendError {
    /// The message is longer than all that may be unconfirmed.
    #[error("the message has {len} bytes, and {max} may be unconfirmed; send it in pieces")]
    TooLong {
        /// Its length in bytes.
        len: usize,
        /// [`Limits::unconfirmed_bytes`](jsp_app::session::Limits::unconfirmed_bytes).
        max: usize,
    },
    /// The channel was finished by this side.
    #[error("the channel was finished")]
    Finished,
    /// The session is over.
    #[error(transparent)]
    Session(SessionError),
}

/// Why nothing more is received.
#[derive(Clone, Debug, Error)]
pub enum RecvError {
    /// The session is over.
    #[error(transparent)]
    Session(SessionError),
}
