//! Seeded randomness: all of an endpoint's random bytes follow from its seed.

use jsp_crypto::{Prf, Rng, Zeroizing};

/// A generator of unpredictable bytes, as good as its seed: HMAC-SHA-256 of a counter, under a key that
/// each draw replaces (fast key erasure). What was drawn cannot be drawn from what is left: who takes the
/// memory of an endpoint later has the secrets of its past in none of its generators.
pub(crate) struct SeededRng {
    prf: Prf,
}

impl SeededRng {
    pub(crate) fn new(seed: [u8; 32]) -> Self {
        Self { prf: Prf::new(seed) }
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
        for (number, chunk) in (0u64..).zip(out.chunks_mut(32)) {
            let block = Zeroizing::new(self.prf.derive("random bytes", &number.to_be_bytes()));
            for (slot, byte) in chunk.iter_mut().zip(*block) {
                *slot = byte;
            }
        }
        // The key that made them is wiped.
        self.prf = Prf::new(self.prf.derive("next key", &[]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_follow_from_the_seed_and_from_how_much_was_drawn() {
        let draws = |seed| {
            let mut rng = SeededRng::new([seed; 32]);
            let (long, short): ([u8; 70], [u8; 5]) = (rng.array(), rng.array());
            (long, short, rng.fork().u64(), rng.u64())
        };
        assert_eq!(draws(1), draws(1));
        assert_ne!(draws(1), draws(2));
        let (long, ..) = draws(1);
        assert_ne!(long[..32], long[32..64], "each block is another");
        let mut rng = SeededRng::new([1; 32]);
        let once: [u8; 32] = rng.array();
        assert_ne!(once, rng.array());
    }

    // The key before a draw gives it, and no key after it does, whatever is asked of it.
    #[test]
    fn what_was_drawn_cannot_be_drawn_from_what_is_left() {
        let mut rng = SeededRng::new([1; 32]);
        let at =
            |rng: &SeededRng, number: u64| rng.prf.derive("random bytes", &number.to_be_bytes());
        for _ in 0..10 {
            let again = SeededRng { prf: rng.prf.clone() };
            let drawn: [u8; 32] = rng.array();
            assert_eq!(at(&again, 0), drawn);
            for number in 0..100 {
                assert_ne!(at(&rng, number), drawn);
            }
        }
    }
}
