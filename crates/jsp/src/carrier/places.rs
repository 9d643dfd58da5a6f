//! How many streams of peers there may be, of all together and of one network.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Streams that carry no established connection yet: of all peers together.
// spec: CAR-8
const STRANGERS_MAX: usize = 1024;

/// And of one network, an IPv4 /24 or an IPv6 /56.
const STRANGERS_PER_PREFIX: usize = 32;

/// The share of the places for established connections that one network may have: one of so many.
// spec: CAR-19
const ADMITTED_SHARE: usize = 4;

/// Places for streams.
pub(crate) struct Places {
    total_max: usize,
    prefix_max: usize,
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    total: usize,
    by_prefix: HashMap<[u8; 8], usize>,
}

/// A place; given back when it is dropped.
pub(crate) struct Place {
    places: Arc<Places>,
    prefix: [u8; 8],
}

impl Places {
    fn new(total_max: usize, prefix_max: usize) -> Arc<Self> {
        Arc::new(Self { total_max, prefix_max, counts: Mutex::default() })
    }

    /// For streams that carry no established connection yet.
    pub(crate) fn for_strangers() -> Arc<Self> {
        Self::new(STRANGERS_MAX, STRANGERS_PER_PREFIX)
    }

    /// For streams that carry an established connection, at most `max`.
    pub(crate) fn for_admitted(max: usize) -> Arc<Self> {
        Self::new(max, max.div_ceil(ADMITTED_SHARE))
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a stream of `remote`, while there are any.
    // spec: CAR-8, CAR-19
    pub(super) fn enter(self: &Arc<Self>, remote: SocketAddr) -> Option<Place> {
        let prefix = prefix_of(remote.ip());
        let mut counts = self.lock();
        if counts.total >= self.total_max {
            return None;
        }
        let count = counts.by_prefix.get(&prefix).copied().unwrap_or_default();
        if count >= self.prefix_max {
            return None;
        }
        counts.by_prefix.insert(prefix, count + 1);
        counts.total += 1;
        drop(counts);
        Some(Place { places: Arc::clone(self), prefix })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.places.lock();
        counts.total = counts.total.saturating_sub(1);
        if let Some(count) = counts.by_prefix.get_mut(&self.prefix) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                counts.by_prefix.remove(&self.prefix);
            }
        }
    }
}

/// Addresses that one party easily has many of.
fn prefix_of(ip: IpAddr) -> [u8; 8] {
    match ip.to_canonical() {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            [4, a, b, c, 0, 0, 0, 0]
        }
        IpAddr::V6(address) => {
            let [a, b, c, d, e, f, g, ..] = address.octets();
            [6, a, b, c, d, e, f, g]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    /// spec-test: CAR-8
    fn a_network_has_a_share_of_the_places() {
        let strangers = Places::for_strangers();
        let enter = |text: &str| strangers.enter(text.parse().unwrap());
        let places: Vec<_> = (0..STRANGERS_PER_PREFIX)
            .map(|n| enter(&format!("192.0.2.{n}:{}", 1000 + n)).unwrap())
            .collect();
        assert!(enter("192.0.2.200:9").is_none());
        assert!(enter("[::ffff:192.0.2.200]:9").is_none());
        assert!(enter("192.0.3.1:9").is_some());
        drop(places);
        assert!(enter("192.0.2.200:9").is_some());
        let all: Vec<_> = (0..STRANGERS_MAX)
            .map(|n| enter(&format!("10.{}.{}.1:9", n / 250, n % 250)).unwrap())
            .collect();
        assert!(enter("203.0.113.1:9").is_none());
        drop(all);
        assert_eq!(strangers.lock().total, 0);
        assert!(strangers.lock().by_prefix.is_empty());
    }

    #[test]
    /// spec-test: CAR-19
    fn one_network_does_not_take_all_places_of_established_connections() {
        let admitted = Places::for_admitted(10);
        let enter = |text: &str| admitted.enter(text.parse().unwrap());
        let of_one: Vec<_> = (0..10).filter_map(|n| enter(&format!("192.0.2.{n}:9"))).collect();
        assert_eq!(of_one.len(), 3);
        let of_others: Vec<_> = (0..10).filter_map(|n| enter(&format!("10.0.{n}.1:9"))).collect();
        assert_eq!(of_others.len(), 7);
        drop(of_others);
        assert!(enter("10.0.0.1:9").is_some());
        assert!(Places::for_admitted(1).enter("10.0.0.1:9".parse().unwrap()).is_some());
        assert!(Places::for_admitted(0).enter("10.0.0.1:9".parse().unwrap()).is_none());
    }
}
