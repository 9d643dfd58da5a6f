//! Worlds of clients on the move: random ones, and those that ever found a fault.

use jsp_sim::roaming::{figures, plan, world};
use jsp_sim::runner;

/// Fails with what was wrong in these worlds.
fn live_through(seeds: &[u64]) {
    let complaints = runner::each_seed(0, seeds.len() as u64, |index| {
        let seed = seeds[index as usize];
        let (_, complaints) = figures::run_seed(seed);
        complaints.first().map(|first| format!("seed {seed}: {first}"))
    });
    let complaints: Vec<_> = complaints.into_iter().flatten().collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
// spec-test: SES-6, SES-12, SES-13
fn two_hundred_worlds_hold() {
    live_through(&(1..=200).collect::<Vec<_>>());
}

#[test]
// spec-test: CAR-34
fn worlds_that_found_a_fault_once_hold() {
    let listed = include_str!("../seeds-roaming.txt").lines().filter_map(|line| {
        let seed = line.split('#').next().unwrap_or_default().trim();
        (!seed.is_empty()).then(|| seed.parse().expect("a seed is a number"))
    });
    live_through(&listed.collect::<Vec<_>>());
}

#[test]
fn a_seed_repeats() {
    for seed in [3, 4] {
        let [first, second] = [(); 2].map(|()| world::run(plan::random(seed)));
        assert_eq!(format!("{first:?}"), format!("{second:?}"));
    }
}

#[test]
fn certain_worlds_keep_their_bars() {
    for row in figures::certain(1, 1) {
        assert!(row.holds(), "{}", row.to_text());
    }
}
