//! A small deterministic generator for tests and vectors. Not secure.

use crate::rng::Rng;

/// SplitMix64 (Steele, Lea and Flood, 2014).
pub(crate) struct SeededRng(pub(crate) u64);

impl Rng for SeededRng {
    fn fill(&mut self, out: &mut [u8]) {
        for chunk in out.chunks_mut(8) {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            for (to, from) in chunk.iter_mut().zip((z ^ (z >> 31)).to_be_bytes()) {
                *to = from;
            }
        }
    }
}
