//! `cargo xtask bench size`: what the first program weighs, with either backend, and quinn's same program.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::process;
use crate::report::{Output, Row};
use crate::workspace;

/// Whose program, and which features of it.
struct Program {
    subject: &'static str,
    package: &'static str,
    features: &'static [&'static str],
    /// One of ours, which has a bar.
    is_ours: bool,
}

/// The first program, a server and a client in one: ours as it comes, and without a C compiler and what comes beside; quinn's with
/// the smallest of its settings, and with a post-quantum key exchange as ours always has.
const PROGRAMS: &[Program] = &[
    Program { subject: "jsp", package: "jsp-first", features: &[], is_ours: true },
    Program {
        subject: "jsp-portable",
        package: "jsp-first",
        features: &["--no-default-features", "--features", "portable"],
        is_ours: true,
    },
    Program { subject: QUINN, package: "quinn-first", features: &[], is_ours: false },
    Program {
        subject: "quinn-pq",
        package: "quinn-first",
        features: &["--no-default-features", "--features", "post-quantum"],
        is_ours: false,
    },
];
const QUINN: &str = "quinn";

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
        for program in PROGRAMS {
            let name = format!("{}-{profile}", program.subject);
            sizes.push((program, stripped_size(&build(program, profile, output)?, &name)?));
        }
        let quinn = sizes.iter().find(|(program, _)| program.subject == QUINN).map(|size| size.1);
        let quinn = quinn.context("quinn's program was not built")? as f64;
        for (program, bytes) in sizes {
            let row =
                Row::new("size", profile, "stripped_size", bytes, "B").subject(program.subject);
            let part = bytes as f64 / quinn;
            let line =
                format!("{profile:7}  {:12} {bytes:>10} bytes  {part:.2} x quinn", program.subject);
            if !program.is_ours {
                output.say(line);
                output.row(&row);
                continue;
            }
            let pass = part <= PART;
            let bar = format!("<= {:.0} ({PART} x quinn)", PART * quinn);
            let verdict = if pass { "holds" } else { "MISSED" };
            output.say(format!("{line}  bar {verdict}: {bar}"));
            output.row(&row.bar(bar, pass));
            holds &= pass;
        }
    }
    Ok(holds)
}

fn build(program: &Program, profile: &str, output: Output) -> Result<PathBuf> {
    let mut cargo = process::cargo();
    cargo.args(["build", "--profile", profile, "--manifest-path", "bench/Cargo.toml"]);
    cargo.args(["--package", program.package]).args(program.features);
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
