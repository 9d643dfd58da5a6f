//! Why a handshake failed.

use crate::identity::{DelegationError, Fingerprint};
use core::fmt;

/// Close codes of this crate.
pub mod close {
    /// The one code a peer sees for every handshake failure, so that it learns
    /// nothing about the check that stopped it.
    pub const HANDSHAKE_FAILED: u64 = 0x10;
}

/// Why a handshake message was refused, in detail, for this side only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HandshakeError {
    /// The named message is malformed, too long or has a missing part.
    Malformed(&'static str),
    /// The message does not belong to this state or level.
    Unexpected,
    /// The same server hello came before; nothing happened.
    Duplicate,
    /// Five server hellos for one client hello were tried already.
    TooManyCandidates,
    /// The peer uses a critical extension that this version does not know.
    UnknownExtension(u16),
    /// No protocol version in common. One side needs an update.
    NoCommonVersion,
    /// No cipher suite in common. Compare both configurations.
    NoCommonSuite,
    /// No key exchange in common: one side insists on the post-quantum hybrid.
    NoCommonKem,
    /// No signature scheme in common.
    NoCommonSignature,
    /// No application protocol in common. Compare both configurations.
    NoCommonProtocol,
    /// The server chose something that was not offered: the named item.
    NotOffered(&'static str),
    /// The offer or the choice is weaker than it must be: the named check.
    Downgrade(&'static str),
    /// A public key of the key exchange is invalid.
    KeyShare,
    /// The signature over the transcript is wrong: the peer has not the key it
    /// shows, or somebody changed a message.
    Signature,
    /// The Finished value is wrong: somebody changed a message.
    Finished,
    /// The server is another than the one pinned.
    PinMismatch {
        /// What the configuration expects.
        expected: Fingerprint,
        /// What the server proved to be.
        found: Fingerprint,
    },
    /// The application's verifier refused the peer's identity.
    IdentityRejected(&'static str),
    /// The peer's online key is not properly delegated.
    Delegation(DelegationError),
    /// The server requires a client identity and the client has none.
    ClientIdentityRequired,
    /// This side insists on a post-quantum exchange, and the server, or this
    /// side's own configuration, has none.
    PostQuantumRequired,
    /// This side insists on a pinned server and has no pin.
    PinRequired,
    /// The ticket's application protocol is not the one that the server has
    /// chosen, and early data were sent under it.
    OtherProtocol,
    /// A local signer gave no signature. Check the key store.
    Signer,
    /// The local configuration cannot be encoded: the named item is too long or empty.
    Config(&'static str),
    /// The cryptographic library failed.
    Backend,
    /// An earlier error has ended this handshake.
    Failed,
}

impl HandshakeError {
    /// The code to close the connection with: one and the same for all failures.
    pub fn close_code(&self) -> u64 {
        // spec: HS-45
        close::HANDSHAKE_FAILED
    }
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(what) => write!(f, "the peer's {what} is malformed"),
            Self::Unexpected => f.write_str("the message does not belong here"),
            Self::Duplicate => f.write_str("this server hello was seen before"),
            Self::TooManyCandidates => f.write_str("too many different server hellos"),
            Self::UnknownExtension(id) => {
                write!(
                    f,
                    "the peer uses the unknown critical extension {id:#06x}; update this side"
                )
            }
            Self::NoCommonVersion => f.write_str("no protocol version in common; update one side"),
            Self::NoCommonSuite => {
                f.write_str("no cipher suite in common; compare the configurations")
            }
            Self::NoCommonKem => f.write_str(
                "no key exchange in common; one side insists on the post-quantum hybrid",
            ),
            Self::NoCommonSignature => f.write_str("no signature scheme in common"),
            Self::NoCommonProtocol => {
                f.write_str("no application protocol in common; compare the configurations")
            }
            Self::NotOffered(what) => write!(f, "the server chose a {what} that was not offered"),
            Self::Downgrade(what) => write!(f, "somebody weakens this connection: {what}"),
            Self::KeyShare => f.write_str("a public key of the key exchange is invalid"),
            Self::Signature => f.write_str("the peer's signature does not fit the conversation"),
            Self::Finished => f.write_str("the peer's Finished does not fit the conversation"),
            Self::PinMismatch { expected, found } => {
                write!(f, "the server is {found}, but {expected} is expected")
            }
            Self::IdentityRejected(why) => write!(f, "the peer's identity was refused: {why}"),
            Self::Delegation(error) => write!(f, "the peer's online key: {error}"),
            Self::ClientIdentityRequired => {
                f.write_str("the server wants a client identity; configure one")
            }
            Self::PostQuantumRequired => f.write_str(
                "a post-quantum key exchange is required, and one side does not know or allow it",
            ),
            Self::PinRequired => {
                f.write_str("a pinned fingerprint is required; give the server's fingerprint")
            }
            Self::OtherProtocol => f.write_str(
                "the server chose another application protocol than the one that early data were \
                 meant for; connect again",
            ),
            Self::Signer => f.write_str("the local signer gave no signature; check the key store"),
            Self::Config(what) => write!(f, "the configuration cannot be encoded: {what}"),
            Self::Backend => f.write_str("the cryptographic library failed"),
            Self::Failed => f.write_str("the handshake has failed before"),
        }
    }
}

impl core::error::Error for HandshakeError {}

impl From<DelegationError> for HandshakeError {
    fn from(error: DelegationError) -> Self {
        Self::Delegation(error)
    }
}
