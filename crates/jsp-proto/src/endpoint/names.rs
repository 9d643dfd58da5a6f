//! By what names connections are found: ids of ours, and the address of a peer that needs none.

use core::hash::Hash;
use std::collections::HashMap;

use jsp_crypto::Rng;
use jsp_wire::{ConnectionId, Route, limits};

use super::{ConnectionHandle, Endpoint, Slot};

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
            if !self.by_id.contains_key(&id) {
                return id;
            }
        }
    }

    pub(super) fn reset_token(&self, id: &ConnectionId) -> [u8; limits::RESET_TOKEN_LEN] {
        jsp_crypto::reset_token(&self.reset_key, id.as_bytes())
    }

    /// Nothing can arrive for a drained connection: its names are free. What has arrived can still
    /// be read until the application forgets the handle.
    pub(super) fn release_names(&mut self, handle: ConnectionHandle) {
        self.half_open.remove(&handle);
        let Some(slot) = self.connections.get(&handle) else { return };
        for id in slot.connection.local_ids() {
            self.by_id.remove(&id);
        }
        for path in slot.connection.paths() {
            release(&mut self.by_route, &peer_key(&path.route), handle);
        }
    }

    pub(super) fn issue_ids(&mut self, handle: ConnectionHandle) {
        let missing = |slot: &Slot| slot.connection.id_missing();
        while let Some(path) = self.connections.get(&handle).and_then(missing) {
            let id = self.fresh_local_id();
            let token = self.reset_token(&id);
            if let Some(slot) = self.connections.get_mut(&handle) {
                slot.connection.issue_id(path, id, token);
            }
            self.by_id.insert(id, handle);
        }
    }
}

/// Removes a name if it is still this connection's.
pub(super) fn release<K: Eq + Hash>(
    names: &mut HashMap<K, ConnectionHandle>,
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
