//! What each side brings to a handshake.

use super::VERSION_1;
use super::error::HandshakeError;
use super::security::PeerIdentity;
use crate::identity::{Credential, Fingerprint, Floor, SignatureScheme};
use crate::primitives::Backend;
use crate::suite::Suite;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

/// Feature bits that both hellos carry; the intersection counts. Bits 56 to 63
/// are random in a client's hello and mean nothing.
pub mod features {
    /// Resumption by tickets.
    pub const RESUME: u64 = 1 << 0;
    /// The bits that may hold noise (GREASE).
    pub const GREASE_MASK: u64 = 0xff << 56;
}

/// A key exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kem {
    /// X25519 and ML-KEM-768 together: breaking both is needed. Mandatory.
    X25519MlKem768 = 1,
    /// X25519 alone, for peers too small for ML-KEM; not post-quantum.
    X25519 = 2,
    /// The secret of a ticket and X25519: a resumed connection, until the
    /// in-band exchange brings a hybrid secret in.
    TicketX25519 = 3,
}

impl Kem {
    /// The identifier on the wire.
    pub const fn id(self) -> u8 {
        match self {
            Self::X25519MlKem768 => 1,
            Self::X25519 => 2,
            Self::TicketX25519 => 3,
        }
    }

    /// The key exchange of a wire identifier, if this version knows it.
    pub const fn from_id(id: u8) -> Option<Self> {
        match id {
            1 => Some(Self::X25519MlKem768),
            2 => Some(Self::X25519),
            3 => Some(Self::TicketX25519),
            _ => None,
        }
    }

    /// Whether the exchange by itself keeps recorded traffic secret from a
    /// quantum computer.
    pub const fn is_post_quantum(self) -> bool {
        matches!(self, Self::X25519MlKem768)
    }
}

/// Which key exchanges a side accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KemPolicy {
    /// The hybrid and nothing else.
    #[default]
    Hybrid,
    /// The hybrid with every peer that knows it, else X25519 alone.
    AllowClassical,
    /// X25519 alone: for devices that cannot compute ML-KEM. The peer must
    /// allow it too.
    ClassicalOnly,
}

impl KemPolicy {
    /// The accepted exchanges, strongest first.
    pub const fn kems(self) -> &'static [Kem] {
        match self {
            Self::Hybrid => &[Kem::X25519MlKem768],
            Self::AllowClassical => &[Kem::X25519MlKem768, Kem::X25519],
            Self::ClassicalOnly => &[Kem::X25519],
        }
    }
}

/// Which signatures of servers a client accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SignaturePolicy {
    /// Ed25519 alone.
    #[default]
    Ed25519,
    /// Ed25519 and ML-DSA-65, as the server's identity has it. The hello grows to
    /// three datagrams, so that the longer answer fits what a server may send to
    /// an address that it has no proof of.
    Any,
    /// ML-DSA-65 alone, in the handshake and in a delegation: a server that a
    /// quantum computer could pose as is refused.
    PostQuantum,
}

impl SignaturePolicy {
    /// The accepted schemes.
    pub const fn schemes(self) -> &'static [SignatureScheme] {
        match self {
            Self::Ed25519 => &[SignatureScheme::Ed25519],
            Self::Any => &SignatureScheme::ALL,
            Self::PostQuantum => &[SignatureScheme::MlDsa65],
        }
    }
}

/// A verifier's refusal, with a reason for the local log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerifierRejection(pub &'static str);

impl fmt::Display for VerifierRejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// Decides about a server's identity, for example against a store of known
/// hosts. Called once per connection, after the server has proved that it
/// holds the key. Must not block for long: it runs inside the handshake.
pub trait ServerVerifier: Send + Sync {
    /// Accepts or refuses the server's long-term identity.
    fn verify(&self, fingerprint: &Fingerprint) -> Result<(), VerifierRejection>;

    /// Whether [`verify`](Self::verify) would accept an identity that nobody has
    /// shown yet: that of a ticket which is to be used. One that keeps account of
    /// what it was shown leaves this out.
    fn would_accept(&self, fingerprint: &Fingerprint) -> bool {
        self.verify(fingerprint).is_ok()
    }
}

/// Decides about a client's identity, after the client has proved that it
/// holds the key. Must not block for long.
pub trait ClientVerifier: Send + Sync {
    /// Accepts or refuses the client by its long-term identity and how it was
    /// proved.
    fn verify(&self, client: &PeerIdentity) -> Result<(), VerifierRejection>;
}

/// Which server a client accepts.
pub enum ServerIdentity {
    /// The one with this fingerprint.
    Pinned(Fingerprint),
    /// The one that the verifier accepts, as a rule the one met first.
    TrustOnFirstUse(Box<dyn ServerVerifier>),
    /// Any server at all. Gives no protection against an active attacker;
    /// for tests and benchmarks.
    AnyInsecure,
}

/// A client's side of the negotiation.
pub struct ClientConfig {
    /// The implementation of the primitives.
    pub backend: Backend,
    /// Protocol versions, most wanted first.
    pub versions: Vec<u32>,
    /// Cipher suites, most wanted first; the client's order decides.
    pub suites: Vec<Suite>,
    /// Key exchanges.
    pub kem: KemPolicy,
    /// Signature schemes of servers.
    pub signatures: SignaturePolicy,
    /// Which server is accepted.
    pub expected: ServerIdentity,
    /// Shown to servers that ask for a client identity.
    pub credential: Option<Credential>,
    /// Application protocols, each 1 to 255 bytes; empty for none.
    pub application_protocols: Vec<Vec<u8>>,
    /// Feature bits, see [`features`].
    pub features: u64,
    /// The least this server is known to offer.
    pub floor: Floor,
    /// Refuse a server that cannot do a post-quantum exchange, whatever
    /// [`ClientConfig::kem`] allows.
    pub require_pq: bool,
    /// Refuse to connect without a pinned fingerprint.
    pub require_pin: bool,
}

impl ClientConfig {
    /// The defaults, for a server accepted by `expected`.
    pub fn new(expected: ServerIdentity) -> Self {
        Self {
            backend: Backend::preferred(),
            versions: alloc::vec![VERSION_1],
            suites: Suite::preferred(),
            kem: KemPolicy::Hybrid,
            signatures: SignaturePolicy::default(),
            expected,
            credential: None,
            application_protocols: Vec::new(),
            features: features::RESUME,
            floor: Floor::default(),
            require_pq: false,
            require_pin: false,
        }
    }

    /// What the configuration itself rules out.
    pub(super) fn check(&self) -> Result<(), HandshakeError> {
        if self.require_pin && self.pin().is_none() {
            return Err(HandshakeError::PinRequired);
        }
        let has_hybrid = self.kem.kems().contains(&Kem::X25519MlKem768);
        if self.require_pq && !has_hybrid {
            return Err(HandshakeError::PostQuantumRequired);
        }
        Ok(())
    }

    /// The pinned fingerprint, which also goes into the Initial keys.
    pub fn pin(&self) -> Option<&Fingerprint> {
        match &self.expected {
            ServerIdentity::Pinned(fingerprint) => Some(fingerprint),
            ServerIdentity::TrustOnFirstUse(_) | ServerIdentity::AnyInsecure => None,
        }
    }
}

/// Whether a server wants to know its clients.
pub enum ClientAuth {
    /// Clients stay anonymous.
    None,
    /// A client may show an identity; the verifier decides about it.
    Optional(Box<dyn ClientVerifier>),
    /// Every client must show an identity that the verifier accepts.
    Required(Box<dyn ClientVerifier>),
}

/// A server's side of the negotiation.
pub struct ServerConfig {
    /// The implementation of the primitives.
    pub backend: Backend,
    /// Protocol versions spoken.
    pub versions: Vec<u32>,
    /// Cipher suites accepted, in any order: the client's order decides.
    pub suites: Vec<Suite>,
    /// Key exchanges.
    pub kem: KemPolicy,
    /// What the server proves itself with.
    pub credential: Credential,
    /// Whether clients must show an identity.
    pub client_auth: ClientAuth,
    /// Application protocols, most wanted first; when there are any, a client
    /// must offer one of them.
    pub application_protocols: Vec<Vec<u8>>,
    /// Feature bits, see [`features`].
    pub features: u64,
}

impl ServerConfig {
    /// The defaults, for a server that proves itself with `credential`.
    pub fn new(credential: impl Into<Credential>) -> Self {
        Self {
            backend: Backend::preferred(),
            versions: alloc::vec![VERSION_1],
            suites: Suite::preferred(),
            kem: KemPolicy::Hybrid,
            credential: credential.into(),
            client_auth: ClientAuth::None,
            application_protocols: Vec::new(),
            features: features::RESUME,
        }
    }

    /// The fingerprint that clients may pin, which then also goes into the
    /// Initial keys.
    pub fn fingerprint(&self) -> Fingerprint {
        self.credential.fingerprint()
    }
}
