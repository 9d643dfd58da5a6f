//! Identities whose keys stay in a PKCS#11 token: a hardware security module, a smart card, or SoftHSM.
//!
//! A [`TokenSigner`] signs with an Ed25519 key (CKM_EDDSA of PKCS #11 3.0, section 2.3.14) that it
//! never sees. Give it to `jsp::delegate`, or to
//! [`Delegation::issue`](jsp_crypto::Delegation::issue), to let an online key speak for the
//! identity; servers run on the online key and need no token.
//!
//! ```no_run
//! use jsp_pkcs11::{TokenKey, TokenSigner};
//! use jsp_crypto::Signer;
//!
//! let place = TokenKey {
//!     module: "/usr/lib/softhsm/libsofthsm2.so".into(),
//!     token: "identities".to_owned(),
//!     key: "server".to_owned(),
//! };
//! let signer = TokenSigner::open(&place, "1234".to_owned())?;
//! println!("{}", signer.public().fingerprint());
//! # Ok::<(), jsp_pkcs11::TokenError>(())
//! ```
//!
//! The module is foreign code that runs in this process. Keys that ask for the PIN at every
//! signature (CKA_ALWAYS_AUTHENTICATE) are not supported.
#![forbid(unsafe_code)]

mod attributes;
mod error;
mod signer;

pub use error::TokenError;
pub use signer::{TokenKey, TokenSigner};
