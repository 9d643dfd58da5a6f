//! What signs with an identity key, wherever the key is kept.

use super::PublicIdentity;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

/// A signature could not be made, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignError(String);

impl SignError {
    /// `why` is a clause for people, such as what a token answered. It must hold no secret.
    pub fn new(why: impl fmt::Display) -> Self {
        Self(why.to_string())
    }
}

impl fmt::Display for SignError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the signer gave no signature; check the key store ({})", self.0)
    }
}

impl core::error::Error for SignError {}

/// Where an identity key lives: in memory ([`Identity`](super::Identity)), or in hardware that
/// never lets it out.
///
/// A long-term identity is needed rarely, to issue a [`Delegation`](super::Delegation) every day
/// or two; an online key, which is in memory, signs the handshakes in between.
///
/// The trait takes no public key to sign with: a signer signs for its own
/// [`Signer::public`] only.
pub trait Signer: Send + Sync {
    /// The public half of the key that signs. Does not block.
    fn public(&self) -> PublicIdentity;

    /// The signature of `message` by the scheme of [`Signer::public`]: without prehash, and without
    /// context or with an empty one. Callers pass messages made by [`signed_message`], which say what
    /// they are for.
    ///
    /// May block on hardware, for seconds when that waits for a touch: a signer that does must not
    /// sign handshakes, which would hold up all connections of its endpoint.
    ///
    /// # Errors
    /// When the key store refuses, is gone, or answers with something that is no signature.
    fn sign_message(&self, message: &[u8]) -> Result<Vec<u8>, SignError>;
}

/// What is signed for `purpose`: 64 spaces, `"JSP1 "`, the purpose, a zero
/// byte, and the content. No signature for one purpose serves another.
pub fn signed_message(purpose: &str, content: &[u8]) -> Vec<u8> {
    // spec: HS-19
    let mut message = alloc::vec![0x20; 64];
    message.extend_from_slice(b"JSP1 ");
    message.extend_from_slice(purpose.as_bytes());
    message.push(0);
    message.extend_from_slice(content);
    message
}
