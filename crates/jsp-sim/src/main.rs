//! The simulator's command line.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use jsp_sim::lab::{self, experiments, table};
use jsp_sim::random_world::random_world;
use jsp_sim::report::Row;
use jsp_sim::roaming::figures as roaming;
use jsp_sim::runner::{self, Plan, Summary};
use jsp_sim::trial;

/// Runs JetStreamProto over simulated networks in virtual time, with checkers watching.
///
/// Everything follows from a seed: a failure names the command that reproduces it.
#[derive(Parser)]
#[command(name = "jsp-sim")]
struct Arguments {
    /// `worlds` for random worlds, a scenario such as S1 or one case of it, `all` for every
    /// scenario, `mobility` for those of a client on the move, `roaming` for random
    /// worlds with carriers, sessions and processes that are killed, `certain` for certain ones alone, `experiments` or
    /// one of them such as E2, `nat` for peers behind every pair of boxes, `privacy` for what observers see of so many
    /// flows, `list` for the names
    #[arg(default_value = "worlds")]
    what: String,
    /// How many seeds [default: 200 worlds, 10000 flows, 5 of everything else]
    #[arg(long)]
    seeds: Option<u64>,
    /// The first seed
    #[arg(long, default_value_t = 1)]
    start: u64,
    /// This seed alone
    #[arg(long, conflicts_with_all = ["seeds", "start"])]
    seed: Option<u64>,
    /// With worlds and --seed: tell everything that happens
    #[arg(long, requires = "seed")]
    verbose: bool,
    /// With worlds: stop after so many seeds that failed
    #[arg(long, default_value_t = 5)]
    failures: usize,
    /// With scenarios: leave the peers out
    #[arg(long)]
    no_peer: bool,
    /// With scenarios: write plots as SVG into this folder
    #[arg(long, value_name = "FOLDER")]
    plot: Option<PathBuf>,
    /// One JSON object a line on standard output
    #[arg(long)]
    json: bool,
}

impl Arguments {
    /// The first seed and how many there are.
    fn seeds(&self, otherwise: u64) -> (u64, u64) {
        match self.seed {
            Some(seed) => (seed, 1),
            None => (self.start, self.seeds.unwrap_or(otherwise).max(1)),
        }
    }
}

/// Flows of each application that an observer knows, and as many that he is asked about.
const RECOGNISED_FLOWS: u64 = 20;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.what.as_str() {
        "worlds" => print(&run_worlds(&arguments), arguments.json),
        "list" => {
            println!("{} {}", table::NAMES.join(" "), experiments::NAMES.join(" "));
            ExitCode::SUCCESS
        }
        "all" => {
            for (what, why) in lab::bars::UNMEASURED {
                eprintln!("not measured: {what}: {why}");
            }
            run_scenarios(&table::NAMES, &arguments)
        }
        "roaming" => {
            let (seed, seeds) = arguments.seeds(200);
            print(&roaming::worlds(seed, seeds), arguments.json)
        }
        "certain" => {
            let (seed, seeds) = arguments.seeds(5);
            print(&roaming::certain(seed, seeds), arguments.json)
        }
        "mobility" => {
            let scenarios = run_scenarios(&table::MOBILITY, &arguments);
            let (seed, seeds) = arguments.seeds(5);
            let mut rows = roaming::certain(seed, seeds);
            let (seed, seeds) = arguments.seeds(200);
            rows.extend(roaming::worlds(seed, seeds));
            match print(&rows, arguments.json) {
                ExitCode::SUCCESS => scenarios,
                code => code,
            }
        }
        "privacy" => {
            let (seed, flows) = arguments.seeds(10_000);
            let mut rows = jsp_sim::privacy::rows(flows, seed);
            rows.extend(jsp_sim::privacy::recognition(RECOGNISED_FLOWS, seed));
            print(&rows, arguments.json)
        }
        "nat" => {
            let (seed, seeds) = arguments.seeds(5);
            if !arguments.json {
                println!("{}", jsp_sim::nat::matrix::table(seed));
            }
            print(&jsp_sim::nat::matrix::rows(seed, seeds), arguments.json)
        }
        "experiments" => run_experiments(&experiments::NAMES, &arguments),
        name if experiments::NAMES.contains(&name) => run_experiments(&[name], &arguments),
        name => run_scenarios(&[name], &arguments),
    }
}

/// Prints the rows; success when every bar held.
fn print(rows: &[Row], json: bool) -> ExitCode {
    for row in rows {
        println!("{}", if json { row.to_json() } else { row.to_text() });
    }
    if rows.iter().all(Row::holds) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run_scenarios(names: &[&str], arguments: &Arguments) -> ExitCode {
    let (start, seeds) = arguments.seeds(5);
    let options =
        lab::Options { start, seeds, has_peers: !arguments.no_peer, plots: arguments.plot.clone() };
    let mut all_hold = true;
    if !arguments.json {
        println!("{}", lab::HEADING);
    }
    for name in names {
        let Some(cases) = table::cases(name) else {
            eprintln!("there is no {name}; there are: {}", table::NAMES.join(" "));
            return ExitCode::from(2);
        };
        for case in cases {
            let rows = match lab::run(&case, &options) {
                Ok(rows) => rows,
                Err(error) => {
                    eprintln!("{}: {error}", case.name);
                    return ExitCode::from(2);
                }
            };
            for (row, line) in &rows {
                all_hold &= row.holds();
                match line {
                    _ if arguments.json => println!("{}", row.to_json()),
                    Some(line) => println!("{}", line.trim_end()),
                    None => {}
                }
            }
        }
    }
    if all_hold { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run_experiments(names: &[&str], arguments: &Arguments) -> ExitCode {
    let (_, seeds) = arguments.seeds(5);
    let mut code = ExitCode::SUCCESS;
    for name in names {
        let rows = experiments::run(name, seeds).unwrap_or_default();
        if print(&rows, arguments.json) != ExitCode::SUCCESS {
            code = ExitCode::FAILURE;
        }
    }
    code
}

fn run_worlds(arguments: &Arguments) -> Vec<Row> {
    let (start, count) = arguments.seeds(200);
    if let (Some(seed), true) = (arguments.seed, arguments.verbose) {
        let outcome = trial::run_told(random_world(seed));
        for violation in &outcome.violations {
            eprintln!("{violation}");
        }
    }
    let plan = Plan { start, count, failures_max: arguments.failures.max(1), is_told: true };
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
