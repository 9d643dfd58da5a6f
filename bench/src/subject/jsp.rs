//! JetStreamProto through its tokio facade.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use jsp::{ConnectionError, Identity, Received, StreamConfig, TransportConfig, Trust};

use super::{Flavour, Profile, Subject, Use};
use crate::plan::Plan;

/// Connections that the server takes; more than any workload opens.
const CONNECTIONS_MAX: usize = 200_000;
/// No connection of the bench is to end by itself.
const IDLE_LIMIT: Duration = Duration::from_secs(600);
/// Messages taken from a stream at a time.
const MESSAGES_AT_ONCE: usize = 256;
/// The largest UDP payload over IPv4; path MTU discovery finds out whether it passes.
const LARGEST_PACKET: usize = 65_507;
/// Bytes taken from a stream at a time.
const BYTES_AT_ONCE: usize = 1 << 20;

fn transport(plan: Plan) -> TransportConfig {
    let mut config = TransportConfig { idle_timeout: IDLE_LIMIT, ..TransportConfig::default() };
    if plan.large {
        config.mtu_ceiling = LARGEST_PACKET;
    }
    config
}

fn busy_poll(subject: Subject) -> Duration {
    if subject.flavour == Flavour::Spin { Duration::from_millis(1) } else { Duration::ZERO }
}

/// A listening endpoint on a loopback port, its address and fingerprint.
pub(crate) fn listen(subject: Subject, plan: Plan) -> Result<(Endpoint, SocketAddr, String)> {
    let endpoint = jsp::Endpoint::builder()
        .bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
        .identity(Identity::generate())
        .connections_max(CONNECTIONS_MAX)
        .shards(if subject.profile == Profile::Sharded { 2 } else { 1 })
        .busy_poll(busy_poll(subject))
        .transport(transport(plan))
        .build()?;
    let address = endpoint.local_addr()?;
    let trust = endpoint.fingerprint().to_string();
    Ok((Endpoint { endpoint, trust: Trust::Insecure }, address, trust))
}

/// An endpoint that trusts the server with the fingerprint `trust`.
pub(crate) fn dialler(subject: Subject, trust: &str, plan: Plan) -> Result<Endpoint> {
    let trust = Trust::Pinned(trust.parse()?);
    let endpoint = jsp::Endpoint::builder()
        .bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
        .busy_poll(busy_poll(subject))
        .transport(transport(plan))
        .build()?;
    Ok(Endpoint { endpoint, trust })
}

/// A JetStreamProto endpoint, and whom it trusts.
#[derive(Clone)]
pub(crate) struct Endpoint {
    endpoint: jsp::Endpoint,
    trust: Trust,
}

impl super::Endpoint for Endpoint {
    type Pending = jsp::Connection;
    type Connection = Connection;

    async fn accept(&self) -> Option<jsp::Connection> {
        self.endpoint.accept().await
    }

    async fn establish(pending: jsp::Connection) -> Result<Connection> {
        Ok(Connection::new(pending))
    }

    async fn connect(&self, server: SocketAddr) -> Result<Connection> {
        Ok(Connection::new(self.endpoint.connect(server, self.trust.clone()).await?))
    }
}

/// A connection, with the streams of its datagrams once there are any: one task sends them, and one takes them. Places
/// that cost nothing while they are empty, for idle connections are weighed with them.
#[derive(Clone)]
pub(crate) struct Connection {
    connection: jsp::Connection,
    outbox: OnceLock<Arc<jsp::Stream>>,
    inbox: OnceLock<Arc<jsp::Stream>>,
}

impl Connection {
    fn new(connection: jsp::Connection) -> Self {
        Self { connection, outbox: OnceLock::new(), inbox: OnceLock::new() }
    }
}

/// A peer that closed in order is an end, not an error.
fn end_or<T>(error: ConnectionError) -> Result<Option<T>> {
    match error {
        ConnectionError::ClosedByPeer { .. } | ConnectionError::ClosedLocally { .. } => Ok(None),
        error => Err(error.into()),
    }
}

/// Messages that are sent once each, in whatever order they arrive.
fn datagrams() -> StreamConfig {
    StreamConfig { delivery: jsp::Delivery::Unreliable, ordered: false, ..StreamConfig::messages() }
}

impl super::Connection for Connection {
    type Stream = Stream;

    async fn open(&self, using: Use) -> Result<Stream> {
        let config = match using {
            Use::Bytes => StreamConfig::bytes(),
            Use::Messages { .. } => StreamConfig::messages(),
        };
        Ok(Stream::new(self.connection.open(config).await?))
    }

    async fn accept(&self, _using: Use) -> Result<Option<Stream>> {
        match self.connection.accept().await {
            Ok(stream) => Ok(Some(Stream::new(stream))),
            Err(error) => end_or(error),
        }
    }

    async fn send_alone(&self, message: Bytes) -> Result<()> {
        let config = StreamConfig { unidirectional: true, ..StreamConfig::messages() };
        self.connection.send_one(config, message).await?;
        Ok(())
    }

    async fn recv_alone(&self) -> Result<Option<usize>> {
        let stream = match self.connection.accept().await {
            Ok(stream) => stream,
            Err(error) => return end_or(error),
        };
        let mut length = 0;
        while let Some(message) = stream.recv().await? {
            length += message.payload.len();
        }
        Ok(Some(length))
    }

    async fn send_datagram(&self, datagram: Bytes) -> Result<()> {
        let outbox = match self.outbox.get() {
            Some(outbox) => outbox,
            None => {
                let opened = Arc::new(self.connection.open(datagrams()).await?);
                self.outbox.get_or_init(|| opened)
            }
        };
        outbox.send(datagram).await?;
        Ok(())
    }

    async fn recv_datagram(&self) -> Result<Option<usize>> {
        let inbox = match self.inbox.get() {
            Some(inbox) => inbox,
            None => match self.connection.accept().await {
                Ok(accepted) => self.inbox.get_or_init(|| Arc::new(accepted)),
                Err(error) => return end_or(error),
            },
        };
        match inbox.recv().await {
            Ok(message) => Ok(message.map(|message| message.payload.len())),
            Err(jsp::RecvError::ConnectionLost(error)) => end_or(*error),
            Err(error) => Err(error.into()),
        }
    }
}

/// A stream; messages are the transport's own.
pub(crate) struct Stream {
    stream: jsp::Stream,
    messages: Vec<Received>,
    chunks: Vec<Bytes>,
}

impl Stream {
    fn new(stream: jsp::Stream) -> Self {
        Self { stream, messages: Vec::new(), chunks: Vec::new() }
    }
}

impl super::Stream for Stream {
    async fn write(&mut self, piece: &Bytes) -> Result<()> {
        Ok(self.stream.write_all(piece.clone()).await?)
    }

    async fn consume(&mut self) -> Result<Option<usize>> {
        let (_, recv) = self.stream.halves();
        let length = recv.read_chunks(&mut self.chunks, BYTES_AT_ONCE).await?;
        self.chunks.clear();
        Ok((length > 0).then_some(length))
    }

    async fn send_message(&mut self, message: &Bytes) -> Result<()> {
        self.stream.send(message.clone()).await?;
        Ok(())
    }

    async fn recv_message(&mut self) -> Result<Option<Bytes>> {
        if self.messages.is_empty() {
            let (_, recv) = self.stream.halves();
            recv.recv_many(&mut self.messages, MESSAGES_AT_ONCE).await?;
            self.messages.reverse();
        }
        Ok(self.messages.pop().map(|message| message.payload))
    }

    async fn finish(&mut self) -> Result<()> {
        Ok(self.stream.finish()?)
    }
}
