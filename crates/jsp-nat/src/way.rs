//! By what datagrams travel between two peers: this host's socket, or a TURN server that lends it an address.

use std::net::SocketAddr;

/// What a datagram leaves this host by, and comes to it by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Leg {
    /// The socket itself.
    Socket,
    /// The address that a TURN server has lent: the other end sees that instead of this host's.
    Turn,
}

/// A way to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Way {
    /// What this host sends by.
    pub leg: Leg,
    /// Where it leads.
    pub remote: SocketAddr,
}

impl Way {
    /// By a TURN server.
    pub const fn turn(remote: SocketAddr) -> Self {
        Self { leg: Leg::Turn, remote }
    }
}

impl From<SocketAddr> for Way {
    /// By the socket itself.
    fn from(remote: SocketAddr) -> Self {
        Self { leg: Leg::Socket, remote }
    }
}
