//! Whether a TURN server lends an address.

use std::time::{Duration, Instant};

use jsp::rendezvous::{Peer, Policy, TurnServer};
use jsp::{Endpoint, Identity};
use serde::Serialize;
use tokio::time::timeout;

use super::Passage;
use crate::output::milliseconds;
use crate::session;

/// What came of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Lent {
    /// Who was asked, as HOST:PORT.
    pub(crate) server: String,
    /// The address that it lends.
    pub(crate) address: Option<String>,
    #[serde(flatten)]
    pub(crate) passage: Passage,
}

/// Asks a server for an address, and gives it back.
pub(crate) async fn try_turn(server: &TurnServer, patience: Duration) -> Lent {
    let builder =
        Endpoint::builder().identity(Identity::generate()).transport(session::transport(patience));
    let begun = Instant::now();
    // With this policy no address of this machine is ever told.
    let (passage, address) = match Peer::build(builder, Policy::RelayOnly) {
        Err(error) => (Passage::Failed { error: error.to_string() }, None),
        Ok(peer) => {
            let lent = timeout(patience, peer.use_turn(server)).await;
            let connected_ms = milliseconds(begun.elapsed());
            peer.endpoint().close(0, b"");
            match lent {
                Ok(Ok(lent)) => (Passage::Works { connected_ms }, Some(lent.to_string())),
                Ok(Err(error)) => (Passage::Failed { error: error.to_string() }, None),
                Err(_) => (Passage::NoAnswer, None),
            }
        }
    };
    Lent { server: server.server().to_owned(), address, passage }
}
