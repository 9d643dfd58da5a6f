//! What streams give back while nothing happens.

use super::Streams;

impl Streams {
    /// The key of the table's hash.
    pub(crate) fn hash_key(&self) -> u64 {
        self.limits.hash_key
    }

    /// Nothing happens: queues shrink to what they hold.
    pub(crate) fn rest(&mut self) {
        for queue in [&mut self.control, &mut self.opens, &mut self.blocked, &mut self.watched] {
            queue.shrink_to_fit();
        }
        self.expiries.shrink_to_fit();
        self.accept.shrink_to_fit();
        self.events.shrink_to_fit();
    }
}
