//! Randomness: where it comes from, and what follows from a seed.

use crate::primitives::HashAlg;
use zeroize::Zeroizing;

/// A source of cryptographically strong random bytes.
///
/// A program passes [`SystemRng`]; a simulation passes a seeded generator, and
/// then repeats exactly (with the portable backend).
pub trait Rng {
    /// Fills the whole of `out`.
    fn fill(&mut self, out: &mut [u8]);
}

/// A generator whose bytes follow from a seed and are as unpredictable as it is.
///
/// SHA-256 of a key and a counter gives 32 bytes, from a counter of 1 on; that of 0 is the key of the next draw
/// ("fast key erasure": D. J. Bernstein, "Fast-key-erasure random-number generators", 2017). What was drawn cannot be
/// drawn from what is left: who takes the memory later finds no secret of the past in its generators.
pub struct ErasingRng {
    key: Zeroizing<[u8; 32]>,
}

impl ErasingRng {
    /// `seed` must be uniformly random.
    pub fn new(seed: [u8; 32]) -> Self {
        Self { key: Zeroizing::new(seed) }
    }

    /// Key and counter are always as long as each other's, so that no two inputs of the hash are the same.
    fn block(&self, counter: u64) -> Zeroizing<[u8; 32]> {
        let block = HashAlg::Sha256.hash(&[self.key.as_slice(), &counter.to_be_bytes()]);
        Zeroizing::new(block.prefix())
    }
}

impl Rng for ErasingRng {
    fn fill(&mut self, out: &mut [u8]) {
        for (counter, chunk) in (1..).zip(out.chunks_mut(32)) {
            let block = self.block(counter);
            for (slot, byte) in chunk.iter_mut().zip(block.as_slice()) {
                *slot = *byte;
            }
        }
        // The key that made them is wiped.
        self.key = self.block(0);
    }
}

/// The operating system's generator.
#[cfg(feature = "system-rng")]
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemRng;

#[cfg(feature = "system-rng")]
impl Rng for SystemRng {
    /// # Panics
    /// When the system has no working generator: going on would mean
    /// guessable keys, so there is nothing better to do.
    #[allow(clippy::panic, reason = "as said above")]
    fn fill(&mut self, out: &mut [u8]) {
        if let Err(error) = getrandom::fill(out) {
            panic!("the system's random generator failed ({error}); no key can be made safely");
        }
    }
}

/// `N` random bytes.
pub(crate) fn array<const N: usize>(rng: &mut dyn Rng) -> [u8; N] {
    let mut out = [0; N];
    rng.fill(&mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draw_is_hashes_of_key_and_counter() {
        let mut rng = ErasingRng::new([7; 32]);
        let drawn: [u8; 70] = array(&mut rng);
        let expected = |counter: u8| {
            let text = [[7; 32].as_slice(), &[0; 7], &[counter]].concat();
            let hash: [u8; 32] = HashAlg::Sha256.hash(&[&text]).prefix();
            hash
        };
        assert_eq!(drawn[..32], expected(1));
        assert_eq!(drawn[32..64], expected(2));
        assert_eq!(drawn[64..], expected(3)[..6]);
        assert_eq!(*rng.key, expected(0));
    }

    // The key before a draw gives it, and no key after it does, whatever is asked of it.
    #[test]
    fn what_was_drawn_cannot_be_drawn_from_what_is_left() {
        let mut rng = ErasingRng::new([1; 32]);
        for _ in 0..10 {
            let before = ErasingRng::new(*rng.key);
            let drawn: [u8; 32] = array(&mut rng);
            assert_eq!(*before.block(1), drawn);
            for counter in 0..100 {
                assert_ne!(*rng.block(counter), drawn);
            }
        }
    }
}
