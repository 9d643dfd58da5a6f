//! Door 1 in and door 10 out: which connection a datagram belongs to, and everything that happens
//! before there is one.

mod arrival;
mod carriers;
mod handle;
mod hello;
mod hello_table;
mod load;
mod names;
mod obfuscation;
mod outgoing;
mod schedule;
mod shards;
mod shares;
mod source;
mod spent;
mod stateless;
mod tickets;
mod time;
mod waiting;

use std::collections::HashMap;
use std::sync::Arc;

use jsp_crypto::{CookieKeys, HandshakeError, KeyShare, Prf, Zeroizing};
use jsp_wire::header::LongHeader;
use jsp_wire::{ConnectionId, Header, Instant, LongType, Route, limits};
use thiserror::Error;

use crate::batch::Batch;
use crate::bounded::Bounded;
use crate::cid::IdChange;
use crate::config::EndpointConfig;
use crate::connection::{Connection, Filled, Reason};
use crate::event::Event;
use crate::rng::SeededRng;
use crate::unix_time::UnixTime;
pub use arrival::{Datagram, Deferred};
use carriers::Carriers;
use handle::ByHandle;
pub use handle::ConnectionHandle;
use hello_table::HelloTable;
use load::HelloRate;
use names::{ByName, HelloNames, peer_key, release};
use obfuscation::Obfuscation;
use schedule::Schedule;
pub use shards::{LONG_ID_AT, SHARDS_MAX, SHORT_ID_AT, Shard};
use shares::Shares;
use source::{AnswerLimit, Prefix};
use spent::SpentCookies;
use tickets::Tickets;
use waiting::WaitingRoom;

/// Why a connection cannot be started.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum ConnectError {
    /// The configuration cannot make a hello.
    #[error("the hello cannot be made: {0}")]
    Handshake(#[from] HandshakeError),
    /// The endpoint is shutting down.
    #[error("the endpoint is closed")]
    Closed,
}

/// All connections of a socket, as one machine without I/O.
///
/// Feed it with [`Endpoint::handle_datagram`] and [`Endpoint::handle_timeout`]; after each, take
/// events with [`Endpoint::poll_event`], datagrams with [`Endpoint::poll_transmit`] until it says
/// no, and then the next deadline with [`Endpoint::poll_timeout`].
pub struct Endpoint {
    config: EndpointConfig,
    unix_time: UnixTime,
    rng: SeededRng,
    reset_key: Zeroizing<[u8; 32]>,
    cookies: CookieKeys,
    /// When the cookie keys are to be replaced.
    cookies_until: Instant,
    connections: ByHandle<Slot>,
    /// Those that wait for their client's flight, and those that rest.
    waiting: WaitingRoom,
    by_id: ByName<ConnectionId>,
    /// Connections whose clients may still write to an id that is not ours: the one of their hello.
    by_hello: HashMap<(Route, ConnectionId), ConnectionHandle>,
    by_route: ByName<Route>,
    next_handle: u64,
    /// Connections that are not drained.
    open: usize,
    shares: Shares,
    hellos: HelloTable,
    hello_rate: HelloRate,
    spent: SpentCookies,
    /// What the last piece of a hello was opened with, and its id.
    opened_last: Option<(ConnectionId, hello::OpeningKeys)>,
    /// Connections whose clients have not proved that they are there.
    half_open: usize,
    schedule: Schedule,
    answers: Bounded<stateless::Answer, { stateless::ANSWERS_MAX }>,
    accepting: bool,
    limit: AnswerLimit,
    obfuscation: Option<Box<Obfuscation>>,
    carriers: Carriers,
    /// Keys for the next hello that has no ticket, and when they are wiped if there is none.
    key_share: Option<(KeyShare, Instant)>,
    /// There was no such hello yet, or the last one has taken the keys.
    wants_key_share: bool,
    /// Answers to strangers have their turn before connections.
    answers_first: bool,
    tickets: Tickets,
    /// What ids of ours name.
    shard: Shard,
}

/// A connection, and how far its end has come.
struct Slot {
    connection: Box<Connection>,
    /// What its client's hello was sent to, until the handshake is confirmed.
    hello: Option<Box<HelloNames>>,
    /// Other routes by which its peer may answer a client without an id.
    routes: Vec<Route>,
    /// Its client has not proved that it is there, and is counted among those.
    is_unproved: bool,
    /// The network in whose share it is.
    network: Option<Prefix>,
    /// Its ids are free, its last event is queued.
    buried: bool,
    /// The application holds no handle any more.
    forgotten: bool,
}

impl Slot {
    fn new(connection: Box<Connection>) -> Self {
        Self {
            connection,
            hello: None,
            routes: Vec::new(),
            is_unproved: false,
            network: None,
            buried: false,
            forgotten: false,
        }
    }

    /// Counts its client no longer, once the handshake is complete or the connection has ended. Early data that
    /// were taken prove nothing.
    // spec: CON-201
    fn note_proof(&mut self, half_open: &mut usize) {
        let is_over = self.connection.is_established() || self.connection.is_closed();
        if self.is_unproved && is_over {
            self.is_unproved = false;
            *half_open = half_open.saturating_sub(1);
        }
    }
}

impl Endpoint {
    /// An endpoint without connections.
    pub fn new(mut config: EndpointConfig) -> Self {
        config.transport = Arc::new(config.transport.as_ref().clone().clamped());
        // The configuration is kept, and must not be able to begin anew.
        let seed = Zeroizing::new(core::mem::take(&mut config.seed));
        let mut rng = SeededRng::new(*seed);
        let reset_key = Zeroizing::new(rng.array());
        let wants_key_share = config.server.is_none();
        let cookies = CookieKeys::new(&mut rng);
        Self {
            accepting: config.server.is_some(),
            hellos: match &config.server {
                Some(setup) => HelloTable::new(setup.connections_max, table_secret(*reset_key)),
                None => HelloTable::empty(),
            },
            unix_time: UnixTime::starting(config.unix_seconds_at_zero),
            config,
            reset_key,
            cookies,
            cookies_until: Instant::ZERO,
            rng,
            connections: ByHandle::default(),
            waiting: WaitingRoom::default(),
            by_id: ByName::default(),
            by_hello: HashMap::new(),
            by_route: ByName::default(),
            next_handle: 0,
            open: 0,
            shares: Shares::default(),
            hello_rate: HelloRate::default(),
            spent: SpentCookies::default(),
            opened_last: None,
            half_open: 0,
            schedule: Schedule::default(),
            answers: Bounded::default(),
            limit: AnswerLimit::default(),
            obfuscation: None,
            carriers: Carriers::default(),
            key_share: None,
            wants_key_share,
            answers_first: false,
            tickets: Tickets::default(),
            shard: Shard::ALONE,
        }
    }

    fn insert(&mut self, connection: Connection) -> ConnectionHandle {
        let handle = ConnectionHandle::new(self.next_handle);
        self.next_handle = self.next_handle.saturating_add(1);
        for id in connection.local_ids().filter(|id| !id.is_empty()) {
            self.by_id.insert(id, handle);
        }
        let hello = HelloNames::of(&connection);
        if let Some(names) = &hello {
            for id in names.ids.iter().flatten() {
                self.by_hello.insert((names.route, *id), handle);
            }
        }
        let connection = Box::new(connection);
        self.open = self.open.saturating_add(1);
        self.connections.insert(handle, Slot { hello, ..Slot::new(connection) });
        self.schedule.touch(handle);
        handle
    }

    /// The connection that a datagram is for, as far as its first packet's header tells.
    fn owner_of(&self, route: &Route, datagram: &[u8]) -> Option<ConnectionHandle> {
        let by_route = || self.by_route.get(&peer_key(route)).copied();
        match Header::parse(datagram).ok()? {
            Header::Short => {
                let end = limits::CONNECTION_ID_LEN_LOCAL.saturating_add(1);
                let id = datagram.get(1..end).and_then(ConnectionId::new);
                id.and_then(|id| self.by_id.get(&id).copied()).or_else(by_route)
            }
            // It was told an id of ours by then.
            Header::Long(LongHeader { kind: LongType::Handshake, dcid, .. })
                if !dcid.is_empty() =>
            {
                self.by_id.get(&dcid).copied()
            }
            Header::Long(LongHeader { dcid, .. }) | Header::Retry { dcid, .. } => {
                if dcid.is_empty() {
                    return by_route();
                }
                // Two clients may use the same id in their hellos: the address tells them apart.
                let by_hello = || self.by_hello.get(&(peer_key(route), dcid)).copied();
                self.by_id.get(&dcid).copied().or_else(by_hello)
            }
            Header::VersionNegotiation { dcid, .. } => match ConnectionId::new(dcid) {
                Some(id) if !id.is_empty() => self.by_id.get(&id).copied(),
                _ => by_route(),
            },
            Header::OtherVersion { .. } => None,
        }
    }

    /// Acts on every deadline that has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.hellos.expire(now);
        self.drop_stale_key_share(now);
        self.tickets.handle_timeout(now, self.unix_time.at_zero_ms());
        while let Some(handle) = self.schedule.pop_due(now) {
            self.take_up(handle);
            if let Some(slot) = self.connections.get_mut(&handle) {
                slot.connection.handle_timeout(now);
                self.schedule.touch(handle);
            }
        }
    }

    /// The earliest deadline, and what it is for. Ask after `poll_transmit` has said no.
    pub fn poll_timeout(&mut self) -> Option<(Instant, Reason)> {
        let due = [self.schedule.peek(), self.key_share_until(), self.tickets.poll_timeout()];
        due.into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    /// Fills the batch with datagrams for one route; false when there are none. Send and clear the
    /// batch, then call again until it says no.
    pub fn poll_transmit(&mut self, now: Instant, batch: &mut Batch) -> bool {
        if !batch.is_empty() {
            return true;
        }
        self.prepare(batch);
        let any = self.write_next(now, batch);
        self.wrap(now, batch);
        any
    }

    /// Connections and answers to strangers take turns where both have something: a flood of strangers must not
    /// hold connections up, nor busy connections keep strangers out.
    // spec: CON-80
    fn write_next(&mut self, now: Instant, batch: &mut Batch) -> bool {
        if core::mem::take(&mut self.answers_first) && self.write_answer(batch) {
            return true;
        }
        if self.write_datagrams(now, batch) {
            self.answers_first = true;
            return true;
        }
        self.write_answer(batch)
    }

    /// Datagrams of the connection whose turn it is.
    fn write_datagrams(&mut self, now: Instant, batch: &mut Batch) -> bool {
        while let Some(handle) = self.schedule.next_dirty() {
            self.take_up(handle);
            self.issue_ids(handle);
            self.seek_preferred(now, handle);
            self.issue_ticket(now, handle);
            let Some(slot) = self.connections.get_mut(&handle) else {
                self.schedule.forget(handle);
                continue;
            };
            let asks = |route: &Route| self.carriers.room(route, handle);
            let is_carried = slot.connection.ask_carriers(asks);
            let filled = slot.connection.poll_transmit(now, batch);
            if filled != Filled::Nothing {
                self.carriers.on_sent(batch);
            }
            // A carrier's room is looked at anew.
            if filled == Filled::Some || (filled == Filled::All && is_carried) {
                self.schedule.rotate(handle);
                return true;
            }
            self.settle(now, handle);
            if filled == Filled::All {
                return true;
            }
        }
        false
    }

    /// A connection has nothing more to send now: its ids and deadline are brought up to date.
    fn settle(&mut self, now: Instant, handle: ConnectionHandle) {
        let Some(slot) = self.connections.get_mut(&handle) else { return };
        slot.note_proof(&mut self.half_open);
        let connection = &mut slot.connection;
        for IdChange::Removed(id) in connection.take_id_changes(now) {
            self.by_id.remove(&id);
        }
        if (connection.is_confirmed() || connection.is_drained())
            && let Some(names) = slot.hello.take()
        {
            for id in names.ids.into_iter().flatten() {
                release(&mut self.by_hello, &(names.route, id), handle);
            }
        }
        let deadline = connection.poll_timeout(now);
        self.schedule.clean(handle, deadline);
        if !connection.is_drained() {
            return self.lay_aside(now, handle);
        }
        if !slot.buried {
            slot.buried = true;
            self.open = self.open.saturating_sub(1);
            if let Some(network) = slot.network.take() {
                self.shares.leave(network);
            }
            connection.push_event(Event::Drained);
            self.schedule.touch_events(handle);
            self.release_names(handle);
        }
        if self.connections.get(&handle).is_some_and(|slot| slot.forgotten) {
            self.connections.remove(&handle);
            self.schedule.forget(handle);
        }
    }

    /// The next event of any connection.
    pub fn poll_event(&mut self) -> Option<(ConnectionHandle, Event)> {
        while let Some(handle) = self.schedule.next_eventful() {
            if let Some(slot) = self.connections.get_mut(&handle)
                && let Some(event) = slot.connection.poll_event()
            {
                return Some((handle, event));
            }
            self.schedule.quiet(handle);
        }
        None
    }

    /// The connection with this handle, for the application's calls; it is looked at again by the
    /// next `poll_transmit`.
    pub fn connection(&mut self, handle: ConnectionHandle) -> Option<&mut Connection> {
        self.take_up(handle);
        let slot = self.connections.get_mut(&handle)?;
        self.schedule.touch(handle);
        Some(&mut slot.connection)
    }

    /// The application has no more use for the handle: its state is freed. A connection that is
    /// still open is closed with code 0, and freed once that is done.
    pub fn forget(&mut self, now: Instant, handle: ConnectionHandle) {
        self.take_up(handle);
        if let Some(slot) = self.connections.get_mut(&handle) {
            slot.connection.close(now, 0, &[]);
            slot.forgotten = true;
            self.schedule.touch(handle);
        }
    }

    /// Answers further hellos with `crypto`, whose credential must be of the same identity: an online
    /// key that ends is replaced by the next. Connections that are there, or about to be, go on.
    /// Returns false, and changes nothing, for another identity or an endpoint that is no server.
    pub fn renew_server(&mut self, crypto: Arc<jsp_crypto::ServerConfig>) -> bool {
        match &mut self.config.server {
            Some(setup) if setup.crypto.fingerprint() == crypto.fingerprint() => {
                setup.crypto = crypto;
                true
            }
            _ => false,
        }
    }

    /// Refuses all further hellos.
    pub fn stop_accepting(&mut self) {
        self.accepting = false;
    }

    /// True when no connection has anything left to do.
    pub fn is_idle(&self) -> bool {
        let drained = self.connections.values().all(|slot| slot.connection.is_drained());
        drained && self.waiting.len() == 0 && self.answers.is_empty()
    }

    /// True when nothing is left to do, now or later, but to wipe ticket keys ([`Reason::TicketKeys`]).
    pub fn is_at_rest(&mut self) -> bool {
        let waits = self.poll_timeout().is_some_and(|(_, why)| why != Reason::TicketKeys);
        !waits && self.is_idle()
    }

    /// Connections that exist, drained ones included until they are forgotten.
    pub fn connection_count(&self) -> usize {
        self.connections.len().saturating_add(self.waiting.len())
    }
}

/// What chooses among hellos: no draw from the generator, whose other values stay what they are.
fn table_secret(reset_key: [u8; 32]) -> u64 {
    let secret = Prf::new(reset_key).derive("hello table", &[]);
    secret.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}
