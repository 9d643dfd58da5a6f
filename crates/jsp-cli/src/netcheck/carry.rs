//! Which ways lead to the coordinator: UDP by either version of IP, and streams.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use jsp::carrier::TlsClient;
use jsp::{
    Builder, Carrier, CarrierPolicy, ConnectError, Endpoint, Fingerprint, Identity, TransportConfig,
};
use serde::Serialize;

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

/// Whether the coordinator is reached by TCP, TLS and WebSocket.
pub(crate) async fn try_streams(
    to: SocketAddr,
    fingerprint: Fingerprint,
    timeout: Duration,
) -> [Passage; 3] {
    let by = |carrier| {
        let only = CarrierPolicy::Only(vec![carrier]);
        attempt(client(session::transport(timeout)).carriers(only), to, fingerprint, timeout)
    };
    let (tcp, tls) = (by(Carrier::tcp()), by(Carrier::tls(TlsClient::new())));
    tokio::join!(tcp, tls, by(Carrier::websocket("/"))).into()
}
