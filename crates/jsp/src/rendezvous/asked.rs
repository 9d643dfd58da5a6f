//! Where a peer has sent to first, when nobody else may find out that it is there.

use std::collections::HashSet;
use std::net::SocketAddr;

/// Addresses that are remembered for certain; those before them are for a while.
const RECENT_MAX: usize = 512;

/// Addresses that the transport has sent to of its own accord. One that is forgotten, when there are too many, is known
/// again by the next datagram that goes there.
#[derive(Debug, Default)]
pub(super) struct Asked {
    recent: HashSet<SocketAddr>,
    before: HashSet<SocketAddr>,
}

impl Asked {
    /// The transport sends there. What comes from elsewhere does not reach it, so that this is never an answer to a
    /// stranger.
    pub(super) fn note(&mut self, to: SocketAddr) {
        if self.recent.contains(&to) {
            return;
        }
        if self.recent.len() >= RECENT_MAX {
            self.before = std::mem::take(&mut self.recent);
        }
        self.recent.insert(to);
    }

    /// Whether something that comes from there may be looked at.
    // spec: RDV-189
    pub(super) fn knows(&self, from: SocketAddr) -> bool {
        self.recent.contains(&from) || self.before.contains(&from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    // spec-test: RDV-189
    fn only_who_was_asked_is_known_and_the_number_is_bounded() {
        let mut asked = Asked::default();
        let at = |n: usize| SocketAddr::from(([192, 0, (n >> 8) as u8, n as u8], 1));
        for n in 0..10 * RECENT_MAX {
            assert!(!asked.knows(at(n)));
            asked.note(at(n));
            assert!(asked.knows(at(n)) && asked.knows(at(n.saturating_sub(RECENT_MAX - 1))));
            assert!(asked.recent.len() + asked.before.len() <= 2 * RECENT_MAX);
        }
    }
}
