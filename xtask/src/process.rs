//! Running other programs: their lines forwarded as they come, their absence explained.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;

use anyhow::{Context, Result, bail};

use crate::report::Output;
use crate::workspace;

/// The cargo that started this program, run from the workspace root.
pub(crate) fn cargo() -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    command(program)
}

/// Any program, run from the workspace root without standard input.
pub(crate) fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(workspace::root()).stdin(Stdio::null());
    command
}

/// The command as a person would type it.
pub(crate) fn shown(command: &Command) -> String {
    let program = command.get_program().to_string_lossy();
    let name = program.rsplit('/').next().unwrap_or(&program);
    let args = command.get_args().map(|arg| quoted(&arg.to_string_lossy()));
    std::iter::once(name.to_owned()).chain(args).collect::<Vec<_>>().join(" ")
}

fn quoted(arg: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:,+@{}".contains(c);
    if !arg.is_empty() && arg.chars().all(plain) { arg.to_owned() } else { format!("'{arg}'") }
}

/// Runs to the end, forwarding every line to `output` and showing it to `on_line` first.
pub(crate) fn stream(
    mut command: Command,
    output: Output,
    mut on_line: impl FnMut(&str),
) -> Result<ExitStatus> {
    let what = shown(&command);
    output.say(format!("$ {what}"));
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("could not start `{what}`"))?;
    let (lines, received) = mpsc::channel();
    let readers = [
        child.stdout.take().map(|pipe| forward(pipe, lines.clone())),
        child.stderr.take().map(|pipe| forward(pipe, lines)),
    ];
    for line in received {
        on_line(&line);
        output.say(line);
    }
    for reader in readers.into_iter().flatten() {
        reader.join().expect("a line reader does not panic");
    }
    child.wait().with_context(|| format!("lost `{what}`"))
}

fn forward(
    pipe: impl Read + Send + 'static,
    lines: mpsc::Sender<String>,
) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let mut reader = BufReader::new(pipe);
        let mut line = Vec::new();
        while matches!(reader.read_until(b'\n', &mut line), Ok(n) if n > 0) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            if lines.send(text).is_err() {
                return;
            }
            line.clear();
        }
    })
}

/// Runs to the end, forwarding its lines; an error names the command that failed.
pub(crate) fn run(command: Command, output: Output) -> Result<()> {
    let what = shown(&command);
    let status = stream(command, output, |_| {})?;
    if !status.success() {
        bail!("`{what}` failed ({status})");
    }
    Ok(())
}

/// Runs quietly and returns its standard output; an error carries its standard error.
pub(crate) fn capture(mut command: Command) -> Result<String> {
    let what = shown(&command);
    let output = command.output().with_context(|| format!("could not start `{what}`"))?;
    if !output.status.success() {
        bail!("`{what}` failed ({})\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{what}` printed invalid UTF-8"))
}

/// Runs a `cargo build` of one program and gives the path of what it built.
pub(crate) fn build(mut cargo: Command, output: Output) -> Result<PathBuf> {
    cargo.args(["--message-format", "json-render-diagnostics"]);
    output.say(format!("$ {}", shown(&cargo)));
    let messages = capture(cargo)?;
    executable(&messages).context("cargo built no program")
}

/// The path of the program that a build's messages name last.
fn executable(messages: &str) -> Option<PathBuf> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter_map(|message| message["executable"].as_str().map(PathBuf::from))
        .next_back()
}

/// The first line of `program --version`-like output, or nothing when it does not run.
pub(crate) fn version(program: &str, args: &[&str]) -> Option<String> {
    let mut command = command(program);
    command.args(args);
    let text = capture(command).ok()?;
    text.lines().next().map(str::to_owned)
}

/// Installs a cargo subcommand from the registry unless it is there.
///
/// Speed of the build matters more here than speed of the tool.
pub(crate) fn ensure_cargo_tool(name: &str, version_wanted: &str, output: Output) -> Result<()> {
    let subcommand = name.trim_start_matches("cargo-");
    if let Some(found) = version("cargo", &[subcommand, "--version"]) {
        output.say(format!("using {found}"));
        return Ok(());
    }
    output.say(format!("{name} is not installed: building {name} {version_wanted} once"));
    let mut install = cargo();
    install
        .args(["install", "--locked", "--version", version_wanted, name, "--target-dir"])
        .arg(workspace::root().join("target/tools"))
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")
        .env("CARGO_PROFILE_RELEASE_DEBUG", "0");
    run(install, output).with_context(|| {
        format!(
            "{name} is needed; install it with `cargo install --locked {name}` and run this again"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_as_typed() {
        let mut command = Command::new("/usr/bin/cargo");
        command.args(["run", "-p", "jsp-sim", "--", "two words"]);
        assert_eq!(shown(&command), "cargo run -p jsp-sim -- 'two words'");
    }

    #[test]
    fn the_program_is_read_from_the_messages() {
        let messages = "{\"executable\":null}\n{\"reason\":\"x\",\"executable\":\"target/small/examples/first\"}\n{\"success\":true}\n";
        assert_eq!(executable(messages), Some(PathBuf::from("target/small/examples/first")));
        assert_eq!(executable("{\"executable\":null}\n"), None);
    }

    #[test]
    fn lines_of_both_streams_arrive() {
        let mut seen = Vec::new();
        let mut shell = Command::new("sh");
        shell.args(["-c", "echo out; echo err >&2; exit 3"]);
        let status = stream(shell, Output::new(true), |line| seen.push(line.to_owned())).unwrap();
        seen.sort();
        assert_eq!(seen, ["err", "out"]);
        assert_eq!(status.code(), Some(3));
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = capture(Command::new("jsp-no-such-program")).unwrap_err();
        assert!(error.to_string().contains("jsp-no-such-program"));
    }
}
