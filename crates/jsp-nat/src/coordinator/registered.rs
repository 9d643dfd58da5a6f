//! Who is called under which identity: several clients may have registered under one, as when a program that has lost
//! its connection comes again, or runs on two hosts.

use std::collections::BTreeMap;

use super::ClientId;
use crate::rendezvous::PeerKey;

/// The clients that have registered under each identity and are still there, the last one last.
#[derive(Debug, Default)]
pub(super) struct Registered(BTreeMap<PeerKey, Vec<ClientId>>);

impl Registered {
    /// A client has registered, perhaps not for the first time.
    pub(super) fn add(&mut self, key: PeerKey, id: ClientId) {
        self.remove(key, id);
        self.0.entry(key).or_default().push(id);
    }

    /// A client is gone.
    pub(super) fn remove(&mut self, key: PeerKey, id: ClientId) {
        let Some(ids) = self.0.get_mut(&key) else { return };
        ids.retain(|known| *known != id);
        if ids.is_empty() {
            self.0.remove(&key);
        }
    }

    /// Who is called under an identity.
    // spec: RDV-10
    pub(super) fn find(&self, key: &PeerKey) -> Option<ClientId> {
        self.0.get(key)?.last().copied()
    }
}
