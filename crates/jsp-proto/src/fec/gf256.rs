//! The field GF(2^8) with the polynomial `x^8 + x^4 + x^3 + x^2 + 1` (RFC 8681, section 3.7.1), and
//! sums of multiples of packets over it.
//!
//! There is no table of products and no `unsafe`: a sum is kept as eight planes, one for each bit of
//! the coefficients, so that adding a multiple is a few exclusive ors of whole packets, which the
//! compiler turns into vector instructions on every target; the planes are joined once, by Horner's
//! rule.

/// The field's polynomial without its highest term.
const POLYNOMIAL: u8 = 0x1d;

/// Bytes that are worked on at once when single multiples are added: a vector register of the smallest
/// machines that have them.
const LANE: usize = 16;

/// `value` times x.
const fn times_x(value: u8) -> u8 {
    let carry = if value & 0x80 == 0 { 0 } else { POLYNOMIAL };
    (value << 1) ^ carry
}

/// The product of two elements.
pub(super) const fn mul(a: u8, b: u8) -> u8 {
    let (mut product, mut power, mut rest) = (0, a, b);
    while rest != 0 {
        if rest & 1 == 1 {
            product ^= power;
        }
        power = times_x(power);
        rest >>= 1;
    }
    product
}

/// The element whose product with `value` is 1; 0 for 0.
pub(super) const fn inverse(value: u8) -> u8 {
    // value^254, as the group has 255 elements.
    let (mut power, mut product, mut n) = (value, 1, 1);
    while n < 8 {
        power = mul(power, power);
        product = mul(product, power);
        n += 1;
    }
    product
}

/// Inverses of the elements with the highest bit set.
#[allow(clippy::indexing_slicing, reason = "out of range would fail to compile")]
const INVERSES: [u8; 128] = {
    let mut table = [0; 128];
    let mut n = 0u8;
    while n < 128 {
        table[n as usize] = inverse(n | 0x80);
        n += 1;
    }
    table
};

/// The coefficient of the packet `source` in the repair symbol that the packet `repair` holds.
///
/// These are elements of a Cauchy matrix, `1 / (x + y)` with the x of repairs and the y of sources in
/// different halves of the field: every square part of it can be inverted, so that as many repairs as
/// there are losses always suffice while the repairs have the same members. No coefficient is sent.
// spec: FEC-3
pub(super) fn coefficient(repair: u64, source: u64) -> u8 {
    let low = (repair ^ source) & 0x7f;
    INVERSES.get(low as usize).copied().unwrap_or(1)
}

/// Adds `factor` times `source` to `sum`, as far as both reach.
pub(super) fn add_multiple(sum: &mut [u8], factor: u8, source: &[u8]) {
    if factor == 1 {
        return add(sum, source);
    }
    let masks: [u8; 8] = core::array::from_fn(|bit| 0u8.wrapping_sub((factor >> bit) & 1));
    let (lanes, rest) = sum.as_chunks_mut::<LANE>();
    let (sources, source_rest) = source.as_chunks::<LANE>();
    let whole = lanes.len().min(sources.len());
    for (lane, source) in lanes.iter_mut().zip(sources) {
        add_lane(lane, &masks, source);
    }
    // What is left of the shorter one, lane by lane.
    let sum_tail = lanes.get_mut(whole..).unwrap_or_default().as_flattened_mut();
    let source_tail = sources.get(whole..).unwrap_or_default().as_flattened();
    let sums = sum_tail.iter_mut().chain(rest.iter_mut());
    let sources = source_tail.iter().chain(source_rest);
    for (sum, source) in sums.zip(sources) {
        *sum ^= mul(*source, factor);
    }
}

fn add_lane(sum: &mut [u8; LANE], masks: &[u8; 8], source: &[u8; LANE]) {
    let mut power = *source;
    for mask in masks {
        for (sum, power) in sum.iter_mut().zip(&power) {
            *sum ^= power & mask;
        }
        double(&mut power);
    }
}

/// Multiplies every byte by x.
fn double(bytes: &mut [u8]) {
    for byte in bytes {
        let carry = 0u8.wrapping_sub(*byte >> 7);
        *byte = (*byte << 1) ^ (carry & POLYNOMIAL);
    }
}

fn add(sum: &mut [u8], source: &[u8]) {
    for (sum, source) in sum.iter_mut().zip(source) {
        *sum ^= source;
    }
}

/// Multiplies every byte by `factor`.
pub(super) fn scale(bytes: &mut [u8], factor: u8) {
    if factor == 1 {
        return;
    }
    let (lanes, rest) = bytes.as_chunks_mut::<LANE>();
    let masks: [u8; 8] = core::array::from_fn(|bit| 0u8.wrapping_sub((factor >> bit) & 1));
    for lane in lanes {
        let source = *lane;
        *lane = [0; LANE];
        add_lane(lane, &masks, &source);
    }
    for byte in rest {
        *byte = mul(*byte, factor);
    }
}

/// A sum of multiples of packets, under construction: one plane for each bit of the coefficients.
#[derive(Debug, Default)]
pub(super) struct Sum {
    planes: [Vec<u8>; 8],
}

impl Sum {
    /// Starts a sum of `len` bytes at zero. The room of earlier sums is used again.
    pub(super) fn reset(&mut self, len: usize) {
        for plane in &mut self.planes {
            plane.clear();
            plane.resize(len, 0);
        }
    }

    /// Adds `factor` times `source`; what reaches beyond the sum is left out.
    pub(super) fn add(&mut self, factor: u8, source: &[u8]) {
        for (bit, plane) in self.planes.iter_mut().enumerate() {
            if factor >> bit & 1 == 1 {
                add(plane, source);
            }
        }
    }

    /// Adds the sum to `out`.
    pub(super) fn join(&mut self, out: &mut [u8]) {
        let [plane0, plane1, plane2, plane3, plane4, plane5, plane6, plane7] = &mut self.planes;
        let lower = [&*plane6, plane5, plane4, plane3, plane2, plane1, plane0];
        for plane in lower {
            double(plane7);
            add(plane7, plane);
        }
        add(out, plane7);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Products by logarithms, as textbooks have them: another way to the same field.
    fn by_logarithms(a: u8, b: u8) -> u8 {
        if a == 0 || b == 0 {
            return 0;
        }
        let mut powers = [0u8; 255];
        let mut value = 1u16;
        for power in &mut powers {
            *power = value as u8;
            value <<= 1;
            value ^= if value & 0x100 == 0 { 0 } else { 0x11d };
        }
        let log = |x: u8| powers.iter().position(|power| *power == x).unwrap();
        powers[(log(a) + log(b)) % 255]
    }

    #[test]
    fn products_are_those_of_the_field() {
        for a in (0..=255).step_by(5) {
            for b in 0..=255 {
                assert_eq!(mul(a, b), by_logarithms(a, b), "{a} {b}");
            }
        }
        for value in 1..=255 {
            assert_eq!(mul(value, inverse(value)), 1, "{value}");
        }
        assert_eq!(inverse(0), 0);
    }

    #[test]
    /// spec-test: FEC-3
    fn coefficients_form_a_cauchy_matrix() {
        for repair in [0u64, 1, 77, 127, 128, 1 << 40, (1 << 62) - 1] {
            for source in [0u64, 5, 126, 127, 128, (1 << 62) - 1] {
                let (x, y) = (0x80 | (repair & 0x7f) as u8, (source & 0x7f) as u8);
                assert_eq!(mul(coefficient(repair, source), x ^ y), 1);
            }
        }
        // Known values, so that another implementation can be compared.
        assert_eq!([coefficient(0, 0), coefficient(1, 0), coefficient(130, 7)], [27, 84, 204]);
    }

    proptest! {
        #[test]
        fn both_ways_of_adding_agree_with_the_definition(
            terms in proptest::collection::vec(
                (any::<u8>(), proptest::collection::vec(any::<u8>(), 0..300)),
                0..12,
            ),
            len in 0usize..300,
        ) {
            let mut expected = vec![0u8; len];
            let mut single = vec![0u8; len];
            let mut sum = Sum::default();
            sum.reset(len);
            for (factor, source) in &terms {
                for (n, byte) in source.iter().enumerate() {
                    if let Some(slot) = expected.get_mut(n) {
                        *slot ^= by_logarithms(*factor, *byte);
                    }
                }
                sum.add(*factor, source);
                add_multiple(&mut single, *factor, source);
            }
            let mut joined = vec![0u8; len];
            sum.join(&mut joined);
            prop_assert_eq!(&joined, &expected);
            prop_assert_eq!(single, expected);
        }

        #[test]
        fn scaling_and_its_inverse_cancel(
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
            factor in 1u8..,
        ) {
            let mut scaled = bytes.clone();
            scale(&mut scaled, factor);
            let one_by_one: Vec<u8> = bytes.iter().map(|byte| mul(*byte, factor)).collect();
            prop_assert_eq!(&scaled, &one_by_one);
            scale(&mut scaled, inverse(factor));
            prop_assert_eq!(scaled, bytes);
        }
    }
}
