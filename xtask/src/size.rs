//! `cargo xtask bench size`: what the first program weighs, and quinn's same program.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::process;
use crate::report::{Output, Row};
use crate::workspace;

/// Whose program, and how cargo is asked for it.
type Program = (&'static str, &'static [&'static str]);

/// The first program, a server and a client in one; quinn's with the smallest of its settings, and with a post-quantum key
/// exchange as ours has.
const PROGRAMS: &[Program] = &[
    ("jsp", &["--package", "jsp", "--example", "first"]),
    ("quinn", QUINN),
    (
        "quinn-pq",
        &[
            "--manifest-path",
            "bench/Cargo.toml",
            "--package",
            "quinn-first",
            "--no-default-features",
            "--features",
            "post-quantum",
        ],
    ),
];
const QUINN: &[&str] = &["--manifest-path", "bench/Cargo.toml", "--package", "quinn-first"];

/// Ours weighs at most this part of quinn's classical one.
const PART: f64 = 0.7;

/// A release profile for size, written on the command line so that the manifests keep what users build with.
const SMALL: &[&str] = &[
    "profile.small.inherits=\"release\"",
    "profile.small.opt-level=\"z\"",
    "profile.small.lto=\"fat\"",
    "profile.small.codegen-units=1",
    "profile.small.panic=\"abort\"",
    "profile.small.debug=false",
];

/// Builds the programs with both profiles and prints the stripped sizes; whether ours are small enough.
pub(crate) fn run(output: Output) -> Result<bool> {
    let mut holds = true;
    for profile in ["release", "small"] {
        let mut sizes = Vec::new();
        for (subject, what) in PROGRAMS {
            let name = format!("{subject}-{profile}");
            sizes.push((*subject, stripped_size(&build(what, profile, output)?, &name)?));
        }
        let quinn = sizes.iter().find(|(subject, _)| *subject == "quinn").map(|size| size.1);
        let limit = PART * quinn.context("quinn's program was not built")? as f64;
        for (subject, bytes) in sizes {
            let row = Row::new("size", profile, "stripped_size", bytes, "B").subject(subject);
            let kibibytes = bytes.div_ceil(1024);
            let line = format!("{profile:7}  {subject:8} {bytes:>10} bytes ({kibibytes} KiB)");
            if subject != "jsp" {
                output.say(line);
                output.row(&row);
                continue;
            }
            let pass = bytes as f64 <= limit;
            let bar = format!("<= {limit:.0} ({PART} x quinn)");
            let verdict = if pass { "holds" } else { "MISSED" };
            output.say(format!("{line}  bar {verdict}: {bar}"));
            output.row(&row.bar(bar, pass));
            holds &= pass;
        }
    }
    Ok(holds)
}

fn build(what: &[&str], profile: &str, output: Output) -> Result<PathBuf> {
    let mut cargo = process::cargo();
    cargo.args(["build", "--profile", profile]).args(what);
    if profile == "small" {
        for setting in SMALL {
            cargo.args(["--config", setting]);
        }
    }
    process::build(cargo, output)
}

fn stripped_size(program: &Path, name: &str) -> Result<u64> {
    let stripped = workspace::root().join(format!("target/{name}.stripped"));
    let mut strip = process::command("strip");
    strip.arg("-o").arg(&stripped).arg(program);
    process::capture(strip).context("`strip` is needed; it comes with binutils")?;
    Ok(std::fs::metadata(&stripped).with_context(|| stripped.display().to_string())?.len())
}
