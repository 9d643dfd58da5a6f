//! A server's process that is killed, again and again, in the midst of a transfer.
#![allow(missing_docs)]

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use jsp::{Endpoint, Fingerprint, Identity, StreamConfig, TransportConfig};
use jsp_session::{RedbStore, Session, SessionConfig, Sessions};

/// Messages, and after how many more of them the server is killed.
const MESSAGES: u64 = 900;
const KILLED_AFTER: u64 = 200;
/// How the test tells its own program to be the server: where it keeps things, and its address.
const FOLDER: &str = "JSP_TEST_SERVER_FOLDER";
const ADDR: &str = "JSP_TEST_SERVER_ADDR";
/// Begins the lines that the server writes for the test.
const MARK: &str = "server: ";

/// Not a test: the server's process. It notes what it has taken in a file of its own, and tells of it.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "the process that another test kills"]
async fn server_process() {
    let folder = PathBuf::from(std::env::var(FOLDER).unwrap());
    let identity = Identity::load_or_generate(folder.join("identity")).unwrap();
    let endpoint = Endpoint::server(std::env::var(ADDR).unwrap(), identity).unwrap();
    let store = Arc::new(RedbStore::open(folder.join("sessions.redb")).unwrap());
    let sessions = Sessions::restore(&endpoint, store, SessionConfig::default()).await.unwrap();
    println!("{MARK}{} {}", endpoint.local_addr().unwrap(), endpoint.fingerprint());
    let mut log = std::fs::OpenOptions::new();
    let mut log = log.create(true).append(true).open(folder.join("log")).unwrap();
    let session = sessions.accept().await.unwrap();
    let up = session.accept().await.unwrap();
    while let Some(message) = up.recv().await.unwrap() {
        assert_eq!(message.payload, message.number.to_string());
        writeln!(log, "{}", message.number).unwrap();
        up.confirm().await.unwrap();
        println!("{MARK}{}", message.number);
    }
    up.confirm().await.unwrap();
    // The client closes once it knows; the test ends this process.
    std::future::pending::<()>().await;
}

struct Process {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Process {
    fn start(folder: &Path, addr: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["server_process", "--exact", "--ignored", "--nocapture"]);
        command.env(FOLDER, folder).env(ADDR, addr).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// What the server says next.
    fn hear(&mut self) -> String {
        loop {
            let line = self.lines.next().expect("the server lives").unwrap();
            if let Some((_, said)) = line.split_once(MARK) {
                return said.to_owned();
            }
        }
    }
}

impl Drop for Process {
    /// `SIGKILL`.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
// spec-test: SES-12, SES-13
async fn a_server_that_is_killed_loses_and_doubles_nothing() {
    let folder = std::env::temp_dir().join(format!("jsp-session-killed-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    let mut server = Process::start(&folder, "127.0.0.1:0");
    let first = server.hear();
    let (addr, fingerprint) = first.split_once(' ').unwrap();
    let fingerprint: Fingerprint = fingerprint.parse().unwrap();
    // A killed server says nothing: the client finds out by itself.
    let transport = TransportConfig {
        idle_timeout: Duration::from_secs(2),
        keep_alive: Some(Duration::from_millis(500)),
        ..TransportConfig::default()
    };
    let client = Endpoint::builder().transport(transport).build().unwrap();
    let session =
        Session::connect(&client, addr, fingerprint, SessionConfig::default()).await.unwrap();
    let up = session.open("up", StreamConfig::messages()).await.unwrap();
    let sending = tokio::spawn({
        let up = up.clone();
        async move {
            for number in 0..MESSAGES {
                assert_eq!(up.send(number.to_string()).await.unwrap(), number);
            }
            up.finish().await.unwrap();
        }
    });
    let mut kills = 0;
    let killing = tokio::task::spawn_blocking({
        let (folder, addr) = (folder.clone(), addr.to_owned());
        move || {
            let mut next = KILLED_AFTER;
            loop {
                let number: u64 = server.hear().parse().unwrap();
                if number + 1 == MESSAGES {
                    return (kills, server);
                }
                if number >= next {
                    drop(server);
                    kills += 1;
                    next = number + KILLED_AFTER;
                    server = Process::start(&folder, &addr);
                    server.hear();
                }
            }
        }
    });
    let (kills, _server) = killing.await.unwrap();
    sending.await.unwrap();
    up.confirmed().await.unwrap();
    assert!(kills >= 3, "{kills}");
    // All, in order; what was not confirmed before a kill came once more, under its number.
    let log = std::fs::read_to_string(folder.join("log")).unwrap();
    let (mut expected, mut again) = (0, 0);
    for number in log.lines().map(|line| line.parse::<u64>().unwrap()) {
        assert!(number <= expected, "{expected} is missing before {number}");
        again += u64::from(number < expected);
        expected = expected.max(number + 1);
    }
    assert_eq!(expected, MESSAGES);
    assert!(again <= kills, "{again} messages came again after {kills} kills");
    let _ = std::fs::remove_dir_all(&folder);
}
