//! `cargo xtask test`: everything that must hold before a change lands.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::report::{Output, Row, seconds};
use crate::steps::{Context, STEPS, Step, Tally};

/// Which steps to run, and how.
#[derive(Debug)]
pub(crate) struct Selection {
    /// Only these, when not empty.
    pub(crate) only: Vec<String>,
    /// All but these.
    pub(crate) skip: Vec<String>,
    /// Whether to stop at the first failure.
    pub(crate) fail_fast: bool,
    /// Random worlds that the simulator runs.
    pub(crate) seeds: u32,
}

/// What became of one step.
struct Done {
    name: &'static str,
    took: Duration,
    result: Result<Tally>,
}

impl Done {
    fn is_good(&self) -> bool {
        self.result.as_ref().is_ok_and(|tally| tally.failed == 0)
    }
}

/// Runs the steps and ends with a plain line of counts; true when everything passed.
pub(crate) fn run(selection: &Selection, output: Output) -> Result<bool> {
    let steps = selected(selection)?;
    let context = Context { seeds: selection.seeds, output };
    let begin = Instant::now();
    let mut done = Vec::new();
    for step in steps {
        output.say(format!("\n== {} ==", step.name));
        let start = Instant::now();
        let result = (step.run)(context);
        if let Err(error) = &result {
            output.say(format!("{}: {error:#}", step.name));
        }
        done.push(Done { name: step.name, took: start.elapsed(), result });
        if selection.fail_fast && done.last().is_some_and(|last| !last.is_good()) {
            break;
        }
    }
    summarise(&done, begin.elapsed(), output);
    let (passed, failed) = totals(&done);
    output.say(format!("{passed} passed, {failed} failed"));
    Ok(failed == 0)
}

fn selected(selection: &Selection) -> Result<Vec<&'static Step>> {
    for name in selection.only.iter().chain(&selection.skip) {
        if !STEPS.iter().any(|step| step.name == name) {
            let names: Vec<&str> = STEPS.iter().map(|step| step.name).collect();
            bail!("no step `{name}`: there are {}", names.join(", "));
        }
    }
    let wanted = |step: &&Step| {
        let named = |list: &[String]| list.iter().any(|name| name == step.name);
        (selection.only.is_empty() || named(&selection.only)) && !named(&selection.skip)
    };
    let steps: Vec<&Step> = STEPS.iter().filter(wanted).collect();
    if steps.is_empty() {
        bail!("every step is skipped: nothing would be tested");
    }
    Ok(steps)
}

/// A step without tests of its own counts as one check.
fn totals(done: &[Done]) -> (u64, u64) {
    done.iter().fold((0, 0), |(passed, failed), step| match &step.result {
        Ok(tally) if tally.passed + tally.failed == 0 => (passed + 1, failed),
        Ok(tally) => (passed + tally.passed, failed + tally.failed),
        Err(_) => (passed, failed + 1),
    })
}

fn summarise(done: &[Done], total: Duration, output: Output) {
    output.say(format!("\n{:10} {:>9} {:>8} {:>7}  result", "step", "seconds", "passed", "failed"));
    for step in done {
        let (passed, failed) = totals(std::slice::from_ref(step));
        let verdict = if step.is_good() { "ok" } else { "FAILED" };
        let note = step.result.as_ref().ok().and_then(|tally| tally.note.as_deref());
        let note = note.map_or_else(String::new, |note| format!(" ({note})"));
        let took = step.took.as_secs_f64();
        output
            .say(format!("{:10} {took:>9.1} {passed:>8} {failed:>7}  {verdict}{note}", step.name));
        output.row(&Row::new("test", step.name, "duration", seconds(step.took), "s"));
        output.row(
            &Row::new("test", step.name, "failed", failed, "count").bar("== 0", step.is_good()),
        );
    }
    output.say(format!("{:10} {:>9.1}\n", "total", total.as_secs_f64()));
    output.row(&Row::new("test", "total", "duration", seconds(total), "s"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection(only: &[&str], skip: &[&str]) -> Selection {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Selection { only: owned(only), skip: owned(skip), fail_fast: false, seeds: 1 }
    }

    fn done(result: Result<Tally>) -> Done {
        Done { name: "step", took: Duration::ZERO, result }
    }

    #[test]
    fn steps_are_chosen_by_name() {
        let names =
            |s: &Selection| selected(s).unwrap().iter().map(|step| step.name).collect::<Vec<_>>();
        assert_eq!(names(&selection(&["tidy", "spec"], &["spec"])), ["tidy"]);
        assert_eq!(names(&selection(&[], &[])).len(), STEPS.len());
        assert!(selected(&selection(&["tidi"], &[])).is_err());
        assert!(selected(&selection(&["tidy"], &["tidy"])).is_err());
    }

    #[test]
    fn a_check_counts_once_and_tests_count_each() {
        let tally = |passed, failed| Tally { passed, failed, note: None };
        let all =
            [done(Ok(tally(0, 0))), done(Ok(tally(40, 2))), done(Err(anyhow::anyhow!("broken")))];
        assert_eq!(totals(&all), (41, 3));
        assert!(all[0].is_good() && !all[1].is_good() && !all[2].is_good());
    }
}
