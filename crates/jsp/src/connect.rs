//! Establishing a connection: the ways to a server, trust, tickets.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;

use jsp_crypto::Fingerprint;
use jsp_wire::Route;

use crate::carrier::Carrier;
use crate::carrier::dial::Opened;
use crate::connection::Connection;
use crate::endpoint::{Endpoint, Offers};
use crate::error::{ConnectError, ConnectionError};
use crate::identity::{Outcome, Trust, Verification};
use crate::race::{Race, Won};
use crate::remote::{Remote, Target};
use crate::shard::{ConnectionState, Phase};
use crate::switch::{self, Choice};

/// One way to a server.
#[derive(Clone, Debug)]
pub(crate) enum Way {
    /// Plain UDP.
    Udp(SocketAddr),
    /// Datagrams that a proxy relays.
    Relay(Target),
    /// A carrier of streams.
    Carrier(Carrier, Target),
}

impl Way {
    /// The same kind of carrier at the same port.
    fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Carrier(one, _), Self::Carrier(two, _)) => one.is_like(two),
            _ => false,
        }
    }

    /// The server's address at the port that is asked; `None` where a proxy resolves its name.
    fn addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Udp(addr) | Self::Relay(Target::Addr(addr)) => Some(*addr),
            Self::Relay(Target::Name(..)) => None,
            Self::Carrier(carrier, target) => match carrier.at(target) {
                Target::Addr(addr) => Some(addr),
                Target::Name(..) => None,
            },
        }
    }

    /// Why there is no connection by this way, on which `remote` was asked.
    pub(crate) fn explain(&self, remote: SocketAddr, error: ConnectionError) -> ConnectError {
        match (self, ConnectError::new(remote, error)) {
            // The proxy did what it was asked for: who does not answer is the server.
            (
                Self::Relay(target @ Target::Name(..))
                | Self::Carrier(_, target @ Target::Name(..)),
                ConnectError::Timeout { .. },
            ) => {
                let source = io::Error::new(ErrorKind::TimedOut, "the server does not answer");
                ConnectError::Carrier { target: target.to_string(), source }
            }
            (_, error) => error,
        }
    }

    /// The server's host, as far as this side knows it.
    fn host(&self) -> Target {
        match self {
            Self::Udp(addr) => Target::Addr(*addr).with_port(0),
            Self::Relay(target) | Self::Carrier(_, target) => target.with_port(0),
        }
    }
}

/// The ways to a server, the preferred first.
pub(crate) struct Ways {
    /// Those of datagrams.
    pub(crate) datagrams: Vec<Way>,
    /// Those of streams.
    pub(crate) streams: Vec<Way>,
}

impl Ways {
    /// All ways that the endpoint may take to `remote`. Through a proxy, names are not resolved here.
    // spec: CAR-25
    async fn to(offers: &Offers, remote: &Remote) -> io::Result<Self> {
        let proxied = offers.dialer.proxy.is_some();
        let targets = if proxied {
            vec![remote.unresolved()?]
        } else {
            remote.resolve().await?.into_iter().map(Target::Addr).collect()
        };
        let carriers = offers.policy.carriers();
        let over = |target: &Target| {
            let way = |carrier: &Carrier| Way::Carrier(carrier.clone(), target.clone());
            carriers.iter().map(way).collect::<Vec<_>>()
        };
        let datagram = |target: &Target| match target {
            _ if !offers.policy.has_udp() => None,
            target if proxied => Some(Way::Relay(target.clone())),
            Target::Addr(addr) => Some(Way::Udp(*addr)),
            Target::Name(..) => None,
        };
        let datagrams = targets.iter().filter_map(datagram).collect();
        Ok(Self { datagrams, streams: targets.iter().flat_map(over).collect() })
    }
}

/// What a connection may change between later.
struct Choices {
    datagrams: Vec<Way>,
    streams: Vec<Way>,
}

impl Choices {
    fn of(ways: &Ways) -> Self {
        Self { datagrams: ways.datagrams.clone(), streams: ways.streams.clone() }
    }

    /// The choice of a connection that was made by `way`: there are streams to the same host.
    // spec: CAR-75
    fn after(self, way: &Way) -> Option<Choice> {
        let host = way.host();
        let near = |other: &Way| other.host() == host;
        let datagram = self.datagrams.into_iter().find(near);
        let streams = self.streams.into_iter().filter(near);
        // What has worked is tried first.
        // spec: CAR-76
        let (mut streams, others): (Vec<_>, Vec<_>) = streams.partition(|other| way.is_like(other));
        streams.extend(others);
        (!streams.is_empty()).then_some(Choice { datagram, streams })
    }
}

pub(crate) async fn connect(
    endpoint: &Endpoint,
    remote: Remote,
    trust: Trust,
) -> Result<Connection, ConnectError> {
    let name = remote.name();
    let ways = Ways::to(&endpoint.offers, &remote)
        .await
        .map_err(|source| ConnectError::NameNotResolved { name: name.clone(), source })?;
    // A trust that cannot be judged is told before anything is sent.
    Verification::new(&trust, &name)?;
    let choices = Choices::of(&ways);
    let mut race = Race::new(endpoint, trust, name, ways);
    let Won { connection, outcome, way } = std::future::poll_fn(|cx| race.poll(cx)).await?;
    if let Some(choice) = choices.after(&way) {
        switch::watch(endpoint, &connection, choice);
    }
    if let Some(security) = connection.security() {
        outcome.remember(security.floor())?;
    }
    Ok(connection)
}

/// Starts one attempt, and hands the connection out before it is made.
pub(crate) async fn connect_early(
    endpoint: &Endpoint,
    remote: Remote,
    trust: Trust,
) -> Result<Connection, ConnectError> {
    let name = remote.name();
    let ways = Ways::to(&endpoint.offers, &remote)
        .await
        .map_err(|source| ConnectError::NameNotResolved { name: name.clone(), source })?;
    let choices = Choices::of(&ways);
    let Ways { datagrams, streams } = ways;
    let verification = Verification::new(&trust, &name)?;
    let Some(way) = datagrams.into_iter().chain(streams).next() else {
        return Err(ConnectError::EndpointClosed);
    };
    let via = match &way {
        Way::Udp(addr) => Via::udp(*addr),
        way => Via::opened(way, open(&endpoint.offers, way).await?),
    };
    let start = Start { via, server: Some(trust.ticket_name(&name)), early: true };
    let (connection, outcome) = begin(endpoint, start, verification)?;
    connection.inner.with_state(|state| state.unremembered = Some(Box::new(outcome)));
    if let Some(choice) = choices.after(&way) {
        switch::watch(endpoint, &connection, choice);
    }
    Ok(connection)
}

/// Connects by a route that is known already, as through a relay, to the peer with this fingerprint.
pub(crate) async fn connect_by(
    endpoint: &Endpoint,
    route: Route,
    peer: Fingerprint,
) -> Result<Connection, ConnectError> {
    let trust = Trust::Pinned(peer);
    let verification = Verification::new(&trust, &route.to_string())?;
    let start = Start { via: Via::by(route), server: None, early: false };
    let (connection, outcome) = begin(endpoint, start, verification)?;
    connection.inner.with_state(|state| state.unremembered = Some(Box::new(outcome)));
    connection.connected().await?;
    Ok(connection)
}

/// Opens what is no plain UDP.
pub(crate) async fn open(offers: &Offers, way: &Way) -> Result<Opened, ConnectError> {
    let dialer = &offers.dialer;
    let (opened, target) = match way {
        Way::Udp(addr) => (Err(ErrorKind::Unsupported.into()), Target::Addr(*addr)),
        Way::Relay(target) => (dialer.associate(target).await, target.clone()),
        Way::Carrier(carrier, target) => (dialer.dial(carrier, target).await, target.clone()),
    };
    opened.map_err(|source| ConnectError::Carrier { target: target.to_string(), source })
}

/// A way that is open.
pub(crate) struct Via {
    /// The server; the proxy, where that resolves the server's name.
    pub(crate) remote: SocketAddr,
    route: Route,
    opened: Option<Opened>,
}

impl Via {
    pub(crate) fn udp(remote: SocketAddr) -> Self {
        Self::by(Route::udp(remote))
    }

    fn by(route: Route) -> Self {
        let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
        Self { remote: route.remote().unwrap_or(unknown), route, opened: None }
    }

    pub(crate) fn opened(way: &Way, opened: Opened) -> Self {
        let remote = way.addr().unwrap_or(opened.remote);
        Self { remote, route: opened.held.route, opened: Some(opened) }
    }
}

/// One attempt, before it is begun.
pub(crate) struct Start {
    pub(crate) via: Via,
    /// What the server's tickets are kept under, where they may be used.
    pub(crate) server: Option<String>,
    /// Early data may follow at once.
    pub(crate) early: bool,
}

pub(crate) fn begin(
    endpoint: &Endpoint,
    start: Start,
    verification: Verification,
) -> Result<(Connection, Outcome), ConnectError> {
    let Start { via: Via { remote, route, opened }, server, early } = start;
    let offers = &endpoint.offers;
    let (mut crypto, outcome) = verification.split(remote);
    crypto.credential = offers.credential();
    crypto.application_protocols = offers.application_protocols.clone();
    crypto.signatures = offers.signatures;
    crypto.require_pq = offers.require_pq;
    crypto.require_pin = offers.require_pin;
    let tickets = offers.tickets.clone().zip(server);
    let ticket = tickets.as_ref().and_then(|(store, server)| store.take(server));
    let mut transport = Arc::clone(&offers.transport);
    // What a proxy puts before each datagram must fit the path too.
    // spec: CAR-21
    if let Some(overhead) = opened.as_ref().map(|opened| opened.overhead).filter(|len| *len > 0) {
        let transport = Arc::make_mut(&mut transport);
        transport.mtu_ceiling = transport.mtu_ceiling.saturating_sub(overhead);
    }
    let shard = &endpoint.shard;
    let now = shard.clock.now();
    let mut core = shard.lock();
    core.endpoint.set_unix_time(now, shard.clock.unix_time(now));
    if core.closed || core.is_gone() {
        return Err(ConnectError::EndpointClosed);
    }
    if opened.is_some() && shard.link.tunnels.describe(&route).is_none() {
        // It has ended, and that was heard before anybody knew whose it is: nobody would be told.
        return Err(ConnectError::Ended { remote, error: ConnectionError::CarrierClosed });
    }
    if let Route::Tunnel { id } = route {
        let room = shard.link.tunnels.room(id);
        core.endpoint.carrier_has_room(id, room);
    }
    let crypto = Arc::new(crypto);
    let handle = match ticket {
        Some(ticket) => core.endpoint.resume(now, route, crypto, transport, ticket, early),
        None => core.endpoint.connect(now, route, crypto, transport),
    };
    let handle = handle.map_err(|error| connect_error(remote, error))?;
    let mut state = ConnectionState::new(handle, Phase::Handshake, route);
    state.tickets = tickets.map(|(store, server)| (store, server.into_boxed_str()));
    let carrier = opened.as_ref().map(|opened| opened.held.id);
    state.carriers.extend(opened.map(|opened| opened.held));
    let key = core.insert(handle, state);
    if let Some(id) = carrier {
        core.by_carrier.insert(id, key);
    }
    if early {
        // What the application sends before it waits for the first time goes along.
        core.want_driver();
    } else {
        shard.flush(&mut core, now);
    }
    drop(core);
    Ok((Connection::new(Arc::clone(shard), key), outcome))
}

fn connect_error(remote: SocketAddr, error: jsp_proto::ConnectError) -> ConnectError {
    match error {
        jsp_proto::ConnectError::Handshake(error) => ConnectError::Handshake { remote, error },
        jsp_proto::ConnectError::Closed => ConnectError::EndpointClosed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn a_carrier_that_has_ended_already_makes_nobody_wait() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = Endpoint::builder().bind("127.0.0.1:0").build().unwrap();
        let way = Way::Carrier(Carrier::tcp(), Target::Addr(listener.local_addr().unwrap()));
        let (opened, accepted) = tokio::join!(open(&client.offers, &way), listener.accept());
        let opened = opened.unwrap();
        drop(accepted);
        while client.shard.link.tunnels.describe(&opened.held.route).is_some() {
            tokio::task::yield_now().await;
        }
        let verification = Verification::new(&Trust::Insecure, "").unwrap();
        let start = Start { via: Via::opened(&way, opened), server: None, early: false };
        let begun = begin(&client, start, verification).map(drop);
        let is_told =
            matches!(begun, Err(ConnectError::Ended { error: ConnectionError::CarrierClosed, .. }));
        assert!(is_told, "{begun:?}");
    }
}
