//! Watching the addresses of this machine, so that connections hear of a change before silence tells.
//!
//! An endpoint asks the operating system to be told of changes while it has connections (on Linux; elsewhere it
//! does not watch). Whenever something may have changed, it looks which address the datagrams of
//! each path leave from, and gives the transport the hint that an application would give
//! ([`Connection::hint_path`](crate::Connection::hint_path)):
//!
//! | the address that a path leaves from | hint |
//! |---|---|
//! | is gone, or its interface, or the route | [`NetworkHint::InterfaceDown`](crate::NetworkHint::InterfaceDown) |
//! | is there again, or another has taken its place | [`NetworkHint::InterfaceUp`](crate::NetworkHint::InterfaceUp): a packet leaves at once, by which the peer learns of the new address. A server asks its client from there, which follows if it can ([`TransportConfig::follow_server`](crate::TransportConfig::follow_server)) |
//!
//! A carrier (TCP and what lies over it) is bound to the address that it was opened at: when that is gone, it is
//! closed at once, and the connection goes another way.
//!
//! A socket that is bound to no certain address leaves from another one by itself; an accepted connection stays at
//! the address at which it was begun, as long as that is there. What no path leaves from
//! (loopback, bridges, containers, another interface) causes nothing.
//!
//! Who has no connection, and waits for a network to make one, hears of addresses that come:
//! [`Endpoint::network_arrivals`](crate::Endpoint::network_arrivals).
//!
//! The first change after a quiet time is looked at once, further ones 20 ms after the last look at the
//! soonest; that time doubles, to 640 ms at most, while changes go on that concern no path.
//!
//! [`Builder::without_network_monitor`](crate::Builder::without_network_monitor) switches it off;
//! [`Builder::network_monitor`](crate::Builder::network_monitor) puts another source in the system's place, such
//! as [`Attachment::monitor`](crate::emulate::Attachment::monitor) of an emulated network.

mod arrivals;
mod follow;
mod origins;
mod pace;
#[cfg(target_os = "linux")]
mod system;

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::task::{Context, Poll};

pub use arrivals::Arrivals;
pub(crate) use follow::{Followed, machine_has, start};

/// Tells which addresses a machine has, and when that may have changed.
///
/// One task polls it. None of the calls may block for longer than a system call does.
pub trait NetworkMonitor: fmt::Debug + Send + 'static {
    /// Ready when addresses, interfaces or routes may have changed since the last time that it was;
    /// else wakes the task of `cx` when they may have.
    ///
    /// # Errors
    /// The endpoint watches no more.
    fn poll_changed(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// The addresses that datagrams can leave from at this moment: those of interfaces that are up and
    /// connected, without those of the loopback interface.
    ///
    /// # Errors
    /// The endpoint goes by what it knew, until the next change.
    fn addresses(&mut self) -> io::Result<Vec<IpAddr>>;

    /// The address that a datagram to `remote` would leave from, out of a socket that is bound to no certain
    /// address; `None` when there is no route.
    fn source(&mut self, remote: SocketAddr) -> Option<IpAddr>;
}

/// Where an endpoint hears of changes.
#[derive(Debug, Default)]
pub(crate) enum Source {
    /// From the operating system, where that is possible.
    #[default]
    System,
    /// From this monitor.
    Given(Box<dyn NetworkMonitor>),
}

impl Source {
    /// The monitor to ask from now on; `None` where there is none.
    fn open(&mut self) -> Option<Opened<'_>> {
        match self {
            #[cfg(target_os = "linux")]
            Self::System => system::Netlink::open().ok().map(Opened::System),
            #[cfg(not(target_os = "linux"))]
            Self::System => None,
            Self::Given(monitor) => Some(Opened::Given(monitor.as_mut())),
        }
    }
}

/// A monitor for as long as there are connections to watch for.
enum Opened<'a> {
    #[cfg(target_os = "linux")]
    System(system::Netlink),
    Given(&'a mut dyn NetworkMonitor),
}

impl Opened<'_> {
    fn monitor(&mut self) -> &mut dyn NetworkMonitor {
        match self {
            #[cfg(target_os = "linux")]
            Self::System(netlink) => netlink,
            Self::Given(monitor) => *monitor,
        }
    }
}
