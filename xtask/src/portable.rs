//! `jsp` without a C compiler: the feature `portable` alone builds, and its first program makes a connection.

use anyhow::{Result, bail};

use crate::process;
use crate::report::Output;

/// How the portable build of the facade is asked for.
const PORTABLE: &[&str] = &["--package", "jsp", "--no-default-features", "--features", "portable"];
/// It is built for one message each way: what takes time to compile is left out.
const QUICK: &[&str] =
    &["--config", "profile.dev.opt-level=0", "--config", "profile.dev.debug=false"];
/// Crates that bring C, or compile it.
const NATIVE: &[&str] = &["ring", "aws-lc-rs", "aws-lc-sys", "cc", "cmake"];

/// Looks for C among the dependencies, then runs the first program.
pub(crate) fn run(output: Output) -> Result<()> {
    let mut tree = process::cargo();
    tree.args(["tree", "--prefix", "none", "--edges", "normal,build"]).args(PORTABLE);
    let listing = process::capture(tree)?;
    let found = native(&listing);
    if !found.is_empty() {
        bail!("the portable build of `jsp` depends on {}", found.join(", "));
    }
    let mut cargo = process::cargo();
    cargo.args(["run", "--quiet", "--example", "first"]).args(PORTABLE).args(QUICK);
    process::run(cargo, output)
}

/// Which of [`NATIVE`] a listing of `cargo tree` names.
fn native(listing: &str) -> Vec<&str> {
    let names = listing.lines().filter_map(|line| line.split_whitespace().next());
    let mut found: Vec<_> = names.filter(|name| NATIVE.contains(name)).collect();
    found.sort_unstable();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crates_with_c_are_found_by_their_whole_name() {
        assert!(native("jsp v0.1.0 (/x)\nspring v1.0.0\nccm v0.5.0\n").is_empty());
        assert_eq!(
            native("jsp v0.1.0\nring v0.17.14\ncc v1.2.0\nring v0.17.14 (*)\n"),
            ["cc", "ring"]
        );
    }
}
