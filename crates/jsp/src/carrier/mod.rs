//! Carriers: what brings datagrams to a peer where plain UDP does not.
//!
//! Every datagram is sealed before a carrier sees it, so that none of them is trusted with anything.

mod association;
pub(crate) mod dial;
mod frame;
pub(crate) mod listen;
pub(crate) mod places;
pub(crate) mod stream;
pub(crate) mod table;
#[cfg(feature = "tls")]
mod tls;
mod tunnel;
#[cfg(feature = "websocket")]
mod websocket;

use std::fmt;

use crate::remote::Target;

pub use stream::{BoxStream, ByteStream, Connecting, StreamListener, StreamNetwork, Tcp};
#[cfg(feature = "tls")]
pub use tls::{TlsClient, TlsError, TlsServer};

/// Which carriers a client uses: [`Builder::carriers`](crate::Builder::carriers).
#[derive(Clone, Debug, Default)]
pub enum CarrierPolicy {
    /// Plain UDP and nothing else.
    #[default]
    UdpOnly,
    /// UDP first; when it stays silent for 250 ms, the carriers besides, in their order and as long
    /// after each other. Who connects first is used (in the manner of RFC 8305).
    Race(Vec<Carrier>),
    /// These, and never a datagram. When the stream in use ends, another is opened.
    Only(Vec<Carrier>),
}

impl CarrierPolicy {
    pub(crate) fn carriers(&self) -> &[Carrier] {
        match self {
            Self::UdpOnly => &[],
            Self::Race(carriers) | Self::Only(carriers) => carriers,
        }
    }

    pub(crate) fn has_udp(&self) -> bool {
        !matches!(self, Self::Only(_))
    }
}

/// One way to a server besides UDP. The server must
/// [listen](crate::Builder::listen_tcp) for it.
#[derive(Clone, Debug)]
pub struct Carrier {
    layers: Layers,
    port: Option<u16>,
}

/// What lies over TCP.
#[derive(Clone)]
pub(crate) enum Layers {
    Plain,
    #[cfg(feature = "tls")]
    Tls(TlsClient),
    #[cfg(feature = "websocket")]
    WebSocket(String),
    #[cfg(all(feature = "tls", feature = "websocket"))]
    WebSocketTls(TlsClient, String),
}

impl Carrier {
    fn new(layers: Layers) -> Self {
        Self { layers, port: None }
    }

    /// Datagrams behind their lengths, over TCP.
    pub fn tcp() -> Self {
        Self::new(Layers::Plain)
    }

    /// The same inside TLS, so that middleboxes see what they know.
    #[cfg(feature = "tls")]
    pub fn tls(client: TlsClient) -> Self {
        Self::new(Layers::Tls(client))
    }

    /// WebSocket over TCP (RFC 6455), a binary message for each datagram, at `path` (`/` or longer).
    #[cfg(feature = "websocket")]
    pub fn websocket(path: impl ToString) -> Self {
        Self::new(Layers::WebSocket(path.to_string()))
    }

    /// WebSocket inside TLS.
    #[cfg(all(feature = "tls", feature = "websocket"))]
    pub fn websocket_tls(client: TlsClient, path: impl ToString) -> Self {
        Self::new(Layers::WebSocketTls(client, path.to_string()))
    }

    /// The server's port for this carrier. Default: the one that is connected to.
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    fn kind(&self) -> CarrierKind {
        match self.layers {
            Layers::Plain => CarrierKind::Tcp,
            #[cfg(feature = "tls")]
            Layers::Tls(_) => CarrierKind::Tls,
            #[cfg(feature = "websocket")]
            Layers::WebSocket(_) => CarrierKind::WebSocket,
            #[cfg(all(feature = "tls", feature = "websocket"))]
            Layers::WebSocketTls(..) => CarrierKind::WebSocket,
        }
    }

    /// The same kind at the same port.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        self.kind() == other.kind() && self.port == other.port
    }

    pub(crate) fn at(&self, target: &Target) -> Target {
        match self.port {
            Some(port) => target.with_port(port),
            None => target.clone(),
        }
    }
}

impl fmt::Debug for Layers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain => "tcp",
            #[cfg(feature = "tls")]
            Self::Tls(_) => "tls",
            #[cfg(feature = "websocket")]
            Self::WebSocket(_) => "websocket",
            #[cfg(all(feature = "tls", feature = "websocket"))]
            Self::WebSocketTls(..) => "websocket over tls",
        })
    }
}

/// Kinds of carriers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum CarrierKind {
    /// Plain UDP, or a proxy's relay of datagrams.
    Udp,
    /// TCP.
    Tcp,
    /// TLS over TCP.
    Tls,
    /// WebSocket, with TLS or without.
    WebSocket,
}

impl fmt::Display for CarrierKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::WebSocket => "websocket",
        })
    }
}

/// What the carrier in use does and does not do: [`Connection::capabilities`](crate::Connection::capabilities).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Capabilities {
    /// What kind it is.
    pub carrier: CarrierKind,
    /// Everything that was sent arrives, in the order of sending: what is lost on the way holds up all
    /// that follows, real-time messages too. Messages still expire and replace each other while they
    /// wait on this side, and only there. Retransmission, forward error correction, pacing and
    /// congestion control are the carrier's.
    pub reliable: bool,
    /// Datagrams may overtake each other, and what is lost holds nothing up.
    pub unordered: bool,
    /// Largest datagram, in bytes, as far as it is known.
    pub datagram_len: usize,
}
