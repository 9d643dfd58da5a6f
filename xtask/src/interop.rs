//! `cargo xtask interop`: the Python implementation against the vectors and against this one.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::process;
use crate::report::{Output, Row};
use crate::steps::Tool;
use crate::workspace;

const SOURCES: &str = "interop/python";
const REQUIREMENTS: &str = "interop/python/requirements.txt";
/// The virtual environment, and beside it the requirements that it was made for.
const ENVIRONMENT: &str = "target/interop/environment";
const INSTALLED: &str = "target/interop/requirements.txt";
const MODULE: &str = "jsp_interop";

const PYTHON: &str = if cfg!(windows) { "python" } else { "python3" };
/// Prints the version, and fails where it is too old or cannot make virtual environments.
const PROBE: &str = "import sys, venv, ensurepip; assert sys.version_info >= (3, 11); print('Python', sys.version.split()[0])";
/// What the test command looks for before it begins.
pub(crate) const PYTHON_TOOL: Tool = (
    PYTHON,
    &["-c", PROBE],
    "install Python 3.11 or later with venv and pip (python3 and python3-venv on Debian)",
);

/// Prepares the environment, builds the Rust side and lets both talk; true when they agree.
pub(crate) fn run(output: Output) -> Result<bool> {
    let python = environment(output)?;
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

/// The Python of a virtual environment with the pinned packages, made anew when the pins change.
fn environment(output: Output) -> Result<PathBuf> {
    let root = workspace::root();
    let folder = root.join(ENVIRONMENT);
    let python = folder.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
    let wanted = workspace::read(REQUIREMENTS)?;
    let installed = std::fs::read_to_string(root.join(INSTALLED)).unwrap_or_default();
    if installed == wanted && python.is_file() {
        return Ok(python);
    }
    let (program, probe, remedy) = PYTHON_TOOL;
    match process::version(program, probe) {
        Some(version) => output.say(format!("using {version}")),
        None => bail!("`{program}` 3.11 with venv is missing: {remedy}"),
    }
    make(&folder, &python, output)?;
    std::fs::write(root.join(INSTALLED), wanted).with_context(|| INSTALLED.to_owned())?;
    Ok(python)
}

fn make(folder: &Path, python: &Path, output: Output) -> Result<()> {
    let mut venv = process::command(PYTHON);
    venv.args(["-m", "venv", "--clear"]).arg(folder);
    process::run(venv, output)?;
    let mut pip = process::command(python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary"]);
    pip.args([":all:", "--requirement", REQUIREMENTS]);
    process::run(pip, output).with_context(|| {
        format!("the packages that {REQUIREMENTS} pins are missing, and pip could not fetch them")
    })
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
