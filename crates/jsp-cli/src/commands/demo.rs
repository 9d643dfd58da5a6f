//! `jsp demo`: voice, chat and a file over one connection and one bad link, all in this process.

use std::io::{self, IsTerminal};
use std::time::Duration;

use clap::Args;

use crate::demo::{self, Scene};
use crate::exit::{Exit, Failure, TABLE};
use crate::output::Output;

const EXAMPLES: &str = "\
Examples:
  jsp demo                                the dashboard, for twenty seconds; q ends it
  jsp demo --plain                        a line each second, and a table at the end
  jsp demo --loss 20 --rtt 200 --rate 2   a worse link
  jsp demo --json                         the measurements for programs, with their bars

The link loses, delays and queues datagrams as a seeded generator says: one bandwidth-delay product
fits into its queue. The exit code is 1 when a bar does not hold.";

/// Show voice, chat and a file crossing one bad link at once
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\n{TABLE}"))]
pub(crate) struct Demo {
    /// Print lines instead of drawing a dashboard
    #[arg(long)]
    plain: bool,
    /// How long voice, chat and file are sent, 1 to 3600
    #[arg(long, value_name = "SECONDS", default_value_t = 20)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Datagrams lost each way, in percent, 0 to 90
    #[arg(long, value_name = "PERCENT", default_value_t = 5.0, value_parser = parse_loss)]
    loss: f64,
    /// Round-trip time, in milliseconds, 0 to 10000
    #[arg(long, value_name = "MS", default_value_t = 60)]
    #[arg(value_parser = clap::value_parser!(u64).range(0..=10_000))]
    rtt: u64,
    /// Rate each way, in Mbit/s, 0.1 to 10000
    #[arg(long, value_name = "MBIT", default_value_t = 8.0, value_parser = parse_rate)]
    rate: f64,
    /// Seed of the link's dice and of the file
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

fn parse_loss(text: &str) -> Result<f64, String> {
    parse(text, 0.0, 90.0)
}

fn parse_rate(text: &str) -> Result<f64, String> {
    parse(text, 0.1, 10_000.0)
}

fn parse(text: &str, least: f64, most: f64) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (least..=most).contains(&value) => Ok(value),
        _ => Err(format!("it is {least} to {most}")),
    }
}

impl Demo {
    pub(crate) async fn run(self, output: Output) -> Result<Exit, Failure> {
        let scene = Scene {
            time: Duration::from_secs(self.seconds),
            loss: self.loss / 100.0,
            rtt: Duration::from_millis(self.rtt),
            bits_per_second: (self.rate * 1e6) as u64,
            seed: self.seed,
        };
        let draw = !self.plain && !output.json && io::stdout().is_terminal();
        demo::run(scene, draw, output).await
    }
}
