//! `cargo xtask formal`: every model of `formal/`, and every mutant that must fail.

mod model;
mod programs;
mod verifpal;

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::report::{Output, Row, seconds};

/// What one model, or one mutant of it, was expected to give and gave.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Verdict {
    /// The tool: `verifpal`, `states`, `z3`, `parsers`.
    part: &'static str,
    model: String,
    /// The rule that was taken away; empty for the design itself.
    mutant: String,
    expected: String,
    found: String,
    took: Duration,
    pass: bool,
}

/// Runs the models; `quick` leaves out those of Verifpal, which takes minutes to build, and `only` all
/// but one of them. True when each model and each mutant gave what it must.
pub(crate) fn run(quick: bool, only: Option<&str>, output: Output) -> Result<bool> {
    let begin = Instant::now();
    let mut verdicts = Vec::new();
    let mut part = |found: Vec<Verdict>| {
        found.iter().for_each(|verdict| say(verdict, output));
        verdicts.extend(found);
    };
    if only.is_none() {
        part(programs::z3(output)?);
        part(programs::states(output)?);
        part(programs::parsers(quick, output)?);
    }
    if !quick {
        part(verifpal::run(only, output)?);
    }
    let (mutants, designs): (Vec<_>, Vec<_>) = verdicts.iter().partition(|v| !v.mutant.is_empty());
    let wrong = verdicts.iter().filter(|verdict| !verdict.pass).count();
    output.say(format!(
        "{} models and {} mutants, {wrong} not as expected, {:.1} s",
        designs.len(),
        mutants.len(),
        begin.elapsed().as_secs_f64()
    ));
    output.row(&Row::new("formal", "total", "duration", seconds(begin.elapsed()), "s"));
    Ok(wrong == 0 && !mutants.is_empty())
}

fn say(verdict: &Verdict, output: Output) {
    let Verdict { part, model, mutant, expected, found, took, pass } = verdict;
    let name = if mutant.is_empty() { model.clone() } else { format!("{model}: {mutant}") };
    let word = if *pass { "ok" } else { "DIFFERS" };
    let took = took.as_secs_f64();
    output
        .say(format!("{part:9} {name:70} expected {expected}, found {found}, {took:.1} s  {word}"));
    let case = format!("{part}/{name}");
    output.row(&Row::new("formal", &case, "duration", seconds(verdict.took), "s"));
    let as_expected = u64::from(*pass);
    let row = Row::new("formal", &case, "as_expected", as_expected, "bool");
    output.row(&row.bar(format!("== 1: {expected}"), *pass));
}
