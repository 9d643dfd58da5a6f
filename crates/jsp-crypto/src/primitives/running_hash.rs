//! A hash that goes on, the same for both backends: it lives as long as a handshake, and is a plain value.

use super::HashAlg;
use crate::secret::Digest;
use alloc::boxed::Box;
use sha2::{Digest as _, Sha256, Sha384};

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
