//! The primitives the handshake needs, behind one trait, and its two backends.

pub(crate) mod ed25519_strict;
pub(crate) mod hkdf;
mod mac;
pub(crate) mod mlkem_check;
#[cfg(feature = "native")]
mod native;
#[cfg(feature = "portable")]
mod portable;
mod running_hash;
#[cfg(test)]
mod tests;

use crate::identity::SignatureScheme;
use crate::rng::Rng;
use crate::secret::Secret32;
use alloc::boxed::Box;
use alloc::vec::Vec;
pub(crate) use mac::MacKey;
pub(crate) use running_hash::RunningHash;

/// ML-KEM-768 encapsulation key length in bytes (FIPS 203, table 3).
pub(crate) const EK_LEN: usize = 1184;
/// ML-KEM-768 ciphertext length in bytes (FIPS 203, table 3).
pub(crate) const CT_LEN: usize = 1088;

/// The hash of a key schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HashAlg {
    Sha256,
    Sha384,
}

impl HashAlg {
    /// Output length in bytes.
    pub(crate) const fn len(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha384 => 48,
        }
    }
}

/// Which implementation of the primitives to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Backend {
    /// `ring` for packets and `aws-lc-rs` for the handshake.
    #[cfg(feature = "native")]
    Native,
    /// RustCrypto and dalek crates; deterministic given [`Rng`].
    #[cfg(feature = "portable")]
    Portable,
}

impl Backend {
    /// The faster of those compiled in.
    pub const fn preferred() -> Self {
        #[cfg(feature = "native")]
        {
            Self::Native
        }
        #[cfg(not(feature = "native"))]
        {
            Self::Portable
        }
    }

    pub(crate) fn primitives(self) -> &'static dyn Primitives {
        match self {
            #[cfg(feature = "native")]
            Self::Native => &native::Native,
            #[cfg(feature = "portable")]
            Self::Portable => &portable::Portable,
        }
    }
}

impl Default for Backend {
    fn default() -> Self {
        Self::preferred()
    }
}

/// An ML-KEM-768 decapsulation key.
pub(crate) trait Decapsulate: Send + Sync {
    /// `None` when the ciphertext has the wrong length. A wrong ciphertext of
    /// the right length gives a pseudo-random secret (implicit rejection).
    fn decapsulate(&self, ciphertext: &[u8]) -> Option<Secret32>;
}

/// An X25519 private key, its public key worked out.
pub(crate) trait Agree: Send + Sync {
    fn public(&self) -> [u8; 32];
    /// `None` when the result is all zero, that is when the peer's key has a small order.
    fn agree(&self, peer: &[u8; 32]) -> Option<Secret32>;
}

/// A key pair that signs. There is no way to give `sign` another public key than
/// the pair's own: doing so would reveal the private key.
pub(crate) trait SigningKey: Send + Sync {
    fn public(&self) -> Vec<u8>;
    fn sign(&self, message: &[u8]) -> Option<Vec<u8>>;
}

/// What a backend provides. Peer-controlled values may be anything; a `None`
/// or `false` means that they were refused.
pub(crate) trait Primitives: Sync {
    fn x25519(&self, private: &[u8; 32]) -> Option<Box<dyn Agree>>;
    fn kem_generate(&self, rng: &mut dyn Rng) -> Option<(Box<dyn Decapsulate>, Vec<u8>)>;
    /// `None` when the encapsulation key has the wrong length or unreduced coefficients.
    fn kem_encapsulate(&self, ek: &[u8], rng: &mut dyn Rng) -> Option<(Vec<u8>, Secret32)>;
    fn signing_key(&self, scheme: SignatureScheme, seed: &[u8; 32]) -> Option<Box<dyn SigningKey>>;
    /// Keys and signatures of another length are refused. Strict for Ed25519:
    /// small-order and non-canonical keys and points are refused.
    fn verify(
        &self,
        scheme: SignatureScheme,
        public: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> bool;
}

/// Refuses an all-zero X25519 output (RFC 7748, section 6.1).
fn non_zero(shared: Secret32) -> Option<Secret32> {
    // spec: HS-18
    (!crate::secret::constant_time_eq(shared.as_slice(), &[0; 32])).then_some(shared)
}
