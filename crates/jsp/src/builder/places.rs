//! Where an endpoint is: its socket, and its listeners for streams.

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use jsp_proto::TransportConfig;

use super::Builder;
use crate::carrier::listen::{Listening, ServerLayers};
use crate::carrier::{StreamListener, StreamNetwork};
use crate::error::BindError;
use crate::link::{Base, Link, UdpLink};

impl Builder {
    /// Opens a further socket at this address, which must be a certain one (port 0 for any free port), and tells
    /// clients to go there once the handshake is done: for a server that is found at an address which many
    /// share, by anycast, `SO_REUSEPORT` or a front end, and whose connections are to come to it alone from
    /// then on. May be called once for IPv4 and once for IPv6. Clients try it while they go on where they are, and
    /// stay there when they get no answer.
    ///
    /// Where the address that clients see is another one, or the endpoint's own socket is reached at it too, say so
    /// by [`TransportConfig::preferred`](crate::TransportConfig::preferred) instead, which opens nothing.
    ///
    /// ```no_run
    /// # fn start(identity: jsp::Identity) -> Result<jsp::Endpoint, jsp::BindError> {
    /// jsp::Endpoint::builder()
    ///     .bind("192.0.2.1:4433")             // what all workers share
    ///     .preferred_address("192.0.2.17:0")  // this one's own
    ///     .identity(identity)
    ///     .build()
    /// # }
    /// ```
    pub fn preferred_address(mut self, addr: impl ToString) -> Self {
        self.preferred.push(addr.to_string());
        self
    }

    /// Whether all that leaves goes by streams through a proxy.
    pub(crate) fn uses_proxied_streams_alone(&self) -> bool {
        let has_streams = self.carriers.as_ref().is_some_and(|policy| !policy.has_udp());
        self.proxy.is_some() && has_streams
    }

    /// Whether others are told an address of this endpoint, or find it at one but that of its socket.
    pub(crate) fn is_found_somewhere(&self) -> bool {
        let is_told = !self.preferred.is_empty() || self.transport.preferred.is_any();
        is_told || !self.listening.is_empty()
    }
}

/// What an endpoint has for datagrams: what it was given, or a socket, if it has no listener, which is at
/// `own`, and any use for one. A socket of ours may keep strangers `apart`.
pub(super) fn base(
    link: Option<Box<dyn Link>>,
    bind: Option<&str>,
    own: Option<SocketAddr>,
    needs_socket: bool,
    apart: bool,
) -> Result<Base, BindError> {
    let over = |link: UdpLink| {
        Base::over(Box::new(if apart { link.with_strangers_apart() } else { link }))
    };
    Ok(match (link, bind, own) {
        (Some(link), None, _) => Base::over(link),
        (Some(_), Some(_), _) => {
            return Err(BindError::Config(
                "an endpoint has a link or an address to bind, not both",
            ));
        }
        (None, Some(bind), _) => over(bind_udp(bind)?),
        (None, None, Some(own)) => Base::Nothing(own),
        (None, None, None) if needs_socket => over(UdpLink::bind_wildcard()?),
        (None, None, None) => Base::Nothing(SocketAddr::from(([0, 0, 0, 0], 0))),
    })
}

/// Opens sockets where the endpoint, which has one shard then, would rather be reached, and has the transport say where that is.
pub(super) fn prefer(
    bases: &mut [Base],
    addrs: &[String],
    is_server: bool,
    mut transport: TransportConfig,
) -> Result<Arc<TransportConfig>, BindError> {
    if !addrs.is_empty() && !is_server {
        return Err(BindError::Config("only a server is reached anywhere: it needs an identity"));
    }
    let Some(base) = bases.first_mut() else { return Ok(Arc::new(transport)) };
    for name in addrs {
        match bind_first(name, |addr| base.prefer(addr))? {
            SocketAddr::V4(v4) => transport.preferred.v4 = Some(v4),
            SocketAddr::V6(v6) => transport.preferred.v6 = Some(v6),
        }
    }
    Ok(Arc::new(transport))
}

/// A listener at work, and what belongs over its streams.
pub(super) struct Opened {
    pub(super) listener: Box<dyn StreamListener>,
    pub(super) layers: ServerLayers,
    pub(super) addr: SocketAddr,
}

pub(super) fn open_listeners(
    network: &dyn StreamNetwork,
    listening: Vec<Listening>,
) -> Result<Vec<Opened>, BindError> {
    let open = |Listening { addr, layers }: Listening| {
        let bind = |addr| network.listen(addr).map_err(|error| BindError::new(addr, error));
        let listener = bind_first(&addr, bind)?;
        let addr = listener.local_addr()?;
        Ok(Opened { listener, layers, addr })
    };
    listening.into_iter().map(open).collect()
}

fn bind_udp(bind: &str) -> Result<UdpLink, BindError> {
    bind_first(bind, UdpLink::bind)
}

/// Binds the first address of a name that can be bound.
pub(super) fn bind_first<T>(
    name: &str,
    mut bind: impl FnMut(SocketAddr) -> Result<T, BindError>,
) -> Result<T, BindError> {
    let addrs: Vec<SocketAddr> = match name.parse() {
        Ok(addr) => vec![addr],
        Err(_) => name
            .to_socket_addrs()
            .map_err(|source| BindError::NameNotResolved { name: name.to_owned(), source })?
            .collect(),
    };
    let mut failure = None;
    for addr in addrs {
        match bind(addr) {
            Ok(bound) => return Ok(bound),
            Err(error) => failure = Some(error),
        }
    }
    Err(failure.unwrap_or_else(|| BindError::NameNotResolved {
        name: name.to_owned(),
        source: std::io::Error::new(std::io::ErrorKind::NotFound, "the name has no address"),
    }))
}
