//! quinn: QUIC with rustls, as it comes and tuned.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use bytes::Bytes;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ConnectionError, EndpointConfig, MtuDiscoveryConfig, TokioRuntime, TransportConfig};
use quinn::{VarInt, congestion};
use socket2::SockRef;

use super::{Profile, Use, tls_config};
use crate::framing::{Decoder, Encoder};
use crate::plan::Plan;

/// Flow-control windows of the tuned setting; more than any path of the bench holds.
const TUNED_WINDOW_BYTES: u32 = 32 << 20;
/// Datagrams that may wait on either side, tuned.
const TUNED_DATAGRAM_BYTES: usize = 8 << 20;
/// Socket buffers, tuned; the kernel may give less.
const TUNED_SOCKET_BYTES: usize = 4 << 20;
/// Streams that the peer may have open at once, tuned, for the stream-per-message exercise.
const TUNED_STREAMS: u32 = 10_000;
/// UDP payload of a full packet on a path with an MTU of 1500 and IPv6 headers.
const FULL_PACKET: u16 = 1452;
/// UDP payload of the largest packet over IPv4.
const LARGEST_PACKET: u16 = 65_507;
/// No connection of the bench is to end by itself.
const IDLE_LIMIT: Duration = Duration::from_secs(600);

fn transport(profile: Profile, plan: Plan) -> Result<Arc<TransportConfig>> {
    let mut config = TransportConfig::default();
    config.max_idle_timeout(Some(IDLE_LIMIT.try_into()?));
    if matches!(profile, Profile::Tuned | Profile::Bbr) {
        let mut discovery = MtuDiscoveryConfig::default();
        discovery.upper_bound(if plan.large { LARGEST_PACKET } else { FULL_PACKET });
        config
            .stream_receive_window(VarInt::from_u32(TUNED_WINDOW_BYTES))
            .receive_window(VarInt::from_u32(TUNED_WINDOW_BYTES))
            .send_window(u64::from(TUNED_WINDOW_BYTES))
            .max_concurrent_bidi_streams(VarInt::from_u32(TUNED_STREAMS))
            .max_concurrent_uni_streams(VarInt::from_u32(TUNED_STREAMS))
            .datagram_receive_buffer_size(Some(TUNED_DATAGRAM_BYTES))
            .datagram_send_buffer_size(TUNED_DATAGRAM_BYTES)
            .initial_mtu(FULL_PACKET)
            .mtu_discovery_config(Some(discovery))
            .enable_segmentation_offload(true);
    }
    if profile == Profile::Bbr {
        config.congestion_controller_factory(Arc::new(congestion::BbrConfig::default()));
    }
    Ok(Arc::new(config))
}

fn bind(profile: Profile, server: Option<quinn::ServerConfig>) -> Result<quinn::Endpoint> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    if matches!(profile, Profile::Tuned | Profile::Bbr) {
        SockRef::from(&socket).set_recv_buffer_size(TUNED_SOCKET_BYTES)?;
        SockRef::from(&socket).set_send_buffer_size(TUNED_SOCKET_BYTES)?;
    }
    let config = EndpointConfig::default();
    Ok(quinn::Endpoint::new(config, server, socket, Arc::new(TokioRuntime))?)
}

/// A listening endpoint on a loopback port, its address, and the certificate in hex.
pub(crate) fn listen(profile: Profile, plan: Plan) -> Result<(Endpoint, SocketAddr, String)> {
    let (tls, trust) = tls_config::server(profile)?;
    let crypto = QuicServerConfig::try_from(tls)?;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(transport(profile, plan)?);
    let endpoint = bind(profile, Some(config))?;
    let address = endpoint.local_addr()?;
    let asks_for_proof = profile == Profile::Retry;
    Ok((Endpoint { endpoint, asks_for_proof }, address, trust))
}

/// An endpoint that trusts the certificate `trust`.
pub(crate) fn dialler(profile: Profile, trust: &str, plan: Plan) -> Result<Endpoint> {
    let crypto = QuicClientConfig::try_from(tls_config::client(profile, trust)?)?;
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    config.transport_config(transport(profile, plan)?);
    let mut endpoint = bind(profile, None)?;
    endpoint.set_default_client_config(config);
    Ok(Endpoint { endpoint, asks_for_proof: false })
}

/// A quinn endpoint.
#[derive(Clone)]
pub(crate) struct Endpoint {
    endpoint: quinn::Endpoint,
    /// Clients without a token get a Retry.
    asks_for_proof: bool,
}

impl super::Endpoint for Endpoint {
    type Pending = (quinn::Incoming, bool);
    type Connection = Connection;

    async fn accept(&self) -> Option<(quinn::Incoming, bool)> {
        Some((self.endpoint.accept().await?, self.asks_for_proof))
    }

    async fn establish((pending, asks_for_proof): (quinn::Incoming, bool)) -> Result<Connection> {
        if asks_for_proof && !pending.remote_address_validated() {
            pending.retry()?;
            bail!("asked for a proof of address");
        }
        Ok(Connection(pending.await?))
    }

    async fn connect(&self, server: SocketAddr) -> Result<Connection> {
        Ok(Connection(self.endpoint.connect(server, tls_config::SERVER_NAME)?.await?))
    }
}

/// A quinn connection.
#[derive(Clone)]
pub(crate) struct Connection(quinn::Connection);

/// A peer that closed in order is an end, not an error.
fn end_or<T>(error: ConnectionError) -> Result<Option<T>> {
    match error {
        ConnectionError::ApplicationClosed(_) | ConnectionError::LocallyClosed => Ok(None),
        error => Err(error.into()),
    }
}

impl super::Connection for Connection {
    type Stream = Stream;

    async fn open(&self, using: Use) -> Result<Stream> {
        let (send, recv) = self.0.open_bi().await?;
        Ok(Stream::new(send, recv, using))
    }

    async fn accept(&self, using: Use) -> Result<Option<Stream>> {
        match self.0.accept_bi().await {
            Ok((send, recv)) => Ok(Some(Stream::new(send, recv, using))),
            Err(error) => end_or(error),
        }
    }

    async fn send_alone(&self, message: Bytes) -> Result<()> {
        let mut stream = self.0.open_uni().await?;
        stream.write_chunk(message).await?;
        Ok(stream.finish()?)
    }

    async fn recv_alone(&self) -> Result<Option<usize>> {
        let mut stream = match self.0.accept_uni().await {
            Ok(stream) => stream,
            Err(error) => return end_or(error),
        };
        let mut length = 0;
        while let Some(chunk) = stream.read_chunk(usize::MAX, true).await? {
            length += chunk.bytes.len();
        }
        Ok(Some(length))
    }

    async fn send_datagram(&self, datagram: Bytes) -> Result<()> {
        Ok(self.0.send_datagram_wait(datagram).await?)
    }

    async fn recv_datagram(&self) -> Result<Option<usize>> {
        match self.0.read_datagram().await {
            Ok(datagram) => Ok(Some(datagram.len())),
            Err(error) => end_or(error),
        }
    }
}

/// A bidirectional stream with the application's framing.
pub(crate) struct Stream {
    send: quinn::SendStream,
    recv: quinn::RecvStream,
    encoder: Encoder,
    decoder: Decoder,
}

impl Stream {
    fn new(send: quinn::SendStream, recv: quinn::RecvStream, using: Use) -> Self {
        let encoder = Encoder::new(using.gather_bytes());
        Self { send, recv, encoder, decoder: Decoder::default() }
    }
}

impl super::Stream for Stream {
    async fn write(&mut self, piece: &Bytes) -> Result<()> {
        Ok(self.send.write_chunk(piece.clone()).await?)
    }

    async fn consume(&mut self) -> Result<Option<usize>> {
        Ok(self.recv.read_chunk(usize::MAX, true).await?.map(|chunk| chunk.bytes.len()))
    }

    async fn send_message(&mut self, message: &Bytes) -> Result<()> {
        if let Some(due) = self.encoder.push(message) {
            self.send.write_all(due).await?;
            self.encoder.clear();
        }
        Ok(())
    }

    async fn recv_message(&mut self) -> Result<Option<Bytes>> {
        loop {
            if let Some(message) = self.decoder.next()? {
                return Ok(Some(message));
            }
            let Some(chunk) = self.recv.read_chunk(usize::MAX, true).await? else {
                return Ok(None);
            };
            self.decoder.feed(chunk.bytes);
        }
    }

    async fn finish(&mut self) -> Result<()> {
        self.send.write_all(self.encoder.waiting()).await?;
        self.encoder.clear();
        if self.send.finish().is_err() {
            bail!("the stream was closed before its end");
        }
        Ok(())
    }
}
