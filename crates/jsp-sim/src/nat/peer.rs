//! A peer of a meeting: registers, calls or is called, talks, and goes past the relay when it can.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use jsp_crypto::{Backend, ClientConfig, Credential, Fingerprint, Prf, ServerIdentity};
use jsp_nat::candidate::{Known, Offer, Policy, gather};
use jsp_nat::detour::{Detours, Exit};
use jsp_nat::punch::{self, KEY_LABEL, Puncher, Role, Sealer};
use jsp_nat::relay;
use jsp_nat::rendezvous::{CANDIDATES_CONTENT_TYPE, CONTENT_TYPE, FromClient, FromCoordinator};
use jsp_proto::{
    Batch, Connection, ConnectionHandle, Datagram, Endpoint, Event, Message, NetworkHint,
    StreamConfig, TransportConfig,
};
use jsp_wire::{Instant, Route, StreamId};

use super::hub;
use super::network::HostId;
use super::post::{Post, Towards};
use crate::random::Random;

/// Time between two messages of a talk.
const EVERY: Duration = Duration::from_millis(20);
/// Time between two punches.
const PACE: Duration = Duration::from_millis(20);
/// Silence of a connection after which it says that it is there.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// The number of a peer's carrier.
const CARRIER: u64 = 0;
/// A peer's port.
const PORT: u16 = 5000;

/// A number, as the messages of a talk carry it.
fn number_of(payload: &[u8]) -> Option<u64> {
    payload.first_chunk().copied().map(u64::from_be_bytes)
}

/// Punches are sealed under the key that both peers take from their connection.
fn sealer(connection: &Connection) -> Option<Sealer> {
    let mut key = [0; 32];
    connection.security()?.export(KEY_LABEL, b"", &mut key).ok()?;
    let prf = Prf::new(key);
    Some(Sealer::new(move |punch| {
        let [a, b, c, d, e, f, g, h, ..] = prf.derive("punch", punch);
        [a, b, c, d, e, f, g, h]
    }))
}

/// What a peer has seen.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    /// When it began to call.
    pub(super) called: Option<Instant>,
    /// When the first message came.
    pub(super) first: Option<Instant>,
    /// When datagrams went past the relay.
    pub(super) direct: Option<Instant>,
    /// When the direct way was lost last.
    pub(super) lost: Option<Instant>,
    /// Messages that came, all of them in order.
    pub(super) heard: u64,
    /// A message came twice, or out of order.
    pub(super) broken: bool,
}

/// The connection to the other peer.
struct Call {
    handle: ConnectionHandle,
    relayed: Route,
    role: Role,
    /// Candidates travel here.
    offers: Option<StreamId>,
    /// And the talk here.
    talk: Option<StreamId>,
    own: Offer,
    is_offered: bool,
    puncher: Option<Puncher>,
    said: u64,
    next_at: Instant,
}

/// Where a peer is, and what it may do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) host: HostId,
    pub(super) ip: IpAddr,
    pub(super) hub: SocketAddr,
    /// It reaches the coordinator by a carrier, and nobody else.
    pub(super) carried: bool,
    pub(super) policy: Policy,
}

/// A peer at work.
pub(super) struct Peer {
    place: Place,
    endpoint: Endpoint,
    credential: Credential,
    batch: Batch,
    control: Option<(ConnectionHandle, Option<StreamId>)>,
    pub(super) is_registered: bool,
    observed: Option<SocketAddr>,
    detours: Detours,
    call: Option<Call>,
    /// Until when it talks.
    talk_until: Instant,
    pub(super) seen: Seen,
    random: Random,
}

impl Peer {
    pub(super) fn new(seed: u64, place: Place) -> (Self, Fingerprint) {
        let mut random = Random::part(seed, "peer", place.host as u64);
        let (credential, fingerprint) = hub::credential(&mut random);
        let endpoint = hub::endpoint(credential.clone(), &mut random);
        let out = Self {
            place,
            endpoint,
            credential,
            batch: Batch::new(0, 1),
            control: None,
            is_registered: false,
            observed: None,
            detours: Detours::default(),
            call: None,
            talk_until: Instant::ZERO,
            seen: Seen::default(),
            random,
        };
        (out, fingerprint)
    }

    fn connect(&mut self, now: Instant, route: Route, server: Fingerprint) -> ConnectionHandle {
        let mut crypto = ClientConfig::new(ServerIdentity::Pinned(server));
        crypto.backend = Backend::Portable;
        crypto.credential = Some(self.credential.clone());
        let transport = Arc::new(TransportConfig {
            keep_alive: Some(KEEP_ALIVE),
            ..TransportConfig::default()
        });
        let handle = self.endpoint.connect(now, route, Arc::new(crypto), transport);
        handle.expect("a fresh endpoint has room for a connection and a sound configuration")
    }

    /// Connects to the coordinator, to be called.
    pub(super) fn register(&mut self, now: Instant, hub: Fingerprint, post: &mut Post) {
        let Place { carried, hub: address, .. } = self.place;
        if carried {
            self.endpoint.carrier_has_room(CARRIER, hub::CARRIER_ROOM);
        }
        let route = if carried { Route::Tunnel { id: CARRIER } } else { Route::udp(address) };
        self.control = Some((self.connect(now, route, hub), None));
        self.pump(now, post);
    }

    /// Calls the other peer.
    pub(super) fn call(&mut self, now: Instant, peer: Fingerprint, post: &mut Post) {
        let channel = self.random.next_u64();
        self.say(now, FromClient::Connect { peer: *peer.as_bytes(), channel });
        let relayed = Route::Relayed { via: self.place.hub, peer: channel };
        let handle = self.connect(now, relayed, peer);
        self.begin(now, handle, relayed, Role::Controlling);
        self.seen.called = Some(now);
        self.pump(now, post);
    }

    /// Talks until then, once connected.
    pub(super) fn talk_until(&mut self, now: Instant, until: Instant) {
        self.talk_until = until;
        if let Some(call) = &mut self.call {
            call.next_at = now;
        }
    }

    /// What it said so far.
    pub(super) fn said(&self) -> u64 {
        self.call.as_ref().map_or(0, |call| call.said)
    }

    /// Whether the other peer's transport is past the relay, as this end knows it.
    pub(super) fn is_direct(&mut self) -> bool {
        let Some(call) = &self.call else { return false };
        let route = self.endpoint.connection(call.handle).map(|connection| connection.route());
        match call.role {
            Role::Controlling => self.detours.of(&call.relayed).is_some(),
            Role::Controlled => matches!(route, Some(Route::Udp { .. })),
        }
    }

    fn begin(&mut self, now: Instant, handle: ConnectionHandle, relayed: Route, role: Role) {
        let Place { ip, carried, policy, .. } = self.place;
        let policy = if carried { Policy::RelayOnly } else { policy };
        let own = [SocketAddr::new(ip, PORT)];
        let seen: Vec<_> = self.observed.into_iter().collect();
        let token = self.random.next_u64();
        let known = Known { own: &own, seen: &seen, relayed: None };
        let own = Offer { token, candidates: gather(policy, known) };
        self.call = Some(Call {
            handle,
            relayed,
            role,
            offers: None,
            talk: None,
            own,
            is_offered: false,
            puncher: None,
            said: 0,
            next_at: now,
        });
    }

    fn say(&mut self, now: Instant, message: FromClient) {
        if let Some((handle, Some(stream))) = self.control
            && let Some(connection) = self.endpoint.connection(handle)
        {
            // Without the coordinator there is nobody to tell.
            let _ = connection.send(now, stream, Message::from(message.encode()));
        }
    }

    /// Takes a datagram of the network, or of the carrier.
    pub(super) fn receive(
        &mut self,
        now: Instant,
        from: Option<SocketAddr>,
        payload: &[u8],
        post: &mut Post,
    ) {
        let source = from.unwrap_or(self.place.hub);
        let (route, payload) = match relay::classify(payload) {
            relay::Class::Relay if source == self.place.hub => {
                let Some((channel, sealed)) = relay::parse(payload) else { return };
                (Route::Relayed { via: source, peer: channel }, sealed)
            }
            relay::Class::Punch => {
                let random = &mut self.random;
                let mut entropy = || random.next_u64();
                if let Some(puncher) = self.call.as_mut().and_then(|call| call.puncher.as_mut()) {
                    puncher.handle_datagram(now, source, payload, &mut entropy);
                }
                return self.pump(now, post);
            }
            relay::Class::Transport => {
                if let Some(puncher) = self.call.as_mut().and_then(|call| call.puncher.as_mut()) {
                    puncher.on_traffic(now, source);
                }
                (from.map_or(Route::Tunnel { id: CARRIER }, Route::udp), payload)
            }
            relay::Class::Relay | relay::Class::Stun => return,
        };
        let payload = BytesMut::from(payload);
        self.endpoint.handle_datagram(now, Datagram { route, ecn: None, payload });
        self.pump(now, post);
    }

    pub(super) fn wake(&mut self) -> Option<Instant> {
        let transport = self.endpoint.poll_timeout().map(|(at, _)| at);
        let call = self.call.as_ref();
        let punch = call.and_then(|call| call.puncher.as_ref()).and_then(Puncher::poll_timeout);
        let talk = call.filter(|call| call.talk.is_some() && call.next_at < self.talk_until);
        [transport, punch, talk.map(|call| call.next_at)].into_iter().flatten().min()
    }

    pub(super) fn handle_timeout(&mut self, now: Instant, post: &mut Post) {
        if self.wake().is_none_or(|at| at > now) {
            return;
        }
        if self.endpoint.poll_timeout().is_some_and(|(at, _)| at <= now) {
            self.endpoint.handle_timeout(now);
        }
        self.pump(now, post);
    }

    fn pump(&mut self, now: Instant, post: &mut Post) {
        if self.place.carried {
            self.endpoint.carrier_has_room(CARRIER, hub::CARRIER_ROOM);
        }
        while let Some((handle, event)) = self.endpoint.poll_event() {
            self.on_event(now, handle, &event);
        }
        self.talk_to_hub(now);
        self.hold_call(now);
        self.punch(now, post);
        while self.endpoint.poll_transmit(now, &mut self.batch) {
            self.transmit(now, post);
            self.batch.clear();
        }
        if self.seen.direct.is_none() && self.is_direct() {
            self.seen.direct = Some(now);
        }
    }

    fn transmit(&mut self, now: Instant, post: &mut Post) {
        let Some(route) = self.batch.route() else { return };
        let exit = self.detours.exit(&route);
        for datagram in self.batch.contents().chunks(self.batch.segment_len().max(1)) {
            let (to, datagram) = match exit {
                Some(Exit::Plain(to) | Exit::Turn(to)) => (to, datagram.to_vec()),
                Some(Exit::Relayed(to, header)) => (to, [&header[..], datagram].concat()),
                None => (self.place.hub, datagram.to_vec()),
            };
            if self.place.carried {
                post.carry(now, Towards::Coordinator(self.place.host), datagram);
            } else {
                post.send(now, self.place.host, PORT, to, datagram);
            }
        }
    }

    fn talk_to_hub(&mut self, now: Instant) {
        let Some((handle, stream)) = &mut self.control else { return };
        let Some(connection) = self.endpoint.connection(*handle) else { return };
        if stream.is_none() && connection.is_established() {
            let config = StreamConfig {
                content_type: Some(CONTENT_TYPE.to_owned()),
                ..StreamConfig::messages()
            };
            *stream = connection.open(now, config).ok();
            self.say(now, FromClient::Register);
            return;
        }
        let Some(stream) = *stream else { return };
        while let Ok(Some(message)) = connection.recv(now, stream) {
            let message = FromCoordinator::decode(&message.payload);
            if let Ok(Some(FromCoordinator::Registered { observed, .. })) = message {
                (self.is_registered, self.observed) = (true, observed);
            }
        }
    }

    /// The other peer's connection has come, over the relay.
    fn on_event(&mut self, now: Instant, handle: ConnectionHandle, event: &Event) {
        if let (Event::Closed { .. }, Some(call)) = (event, &mut self.call) {
            call.talk = None;
        }
        let is_known = self.call.is_some() || self.control.is_some_and(|c| c.0 == handle);
        if *event != Event::Connected || is_known {
            return;
        }
        if let Some(connection) = self.endpoint.connection(handle) {
            let relayed = connection.route();
            self.begin(now, handle, relayed, Role::Controlled);
        }
    }

    /// Streams, candidates and talk of the call.
    fn hold_call(&mut self, now: Instant) {
        let Some(call) = &mut self.call else { return };
        let Some(connection) = self.endpoint.connection(call.handle) else { return };
        if !connection.is_established() {
            return;
        }
        call.open_streams(now, connection);
        if let Some(offers) = call.offers {
            if !std::mem::replace(&mut call.is_offered, true) {
                let offer = Message::from(call.own.encode());
                connection.send(now, offers, offer).expect("a fresh stream takes a message");
            }
            while let Ok(Some(message)) = connection.recv(now, offers) {
                let Ok(offer) = Offer::decode(&message.payload) else { continue };
                let random = &mut self.random;
                let mut entropy = || random.next_u64();
                if let Some(puncher) = &mut call.puncher {
                    puncher.set_peer(now, offer, &mut entropy);
                    continue;
                }
                let Some(sealer) = sealer(connection) else { continue };
                let both = (&call.own, &offer);
                let puncher = Puncher::new(now, call.role, both, sealer, PACE, &mut entropy);
                call.puncher = Some(puncher);
            }
        }
        let Some(talk) = call.talk else { return };
        while let Ok(Some(message)) = connection.recv(now, talk) {
            self.seen.first.get_or_insert(now);
            self.seen.broken |= number_of(&message.payload) != Some(self.seen.heard);
            self.seen.heard += 1;
        }
        while call.next_at <= now && call.next_at < self.talk_until {
            let message = Message::from(call.said.to_be_bytes().to_vec());
            if connection.send(now, talk, message).is_err() {
                return;
            }
            call.said += 1;
            call.next_at = call.next_at + EVERY;
        }
    }

    fn punch(&mut self, now: Instant, post: &mut Post) {
        let Some(call) = &mut self.call else { return };
        let Some(puncher) = &mut call.puncher else { return };
        let random = &mut self.random;
        let mut entropy = || random.next_u64();
        while let Some((way, punch)) = puncher.poll_transmit(now, &mut entropy) {
            post.send(now, self.place.host, PORT, way.remote, punch);
        }
        let Route::Relayed { via, peer } = call.relayed else { return };
        while let Some(event) = puncher.poll_event() {
            match event {
                punch::Event::Failed => continue,
                punch::Event::Lost(_) => {
                    self.seen.lost = Some(now);
                    self.detours.close(via, peer);
                }
                punch::Event::Open(direct) => self.detours.open(via, peer, direct),
            }
            // Something is sent at once, for the other end to follow.
            if call.role == Role::Controlling
                && let Some(connection) = self.endpoint.connection(call.handle)
            {
                connection.hint(now, NetworkHint::InterfaceUp);
            }
        }
    }
}

impl Call {
    /// The caller opens two streams; the other takes them.
    fn open_streams(&mut self, now: Instant, connection: &mut Connection) {
        match self.role {
            Role::Controlling if self.offers.is_none() => {
                let content_type = Some(CANDIDATES_CONTENT_TYPE.to_owned());
                let config = StreamConfig { content_type, ..StreamConfig::messages() };
                self.offers = connection.open(now, config).ok();
                self.talk = connection.open(now, StreamConfig::messages()).ok();
                self.next_at = now;
            }
            Role::Controlling => {}
            Role::Controlled => {
                while let Some(stream) = connection.accept() {
                    let info = connection.stream_info(stream);
                    let content_type = info.and_then(|info| info.content_type);
                    match content_type.as_deref() {
                        Some(CANDIDATES_CONTENT_TYPE) => self.offers = Some(stream),
                        _ => self.talk = Some(stream),
                    }
                    self.next_at = now;
                }
            }
        }
    }
}
