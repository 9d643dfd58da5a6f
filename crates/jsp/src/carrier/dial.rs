//! Opening carriers.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::association::Association;
use super::stream::{BoxStream, StreamNetwork};
use super::table::{Ends, Held, Tunnels};
use super::tunnel::Wire;
use super::{Carrier, Layers};
use crate::proxy::Proxy;
use crate::remote::Target;

/// Longest time that opening a carrier takes.
const DIAL_MAX: Duration = Duration::from_secs(10);

/// How this endpoint opens streams.
#[derive(Clone)]
pub(crate) struct Dialer {
    pub(crate) network: Arc<dyn StreamNetwork>,
    pub(crate) proxy: Option<Proxy>,
    pub(crate) tunnels: Arc<Tunnels>,
}

/// An open way, and what it means for datagrams.
pub(crate) struct Opened {
    pub(crate) held: Held,
    /// Bytes that each datagram grows by outside of the transport's sight.
    pub(crate) overhead: usize,
    /// Who was reached: the server, or the proxy.
    pub(crate) remote: SocketAddr,
}

impl Dialer {
    /// Opens `carrier` to `target`.
    ///
    /// # Errors
    /// When the network, the proxy or a layer refuses, or time is up.
    pub(crate) async fn dial(&self, carrier: &Carrier, target: &Target) -> io::Result<Opened> {
        in_time(async {
            let target = carrier.at(target);
            let (stream, remote) = self.stream(&target).await?;
            let local = (*stream).bound_to();
            let wire = layer(&carrier.layers, stream, &target).await?;
            let held = self.tunnels.hold(carrier.kind(), Ends { remote, local }, wire);
            Ok(Opened { held, overhead: 0, remote })
        })
        .await
    }

    /// Asks the proxy for a relay of datagrams to `target`.
    ///
    /// # Errors
    /// As [`Dialer::dial`].
    pub(crate) async fn associate(&self, target: &Target) -> io::Result<Opened> {
        let Some(proxy) = &self.proxy else { return Err(io::ErrorKind::Unsupported.into()) };
        in_time(async {
            let relay = proxy.associate(&*self.network).await?;
            let remote = relay.relay;
            let association = Association::new(relay, target).await?;
            let overhead = association.overhead();
            Ok(Opened {
                held: self.tunnels.hold_association(remote, association),
                overhead,
                remote,
            })
        })
        .await
    }

    async fn stream(&self, target: &Target) -> io::Result<(BoxStream, SocketAddr)> {
        match (&self.proxy, target) {
            (Some(proxy), target) => proxy.connect(&*self.network, target).await,
            (None, Target::Addr(addr)) => Ok((self.network.connect(*addr).await?, *addr)),
            // Names are resolved before, unless a proxy does it.
            (None, Target::Name(..)) => Err(io::ErrorKind::AddrNotAvailable.into()),
        }
    }
}

async fn in_time(dial: impl Future<Output = io::Result<Opened>>) -> io::Result<Opened> {
    match tokio::time::timeout(DIAL_MAX, dial).await {
        Ok(result) => result,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// Puts what belongs over the stream over it.
#[allow(unused_variables, reason = "plain TCP has no layer that names its server")]
async fn layer(layers: &Layers, stream: BoxStream, target: &Target) -> io::Result<Wire> {
    Ok(match layers {
        Layers::Plain => Wire::Framed(stream),
        #[cfg(feature = "tls")]
        Layers::Tls(tls) => Wire::Framed(tls.connect(stream, target).await?),
        #[cfg(feature = "websocket")]
        Layers::WebSocket(path) => {
            Wire::WebSocket(super::websocket::connect(stream, "ws", target, path).await?)
        }
        #[cfg(all(feature = "tls", feature = "websocket"))]
        Layers::WebSocketTls(tls, path) => {
            let stream = tls.connect(stream, target).await?;
            Wire::WebSocket(super::websocket::connect(stream, "wss", target, path).await?)
        }
    })
}
