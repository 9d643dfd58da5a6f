//! Handshake, keys and packet protection of JetStreamProto.
//!
//! This is the only crate of the project that names cryptographic primitives.
//! It has no I/O of its own (key files and the known-hosts store excepted), no
//! clock and no hidden randomness: time and random bytes are arguments.
//!
//! * [`Handshake`] is the JSH-1 key exchange as a machine: whole messages in,
//!   [`Output`]s out. It is SIGMA-I in shape, with the TLS 1.3 key schedule, an
//!   X25519 + ML-KEM-768 hybrid and raw Ed25519 identities.
//! * [`PacketKey`] and [`HeaderKey`] protect packets; [`DataKeys`] steps them.
//! * [`CookieKeys`], [`retry_integrity_tag`] and [`reset_token`] serve the
//!   stateless parts of a server.
//! * [`TicketKeys`], [`StrikeRegister`] and [`Resumption`] let a server resume
//!   connections, [`ClientTicket`] a client; [`Renewal`] brings a fresh secret
//!   into a running one.
//! * With the feature `turn`, [`turn`] makes what TURN servers know their users by.
//! * With the feature `pake`, CPace makes a key from a short password.
//! * [`Identity`], [`Fingerprint`] and [`Delegation`] say who the peers are.
//!
//! The normative text is `docs/spec/02-handshake.md`; comments of the form
//! `spec: HS-n` mark the lines that obey its sentences.
//!
//! # Backends
//!
//! With the feature `native` (the default) packets are protected by `ring` and
//! the handshake runs on `aws-lc-rs`. With `portable` the RustCrypto and dalek
//! crates do both, also where no C compiler reaches (WebAssembly). When both
//! are on, [`Backend`] selects at run time, and the two are tested against
//! each other. HMAC is in both over RustCrypto's SHA-2, which wipes itself and
//! costs a handshake less.
//!
//! The native ML-KEM draws its randomness from the operating system, as its
//! library offers no other way; every other random byte comes from [`Rng`].
//! The portable backend takes all of it from [`Rng`], so that a seeded
//! simulation repeats byte for byte.
//!
//! # Secrets
//!
//! Secrets are wiped when dropped and have no `Debug`. The exception is inside
//! `ring`, which does not wipe the AEAD keys that it holds: a dropped key phase
//! may linger in memory until it is reused.
#![cfg_attr(not(feature = "std"), no_std)]
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

extern crate alloc;

#[cfg(not(any(feature = "native", feature = "portable")))]
compile_error!(
    "no backend: turn on the feature `native` (the default; ring and aws-lc-rs, which need a C compiler) or `portable` (Rust alone), of `jsp` or of `jsp-crypto`"
);

#[cfg(feature = "files")]
pub mod atomic_file;
pub mod base64;
mod client_ticket;
pub mod cookie;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
pub mod handshake;
pub mod hello;
pub mod identity;
#[cfg(feature = "files")]
pub mod known_hosts;
mod obfuscation;
mod packet;
#[cfg(feature = "pake")]
pub mod pake;
mod prf;
mod primitives;
mod renewal;
pub mod replay;
mod retry;
mod rng;
mod schedule;
mod secret;
mod suite;
#[cfg(any(test, feature = "vectors"))]
mod test_rng;
pub mod ticket;
#[cfg(feature = "turn")]
pub mod turn;
mod wiped;

#[cfg(feature = "vectors")]
pub mod vectors;

pub use client_ticket::{ClientTicket, TICKET_LIFETIME_MAX, TicketGrant};
pub use cookie::{COOKIE_LEN, CookieError, CookieKeys};
pub use handshake::{
    Backend, ClientAuth, ClientConfig, ClientVerifier, Handshake, HandshakeError, Kem, KemPolicy,
    KeyShare, Level, Mode, Output, PeerIdentity, RefusedTicket, Resumption, Role,
    SERVER_HELLO_LEN_MAX, Security, ServerConfig, ServerIdentity, ServerVerifier, SignaturePolicy,
    VERSION_1, VerifierRejection, close, features,
};
pub use hello::{hello_core_hash, hello_id};
pub use identity::{
    Credential, Delegation, DelegationError, Fingerprint, Floor, Identity, IssueError,
    PublicIdentity, SignError, SignatureScheme, Signer,
};
pub use obfuscation::{DatagramTag, OBFUSCATION_LEN, ObfuscationKey, Obfuscator};
pub use packet::{
    DirectionKeys, HeaderKey, Keys, KeysMaterial, OpenError, PacketKey, RunningKeys,
    RunningMaterial, SealError, TAG_LEN,
};
pub use prf::Prf;
pub use renewal::{Fresh, Renewal};
pub use replay::{Strike, StrikeRegister};
pub use retry::{
    RETRY_TAG_LEN, reset_token, reset_tokens_equal, retry_integrity_tag, verify_retry_integrity_tag,
};
#[cfg(feature = "system-rng")]
pub use rng::SystemRng;
pub use rng::{ErasingRng, Rng};
pub use schedule::{DataKeys, initial_keys, initial_keys_with};
pub use suite::Suite;
pub use ticket::{PathMemory, TICKET_LEN, TicketContents, TicketError, TicketKeys};
pub use zeroize::Zeroizing;
