//! Realms of addresses with boxes between them, and datagrams on their way.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use jsp_wire::Instant;

use super::behaviour::{Behaviour, Site};
use super::gateway::Gateway;
use crate::random::Random;

/// Boxes that one datagram may pass; more is a loop.
const HOPS_MAX: u8 = 8;
/// Travelling time inside a private realm, one way.
pub(super) const LOCAL_DELAY: Duration = Duration::from_micros(500);

/// A realm of addresses; 0 is the public one.
pub type RealmId = usize;
/// A box, in the order of their adding.
pub type BoxId = usize;
/// A host, in the order of their adding.
pub type HostId = usize;

/// A datagram with its addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Who sent it, as seen where it is.
    pub from: SocketAddr,
    /// Whom it is for, as seen where it is.
    pub to: SocketAddr,
    /// What it holds.
    pub payload: Vec<u8>,
}

/// A datagram that has come to a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The host.
    pub host: HostId,
    /// As the host sees it.
    pub packet: Packet,
}

/// On its way through a realm.
#[derive(Debug, PartialEq, Eq)]
struct Transit {
    at: Instant,
    /// What was sent earlier arrives earlier.
    order: u64,
    realm: RealmId,
    hops: u8,
    packet: Packet,
}

impl Ord for Transit {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

impl PartialOrd for Transit {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

struct Host {
    realm: RealmId,
    ip: IpAddr,
}

struct Placed {
    outer_realm: RealmId,
    inner_realm: RealmId,
    gateway: Gateway,
}

/// A tree of realms.
pub struct Network {
    seed: u64,
    /// Travelling time between two addresses of the public realm, one way.
    delay: Duration,
    realms: usize,
    hosts: Vec<Host>,
    boxes: Vec<Placed>,
    transit: BinaryHeap<Reverse<Transit>>,
    sent: u64,
    /// The box that all sites behind one carrier share.
    carrier: Option<BoxId>,
}

impl Network {
    /// A public realm with nobody in it.
    pub fn new(seed: u64, delay: Duration) -> Self {
        Self {
            seed,
            delay,
            realms: 1,
            hosts: Vec::new(),
            boxes: Vec::new(),
            transit: BinaryHeap::new(),
            sent: 0,
            carrier: None,
        }
    }

    /// A box in a realm, with a new realm behind it.
    pub fn add_box(&mut self, outer_realm: RealmId, behaviour: Behaviour) -> BoxId {
        let index = self.boxes.len();
        let outer = address_in(outer_realm, 100 + index);
        let random = Random::part(self.seed, "gateway", index as u64);
        let gateway = Gateway::new(behaviour, outer, random);
        self.boxes.push(Placed { outer_realm, inner_realm: self.realms, gateway });
        self.realms += 1;
        index
    }

    /// A host in a realm.
    pub fn add_host(&mut self, realm: RealmId) -> HostId {
        let ip = address_in(realm, 1 + self.hosts.len());
        self.hosts.push(Host { realm, ip });
        self.hosts.len() - 1
    }

    /// A host at a site, with the boxes of the site.
    pub fn settle(&mut self, site: Site) -> HostId {
        let mut realm = 0;
        for (depth, behaviour) in site.boxes().into_iter().enumerate() {
            let is_shared = site == Site::Hairpin && depth == 0;
            let index = match self.carrier.filter(|_| is_shared) {
                Some(index) => index,
                None => self.add_box(realm, behaviour),
            };
            if is_shared {
                self.carrier = Some(index);
            }
            realm = self.realm_behind(index);
        }
        self.add_host(realm)
    }

    /// The realm behind a box.
    pub fn realm_behind(&self, index: BoxId) -> RealmId {
        self.boxes.get(index).map_or(0, |placed| placed.inner_realm)
    }

    /// A box, to look at or restart.
    pub fn gateway(&mut self, index: BoxId) -> Option<&mut Gateway> {
        Some(&mut self.boxes.get_mut(index)?.gateway)
    }

    /// A host's own address.
    pub fn ip(&self, host: HostId) -> Option<IpAddr> {
        Some(self.hosts.get(host)?.ip)
    }

    /// A host sends from a port of its own.
    pub fn send(
        &mut self,
        now: Instant,
        host: HostId,
        port: u16,
        to: SocketAddr,
        payload: Vec<u8>,
    ) {
        let Some(Host { realm, ip }) = self.hosts.get(host) else { return };
        let (realm, from) = (*realm, SocketAddr::new(*ip, port));
        self.enter(now, realm, 0, Packet { from, to, payload });
    }

    /// When the next datagram has come to the end of a realm.
    pub fn next_event(&self) -> Option<Instant> {
        self.transit.peek().map(|next| next.0.at)
    }

    /// The next datagram that has come to a host by now.
    pub fn poll(&mut self, now: Instant) -> Option<Arrival> {
        while self.transit.peek().is_some_and(|next| next.0.at <= now) {
            let Reverse(transit) = self.transit.pop()?;
            let Transit { at, realm, hops, packet, .. } = transit;
            if let Some(arrival) = self.cross(at, realm, hops, packet) {
                return Some(arrival);
            }
        }
        None
    }

    /// A datagram begins its way through a realm.
    fn enter(&mut self, now: Instant, realm: RealmId, hops: u8, packet: Packet) {
        if hops > HOPS_MAX {
            return;
        }
        self.sent += 1;
        let delay = if realm == 0 { self.delay } else { LOCAL_DELAY };
        let (at, order) = (now + delay, self.sent);
        self.transit.push(Reverse(Transit { at, order, realm, hops, packet }));
    }

    /// At the end of a realm: a host, a box with this address, or the box that leads out.
    fn cross(&mut self, now: Instant, realm: RealmId, hops: u8, packet: Packet) -> Option<Arrival> {
        let ip = packet.to.ip();
        let is_here = |host: &Host| host.realm == realm && host.ip == ip;
        if let Some(host) = self.hosts.iter().position(is_here) {
            return Some(Arrival { host, packet });
        }
        let inward =
            |placed: &&mut Placed| placed.outer_realm == realm && placed.gateway.outer() == ip;
        if let Some(placed) = self.boxes.iter_mut().find(inward) {
            let to = placed.gateway.inbound(now, packet.from, packet.to)?;
            let realm = placed.inner_realm;
            self.enter(now, realm, hops + 1, Packet { to, ..packet });
            return None;
        }
        let outward = |placed: &&mut Placed| placed.inner_realm == realm;
        let placed = self.boxes.iter_mut().find(outward)?;
        let from = placed.gateway.outbound(now, packet.from, packet.to)?;
        let packet = Packet { from, ..packet };
        if ip != placed.gateway.outer() {
            let realm = placed.outer_realm;
            self.enter(now, realm, hops + 1, packet);
        } else if placed.gateway.behaviour().hairpin {
            let to = placed.gateway.inbound(now, packet.from, packet.to)?;
            self.enter(now, realm, hops + 1, Packet { to, ..packet });
        }
        None
    }
}

/// Addresses: 203.0.x.y in the public realm, 10.r.x.y in private realm r.
fn address_in(realm: RealmId, number: usize) -> IpAddr {
    let [.., high, low] = (number as u32).to_be_bytes();
    match realm {
        0 => Ipv4Addr::new(203, 0, high, low).into(),
        _ => Ipv4Addr::new(10, realm as u8, high, low).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELAY: Duration = Duration::from_millis(25);

    fn drain(network: &mut Network) -> Vec<Arrival> {
        let mut out = Vec::new();
        while let Some(at) = network.next_event() {
            out.extend(network.poll(at));
        }
        out
    }

    #[test]
    fn answers_come_back_through_any_number_of_boxes() {
        for site in Site::ALL {
            let mut network = Network::new(1, DELAY);
            let server = network.add_host(0);
            let host = network.settle(site);
            let to = SocketAddr::new(network.ip(server).unwrap(), 443);
            network.send(Instant::ZERO, host, 5000, to, b"ask".to_vec());
            let arrived = drain(&mut network);
            if site == Site::UdpBlocked {
                assert_eq!(arrived, []);
                continue;
            }
            let [Arrival { host: reached, packet }] = arrived.as_slice() else { panic!() };
            assert_eq!(*reached, server, "{}", site.name());
            let is_private = packet.from.ip() == network.ip(host).unwrap();
            assert_eq!(is_private, site == Site::Open);
            network.send(Instant::ZERO, server, 443, packet.from, b"answer".to_vec());
            let arrived = drain(&mut network);
            assert_eq!(arrived.len(), 1, "{}", site.name());
            assert_eq!(arrived[0].host, host);
            let stranger = network.add_host(0);
            network.send(Instant::ZERO, stranger, 443, packet.from, b"hello?".to_vec());
            let comes = !drain(&mut network).is_empty();
            assert_eq!(comes, matches!(site, Site::Open | Site::EndpointIndependent));
        }
    }

    #[test]
    fn neighbours_meet_by_outer_addresses_only_with_hairpinning() {
        for (behaviour, expected) in
            [(Behaviour::HAIRPIN, 1), (Behaviour { hairpin: false, ..Behaviour::HAIRPIN }, 0)]
        {
            let mut network = Network::new(1, DELAY);
            let server = network.add_host(0);
            let carrier = network.add_box(0, behaviour);
            let realm = network.realm_behind(carrier);
            let hosts = [network.add_host(realm), network.add_host(realm)];
            let to = SocketAddr::new(network.ip(server).unwrap(), 443);
            let outer = hosts.map(|host| {
                network.send(Instant::ZERO, host, 5000, to, vec![]);
                drain(&mut network)[0].packet.from
            });
            network.send(Instant::ZERO, hosts[1], 5000, outer[0], vec![]);
            drain(&mut network);
            network.send(Instant::ZERO, hosts[0], 5000, outer[1], b"hello".to_vec());
            let arrived = drain(&mut network);
            assert_eq!(arrived.len(), expected);
            // The neighbour sees the outer address, so that its answers take the same way back.
            assert!(arrived.iter().all(|a| a.host == hosts[1] && a.packet.from == outer[0]));
        }
    }

    #[test]
    fn theory_says_who_can_meet() {
        let meets = |one: Site, two: Site| {
            assert_eq!(one.meets(two), two.meets(one));
            one.meets(two)
        };
        assert!(!meets(Site::Symmetric, Site::Symmetric));
        assert!(!meets(Site::Symmetric, Site::PortRestricted));
        assert!(!meets(Site::Symmetric, Site::DoubleNat));
        assert!(meets(Site::Symmetric, Site::AddressRestricted));
        assert!(meets(Site::Symmetric, Site::Open));
        assert!(meets(Site::DoubleNat, Site::PortRestricted));
        assert!(Site::ALL.iter().all(|site| !meets(Site::UdpBlocked, *site)));
    }
}
