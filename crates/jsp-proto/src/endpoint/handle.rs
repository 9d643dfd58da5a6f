//! The name of a connection, and tables by it.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};

/// The name of a connection inside its endpoint. Never used twice.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ConnectionHandle(u64);

impl ConnectionHandle {
    pub(super) const fn new(number: u64) -> Self {
        Self(number)
    }

    /// A number that is unique in the endpoint, for tables and logs.
    pub const fn id(self) -> u64 {
        self.0
    }
}

/// A table by handle.
pub(super) type ByHandle<T> = HashMap<ConnectionHandle, T, HandleHash>;

/// Hashes handles by one multiplication: the endpoint counts them itself, so nobody can choose
/// them to collide, and every call of the application looks one up.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct HandleHash;

#[derive(Debug)]
pub(super) struct HandleHasher(u64);

impl BuildHasher for HandleHash {
    type Hasher = HandleHasher;

    fn build_hasher(&self) -> HandleHasher {
        HandleHasher(0)
    }
}

impl Hasher for HandleHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        // The odd constant is 2^64 divided by the golden ratio; tables look at both ends.
        let mixed = (self.0 ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = mixed ^ (mixed >> 32);
    }
}
