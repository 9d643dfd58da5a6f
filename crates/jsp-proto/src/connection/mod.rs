//! One connection: the concepts it is made of, and the corridor through them.
//!
//! ```text
//! out  api -> streams -> permit -> compose -> packet -> seal -> recovery -> batch     transmit.rs, outbound.rs
//! in   endpoint -> seal -> space -> path -> dispatch -> fate / streams -> events      inbound.rs
//! ```
//!
//! The five verbs are here; each door is one call in `transmit.rs`, `outbound.rs` or `inbound.rs`.

mod api;
mod dispatch;
mod establish;
mod farewell;
mod filled;
#[cfg(feature = "fuzzing")]
mod forge;
mod half_open;
mod inbound;
mod lanes;
mod moves;
mod off_path;
mod outbound;
mod paths;
mod redirect;
mod renewal;
mod repair;
mod rest;
mod resting;
mod resume;
mod sensing;
mod shape;
mod switch;
#[cfg(test)]
mod tests;
mod timers;
mod transmit;

pub(crate) use filled::Filled;
pub(crate) use half_open::HalfOpen;
pub(crate) use resting::Resting;
pub use timers::Reason;

use core::time::Duration;
use std::collections::VecDeque;
use std::sync::Arc;

use jsp_crypto::{
    ClientConfig, ClientTicket, Handshake, HandshakeError, KeyShare, Keys, PathMemory, Resumption,
    Role, ServerConfig,
};
use jsp_wire::{ConnectionId, Instant, PathId, PreferredAddress, Route};

use crate::cid::{IdChange, LocalIds, RemoteIds};
use crate::config::{PreferredAddresses, TransportConfig};
use crate::control::Control;
use crate::early_data::EarlyData;
use crate::event::{CloseReason, Event};
use crate::exchange::{self, Exchange, HandshakeIds};
use crate::keys::{Keyring, SpaceId};
use crate::lifecycle::Lifecycle;
use crate::padding::Padder;
use crate::path::plural::Paths;
use crate::path::{Budget, Path};
use crate::qlog::Trace;
use crate::rng::SeededRng;
use crate::spaces::EarlySpaces;
use crate::streams::{Side, Streams};
use crate::token::{Fate, Token};
use crate::unix_time::UnixTime;

/// A connection, as its endpoint owns it and the application uses it.
pub struct Connection {
    config: Arc<TransportConfig>,
    role: Role,
    lifecycle: Lifecycle,
    exchange: Exchange,
    keys: Keyring,
    early: EarlySpaces,
    paths: Paths,
    local_ids: LocalIds,
    remote_ids: RemoteIds,
    streams: Streams,
    control: Control,
    events: VecDeque<Event>,
    rng: SeededRng,
    trace: Trace,
    scratch: Scratch,
}

/// Buffers that are empty between calls and keep their room.
#[derive(Default)]
struct Scratch {
    /// The path that the next frame of the packet at hand is about, where that is not the packet's own.
    about: Option<PathId>,
    tokens: Vec<Token>,
    fates: Vec<(Token, Fate)>,
}

/// What a client starts from.
pub(crate) struct Outgoing {
    pub(crate) route: Route,
    pub(crate) crypto: Arc<ClientConfig>,
    pub(crate) transport: Arc<TransportConfig>,
    pub(crate) destination: ConnectionId,
    pub(crate) local_id: ConnectionId,
    /// Bytes that each datagram grows by on its way out.
    pub(crate) wrapping: usize,
    pub(crate) unix_time: UnixTime,
    /// A ticket for the server, and whether early data are to go with it.
    pub(crate) ticket: Option<(ClientTicket, bool)>,
    /// Keys for the hello, where they are made already.
    pub(crate) key_share: Option<KeyShare>,
}

/// What a server starts from: a whole client hello.
pub(crate) struct Incoming {
    pub(crate) route: Route,
    pub(crate) crypto: Arc<ServerConfig>,
    pub(crate) transport: Arc<TransportConfig>,
    pub(crate) ids: HandshakeIds,
    pub(crate) local_id: ConnectionId,
    pub(crate) reset_token: [u8; 16],
    /// The id for the address that we prefer, and its reset token.
    pub(crate) preferred: Option<(ConnectionId, [u8; 16])>,
    pub(crate) peer_id: ConnectionId,
    pub(crate) initial_keys: Keys,
    pub(crate) hello: Vec<u8>,
    /// Numbers of the Initial packets that brought it.
    pub(crate) received: Vec<u64>,
    pub(crate) budget: Budget,
    /// Bytes that each datagram grows by on its way out.
    pub(crate) wrapping: usize,
    pub(crate) unix_time: UnixTime,
    /// The ticket of the hello, checked.
    pub(crate) resumption: Option<Resumption>,
    /// What the client's network was like the last time.
    pub(crate) memory: Option<PathMemory>,
}

/// Longest time that a client with early data goes on trying: as long as every server remembers that
/// it has taken them.
// spec: CON-57
const EARLY_ATTEMPT_MAX: Duration = Duration::from_secs(10);

impl Connection {
    /// Starts a handshake; the hello leaves with the first call of `poll_transmit`.
    pub(crate) fn connect(
        now: Instant,
        outgoing: Outgoing,
        mut rng: SeededRng,
    ) -> Result<Self, HandshakeError> {
        let Outgoing { route, crypto, transport, destination, local_id, wrapping, .. } = outgoing;
        let unix_time = outgoing.unix_time;
        let pin = crypto.pin().copied();
        let own = crypto.credential.as_ref().map(|credential| credential.fingerprint());
        let features = exchange::features(&transport, crypto.kem);
        let extra = (features, rng.u64() as u16);
        let streams = Streams::new(Side::Client, &transport.stream_limits(rng.u64()));
        let params = exchange::own_params(&transport, &streams, local_id, None, None, extra);
        let keys = jsp_crypto::initial_keys(
            Role::Client,
            jsp_wire::VERSION_1,
            destination.as_bytes(),
            pin.as_ref(),
        );
        let now_ms = unix_time.millis(now);
        let mut resumed = None;
        let machine = match outgoing.ticket {
            Some((ticket, early)) => {
                resumed = Some(resume::Remembered::of(&ticket, early));
                Handshake::client_resuming(crypto, ticket, early, &params, now_ms, &mut rng)?
            }
            None => Handshake::client_sharing(crypto, &params, outgoing.key_share, &mut rng)?,
        };
        let resumed = resumed.filter(|_| machine.is_resuming());
        let ids = HandshakeIds { original_destination: destination, retry_source: None };
        let path = Path::new(route, Budget::Unlimited, &transport);
        let paths = Paths::new(path, Padder::new(&transport.padding, wrapping));
        let mut connection = Self::assemble(
            now,
            Role::Client,
            transport,
            streams,
            Exchange::new(machine, ids, pin, unix_time).with_features(features),
            keys,
            paths,
            (local_id, destination),
            rng,
        );
        connection.exchange.own = own;
        if let Some(resumed) = resumed {
            connection.remember(now, &resumed);
        }
        connection.early_deadlock_guard(true);
        connection.pump_handshake(now);
        Ok(connection)
    }

    /// Answers a client's hello.
    pub(crate) fn answer(now: Instant, incoming: Incoming, mut rng: SeededRng) -> Self {
        let features = exchange::features(&incoming.transport, incoming.crypto.kem);
        let extra = (features, rng.u64() as u16);
        let server = Some((&incoming.ids, incoming.reset_token));
        let transport = incoming.transport;
        let streams = Streams::new(Side::Server, &transport.stream_limits(rng.u64()));
        let id = incoming.local_id;
        let preferred = incoming.preferred.map(|(id, reset_token)| {
            let PreferredAddresses { v4, v6 } = transport.preferred;
            PreferredAddress { v4, v6, id, reset_token }
        });
        let params = exchange::own_params(&transport, &streams, id, server, preferred, extra);
        let early_data = match &incoming.resumption {
            Some(resumption) if resumption.accept_early => {
                EarlyData::accepted(resumption.max_early_data())
            }
            _ => EarlyData::default(),
        };
        let machine = Handshake::server_resuming(incoming.crypto, params, incoming.resumption);
        let mut path = Path::new(incoming.route, incoming.budget, &transport);
        if let Some(memory) = incoming.memory {
            resume::recall(&mut path, &transport, memory);
        }
        let paths = Paths::new(path, Padder::new(&transport.padding, incoming.wrapping));
        let mut connection = Self::assemble(
            now,
            Role::Server,
            transport,
            streams,
            Exchange::new(machine, incoming.ids, None, incoming.unix_time).with_features(features),
            incoming.initial_keys,
            paths,
            (incoming.local_id, incoming.peer_id),
            rng,
        );
        connection.exchange.early_data = early_data;
        if let Some((id, reset_token)) = incoming.preferred {
            connection.local_ids.told(id, reset_token);
        }
        connection.on_first_hello(now, &incoming.hello, &incoming.received);
        connection
    }

    #[allow(
        clippy::too_many_arguments,
        reason = "the one place where a connection is put together"
    )]
    fn assemble(
        now: Instant,
        role: Role,
        config: Arc<TransportConfig>,
        streams: Streams,
        exchange: Exchange,
        keys: Keys,
        paths: Paths,
        (local_id, remote_id): (ConnectionId, ConnectionId),
        rng: SeededRng,
    ) -> Self {
        let lifecycle =
            Lifecycle::new(now, config.handshake_timeout, config.idle_timeout, config.keep_alive);
        let trace = Trace::new(&config, role, &exchange.ids().original_destination, now);
        Self {
            streams,
            config,
            role,
            lifecycle,
            exchange,
            keys: Keyring::new(keys),
            early: EarlySpaces::new(),
            paths,
            local_ids: LocalIds::new(local_id),
            remote_ids: RemoteIds::new(remote_id),
            control: Control::default(),
            events: VecDeque::new(),
            rng,
            trace,
            scratch: Scratch::default(),
        }
    }

    /// The next thing that the application should know.
    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        if self.events.is_empty() {
            return self.streams.poll_event().map(Event::from);
        }
        while let Some(event) = self.streams.poll_event() {
            self.events.push_back(event.into());
        }
        self.events.pop_front()
    }

    /// An event that the endpoint has to tell.
    pub(crate) fn push_event(&mut self, event: Event) {
        self.events.push_back(event);
    }

    /// Asks for the bytes that carriers take at once, if any path goes by one; answers whether.
    pub(crate) fn ask_carriers(&mut self, mut room: impl FnMut(&Route) -> usize) -> bool {
        let mut any = false;
        for path in self.paths.iter_mut().filter(|path| path.route.is_reliable()) {
            path.carrier_room = room(&path.route);
            any = true;
        }
        any
    }

    /// Ids that the endpoint should start or stop to know.
    pub(crate) fn take_id_changes(&mut self, now: Instant) -> impl Iterator<Item = IdChange> + '_ {
        self.local_ids.take_changes(now)
    }

    /// All ids of ours that packets of the peer may come to.
    pub(crate) fn local_ids(&self) -> impl Iterator<Item = ConnectionId> + '_ {
        self.local_ids.all()
    }

    /// Ids that a client writes to until it has heard of one of ours; `None` at the client.
    pub(crate) fn hello_ids(&self) -> Option<[Option<ConnectionId>; 2]> {
        let first = self.exchange.ids();
        let ids = [Some(first.original_destination), first.retry_source];
        (self.role == Role::Server).then_some(ids)
    }

    /// True when both sides are known to have completed the handshake
    /// ([`Event::HandshakeConfirmed`]), also when the connection is over by now.
    pub fn is_confirmed(&self) -> bool {
        self.exchange.is_complete() && !self.keys.has(SpaceId::Handshake)
    }

    /// True for a client that has not verified any server's flight: packets of the handshake may be
    /// of anybody who has seen its hello, also those that open with a candidate's keys.
    fn is_unproved(&self) -> bool {
        self.role == Role::Client && !self.exchange.is_complete()
    }

    /// True when streams may be opened and data may go: after the handshake, or early.
    fn is_usable(&self) -> bool {
        let early = &self.exchange.early_data;
        self.lifecycle.is_established()
            || (self.lifecycle.is_open() && (early.is_accepting() || early.is_undecided()))
    }

    /// A path that the peer could use a further id for.
    pub(crate) fn id_missing(&self) -> Option<PathId> {
        let peer = self.exchange.peer.as_ref().filter(|_| self.lifecycle.is_established())?;
        self.local_ids.missing(peer.connection_ids_max, self.paths_with_ids())
    }

    /// Gives the peer a further id for a path.
    pub(crate) fn issue_id(&mut self, path: PathId, id: ConnectionId, reset_token: [u8; 16]) {
        self.local_ids.issue(path, id, reset_token);
    }

    /// True when nothing is left to be sent or waited for.
    pub(crate) fn is_drained(&self) -> bool {
        self.lifecycle.is_drained()
    }

    /// The peer acknowledges within this time, as far as we know.
    fn peer_ack_delay_max(&self) -> Duration {
        self.exchange
            .peer
            .map_or(Duration::ZERO, |peer| Duration::from_micros(peer.ack_delay_max_us))
    }

    /// The probe time-out that closing and key updates reckon with: that of the slowest path.
    // spec: PTH-8
    fn pto(&self) -> Duration {
        self.paths.pto(self.peer_ack_delay_max())
    }

    /// Ends the connection without last words: the reason is all that is left.
    fn lose(&mut self, now: Instant, reason: CloseReason) {
        let was_open = self.lifecycle.is_open();
        self.lifecycle.vanish();
        if was_open {
            self.announce_end(now, reason);
        }
    }

    /// Tells the application and the streams that it is over.
    fn announce_end(&mut self, now: Instant, reason: CloseReason) {
        self.trace.closed(now, &reason);
        self.streams.on_close();
        self.events.push_back(Event::Closed { reason });
    }

    /// The client keeps asking until it knows that the server has validated its address.
    // spec: CON-11
    fn early_deadlock_guard(&mut self, guard: bool) {
        for id in [SpaceId::Initial, SpaceId::Handshake] {
            let guarded = guard && self.keys.has(id);
            if let Some(space) = crate::spaces::select(id, &mut self.early, &mut self.paths.active)
            {
                space.recovery.set_deadlock_guard(guarded);
            }
        }
    }
}
