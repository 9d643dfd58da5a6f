//! Fixed links with a name, and what a load measures on them.

use std::time::Duration;

use jsp_proto::{StreamConfig, TransportConfig};
use jsp_wire::{Class, Instant, StreamId};

use crate::app::{Ending, MessagePlan, ReadPlan, Script, SendPlan, StreamPlan, Traffic};
use crate::flow::{End, Flow, Side};
use crate::link::{Faults, HEADER_BYTES, LinkConfig, Loss, Queue, Rate};
use crate::report::Row;
use crate::runner;
use crate::topology::{Client, Path, Server, Topology};
use crate::world::World;

/// Names of all scenarios.
pub const NAMES: [&str; 4] = ["C0", "S1", "S4", "B1"];

/// Bytes of a message of the thin load.
const MESSAGE_LEN: usize = 200;
/// Messages a second of the thin load, in each direction.
const MESSAGES_PER_SECOND: u64 = 100;
/// How long the thin load lasts.
const THIN_SECONDS: u64 = 60;
/// Time before the load begins, for the handshake.
const WARM_UP: Duration = Duration::from_secs(2);
/// Time for the last messages to arrive.
const TAIL: Duration = Duration::from_secs(5);

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Load {
    /// 200-byte reliable unordered messages, 100 a second, both ways.
    Thin,
    /// A byte stream from the client, as fast as it goes, for so many seconds.
    Bulk(u64),
}

/// A link with a load.
#[derive(Clone, Debug)]
struct Case {
    name: String,
    link: LinkConfig,
    load: Load,
}

/// Runs a scenario with so many seeds and answers its figures; `None` when there is none of that
/// name.
pub fn run(name: &str, seeds: u64) -> Option<Vec<Row>> {
    let mut rows = Vec::new();
    for case in cases(name)? {
        let measured = runner::each_seed(1, seeds, |seed| measure(&case, seed));
        rows.extend(summarise(&case, &measured));
    }
    Some(rows)
}

fn cases(name: &str) -> Option<Vec<Case>> {
    let owd = Duration::from_millis(30);
    let thin = |loss| {
        let faults = Faults { loss, ..Faults::default() };
        vec![Case {
            name: name.to_owned(),
            link: LinkConfig { faults, ..LinkConfig::delayed(owd) },
            load: Load::Thin,
        }]
    };
    Some(match name {
        "C0" => clean(),
        "S1" => thin(Loss::fading(0.05, Duration::from_millis(30))),
        "S4" => thin(Loss::Random(0.01)),
        "B1" => vec![Case {
            name: name.to_owned(),
            link: bottleneck(10_000_000, Duration::from_millis(60), 10),
            load: Load::Bulk(30),
        }],
        _ => return None,
    })
}

/// Clean links of three rates and three round-trip times, and the thin load on one of them.
fn clean() -> Vec<Case> {
    let mut cases = vec![Case {
        name: "C0-thin".to_owned(),
        link: bottleneck(10_000_000, Duration::from_millis(60), 1),
        load: Load::Thin,
    }];
    for mbit in [10, 100, 1_000] {
        for rtt_ms in [10, 60, 200] {
            let seconds = if mbit == 1_000 { 5 } else { 15 };
            cases.push(Case {
                name: format!("C0-{mbit}M-{rtt_ms}ms"),
                link: bottleneck(mbit * 1_000_000, Duration::from_millis(rtt_ms), 1),
                load: Load::Bulk(seconds),
            });
        }
    }
    cases
}

/// A link with a queue of so many bandwidth-delay products.
fn bottleneck(bps: u64, rtt: Duration, products: u64) -> LinkConfig {
    let bytes = (bps as f64 / 8.0 * rtt.as_secs_f64()) as u64 * products;
    LinkConfig {
        rate: Rate::Constant(bps),
        queue: Queue::DropTail { bytes: bytes.max(3_000) },
        measure_queue: true,
        ..LinkConfig::delayed(rtt / 2)
    }
}

/// What one seed gave.
struct Measured {
    /// Seconds from sending to receiving, of each message that arrived.
    latencies: Vec<f64>,
    messages_sent: u64,
    bytes_received: u64,
    payload: u64,
    /// Wire bytes of the direction under load, headers counted.
    wire: u64,
    /// The same for the same load on the same link without faults.
    wire_clean: u64,
    queue: Vec<f64>,
    violations: Vec<String>,
}

fn measure(case: &Case, seed: u64) -> Measured {
    let world = live(case, &case.link, seed);
    let mut clean_link = case.link.clone();
    clean_link.faults = Faults::default();
    let wire_clean = if clean_link == case.link {
        wire_bytes(&world)
    } else {
        wire_bytes(&live(case, &clean_link, seed))
    };
    let ledger = world.checkers().ledger();
    let mut measured = Measured {
        latencies: Vec::new(),
        messages_sent: 0,
        bytes_received: 0,
        payload: 0,
        wire: wire_bytes(&world),
        wire_clean,
        queue: world.links()[0].queue_delays().iter().map(Duration::as_secs_f64).collect(),
        violations: world.violations().iter().map(ToString::to_string).collect(),
    };
    for record in ledger.flows.values() {
        for message in &record.messages {
            measured.messages_sent += 1;
            measured.payload += message.plan.len as u64;
            if let Some(received) = message.received {
                measured.latencies.push(received.since(message.at).as_secs_f64());
            }
        }
    }
    let from = End { pair: 0, side: Side::Client };
    let bulk = ledger.flows.get(&Flow { from, stream: StreamId::new(1, false) });
    measured.bytes_received = bulk.map_or(0, |record| record.read);
    measured
}

fn live(case: &Case, link: &LinkConfig, seed: u64) -> World {
    let lasts = match case.load {
        Load::Thin => Duration::from_secs(THIN_SECONDS) + TAIL,
        Load::Bulk(seconds) => Duration::from_secs(seconds),
    };
    // The windows are no part of what is measured: they hold what the fastest link has under way.
    let transport = TransportConfig {
        stream_window: 64 << 20,
        connection_window: 64 << 20,
        stream_window_max: 64 << 20,
        connection_window_max: 64 << 20,
        ..TransportConfig::default()
    };
    let topology = Topology::new(seed)
        .server(Server { transport: transport.clone(), ..Server::default() })
        .client(Client { transport, script: script(case.load), ..Client::default() })
        .path(Path::both_ways(link.clone()));
    let mut world = World::new(topology);
    world.run_until(Instant::ZERO + WARM_UP + lasts);
    world
}

fn script(load: Load) -> Script {
    let start = Instant::ZERO + WARM_UP;
    let (config, forth, back) = match load {
        Load::Thin => {
            let gap = Duration::from_secs(1) / MESSAGES_PER_SECOND as u32;
            let count = THIN_SECONDS * MESSAGES_PER_SECOND;
            let messages =
                (0..count as u32).map(|n| MessagePlan::new(start + gap * n, MESSAGE_LEN)).collect();
            let half = SendPlan::finishing(Traffic::Messages(messages));
            let config =
                StreamConfig { class: Class::RealTime, ordered: false, ..StreamConfig::messages() };
            (config, half.clone(), half)
        }
        Load::Bulk(_) => {
            let traffic = Traffic::Bytes { start, total: u64::MAX / 2, chunk: 64 << 10 };
            let forth = SendPlan { traffic, ending: Ending::StayOpen, priorities: Vec::new() };
            let config = StreamConfig { unidirectional: true, ..StreamConfig::bytes() };
            (StreamConfig { send_buffer: 64 << 20, ..config }, forth, SendPlan::nothing())
        }
    };
    let plan = StreamPlan {
        open_at: start,
        config,
        forth,
        back,
        forth_reader: ReadPlan::Prompt,
        back_reader: ReadPlan::Prompt,
    };
    Script { client: vec![plan], ..Script::default() }
}

fn wire_bytes(world: &World) -> u64 {
    world.tallies().map(|tally| tally.bytes + tally.packets * HEADER_BYTES).sum()
}

fn summarise(case: &Case, measured: &[Measured]) -> Vec<Row> {
    let row = |metric: &str, value, unit| Row::new(case.name.clone(), metric, value, unit);
    let total = |of: fn(&Measured) -> u64| measured.iter().map(of).sum::<u64>() as f64;
    let mut rows = Vec::new();
    match case.load {
        Load::Thin => {
            let latencies = measured.iter().flat_map(|one| one.latencies.iter().copied());
            rows.extend(percentiles(
                &row,
                "latency",
                latencies.collect(),
                &[50.0, 95.0, 99.0, 99.9],
            ));
            let payload = total(|one| one.payload);
            let extra = total(|one| one.wire) - total(|one| one.wire_clean);
            rows.push(row("extra", extra / payload * 100.0, "% of payload"));
            rows.push(row("wire_per_payload", total(|one| one.wire) / payload, "ratio"));
            let arrived: usize = measured.iter().map(|one| one.latencies.len()).sum();
            let missing = total(|one| one.messages_sent) - arrived as f64;
            rows.push(row("missing", missing, "messages").bar("== 0", missing == 0.0));
        }
        Load::Bulk(seconds) => {
            let bits = total(|one| one.bytes_received) * 8.0 / measured.len().max(1) as f64;
            let goodput = bits / seconds as f64;
            rows.push(row("goodput", goodput / 1e6, "Mbit/s"));
            if let Some(bps) = case.link.rate.at(Instant::ZERO) {
                rows.push(row("utilisation", goodput / bps as f64 * 100.0, "%"));
            }
            let queue = measured.iter().flat_map(|one| one.queue.iter().copied());
            rows.extend(percentiles(&row, "queue", queue.collect(), &[50.0, 95.0, 99.0]));
        }
    }
    let violations: Vec<_> = measured.iter().flat_map(|one| &one.violations).collect();
    for violation in violations.iter().take(3) {
        eprintln!("{}: {violation}", case.name);
    }
    let count = violations.len() as f64;
    rows.push(row("violations", count, "count").bar("== 0", violations.is_empty()));
    rows
}

/// Rows of percentiles, in milliseconds.
fn percentiles(
    row: &impl Fn(&str, f64, &'static str) -> Row,
    name: &str,
    mut seconds: Vec<f64>,
    wanted: &[f64],
) -> Vec<Row> {
    seconds.sort_by(f64::total_cmp);
    let at = |percent: f64| {
        // A hair less, so that 99.9 % of 1000 is 999 in spite of binary fractions.
        let rank = (percent / 100.0 * seconds.len() as f64 - 1e-6).ceil() as usize;
        seconds.get(rank.saturating_sub(1)).copied().unwrap_or(0.0) * 1e3
    };
    let name_of = |percent: f64| format!("{name}_p{}", percent.to_string().replace('.', ""));
    wanted.iter().map(|percent| row(&name_of(*percent), at(*percent), "ms")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_ranks() {
        let row = |metric: &str, value, unit| Row::new("x", metric, value, unit);
        let seconds = (1..=1000).map(|ms| f64::from(ms) / 1e3).collect();
        let rows = percentiles(&row, "latency", seconds, &[50.0, 99.9]);
        let texts: Vec<_> = rows.iter().map(Row::to_json).collect();
        assert!(texts[0].contains(r#""metric":"latency_p50","value":500.0"#), "{}", texts[0]);
        assert!(texts[1].contains(r#""metric":"latency_p999","value":999.0"#), "{}", texts[1]);
    }

    #[test]
    fn every_name_has_cases_and_no_other_has() {
        assert!(NAMES.iter().all(|name| cases(name).is_some_and(|cases| !cases.is_empty())));
        assert!(cases("S9").is_none());
    }
}
