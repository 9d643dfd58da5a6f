//! The link of an endpoint, and further sockets beside it: one for each further address of this machine that
//! connections have paths from, as long as they have.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::task::{Context, Poll};

use super::{Datagram, Link, Route, Transmit, UdpLink};
use crate::error::BindError;

/// Sockets beside the first, at most: a machine has few interfaces.
const FURTHER_MAX: usize = 16;

/// What the names of further sockets begin with: addresses that nothing is ever sent to (RFC 6666).
const DISCARD: u128 = 0x0100 << 112;

/// Everything that carries datagrams of an endpoint.
#[derive(Debug)]
pub(crate) struct Interfaces {
    first: Box<dyn Link>,
    further: RwLock<Table>,
    /// False while the table is empty.
    has_further: AtomicBool,
}

/// Further sockets. Each is held by those who use it, and closed when nobody does any more.
#[derive(Debug, Default)]
struct Table {
    sockets: Vec<Weak<Further>>,
    last: u64,
}

/// A socket at a certain address.
#[derive(Debug)]
pub(crate) struct Further {
    local: IpAddr,
    /// Stands for the local address in the routes of this socket. The address itself would not do: the
    /// endpoint's own socket may be reached at the same one, and what came there is answered from there.
    name: IpAddr,
    link: Box<dyn Link>,
}

impl Further {
    /// The way to `remote` by this socket.
    pub(crate) fn route(&self, remote: SocketAddr) -> Route {
        Route::Udp { local: Some(self.name), remote }
    }
}

impl Table {
    fn iter(&self) -> impl Iterator<Item = Arc<Further>> {
        self.sockets.iter().filter_map(Weak::upgrade)
    }

    fn add(&mut self, local: IpAddr, link: Box<dyn Link>) -> Arc<Further> {
        // Names do not come back: what is under way by a socket that is gone goes by no other.
        self.last += 1;
        let name = Ipv6Addr::from(DISCARD | u128::from(self.last)).into();
        let further = Arc::new(Further { local, name, link });
        self.sockets.push(Arc::downgrade(&further));
        further
    }
}

impl Interfaces {
    pub(crate) fn new(first: Box<dyn Link>) -> Self {
        Self { first, further: RwLock::default(), has_further: AtomicBool::new(false) }
    }

    /// A socket at an address of this machine, bound if nobody uses one there; it is there as long as it is held.
    pub(crate) fn further_at(&self, local: IpAddr) -> Result<Arc<Further>, BindError> {
        self.further_by(local, || Ok(Box::new(UdpLink::bind(SocketAddr::new(local, 0))?)))
    }

    fn further_by(
        &self,
        local: IpAddr,
        bind: impl FnOnce() -> Result<Box<dyn Link>, BindError>,
    ) -> Result<Arc<Further>, BindError> {
        let mut table = self.further.write().unwrap_or_else(PoisonError::into_inner);
        table.sockets.retain(|further| further.strong_count() > 0);
        if let Some(further) = table.iter().find(|further| further.local == local) {
            return Ok(further);
        }
        if table.sockets.len() >= FURTHER_MAX {
            let full = io::Error::other("there are sockets at as many addresses as are kept");
            return Err(BindError::new(SocketAddr::new(local, 0), full));
        }
        let further = table.add(local, bind()?);
        self.has_further.store(true, Ordering::Release);
        Ok(further)
    }

    /// All sockets beside the first.
    fn further(&self) -> Vec<Arc<Further>> {
        if !self.has_further.load(Ordering::Acquire) {
            return Vec::new();
        }
        let table = self.further.read().unwrap_or_else(PoisonError::into_inner);
        let further: Vec<_> = table.iter().collect();
        if further.is_empty() {
            // Nobody adds one meanwhile.
            self.has_further.store(false, Ordering::Release);
        }
        further
    }

    fn by_name(&self, name: IpAddr) -> Option<Arc<Further>> {
        let table = self.further.read().unwrap_or_else(PoisonError::into_inner);
        table.iter().find(|further| further.name == name)
    }

    /// The route as it is outside of the endpoint: with the address of the socket instead of its name.
    pub(crate) fn outward(&self, route: Route) -> Route {
        match further_name(&route) {
            None => route,
            Some((name, remote)) => {
                Route::Udp { local: self.by_name(name).map(|further| further.local), remote }
            }
        }
    }
}

/// The name of the further socket that a route takes, if it takes one.
fn further_name(route: &Route) -> Option<(IpAddr, SocketAddr)> {
    match *route {
        Route::Udp { local: Some(name @ IpAddr::V6(bits)), remote } => {
            let is_name = bits.to_bits() & !u128::from(u64::MAX) == DISCARD;
            is_name.then_some((name, remote))
        }
        _ => None,
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
                    *local = Some(further.name);
                }
            }
        }
        polled
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<usize> {
        let Some((name, remote)) = further_name(&transmit.route) else {
            return self.first.try_send(transmit);
        };
        // The last words of a path whose socket is gone are lost, and go by no other socket.
        let Some(further) = self.by_name(name) else { return Ok(transmit.contents.len()) };
        match further.link.try_send(&Transmit { route: Route::udp(remote), ..*transmit }) {
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
