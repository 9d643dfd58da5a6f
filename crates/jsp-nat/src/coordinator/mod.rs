//! The meeting point: who is there, ways between them, and the datagrams that travel by these.
//!
//! It knows clients by the identity that their connection has proved, and forwards sealed datagrams
//! between two of them without a key to read them. All that clients can make it keep is bounded by
//! [`Limits`].

mod allowance;
mod callers;
mod limits;
mod registered;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use jsp_wire::{Instant, Route};

use crate::Entropy;
use crate::relay;
use crate::rendezvous::{FromClient, FromCoordinator, PeerKey, Refusal, TurnGrant};
use allowance::Allowance;
use callers::{Caller, Callers};
use limits::BESIDE;
pub use limits::Limits;
use registered::Registered;

/// The caller's name for a client's connection.
pub type ClientId = u64;

/// Datagrams that came before their way was asked for, and how long they are kept: the question and
/// the first datagrams leave together.
const HELD_MAX: usize = 4;
const HELD_FOR: Duration = Duration::from_secs(1);
/// A way unused for so long gives its place to a new one when there is none left.
const IDLE: Duration = Duration::from_secs(60);

/// What happened since the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Counters {
    /// Clients that came.
    pub joined: u64,
    /// Clients that were turned away: there were too many.
    pub turned_away: u64,
    /// Ways that were opened.
    pub opened: u64,
    /// Ways that were refused.
    pub refused: u64,
    /// Datagrams forwarded.
    pub forwarded: u64,
    /// Their bytes, without the relay's header.
    pub forwarded_bytes: u64,
    /// Datagrams dropped: from nobody who is known, or by no way that is open.
    pub dropped_unknown: u64,
    /// Datagrams dropped: more than may be.
    pub dropped_rate: u64,
}

/// A datagram to be forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forward<'a> {
    /// Whom it goes to.
    pub to: Route,
    /// What stands before it.
    pub header: [u8; relay::HEADER_LEN],
    /// The datagram as it came.
    pub sealed: &'a [u8],
    /// Soon no more will be forwarded: a datagram that can say so is to be marked (RFC 3168), so that who sends slows down
    /// before any is lost.
    pub is_congested: bool,
}

/// A way, as one of its two clients has it.
#[derive(Debug)]
struct Channel {
    peer: ClientId,
    /// The peer's number for it.
    peers_number: u64,
    /// Who asked for it; `None` when it was this client.
    caller: Option<Caller>,
    used: Instant,
}

#[derive(Debug)]
struct Held {
    since: Instant,
    channel: u64,
    sealed: Vec<u8>,
}

impl Client {
    fn caller(&self) -> Caller {
        Caller::new(self.route.remote().map(|remote| remote.ip()).or(self.host), self.key)
    }
}

#[derive(Debug)]
struct Client {
    key: PeerKey,
    route: Route,
    /// Where its stream comes from, when it is in one.
    host: Option<IpAddr>,
    channels: BTreeMap<u64, Channel>,
    /// Questions that it may ask.
    asks: Allowance,
    /// And those that others ask for it.
    callers: Callers,
    bytes: Allowance,
    held: VecDeque<Held>,
}

/// Says who somebody is at a TURN server, for a while.
pub type Lender = Box<dyn FnMut() -> TurnGrant + Send>;

/// The meeting point.
pub struct Coordinator {
    limits: Limits,
    /// Another server that answers STUN, told to clients.
    stun: Option<SocketAddr>,
    /// Speaks for a TURN server that clients may use.
    lender: Option<Lender>,
    clients: BTreeMap<ClientId, Client>,
    registered: Registered,
    by_route: BTreeMap<Route, ClientId>,
    total: Allowance,
    messages: VecDeque<(ClientId, FromCoordinator)>,
    released: VecDeque<(Route, Vec<u8>)>,
    counters: Counters,
}

impl Coordinator {
    /// A meeting point where nobody is.
    pub fn new(limits: Limits, stun: Option<SocketAddr>) -> Self {
        Self {
            total: Allowance::new(limits.relay_rate_total, limits.relay_rate_total),
            limits,
            stun,
            lender: None,
            clients: BTreeMap::new(),
            registered: Registered::default(),
            by_route: BTreeMap::new(),
            messages: VecDeque::new(),
            released: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    /// Clients may use a TURN server from now on.
    pub fn lend_by(&mut self, lender: Lender) {
        self.lender = Some(lender);
    }

    /// A client has connected, and proved who it is. False when there are too many.
    // spec: RDV-1, RDV-10
    pub fn join(&mut self, id: ClientId, key: PeerKey, route: Route) -> bool {
        self.leave(id);
        if self.clients.len() >= self.limits.clients_max {
            self.counters.turned_away += 1;
            return false;
        }
        let minute = u64::from(self.limits.asks_per_minute);
        let client = Client {
            key,
            route,
            host: None,
            channels: BTreeMap::new(),
            asks: Allowance::per_minute(minute),
            callers: Callers::default(),
            bytes: Allowance::new(self.limits.relay_rate, self.limits.relay_rate * 2),
            held: VecDeque::new(),
        };
        self.clients.insert(id, client);
        self.by_route.insert(named(&route), id);
        self.counters.joined += 1;
        true
    }

    /// A client's connection has moved to another address, which it has proved.
    // spec: RDV-22
    pub fn moved(&mut self, id: ClientId, route: Route) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        let old = std::mem::replace(&mut client.route, route);
        if self.by_route.get(&named(&old)) == Some(&id) {
            self.by_route.remove(&named(&old));
        }
        self.by_route.insert(named(&route), id);
    }

    /// A client is in a stream from this host, which its [`Route::Tunnel`] does not tell.
    // spec: RDV-13
    pub fn found_at(&mut self, id: ClientId, host: IpAddr) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.host = Some(host);
        }
    }

    /// A client's connection is over: its ways are closed.
    pub fn leave(&mut self, id: ClientId) {
        let Some(client) = self.clients.remove(&id) else { return };
        self.registered.remove(client.key, id);
        if self.by_route.get(&named(&client.route)) == Some(&id) {
            self.by_route.remove(&named(&client.route));
        }
        for channel in client.channels.into_values() {
            self.close_at(channel.peer, channel.peers_number);
        }
    }

    /// A client says something. False when it makes no sense: its connection is to be closed.
    // spec: RDV-3, RDV-4
    pub fn handle_message(
        &mut self,
        now: Instant,
        id: ClientId,
        message: &[u8],
        entropy: &mut dyn Entropy,
    ) -> bool {
        let Ok(message) = FromClient::decode(message) else { return false };
        let Some(client) = self.clients.get(&id) else { return false };
        let observed = observed(&client.route);
        match message {
            Some(FromClient::Register) => {
                // Who comes last is called: a client that has lost its connection comes again.
                self.registered.add(client.key, id);
                let stun = self.stun;
                self.messages.push_back((id, FromCoordinator::Registered { observed, stun }));
            }
            Some(FromClient::Connect { peer, channel }) => {
                match self.connect(now, id, &peer, channel, entropy) {
                    Ok(()) => self.counters.opened += 1,
                    Err(reason) => {
                        self.counters.refused += 1;
                        let refused = FromCoordinator::Refused { channel, reason };
                        self.messages.push_back((id, refused));
                    }
                }
            }
            Some(FromClient::Close { channel }) => self.close(id, channel),
            Some(FromClient::Ping) => {
                self.messages.push_back((id, FromCoordinator::Pong { observed }));
            }
            Some(FromClient::AskTurn) => {
                let grant = self.grant(now, id);
                self.messages.push_back((id, FromCoordinator::Turn(grant)));
            }
            None => {}
        }
        true
    }

    /// Who asks too often gets nothing.
    // spec: RDV-129
    fn grant(&mut self, now: Instant, id: ClientId) -> Option<TurnGrant> {
        let client = self.clients.get_mut(&id)?;
        if !client.asks.take(now, 1) {
            return None;
        }
        self.lender.as_mut().map(|lender| lender())
    }

    // spec: RDV-10, RDV-11, RDV-12, RDV-13
    fn connect(
        &mut self,
        now: Instant,
        id: ClientId,
        peer: &PeerKey,
        channel: u64,
        entropy: &mut dyn Entropy,
    ) -> Result<(), Refusal> {
        let asker = self.clients.get_mut(&id).ok_or(Refusal::Unknown)?;
        if !asker.asks.take(now, 1) {
            return Err(Refusal::TooOften);
        }
        if asker.channels.contains_key(&channel) {
            return Err(Refusal::InUse);
        }
        let (key, caller) = (asker.key, asker.caller());
        let callee = self.registered.find(peer).ok_or(Refusal::Unknown)?;
        if callee == id {
            return Err(Refusal::Unknown);
        }
        let peer = self.clients.get_mut(&callee).ok_or(Refusal::Unknown)?;
        if !peer.callers.take(now, caller, self.limits.asks_per_minute.into()) {
            return Err(Refusal::TooOften);
        }
        let number = loop {
            let number = entropy.next_u64();
            if !peer.channels.contains_key(&number) {
                break number;
            }
        };
        if !self.make_room(now, id, None) || !self.make_room(now, callee, Some(caller)) {
            return Err(Refusal::TooMany);
        }
        let way = Channel { peer: callee, peers_number: number, caller: None, used: now };
        self.place(id, channel, way);
        let way = Channel { peer: id, peers_number: channel, caller: Some(caller), used: now };
        self.place(callee, number, way);
        self.messages.push_back((id, FromCoordinator::Opened { channel }));
        self.messages.push_back((callee, FromCoordinator::Incoming { peer: key, channel: number }));
        self.release(now, id, channel);
        Ok(())
    }

    fn place(&mut self, id: ClientId, number: u64, channel: Channel) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.channels.insert(number, channel);
        }
    }

    /// Room for one more way of a client, that it asks for itself or that a caller asks for: made by
    /// closing one that nobody uses. A caller has no more ways than are left for others.
    fn make_room(&mut self, now: Instant, id: ClientId, caller: Option<Caller>) -> bool {
        let Some(client) = self.clients.get(&id) else { return false };
        let is_idle = |channel: &Channel| now.since(channel.used) >= IDLE;
        let ways = || {
            let ways = client.channels.iter();
            ways.filter(|(_, channel)| channel.caller.is_some() == caller.is_some())
        };
        let used = || ways().filter(|(_, channel)| !is_idle(channel));
        let of_caller = used().filter(|(_, way)| caller.is_some() && way.caller == caller).count();
        let most = self.limits.channels_max;
        if of_caller >= most.saturating_sub(used().count()) {
            return false;
        }
        if ways().count() >= most {
            let oldest = ways().min_by_key(|(_, channel)| channel.used).map(|(number, _)| *number);
            let Some(number) = oldest else { return false };
            self.close(id, number);
            self.messages.push_back((id, FromCoordinator::Closed { channel: number }));
        }
        true
    }

    fn close(&mut self, id: ClientId, number: u64) {
        let channel = self.clients.get_mut(&id).and_then(|c| c.channels.remove(&number));
        if let Some(channel) = channel {
            self.close_at(channel.peer, channel.peers_number);
        }
    }

    fn close_at(&mut self, id: ClientId, number: u64) {
        let channel = self.clients.get_mut(&id).and_then(|c| c.channels.remove(&number));
        if channel.is_some() {
            self.messages.push_back((id, FromCoordinator::Closed { channel: number }));
        }
    }

    /// A datagram with the relay's header has come: where it goes. Nothing is done for who is not
    /// a client at the address that it comes from.
    // spec: RDV-21, RDV-23
    pub fn forward<'a>(
        &mut self,
        now: Instant,
        from: &Route,
        datagram: &'a [u8],
    ) -> Option<Forward<'a>> {
        let (number, sealed) = relay::parse(datagram)?;
        let id = self.by_route.get(&named(from)).copied();
        let Some((id, client)) = id.and_then(|id| Some((id, self.clients.get_mut(&id)?))) else {
            self.counters.dropped_unknown += 1;
            return None;
        };
        if sealed.len() > self.limits.datagram_len_max {
            self.counters.dropped_rate += 1;
            return None;
        }
        // Before it is held back, too: that is work as well.
        let cost = (sealed.len() as u64).saturating_add(BESIDE);
        if !client.bytes.take(now, cost) || !self.total.take(now, cost) {
            self.counters.dropped_rate += 1;
            return None;
        }
        self.pass(now, id, number, sealed)
    }

    /// Where something goes that a client may send, by this channel; it is held back where there is none yet.
    fn pass<'a>(
        &mut self,
        now: Instant,
        id: ClientId,
        number: u64,
        sealed: &'a [u8],
    ) -> Option<Forward<'a>> {
        let client = self.clients.get_mut(&id)?;
        let Some(channel) = client.channels.get_mut(&number) else {
            hold(now, client, number, sealed);
            self.counters.dropped_unknown += 1;
            return None;
        };
        // spec: RDV-128
        let is_congested = client.bytes.is_low() || self.total.is_low();
        channel.used = now;
        let (peer, peers_number) = (channel.peer, channel.peers_number);
        let peer = self.clients.get_mut(&peer)?;
        if let Some(channel) = peer.channels.get_mut(&peers_number) {
            channel.used = now;
        }
        self.counters.forwarded += 1;
        self.counters.forwarded_bytes += sealed.len() as u64;
        let header = relay::header(peers_number);
        Some(Forward { to: peer.route, header, sealed, is_congested })
    }

    /// What came too early goes on its way.
    fn release(&mut self, now: Instant, id: ClientId, number: u64) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        let (mine, others) =
            std::mem::take(&mut client.held).into_iter().partition(|held| held.channel == number);
        client.held = others;
        let mine: VecDeque<Held> = mine;
        for held in mine.into_iter().filter(|held| now.since(held.since) < HELD_FOR) {
            // It was counted when it came.
            if let Some(forward) = self.pass(now, id, number, &held.sealed) {
                let mut out = forward.header.to_vec();
                out.extend(forward.sealed);
                let to = forward.to;
                self.released.push_back((to, out));
                self.counters.dropped_unknown = self.counters.dropped_unknown.saturating_sub(1);
            }
        }
    }

    /// The next message for a client.
    pub fn poll_message(&mut self) -> Option<(ClientId, FromCoordinator)> {
        self.messages.pop_front()
    }

    /// The next datagram that was held back and goes on now.
    pub fn poll_released(&mut self) -> Option<(Route, Vec<u8>)> {
        self.released.pop_front()
    }

    /// What happened so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Clients that are there.
    pub fn clients(&self) -> usize {
        self.clients.len()
    }

    /// Ways that are open.
    pub fn channels(&self) -> usize {
        self.clients.values().map(|client| client.channels.len()).sum::<usize>() / 2
    }
}

impl fmt::Debug for Coordinator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counters = &self.counters;
        f.debug_struct("Coordinator").field("counters", counters).finish_non_exhaustive()
    }
}

fn hold(now: Instant, client: &mut Client, channel: u64, sealed: &[u8]) {
    client.held.retain(|held| now.since(held.since) < HELD_FOR);
    if client.held.len() < HELD_MAX {
        client.held.push_back(Held { since: now, channel, sealed: sealed.to_vec() });
    }
}

/// A route as clients are known by: which of our addresses it came to does not count.
fn named(route: &Route) -> Route {
    match route {
        Route::Udp { remote, .. } => Route::udp(*remote),
        other => *other,
    }
}

fn observed(route: &Route) -> Option<SocketAddr> {
    match route {
        Route::Udp { remote, .. } => Some(*remote),
        Route::Relayed { .. } | Route::Tunnel { .. } => None,
    }
}

#[cfg(test)]
mod tests;
