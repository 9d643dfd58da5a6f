//! Whether two classes of inputs take the same time, after dudect (Reparaz, Balasch, Verbauwhede 2017): they
//! come in random order, and Welch's t tells their times apart.

use std::hint::black_box;
use std::time::Instant;

use crate::peer::Random;

/// The largest |t| that what is compared may show.
pub const T_MAX: f64 = 4.5;
/// Inputs that are made before they are measured.
const BATCH: usize = 1000;
/// Times above these quantiles are left out, each in a test of its own: what interrupts hides there, and
/// differences that show only seldom.
const QUANTILES: [f64; 5] = [0.5, 0.75, 0.9, 0.99, 1.0];

/// Why an input could not be made.
pub type Failure = Box<dyn std::error::Error>;

/// Which class an input belongs to, and how long it took in nanoseconds.
pub type Sample = (bool, f64);

/// Times `run` on inputs of both classes, each `repeats` times in a row.
///
/// # Errors
/// What `make` fails with.
pub fn measure<I>(
    samples: usize,
    repeats: usize,
    mut make: impl FnMut(bool) -> Result<I, Failure>,
    mut run: impl FnMut(&mut I),
) -> Result<Vec<Sample>, Failure> {
    let mut classes = Random::new(0x3a1e);
    let mut times = Vec::with_capacity(samples);
    while times.len() < samples {
        let count = BATCH.min(samples - times.len());
        let mut batch = Vec::with_capacity(count);
        for _ in 0..count {
            let class = classes.one_in(2);
            batch.push((class, make(class)?));
        }
        for (class, input) in &mut batch {
            let start = Instant::now();
            for _ in 0..repeats {
                run(black_box(input));
            }
            times.push((*class, start.elapsed().as_nanos() as f64));
        }
    }
    Ok(times)
}

/// Welch's t of the classes' times that are `most` at most.
fn welch(samples: &[Sample], most: f64) -> f64 {
    // Count, mean, and sum of squared distances from it (Welford).
    let mut classes = [(0.0, 0.0, 0.0); 2];
    for (class, time) in samples.iter().filter(|(_, time)| *time <= most) {
        let (count, mean, squares): &mut (f64, f64, f64) = &mut classes[usize::from(*class)];
        *count += 1.0;
        let distance = time - *mean;
        *mean += distance / *count;
        *squares += distance * (time - *mean);
    }
    let [(m, mean_m, squares_m), (n, mean_n, squares_n)] = classes;
    if m < 2.0 || n < 2.0 {
        return 0.0;
    }
    let variance = squares_m / (m - 1.0) / m + squares_n / (n - 1.0) / n;
    if variance > 0.0 { (mean_m - mean_n) / variance.sqrt() } else { 0.0 }
}

/// The t that is furthest from zero.
pub fn largest(samples: &[Sample]) -> f64 {
    let mut times: Vec<f64> = samples.iter().map(|(_, time)| *time).collect();
    times.sort_by(f64::total_cmp);
    let at = |quantile: f64| times[((times.len() - 1) as f64 * quantile) as usize];
    let all = QUANTILES.iter().map(|quantile| welch(samples, at(*quantile)));
    all.max_by(|a, b| a.abs().total_cmp(&b.abs())).unwrap_or(0.0)
}

/// How far the classes' medians are apart, in nanoseconds: the first less the second.
pub fn apart(samples: &[Sample]) -> f64 {
    let median = |class: bool| {
        let of_class = samples.iter().filter(|(of, _)| *of == class).map(|(_, time)| *time);
        let mut times: Vec<f64> = of_class.collect();
        times.sort_by(f64::total_cmp);
        times.get(times.len() / 2).copied().unwrap_or(0.0)
    };
    median(false) - median(true)
}
