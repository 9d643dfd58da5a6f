//! Virtual environments of Python with pinned packages, below `target/`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::process;
use crate::report::Output;
use crate::steps::Tool;
use crate::workspace;

const PYTHON: &str = if cfg!(windows) { "python" } else { "python3" };
/// Prints the version, and fails where it is too old or cannot make virtual environments.
const PROBE: &str = "import sys, venv, ensurepip; assert sys.version_info >= (3, 11); print('Python', sys.version.split()[0])";
/// What the test command looks for before it begins.
pub(crate) const TOOL: Tool = (
    PYTHON,
    &["-c", PROBE],
    "install Python 3.11 or later with venv and pip (python3 and python3-venv on Debian)",
);

/// The Python of a virtual environment below `place` with the packages that `requirements` pins, made
/// anew when the pins change. Both paths are relative to the root.
pub(crate) fn environment(place: &str, requirements: &str, output: Output) -> Result<PathBuf> {
    let place = workspace::root().join(place);
    let folder = place.join("environment");
    let noted = place.join("requirements.txt");
    let python = folder.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
    let wanted = workspace::read(requirements)?;
    let installed = std::fs::read_to_string(&noted).unwrap_or_default();
    if installed == wanted && python.is_file() {
        return Ok(python);
    }
    let (program, probe, remedy) = TOOL;
    match process::version(program, probe) {
        Some(version) => output.say(format!("using {version}")),
        None => bail!("`{program}` 3.11 with venv is missing: {remedy}"),
    }
    make(&folder, &python, requirements, output)?;
    std::fs::write(&noted, wanted).with_context(|| noted.display().to_string())?;
    Ok(python)
}

fn make(folder: &Path, python: &Path, requirements: &str, output: Output) -> Result<()> {
    let mut venv = process::command(PYTHON);
    venv.args(["-m", "venv", "--clear"]).arg(folder);
    process::run(venv, output)?;
    let mut pip = process::command(python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary"]);
    pip.args([":all:", "--requirement", requirements]);
    process::run(pip, output).with_context(|| {
        format!("the packages that {requirements} pins are missing, and pip could not fetch them")
    })
}
