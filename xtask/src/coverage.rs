//! What the tracked corpora reach of `jsp-wire`, by the compiler's own instrumentation.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::process;
use crate::report::{Output, Row};
use crate::workspace;

/// The crate whose coverage is told: every byte from the network is parsed there.
const CRATE: &str = "jsp-wire";
const SOURCES: &str = "crates/jsp-wire/src";
/// Where instrumented programs and their profiles go.
const FOLDER: &str = "target/coverage";

/// Prints which part of the branches, regions and lines the replay of the corpora runs through. Without
/// LLVM's tools of the compiler's version it says so, and measures nothing.
pub(crate) fn run(output: Output) -> Result<()> {
    let Some(tools) = Tools::find()? else {
        output.say(format!(
            "EDGES OF {CRATE} ARE NOT MEASURED: llvm-cov and llvm-profdata of the compiler's LLVM are \
             not installed (`rustup component add llvm-tools`, or a package of that version)"
        ));
        return Ok(());
    };
    let folder = workspace::root().join(FOLDER);
    let profiles = folder.join("profiles");
    // Those of an older program would not fit.
    let _absent = std::fs::remove_dir_all(&profiles);
    let program = process::build(instrumented(&["test", "--no-run"]), output)?;
    let mut replay = process::command(&program);
    replay.current_dir(workspace::root().join("crates").join(CRATE));
    replay.env("LLVM_PROFILE_FILE", profiles.join("%p.profraw"));
    process::run(replay, output)?;
    let merged = folder.join("merged.profdata");
    process::run(tools.merge(&profiles, &merged)?, output)?;
    let summary = process::capture(tools.export(&program, &merged))?;
    for (metric, percent) in percentages(&summary)? {
        output.say(format!("{CRATE}: {percent:.1} % of its {metric} by the tracked corpora"));
        let value = serde_json::Number::from_f64((percent * 10.0).round() / 10.0);
        let value = value.context("a percentage is finite")?;
        output.row(&Row::new("fuzz", format!("{CRATE} {metric}"), "coverage", value, "%"));
    }
    Ok(())
}

/// Branches are an unstable option of a stable compiler, which the variable opens.
fn instrumented(arguments: &[&str]) -> Command {
    let mut cargo = process::cargo();
    cargo.args(arguments).args(["--package", CRATE, "--test", "corpus", "--target-dir", FOLDER]);
    cargo.env("RUSTC_BOOTSTRAP", "1");
    cargo.env("RUSTFLAGS", "-C instrument-coverage -Z coverage-options=branch");
    // Build scripts and macros are instrumented as well; what they leave is of no use.
    cargo.env("LLVM_PROFILE_FILE", workspace::root().join(FOLDER).join("build.profraw"));
    cargo
}

/// LLVM's tools, of the version that the compiler was made with.
struct Tools {
    profdata: PathBuf,
    cov: PathBuf,
}

impl Tools {
    fn find() -> Result<Option<Self>> {
        let mut rustc = process::command("rustc");
        rustc.arg("-vV");
        let about = process::capture(rustc)?;
        let mut rustc = process::command("rustc");
        rustc.args(["--print", "target-libdir"]);
        let beside = Path::new(process::capture(rustc)?.trim()).join("../bin");
        let Some(major) = llvm_major(&about) else { return Ok(None) };
        let find = |name: &str| {
            let names = [beside.join(name), format!("{name}-{major}").into(), name.into()];
            names.into_iter().find(|path| version(path) == Some(major))
        };
        Ok(find("llvm-profdata")
            .zip(find("llvm-cov"))
            .map(|(profdata, cov)| Self { profdata, cov }))
    }

    fn merge(&self, profiles: &Path, merged: &Path) -> Result<Command> {
        let mut command = process::command(&self.profdata);
        command.args(["merge", "-sparse"]);
        for entry in std::fs::read_dir(profiles).context("the replay left no profile")? {
            command.arg(entry?.path());
        }
        command.arg("-o").arg(merged);
        Ok(command)
    }

    fn export(&self, program: &Path, merged: &Path) -> Command {
        let mut command = process::command(&self.cov);
        command.args(["export", "-summary-only", "-instr-profile"]).arg(merged).arg(program);
        command.arg(workspace::root().join(SOURCES));
        command
    }
}

/// The first number behind `LLVM version`.
fn llvm_major(text: &str) -> Option<u32> {
    let (_, rest) = text.split_once("LLVM version")?;
    let digits: String =
        rest.trim_start_matches([':', ' ']).chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

fn version(tool: &Path) -> Option<u32> {
    let mut command = process::command(tool);
    command.arg("--version");
    llvm_major(&process::capture(command).ok()?)
}

/// What a summary says in all.
fn percentages(summary: &str) -> Result<Vec<(&'static str, f64)>> {
    let summary: serde_json::Value =
        serde_json::from_str(summary).context("llvm-cov printed no JSON")?;
    let totals = &summary["data"][0]["totals"];
    ["branches", "regions", "lines"]
        .into_iter()
        .map(|metric| {
            let percent = totals[metric]["percent"].as_f64();
            Ok((metric, percent.with_context(|| format!("no {metric} in the summary"))?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_compiler_and_tools() {
        assert_eq!(llvm_major("host: x\nLLVM version: 22.1.2\n"), Some(22));
        assert_eq!(llvm_major("Debian LLVM version 14.0.6\n  Optimized build."), Some(14));
        assert_eq!(llvm_major("no such thing"), None);
    }

    #[test]
    fn a_summary_is_read() {
        let summary = r#"{"data":[{"totals":{"branches":{"percent":90.5},
            "regions":{"percent":95},"lines":{"percent":99.25}}}]}"#;
        let read = percentages(summary).unwrap();
        assert_eq!(read, [("branches", 90.5), ("regions", 95.0), ("lines", 99.25)]);
        assert!(percentages("{}").is_err());
    }
}
