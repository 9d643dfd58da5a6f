//! Ways through boxes that translate addresses, as machines without I/O, clock or randomness.
//!
//! Two peers that cannot reach each other meet at a coordinator that both can reach. It tells each
//! the address that it sees ([`stun`], [`rendezvous`]), forwards sealed datagrams between them at
//! once ([`relay`], [`coordinator`]), and is out of the way as soon as they have found a direct one:
//! they tell each other [`candidate`]s over their encrypted connection and open the boxes by
//! [`punch`]ing from both sides. Which way then carries the connection is for the transport to
//! decide: it challenges a path before it uses it.
//!
//! A [`turn`] server of somebody else lends a peer an address where no direct way opens, or where none
//! may be told.
//!
//! [`behaviour`] finds out how the box in front of a host maps, [`filtering`] whom it lets in, [`lifetime`]
//! how long it remembers. [`switch`] says when a connection leaves datagrams for a stream, and comes back.
//!
//! Time comes in as [`jsp_wire::Instant`], random numbers through [`Entropy`].
#![forbid(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)
)]

pub use jsp_wire::Instant;

pub mod behaviour;
pub mod candidate;
pub mod coordinator;
pub mod detour;
pub mod filtering;
pub mod keep_alive;
pub mod lifetime;
pub mod punch;
pub mod relay;
pub mod rendezvous;
pub mod stun;
pub mod switch;
pub mod turn;
mod way;

pub use way::{Leg, Way};

/// Where random numbers come from. Those of this crate are told to others on the wire: they must not
/// be guessed, but they open nothing.
pub trait Entropy {
    /// The next 64 bits.
    fn next_u64(&mut self) -> u64;
}

impl<F: FnMut() -> u64> Entropy for F {
    fn next_u64(&mut self) -> u64 {
        self()
    }
}

/// A datagram for an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Whom it goes to.
    pub to: std::net::SocketAddr,
    /// What it holds.
    pub payload: Vec<u8>,
}
