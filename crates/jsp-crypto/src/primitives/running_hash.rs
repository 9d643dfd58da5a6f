//! Hashing, the same for both backends, by plain values: no context of a library has to be made for a short text.
//! One goes on as long as a handshake lives.

use super::HashAlg;
use crate::secret::Digest;
use alloc::boxed::Box;
use sha2::{Digest as _, Sha256, Sha384};

impl HashAlg {
    /// The hash of all parts together.
    pub(crate) fn hash(self, parts: &[&[u8]]) -> Digest {
        match self {
            Self::Sha256 => hash_parts::<Sha256>(parts),
            Self::Sha384 => hash_parts::<Sha384>(parts),
        }
    }
}

fn hash_parts<H: sha2::Digest>(parts: &[&[u8]]) -> Digest {
    let mut hash = H::new();
    for part in parts {
        hash.update(part);
    }
    Digest::from_slice(&hash.finalize())
}

/// A hash of what has been added so far. Wiped when dropped.
#[derive(Clone)]
pub(crate) enum RunningHash {
    Sha256(Sha256),
    /// Apart, being twice as large and seldom used.
    Sha384(Box<Sha384>),
}

impl RunningHash {
    pub(crate) fn new(alg: HashAlg) -> Self {
        match alg {
            HashAlg::Sha256 => Self::Sha256(Sha256::new()),
            HashAlg::Sha384 => Self::Sha384(Box::default()),
        }
    }

    pub(crate) fn add(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hash) => hash.update(bytes),
            Self::Sha384(hash) => hash.update(bytes),
        }
    }

    /// The hash so far; it goes on.
    pub(crate) fn digest(&self) -> Digest {
        match self {
            Self::Sha256(hash) => Digest::from_slice(&hash.clone().finalize()),
            Self::Sha384(hash) => Digest::from_slice(&Sha384::clone(hash).finalize()),
        }
    }
}
