//! What Linux tells: that something changed by a netlink socket (rtnetlink(7)), and what is there by asking.
//!
//! Netlink's messages are only counted as a bell. Keeping a picture by applying them would go wrong with the first
//! that is lost, which the kernel allows itself; and which address a datagram leaves from is not in them, but what
//! the kernel answers when a socket is connected.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::task::{Context, Poll, ready};

use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::libc;
use nix::net::if_::InterfaceFlags;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, SockaddrStorage, bind,
    recv, socket,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::NetworkMonitor;

/// What is told of: interfaces (with their carrier), addresses and routes.
const GROUPS: i32 = libc::RTMGRP_LINK
    | libc::RTMGRP_IPV4_IFADDR
    | libc::RTMGRP_IPV4_ROUTE
    | libc::RTMGRP_IPV6_IFADDR
    | libc::RTMGRP_IPV6_ROUTE;

/// Messages taken in one go: the task gives way to others in a storm.
const MESSAGES: usize = 256;

/// A socket that hears of changes. It opens no port and sends nothing.
#[derive(Debug)]
pub(super) struct Netlink {
    socket: AsyncFd<OwnedFd>,
}

impl Netlink {
    /// Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// Where a sandbox forbids it.
    #[allow(deprecated, reason = "this use is sound, and unsafe code is denied")]
    pub(super) fn open() -> io::Result<Self> {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let protocol = SockProtocol::NetlinkRoute;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, GROUPS.unsigned_abs()))?;
        // The newer form of this call is `unsafe`, as a value might change its file descriptor while it is
        // registered. An owned descriptor stays what it is.
        Ok(Self { socket: AsyncFd::with_interest(socket, Interest::READABLE)? })
    }
}

/// Takes messages, none of which is read: what does not fit the buffer is dropped. Answers how many there were;
/// fewer than could be when no more wait.
fn drain(socket: &OwnedFd) -> io::Result<usize> {
    for count in 0..MESSAGES {
        match recv(socket.as_raw_fd(), &mut [0; 16], MsgFlags::empty()) {
            // Some were lost: that is a bell too.
            Ok(_) | Err(Errno::ENOBUFS | Errno::EINTR) => {}
            Err(Errno::EAGAIN) => return Ok(count),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(MESSAGES)
}

impl NetworkMonitor for Netlink {
    fn poll_changed(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.socket.poll_read_ready(cx))?;
            let count = drain(self.socket.get_ref())?;
            if count < MESSAGES {
                guard.clear_ready();
            }
            if count > 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }

    fn addresses(&mut self) -> io::Result<Vec<IpAddr>> {
        let usable = InterfaceFlags::IFF_UP | InterfaceFlags::IFF_RUNNING;
        let found = getifaddrs()?.filter(|found| {
            let is_loopback = found.flags.contains(InterfaceFlags::IFF_LOOPBACK);
            found.flags.contains(usable) && !is_loopback
        });
        Ok(found.filter_map(|found| ip(&found.address?)).collect())
    }

    fn source(&mut self, remote: SocketAddr) -> Option<IpAddr> {
        let any: IpAddr = match remote {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((any, 0)).ok()?;
        // Sends nothing: the kernel picks a route, and the address that goes with it.
        socket.connect(remote).ok()?;
        socket.local_addr().ok().map(|addr| addr.ip())
    }
}

fn ip(addr: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = addr.as_sockaddr_in().map(|addr| IpAddr::V4(addr.ip()));
    v4.or_else(|| addr.as_sockaddr_in6().map(|addr| IpAddr::V6(addr.ip())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    #[tokio::test]
    async fn the_system_answers_and_keeps_silent_while_nothing_changes() {
        // Sandboxes may forbid netlink.
        let Ok(mut netlink) = Netlink::open() else { return };
        let home = SocketAddr::from(([127, 0, 0, 1], 9));
        assert_eq!(netlink.source(home), Some(home.ip()));
        let addresses = netlink.addresses().unwrap();
        assert!(addresses.iter().all(|addr| !addr.is_loopback()), "{addresses:?}");
        // On a machine whose network moves just now there may be news: then nothing is wrong either.
        let told = poll_fn(|cx| Poll::Ready(netlink.poll_changed(cx))).await;
        assert!(matches!(told, Poll::Pending | Poll::Ready(Ok(()))), "{told:?}");
    }
}
