//! A keyed pseudo-random function for the transport's own uses.

use crate::primitives::{HashAlg, MacKey};
use zeroize::Zeroizing;

/// HMAC-SHA-256 under one secret key: for connection ids, table seeds and
/// anything else that must look random to those without the key.
#[derive(Clone)]
pub struct Prf {
    key: Zeroizing<[u8; 32]>,
}

impl Prf {
    /// `key` must be uniformly random.
    pub fn new(key: [u8; 32]) -> Self {
        Self { key: Zeroizing::new(key) }
    }

    /// The function's value. `label` separates uses; neither label nor input
    /// may be confused with another's, as their lengths are hashed too.
    pub fn derive(&self, label: &str, input: &[u8]) -> [u8; 32] {
        let label_len = u64::try_from(label.len()).unwrap_or(u64::MAX).to_be_bytes();
        let parts: [&[u8]; 4] = [b"jsp1 prf", &label_len, label.as_bytes(), input];
        MacKey::new(HashAlg::Sha256, self.key.as_slice()).mac(&parts).prefix()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_inputs_do_not_run_together() {
        let prf = Prf::new([7; 32]);
        assert_ne!(prf.derive("ab", b"c"), prf.derive("a", b"bc"));
        assert_ne!(prf.derive("a", b"x"), Prf::new([8; 32]).derive("a", b"x"));
        assert_eq!(prf.derive("a", b"x"), prf.clone().derive("a", b"x"));
    }
}
