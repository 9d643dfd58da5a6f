//! What makes an endpoint a server, and what it has in common with the one that was there before it.

use std::net::SocketAddr;
use std::sync::Arc;

use jsp_crypto::Zeroizing;
use jsp_proto::ServerSetup;

use super::{Builder, server_config};
use crate::identity::Identity;

impl Builder {
    /// Tells clients of the server that was here before that it is gone, where that one was given the same key: 32
    /// bytes, random and secret. Their connections then end at once, instead of when they have been idle for too long.
    ///
    /// By default the key follows from the secret of the key in [`Builder::identity`], the address that is listened
    /// at, and the shard in [`Builder::share_tickets`], which is enough for one server that keeps its identity. Give a
    /// key where online keys are changed often. Servers that run at the same time under one identity must differ in one
    /// of these, or be given different keys: who sees packets of one could have the other end its connections.
    pub fn reset_key(mut self, key: [u8; 32]) -> Self {
        self.reset_key = Some(Zeroizing::new(key));
        self
    }

    pub(super) fn server_setup(&self) -> Option<ServerSetup> {
        let identity = self.identity.as_ref()?;
        let crypto = server_config(identity, &self.client_auth, &self.application_protocols);
        Some(ServerSetup {
            crypto: Arc::new(crypto),
            retry: self.retry,
            connections_max: self.connections_max,
            silent: self.silent,
        })
    }
}

/// The machine of a server at this address, this shard of those that share tickets, with its key for resets: the one
/// that was given, or its own.
pub(super) fn keyed(
    machine: jsp_proto::Endpoint,
    identity: Option<&Identity>,
    given: Option<[u8; 32]>,
    (addr, shard): (Option<SocketAddr>, u16),
) -> jsp_proto::Endpoint {
    match identity {
        Some(identity) => {
            machine.with_reset_key(given.unwrap_or_else(|| identity.reset_key(addr, shard)))
        }
        None => machine,
    }
}
