//! The handshake's primitives by the RustCrypto and dalek crates.

use super::{Agree, Decapsulate, Primitives, SigningKey, ed25519_strict, mlkem_check};
use crate::identity::SignatureScheme;
use crate::rng::{self, Rng};
use crate::secret::Secret32;
use alloc::boxed::Box;
use alloc::vec::Vec;
use ed25519_dalek::{Signature, Signer as _, VerifyingKey};
use ml_dsa::MlDsa65;
use ml_kem::{Decapsulate as _, KeyExport, ml_kem_768};
use zeroize::Zeroizing;

pub(crate) struct Portable;

struct Kem(ml_kem_768::DecapsulationKey);

impl Decapsulate for Kem {
    fn decapsulate(&self, ciphertext: &[u8]) -> Option<Secret32> {
        let ciphertext = ml_kem_768::Ciphertext::try_from(ciphertext).ok()?;
        Some(Zeroizing::new(self.0.decapsulate(&ciphertext).into()))
    }
}

struct X25519 {
    private: Secret32,
    public: [u8; 32],
}

impl Agree for X25519 {
    fn public(&self) -> [u8; 32] {
        self.public
    }

    fn agree(&self, peer: &[u8; 32]) -> Option<Secret32> {
        super::non_zero(Zeroizing::new(x25519_dalek::x25519(*self.private, *peer)))
    }
}

struct Pair(ed25519_dalek::SigningKey);

impl SigningKey for Pair {
    fn public(&self) -> Vec<u8> {
        self.0.verifying_key().to_bytes().to_vec()
    }

    fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        Some(self.0.try_sign(message).ok()?.to_bytes().to_vec())
    }
}

/// Signs deterministically: no generator is at hand where identities sign.
struct MlDsaPair(ml_dsa::ExpandedSigningKey<MlDsa65>);

impl SigningKey for MlDsaPair {
    fn public(&self) -> Vec<u8> {
        self.0.verifying_key().encode().to_vec()
    }

    fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        Some(self.0.sign_deterministic(message, &[]).ok()?.encode().to_vec())
    }
}

fn ed25519_verify(public: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let (Ok(public), Ok(signature)) = (public.try_into(), Signature::from_slice(signature)) else {
        return false;
    };
    let Ok(key) = VerifyingKey::from_bytes(public) else { return false };
    key.verify_strict(message, &signature).is_ok()
}

fn ml_dsa_verify(public: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let Ok(public) = ml_dsa::EncodedVerifyingKey::<MlDsa65>::try_from(public) else {
        return false;
    };
    let Ok(signature) = ml_dsa::Signature::<MlDsa65>::try_from(signature) else { return false };
    let key = ml_dsa::VerifyingKey::<MlDsa65>::decode(&public);
    key.verify_with_context(message, &[], &signature)
}

impl Primitives for Portable {
    fn x25519(&self, private: &[u8; 32]) -> Option<Box<dyn Agree>> {
        let public = x25519_dalek::x25519(*private, x25519_dalek::X25519_BASEPOINT_BYTES);
        Some(Box::new(X25519 { private: Zeroizing::new(*private), public }))
    }

    fn kem_generate(&self, rng: &mut dyn Rng) -> Option<(Box<dyn Decapsulate>, Vec<u8>)> {
        let seed = Zeroizing::new(rng::array::<64>(rng));
        let key = ml_kem_768::DecapsulationKey::from_seed((*seed).into());
        let ek = key.encapsulation_key().to_bytes().to_vec();
        Some((Box::new(Kem(key)), ek))
    }

    fn kem_encapsulate(&self, ek: &[u8], rng: &mut dyn Rng) -> Option<(Vec<u8>, Secret32)> {
        if !mlkem_check::is_valid_ek(ek) {
            return None;
        }
        let key = ml_kem_768::EncapsulationKey::new(ek.try_into().ok()?).ok()?;
        let message = Zeroizing::new(rng::array::<32>(rng));
        let (ciphertext, shared) = key.encapsulate_deterministic(&(*message).into());
        Some((ciphertext.to_vec(), Zeroizing::new(shared.into())))
    }

    fn signing_key(&self, scheme: SignatureScheme, seed: &[u8; 32]) -> Option<Box<dyn SigningKey>> {
        Some(match scheme {
            SignatureScheme::Ed25519 => Box::new(Pair(ed25519_dalek::SigningKey::from_bytes(seed))),
            SignatureScheme::MlDsa65 => {
                Box::new(MlDsaPair(ml_dsa::ExpandedSigningKey::from_seed(&(*seed).into())))
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
        match scheme {
            SignatureScheme::Ed25519 => {
                ed25519_strict::are_acceptable(public, signature)
                    && ed25519_verify(public, message, signature)
            }
            SignatureScheme::MlDsa65 => ml_dsa_verify(public, message, signature),
        }
    }
}
