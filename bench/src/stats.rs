//! Medians, percentiles and the noise of the machine.

use std::hint::black_box;
use std::time::Instant;

/// What several runs of one figure came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Summary {
    /// The middle value; the mean of the two middle ones for an even number of runs.
    pub(crate) median: f64,
    /// The smallest value.
    pub(crate) min: f64,
    /// The largest value.
    pub(crate) max: f64,
    /// How many runs.
    pub(crate) runs: usize,
}

impl Summary {
    /// Summarises `values`; `None` when there are none.
    pub(crate) fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (&min, &max) = (sorted.first()?, sorted.last()?);
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 {
            sorted[middle]
        } else {
            (sorted[middle - 1] + sorted[middle]) / 2.0
        };
        Some(Self { median, min, max, runs: sorted.len() })
    }

    /// Largest minus smallest, in percent of the median; 0 for a median of 0.
    pub(crate) fn spread_percent(&self) -> f64 {
        if self.median == 0.0 { 0.0 } else { (self.max - self.min) / self.median.abs() * 100.0 }
    }
}

/// The nearest-rank percentile of `values` (`percent` from 0 to 100), which it sorts.
/// `None` when there are no values.
pub(crate) fn percentile(values: &mut [f64], percent: f64) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let rank = (percent / 100.0 * values.len() as f64).ceil() as usize;
    values.get(rank.max(1) - 1).copied()
}

/// Jain's index of fairness: 1 when all shares are equal, one over their number when one has all.
pub(crate) fn jain(shares: &[f64]) -> f64 {
    let (sum, squares) = shares
        .iter()
        .fold((0.0, 0.0), |(sum, squares), share| (sum + share, share.mul_add(*share, squares)));
    if squares == 0.0 { 0.0 } else { sum * sum / (squares * shares.len() as f64) }
}

/// Rounds of the fixed arithmetic that one noise probe times, about 10 ms of it.
const NOISE_ROUNDS: u64 = 8_000_000;

/// Times the same arithmetic again and again, so that a reader can tell a slow
/// transport from a busy machine.
#[derive(Debug, Default)]
pub(crate) struct Noise {
    samples_ms: Vec<f64>,
}

impl Noise {
    /// Takes one sample, about 10 ms.
    pub(crate) fn probe(&mut self) {
        let start = Instant::now();
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        for round in 0..NOISE_ROUNDS {
            state = (state ^ round).wrapping_mul(0xbf58_476d_1ce4_e5b9).rotate_left(27);
        }
        black_box(state);
        self.samples_ms.push(start.elapsed().as_secs_f64() * 1e3);
    }

    /// The samples in milliseconds; `None` before the first probe.
    pub(crate) fn summary(&self) -> Option<Summary> {
        Summary::of(&self.samples_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_the_mean_of_the_middle_two() {
        let odd = Summary::of(&[3.0, 1.0, 2.0]).unwrap();
        assert_eq!((odd.median, odd.min, odd.max, odd.runs), (2.0, 1.0, 3.0, 3));
        assert_eq!(Summary::of(&[4.0, 1.0, 2.0, 3.0]).unwrap().median, 2.5);
        assert_eq!(Summary::of(&[]), None);
    }

    #[test]
    fn the_spread_is_relative_to_the_median() {
        assert_eq!(Summary::of(&[90.0, 100.0, 120.0]).unwrap().spread_percent(), 30.0);
        assert_eq!(Summary::of(&[0.0, 0.0]).unwrap().spread_percent(), 0.0);
    }

    #[test]
    fn fairness_goes_from_one_over_the_number_to_one() {
        assert!((jain(&[3.0, 3.0, 3.0]) - 1.0).abs() < 1e-12);
        assert!((jain(&[0.0, 8.0, 0.0, 0.0]) - 0.25).abs() < 1e-12);
        assert_eq!(jain(&[]), 0.0);
    }

    #[test]
    fn percentiles_are_nearest_rank() {
        let mut values: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!(percentile(&mut values, 50.0), Some(50.0));
        assert_eq!(percentile(&mut values, 99.0), Some(99.0));
        assert_eq!(percentile(&mut values, 100.0), Some(100.0));
        assert_eq!(percentile(&mut values, 0.0), Some(1.0));
        assert_eq!(percentile(&mut [], 50.0), None);
    }
}
