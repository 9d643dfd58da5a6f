//! What a world is made of, as a list: a server, clients with their scripts, links between them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use jsp_proto::{PathUse, RetryPolicy, TransportConfig};
use jsp_wire::Instant;

use crate::app::Script;
use crate::flow::{Pair, Side};
use crate::link::LinkConfig;
use crate::peer::quinn::QuinnControl;
use crate::resumption::Resumes;

/// The server of a world.
#[derive(Clone, Debug)]
pub struct Server {
    /// When it asks for a proof of address.
    pub retry: RetryPolicy,
    /// How its connections behave. Where it prefers an address, only [`SERVER_OTHER`] leads to it.
    pub transport: TransportConfig,
}

impl Default for Server {
    fn default() -> Self {
        Self { retry: RetryPolicy::Never, transport: TransportConfig::default() }
    }
}

impl Server {
    /// It can be reached at its other address too.
    pub(crate) fn has_other(&self) -> bool {
        self.transport.preferred.v4 == Some(SERVER_OTHER)
    }
}

/// What a client and its server speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Protocol {
    /// JetStreamProto.
    #[default]
    Jsp,
    /// QUIC, as quinn-proto does it.
    Quinn(QuinnControl),
}

/// A client, which makes one connection.
#[derive(Clone, Debug, Default)]
pub struct Client {
    /// What it speaks, and the server with it.
    pub protocol: Protocol,
    /// When it connects.
    pub connect_at: Instant,
    /// Whether it has been there before.
    pub resumes: Resumes,
    /// Travelling time between it and its path's link, one way: clients that share a link may live
    /// at different distances.
    pub access: Duration,
    /// How its connection behaves.
    pub transport: TransportConfig,
    /// What both ends of the connection do.
    pub script: Script,
    /// When its address changes, as seen by the server; sorted. What travels to the old one is lost.
    pub rebinds: Vec<Instant>,
    /// Its application tells the transport of each of them.
    pub hints: bool,
    /// Its endpoint takes connections too, and so its own connection has ids.
    pub listens: bool,
    /// It has a second interface, on the second of the world's paths that it belongs to.
    pub second: Option<Second>,
}

/// A client's second interface.
#[derive(Clone, Debug)]
pub struct Second {
    /// When the client opens a path over it, or as soon after that as it can.
    pub opens_at: Instant,
    /// When it gives that path up, if it does.
    pub ends_at: Option<Instant>,
    /// When it gives the path over its first interface up, if it does; without another path it stays.
    pub first_ends_at: Option<Instant>,
    /// What the path over the second is for.
    pub usage: PathUse,
    /// When the first interface goes down and comes up again, and the application says so; sorted.
    pub downs: Vec<(Instant, Instant)>,
}

/// A path between some clients, who share it, and the server.
#[derive(Clone, Debug)]
pub struct Path {
    /// Clients by the order of their adding, from 0. Each belongs to one path, or to two: the first is that
    /// of its first interface.
    pub clients: Vec<Pair>,
    /// Towards the server.
    pub up: LinkConfig,
    /// Towards the clients.
    pub down: LinkConfig,
}

impl Path {
    /// A path for the first client, alike in both directions.
    pub fn both_ways(link: LinkConfig) -> Self {
        Self { clients: vec![0], up: link.clone(), down: link }
    }
}

/// How the connections of a world end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Farewell {
    /// One side closes.
    Close(Side),
    /// Both sides close at the same instant.
    CloseBoth,
    /// One side disappears: the other must find out.
    Vanish(Side),
}

/// Everything about a world before it begins.
#[derive(Clone, Debug)]
pub struct Topology {
    /// All chance in the world comes from here.
    pub seed: u64,
    /// The server.
    pub server: Server,
    /// The clients.
    pub clients: Vec<Client>,
    /// The paths.
    pub paths: Vec<Path>,
    /// When the last fault of any link is over.
    pub faults_end: Instant,
    /// Time beyond 30 s after the faults that slow links and slow readers need for what they have.
    pub allowance: Duration,
    /// How it ends.
    pub farewell: Farewell,
    /// The key under which all datagrams are wrapped, if they are.
    pub obfuscation: Option<[u8; 32]>,
}

impl Topology {
    /// A world with a server and nothing else.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            server: Server::default(),
            clients: Vec::new(),
            paths: Vec::new(),
            faults_end: Instant::ZERO,
            allowance: Duration::ZERO,
            farewell: Farewell::Close(Side::Client),
            obfuscation: None,
        }
    }

    /// The same with this server.
    pub fn server(mut self, server: Server) -> Self {
        self.server = server;
        self
    }

    /// The same with a further client.
    pub fn client(mut self, client: Client) -> Self {
        self.clients.push(client);
        self
    }

    /// The same with a further path.
    pub fn path(mut self, path: Path) -> Self {
        self.paths.push(path);
        self
    }
}

/// Where the server is.
pub const SERVER_ADDRESS: SocketAddr =
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), 4433);

/// Another address of the server, for worlds in which it prefers one.
pub const SERVER_OTHER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 2), 4433);

/// Where a server is that roams, after so many changes: it comes back to [`SERVER_ADDRESS`] with every third.
pub fn server_address(changes: usize) -> SocketAddr {
    let host = match changes % 3 {
        0 => 1,
        n => n as u8 + 2,
    };
    SocketAddr::from(([10, 0, 0, host], SERVER_ADDRESS.port()))
}

/// A client's address after so many changes.
pub fn client_address(pair: Pair, changes: usize) -> SocketAddr {
    SocketAddr::from((host(pair, 0), FIRST_PORT + changes as u16))
}

/// The address of a client's second interface, which does not change.
pub fn second_address(pair: Pair) -> SocketAddr {
    SocketAddr::from((host(pair, 1), FIRST_PORT))
}

fn host(pair: Pair, interface: u32) -> Ipv4Addr {
    Ipv4Addr::from(CLIENT_NET + ((pair + 1) << 8) + 1 + interface)
}

/// Which of a client's interfaces has this address, from 0.
pub fn interface_of(address: IpAddr) -> usize {
    match address {
        IpAddr::V4(host) => usize::from(host.octets()[3].saturating_sub(1)),
        IpAddr::V6(_) => 0,
    }
}

/// Whose address it is; `None` for the server's.
pub fn pair_of(address: SocketAddr) -> Option<Pair> {
    match address.ip() {
        IpAddr::V4(host) => (u32::from(host).checked_sub(CLIENT_NET)? >> 8).checked_sub(1),
        IpAddr::V6(_) => None,
    }
}

/// Clients have addresses 10.1.n.1 and 10.1.n.2, n counted from 1; 16 bits of them are enough for any world.
const CLIENT_NET: u32 = 0x0a01_0000;
/// A client's port before its first change.
const FIRST_PORT: u16 = 5000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_tell_whose_they_are() {
        for pair in [0, 1, 200, 254] {
            for changes in [0, 1, 7] {
                assert_eq!(pair_of(client_address(pair, changes)), Some(pair));
            }
        }
        assert_eq!(pair_of(second_address(7)), Some(7));
        assert_eq!(interface_of(second_address(7).ip()), 1);
        assert_eq!(interface_of(client_address(7, 3).ip()), 0);
        assert_eq!(pair_of(SERVER_ADDRESS), None);
        assert_ne!(client_address(0, 0), client_address(0, 1));
    }
}
