//! The sessions of a server: which there are, who may come back to them, and for how long.

use core::net::{IpAddr, Ipv6Addr};
use core::time::Duration;
use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;
use subtle::ConstantTimeEq;

use super::journal::Saved;
use super::link::{Greeting, unknown};
use super::record::{Credentials, Entry, Token};
use super::{GRANT_LEN, ProtocolError};

/// Sessions by name. `H` is how the driver holds one. Time is counted from any moment, the same for
/// all calls.
#[derive(Debug)]
pub struct Registry<H> {
    sessions: HashMap<[u8; GRANT_LEN], Held<H>>,
    /// The sessions that wait for their clients, the first to go first.
    expiries: BTreeSet<(Duration, [u8; GRANT_LEN])>,
    /// How many there may be.
    max: usize,
    /// How many clients of each network have. Networks without any are not kept.
    shares: HashMap<IpAddr, usize>,
    /// How long a session waits for its client.
    grace: Duration,
}

#[derive(Debug)]
struct Held<H> {
    handle: H,
    token: Token,
    /// The token of before, until the client has kept the present one.
    before: Option<Token>,
    /// Nobody else comes back.
    client: Client,
    /// When it goes, if it waits for its client.
    expires: Option<Duration>,
}

/// Who a client is, as far as its server knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Client {
    /// Its proved identity, if it has one.
    pub owner: Option<[u8; 32]>,
    /// The host that it comes from: where room is scarce, one network does not take all of it.
    pub host: Option<IpAddr>,
}

impl Client {
    /// Hosts of one network of IPv6 count as one (/64).
    fn network(&self) -> Option<IpAddr> {
        self.host.map(|host| match host.to_canonical() {
            IpAddr::V6(host) => Ipv6Addr::from_bits(host.to_bits() >> 64 << 64).into(),
            host => host,
        })
    }
}

/// A network's share is never smaller.
const SHARE_MIN: usize = 16;

/// What the server's end of a session is to be told: see [`Session::grant`](super::Session::grant).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    pub(crate) credentials: Credentials,
    pub(crate) grace: Duration,
    pub(crate) entries: Option<Vec<Entry>>,
    /// The token that the client has shown, if it has come back.
    pub(crate) before: Option<Token>,
    pub(crate) owner: Option<[u8; 32]>,
}

impl Grant {
    /// The session's name.
    #[must_use]
    pub fn id(&self) -> [u8; GRANT_LEN] {
        self.credentials.id
    }
}

/// What a greeting leads to.
#[derive(Debug)]
pub enum Arrival<H> {
    /// A new session: make its state, and [`insert`](Registry::insert) it.
    New(Grant),
    /// The client comes back to this session.
    Back(H, Grant),
    /// Nothing that is here: send this record, and close.
    Unknown(Bytes),
    /// There are as many sessions as may be: close.
    Full,
}

impl<H: Clone> Registry<H> {
    /// No session yet. `max` is how many may be held, `grace` how long one waits for its client.
    #[must_use]
    pub fn new(max: usize, grace: Duration) -> Self {
        Self {
            sessions: HashMap::new(),
            expiries: BTreeSet::new(),
            max,
            shares: HashMap::new(),
            grace,
        }
    }

    /// Judges a client's first record. `fresh` are 32 random bytes.
    ///
    /// # Errors
    /// [`ProtocolError`]: close the connection.
    // spec: SES-10, SES-11
    pub fn greet(
        &mut self,
        record: &[u8],
        client: Client,
        fresh: [u8; 32],
    ) -> Result<Arrival<H>, ProtocolError> {
        let (mut id, mut token) = ([0; GRANT_LEN], Token([0; GRANT_LEN]));
        let (front, back) = fresh.split_at(GRANT_LEN);
        id.copy_from_slice(front);
        token.0.copy_from_slice(back);
        match Greeting::parse(record)? {
            Greeting::Open if !self.has_room(&client) => Ok(Arrival::Full),
            Greeting::Open => {
                let owner = client.owner;
                let credentials = Credentials { id, token };
                let (grace, entries, before) = (self.grace, None, None);
                Ok(Arrival::New(Grant { credentials, grace, entries, before, owner }))
            }
            Greeting::Resume(shown, entries) => {
                let owner = client.owner;
                let held = self.sessions.get_mut(&shown.id);
                let Some(held) = held.filter(|held| held.is_owner(&shown.token, owner)) else {
                    return Ok(Arrival::Unknown(unknown()));
                };
                // What the client has shown stays good until it has kept the next.
                held.before = Some(shown.token);
                held.token = token;
                if let Some(at) = held.expires.take() {
                    self.expiries.remove(&(at, shown.id));
                }
                let credentials = Credentials { id: shown.id, token };
                let (grace, entries, before) = (self.grace, Some(entries), held.before);
                let grant = Grant { credentials, grace, entries, before, owner };
                Ok(Arrival::Back(held.handle.clone(), grant))
            }
        }
    }

    /// Any client may open a session until three quarters of the room are taken. The last quarter is for networks that
    /// have less than a quarter.
    // spec: SES-15
    fn has_room(&self, client: &Client) -> bool {
        let (open, share) = (self.sessions.len(), self.max / 4);
        let taken = client.network().and_then(|network| self.shares.get(&network));
        open < self.max.saturating_sub(share)
            || (open < self.max && taken.is_none_or(|taken| *taken < share.max(SHARE_MIN)))
    }

    /// Holds a new session.
    pub fn insert(&mut self, grant: &Grant, client: Client, handle: H) {
        let Credentials { id, token } = grant.credentials;
        self.hold(id, Held { handle, token, before: None, client, expires: None });
    }

    fn hold(&mut self, id: [u8; GRANT_LEN], held: Held<H>) {
        self.remove(&id);
        if let Some(network) = held.client.network() {
            *self.shares.entry(network).or_default() += 1;
        }
        self.sessions.insert(id, held);
    }

    /// Holds a session that a store has brought back; it waits for its client from now on. False when
    /// it was never granted, or there are as many as may be.
    // spec: SES-13
    pub fn adopt(&mut self, now: Duration, saved: &Saved, handle: H) -> bool {
        let Some((id, token)) = saved.granted.filter(|_| self.sessions.len() < self.max) else {
            return false;
        };
        // Where its client was is forgotten.
        let client = Client { owner: saved.owner, host: None };
        self.hold(id, Held { handle, token, before: saved.before, client, expires: None });
        self.park(now, &id);
        true
    }

    /// The client has kept its credentials: those of before are void.
    pub fn on_kept(&mut self, id: &[u8; GRANT_LEN]) {
        if let Some(held) = self.sessions.get_mut(id) {
            held.before = None;
        }
    }

    /// The session's connection is gone.
    pub fn park(&mut self, now: Duration, id: &[u8; GRANT_LEN]) {
        if let Some(held) = self.sessions.get_mut(id) {
            let at = now.saturating_add(self.grace);
            if let Some(before) = held.expires.replace(at) {
                self.expiries.remove(&(before, *id));
            }
            self.expiries.insert((at, *id));
        }
    }

    /// The session is over.
    pub fn remove(&mut self, id: &[u8; GRANT_LEN]) -> Option<H> {
        let Held { handle, expires, client, .. } = self.sessions.remove(id)?;
        if let Some(network) = client.network()
            && let Some(taken) = self.shares.get_mut(&network)
        {
            *taken -= 1;
            if *taken == 0 {
                self.shares.remove(&network);
            }
        }
        if let Some(at) = expires {
            self.expiries.remove(&(at, *id));
        }
        Some(handle)
    }

    /// Takes out the sessions whose clients did not come back in time.
    pub fn expire(&mut self, now: Duration) -> Vec<H> {
        let mut expired = Vec::new();
        while let Some((at, id)) = self.expiries.first().copied()
            && at <= now
        {
            expired.extend(self.remove(&id));
        }
        expired
    }

    /// When the next session goes, if none comes back.
    #[must_use]
    pub fn next_expiry(&self) -> Option<Duration> {
        self.expiries.first().map(|(at, _)| *at)
    }

    /// How many sessions are held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// True when none is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }
}

impl<H> Held<H> {
    fn is_owner(&self, token: &Token, owner: Option<[u8; 32]>) -> bool {
        let before = self.before.as_ref().unwrap_or(&self.token);
        let is_known = self.token.0.ct_eq(&token.0) | before.0.ct_eq(&token.0);
        bool::from(is_known) && self.client.owner == owner
    }
}
