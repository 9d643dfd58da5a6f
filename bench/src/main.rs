//! `jsp-bench`: the same workload over JetStreamProto, its peers and the raw limit of the
//! machine, client and server in processes of their own, over loopback.

mod bars;
mod emulator;
mod framing;
mod plan;
mod plot;
mod process;
mod report;
mod runner;
mod stats;
mod subject;
mod tcp_relay;
mod workload;

use std::io::stdout;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

use plan::{Exercise, Plan};
use process::Desk;
use report::Row;
use stats::Noise;
use subject::Subject;
use workload::{Scale, Workload};

/// Runs of each subject, and with `--quick`.
const RUNS: (usize, usize) = (5, 3);

/// Measures a workload over every subject, or over those named.
#[derive(Parser)]
#[command(name = "jsp-bench", version, args_conflicts_with_subcommands = true)]
#[command(subcommand_negates_reqs = true)]
#[command(
    after_help = "`cargo xtask bench size` prints what programs weigh. JSP_BENCH_VERBOSE=1 prints what the servers have to say, too."
)]
struct Arguments {
    #[command(subcommand)]
    worker: Option<Role>,
    /// What to measure.
    #[arg(required = true)]
    workload: Option<Workload>,
    /// One JSON object per line instead of tables.
    #[arg(long)]
    json: bool,
    /// Also write a chart of each case, an SVG named after it, into this directory.
    #[arg(long, value_name = "DIRECTORY")]
    plot: Option<PathBuf>,
    /// Shorter runs, and 3 of them.
    #[arg(long)]
    quick: bool,
    /// Runs of each subject [default: 5, with --quick 3].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    runs: Option<u32>,
    /// Only these, separated by commas.
    #[arg(long, value_name = "NAMES", value_delimiter = ',', long_help = subjects_help())]
    subjects: Option<Vec<Subject>>,
    /// Connections of the idle workload; beyond 20000 of this project and quinn only.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    connections: u64,
}

fn subjects_help() -> String {
    format!(
        "Only these, separated by commas: {}. A name without -ct is a program on tokio's \
         multi-thread runtime, -ct on the current-thread one; -tuned has large windows and \
         buffers, -bbr BBR besides, -pq the X25519MLKEM768 key exchange, -retry a Retry for \
         every client, -shards two shards at the server, -aws aws-lc-rs in place of ring; noq, s2n (aws-lc-rs and \
         X25519MLKEM768), kcp (every datagram \
         sealed with AES-128-GCM) and str0m (data channels of WebRTC) are there with `cargo xtask bench --peers`, quiche \
         besides with `--heavy`; quiche and kcp have large windows; raw blocks in its \
         calls, raw-spin polls.",
        subject::NAMES.join(", ")
    )
}

/// One side of a run; started by the program itself.
#[derive(Subcommand)]
enum Role {
    /// One server; prints where it listens and ends with its standard input.
    Serve {
        /// The subject.
        subject: Subject,
        /// The exercise.
        #[arg(value_parser = exercise)]
        exercise: Exercise,
        /// Its sizes, JSON.
        #[arg(long, value_parser = plan)]
        plan: Plan,
    },
    /// One client; prints its phases and figures.
    Drive {
        /// The subject.
        subject: Subject,
        /// The exercise.
        #[arg(value_parser = exercise)]
        exercise: Exercise,
        /// Its sizes, JSON.
        #[arg(long, value_parser = plan)]
        plan: Plan,
        /// The server's address.
        #[arg(long)]
        server: SocketAddr,
        /// What the server said a client must know to trust it.
        #[arg(long, default_value = "")]
        trust: String,
    },
}

fn exercise(name: &str) -> Result<Exercise, serde_json::Error> {
    serde_json::from_value(name.into())
}

fn plan(text: &str) -> Result<Plan, serde_json::Error> {
    serde_json::from_str(text)
}

fn main() -> ExitCode {
    match act(Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("jsp-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether every bar held and no subject failed.
fn act(arguments: Arguments) -> Result<bool> {
    match arguments.worker {
        Some(Role::Serve { subject, exercise, plan }) => {
            subject.serve(exercise, plan, &Desk::open())?;
            Ok(true)
        }
        Some(Role::Drive { subject, exercise, plan, server, trust }) => {
            subject.drive(exercise, plan, server, &trust, &Desk::open())?;
            Ok(true)
        }
        None => measure(&arguments),
    }
}

fn measure(arguments: &Arguments) -> Result<bool> {
    let workload = arguments.workload.context("name a workload")?;
    let usual = if arguments.quick { RUNS.1 } else { RUNS.0 };
    let runs = arguments.runs.map_or(usual, |runs| runs as usize);
    let scale = Scale { quick: arguments.quick, connections: arguments.connections };
    let (mut noise, mut results) = (Noise::default(), runner::Results::default());
    for case in workload.cases(scale) {
        runner::run(&case, arguments.subjects.as_deref(), runs, &mut noise, &mut results)?;
    }
    anyhow::ensure!(
        !results.rows.is_empty() || results.failures > 0,
        "nothing was measured: none of these subjects can do this workload"
    );
    bars::set(&mut results.rows);
    if let Some(summary) = noise.summary() {
        eprintln!(
            "machine: the same arithmetic took {:.1} to {:.1} ms, median {:.1} ms: {:.0} % noise",
            summary.min,
            summary.max,
            summary.median,
            summary.spread_percent()
        );
        let (case, subject) = ("noise".to_owned(), "machine".to_owned());
        let metric = "fixed_arithmetic";
        results.rows.push(Row { case, subject, metric, unit: "ms", summary, bars: Vec::new() });
    }
    if let Some(directory) = &arguments.plot {
        plot::write(&results.rows, directory)?;
    }
    let mut out = stdout().lock();
    if arguments.json {
        report::json(&results.rows, &mut out)?;
    } else {
        report::table(&results.rows, &mut out)?;
    }
    let missed = results.rows.iter().flat_map(|row| &row.bars).any(|bar| !bar.pass);
    if results.failures > 0 {
        eprintln!("jsp-bench: {} failed; see above", results.failures);
    }
    Ok(!missed && results.failures == 0)
}
