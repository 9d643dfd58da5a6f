//! Servers that send a client elsewhere or away before it has heard anything else: Retry and version
//! negotiation.

use jsp_crypto::Role;
use jsp_wire::{Header, Instant};

use super::Connection;
use crate::event::CloseReason;
use crate::keys::SpaceId;
use crate::spaces;

/// Datagrams of a full hello, which must leave whatever else is under way.
pub(super) const HELLO_DATAGRAMS: u8 = 2;

impl Connection {
    /// True for a client that has heard nothing yet: only then may it be sent elsewhere or away.
    fn is_untouched(&self) -> bool {
        let initial = spaces::view(SpaceId::Initial, &self.early, &self.paths.active);
        self.role == Role::Client
            && self.lifecycle.is_open()
            && self.exchange.ids().retry_source.is_none()
            && self.keys.has(SpaceId::Initial)
            && initial.is_some_and(|numbers| numbers.window.expected() == 0)
    }

    /// The server wants a proof of address: the hello goes again with the cookie. It may be a forgery:
    /// answers to the hellos before are still heard.
    // spec: CON-15
    pub(super) fn handle_retry(&mut self, now: Instant, datagram: &[u8]) {
        let Ok(Header::Retry { scid, token, .. }) = Header::parse(datagram) else { return };
        let ids = *self.exchange.ids();
        let waits =
            self.is_unproved() && self.lifecycle.is_open() && self.keys.has(SpaceId::Initial);
        let original = ids.original_destination;
        let genuine = jsp_crypto::verify_retry_integrity_tag(
            jsp_wire::VERSION_1,
            original.as_bytes(),
            datagram,
        );
        if !waits || !genuine || token.is_empty() {
            return;
        }
        self.exchange.note_retry(scid, token);
        if ids.retry_source.is_none() {
            self.obey_next_retry(now);
        }
    }

    /// Sends the hello as the next Retry wants it; false when there is none.
    pub(super) fn obey_next_retry(&mut self, now: Instant) -> bool {
        let Some(scid) = self.exchange.next_retry() else { return false };
        self.remote_ids.set_handshake_id(scid);
        let pin = self.exchange.pin.as_ref();
        let version = jsp_wire::VERSION_1;
        let keys = jsp_crypto::initial_keys(Role::Client, version, scid.as_bytes(), pin);
        self.keys.replace_initial(keys);
        if let Some(numbers) = self.early.get_mut(SpaceId::Initial) {
            numbers.recovery.discard();
            numbers.recovery.set_deadlock_guard(true);
        }
        self.paths.active.probes.forgive(SpaceId::Initial);
        if let Some(flight) = self.exchange.flight(SpaceId::Initial) {
            flight.restart();
        }
        // Early data that nobody acknowledges may fill the window.
        self.paths.active.probes.owe(SpaceId::Initial, HELLO_DATAGRAMS);
        // The server has let go of what came with the hello.
        self.doubt_early(now);
        self.lifecycle.on_received(now);
        true
    }

    /// The server speaks other versions. A list with ours in it is a forgery, and so may be any other.
    // spec: CON-16
    pub(super) fn handle_version_negotiation(&mut self, now: Instant, datagram: &[u8]) {
        let Ok(Header::VersionNegotiation { dcid, scid, versions }) = Header::parse(datagram)
        else {
            return;
        };
        let offered: Vec<u32> = versions
            .chunks_exact(4)
            .filter_map(|chunk| chunk.try_into().ok().map(u32::from_be_bytes))
            .collect();
        let ours = self.is_untouched()
            && dcid == self.local_ids.first().as_bytes()
            && scid == self.exchange.ids().original_destination.as_bytes();
        if ours && !offered.contains(&jsp_wire::VERSION_1) && self.lifecycle.is_open() {
            self.doubt_peer(now, CloseReason::VersionMismatch { offered });
        }
    }
}
