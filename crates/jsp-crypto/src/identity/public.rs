//! Public keys.

use super::{Fingerprint, SignatureScheme, signed_message};
use crate::handshake::codec::Reader;
use crate::primitives::Backend;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

/// The public half of an identity. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PublicIdentity {
    scheme: SignatureScheme,
    key: Arc<[u8]>,
}

impl PublicIdentity {
    /// A public key of Ed25519. Whether it is a usable key shows when a
    /// signature is verified with it.
    pub fn ed25519(key: [u8; 32]) -> Self {
        Self { scheme: SignatureScheme::Ed25519, key: Arc::new(key) }
    }

    /// The public key of a scheme; `None` when it has not that scheme's length.
    pub fn from_key(scheme: SignatureScheme, key: &[u8]) -> Option<Self> {
        (key.len() == scheme.key_len()).then(|| Self { scheme, key: Arc::from(key) })
    }

    /// What it signs with.
    pub fn scheme(&self) -> SignatureScheme {
        self.scheme
    }

    /// The key, without its scheme.
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// SHA-256 of the key set.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of_key_set(self.scheme, &self.key)
    }

    /// Whether `signature` is this key's over `content` for `purpose`. Strict
    /// for Ed25519: small-order and non-canonical keys and points are refused.
    pub fn verify(&self, purpose: &str, content: &[u8], signature: &[u8]) -> bool {
        self.verify_with(Backend::preferred(), purpose, content, signature)
    }

    pub(crate) fn verify_with(
        &self,
        backend: Backend,
        purpose: &str,
        content: &[u8],
        signature: &[u8],
    ) -> bool {
        let message = signed_message(purpose, content);
        backend.primitives().verify(self.scheme, &self.key, &message, signature)
    }

    /// Appends the wire form: the scheme's identifier and the key.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.push(self.scheme.id());
        out.extend_from_slice(&self.key);
    }

    // spec: HS-102
    pub(crate) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let scheme = SignatureScheme::from_id(reader.u8()?)?;
        Self::from_key(scheme, reader.bytes(scheme.key_len())?)
    }
}

impl fmt::Debug for PublicIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicIdentity({} {})", self.scheme, self.fingerprint().short())
    }
}
