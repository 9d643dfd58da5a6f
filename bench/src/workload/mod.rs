//! The workloads: which exercises, over which path, with which sizes and subjects.

pub(crate) mod client;
pub(crate) mod flood;
pub(crate) mod metrics;
pub(crate) mod server;

use std::time::Duration;

use clap::ValueEnum;

use crate::emulator::LinkConfig;
use crate::plan::{Exercise, Plan};

/// What a user asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Workload {
    /// One stream, as fast as it goes.
    Bulk,
    /// The same with packets as large as loopback carries, where a subject finds that out.
    BulkLarge,
    /// A hundred streams at once.
    Streams,
    /// Messages of 64 and 256 bytes on one stream, a call per message, and 64 bytes with
    /// a stream per message.
    Messages,
    /// A stream per 64-byte message.
    MessagePerStream,
    /// Unreliable datagrams of 1000 bytes.
    Datagrams,
    /// 64 bytes there and back.
    Pingpong,
    /// Connections: one after another, 64 at once, and the bytes of one.
    Handshake,
    /// Bytes on the wire beyond a 64-byte message, paced.
    Overhead,
    /// Memory of connections that do nothing.
    Idle,
    /// A thousand connections that send at once.
    Crowd,
    /// A server of one shard and of two: connections made by many tasks, and a thousand that send.
    Shards,
    /// Goodput over 100 Mbit/s, 20 ms round trip, with loss.
    Lossy,
    /// Connections under a flood of hellos from made-up addresses.
    Flood,
    /// Everything.
    All,
}

/// The path between client and server.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Route {
    /// Loopback.
    Direct,
    /// Through a forwarder that counts.
    Counted,
    /// Through the emulator, UDP only; the seed is set for each run.
    Emulated(LinkConfig),
}

/// One table of the report.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// Its name in the rows.
    pub(crate) name: String,
    /// What the workers do.
    pub(crate) exercise: Exercise,
    /// Its sizes.
    pub(crate) plan: Plan,
    /// Its path.
    pub(crate) route: Route,
    /// The subjects that a run without `--subjects` measures.
    pub(crate) subjects: &'static [&'static str],
}

/// The sizes of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    /// Shorter.
    pub(crate) quick: bool,
    /// Connections of the idle workload.
    pub(crate) connections: u64,
}

impl Scale {
    fn pick<T>(self, quick: T, full: T) -> T {
        if self.quick { quick } else { full }
    }
}

const GIB: u64 = 1 << 30;
/// Bytes of a lossy transfer.
const LOSSY_BYTES: u64 = 15_000_000;
/// Rate of the lossy path, bit/s.
const LOSSY_RATE: u64 = 100_000_000;
/// Half of its round trip.
const LOSSY_DELAY: Duration = Duration::from_millis(10);
/// Its queue: one product of rate and round trip.
const LOSSY_QUEUE_BYTES: u64 = LOSSY_RATE / 8 / 50;
/// Its losses, percent, and with `--quick`.
const LOSSES_PERCENT: &[f64] = &[0.0, 0.1, 1.0, 5.0];
const QUICK_LOSSES_PERCENT: &[f64] = &[0.0, 1.0, 5.0];

/// Connections that send at once.
const CROWD: u32 = 1000;

const BULK: &[&str] = &[
    "jsp",
    "jsp-ct",
    "quinn",
    "quinn-ct",
    "quinn-tuned",
    "quinn-tuned-ct",
    "quinn-aws",
    "noq",
    "s2n",
    "s2n-tuned",
    "quiche",
    "quiche-ct",
    "kcp",
    "str0m",
    "tls",
    "tls-ct",
    "raw",
];
/// Of the peers, those that look for packets beyond 1500 bytes and are fast with them.
const LARGE: &[&str] = &["jsp", "jsp-ct", "quinn-tuned", "quinn-tuned-ct", "tls"];
/// A connection of KCP is one stream.
const STREAMS: &[&str] = &[
    "jsp",
    "jsp-ct",
    "quinn",
    "quinn-ct",
    "quinn-tuned",
    "quinn-tuned-ct",
    "noq",
    "s2n",
    "s2n-tuned",
    "quiche",
    "quiche-ct",
    "str0m",
    "tls",
    "tls-ct",
    "raw",
];
const MESSAGES: &[&str] = &[
    "jsp",
    "jsp-ct",
    "quinn",
    "quinn-ct",
    "quinn-tuned-ct",
    "noq",
    "s2n",
    "quiche",
    "quiche-ct",
    "kcp",
    "str0m",
    "tls",
    "tls-ct",
    "raw",
];
const GATHERED: &[&str] = &["quinn", "quinn-ct", "quinn-tuned-ct", "quiche", "tls", "tls-ct"];
const PER_STREAM: &[&str] = &[
    "jsp",
    "jsp-ct",
    "quinn",
    "quinn-ct",
    "quinn-tuned",
    "quinn-tuned-ct",
    "noq",
    "s2n-tuned",
    "quiche",
];
const DATAGRAMS: &[&str] = &[
    "jsp",
    "jsp-ct",
    "quinn",
    "quinn-ct",
    "quinn-tuned",
    "quinn-tuned-ct",
    "noq",
    "s2n",
    "quiche",
    "str0m",
    "raw",
];
const PINGPONG: &[&str] = &[
    "jsp",
    "jsp-ct",
    "jsp-spin",
    "quinn",
    "quinn-ct",
    "noq",
    "noq-ct",
    "s2n",
    "s2n-ct",
    "quiche",
    "quiche-ct",
    "kcp",
    "kcp-ct",
    "str0m",
    "str0m-ct",
    "tls",
    "tls-ct",
    "raw",
    "raw-spin",
];
const HANDSHAKE: &[&str] = &[
    "jsp",
    "quinn",
    "quinn-ct",
    "quinn-pq",
    "quinn-pq-ct",
    "noq",
    "s2n",
    "quiche",
    "quiche-pq",
    "str0m",
    "tls",
];
const HELLO: &[&str] = &["jsp", "quinn", "quinn-pq", "s2n", "quiche", "quiche-pq", "str0m", "tls"];
const OVERHEAD: &[&str] = &["jsp", "quinn", "s2n", "quiche", "str0m"];
const FLOOD: &[&str] = &["jsp", "quinn-retry", "raw"];
const IDLE: &[&str] = &["jsp", "quinn", "noq", "s2n", "tls"];
/// Connections of which TCP has no more between two addresses, nor some peers a common machine's memory.
const MANY: u64 = 20_000;
const IDLE_MANY: &[&str] = &["jsp", "quinn"];
const CROWDED: &[&str] = &["jsp", "quinn", "noq", "s2n", "quiche", "tls"];
const LOSSY: &[&str] = &[
    "jsp",
    "quinn",
    "quinn-tuned",
    "quinn-bbr",
    "noq-bbr",
    "s2n",
    "quiche",
    "quiche-bbr",
    "kcp",
    "str0m",
    "tls",
];
const SHARDS: &[&str] = &["jsp", "jsp-shards"];

impl Workload {
    /// The cases of this workload, in the order of the report.
    pub(crate) fn cases(self, scale: Scale) -> Vec<Case> {
        match self {
            Self::Bulk => vec![transfer("bulk", 1, scale)],
            Self::BulkLarge => {
                let case = transfer("bulk-large", 1, scale);
                vec![Case { plan: Plan { large: true, ..case.plan }, subjects: LARGE, ..case }]
            }
            Self::Streams => {
                vec![Case { subjects: STREAMS, ..transfer("streams-100", 100, scale) }]
            }
            Self::Messages => {
                let mut cases = vec![
                    messages("messages-64", 64, false, scale),
                    messages("messages-256", 256, false, scale),
                    messages("messages-64-gathered", 64, true, scale),
                ];
                cases.extend(Self::MessagePerStream.cases(scale));
                cases
            }
            Self::MessagePerStream => {
                let count = scale.pick(200_000, 600_000);
                let plan = Plan { message_bytes: 64, count, ..Plan::default() };
                vec![direct("message-per-stream-64", Exercise::MessagePerStream, plan, PER_STREAM)]
            }
            Self::Datagrams => {
                let millis = scale.pick(2_000, 4_000);
                let plan = Plan { message_bytes: 1000, millis, ..Plan::default() };
                vec![direct("datagrams-1000", Exercise::Datagrams, plan, DATAGRAMS)]
            }
            Self::Pingpong => {
                let count = scale.pick(10_000, 30_000);
                let plan = Plan { message_bytes: 64, count, ..Plan::default() };
                vec![direct("pingpong", Exercise::Pingpong, plan, PINGPONG)]
            }
            Self::Handshake => handshake(scale),
            Self::Overhead => vec![
                overhead("overhead-reliable", false, scale),
                overhead("overhead-unreliable", true, scale),
            ],
            Self::Idle => {
                let millis = scale.pick(2_000, 10_000);
                let plan = Plan { count: scale.connections, millis, ..Plan::default() };
                let many = scale.connections > MANY;
                vec![direct("idle", Exercise::Idle, plan, if many { IDLE_MANY } else { IDLE })]
            }
            Self::Flood => {
                let plan = Plan { millis: scale.pick(5_000, 15_000), ..Plan::default() };
                vec![direct("flood", Exercise::Flood, plan, FLOOD)]
            }
            Self::Crowd => {
                let millis = scale.pick(3_000, 6_000);
                let plan = Plan { streams: CROWD, millis, ..Plan::default() };
                vec![direct("crowd-1000", Exercise::Crowd, plan, CROWDED)]
            }
            Self::Shards => shards(scale),
            Self::Lossy => {
                let losses = scale.pick(QUICK_LOSSES_PERCENT, LOSSES_PERCENT);
                losses.iter().map(|loss| lossy(*loss, scale)).collect()
            }
            Self::All => {
                // `Messages` brings `MessagePerStream` with it.
                let skipped = [Self::All, Self::MessagePerStream];
                let each = Self::value_variants().iter().filter(|one| !skipped.contains(one));
                each.flat_map(|one| one.cases(scale)).collect()
            }
        }
    }
}

fn direct(name: &str, exercise: Exercise, plan: Plan, subjects: &'static [&'static str]) -> Case {
    Case { name: name.to_owned(), exercise, plan, route: Route::Direct, subjects }
}

fn transfer(name: &str, streams: u32, scale: Scale) -> Case {
    let bytes = scale.pick(GIB, 4 * GIB);
    // Slow ones are judged by what arrived.
    let millis = scale.pick(8_000, 30_000);
    let plan = Plan { bytes, streams, millis, ..Plan::default() };
    direct(name, Exercise::Transfer, plan, BULK)
}

fn messages(name: &str, message_bytes: usize, gathered: bool, scale: Scale) -> Case {
    let millis = scale.pick(1_000, 2_000);
    let plan = Plan { message_bytes, millis, gathered, ..Plan::default() };
    direct(name, Exercise::Messages, plan, if gathered { GATHERED } else { MESSAGES })
}

fn shards(scale: Scale) -> Vec<Case> {
    let millis = scale.pick(2_000, 4_000);
    let plan = Plan { streams: 64, millis, ..Plan::default() };
    let sent = Plan { streams: CROWD, ..plan };
    vec![
        direct("shards-handshake-64", Exercise::ConnectMany, plan, SHARDS),
        direct("shards-crowd-1000", Exercise::Crowd, sent, SHARDS),
    ]
}

fn handshake(scale: Scale) -> Vec<Case> {
    let sequential = Plan { count: scale.pick(100, 300), ..Plan::default() };
    let millis = scale.pick(2_000, 4_000);
    let many = Plan { streams: 64, millis, ..Plan::default() };
    let hello = direct("handshake-bytes", Exercise::Hello, Plan::default(), HELLO);
    vec![
        direct("handshake", Exercise::Connect, sequential, HANDSHAKE),
        direct("handshake-64", Exercise::ConnectMany, many, HANDSHAKE),
        Case { route: Route::Counted, ..hello },
    ]
}

fn overhead(name: &str, unreliable: bool, scale: Scale) -> Case {
    let count = scale.pick(500, 2_000);
    let plan = Plan { message_bytes: 64, count, unreliable, ..Plan::default() };
    Case { route: Route::Counted, ..direct(name, Exercise::Paced, plan, OVERHEAD) }
}

fn lossy(percent: f64, scale: Scale) -> Case {
    let millis = scale.pick(6_000, 40_000);
    let plan = Plan { bytes: LOSSY_BYTES, streams: 1, millis, ..Plan::default() };
    let link = LinkConfig {
        rate_bps: Some(LOSSY_RATE),
        delay: LOSSY_DELAY,
        queue_bytes: LOSSY_QUEUE_BYTES,
        loss: percent / 100.0,
        seed: 0,
    };
    let case = direct(&format!("lossy-{percent}%"), Exercise::Transfer, plan, LOSSY);
    Case { route: Route::Emulated(link), ..case }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subject::Subject;

    #[test]
    fn every_case_names_subjects_that_can_do_it() {
        let scale = Scale { quick: false, connections: 1000 };
        let cases = Workload::All.cases(scale);
        for case in &cases {
            for name in case.subjects {
                let subject: Subject = name.parse().unwrap();
                assert!(subject.supports(case.exercise), "{name} in {}", case.name);
            }
        }
        let mut names: Vec<&String> = cases.iter().map(|case| &case.name).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), cases.len());
        assert!(names.iter().any(|name| *name == "lossy-0.1%"));
    }
}
