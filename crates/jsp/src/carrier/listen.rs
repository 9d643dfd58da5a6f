//! Accepting carriers: loops that take streams, within limits, and put layers over them.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::CarrierKind;
use super::places::{Place, Places};
use super::stream::{BoxStream, StreamListener};
use super::table::{Ends, Tunnels};
use super::tunnel::Wire;
use crate::task::task;

/// Time for the handshakes of the layers over a stream.
const LAYERS_MAX: Duration = Duration::from_secs(5);

/// Rest after an error of accepting, as when there are no more file descriptors.
const REST: Duration = Duration::from_millis(50);

/// What an endpoint listens for beside its socket.
pub(crate) struct Listening {
    pub(crate) addr: String,
    pub(crate) layers: ServerLayers,
}

/// What lies over accepted streams.
#[derive(Clone)]
pub(crate) enum ServerLayers {
    Plain,
    #[cfg(feature = "tls")]
    Tls(super::TlsServer),
    #[cfg(feature = "websocket")]
    WebSocket,
    #[cfg(all(feature = "tls", feature = "websocket"))]
    WebSocketTls(super::TlsServer),
}

impl ServerLayers {
    pub(crate) fn kind(&self) -> CarrierKind {
        match self {
            Self::Plain => CarrierKind::Tcp,
            #[cfg(feature = "tls")]
            Self::Tls(_) => CarrierKind::Tls,
            #[cfg(feature = "websocket")]
            Self::WebSocket => CarrierKind::WebSocket,
            #[cfg(all(feature = "tls", feature = "websocket"))]
            Self::WebSocketTls(_) => CarrierKind::WebSocket,
        }
    }

    async fn over(&self, stream: BoxStream) -> io::Result<Wire> {
        Ok(match self {
            Self::Plain => Wire::Framed(stream),
            #[cfg(feature = "tls")]
            Self::Tls(tls) => Wire::Framed(tls.accept(stream).await?),
            #[cfg(feature = "websocket")]
            Self::WebSocket => Wire::WebSocket(super::websocket::accept(stream).await?),
            #[cfg(all(feature = "tls", feature = "websocket"))]
            Self::WebSocketTls(tls) => {
                Wire::WebSocket(super::websocket::accept(tls.accept(stream).await?).await?)
            }
        })
    }
}

/// Streams of peers that have shown nothing yet.
/// Accepts streams until the task is ended.
pub(crate) async fn run(
    mut listener: Box<dyn StreamListener>,
    layers: ServerLayers,
    strangers: Arc<Places>,
    tunnels: Weak<Tunnels>,
) {
    loop {
        let accepted = poll_fn(|cx| listener.poll_accept(cx)).await;
        let (stream, remote) = match accepted {
            Ok(accepted) => accepted,
            Err(_) => {
                tokio::time::sleep(REST).await;
                continue;
            }
        };
        // Beyond the limit a stream is closed at once.
        let Some(place) = strangers.enter(remote) else { continue };
        tokio::spawn(task(greet(stream, remote, layers.clone(), place, Weak::clone(&tunnels))));
    }
}

/// Puts the layers over a stream, and keeps its place until it carries a connection or is gone.
// spec: CAR-7
async fn greet(
    stream: BoxStream,
    remote: SocketAddr,
    layers: ServerLayers,
    place: Place,
    tunnels: Weak<Tunnels>,
) {
    let local = (*stream).bound_to();
    let wire = match tokio::time::timeout(LAYERS_MAX, layers.over(stream)).await {
        Ok(Ok(wire)) => wire,
        Ok(Err(_)) | Err(_) => return,
    };
    let Some(tunnels) = tunnels.upgrade() else { return };
    tunnels.accept(layers.kind(), Ends { remote, local }, wire, place);
}
