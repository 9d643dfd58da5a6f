//! `cargo xtask sim`, `timing`, `bench` and `lab`: the programs that measure, built as they are shipped.

use anyhow::{Context, Result};

use crate::report::Output;
use crate::{process, size};

/// Runs the simulator; true when every checker held.
pub(crate) fn sim(arguments: &[String]) -> Result<bool> {
    run(&["--package", "jsp-sim"], arguments)
}

/// Measures what observers see; true when every bar held.
pub(crate) fn privacy(flows: u64, json: bool) -> Result<bool> {
    let flows = flows.to_string();
    let mut arguments = vec!["privacy", "--seeds", &flows];
    arguments.extend(json.then_some("--json"));
    sim(&arguments.into_iter().map(str::to_owned).collect::<Vec<_>>())
}

/// Times comparisons of secrets; true when none tells what it compares.
pub(crate) fn timing(samples: u64, json: bool) -> Result<bool> {
    let samples = samples.to_string();
    let mut arguments = vec!["--samples", &samples];
    arguments.extend(json.then_some("--json"));
    let arguments: Vec<_> = arguments.into_iter().map(str::to_owned).collect();
    run(&["--package", "jsp-hostile", "--example", "timing"], &arguments)
}

/// Builds the benchmark with the peers that take their time to build; the program itself lists them.
const PEERS: &str = "--peers";
/// With those besides that want cmake and a C++ compiler.
const HEAVY: &str = "--heavy";

/// Runs the benchmark program; true when every bar held.
pub(crate) fn bench(arguments: &[String]) -> Result<bool> {
    let is_json = arguments.iter().any(|argument| argument == "--json");
    if arguments.first().is_some_and(|workload| workload == "size") {
        return size::run(Output::new(is_json));
    }
    let (peers, arguments): (Vec<_>, Vec<_>) =
        arguments.iter().cloned().partition(|argument| argument == PEERS || argument == HEAVY);
    let package: &[&str] = if peers.iter().any(|argument| argument == HEAVY) {
        &["--manifest-path", "bench/heavy/Cargo.toml"]
    } else if peers.is_empty() {
        &["--manifest-path", "bench/Cargo.toml"]
    } else {
        &["--manifest-path", "bench/Cargo.toml", "--features", "peers"]
    };
    run(package, &arguments)
}

/// Runs the lab of real sockets; true when every bar held, or the lab is not permitted here.
pub(crate) fn lab(arguments: &[String]) -> Result<bool> {
    if arguments.first().is_some_and(|case| case == "nat") {
        // The programs that meet there.
        let mut cargo = process::cargo();
        cargo.args(["build", "--quiet", "--release", "--package", "jsp-cli", "--package"]);
        let what = process::shown(cargo.arg("jsp-server"));
        let status = cargo.status().with_context(|| format!("could not start `{what}`"))?;
        if !status.success() {
            return Ok(false);
        }
    }
    run(&["--package", "jsp-lab"], arguments)
}

/// The child keeps our standard output and error, so rows and progress arrive as it prints them.
fn run(package: &[&str], arguments: &[String]) -> Result<bool> {
    let mut cargo = process::cargo();
    cargo.args(["run", "--quiet", "--release"]).args(package).arg("--").args(arguments);
    let what = process::shown(&cargo);
    let status = cargo.status().with_context(|| format!("could not start `{what}`"))?;
    Ok(status.success())
}
