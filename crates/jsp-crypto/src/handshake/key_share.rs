//! The keys that a client offers, which can be made before they are needed.

use super::config::{ClientConfig, Kem};
use super::error::HandshakeError;
use crate::primitives::{Agree, Backend, Decapsulate};
use crate::rng::Rng;
use alloc::boxed::Box;
use alloc::vec::Vec;

/// The private keys of one hello, X25519 and ML-KEM-768, with their public halves. Made ahead of time they
/// cost a connection no time when it is wanted; the work is the same. Wiped when dropped, cannot be copied, and
/// given away with the hello that it is used for:
///
/// ```compile_fail,E0382
/// # use jsp_crypto::{Backend, KeyShare, SystemRng};
/// let share = KeyShare::generate(Backend::preferred(), &mut SystemRng).unwrap();
/// let (one, two) = (share, share);
/// ```
pub struct KeyShare {
    backend: Backend,
    pub(super) x25519: Box<dyn Agree>,
    pub(super) decapsulation: Option<Box<dyn Decapsulate>>,
    /// Empty without ML-KEM.
    pub(super) ek: Vec<u8>,
}

impl KeyShare {
    /// Fresh keys of both kinds.
    ///
    /// # Errors
    /// [`HandshakeError::Backend`] when the cryptographic library fails.
    pub fn generate(backend: Backend, rng: &mut dyn Rng) -> Result<Self, HandshakeError> {
        Self::of(backend, true, rng)
    }

    /// Those that this client offers.
    pub(super) fn for_client(
        config: &ClientConfig,
        rng: &mut dyn Rng,
    ) -> Result<Self, HandshakeError> {
        Self::of(config.backend, is_hybrid(config), rng)
    }

    fn of(backend: Backend, hybrid: bool, rng: &mut dyn Rng) -> Result<Self, HandshakeError> {
        let primitives = backend.primitives();
        let x25519 = super::agreement_key(primitives, rng)?;
        let (decapsulation, ek) = if hybrid {
            let (key, ek) = primitives.kem_generate(rng).ok_or(HandshakeError::Backend)?;
            (Some(key), ek)
        } else {
            (None, Vec::new())
        };
        Ok(Self { backend, x25519, decapsulation, ek })
    }

    /// Whether a client with this configuration would have made the like.
    pub(super) fn suits(&self, config: &ClientConfig) -> bool {
        self.backend == config.backend && self.decapsulation.is_some() == is_hybrid(config)
    }
}

fn is_hybrid(config: &ClientConfig) -> bool {
    config.kem.kems().contains(&Kem::X25519MlKem768)
}
