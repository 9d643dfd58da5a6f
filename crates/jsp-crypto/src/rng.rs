//! Randomness from outside.

/// A source of cryptographically strong random bytes.
///
/// A program passes [`SystemRng`]; a simulation passes a seeded generator, and
/// then repeats exactly (with the portable backend).
pub trait Rng {
    /// Fills the whole of `out`.
    fn fill(&mut self, out: &mut [u8]);
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
