//! Where an endpoint is: its socket, and its listeners for streams.

use std::net::{SocketAddr, ToSocketAddrs};

use crate::carrier::listen::{Listening, ServerLayers};
use crate::carrier::{StreamListener, StreamNetwork};
use crate::error::BindError;
use crate::link::{Base, Link, UdpLink};

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
fn bind_first<T>(
    name: &str,
    bind: impl Fn(SocketAddr) -> Result<T, BindError>,
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
