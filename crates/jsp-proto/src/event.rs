//! What a connection tells the application.

use jsp_wire::{CloseCode, PathId, Route, StreamId};
use thiserror::Error;

use crate::capacity::Capacity;
use crate::error::TransportError;
use crate::forecast::Alarm;
use crate::streams::StreamEvent;
use crate::streams::config::MessageFate;

/// Something that happened; polled from the endpoint.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// The handshake is complete and the peer's identity is verified: streams may be opened. A
    /// client that has shown its own identity hears this once the server has accepted it. A server
    /// that accepts early data hears it at once: the client is known by its ticket, and that it is
    /// there now is still to be proved.
    Connected,
    /// The handshake is confirmed (RFC 9001, section 4.1.2): both sides know that the other has completed it. A
    /// server that has taken early data knows from here on that its client is there.
    HandshakeConfirmed,
    /// A ticket for another connection to this server has come: take it with
    /// `Connection::take_ticket`.
    TicketReceived,
    /// The peer opened a stream: take it with `Connection::accept`.
    StreamOpened {
        /// The stream.
        stream: StreamId,
    },
    /// Something arrived, or the end or a reset did.
    Readable {
        /// The stream.
        stream: StreamId,
    },
    /// There is room in the send buffer again, after a call would have blocked.
    Writable {
        /// The stream.
        stream: StreamId,
    },
    /// More streams may be opened, after `open` said that the limit was reached.
    StreamsAvailable,
    /// What became of a message that was sent with `want_fate`.
    Fate {
        /// Its stream.
        stream: StreamId,
        /// Its number in the stream.
        number: u64,
        /// What became of it.
        fate: MessageFate,
    },
    /// The peer wants no more of a stream.
    SendStopped {
        /// The stream.
        stream: StreamId,
        /// Why; the application's code.
        code: u64,
    },
    /// The peer's application says that it has taken all messages below a number.
    Consumed {
        /// The stream.
        stream: StreamId,
        /// The lowest number that it has not taken.
        below: u64,
    },
    /// All of a finished stream has arrived at the peer's transport.
    SendFinished {
        /// The stream.
        stream: StreamId,
    },
    /// A stream is over on both sides, and nothing more is told of it; told where it was asked for
    /// ([`Connection::watch_forgotten`](crate::Connection::watch_forgotten)).
    StreamForgotten {
        /// The stream.
        stream: StreamId,
    },
    /// The path looks worse, or better, than it did: the level of the alarm has changed.
    Alarm(Alarm),
    /// What the network carries has changed: the advice for media fell by 10 % or more, or rose by
    /// 15 % or more.
    CapacityChanged(Capacity),
    /// The peer acknowledges nothing any more; told where it was asked for
    /// ([`Connection::watch_silence`](crate::Connection::watch_silence)), once for each silence.
    PathSilent,
    /// Datagrams of a path travel another way now.
    PathChanged {
        /// Which path.
        path: PathId,
        /// The new way.
        route: Route,
    },
    /// A client may begin a further path.
    PathsAvailable,
    /// A further path has proved itself, and may be used.
    PathOpened {
        /// Which.
        path: PathId,
        /// Where it leads.
        route: Route,
    },
    /// A path is over; what was under way there goes by others.
    PathClosed {
        /// Which.
        path: PathId,
        /// Why.
        cause: PathEnd,
    },
    /// The connection is over; nothing more is sent or delivered, but what has arrived may be read.
    Closed {
        /// Why.
        reason: CloseReason,
    },
    /// The connection's state is gone; its handle means nothing any more.
    Drained,
}

/// Why a path ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PathEnd {
    /// We asked for it.
    Abandoned,
    /// The peer did.
    ByPeer,
    /// Nothing came back.
    Unanswered,
}

impl From<StreamEvent> for Event {
    fn from(event: StreamEvent) -> Self {
        match event {
            StreamEvent::Opened(stream) => Self::StreamOpened { stream },
            StreamEvent::Readable(stream) => Self::Readable { stream },
            StreamEvent::Writable(stream) => Self::Writable { stream },
            StreamEvent::StreamsAvailable => Self::StreamsAvailable,
            StreamEvent::Fate { stream, number, fate } => Self::Fate { stream, number, fate },
            StreamEvent::SendStopped { stream, code } => Self::SendStopped { stream, code },
            StreamEvent::SendFinished(stream) => Self::SendFinished { stream },
            StreamEvent::Consumed { stream, below } => Self::Consumed { stream, below },
            StreamEvent::Forgotten(stream) => Self::StreamForgotten { stream },
        }
    }
}

/// Why a connection ended.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum CloseReason {
    /// The peer's application closed.
    #[error("the peer closed the connection with code {code}: {reason}")]
    ByPeer {
        /// The application's code.
        code: u64,
        /// The application's sentence.
        reason: String,
    },
    /// We closed.
    #[error("the connection was closed locally with code {code}")]
    ByUs {
        /// The code that was given.
        code: u64,
    },
    /// The peer's transport found fault with us.
    #[error("the peer ended the connection: {code}: {reason}")]
    PeerError {
        /// What it found.
        code: CloseCode,
        /// Its sentence.
        reason: String,
    },
    /// We found fault with the peer.
    #[error("the peer broke the protocol: {0}")]
    LocalError(TransportError),
    /// The handshake did not succeed.
    #[error("the handshake failed: {0}")]
    Handshake(jsp_crypto::HandshakeError),
    /// The server answered that it cannot read a hello for the pinned identity. Anybody on the way
    /// could say so, but then nothing could get through either.
    #[error("the server is not the one whose fingerprint is pinned; compare the fingerprints")]
    NotThePinnedServer,
    /// The handshake took too long: no answer, or the answers were lost.
    #[error(
        "no answer in time; check the address, that the server runs, and that UDP is not blocked"
    )]
    HandshakeTimeout,
    /// Nothing was heard for the idle time.
    #[error("the peer fell silent for longer than the idle time-out")]
    IdleTimeout,
    /// The peer has lost the connection's state, for example by a restart.
    #[error("the peer no longer knows the connection; it may have restarted: connect again")]
    Reset,
    /// The server speaks none of our versions.
    #[error(
        "the server speaks none of our protocol versions (it offers {offered:x?}); update one side"
    )]
    VersionMismatch {
        /// What it speaks.
        offered: Vec<u32>,
    },
}
