//! `cargo xtask interop`: the Python implementation against the vectors and against this one.

use anyhow::Result;

use crate::process;
use crate::python;
use crate::report::{Output, Row};
use crate::workspace;

const SOURCES: &str = "interop/python";
const REQUIREMENTS: &str = "interop/python/requirements.txt";
/// Where its virtual environment goes.
const ENVIRONMENT: &str = "target/interop";
const MODULE: &str = "jsp_interop";

/// Prepares the environment, builds the Rust side and lets both talk; true when they agree.
pub(crate) fn run(output: Output) -> Result<bool> {
    let python = python::environment(ENVIRONMENT, REQUIREMENTS, output)?;
    let mut cargo = process::cargo();
    cargo.args(["build", "--package", "jsp", "--example", "interop_peer"]);
    let peer = process::build(cargo, output)?;
    let mut command = process::command(python);
    command.current_dir(workspace::root().join(SOURCES));
    command.args(["-B", "-m", MODULE]).arg(workspace::root().join("vectors")).arg(peer);
    let status = process::stream(command, output, |_| {})?;
    let failed = u32::from(!status.success());
    let row = Row::new("interop", MODULE, "failed", failed, "count");
    output.row(&row.bar("== 0", status.success()));
    Ok(status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pin_is_exact() {
        let pins = workspace::read(REQUIREMENTS).unwrap();
        assert!(pins.lines().all(|line| line.contains("==")), "{pins}");
    }
}
