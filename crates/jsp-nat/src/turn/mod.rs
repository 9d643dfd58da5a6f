//! A client of TURN (RFC 8656) over UDP, as a machine: an address that a server of somebody else lends, kept
//! alive, and datagrams that come and go by it.
//!
//! It is built on the codec of [`crate::stun`] rather than on a crate for the same reasons: randomness is the
//! caller's, the primitives that the long-term credentials of RFC 8489 need (MD5, HMAC-SHA-1) stay where the
//! others are, and there is one parser of STUN. What is there without I/O of its own (`turn-client-proto`) draws its
//! own randomness, and brings a second one, with some 40 crates.
//!
//! Not there: TURN over TCP and TLS, other servers that one names instead of itself (300), password algorithms
//! other than MD5 (which every server takes, RFC 8489, section 9.2.4), and addresses of both families at once.

mod message;
mod peers;
mod proof;

use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use jsp_wire::Instant;

use crate::stun::{self, TransactionId};
use crate::{Entropy, Outgoing};
pub use message::{Answer, Frame, Reply, TAG_LEN};
use message::{Ask, Realm};
use peers::Peers;
pub use proof::Login;
use proof::Proof;

/// Time to the first repetition of a request, and how often it is sent at most (RFC 8489, section 6.2.1).
const RTO: Duration = Duration::from_millis(500);
const SENDS_MAX: u32 = 6;
/// How often one request may be sent again because what it was authenticated with has changed.
const CHALLENGES_MAX: u32 = 4;
/// After a failure it is tried again.
const RETRY: Duration = Duration::from_secs(60);
/// What an allocation is asked to live, in seconds.
const LIFETIME: u32 = 600;
/// How often it is asked to live on: soon enough for the box in front of this host not to forget, and to find out
/// when this host is elsewhere, where the server knows it no more.
const REFRESH_EVERY: Duration = Duration::from_secs(25);

/// Servers need a moment to forget what was given back; coturn, a second.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(2);

const UNAUTHORIZED: u16 = 401;
/// Servers say it before they look at proofs, and without one of their own.
const ALLOCATION_MISMATCH: u16 = 437;
const STALE_NONCE: u16 = 438;

/// Why a server lends no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// It does not answer.
    #[error("the TURN server does not answer")]
    NoAnswer,
    /// It does not take the user or the password.
    #[error("the TURN server does not take the user or the password")]
    Unauthorized,
    /// It refuses.
    #[error("the TURN server refuses, with error {0}")]
    Refused(u16),
    /// Its answer names no address.
    #[error("the TURN server's answer names no address")]
    Nonsense,
}

/// A request under way.
#[derive(Clone, Copy, Debug)]
struct Transaction {
    id: TransactionId,
    sent: u32,
    next_at: Instant,
    /// It has gone with a proof.
    is_proved: bool,
    challenges: u32,
}

impl Transaction {
    fn new(now: Instant, entropy: &mut dyn Entropy) -> Self {
        let id = stun::transaction(entropy);
        Self { id, sent: 0, next_at: now, is_proved: false, challenges: 0 }
    }

    fn is_over(&self, now: Instant) -> bool {
        self.sent >= SENDS_MAX && now >= self.next_at
    }

    /// The request, when its turn has come.
    fn poll(&mut self, now: Instant, ask: Ask, realm: Option<Realm<'_>>) -> Option<Vec<u8>> {
        if now < self.next_at || self.sent >= SENDS_MAX {
            return None;
        }
        self.next_at = now + RTO.saturating_mul(1 << self.sent);
        self.sent += 1;
        self.is_proved = realm.is_some();
        Some(ask.encode(&self.id, realm))
    }
}

#[derive(Debug)]
enum Allocation {
    /// It is asked for from then on; never where that is of no use.
    Nothing(Option<Instant>),
    Asking(Transaction),
    /// The server still knows one for this host's port, which was lost here: that is given back first.
    Ending(Transaction),
    Here {
        relayed: SocketAddr,
        mapped: Option<SocketAddr>,
        refresh_at: Instant,
        refreshing: Option<Transaction>,
    },
}

impl Allocation {
    /// What is asked about it.
    fn request(&mut self) -> Option<(&mut Transaction, Ask)> {
        match self {
            Self::Nothing(_) => None,
            Self::Asking(request) => Some((request, Ask::Allocate)),
            Self::Ending(request) => Some((request, Ask::Refresh(0))),
            Self::Here { refreshing, .. } => Some((refreshing.as_mut()?, Ask::Refresh(LIFETIME))),
        }
    }
}

/// What a request is about.
#[derive(Clone, Copy)]
enum Subject {
    Allocation,
    Peer(usize),
}

/// A client of one server.
#[derive(Debug)]
pub struct Client {
    server: SocketAddr,
    proof: Proof,
    allocation: Allocation,
    /// One that the server still knew was given back, and none is lent since.
    has_ended_old: bool,
    peers: Peers,
    failure: Option<Failure>,
}

impl Client {
    /// Asks a server for an address, from now on.
    pub fn new(now: Instant, server: SocketAddr, login: Login) -> Self {
        Self {
            server,
            proof: Proof::new(login),
            allocation: Allocation::Nothing(Some(now)),
            has_ended_old: false,
            peers: Peers::default(),
            failure: None,
        }
    }

    /// Another login at the server. An address that is lent belongs to the login that asked for it (RFC 8656, section 5),
    /// which goes on as long as the server takes it: so it is not lost meanwhile.
    pub fn use_login(&mut self, now: Instant, login: Login) {
        self.proof.next = Some(login);
        if self.relayed().is_none() {
            (self.failure, self.has_ended_old) = (None, false);
            self.lose(now);
        }
    }

    /// The server.
    pub fn server(&self) -> SocketAddr {
        self.server
    }

    /// The address that it lends, while it does.
    pub fn relayed(&self) -> Option<SocketAddr> {
        match self.allocation {
            Allocation::Here { relayed, .. } => Some(relayed),
            _ => None,
        }
    }

    /// The address at which it sees this host.
    pub fn mapped(&self) -> Option<SocketAddr> {
        match self.allocation {
            Allocation::Here { mapped, .. } => mapped,
            _ => None,
        }
    }

    /// Why it lends none, when it was asked and has not since.
    pub fn failure(&self) -> Option<Failure> {
        self.failure
    }

    /// A number that stands for an address, for [`Client::address_of`]; `None` when there are too many, of all
    /// hosts or of this one.
    pub fn channel_to(&mut self, to: SocketAddr) -> Option<u16> {
        self.peers.find_or_add(to).map(|peer| peer.channel)
    }

    /// The address that a number stands for.
    pub fn address_of(&self, channel: u16) -> Option<SocketAddr> {
        self.peers.by_channel(channel)
    }

    /// Many datagrams will go to this address: it gets a channel, which costs less for each of them.
    pub fn expect(&mut self, to: SocketAddr) {
        if let Some(peer) = self.peers.find_or_add(to) {
            (peer.wants_channel, peer.was_used) = (true, true);
        }
    }

    /// Appends what brings a datagram to an address by way of the server. False, and nothing is appended, while
    /// that is not possible: then it is lost, as any may be, and way is made for the next.
    // spec: RDV-43
    pub fn wrap(
        &mut self,
        to: SocketAddr,
        data: &[u8],
        entropy: &mut dyn Entropy,
        out: &mut Vec<u8>,
    ) -> bool {
        let is_here = self.relayed().is_some();
        let Some(peer) = self.peers.find_or_add(to) else { return false };
        peer.was_used = true;
        match (peer.is_bound, peer.is_permitted) {
            _ if !is_here => return false,
            (true, _) => message::on_channel(out, peer.channel, data),
            (false, true) => message::send_to(out, &stun::transaction(entropy), to, data),
            (false, false) => return false,
        }
        true
    }

    /// Data in a datagram of the server: whom they are from, the number that stands for that, and where in the
    /// datagram they are. `None` when there are none, or from hosts that were not asked to be let in.
    // spec: RDV-43
    pub fn unwrap(&mut self, datagram: &[u8]) -> Option<(SocketAddr, u16, Range<usize>)> {
        self.relayed()?;
        let (from, data) = match Frame::decode(datagram)? {
            Frame::Channel(channel, data) => (self.peers.by_channel(channel)?, data),
            Frame::Data(from, data) => (from, data),
        };
        if !self.peers.is_permitted(from.ip()) {
            return None;
        }
        let peer = self.peers.find_or_add(from)?;
        // The server lets the host in, so its other ports are let in.
        peer.is_permitted = true;
        peer.was_used = true;
        Some((from, peer.channel, data))
    }

    /// Takes a message of the server; true when it was an answer that was waited for.
    // spec: RDV-42
    pub fn handle_message(
        &mut self,
        now: Instant,
        message: &[u8],
        entropy: &mut dyn Entropy,
    ) -> bool {
        let Some(answer) = Answer::decode(message) else { return false };
        let Some((subject, request, ask)) = self.waiting_for(&answer) else { return false };
        match answer.reply {
            Reply::Error { code: code @ (UNAUTHORIZED | STALE_NONCE), realm, nonce } => {
                if self.proof.challenge(&request, code, [realm, nonce]) {
                    let mut again = Transaction::new(now, entropy);
                    again.challenges = request.challenges + 1;
                    self.replace(subject, again);
                } else if code == UNAUTHORIZED {
                    self.refused(now, subject, ask, Failure::Unauthorized, entropy);
                } else {
                    self.refused(now, subject, ask, Failure::Refused(code), entropy);
                }
                return true;
            }
            Reply::Error { code: ALLOCATION_MISMATCH, .. }
                if matches!(subject, Subject::Allocation) =>
            {
                let failure = Failure::Refused(ALLOCATION_MISMATCH);
                self.refused(now, subject, ask, failure, entropy);
            }
            _ if !answer.is_authentic(&self.proof.login, &self.proof.realm) => return false,
            Reply::Error { code, .. } => {
                self.refused(now, subject, ask, Failure::Refused(code), entropy);
            }
            Reply::Success { relayed, mapped, lifetime } => match (subject, ask) {
                (Subject::Peer(index), _) => self.peers.on_success(now, index, ask),
                (Subject::Allocation, Ask::Refresh(0)) => self.ended(now),
                (Subject::Allocation, _) => self.allocated(now, relayed, mapped, lifetime),
            },
        }
        true
    }

    /// The request that an answer is to.
    fn waiting_for(&mut self, answer: &Answer<'_>) -> Option<(Subject, Transaction, Ask)> {
        let own = self.allocation.request().filter(|(request, _)| request.id == answer.transaction);
        let (subject, request, ask) = match own {
            Some((request, ask)) => (Subject::Allocation, *request, ask),
            None => {
                let (index, request, ask) = self.peers.waiting_for(&answer.transaction)?;
                (Subject::Peer(index), request, ask)
            }
        };
        (ask.method() == answer.method).then_some((subject, request, ask))
    }

    fn replace(&mut self, subject: Subject, with: Transaction) {
        match subject {
            Subject::Peer(index) => self.peers.replace(index, with),
            Subject::Allocation => {
                if let Some((request, _)) = self.allocation.request() {
                    *request = with;
                }
            }
        }
    }

    fn allocated(
        &mut self,
        now: Instant,
        lent: Option<SocketAddr>,
        seen: Option<SocketAddr>,
        lifetime: Option<u32>,
    ) {
        let lifetime = Duration::from_secs(lifetime.unwrap_or(LIFETIME).max(2).into());
        let next = now + REFRESH_EVERY.min(lifetime / 2);
        match (&mut self.allocation, lent) {
            (Allocation::Here { refresh_at, refreshing, .. }, _) => {
                (*refresh_at, *refreshing) = (next, None);
            }
            (_, Some(relayed)) => {
                (self.failure, self.has_ended_old) = (None, false);
                self.allocation =
                    Allocation::Here { relayed, mapped: seen, refresh_at: next, refreshing: None };
                self.peers.begin(now);
            }
            (_, None) => self.fail(now, Failure::Nonsense),
        }
    }

    fn refused(
        &mut self,
        now: Instant,
        subject: Subject,
        ask: Ask,
        failure: Failure,
        entropy: &mut dyn Entropy,
    ) {
        match (subject, ask) {
            (Subject::Peer(index), _) => self.peers.on_refused(now, index),
            (Subject::Allocation, Ask::Refresh(0)) => self.ended(now),
            // It may live on under the other login; else it is gone, and may be had anew.
            (Subject::Allocation, Ask::Refresh(_)) if self.proof.take_next() => {
                self.replace(subject, Transaction::new(now, entropy));
            }
            (Subject::Allocation, Ask::Refresh(_)) => self.lose(now),
            // spec: RDV-124
            (Subject::Allocation, _)
                if failure == Failure::Refused(ALLOCATION_MISMATCH) && !self.has_ended_old =>
            {
                self.allocation = Allocation::Ending(Transaction::new(now, entropy));
            }
            (Subject::Allocation, _) => self.fail(now, failure),
        }
    }

    /// The server knows no allocation for this host's port any more: it is asked for one.
    fn ended(&mut self, now: Instant) {
        self.has_ended_old = true;
        self.allocation = Allocation::Nothing(Some(now + FORGOTTEN_AFTER));
    }

    fn fail(&mut self, now: Instant, failure: Failure) {
        (self.failure, self.has_ended_old) = (Some(failure), false);
        // A password does not become right by itself.
        let again = (failure != Failure::Unauthorized).then_some(now + RETRY);
        self.allocation = Allocation::Nothing(again);
    }

    fn lose(&mut self, now: Instant) {
        self.proof.take_next();
        self.allocation = Allocation::Nothing(Some(now));
        self.peers.end();
    }

    /// The next datagram that is due.
    pub fn poll_transmit(&mut self, now: Instant, entropy: &mut dyn Entropy) -> Option<Outgoing> {
        match &self.allocation {
            Allocation::Asking(request) | Allocation::Ending(request) if request.is_over(now) => {
                self.fail(now, Failure::NoAnswer);
            }
            Allocation::Here { refreshing: Some(request), .. } if request.is_over(now) => {
                self.lose(now);
            }
            _ => {}
        }
        match &mut self.allocation {
            Allocation::Nothing(Some(from)) if now >= *from => {
                self.allocation = Allocation::Asking(Transaction::new(now, entropy));
            }
            Allocation::Here { refreshing: refreshing @ None, refresh_at, .. }
                if now >= *refresh_at =>
            {
                *refreshing = Some(Transaction::new(now, entropy));
            }
            _ => {}
        }
        let realm = self.proof.realm();
        let own = self.allocation.request();
        let mut payload = own.and_then(|(request, ask)| request.poll(now, ask, realm));
        if payload.is_none() && self.relayed().is_some() {
            payload = self.peers.poll(now, self.proof.realm(), entropy);
        }
        payload.map(|payload| Outgoing { to: self.server, payload })
    }

    /// When [`Client::poll_transmit`] is to be called next by itself; `None` for never.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.allocation {
            Allocation::Nothing(from) => *from,
            Allocation::Asking(request) | Allocation::Ending(request) => Some(request.next_at),
            Allocation::Here { refresh_at, refreshing, .. } => {
                let own = refreshing.map_or(*refresh_at, |request| request.next_at);
                Some(self.peers.due().map_or(own, |at| at.min(own)))
            }
        }
    }

    /// Gives the address back: what is to be sent, once, for that.
    pub fn release(&mut self, entropy: &mut dyn Entropy) -> Option<Outgoing> {
        let is_here = self.relayed().is_some();
        self.allocation = Allocation::Nothing(None);
        self.peers.end();
        let payload = Ask::Refresh(0).encode(&stun::transaction(entropy), self.proof.realm());
        is_here.then_some(Outgoing { to: self.server, payload })
    }
}

#[cfg(test)]
mod tests;
