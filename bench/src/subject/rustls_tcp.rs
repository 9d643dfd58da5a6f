//! TCP with rustls. A connection carries one stream; a further stream is a further
//! connection, which is what a program on TLS would do.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Result, bail};
use bytes::{Bytes, BytesMut};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use super::{Profile, Use, tls_config};
use crate::framing::{Decoder, Encoder};

/// Bytes read at a time.
const READ_BYTES: usize = 64 << 10;

/// A listening endpoint on a loopback port, its address, and the certificate in hex.
pub(crate) async fn listen(profile: Profile) -> Result<(Endpoint, SocketAddr, String)> {
    let (tls, trust) = tls_config::server(profile)?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    Ok((Endpoint::Server { listener: Arc::new(listener), acceptor }, address, trust))
}

/// An endpoint that trusts the certificate `trust`.
pub(crate) fn dialler(profile: Profile, trust: &str) -> Result<Endpoint> {
    let config = tls_config::client(profile, trust)?;
    Ok(Endpoint::Client(TlsConnector::from(Arc::new(config))))
}

/// A listener or a connector.
#[derive(Clone)]
pub(crate) enum Endpoint {
    /// Accepts.
    Server {
        /// The TCP socket.
        listener: Arc<TcpListener>,
        /// The TLS side of it.
        acceptor: TlsAcceptor,
    },
    /// Connects.
    Client(TlsConnector),
}

impl super::Endpoint for Endpoint {
    type Pending = (TlsAcceptor, TcpStream);
    type Connection = Connection;

    async fn accept(&self) -> Option<(TlsAcceptor, TcpStream)> {
        let Self::Server { listener, acceptor } = self else { return None };
        let (tcp, _) = listener.accept().await.ok()?;
        Some((acceptor.clone(), tcp))
    }

    async fn establish((acceptor, tcp): (TlsAcceptor, TcpStream)) -> Result<Connection> {
        tcp.set_nodelay(true)?;
        let stream = acceptor.accept(tcp).await?;
        Ok(Connection::new(TlsStream::Server(stream), None))
    }

    async fn connect(&self, server: SocketAddr) -> Result<Connection> {
        let Self::Client(connector) = self else { bail!("a listener does not connect") };
        let stream = dial(connector, server).await?;
        Ok(Connection::new(stream, Some((connector.clone(), server))))
    }
}

async fn dial(connector: &TlsConnector, server: SocketAddr) -> Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(server).await?;
    tcp.set_nodelay(true)?;
    let name = ServerName::try_from(tls_config::SERVER_NAME)?;
    Ok(TlsStream::Client(connector.connect(name, tcp).await?))
}

/// A TLS connection whose one stream has not been taken yet, and on the client's side
/// the way to further ones.
#[derive(Clone)]
pub(crate) struct Connection {
    first: Arc<Mutex<Option<TlsStream<TcpStream>>>>,
    more: Option<(TlsConnector, SocketAddr)>,
}

impl Connection {
    fn new(stream: TlsStream<TcpStream>, more: Option<(TlsConnector, SocketAddr)>) -> Self {
        Self { first: Arc::new(Mutex::new(Some(stream))), more }
    }

    fn take(&self) -> Option<TlsStream<TcpStream>> {
        self.first.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl super::Connection for Connection {
    type Stream = Stream;

    async fn open(&self, using: Use) -> Result<Stream> {
        let stream = match (self.take(), &self.more) {
            (Some(stream), _) => stream,
            (None, Some((connector, server))) => dial(connector, *server).await?,
            (None, None) => bail!("a server opens no TLS connections"),
        };
        Ok(Stream::new(stream, using))
    }

    async fn accept(&self, using: Use) -> Result<Option<Stream>> {
        Ok(self.take().map(|stream| Stream::new(stream, using)))
    }
}

/// The byte stream of a TLS connection with the application's framing.
pub(crate) struct Stream {
    tls: TlsStream<TcpStream>,
    encoder: Encoder,
    decoder: Decoder,
    buffer: BytesMut,
}

impl Stream {
    fn new(tls: TlsStream<TcpStream>, using: Use) -> Self {
        let encoder = Encoder::new(using.gather_bytes());
        Self { tls, encoder, decoder: Decoder::default(), buffer: BytesMut::new() }
    }
}

impl super::Stream for Stream {
    async fn write(&mut self, piece: &Bytes) -> Result<()> {
        Ok(self.tls.write_all(piece).await?)
    }

    async fn consume(&mut self) -> Result<Option<usize>> {
        self.buffer.clear();
        self.buffer.reserve(READ_BYTES);
        let length = self.tls.read_buf(&mut self.buffer).await?;
        Ok((length > 0).then_some(length))
    }

    async fn send_message(&mut self, message: &Bytes) -> Result<()> {
        if let Some(due) = self.encoder.push(message) {
            self.tls.write_all(due).await?;
            self.tls.flush().await?;
            self.encoder.clear();
        }
        Ok(())
    }

    async fn recv_message(&mut self) -> Result<Option<Bytes>> {
        loop {
            if let Some(message) = self.decoder.next()? {
                return Ok(Some(message));
            }
            self.buffer.reserve(READ_BYTES);
            if self.tls.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
            self.decoder.feed(self.buffer.split().freeze());
        }
    }

    async fn finish(&mut self) -> Result<()> {
        self.tls.write_all(self.encoder.waiting()).await?;
        self.encoder.clear();
        Ok(self.tls.shutdown().await?)
    }
}
