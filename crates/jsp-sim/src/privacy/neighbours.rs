//! The k nearest neighbours: a guess by what is most like it.

/// Neighbours that are asked.
const K: usize = 5;

/// Flows whose application is known.
pub(super) struct Neighbours {
    /// Mean and spread of each feature.
    scales: Vec<(f64, f64)>,
    known: Vec<(usize, Vec<f64>)>,
}

impl Neighbours {
    /// Learns from classes with their features, all of one length. Each feature counts in units of its
    /// standard deviation; one that never differs does not count.
    pub(super) fn new(flows: &[(usize, Vec<f64>)]) -> Self {
        let count = flows.len().max(1) as f64;
        let len = flows.first().map_or(0, |(_, features)| features.len());
        let scales: Vec<(f64, f64)> = (0..len)
            .map(|place| {
                let values = || flows.iter().map(|(_, features)| features[place]);
                let mean = values().sum::<f64>() / count;
                let variance = values().map(|value| (value - mean).powi(2)).sum::<f64>() / count;
                (mean, variance.sqrt())
            })
            .collect();
        let known = flows.iter().map(|(class, features)| (*class, scaled(&scales, features)));
        let known = known.collect();
        Self { scales, known }
    }

    /// The class that most of the nearest have; of several, that of the nearest.
    pub(super) fn guess(&self, features: &[f64]) -> Option<usize> {
        let features = scaled(&self.scales, features);
        let distance = |other: &[f64]| -> f64 {
            features.iter().zip(other).map(|(a, b)| (a - b).powi(2)).sum()
        };
        let mut all: Vec<(f64, usize)> =
            self.known.iter().map(|(class, other)| (distance(other), *class)).collect();
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        all.truncate(K);
        let votes = |class: usize| all.iter().filter(|(_, other)| *other == class).count();
        let most = all.iter().map(|(_, class)| votes(*class)).max()?;
        all.iter().map(|(_, class)| *class).find(|class| votes(*class) == most)
    }
}

fn scaled(scales: &[(f64, f64)], features: &[f64]) -> Vec<f64> {
    let scale = |(value, (mean, spread)): (&f64, &(f64, f64))| {
        if *spread > 0.0 { (value - mean) / spread } else { 0.0 }
    };
    features.iter().zip(scales).map(scale).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_decide_by_their_number() {
        let flows: Vec<(usize, Vec<f64>)> = (0..10u32)
            .flat_map(|n| {
                let n = f64::from(n);
                [(0, vec![n, 1000.0, 7.0]), (1, vec![n + 20.0, 1000.0, 7.0])]
            })
            .collect();
        let neighbours = Neighbours::new(&flows);
        assert_eq!(neighbours.guess(&[3.0, 1000.0, 7.0]), Some(0));
        assert_eq!(neighbours.guess(&[25.0, 1000.0, 7.0]), Some(1));
        // What never differed among the known says nothing.
        assert_eq!(neighbours.guess(&[3.0, 9.0, 9.0]), Some(0));
        assert_eq!(Neighbours::new(&[]).guess(&[]), None);
    }

    #[test]
    fn features_count_alike_whatever_their_unit() {
        let flows: Vec<(usize, Vec<f64>)> = (0..20u32)
            .map(|n| (usize::from(n % 2 == 1), vec![f64::from(n % 2), 1e6 * f64::from(n / 2)]))
            .collect();
        let neighbours = Neighbours::new(&flows);
        let right = flows.iter().filter(|(class, f)| neighbours.guess(f) == Some(*class)).count();
        assert_eq!(right, 20);
    }
}
