//! The link of an endpoint, and further sockets beside it: one for each further address of this machine that
//! a connection has a path from.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll};

use super::{Datagram, Link, Route, Transmit, UdpLink};
use crate::error::BindError;

/// Sockets beside the first, at most: a machine has few interfaces.
const FURTHER_MAX: usize = 16;

/// Everything that carries datagrams of an endpoint.
#[derive(Debug)]
pub(crate) struct Interfaces {
    first: Box<dyn Link>,
    further: RwLock<Vec<Arc<Further>>>,
    has_further: AtomicBool,
}

/// A socket at a certain address.
#[derive(Debug)]
struct Further {
    local: IpAddr,
    link: UdpLink,
}

impl Interfaces {
    pub(crate) fn new(first: Box<dyn Link>) -> Self {
        Self { first, further: RwLock::new(Vec::new()), has_further: AtomicBool::new(false) }
    }

    /// Binds a socket to an address of this machine, unless there is one; routes that name the address go by it.
    pub(crate) fn add(&self, local: IpAddr) -> Result<(), BindError> {
        let at = SocketAddr::new(local, 0);
        let mut further = self.further.write().unwrap_or_else(PoisonError::into_inner);
        if further.iter().any(|further| further.local == local) {
            return Ok(());
        }
        if further.len() >= FURTHER_MAX {
            let full = io::Error::other("there are sockets at as many addresses as are kept");
            return Err(BindError::new(at, full));
        }
        further.push(Arc::new(Further { local, link: UdpLink::bind(at)? }));
        self.has_further.store(true, Ordering::Release);
        Ok(())
    }

    /// All sockets beside the first.
    fn further(&self) -> Vec<Arc<Further>> {
        if !self.has_further.load(Ordering::Acquire) {
            return Vec::new();
        }
        self.further.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn by_route(&self, route: &Route) -> Option<Arc<Further>> {
        let Route::Udp { local: Some(local), .. } = route else { return None };
        self.further().into_iter().find(|further| further.local == *local)
    }
}

impl Link for Interfaces {
    fn poll_recv(&self, cx: &mut Context<'_>, inbox: &mut Vec<Datagram>) -> Poll<io::Result<()>> {
        let mut polled = self.first.poll_recv(cx, inbox);
        for further in self.further() {
            let start = inbox.len();
            // One address that is gone must not end the others.
            if let Poll::Ready(Ok(())) = further.link.poll_recv(cx, inbox) {
                polled = Poll::Ready(Ok(()));
            }
            for datagram in inbox.get_mut(start..).unwrap_or_default() {
                if let Route::Udp { local, .. } = &mut datagram.route {
                    *local = Some(further.local);
                }
            }
        }
        polled
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<usize> {
        let Some(further) = self.by_route(&transmit.route) else {
            return self.first.try_send(transmit);
        };
        match further.link.try_send(transmit) {
            // An address that is gone loses what goes there, and must not end the others.
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Ok(transmit.contents.len()),
            sent => sent,
        }
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut polled = self.first.poll_writable(cx);
        for further in self.further() {
            if further.link.poll_writable(cx).is_pending() && !matches!(polled, Poll::Ready(Err(_)))
            {
                polled = Poll::Pending;
            }
        }
        polled
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.first.local_addr()
    }

    fn segments_max(&self) -> usize {
        self.first.segments_max()
    }
}
