//! Packet numbers: truncation and recovery (RFC 9000, section 17.1 and appendix A).

use crate::limits;

/// Bytes needed to send `pn` so that a receiver that has seen at least `largest_acked` recovers it.
///
/// `None` means that nothing has been acknowledged yet.
// spec: WIRE-8
pub fn len(pn: u64, largest_acked: Option<u64>) -> usize {
    let unacked = match largest_acked {
        Some(acked) => pn.saturating_sub(acked),
        None => pn.saturating_add(1),
    };
    // Twice the distance must fit, so that the receiver's window is unambiguous.
    if unacked < 1 << 7 {
        1
    } else if unacked < 1 << 15 {
        2
    } else if unacked < 1 << 23 {
        3
    } else {
        limits::PN_LEN_MAX
    }
}

/// Recovers a full packet number from its low `len` bytes, given the next one expected.
// spec: WIRE-9
pub const fn expand(truncated: u32, len: usize, expected: u64) -> u64 {
    let bits = (len as u32).saturating_mul(8);
    let window = 1u64 << (if bits > 32 { 32 } else { bits });
    let half = window / 2;
    let mask = window.wrapping_sub(1);
    let candidate = (expected & !mask) | (truncated as u64 & mask);
    if candidate.saturating_add(half) <= expected
        && candidate < limits::PN_MAX.saturating_sub(window).saturating_add(1)
    {
        candidate.saturating_add(window)
    } else if (candidate > expected.saturating_add(half) || candidate > limits::PN_MAX)
        && candidate >= window
    {
        candidate.saturating_sub(window)
    } else {
        candidate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn example_of_rfc_9000_appendix_a() {
        assert_eq!(expand(0x9b32, 2, 0xa82f_30eb), 0xa82f_9b32);
    }

    #[test]
    // spec-test: WIRE-8
    fn a_number_grows_where_half_of_what_its_bytes_tell_apart_is_not_enough() {
        for (edge, short) in [(1 << 7, 1), (1 << 15, 2), (1 << 23, 3)] {
            assert_eq!((len(edge - 2, None), len(edge - 1, None)), (short, short + 1));
            assert_eq!((len(9 + edge - 1, Some(9)), len(9 + edge, Some(9))), (short, short + 1));
        }
    }

    #[test]
    // spec-test: WIRE-9
    fn the_closest_number_is_meant() {
        let edges = [0, 1, 127, 128, 129, 255, 256, 1 << 20, (1 << 40) + 77];
        // After the last number of all, one more is expected that cannot come.
        let last = [limits::PN_MAX, limits::PN_MAX + 1];
        let top = [limits::PN_MAX - 300, limits::PN_MAX - 128].into_iter().chain(last);
        for expected in edges.into_iter().chain(top) {
            for low in 0..=255u64 {
                let near = expected.saturating_sub(600)..=(expected + 600).min(limits::PN_MAX);
                let closest = near
                    .filter(|number| number % 256 == low)
                    .min_by_key(|number| (number.abs_diff(expected), u64::MAX - number))
                    .unwrap();
                assert_eq!(expand(low as u32, 1, expected), closest, "{low} {expected}");
            }
        }
    }

    #[test]
    // spec-test: WIRE-8
    // spec-test: WIRE-9
    fn each_length_survives_its_whole_window() {
        for acked in [None, Some(0), Some(200), Some(70_000), Some(1 << 40)] {
            for step in [1u64, 2, 100, 127, 128, 129, 30_000, 32_767, 32_768, 8_000_000, 1 << 30] {
                let pn = acked.unwrap_or(0) + step;
                let len = len(pn, acked);
                let truncated = (pn & ((1u64 << (8 * len)) - 1)) as u32;
                // The receiver has seen anything from the acknowledged one to the one before.
                for expected in [acked.map_or(0, |a| a + 1), pn] {
                    assert_eq!(expand(truncated, len, expected), pn, "{acked:?} {step} {expected}");
                }
            }
        }
    }
}
