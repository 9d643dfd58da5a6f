//! Two `jsp` and a `jspd`, as programs, behind the kernel's boxes: which pairs connect, and which do so directly,
//! beside what theory and the simulator have. The links are as fast as the machine, without delay.

mod rules;
mod sites;

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use jsp_sim::nat::Site;
use serde_json::Value;

use crate::report::Row;
use sites::{HUB, Town};

/// Bytes that are sent: over a relay with its rate of one megabyte a second they take long enough for a direct way to
/// be found.
const FILE_LEN: usize = 6_000_000;
/// No transfer takes longer.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The matrix: a transfer from each site to each other one. Those of `only` on either side; all when none is named.
pub(crate) fn run(only: &[String]) -> Result<Vec<Row>> {
    let is_wanted = |site: &Site| only.is_empty() || only.iter().any(|name| name == site.name());
    let wanted: Vec<Site> = Site::ALL.into_iter().filter(is_wanted).collect();
    ensure!(!wanted.is_empty(), "there is no such site: {:?}", Site::ALL.map(Site::name));
    let programs = Programs::find()?;
    let (mut rows, mut table) = (Vec::new(), head(&wanted));
    for one in &wanted {
        table.push_str(&format!("\n| {} |", one.name()));
        for two in &wanted {
            let found = meet(&programs, [*one, *two]);
            let expected = expected([*one, *two]);
            let told = match &found {
                Ok(way) if way == expected => way.clone(),
                Ok(way) => format!("{way} (theory: {expected})"),
                Err(error) => {
                    eprintln!("MISSING: {} to {}: {error:#}", one.name(), two.name());
                    format!("fails (theory: {expected})")
                }
            };
            eprintln!("{} to {}: {told}", one.name(), two.name());
            table.push_str(&format!(" {told} |"));
            rows.extend(judge([*one, *two], found.as_deref().ok()));
        }
    }
    eprintln!("\n{table}");
    Ok(rows)
}

fn head(sites: &[Site]) -> String {
    let names: String = sites.iter().map(|site| format!(" {} |", site.name())).collect();
    format!("| sender / receiver |{names}\n|---|{}", "---|".repeat(sites.len()))
}

/// As in the simulator: where no UDP passes, the coordinator and its relay are reached by a stream.
fn expected([one, two]: [Site; 2]) -> &'static str {
    if one.meets(two) { "direct" } else { "relay" }
}

fn judge(sites: [Site; 2], found: Option<&str>) -> Vec<Row> {
    let [one, two] = sites.map(Site::name);
    let row = |metric, holds: bool| {
        Row::new(format!("{one}/{two}"), metric, f64::from(u8::from(holds)), "of 1")
    };
    let connects = matches!(found, Some("direct" | "relay"));
    let (is_direct, may) = (found == Some("direct"), expected(sites) == "direct");
    vec![
        row("connected", connects).bar("== 1", connects),
        row("direct", is_direct).bar(if may { "== 1" } else { "== 0" }, is_direct == may),
    ]
}

/// The programs of this workspace, beside this one.
struct Programs {
    jsp: PathBuf,
    jspd: PathBuf,
}

impl Programs {
    fn find() -> Result<Self> {
        let own = std::env::current_exe()?;
        let folder = own.parent().context("this program is in no folder")?;
        let [jsp, jspd] = ["jsp", "jspd"].map(|name| folder.join(name));
        for program in [&jsp, &jspd] {
            ensure!(
                program.exists(),
                "{} is not built: `cargo xtask lab nat` does it",
                program.display()
            );
        }
        Ok(Self { jsp, jspd })
    }
}

/// A program under way; ended when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A folder that is gone when dropped.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Sends a file from one site to the other. Answers which way it went at the end; `none` where a side does not reach the
/// coordinator.
fn meet(programs: &Programs, sites: [Site; 2]) -> Result<String> {
    let folder = std::env::temp_dir().join(format!("jsp-lab-nat-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let folder = Folder(folder);
    let town = Town::new(sites)?;
    let mut jspd = town.command(None);
    jspd.arg(&programs.jspd).args(["--bind", "0.0.0.0:4433", "--tcp", "0.0.0.0:4433", "--key"]);
    jspd.arg(folder.0.join("jspd.key")).stderr(Stdio::piped()).stdout(Stdio::null());
    let mut jspd = Running(jspd.spawn()?);
    let said = jspd.0.stderr.take().context("jspd has no output")?;
    let mut said = BufReader::new(said).lines();
    let fingerprint =
        said.find_map(|line| line.ok()?.strip_prefix("fingerprint ").map(str::to_owned));
    let coordinator = format!("jsp://{}@{HUB}:4433", fingerprint.context("jspd does not start")?);
    let jsp = |side: usize, command: &str| -> Result<Command> {
        let home = folder.0.join(side.to_string());
        std::fs::create_dir_all(&home)?;
        let mut out = town.command(Some(side));
        out.arg(&programs.jsp).args([command, "--json", "--quiet"]);
        out.args(["--timeout", "5", "--coordinator", &coordinator]);
        out.env("JSP_CONFIG_DIR", home.join("config")).current_dir(&home);
        out.stdout(Stdio::piped()).stderr(Stdio::null());
        Ok(out)
    };
    let mut receiver = jsp(1, "recv")?;
    let mut receiver = Running(receiver.arg("--code").spawn()?);
    let told = receiver.0.stdout.take().context("jsp has no output")?;
    let mut told = BufReader::new(told).lines();
    let code = told.find_map(|line| field(&line.ok()?, "code", "code"));
    let Some(code) = code else { return Ok("none".to_owned()) };
    send(&folder.0, jsp(0, "send")?, &code)
}

fn send(folder: &Path, mut sender: Command, code: &str) -> Result<String> {
    let file = folder.join("file");
    std::fs::write(&file, vec![7; FILE_LEN])?;
    sender.arg(&file).args(["--code", code]);
    let mut sender = Running(sender.spawn()?);
    let until = Instant::now() + PATIENCE;
    let ended = loop {
        match sender.0.try_wait()? {
            None if Instant::now() < until => std::thread::sleep(LOOK_EVERY),
            ended => break ended,
        }
    };
    let ended = ended.context("the transfer does not end")?;
    let mut told = String::new();
    sender.0.stdout.take().context("jsp has no output")?.read_to_string(&mut told)?;
    let is_done = ended.success();
    let way = told.lines().find_map(|line| field(line, "way", "way"));
    match way.filter(|_| is_done) {
        Some(way) => Ok(way),
        // The first thing that it does is to reach the coordinator.
        None if told.contains("the coordinator") => Ok("none".to_owned()),
        None => anyhow::bail!("the transfer failed: {}", told.trim()),
    }
}

/// A field of an event.
fn field(line: &str, event: &str, name: &str) -> Option<String> {
    let object: Value = serde_json::from_str(line).ok()?;
    let is_it = object.get("event")?.as_str()? == event;
    is_it.then(|| object.get(name)?.as_str().map(str::to_owned))?
}
