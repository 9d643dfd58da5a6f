//! Links: what carries datagrams for an endpoint.
//!
//! An endpoint normally makes a [`UdpLink`] by itself. Give it another one with
//! [`Builder::link`](crate::Builder::link): an emulated bad network from [`crate::emulate`], or your
//! own carrier.

mod buffers;
mod interfaces;
mod links;
mod outlet;
mod readiness;
#[cfg(target_os = "linux")]
mod steer;
mod udp;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};

pub use crate::carrier::table::CarrierSender;
pub(crate) use interfaces::{Further, Interfaces};
pub use jsp_proto::{Datagram, Ecn};
pub use jsp_wire::Route;
pub(crate) use links::{Base, Links};
pub use udp::UdpLink;

/// Datagrams to be sent in one call: all for one route, all of one length but for a shorter last.
#[derive(Clone, Copy, Debug)]
pub struct Transmit<'a> {
    /// Where they go.
    pub route: Route,
    /// The congestion mark that they carry.
    pub ecn: Option<Ecn>,
    /// The datagrams, one behind the other. Never empty.
    pub contents: &'a [u8],
    /// Length of each datagram but the last, in bytes. Never 0.
    pub segment_len: usize,
}

/// A carrier of datagrams. One driver task polls it; any task of the program may send.
///
/// None of the calls may block, nor call the endpoint or anything of it: [`Link::try_send`] runs while the endpoint is
/// locked, and would wait for ever. A link that loses, delays or reorders datagrams is normal; one that
/// changes them only costs time, as every datagram is authenticated.
pub trait Link: fmt::Debug + Send + Sync + 'static {
    /// Moves what has arrived to the end of `inbox`. `Pending` when nothing has: then the task of
    /// `cx` is woken when something may have arrived. An error ends the endpoint.
    fn poll_recv(&self, cx: &mut Context<'_>, inbox: &mut Vec<Datagram>) -> Poll<io::Result<()>>;

    /// The same for the first datagrams of clients that have no connection yet, where the link keeps them apart:
    /// a flood of them then holds up nobody else. The driver asks when it has time for some; most links keep
    /// nothing apart, and have nothing to say here. An error ends this way alone: it is not asked again, and first
    /// datagrams must come by [`Link::poll_recv`] from then on.
    fn poll_strangers(
        &self,
        _cx: &mut Context<'_>,
        _inbox: &mut Vec<Datagram>,
    ) -> Poll<io::Result<()>> {
        Poll::Pending
    }

    /// Moves what has arrived to the end of `inbox`, by a look at the carrier itself that wakes nobody later: for a driver
    /// that does not sleep ([`Builder::busy_poll`](crate::Builder::busy_poll)). A link that does not have it is asked
    /// by [`Link::poll_recv`] alone.
    ///
    /// # Errors
    /// They end the endpoint.
    fn try_recv(&self, _inbox: &mut Vec<Datagram>) -> io::Result<()> {
        Ok(())
    }

    /// Sends as much as the carrier takes at once and returns how many bytes of
    /// [`Transmit::contents`] that were, whole datagrams always. What the carrier can never send
    /// (no route, too large) counts as sent: it is lost, and the transport sees that.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when it takes nothing now; others end the endpoint.
    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<usize>;

    /// `Ready` when [`Link::try_send`] may take something; else wakes the task of `cx` when it may.
    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// The address that peers reach this end at.
    ///
    /// # Errors
    /// When the carrier is gone.
    fn local_addr(&self) -> io::Result<SocketAddr>;

    /// Looks at a datagram that a stream has brought ([`Route::Tunnel`]), before the transport does; false when it is
    /// not for the transport. A link that shares the endpoint's ways with something else takes that here.
    fn sort_carried(&self, _datagram: &mut Datagram) -> bool {
        true
    }

    /// Gives the link the means to send by the endpoint's carriers, once, before anything else happens.
    fn attach(&self, _carriers: CarrierSender) {}

    /// Most datagrams that one call of [`Link::try_send`] should carry: 1 where the carrier gains
    /// nothing from more.
    fn segments_max(&self) -> usize {
        1
    }
}
