//! Runs the cases: a server and a client process for every run of every subject, subjects
//! taking turns, so that a busy minute of the machine hits all of them.

use std::net::SocketAddr;

use anyhow::{Result, bail};

use crate::emulator::{LinkConfig, Relay, Tallies};
use crate::plan::{Exercise, Plan};
use crate::process::{Event, Worker, ready};
use crate::report::Row;
use crate::stats::{Noise, Summary};
use crate::subject::Subject;
use crate::tcp_relay::TcpRelay;
use crate::workload::metrics::{Metric, Outcome, Sample, of};
use crate::workload::{Case, Route};

/// What the runs brought.
#[derive(Default)]
pub(crate) struct Results {
    /// The figures.
    pub(crate) rows: Vec<Row>,
    /// How many subjects failed in a case.
    pub(crate) failures: usize,
}

/// One subject's part in a case.
struct Column {
    subject: Subject,
    runs: Vec<Vec<Metric>>,
    failed: bool,
}

/// Runs a case with `only` these subjects, or with its own.
pub(crate) fn run(
    case: &Case,
    only: Option<&[Subject]>,
    runs: usize,
    noise: &mut Noise,
    results: &mut Results,
) -> Result<()> {
    let own = || case.subjects.iter().map(|name| name.parse::<Subject>());
    let built = |subject: &Result<Subject>| subject.as_ref().is_ok_and(|one| one.is_built());
    let subjects = only.map_or_else(
        || own().filter(built).collect::<Result<Vec<_>>>(),
        |list| Ok(list.to_vec()),
    )?;
    let able = subjects.into_iter().filter(|&subject| can_run(case, subject));
    let mut columns: Vec<Column> =
        able.map(|subject| Column { subject, runs: Vec::new(), failed: false }).collect();
    for run in 0..runs {
        for column in columns.iter_mut().filter(|column| !column.failed) {
            noise.probe();
            eprint!("{} {} {}/{runs} .. ", case.name, column.subject, run + 1);
            match one(case, column.subject, run as u64).and_then(|outcome| of(case, &outcome)) {
                Ok(metrics) => {
                    if let Some(chief) = metrics.first() {
                        eprintln!("{} {}", crate::report::figure(chief.value), chief.unit);
                    }
                    column.runs.push(metrics);
                }
                Err(error) => {
                    eprintln!("FAILED: {error:#}");
                    column.failed = true;
                }
            }
        }
    }
    results.failures += columns.iter().filter(|column| column.failed).count();
    results.rows.extend(columns.iter().flat_map(|column| rows(case, column)));
    Ok(())
}

fn can_run(case: &Case, subject: Subject) -> bool {
    let reason = if !subject.is_built() {
        "was not built (`cargo xtask bench --peers`, or `--heavy`)"
    } else if !subject.supports(case.exercise) {
        "cannot do it"
    } else if matches!(case.route, Route::Emulated(_)) && !subject.is_udp() {
        "runs over TCP, which the UDP emulator does not carry"
    } else if matches!(case.route, Route::Emulated(_)) && !subject.retransmits() {
        "does not retransmit"
    } else if case.exercise == Exercise::Transfer && case.plan.streams > 1 && !subject.has_streams()
    {
        "is one stream"
    } else if case.plan.gathered && !subject.has_byte_streams() {
        "has messages of its own, so nothing is gathered"
    } else {
        return true;
    };
    eprintln!("SKIPPED: {} without {subject}: it {reason}", case.name);
    false
}

fn rows(case: &Case, column: &Column) -> Vec<Row> {
    let Some(first) = column.runs.first() else { return Vec::new() };
    let make = |(index, metric): (usize, &Metric)| {
        let values: Vec<f64> = column.runs.iter().map(|run| run[index].value).collect();
        Some(Row {
            case: case.name.clone(),
            subject: column.subject.to_string(),
            metric: metric.name,
            unit: metric.unit,
            summary: Summary::of(&values)?,
            bars: Vec::new(),
        })
    };
    first.iter().enumerate().filter_map(make).collect()
}

/// The path of one run.
enum Path {
    Direct(SocketAddr),
    Udp(Relay),
    Tcp(TcpRelay),
}

impl Path {
    fn lay(case: &Case, subject: Subject, server: SocketAddr, run: u64) -> Result<Self> {
        Ok(match case.route {
            Route::Direct => Self::Direct(server),
            Route::Counted if subject.is_udp() => {
                Self::Udp(Relay::start(server, LinkConfig::default())?)
            }
            Route::Counted => Self::Tcp(TcpRelay::start(server)?),
            // The same seed for every subject of a run.
            Route::Emulated(link) => {
                Self::Udp(Relay::start(server, LinkConfig { seed: run + 1, ..link })?)
            }
        })
    }

    fn address(&self) -> SocketAddr {
        match self {
            Self::Direct(address) => *address,
            Self::Udp(relay) => relay.address(),
            Self::Tcp(relay) => relay.address(),
        }
    }

    fn tallies(&self) -> Tallies {
        match self {
            Self::Direct(_) => Tallies::default(),
            Self::Udp(relay) => relay.tallies(),
            Self::Tcp(relay) => relay.tallies(),
        }
    }
}

fn arguments(role: &str, case: &Case, subject: Subject) -> Result<Vec<String>> {
    let exercise = serde_json::to_value(case.exercise)?;
    let plan: &Plan = &case.plan;
    Ok(vec![
        role.to_owned(),
        subject.to_string(),
        exercise.as_str().unwrap_or_default().to_owned(),
        "--plan".to_owned(),
        serde_json::to_string(plan)?,
    ])
}

/// One run of one subject: both processes live only as long as it.
fn one(case: &Case, subject: Subject, run: u64) -> Result<Outcome> {
    let mut server = Worker::start(&arguments("serve", case, subject)?)?;
    let (address, trust) = ready(&mut server)?;
    let path = Path::lay(case, subject, address, run)?;
    let mut client_arguments = arguments("drive", case, subject)?;
    client_arguments.extend(["--server".to_owned(), path.address().to_string()]);
    client_arguments.extend(["--trust".to_owned(), trust]);
    let mut client = Worker::start(&client_arguments)?;
    let mut samples = Vec::new();
    loop {
        match client.next()? {
            Event::Phase { name } => {
                let (client_usage, server_usage) = (client.usage()?, server.usage()?);
                let path = path.tallies();
                samples.push(Sample { name, client: client_usage, server: server_usage, path });
                client.go()?;
            }
            Event::Done { values } => return Ok(Outcome { values, samples }),
            other => bail!("the client said {other:?} out of turn"),
        }
    }
}
