//! A host whose datagrams somebody looks at as they leave.

use std::task::{Context, Poll};
use std::{fmt, io};

use jsp::link::{Datagram, Link, Transmit, UdpLink};
use std::net::SocketAddr;

/// A socket on loopback. What `leaves` answers false for is lost.
pub(crate) struct Tapped<F> {
    link: UdpLink,
    leaves: F,
}

impl<F: Fn(&Transmit<'_>) -> bool> Tapped<F> {
    pub(crate) fn new(leaves: F) -> Self {
        Self { link: UdpLink::bind(([127, 0, 0, 1], 0).into()).unwrap(), leaves }
    }
}

impl<F> fmt::Debug for Tapped<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tapped").field("link", &self.link).finish_non_exhaustive()
    }
}

impl<F: Fn(&Transmit<'_>) -> bool + Send + Sync + 'static> Link for Tapped<F> {
    fn poll_recv(&self, cx: &mut Context<'_>, inbox: &mut Vec<Datagram>) -> Poll<io::Result<()>> {
        self.link.poll_recv(cx, inbox)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<usize> {
        if (self.leaves)(transmit) {
            self.link.try_send(transmit)
        } else {
            Ok(transmit.contents.len())
        }
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.link.poll_writable(cx)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.link.local_addr()
    }

    fn segments_max(&self) -> usize {
        self.link.segments_max()
    }
}
