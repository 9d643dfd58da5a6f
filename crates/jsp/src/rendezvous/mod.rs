//! Peers that find each other by identity, through a coordinator, wherever they are.
//!
//! Two peers behind boxes that translate addresses cannot simply connect. Both [register](Peer::register)
//! with a coordinator (`jspd`); one then [connects](Registration::connect) to the other's fingerprint.
//! The connection goes through the coordinator's relay at once, and past it as soon as a direct way is
//! found; nothing is lost on the way, and the application need not notice. The coordinator sees who
//! talks to whom, when and how much, but not what: it has no key of theirs.
//!
//! ```no_run
//! # async fn example(coordinator: jsp::Fingerprint, friend: jsp::Fingerprint) -> Result<(), Box<dyn std::error::Error>> {
//! use jsp::rendezvous::{Peer, Policy};
//! use jsp::{Endpoint, Identity};
//!
//! let me = Endpoint::builder().identity(Identity::generate());
//! let peer = Peer::build(me, Policy::Any)?;
//! let registration = peer.register("rendezvous.example.net:4433", coordinator).await?;
//! let connection = registration.connect(friend).await?;
//! # Ok(())
//! # }
//! ```

mod asked;
mod awake;
mod control;
mod direct;
mod error;
mod link;
mod measure;
mod no_udp;
#[cfg(feature = "port-mapping")]
mod port_map;
mod relays;
#[cfg(feature = "turn")]
mod turn;
#[cfg(feature = "port-mapping")]
mod upnp;

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Poll;
use std::time::Duration;

use jsp_crypto::{Fingerprint, Rng, SystemRng};
use jsp_nat::candidate::{CANDIDATES_MAX, Candidate, Known, gather};
use jsp_nat::punch::Role;
use jsp_nat::rendezvous::CANDIDATES_CONTENT_TYPE;
use jsp_proto::{ConnectionStats, StreamConfig};
use jsp_wire::{Route, StreamId};
use tokio::sync::mpsc;

use crate::builder::Builder;
use crate::carrier::CarrierKind;
use crate::connect;
use crate::connection::Connection;
use crate::endpoint::Endpoint;
use crate::error::BindError;
use crate::link::{Link, UdpLink};
use crate::remote::Remote;
use crate::shard::Place;
use crate::stream::SendStream;
use control::{Channel, Control};
pub use error::{CallError, RegisterError};
pub use jsp_nat::behaviour::{Mapping, Report};
pub use jsp_nat::candidate::Policy;
pub use jsp_nat::filtering::Filtering;
pub use jsp_nat::rendezvous::Refusal;
pub use jsp_nat::turn::Failure as TurnFailure;
use link::{MeetingLink, Switch};
use no_udp::NoUdp;
#[cfg(feature = "port-mapping")]
pub use port_map::{PortMap, PortMapError};
use relays::Trusted;
#[cfg(feature = "turn")]
pub use turn::{TurnError, TurnServer, TurnServerError};

/// Relayed connections that wait for [`Peer::accept`].
const READY_MAX: usize = 64;
/// How long a caller may take to say where it can be reached.
const OFFER_WAIT: Duration = Duration::from_secs(2);

/// Which way a connection between peers goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passage {
    /// From one to the other.
    Direct,
    /// Through a TURN server, of the one or the other.
    Turn,
    /// Over the coordinator's relay.
    Relay,
}

/// An endpoint that other peers reach by its identity. Cheap to clone; all clones are the same.
#[derive(Clone, Debug)]
pub struct Peer {
    endpoint: Endpoint,
    shared: Arc<Shared>,
}

/// What a peer's registrations and connections share.
#[derive(Debug)]
struct Shared {
    switch: Arc<Switch>,
    policy: Policy,
    /// Datagrams go by a socket of this host, so that its other ports are behind the same boxes.
    has_own_socket: bool,
    /// The addresses at which a coordinator sees this peer, the latest last.
    seen: Mutex<Vec<SocketAddr>>,
    /// The addresses that routers in front of this host have mapped to its port, by router; none while one is asked,
    /// or has not renewed it.
    mapped: Mutex<BTreeMap<IpAddr, Option<SocketAddr>>>,
    /// This host's own address, as the way to each coordinator shows it.
    own: Mutex<BTreeMap<SocketAddr, SocketAddr>>,
    /// What is said to each coordinator goes here.
    coordinators: Mutex<BTreeMap<SocketAddr, Weak<SendStream>>>,
    ready: mpsc::Sender<Connection>,
    waiting: tokio::sync::Mutex<mpsc::Receiver<Connection>>,
}

impl Peer {
    /// Makes the endpoint that `builder` describes, on any free UDP port of all interfaces; its
    /// identity is what others call it by. What the policy forbids never happens: it is fixed before
    /// the first address is looked at. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// See [`BindError`]; a builder without identity, with a wrapping (which hides what is relayed from
    /// what is not) or with a proxy (past which punches would go) are errors of configuration; so is an address that
    /// others are told or can connect to ([`Builder::preferred_address`],
    /// [`TransportConfig::preferred`](crate::TransportConfig::preferred), listeners for streams) with
    /// [`Policy::RelayOnly`]: such a peer answers nobody who sends to it directly. [`Policy::ProxyOnly`] wants a proxy,
    /// and [`CarrierPolicy::Only`](crate::CarrierPolicy::Only): such a peer opens no UDP socket, and is in streams through
    /// the proxy alone.
    pub fn build(builder: Builder, policy: Policy) -> Result<Self, BindError> {
        if !policy.allows_udp() {
            if !builder.uses_proxied_streams_alone() {
                return Err(BindError::Config(
                    "a peer that may use a proxy alone is given one, and carriers only",
                ));
            }
            return Self::over(builder, policy, Box::new(NoUdp), false);
        }
        Self::over(builder, policy, Box::new(UdpLink::bind_wildcard()?), true)
    }

    /// The same over another link, which must carry datagrams as they are.
    ///
    /// # Errors
    /// See [`Peer::build`].
    pub fn with_link(
        builder: Builder,
        policy: Policy,
        link: Box<dyn Link>,
    ) -> Result<Self, BindError> {
        if !policy.allows_udp() {
            return Err(BindError::Config("a peer that may use a proxy alone has no link"));
        }
        Self::over(builder, policy, link, false)
    }

    fn over(
        builder: Builder,
        policy: Policy,
        link: Box<dyn Link>,
        has_own_socket: bool,
    ) -> Result<Self, BindError> {
        let has_proxy = builder.proxy.is_some() && policy.allows_udp();
        let sends_plainly = builder.obfuscation.is_none() && !has_proxy;
        if builder.identity.is_none() || !sends_plainly {
            return Err(BindError::Config("a peer has an identity, no wrapping and no proxy"));
        }
        let hidden = !policy.allows_direct();
        // spec: RDV-189
        if hidden && builder.is_found_somewhere() {
            return Err(BindError::Config(
                "a peer that may use relays alone has no preferred address, and listens for no streams",
            ));
        }
        let switch = Arc::new(Switch::new(link, hidden));
        let endpoint = builder.link(Box::new(MeetingLink(Arc::clone(&switch)))).build()?;
        let (ready, waiting) = mpsc::channel(READY_MAX);
        let shared = Shared {
            switch,
            policy,
            has_own_socket,
            seen: Mutex::default(),
            mapped: Mutex::default(),
            own: Mutex::default(),
            coordinators: Mutex::default(),
            ready,
            waiting: tokio::sync::Mutex::new(waiting),
        };
        Ok(Self { endpoint, shared: Arc::new(shared) })
    }

    /// The endpoint, for everything that needs no coordinator. With [`Policy::RelayOnly`] it connects, and is connected to
    /// by nobody.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Connects to a coordinator; from then on others can call this peer through it, as long as the
    /// registration lives. It is reached by whatever [`Builder::carriers`] allows; where that is a stream, what is
    /// relayed goes by the stream as well.
    ///
    /// Cancel-safe: dropping the call gives the attempt up.
    ///
    /// # Errors
    /// See [`RegisterError`].
    pub async fn register(
        &self,
        coordinator: impl Into<Remote>,
        fingerprint: Fingerprint,
    ) -> Result<Registration, RegisterError> {
        let connection = self.endpoint.connect(coordinator, fingerprint).await?;
        let address = match connection.route() {
            // Proxies need not tell where a coordinator is, and several must not be taken for one.
            Route::Tunnel { id } if !self.shared.policy.allows_udp() => stand_in(id),
            _ => connection.remote_addr(),
        };
        let relay = Trusted::new(&self.shared.switch, address, connection.route());
        let idle = self.endpoint.offers.transport.idle_timeout;
        let shared = Arc::clone(&self.shared);
        let control = Control::start(connection, shared, (address, relay), idle).await?;
        Ok(Registration { peer: self.clone(), relay: address, control })
    }

    /// Whether what this side sends on a connection goes to the other without a relay now.
    pub fn is_direct(&self, connection: &Connection) -> bool {
        self.passage(connection) == Passage::Direct
    }

    /// Which way what this side sends on a connection goes now.
    pub fn passage(&self, connection: &Connection) -> Passage {
        self.shared.switch.passage(&connection.route())
    }

    /// The next connection that somebody has made to this peer, through a coordinator or directly;
    /// `None` once the endpoint is closed.
    ///
    /// Cancel-safe: no connection is lost.
    pub async fn accept(&self) -> Option<Connection> {
        let mut waiting = self.shared.waiting.lock().await;
        loop {
            let accepted = {
                let mut accepting = pin!(self.endpoint.accept());
                poll_fn(|cx| {
                    if let Poll::Ready(ready) = waiting.poll_recv(cx) {
                        return Poll::Ready(Err(ready));
                    }
                    accepting.as_mut().poll(cx).map(Ok)
                })
                .await
            };
            match accepted {
                Err(ready) => return ready,
                Ok(Some(connection)) if is_relayed(&connection) => {
                    tokio::spawn(greet(connection, Arc::clone(&self.shared)));
                }
                Ok(direct) => return direct,
            }
        }
    }
}

impl Shared {
    /// Where this peer may be reached, what was learned last first.
    fn candidates(&self) -> Vec<Candidate> {
        let own: Vec<_> = locked(&self.own).values().copied().collect();
        let mapped: Vec<_> = locked(&self.mapped).values().copied().flatten().collect();
        let seen: Vec<_> =
            mapped.into_iter().chain(locked(&self.seen).iter().rev().copied()).collect();
        gather(self.policy, Known { own: &own, seen: &seen, relayed: self.switch.lent() })
    }

    /// Notes where this host is on the way to a coordinator, and what that sees of it in the place of
    /// what it saw before.
    fn learn_addresses(
        &self,
        coordinator: SocketAddr,
        before: Option<SocketAddr>,
        seen: Option<SocketAddr>,
    ) {
        if !self.policy.allows_direct() {
            return;
        }
        if let Some(own) = self.switch.own_address(coordinator) {
            locked(&self.own).insert(coordinator, own);
        }
        let Some(address) = seen else { return };
        let mut seen = locked(&self.seen);
        if before != Some(address) {
            seen.retain(|known| Some(*known) != before && *known != address);
        }
        if !seen.contains(&address) {
            seen.push(address);
        }
        let surplus = seen.len().saturating_sub(CANDIDATES_MAX / 2);
        seen.drain(..surplus);
    }

    fn learn_coordinator(&self, coordinator: SocketAddr, send: Weak<SendStream>) {
        let mut coordinators = locked(&self.coordinators);
        coordinators.retain(|_, known| known.strong_count() > 0);
        coordinators.insert(coordinator, send);
        locked(&self.own).retain(|known, _| coordinators.contains_key(known));
    }

    /// The way by which a relayed connection has come.
    fn way(&self, route: &Route) -> Option<Channel> {
        let Route::Relayed { via, peer } = *route else { return None };
        let coordinator = Weak::clone(locked(&self.coordinators).get(&via)?);
        Some(Channel { coordinator, channel: peer })
    }
}

fn locked<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A place at a coordinator. When it is dropped, the peer cannot be called through it any more;
/// connections that are there go on if they are direct, and end if they need the relay.
#[derive(Debug)]
pub struct Registration {
    peer: Peer,
    relay: SocketAddr,
    control: Control,
}

impl Registration {
    /// Connects to the peer with this identity: through the relay at once, past it later.
    ///
    /// Cancel-safe: dropping the call gives the attempt up.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn connect(&self, peer: Fingerprint) -> Result<Connection, CallError> {
        let channel = random();
        let mut refused = Some(self.control.ask(peer, channel).await?);
        let way = self.control.way(channel);
        let route = Route::Relayed { via: self.relay, peer: channel };
        let mut connecting = pin!(connect::connect_by(&self.peer.endpoint, route, peer));
        let connection = poll_fn(|cx| {
            if let Some(waits) = &mut refused
                && let Poll::Ready(answer) = Pin::new(waits).poll(cx)
            {
                refused = None;
                if let Ok(reason) = answer {
                    return Poll::Ready(Err(CallError::Refused { peer, reason }));
                }
            }
            let connected = connecting.as_mut().poll(cx);
            connected.map_err(|error| CallError::Connect { peer, error })
        })
        .await?;
        let config = StreamConfig {
            content_type: Some(CANDIDATES_CONTENT_TYPE.to_owned()),
            ..StreamConfig::messages()
        };
        let inner = &connection.inner;
        let offers = inner.try_open(&mut inner.shard.lock(), &config, inner.shard.clock.now());
        let shared = Arc::clone(&self.peer.shared);
        direct::spawn(&connection, offers.ok(), Role::Controlling, shared, Some(way));
        Ok(connection)
    }

    /// The address at which the coordinator sees this peer.
    pub fn observed(&self) -> Option<SocketAddr> {
        self.control.observed()
    }

    /// Another server that answers STUN, if the coordinator names one: with both,
    /// [`Peer::discover`] tells what the box in front of this host does.
    pub fn other_stun(&self) -> Option<SocketAddr> {
        self.control.stun()
    }

    /// What is measured on the connection to the coordinator.
    pub fn stats(&self) -> ConnectionStats {
        self.control.connection().stats()
    }

    /// By what this peer is connected to the coordinator now.
    pub fn kind(&self) -> CarrierKind {
        self.control.connection().capabilities().carrier
    }

    /// Waits until the coordinator is gone, and says why.
    ///
    /// Cancel-safe.
    pub async fn closed(&self) -> crate::error::ConnectionError {
        self.control.connection().closed().await
    }
}

/// An address that stands for the coordinator in a stream, and that nothing is ever sent to (RFC 6666).
fn stand_in(stream: u64) -> SocketAddr {
    SocketAddr::from((Ipv6Addr::from((0x0100 << 112) | u128::from(stream)), 0))
}

fn is_relayed(connection: &Connection) -> bool {
    matches!(connection.route(), Route::Relayed { .. })
}

/// Takes a relayed connection's first stream, on which candidates come, and hands the connection on.
async fn greet(connection: Connection, shared: Arc<Shared>) {
    let way = shared.way(&connection.route());
    let offers = tokio::time::timeout(OFFER_WAIT, first_stream(&connection)).await.ok().flatten();
    direct::spawn(&connection, offers, Role::Controlled, Arc::clone(&shared), way);
    // Nobody waits any more when the peer is gone; then the connection ends here.
    let _ = shared.ready.send(connection).await;
}

/// The stream for candidates, which a caller opens before any other. What overtakes it on the way waits
/// for the application.
async fn first_stream(connection: &Connection) -> Option<StreamId> {
    let first = connection.inner.wait(Place::Accepting, |core, inner, _| {
        let Ok((connection, state)) = core.live(inner.key) else { return Poll::Ready(None) };
        while let Some(id) = connection.accept() {
            let Some(info) = connection.stream_info(id) else { continue };
            let held = state.streams.entry(id).or_default();
            (held.send_held, held.recv_held) = (!info.profile.unidirectional, true);
            if info.content_type.as_deref() == Some(CANDIDATES_CONTENT_TYPE) {
                return Poll::Ready(Some(id));
            }
            state.unaccepted.push_back((id, info));
        }
        Poll::Pending
    });
    first.await
}

/// A number that nobody can guess.
fn random() -> u64 {
    let mut bytes = [0; 8];
    SystemRng.fill(&mut bytes);
    u64::from_be_bytes(bytes)
}
