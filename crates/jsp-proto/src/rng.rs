//! Seeded randomness: all of an endpoint's random bytes follow from its seed.

use jsp_crypto::{ErasingRng, Rng};

/// The random bytes of one owner.
pub(crate) struct SeededRng(ErasingRng);

impl SeededRng {
    pub(crate) fn new(seed: [u8; 32]) -> Self {
        Self(ErasingRng::new(seed))
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
        self.0.fill(out);
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
}
