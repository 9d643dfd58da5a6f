//! The cases: a link shared with kernel TCP, messages through fades, a change of address of a host that sends and of
//! one that only receives.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jsp_sim::link::{Faults, LinkConfig, Loss, Queue, Rate};
use serde_json::Value;

use crate::hosts::{Hosts, RIGHT_ADDRESS, Side};
use crate::report::Row;
use crate::role::PACE;
use crate::shell::Shell;

/// The shared link: bits a second, one way, and a queue of one bandwidth-delay product.
const RATE: u64 = 20_000_000;
const ONE_WAY: Duration = Duration::from_millis(20);
const QUEUE: u64 = RATE / 8 * 40 / 1000;

/// Before a share is measured: both are past their startup.
const SETTLE: Duration = Duration::from_secs(5);

/// A share is fair within these bounds.
const SHARE: std::ops::RangeInclusive<f64> = 0.35..=0.65;
/// Beside BBR at least this.
const SHARE_BBR: f64 = 0.3;

/// Seconds of the message cases.
const MESSAGES_SECONDS: u64 = 20;
/// A quarter into that, the left host moves.
const MOVES_AFTER: Duration = Duration::from_secs(5);
/// Messages may be missing for so long when it does, in milliseconds.
const GAP_MAX: f64 = 1000.0;
/// A host that only receives is without a network for so long when it moves: longer than an acknowledgement waits,
/// which would show its new address.
const AWAY: Duration = Duration::from_secs(1);
/// Messages may be missing for so much longer than it was away, in milliseconds: the pace of looking, two round trips,
/// and a machine that has other things to do.
const BACK_MAX: f64 = 500.0;
/// A listener goes on for so long after the last message was sent, in seconds.
const LISTENS_ON: u64 = 3;

/// Runs the cases that are wanted; all when none is named.
pub(crate) fn run(seconds: u64, only: &[String]) -> Result<Vec<Row>> {
    let wanted = |case: &str| only.is_empty() || only.iter().any(|name| name == case);
    let fading = Loss::fading(0.05, Duration::from_millis(30));
    let mut rows = Vec::new();
    for (case, control) in [("share-cubic", "cubic"), ("share-bbr", "bbr")] {
        if wanted(case) {
            rows.extend(share(case, control, seconds)?);
        }
    }
    for (case, loss, moves) in [("fades", fading, false), ("move", Loss::None, true)] {
        if wanted(case) {
            rows.extend(messages(case, loss, moves)?);
        }
    }
    for (case, unwatched) in [("roam", false), ("roam-unwatched", true)] {
        if wanted(case) {
            rows.extend(roam(case, unwatched)?);
        }
    }
    ensure!(!rows.is_empty(), "there is no such case: see --help");
    Ok(rows)
}

/// A program under way, and what it says.
struct Program {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Program {
    fn start(hosts: &Hosts, side: Side, arguments: &[&str]) -> Result<Self> {
        let mut child = hosts.role(side, arguments)?.spawn().context("could not start `ip`")?;
        let output = child.stdout.take().context("no output")?;
        Ok(Self { child, lines: BufReader::new(output).lines() })
    }

    fn line(&mut self) -> Result<String> {
        self.lines
            .next()
            .context("a program in a namespace ended without a word")?
            .map_err(Into::into)
    }

    fn finish(mut self) -> Result<()> {
        ensure!(self.child.wait()?.success(), "a program in a namespace failed");
        Ok(())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn address(port: u16) -> String {
    format!("{RIGHT_ADDRESS}:{port}")
}

fn shared() -> LinkConfig {
    LinkConfig {
        rate: Rate::Constant(RATE),
        queue: Queue::DropTail { bytes: QUEUE },
        ..LinkConfig::delayed(ONE_WAY)
    }
}

/// Bulk of ours and bulk of kernel TCP, side by side.
fn share(case: &'static str, control: &'static str, seconds: u64) -> Result<Vec<Row>> {
    eprintln!("{case}: {} s ..", seconds + SETTLE.as_secs());
    let known = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_available_congestion_control")?;
    if !known.split_whitespace().any(|name| name == control) {
        eprintln!("SKIPPED: {case}: this kernel has no TCP {control}");
        return Ok(Vec::new());
    }
    let (hosts, devices) = Hosts::new(0)?;
    let shell = Shell::start(devices, shared(), shared(), 1);
    let mut sink = Program::start(&hosts, Side::Right, &["sink-jsp", &address(4433)])?;
    let fingerprint = sink.line()?;
    let mut tcp_sink = Program::start(&hosts, Side::Right, &["sink-tcp", &address(4434)])?;
    tcp_sink.line()?;
    let lasts = (seconds + SETTLE.as_secs() + 1).to_string();
    let ours =
        Program::start(&hosts, Side::Left, &["bulk-jsp", &address(4433), &fingerprint, &lasts])?;
    let theirs =
        Program::start(&hosts, Side::Left, &["bulk-tcp", &address(4434), control, &lasts])?;
    std::thread::sleep(SETTLE);
    let before = (shell.arrived.udp(), shell.arrived.tcp());
    std::thread::sleep(Duration::from_secs(seconds));
    let (udp, tcp) = (shell.arrived.udp() - before.0, shell.arrived.tcp() - before.1);
    drop((ours, theirs, sink, tcp_sink));
    let mbit = |bytes: u64| bytes as f64 * 8e-6 / seconds as f64;
    let share = udp as f64 / (udp + tcp).max(1) as f64;
    let row = Row::new(case, "share", share, "of both");
    let row = match control {
        "cubic" => row.bar("0.35 to 0.65", SHARE.contains(&share)),
        _ => row.bar(">= 0.3", share >= SHARE_BBR),
    };
    Ok(vec![
        Row::new(case, "arrived", mbit(udp), "Mbit/s"),
        Row::new(case, "arrived", mbit(tcp), "Mbit/s").of(control),
        row,
    ])
}

/// A reliable message stream over a link with faults, or of a host that moves.
fn messages(case: &'static str, loss: Loss, moves: bool) -> Result<Vec<Row>> {
    eprintln!("{case}: {MESSAGES_SECONDS} s ..");
    let (hosts, devices) = Hosts::new(1)?;
    let faults = Faults { loss, ..Faults::default() };
    let link = LinkConfig { faults, ..LinkConfig::delayed(Duration::from_millis(30)) };
    let _shell = Shell::start(devices, link.clone(), link, 2);
    let mut sink = Program::start(&hosts, Side::Right, &["sink-jsp", &address(4433)])?;
    let fingerprint = sink.line()?;
    let lasts = MESSAGES_SECONDS.to_string();
    let mut source =
        Program::start(&hosts, Side::Left, &["messages", &address(4433), &fingerprint, &lasts])?;
    if moves {
        std::thread::sleep(MOVES_AFTER);
        hosts.move_left(Duration::ZERO)?;
    }
    let sent = figure(&source.line()?, "sent")?;
    source.finish()?;
    let found = sink.line()?;
    let arrived = figure(&found, "messages")?;
    let mut rows = vec![
        Row::new(case, "arrived", arrived / sent * 100.0, "%").bar("== 100", arrived == sent),
        Row::new(case, "latency_p50", figure(&found, "p50")?, "ms"),
        Row::new(case, "latency_p99", figure(&found, "p99")?, "ms"),
    ];
    let gap = figure(&found, "gap")?;
    let row = Row::new(case, "longest_gap", gap, "ms");
    rows.push(if moves { row.bar("<= 1000", gap <= GAP_MAX) } else { row });
    Ok(rows)
}

/// A host that only receives moves, and nobody tells it.
fn roam(case: &'static str, unwatched: bool) -> Result<Vec<Row>> {
    eprintln!("{case}: {MESSAGES_SECONDS} s ..");
    let (hosts, devices) = Hosts::new(2)?;
    let link = LinkConfig::delayed(Duration::from_millis(30));
    let _shell = Shell::start(devices, link.clone(), link, 2);
    let (lasts, listens) =
        (MESSAGES_SECONDS.to_string(), (MESSAGES_SECONDS + LISTENS_ON).to_string());
    let at = address(4433);
    let mut source = Program::start(&hosts, Side::Right, &["serve", &at, &lasts])?;
    let fingerprint = source.line()?;
    let mut arguments = vec!["listen", &at, &fingerprint, &listens];
    if unwatched {
        arguments.push("--unwatched");
    }
    let mut sink = Program::start(&hosts, Side::Left, &arguments)?;
    std::thread::sleep(MOVES_AFTER);
    let away = hosts.move_left(AWAY)?;
    let found = sink.line()?;
    let sent = MESSAGES_SECONDS as f64 / PACE.as_secs_f64();
    let arrived = figure(&found, "messages")?;
    let share = Row::new(case, "arrived", arrived / sent * 100.0, "%");
    if unwatched {
        // For comparison: it is not found before it says something.
        return Ok(vec![share]);
    }
    let back = figure(&found, "gap")? - away.as_secs_f64() * 1e3;
    Ok(vec![
        share.bar("== 100", arrived == sent),
        Row::new(case, "latency_p50", figure(&found, "p50")?, "ms"),
        Row::new(case, "back_after", back, "ms").bar("<= 500", back <= BACK_MAX),
    ])
}

fn figure(line: &str, name: &str) -> Result<f64> {
    let object: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
    object.get(name).and_then(Value::as_f64).with_context(|| format!("no {name} in {line}"))
}
