//! The encapsulation-key check of FIPS 203, section 7.2, the same for all backends.

use super::EK_LEN;

/// The modulus of ML-KEM (FIPS 203, section 2.4.1).
const Q: u16 = 3329;
/// Bytes of the key that hold coefficients: 3 polynomials of 256 coefficients
/// of 12 bits. The last 32 bytes are a seed, any value of which is right.
const COEFFICIENT_BYTES: usize = 1152;

/// Whether `ek` has the exact length and only reduced coefficients.
pub(crate) fn is_valid_ek(ek: &[u8]) -> bool {
    if ek.len() != EK_LEN {
        return false;
    }
    let Some(coefficients) = ek.get(..COEFFICIENT_BYTES) else { return false };
    // Two coefficients of 12 bits lie in three bytes, little-endian.
    coefficients.chunks_exact(3).all(|chunk| match *chunk {
        [a, b, c] => {
            let first = u16::from(a) | (u16::from(b & 0x0f) << 8);
            let second = u16::from(b >> 4) | (u16::from(c) << 4);
            first < Q && second < Q
        }
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_modulus() {
        let good = [0u8; EK_LEN];
        assert!(is_valid_ek(&good));
        assert!(!is_valid_ek(&good[1..]));
        assert!(!is_valid_ek(&[0u8; EK_LEN + 1]));
        for index in 0..768usize {
            for (value, valid) in [(3328u16, true), (3329, false), (4095, false)] {
                let mut ek = good;
                let at = index / 2 * 3;
                if index % 2 == 0 {
                    ek[at] = (value & 0xff) as u8;
                    ek[at + 1] = (value >> 8) as u8;
                } else {
                    ek[at + 1] = ((value & 0x0f) << 4) as u8;
                    ek[at + 2] = (value >> 4) as u8;
                }
                assert_eq!(is_valid_ek(&ek), valid, "coefficient {index} = {value}");
            }
        }
    }
}
