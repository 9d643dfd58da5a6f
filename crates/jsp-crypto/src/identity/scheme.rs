//! Signature schemes of identities.

use core::fmt;

/// What an identity signs with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SignatureScheme {
    /// Ed25519 (RFC 8032): short keys and signatures; falls to a quantum computer.
    Ed25519,
    /// ML-DSA-65 (FIPS 204), pure, with an empty context: withstands a quantum
    /// computer, for keys of 1952 and signatures of 3309 bytes.
    MlDsa65,
}

impl SignatureScheme {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Ed25519, Self::MlDsa65];

    /// The identifier on the wire, in offers and before keys.
    pub const fn id(self) -> u8 {
        match self {
            Self::Ed25519 => 1,
            Self::MlDsa65 => 2,
        }
    }

    /// The scheme of a wire identifier, if this version knows it.
    pub const fn from_id(id: u8) -> Option<Self> {
        match id {
            1 => Some(Self::Ed25519),
            2 => Some(Self::MlDsa65),
            _ => None,
        }
    }

    /// Length of a public key, in bytes.
    pub const fn key_len(self) -> usize {
        match self {
            Self::Ed25519 => 32,
            Self::MlDsa65 => 1952,
        }
    }

    /// Length of a signature, in bytes.
    pub const fn signature_len(self) -> usize {
        match self {
            Self::Ed25519 => 64,
            Self::MlDsa65 => 3309,
        }
    }

    /// Whether a quantum computer is held to forge no signature.
    pub const fn is_post_quantum(self) -> bool {
        matches!(self, Self::MlDsa65)
    }

    /// The name in files and on command lines.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ed25519 => "ed25519",
            Self::MlDsa65 => "ml-dsa-65",
        }
    }
}

impl fmt::Display for SignatureScheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
