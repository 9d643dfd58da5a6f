//! The steps of `cargo xtask test`, cheapest first, so that a slip shows within seconds.

use std::process::Command;

use anyhow::{Result, bail};

use crate::process;
use crate::report::Output;
use crate::workspace;
use crate::{deny, formal, instructions, interop, no_std, portable, python, spec, tidy};

/// The generators of test vectors are part of what is linted and tested.
const WITH_VECTORS: &[&str] = &["--features", "xtask/vectors"];
/// Workspaces beside the main one: their dependencies stay out of its lock file.
const SIDE_WORKSPACES: &[&str] = &[
    "bench/Cargo.toml",
    "fuzz/Cargo.toml",
    "formal/states/Cargo.toml",
    "formal/parsers/Cargo.toml",
];

/// What a step needs to know.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Context {
    /// Random worlds that the simulator runs.
    pub(crate) seeds: u32,
    /// Where lines go.
    pub(crate) output: Output,
}

/// What a step counted beside its own success.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Tests that passed.
    pub(crate) passed: u64,
    /// Tests that failed.
    pub(crate) failed: u64,
    /// What the step left out, and why.
    pub(crate) note: Option<String>,
}

/// A named part of the test command.
pub(crate) struct Step {
    /// Its name, as `--only` and `--skip` take it.
    pub(crate) name: &'static str,
    /// Does the work; an error says what failed.
    pub(crate) run: fn(Context) -> Result<Tally>,
}

/// Every step in its order.
pub(crate) const STEPS: &[Step] = &[
    Step { name: "tools", run: tools },
    Step {
        name: "tidy",
        run: |context| held(tidy::run(context.output)?, "a rule of the house is broken"),
    },
    Step {
        name: "spec",
        run: |context| held(spec::run(context.output)?, "the specification is not covered"),
    },
    Step { name: "fmt", run: fmt },
    Step { name: "clippy", run: clippy },
    Step { name: "tests", run: tests },
    Step { name: "objects", run: objects },
    Step { name: "doctests", run: doctests },
    Step { name: "vectors", run: vectors },
    Step {
        name: "interop",
        run: |context| held(interop::run(context.output)?, "two implementations disagree"),
    },
    Step { name: "sim", run: sim },
    Step { name: "instructions", run: |context| noted(instructions::check(context.output)?) },
    Step {
        name: "formal",
        run: |context| held(formal::run(true, None, context.output)?, "a model is not as expected"),
    },
    Step { name: "docs", run: docs },
    Step { name: "no_std", run: |context| noted(no_std::run(context.output)?) },
    Step {
        name: "portable",
        run: |context| portable::run(context.output).map(|()| Tally::default()),
    },
    Step { name: "deny", run: |context| noted(deny::run(context.output)?) },
    Step { name: "side", run: side },
];

fn held(clean: bool, message: &str) -> Result<Tally> {
    if clean { Ok(Tally::default()) } else { bail!("{message}: see above") }
}

fn noted(note: Option<String>) -> Result<Tally> {
    Ok(Tally { note, ..Tally::default() })
}

fn ran(command: Command, context: Context) -> Result<Tally> {
    process::run(command, context.output)?;
    Ok(Tally::default())
}

/// A program that the steps start, how to ask for its version, and how to get it.
pub(crate) type Tool = (&'static str, &'static [&'static str], &'static str);

const TOOLS: &[Tool] = &[
    ("git", &["--version"], "install git"),
    ("tar", &["--version"], "install tar"),
    (
        "cc",
        &["--version"],
        "install a C compiler (build-essential on Debian): ring and aws-lc-rs hold C",
    ),
    ("c++", &["--version"], "install a C++ compiler (build-essential on Debian): libFuzzer is C++"),
    python::TOOL,
    (
        "softhsm2-util",
        &["--version"],
        "install SoftHSM 2 (softhsm2 on Debian): a token in software for the tests of jsp-pkcs11",
    ),
    ("danted", &["-v"], "install dante-server: a SOCKS5 proxy for the tests of jsp"),
    (
        "sh",
        &["-c", "command -v microsocks"],
        "install microsocks: a SOCKS5 proxy with passwords for the tests of jsp",
    ),
    ("tor", &["--version"], "install tor: the tests of jsp shake hands with its SOCKS port"),
    (
        "turnserver",
        &["--version"],
        "install coturn (coturn on Debian): a STUN server for the tests of jsp-server",
    ),
    ("rustc", &["--version"], "install Rust with rustup"),
    ("cargo", &["fmt", "--version"], "run `rustup component add rustfmt`"),
    ("cargo", &["clippy", "--version"], "run `rustup component add clippy`"),
];

/// Says everything that is missing at once.
fn tools(context: Context) -> Result<Tally> {
    let mut missing = Vec::new();
    for (program, arguments, remedy) in TOOLS {
        match process::version(program, arguments) {
            Some(version) => context.output.say(format!("  {version}")),
            None => missing
                .push(format!("  `{program} {}` does not run: {remedy}", arguments.join(" "))),
        }
    }
    if !missing.is_empty() {
        bail!("what is missing:\n{}", missing.join("\n"));
    }
    Ok(Tally::default())
}

fn fmt(context: Context) -> Result<Tally> {
    let mut cargo = process::cargo();
    cargo.args(["fmt", "--all", "--check"]);
    process::run(cargo, context.output)?;
    for manifest in SIDE_WORKSPACES.iter().filter(|manifest| workspace::has(manifest)) {
        let mut cargo = process::cargo();
        cargo.args(["fmt", "--check", "--manifest-path", manifest]);
        process::run(cargo, context.output)?;
    }
    Ok(Tally::default())
}

fn clippy(context: Context) -> Result<Tally> {
    let mut cargo = process::cargo();
    cargo
        .args(["clippy", "--workspace", "--all-targets"])
        .args(WITH_VECTORS)
        .args(["--", "-D", "warnings"]);
    ran(cargo, context)
}

/// The benchmark program, the fuzz targets and the models: linted, and so compiled, without being run.
fn side(context: Context) -> Result<Tally> {
    for manifest in SIDE_WORKSPACES.iter().filter(|manifest| workspace::has(manifest)) {
        let mut cargo = process::cargo();
        cargo.args([
            "clippy",
            "--all-targets",
            "--manifest-path",
            manifest,
            "--",
            "-D",
            "warnings",
        ]);
        process::run(cargo, context.output)?;
    }
    Ok(Tally::default())
}

/// Unit and integration tests, the replay of the fuzz corpora among them.
fn tests(context: Context) -> Result<Tally> {
    let mut cargo = process::cargo();
    if process::version("cargo", &["nextest", "--version"]).is_some() {
        cargo.args([
            "nextest",
            "run",
            "--no-fail-fast",
            "--status-level",
            "fail",
            "--hide-progress-bar",
        ]);
    } else {
        context
            .output
            .say("cargo-nextest is not installed: `cargo test` does the same, more slowly");
        cargo.args(["test", "--no-fail-fast", "--all-targets"]);
    }
    cargo.arg("--workspace").args(WITH_VECTORS);
    counted(cargo, context)
}

/// The code for large messages is left out of common builds.
fn objects(context: Context) -> Result<Tally> {
    let mut cargo = process::cargo();
    cargo.args(["test", "--no-fail-fast", "--package", "jsp-proto", "--features", "raptorq"]);
    cargo.args(["--test", "objects", "--lib"]);
    let core = counted(cargo, context)?;
    let mut cargo = process::cargo();
    cargo.args(["test", "--package", "jsp-sim", "--features", "raptorq", "--test", "objects"]);
    let lab = counted(cargo, context)?;
    Ok(Tally { passed: core.passed + lab.passed, failed: core.failed + lab.failed, note: None })
}

fn doctests(context: Context) -> Result<Tally> {
    let mut cargo = process::cargo();
    cargo.args(["test", "--doc", "--no-fail-fast", "--workspace"]).args(WITH_VECTORS);
    counted(cargo, context)
}

/// Runs a test runner and adds up what it says.
fn counted(command: Command, context: Context) -> Result<Tally> {
    let what = process::shown(&command);
    let mut tally = Tally::default();
    let status = process::stream(command, context.output, |line| count(line, &mut tally))?;
    if !status.success() && tally.failed == 0 {
        bail!("`{what}` failed ({status})");
    }
    Ok(tally)
}

/// Adds the summary line of cargo's own runner, or of nextest.
fn count(line: &str, tally: &mut Tally) {
    let line = line.trim();
    let summary = line.starts_with("test result: ")
        || (line.starts_with("Summary [") && line.contains("tests run:"));
    if !summary {
        return;
    }
    let words: Vec<&str> =
        line.split([' ', ';', ',', ':']).filter(|word| !word.is_empty()).collect();
    for pair in words.windows(2) {
        let Ok(number) = pair[0].parse::<u64>() else { continue };
        match pair[1] {
            "passed" => tally.passed += number,
            "failed" | "timed" => tally.failed += number,
            _ => {}
        }
    }
}

fn vectors(context: Context) -> Result<Tally> {
    let mut cargo = process::cargo();
    cargo.args([
        "run",
        "--quiet",
        "--package",
        "xtask",
        "--features",
        "vectors",
        "--",
        "vectors",
        "--check",
    ]);
    ran(cargo, context)
}

/// Built like the tests, so that every overflow check is on.
fn sim(context: Context) -> Result<Tally> {
    let mut cargo = process::cargo();
    cargo.args([
        "run",
        "--quiet",
        "--package",
        "jsp-sim",
        "--",
        "--seeds",
        &context.seeds.to_string(),
    ]);
    ran(cargo, context)
}

fn docs(context: Context) -> Result<Tally> {
    let mut cargo = process::cargo();
    cargo.args(["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings");
    ran(cargo, context)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(lines: &[&str]) -> (u64, u64) {
        let mut tally = Tally::default();
        for line in lines {
            count(line, &mut tally);
        }
        (tally.passed, tally.failed)
    }

    #[test]
    fn cargo_test_is_added_up_over_its_programs() {
        let lines = [
            "test a ... ok",
            "test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s",
            "test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s",
        ];
        assert_eq!(counted(&lines), (15, 2));
    }

    #[test]
    fn nextest_is_read_from_its_summary() {
        assert_eq!(
            counted(&["     Summary [   0.124s] 27 tests run: 27 passed, 0 skipped"]),
            (27, 0)
        );
        assert_eq!(
            counted(&[
                "     Summary [   0.124s] 27 tests run: 24 passed (1 slow), 2 failed, 1 timed out, 0 skipped"
            ]),
            (24, 3)
        );
    }

    #[test]
    fn what_a_test_prints_is_not_counted() {
        assert_eq!(counted(&["40 passed, 3 failed"]), (0, 0));
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<&str> = STEPS.iter().map(|step| step.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), STEPS.len());
    }
}
