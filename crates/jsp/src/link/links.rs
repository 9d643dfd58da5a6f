//! All links of an endpoint: its socket, or another link in its place, and carriers beside it.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};

use super::{Datagram, Further, Interfaces, Link, Transmit};
use crate::carrier::CarrierKind;
use crate::carrier::table::{News, Tunnels};
use crate::error::{AddPathError, BindError};
use crate::link::Route;

/// What an endpoint has for datagrams.
pub(crate) enum Base {
    /// A socket, or what stands for one.
    Link(Interfaces),
    /// Nothing: the endpoint uses carriers alone. Its listeners' address.
    Nothing(SocketAddr),
}

impl Base {
    /// This link, with room for sockets at further addresses beside it.
    pub(crate) fn over(link: Box<dyn Link>) -> Self {
        Self::Link(Interfaces::new(link))
    }

    /// Opens a further socket where the endpoint would rather be reached. Answers where it is.
    pub(crate) fn prefer(&mut self, addr: SocketAddr) -> Result<SocketAddr, BindError> {
        match self {
            Self::Link(link) => link.prefer(addr),
            Self::Nothing(_) => Err(BindError::Config("this endpoint uses carriers alone")),
        }
    }
}

/// Every way out of an endpoint.
pub(crate) struct Links {
    base: Base,
    /// What carriers bring is taken here, and not by another shard.
    hears_carriers: bool,
    pub(crate) tunnels: Arc<Tunnels>,
}

impl Links {
    pub(crate) fn new(base: Base, hears_carriers: bool, tunnels: Arc<Tunnels>) -> Self {
        if let Base::Link(link) = &base {
            link.attach(tunnels.sender());
        }
        Self { base, hears_carriers, tunnels }
    }

    /// Moves what has arrived to the end of `inbox`, and what carriers have to tell to the end of
    /// `news`. `Pending` when there is nothing; then the task of `cx` is woken.
    pub(crate) fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        inbox: &mut Vec<Datagram>,
        news: &mut Vec<News>,
    ) -> Poll<io::Result<()>> {
        let sorted = news.len();
        let carried = if self.hears_carriers { self.tunnels.poll(cx, news) } else { Poll::Pending };
        let Base::Link(link) = &self.base else { return carried.map(Ok) };
        let is_for_others = |news: &mut News| match news {
            News::Arrived(datagram) if datagram.route.is_reliable() => !link.sort_carried(datagram),
            News::Arrived(_) | News::Drained(_) | News::Closed(_) => false,
        };
        news.extract_if(sorted.., is_for_others).for_each(drop);
        match link.poll_recv(cx, inbox) {
            Poll::Pending => carried.map(Ok),
            ready => ready,
        }
    }

    /// As [`Link::try_recv`].
    pub(crate) fn try_recv(&self, inbox: &mut Vec<Datagram>) -> io::Result<()> {
        match &self.base {
            Base::Link(link) => link.try_recv(inbox),
            Base::Nothing(_) => Ok(()),
        }
    }

    /// As [`Link::poll_strangers`].
    pub(crate) fn poll_strangers(
        &self,
        cx: &mut Context<'_>,
        inbox: &mut Vec<Datagram>,
    ) -> Poll<io::Result<()>> {
        match &self.base {
            Base::Link(link) => link.poll_strangers(cx, inbox),
            Base::Nothing(_) => Poll::Pending,
        }
    }

    /// A further socket at an address of this machine, for [`Further::route`]s; there as long as it is held.
    pub(crate) fn further_at(&self, local: IpAddr) -> Result<Arc<Further>, AddPathError> {
        match &self.base {
            Base::Link(link) => Ok(link.further_at(local)?),
            Base::Nothing(_) => Err(AddPathError::NotPlain),
        }
    }

    /// As [`Link::try_send`], by whichever link the route takes.
    pub(crate) fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<usize> {
        let is_carried = !matches!(transmit.route, Route::Udp { .. });
        // What was for a stream that has ended is lost.
        if is_carried && (self.tunnels.send(transmit) || transmit.route.is_reliable()) {
            return Ok(transmit.contents.len());
        }
        match &self.base {
            Base::Link(link) => link.try_send(transmit),
            // Nobody is there who could take it: lost.
            Base::Nothing(_) => Ok(transmit.contents.len()),
        }
    }

    pub(crate) fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.base {
            Base::Link(link) => link.poll_writable(cx),
            Base::Nothing(_) => Poll::Ready(Ok(())),
        }
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        match &self.base {
            Base::Link(link) => link.local_addr(),
            Base::Nothing(addr) => Ok(*addr),
        }
    }

    pub(crate) fn segments_max(&self) -> usize {
        match &self.base {
            Base::Link(link) => link.segments_max(),
            Base::Nothing(_) => 1,
        }
    }

    /// The route as it is outside of the endpoint.
    pub(crate) fn outward(&self, route: Route) -> Route {
        match &self.base {
            Base::Link(link) => link.outward(route),
            Base::Nothing(_) => route,
        }
    }

    /// Whether the address that a route leaves from is gone; `has` tells of the machine's. Further sockets keep theirs.
    pub(crate) fn has_lost(&self, route: &Route, has: impl FnOnce(IpAddr) -> bool) -> bool {
        match *route {
            Route::Udp { local: Some(local), .. } if self.outward(*route) == *route => !has(local),
            _ => false,
        }
    }

    /// What kind of carrier a route takes.
    pub(crate) fn kind_of(&self, route: &Route) -> CarrierKind {
        self.tunnels.describe(route).map_or(CarrierKind::Udp, |(kind, _)| kind)
    }

    /// Where a route leads, for routes that have no address of their own.
    pub(crate) fn remote_of(&self, route: &Route) -> Option<SocketAddr> {
        route.remote().or_else(|| self.tunnels.describe(route).map(|(_, remote)| remote))
    }
}

impl fmt::Debug for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.base {
            Base::Link(link) => link.fmt(f),
            Base::Nothing(addr) => write!(f, "carriers alone, at {addr}"),
        }
    }
}
