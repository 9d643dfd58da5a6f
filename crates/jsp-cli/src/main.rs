//! The jsp command line.

mod carriers;
mod cli;
mod code;
mod commands;
mod confidential;
mod demo;
mod exit;
mod netcheck;
mod output;
mod perf;
mod protocol;
mod services;
mod session;
mod settings;
mod target;
mod transfer;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use serde::Serialize;

use crate::cli::{Cli, Command};
use crate::exit::{Exit, Failure};
use crate::output::{Output, Tone};

/// How long the end waits for threads that tidy up behind an interrupted transfer.
const TIDY_UP: Duration = Duration::from_secs(2);

#[derive(Serialize)]
struct ErrorEvent<'a> {
    event: &'static str,
    exit_code: u8,
    error: &'a str,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let output = Output::new(cli.global.json, cli.global.quiet);
    match run(cli, output) {
        Ok(exit) => ExitCode::from(exit as u8),
        Err(failure) => {
            let Failure { exit, sentence, .. } = &failure;
            let exit_code = *exit as u8;
            output.object(&ErrorEvent { event: "error", exit_code, error: sentence });
            let name = output.tinted_error(Tone::Bad, "jsp:");
            output.remark(format!("{name} {}", output::harmless(sentence)));
            ExitCode::from(exit_code)
        }
    }
}

fn run(cli: Cli, output: Output) -> Result<Exit, Failure> {
    let command = match cli.command {
        Command::Key(key) if !key.needs_network() => return key.run_offline(output),
        Command::Completions(completions) => return Ok(completions.run()),
        Command::Man(man) => return man.run(output),
        command => command,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::file(format!("the program cannot start its threads: {error}")))?;
    let result = runtime.block_on(run_online(command, &cli.global, output));
    runtime.shutdown_timeout(TIDY_UP);
    result
}

async fn run_online(
    command: Command,
    global: &cli::Global,
    output: Output,
) -> Result<Exit, Failure> {
    match command {
        Command::Demo(demo) => demo.run(output).await,
        Command::Serve(serve) => serve.run(global, output).await,
        Command::Recv(recv) => recv.run(global, output).await,
        Command::Send(send) => send.run(global, output).await,
        Command::Netcheck(netcheck) => netcheck.run(global, output).await,
        Command::Chat(chat) => chat.run(global, output).await,
        Command::Ping(ping) => ping.run(global, output).await,
        Command::Perf(perf) => perf.run(global, output).await,
        Command::Key(key) => key.run_online(global, output).await,
        Command::Completions(_) | Command::Man(_) => Ok(Exit::Success),
    }
}
