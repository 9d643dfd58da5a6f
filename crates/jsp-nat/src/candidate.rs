//! Addresses at which a peer may be reached, and what the other peer is told of them.

use std::net::{IpAddr, SocketAddr};

use jsp_wire::{DecodeError, Reader};

/// Candidates that one peer tells at most; further ones are left out, or not taken.
pub const CANDIDATES_MAX: usize = 16;

/// First byte of an offer.
const OFFER: u8 = 1;

/// What may be told and used; chosen before anything is gathered, so that no address gets out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Policy {
    /// Direct paths, and the relay until there is one.
    #[default]
    Any,
    /// Relays alone: the peer learns no address of this host.
    RelayOnly,
    /// Nothing but what a proxy carries: nor does the coordinator learn one.
    ProxyOnly,
}

impl Policy {
    /// Whether addresses may be gathered, told and tried.
    // spec: RDV-30
    pub const fn allows_direct(self) -> bool {
        matches!(self, Self::Any)
    }

    /// Whether an address that a TURN server has lent may be told and used.
    // spec: RDV-30
    pub const fn allows_turn(self) -> bool {
        self.allows_udp()
    }

    /// Whether datagrams may leave the host but through a proxy.
    // spec: RDV-30
    pub const fn allows_udp(self) -> bool {
        !matches!(self, Self::ProxyOnly)
    }
}

/// How an address is known (RFC 8445, section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// It is an interface's.
    Host,
    /// A server saw it.
    ServerReflexive,
    /// The peer saw it.
    PeerReflexive,
    /// A TURN server has lent it.
    Relayed,
}

impl Kind {
    /// The recommended preference (RFC 8445, section 5.1.2.2).
    const fn preference(self) -> u32 {
        match self {
            Self::Host => 126,
            Self::PeerReflexive => 110,
            Self::ServerReflexive => 100,
            Self::Relayed => 0,
        }
    }

    const fn code(self) -> u8 {
        match self {
            Self::Host => 0,
            Self::ServerReflexive => 1,
            Self::PeerReflexive => 2,
            Self::Relayed => 3,
        }
    }

    const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::Host,
            1 => Self::ServerReflexive,
            2 => Self::PeerReflexive,
            3 => Self::Relayed,
            _ => return None,
        })
    }
}

/// An address at which a peer may be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// How it is known.
    pub kind: Kind,
    /// The address.
    pub address: SocketAddr,
    /// Larger is better (RFC 8445, section 5.1.2.1).
    pub priority: u32,
}

impl Candidate {
    /// A candidate that is the `place`th of its kind, from 0.
    pub fn new(kind: Kind, address: SocketAddr, place: u16) -> Self {
        // IPv6 first (RFC 8421, section 4): it needs no translation.
        let family = if address.is_ipv6() { u32::from(u16::MAX) } else { u32::from(u16::MAX >> 1) };
        let local = family.saturating_sub(u32::from(place));
        let priority = (kind.preference() << 24) | (local << 8) | 255;
        Self { kind, address, priority }
    }
}

/// The addresses at which a host may be reached, as it knows them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known<'a> {
    /// Its own.
    pub own: &'a [SocketAddr],
    /// Those at which servers see it.
    pub seen: &'a [SocketAddr],
    /// The one that a TURN server has lent.
    pub relayed: Option<SocketAddr>,
}

/// The candidates of a host: its own addresses, those that servers saw, and those that were lent. Of these only
/// what the policy allows to tell. Those on loopback only where it has no others: then it meets others on the
/// same host.
// spec: RDV-30, RDV-31, RDV-40
pub fn gather(policy: Policy, known: Known<'_>) -> Vec<Candidate> {
    let mut out: Vec<Candidate> = Vec::new();
    let (own, seen) = match policy.allows_direct() {
        true => (known.own, known.seen),
        false => Default::default(),
    };
    let relayed = known.relayed.filter(|_| policy.allows_turn());
    let is_local = match own {
        [] => are_local(relayed.iter()),
        own => are_local(own.iter()),
    };
    // The last of its own is kept free for what was lent: without that there may be no way at all.
    let relayed = relayed.iter().map(|address| (Kind::Relayed, address));
    let own = own.iter().map(|address| (Kind::Host, address));
    let seen = seen.iter().map(|address| (Kind::ServerReflexive, address));
    let of_host = own.chain(seen).take(CANDIDATES_MAX - 1);
    let told = of_host.chain(relayed).filter(|(_, address)| is_of_use(address, is_local));
    for ((kind, address), place) in told.zip(0u16..) {
        let is_known = out.iter().any(|known| known.address == *address);
        if !is_known && out.len() < CANDIDATES_MAX {
            out.push(Candidate::new(kind, *address, place));
        }
    }
    out
}

/// Whether a host that has these addresses meets others on the same host: on purpose, for it has no
/// other.
pub(crate) fn are_local<'a>(own: impl Iterator<Item = &'a SocketAddr>) -> bool {
    let mut own = own.peekable();
    own.peek().is_some() && own.all(|address| address.ip().to_canonical().is_loopback())
}

/// Whether an address may be told and tried: one that everybody, or nobody, or only this host can reach
/// is not (RFC 8445, section 5.1.1.1; RFC 6890). Loopback is where both are on it.
// spec: RDV-31, RDV-37
pub(crate) fn is_of_use(address: &SocketAddr, is_local: bool) -> bool {
    let ip = address.ip().to_canonical();
    let is_out_of_reach = match ip {
        IpAddr::V4(ip) => {
            // "This network", and what is reserved, with the broadcast address at its end.
            let [first, ..] = ip.octets();
            first == 0 || first >= 240 || ip.is_link_local()
        }
        // Without a scope, which is not told, nobody knows which link.
        IpAddr::V6(ip) => ip.is_unicast_link_local() || ip.is_unspecified(),
    };
    address.port() != 0 && !is_out_of_reach && !ip.is_multicast() && (is_local || !ip.is_loopback())
}

/// Whether an address means something within one site only (RFC 1918, RFC 6598, RFC 4193).
pub(crate) fn is_private(address: &SocketAddr) -> bool {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => {
            let [first, second, ..] = ip.octets();
            ip.is_private() || (first == 100 && second & 0xc0 == 64)
        }
        IpAddr::V6(ip) => ip.is_unique_local(),
    }
}

/// What one peer tells the other, over their encrypted connection and nowhere else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Shows that a punch comes from who got this offer; new in each.
    pub token: u64,
    /// Where the sender may be reached.
    pub candidates: Vec<Candidate>,
}

impl Offer {
    /// Its bytes: one message.
    // spec: RDV-32
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![OFFER];
        out.extend(self.token.to_be_bytes());
        let candidates = self.candidates.iter().take(CANDIDATES_MAX);
        out.push(candidates.len() as u8);
        for candidate in candidates {
            out.push(candidate.kind.code());
            out.extend(candidate.priority.to_be_bytes());
            push_address(&mut out, candidate.address);
        }
        out
    }

    /// Reads one message. Candidates of kinds that are not known are left out.
    ///
    /// # Errors
    /// When it is none.
    pub fn decode(message: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(message);
        if reader.u8()? != OFFER {
            return Err(DecodeError::Invalid);
        }
        let token = u64::from_be_bytes(reader.array()?);
        let count = usize::from(reader.u8()?);
        if count > CANDIDATES_MAX {
            return Err(DecodeError::Invalid);
        }
        let mut candidates = Vec::with_capacity(count);
        for _ in 0..count {
            let kind = Kind::from_code(reader.u8()?);
            let priority = reader.u32()?;
            let address = read_address(&mut reader)?;
            if let Some(kind) = kind {
                candidates.push(Candidate { kind, address, priority });
            }
        }
        Ok(Self { token, candidates })
    }
}

/// Appends an address: its length, host and port.
pub(crate) fn push_address(out: &mut Vec<u8>, address: SocketAddr) {
    match address.ip() {
        IpAddr::V4(ip) => {
            out.push(4);
            out.extend(ip.octets());
        }
        IpAddr::V6(ip) => {
            out.push(16);
            out.extend(ip.octets());
        }
    }
    out.extend(address.port().to_be_bytes());
}

/// Reads what [`push_address`] wrote.
pub(crate) fn read_address(reader: &mut Reader<'_>) -> Result<SocketAddr, DecodeError> {
    let ip = match reader.u8()? {
        4 => IpAddr::from(reader.array::<4>()?),
        16 => IpAddr::from(reader.array::<16>()?),
        _ => return Err(DecodeError::Invalid),
    };
    Ok(SocketAddr::new(ip, reader.u16()?))
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Nobody on another host is reached there.
    pub(crate) const OF_NO_USE: [&str; 13] = [
        "127.0.0.1:9",
        "127.5.0.1:9",
        "169.254.0.1:9",
        "0.0.0.0:9",
        "0.1.2.3:9",
        "224.0.0.1:9",
        "255.255.255.255:9",
        "[::1]:9",
        "[fe80::1]:9",
        "[::]:9",
        "[ff02::1]:9",
        "[::ffff:127.0.0.1]:9",
        "192.0.2.1:0",
    ];

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    // spec-test: RDV-30, RDV-31
    fn nothing_is_gathered_where_the_policy_forbids_it() {
        let own = [addr("192.168.0.2:5000"), addr("127.0.0.1:5000"), addr("[fe80::1]:5000")];
        let seen = [addr("198.51.100.1:5000"), addr("192.168.0.2:5000")];
        for policy in [Policy::RelayOnly, Policy::ProxyOnly] {
            assert_eq!(gather(policy, Known { own: &own, seen: &seen, relayed: None }), []);
        }
        assert!(Policy::RelayOnly.allows_udp() && !Policy::ProxyOnly.allows_udp());
        let known = Known { own: &own, seen: &seen, relayed: Some(addr("203.0.113.9:1")) };
        let told = gather(Policy::Any, known);
        let addresses: Vec<_> = told.iter().map(|candidate| candidate.address).collect();
        assert_eq!(addresses, [own[0], seen[0], addr("203.0.113.9:1")]);
        assert!(told.is_sorted_by(|one, other| one.priority > other.priority));
    }

    #[test]
    // spec-test: RDV-30, RDV-40
    fn only_what_was_lent_is_told_by_who_may_use_relays_alone() {
        let own = [addr("192.168.0.2:5000")];
        let seen = [addr("198.51.100.1:5000")];
        let known = Known { own: &own, seen: &seen, relayed: Some(addr("203.0.113.9:1")) };
        let told = gather(Policy::RelayOnly, known);
        assert_eq!(told, [Candidate::new(Kind::Relayed, addr("203.0.113.9:1"), 0)]);
        assert_eq!(gather(Policy::ProxyOnly, known), []);
        // A server that lends nonsense is not believed; on one host loopback is none.
        let nonsense = Known { relayed: Some(addr("127.0.0.1:1")), ..known };
        assert_eq!(gather(Policy::Any, nonsense).len(), 2);
        let many: Vec<_> = (1..40).map(|n| SocketAddr::from(([192, 0, 2, n], 1))).collect();
        let told = gather(Policy::Any, Known { own: &many, ..known });
        assert_eq!(
            (told.len(), told.last().map(|c| c.kind)),
            (CANDIDATES_MAX, Some(Kind::Relayed))
        );
    }

    #[test]
    // spec-test: RDV-31
    fn what_others_cannot_reach_is_not_told_whoever_saw_it() {
        let own = [addr("192.168.0.2:5000")];
        let seen = OF_NO_USE.map(addr);
        let told = gather(Policy::Any, Known { own: &own, seen: &seen, relayed: None });
        assert_eq!(told.iter().map(|c| c.address).collect::<Vec<_>>(), own);
        // Those who are on one host meet there.
        let own = [addr("127.0.0.1:5000")];
        let told = gather(Policy::Any, Known { own: &own, seen: &seen, relayed: None });
        let told: Vec<_> = told.iter().map(|c| c.address).collect();
        let loopback = ["127.0.0.1:9", "127.5.0.1:9", "[::1]:9", "[::ffff:127.0.0.1]:9"].map(addr);
        assert_eq!(told, [&own[..], &loopback].concat());
    }

    #[test]
    fn priorities_are_those_of_ice() {
        // RFC 8445, section 5.1.2.1: type preference, local preference, component.
        let host = Candidate::new(Kind::Host, addr("[2001:db8::1]:1"), 0);
        assert_eq!(host.priority, 126 << 24 | 65535 << 8 | 255);
        let order = [Kind::Host, Kind::PeerReflexive, Kind::ServerReflexive, Kind::Relayed];
        let priorities = order.map(|kind| Candidate::new(kind, addr("192.0.2.1:1"), 3).priority);
        assert!(priorities.is_sorted_by(|a, b| a > b));
    }

    proptest! {
        #[test]
        // spec-test: RDV-32
        fn what_is_offered_is_read(
            token: u64,
            hosts in prop::collection::vec((0..4u8, any::<u32>(), any::<bool>(), 1..1000u32), 0..16),
        ) {
            let candidates = hosts.into_iter().map(|(kind, priority, v4, host)| {
                let ip = if v4 {
                    IpAddr::from(std::net::Ipv4Addr::from(host))
                } else {
                    IpAddr::from(std::net::Ipv6Addr::from(u128::from(host)))
                };
                let address = SocketAddr::new(ip, 9);
                Candidate { kind: Kind::from_code(kind).unwrap(), address, priority }
            });
            let offer = Offer { token, candidates: candidates.collect() };
            let message = offer.encode();
            prop_assert_eq!(Offer::decode(&message), Ok(offer));
            for len in 0..message.len() {
                prop_assert!(Offer::decode(&message[..len]).is_err());
            }
        }
    }
}
