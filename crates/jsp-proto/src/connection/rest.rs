//! What a connection gives back while nothing happens: all of it is had again when something does.

use super::{Connection, Scratch};

impl Connection {
    /// Nothing was sent or heard for a while: rings shrink to what they hold, keys to what they are made from.
    pub(super) fn rest(&mut self) {
        self.lifecycle.rest();
        self.keys.rest();
        self.exchange.rest();
        self.streams.rest();
        self.events.shrink_to_fit();
        self.scratch = Scratch::default();
        for path in self.paths.iter_mut() {
            path.numbers.recovery.rest();
        }
    }
}
