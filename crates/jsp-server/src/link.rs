//! The daemon's socket: STUN and the relay are served before the transport sees anything.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use jsp::link::{CarrierSender, Datagram, Ecn, Link, Route, Transmit, UdpLink};
use jsp_nat::{relay, stun};

use crate::hall::Hall;

/// The socket, and what is served at it.
#[derive(Debug)]
pub(crate) struct Socket {
    udp: UdpLink,
    /// The streams that clients have come by.
    streams: OnceLock<CarrierSender>,
    hall: Arc<Hall>,
    stun: Option<SocketAddr>,
    answered: AtomicU64,
    /// Datagrams that the receiver, or the socket, did not take.
    dropped: AtomicU64,
}

impl Socket {
    pub(crate) fn new(udp: UdpLink, hall: Arc<Hall>, stun: Option<SocketAddr>) -> Self {
        let (streams, answered, dropped) = Default::default();
        Self { udp, streams, hall, stun, answered, dropped }
    }

    /// STUN requests answered.
    pub(crate) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Datagrams that were dropped because who was to have them does not take as much.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Sends one datagram; one that cannot be sent now is lost, as any datagram may be.
    // spec: RDV-126, RDV-127
    pub(crate) fn send(&self, route: Route, ecn: Option<Ecn>, datagram: &[u8]) {
        let segment_len = datagram.len().max(1);
        let transmit = Transmit { route, ecn, contents: datagram, segment_len };
        let is_taken = match route {
            Route::Tunnel { .. } => {
                self.streams.get().is_some_and(|streams| streams.send(&route, datagram))
            }
            Route::Udp { .. } | Route::Relayed { .. } => self.udp.try_send(&transmit).is_ok(),
        };
        if !is_taken {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Serves what is not the transport's; true when the transport is to see it.
    // spec: RDV-6, RDV-20
    fn is_for_transport(&self, datagram: &Datagram) -> bool {
        match relay::classify(&datagram.payload) {
            relay::Class::Transport => return true,
            relay::Class::Punch => {}
            relay::Class::Stun => {
                // In a stream nobody asks: the address there is of no use for datagrams.
                if let Route::Udp { local, remote } = datagram.route
                    && let Some(answer) = stun::answer(remote, &datagram.payload, self.stun)
                {
                    self.answered.fetch_add(1, Ordering::Relaxed);
                    self.send(Route::Udp { local, remote: answer.to }, None, &answer.payload);
                }
            }
            relay::Class::Relay => {
                if let Some((to, out, is_congested)) =
                    self.hall.forward(&datagram.route, &datagram.payload)
                {
                    // spec: RDV-128
                    let ecn = datagram.ecn.map(|ecn| if is_congested { Ecn::Ce } else { ecn });
                    self.send(to, ecn, &out);
                }
            }
        }
        false
    }
}

/// The transport's view of the socket.
#[derive(Debug)]
pub(crate) struct ServerLink(pub(crate) Arc<Socket>);

impl Link for ServerLink {
    fn poll_recv(&self, cx: &mut Context<'_>, inbox: &mut Vec<Datagram>) -> Poll<io::Result<()>> {
        let old = inbox.len();
        match self.0.udp.poll_recv(cx, inbox) {
            Poll::Ready(Ok(())) => {}
            other => return other,
        }
        let mut new = inbox.split_off(old);
        new.retain(|datagram| self.0.is_for_transport(datagram));
        inbox.append(&mut new);
        // Also when all was served here: a flood of it must not hold the driver.
        Poll::Ready(Ok(()))
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<usize> {
        self.0.udp.try_send(transmit)
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.udp.poll_writable(cx)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.udp.local_addr()
    }

    fn segments_max(&self) -> usize {
        self.0.udp.segments_max()
    }

    fn sort_carried(&self, datagram: &mut Datagram) -> bool {
        self.0.is_for_transport(datagram)
    }

    fn attach(&self, streams: CarrierSender) {
        // There is one endpoint, which attaches once.
        let _ = self.0.streams.set(streams);
    }
}
