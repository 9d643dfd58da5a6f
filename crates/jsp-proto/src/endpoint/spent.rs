//! Cookies that have served: each opens one connection.

use std::collections::HashSet;

use jsp_wire::ConnectionId;

/// Cookies remembered of one generation: handshakes of ten seconds at the speed of a core. More
/// are refused, as a cookie that could not be remembered could serve again.
const COOKIES_MAX: usize = 1 << 17;

/// Seconds of a generation; two are kept. A cookie is not older than one when it serves.
const GENERATION_SECONDS: u64 = jsp_crypto::cookie::COOKIE_LIFETIME_SECONDS + 2;

/// The ids that came with them: an id is a function of its cookie.
#[derive(Default)]
pub(super) struct SpentCookies {
    generation: u64,
    present: HashSet<ConnectionId>,
    past: HashSet<ConnectionId>,
}

impl SpentCookies {
    /// True when the cookie of this id has served, or must not serve.
    pub(super) fn contains(&mut self, seconds: u64, id: &ConnectionId) -> bool {
        self.turn(seconds);
        self.present.contains(id) || self.past.contains(id) || self.present.len() >= COOKIES_MAX
    }

    /// The cookie of this id has served.
    pub(super) fn insert(&mut self, seconds: u64, id: ConnectionId) {
        self.turn(seconds);
        if self.present.len() < COOKIES_MAX {
            self.present.insert(id);
        }
    }

    fn turn(&mut self, seconds: u64) {
        let generation = seconds / GENERATION_SECONDS;
        if generation == self.generation {
            return;
        }
        let follows = generation == self.generation.saturating_add(1);
        self.generation = generation;
        let present = core::mem::take(&mut self.present);
        self.past = if follows { present } else { HashSet::new() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u64) -> ConnectionId {
        ConnectionId::new(&n.to_be_bytes()).unwrap()
    }

    #[test]
    // spec-test: CON-60
    fn a_cookie_is_remembered_longer_than_it_is_valid() {
        for start in 1_800_000_000..1_800_000_024 {
            let mut spent = SpentCookies::default();
            assert!(!spent.contains(start, &id(1)));
            spent.insert(start, id(1));
            let life = jsp_crypto::cookie::COOKIE_LIFETIME_SECONDS + 2;
            assert!((start..=start + life).all(|now| spent.contains(now, &id(1))));
            assert!(!spent.contains(start + 3 * life, &id(1)));
        }
    }

    #[test]
    fn a_full_memory_accepts_nothing() {
        let mut spent = SpentCookies::default();
        (0..COOKIES_MAX as u64 + 10).for_each(|n| spent.insert(100, id(n)));
        assert_eq!(spent.present.len(), COOKIES_MAX);
        assert!(spent.contains(100, &id(u64::MAX)));
        assert!(!spent.contains(100 + 2 * GENERATION_SECONDS, &id(u64::MAX)));
    }
}
