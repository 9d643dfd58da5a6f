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
    /// The relay alone: the peer learns no address.
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
    /// A relay holds it for the peer.
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

/// The candidates of a host: its own addresses, and those that servers saw. None where the policy
/// allows no direct path.
// spec: RDV-30, RDV-31
pub fn gather(policy: Policy, own: &[SocketAddr], seen: &[SocketAddr]) -> Vec<Candidate> {
    let mut out: Vec<Candidate> = Vec::new();
    if !policy.allows_direct() {
        return out;
    }
    let own = own.iter().filter(|address| is_of_use(address)).map(|address| (Kind::Host, address));
    let seen = seen.iter().map(|address| (Kind::ServerReflexive, address));
    for ((kind, address), place) in own.chain(seen).zip(0u16..) {
        let is_known = out.iter().any(|known| known.address == *address);
        if !is_known && out.len() < CANDIDATES_MAX {
            out.push(Candidate::new(kind, *address, place));
        }
    }
    out
}

/// Addresses that nobody else can reach are not told (RFC 8445, section 5.1.1.1).
fn is_of_use(address: &SocketAddr) -> bool {
    let ip = address.ip();
    let is_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    !(is_local || ip.is_loopback() || ip.is_unspecified() || ip.is_multicast())
        && address.port() != 0
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
            if let Some(kind) = kind
                && address.port() != 0
                && !address.ip().is_unspecified()
                && !address.ip().is_multicast()
            {
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
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    // spec-test: RDV-30, RDV-31
    fn nothing_is_gathered_where_the_policy_forbids_it() {
        let own = [addr("192.168.0.2:5000"), addr("127.0.0.1:5000"), addr("[fe80::1]:5000")];
        let seen = [addr("198.51.100.1:5000"), addr("192.168.0.2:5000")];
        for policy in [Policy::RelayOnly, Policy::ProxyOnly] {
            assert_eq!(gather(policy, &own, &seen), []);
        }
        assert!(Policy::RelayOnly.allows_udp() && !Policy::ProxyOnly.allows_udp());
        let told = gather(Policy::Any, &own, &seen);
        let addresses: Vec<_> = told.iter().map(|candidate| candidate.address).collect();
        assert_eq!(addresses, [own[0], seen[0]]);
        assert!(told[0].priority > told[1].priority);
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
