//! Where to connect to.

use std::io;
use std::net::{IpAddr, SocketAddr};

/// A peer to connect to: an address, or a name and port that is looked up first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remote {
    /// An address.
    Addr(SocketAddr),
    /// `host:port`; the host is a name or an address.
    Name(String),
}

impl Remote {
    /// What the peer is called in messages and in the store of known servers.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Addr(addr) => addr.to_string(),
            Self::Name(name) => name.clone(),
        }
    }

    /// The addresses behind it, never none.
    pub(crate) async fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        let name = match self {
            Self::Addr(addr) => return Ok(vec![*addr]),
            Self::Name(name) => name,
        };
        if let Ok(addr) = name.parse() {
            return Ok(vec![addr]);
        }
        let mut addrs: Vec<SocketAddr> = Vec::new();
        for addr in tokio::net::lookup_host(name.as_str()).await? {
            if !addrs.contains(&addr) {
                addrs.push(addr);
            }
        }
        if addrs.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
        }
        Ok(addrs)
    }
}

impl From<SocketAddr> for Remote {
    fn from(addr: SocketAddr) -> Self {
        Self::Addr(addr)
    }
}

impl From<(IpAddr, u16)> for Remote {
    fn from((ip, port): (IpAddr, u16)) -> Self {
        Self::Addr(SocketAddr::new(ip, port))
    }
}

impl From<&str> for Remote {
    fn from(name: &str) -> Self {
        Self::Name(name.to_owned())
    }
}

impl From<String> for Remote {
    fn from(name: String) -> Self {
        Self::Name(name)
    }
}

impl From<&String> for Remote {
    fn from(name: &String) -> Self {
        Self::Name(name.clone())
    }
}

impl From<(&str, u16)> for Remote {
    fn from((host, port): (&str, u16)) -> Self {
        Self::Name(format!("{host}:{port}"))
    }
}
