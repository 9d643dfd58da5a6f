//! `cargo xtask instructions`: how many instructions the hot paths take, beside what they took when last
//! looked at. Counts repeat, also on a busy machine, where times do not.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::process;
use crate::report::{Output, Row};
use crate::workspace;

/// Programs that do the work: package and example.
const PROGRAMS: &[(&str, &str)] =
    &[("jsp-proto", "machine_instructions"), ("jsp", "facade_instructions")];

/// What the counts were when last looked at.
const BASELINE: &str = "xtask/instructions.txt";

/// A count may be above its baseline by this share, in percent.
const TOLERANCE: f64 = 5.0;

/// A case and the instructions that a unit of it takes.
type Counts = Vec<(String, f64)>;

/// Counts all cases and compares them with the baseline, or writes it anew; true when no count rose.
pub(crate) fn run(write: bool, output: Output) -> Result<bool> {
    let mut counts = Counts::new();
    for (package, example) in PROGRAMS {
        counts.extend(measure(package, example, output)?);
    }
    if write {
        std::fs::write(workspace::root().join(BASELINE), text(&counts)?)?;
        output.say(format!("{BASELINE} is written"));
        return Ok(true);
    }
    let baseline = workspace::read(BASELINE)?;
    let is_known = baseline.lines().next() == Some(heading()?.as_str());
    let before = if is_known { parse(&baseline) } else { BTreeMap::new() };
    if !is_known {
        output.say(format!("NOT COMPARED: {BASELINE} is of another compiler or processor"));
    }
    Ok(report(&counts, &before, output))
}

/// As [`run`], for the test command: `Some` says why nothing was counted.
pub(crate) fn check(output: Output) -> Result<Option<String>> {
    if process::version("valgrind", &["--version"]).is_none() {
        let note = "valgrind does not run, so NO instructions were counted; Debian has it";
        return Ok(Some(note.to_owned()));
    }
    ensure!(run(false, output)?, "the hot paths take more instructions than they did: see above");
    Ok(None)
}

/// Prints the counts; false when one is above its baseline.
fn report(counts: &Counts, before: &BTreeMap<String, f64>, output: Output) -> bool {
    output.say(format!("{:28} {:>12} {:>12} {:>8}", "instructions a unit", "now", "before", "%"));
    let mut held = true;
    for (case, now) in counts {
        let mut row = Row::new("instructions", case, "instructions", now.round() as u64, "1");
        let mut line = format!("{case:28} {now:12.0}");
        if let Some(before) = before.get(case) {
            let change = (now / before - 1.0) * 100.0;
            let pass = *now <= before * (1.0 + TOLERANCE / 100.0) + 1e-6;
            held &= pass;
            row = row.bar(format!("<= {:.0}", before * (1.0 + TOLERANCE / 100.0)), pass);
            let verdict = if pass { "" } else { "  more than before" };
            let _ = write!(line, " {before:12.0} {change:+8.1}{verdict}");
        }
        output.say(line);
        output.row(&row);
    }
    held
}

/// Runs a program under callgrind.
fn measure(package: &str, example: &str, output: Output) -> Result<Counts> {
    let mut cargo = process::cargo();
    cargo.args(["build", "--release", "--package", package, "--example", example]);
    let program = process::build(cargo, output)?;
    let folder = workspace::root().join("target/instructions").join(example);
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    std::fs::create_dir_all(&folder)?;
    let mut valgrind = process::command("valgrind");
    valgrind
        .args(["--tool=callgrind", "--toggle-collect=*counted*", "--dump-after=*case_over*"])
        .arg(format!("--callgrind-out-file={}/out", folder.display()))
        .arg(program);
    let units = process::capture(valgrind)?;
    let mut counts = Counts::new();
    for (line, number) in units.lines().zip(1u32..) {
        let (case, units) = line.split_once(' ').context("a case has a name and units")?;
        let units: f64 = units.parse().with_context(|| format!("units of {case}"))?;
        let total = total(&folder.join(format!("out.{number}")))?;
        counts.push((case.to_owned(), total as f64 / units.max(1.0)));
    }
    Ok(counts)
}

/// The instructions of one dump.
fn total(dump: &Path) -> Result<u64> {
    let text = std::fs::read_to_string(dump).with_context(|| dump.display().to_string())?;
    let totals = text.lines().find_map(|line| line.strip_prefix("totals: "));
    let totals = totals.with_context(|| format!("{} has no totals", dump.display()))?;
    totals.trim().parse().with_context(|| dump.display().to_string())
}

/// The baseline's first line: counts of different compilers and processors cannot be compared.
fn heading() -> Result<String> {
    let mut rustc = Command::new("rustc");
    rustc.arg("--version");
    let version = process::capture(rustc)?;
    let version = version.split(' ').nth(1).unwrap_or_default().to_owned();
    Ok(format!("# rustc {version}, {}", std::env::consts::ARCH))
}

fn text(counts: &Counts) -> Result<String> {
    let mut text = heading()?;
    text.push_str(
        "\n# Instructions a unit: `cargo xtask instructions --write` writes this file.\n",
    );
    for (case, count) in counts {
        let _ = writeln!(text, "{case} {count:.0}");
    }
    Ok(text)
}

fn parse(baseline: &str) -> BTreeMap<String, f64> {
    let lines = baseline.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| {
            let (case, count) = line.split_once(' ')?;
            Some((case.to_owned(), count.parse().ok()?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rise_beyond_the_tolerance_fails() {
        let before = parse("# rustc 1, x\nsend 100\nreceive 200\n");
        let output = Output::new(true);
        let counts = |send, receive| vec![("send".into(), send), ("receive".into(), receive)];
        assert!(report(&counts(105.0, 150.0), &before, output));
        assert!(!report(&counts(105.1, 150.0), &before, output));
        let unknown = vec![("other".into(), 1e9)];
        assert!(report(&unknown, &before, output), "a new case has no bar yet");
    }

    #[test]
    fn what_is_written_is_read_again() {
        let counts = vec![("bulk/send".into(), 1234.4)];
        let before = parse(&text(&counts).unwrap());
        assert_eq!(before.get("bulk/send"), Some(&1234.0));
    }
}
