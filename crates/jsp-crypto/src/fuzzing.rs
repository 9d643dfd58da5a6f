//! The primitives of both backends, and parsers of files, for the fuzzer. No part of the interface of
//! this crate.

use crate::identity::SignatureScheme;
use crate::known_hosts;
use crate::packet::{HeaderKey, NONCE_LEN, PacketKey};
use crate::primitives::{Backend, HashAlg, MacKey, hkdf};
use crate::secret::Digest;
use crate::suite::Suite;
use crate::ticket::TicketContents;
use alloc::string::String;
use alloc::vec::Vec;
use ml_kem::{KeyExport, ml_kem_768};

fn alg(long: bool) -> HashAlg {
    if long { HashAlg::Sha384 } else { HashAlg::Sha256 }
}

/// SHA-256, or SHA-384 where `long`, of all parts together; the same for both backends.
pub fn hash(long: bool, parts: &[&[u8]]) -> Vec<u8> {
    alg(long).hash(parts).as_bytes().to_vec()
}

/// The same by the native backend's library.
pub fn library_hash(long: bool, text: &[u8]) -> Vec<u8> {
    use aws_lc_rs::digest::{SHA256, SHA384, digest};
    digest(if long { &SHA384 } else { &SHA256 }, text).as_ref().to_vec()
}

/// HMAC, which is the same for both backends.
pub fn hmac(long: bool, key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    MacKey::new(alg(long), key).mac(parts).as_bytes().to_vec()
}

/// HMAC by the native backend's library.
pub fn library_hmac(long: bool, key: &[u8], text: &[u8]) -> Vec<u8> {
    use aws_lc_rs::hmac::{HMAC_SHA256, HMAC_SHA384, Key, sign};
    sign(&Key::new(if long { HMAC_SHA384 } else { HMAC_SHA256 }, key), text).as_ref().to_vec()
}

/// HKDF: extract, then expand to `len` bytes.
pub fn hkdf(long: bool, salt: &[u8], ikm: &[u8], info: &[u8], len: usize) -> Vec<u8> {
    let alg = alg(long);
    let secret: Digest = hkdf::extract(alg, salt, &[ikm]);
    let mut out = alloc::vec![0; len];
    hkdf::expand(&MacKey::new(alg, secret.as_bytes()), alg, &[info], &mut out);
    out
}

/// The key of packets from its bytes, of which as many count as the suite wants.
pub fn packet_key(
    backend: Backend,
    suite: Suite,
    key: &[u8; 32],
    iv: [u8; NONCE_LEN],
) -> PacketKey {
    PacketKey::new(backend, suite, key.get(..suite.key_len()).unwrap_or_default(), iv)
}

/// The key of headers in the same way.
pub fn header_key(backend: Backend, suite: Suite, key: &[u8; 32]) -> HeaderKey {
    HeaderKey::new(backend, suite, key.get(..suite.key_len()).unwrap_or_default())
}

/// The public key of a private one.
pub fn x25519_public(backend: Backend, private: &[u8; 32]) -> Option<[u8; 32]> {
    Some(backend.primitives().x25519(private)?.public())
}

/// The shared secret.
pub fn x25519(backend: Backend, private: &[u8; 32], public: &[u8; 32]) -> Option<[u8; 32]> {
    Some(*backend.primitives().x25519(private)?.agree(public)?)
}

/// The public key of a seed, and its signature.
pub fn sign(
    backend: Backend,
    scheme: SignatureScheme,
    seed: &[u8; 32],
    message: &[u8],
) -> Option<(Vec<u8>, Vec<u8>)> {
    let key = backend.primitives().signing_key(scheme, seed)?;
    Some((key.public(), key.sign(message)?))
}

/// Whether the signature is that of the public key.
pub fn verify(
    backend: Backend,
    scheme: SignatureScheme,
    public: &[u8],
    message: &[u8],
    signature: &[u8],
) -> bool {
    backend.primitives().verify(scheme, public, message, signature)
}

/// The encapsulation key of an ML-KEM-768 seed.
pub fn kem_public(seed: [u8; 64]) -> Vec<u8> {
    let key = ml_kem_768::DecapsulationKey::from_seed(seed.into());
    key.encapsulation_key().to_bytes().to_vec()
}

/// A ciphertext for an encapsulation key, and the secret. The portable backend makes both from
/// `message`.
pub fn kem_encapsulate(
    backend: Backend,
    ek: &[u8],
    message: [u8; 32],
) -> Option<(Vec<u8>, [u8; 32])> {
    struct Fixed([u8; 32]);
    impl crate::rng::Rng for Fixed {
        fn fill(&mut self, out: &mut [u8]) {
            out.iter_mut().zip(self.0).for_each(|(to, from)| *to = from);
        }
    }
    let (ct, secret) = backend.primitives().kem_encapsulate(ek, &mut Fixed(message))?;
    Some((ct, *secret))
}

/// The secret that the key of a seed finds in a ciphertext.
#[allow(deprecated, reason = "the one form of a key that both libraries read")]
pub fn kem_decapsulate(backend: Backend, seed: [u8; 64], ct: &[u8]) -> Option<[u8; 32]> {
    use ml_kem::{Decapsulate as _, ExpandedKeyEncoding as _};
    let key = ml_kem_768::DecapsulationKey::from_seed(seed.into());
    match backend {
        Backend::Portable => {
            let ct = ml_kem_768::Ciphertext::try_from(ct).ok()?;
            Some(key.decapsulate(&ct).into())
        }
        Backend::Native => {
            use aws_lc_rs::kem::{Ciphertext, DecapsulationKey, ML_KEM_768};
            let key = DecapsulationKey::new(&ML_KEM_768, &key.to_expanded_bytes()).ok()?;
            key.decapsulate(Ciphertext::from(ct)).ok()?.as_ref().try_into().ok()
        }
    }
}

/// What a store of known hosts holds: entries as host and fingerprint, how many lines are bad, and the
/// store as it would be written.
pub fn known_hosts(bytes: &[u8]) -> (Vec<(String, crate::Fingerprint)>, usize, Vec<u8>) {
    known_hosts::parse_and_write(bytes)
}

/// What a ticket holds under its seal, read and written again.
pub fn ticket_contents(bytes: &[u8]) -> Option<Vec<u8>> {
    TicketContents::from_bytes(bytes).map(|contents| contents.to_bytes().to_vec())
}
