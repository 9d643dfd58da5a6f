//! The daemon: a task for each client, and one that follows clients that move.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use jsp::link::{Route, UdpLink};
use jsp::{
    BindError, CarrierKind, ClientAuth, Connection, Endpoint, Fingerprint, Identity, IdentityError,
    RecvStream, SendStream, TransportConfig,
};
use jsp_nat::coordinator::{ClientId, Coordinator};
use jsp_nat::rendezvous::{CONTENT_TYPE, MESSAGE_LEN_MAX};
use serde::Serialize;
use thiserror::Error;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::config::{Config, ConfigError};
use crate::hall::Hall;
use crate::link::{ServerLink, Socket};

/// How long a client may take to open its stream.
const STREAM_WAIT: Duration = Duration::from_secs(10);
/// Bytes that a client may send before they are read.
const WINDOW: u64 = 16 << 10;
/// Silence after which a client is asked whether it is there: it says something itself every 20 s at least.
const KEEP_ALIVE: Duration = Duration::from_secs(24);
/// Close codes: no room, and messages that make no sense.
const CODE_FULL: u64 = 1;
const CODE_NONSENSE: u64 = 2;

/// Why a daemon does not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The address.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The identity.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The address means nothing.
    #[error("`bind` holds {0}, which is no address; write it as 0.0.0.0:4433")]
    Address(String),
}

/// What a daemon has done so far; the names are those of its counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Clients that are there.
    pub clients: usize,
    /// Ways that are open.
    pub channels: usize,
    /// Clients that came.
    pub clients_total: u64,
    /// Clients that were turned away.
    pub clients_turned_away_total: u64,
    /// Ways opened.
    pub channels_opened_total: u64,
    /// Ways refused.
    pub channels_refused_total: u64,
    /// Datagrams forwarded.
    pub relayed_datagrams_total: u64,
    /// Their bytes.
    pub relayed_bytes_total: u64,
    /// Datagrams from nobody known, or by no way.
    pub relay_dropped_unknown_total: u64,
    /// Datagrams beyond what may be.
    pub relay_dropped_rate_total: u64,
    /// Datagrams that their receivers did not take, too slow as they are.
    pub relay_dropped_slow_total: u64,
    /// STUN requests answered.
    pub stun_answered_total: u64,
}

/// A meeting point at work.
#[derive(Debug)]
pub struct Daemon {
    endpoint: Endpoint,
    hall: Arc<Hall>,
    socket: Arc<Socket>,
}

impl Daemon {
    /// Binds, under the identity of the configuration's file. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn start(config: &Config) -> Result<Self, StartError> {
        let identity = Identity::load_or_generate(&config.identity)?;
        Self::start_as(config, identity)
    }

    /// The same under another identity.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn start_as(config: &Config, identity: Identity) -> Result<Self, StartError> {
        let address: SocketAddr =
            config.bind.parse().map_err(|_| StartError::Address(config.bind.clone()))?;
        let auth = match config.allowed()? {
            Some(allowed) => ClientAuth::only(allowed),
            None => ClientAuth::required(),
        };
        let mut coordinator = Coordinator::new(config.limits(), config.stun);
        if let Some(turn) = config.turn.clone() {
            let turn = turn.checked()?;
            coordinator.lend_by(Box::new(move || turn.grant()));
        }
        let hall = Arc::new(Hall::new(coordinator));
        let udp = UdpLink::bind(address)?;
        let socket = Arc::new(Socket::new(udp, Arc::clone(&hall), config.stun));
        let builder = Endpoint::builder()
            .link(Box::new(ServerLink(Arc::clone(&socket))))
            .identity(identity)
            .client_auth(auth)
            .transport(transport())
            // One network does not take all the places: see there.
            .connections_max(config.limits.clients);
        let endpoint = config.streams.listen(builder)?.build()?;
        Ok(Self { endpoint, hall, socket })
    }

    /// The address at which it is reached; a wildcard when it listens on all interfaces.
    ///
    /// # Errors
    /// When the socket is gone.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.endpoint.local_addr()
    }

    /// The addresses at which it is reached by streams, and what they are.
    pub fn stream_addrs(&self) -> &[(CarrierKind, SocketAddr)] {
        self.endpoint.carrier_addrs()
    }

    /// What clients pin.
    pub fn fingerprint(&self) -> Fingerprint {
        self.endpoint.fingerprint()
    }

    /// What it has done so far.
    pub fn status(&self) -> Status {
        let (counters, clients, channels) = self.hall.status();
        Status {
            clients,
            channels,
            clients_total: counters.joined,
            clients_turned_away_total: counters.turned_away,
            channels_opened_total: counters.opened,
            channels_refused_total: counters.refused,
            relayed_datagrams_total: counters.forwarded,
            relayed_bytes_total: counters.forwarded_bytes,
            relay_dropped_unknown_total: counters.dropped_unknown,
            relay_dropped_rate_total: counters.dropped_rate,
            relay_dropped_slow_total: self.socket.dropped(),
            stun_answered_total: self.socket.answered(),
        }
    }

    /// Serves until the endpoint is closed, for example by [`Daemon::shutdown`] in another task.
    pub async fn serve(&self) {
        let mut clients = JoinSet::new();
        while let Some(connection) = self.endpoint.accept().await {
            while clients.try_join_next().is_some() {}
            clients.spawn(serve(connection, Arc::clone(&self.hall), Arc::clone(&self.socket)));
        }
        clients.shutdown().await;
    }

    /// Ends in order: clients are told, and datagrams are forwarded no more.
    pub async fn shutdown(&self) {
        self.endpoint.close(0, b"the coordinator is going down");
        self.endpoint.shutdown().await;
    }
}

/// Clients have one stream with short messages: more is not kept for anybody.
fn transport() -> TransportConfig {
    TransportConfig {
        keep_alive: Some(KEEP_ALIVE),
        message_len_max: MESSAGE_LEN_MAX as u64,
        stream_window: WINDOW,
        stream_window_max: WINDOW,
        connection_window: 2 * WINDOW,
        connection_window_max: 2 * WINDOW,
        streams_max: 2,
        unreliable_buffer: MESSAGE_LEN_MAX,
        objects: false,
        ..TransportConfig::default()
    }
}

/// One client, from its coming to its going.
async fn serve(connection: Connection, hall: Arc<Hall>, socket: Arc<Socket>) {
    if connection.handshake_confirmed().await.is_err() {
        return;
    }
    let Some(peer) = connection.peer_identity() else { return };
    let entered =
        hall.enter(*peer.fingerprint.as_bytes(), place_of(&connection, connection.route()));
    let Some((id, messages)) = entered else {
        return connection.close(CODE_FULL, b"the coordinator is full");
    };
    let stream = tokio::time::timeout(STREAM_WAIT, connection.accept()).await;
    if let Ok(Ok(stream)) = stream
        && stream.info().content_type.as_deref() == Some(CONTENT_TYPE)
    {
        let (send, recv) = stream.split();
        tokio::select! {
            () = hear(&connection, id, recv, &hall, &socket) => {}
            () = tell(send, messages) => {}
            () = follow(&connection, id, &hall) => {}
        }
    }
    hall.leave(id);
    connection.close(0, b"");
}

/// Takes what the client says.
async fn hear(
    connection: &Connection,
    id: ClientId,
    recv: RecvStream,
    hall: &Hall,
    socket: &Socket,
) {
    while let Ok(Some(message)) = recv.recv().await {
        let (makes_sense, released) = hall.hear(id, &message.payload);
        for (route, datagram) in released {
            socket.send(route, None, &datagram);
        }
        if !makes_sense {
            return connection.close(CODE_NONSENSE, b"a message makes no sense");
        }
    }
}

/// Tells the client what there is to tell.
async fn tell(send: SendStream, mut messages: mpsc::Receiver<Vec<u8>>) {
    while let Some(message) = messages.recv().await {
        if send.send(message).await.is_err() {
            return;
        }
    }
}

/// By which route a connection comes, and from which host.
fn place_of(connection: &Connection, route: Route) -> (Route, IpAddr) {
    (route, connection.remote_addr().ip())
}

/// Notes where the client is, until it is gone.
// spec: RDV-22
async fn follow(connection: &Connection, id: ClientId, hall: &Hall) {
    let mut at = Some(connection.route());
    while let Some(route) = at {
        hall.locate(id, place_of(connection, route));
        at = connection.route_changed(route).await;
    }
}
