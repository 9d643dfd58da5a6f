//! GREASE (RFC 8701): noise in every list, so that peers keep ignoring what
//! they do not know.

use crate::rng::{self, Rng};

/// A one-byte identifier of the reserved form `0x?a`.
pub(super) fn id8(rng: &mut dyn Rng) -> u8 {
    let [random] = rng::array::<1>(rng);
    (random & 0xf0) | 0x0a
}

/// A version of the reserved form `0x?a?a?a?a`.
pub(super) fn version(rng: &mut dyn Rng) -> u32 {
    (u32::from_be_bytes(rng::array(rng)) & 0xf0f0_f0f0) | 0x0a0a_0a0a
}

/// An ignorable extension identifier of the reserved form `0x?a?b`.
pub(super) fn extension(rng: &mut dyn Rng) -> u16 {
    (u16::from_be_bytes(rng::array(rng)) & 0xf0f0) | 0x0a0b
}

/// An application protocol name that nobody uses.
pub(super) fn protocol(rng: &mut dyn Rng) -> [u8; 2] {
    [0x0a | (id8(rng) & 0xf0), 0x0a]
}
