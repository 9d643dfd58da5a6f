//! A server's connection that has its client's hello and not its flight, in few bytes: whoever stops there costs
//! little, whatever else he sends, for all of it can be made up by anybody who knows the hello. All that such a
//! connection has of its own is what it has sent, and what became of that; the rest follows from the configuration,
//! and is made again when something happens to it. What an acknowledgement of its hello taught congestion control and the
//! outlook is let go, but for the round trip.

use std::collections::VecDeque;
use std::sync::Arc;

use jsp_crypto::Role;
use jsp_wire::{ConnectionId, Instant, Route};

use super::{Connection, Scratch};
use crate::cid::{LocalIds, RemoteIds};
use crate::config::TransportConfig;
use crate::control::Control;
use crate::exchange::UnheardExchange;
use crate::keys::UnheardKeys;
use crate::lifecycle::{Lifecycle, Waiting};
use crate::pacer::Pacer;
use crate::pack::{Packer, Unpacker};
use crate::padding::Padder;
use crate::path::plural::Paths;
use crate::path::{Budget, Path};
use crate::probes::Probes;
use crate::qlog::Trace;
use crate::recovery::DeliveryRate;
use crate::rng::SeededRng;
use crate::spaces::UnheardSpaces;
use crate::streams::{Side, Streams};

/// A connection that waits for its client's flight.
pub(crate) struct HalfOpen {
    config: Arc<TransportConfig>,
    times: Waiting,
    exchange: UnheardExchange,
    keys: UnheardKeys,
    spaces: UnheardSpaces,
    route: Route,
    budget: Budget,
    pacer: Pacer,
    delivery: DeliveryRate,
    /// Known where the client has acknowledged the server's hello.
    rtt: Option<Box<[u8]>>,
    probes: Probes,
    wrapping: usize,
    local_id: ConnectionId,
    /// The id of an address that this server would rather be asked at, and its reset token.
    told_id: Option<Box<(ConnectionId, [u8; 16])>>,
    remote_id: ConnectionId,
    hash_key: u64,
    since: Instant,
    rng: SeededRng,
    trace: Trace,
}

impl Connection {
    /// True when a [`HalfOpen`] holds all that this connection is.
    pub(crate) fn is_half_open(&self) -> bool {
        if self.role != Role::Server || !self.lifecycle.is_waiting() || !self.events.is_empty() {
            return false;
        }
        let path = &self.paths.active;
        let is_lone = self.paths.others.is_empty() && path.candidate.is_none();
        let is_new = path.silence.is_none() && !path.congestion.is_resuming();
        let knows_nothing = is_lone && is_new && !self.control.wants();
        knows_nothing
            && self.exchange.is_unheard()
            && self.keys.are_unheard()
            && self.early.are_unheard()
    }

    /// The connection in few bytes: see [`Connection::is_half_open`].
    pub(crate) fn into_half_open(self, now: Instant) -> HalfOpen {
        let path = *self.paths.active;
        HalfOpen {
            times: self.lifecycle.waiting(),
            exchange: self.exchange.into_unheard(),
            keys: self.keys.unheard(),
            spaces: self.early.into_unheard(),
            route: path.route,
            budget: path.budget,
            pacer: path.pacer,
            delivery: path.delivery,
            rtt: path.rtt.has_sample().then(|| Packer::pack(&path.rtt)),
            probes: path.probes,
            wrapping: self.paths.padder.wrapping(),
            local_id: self.local_ids.first(),
            told_id: self.local_ids.told_id().map(Box::new),
            remote_id: *self.remote_ids.current(),
            hash_key: self.streams.hash_key(),
            since: now,
            config: self.config,
            rng: self.rng,
            trace: self.trace,
        }
    }
}

impl HalfOpen {
    /// Bytes of packets that came before their keys.
    pub(crate) fn early_len(&self) -> usize {
        self.exchange.early_len()
    }

    /// Lets go of them.
    pub(crate) fn forget_early(&mut self) {
        self.exchange.forget_early();
    }

    /// The connection, whole.
    pub(crate) fn into_connection(self) -> Connection {
        let config = self.config;
        let (handshake, idle) = (config.handshake_timeout, config.idle_timeout);
        let lifecycle = Lifecycle::new(self.since, handshake, idle, config.keep_alive);
        let mut path = Path::new(self.route, self.budget, &config);
        path.pacer = self.pacer;
        path.delivery = self.delivery;
        path.rtt = self.rtt.map_or(path.rtt, |rtt| Unpacker::unpack(&rtt));
        path.probes = self.probes;
        let padder = Padder::new(&config.padding, self.wrapping);
        let streams = Streams::new(Side::Server, &config.stream_limits(self.hash_key));
        let mut connection = Connection {
            role: Role::Server,
            lifecycle: lifecycle.resumed(&self.times),
            exchange: self.exchange.into_exchange(),
            keys: self.keys.expand(),
            early: self.spaces.into_spaces(),
            paths: Paths::new(path, padder),
            local_ids: LocalIds::new(self.local_id),
            remote_ids: RemoteIds::new(self.remote_id),
            streams,
            control: Control::default(),
            events: VecDeque::new(),
            rng: self.rng,
            trace: self.trace,
            scratch: Scratch::default(),
            config,
        };
        if let Some((id, reset_token)) = self.told_id.as_deref() {
            connection.local_ids.told(*id, *reset_token);
        }
        if let Some(peer) = connection.exchange.peer {
            connection.on_peer_params(self.since, &peer);
        }
        connection
    }
}
