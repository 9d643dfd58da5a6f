//! The hosts that a server lets in for its client, and channels to them.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use jsp_wire::Instant;

use super::Transaction;
use super::message::{Ask, CHANNELS, Realm};
use crate::Entropy;
use crate::stun::TransactionId;

/// Addresses at once. What comes from further ones is dropped.
pub(super) const PEERS_MAX: usize = 64;
/// Of these, those of one host: whoever is let in could come from all its ports, and take the others' places.
pub(super) const PORTS_MAX: usize = 16;
/// A permission lives for 5 minutes, a channel for 10 (RFC 8656, sections 9 and 12): renewed before, where it was
/// used, and forgotten where not.
const RENEW_EVERY: Duration = Duration::from_secs(240);
/// What the server refuses is asked for again no sooner.
const REFUSED_FOR: Duration = Duration::from_secs(60);

/// An address beyond the server.
#[derive(Debug)]
pub(super) struct Peer {
    address: SocketAddr,
    pub(super) channel: u16,
    pub(super) is_permitted: bool,
    pub(super) is_bound: bool,
    pub(super) wants_channel: bool,
    /// The server has refused a channel, or not answered: without one it goes on until then.
    no_channel_before: Option<Instant>,
    /// Something came or went since it was last asked for.
    pub(super) was_used: bool,
    /// When it is to be asked for; `None` at once.
    due_at: Option<Instant>,
    /// The server has refused to let it in, or not answered.
    has_failed: bool,
    asking: Option<(Transaction, Ask)>,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Peers {
    all: Vec<Peer>,
    next: u16,
}

impl Default for Peers {
    fn default() -> Self {
        Self { all: Vec::new(), next: CHANNELS.start }
    }
}

impl Peers {
    // spec: RDV-43
    pub(super) fn find_or_add(&mut self, address: SocketAddr) -> Option<&mut Peer> {
        if let Some(index) = self.all.iter().position(|peer| peer.address == address) {
            return self.all.get_mut(index);
        }
        let is_of_host = |peer: &Peer| peer.address.ip() == address.ip();
        let is_host_full = self.all.iter().filter(|peer| is_of_host(peer)).count() >= PORTS_MAX;
        if is_host_full || self.all.len() >= PEERS_MAX {
            let may_go = |peer: &Peer| !is_host_full || is_of_host(peer);
            let is_idle =
                |peer: &Peer| peer.has_failed || (!peer.was_used && peer.asking.is_none());
            let of_no_use = self.all.iter().position(|peer| may_go(peer) && is_idle(peer))?;
            self.all.swap_remove(of_no_use);
        }
        let channel = self.free_channel();
        self.all.push(Peer {
            address,
            channel,
            is_permitted: false,
            is_bound: false,
            wants_channel: false,
            no_channel_before: None,
            was_used: false,
            due_at: None,
            has_failed: false,
            asking: None,
        });
        self.all.last_mut()
    }

    /// Numbers come again as late as can be: a server keeps what they stand for beyond their use.
    fn free_channel(&mut self) -> u16 {
        loop {
            let channel = self.next;
            let next = channel.saturating_add(1);
            self.next = if CHANNELS.contains(&next) { next } else { CHANNELS.start };
            if self.by_channel(channel).is_none() {
                return channel;
            }
        }
    }

    pub(super) fn by_channel(&self, channel: u16) -> Option<SocketAddr> {
        self.all.iter().find(|peer| peer.channel == channel).map(|peer| peer.address)
    }

    pub(super) fn is_permitted(&self, host: IpAddr) -> bool {
        self.all.iter().any(|peer| peer.address.ip() == host && peer.is_permitted)
    }

    pub(super) fn waiting_for(&self, id: &TransactionId) -> Option<(usize, Transaction, Ask)> {
        let asking = |peer: &Peer| peer.asking.filter(|(request, _)| request.id == *id);
        let mut all = self.all.iter().zip(0..);
        all.find_map(|(peer, index)| asking(peer).map(|(request, ask)| (index, request, ask)))
    }

    pub(super) fn replace(&mut self, index: usize, request: Transaction) {
        if let Some((slot, _)) = self.all.get_mut(index).and_then(|peer| peer.asking.as_mut()) {
            *slot = request;
        }
    }

    pub(super) fn on_success(&mut self, now: Instant, index: usize, ask: Ask) {
        let Some(peer) = self.all.get_mut(index) else { return };
        peer.asking = None;
        (peer.is_permitted, peer.has_failed) = (true, false);
        peer.is_bound |= matches!(ask, Ask::Bind(..));
        peer.due_at = Some(now + RENEW_EVERY);
    }

    // spec: RDV-125
    pub(super) fn on_refused(&mut self, now: Instant, index: usize) {
        let Some(peer) = self.all.get_mut(index) else { return };
        if !peer.has_no_channel(now) {
            peer.has_failed = true;
            peer.is_permitted = false;
            peer.due_at = Some(now + REFUSED_FOR);
        }
    }

    /// There is an address: hosts are let in anew.
    pub(super) fn begin(&mut self, now: Instant) {
        for peer in &mut self.all {
            peer.due_at = Some(now);
        }
    }

    /// The address is gone, and with it all that was let in.
    pub(super) fn end(&mut self) {
        for peer in &mut self.all {
            (peer.is_permitted, peer.is_bound, peer.has_failed) = (false, false, false);
            (peer.asking, peer.no_channel_before) = (None, None);
        }
    }

    /// The next request that is due.
    pub(super) fn poll(
        &mut self,
        now: Instant,
        realm: Option<Realm<'_>>,
        entropy: &mut dyn Entropy,
    ) -> Option<Vec<u8>> {
        for peer in &mut self.all {
            if peer.asking.as_ref().is_some_and(|(request, _)| request.is_over(now)) {
                peer.on_silence(now);
            }
        }
        // Those that nobody uses are forgotten where they would be asked for again.
        self.all.retain(|peer| !peer.is_forgotten(now));
        for peer in &mut self.all {
            if peer.asking.is_none() && peer.is_due(now) {
                let ask = match peer.may_be_bound(now) {
                    true => Ask::Bind(peer.channel, peer.address),
                    false => Ask::Permit(peer.address.ip()),
                };
                peer.was_used = false;
                peer.asking = Some((Transaction::new(now, entropy), ask));
            }
        }
        let mut asking = self.all.iter_mut().filter_map(|peer| peer.asking.as_mut());
        asking.find_map(|(request, ask)| request.poll(now, *ask, realm))
    }

    /// When something is due next.
    pub(super) fn due(&self) -> Option<Instant> {
        self.all.iter().map(Peer::due).min()
    }
}

impl Peer {
    /// Nothing came of what was asked; true when that was a channel, without which it goes on for a while.
    fn has_no_channel(&mut self, now: Instant) -> bool {
        let was_channel = matches!(self.asking.take(), Some((_, Ask::Bind(..))));
        if was_channel {
            self.is_bound = false;
            self.no_channel_before = Some(now + REFUSED_FOR);
        }
        was_channel
    }

    /// The server has not answered, and is asked again: answers are lost as any datagram may be.
    // spec: RDV-125
    fn on_silence(&mut self, now: Instant) {
        if !self.has_no_channel(now) {
            self.has_failed = true;
            self.due_at = Some(now);
        }
    }

    fn is_forgotten(&self, now: Instant) -> bool {
        let was_asked_for = self.is_permitted || self.has_failed;
        was_asked_for && !self.was_used && self.asking.is_none() && self.is_due(now)
    }

    fn may_be_bound(&self, now: Instant) -> bool {
        self.wants_channel && self.no_channel_before.is_none_or(|at| now >= at)
    }

    fn is_due(&self, now: Instant) -> bool {
        let is_time = self.due_at.is_none_or(|at| now >= at);
        is_time || (self.may_be_bound(now) && !self.is_bound)
    }

    fn due(&self) -> Instant {
        let at_once = Instant::ZERO;
        match &self.asking {
            Some((request, _)) => request.next_at,
            None if self.wants_channel && !self.is_bound => {
                let both = (self.due_at, self.no_channel_before);
                both.0.unwrap_or(at_once).min(both.1.unwrap_or(at_once))
            }
            None => self.due_at.unwrap_or(at_once),
        }
    }
}
