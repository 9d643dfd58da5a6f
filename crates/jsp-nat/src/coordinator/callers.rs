//! How often one client is called, counted for each caller by itself: identities cost nothing, so
//! callers are told apart by where they are.

use std::collections::BTreeMap;
use std::net::IpAddr;

use jsp_wire::Instant;

use super::allowance::Allowance;
use crate::rendezvous::PeerKey;

/// Callers of one client whose calls are counted at once.
const CALLERS_MAX: usize = 128;

/// One caller: all that one site may pretend to be.
// spec: RDV-13
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Caller {
    /// A /24: one attacker may hold all of it.
    V4([u8; 3]),
    /// A /56, the smallest that a site commonly has (RFC 6177).
    V6([u8; 7]),
    /// Behind a carrier that tells no address: the identity.
    Key(PeerKey),
}

impl Caller {
    pub(super) fn new(host: Option<IpAddr>, key: PeerKey) -> Self {
        match host.map(|host| host.to_canonical()) {
            Some(IpAddr::V4(ip)) => {
                let [a, b, c, _] = ip.octets();
                Self::V4([a, b, c])
            }
            Some(IpAddr::V6(ip)) => {
                let [a, b, c, d, e, f, g, ..] = ip.octets();
                Self::V6([a, b, c, d, e, f, g])
            }
            None => Self::Key(key),
        }
    }
}

/// The callers of one client.
#[derive(Debug, Default)]
pub(super) struct Callers(BTreeMap<Caller, Allowance>);

impl Callers {
    /// Counts a call; false when this caller calls too often, or when more call at once than are
    /// counted.
    pub(super) fn take(&mut self, now: Instant, caller: Caller, asks_per_minute: u64) -> bool {
        if !self.0.contains_key(&caller) && self.0.len() >= CALLERS_MAX {
            self.0.retain(|_, calls| !calls.is_whole(now));
            if self.0.len() >= CALLERS_MAX {
                return false;
            }
        }
        let calls = || Allowance::per_minute((asks_per_minute / 2).max(1));
        self.0.entry(caller).or_insert_with(calls).take(now, 1)
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Duration;

    use super::*;

    fn caller(address: &str) -> Caller {
        Caller::new(Some(address.parse::<SocketAddr>().unwrap().ip()), [0; 32])
    }

    #[test]
    // spec-test: RDV-13
    fn callers_are_told_apart_by_their_sites() {
        assert_eq!(caller("192.0.2.1:1"), caller("[::ffff:192.0.2.1]:2"));
        assert_eq!(caller("192.0.2.1:1"), caller("192.0.2.2:1"));
        assert_ne!(caller("192.0.2.1:1"), caller("192.0.3.1:1"));
        assert_eq!(caller("[2001:db8:0:1::1]:1"), caller("[2001:db8:0:ff::2]:1"));
        assert_ne!(caller("[2001:db8:0:1::1]:1"), caller("[2001:db8:0:100::1]:1"));
        let carried = |key| Caller::new(None, [key; 32]);
        assert_ne!(carried(1), carried(2));
    }

    #[test]
    fn callers_that_pour_in_are_bounded_and_forgotten() {
        let mut callers = Callers::default();
        let number = |n: u16| Caller::V4([10, (n >> 8) as u8, n as u8]);
        let came = (0..1000u16).filter(|n| callers.take(Instant::ZERO, number(*n), 120));
        assert_eq!(came.count(), CALLERS_MAX);
        // Those that are known are heard still, and others once their calls are over.
        assert!(callers.take(Instant::ZERO, number(0), 120));
        let later = Instant::ZERO + Duration::from_secs(60);
        assert!(callers.take(later, number(5000), 120));
        assert_eq!(callers.0.len(), 1);
    }
}
