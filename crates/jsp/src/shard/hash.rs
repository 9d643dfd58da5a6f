//! Hashing of names that this program makes itself, or that a peer may choose only inside a window.

use std::hash::{BuildHasher, Hasher};

/// Multiplicative hashing of one integer (Knuth, TAOCP 3, section 6.4): a few cycles instead of the
/// twenty nanoseconds of the standard hasher, which each call would pay several times. Not for keys
/// that an attacker chooses freely.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct IntegerHash;

impl BuildHasher for IntegerHash {
    type Hasher = IntegerHasher;

    fn build_hasher(&self) -> IntegerHasher {
        IntegerHasher(0)
    }
}

#[derive(Debug)]
pub(crate) struct IntegerHasher(u64);

impl Hasher for IntegerHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, value: u64) {
        // 2^64 divided by the golden ratio; the product's upper half reaches the lower bits too,
        // as tables look at both ends.
        let mixed = (self.0 ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 32);
    }
}
