//! The few statistics that reports need.

/// The value below or at which `percent` of all values lie (nearest rank); 0 when there are none.
pub fn percentile(sorted: &[f64], percent: f64) -> f64 {
    // A hair less, so that 99.9 % of 1000 is 999 in spite of binary fractions.
    let rank = (percent / 100.0 * sorted.len() as f64 - 1e-6).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
}

/// The values in order.
pub fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

/// Mean; 0 when there are no values.
pub fn mean(values: &[f64]) -> f64 {
    if values.is_empty() { 0.0 } else { values.iter().sum::<f64>() / values.len() as f64 }
}

/// Jain's index of fairness: 1 when all are equal, 1/n when one has everything (Jain, Chiu and Hawe,
/// DEC TR-301, 1984).
pub fn jain(shares: &[f64]) -> f64 {
    let squares: f64 = shares.iter().map(|share| share * share).sum();
    if squares == 0.0 {
        return 0.0;
    }
    shares.iter().sum::<f64>().powi(2) / (shares.len() as f64 * squares)
}

/// Mean and half of the 95 % confidence interval of the mean, by Student's distribution. With fewer
/// than two values the interval is infinite.
pub fn confidence(values: &[f64]) -> (f64, f64) {
    let (count, mean) = (values.len(), mean(values));
    if count < 2 {
        return (mean, f64::INFINITY);
    }
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    let error = (squares / (count - 1) as f64 / count as f64).sqrt();
    (mean, student_975(count - 1) * error)
}

/// The 97.5 % quantile of Student's distribution; between the entries the larger holds.
fn student_975(freedom: usize) -> f64 {
    const TABLE: [(usize, f64); 14] = [
        (1, 12.706),
        (2, 4.303),
        (3, 3.182),
        (4, 2.776),
        (5, 2.571),
        (6, 2.447),
        (7, 2.365),
        (8, 2.306),
        (9, 2.262),
        (14, 2.145),
        (19, 2.093),
        (29, 2.045),
        (59, 2.001),
        (119, 1.980),
    ];
    let entry = TABLE.iter().rev().find(|(entry, _)| *entry <= freedom);
    entry.map_or(TABLE[0].1, |(_, quantile)| *quantile)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_ranks() {
        let values: Vec<_> = (1..=1000).map(f64::from).collect();
        assert_eq!(percentile(&values, 50.0), 500.0);
        assert_eq!(percentile(&values, 99.9), 999.0);
        assert_eq!(percentile(&values, 100.0), 1000.0);
        assert_eq!(percentile(&[], 50.0), 0.0);
    }

    #[test]
    fn fairness_is_one_among_equals() {
        assert_eq!(jain(&[3.0, 3.0, 3.0]), 1.0);
        assert_eq!(jain(&[1.0, 0.0, 0.0, 0.0]), 0.25);
        assert_eq!(jain(&[]), 0.0);
    }

    #[test]
    fn the_interval_is_students() {
        // Variance 2.5, five values: 2.776 * sqrt(2.5 / 5).
        let (mean, half) = confidence(&[1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(mean, 3.0);
        assert!((half - 1.963).abs() < 0.001, "{half}");
        assert_eq!(confidence(&[1.0]).1, f64::INFINITY);
    }
}
