//! Connections that peers have made and nobody has accepted yet.

use std::task::Poll;

use super::{Core, Key};

/// Connections that are kept although they ended before anybody accepted them, with what had arrived on them. The
/// transport does not count them any more, and each may hold as much as the windows of a connection: without a bound,
/// peers that come and go would fill the memory of an endpoint that accepts slowly, or not at all.
pub(super) const ENDED_MAX: usize = 256;

impl Core {
    /// A connection by which a peer has come.
    pub(super) fn add_incoming(&mut self, key: Key) {
        self.incoming.push_back(key);
        self.accepting.wake(&mut self.wakes);
    }

    /// The next connection that nobody has accepted yet; `None` when there will be none.
    pub(crate) fn next_incoming(&mut self) -> Poll<Option<Key>> {
        match self.incoming.pop_front() {
            Some(key) => {
                self.ended.retain(|ended| *ended != key);
                if let Some(state) = self.connections.get_mut(&key) {
                    state.is_incoming = false;
                }
                Poll::Ready(Some(key))
            }
            None if self.closed => Poll::Ready(None),
            None => Poll::Pending,
        }
    }

    /// A connection is over. Where nobody had accepted it and too many such are kept, the oldest is forgotten.
    pub(super) fn bound_ended(&mut self, key: Key) {
        if !self.connections.get(&key).is_some_and(|state| state.is_incoming) {
            return;
        }
        self.ended.push_back(key);
        while self.ended.len() > ENDED_MAX
            && let Some(oldest) = self.ended.pop_front()
        {
            if let Some(place) = self.incoming.iter().position(|waiting| *waiting == oldest) {
                self.incoming.remove(place);
            }
            self.connections.remove(&oldest);
        }
    }

    /// Forgets the connections that nobody has accepted; they are closed already or about to be.
    pub(crate) fn drop_incoming(&mut self) {
        self.ended.clear();
        for key in std::mem::take(&mut self.incoming) {
            if let Some(state) = self.connections.get_mut(&key) {
                (state.orphan, state.is_incoming) = (true, false);
            }
            self.forget_if_over(key);
        }
    }
}
