//! Streams of bytes that carriers are made of, and where they come from.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};

/// A reliable stream of bytes, both ways.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin + 'static {
    /// The address of this machine that it cannot do without, where that is known: that of the operating system's
    /// TCP.
    fn bound_to(&self) -> Option<IpAddr>;
}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> ByteStream for T {
    fn bound_to(&self) -> Option<IpAddr> {
        let any: &dyn Any = self;
        let local = any.downcast_ref::<TcpStream>()?.local_addr().ok()?;
        Some(local.ip().to_canonical())
    }
}

/// A stream of any kind.
pub type BoxStream = Box<dyn ByteStream>;

/// A stream on its way.
pub type Connecting<'a> = Pin<Box<dyn Future<Output = io::Result<BoxStream>> + Send + 'a>>;

/// A network of streams: the operating system's TCP, unless an endpoint is given another one with
/// [`Builder::stream_network`](crate::Builder::stream_network).
pub trait StreamNetwork: fmt::Debug + Send + Sync + 'static {
    /// Opens a stream to `remote`.
    fn connect(&self, remote: SocketAddr) -> Connecting<'_>;

    /// Accepts streams at `local`; port 0 for any free one. Called inside a tokio runtime.
    ///
    /// # Errors
    /// When the address cannot be used.
    fn listen(&self, local: SocketAddr) -> io::Result<Box<dyn StreamListener>>;
}

/// Where streams are accepted.
pub trait StreamListener: Send + 'static {
    /// The next stream, and whose it is. A passing error (a stream that is gone again, too few file
    /// descriptors) is followed by other streams.
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(BoxStream, SocketAddr)>>;

    /// Where it listens.
    ///
    /// # Errors
    /// When the listener is gone.
    fn local_addr(&self) -> io::Result<SocketAddr>;
}

/// Bytes that the system may hold unsent before it takes more (`TCP_NOTSENT_LOWAT`). What waits there
/// can neither expire nor be overtaken; too little leaves the network idle between two wake-ups.
// spec: CAR-12
const UNSENT_MAX: u32 = 16 << 10;

/// The operating system's TCP.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tcp;

impl StreamNetwork for Tcp {
    fn connect(&self, remote: SocketAddr) -> Connecting<'_> {
        Box::pin(async move { TcpStream::connect(remote).await.and_then(tuned) })
    }

    fn listen(&self, local: SocketAddr) -> io::Result<Box<dyn StreamListener>> {
        let listener = std::net::TcpListener::bind(local)?;
        listener.set_nonblocking(true)?;
        Ok(Box::new(TcpListener::from_std(listener)?))
    }
}

impl StreamListener for TcpListener {
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(BoxStream, SocketAddr)>> {
        let (stream, remote) = ready!(Self::poll_accept(self, cx))?;
        Poll::Ready(tuned(stream).map(|stream| (stream, remote)))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Self::local_addr(self)
    }
}

/// Datagrams leave at once, and few wait where they cannot be taken back.
fn tuned(stream: TcpStream) -> io::Result<BoxStream> {
    stream.set_nodelay(true)?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT_MAX)?;
    // Elsewhere the whole send buffer is kept small.
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    SockRef::from(&stream).set_send_buffer_size(8 * UNSENT_MAX as usize)?;
    Ok(Box::new(stream))
}
