//! Where to connect to.

use std::fmt;
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

    /// The peer as a proxy is told of it: not resolved.
    pub(crate) fn unresolved(&self) -> io::Result<Target> {
        let name = match self {
            Self::Addr(addr) => return Ok(Target::Addr(*addr)),
            Self::Name(name) => name,
        };
        if let Ok(addr) = name.parse() {
            return Ok(Target::Addr(addr));
        }
        let parts = name.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
        match parts {
            Some((host, port)) if !host.is_empty() => Ok(Target::Name(host.to_owned(), port)),
            _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "write it as host:port")),
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

/// Whom a stream is opened to, as a proxy is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Addr(SocketAddr),
    /// A host that somebody else resolves, and a port.
    Name(String, u16),
}

impl Target {
    pub(crate) fn port(&self) -> u16 {
        match self {
            Self::Addr(addr) => addr.port(),
            Self::Name(_, port) => *port,
        }
    }

    pub(crate) fn with_port(&self, port: u16) -> Self {
        match self {
            Self::Addr(addr) => Self::Addr(SocketAddr::new(addr.ip(), port)),
            Self::Name(host, _) => Self::Name(host.clone(), port),
        }
    }

    /// The host alone.
    #[cfg(feature = "tls")]
    pub(crate) fn host(&self) -> String {
        match self {
            Self::Addr(addr) => addr.ip().to_string(),
            Self::Name(host, _) => host.clone(),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Addr(addr) => addr.fmt(f),
            Self::Name(host, port) => write!(f, "{host}:{port}"),
        }
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
