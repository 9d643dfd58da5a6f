//! The simulator's own randomness: one 64-bit seed, independent streams by name.

use std::time::Duration;

/// xoshiro256++ (Blackman and Vigna, 2019), seeded through SplitMix64. Fast, small, and the same on
/// every platform; nothing secret hangs on it.
#[derive(Clone, Debug)]
pub struct Random {
    state: [u64; 4],
}

impl Random {
    /// The generator of a seed.
    pub fn new(seed: u64) -> Self {
        let mut mixer = seed;
        let state = std::array::from_fn(|_| {
            mixer = mixer.wrapping_add(GOLDEN);
            mix(mixer)
        });
        Self { state }
    }

    /// The generator of a part of a world. Parts do not disturb each other: a draw more in one
    /// leaves the others as they were.
    pub fn part(seed: u64, name: &str, index: u64) -> Self {
        let hash = name
            .bytes()
            .fold(FNV_OFFSET, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME));
        Self::new(mix(seed ^ hash).wrapping_add(mix(index.wrapping_add(GOLDEN))))
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        let [a, b, c, d] = self.state;
        let out = a.wrapping_add(d).rotate_left(23).wrapping_add(a);
        let (c, d) = (c ^ a, d ^ b);
        self.state = [a ^ d, b ^ c, c ^ (b << 17), d.rotate_left(45)];
        out
    }

    /// A number from 0 to `end - 1`; 0 when `end` is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(end)) >> 64) as u64
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// A number from `low` to `high` whose logarithm is evenly spread: small ones as often as
    /// large ones. `low` must be at least 1.
    pub fn log_between(&mut self, low: u64, high: u64) -> u64 {
        let (from, to) = ((low as f64).ln(), ((high + 1) as f64).ln());
        ((from + (to - from) * self.fraction()).exp() as u64).clamp(low, high)
    }

    /// A fraction from 0 to just below 1.
    pub fn fraction(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// True with this probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.fraction() < probability
    }

    /// One of several.
    ///
    /// # Panics
    /// When there is none.
    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len() as u64) as usize]
    }

    /// A time from zero to `most`, evenly spread.
    pub fn duration_to(&mut self, most: Duration) -> Duration {
        Duration::from_nanos(self.below(nanos(most).saturating_add(1)))
    }

    /// A time from `low` to `high`, evenly spread.
    pub fn duration_between(&mut self, low: Duration, high: Duration) -> Duration {
        low + self.duration_to(high.saturating_sub(low))
    }

    /// A time from the exponential distribution with this mean, at most a hundred times as long.
    pub fn exponential(&mut self, mean: Duration) -> Duration {
        let factor = -(1.0 - self.fraction()).ln();
        mean.mul_f64(factor.min(100.0))
    }

    /// 32 bytes, for whoever wants a seed.
    pub fn seed_bytes(&mut self) -> [u8; 32] {
        let mut out = [0; 32];
        for chunk in out.chunks_exact_mut(8) {
            chunk.copy_from_slice(&self.next_u64().to_le_bytes());
        }
        out
    }
}

/// The increment of SplitMix64: 2^64 divided by the golden ratio.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
/// Start value of the 64-bit FNV-1a hash.
const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
/// Multiplier of the 64-bit FNV-1a hash.
const FNV_PRIME: u64 = 0x0100_0000_01b3;

/// The output step of SplitMix64: every bit of the input reaches every bit of the answer.
pub(crate) const fn mix(value: u64) -> u64 {
    let z = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn nanos(duration: Duration) -> u64 {
    jsp_wire::time::saturating_nanos(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers_and_parts_differ() {
        let draw = |mut random: Random| [random.next_u64(), random.next_u64(), random.next_u64()];
        assert_eq!(draw(Random::new(7)), draw(Random::new(7)));
        assert_ne!(draw(Random::new(7)), draw(Random::new(8)));
        assert_ne!(draw(Random::part(7, "link", 0)), draw(Random::part(7, "link", 1)));
        assert_ne!(draw(Random::part(7, "link", 0)), draw(Random::part(7, "app", 0)));
    }

    #[test]
    fn ranges_hold_and_means_are_near() {
        let mut random = Random::new(3);
        let mut sum = 0.0;
        for _ in 0..20_000 {
            assert!(random.below(10) < 10);
            assert!((5..=9).contains(&random.between(5, 9)));
            assert!((1..=1_000_000).contains(&random.log_between(1, 1_000_000)));
            sum += random.exponential(Duration::from_millis(30)).as_secs_f64();
        }
        assert!((sum / 20_000.0 - 0.030).abs() < 0.001, "{sum}");
        assert_eq!(random.below(0), 0);
    }
}
