//! Wire format of JetStreamProto, version 1.
//!
//! Every byte that comes from the network is parsed here, and nowhere else. The crate is
//! `no_std`, has no dependencies, never allocates and never panics: each decoder is total, that is,
//! it answers every input with a value or a [`DecodeError`]. It says what bytes *are*; what they
//! mean is decided one step later, in `jsp-proto`.
//!
//! The normative text is `docs/spec/01-wire.md`; code cites its sentences as `spec: WIRE-n`.
#![no_std]
#![forbid(unsafe_code)]
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::panic
)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::panic
    )
)]

#[cfg(test)]
extern crate std;

pub mod close;
pub mod connection_id;
pub mod cursor;
pub mod frame;
pub mod header;
pub mod limits;
pub mod params;
pub mod pn;
pub mod preferred;
pub mod route;
pub mod stream;
pub mod time;
pub mod tlv;
pub mod varint;

pub use close::CloseCode;
pub use connection_id::ConnectionId;
pub use cursor::{DecodeError, Full, Reader, Writer};
pub use frame::{Frame, FrameIter, PathId, Payload};
pub use header::{Header, LongType, Shape};
pub use params::TransportParams;
pub use preferred::PreferredAddress;
pub use route::Route;
pub use stream::{Class, Delivery, Framing, Open, Profile, StreamId};
pub use time::Instant;

/// Version 1 of the protocol, as it stands in the long header.
pub const VERSION_1: u32 = 0x4A53_5001;
