//! `jsp perf`: how much fits through.

use std::time::Duration;

use clap::Args;
use jsp::{ClientAuth, Connection, Identity};
use serde::Serialize;

use crate::cli::Global;
use crate::exit::{Exit, Failure, TABLE};
use crate::output::{Output, Row, bits_per_second, bytes, megabits};
use crate::perf::client::{Outcome, Way, measure};
use crate::perf::{Count, Mode, Request};
use crate::services::{self, Services};
use crate::session;
use crate::target::Target;

const EXAMPLES: &str = "\
Examples:
  jsp perf example.org                          to the server, ten seconds
  jsp perf example.org --reverse                from the server
  jsp perf example.org --bidir --streams 8      both ways, eight streams each
  jsp perf example.org --mode unreliable --size 1200
  jsp perf --local                              this machine alone: server and client here

The server is `jsp serve`. Rates count what has arrived at the receiver, without any overhead.";

/// Measure throughput in every mode, in both directions
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\n{TABLE}"))]
pub(crate) struct Perf {
    /// The server
    #[arg(value_name = "HOST", required_unless_present = "local")]
    host: Option<Target>,
    /// Start the server in this process
    #[arg(long, conflicts_with = "host")]
    local: bool,
    /// The server sends
    #[arg(long, short = 'R')]
    reverse: bool,
    /// Both send at once
    #[arg(long, conflicts_with = "reverse")]
    bidir: bool,
    /// How the data is sent
    #[arg(long, value_enum, default_value = "bytes")]
    mode: Mode,
    /// Streams in each direction, 1 to 256
    #[arg(long, short = 'P', value_name = "N", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=256))]
    streams: u32,
    /// Bytes of a message, or of a write on a byte stream [default: 65536 for bytes, 1024 else]
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    size: Option<u32>,
    /// How long
    #[arg(long, short = 't', value_name = "SECONDS", default_value_t = 10)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
}

#[derive(Serialize)]
struct IntervalEvent {
    event: &'static str,
    way: &'static str,
    seconds: f64,
    bytes: u64,
    messages: u64,
}

impl Perf {
    pub(crate) async fn run(self, global: &Global, output: Output) -> Result<Exit, Failure> {
        if self.local {
            let identity = Identity::generate();
            let bind = "127.0.0.1:0";
            let server = session::listen(bind, identity, ClientAuth::None, global)?;
            let (target, _) = session::uri(&server)?;
            let services =
                Services { folder: None, chat: None, perf: true, output: Output::silent() };
            return tokio::select! {
                result = self.ask(&target, global, output) => result,
                ended = services::serve(&server, services, |_| false) => {
                    ended?;
                    Err(Failure::new(Exit::PeerVanished, "the server in this process has ended"))
                }
            };
        }
        match &self.host {
            Some(host) => self.ask(host, global, output).await,
            None => Err(Failure::usage("name a server, or measure this machine with --local")),
        }
    }

    async fn ask(&self, target: &Target, global: &Global, output: Output) -> Result<Exit, Failure> {
        let (endpoint, connection) = session::connect(target, global, output).await?;
        let work = self.measure(&connection, output);
        let outcomes = session::until_interrupted(&endpoint, work).await?;
        outcomes.iter().for_each(|outcome| self.report(outcome, output));
        Ok(Exit::Success)
    }

    async fn measure(
        &self,
        connection: &Connection,
        output: Output,
    ) -> Result<Vec<Outcome>, Failure> {
        let default_size = if self.mode == Mode::Bytes { 64 << 10 } else { 1024 };
        let request = Request {
            up: !self.reverse,
            down: self.reverse || self.bidir,
            mode: self.mode,
            streams: self.streams,
            size: self.size.unwrap_or(default_size),
            milliseconds: self.seconds * 1000,
        };
        measure(connection, request, |way, count, at| self.line(way, count, at, output)).await
    }

    fn line(&self, way: Way, count: Count, at: Duration, output: Output) {
        let Count { bytes: len, messages } = count;
        let (seconds, way) = (at.as_secs_f64(), way.name());
        output.object(&IntervalEvent { event: "interval", way, seconds, bytes: len, messages });
        let rate = bits_per_second(len, Duration::from_secs(1));
        let note = if self.mode == Mode::Bytes {
            String::new()
        } else {
            format!("{messages:>10} messages")
        };
        output.line(format!("{seconds:6.1} s  {way:4} {:>12} {rate:>14} {note}", bytes(len)));
    }

    fn report(&self, outcome: &Outcome, output: Output) {
        let Outcome { way, sent, arrived, time } = *outcome;
        let case = format!("{}/{}", self.mode.name(), way.name());
        let row =
            |metric, value, unit| output.object(&Row::new("perf", &case, metric, value, unit));
        row("goodput", megabits(arrived.bytes, time), "Mbit/s");
        let rate = bits_per_second(arrived.bytes, time);
        let mut text = format!(
            "{:4} {} in {:.1} s: {rate}",
            way.name(),
            bytes(arrived.bytes),
            time.as_secs_f64()
        );
        if self.mode != Mode::Bytes {
            let each_second = arrived.messages as f64 / time.as_secs_f64().max(1e-9);
            let lost = sent.messages.saturating_sub(arrived.messages) as f64;
            let share = if sent.messages == 0 { 0.0 } else { lost / sent.messages as f64 * 100.0 };
            row("messages", each_second, "messages/s");
            row("lost", share, "%");
            text.push_str(&format!(", {each_second:.0} messages/s, {share:.2} % did not arrive"));
        }
        output.line(text);
    }
}
