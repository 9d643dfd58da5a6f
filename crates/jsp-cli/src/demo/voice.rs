//! A voice: 160 bytes every 20 ms, as an 8 kHz telephone codec makes them.

use std::sync::Arc;
use std::time::Duration;

use jsp::{Connection, Message, Stream, StreamConfig};
use tokio::time::{Instant, interval};

use super::board::{Board, Part};
use crate::exit::Failure;

pub(super) const LABEL: &str = "demo-voice";

/// Bytes of a frame: 20 ms of G.711 (64 kbit/s).
const FRAME_LEN: usize = 160;
/// Time between two frames.
const FRAME_EVERY: Duration = Duration::from_millis(20);
/// A frame that is older is not worth playing (ITU-T G.114: conversation suffers beyond 150 ms).
pub(super) const DEADLINE: Duration = Duration::from_millis(150);

pub(super) async fn send(
    connection: Connection,
    board: Arc<Board>,
    time: Duration,
) -> Result<(), Failure> {
    let config = StreamConfig { unidirectional: true, ..StreamConfig::voice() };
    let (stream, _recv) = connection.open(config.labelled(LABEL)).await?.split();
    let end = Instant::now() + time;
    let mut ticks = interval(FRAME_EVERY);
    while Instant::now() < end {
        ticks.tick().await;
        let mut frame = Vec::with_capacity(FRAME_LEN);
        frame.extend_from_slice(&board.stamp());
        frame.resize(FRAME_LEN, 0xd5);
        board.sent(Part::Voice, 1);
        stream.send(Message::binary(frame)).await?;
    }
    stream.finish()?;
    Ok(())
}

pub(super) async fn receive(stream: Stream, board: &Board) {
    while let Ok(Some(frame)) = stream.recv().await {
        if let Some((stamp, _)) = frame.payload.split_first_chunk::<8>() {
            board.arrived(Part::Voice, board.since(*stamp), frame.payload.len(), DEADLINE);
        }
    }
    board.ended(Part::Voice);
}
