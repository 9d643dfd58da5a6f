//! `jsp ping`: round-trip times of unreliable messages inside a connection.

use std::time::Duration;

use clap::Args;
use jsp::{Connection, Message, RecvError, RecvStream, SendStream};
use serde::Serialize;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};

use crate::cli::Global;
use crate::exit::{Exit, Failure, TABLE};
use crate::output::{Output, Row, milliseconds};
use crate::protocol::{malformed, ping_stream};
use crate::session;
use crate::target::Target;

const EXAMPLES: &str = "\
Examples:
  jsp ping example.org                 ten pings, one a second
  jsp ping example.org -c 0            until Ctrl-C
  jsp ping example.org -c 100 -i 0.05  a hundred, twenty a second

Pings are unreliable messages on one stream: what the network loses is lost here too.";

/// Measure the round-trip time to a server
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\n{TABLE}"))]
pub(crate) struct Ping {
    /// Who answers
    #[arg(value_name = "HOST")]
    host: Target,
    /// How many; 0 goes on until Ctrl-C
    #[arg(short, long, value_name = "N", default_value_t = 10)]
    count: u64,
    /// Seconds between two pings, 0.001 to 3600
    #[arg(short, long, value_name = "SECONDS", default_value = "1", value_parser = parse_interval)]
    interval: Duration,
    /// Bytes of each, 16 to 65536
    #[arg(short, long, value_name = "BYTES", default_value_t = 64)]
    #[arg(value_parser = clap::value_parser!(u32).range(16..=65_536))]
    size: u32,
}

fn parse_interval(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.001..=3600.0).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("an interval is 0.001 to 3600 seconds".into()),
    }
}

#[derive(Serialize)]
struct PongEvent {
    event: &'static str,
    number: u64,
    milliseconds: f64,
}

/// What has been sent and come back.
#[derive(Debug, Default)]
struct Tally {
    sent: u64,
    times: Vec<Duration>,
}

impl Ping {
    pub(crate) async fn run(self, global: &Global, output: Output) -> Result<Exit, Failure> {
        let (endpoint, connection) = session::connect(&self.host, global, output).await?;
        let mut tally = Tally::default();
        let work = self.ping(&connection, global.timeout, output, &mut tally);
        let result = session::until_interrupted(&endpoint, work).await;
        tally.report(&self.host, output);
        result?;
        if tally.times.is_empty() {
            let sentence = format!("{} has answered no ping", self.host.authority);
            return Err(Failure::new(Exit::PeerVanished, sentence));
        }
        Ok(Exit::Success)
    }

    async fn ping(
        &self,
        connection: &Connection,
        patience: Duration,
        output: Output,
        tally: &mut Tally,
    ) -> Result<(), Failure> {
        let (send, recv) = connection.open(ping_stream()).await?.split();
        let begun = Instant::now();
        let mut ticks = interval(self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                _ = ticks.tick() => {
                    if self.count > 0 && tally.sent == self.count {
                        break;
                    }
                    self.send_one(&send, begun, tally).await?;
                    if self.count > 0 && tally.sent == self.count {
                        break;
                    }
                }
                pong = recv.recv() => note(pong, begun, tally, output)?,
            }
        }
        // The last ones are waited for as long as a round trip may take.
        let longest = tally.times.iter().max().copied().unwrap_or(patience);
        let end = Instant::now() + (longest * 4).clamp(Duration::from_millis(200), patience);
        self.wait_for_last(&recv, begun, end, output, tally).await
    }

    async fn send_one(
        &self,
        send: &SendStream,
        begun: Instant,
        tally: &mut Tally,
    ) -> Result<(), Failure> {
        let mut content = Vec::with_capacity(self.size as usize);
        content.extend_from_slice(&tally.sent.to_be_bytes());
        let sent_at = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        content.extend_from_slice(&sent_at.to_be_bytes());
        content.resize(self.size as usize, 0);
        // A send that would wait for seconds is a ping that was lost.
        if let Ok(result) = timeout(self.interval, send.send(Message::binary(content))).await {
            result?;
        }
        tally.sent += 1;
        Ok(())
    }

    async fn wait_for_last(
        &self,
        recv: &RecvStream,
        begun: Instant,
        end: Instant,
        output: Output,
        tally: &mut Tally,
    ) -> Result<(), Failure> {
        while (tally.times.len() as u64) < tally.sent {
            tokio::select! {
                pong = recv.recv() => note(pong, begun, tally, output)?,
                () = sleep_until(end) => break,
            }
        }
        Ok(())
    }
}

/// A message has come back. The server is not believed: a time in the future is no pong.
fn note(
    pong: Result<Option<jsp::Received>, RecvError>,
    begun: Instant,
    tally: &mut Tally,
    output: Output,
) -> Result<(), Failure> {
    let pong = pong?.ok_or_else(|| malformed("the end of the pings"))?;
    let (number, rest) = pong.payload.split_first_chunk::<8>().ok_or_else(short)?;
    let (sent_at, _) = rest.split_first_chunk::<8>().ok_or_else(short)?;
    let (number, sent_at) = (u64::from_be_bytes(*number), u64::from_be_bytes(*sent_at));
    let time = begun.elapsed().checked_sub(Duration::from_nanos(sent_at)).ok_or_else(short)?;
    tally.times.push(time);
    let milliseconds = milliseconds(time);
    output.object(&PongEvent { event: "pong", number, milliseconds });
    output.line(format!("{} bytes: number {number}, {milliseconds:.3} ms", pong.payload.len()));
    Ok(())
}

fn short() -> Failure {
    malformed("a pong that was no ping")
}

impl Tally {
    fn report(&mut self, host: &Target, output: Output) {
        self.times.sort_unstable();
        let answered = self.times.len() as u64;
        let lost = self.sent.saturating_sub(answered);
        let share = if self.sent == 0 { 0.0 } else { lost as f64 / self.sent as f64 * 100.0 };
        let at = |share: f64| {
            let index = (share * self.times.len() as f64).ceil() as usize;
            self.times.get(index.saturating_sub(1)).copied().map_or(0.0, milliseconds)
        };
        let row = |metric, value, unit| Row::new("ping", &host.authority, metric, value, unit);
        for row in [
            row("sent", self.sent as f64, "messages"),
            row("lost", share, "%"),
            row("rtt_min", at(0.0), "ms"),
            row("rtt_p50", at(0.5), "ms"),
            row("rtt_p99", at(0.99), "ms"),
            row("rtt_max", at(1.0), "ms"),
        ] {
            output.object(&row);
        }
        output.line(format!(
            "{}: {} sent, {answered} back, {share:.1} % lost; min {:.3}, p50 {:.3}, p99 {:.3}, max {:.3} ms",
            host.authority,
            self.sent,
            at(0.0),
            at(0.5),
            at(0.99),
            at(1.0)
        ));
    }
}
