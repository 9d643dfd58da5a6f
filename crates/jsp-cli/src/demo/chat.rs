//! A chat: a line of text twice a second, every one of which must arrive, in order.

use std::sync::Arc;
use std::time::Duration;

use jsp::{Connection, Stream, StreamConfig};
use tokio::time::{Instant, interval};

use super::board::{Board, Part};
use crate::exit::Failure;

pub(super) const LABEL: &str = "demo-chat";

/// Time between two lines.
const LINE_EVERY: Duration = Duration::from_millis(500);
/// A second is where a conversation begins to feel slow (Nielsen, "Usability Engineering", 1993).
pub(super) const DEADLINE: Duration = Duration::from_secs(1);

/// What is said, over and over.
const LINES: [&str; 6] = [
    "Can you hear me?",
    "Yes, well, although the link is bad.",
    "And the file?",
    "Takes what we leave it.",
    "None of my lines got lost?",
    "Not one, and all in order.",
];

/// The line of this number: how many, when, what.
fn line(number: u64, nanoseconds: u64) -> String {
    let words = LINES[(number % LINES.len() as u64) as usize];
    format!("{number} {nanoseconds} {words}")
}

pub(super) async fn send(
    connection: Connection,
    board: Arc<Board>,
    time: Duration,
) -> Result<(), Failure> {
    let config = StreamConfig { unidirectional: true, ..StreamConfig::chat() };
    let (stream, _recv) = connection.open(config.labelled(LABEL)).await?.split();
    let end = Instant::now() + time;
    let mut ticks = interval(LINE_EVERY);
    let mut number = 0;
    while Instant::now() < end {
        ticks.tick().await;
        board.sent(Part::Chat, 1);
        stream.send(line(number, u64::from_be_bytes(board.stamp()))).await?;
        number += 1;
    }
    stream.finish()?;
    Ok(())
}

pub(super) async fn receive(stream: Stream, board: &Board) {
    let mut expected = 0;
    while let Ok(Some(message)) = stream.recv().await {
        let text = message.text().unwrap_or_default();
        let stamp = text.split(' ').nth(1).and_then(|stamp| stamp.parse::<u64>().ok());
        let right = stamp.is_some_and(|stamp| text == line(expected, stamp));
        expected += 1;
        let latency = board.since(stamp.unwrap_or(0).to_be_bytes());
        board.arrived(Part::Chat, latency, text.len(), DEADLINE);
        let words = text.splitn(3, ' ').nth(2).unwrap_or_default().to_owned();
        board.change(|picture| {
            picture.chat_wrong += u64::from(!right);
            picture.last_line = words;
        });
    }
    board.ended(Part::Chat);
}
