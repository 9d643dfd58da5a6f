//! `cargo xtask fuzz`: every fuzz target for its share of the time.

use std::path::Path;
use std::process::Command;
use std::sync::Mutex;

use anyhow::{Context, Result, ensure};

use crate::coverage;
use crate::process;
use crate::report::{Output, Row};
use crate::workspace;

/// Where the targets stand, one file each.
pub(crate) const TARGETS: &str = "fuzz/fuzz_targets/";
/// The version that is built when none is installed.
const CARGO_FUZZ: &str = "0.13.2";
/// The least time that a target gets, in seconds: below it libFuzzer only reads its seeds.
const SECONDS_MIN: u64 = 5;
/// Longest input that a target is given, in bytes: more than the largest datagram.
const INPUT_BYTES_MAX: u32 = 65_536;
/// Targets that many short inputs serve better than a few long ones: what a packet holds, and scripts of
/// some sixty steps. Longer ones among their seeds are shortened.
const SHORT_INPUTS: &[(&str, u32)] = &[
    ("wire_frames", 2048),
    ("wire_header", 2048),
    ("wire_roundtrip", 2048),
    ("wire_shapes", 2048),
    ("state_machine", 256),
];

/// Targets that run a connection for each input. It takes some thousand edges, and libFuzzer as much time to weigh
/// them (by their rarity, and by the shortest input that takes them) as the input itself.
const UNWEIGHED: &[&str] = &["state_machine"];

/// What one target did.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Outcome {
    executions: u64,
    /// Edges of the control flow that some input reached, of the target and all that it is linked with.
    coverage: u64,
    /// Edges told apart by how often they were taken, and what else libFuzzer takes for news.
    features: u64,
    corpus: u64,
    /// The input that made the target fail.
    artifact: Option<String>,
}

/// What watches over memory while a target runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Sanitizer {
    /// AddressSanitizer
    Address,
    /// Nothing, and comparisons are not traced: the project's own code is safe Rust, so that most of
    /// what can be found is found by as many executions as can be
    None,
}

/// How targets are built and run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) sanitizer: Sanitizer,
    /// For each target.
    pub(crate) seconds: u64,
}

/// Runs every target, or the named one; true when no input made one fail.
pub(crate) fn run(
    minutes: f64,
    only: Option<&str>,
    jobs: usize,
    sanitizer: Sanitizer,
    output: Output,
) -> Result<bool> {
    let targets = targets(only)?;
    process::ensure_cargo_tool("cargo-fuzz", CARGO_FUZZ, output)?;
    process::run(cargo_fuzz("build", sanitizer, &[]), output)?;
    let jobs = jobs.clamp(1, targets.len());
    let rounds = targets.len().div_ceil(jobs) as f64;
    let seconds = ((minutes * 60.0 / rounds) as u64).max(SECONDS_MIN);
    output.say(format!("{} targets, {seconds} s each, {jobs} at a time", targets.len()));
    let outcomes = run_all(&targets, Plan { sanitizer, seconds }, jobs, output)?;
    let mut clean = true;
    output.say(format!(
        "\n{:24} {:>12} {:>10} {:>8} {:>9} {:>8}  result",
        "target", "executions", "per second", "edges", "features", "corpus"
    ));
    for (target, outcome) in targets.iter().zip(&outcomes) {
        clean &= outcome.artifact.is_none();
        summarise(target, outcome, seconds, output);
    }
    if only.is_none() {
        coverage::run(output)?;
    }
    Ok(clean)
}

/// The names of the targets, sorted.
fn targets(only: Option<&str>) -> Result<Vec<String>> {
    let files = workspace::files()?;
    let names = files.iter().filter_map(|path| path.strip_prefix(TARGETS)?.strip_suffix(".rs"));
    let targets: Vec<String> =
        names.filter(|name| only.is_none_or(|wanted| wanted == *name)).map(str::to_owned).collect();
    match only {
        Some(name) => ensure!(!targets.is_empty(), "no target `{name}` in {TARGETS}"),
        None => ensure!(!targets.is_empty(), "no target in {TARGETS}"),
    }
    Ok(targets)
}

/// The sanitizers are unstable options of a stable compiler, which this variable opens.
fn cargo_fuzz(what: &str, sanitizer: Sanitizer, arguments: &[&str]) -> Command {
    let mut cargo = process::cargo();
    cargo.args(["fuzz", what]).env("RUSTC_BOOTSTRAP", "1");
    if sanitizer == Sanitizer::None {
        cargo.args(["--sanitizer", "none", "--no-trace-compares"]);
    }
    cargo.args(arguments);
    cargo
}

/// Workers take the next target until none is left.
fn run_all(targets: &[String], plan: Plan, jobs: usize, output: Output) -> Result<Vec<Outcome>> {
    let next = Mutex::new(0..targets.len());
    let done: Mutex<Vec<(usize, Result<Outcome>)>> = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let Some(index) = next.lock().expect("no worker panics").next() else { return };
                    let outcome = run_one(&targets[index], plan, output);
                    done.lock().expect("no worker panics").push((index, outcome));
                }
            });
        }
    });
    let mut done = done.into_inner().expect("no worker panics");
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, outcome)| outcome).collect()
}

/// The longest input for a target, in bytes.
fn input_bytes_max(target: &str) -> u32 {
    let short = SHORT_INPUTS.iter().find(|(name, _)| *name == target);
    short.map_or(INPUT_BYTES_MAX, |(_, most)| *most)
}

/// New inputs go below `target/`; the tracked seeds stay as they are.
fn run_one(target: &str, plan: Plan, output: Output) -> Result<Outcome> {
    let Plan { sanitizer, seconds } = plan;
    let found = format!("target/fuzz-corpus/{target}");
    std::fs::create_dir_all(workspace::root().join(&found)).with_context(|| found.clone())?;
    let seeds = format!("fuzz/corpus/{target}");
    let dictionary = format!("fuzz/dict/{target}.dict");
    let mut fuzz = cargo_fuzz("run", sanitizer, &[target, &found]);
    if workspace::has(&seeds) {
        fuzz.arg(&seeds);
    }
    fuzz.arg("--")
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-max_len={}", input_bytes_max(target)));
    fuzz.args(["-print_final_stats=1", "-timeout=10", "-rss_limit_mb=2048"]);
    if UNWEIGHED.contains(&target) {
        fuzz.args(["-entropic=0", "-reduce_inputs=0"]);
    }
    if workspace::has(&dictionary) {
        fuzz.arg(format!("-dict={}", workspace::root().join(&dictionary).display()));
    }
    let quiet = fuzz.output().with_context(|| format!("could not run the target {target}"))?;
    let log = String::from_utf8_lossy(&quiet.stderr).into_owned();
    let mut outcome = read_log(&log);
    if !quiet.status.success() {
        output.say(tail(&log, 40));
        let artifact = outcome.artifact.take().unwrap_or_default();
        // A machine that stands still for a while makes any input look endless: only one that takes
        // its time again is.
        let was_late = artifact.contains("/timeout-")
            && process::run(
                cargo_fuzz("run", sanitizer, &[target, &artifact, "--", "-timeout=10"]),
                output,
            )
            .is_ok();
        if was_late {
            output.say(format!(
                "{artifact} ends in time when it is run again: the machine stood still"
            ));
        } else {
            outcome.artifact = Some(relative(&artifact));
        }
    }
    Ok(outcome)
}

/// Figures out of libFuzzer's log: the final statistics, and the last line of progress.
fn read_log(log: &str) -> Outcome {
    let mut outcome = Outcome::default();
    for line in log.lines() {
        if let Some(number) = line.strip_prefix("stat::number_of_executed_units:") {
            outcome.executions = number.trim().parse().unwrap_or(0);
        } else if let Some((_, path)) = line.split_once("Test unit written to ") {
            // A slow input is kept for a look, but measures how busy the machine was; one that does
            // not end is stopped, and fails the target.
            let is_slow = path.contains("/slow-unit-");
            outcome.artifact = (!is_slow).then(|| path.trim().to_owned()).or(outcome.artifact);
        } else if line.starts_with('#') {
            let words: Vec<&str> = line.split_whitespace().collect();
            let after = |name: &str| {
                let at = words.iter().position(|word| *word == name)?;
                words.get(at + 1)?.split('/').next()?.parse().ok()
            };
            outcome.coverage = after("cov:").unwrap_or(outcome.coverage);
            outcome.features = after("ft:").unwrap_or(outcome.features);
            outcome.corpus = after("corp:").unwrap_or(outcome.corpus);
        }
    }
    outcome
}

fn tail(log: &str, lines: usize) -> String {
    let all: Vec<&str> = log.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

fn relative(path: &str) -> String {
    let path = Path::new(path);
    path.strip_prefix(workspace::root()).unwrap_or(path).display().to_string()
}

fn summarise(target: &str, outcome: &Outcome, seconds: u64, output: Output) {
    let rate = outcome.executions / seconds;
    let result = if outcome.artifact.is_some() { "FAILED" } else { "clean" };
    output.say(format!(
        "{target:24} {:>12} {rate:>10} {:>8} {:>9} {:>8}  {result}",
        outcome.executions, outcome.coverage, outcome.features, outcome.corpus
    ));
    if let Some(artifact) = &outcome.artifact {
        output.say(format!("  reproduce: RUSTC_BOOTSTRAP=1 cargo fuzz run {target} {artifact}"));
    }
    let row = |metric, value: u64, unit| Row::new("fuzz", target, metric, value, unit);
    output.row(&row("executions", outcome.executions, "count"));
    output.row(&row("coverage", outcome.coverage, "edges"));
    output.row(&row("features", outcome.features, "count"));
    output.row(&row("corpus", outcome.corpus, "count"));
    let findings = u64::from(outcome.artifact.is_some());
    output.row(&row("findings", findings, "count").bar("== 0", findings == 0));
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
INFO: Seed: 1
#2\tINITED cov: 12 ft: 13 corp: 1/1b exec/s: 0 rss: 40Mb
#5000\tDONE   cov: 80 ft: 120 corp: 31/900b lim: 4096 exec/s: 2500 rss: 44Mb
stat::number_of_executed_units: 5000
stat::average_exec_per_sec:     2500
";

    #[test]
    fn figures_are_read_from_the_log() {
        let outcome = read_log(LOG);
        let expected =
            Outcome { executions: 5000, coverage: 80, features: 120, corpus: 31, artifact: None };
        assert_eq!(outcome, expected);
    }

    #[test]
    fn a_finding_names_its_input() {
        let log = format!(
            "{LOG}artifact_prefix='fuzz/artifacts/a/'; Test unit written to fuzz/artifacts/a/crash-1\n"
        );
        assert_eq!(read_log(&log).artifact.as_deref(), Some("fuzz/artifacts/a/crash-1"));
    }

    #[test]
    fn a_slow_input_is_no_finding() {
        let slow = "artifact_prefix='a/'; Test unit written to fuzz/artifacts/a/slow-unit-1\n";
        assert_eq!(read_log(&format!("{LOG}{slow}")).artifact, None);
        let crash = "artifact_prefix='a/'; Test unit written to fuzz/artifacts/a/crash-1\n";
        let both = read_log(&format!("{LOG}{crash}{slow}"));
        assert_eq!(both.artifact.as_deref(), Some("fuzz/artifacts/a/crash-1"));
    }

    #[test]
    fn targets_are_built_with_a_stable_compiler() {
        let command = cargo_fuzz("build", Sanitizer::Address, &[]);
        assert!(
            command
                .get_envs()
                .any(|(name, value)| name == "RUSTC_BOOTSTRAP" && value == Some("1".as_ref()))
        );
    }

    #[test]
    fn targets_with_rules_of_their_own_are_there() {
        let all = targets(None).unwrap();
        assert!(SHORT_INPUTS.iter().all(|(name, _)| all.iter().any(|target| target == name)));
        assert!(UNWEIGHED.iter().all(|name| all.iter().any(|target| target == name)));
        assert_eq!((input_bytes_max("state_machine"), input_bytes_max("cookie")), (256, 65_536));
    }

    #[test]
    fn an_unknown_target_is_named() {
        let error = targets(Some("no_such_target")).unwrap_err();
        assert!(error.to_string().contains("no_such_target"));
    }
}
