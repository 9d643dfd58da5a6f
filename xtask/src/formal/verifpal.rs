//! The symbolic models of the handshake. Verifpal is a tool under the GPL: it is run, never linked.

use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::Verdict;
use super::model::{self, Variant};
use crate::process;
use crate::report::Output;
use crate::workspace;

/// The version that the expected results were found with.
const VERSION: &str = "1.6.7";
/// Where it is installed, and where its source is built.
const TOOLS: &str = "target/tools";
/// Where the models stand, and where their generated forms go.
const MODELS: &str = "formal/verifpal/";
const GENERATED: &str = "target/formal/verifpal";
/// A guard against a search without end; on two idle cores the longest takes two minutes.
const TIME_MAX: Duration = Duration::from_secs(1800);

/// Runs every model, or the named one, and its changed forms, one for each core at a time.
pub(super) fn run(only: Option<&str>, output: Output) -> Result<Vec<Verdict>> {
    let jobs = jobs(only)?;
    install(output)?;
    output.say(format!("{} models and mutants of Verifpal, which take minutes", jobs.len()));
    std::fs::create_dir_all(workspace::root().join(GENERATED)).context(GENERATED)?;
    let next = Mutex::new(0..jobs.len());
    let done: Mutex<Vec<(usize, Result<Verdict>)>> = Mutex::new(Vec::new());
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let Some(index) = next.lock().expect("no worker panics").next() else { return };
                    let (name, variant) = &jobs[index];
                    let verdict = check(name, variant);
                    done.lock().expect("no worker panics").push((index, verdict));
                }
            });
        }
    });
    let mut done = done.into_inner().expect("no worker panics");
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, verdict)| verdict).collect()
}

fn program() -> String {
    workspace::root().join(TOOLS).join("bin/verifpal").display().to_string()
}

fn install(output: Output) -> Result<()> {
    if process::version(&program(), &["--version"]).is_some_and(|found| found.ends_with(VERSION)) {
        return Ok(());
    }
    output.say("Verifpal is not installed: it is built once, which takes minutes");
    let mut cargo = process::cargo();
    // It asks for a newer compiler than it needs.
    cargo.args(["install", "--locked", "--ignore-rust-version", "verifpal"]);
    cargo.args(["--version", VERSION, "--root", TOOLS, "--target-dir"]);
    cargo.arg(workspace::root().join(TOOLS).join("build"));
    process::run(cargo, output)
}

/// Every form of every model, or of the named one, with its name.
fn jobs(only: Option<&str>) -> Result<Vec<(String, Variant)>> {
    let mut jobs = Vec::new();
    for path in workspace::files()? {
        let name = path.strip_prefix(MODELS).and_then(|rest| rest.strip_suffix(".vp"));
        let Some(name) = name.filter(|name| only.is_none_or(|wanted| wanted == *name)) else {
            continue;
        };
        let model = model::parse(&workspace::read(&path)?).with_context(|| path.clone())?;
        jobs.extend(model.variants.into_iter().map(|variant| (name.to_owned(), variant)));
    }
    ensure!(!jobs.is_empty(), "no model {} in {MODELS}", only.unwrap_or_default());
    Ok(jobs)
}

fn check(name: &str, variant: &Variant) -> Result<Verdict> {
    let start = Instant::now();
    let file = format!("{GENERATED}/{name}-{}.vp", variant.name);
    std::fs::write(workspace::root().join(&file), &variant.text).with_context(|| file.clone())?;
    let mut command = process::command(program());
    command.args(["verify", &file, "--quiet", "--result-code", "--sessions"]);
    command.arg(variant.sessions.to_string());
    let found = code_of(command).with_context(|| file.clone())?;
    Ok(Verdict {
        part: "verifpal",
        model: name.to_owned(),
        mutant: variant.name.clone(),
        pass: found == variant.expected,
        expected: format!("{} (sessions: {})", variant.expected, variant.sessions),
        found,
        took: start.elapsed(),
    })
}

/// The result code, or word that the time was not enough.
fn code_of(mut command: Command) -> Result<String> {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let end = Instant::now() + TIME_MAX;
    while child.try_wait()?.is_none() {
        if Instant::now() >= end {
            child.kill()?;
            child.wait()?;
            return Ok(format!("nothing in {} s", TIME_MAX.as_secs()));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let result = child.wait_with_output()?;
    if !result.status.success() {
        bail!("{}", String::from_utf8_lossy(&result.stderr));
    }
    let text = String::from_utf8_lossy(&result.stdout);
    Ok(text.trim().lines().last().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_model_is_well_formed() {
        let jobs = jobs(None).unwrap();
        let designs = jobs.iter().filter(|(_, variant)| variant.name.is_empty()).count();
        assert!(designs >= 12, "{designs} models");
        for (name, variant) in &jobs {
            // Verifpal takes no longer names.
            assert!(name.len() + variant.name.len() < 60, "{name} {}", variant.name);
        }
    }
}
