//! Random worlds as an ordinary test, those that ever found a fault among them, and repeatability.

use jsp_sim::random_world::{plain_world, random_world};
use jsp_sim::{runner, trial};

/// Fails with everything that was wrong in these worlds.
fn live_through(seeds: &[u64]) {
    let complaints = runner::each_seed(0, seeds.len() as u64, |index| {
        let seed = seeds[index as usize];
        let complaints = runner::run_seed(seed).complaints();
        complaints.first().map(|first| format!("seed {seed}: {first}"))
    });
    let complaints: Vec<_> = complaints.into_iter().flatten().collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn thirty_worlds_hold() {
    live_through(&(1..=30).collect::<Vec<_>>());
}

#[test]
fn worlds_that_found_a_fault_once_hold() {
    let listed = include_str!("../seeds.txt").lines().filter_map(|line| {
        let seed = line.split('#').next().unwrap_or_default().trim();
        (!seed.is_empty()).then(|| seed.parse().expect("a seed is a number"))
    });
    let listed: Vec<u64> = listed.collect();
    live_through(&listed);
    // As they were when they found it: part of them have padding or the wrapping now.
    let told = |world| format!("{world:?}");
    for seed in listed {
        let plain = plain_world(seed);
        if told(random_world(seed)) != told(plain.clone()) {
            let violations = trial::run(plain).violations;
            assert!(violations.is_empty(), "seed {seed}, plain: {}", violations[0]);
        }
    }
}

#[test]
fn a_seed_repeats_bit_by_bit() {
    for seed in [3, 4, 5] {
        let digests = [0, 1].map(|_| trial::run(random_world(seed)).digest);
        assert_eq!(digests[0], digests[1], "seed {seed}");
    }
    assert_ne!(trial::run(random_world(3)).digest, trial::run(random_world(4)).digest);
}
