//! The built program in folders of its own.
// Not every test file uses all of it.
#![allow(dead_code)]

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::Arc;

use jsp::CarrierKind;
use jsp_server::{Config, Daemon, Status, TurnConfig};

/// A folder for files and configuration that goes with its value.
pub struct Place(pub PathBuf);

impl Place {
    pub fn new(name: &str) -> Self {
        let name = format!("jsp-cli-test-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn write(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    /// The program, with its configuration in this folder.
    pub fn jsp(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_jsp"));
        command.env("JSP_CONFIG_DIR", self.path("config")).current_dir(&self.0);
        command.env("NO_COLOR", "1");
        command
    }

    /// Runs the program to its end.
    pub fn run<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Finished {
        let output = self.jsp().args(args).stdin(Stdio::null()).output().unwrap();
        Finished::of(output)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What a program has said and how it left.
#[derive(Debug)]
pub struct Finished {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Finished {
    pub fn of(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    #[track_caller]
    pub fn left_with(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "out: {}\nerr: {}", self.out, self.err);
        self
    }
}

/// A server that runs until its value goes.
pub struct Server {
    child: Child,
    pub out: BufReader<ChildStdout>,
    /// How clients reach it: `jsp://fingerprint@127.0.0.1:port`.
    pub uri: String,
}

impl Server {
    /// Starts `jsp serve` on a free port, and waits for the line that says where it listens.
    pub fn start(place: &Place, inbox: &Path, more: &[&str]) -> Self {
        let mut command = place.jsp();
        command.args(["serve", "--json", "--bind", "127.0.0.1:0", "--dir"]).arg(inbox).args(more);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        Self::spawn(command)
    }

    /// Starts it where another one was.
    pub fn start_at(place: &Place, inbox: &Path, address: &str) -> Self {
        let mut command = place.jsp();
        command.args(["serve", "--json", "--bind", address, "--dir"]).arg(inbox);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        Self::spawn(command)
    }

    pub fn spawn(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        let event: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(event["event"], "listening");
        let uri = event["uri"].as_str().unwrap().to_owned();
        Self { child, out, uri }
    }

    /// The part after the `@`.
    pub fn address(&self) -> &str {
        address_of(&self.uri)
    }

    /// Sends it a signal, as `kill` names it.
    #[cfg(unix)]
    pub fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &id]).status().unwrap().success());
    }

    /// Ends it as a crash does.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits until it ends by itself.
    pub fn wait(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }

    /// Types into it.
    pub fn say(&mut self, text: &str) {
        std::io::Write::write_all(self.child.stdin.as_mut().unwrap(), text.as_bytes()).unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A coordinator that runs until its value goes.
pub struct Coordinator {
    _runtime: tokio::runtime::Runtime,
    daemon: Arc<Daemon>,
    /// How clients reach it: `jsp://fingerprint@address:port`.
    pub uri: String,
}

impl Coordinator {
    pub fn start() -> Self {
        Self::start_at("127.0.0.1:0")
    }

    pub fn start_at(bind: &str) -> Self {
        Self::run(Config { bind: bind.into(), ..Config::default() })
    }

    /// One that is reached by streams of one kind alone: its UDP is at another address.
    pub fn start_by(kind: CarrierKind) -> Self {
        let mut config = Config { bind: "127.0.0.9:0".into(), ..Config::default() };
        let addrs = match kind {
            CarrierKind::WebSocket => &mut config.streams.websocket,
            _ => &mut config.streams.tcp,
        };
        addrs.push("127.0.0.1:0".into());
        Self::run(config)
    }

    fn run(mut config: Config) -> Self {
        config.limits.relay_bytes_per_second = 200_000_000;
        config.limits.relay_bytes_per_second_total = 400_000_000;
        Self::run_as(config)
    }

    /// One whose relay is as slow as by default, which has its clients use this TURN server.
    pub fn start_with_turn(turn: Option<TurnConfig>) -> Self {
        Self::run_as(Config { bind: "127.0.0.1:0".into(), turn, ..Config::default() })
    }

    fn run_as(config: Config) -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let start = async { Daemon::start_as(&config, jsp::Identity::generate()).unwrap() };
        let daemon = Arc::new(runtime.block_on(start));
        let stream = daemon.stream_addrs().first().map(|(_, address)| *address);
        let address = stream.unwrap_or_else(|| daemon.local_addr().unwrap());
        let uri = format!("jsp://{}@{address}", daemon.fingerprint());
        let serving = Arc::clone(&daemon);
        runtime.spawn(async move { serving.serve().await });
        Self { _runtime: runtime, daemon, uri }
    }

    pub fn status(&self) -> Status {
        self.daemon.status()
    }
}

/// Bytes that no compression and no accident makes equal.
pub fn noise(seed: u8, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
    bytes
}

/// The part of a `jsp://` address after the `@`.
pub fn address_of(uri: &str) -> &str {
    uri.split('@').nth(1).unwrap()
}

/// Names in a folder, sorted.
pub fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Waits until the inbox has so many bytes of a file that is to be kept when it is broken off.
pub fn wait_until_begun(inbox: &Path, sender: &mut Child, enough: u64) {
    let unfinished = |name: &String| name.starts_with(".jsp-partial-kept-");
    loop {
        let name = names(inbox).into_iter().find(unfinished);
        let len = name.and_then(|name| fs::metadata(inbox.join(name)).ok()).map(|data| data.len());
        if len.is_some_and(|len| len >= enough) {
            return;
        }
        assert_eq!(sender.try_wait().unwrap(), None, "it ended before it could be stopped");
        std::thread::yield_now();
    }
}

/// What a sender has found of its file at the receiver, in bytes.
pub fn begun(out: &str) -> Option<u64> {
    let events = out.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    events.filter(|event| event["event"] == "begun").find_map(|event| event["bytes"].as_u64())
}
