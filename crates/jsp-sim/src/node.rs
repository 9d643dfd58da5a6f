//! An endpoint with the applications on it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use jsp_crypto::{
    Backend, ClientConfig, ClientTicket, Credential, Fingerprint, Identity, ObfuscationKey,
    ServerConfig, ServerIdentity, Suite,
};
use jsp_proto::{
    Batch, ConnectionHandle, Endpoint, EndpointConfig, Event, NetworkHint, PathId, RetryPolicy,
    ServerSetup, TransportConfig,
};
use jsp_wire::{Instant, Route};

use crate::app::{Actor, PlanTable, StreamPlan};
use crate::flow::{End, Pair, Side};
use crate::link;
use crate::observation::Observation;
use crate::peer::Counters;
use crate::random::Random;
use crate::resumption::{self, Resumes};
use crate::topology::{Client, SERVER_ADDRESS, Second, Server, pair_of, second_address};

/// Unix time at the beginning of every world, in seconds: 1 January 2026.
pub(crate) const UNIX_SECONDS_AT_ZERO: u64 = 1_767_225_600;
/// Connections that a server of a world takes.
const CONNECTIONS_MAX: usize = 1_000;
/// Rounds of events, application and sending in one instant; more is a loop without progress.
const ROUNDS_MAX: usize = 2_000;
/// Batches that one call may give before it counts as a loop without progress: at the largest
/// window of any configuration, a few thousand datagrams.
const BATCHES_MAX: usize = 20_000;
/// Datagrams in one batch, as generic segmentation offload allows them.
const SEGMENTS_MAX: usize = 64;

/// What a node needs to know of the world while it works.
pub(crate) struct Surroundings<'a> {
    pub(crate) now: Instant,
    /// Plans of the open streams, a table for each connection.
    pub(crate) tables: &'a mut [PlanTable],
    /// What the server's applications open, for each connection.
    pub(crate) server_scripts: &'a mut [Vec<StreamPlan>],
    pub(crate) log: &'a mut dyn FnMut(Observation<'_>),
    /// Datagrams to be sent.
    pub(crate) out: &'a mut Vec<link::Datagram>,
}

pub(crate) fn client_crypto(server: Fingerprint) -> Arc<ClientConfig> {
    let mut crypto = ClientConfig::new(ServerIdentity::Pinned(server));
    crypto.backend = Backend::Portable;
    crypto.suites = vec![Suite::Aes128Gcm];
    Arc::new(crypto)
}

/// What an endpoint needs to take connections.
pub(crate) fn setup(random: &mut Random, retry: RetryPolicy) -> ServerSetup {
    let identity = loop {
        if let Some(identity) = Identity::from_seed(&random.seed_bytes()) {
            break identity;
        }
    };
    let mut crypto = ServerConfig::new(Credential::new(Arc::new(identity)));
    crypto.backend = Backend::Portable;
    let crypto = Arc::new(crypto);
    ServerSetup { crypto, retry, connections_max: CONNECTIONS_MAX, silent: false }
}

/// An endpoint at work.
pub(crate) struct Node {
    side: Side,
    /// The client's number; of no meaning for the server.
    pair: Pair,
    endpoint: Endpoint,
    actors: Vec<(ConnectionHandle, Actor)>,
    /// Handshakes of clients that have a connection already: a hello came late, or twice.
    ghosts: Vec<ConnectionHandle>,
    transport: TransportConfig,
    batch: Batch,
    /// Connections that are not ready to read everything.
    unready: Vec<(ConnectionHandle, End)>,
    /// Of a client that has been there before.
    ticket: Option<ClientTicket>,
    /// A client has two interfaces, or a server two addresses, and so tells where a datagram came to.
    has_second: bool,
    pub(crate) is_gone: bool,
}

impl Node {
    /// The server of a world, and how clients know it.
    pub(crate) fn server(seed: u64, server: &Server) -> (Self, Fingerprint) {
        let mut random = Random::part(seed, "server", 0);
        let setup = setup(&mut random, server.retry);
        let fingerprint = setup.crypto.fingerprint();
        let transport = Arc::new(server.transport.clone());
        let endpoint = Endpoint::new(EndpointConfig {
            server: Some(setup),
            transport,
            seed: random.seed_bytes(),
            unix_seconds_at_zero: UNIX_SECONDS_AT_ZERO,
        });
        let node = Self::new(Side::Server, 0, endpoint, &server.transport);
        (Self { has_second: server.has_other(), ..node }, fingerprint)
    }

    /// A client that has not connected yet.
    pub(crate) fn client(seed: u64, pair: Pair, client: &Client) -> Self {
        let mut random = Random::part(seed, "client", u64::from(pair));
        let mut own = Random::part(seed, "client as server", u64::from(pair));
        let endpoint = Endpoint::new(EndpointConfig {
            server: client.listens.then(|| setup(&mut own, RetryPolicy::Never)),
            transport: Arc::new(client.transport.clone()),
            seed: random.seed_bytes(),
            unix_seconds_at_zero: UNIX_SECONDS_AT_ZERO,
        });
        let node = Self::new(Side::Client, pair, endpoint, &client.transport);
        Self { has_second: client.second.is_some(), ..node }
    }

    fn new(side: Side, pair: Pair, endpoint: Endpoint, transport: &TransportConfig) -> Self {
        let batch = Batch::new(0, SEGMENTS_MAX);
        let transport = transport.clone();
        Self {
            side,
            pair,
            endpoint,
            actors: Vec::new(),
            ghosts: Vec::new(),
            transport,
            batch,
            unready: Vec::new(),
            ticket: None,
            has_second: false,
            is_gone: false,
        }
    }

    /// The same, all of whose datagrams are wrapped under the key.
    pub(crate) fn obfuscated(mut self, key: Option<[u8; 32]>) -> Self {
        if let Some(key) = key {
            self.endpoint = self.endpoint.obfuscated(&ObfuscationKey::from_bytes(key));
        }
        self
    }

    /// Starts a client's connection.
    pub(crate) fn connect(&mut self, now: Instant, client: &Client, server: Fingerprint) {
        let crypto = client_crypto(server);
        let transport = Arc::new(client.transport.clone());
        let route = Route::udp(SERVER_ADDRESS);
        let early = client.resumes != Resumes::Plain;
        let handle = match self.ticket.take() {
            Some(ticket) => self.endpoint.resume(now, route, crypto, transport, ticket, early),
            None => self.endpoint.connect(now, route, crypto, transport),
        };
        let handle =
            handle.expect("a fresh endpoint has room for a connection and a sound configuration");
        let end = End { pair: self.pair, side: Side::Client };
        let mut actor = Actor::new(end, client.script.client.clone());
        if matches!(client.resumes, Resumes::Early | Resumes::Spoilt) {
            actor.begin_early();
        }
        self.actors.push((handle, actor));
    }

    /// A client has been at this server before the world began: the ticket that it got.
    pub(crate) fn meet(
        &mut self,
        seed: u64,
        client: &mut Self,
        spec: &Client,
        (own, key): (Fingerprint, Option<[u8; 32]>),
    ) {
        let setting = (client_crypto(own), UNIX_SECONDS_AT_ZERO, key);
        let (ticket, handle) =
            resumption::meet(&mut self.endpoint, seed, client.pair, spec, setting);
        self.ghosts.push(handle);
        client.ticket = Some(ticket);
    }

    /// Takes a datagram from the network.
    pub(crate) fn receive(&mut self, now: Instant, datagram: link::Datagram) {
        self.endpoint.handle_datagram(
            now,
            jsp_proto::Datagram {
                route: Route::Udp {
                    local: self.has_second.then(|| datagram.to.ip()),
                    remote: datagram.from,
                },
                ecn: datagram.ecn,
                payload: datagram.payload,
            },
        );
    }

    /// Lets the endpoint act on its deadlines.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if self.endpoint.poll_timeout().is_some_and(|(at, _)| at <= now) {
            self.endpoint.handle_timeout(now);
        }
    }

    /// When the node has something to do by itself.
    pub(crate) fn wake(&mut self) -> Option<Instant> {
        if self.is_gone {
            return None;
        }
        let timeout = self.endpoint.poll_timeout().map(|(at, _)| at);
        let actors = self.actors.iter().filter_map(|(_, actor)| actor.wake());
        actors.chain(timeout).min()
    }

    /// Hands events to the applications, lets them act, and collects what is to be sent, until
    /// nothing moves.
    pub(crate) fn pump(&mut self, around: &mut Surroundings<'_>) {
        for _ in 0..ROUNDS_MAX {
            let had_events = self.hand_out_events(around);
            self.note_ready(around);
            let acted = self.run_actors(around);
            let sent = self.transmit(around);
            // Looking for something to send may end a connection, which is an event again.
            if !had_events && !acted && !sent && !self.hand_out_events(around) {
                return;
            }
        }
        let what = format!("the {}: events, application and sending never rest", self.side);
        (around.log)(Observation::Spinning { what: &what });
    }

    /// Closes all connections.
    pub(crate) fn close(
        &mut self,
        now: Instant,
        code: u64,
        reason: &str,
        log: &mut dyn FnMut(Observation<'_>),
    ) {
        for (handle, actor) in &self.actors {
            if actor.is_closed() {
                continue;
            }
            log(Observation::Closing { end: actor.end(), code, reason });
            if let Some(connection) = self.endpoint.connection(*handle) {
                connection.close(now, code, reason.as_bytes());
            }
        }
    }

    /// What the transport of an end counted, when it lives here.
    pub(crate) fn counters(&mut self, end: End) -> Option<Counters> {
        let (handle, _) = self.actors.iter().find(|(_, actor)| actor.end() == end)?;
        let connection = self.endpoint.connection(*handle)?;
        let stats = connection.stats();
        Some(Counters {
            packets_sent: stats.traffic.packets_sent,
            packets_lost: stats.traffic.packets_lost,
            probe_timeouts: stats.traffic.probe_timeouts,
            rtt: stats.rtt,
            congestion_window: stats.congestion_window,
            path_memory: connection.path_memory(),
        })
    }

    /// The applications tell what they know of the network.
    pub(crate) fn hint(&mut self, now: Instant, hint: NetworkHint) {
        for (handle, _) in &self.actors {
            if let Some(connection) = self.endpoint.connection(*handle) {
                connection.hint(now, hint);
            }
        }
    }

    /// The client opens a path over its second interface; false when it cannot yet.
    pub(crate) fn open_second(&mut self, now: Instant, second: &Second) -> bool {
        let route =
            Route::Udp { local: Some(second_address(self.pair).ip()), remote: SERVER_ADDRESS };
        let mut handles = self.actors.iter().map(|(handle, _)| *handle);
        let Some(handle) = handles.next() else { return false };
        let Ok(path) = self.endpoint.open_path(now, handle, route) else { return false };
        if let Some(connection) = self.endpoint.connection(handle) {
            let _ = connection.set_path_use(path, second.usage);
        }
        true
    }

    /// The client gives the path over its second interface up.
    pub(crate) fn end_second(&mut self, now: Instant) {
        let local = Some(second_address(self.pair).ip());
        for (handle, _) in &self.actors {
            let Some(connection) = self.endpoint.connection(*handle) else { continue };
            let is_second = |route| matches!(route, Route::Udp { local: own, .. } if own == local);
            let path = connection.paths().find(|path| is_second(path.route)).map(|path| path.id);
            if let Some(path) = path {
                // The last path stays.
                let _ = connection.abandon_path(now, path);
            }
        }
    }

    /// The client gives the path over its first interface up.
    pub(crate) fn end_first(&mut self, now: Instant) {
        for (handle, _) in &self.actors {
            if let Some(connection) = self.endpoint.connection(*handle) {
                // The last path stays, and one that is over is over.
                let _ = connection.abandon_path(now, PathId::FIRST);
            }
        }
    }

    /// The application tells what it knows of its first interface.
    pub(crate) fn hint_first(&mut self, now: Instant, hint: NetworkHint) {
        for (handle, _) in &self.actors {
            if let Some(connection) = self.endpoint.connection(*handle) {
                // A path that is over needs no hint.
                let _ = connection.hint_path(now, PathId::FIRST, hint);
            }
        }
    }

    /// The ends that live here.
    pub(crate) fn ends(&self) -> impl Iterator<Item = End> {
        self.actors.iter().map(|(_, actor)| actor.end())
    }

    /// Whether all applications have done what they were to do, or cannot any more.
    pub(crate) fn is_finished(&self) -> bool {
        self.actors.iter().all(|(_, actor)| actor.is_closed() || actor.is_finished())
    }

    /// What the applications still have to do.
    pub(crate) fn unfinished(&self) -> Vec<String> {
        let open = self.actors.iter().filter(|(_, actor)| !actor.is_closed());
        open.flat_map(|(_, actor)| actor.unfinished()).collect()
    }

    /// Whether the endpoint has nothing left to do, now or later.
    pub(crate) fn is_at_rest(&mut self) -> bool {
        self.endpoint.is_at_rest()
    }

    fn hand_out_events(&mut self, around: &mut Surroundings<'_>) -> bool {
        let mut had_any = false;
        while let Some((handle, event)) = self.endpoint.poll_event() {
            had_any = true;
            let Some(index) = self.actor_of(handle, around) else {
                self.on_ghost_event(handle, &event, around);
                continue;
            };
            let (_, actor) = &mut self.actors[index];
            let end = actor.end();
            (around.log)(Observation::Event { end, event: &event });
            if event == Event::Connected {
                self.unready.push((handle, end));
            }
            if let Event::PathChanged { route, .. } | Event::PathOpened { route, .. } = &event
                && let Some(to) = route.remote()
            {
                (around.log)(Observation::PathChanged { end, to });
            }
            actor.on_event(around.now, &event, &around.tables[end.pair as usize], around.log);
            if event == Event::Drained {
                self.endpoint.forget(around.now, handle);
            }
        }
        had_any
    }

    fn note_ready(&mut self, around: &mut Surroundings<'_>) {
        let endpoint = &mut self.endpoint;
        self.unready.retain(|(handle, end)| {
            let Some(connection) = endpoint.connection(*handle) else { return false };
            let is_ready = connection.is_established();
            if is_ready {
                (around.log)(Observation::Ready(*end));
            }
            !is_ready && !connection.is_closed()
        });
    }

    /// The place of a connection's application; a server makes one when it meets the connection.
    fn actor_of(
        &mut self,
        handle: ConnectionHandle,
        around: &mut Surroundings<'_>,
    ) -> Option<usize> {
        if let Some(index) = self.actors.iter().position(|(known, _)| *known == handle) {
            return Some(index);
        }
        if self.ghosts.contains(&handle) {
            return None;
        }
        let route = self.endpoint.connection(handle).map(|connection| connection.route());
        let pair = pair_of(route?.remote()?)?;
        let end = End { pair, side: Side::Server };
        if self.ends().any(|known| known == end) {
            self.ghosts.push(handle);
            return None;
        }
        let script = std::mem::take(around.server_scripts.get_mut(pair as usize)?);
        self.actors.push((handle, Actor::new(end, script)));
        Some(self.actors.len() - 1)
    }

    /// A second handshake with the same hello must come to nothing, and go away.
    fn on_ghost_event(
        &mut self,
        handle: ConnectionHandle,
        event: &Event,
        around: &mut Surroundings<'_>,
    ) {
        match event {
            Event::Closed { .. } => {}
            Event::Drained => {
                self.endpoint.forget(around.now, handle);
                self.ghosts.retain(|ghost| *ghost != handle);
            }
            other => {
                let what = format!("a hello that came twice led to {other:?}");
                let end = End { pair: self.pair, side: self.side };
                (around.log)(Observation::CallFailed { end, what: &what });
            }
        }
    }

    fn run_actors(&mut self, around: &mut Surroundings<'_>) -> bool {
        let mut acted = false;
        for (handle, actor) in &mut self.actors {
            if actor.wake().is_none_or(|at| at > around.now) {
                continue;
            }
            acted = true;
            let table = &mut around.tables[actor.end().pair as usize];
            if let Some(connection) = self.endpoint.connection(*handle) {
                actor.run(around.now, connection, table, around.log);
                (around.log)(Observation::Buffered {
                    end: actor.end(),
                    bytes: connection.stats().buffered,
                    window_max: self.transport.connection_window_max
                        + self.transport.message_len_max,
                    unreliable_buffer: self.transport.unreliable_buffer as u64,
                });
            }
        }
        acted
    }

    fn transmit(&mut self, around: &mut Surroundings<'_>) -> bool {
        for count in 0..BATCHES_MAX {
            if !self.endpoint.poll_transmit(around.now, &mut self.batch) {
                return count > 0;
            }
            self.send_batch(around);
            self.batch.clear();
        }
        let what = format!("the {}: there is always more to send", self.side);
        (around.log)(Observation::Spinning { what: &what });
        false
    }

    fn send_batch(&mut self, around: &mut Surroundings<'_>) {
        let Some(to) = self.batch.route().and_then(|route| route.remote()) else { return };
        let pair = match self.side {
            Side::Client => self.pair,
            Side::Server => pair_of(to).unwrap_or_default(),
        };
        let from = End { pair, side: self.side };
        // The link's owner knows the address that the other side will see.
        let source = match self.batch.route() {
            Some(Route::Udp { local: Some(own), .. }) => SocketAddr::new(own, 0),
            _ => SERVER_ADDRESS,
        };
        for payload in self.batch.contents().chunks(self.batch.segment_len().max(1)) {
            (around.log)(Observation::DatagramSent { from, to, payload });
            around.out.push(link::Datagram {
                from: source,
                to,
                ecn: self.batch.ecn(),
                payload: BytesMut::from(payload),
                sent: around.now,
                beyond: Duration::ZERO,
                intact: true,
            });
        }
    }
}
