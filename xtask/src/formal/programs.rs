//! The programs of `formal/` that print a line of JSON for each model: z3, the state models, the parsers.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use super::Verdict;
use crate::process;
use crate::python;
use crate::report::Output;

/// Python's packages for the claims about arithmetic, installed where nothing else is touched.
const ENVIRONMENT: &str = "target/formal";
const REQUIREMENTS: &str = "formal/z3/requirements.txt";

/// A line that a program prints.
#[derive(Deserialize)]
struct Line {
    model: String,
    mutant: String,
    expected: String,
    found: String,
    seconds: f64,
}

/// Claims about the arithmetic of the wire format.
pub(super) fn z3(output: Output) -> Result<Vec<Verdict>> {
    let python = python::environment(ENVIRONMENT, REQUIREMENTS, output)?;
    let mut command = process::command(python);
    command.arg("formal/z3/arithmetic.py");
    verdicts("z3", command, output)
}

/// The state models.
pub(super) fn states(output: Output) -> Result<Vec<Verdict>> {
    let mut command = process::cargo();
    command.args(["run", "--quiet", "--locked", "--manifest-path", "formal/states/Cargo.toml"]);
    verdicts("states", command, output)
}

/// All short inputs through the parsers, and the proof that these cannot panic.
pub(super) fn parsers(quick: bool, output: Output) -> Result<Vec<Verdict>> {
    let mut command = process::cargo();
    command.args(["run", "--quiet", "--locked", "--release"]);
    command.args(["--manifest-path", "formal/parsers/Cargo.toml", "--bin", "exhaustive", "--"]);
    command.arg(if quick { "2" } else { "3" });
    let mut all = verdicts("parsers", command, output)?;
    all.push(links("", &[])?);
    all.push(links("a parser that indexes", &["--features", "mutant"])?);
    Ok(all)
}

/// Links the proof. The mutant must be refused by the linker, and for the reason that it is there for.
fn links(mutant: &str, features: &[&str]) -> Result<Verdict> {
    let start = Instant::now();
    let mut command = process::cargo();
    command.args(["build", "--quiet", "--locked", "--release"]);
    command.args(["--manifest-path", "formal/parsers/Cargo.toml", "--bin", "no_panic"]);
    command.args(features);
    let built = command.output().context("could not start cargo")?;
    let log = String::from_utf8_lossy(&built.stderr);
    let found = if built.status.success() {
        "links"
    } else if log.contains("ERROR[no-panic]") {
        "does not link"
    } else {
        bail!("the proof was not built\n{log}");
    };
    let expected = if mutant.is_empty() { "links" } else { "does not link" };
    Ok(Verdict {
        part: "parsers",
        model: "no path to a panic".to_owned(),
        mutant: mutant.to_owned(),
        expected: expected.to_owned(),
        found: found.to_owned(),
        took: start.elapsed(),
        pass: found == expected,
    })
}

/// Runs a program and reads its lines. Its exit status must agree with them.
fn verdicts(part: &'static str, command: Command, output: Output) -> Result<Vec<Verdict>> {
    let what = process::shown(&command);
    output.say(format!("$ {what}"));
    let mut command = command;
    let run = command.output().with_context(|| format!("could not start `{what}`"))?;
    let errors = String::from_utf8_lossy(&run.stderr);
    let text = String::from_utf8_lossy(&run.stdout);
    let verdicts: Vec<Verdict> =
        text.lines().map(|line| verdict(part, line)).collect::<Result<_>>()?;
    let all_pass = verdicts.iter().all(|verdict| verdict.pass);
    if !errors.trim().is_empty() {
        output.say(errors.trim());
    }
    ensure!(!verdicts.is_empty() && run.status.success() == all_pass, "`{what}` failed: {errors}");
    Ok(verdicts)
}

fn verdict(part: &'static str, line: &str) -> Result<Verdict> {
    let Line { model, mutant, expected, found, seconds } =
        serde_json::from_str(line).with_context(|| format!("no verdict: {line}"))?;
    // A mutant may break more than the property that it is there for.
    let pass = match expected.strip_prefix("breaks: ") {
        Some(property) => found.strip_prefix("breaks: ").is_some_and(|all| all.contains(property)),
        None => found == expected,
    };
    let took = Duration::try_from_secs_f64(seconds).context("a time")?;
    Ok(Verdict { part, model, mutant, expected, found, took, pass })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pass(expected: &str, found: &str) -> bool {
        let line = format!(
            r#"{{"model":"m","mutant":"","expected":"{expected}","found":"{found}","seconds":0.5,"states":3}}"#
        );
        verdict("states", &line).unwrap().pass
    }

    #[test]
    fn a_mutant_must_break_what_it_is_there_for() {
        assert!(pass("holds", "holds"));
        assert!(!pass("holds", "breaks: order"));
        assert!(!pass("holds", "too many states"));
        assert!(pass("breaks: order", "breaks: loss, order"));
        assert!(!pass("breaks: order", "breaks: loss"));
        assert!(!pass("breaks: order", "holds"));
    }

    #[test]
    fn what_is_no_verdict_is_an_error() {
        assert!(verdict("z3", "Traceback").is_err());
    }
}
