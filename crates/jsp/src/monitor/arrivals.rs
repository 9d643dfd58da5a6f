//! Addresses that come to this machine, for who has no connection that would hear of them.

use std::future::pending;
use std::sync::Arc;

use tokio::sync::{Notify, watch};

/// Tells when this machine has another address than before: a cable is plugged in again, a network is joined. Made by
/// [`Endpoint::network_arrivals`](crate::Endpoint::network_arrivals); the endpoint watches the network as long as it lives.
#[derive(Debug, Default)]
pub struct Arrivals {
    /// What the task that watches says, and how it hears that nobody listens; `None` where nothing is watched.
    pub(super) watched: Option<(watch::Receiver<()>, Arc<Notify>)>,
}

impl Arrivals {
    /// Returns when an address has come that was not there before, since the last call or since this was made; never
    /// where the endpoint has no monitor.
    ///
    /// Cancel-safe: what comes between two calls is told by the next.
    pub async fn next(&mut self) {
        if let Some((heard, _)) = &mut self.watched
            && heard.changed().await.is_ok()
        {
            return;
        }
        pending().await
    }
}

impl Drop for Arrivals {
    fn drop(&mut self) {
        if let Some((heard, news)) = self.watched.take() {
            drop(heard);
            news.notify_one();
        }
    }
}
