//! Errors, apart by who is at fault: the peer ([`TransportError`]), or the caller (one small enum
//! per operation).

use jsp_wire::{CloseCode, DecodeError};
use thiserror::Error;

/// The peer broke the protocol, or a limit of the protocol is reached: the connection closes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("{code}: {reason}")]
pub struct TransportError {
    /// What the CLOSE frame will say.
    pub code: CloseCode,
    /// A sentence for people.
    pub reason: &'static str,
}

impl TransportError {
    /// An error with its sentence.
    pub const fn new(code: CloseCode, reason: &'static str) -> Self {
        Self { code, reason }
    }
}

impl From<DecodeError> for TransportError {
    fn from(_: DecodeError) -> Self {
        Self::new(CloseCode::FRAME_ENCODING, "a frame could not be parsed")
    }
}

/// Why something about a path cannot be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum PathError {
    /// Only clients begin and end paths.
    #[error("only the client opens and abandons paths")]
    NotTheClient,
    /// The handshake is not confirmed, the connection is closed, or the peer has not given an id for the
    /// path yet: try again later.
    #[error("no path can be opened now")]
    NotReady,
    /// The peer knows one path only, or datagrams leave at a constant rate.
    #[error("this connection has one path only")]
    Unsupported,
    /// There are as many as both sides allow.
    #[error("there are as many paths as both sides allow")]
    TooMany,
    /// There is one by this route.
    #[error("there is a path by this route already")]
    Exists,
    /// There is none of this id.
    #[error("there is no such path")]
    Unknown,
    /// It is the only one that works.
    #[error("the last path cannot be abandoned")]
    LastPath,
}

/// Why a stream cannot be opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum OpenError {
    /// The peer allows no more streams at the moment.
    #[error("the peer allows no more streams now; wait for StreamsAvailable or close some")]
    LimitReached,
    /// The configuration contradicts itself.
    #[error(
        "a byte stream must be reliable and ordered, weight at least 1, label at most 255 bytes"
    )]
    InvalidConfig,
    /// The connection is closing or closed.
    #[error("the connection is closed")]
    Closed,
}

/// Why a message or bytes cannot be queued. Nothing was taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum SendError {
    /// The send buffer is full.
    #[error("the send buffer is full; wait for Writable")]
    WouldBlock,
    /// The peer accepts no message of this size.
    #[error(
        "the message has {len} bytes, but the peer accepts at most {max}; split it or use a byte stream"
    )]
    TooLarge {
        /// Bytes of the message.
        len: u64,
        /// Most bytes that the peer accepts.
        max: u64,
    },
    /// The peer asked to stop, with this code.
    #[error("the peer stopped the stream with code {0}")]
    Stopped(u64),
    /// The stream is finished, reset, receive-only or unknown.
    #[error("the stream takes no more data: it is finished, reset, receive-only or unknown")]
    Closed,
    /// A message call on a byte stream, or the other way round.
    #[error("the stream has the other framing: use send for messages and write for bytes")]
    WrongFraming,
}

/// Why nothing more can be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum RecvError {
    /// The peer reset the stream with this code.
    #[error("the peer reset the stream with code {0}")]
    Reset(u64),
    /// The stream is send-only, stopped, read to its end or unknown.
    #[error("the stream has nothing to read: it is send-only, stopped, read to its end or unknown")]
    Closed,
    /// A message call on a byte stream, or the other way round.
    #[error("the stream has the other framing: use recv for messages and read for bytes")]
    WrongFraming,
}
