//! What a peer has in the place of a socket when it may use a proxy alone.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::task::{Context, Poll};

use crate::link::{Datagram, Link, Transmit};

/// A link that nothing comes by, and nothing leaves by: there is no socket.
// spec: RDV-30
#[derive(Debug)]
pub(super) struct NoUdp;

impl Link for NoUdp {
    fn poll_recv(&self, _cx: &mut Context<'_>, _inbox: &mut Vec<Datagram>) -> Poll<io::Result<()>> {
        Poll::Pending
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<usize> {
        Ok(transmit.contents.len())
    }

    fn poll_writable(&self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)))
    }
}
