//! Where strangers' datagrams come from, as far as shares and limits are concerned.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::IpAddr;

use jsp_wire::{Instant, Route};

/// A network whose addresses one attacker may hold all: IPv4 by its /24, IPv6 by its /56, and
/// whatever comes through a relay or a tunnel by its own number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Prefix([u8; 8]);

impl Prefix {
    pub(super) fn of(route: &Route) -> Self {
        match route {
            Route::Udp { remote, .. } => match remote.ip().to_canonical() {
                IpAddr::V4(address) => {
                    let [a, b, c, _] = address.octets();
                    Self([4, a, b, c, 0, 0, 0, 0])
                }
                IpAddr::V6(address) => {
                    let [a, b, c, d, e, f, g, ..] = address.octets();
                    Self([6, a, b, c, d, e, f, g])
                }
            },
            Route::Relayed { peer: number, .. } | Route::Tunnel { id: number } => {
                let [_, a, b, c, d, e, f, g] = number.to_be_bytes();
                Self([1, a, b, c, d, e, f, g])
            }
        }
    }
}

/// Answers to one source in a second, from stateless resets to refusals.
const ANSWERS_PER_SOURCE: u8 = 10;

/// And to all of them together: a flood from everywhere must not make us shout.
const ANSWERS_PER_SECOND: u32 = 1000;

/// Counters of sources, a power of two; two sources may share one.
const COUNTERS: usize = 1 << 10;

/// How much has been answered in the present second, in memory of fixed size.
pub(super) struct AnswerLimit {
    second: u64,
    total: u32,
    by_source: Box<[u8; COUNTERS]>,
    hash: RandomState,
}

impl Default for AnswerLimit {
    fn default() -> Self {
        Self { second: 0, total: 0, by_source: Box::new([0; COUNTERS]), hash: RandomState::new() }
    }
}

impl AnswerLimit {
    /// Counts an answer to this route; false when it must not be given.
    // spec: CON-36
    pub(super) fn allows(&mut self, now: Instant, route: &Route) -> bool {
        let second = now.as_nanos() / 1_000_000_000;
        if second != self.second {
            self.second = second;
            self.total = 0;
            self.by_source.fill(0);
        }
        let source = self.hash.hash_one(source_of(route)) as usize & (COUNTERS - 1);
        let Some(counter) = self.by_source.get_mut(source) else { return false };
        let allowed = *counter < ANSWERS_PER_SOURCE && self.total < ANSWERS_PER_SECOND;
        if allowed {
            *counter = counter.saturating_add(1);
            self.total = self.total.saturating_add(1);
        }
        allowed
    }
}

/// The peer's machine: many ports of it are one source.
fn source_of(route: &Route) -> (Option<IpAddr>, u64) {
    match route {
        Route::Udp { remote, .. } => (Some(remote.ip().to_canonical()), 0),
        Route::Relayed { via, peer } => (Some(via.ip()), *peer),
        Route::Tunnel { id } => (None, *id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn udp(text: &str) -> Route {
        Route::udp(text.parse().unwrap())
    }

    #[test]
    fn neighbours_share_a_prefix() {
        let of = |text: &str| Prefix::of(&udp(text));
        assert_eq!(of("192.0.2.1:1"), of("192.0.2.250:9"));
        assert_eq!(of("192.0.2.1:1"), of("[::ffff:192.0.2.7]:1"));
        assert_ne!(of("192.0.2.1:1"), of("192.0.3.1:1"));
        assert_eq!(of("[2001:db8:0:ff00::1]:1"), of("[2001:db8:0:ffff::2]:1"));
        assert_ne!(of("[2001:db8:0:ff00::1]:1"), of("[2001:db8:1:ff00::1]:1"));
        assert_ne!(Prefix::of(&Route::Tunnel { id: 1 }), Prefix::of(&Route::Tunnel { id: 2 }));
    }

    #[test]
    // spec-test: CON-36
    fn a_source_is_answered_ten_times_a_second_and_all_of_them_a_thousand_times() {
        let mut limit = AnswerLimit::default();
        let now = Instant::from_nanos(5_000_000_000);
        let count = |limit: &mut AnswerLimit, now, sources: u16| {
            let ask =
                |n: u16| limit.allows(now, &udp(&format!("10.{}.{}.1:{n}", n / 250, n % 250)));
            (0..sources).map(ask).filter(|allowed| *allowed).count()
        };
        let one = |limit: &mut AnswerLimit, now| {
            (0..100).filter(|n| limit.allows(now, &udp(&format!("192.0.2.1:{}", 1000 + n)))).count()
        };
        assert_eq!(one(&mut limit, now), 10);
        let others: usize = (0..40).map(|_| count(&mut limit, now, 200)).sum();
        assert_eq!(others, 990);
        let later = now + core::time::Duration::from_secs(1);
        assert_eq!(one(&mut limit, later), 10);
    }
}
