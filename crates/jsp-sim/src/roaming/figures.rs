//! Worlds of chance, many of them, and figures of certain ones.

use std::panic::{self, AssertUnwindSafe};

use super::plan;
use super::world::{self, Outcome};
use crate::report::Row;
use crate::runner::each_seed;

/// The world of a seed; what was wrong, if anything was, a panic included.
pub fn run_seed(seed: u64) -> (Outcome, Vec<String>) {
    match panic::catch_unwind(AssertUnwindSafe(|| world::run(plan::random(seed)))) {
        Ok(outcome) => {
            let complaints = outcome.violations.iter().map(ToString::to_string).collect();
            (outcome, complaints)
        }
        Err(words) => {
            let words = words
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| words.downcast_ref::<&str>().copied());
            (Outcome::default(), vec![format!("panic: {}", words.unwrap_or("without words"))])
        }
    }
}

/// Random worlds as rows; complaints go to standard error.
pub fn worlds(start: u64, seeds: u64) -> Vec<Row> {
    let all = each_seed(start, seeds, |seed| (seed, run_seed(seed)));
    let mut failed = 0;
    for (seed, (_, complaints)) in &all {
        if let Some(first) = complaints.first() {
            failed += 1;
            eprintln!("seed {seed}: {first}");
            eprintln!("reproduce: cargo xtask sim roaming --seed {seed}");
        }
    }
    let sum = |of: fn(&Outcome) -> u64| all.iter().map(|(_, (out, _))| of(out)).sum::<u64>() as f64;
    let row = |metric, value, unit| Row::new("roaming", metric, value, unit);
    vec![
        row("failed", f64::from(failed), "worlds").bar("== 0", failed == 0),
        row("lived", all.len() as f64, "worlds"),
        row("items", sum(|out| out.items), "count"),
        row("again", sum(|out| out.again), "count"),
        row("switches", sum(|out| out.switches.len() as u64), "count"),
        row("resumed", sum(|out| out.ran.len().saturating_sub(1) as u64), "count"),
        row("call", sum(|out| out.heard), "messages"),
        row("virtual_time", sum(|out| out.lasted.as_secs()), "s"),
        row("datagrams", sum(|out| out.datagrams), "count"),
    ]
}
