//! How boxes behave, in the terms of RFC 4787, and which of them are met.

use std::time::Duration;

/// What of the other end's address counts (RFC 4787, sections 4.1 and 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Nothing: endpoint-independent.
    Any,
    /// The host: address-dependent.
    Address,
    /// Host and port: address and port-dependent.
    AddressAndPort,
}

/// Which outer port a new mapping gets (RFC 4787, section 4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allocation {
    /// That of the inner address where it is free.
    Preserving,
    /// The next one.
    Sequential,
    /// Any.
    Random,
}

/// What a box does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Behaviour {
    /// For which of the other ends one inner address has one outer address.
    pub mapping: Scope,
    /// From whom datagrams to an outer address are let in.
    pub filtering: Scope,
    /// Which outer ports it gives.
    pub allocation: Allocation,
    /// Two inner hosts reach each other by their outer addresses (RFC 4787, section 6).
    pub hairpin: bool,
    /// How long a mapping that nothing is sent through lives. RFC 4787 asks for 2 minutes at least.
    pub lifetime: Duration,
    /// What comes in keeps a mapping alive, too.
    pub refreshed_inward: bool,
    /// No UDP passes.
    pub blocks_udp: bool,
}

/// Lifetime of a mapping where nothing else is said: the least that RFC 4787 allows (REQ-5).
const LIFETIME: Duration = Duration::from_secs(120);

impl Behaviour {
    /// Endpoint-independent mapping and filtering: what old texts call a full cone.
    pub const ENDPOINT_INDEPENDENT: Self = Self {
        mapping: Scope::Any,
        filtering: Scope::Any,
        allocation: Allocation::Preserving,
        hairpin: false,
        lifetime: LIFETIME,
        refreshed_inward: false,
        blocks_udp: false,
    };
    /// Lets in who has been written to, from any of his ports.
    pub const ADDRESS_RESTRICTED: Self =
        Self { filtering: Scope::Address, ..Self::ENDPOINT_INDEPENDENT };
    /// Lets in whoever has been written to, from that port.
    pub const PORT_RESTRICTED: Self =
        Self { filtering: Scope::AddressAndPort, ..Self::ENDPOINT_INDEPENDENT };
    /// Another outer port for each other end.
    pub const SYMMETRIC: Self = Self {
        mapping: Scope::AddressAndPort,
        allocation: Allocation::Random,
        ..Self::PORT_RESTRICTED
    };
    /// Hosts behind it reach each other through it.
    pub const HAIRPIN: Self = Self { hairpin: true, ..Self::PORT_RESTRICTED };
    /// Forgets after 20 seconds.
    pub const FORGETFUL: Self = Self { lifetime: Duration::from_secs(20), ..Self::PORT_RESTRICTED };
    /// Lets no UDP through.
    pub const UDP_BLOCKED: Self = Self { blocks_udp: true, ..Self::PORT_RESTRICTED };
}

/// Where a peer may live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Site {
    /// In the public network.
    Open,
    /// Behind [`Behaviour::ENDPOINT_INDEPENDENT`].
    EndpointIndependent,
    /// Behind [`Behaviour::ADDRESS_RESTRICTED`].
    AddressRestricted,
    /// Behind [`Behaviour::PORT_RESTRICTED`].
    PortRestricted,
    /// Behind [`Behaviour::SYMMETRIC`].
    Symmetric,
    /// Behind a box at home, itself behind a carrier's.
    DoubleNat,
    /// Behind a box at home, itself behind a carrier's that all of these share, with hairpinning.
    Hairpin,
    /// Where no UDP passes.
    UdpBlocked,
    /// Behind [`Behaviour::FORGETFUL`].
    ShortLifetime,
}

impl Site {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Open,
        Self::EndpointIndependent,
        Self::AddressRestricted,
        Self::PortRestricted,
        Self::Symmetric,
        Self::DoubleNat,
        Self::Hairpin,
        Self::UdpBlocked,
        Self::ShortLifetime,
    ];

    /// Its name in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::EndpointIndependent => "endpoint-independent",
            Self::AddressRestricted => "address-restricted",
            Self::PortRestricted => "port-restricted",
            Self::Symmetric => "symmetric",
            Self::DoubleNat => "double",
            Self::Hairpin => "hairpin",
            Self::UdpBlocked => "udp-blocked",
            Self::ShortLifetime => "short-lifetime",
        }
    }

    /// The boxes between it and the public network, the outermost first.
    pub fn boxes(self) -> Vec<Behaviour> {
        match self {
            Self::Open => Vec::new(),
            Self::EndpointIndependent => vec![Behaviour::ENDPOINT_INDEPENDENT],
            Self::AddressRestricted => vec![Behaviour::ADDRESS_RESTRICTED],
            Self::PortRestricted => vec![Behaviour::PORT_RESTRICTED],
            Self::Symmetric => vec![Behaviour::SYMMETRIC],
            Self::DoubleNat => vec![Behaviour::PORT_RESTRICTED, Behaviour::PORT_RESTRICTED],
            Self::Hairpin => vec![Behaviour::HAIRPIN, Behaviour::PORT_RESTRICTED],
            Self::UdpBlocked => vec![Behaviour::UDP_BLOCKED],
            Self::ShortLifetime => vec![Behaviour::FORGETFUL],
        }
    }

    /// Whether two peers at these sites can have a direct path at all (RFC 5128, section 3.3): each
    /// must let in what the other sends, and only one of two may send from a port that nobody can
    /// know beforehand, to a side that does not ask for the port.
    pub fn meets(self, other: Self) -> bool {
        let (Some(mine), Some(others)) = (self.worst(), other.worst()) else {
            return !self.blocks_udp() && !other.blocks_udp();
        };
        if mine.blocks_udp || others.blocks_udp {
            return false;
        }
        let is_hidden = |one: Behaviour, two: Behaviour| {
            one.mapping != Scope::Any && two.filtering == Scope::AddressAndPort
        };
        !is_hidden(mine, others) && !is_hidden(others, mine)
    }

    fn blocks_udp(self) -> bool {
        self.boxes().iter().any(|behaviour| behaviour.blocks_udp)
    }

    /// The strictest of what its boxes do, taken together.
    fn worst(self) -> Option<Behaviour> {
        self.boxes().into_iter().reduce(|one, two| Behaviour {
            mapping: one.mapping.max(two.mapping),
            filtering: one.filtering.max(two.filtering),
            blocks_udp: one.blocks_udp || two.blocks_udp,
            ..one
        })
    }
}
