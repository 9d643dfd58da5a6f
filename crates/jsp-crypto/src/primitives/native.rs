//! The handshake's primitives by `aws-lc-rs`; HMAC is in [`super::mac`].

use super::{Agree, Decapsulate, Primitives, SigningKey, ed25519_strict, mlkem_check};
use crate::identity::SignatureScheme;
use crate::rng::Rng;
use crate::secret::Secret32;
use alloc::boxed::Box;
use alloc::vec::Vec;
use aws_lc_rs::agreement;
use aws_lc_rs::kem::{Ciphertext, DecapsulationKey, EncapsulationKey, ML_KEM_768, SharedSecret};
use aws_lc_rs::signature::{
    ED25519, Ed25519KeyPair, KeyPair as _, ML_DSA_65, ML_DSA_65_SIGNING, PqdsaKeyPair,
    UnparsedPublicKey,
};
use zeroize::Zeroizing;

pub(crate) struct Native;

struct Kem(DecapsulationKey);

impl Decapsulate for Kem {
    fn decapsulate(&self, ciphertext: &[u8]) -> Option<Secret32> {
        if ciphertext.len() != super::CT_LEN {
            return None;
        }
        secret32(&self.0.decapsulate(Ciphertext::from(ciphertext)).ok()?)
    }
}

/// The library works the public key out as it takes the private one: once for both uses.
struct X25519(agreement::PrivateKey, [u8; 32]);

impl Agree for X25519 {
    fn public(&self) -> [u8; 32] {
        self.1
    }

    fn agree(&self, peer: &[u8; 32]) -> Option<Secret32> {
        let peer = agreement::UnparsedPublicKey::new(&agreement::X25519, peer);
        let shared = agreement::agree(&self.0, peer, (), |secret| {
            <[u8; 32]>::try_from(secret).map(Zeroizing::new).map_err(|_| ())
        })
        .ok()?;
        super::non_zero(shared)
    }
}

struct Pair(Ed25519KeyPair);

impl SigningKey for Pair {
    fn public(&self) -> Vec<u8> {
        self.0.public_key().as_ref().to_vec()
    }

    fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        Some(self.0.try_sign(message).ok()?.as_ref().to_vec())
    }
}

struct MlDsaPair(PqdsaKeyPair);

impl SigningKey for MlDsaPair {
    fn public(&self) -> Vec<u8> {
        self.0.public_key().as_ref().to_vec()
    }

    fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        let mut signature = alloc::vec![0; SignatureScheme::MlDsa65.signature_len()];
        let len = self.0.sign(message, &mut signature).ok()?;
        (len == signature.len()).then_some(signature)
    }
}

fn secret32(shared: &SharedSecret) -> Option<Secret32> {
    Some(Zeroizing::new(<[u8; 32]>::try_from(shared.as_ref()).ok()?))
}

impl Primitives for Native {
    fn x25519(&self, private: &[u8; 32]) -> Option<Box<dyn Agree>> {
        let key = agreement::PrivateKey::from_private_key(&agreement::X25519, private).ok()?;
        let public = key.compute_public_key().ok()?.as_ref().try_into().ok()?;
        Some(Box::new(X25519(key, public)))
    }

    fn kem_generate(&self, _rng: &mut dyn Rng) -> Option<(Box<dyn Decapsulate>, Vec<u8>)> {
        let key = DecapsulationKey::generate(&ML_KEM_768).ok()?;
        let ek = key.encapsulation_key().ok()?.key_bytes().ok()?.as_ref().to_vec();
        Some((Box::new(Kem(key)), ek))
    }

    fn kem_encapsulate(&self, ek: &[u8], _rng: &mut dyn Rng) -> Option<(Vec<u8>, Secret32)> {
        if !mlkem_check::is_valid_ek(ek) {
            return None;
        }
        let key = EncapsulationKey::new(&ML_KEM_768, ek).ok()?;
        let (ciphertext, shared) = key.encapsulate().ok()?;
        Some((ciphertext.as_ref().to_vec(), secret32(&shared)?))
    }

    fn signing_key(&self, scheme: SignatureScheme, seed: &[u8; 32]) -> Option<Box<dyn SigningKey>> {
        Some(match scheme {
            SignatureScheme::Ed25519 => {
                Box::new(Pair(Ed25519KeyPair::from_seed_unchecked(seed).ok()?))
            }
            SignatureScheme::MlDsa65 => {
                Box::new(MlDsaPair(PqdsaKeyPair::from_seed(&ML_DSA_65_SIGNING, seed).ok()?))
            }
        })
    }

    fn verify(
        &self,
        scheme: SignatureScheme,
        public: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> bool {
        if public.len() != scheme.key_len() || signature.len() != scheme.signature_len() {
            return false;
        }
        match scheme {
            SignatureScheme::Ed25519 => {
                ed25519_strict::are_acceptable(public, signature)
                    && UnparsedPublicKey::new(&ED25519, public).verify(message, signature).is_ok()
            }
            SignatureScheme::MlDsa65 => {
                UnparsedPublicKey::new(&ML_DSA_65, public).verify(message, signature).is_ok()
            }
        }
    }
}
