//! The simulator's command line.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use jsp_sim::random_world::random_world;
use jsp_sim::report::Row;
use jsp_sim::runner::{self, Plan, Summary};
use jsp_sim::{scenario, trial};

/// Runs JetStreamProto over simulated networks in virtual time, with checkers watching.
///
/// Everything follows from a seed: a failure names the command that reproduces it.
#[derive(Parser)]
#[command(name = "jsp-sim", args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    worlds: Worlds,
}

#[derive(Subcommand)]
enum Command {
    /// Random worlds: loss, reordering, duplication, corruption, all delivery modes mixed.
    Worlds(Worlds),
    /// A fixed link by its name (C0, S1, S4, B1), or `all`: latency, goodput, extra bytes, queues.
    Scenario(Scenario),
}

#[derive(clap::Args)]
struct Scenario {
    /// Which one.
    name: String,
    /// How many seeds.
    #[arg(long, default_value_t = 5)]
    seeds: u64,
    /// One JSON object a line on standard output.
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
struct Worlds {
    /// How many seeds.
    #[arg(long, default_value_t = 200)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    start: u64,
    /// This seed alone.
    #[arg(long, conflicts_with_all = ["seeds", "start"])]
    seed: Option<u64>,
    /// With --seed: tell everything that happens.
    #[arg(long, requires = "seed")]
    verbose: bool,
    /// Stop after so many seeds that failed.
    #[arg(long, default_value_t = 5)]
    failures: usize,
    /// One JSON object a line on standard output.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.command {
        Some(Command::Worlds(worlds)) => print(&run_worlds(&worlds), worlds.json),
        Some(Command::Scenario(scenario)) => run_scenarios(&scenario),
        None => print(&run_worlds(&arguments.worlds), arguments.worlds.json),
    }
}

/// Prints the rows; success when every bar held.
fn print(rows: &[Row], json: bool) -> ExitCode {
    for row in rows {
        println!("{}", if json { row.to_json() } else { row.to_text() });
    }
    if rows.iter().all(Row::holds) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run_scenarios(wanted: &Scenario) -> ExitCode {
    let names = match wanted.name.as_str() {
        "all" => scenario::NAMES.to_vec(),
        name => vec![name],
    };
    let mut code = ExitCode::SUCCESS;
    for name in names {
        let Some(rows) = scenario::run(name, wanted.seeds.max(1)) else {
            eprintln!("there is no scenario {name}; there are: all {}", scenario::NAMES.join(" "));
            return ExitCode::from(2);
        };
        if print(&rows, wanted.json) != ExitCode::SUCCESS {
            code = ExitCode::FAILURE;
        }
    }
    code
}

fn run_worlds(worlds: &Worlds) -> Vec<Row> {
    let (start, count) = match worlds.seed {
        Some(seed) => (seed, 1),
        None => (worlds.start, worlds.seeds),
    };
    if let (Some(seed), true) = (worlds.seed, worlds.verbose) {
        let outcome = trial::run_told(random_world(seed));
        for violation in &outcome.violations {
            eprintln!("{violation}");
        }
    }
    let plan = Plan { start, count, failures_max: worlds.failures.max(1), is_told: true };
    rows_of(&runner::run(plan))
}

fn rows_of(summary: &Summary) -> Vec<Row> {
    let row = |metric, value, unit| Row::new("worlds", metric, value, unit);
    let failures = summary.failures.len();
    let share = summary.established as f64 / summary.connections.max(1) as f64 * 100.0;
    vec![
        row("failed", failures as f64, "worlds").bar("== 0", failures == 0),
        row("lived", summary.worlds as f64, "worlds"),
        row("established", share, "%").bar(">= 99", share >= 99.0),
        row("virtual_time", summary.virtual_time.as_secs_f64(), "s"),
        row("real_time", summary.real_time.as_secs_f64(), "s"),
        row("speed", summary.speed(), "virtual s/s"),
        row("packets", summary.packets as f64, "count"),
        row("bytes", summary.bytes as f64, "B"),
    ]
}
