//! `cargo xtask hostile`: the attacks on the machine, and whether each would notice a missing check.

mod copy;
mod mutants;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::process;
use crate::report::{Output, Row};
use crate::workspace;

/// What to run.
#[derive(Debug)]
pub(crate) struct Selection {
    /// Only this row.
    pub(crate) row: Option<u8>,
    /// Scaled counts.
    pub(crate) quick: bool,
}

/// Longest time for one row with a mutant; one that takes longer hangs.
const MUTANT_TIME: Duration = Duration::from_secs(120);

/// Prints the table; true when no row is missed.
pub(crate) fn run(selection: &Selection, output: Output) -> Result<bool> {
    let mut cargo = process::cargo();
    cargo.args(["run", "--quiet", "--package", "jsp-hostile"]);
    // The full counts want an optimised build; the tests' build has every overflow check.
    if !selection.quick {
        cargo.arg("--release");
    }
    cargo.arg("--").args(selection.row.map(|row| format!("--row={row}")));
    cargo.args(selection.quick.then_some("--quick"));
    cargo.args(output.is_json().then_some("--json"));
    let what = process::shown(&cargo);
    let status = cargo.status().with_context(|| format!("could not start `{what}`"))?;
    Ok(status.success())
}

/// Runs each row with the checks switched off that it is about; true when every mutant is caught.
pub(crate) fn run_mutants(selection: &Selection, output: Output) -> Result<bool> {
    copy::write()?;
    let target = workspace::root().join("target");
    let mut cargo = process::cargo();
    cargo.current_dir(copy::folder());
    cargo.args(["build", "--quiet", "--package", copy::PACKAGE, "--target-dir"]).arg(&target);
    process::run(cargo, output)?;
    let program = target.join("debug").join(copy::PACKAGE);
    let wanted = |row: u8| selection.row.is_none_or(|only| only == row);
    let (mut caught, mut survivors, mut blind) = (0u64, Vec::new(), Vec::new());
    for mutant in mutants::all().filter(|mutant| wanted(mutant.row)) {
        let control = verdict(&program, mutant.row, None)?;
        let (word, text) = verdict(&program, mutant.row, Some(mutant.name))?;
        let is_caught = word != "held";
        output.say(format!("{:>2}  {}: {word}: {text}", mutant.row, mutant.name));
        output.row(
            &Row::new("hostile-mutants", mutant.name, "caught", u64::from(is_caught), "count")
                .bar("== 1", is_caught),
        );
        if control.0 != "held" {
            blind.push(mutant.name);
        } else if is_caught {
            caught += 1;
        } else {
            survivors.push(mutant.name);
        }
    }
    output.say(format!(
        "{caught} mutants caught, {} survived: {}",
        survivors.len(),
        survivors.join(", ")
    ));
    if !blind.is_empty() {
        output.say(format!("rows that do not hold without a mutant: {}", blind.join(", ")));
    }
    Ok(survivors.is_empty() && blind.is_empty())
}

/// The verdict of a row, and its figure.
fn verdict(program: &std::path::Path, row: u8, mutant: Option<&str>) -> Result<(String, String)> {
    let mut command = Command::new(program);
    command.args(["--quick", "--json", "--row", &row.to_string()]);
    command.stdout(Stdio::piped()).stderr(Stdio::null()).env("RUST_BACKTRACE", "0");
    if let Some(name) = mutant {
        command.env(copy::SWITCH, name);
    }
    let mut child = command.spawn().context("could not start the attacks")?;
    let start = Instant::now();
    while child.try_wait()?.is_none() {
        if start.elapsed() > MUTANT_TIME {
            child.kill()?;
            child.wait()?;
            return Ok(("hangs".to_owned(), format!("more than {} s", MUTANT_TIME.as_secs())));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let text = String::from_utf8(child.wait_with_output()?.stdout)?;
    let line = text.lines().next().unwrap_or_default();
    // A process that ends without a line was ended by what the mutant did.
    let Ok(line) = serde_json::from_str::<Value>(line) else {
        return Ok(("crashed".to_owned(), "no figure".to_owned()));
    };
    let field = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
    Ok((field("value"), field("measured")))
}
