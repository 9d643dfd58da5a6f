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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_rng::SeededRng;

    #[test]
    fn noise_has_the_reserved_forms_and_differs() {
        let mut rng = SeededRng(1);
        let mut seen = alloc::collections::BTreeSet::new();
        let mut names = alloc::collections::BTreeSet::new();
        for _ in 0..100 {
            let (one, version, extension) = (id8(&mut rng), version(&mut rng), extension(&mut rng));
            assert_eq!(one & 0x0f, 0x0a);
            assert_eq!(version & 0x0f0f_0f0f, 0x0a0a_0a0a);
            assert_eq!(extension & 0x0f0f, 0x0a0b);
            let [first, last] = protocol(&mut rng);
            assert_eq!((first & 0x0f, last), (0x0a, 0x0a));
            seen.insert((one, version, extension));
            names.insert(first);
        }
        assert!(seen.len() > 90);
        assert_eq!(names.len(), 16, "all that the form allows");
    }
}
