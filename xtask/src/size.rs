//! `cargo xtask size`: what a small client weighs.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::process;
use crate::report::{Output, Row};
use crate::workspace;

/// The package and the example that stand for a small client.
const PACKAGE: &str = "jsp";
const EXAMPLE: &str = "first";

/// A release profile for size, written on the command line so that the manifest keeps what users build with.
const SMALL: &[&str] = &[
    "profile.small.inherits=\"release\"",
    "profile.small.opt-level=\"z\"",
    "profile.small.lto=\"fat\"",
    "profile.small.codegen-units=1",
    "profile.small.panic=\"abort\"",
    "profile.small.debug=false",
];

/// Builds the client with both profiles and prints the stripped sizes.
pub(crate) fn run(output: Output) -> Result<bool> {
    let packages = workspace::packages("Cargo.toml")?;
    let exists = packages.iter().any(|p| p.name == PACKAGE && p.builds("example", EXAMPLE));
    ensure!(exists, "the package `{PACKAGE}` has no example `{EXAMPLE}`");
    for profile in ["release", "small"] {
        let bytes = stripped_size(&build(profile, output)?, profile)?;
        let kibibytes = bytes.div_ceil(1024);
        output.say(format!(
            "{PACKAGE} example {EXAMPLE}, {profile:7} {bytes:>10} bytes ({kibibytes} KiB) stripped"
        ));
        output.row(&Row::new("size", profile, "stripped_size", bytes, "B"));
    }
    Ok(true)
}

fn build(profile: &str, output: Output) -> Result<PathBuf> {
    let mut cargo = process::cargo();
    cargo.args(["build", "--package", PACKAGE, "--example", EXAMPLE, "--profile", profile]);
    if profile == "small" {
        for setting in SMALL {
            cargo.args(["--config", setting]);
        }
    }
    process::build(cargo, output)
}

fn stripped_size(program: &Path, profile: &str) -> Result<u64> {
    let stripped = workspace::root().join(format!("target/{EXAMPLE}-{profile}.stripped"));
    let mut strip = process::command("strip");
    strip.arg("-o").arg(&stripped).arg(program);
    process::capture(strip).context("`strip` is needed; it comes with binutils")?;
    Ok(std::fs::metadata(&stripped).with_context(|| stripped.display().to_string())?.len())
}
