//! Seeded randomness: all of an endpoint's random bytes follow from its seed.

use jsp_crypto::{Prf, Rng};

/// A generator of unpredictable bytes, as good as its seed: HMAC-SHA-256 of a counter.
pub(crate) struct SeededRng {
    prf: Prf,
    counter: u64,
}

impl SeededRng {
    pub(crate) fn new(seed: [u8; 32]) -> Self {
        Self { prf: Prf::new(seed), counter: 0 }
    }

    /// A generator of its own, for an owner of its own.
    pub(crate) fn fork(&mut self) -> Self {
        Self::new(self.array())
    }

    pub(crate) fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        self.fill(&mut out);
        out
    }

    pub(crate) fn u64(&mut self) -> u64 {
        u64::from_be_bytes(self.array())
    }
}

impl Rng for SeededRng {
    fn fill(&mut self, out: &mut [u8]) {
        for chunk in out.chunks_mut(32) {
            let block = self.prf.derive("random bytes", &self.counter.to_be_bytes());
            self.counter = self.counter.wrapping_add(1);
            for (slot, byte) in chunk.iter_mut().zip(block) {
                *slot = byte;
            }
        }
    }
}
