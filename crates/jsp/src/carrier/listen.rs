//! Accepting carriers: loops that take streams, within limits, and put layers over them.

use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use super::CarrierKind;
use super::stream::{BoxStream, StreamListener};
use super::table::Tunnels;
use super::tunnel::Wire;

/// Streams that carry no established connection yet: of all peers together.
// spec: CAR-8
const STRANGERS_MAX: usize = 1024;

/// And of one network, an IPv4 /24 or an IPv6 /56.
const STRANGERS_PER_PREFIX: usize = 32;

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
#[derive(Default)]
pub(crate) struct Strangers {
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    total: usize,
    by_prefix: HashMap<[u8; 8], usize>,
}

/// A stranger's place; given back when it is dropped.
struct Place {
    strangers: Arc<Strangers>,
    prefix: [u8; 8],
}

impl Strangers {
    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a stream of `remote`, while there are any.
    // spec: CAR-8
    fn enter(self: &Arc<Self>, remote: SocketAddr) -> Option<Place> {
        let prefix = prefix_of(remote.ip());
        let mut counts = self.lock();
        if counts.total >= STRANGERS_MAX {
            return None;
        }
        let count = counts.by_prefix.entry(prefix).or_default();
        if *count >= STRANGERS_PER_PREFIX {
            return None;
        }
        *count += 1;
        counts.total += 1;
        drop(counts);
        Some(Place { strangers: Arc::clone(self), prefix })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.strangers.lock();
        counts.total = counts.total.saturating_sub(1);
        if let Some(count) = counts.by_prefix.get_mut(&self.prefix) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                counts.by_prefix.remove(&self.prefix);
            }
        }
    }
}

/// Addresses that one party easily has many of.
fn prefix_of(ip: IpAddr) -> [u8; 8] {
    match ip.to_canonical() {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            [4, a, b, c, 0, 0, 0, 0]
        }
        IpAddr::V6(address) => {
            let [a, b, c, d, e, f, g, ..] = address.octets();
            [6, a, b, c, d, e, f, g]
        }
    }
}

/// Accepts streams until the task is ended.
pub(crate) async fn run(
    mut listener: Box<dyn StreamListener>,
    layers: ServerLayers,
    strangers: Arc<Strangers>,
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
        tokio::spawn(greet(stream, remote, layers.clone(), place, Weak::clone(&tunnels)));
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
    let wire = match tokio::time::timeout(LAYERS_MAX, layers.over(stream)).await {
        Ok(Ok(wire)) => wire,
        Ok(Err(_)) | Err(_) => return,
    };
    let Some(tunnels) = tunnels.upgrade() else { return };
    tunnels.accept(layers.kind(), remote, wire, Box::new(place));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    /// spec-test: CAR-8
    fn a_network_has_a_share_of_the_places() {
        let strangers = Arc::<Strangers>::default();
        let enter = |text: &str| strangers.enter(text.parse().unwrap());
        let places: Vec<_> = (0..STRANGERS_PER_PREFIX)
            .map(|n| enter(&format!("192.0.2.{n}:{}", 1000 + n)).unwrap())
            .collect();
        assert!(enter("192.0.2.200:9").is_none());
        assert!(enter("[::ffff:192.0.2.200]:9").is_none());
        assert!(enter("192.0.3.1:9").is_some());
        drop(places);
        assert!(enter("192.0.2.200:9").is_some());
        let all: Vec<_> = (0..STRANGERS_MAX)
            .map(|n| enter(&format!("10.{}.{}.1:9", n / 250, n % 250)).unwrap())
            .collect();
        assert!(enter("203.0.113.1:9").is_none());
        drop(all);
        assert_eq!(strangers.lock().total, 0);
        assert!(strangers.lock().by_prefix.is_empty());
    }
}
