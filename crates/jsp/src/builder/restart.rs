//! What a server has in common with the one that was there before it.

use super::Builder;

impl Builder {
    /// Tells clients of the server that was here before that it is gone, where that one was given the same key: 32
    /// bytes, random and secret. Their connections then end at once, instead of when they have been idle for too long.
    ///
    /// By default the key follows from the secret of the key in [`Builder::identity`], the address that is listened
    /// at, and the shard in [`Builder::share_tickets`], which is enough for one server that keeps its identity. Give a
    /// key where online keys are changed often. Servers that run at the same time under one identity must differ in one
    /// of these, or be given different keys: who sees packets of one could have the other end its connections.
    pub fn reset_key(mut self, key: [u8; 32]) -> Self {
        self.reset_key = Some(key);
        self
    }
}
