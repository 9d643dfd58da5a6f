//! HMAC (RFC 2104), the same for both backends. A handshake makes some 75 values of a few blocks each, so that what
//! stands around the blocks counts. Nothing that depends on a key stays in memory.

use super::HashAlg;
use crate::secret::Digest;
use alloc::boxed::Box;
use sha2::digest::common::BlockSizeUser;
use sha2::{Sha256, Sha384};
use zeroize::{Zeroize, Zeroizing};

/// The longest block of a hash (SHA-384), in bytes.
const BLOCK_LEN_MAX: usize = 128;

/// An HMAC key made ready: several values under one key cost half of it less.
pub(crate) enum MacKey {
    Sha256(Ready<Sha256>),
    /// Apart, being twice as large and seldom used.
    Sha384(Box<Ready<Sha384>>),
}

impl MacKey {
    pub(crate) fn new(alg: HashAlg, key: &[u8]) -> Self {
        match alg {
            HashAlg::Sha256 => Self::Sha256(Ready::new(key)),
            HashAlg::Sha384 => Self::Sha384(Box::new(Ready::new(key))),
        }
    }

    /// The value of a text that is given in parts.
    pub(crate) fn mac(&self, parts: &[&[u8]]) -> Digest {
        match self {
            Self::Sha256(key) => key.mac(parts),
            Self::Sha384(key) => key.mac(parts),
        }
    }
}

/// Both hashes, with the key's block taken in. They wipe themselves.
pub(crate) struct Ready<H> {
    inner: H,
    outer: H,
}

impl<H: sha2::Digest + BlockSizeUser + Clone> Ready<H> {
    fn new(key: &[u8]) -> Self {
        let hashed;
        let key = if key.len() > H::block_size() {
            hashed = finish(H::new().chain_update(key));
            hashed.as_bytes()
        } else {
            key
        };
        let padded = |pad: u8| {
            let mut block = Zeroizing::new([pad; BLOCK_LEN_MAX]);
            for (byte, key) in block.iter_mut().zip(key) {
                *byte ^= *key;
            }
            H::new().chain_update(block.get(..H::block_size()).unwrap_or_default())
        };
        Self { inner: padded(0x36), outer: padded(0x5c) }
    }

    fn mac(&self, parts: &[&[u8]]) -> Digest {
        let mut inner = self.inner.clone();
        for part in parts {
            inner.update(part);
        }
        finish(self.outer.clone().chain_update(finish(inner).as_bytes()))
    }
}

fn finish<H: sha2::Digest>(hash: H) -> Digest {
    let mut value = hash.finalize();
    let digest = Digest::from_slice(&value);
    value.as_mut_slice().zeroize();
    digest
}
