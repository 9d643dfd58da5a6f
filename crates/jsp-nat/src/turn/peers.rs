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
/// A permission lives for 5 minutes, a channel for 10 (RFC 8656, sections 9 and 12): renewed before, where it was
/// used, and forgotten where not.
const RENEW_EVERY: Duration = Duration::from_secs(240);

/// An address beyond the server.
#[derive(Debug)]
pub(super) struct Peer {
    address: SocketAddr,
    pub(super) channel: u16,
    pub(super) is_permitted: bool,
    pub(super) is_bound: bool,
    pub(super) wants_channel: bool,
    /// Something came or went since it was last renewed.
    pub(super) was_used: bool,
    /// When it is to be asked for; `None` at once.
    due_at: Option<Instant>,
    /// The server does not let it in.
    is_refused: bool,
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
    pub(super) fn find_or_add(&mut self, address: SocketAddr) -> Option<&mut Peer> {
        if let Some(index) = self.all.iter().position(|peer| peer.address == address) {
            return self.all.get_mut(index);
        }
        if self.all.len() >= PEERS_MAX {
            let of_no_use = self.all.iter().position(|peer| peer.is_refused || !peer.was_used)?;
            self.all.swap_remove(of_no_use);
        }
        let channel = self.free_channel();
        self.all.push(Peer {
            address,
            channel,
            is_permitted: false,
            is_bound: false,
            wants_channel: false,
            was_used: false,
            due_at: None,
            is_refused: false,
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
        peer.is_permitted = true;
        peer.is_bound |= matches!(ask, Ask::Bind(..));
        peer.was_used = false;
        peer.due_at = Some(now + RENEW_EVERY);
    }

    pub(super) fn on_refused(&mut self, index: usize) {
        let Some(peer) = self.all.get_mut(index) else { return };
        let was_channel = matches!(peer.asking.take(), Some((_, Ask::Bind(..))));
        // Without a channel it goes on.
        (peer.is_bound, peer.wants_channel) = (false, false);
        peer.is_refused = !was_channel;
        peer.is_permitted &= was_channel;
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
            (peer.is_permitted, peer.is_bound, peer.is_refused) = (false, false, false);
            peer.asking = None;
        }
    }

    /// The next request that is due.
    pub(super) fn poll(
        &mut self,
        now: Instant,
        realm: Option<Realm<'_>>,
        entropy: &mut dyn Entropy,
    ) -> Option<Vec<u8>> {
        for (peer, index) in self.all.iter_mut().zip(0..) {
            if let Some((request, _)) = &peer.asking
                && request.is_over(now)
            {
                self.on_refused(index);
                return self.poll(now, realm, entropy);
            }
        }
        // Those that nobody uses are forgotten where they would be renewed.
        self.all.retain(|peer| peer.was_used || !peer.is_permitted || !peer.is_due(now));
        for peer in &mut self.all {
            if peer.asking.is_none() && peer.is_due(now) {
                let ask = match peer.wants_channel {
                    true => Ask::Bind(peer.channel, peer.address),
                    false => Ask::Permit(peer.address.ip()),
                };
                peer.asking = Some((Transaction::new(now, entropy), ask));
            }
        }
        let mut asking = self.all.iter_mut().filter_map(|peer| peer.asking.as_mut());
        asking.find_map(|(request, ask)| request.poll(now, *ask, realm))
    }

    /// When something is due next.
    pub(super) fn due(&self) -> Option<Instant> {
        let due = |peer: &Peer| match &peer.asking {
            Some((request, _)) => Some(request.next_at),
            None if peer.is_refused => None,
            None if peer.is_to_be_bound() => Some(Instant::ZERO),
            None => Some(peer.due_at.unwrap_or(Instant::ZERO)),
        };
        self.all.iter().filter_map(due).min()
    }
}

impl Peer {
    fn is_to_be_bound(&self) -> bool {
        self.wants_channel && !self.is_bound
    }

    fn is_due(&self, now: Instant) -> bool {
        let is_time = self.due_at.is_none_or(|at| now >= at) || self.is_to_be_bound();
        is_time && !self.is_refused
    }
}
