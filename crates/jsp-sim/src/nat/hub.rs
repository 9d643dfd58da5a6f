//! The coordinator of a meeting: a server with the machine that joins its clients.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::BytesMut;
use jsp_crypto::{
    Backend, ClientAuth, ClientVerifier, Credential, Fingerprint, Identity, PeerIdentity,
    ServerConfig, VerifierRejection,
};
use jsp_nat::coordinator::{Coordinator, Limits};
use jsp_nat::{relay, stun};
use jsp_proto::{
    Batch, ConnectionHandle, Datagram, Endpoint, EndpointConfig, Event, Message, RetryPolicy,
    ServerSetup, TransportConfig,
};
use jsp_wire::{Instant, Route, StreamId};

use super::network::HostId;
use super::post::{Post, Towards};
use crate::node::UNIX_SECONDS_AT_ZERO;
use crate::random::Random;

/// The coordinator's port.
pub(super) const PORT: u16 = 4433;

/// The coordinator at work.
pub(super) struct Hub {
    host: HostId,
    endpoint: Endpoint,
    batch: Batch,
    meeting: Coordinator,
    /// Clients by the number that the machine knows them by, with the stream they have opened.
    clients: BTreeMap<u64, (ConnectionHandle, Option<StreamId>)>,
    /// Carriers that clients come by.
    carriers: BTreeSet<u64>,
    random: Random,
}

/// Bytes that a carrier of the world takes at once.
pub(super) const CARRIER_ROOM: usize = 1 << 20;

/// Takes every client that shows an identity.
struct Anybody;

impl ClientVerifier for Anybody {
    fn verify(&self, _: &PeerIdentity) -> Result<(), VerifierRejection> {
        Ok(())
    }
}

/// A credential of the world's, and its fingerprint.
pub(super) fn credential(random: &mut Random) -> (Credential, Fingerprint) {
    loop {
        if let Some(identity) = Identity::from_seed(&random.seed_bytes()) {
            let fingerprint = identity.fingerprint();
            return (Credential::new(Arc::new(identity)), fingerprint);
        }
    }
}

/// An endpoint that accepts, under an identity, who shows one.
pub(super) fn endpoint(credential: Credential, random: &mut Random) -> Endpoint {
    let transport = TransportConfig::default();
    let mut crypto = ServerConfig::new(credential);
    crypto.backend = Backend::Portable;
    crypto.client_auth = ClientAuth::Required(Box::new(Anybody));
    Endpoint::new(EndpointConfig {
        server: Some(ServerSetup {
            crypto: Arc::new(crypto),
            retry: RetryPolicy::Never,
            connections_max: 100,
            silent: false,
        }),
        transport: Arc::new(transport),
        seed: random.seed_bytes(),
        unix_seconds_at_zero: UNIX_SECONDS_AT_ZERO,
    })
}

impl Hub {
    pub(super) fn new(seed: u64, host: HostId) -> (Self, Fingerprint) {
        let mut random = Random::part(seed, "coordinator", 0);
        let (credential, fingerprint) = credential(&mut random);
        let endpoint = endpoint(credential, &mut random);
        let meeting = Coordinator::new(Limits::default(), None);
        let (batch, clients, carriers) = (Batch::new(0, 1), BTreeMap::new(), BTreeSet::new());
        (Self { host, endpoint, batch, meeting, clients, carriers, random }, fingerprint)
    }

    pub(super) fn receive(&mut self, now: Instant, route: Route, payload: &[u8], post: &mut Post) {
        match relay::classify(payload) {
            relay::Class::Stun => {
                let answer = route.remote().and_then(|from| stun::answer(from, payload, None));
                if let Some(answer) = answer {
                    post.send(now, self.host, PORT, answer.to, answer.payload);
                }
            }
            relay::Class::Relay => {
                if let Some(forward) = self.meeting.forward(now, &route, payload) {
                    let datagram = [&forward.header[..], forward.sealed].concat();
                    self.send(now, forward.to, datagram, post);
                }
            }
            relay::Class::Punch => {}
            relay::Class::Transport => {
                if let Route::Tunnel { id } = route
                    && self.carriers.insert(id)
                {
                    self.endpoint.carrier_has_room(id, CARRIER_ROOM);
                }
                let payload = BytesMut::from(payload);
                self.endpoint.handle_datagram(now, Datagram { route, ecn: None, payload });
            }
        }
        self.pump(now, post);
    }

    fn send(&mut self, now: Instant, to: Route, datagram: Vec<u8>, post: &mut Post) {
        match to {
            Route::Udp { remote, .. } => post.send(now, self.host, PORT, remote, datagram),
            Route::Tunnel { id } => post.carry(now, Towards::Host(id as HostId), datagram),
            Route::Relayed { .. } => {}
        }
    }

    pub(super) fn wake(&mut self) -> Option<Instant> {
        self.endpoint.poll_timeout().map(|(at, _)| at)
    }

    pub(super) fn handle_timeout(&mut self, now: Instant, post: &mut Post) {
        if self.wake().is_some_and(|at| at <= now) {
            self.endpoint.handle_timeout(now);
            self.pump(now, post);
        }
    }

    /// Datagrams that were forwarded so far.
    pub(super) fn forwarded(&self) -> u64 {
        self.meeting.counters().forwarded
    }

    fn pump(&mut self, now: Instant, post: &mut Post) {
        for id in &self.carriers {
            self.endpoint.carrier_has_room(*id, CARRIER_ROOM);
        }
        while let Some((handle, event)) = self.endpoint.poll_event() {
            self.on_event(handle, event);
        }
        self.read(now);
        while let Some((id, message)) = self.meeting.poll_message() {
            if let Some((handle, Some(stream))) = self.clients.get(&id).copied()
                && let Some(connection) = self.endpoint.connection(handle)
            {
                // A stream that is gone takes no message.
                let _ = connection.send(now, stream, Message::from(message.encode()));
            }
        }
        while let Some((to, datagram)) = self.meeting.poll_released() {
            self.send(now, to, datagram, post);
        }
        while self.endpoint.poll_transmit(now, &mut self.batch) {
            if let Some(route) = self.batch.route() {
                let segment = self.batch.segment_len().max(1);
                let all: Vec<_> =
                    self.batch.contents().chunks(segment).map(<[u8]>::to_vec).collect();
                for datagram in all {
                    self.send(now, route, datagram, post);
                }
            }
            self.batch.clear();
        }
    }

    fn on_event(&mut self, handle: ConnectionHandle, event: Event) {
        let known = self.clients.iter().find(|(_, client)| client.0 == handle).map(|(id, _)| *id);
        let Some(connection) = self.endpoint.connection(handle) else { return };
        match event {
            Event::Connected => {
                let peer = connection.security().and_then(|security| security.peer);
                let Some(peer) = peer else { return };
                let id = self.clients.keys().last().map_or(1, |last| last + 1);
                self.clients.insert(id, (handle, None));
                self.meeting.join(id, *peer.fingerprint.as_bytes(), connection.route());
            }
            Event::PathChanged { .. } => {
                if let Some(id) = known {
                    self.meeting.moved(id, connection.route());
                }
            }
            Event::Closed { .. } => {
                if let Some(id) = known {
                    self.clients.remove(&id);
                    self.meeting.leave(id);
                }
            }
            _ => {}
        }
    }

    fn read(&mut self, now: Instant) {
        for (id, (handle, stream)) in &mut self.clients {
            let Some(connection) = self.endpoint.connection(*handle) else { continue };
            *stream = stream.or_else(|| connection.accept());
            let Some(stream) = *stream else { continue };
            while let Ok(Some(message)) = connection.recv(now, stream) {
                let random = &mut self.random;
                let mut entropy = || random.next_u64();
                self.meeting.handle_message(now, *id, &message.payload, &mut entropy);
            }
        }
    }
}
