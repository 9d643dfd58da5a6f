//! What the network carries, and what the application knows of it.

use std::task::Poll;

use jsp_proto::{Capacity, NetworkHint, Outlook};

use crate::connection::Connection;
use crate::error::ConnectionError;
use crate::monitor::machine_has;
use crate::shard::Place;

impl Connection {
    /// What the network carries at this moment, as far as it can be known; nothing is known once the
    /// connection is over.
    pub fn capacity(&self) -> Capacity {
        let now = self.inner.shard.clock.now();
        let mut core = self.inner.shard.lock();
        core.live(self.inner.key).map_or_else(|_| Capacity::default(), |(c, _)| c.capacity(now))
    }

    /// Waits until the advice for media ([`Capacity::media_rate`]) has changed: fallen by 10 % or
    /// more, which is told at most every 50 ms, or risen by 15 % or more, at most every 500 ms.
    /// Answers the latest. A change that comes while nobody waits is told by the next call, at once; of several tasks,
    /// all those get a change that wait when it comes.
    ///
    /// Cancel-safe: no change is lost.
    ///
    /// # Errors
    /// Once the connection is over.
    pub async fn capacity_changed(&self) -> Result<Capacity, ConnectionError> {
        let mut seen = None;
        self.inner
            .wait(Place::Capacity, |core, inner, _| {
                let Some(state) = core.state(inner.key) else {
                    return Poll::Ready(Err(ConnectionError::EndpointClosed));
                };
                if let Some(error) = state.error() {
                    return Poll::Ready(Err(error.clone()));
                }
                let told = &mut state.capacity;
                // What the latest call has answered, as this one began.
                if told.changes == *seen.get_or_insert(told.answered) {
                    return Poll::Pending;
                }
                told.answered = told.changes;
                Poll::Ready(Ok(told.latest.as_deref().copied().unwrap_or_default()))
            })
            .await
    }

    /// What the next 100 to 300 ms bring, if things go on as they do.
    pub fn outlook(&self) -> Outlook {
        let now = self.inner.shard.clock.now();
        let mut core = self.inner.shard.lock();
        core.live(self.inner.key).map_or_else(|_| Outlook::default(), |(c, _)| c.outlook(now))
    }

    /// Tells what the application knows of its network before packets can: that the interface went
    /// down or came up, that the radio changes. Of the first two it hears by itself where the endpoint watches
    /// them ([`jsp::monitor`](crate::monitor)).
    pub fn hint(&self, hint: NetworkHint) {
        let now = self.inner.shard.clock.now();
        let mut core = self.inner.shard.lock();
        let live = core.live(self.inner.key).ok();
        if let Some(path) = live.and_then(|(connection, _)| connection.paths().next()) {
            let (link, path) = (&self.inner.shard.link, (self.inner.key, path.id));
            // The path is there.
            let _ = core.hint_path(link, path, now, hint, machine_has);
        }
        self.inner.shard.flush(&mut core, now);
    }
}
