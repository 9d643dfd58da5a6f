//! Two endpoints and the wires between them, in virtual time.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use jsp_crypto::{
    ClientConfig, ClientTicket, Identity, ObfuscationKey, Rng, ServerConfig, ServerIdentity,
};
use jsp_proto::{
    Batch, CloseReason, ConnectionHandle, Datagram, Ecn, Endpoint, EndpointConfig, Event, Instant,
    RetryPolicy, Route, ServerSetup, TransportConfig,
};

/// Random bytes that are the same each time.
pub struct TestRng(pub u64);

impl Rng for TestRng {
    fn fill(&mut self, out: &mut [u8]) {
        for byte in out {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            *byte = self.0 as u8;
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum End {
    Client,
    Server,
}

struct Flying {
    at: Instant,
    to: End,
    from: SocketAddr,
    /// Where it goes.
    at_addr: SocketAddr,
    /// That of the stream, where it goes by one.
    route: Option<Route>,
    ecn: Option<Ecn>,
    bytes: Vec<u8>,
}

/// Lets a datagram through by where it comes from and goes to.
type RouteFilter = Box<dyn FnMut(SocketAddr, SocketAddr) -> bool>;

type Filter = Box<dyn FnMut(End, &mut Vec<u8>) -> bool>;

/// The mark that a datagram arrives with, by its receiver and the one that it left with.
type Marking = Box<dyn FnMut(End, Option<Ecn>) -> Option<Ecn>>;

/// Somebody who passes datagrams on from an address of his own, and is twice as quick as the network.
#[derive(Clone, Copy, Debug)]
pub struct Thief {
    pub addr: SocketAddr,
    /// He sees what the server sends to the client, and passes copies on.
    pub copies: bool,
    /// What comes to his address he passes on to the other end.
    pub relays: bool,
}

/// A stream that the client has to the server, beside what goes as datagrams. It takes whatever it is given.
pub struct Stream {
    pub route: Route,
    /// Bytes a second to the server; nothing holds up the other way.
    pub rate: u64,
    /// When it has passed on what it was given.
    free_at: Instant,
}

impl Stream {
    pub const fn new(rate: u64) -> Self {
        Self { route: Route::Tunnel { id: 1 }, rate, free_at: Instant::ZERO }
    }
}

/// How long each copy of a datagram takes: none for a lost one.
type Weather = Box<dyn FnMut(End) -> Vec<Duration>>;

/// A client and a server, 10 ms apart.
pub struct Pair {
    pub client: Endpoint,
    pub server: Endpoint,
    pub now: Instant,
    pub client_addr: SocketAddr,
    /// The client's second interface.
    pub second_addr: SocketAddr,
    pub server_addr: SocketAddr,
    /// Another address of the server, where it has one: then it knows at which a datagram has come.
    pub server_other: Option<SocketAddr>,
    /// Looks at where each datagram goes; false drops it.
    pub filter_from: Option<RouteFilter>,
    pub thief: Option<Thief>,
    pub stream: Option<Stream>,
    /// Datagrams to and from an address take so much longer.
    pub lag: Option<(SocketAddr, Duration)>,
    /// Holds back what the client sends, when wanted.
    pub held: Option<Vec<Vec<u8>>>,
    /// Looks at each datagram by its receiver; false drops it.
    pub filter: Filter,
    /// How long the copies of a datagram take, by its receiver.
    pub weather: Weather,
    /// What becomes of the marks of datagrams.
    pub marking: Marking,
    /// The mark of each datagram that the client sent.
    pub marks: Vec<Option<Ecn>>,
    /// Bytes that the server received from each address.
    pub heard: HashMap<SocketAddr, u64>,
    /// Bytes that the server sent to each address.
    pub told: HashMap<SocketAddr, u64>,
    /// Bytes that the client received from each address, and sent there, when wanted.
    pub client_account: Option<HashMap<SocketAddr, (u64, u64)>>,
    /// Connection ids of 1-RTT packets, by their receiver and the address of the client's end.
    pub ids: HashMap<(End, SocketAddr), HashSet<Vec<u8>>>,
    /// The same by the address of the server's end.
    pub ids_at: HashMap<(End, SocketAddr), HashSet<Vec<u8>>>,
    /// The addresses of both ends, the client's first, that a connection id was seen between.
    pub seen: HashMap<(End, Vec<u8>), HashSet<[SocketAddr; 2]>>,
    /// Every datagram that was delivered, when wanted: receiver and bytes.
    pub record: Option<Vec<(End, Vec<u8>)>>,
    /// Every datagram that was sent, when wanted: sender, time, bytes.
    pub departures: Option<Vec<(End, Instant, usize)>>,
    pub client_config: Arc<ClientConfig>,
    server_config: EndpointConfig,
    pub transport: Arc<TransportConfig>,
    pub events: VecDeque<(End, ConnectionHandle, Event)>,
    /// Bytes sent by each end: client, server.
    pub sent: [u64; 2],
    pub datagrams: [u64; 2],
    established: Option<(ConnectionHandle, ConnectionHandle)>,
    flying: VecDeque<Flying>,
    batch: Batch,
}

/// One way.
pub const DELAY: Duration = Duration::from_millis(10);

impl Pair {
    pub fn new() -> Self {
        Self::with(TransportConfig::default(), RetryPolicy::Never)
    }

    pub fn with(transport: TransportConfig, retry: RetryPolicy) -> Self {
        Self::seeded(transport, retry, 16, 1)
    }

    /// A pair whose server answers nobody who does not know its fingerprint.
    pub fn silent(retry: RetryPolicy) -> Self {
        let mut pair = Self::with(TransportConfig::default(), retry);
        pair.server_config.server.as_mut().unwrap().silent = true;
        pair.restart_server();
        pair
    }

    /// A pair of which everything random follows from `seed`.
    pub fn seeded(
        transport: TransportConfig,
        retry: RetryPolicy,
        connections_max: usize,
        seed: u8,
    ) -> Self {
        let mut rng = TestRng(0x1234_5678_9abc_def1);
        let identity = Arc::new(Identity::generate(&mut rng));
        let server_crypto = Arc::new(ServerConfig::new(identity));
        let pin = server_crypto.fingerprint();
        let transport = Arc::new(transport);
        let config = |server, seed: u8| EndpointConfig {
            server,
            transport: transport.clone(),
            seed: [seed; 32],
            unix_seconds_at_zero: 1_800_000_000,
        };
        let setup = ServerSetup { crypto: server_crypto, retry, connections_max, silent: false };
        let server_config = config(Some(setup), seed.wrapping_add(100));
        Self {
            client: Endpoint::new(config(None, seed)),
            server: Endpoint::new(server_config.clone()),
            server_config,
            now: Instant::from_nanos(1_000_000_000),
            client_addr: "192.0.2.1:1000".parse().unwrap(),
            second_addr: "192.0.2.9:1000".parse().unwrap(),
            server_addr: "192.0.2.2:2000".parse().unwrap(),
            server_other: None,
            filter_from: None,
            thief: None,
            stream: None,
            lag: None,
            held: None,
            filter: Box::new(|_, _| true),
            weather: Box::new(|_| vec![DELAY]),
            marking: Box::new(|_, ecn| ecn),
            marks: Vec::new(),
            heard: HashMap::new(),
            told: HashMap::new(),
            client_account: None,
            ids: HashMap::new(),
            ids_at: HashMap::new(),
            seen: HashMap::new(),
            record: None,
            departures: None,
            client_config: Arc::new(ClientConfig::new(ServerIdentity::Pinned(pin))),
            transport,
            events: VecDeque::new(),
            sent: [0; 2],
            datagrams: [0; 2],
            established: None,
            flying: VecDeque::new(),
            batch: Batch::new(0, 64),
        }
    }

    /// The same pair with other configurations of both sides.
    pub fn proving(mut self, client: ClientConfig, server: ServerConfig) -> Self {
        self.server_config.server.as_mut().unwrap().crypto = Arc::new(server);
        self.client_config = Arc::new(client);
        self.restart_server();
        self
    }

    /// The same pair, all of whose datagrams are wrapped.
    pub fn obfuscated(mut self, key: [u8; 32]) -> Self {
        let key = ObfuscationKey::from_bytes(key);
        self.client = self.client.obfuscated(&key);
        self.server = self.server.obfuscated(&key);
        self
    }

    pub fn connect(&mut self) -> ConnectionHandle {
        let route = Route::udp(self.server_addr);
        let (config, transport) = (self.client_config.clone(), self.transport.clone());
        self.client.connect(self.now, route, config, transport).unwrap()
    }

    /// Connects with a ticket.
    pub fn resume(&mut self, ticket: ClientTicket, early: bool) -> ConnectionHandle {
        let route = Route::udp(self.server_addr);
        let (config, transport) = (self.client_config.clone(), self.transport.clone());
        self.client.resume(self.now, route, config, transport, ticket, early).unwrap()
    }

    /// A ticket from a connection that is made for it, and closed.
    pub fn ticket(&mut self) -> ClientTicket {
        let (client, server) = self.establish();
        let ticket = self.take_ticket(client);
        let now = self.now;
        self.client.forget(now, client);
        self.run_for(Duration::from_secs(2));
        self.server.forget(self.now, server);
        self.run_for(Duration::from_millis(1));
        self.events.clear();
        ticket
    }

    /// The ticket that a connection has brought; waits for it.
    pub fn take_ticket(&mut self, client: ConnectionHandle) -> ClientTicket {
        let mut ticket = None;
        self.run_until(|pair| {
            let connection = pair.client.connection(client).unwrap();
            ticket = ticket.take().or_else(|| connection.take_ticket());
            ticket.is_some()
        });
        ticket.unwrap()
    }

    /// The server's configuration, for servers beside it.
    pub fn server_config(&self) -> EndpointConfig {
        self.server_config.clone()
    }

    /// Connects and runs until both sides say so; answers both handles.
    pub fn establish(&mut self) -> (ConnectionHandle, ConnectionHandle) {
        let client = self.connect();
        self.run_until(|pair| {
            let connected = |end| {
                pair.events.iter().any(|(e, _, event)| *e == end && *event == Event::Connected)
            };
            connected(End::Client) && connected(End::Server)
        });
        let server = self
            .events
            .iter()
            .find(|(end, _, event)| *end == End::Server && *event == Event::Connected)
            .map(|(_, handle, _)| *handle)
            .unwrap();
        self.run_for(Duration::from_millis(100));
        self.events.clear();
        self.established = Some((client, server));
        (client, server)
    }

    fn endpoint(&mut self, end: End) -> &mut Endpoint {
        match end {
            End::Client => &mut self.client,
            End::Server => &mut self.server,
        }
    }

    /// Sends everything that wants to leave, and gathers events.
    pub fn flush(&mut self) {
        if let Some(Route::Tunnel { id }) = self.stream.as_ref().map(|stream| stream.route) {
            self.client.carrier_has_room(id, usize::MAX);
            self.server.carrier_has_room(id, usize::MAX);
        }
        for end in [End::Client, End::Server] {
            while let Some((handle, event)) = self.endpoint(end).poll_event() {
                self.events.push_back((end, handle, event));
            }
            loop {
                let now = self.now;
                let mut batch = std::mem::replace(&mut self.batch, Batch::new(0, 1));
                let more = self.endpoint(end).poll_transmit(now, &mut batch);
                if more {
                    self.launch(end, &batch);
                    batch.clear();
                }
                self.batch = batch;
                if !more {
                    break;
                }
            }
            while let Some((handle, event)) = self.endpoint(end).poll_event() {
                self.events.push_back((end, handle, event));
            }
        }
    }

    /// What goes by the stream.
    fn stream(&mut self, end: End, batch: &Batch) -> bool {
        let Some(stream) = self.stream.as_mut().filter(|own| batch.route() == Some(own.route))
        else {
            return false;
        };
        for segment in batch.contents().chunks(batch.segment_len()) {
            let (to, mut at) =
                (if end == End::Client { End::Server } else { End::Client }, self.now);
            if end == End::Client {
                let nanos = segment.len() as u64 * 1_000_000_000 / stream.rate;
                stream.free_at = stream.free_at.max(self.now) + Duration::from_nanos(nanos);
                at = stream.free_at;
            }
            let (from, at_addr) = (self.client_addr, self.server_addr);
            let (at, bytes) = (at + DELAY, segment.to_vec());
            let place = self.flying.partition_point(|other| other.at <= at);
            let route = Some(stream.route);
            self.flying.insert(place, Flying { at, to, from, at_addr, route, ecn: None, bytes });
        }
        true
    }

    fn launch(&mut self, end: End, batch: &Batch) {
        if self.stream(end, batch) {
            return;
        }
        let own = match batch.route() {
            Some(Route::Udp { local, .. }) => local,
            _ => None,
        };
        let (to, from) = match end {
            End::Client if own == Some(self.second_addr.ip()) => (End::Server, self.second_addr),
            End::Client => (End::Server, self.client_addr),
            End::Server => match self.server_other.filter(|at| own == Some(at.ip())) {
                Some(other) => (End::Client, other),
                None => (End::Client, self.server_addr),
            },
        };
        for segment in batch.contents().chunks(batch.segment_len()) {
            let mut bytes = segment.to_vec();
            if let Some(departures) = &mut self.departures {
                departures.push((end, self.now, bytes.len()));
            }
            self.sent[end as usize] += bytes.len() as u64;
            self.datagrams[end as usize] += 1;
            if end == End::Client {
                self.marks.push(batch.ecn());
            }
            let to_addr = batch.route().and_then(|route| route.remote()).unwrap();
            if let (End::Client, Some(paid)) = (end, &mut self.client_account) {
                paid.entry(to_addr).or_default().1 += bytes.len() as u64;
            }
            if end == End::Server {
                *self.told.entry(to_addr).or_default() += bytes.len() as u64;
            }
            if bytes[0] & 0x80 == 0 {
                let client = if end == End::Client { from } else { to_addr };
                let server = if end == End::Client { to_addr } else { from };
                let id = bytes[1..5].to_vec();
                self.seen.entry((to, id)).or_default().insert([client, server]);
                self.ids_at.entry((to, server)).or_default().insert(bytes[1..5].to_vec());
                self.ids.entry((to, client)).or_default().insert(bytes[1..5].to_vec());
            }
            self.pass_on(to, to_addr, &bytes);
            let at_addr = to_addr;
            let reaches = match end {
                End::Client => to_addr == self.server_addr || self.server_other == Some(to_addr),
                End::Server => [self.client_addr, self.second_addr].contains(&to_addr),
            };
            let passes = self.filter_from.as_mut().is_none_or(|filter| filter(from, to_addr));
            if !(self.filter)(to, &mut bytes) || !reaches || !passes {
                continue;
            }
            if let Some(held) = self.held.as_mut().filter(|_| end == End::Client) {
                held.push(bytes);
                continue;
            }
            let ecn = (self.marking)(to, batch.ecn());
            let lag = self.lag.filter(|(at, _)| [from, to_addr].contains(at));
            for delay in (self.weather)(to) {
                let at = self.now + delay + lag.map_or(Duration::ZERO, |(_, lag)| lag);
                let place = self.flying.partition_point(|other| other.at <= at);
                self.flying.insert(
                    place,
                    Flying { at, to, from, at_addr, route: None, ecn, bytes: bytes.clone() },
                );
            }
        }
    }

    /// What a thief makes of a datagram to this address.
    fn pass_on(&mut self, to: End, to_addr: SocketAddr, bytes: &[u8]) {
        let Some(thief) = self.thief else { return };
        let is_copied = thief.copies && to == End::Client && to_addr == self.client_addr;
        if is_copied || (thief.relays && to_addr == thief.addr) {
            let at_addr = if to == End::Client { self.client_addr } else { self.server_addr };
            let (at, bytes) = (self.now + DELAY / 2, bytes.to_vec());
            let place = self.flying.partition_point(|other| other.at <= at);
            self.flying.insert(
                place,
                Flying { at, to, from: thief.addr, at_addr, route: None, ecn: None, bytes },
            );
        }
    }

    /// Connection ids that were seen between more than one pair of addresses, by their receiver.
    pub fn linked(&self) -> Vec<&(End, Vec<u8>)> {
        self.seen.iter().filter(|(_, seen)| seen.len() > 1).map(|(id, _)| id).collect()
    }

    /// The server starts anew: it has its seed and its identity, and nothing else.
    pub fn restart_server(&mut self) {
        self.server = Endpoint::new(self.server_config.clone());
    }

    /// Puts a datagram before an endpoint, as if it had just arrived.
    pub fn inject(&mut self, to: End, from: SocketAddr, bytes: &[u8]) {
        let (now, payload) = (self.now, BytesMut::from(bytes));
        let datagram = Datagram { route: Route::udp(from), ecn: None, payload };
        if to == End::Server {
            *self.heard.entry(from).or_default() += bytes.len() as u64;
        } else if let Some(paid) = &mut self.client_account {
            paid.entry(from).or_default().0 += bytes.len() as u64;
        }
        self.endpoint(to).handle_datagram(now, datagram);
    }

    /// Copies of the datagrams that are on their way to an end, by their arrival.
    pub fn on_the_way(&self, to: End) -> Vec<Vec<u8>> {
        self.flying.iter().filter(|flying| flying.to == to).map(|f| f.bytes.clone()).collect()
    }

    /// The handles of the only connection.
    pub fn handles(&self) -> (ConnectionHandle, ConnectionHandle) {
        self.established.unwrap()
    }

    /// Why the connection of this end was closed, if it was.
    pub fn close_reason(&self, end: End, handle: ConnectionHandle) -> Option<CloseReason> {
        self.events.iter().find_map(|(at, of, event)| match event {
            Event::Closed { reason } if *at == end && *of == handle => Some(reason.clone()),
            _ => None,
        })
    }

    /// Goes on to the next thing that happens; false when nothing will, before `until`.
    fn step(&mut self, until: Instant) -> bool {
        self.flush();
        let arrival = self.flying.front().map(|flying| flying.at);
        let timers = [self.client.poll_timeout(), self.server.poll_timeout()];
        let next = timers.into_iter().flatten().map(|(at, _)| at).chain(arrival).min();
        let Some(next) = next.filter(|next| *next <= until) else {
            self.now = until;
            return false;
        };
        self.now = self.now.max(next);
        let now = self.now;
        while let Some(flying) = self.flying.pop_front_if(|flying| flying.at <= now) {
            if flying.to == End::Server {
                *self.heard.entry(flying.from).or_default() += flying.bytes.len() as u64;
            }
            if let Some(record) = &mut self.record {
                record.push((flying.to, flying.bytes.clone()));
            }
            let tells = match flying.to {
                End::Client => flying.at_addr == self.second_addr,
                End::Server => self.server_other.is_some(),
            };
            let local = tells.then(|| flying.at_addr.ip());
            let route = flying.route.unwrap_or(Route::Udp { local, remote: flying.from });
            let payload = BytesMut::from(&flying.bytes[..]);
            let datagram = Datagram { route, ecn: flying.ecn, payload };
            self.endpoint(flying.to).handle_datagram(now, datagram);
        }
        self.client.handle_timeout(now);
        self.server.handle_timeout(now);
        true
    }

    pub fn run_for(&mut self, time: Duration) {
        let until = self.now + time;
        while self.step(until) {}
        self.flush();
    }

    /// Runs until the condition holds; panics after two virtual minutes.
    pub fn run_until(&mut self, mut condition: impl FnMut(&mut Self) -> bool) {
        let deadline = self.now + Duration::from_secs(120);
        loop {
            self.flush();
            if condition(self) {
                return;
            }
            assert!(self.now < deadline, "did not happen; events: {:?}", self.events);
            self.step(deadline);
        }
    }
}
