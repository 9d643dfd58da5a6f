//! Datagrams through a proxy's relay (RFC 1928, section 7).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::BytesMut;
use jsp_wire::Route;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::UdpSocket;
use tokio::sync::{Notify, mpsc};

use super::stream::BoxStream;
use super::table::News;
use super::tunnel;
use crate::link::{Datagram, Transmit};
use crate::proxy::{UdpHeader, UdpRelay, strip_udp_header};
use crate::remote::Target;

/// Longest datagram that is taken from a relay.
const DATAGRAM_LEN_MAX: usize = 65_535;

/// One relay, for datagrams to one server.
pub(super) struct Association {
    socket: UdpSocket,
    header: UdpHeader,
    /// The relay lives as long as this stream does.
    control: Mutex<Option<BoxStream>>,
    retired: Notify,
}

impl Association {
    /// Datagrams to `target` by way of `relay`.
    pub(super) async fn new(relay: UdpRelay, target: &Target) -> io::Result<Arc<Self>> {
        let local = match relay.relay {
            SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
        };
        let socket = UdpSocket::bind(local).await?;
        socket.connect(relay.relay).await?;
        Ok(Arc::new(Self {
            socket,
            header: UdpHeader::new(target)?,
            control: Mutex::new(Some(relay.control)),
            retired: Notify::new(),
        }))
    }

    /// Bytes that each datagram grows by.
    pub(super) fn overhead(&self) -> usize {
        self.header.as_bytes().len()
    }

    /// Sends datagrams; what the system does not take at once is lost, as anywhere on the way.
    // spec: CAR-21
    pub(super) fn send(&self, transmit: &Transmit<'_>) {
        let mut wrapped = BytesMut::new();
        for datagram in transmit.contents.chunks(transmit.segment_len.max(1)) {
            wrapped.clear();
            wrapped.extend_from_slice(self.header.as_bytes());
            wrapped.extend_from_slice(datagram);
            let _ = self.socket.try_send(&wrapped);
        }
    }

    /// The address of this machine that datagrams leave from.
    pub(super) fn local(&self) -> Option<IpAddr> {
        self.socket.local_addr().ok().map(|addr| addr.ip().to_canonical())
    }

    pub(super) fn retire(&self) {
        self.retired.notify_one();
    }

    /// Takes datagrams until the relay or its use ends.
    pub(super) async fn run(self: Arc<Self>, id: u64, route: Route, news: mpsc::Sender<News>) {
        let control = self.control.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut control) = control {
            tokio::select! {
                () = self.receive(route, &news) => {}
                () = tunnel::drain(&mut control) => {}
                () = self.retired.notified() => {
                    // Last words pass.
                    tokio::time::sleep(tunnel::LINGER).await;
                }
            }
        }
        let _ = news.send(News::Closed(id)).await;
    }

    async fn receive(&self, route: Route, news: &mpsc::Sender<News>) {
        let mut buffer = BytesMut::zeroed(DATAGRAM_LEN_MAX);
        loop {
            let len = match self.socket.recv(&mut buffer).await {
                Ok(len) => len,
                // The system tells of a datagram of the past.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
                Err(_) => return,
            };
            let datagram = BytesMut::from(&buffer[..len]);
            let Some(payload) = strip_udp_header(datagram) else { continue };
            if news.send(News::Arrived(Datagram { route, ecn: None, payload })).await.is_err() {
                return;
            }
        }
    }
}
