//! The daemon's socket: STUN and the relay are served before the transport sees anything.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use jsp::link::{Datagram, Link, Route, Transmit, UdpLink};
use jsp_nat::{relay, stun};

use crate::hall::Hall;

/// The socket, and what is served at it.
#[derive(Debug)]
pub(crate) struct Socket {
    udp: UdpLink,
    hall: Arc<Hall>,
    stun: Option<SocketAddr>,
    answered: AtomicU64,
}

impl Socket {
    pub(crate) fn new(udp: UdpLink, hall: Arc<Hall>, stun: Option<SocketAddr>) -> Self {
        Self { udp, hall, stun, answered: AtomicU64::new(0) }
    }

    /// STUN requests answered.
    pub(crate) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Sends one datagram; one that cannot be sent now is lost, as any datagram may be.
    pub(crate) fn send(&self, route: Route, datagram: &[u8]) {
        let segment_len = datagram.len().max(1);
        let transmit = Transmit { route, ecn: None, contents: datagram, segment_len };
        let _ = self.udp.try_send(&transmit);
    }

    /// Serves what is not the transport's; true when the transport is to see it.
    // spec: RDV-6, RDV-20
    fn is_for_transport(&self, datagram: &Datagram) -> bool {
        let Route::Udp { local, remote } = datagram.route else { return true };
        match relay::classify(&datagram.payload) {
            relay::Class::Transport => return true,
            relay::Class::Punch => {}
            relay::Class::Stun => {
                if let Some(answer) = stun::answer(remote, &datagram.payload, self.stun) {
                    self.answered.fetch_add(1, Ordering::Relaxed);
                    self.send(Route::Udp { local, remote: answer.to }, &answer.payload);
                }
            }
            relay::Class::Relay => {
                if let Some((to, out)) = self.hall.forward(&datagram.route, &datagram.payload) {
                    self.send(to, &out);
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
}
