//! Which ways lead to the coordinator: UDP by either version of IP, and streams.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use jsp::{Builder, CarrierPolicy, ConnectError, Endpoint, Fingerprint, Identity, TransportConfig};
use serde::Serialize;

use crate::carriers::{Kind, https};
use crate::output::milliseconds;
use crate::protocol::APPLICATION_PROTOCOL;
use crate::session;

/// What came of one way.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub(crate) enum Passage {
    /// The coordinator answers.
    Works {
        /// How long it took to be connected, in milliseconds.
        connected_ms: f64,
    },
    /// Nothing comes back: something on the way drops it.
    NoAnswer,
    /// Refused at once: the coordinator has nothing at this port, or a firewall says so in its place.
    Refused,
    /// This machine, or the coordinator, has no address of this kind.
    NoAddress,
    /// Something else went wrong.
    Failed {
        /// What.
        error: String,
    },
}

impl Passage {
    pub(crate) fn works(&self) -> bool {
        matches!(self, Self::Works { .. })
    }

    fn of(error: &ConnectError) -> Self {
        match error {
            ConnectError::Timeout { .. } => Self::NoAnswer,
            ConnectError::Carrier { source, .. } => match source.kind() {
                io::ErrorKind::ConnectionRefused => Self::Refused,
                io::ErrorKind::TimedOut => Self::NoAnswer,
                io::ErrorKind::NetworkUnreachable | io::ErrorKind::AddrNotAvailable => {
                    Self::NoAddress
                }
                _ => Self::Failed { error: error.to_string() },
            },
            error => Self::Failed { error: error.to_string() },
        }
    }
}

/// A client for one attempt, with an identity of its own, as coordinators want one.
fn client(transport: TransportConfig) -> Builder {
    Endpoint::builder()
        .client_identity(Identity::generate())
        .application_protocol(APPLICATION_PROTOCOL)
        .transport(transport)
}

async fn attempt(
    builder: Builder,
    to: SocketAddr,
    fingerprint: Fingerprint,
    patience: Duration,
) -> Passage {
    let endpoint = match builder.build() {
        Ok(endpoint) => endpoint,
        Err(error) => return Passage::Failed { error: error.to_string() },
    };
    let begun = Instant::now();
    // A stream may open and then say nothing.
    let connected = tokio::time::timeout(patience, endpoint.connect(to, fingerprint)).await;
    let passage = match connected.unwrap_or(Err(ConnectError::Timeout { remote: to })) {
        Ok(connection) => {
            let connected_ms = milliseconds(begun.elapsed());
            connection.close(0, b"");
            Passage::Works { connected_ms }
        }
        Err(error) => Passage::of(&error),
    };
    endpoint.close(0, b"");
    passage
}

/// Whether UDP passes to the coordinator's address, if it has one.
pub(crate) async fn try_udp(
    to: Option<SocketAddr>,
    fingerprint: Fingerprint,
    timeout: Duration,
) -> Passage {
    match to {
        Some(to) if session::own_address(to).is_some() => {
            attempt(client(session::transport(timeout)), to, fingerprint, timeout).await
        }
        _ => Passage::NoAddress,
    }
}

/// What came of the streams to a coordinator.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Streams {
    pub(crate) tcp: Passage,
    /// At the port of the web, which is open where others are not.
    pub(crate) tls_443: Passage,
    pub(crate) tls: Passage,
    pub(crate) websocket: Passage,
}

impl Streams {
    /// Each as it is called, and as `--carrier` has it.
    pub(crate) fn each(&self) -> [(&'static str, &'static str, &Passage); 4] {
        [
            ("TCP", "tcp", &self.tcp),
            ("TLS, port 443", "tls", &self.tls_443),
            ("TLS", "tls", &self.tls),
            ("WebSocket", "websocket", &self.websocket),
        ]
    }
}

/// Whether the coordinator is reached by TCP, TLS and WebSocket at its port, and by TLS at port 443.
pub(crate) async fn try_streams(
    to: SocketAddr,
    fingerprint: Fingerprint,
    timeout: Duration,
) -> Streams {
    let by = |carrier| {
        let only = CarrierPolicy::Only(vec![carrier]);
        attempt(client(session::transport(timeout)).carriers(only), to, fingerprint, timeout)
    };
    let [tcp, tls, websocket] = [Kind::Tcp, Kind::Tls, Kind::Websocket].map(Kind::carrier);
    let (tcp, tls_443, tls, websocket) = tokio::join!(by(tcp), by(https()), by(tls), by(websocket));
    Streams { tcp, tls_443, tls, websocket }
}
