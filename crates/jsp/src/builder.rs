//! Making endpoints.

mod places;
mod server;
mod shards;

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jsp_crypto::{ObfuscationKey, Rng, ServerConfig, SignaturePolicy, SystemRng, Zeroizing};
use jsp_proto::{EndpointConfig, RetryPolicy, TicketMemory, TicketStore, TransportConfig};

use crate::carrier::dial::Dialer;
use crate::carrier::listen::{self, Listening, ServerLayers};
use crate::carrier::places::Places;
use crate::carrier::table::Tunnels;
use crate::carrier::{CarrierPolicy, StreamNetwork, Tcp};
use crate::clock::Clock;
use crate::endpoint::{Endpoint, Offers};
use crate::error::BindError;
use crate::identity::{ClientAuth, Identity};
use crate::link::Link;
use crate::monitor::{NetworkMonitor, Source};
use crate::proxy::Proxy;
use crate::register::RegisterStore;
use places::{Opened, open_listeners, prefer};
use server::keyed;

/// Unfinished handshakes above which a server asks clients to prove their address first.
const HALF_OPEN_MAX: usize = 256;

/// Streams of peers that may carry established connections.
const CARRIERS_MAX: usize = 10_000;

/// Makes an [`Endpoint`] step by step.
///
/// With an identity the endpoint accepts connections; every endpoint may connect.
#[must_use = "call build"]
pub struct Builder {
    bind: Option<String>,
    preferred: Vec<String>,
    link: Option<Box<dyn Link>>,
    pub(crate) identity: Option<Identity>,
    client_identity: Option<Identity>,
    client_auth: ClientAuth,
    application_protocols: Vec<Vec<u8>>,
    transport: TransportConfig,
    retry: RetryPolicy,
    connections_max: usize,
    carriers_max: usize,
    silent: bool,
    shards: usize,
    steered: bool,
    busy_poll: Duration,
    pub(crate) obfuscation: Option<ObfuscationKey>,
    seed: Option<Zeroizing<[u8; 32]>>,
    reset_key: Option<Zeroizing<[u8; 32]>>,
    tickets: Option<Arc<dyn TicketStore>>,
    shared_tickets: Option<SharedTickets>,
    register: Option<Arc<dyn RegisterStore>>,
    signatures: SignaturePolicy,
    require_pq: bool,
    require_pin: bool,
    listening: Vec<Listening>,
    carriers: Option<CarrierPolicy>,
    pub(crate) proxy: Option<Proxy>,
    network: Arc<dyn StreamNetwork>,
    monitor: Option<Source>,
}

/// What servers share that take each other's tickets.
#[derive(Clone)]
struct SharedTickets {
    secret: Zeroizing<[u8; 32]>,
    epoch: u32,
    shard: u16,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            bind: None,
            preferred: Vec::new(),
            link: None,
            identity: None,
            client_identity: None,
            client_auth: ClientAuth::None,
            application_protocols: Vec::new(),
            transport: TransportConfig::default(),
            retry: RetryPolicy::WhenHalfOpen(HALF_OPEN_MAX),
            connections_max: 100_000,
            carriers_max: CARRIERS_MAX,
            silent: false,
            shards: 1,
            steered: true,
            busy_poll: Duration::ZERO,
            obfuscation: None,
            seed: None,
            reset_key: None,
            tickets: Some(Arc::new(TicketMemory::default())),
            shared_tickets: None,
            register: None,
            signatures: SignaturePolicy::default(),
            require_pq: false,
            require_pin: false,
            listening: Vec::new(),
            carriers: None,
            proxy: None,
            network: Arc::new(Tcp),
            monitor: Some(Source::System),
        }
    }
}

impl Builder {
    /// The local address, such as `0.0.0.0:4433` or `[::]:4433` (which takes IPv4 too). Default: any
    /// free port on all interfaces.
    pub fn bind(mut self, addr: impl ToString) -> Self {
        self.bind = Some(addr.to_string());
        self
    }

    /// Accepts connections under this identity. An endpoint that has one goes on to accept
    /// ([`Endpoint::accept`]): clients are connected before it does, and up to
    /// [`Builder::connections_max`] of them are held until then. Of those that end unaccepted, the latest 256
    /// of each shard are kept to be accepted still, with what had arrived; older ones are forgotten.
    pub fn identity(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    /// Shows this identity to servers that ask. Default: that of [`Builder::identity`], if any.
    ///
    /// Where it is shown, [`Endpoint::connect`] waits until the server has accepted it, one round trip
    /// more than without, and fails with [`ConnectError::Refused`](crate::ConnectError::Refused) when
    /// the server does not.
    pub fn client_identity(mut self, identity: Identity) -> Self {
        self.client_identity = Some(identity);
        self
    }

    /// Which clients are accepted. Default: all, anonymous.
    pub fn client_auth(mut self, auth: ClientAuth) -> Self {
        self.client_auth = auth;
        self
    }

    /// Names a protocol that the application speaks, 1 to 255 bytes; may be called several times,
    /// the most wanted first. Both sides must share one, if the server names any.
    pub fn application_protocol(mut self, name: impl AsRef<[u8]>) -> Self {
        self.application_protocols.push(name.as_ref().to_vec());
        self
    }

    /// Limits, windows and time-outs.
    pub fn transport(mut self, transport: TransportConfig) -> Self {
        self.transport = transport;
        self
    }

    /// When clients must prove their address first. Default: while more than 256 handshakes are
    /// unfinished, or hellos pour in; see [`RetryPolicy::WhenHalfOpen`].
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = policy;
        self
    }

    /// Wraps all datagrams of this endpoint under `key` ([`Fingerprint`](crate::Fingerprint) of the server, or 32
    /// bytes of its own), so that nothing on the wire tells this protocol from random bytes, and the endpoint
    /// does not answer whoever has not the key. Both ends must do it: a client's endpoint reaches only servers
    /// with this key. Costs 16 bytes a datagram. Clocks may be half an hour apart. Default: no wrapping.
    ///
    /// ```
    /// # use jsp::{Endpoint, Identity};
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let identity = Identity::generate();
    /// let fingerprint = identity.fingerprint();
    /// let server = Endpoint::builder().bind("127.0.0.1:0").identity(identity).obfuscation(fingerprint).build()?;
    /// let client = Endpoint::builder().obfuscation(fingerprint).build()?;
    /// let connection = client.connect(server.local_addr()?, fingerprint).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn obfuscation(mut self, key: impl Into<ObfuscationKey>) -> Self {
        self.obfuscation = Some(key.into());
        self
    }

    /// Connections that may exist at once; further ones are refused. Default 100 000. The last quarter is for clients
    /// whose network (an IPv4 /24, an IPv6 /56) has less than a quarter. Memory for hellos
    /// that are not complete yet follows from it: from 256 KiB for four connections to 8 MiB for 128 and
    /// more.
    pub fn connections_max(mut self, max: usize) -> Self {
        self.connections_max = max;
        self
    }

    /// Streams of clients ([`Builder::listen_tcp`] and the like) that may carry established connections at once;
    /// further connections by streams are closed. One network, an IPv4 /24 or an IPv6 /56, may have a quarter of
    /// them. Each takes a file descriptor: the process needs the right to as many. Default 10 000.
    pub fn carriers_max(mut self, max: usize) -> Self {
        self.carriers_max = max;
        self
    }

    /// Answers nobody who does not know this endpoint's fingerprint, so that the port looks closed to
    /// them. Clients that trust on first use cannot connect then, and peers are not told when this
    /// endpoint has lost its memory. Default false.
    pub fn silent(mut self, silent: bool) -> Self {
        self.silent = silent;
        self
    }

    /// Uses this carrier instead of a UDP socket; excludes [`Builder::bind`].
    pub fn link(mut self, link: Box<dyn Link>) -> Self {
        self.link = Some(link);
        self
    }

    /// Takes all of the transport's randomness from this seed, so that a test repeats. Never set it
    /// in production: who knows the seed can break the endpoint's protection.
    pub fn seed(mut self, seed: [u8; 32]) -> Self {
        self.seed = Some(Zeroizing::new(seed));
        self
    }

    /// Keeps the tickets of servers here. By default they are kept in memory, as long as the endpoint
    /// lives: connections after the first to a server then cost both sides less, and may have early
    /// data ([`Endpoint::connect_early`]).
    ///
    /// [`TicketStore::put`] is called while the endpoint is locked: it must not block, nor call the endpoint or
    /// anything of it, which would wait for ever.
    pub fn tickets(mut self, store: Arc<dyn TicketStore>) -> Self {
        self.tickets = Some(store);
        self
    }

    /// Uses no tickets: every connection is made in full.
    pub fn without_tickets(mut self) -> Self {
        self.tickets = None;
        self
    }

    /// Takes tickets of other servers of the same identity, and of itself before a restart: all are
    /// given the same `secret`, uniformly random, for the same `epoch` (the time since 1970 in units of
    /// 12 hours); `shard` is this server's number among them. A secret of an earlier epoch will do as
    /// well. Early data are refused for 21 s after the start, unless [`Builder::keep_register`] says what
    /// was taken before, and when a client's ticket comes from another shard. With a clock that was set back over a restart, early data of before could be
    /// replayed: where that may be, give a new secret at each start.
    pub fn share_tickets(mut self, secret: [u8; 32], epoch: u32, shard: u16) -> Self {
        let secret = Zeroizing::new(secret);
        self.shared_tickets = Some(SharedTickets { secret, epoch, shard });
        self
    }

    /// Keeps there, when the endpoint is closed, shut down or dropped, which shared tickets have brought
    /// early data, and takes from there what the server before it kept: after a restart in order early
    /// data need not be refused. The store is asked in [`Builder::build`] and written when the endpoint
    /// ends, both of which may block for it. Without [`Builder::share_tickets`] there is nothing to keep.
    ///
    /// ```no_run
    /// # use std::sync::Arc;
    /// # use jsp::{Endpoint, Identity, RegisterFile};
    /// # fn start(identity: Identity, secret: [u8; 32], epoch: u32) -> Result<Endpoint, jsp::BindError> {
    /// Endpoint::builder()
    ///     .bind("[::]:4433")
    ///     .identity(identity)
    ///     .share_tickets(secret, epoch, 0)
    ///     .keep_register(Arc::new(RegisterFile::new("/var/lib/chat/early-data")))
    ///     .build()
    /// # }
    /// ```
    pub fn keep_register(mut self, store: Arc<dyn RegisterStore>) -> Self {
        self.register = Some(store);
        self
    }

    /// Which signatures of servers are accepted; Ed25519 alone unless told otherwise. A server whose
    /// identity is of ML-DSA-65 can be reached only with [`SignaturePolicy::Any`] or
    /// [`SignaturePolicy::PostQuantum`], which add a datagram to each hello. Clients are shown to servers
    /// by whatever identity they have.
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use jsp::{Endpoint, Identity, SignaturePolicy, SignatureScheme};
    ///
    /// let identity = Identity::generate_with(SignatureScheme::MlDsa65);
    /// let server = Endpoint::builder().bind("127.0.0.1:0").identity(identity).build()?;
    /// let client = Endpoint::builder().signatures(SignaturePolicy::PostQuantum).build()?;
    /// let connection = client.connect(server.local_addr()?, server.fingerprint()).await?;
    /// assert!(connection.peer_identity().is_some_and(|peer| peer.is_post_quantum()));
    /// # Ok(()) }
    /// ```
    pub fn signatures(mut self, signatures: SignaturePolicy) -> Self {
        self.signatures = signatures;
        self
    }

    /// Makes no connection whose secrecy a quantum computer could break: without it, too, the
    /// post-quantum exchange is what both sides use, so that this is a promise to be checked.
    pub fn require_pq(mut self) -> Self {
        self.require_pq = true;
        self
    }

    /// Makes no connection without a pinned fingerprint.
    pub fn require_pin(mut self) -> Self {
        self.require_pin = true;
        self
    }

    /// Accepts connections over TCP at `addr` too, for clients behind networks without UDP
    /// ([`Carrier::tcp`](crate::Carrier::tcp)). May be called several times. Without [`Builder::bind`]
    /// the endpoint has no UDP socket then.
    pub fn listen_tcp(self, addr: impl ToString) -> Self {
        self.listen(addr, ServerLayers::Plain)
    }

    /// Accepts connections over TLS at `addr` too ([`Carrier::tls`](crate::Carrier::tls)).
    #[cfg(feature = "tls")]
    pub fn listen_tls(self, addr: impl ToString, tls: crate::carrier::TlsServer) -> Self {
        self.listen(addr, ServerLayers::Tls(tls))
    }

    /// Accepts connections over WebSocket at `addr` too, at any path
    /// ([`Carrier::websocket`](crate::Carrier::websocket)).
    #[cfg(feature = "websocket")]
    pub fn listen_websocket(self, addr: impl ToString) -> Self {
        self.listen(addr, ServerLayers::WebSocket)
    }

    /// Accepts connections over WebSocket inside TLS at `addr` too.
    #[cfg(all(feature = "tls", feature = "websocket"))]
    pub fn listen_websocket_tls(self, addr: impl ToString, tls: crate::carrier::TlsServer) -> Self {
        self.listen(addr, ServerLayers::WebSocketTls(tls))
    }

    fn listen(mut self, addr: impl ToString, layers: ServerLayers) -> Self {
        self.listening.push(Listening { addr: addr.to_string(), layers });
        self
    }

    /// Which carriers this endpoint's own connections use. Default: UDP alone, or with a proxy
    /// whatever it carries, datagrams first and TCP besides.
    pub fn carriers(mut self, policy: CarrierPolicy) -> Self {
        self.carriers = Some(policy);
        self
    }

    /// Connects through this proxy and never around it: no datagram, no stream and, where the proxy
    /// resolves names itself, no name leaves another way.
    pub fn proxy(mut self, proxy: Proxy) -> Self {
        self.proxy = Some(proxy);
        self
    }

    /// Where streams for carriers come from. Default: the operating system's TCP.
    pub fn stream_network(mut self, network: Arc<dyn StreamNetwork>) -> Self {
        self.network = network;
        self
    }

    /// Watches this in place of the operating system's interfaces, addresses and routes: see
    /// [`jsp::monitor`](crate::monitor).
    pub fn network_monitor(mut self, monitor: Box<dyn NetworkMonitor>) -> Self {
        self.monitor = Some(Source::Given(monitor));
        self
    }

    /// Does not watch the addresses of this machine: connections learn of a change by silence, or by
    /// [`Connection::hint`](crate::Connection::hint). Default: they are watched while the endpoint has
    /// connections, where the system tells of changes (Linux).
    pub fn without_network_monitor(mut self) -> Self {
        self.monitor = None;
        self
    }

    /// The carriers that connections of this endpoint use, if they fit the proxy.
    fn policy(&self) -> Result<CarrierPolicy, BindError> {
        let relays = self.proxy.as_ref().is_none_or(Proxy::relays_datagrams);
        match &self.carriers {
            Some(CarrierPolicy::Only(carriers)) if carriers.is_empty() => {
                Err(BindError::Config("a connection needs a carrier: name one, or allow UDP"))
            }
            Some(policy) if policy.has_udp() && !relays => {
                Err(BindError::Config("this proxy carries no datagrams: choose carriers only"))
            }
            Some(policy) => Ok(policy.clone()),
            None if !relays => Ok(CarrierPolicy::Only(vec![crate::Carrier::tcp()])),
            None if self.proxy.is_some() => Ok(CarrierPolicy::Race(vec![crate::Carrier::tcp()])),
            None => Ok(CarrierPolicy::UdpOnly),
        }
    }

    /// Makes the endpoint and starts its driver on the current tokio runtime.
    ///
    /// Resolving a name in [`Builder::bind`] may block; addresses do not.
    ///
    /// # Errors
    /// See [`BindError`].
    pub fn build(mut self) -> Result<Endpoint, BindError> {
        let runtime = tokio::runtime::Handle::try_current().map_err(|_| BindError::NoRuntime)?;
        let policy = self.policy()?;
        let server = self.server_setup();
        let tunnels = Tunnels::new(runtime.clone(), self.transport.idle_timeout, self.carriers_max);
        let listeners = open_listeners(&*self.network, std::mem::take(&mut self.listening))?;
        let uses_udp = policy.has_udp() && self.proxy.is_none();
        let own = listeners.first().map(|listener| listener.addr);
        let is_server = self.identity.is_some();
        let mut bases = self.open_bases(own, is_server || uses_udp)?;
        let transport = prefer(&mut bases, &self.preferred, is_server, self.transport)?;
        let clock = Clock::start();
        let config = EndpointConfig {
            server,
            transport: Arc::clone(&transport),
            seed: self.seed.map_or_else(random_seed, |seed| *seed),
            unix_seconds_at_zero: clock.unix_seconds_at_zero(),
        };
        let links = shards::link(bases, &tunnels);
        let number = self.shared_tickets.as_ref().map_or(0, |shared| shared.shard);
        let place = (links.first().and_then(|links| links.local_addr().ok()), number);
        let (identity, key) = (self.identity.as_ref(), self.reset_key.map(|key| *key));
        let mut machines: Vec<_> = jsp_proto::Endpoint::sharded(config, self.shards)
            .into_iter()
            .map(|machine| keyed(machine, identity, key, place))
            .collect();
        if let Some(key) = &self.obfuscation {
            machines = machines.into_iter().map(|machine| machine.obfuscated(key)).collect();
        }
        let register = self.register.filter(|_| self.shared_tickets.is_some());
        if let Some(SharedTickets { secret, epoch, shard }) = self.shared_tickets {
            let kept = register.as_ref().and_then(|store| store.take());
            // What one shard is told of tickets holds for all.
            if let Some(machine) = machines.first_mut() {
                machine.share_tickets(clock.now(), *secret, epoch, shard, kept.as_deref());
            }
        }
        let carrier_addrs = listeners.iter().map(|l| (l.layers.kind(), l.addr)).collect();
        let strangers = Places::for_strangers();
        for Opened { listener, layers, .. } in listeners {
            let (strangers, carriers) = (Arc::clone(&strangers), Arc::downgrade(&tunnels));
            tunnels.listen(listen::run(listener, layers, strangers, carriers));
        }
        let (network, proxy) = (self.network, self.proxy);
        let dialer = Dialer { network, proxy, tunnels: Arc::clone(&tunnels) };
        let shards = shards::make(machines, links, clock);
        let offers = Offers {
            transport,
            fingerprint: self.identity.as_ref().map(Identity::fingerprint),
            credential: Mutex::new(self.client_identity.or(self.identity).map(|i| i.credential())),
            client_auth: self.client_auth,
            application_protocols: self.application_protocols,
            tickets: self.tickets,
            register,
            signatures: self.signatures,
            require_pq: self.require_pq,
            require_pin: self.require_pin,
            policy,
            dialer,
            carrier_addrs,
        };
        let endpoint = Endpoint::new(&shards, offers)?;
        shards::start(shards, self.monitor, self.busy_poll, &runtime);
        Ok(endpoint)
    }
}

fn random_seed() -> [u8; 32] {
    let mut seed = [0; 32];
    SystemRng.fill(&mut seed);
    seed
}

/// How a server under `identity` shakes hands.
pub(crate) fn server_config(
    identity: &Identity,
    client_auth: &ClientAuth,
    application_protocols: &[Vec<u8>],
) -> ServerConfig {
    let mut crypto = ServerConfig::new(identity.credential());
    crypto.client_auth = client_auth.to_crypto();
    crypto.application_protocols = application_protocols.to_vec();
    crypto
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("bind", &self.bind)
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}
