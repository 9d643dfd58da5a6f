//! One box that translates addresses.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use jsp_wire::Instant;

use super::behaviour::{Allocation, Behaviour, Scope};
use crate::random::Random;

/// The lowest port that a box gives.
const FIRST_PORT: u16 = 1024;
/// Mappings that a box keeps; the oldest goes when there are more.
const MAPPINGS_MAX: usize = 4096;
/// Draws of a random port before the next free one is taken.
const DRAWS: u32 = 32;

/// What a mapping is for: an inner address and, where the mapping depends on it, the other end.
type Key = (SocketAddr, Option<IpAddr>, Option<u16>);

/// An outer port, and what leads there.
#[derive(Debug)]
struct Mapping {
    inner: SocketAddr,
    key: Key,
    used: Instant,
    /// When each other end was written to last.
    told: BTreeMap<SocketAddr, Instant>,
}

/// A box at work. Its outer side has one address.
#[derive(Debug)]
pub struct Gateway {
    behaviour: Behaviour,
    outer: IpAddr,
    by_key: BTreeMap<Key, u16>,
    by_port: BTreeMap<u16, Mapping>,
    next_port: u16,
    random: Random,
}

impl Gateway {
    /// A box that remembers nothing yet.
    pub fn new(behaviour: Behaviour, outer: IpAddr, mut random: Random) -> Self {
        let next_port = random.between(u64::from(FIRST_PORT), u64::from(u16::MAX)) as u16;
        let (by_key, by_port) = (BTreeMap::new(), BTreeMap::new());
        Self { behaviour, outer, by_key, by_port, next_port, random }
    }

    /// Its address outside.
    pub fn outer(&self) -> IpAddr {
        self.outer
    }

    /// What it does.
    pub fn behaviour(&self) -> &Behaviour {
        &self.behaviour
    }

    /// Mappings that it keeps.
    pub fn mappings(&self) -> usize {
        self.by_port.len()
    }

    /// Forgets everything, as after a restart.
    pub fn restart(&mut self) {
        self.by_key.clear();
        self.by_port.clear();
    }

    /// A datagram goes out: the address that it leaves from. `None` when it does not pass.
    pub fn outbound(
        &mut self,
        now: Instant,
        from: SocketAddr,
        to: SocketAddr,
    ) -> Option<SocketAddr> {
        if self.behaviour.blocks_udp {
            return None;
        }
        let key = match self.behaviour.mapping {
            Scope::Any => (from, None, None),
            Scope::Address => (from, Some(to.ip()), None),
            Scope::AddressAndPort => (from, Some(to.ip()), Some(to.port())),
        };
        if let Some(port) = self.by_key.get(&key) {
            self.expire_one(now, *port);
        }
        let port = match self.by_key.get(&key) {
            Some(port) => *port,
            None => self.map(now, key)?,
        };
        let mapping = self.by_port.get_mut(&port)?;
        mapping.used = now;
        mapping.told.insert(to, now);
        Some(SocketAddr::new(self.outer, port))
    }

    /// A datagram comes in: the inner address that it is for. `None` when it is not let in.
    pub fn inbound(
        &mut self,
        now: Instant,
        from: SocketAddr,
        to: SocketAddr,
    ) -> Option<SocketAddr> {
        if self.behaviour.blocks_udp {
            return None;
        }
        self.expire_one(now, to.port());
        let lifetime = self.behaviour.lifetime;
        let mapping = self.by_port.get_mut(&to.port())?;
        mapping.told.retain(|_, told| now.since(*told) < lifetime);
        let is_let_in = match self.behaviour.filtering {
            Scope::Any => true,
            Scope::Address => mapping.told.keys().any(|told| told.ip() == from.ip()),
            Scope::AddressAndPort => mapping.told.contains_key(&from),
        };
        if !is_let_in {
            return None;
        }
        if self.behaviour.refreshed_inward {
            mapping.used = now;
            mapping.told.entry(from).and_modify(|told| *told = now);
        }
        Some(mapping.inner)
    }

    /// Forgets what nothing was sent through for too long.
    fn expire(&mut self, now: Instant) {
        let lifetime = self.behaviour.lifetime;
        let by_key = &mut self.by_key;
        self.by_port.retain(|_, mapping| {
            let lives = now.since(mapping.used) < lifetime;
            if !lives {
                by_key.remove(&mapping.key);
            }
            lives
        });
    }

    /// Forgets one mapping if it has not been used for too long.
    fn expire_one(&mut self, now: Instant, port: u16) {
        let lifetime = self.behaviour.lifetime;
        let is_old = |mapping: &mut Mapping| now.since(mapping.used) >= lifetime;
        if self.by_port.get_mut(&port).is_some_and(is_old)
            && let Some(mapping) = self.by_port.remove(&port)
        {
            self.by_key.remove(&mapping.key);
        }
    }

    fn map(&mut self, now: Instant, key: Key) -> Option<u16> {
        if self.by_port.len() >= MAPPINGS_MAX {
            self.expire(now);
        }
        if self.by_port.len() >= MAPPINGS_MAX {
            let oldest = self.by_port.iter().min_by_key(|(_, mapping)| mapping.used);
            let port = *oldest?.0;
            let mapping = self.by_port.remove(&port)?;
            self.by_key.remove(&mapping.key);
        }
        let port = self.free_port(key.0.port())?;
        let mapping = Mapping { inner: key.0, key, used: now, told: BTreeMap::new() };
        self.by_key.insert(key, port);
        self.by_port.insert(port, mapping);
        Some(port)
    }

    fn free_port(&mut self, wanted: u16) -> Option<u16> {
        match self.behaviour.allocation {
            Allocation::Preserving if !self.by_port.contains_key(&wanted) => return Some(wanted),
            Allocation::Preserving | Allocation::Sequential => {}
            Allocation::Random => {
                for _ in 0..DRAWS {
                    let (low, high) = (u64::from(FIRST_PORT), u64::from(u16::MAX));
                    let port = self.random.between(low, high) as u16;
                    if !self.by_port.contains_key(&port) {
                        return Some(port);
                    }
                }
            }
        }
        for _ in FIRST_PORT..=u16::MAX {
            let port = self.next_port;
            self.next_port = port.checked_add(1).unwrap_or(FIRST_PORT);
            if !self.by_port.contains_key(&port) {
                return Some(port);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const OUTER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 1));

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn gateway(behaviour: Behaviour) -> Gateway {
        Gateway::new(behaviour, OUTER, Random::new(7))
    }

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    #[test]
    fn mappings_depend_on_what_the_behaviour_says() {
        let inner = addr("192.168.0.2:5000");
        let ends = [addr("203.0.113.1:1"), addr("203.0.113.1:2"), addr("203.0.113.9:1")];
        for (scope, expected) in [(Scope::Any, 1), (Scope::Address, 2), (Scope::AddressAndPort, 3)]
        {
            let mut gateway = gateway(Behaviour { mapping: scope, ..Behaviour::SYMMETRIC });
            let outers: std::collections::BTreeSet<_> =
                ends.iter().map(|end| gateway.outbound(at(0), inner, *end).unwrap()).collect();
            assert_eq!(outers.len(), expected, "{scope:?}");
            let again = gateway.outbound(at(1), inner, ends[0]).unwrap();
            assert!(outers.contains(&again));
        }
    }

    #[test]
    fn filters_let_in_whom_the_behaviour_says() {
        let inner = addr("192.168.0.2:5000");
        let told = addr("203.0.113.1:1");
        let callers = [told, addr("203.0.113.1:2"), addr("203.0.113.9:1")];
        for (scope, expected) in [(Scope::Any, 3), (Scope::Address, 2), (Scope::AddressAndPort, 1)]
        {
            let mut gateway =
                gateway(Behaviour { filtering: scope, ..Behaviour::ENDPOINT_INDEPENDENT });
            let outer = gateway.outbound(at(0), inner, told).unwrap();
            let let_in =
                callers.iter().filter(|from| gateway.inbound(at(1), **from, outer).is_some());
            assert_eq!(let_in.count(), expected, "{scope:?}");
            assert_eq!(gateway.inbound(at(1), told, addr("198.51.100.1:9")), None);
        }
    }

    #[test]
    fn a_mapping_lives_as_long_as_it_is_used() {
        let (inner, other) = (addr("192.168.0.2:5000"), addr("203.0.113.1:1"));
        for refreshed_inward in [false, true] {
            let behaviour = Behaviour { refreshed_inward, ..Behaviour::FORGETFUL };
            let mut gateway = gateway(behaviour);
            let outer = gateway.outbound(at(0), inner, other).unwrap();
            gateway.outbound(at(15), inner, other).unwrap();
            assert!(gateway.inbound(at(34), other, outer).is_some());
            assert_eq!(gateway.inbound(at(40), other, outer).is_some(), refreshed_inward);
            assert!(gateway.inbound(at(61), other, outer).is_none());
            assert_eq!(gateway.mappings(), 0);
        }
    }

    #[test]
    fn ports_are_given_as_the_behaviour_says() {
        let other = addr("203.0.113.1:1");
        let (one, two) = (addr("192.168.0.2:5000"), addr("192.168.0.3:5000"));
        let mut preserving = gateway(Behaviour::PORT_RESTRICTED);
        assert_eq!(preserving.outbound(at(0), one, other).unwrap().port(), 5000);
        assert_ne!(preserving.outbound(at(0), two, other).unwrap().port(), 5000);
        let sequential = Behaviour { allocation: Allocation::Sequential, ..Behaviour::SYMMETRIC };
        let mut sequential = gateway(sequential);
        let first = sequential.outbound(at(0), one, other).unwrap().port();
        let second = sequential.outbound(at(0), two, other).unwrap().port();
        assert_eq!(second, first.checked_add(1).unwrap_or(FIRST_PORT));
    }

    #[test]
    fn nothing_passes_where_udp_is_blocked() {
        let mut gateway = gateway(Behaviour::UDP_BLOCKED);
        let (inner, other) = (addr("192.168.0.2:5000"), addr("203.0.113.1:1"));
        assert_eq!(gateway.outbound(at(0), inner, other), None);
        assert_eq!(gateway.inbound(at(0), other, addr("198.51.100.1:5000")), None);
    }

    proptest! {
        /// Whatever is sent, answers come back to who asked, and to nobody else.
        #[test]
        fn answers_find_their_way(
            seed: u64,
            scopes in (0..3usize, 0..3usize),
            ways in 0..3usize,
            sends in prop::collection::vec((0..20u8, 1000..1010u16, 0..20u8, 1..5u16), 1..200),
        ) {
            let scope = [Scope::Any, Scope::Address, Scope::AddressAndPort];
            let allocation = [Allocation::Preserving, Allocation::Sequential, Allocation::Random];
            let behaviour = Behaviour {
                mapping: scope[scopes.0],
                filtering: scope[scopes.1],
                allocation: allocation[ways],
                ..Behaviour::ENDPOINT_INDEPENDENT
            };
            let mut gateway = Gateway::new(behaviour, OUTER, Random::new(seed));
            for (host, port, other, other_port) in sends {
                let inner = SocketAddr::from(([192, 168, 0, host], port));
                let other = SocketAddr::from(([203, 0, 113, other], other_port));
                let outer = gateway.outbound(at(0), inner, other).unwrap();
                prop_assert_eq!(outer.ip(), OUTER);
                prop_assert_eq!(gateway.inbound(at(0), other, outer), Some(inner));
            }
        }
    }

    #[test]
    fn a_box_that_is_flooded_forgets_the_oldest() {
        let mut gateway = gateway(Behaviour::SYMMETRIC);
        let inner = addr("192.168.0.2:5000");
        for port in 1..=5000u16 {
            let other = SocketAddr::from(([203, 0, 113, 1], port));
            gateway.outbound(at(0), inner, other).unwrap();
        }
        assert_eq!(gateway.mappings(), MAPPINGS_MAX);
    }
}
