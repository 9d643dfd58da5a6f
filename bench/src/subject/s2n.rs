//! s2n-quic with rustls and aws-lc-rs, as it comes and tuned.

use std::future::poll_fn;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use bytes::Bytes;
use s2n_quic::connection::{Handle, StreamAcceptor};
use s2n_quic::provider::datagram::default as datagram;
use s2n_quic::provider::limits::Limits;
use s2n_quic::provider::tls::rustls as tls;
use s2n_quic::stream::{BidirectionalStream, ReceiveStream, SendStream};
use s2n_quic::{Client, Server, client, provider};
use tokio::sync::Mutex;

use super::{Profile, Use, tls_config};
use crate::framing::{Decoder, Encoder};

/// Flow-control windows of the tuned setting; more than any path of the bench holds.
const TUNED_WINDOW_BYTES: u64 = 32 << 20;
/// What a stream takes from the application before it is sent, tuned.
const TUNED_SEND_BYTES: u32 = 8 << 20;
/// Streams that the peer may have open at once, tuned, for the stream-per-message exercise.
const TUNED_STREAMS: u64 = 10_000;
/// Datagrams that may wait on either side.
const DATAGRAMS: usize = 4096;
/// UDP payload of a full packet on a path with an MTU of 1500 and IPv6 headers; this library counts
/// the headers of IPv4 in.
const FULL_PACKET: u16 = 1452 + 28;
/// No connection of the bench is to end by itself.
const IDLE_LIMIT: Duration = Duration::from_secs(600);

/// What this library's rustls says when it is set up.
type Refused = Box<dyn std::error::Error + Send + Sync>;

fn server_tls(certificate: Vec<u8>, key: Vec<u8>) -> Result<tls::Server, Refused> {
    let builder = tls::Server::builder().with_certificate(vec![certificate], key)?;
    builder.with_application_protocols([tls_config::ALPN].into_iter())?.build()
}

fn client_tls(trusted: Vec<u8>) -> Result<tls::Client, Refused> {
    let builder = tls::Client::builder().with_certificate(vec![trusted])?;
    builder.with_application_protocols([tls_config::ALPN].into_iter())?.build()
}

fn limits(profile: Profile) -> Result<Limits> {
    let limits = Limits::new().with_max_idle_timeout(IDLE_LIMIT)?;
    if profile != Profile::Tuned {
        return Ok(limits);
    }
    Ok(limits
        .with_data_window(TUNED_WINDOW_BYTES)?
        .with_bidirectional_local_data_window(TUNED_WINDOW_BYTES)?
        .with_bidirectional_remote_data_window(TUNED_WINDOW_BYTES)?
        .with_unidirectional_data_window(TUNED_WINDOW_BYTES)?
        .with_max_send_buffer_size(TUNED_SEND_BYTES)?
        .with_max_open_remote_bidirectional_streams(TUNED_STREAMS)?
        .with_max_open_local_bidirectional_streams(TUNED_STREAMS)?
        .with_max_open_remote_unidirectional_streams(TUNED_STREAMS)?
        .with_max_open_local_unidirectional_streams(TUNED_STREAMS)?)
}

fn io(profile: Profile) -> Result<provider::io::Default> {
    let io = provider::io::Default::builder()
        .with_receive_address(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    if profile != Profile::Tuned {
        return Ok(io.build()?);
    }
    Ok(io
        .with_base_mtu(FULL_PACKET)?
        .with_initial_mtu(FULL_PACKET)?
        .with_max_mtu(FULL_PACKET)?
        .build()?)
}

fn datagrams() -> Result<datagram::Endpoint> {
    let builder = datagram::Endpoint::builder();
    Ok(builder.with_send_capacity(DATAGRAMS)?.with_recv_capacity(DATAGRAMS)?.build()?)
}

/// A listening endpoint on a loopback port, its address, and the certificate in hex.
pub(crate) fn listen(profile: Profile) -> Result<(Endpoint, SocketAddr, String)> {
    let (certificate, key, trust) = tls_config::identity()?;
    let tls = server_tls(certificate, key).map_err(|error| anyhow!("set TLS up: {error}"))?;
    let server = Server::builder()
        .with_tls(tls)?
        .with_io(io(profile)?)?
        .with_limits(limits(profile)?)?
        .with_datagram(datagrams()?)?
        .start()
        .map_err(|error| anyhow!("start s2n-quic: {error}"))?;
    let address = server.local_addr()?;
    Ok((Endpoint::Server(Arc::new(Mutex::new(server))), address, trust))
}

/// An endpoint that trusts the certificate `trust`.
pub(crate) fn dialler(profile: Profile, trust: &str) -> Result<Endpoint> {
    let trusted = tls_config::from_hex(trust)?;
    let tls = client_tls(trusted).map_err(|error| anyhow!("set TLS up: {error}"))?;
    let client = Client::builder()
        .with_tls(tls)?
        .with_io(io(profile)?)?
        .with_limits(limits(profile)?)?
        .with_datagram(datagrams()?)?
        .start()
        .map_err(|error| anyhow!("start s2n-quic: {error}"))?;
    Ok(Endpoint::Client(client))
}

/// An endpoint of s2n-quic, which is one of two kinds.
#[derive(Clone)]
pub(crate) enum Endpoint {
    /// Accepting takes the server for itself.
    Server(Arc<Mutex<Server>>),
    /// Clones share a socket.
    Client(Client),
}

impl super::Endpoint for Endpoint {
    type Pending = s2n_quic::Connection;
    type Connection = Connection;

    async fn accept(&self) -> Option<s2n_quic::Connection> {
        match self {
            Self::Server(server) => server.lock().await.accept().await,
            Self::Client(_) => None,
        }
    }

    async fn establish(pending: s2n_quic::Connection) -> Result<Connection> {
        Ok(Connection::new(pending))
    }

    async fn connect(&self, server: SocketAddr) -> Result<Connection> {
        let Self::Client(client) = self else { bail!("a server does not connect") };
        let connect = client::Connect::new(server).with_server_name(tls_config::SERVER_NAME);
        Ok(Connection::new(client.connect(connect).await?))
    }
}

/// A connection: opening is shared, accepting goes one at a time.
#[derive(Clone)]
pub(crate) struct Connection {
    handle: Handle,
    acceptor: Arc<Mutex<StreamAcceptor>>,
}

impl Connection {
    fn new(connection: s2n_quic::Connection) -> Self {
        let (handle, acceptor) = connection.split();
        Self { handle, acceptor: Arc::new(Mutex::new(acceptor)) }
    }
}

impl super::Connection for Connection {
    type Stream = Stream;

    async fn open(&self, using: Use) -> Result<Stream> {
        let stream = self.handle.clone().open_bidirectional_stream().await?;
        Ok(Stream::new(stream, using))
    }

    async fn accept(&self, using: Use) -> Result<Option<Stream>> {
        let stream = self.acceptor.lock().await.accept_bidirectional_stream().await?;
        Ok(stream.map(|stream| Stream::new(stream, using)))
    }

    async fn send_alone(&self, message: Bytes) -> Result<()> {
        let mut stream = self.handle.clone().open_send_stream().await?;
        stream.send(message).await?;
        Ok(stream.finish()?)
    }

    async fn recv_alone(&self) -> Result<Option<usize>> {
        let stream = self.acceptor.lock().await.accept_receive_stream().await?;
        let Some(mut stream) = stream else { return Ok(None) };
        let mut length = 0;
        while let Some(chunk) = stream.receive().await? {
            length += chunk.len();
        }
        Ok(Some(length))
    }

    async fn send_datagram(&self, datagram: Bytes) -> Result<()> {
        let mut datagram = datagram;
        poll_fn(|cx| {
            let send = |sender: &mut datagram::Sender| sender.poll_send_datagram(&mut datagram, cx);
            match self.handle.datagram_mut(send) {
                Ok(polled) => polled.map(|sent| sent.map_err(|error| anyhow!("{error}"))),
                Err(error) => Err(anyhow!("{error}")).into(),
            }
        })
        .await
    }

    async fn recv_datagram(&self) -> Result<Option<usize>> {
        let received = poll_fn(|cx| {
            let receive = |receiver: &mut datagram::Receiver| receiver.poll_recv_datagram(cx);
            match self.handle.datagram_mut(receive) {
                Ok(polled) => polled.map(|got| got.map_err(|error| anyhow!("{error}"))),
                Err(error) => Err(anyhow!("{error}")).into(),
            }
        });
        Ok(received.await.ok().map(|datagram| datagram.len()))
    }
}

/// A bidirectional stream with the application's framing.
pub(crate) struct Stream {
    send: SendStream,
    recv: ReceiveStream,
    encoder: Encoder,
    decoder: Decoder,
}

impl Stream {
    fn new(stream: BidirectionalStream, using: Use) -> Self {
        let (recv, send) = stream.split();
        let encoder = Encoder::new(using.gather_bytes());
        Self { send, recv, encoder, decoder: Decoder::default() }
    }
}

impl super::Stream for Stream {
    async fn write(&mut self, piece: &Bytes) -> Result<()> {
        Ok(self.send.send(piece.clone()).await?)
    }

    async fn consume(&mut self) -> Result<Option<usize>> {
        Ok(self.recv.receive().await?.map(|chunk| chunk.len()))
    }

    async fn send_message(&mut self, message: &Bytes) -> Result<()> {
        if let Some(due) = self.encoder.push(message) {
            let due = Bytes::copy_from_slice(due);
            self.encoder.clear();
            self.send.send(due).await?;
        }
        Ok(())
    }

    async fn recv_message(&mut self) -> Result<Option<Bytes>> {
        loop {
            if let Some(message) = self.decoder.next()? {
                return Ok(Some(message));
            }
            let Some(chunk) = self.recv.receive().await? else { return Ok(None) };
            self.decoder.feed(chunk);
        }
    }

    async fn finish(&mut self) -> Result<()> {
        let waiting = Bytes::copy_from_slice(self.encoder.waiting());
        self.encoder.clear();
        if !waiting.is_empty() {
            self.send.send(waiting).await?;
        }
        self.send.finish().context("the stream was closed before its end")
    }
}
