//! How a datagram travels.

use core::fmt;
use core::net::{IpAddr, SocketAddr};

/// The way that datagrams of a path take. A relayed peer or a tunnel is not an address, so it never
/// poses as one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub enum Route {
    /// Plain UDP. `local` is the address that the datagram arrived at, where the system tells it.
    Udp {
        /// Our address, when known.
        local: Option<IpAddr>,
        /// The peer's address.
        remote: SocketAddr,
    },
    /// Through a relay that sees sealed datagrams only.
    Relayed {
        /// The relay's address.
        via: SocketAddr,
        /// The relay's name for the peer.
        peer: u64,
    },
    /// Through a carrier that is itself a reliable connection (TCP, TLS, WebSocket), numbered by the
    /// driver.
    Tunnel {
        /// The driver's number for the carrier.
        id: u64,
    },
}

impl Route {
    /// Plain UDP to `remote` from whichever local address the system picks.
    pub const fn udp(remote: SocketAddr) -> Self {
        Self::Udp { local: None, remote }
    }

    /// The same end of the peer. Over plain UDP that is the remote address alone: our own address
    /// may be another, or unknown, since a datagram is answered from whichever the system picks.
    pub fn same_peer(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Udp { remote: a, .. }, Self::Udp { remote: b, .. }) => a == b,
            _ => self == other,
        }
    }

    /// The same two ends, as far as both routes know them.
    pub fn same_ends(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Udp { local: Some(a), .. }, Self::Udp { local: Some(b), .. }) if a != b => false,
            _ => self.same_peer(other),
        }
    }

    /// True when what carries the datagrams brings all of them, in order, and spreads them over time
    /// itself: a stream of its own kind.
    pub const fn is_reliable(&self) -> bool {
        matches!(self, Self::Tunnel { .. })
    }

    /// The address datagrams are sent to, for routes that have one.
    pub const fn remote(&self) -> Option<SocketAddr> {
        match self {
            Self::Udp { remote, .. } => Some(*remote),
            Self::Relayed { via, .. } => Some(*via),
            Self::Tunnel { .. } => None,
        }
    }

    /// The bytes that a cookie binds: kind, address and port of the peer's end.
    // spec: WIRE-38
    pub fn to_cookie_bytes(&self) -> [u8; 27] {
        let mut out = [0u8; 27];
        let (kind, addr, number) = match self {
            Self::Udp { remote, .. } => (1, Some(*remote), 0),
            Self::Relayed { via, peer } => (2, Some(*via), *peer),
            Self::Tunnel { id } => (3, None, *id),
        };
        let ip = match addr.map(|a| a.ip()) {
            Some(IpAddr::V4(v4)) => v4.to_ipv6_mapped().octets(),
            Some(IpAddr::V6(v6)) => v6.octets(),
            None => [0; 16],
        };
        let port = addr.map_or(0, |a| a.port()).to_be_bytes();
        let fields = [kind].into_iter().chain(ip).chain(port).chain(number.to_be_bytes());
        for (slot, byte) in out.iter_mut().zip(fields) {
            *slot = byte;
        }
        out
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Udp { remote, .. } => write!(f, "udp {remote}"),
            Self::Relayed { via, peer } => write!(f, "relay {via} peer {peer:x}"),
            Self::Tunnel { id } => write!(f, "tunnel {id}"),
        }
    }
}
