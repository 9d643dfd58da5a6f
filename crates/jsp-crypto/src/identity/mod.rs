//! Who a peer is: Ed25519 identities, fingerprints and delegations.

mod base32;
mod delegation;
#[cfg(feature = "files")]
mod delegation_file;
#[cfg(feature = "files")]
mod file;
mod fingerprint;
mod public_text;
mod signer;

pub use delegation::{
    DELEGATION_LEN, Delegation, DelegationError, IssueError, MAX_DELEGATION_SECONDS,
};

#[cfg(feature = "files")]
pub use delegation_file::DelegationFileError;
#[cfg(feature = "files")]
pub use file::IdentityFileError;
pub use fingerprint::{Fingerprint, FingerprintError};
pub use public_text::PublicTextError;
pub use signer::{SIGNATURE_LEN, SignError, Signer, signed_message};

use crate::primitives::{Backend, SigningKey};
use crate::rng::{self, Rng};
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::fmt;
use zeroize::Zeroizing;

/// A long-term or online Ed25519 key pair. Wiped when dropped; has no `Debug`:
///
/// ```compile_fail,E0277
/// let identity = jsp_crypto::Identity::from_seed(&[1; 32]).unwrap();
/// println!("{identity:?}");
/// ```
///
/// It signs with its own public key; there is no way to give another, which
/// would reveal the secret (RUSTSEC-2022-0093):
///
/// ```compile_fail,E0061
/// # let identity = jsp_crypto::Identity::from_seed(&[1; 32]).unwrap();
/// # let other = jsp_crypto::Identity::from_seed(&[2; 32]).unwrap();
/// identity.sign("purpose", b"content", &other.public());
/// ```
///
/// ```
/// # let identity = jsp_crypto::Identity::from_seed(&[1; 32]).unwrap();
/// let signature = identity.sign("purpose", b"content").unwrap();
/// assert!(identity.public().verify("purpose", b"content", &signature));
/// assert!(!identity.public().verify("another", b"content", &signature));
/// ```
pub struct Identity {
    seed: Zeroizing<[u8; 32]>,
    key: Box<dyn SigningKey>,
    public: PublicIdentity,
}

impl Identity {
    /// A new identity.
    pub fn generate(rng: &mut dyn Rng) -> Self {
        loop {
            if let Some(identity) = Self::from_seed(&rng::array(rng)) {
                return identity;
            }
        }
    }

    /// The identity of a 32-byte secret seed. `None` only when the backend
    /// refuses the seed, which no known one does.
    pub fn from_seed(seed: &[u8; 32]) -> Option<Self> {
        let key = Backend::preferred().primitives().ed25519_key(seed)?;
        let public = PublicIdentity(key.public());
        Some(Self { seed: Zeroizing::new(*seed), key, public })
    }

    /// The secret seed, for storage in a safe place.
    pub fn seed(&self) -> &[u8; 32] {
        &self.seed
    }

    /// The public half.
    pub fn public(&self) -> PublicIdentity {
        self.public
    }

    /// The fingerprint of the public half.
    pub fn fingerprint(&self) -> Fingerprint {
        self.public.fingerprint()
    }

    /// Signs `content` for `purpose`, a short fixed text such as `"device list"`.
    /// The purposes of this crate are `server`, `client` and `delegation`.
    pub fn sign(&self, purpose: &str, content: &[u8]) -> Result<[u8; SIGNATURE_LEN], SignError> {
        self.sign_message(&signed_message(purpose, content))
    }
}

impl Signer for Identity {
    fn public(&self) -> PublicIdentity {
        self.public
    }

    fn sign_message(&self, message: &[u8]) -> Result<[u8; SIGNATURE_LEN], SignError> {
        self.key.sign(message).ok_or_else(|| SignError::new("the cryptographic library refused"))
    }
}

/// The public half of an identity: an Ed25519 public key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicIdentity([u8; 32]);

impl PublicIdentity {
    /// A public key as its 32 bytes. Whether it is a usable key shows when a
    /// signature is verified with it.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes of the key.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// SHA-256 of the key set.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of_key_set(&self.0)
    }

    /// Whether `signature` is this key's over `content` for `purpose`. Strict:
    /// small-order and non-canonical keys and points are refused.
    pub fn verify(&self, purpose: &str, content: &[u8], signature: &[u8; SIGNATURE_LEN]) -> bool {
        self.verify_with(Backend::preferred(), purpose, content, signature)
    }

    pub(crate) fn verify_with(
        &self,
        backend: Backend,
        purpose: &str,
        content: &[u8],
        signature: &[u8; SIGNATURE_LEN],
    ) -> bool {
        let message = signed_message(purpose, content);
        backend.primitives().ed25519_verify(&self.0, &message, signature)
    }
}

impl fmt::Debug for PublicIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicIdentity({})", self.fingerprint().short())
    }
}

/// What a server (or a client that authenticates) proves itself with: a signer
/// of its identity, or an online key with the identity's delegation.
#[derive(Clone)]
pub struct Credential {
    signer: Arc<dyn Signer>,
    delegation: Option<Delegation>,
}

impl Credential {
    /// Signs each handshake with the identity itself.
    pub fn new(signer: Arc<dyn Signer>) -> Self {
        Self { signer, delegation: None }
    }

    /// Signs handshakes with the online key `signer`, to which `delegation` was given.
    pub fn delegated(
        signer: Arc<dyn Signer>,
        delegation: Delegation,
    ) -> Result<Self, DelegationError> {
        if signer.public() != delegation.online() {
            return Err(DelegationError::OtherKey);
        }
        Ok(Self { signer, delegation: Some(delegation) })
    }

    /// The long-term identity this credential stands for.
    pub fn identity(&self) -> PublicIdentity {
        self.delegation.as_ref().map_or_else(|| self.signer.public(), Delegation::identity)
    }

    /// The fingerprint that the peer may have pinned.
    pub fn fingerprint(&self) -> Fingerprint {
        self.identity().fingerprint()
    }

    /// The delegation, where there is one.
    pub fn delegation(&self) -> Option<&Delegation> {
        self.delegation.as_ref()
    }

    pub(crate) fn sign(
        &self,
        purpose: &str,
        content: &[u8],
    ) -> Result<[u8; SIGNATURE_LEN], SignError> {
        self.signer.sign_message(&signed_message(purpose, content))
    }
}

impl From<Arc<Identity>> for Credential {
    fn from(identity: Arc<Identity>) -> Self {
        Self::new(identity)
    }
}

/// The least a known server must offer: what it once offered, it must go on
/// offering, or somebody is weakening the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Floor {
    /// The highest protocol version ever negotiated; 0 when none was.
    pub version: u32,
    /// Whether a post-quantum hybrid was ever negotiated.
    pub post_quantum: bool,
}

impl Floor {
    /// The stricter of both, item by item: a floor only goes up.
    #[must_use]
    pub fn raised(self, other: Floor) -> Floor {
        Floor {
            version: self.version.max(other.version),
            post_quantum: self.post_quantum || other.post_quantum,
        }
    }
}
