//! Hash-sized secret values, wiped when dropped.
//!
//! None of these types has `Debug` or `Display`, and none compares with `==`.

use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// 32 secret bytes: an X25519 or ML-KEM shared secret, a seed.
pub(crate) type Secret32 = Zeroizing<[u8; 32]>;

/// The longest hash output in use (SHA-384), in bytes.
pub(crate) const MAX_HASH_LEN: usize = 48;

/// The output of a hash or an HMAC: a transcript hash, or a traffic secret.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub(crate) struct Digest {
    bytes: [u8; MAX_HASH_LEN],
    len: u8,
}

impl Digest {
    /// Takes the first 48 bytes of `bytes` at most.
    pub(crate) fn from_slice(bytes: &[u8]) -> Self {
        let len = bytes.len().min(MAX_HASH_LEN);
        let mut out = [0; MAX_HASH_LEN];
        for (to, from) in out.iter_mut().zip(bytes) {
            *to = *from;
        }
        Self { bytes: out, len: len as u8 }
    }

    /// `len` zero bytes, at most 48.
    pub(crate) fn zero(len: usize) -> Self {
        Self { bytes: [0; MAX_HASH_LEN], len: len.min(MAX_HASH_LEN) as u8 }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or(&[])
    }

    pub(crate) fn as_mut_bytes(&mut self) -> &mut [u8] {
        self.bytes.get_mut(..usize::from(self.len)).unwrap_or(&mut [])
    }

    /// The first `N` bytes; zero-filled should the digest be shorter, which
    /// no caller asks for (`N` is at most 32, the shortest digest).
    pub(crate) fn prefix<const N: usize>(&self) -> [u8; N] {
        let mut out = [0; N];
        for (to, from) in out.iter_mut().zip(self.as_bytes()) {
            *to = *from;
        }
        out
    }
}

/// Whether two byte strings are equal, in a time that depends only on their lengths.
pub(crate) fn constant_time_eq(a: &[u8], b: &[u8]) -> bool {
    use subtle::ConstantTimeEq;
    a.ct_eq(b).into()
}
