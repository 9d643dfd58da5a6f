//! Who a peer is: identities, their public keys and credentials.

mod base32;
mod delegation;
#[cfg(feature = "files")]
mod delegation_file;
#[cfg(feature = "files")]
mod file;
mod fingerprint;
mod public;
mod public_text;
mod scheme;
mod signer;

pub use delegation::{Delegation, DelegationError, IssueError, MAX_DELEGATION_SECONDS};

#[cfg(feature = "files")]
pub use delegation_file::DelegationFileError;
#[cfg(feature = "files")]
pub use file::IdentityFileError;
pub use fingerprint::{Fingerprint, FingerprintError};
pub use public::PublicIdentity;
pub use public_text::PublicTextError;
pub use scheme::SignatureScheme;
pub use signer::{SignError, Signer, signed_message};

use crate::prf::Prf;
use crate::primitives::{Backend, SigningKey};
use crate::rng::{self, Rng};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use zeroize::Zeroizing;

/// A long-term or online key pair. Wiped when dropped; has no `Debug`:
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
    /// A new identity that signs by Ed25519.
    pub fn generate(rng: &mut dyn Rng) -> Self {
        Self::generate_with(SignatureScheme::Ed25519, rng)
    }

    /// A new identity that signs by `scheme`.
    pub fn generate_with(scheme: SignatureScheme, rng: &mut dyn Rng) -> Self {
        loop {
            if let Some(identity) = Self::from_seed_with(scheme, &rng::array(rng)) {
                return identity;
            }
        }
    }

    /// The Ed25519 identity of a 32-byte secret seed. `None` only when the
    /// backend refuses the seed, which no known one does.
    pub fn from_seed(seed: &[u8; 32]) -> Option<Self> {
        Self::from_seed_with(SignatureScheme::Ed25519, seed)
    }

    /// The identity of a 32-byte secret seed that signs by `scheme`; the seed of
    /// ML-DSA is the xi of FIPS 204. Use a seed for one scheme only.
    pub fn from_seed_with(scheme: SignatureScheme, seed: &[u8; 32]) -> Option<Self> {
        Self::of_backend(Backend::preferred(), scheme, seed)
    }

    pub(crate) fn of_backend(
        backend: Backend,
        scheme: SignatureScheme,
        seed: &[u8; 32],
    ) -> Option<Self> {
        let key = backend.primitives().signing_key(scheme, seed)?;
        let public = PublicIdentity::from_key(scheme, &key.public())?;
        Some(Self { seed: Zeroizing::new(*seed), key, public })
    }

    /// The secret seed, for storage in a safe place.
    pub fn seed(&self) -> &[u8; 32] {
        &self.seed
    }

    /// The public half.
    pub fn public(&self) -> PublicIdentity {
        self.public.clone()
    }

    /// What it signs with.
    pub fn scheme(&self) -> SignatureScheme {
        self.public.scheme()
    }

    /// The fingerprint of the public half.
    pub fn fingerprint(&self) -> Fingerprint {
        self.public.fingerprint()
    }

    /// The secret from which a server under this identity makes the tokens of its
    /// stateless resets; `server` tells it apart from others under the identity.
    // spec: CON-203
    pub fn reset_key(&self, server: &[u8]) -> [u8; 32] {
        Prf::new(*self.seed).derive("stateless reset key", server)
    }

    /// Signs `content` for `purpose`, a short fixed text such as `"device list"`.
    /// The purposes of this crate are `server`, `client` and `delegation`.
    pub fn sign(&self, purpose: &str, content: &[u8]) -> Result<Vec<u8>, SignError> {
        self.sign_message(&signed_message(purpose, content))
    }
}

impl Signer for Identity {
    fn public(&self) -> PublicIdentity {
        self.public.clone()
    }

    fn sign_message(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        self.key.sign(message).ok_or_else(|| SignError::new("the cryptographic library refused"))
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

    /// What the peer must know to verify the handshake's signature.
    pub(crate) fn scheme(&self) -> SignatureScheme {
        self.signer.public().scheme()
    }

    /// Whether a peer that knows these schemes can verify every signature.
    pub(crate) fn suits(&self, known: impl Fn(SignatureScheme) -> bool) -> bool {
        known(self.scheme()) && known(self.identity().scheme())
    }

    pub(crate) fn sign(&self, purpose: &str, content: &[u8]) -> Result<Vec<u8>, SignError> {
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

#[cfg(test)]
mod tests {
    use super::*;

    // spec-test: CON-203
    #[test]
    fn each_server_has_its_reset_key() {
        let [one, other] = [1, 2].map(|byte| Identity::from_seed(&[byte; 32]).unwrap());
        let key = one.reset_key(b"a");
        assert_eq!(key, one.reset_key(b"a"));
        assert!(key != one.reset_key(b"b") && key != other.reset_key(b"a"));
    }

    #[test]
    fn a_signature_is_of_a_purpose_and_a_content() {
        let identity = Identity::from_seed(&[1; 32]).unwrap();
        let signature = identity.sign("purpose", b"content").unwrap();
        let public = identity.public();
        assert!(public.verify("purpose", b"content", &signature));
        assert!(!public.verify("purpose", b"another", &signature));
        assert!(!public.verify("another", b"content", &signature));
    }

    #[test]
    fn one_scheme_is_post_quantum() {
        let schemes = SignatureScheme::ALL.map(|scheme| (scheme.name(), scheme.is_post_quantum()));
        assert_eq!(schemes, [("ed25519", false), ("ml-dsa-65", true)]);
        let known = SignatureScheme::ALL.map(|scheme| SignatureScheme::from_id(scheme.id()));
        assert_eq!(known, SignatureScheme::ALL.map(Some));
    }

    #[test]
    fn a_floor_only_goes_up() {
        let old = Floor { version: 2, post_quantum: false };
        let new = Floor { version: 1, post_quantum: true };
        let both = Floor { version: 2, post_quantum: true };
        assert_eq!((old.raised(new), new.raised(old)), (both, both));
        assert_eq!(both.raised(Floor::default()), both);
    }
}
