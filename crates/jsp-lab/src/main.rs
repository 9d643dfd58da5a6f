//! `jsp-lab`: real sockets over the simulator's links. Two network namespaces stand for two hosts;
//! a TUN device of each leads into a thread that carries packets as the link model says. Kernel TCP,
//! other programs and JetStreamProto meet on it as they are.
//!
//! Figures taken here depend on the wall clock and the machine: they are for sanity. Claims about
//! tails are made in virtual time (`jsp-sim`).

use std::process::ExitCode;

#[cfg(target_os = "linux")]
mod hosts;
#[cfg(target_os = "linux")]
mod nat;
#[cfg(target_os = "linux")]
mod report;
#[cfg(target_os = "linux")]
mod role;
#[cfg(target_os = "linux")]
mod shell;
#[cfg(target_os = "linux")]
mod smoke;

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    linux::main()
}

#[cfg(not(target_os = "linux"))]
fn main() -> ExitCode {
    eprintln!("SKIPPED: jsp-lab needs Linux: network namespaces and TUN devices");
    ExitCode::SUCCESS
}

#[cfg(target_os = "linux")]
mod linux {
    use std::process::ExitCode;

    use clap::{Parser, Subcommand};

    use super::{hosts, nat, report, role, smoke};

    /// Real sockets over emulated links, in network namespaces of this machine.
    #[derive(Parser)]
    #[command(name = "jsp-lab", version)]
    struct Arguments {
        #[command(subcommand)]
        command: Command,
    }

    #[derive(Subcommand)]
    enum Command {
        /// Shares a link with kernel TCP, crosses fading loss, and moves to another address.
        Smoke {
            /// Seconds of each share that are measured, after five that are not.
            #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(5..=600))]
            seconds: u64,
            /// Only these cases: share-cubic, share-bbr, fades, move, roam, roam-unwatched.
            #[arg(long, value_delimiter = ',')]
            only: Vec<String>,
            /// One JSON object a line on standard output.
            #[arg(long)]
            json: bool,
        },
        /// Two peers behind the kernel's boxes, for every pair of them: whether they connect, and directly. Wants
        /// `jsp` and `jspd` beside this program.
        Nat {
            /// Only these sites: open, endpoint-independent, address-restricted, port-restricted, symmetric, double,
            /// hairpin, udp-blocked, short-lifetime.
            #[arg(long, value_delimiter = ',')]
            only: Vec<String>,
            /// One JSON object a line on standard output.
            #[arg(long)]
            json: bool,
        },
        /// One program inside a namespace; started by the others.
        #[command(hide = true, subcommand)]
        Role(role::Role),
    }

    pub(super) fn main() -> ExitCode {
        let result = match Arguments::parse().command {
            Command::Smoke { seconds, only, json } => run(json, || smoke::run(seconds, &only)),
            Command::Nat { only, json } => run(json, || nat::run(&only)),
            Command::Role(role) => role::run(role).map(|()| true),
        };
        match result {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => {
                eprintln!("jsp-lab: {error:#}");
                ExitCode::FAILURE
            }
        }
    }

    /// Runs cases and prints their figures, where that may be.
    fn run(
        json: bool,
        cases: impl FnOnce() -> anyhow::Result<Vec<report::Row>>,
    ) -> anyhow::Result<bool> {
        if let Err(reason) = hosts::permitted() {
            eprintln!("SKIPPED: the lab was NOT run: {reason:#}");
            eprintln!("SKIPPED: run it as root, where TUN devices and network namespaces exist");
            return Ok(true);
        }
        let rows = cases()?;
        report::print(&rows, json);
        Ok(rows.iter().all(report::Row::holds))
    }
}
