//! Checks and runners of the workspace: `cargo xtask --help` lists them.
//!
//! Every command that measures or checks takes `--json`: one object per line on standard output,
//! progress on standard error. The exit status is 0 only when everything held.

mod check;
mod coverage;
mod deny;
mod findings;
mod formal;
mod forward;
mod fuzz;
mod hostile;
mod instructions;
mod interop;
mod mutants;
mod no_std;
mod portable;
mod process;
mod python;
mod report;
mod size;
mod source;
mod spec;
mod steps;
mod tidy;
mod vectors;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::report::Output;

/// Checks and runners of the JetStreamProto workspace.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Run everything that must hold before a change lands
    Test {
        /// Run only these steps (comma-separated)
        #[arg(long, value_delimiter = ',')]
        only: Vec<String>,
        /// Leave these steps out (comma-separated)
        #[arg(long, value_delimiter = ',')]
        skip: Vec<String>,
        /// Stop at the first step that fails
        #[arg(long)]
        fail_fast: bool,
        /// Random worlds for the simulator
        #[arg(long, default_value_t = 200)]
        seeds: u32,
        /// Print rows of JSON on standard output
        #[arg(long)]
        json: bool,
    },
    /// Check that code and tests cite every rule of the specification
    Spec {
        /// Print rows of JSON on standard output
        #[arg(long)]
        json: bool,
    },
    /// Check the rules of the house: sizes, names, words, edges
    Tidy {
        /// Print rows of JSON on standard output
        #[arg(long)]
        json: bool,
    },
    /// Run the fuzz targets
    Fuzz {
        /// Time for all targets together, in minutes
        #[arg(long, default_value_t = 5.0)]
        minutes: f64,
        /// Only this target
        #[arg(long)]
        target: Option<String>,
        /// Targets that run at the same time [default: one for each core]
        #[arg(long)]
        jobs: Option<usize>,
        /// What watches over memory
        #[arg(long, value_enum, default_value = "address")]
        sanitizer: fuzz::Sanitizer,
        /// Runs nothing, and tells which part of `jsp-wire` the tracked corpora reach
        #[arg(long)]
        coverage: bool,
        /// Print rows of JSON on standard output
        #[arg(long)]
        json: bool,
    },
    /// Run the models of `formal/` and their mutants
    Formal {
        /// Leave out the models of Verifpal, which takes minutes to build, and the longer inputs
        #[arg(long)]
        quick: bool,
        /// Only this model of Verifpal, with its mutants
        #[arg(long, conflicts_with = "quick")]
        model: Option<String>,
        /// Print rows of JSON on standard output
        #[arg(long)]
        json: bool,
    },
    /// Run the simulator; its own arguments follow
    Sim {
        /// Arguments of the simulator, `--help` among them
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Measure what observers see: first flights under the wrapping, sizes and cost of padding
    Privacy {
        /// Flows
        #[arg(long, default_value_t = 10_000)]
        flows: u64,
        /// Print rows of JSON on standard output
        #[arg(long)]
        json: bool,
    },
    /// Time comparisons of secrets: whether they tell how far two values agree
    Timing {
        /// Samples of each comparison; a fiftieth where each takes a handshake
        #[arg(long, default_value_t = 1_000_000)]
        samples: u64,
        /// Print rows of JSON on standard output
        #[arg(long)]
        json: bool,
    },
    /// Run the benchmark program; its own arguments follow. `size` prints what programs weigh
    Bench {
        /// Arguments of the benchmark program, `--help` among them
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Count the instructions of the hot paths under valgrind, and compare them with the baseline
    Instructions {
        /// Write the baseline anew
        #[arg(long)]
        write: bool,
        /// Print rows of JSON on standard output
        #[arg(long)]
        json: bool,
    },
    /// Run real sockets over emulated links, in network namespaces; its own arguments follow
    Lab {
        /// Arguments of the lab, `--help` among them
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Attack the transport: the table of attacks with the figures wanted and measured
    Hostile {
        /// Only this row
        #[arg(long)]
        row: Option<u8>,
        /// Scaled counts, as in the tests
        #[arg(long)]
        quick: bool,
        /// Switch off, one at a time, the checks that the rows are about: each must be noticed
        #[arg(long)]
        mutants: bool,
        /// Print rows of JSON on standard output
        #[arg(long)]
        json: bool,
    },
    /// Change the code in small ways, and see which changes the tests notice
    Mutants {
        /// Only these modules (comma-separated): crypto, packet, ack, ticket, replay
        #[arg(long, value_delimiter = ',')]
        module: Vec<String>,
        /// Only files whose paths hold this
        #[arg(long)]
        file: Option<String>,
        /// A sample: every n-th mutant, beginning with the k-th, as k/n
        #[arg(long)]
        shard: Option<String>,
        /// Print rows of JSON on standard output
        #[arg(long)]
        json: bool,
    },
    /// Write the test vectors, or compare them with what is tracked
    Vectors {
        /// Compare, write nothing
        #[arg(long)]
        check: bool,
        /// Print rows of JSON on standard output
        #[arg(long)]
        json: bool,
    },
    /// Check the vectors with the Python implementation, and let it talk to this one
    Interop {
        /// Print rows of JSON on standard output
        #[arg(long)]
        json: bool,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// True when everything held, an error when the command could not do its work.
fn run(task: Task) -> anyhow::Result<bool> {
    match task {
        Task::Test { only, skip, fail_fast, seeds, json } => {
            check::run(&check::Selection { only, skip, fail_fast, seeds }, Output::new(json))
        }
        Task::Spec { json } => spec::run(Output::new(json)),
        Task::Tidy { json } => tidy::run(Output::new(json)),
        Task::Fuzz { coverage: true, json, .. } => coverage::run(Output::new(json)).map(|()| true),
        Task::Fuzz { minutes, target, jobs, sanitizer, json, .. } => {
            let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
            let (target, jobs) = (target.as_deref(), jobs.unwrap_or(cores));
            fuzz::run(minutes, target, jobs, sanitizer, Output::new(json))
        }
        Task::Formal { quick, model, json } => {
            formal::run(quick, model.as_deref(), Output::new(json))
        }
        Task::Sim { arguments } => forward::sim(&arguments),
        Task::Privacy { flows, json } => forward::privacy(flows, json),
        Task::Timing { samples, json } => forward::timing(samples, json),
        Task::Bench { arguments } => forward::bench(&arguments),
        Task::Instructions { write, json } => instructions::run(write, Output::new(json)),
        Task::Lab { arguments } => forward::lab(&arguments),
        Task::Hostile { row, quick, mutants, json } => {
            let selection = hostile::Selection { row, quick };
            let run = if mutants { hostile::run_mutants } else { hostile::run };
            run(&selection, Output::new(json))
        }
        Task::Mutants { module, file, shard, json } => {
            let selection = mutants::Selection { modules: module, file, shard };
            mutants::run(&selection, Output::new(json))
        }
        Task::Vectors { check, json } => vectors::run(check, Output::new(json)),
        Task::Interop { json } => interop::run(Output::new(json)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn arguments_after_a_forwarding_command_are_kept() {
        let parsed =
            Arguments::try_parse_from(["xtask", "sim", "--seeds", "3", "--json", "--help"])
                .unwrap();
        let Task::Sim { arguments } = parsed.command else { panic!("not sim") };
        assert_eq!(arguments, ["--seeds", "3", "--json", "--help"]);
    }
}
