//! From what the processes and the path report to the figures of a case.

use anyhow::{Context, Result};

use super::client::Values;
use super::{Case, Route};
use crate::emulator::Tallies;
use crate::plan::{Exercise, Plan};
use crate::process::Usage;

/// Everything known at one phase of the client.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    /// The phase.
    pub(crate) name: String,
    /// The client process.
    pub(crate) client: Usage,
    /// The server process.
    pub(crate) server: Usage,
    /// The path, where one counts.
    pub(crate) path: Tallies,
}

/// What one run brought.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// The client's own figures.
    pub(crate) values: Values,
    /// The phases in their order.
    pub(crate) samples: Vec<Sample>,
}

/// One figure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Metric {
    /// Its name in the rows.
    pub(crate) name: &'static str,
    /// Its unit in the rows.
    pub(crate) unit: &'static str,
    /// Its value.
    pub(crate) value: f64,
}

const GIB: f64 = (1_u64 << 30) as f64;
const KIB: f64 = 1024.0;

/// Differences between two phases.
struct Span {
    client_cpu_s: f64,
    server_cpu_s: f64,
    client_rss: f64,
    server_rss: f64,
    messages: f64,
    bytes: f64,
    active_s: f64,
    up_bytes: f64,
    up_packets: f64,
    down_bytes: f64,
}

impl Outcome {
    fn sample(&self, name: &str) -> Result<&Sample> {
        let found = self.samples.iter().find(|sample| sample.name == name);
        found.with_context(|| format!("the client never reached {name:?}"))
    }

    fn span(&self, from: &str, to: &str) -> Result<Span> {
        let (a, b) = (self.sample(from)?, self.sample(to)?);
        Ok(Span {
            client_cpu_s: b.client.cpu_s - a.client.cpu_s,
            server_cpu_s: b.server.cpu_s - a.server.cpu_s,
            client_rss: b.client.rss_bytes as f64 - a.client.rss_bytes as f64,
            server_rss: b.server.rss_bytes as f64 - a.server.rss_bytes as f64,
            messages: (b.server.messages - a.server.messages) as f64,
            bytes: (b.server.bytes - a.server.bytes) as f64,
            active_s: b.server.active_s,
            up_bytes: (b.path.up.bytes - a.path.up.bytes) as f64,
            up_packets: (b.path.up.packets - a.path.up.packets) as f64,
            down_bytes: (b.path.down.bytes - a.path.down.bytes) as f64,
        })
    }

    fn value(&self, name: &str) -> Result<f64> {
        self.values.get(name).copied().with_context(|| format!("the client gave no {name:?}"))
    }
}

fn metrics<const N: usize>(list: [(&'static str, &'static str, f64); N]) -> Vec<Metric> {
    list.map(|(name, unit, value)| Metric { name, unit, value }).to_vec()
}

/// The figures of one run, the chief one first.
pub(crate) fn of(case: &Case, outcome: &Outcome) -> Result<Vec<Metric>> {
    let plan = case.plan;
    Ok(match case.exercise {
        Exercise::Hello => return hello(outcome),
        Exercise::Idle => return idle(outcome, plan.count as f64),
        Exercise::Flood => return flood(outcome),
        Exercise::Transfer => return transfer(outcome, case.route),
        Exercise::Crowd => {
            let (span, elapsed) = (outcome.span("start", "end")?, outcome.value("elapsed_s")?);
            metrics([
                ("throughput", "Gbit/s", span.bytes * 8.0 / elapsed / 1e9),
                ("fairness", "Jain", outcome.value("fairness")?),
                ("both_cpu", "s/GiB", (span.client_cpu_s + span.server_cpu_s) * GIB / span.bytes),
            ])
        }
        Exercise::Messages | Exercise::MessagePerStream => {
            let (span, elapsed) = (outcome.span("start", "end")?, outcome.value("elapsed_s")?);
            metrics([
                ("rate", "messages/s", span.messages / elapsed),
                ("client_cpu", "ns/message", span.client_cpu_s * 1e9 / span.messages),
                ("server_cpu", "ns/message", span.server_cpu_s * 1e9 / span.messages),
            ])
        }
        Exercise::Datagrams => {
            let (span, sent) = (outcome.span("start", "end")?, outcome.value("sent")?);
            metrics([
                ("delivered", "datagrams/s", span.messages / span.active_s),
                ("loss", "%", (1.0 - span.messages / sent).max(0.0) * 100.0),
                ("client_cpu", "ns/datagram", span.client_cpu_s * 1e9 / sent),
                ("server_cpu", "ns/datagram", span.server_cpu_s * 1e9 / span.messages),
            ])
        }
        Exercise::Pingpong => {
            let (span, rounds) = (outcome.span("start", "end")?, plan.count as f64);
            metrics([
                ("p50", "us", outcome.value("p50_us")?),
                ("p99", "us", outcome.value("p99_us")?),
                ("client_cpu", "us/round", span.client_cpu_s * 1e6 / rounds),
                ("server_cpu", "us/round", span.server_cpu_s * 1e6 / rounds),
            ])
        }
        Exercise::Connect => metrics([
            ("connect_p50", "us", outcome.value("p50_us")?),
            ("connect_p99", "us", outcome.value("p99_us")?),
        ]),
        Exercise::ConnectMany => {
            let span = outcome.span("start", "end")?;
            let made = outcome.value("connections")?;
            metrics([
                ("rate", "handshakes/s", made / outcome.value("elapsed_s")?),
                ("client_cpu", "us/handshake", span.client_cpu_s * 1e6 / made),
                ("server_cpu", "us/handshake", span.server_cpu_s * 1e6 / made),
            ])
        }
        Exercise::Paced => return paced(outcome, plan),
    })
}

fn transfer(outcome: &Outcome, route: Route) -> Result<Vec<Metric>> {
    let (span, elapsed) = (outcome.span("start", "end")?, outcome.value("elapsed_s")?);
    let gib = span.bytes / GIB;
    let both = ("both_cpu", "s/GiB", (span.client_cpu_s + span.server_cpu_s) / gib);
    if matches!(route, Route::Emulated(_)) {
        return Ok(metrics([
            ("goodput", "Mbit/s", span.bytes * 8.0 / elapsed / 1e6),
            ("sent_per_payload", "ratio", span.up_bytes / span.bytes.max(1.0)),
            both,
        ]));
    }
    Ok(metrics([
        ("throughput", "Gbit/s", span.bytes * 8.0 / elapsed / 1e9),
        ("client_cpu", "s/GiB", span.client_cpu_s / gib),
        ("server_cpu", "s/GiB", span.server_cpu_s / gib),
        both,
    ]))
}

fn paced(outcome: &Outcome, plan: Plan) -> Result<Vec<Metric>> {
    let (span, count) = (outcome.span("start", "end")?, plan.count as f64);
    let beyond = span.up_bytes / count - plan.message_bytes as f64;
    Ok(metrics([
        ("beyond_payload", "B/message", beyond),
        ("packets_sent", "per message", span.up_packets / count),
        ("returned", "B/message", span.down_bytes / count),
    ]))
}

fn hello(outcome: &Outcome) -> Result<Vec<Metric>> {
    let connected = outcome.span("start", "connected")?;
    let settled = outcome.span("start", "settled")?;
    Ok(metrics([
        ("client_sent", "B", connected.up_bytes),
        ("server_sent", "B", connected.down_bytes),
        ("client_sent_settled", "B", settled.up_bytes),
        ("server_sent_settled", "B", settled.down_bytes),
    ]))
}

fn idle(outcome: &Outcome, connections: f64) -> Result<Vec<Metric>> {
    let grown = outcome.span("start", "end")?;
    let watched = outcome.span("end", "watched")?;
    let cpu = (watched.client_cpu_s + watched.server_cpu_s) * 1e3;
    Ok(metrics([
        ("client_memory", "KiB/connection", grown.client_rss / KIB / connections),
        ("server_memory", "KiB/connection", grown.server_rss / KIB / connections),
        ("idle_cpu", "ms/s", cpu / outcome.value("watched_s")?),
    ]))
}

fn flood(outcome: &Outcome) -> Result<Vec<Metric>> {
    let span = outcome.span("start", "end")?;
    let (calm, flooded) = (outcome.value("calm_p99_us")?, outcome.value("flooded_p99_us")?);
    // Nobody connects where there are no connections.
    let clients = [
        ("connected_in_3_tries", "%", "within_percent"),
        ("connected_at_once", "%", "first_percent"),
        ("clients", "count", "clients"),
    ];
    let told = clients.into_iter().filter_map(|(name, unit, key)| {
        Some(Metric { name, unit, value: *outcome.values.get(key)? })
    });
    let mut figures: Vec<Metric> = told.collect();
    figures.extend(metrics([
        ("memory", "MiB", span.server_rss / KIB / KIB),
        ("p99_against_calm", "ratio", flooded / calm),
        ("calm_p99", "us", calm),
        ("flooded_p50", "us", outcome.value("flooded_p50_us")?),
        ("hellos", "datagrams/s", outcome.value("rate")?),
        ("server_cpu", "s", span.server_cpu_s),
    ]));
    Ok(figures)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emulator::Tally;
    use crate::workload::{Scale, Workload};

    fn sample(name: &str, server: Usage, up_bytes: u64) -> Sample {
        let up = Tally { bytes: up_bytes, packets: up_bytes / 100, dropped: 0 };
        let path = Tallies { up, down: Tally::default() };
        Sample { name: name.to_owned(), client: Usage::default(), server, path }
    }

    fn first_case(workload: Workload) -> Case {
        workload.cases(Scale { quick: true, connections: 10 }).remove(0)
    }

    #[test]
    fn throughput_counts_what_the_server_received() {
        let end = Usage { bytes: 1 << 30, cpu_s: 2.5, ..Usage::default() };
        let samples = vec![sample("start", Usage::default(), 0), sample("end", end, 0)];
        let values = Values::from([("elapsed_s".to_owned(), 2.0)]);
        let figures = of(&first_case(Workload::Bulk), &Outcome { values, samples }).unwrap();
        assert!((figures[0].value - 4.294_967).abs() < 1e-5);
        assert!((figures[2].value - 2.5).abs() < 1e-9);
    }

    #[test]
    fn overhead_is_all_that_the_sender_sent_but_the_message() {
        let none = Usage::default();
        let samples = vec![sample("start", none, 1_000), sample("end", none, 46_000)];
        let outcome = Outcome { values: Values::new(), samples };
        let figures = of(&first_case(Workload::Overhead), &outcome).unwrap();
        assert_eq!(figures[0].value, 90.0 - 64.0);
    }

    #[test]
    fn a_missing_phase_is_named() {
        let outcome = Outcome { values: Values::new(), samples: Vec::new() };
        let error = of(&first_case(Workload::Overhead), &outcome).unwrap_err().to_string();
        assert!(error.contains("start"), "{error}");
    }
}
