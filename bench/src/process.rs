//! The worker processes: how the runner starts and questions them, and how a worker
//! answers. One JSON object per line on the worker's standard output; one word per line
//! on its standard input, whose end is the worker's end.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Write, stdin, stdout};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use nix::sys::resource::{UsageWho, getrusage};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

/// How long a worker may take for any one step before it counts as hung.
const STEP_LIMIT: Duration = Duration::from_secs(300);
/// Bytes of a page in `/proc/self/statm`, on every platform the bench runs on.
const PAGE_BYTES: u64 = 4096;

/// What a process has used and seen since its start.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Usage {
    /// User and system CPU time, seconds.
    pub(crate) cpu_s: f64,
    /// Memory resident now.
    pub(crate) rss_bytes: u64,
    /// Messages or datagrams received.
    pub(crate) messages: u64,
    /// Payload bytes received.
    pub(crate) bytes: u64,
    /// From the first stamped arrival to the last, seconds.
    pub(crate) active_s: f64,
}

/// What a worker tells the runner.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub(crate) enum Event {
    /// The server listens.
    Ready {
        /// Where.
        address: SocketAddr,
        /// What a client must know to trust it, in the subject's own form.
        trust: String,
    },
    /// The client reached a named point and waits for `go`.
    Phase {
        /// Its name.
        name: String,
    },
    /// The answer to `usage`.
    Usage(Usage),
    /// The client has finished, with these figures.
    Done {
        /// By name; the unit stands with the reader.
        values: BTreeMap<String, f64>,
    },
}

/// What a worker has received; shared with the thread that answers the runner.
#[derive(Debug)]
pub(crate) struct Counters {
    started: Instant,
    messages: AtomicU64,
    bytes: AtomicU64,
    first_ns: AtomicU64,
    last_ns: AtomicU64,
}

impl Counters {
    /// Counts what arrived.
    pub(crate) fn add(&self, messages: u64, bytes: u64) {
        self.messages.fetch_add(messages, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Notes that something arrived now.
    pub(crate) fn stamp(&self) {
        let now = self.started.elapsed().as_nanos() as u64;
        if self.first_ns.load(Ordering::Relaxed) == 0 {
            self.first_ns.store(now, Ordering::Relaxed);
        }
        self.last_ns.store(now, Ordering::Relaxed);
    }

    fn usage(&self) -> Usage {
        let first = self.first_ns.load(Ordering::Relaxed);
        let last = self.last_ns.load(Ordering::Relaxed);
        Usage {
            cpu_s: cpu_seconds(),
            rss_bytes: resident_bytes(),
            messages: self.messages.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            active_s: last.saturating_sub(first) as f64 / 1e9,
        }
    }
}

fn cpu_seconds() -> f64 {
    getrusage(UsageWho::RUSAGE_SELF).map_or(f64::NAN, |usage| {
        let seconds = |time: nix::sys::time::TimeVal| {
            time.tv_sec() as f64 + f64::from(time.tv_usec() as i32) / 1e6
        };
        seconds(usage.user_time()) + seconds(usage.system_time())
    })
}

fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|field| field.parse::<u64>().ok());
    pages.unwrap_or(0) * PAGE_BYTES
}

/// A worker's end of the talk with the runner.
#[derive(Clone, Debug)]
pub(crate) struct Desk {
    /// What this process has received.
    pub(crate) counters: Arc<Counters>,
    go: Arc<Notify>,
}

impl Desk {
    /// Starts answering the runner; the process ends when the runner closes its input.
    pub(crate) fn open() -> Self {
        let counters = Arc::new(Counters {
            started: Instant::now(),
            messages: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            first_ns: AtomicU64::new(0),
            last_ns: AtomicU64::new(0),
        });
        let desk = Self { counters, go: Arc::new(Notify::new()) };
        let answering = desk.clone();
        thread::spawn(move || answering.answer());
        desk
    }

    fn answer(&self) {
        for line in stdin().lock().lines().map_while(Result::ok) {
            match line.as_str() {
                "usage" => self.say(&Event::Usage(self.counters.usage())),
                "go" => self.go.notify_one(),
                other => eprintln!("jsp-bench: unknown word from the runner: {other}"),
            }
        }
        std::process::exit(0);
    }

    /// Sends an event. A runner that is gone ends the worker through its input.
    pub(crate) fn say(&self, event: &Event) {
        if let Ok(line) = serde_json::to_string(event) {
            let mut out = stdout().lock();
            let _ = writeln!(out, "{line}").and_then(|()| out.flush());
        }
    }

    /// Announces a phase and waits until the runner has taken its measures.
    pub(crate) async fn phase(&self, name: &str) {
        self.say(&Event::Phase { name: name.to_owned() });
        self.go.notified().await;
    }

    /// The same for a subject without a runtime.
    pub(crate) fn phase_blocking(&self, name: &str) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        runtime.block_on(self.phase(name));
        Ok(())
    }
}

/// The runner's hold on one worker process, which dies with it.
pub(crate) struct Worker {
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
    waiting: VecDeque<Event>,
}

impl Worker {
    /// Starts this same program with other arguments.
    pub(crate) fn start(arguments: &[String]) -> Result<Self> {
        let program = std::env::current_exe().context("find this program's own path")?;
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("start a worker process")?;
        let input = child.stdin.take().context("the worker has no input")?;
        let output = child.stdout.take().context("the worker has no output")?;
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self { child, input, lines, waiting: VecDeque::new() })
    }

    /// The next event, other than an answer to `usage`.
    pub(crate) fn next(&mut self) -> Result<Event> {
        self.waiting.pop_front().map_or_else(|| self.read(), Ok)
    }

    /// Asks what the process has used so far.
    pub(crate) fn usage(&mut self) -> Result<Usage> {
        self.tell("usage")?;
        loop {
            match self.read()? {
                Event::Usage(usage) => return Ok(usage),
                event => self.waiting.push_back(event),
            }
        }
    }

    /// Lets a worker go on after a phase.
    pub(crate) fn go(&mut self) -> Result<()> {
        self.tell("go")
    }

    fn tell(&mut self, word: &str) -> Result<()> {
        writeln!(self.input, "{word}")
            .and_then(|()| self.input.flush())
            .context("the worker process is gone")
    }

    fn read(&mut self) -> Result<Event> {
        let line = self.lines.recv_timeout(STEP_LIMIT).map_err(|error| match error {
            RecvTimeoutError::Timeout => anyhow!("the worker took over {STEP_LIMIT:?} for a step"),
            RecvTimeoutError::Disconnected => match self.child.wait() {
                Ok(status) => anyhow!("the worker ended early: {status}"),
                Err(error) => error.into(),
            },
        })?;
        serde_json::from_str(&line).with_context(|| format!("the worker said {line:?}"))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for the server's first word.
pub(crate) fn ready(server: &mut Worker) -> Result<(SocketAddr, String)> {
    match server.next()? {
        Event::Ready { address, trust } => Ok((address, trust)),
        other => bail!("the server should have said that it is ready, but said {other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_keep_their_form_across_the_pipe() {
        let ready = Event::Ready { address: "127.0.0.1:9".parse().unwrap(), trust: "aa".into() };
        let line = serde_json::to_string(&ready).unwrap();
        assert_eq!(line, r#"{"event":"ready","address":"127.0.0.1:9","trust":"aa"}"#);
        let usage = Event::Usage(Usage { messages: 3, ..Usage::default() });
        let line = serde_json::to_string(&usage).unwrap();
        let back: Event = serde_json::from_str(&line).unwrap();
        assert!(matches!(back, Event::Usage(Usage { messages: 3, .. })));
    }

    #[test]
    fn a_process_knows_its_own_use() {
        let mut sum = 0_u64;
        for round in 0..20_000_000 {
            sum = sum.wrapping_mul(31).wrapping_add(round);
        }
        std::hint::black_box(sum);
        assert!(cpu_seconds() > 0.0);
        assert!(resident_bytes() > 100_000);
    }
}
