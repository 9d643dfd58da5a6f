//! By what names connections are found: ids of ours, and the address of a peer that needs none.

use core::hash::{BuildHasher, Hash, Hasher};
use std::collections::HashMap;
use std::hash::RandomState;
use std::net::IpAddr;

use jsp_crypto::Rng;
use jsp_wire::{ConnectionId, Instant, Route, limits};

use super::{ConnectionHandle, Endpoint, Slot};
use crate::connection::Connection;

/// Routes by which the peer of a client without an id is understood.
const ROUTES_MAX: usize = 4;

impl Endpoint {
    /// A client needs no id as long as its peer's address names the connection.
    pub(super) fn client_id(&mut self, route: &Route) -> ConnectionId {
        let lone = self.config.server.is_none() && !self.by_route.contains_key(&peer_key(route));
        if lone { ConnectionId::EMPTY } else { self.fresh_local_id() }
    }

    pub(super) fn random_id(&mut self, len: usize) -> ConnectionId {
        let mut bytes = [0; limits::CONNECTION_ID_LEN_MAX];
        self.rng.fill(&mut bytes);
        bytes.get(..len).and_then(ConnectionId::new).unwrap_or(ConnectionId::EMPTY)
    }

    pub(super) fn fresh_local_id(&mut self) -> ConnectionId {
        loop {
            let id = self.random_id(limits::CONNECTION_ID_LEN_LOCAL);
            let id = self.shard.mark(id);
            if !self.by_id.contains_key(&id) {
                return id;
            }
        }
    }

    /// What tells a peer at the other end of `route` that the connection with this id is gone.
    pub(super) fn reset_token(
        &self,
        id: &ConnectionId,
        route: &Route,
    ) -> [u8; limits::RESET_TOKEN_LEN] {
        let token = |host: &[u8]| jsp_crypto::reset_token(&self.reset_key, id.as_bytes(), host);
        match route.remote().map(|remote| remote.ip().to_canonical()) {
            Some(IpAddr::V4(host)) => token(&host.octets()),
            Some(IpAddr::V6(host)) => token(&host.octets()),
            None => token(&[]),
        }
    }

    /// Nothing can arrive for a drained connection: its names are free. What has arrived can still
    /// be read until the application forgets the handle.
    pub(super) fn release_names(&mut self, handle: ConnectionHandle) {
        let Some(slot) = self.connections.get_mut(&handle) else { return };
        for id in slot.connection.local_ids() {
            self.by_id.remove(&id);
        }
        for path in slot.connection.paths() {
            release(&mut self.by_route, &peer_key(&path.route), handle);
        }
        for route in slot.routes.drain(..) {
            release(&mut self.by_route, &route, handle);
        }
    }

    /// Asks the server of a connection of ours by another route: when it answers there, the
    /// connection goes that way, and [`Event::PathChanged`](crate::Event::PathChanged) says so. The
    /// way before is kept in mind: what still comes by it is taken. False when the connection is
    /// there already, or cannot move now; and when it has no ids, and another is known by that address alone, for what
    /// comes from there is the other's.
    pub fn try_route(&mut self, now: Instant, handle: ConnectionHandle, route: Route) -> bool {
        let other = self.by_route.get(&peer_key(&route)).filter(|other| **other != handle);
        let is_taken = other.is_some();
        self.take_up(handle);
        let Some(slot) = self.connections.get_mut(&handle) else { return false };
        let connection = &mut slot.connection;
        let (before, is_nameless) =
            (connection.route(), connection.local_ids().any(|id| id.is_empty()));
        if (is_nameless && is_taken) || !connection.try_route(now, route) {
            return false;
        }
        // spec: CAR-32
        if is_nameless {
            let new = [peer_key(&before), peer_key(&route)];
            for key in new {
                if !slot.routes.contains(&key) {
                    slot.routes.push(key);
                }
            }
            while let Some(place) = to_forget(slot, &new) {
                let oldest = slot.routes.remove(place);
                release(&mut self.by_route, &oldest, handle);
            }
            for key in &slot.routes {
                self.by_route.entry(*key).or_insert(handle);
            }
        }
        self.schedule.touch(handle);
        true
    }

    /// An id and its reset token for the addresses that we prefer, where there are any.
    pub(super) fn preferred_id(
        &mut self,
        route: &Route,
    ) -> Option<(ConnectionId, [u8; limits::RESET_TOKEN_LEN])> {
        self.config.transport.preferred.is_any().then(|| {
            let id = self.fresh_local_id();
            (id, self.reset_token(&id, route))
        })
    }

    /// A client whose server would rather be found elsewhere goes and looks there.
    // spec: CON-70
    pub(super) fn seek_preferred(&mut self, now: Instant, handle: ConnectionHandle) {
        let slot = self.connections.get_mut(&handle);
        if let Some(route) = slot.and_then(|slot| slot.connection.take_preferred()) {
            self.try_route(now, handle, route);
        }
    }

    pub(super) fn issue_ids(&mut self, handle: ConnectionHandle) {
        let missing = |slot: &Slot| Some((slot.connection.id_missing()?, slot.connection.route()));
        while let Some((path, route)) = self.connections.get(&handle).and_then(missing) {
            let id = self.fresh_local_id();
            let token = self.reset_token(&id, &route);
            if let Some(slot) = self.connections.get_mut(&handle) {
                slot.connection.issue_id(path, id, token);
            }
            self.by_id.insert(id, handle);
        }
    }
}

/// Which of too many routes goes first: the oldest that no path takes or may go back to, and that is not one of the `new`.
fn to_forget(slot: &Slot, new: &[Route]) -> Option<usize> {
    let is_used = |key: &Route| {
        let mut used = slot.connection.routes();
        new.contains(key) || used.any(|route| peer_key(&route) == *key)
    };
    let has_room = slot.routes.len() <= ROUTES_MAX;
    slot.routes.iter().position(|key| !has_room && !is_used(key))
}

/// Where a client wrote to before it had heard of an id of ours.
pub(super) struct HelloNames {
    pub(super) route: Route,
    pub(super) ids: [Option<ConnectionId>; 2],
}

impl HelloNames {
    /// Those of a server's connection that has not moved yet.
    pub(super) fn of(connection: &Connection) -> Option<Box<Self>> {
        let ids = connection.hello_ids()?;
        Some(Box::new(Self { route: peer_key(&connection.route()), ids }))
    }
}

/// Connections by names of our own choice: ids that we gave out, and addresses that we connected to.
/// Every datagram is looked up, so the hash is a cheap one; a peer can only ask, and does not know the
/// key.
pub(super) type ByName<K> = HashMap<K, ConnectionHandle, NameHash>;

/// One folded multiplication a word, under a key.
#[derive(Clone, Copy, Debug)]
pub(super) struct NameHash {
    key: u64,
}

impl Default for NameHash {
    fn default() -> Self {
        Self { key: RandomState::new().hash_one(()) | 1 }
    }
}

impl BuildHasher for NameHash {
    type Hasher = NameHasher;

    fn build_hasher(&self) -> NameHasher {
        NameHasher { state: self.key }
    }
}

#[derive(Debug)]
pub(super) struct NameHasher {
    state: u64,
}

impl Hasher for NameHasher {
    fn finish(&self) -> u64 {
        self.state
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(size_of::<u64>()) {
            let mut word = [0; size_of::<u64>()];
            for (to, from) in word.iter_mut().zip(chunk) {
                *to = *from;
            }
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, number: u8) {
        self.write_u64(number.into());
    }

    fn write_u16(&mut self, number: u16) {
        self.write_u64(number.into());
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(number.into());
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }

    fn write_u64(&mut self, number: u64) {
        // The odd constant is 2^64 divided by the golden ratio.
        let wide = u128::from(self.state ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15_u128);
        self.state = (wide as u64).rotate_left(23) ^ ((wide >> 64) as u64);
    }
}

/// Removes a name if it is still this connection's.
pub(super) fn release<K: Eq + Hash, S: BuildHasher>(
    names: &mut HashMap<K, ConnectionHandle, S>,
    name: &K,
    owner: ConnectionHandle,
) {
    if names.get(name) == Some(&owner) {
        names.remove(name);
    }
}

/// Where an address-named connection is found: the local address may be unknown on one side.
pub(super) fn peer_key(route: &Route) -> Route {
    match route {
        Route::Udp { remote, .. } => Route::udp(*remote),
        other => *other,
    }
}
