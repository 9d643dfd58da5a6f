//! The asking side of a measurement.

use std::sync::Arc;
use std::time::Duration;

use jsp::{Connection, Stream};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep};

use super::server::hear;
use super::{Count, Meter, Request, Word, flow};
use crate::exit::{Exit, Failure};
use crate::protocol::{label, malformed, message_of, perf_stream};

/// How often a line is printed.
const LINE_EVERY: Duration = Duration::from_secs(1);
/// How long the ends of streams are waited for after the server has said that it is done.
const STRAGGLERS: Duration = Duration::from_secs(5);

/// A direction, as the client sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Up,
    Down,
}

impl Way {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// What one direction has come to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome {
    pub(crate) way: Way,
    pub(crate) sent: Count,
    pub(crate) arrived: Count,
    /// From the first byte sent to the last counted.
    pub(crate) time: Duration,
}

/// Measures, and calls `line` with what has arrived in each interval.
pub(crate) async fn measure(
    connection: &Connection,
    request: Request,
    line: impl Fn(Way, Count, Duration),
) -> Result<Vec<Outcome>, Failure> {
    let control = connection.open(perf_stream()).await?;
    control.send(message_of(&Word::Request(request))).await?;
    match hear(&control).await? {
        Word::Accept => {}
        Word::Refuse => {
            let sentence =
                "the server refuses so much: at most 256 streams, 1 MiB a message, 1 hour";
            return Err(Failure::new(Exit::Refused, sentence));
        }
        _ => return Err(malformed("a word at the wrong place")),
    }
    let begun = Instant::now();
    let meter = Arc::new(Meter::default());
    let counting = count_streams(connection, &meter);
    let sending = async {
        if !request.up {
            return Ok(None);
        }
        let sent = flow::fill(connection, request).await?;
        control.send(message_of(&Word::Sent(sent))).await?;
        Ok::<_, Failure>(Some(sent))
    };
    let hearing = listen(&control, &meter, request, begun, &line);
    let outcome = async { tokio::try_join!(sending, hearing) };
    let (sent, (up, down)) = tokio::select! {
        outcome = outcome => outcome?,
        failure = counting => return Err(failure),
    };
    let mut outcomes = Vec::new();
    if let (Some(sent), Some((arrived, time))) = (sent, up) {
        outcomes.push(Outcome { way: Way::Up, sent, arrived, time });
    }
    if let Some((sent, arrived, time)) = down {
        outcomes.push(Outcome { way: Way::Down, sent, arrived, time });
    }
    Ok(outcomes)
}

/// Counts the server's data streams for as long as the connection lives.
async fn count_streams(connection: &Connection, meter: &Arc<Meter>) -> Failure {
    let mut tasks = JoinSet::new();
    loop {
        match connection.accept().await {
            Ok(stream) if stream.info().label == label::PERF_DATA => {
                let meter = Arc::clone(meter);
                tasks.spawn(async move { meter.count(stream).await });
            }
            Ok(_) => return malformed("a stream that nobody asked for"),
            Err(error) => return error.into(),
        }
    }
}

type Heard = (Option<(Count, Duration)>, Option<(Count, Count, Duration)>);

/// Hears the server's words and prints lines, until both directions have ended.
async fn listen(
    control: &Stream,
    meter: &Meter,
    request: Request,
    begun: Instant,
    line: &impl Fn(Way, Count, Duration),
) -> Result<Heard, Failure> {
    let (mut up, mut down) = (None, None);
    let (mut last_up, mut last_down) = (Count::default(), Count::default());
    let mut ticks = interval(LINE_EVERY);
    ticks.tick().await;
    while (request.up && up.is_none()) || (request.down && down.is_none()) {
        tokio::select! {
            _ = ticks.tick(), if request.down && down.is_none() => {
                let count = meter.read();
                line(Way::Down, count.since(last_down), begun.elapsed());
                last_down = count;
            }
            word = hear(control) => match word? {
                Word::Arrived(count) if request.up => {
                    line(Way::Up, count.since(last_up), begun.elapsed());
                    last_up = count;
                }
                Word::Total(count) if request.up => up = Some((count, begun.elapsed())),
                Word::Sent(sent) if request.down => {
                    tokio::select! {
                        () = meter.all_ended(request.streams) => {}
                        () = sleep(STRAGGLERS) => {}
                    }
                    down = Some((sent, meter.read(), begun.elapsed()));
                }
                _ => return Err(malformed("a word at the wrong place")),
            },
        }
    }
    Ok((up, down))
}

impl Count {
    /// What has been added since `earlier`. The other side's numbers are not believed to grow.
    fn since(self, earlier: Count) -> Count {
        Count {
            bytes: self.bytes.saturating_sub(earlier.bytes),
            messages: self.messages.saturating_sub(earlier.messages),
        }
    }
}
