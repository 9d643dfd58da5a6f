//! What can go wrong, by operation. Each message says what happened and what to do.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use jsp_crypto::{Fingerprint, HandshakeError};
use jsp_proto::{CloseReason, PathError, TransportError};
use jsp_wire::CloseCode;
use thiserror::Error;

/// Why an endpoint could not be made.
#[derive(Debug, Error)]
pub enum BindError {
    /// Another program, or another endpoint of this one, has the port.
    #[error(
        "{addr} is in use; choose another port, or 0 for any free one, or end the program that has it"
    )]
    AddressInUse {
        /// The address that was asked for.
        addr: SocketAddr,
    },
    /// No interface of this machine has the address.
    #[error("{addr} is no address of this machine; bind 0.0.0.0 or [::] to take every interface")]
    AddressNotAvailable {
        /// The address that was asked for.
        addr: SocketAddr,
    },
    /// The system does not allow it, as for ports below 1024.
    #[error(
        "the system does not let this program bind {addr}; use a port above 1023 or grant the right"
    )]
    PermissionDenied {
        /// The address that was asked for.
        addr: SocketAddr,
    },
    /// The text is no address, or its name does not resolve.
    #[error("{name} is no address to bind: {source}; write it as 0.0.0.0:4433")]
    NameNotResolved {
        /// The text.
        name: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// There is no tokio runtime here.
    #[error("an endpoint needs a tokio runtime with I/O and time enabled; call this inside one")]
    NoRuntime,
    /// The builder was given things that exclude each other.
    #[error("{0}")]
    Config(&'static str),
    /// The system refused for another reason.
    #[error("the socket could not be set up: {0}")]
    Io(#[from] io::Error),
}

/// Why there is no further path.
#[derive(Debug, Error)]
pub enum AddPathError {
    /// The address could not be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The connection cannot have it.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The connection goes by a stream, a proxy or a coordinator: nobody would answer elsewhere.
    #[error(
        "a further path needs one by plain UDP, and this connection goes by a stream, a proxy or a coordinator; connect to the server's own address"
    )]
    NotPlain,
    /// The server did not answer there: a firewall, or no way from this address.
    #[error("the server did not answer from this address; check its interface and its route")]
    Unanswered,
    /// The connection is over.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
}

impl BindError {
    pub(crate) fn new(addr: SocketAddr, error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::AddrInUse => Self::AddressInUse { addr },
            io::ErrorKind::AddrNotAvailable => Self::AddressNotAvailable { addr },
            io::ErrorKind::PermissionDenied => Self::PermissionDenied { addr },
            _ => Self::Io(error),
        }
    }
}

/// Why an identity could not be read from or written to its file.
#[derive(Debug, Error)]
#[error(transparent)]
pub struct IdentityError(#[from] pub(crate) jsp_crypto::identity::IdentityFileError);

/// An endpoint does not show the identity with this fingerprint, so that it cannot be renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("this endpoint does not go by {0}: only an online key can be renewed, not the identity")]
pub struct RenewError(pub Fingerprint);

/// Why a connection was not established.
///
/// `remote` is the server's address, as far as this side knows it; where a proxy resolves the server's name, the
/// proxy's.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// The name, or the address that it should be, means nothing.
    #[error(
        "{name} does not resolve ({source}); check the spelling, the port after a colon, and the name service"
    )]
    NameNotResolved {
        /// What was to be connected to.
        name: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// Somebody else than expected answers at the address.
    #[error(
        "the server at {remote} is {}, but {expected} is expected: the wrong server, a server that was set up anew, or somebody in between; do not go on before you know which",
        name_of(got)
    )]
    Identity {
        /// Where it answers.
        remote: SocketAddr,
        /// Who should answer.
        expected: Fingerprint,
        /// Who does, if that could be learned.
        got: Option<Fingerprint>,
    },
    /// A carrier or the proxy could not be opened.
    #[error("no way to {target}: {source}; check the proxy, and that the server listens there")]
    Carrier {
        /// Where it was to lead.
        target: String,
        /// What the network or the proxy said.
        source: io::Error,
    },
    /// Nobody answered in time.
    #[error(
        "{remote} does not answer; check that the server runs, the address, and that no firewall drops what goes there (UDP, or the carriers that were chosen)"
    )]
    Timeout {
        /// Who was asked.
        remote: SocketAddr,
    },
    /// The server does not want the connection, or does not accept this side's identity.
    #[error("{remote} refused the connection: {reason}")]
    Refused {
        /// Who was asked.
        remote: SocketAddr,
        /// What it says.
        reason: String,
    },
    /// No version of the protocol is common.
    #[error("{remote} speaks other versions of the protocol ({offered:x?}); update one side")]
    VersionMismatch {
        /// Who was asked.
        remote: SocketAddr,
        /// The versions that it speaks.
        offered: Vec<u32>,
    },
    /// The two sides have nothing in common to go on with, or one's proof was wrong.
    #[error("the handshake with {remote} failed: {error}")]
    Handshake {
        /// Who was asked.
        remote: SocketAddr,
        /// What failed.
        error: HandshakeError,
    },
    /// The store of known servers cannot be read or written.
    #[error("the store of known servers {path}: {error}")]
    KnownHosts {
        /// The store's file.
        path: PathBuf,
        /// What the store says.
        error: jsp_crypto::known_hosts::KnownHostsError,
    },
    /// The connection ended during the handshake for another reason.
    #[error("the connection to {remote} ended during the handshake: {error}")]
    Ended {
        /// Who was asked.
        remote: SocketAddr,
        /// Why.
        error: ConnectionError,
    },
    /// The endpoint is closed or its runtime is gone.
    #[error("the endpoint is closed; make a new one")]
    EndpointClosed,
}

impl ConnectError {
    pub(crate) fn new(remote: SocketAddr, error: ConnectionError) -> Self {
        match error {
            ConnectionError::HandshakeTimeout | ConnectionError::TimedOut => {
                Self::Timeout { remote }
            }
            ConnectionError::Handshake(HandshakeError::PinMismatch { expected, found }) => {
                Self::Identity { remote, expected, got: Some(found) }
            }
            ConnectionError::Handshake(error) => Self::Handshake { remote, error },
            ConnectionError::VersionMismatch { offered } => {
                Self::VersionMismatch { remote, offered }
            }
            ConnectionError::PeerError { code: CloseCode::REFUSED, reason } => {
                let full = || "it is full; try later".to_owned();
                Self::Refused { remote, reason: if reason.is_empty() { full() } else { reason } }
            }
            // Whatever displeased the server, it tells no more than this.
            ConnectionError::PeerError { code: CloseCode::HANDSHAKE_FAILED, .. } => {
                let reason = "it does not accept this side's identity, or has no setting in common with it; ask whoever runs it to let this side's fingerprint in, and compare versions";
                Self::Refused { remote, reason: reason.to_owned() }
            }
            ConnectionError::ClosedByPeer { reason, .. } => Self::Refused { remote, reason },
            ConnectionError::EndpointClosed => Self::EndpointClosed,
            error => Self::Ended { remote, error },
        }
    }
}

fn name_of(fingerprint: &Option<Fingerprint>) -> String {
    fingerprint.map_or_else(|| "another one".to_owned(), |fingerprint| fingerprint.to_string())
}

/// Why a connection is over.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum ConnectionError {
    /// The peer's application closed it.
    #[error("the peer closed the connection with code {code}: {reason}")]
    ClosedByPeer {
        /// The application's code; 0 means that all is well.
        code: u64,
        /// The application's sentence.
        reason: String,
    },
    /// This side closed it, or dropped its last handle.
    #[error("the connection was closed on this side with code {code}")]
    ClosedLocally {
        /// The code that was given.
        code: u64,
    },
    /// Nothing was heard from the peer for the idle time.
    #[error(
        "the peer fell silent for longer than the idle time-out; connect again when the network is back"
    )]
    TimedOut,
    /// The peer has lost its state.
    #[error("the peer no longer knows the connection, as after a restart; connect again")]
    Reset,
    /// The peer's transport found fault with this side.
    #[error("the peer ended the connection: {code}: {reason}")]
    PeerError {
        /// What it found.
        code: CloseCode,
        /// Its sentence.
        reason: String,
    },
    /// The peer broke the protocol.
    #[error("the peer broke the protocol: {0}")]
    ProtocolViolation(TransportError),
    /// The handshake did not succeed.
    #[error("the handshake failed: {0}")]
    Handshake(HandshakeError),
    /// The server cannot read a hello that is made for the pinned identity.
    #[error("the server is not the one whose fingerprint is pinned; compare the fingerprints")]
    NotThePinnedServer,
    /// The handshake was not answered in time.
    #[error(
        "no answer in time; check the address, that the server runs, and that no firewall drops what goes there"
    )]
    HandshakeTimeout,
    /// No version of the protocol is common.
    #[error(
        "the server speaks none of this side's versions (it offers {offered:x?}); update one side"
    )]
    VersionMismatch {
        /// The versions that the server speaks.
        offered: Vec<u32>,
    },
    /// The carrier, or the proxy, ended before the connection was made.
    #[error("the stream to the server was closed before the connection was made; try again later")]
    CarrierClosed,
    /// The endpoint's link failed.
    #[error("the link failed: {1}; make a new endpoint")]
    Link(io::ErrorKind, String),
    /// The endpoint is closed or its runtime is gone.
    #[error("the endpoint is closed")]
    EndpointClosed,
}

impl ConnectionError {
    /// True when the connection ended because an application closed it, or this side shut down: not
    /// by a failure.
    pub fn is_orderly(&self) -> bool {
        matches!(
            self,
            Self::ClosedByPeer { .. } | Self::ClosedLocally { .. } | Self::EndpointClosed
        )
    }
}

impl From<CloseReason> for ConnectionError {
    fn from(reason: CloseReason) -> Self {
        match reason {
            CloseReason::ByPeer { code, reason } => Self::ClosedByPeer { code, reason },
            CloseReason::ByUs { code } => Self::ClosedLocally { code },
            CloseReason::PeerError { code, reason } => Self::PeerError { code, reason },
            CloseReason::LocalError(error) => Self::ProtocolViolation(error),
            CloseReason::Handshake(error) => Self::Handshake(error),
            CloseReason::NotThePinnedServer => Self::NotThePinnedServer,
            CloseReason::HandshakeTimeout => Self::HandshakeTimeout,
            CloseReason::IdleTimeout => Self::TimedOut,
            CloseReason::Reset => Self::Reset,
            CloseReason::VersionMismatch { offered } => Self::VersionMismatch { offered },
        }
    }
}

/// Why a stream was not opened.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum OpenError {
    /// The configuration contradicts itself.
    #[error(
        "a byte stream must be reliable and ordered, weight at least 1, label and content type at most 255 bytes"
    )]
    InvalidConfig,
    /// The peer allows no more streams now ([`Connection::try_open`](crate::Connection::try_open) only).
    #[error("the peer allows no more streams now; wait with open, or close some")]
    LimitReached,
    /// The connection is over.
    #[error(transparent)]
    ConnectionLost(Box<ConnectionError>),
}

impl From<ConnectionError> for OpenError {
    fn from(error: ConnectionError) -> Self {
        Self::ConnectionLost(Box::new(error))
    }
}

impl From<jsp_proto::OpenError> for OpenError {
    fn from(error: jsp_proto::OpenError) -> Self {
        use jsp_proto::OpenError as Proto;
        match error {
            Proto::LimitReached => Self::LimitReached,
            Proto::InvalidConfig => Self::InvalidConfig,
            Proto::Closed => ConnectionError::EndpointClosed.into(),
        }
    }
}

/// Why something was not sent. Nothing of it was taken, but by [`SendStream::write_all`](crate::SendStream::write_all),
/// which may have written a part, and [`SendStream::write_chunks`](crate::SendStream::write_chunks), which leaves what it
/// has not written.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum SendError {
    /// The send buffer is full (calls that start with `try_` only).
    #[error("the send buffer is full; wait with send or write, or send less")]
    Full,
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
    /// The peer wants no more of the stream.
    #[error("the peer stopped the stream with code {0}")]
    Stopped(u64),
    /// The stream is finished or reset, or only the peer may send on it.
    #[error("the stream takes no more data: it is finished, reset or receive-only")]
    Closed,
    /// A message call on a byte stream, or the other way round.
    #[error("the stream has the other framing: use send for messages and write for bytes")]
    WrongFraming,
    /// The connection is over.
    #[error(transparent)]
    ConnectionLost(Box<ConnectionError>),
}

impl From<ConnectionError> for SendError {
    fn from(error: ConnectionError) -> Self {
        Self::ConnectionLost(Box::new(error))
    }
}

impl From<jsp_proto::SendError> for SendError {
    fn from(error: jsp_proto::SendError) -> Self {
        use jsp_proto::SendError as Proto;
        match error {
            Proto::WouldBlock => Self::Full,
            Proto::TooLarge { len, max } => Self::TooLarge { len, max },
            Proto::Stopped(code) => Self::Stopped(code),
            Proto::Closed => Self::Closed,
            Proto::WrongFraming => Self::WrongFraming,
        }
    }
}

impl From<SendError> for io::Error {
    fn from(error: SendError) -> Self {
        let kind = match &error {
            SendError::Full => io::ErrorKind::WouldBlock,
            SendError::TooLarge { .. } | SendError::WrongFraming => io::ErrorKind::InvalidInput,
            SendError::Stopped(_) | SendError::Closed => io::ErrorKind::BrokenPipe,
            SendError::ConnectionLost(error) => kind_of(error),
        };
        Self::new(kind, error)
    }
}

/// Why nothing more is received. The end of a stream is no error.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum RecvError {
    /// The peer reset the stream.
    #[error("the peer reset the stream with code {0}")]
    Reset(u64),
    /// A message call on a byte stream, or the other way round.
    #[error("the stream has the other framing: use recv for messages and read for bytes")]
    WrongFraming,
    /// The stream is longer than the caller's limit ([`RecvStream::read_to_end`](crate::RecvStream::read_to_end) only).
    #[error("the stream is longer than the limit of {limit} bytes")]
    TooLong {
        /// The caller's limit.
        limit: usize,
    },
    /// The connection ended before the stream did.
    #[error(transparent)]
    ConnectionLost(Box<ConnectionError>),
}

impl From<ConnectionError> for RecvError {
    fn from(error: ConnectionError) -> Self {
        Self::ConnectionLost(Box::new(error))
    }
}

impl From<RecvError> for io::Error {
    fn from(error: RecvError) -> Self {
        let kind = match &error {
            RecvError::Reset(_) => io::ErrorKind::ConnectionReset,
            RecvError::WrongFraming => io::ErrorKind::InvalidInput,
            RecvError::TooLong { .. } => io::ErrorKind::InvalidData,
            RecvError::ConnectionLost(error) => kind_of(error),
        };
        Self::new(kind, error)
    }
}

fn kind_of(error: &ConnectionError) -> io::ErrorKind {
    match error {
        ConnectionError::ClosedByPeer { .. } | ConnectionError::Reset => {
            io::ErrorKind::ConnectionReset
        }
        ConnectionError::TimedOut | ConnectionError::HandshakeTimeout => io::ErrorKind::TimedOut,
        ConnectionError::Link(kind, _) => *kind,
        ConnectionError::ClosedLocally { .. } | ConnectionError::EndpointClosed => {
            io::ErrorKind::NotConnected
        }
        _ => io::ErrorKind::ConnectionAborted,
    }
}
