//! The parts of strict Ed25519 verification that libraries differ in.
//!
//! A key or a point `R` is refused when its encoding is not canonical
//! (`y >= p`, or a zero `x` with the sign bit set) or when its order is small:
//! such keys sign more than one message with one signature.

/// `y` of the points of small order, without the sign bit, little-endian.
/// 0 (order 4), 1 (order 1), p - 1 (order 2) and two of order 8, as in RFC 7748
/// and the list of the `ed25519` literature ("Taming the many EdDSAs", 2020).
const SMALL_ORDER_Y: [[u8; 32]; 5] = [
    [0; 32],
    one(),
    p_minus_1(),
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98,
        0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53,
        0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67,
        0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac,
        0x03, 0x7a,
    ],
];

const fn one() -> [u8; 32] {
    let mut y = [0; 32];
    if let Some(first) = y.first_mut() {
        *first = 1;
    }
    y
}

/// p - 1 = 2^255 - 20.
const fn p_minus_1() -> [u8; 32] {
    let mut y = [0xff; 32];
    if let Some(first) = y.first_mut() {
        *first = 0xec;
    }
    if let Some(last) = y.last_mut() {
        *last = 0x7f;
    }
    y
}

/// Whether a public key and the `R` of a signature may be what they are.
pub(crate) fn are_acceptable(public: &[u8], signature: &[u8]) -> bool {
    let key = <&[u8; 32]>::try_from(public).is_ok_and(is_acceptable_point);
    key && signature.first_chunk::<32>().is_some_and(is_acceptable_point)
}

/// Whether `encoding` may be a public key or the `R` of a signature.
fn is_acceptable_point(encoding: &[u8; 32]) -> bool {
    let mut y = *encoding;
    if let Some(last) = y.last_mut() {
        *last &= 0x7f;
    }
    is_reduced(&y) && !SMALL_ORDER_Y.contains(&y)
}

/// Whether `y < p = 2^255 - 19` (the sign bit being cleared).
fn is_reduced(y: &[u8; 32]) -> bool {
    // Only 19 values are too large: 0xed..=0xff, then 30 times 0xff, then 0x7f.
    let [first, middle @ .., last] = y;
    *first < 0xed || *last != 0x7f || middle.iter().any(|byte| *byte != 0xff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_order_and_unreduced_points_are_refused() {
        for y in SMALL_ORDER_Y {
            let mut negative = y;
            negative[31] |= 0x80;
            assert!(!is_acceptable_point(&y));
            assert!(!is_acceptable_point(&negative));
        }
        for first in 0xed..=0xffu8 {
            let mut y = [0xff; 32];
            y[0] = first;
            assert!(!is_acceptable_point(&y), "{first:x}");
            y[31] = 0x7f;
            assert!(!is_acceptable_point(&y), "{first:x}");
        }
        // Little-endian.
        assert_eq!(
            (p_minus_1()[0], &p_minus_1()[1..31], p_minus_1()[31]),
            (0xec, &[0xff; 30][..], 0x7f)
        );
        let mut largest = p_minus_1();
        largest[0] -= 1;
        assert!(is_acceptable_point(&largest));
    }

    #[test]
    fn key_and_signature_are_both_looked_at() {
        let [mut good, bad] = [p_minus_1(), SMALL_ORDER_Y[0]];
        good[0] -= 1;
        let signature = |point: [u8; 32]| [point, [0; 32]].concat();
        assert!(are_acceptable(&good, &signature(good)));
        assert!(!are_acceptable(&bad, &signature(good)));
        assert!(!are_acceptable(&good, &signature(bad)));
        assert!(!are_acceptable(&good[1..], &signature(good)));
        assert!(!are_acceptable(&good, &good[1..]));
    }
}
