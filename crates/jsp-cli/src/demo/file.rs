//! A file: random bytes that take what voice and chat leave of the link.

use std::sync::Arc;
use std::time::Duration;

use jsp::{Connection, Stream, StreamConfig};
use tokio::time::Instant;

use super::Scene;
use super::board::{Board, Part};
use crate::exit::Failure;

pub(super) const LABEL: &str = "demo-file";

/// Bytes made at once.
const PIECE_LEN: usize = 16 << 10;
/// Least bytes that may wait in the send buffer.
const BUFFER_MIN: usize = 64 << 10;

/// Sends until the time is over; the file is as long as what fits.
pub(super) async fn send(
    connection: Connection,
    board: Arc<Board>,
    scene: Scene,
) -> Result<(), Failure> {
    // Half a second of the link waits here, so that the end does not take long.
    let half_second = usize::try_from(scene.bits_per_second / 16).unwrap_or(usize::MAX);
    let config = StreamConfig {
        unidirectional: true,
        send_buffer: half_second.clamp(BUFFER_MIN, 1 << 20),
        ..StreamConfig::file()
    };
    let (stream, _recv) = connection.open(config.labelled(LABEL)).await?.split();
    let mut random = blake3::Hasher::new_derive_key("jsp demo 1 file")
        .update(&scene.seed.to_be_bytes())
        .finalize_xof();
    let mut hasher = blake3::Hasher::new();
    let end = Instant::now() + scene.time;
    while Instant::now() < end {
        let mut piece = vec![0; PIECE_LEN];
        random.fill(&mut piece);
        hasher.update(&piece);
        stream.write_all(piece).await?;
        board.sent(Part::File, PIECE_LEN as u64);
    }
    board.change(|picture| picture.hashes.sent = Some(hasher.finalize()));
    stream.finish()?;
    Ok(())
}

pub(super) async fn receive(stream: Stream, board: &Board) {
    let mut hasher = blake3::Hasher::new();
    loop {
        match stream.read_chunk(usize::MAX).await {
            Ok(Some(chunk)) => {
                hasher.update(&chunk);
                board.change(|picture| {
                    picture.file.arrived += chunk.len() as u64;
                    picture.file.bytes += chunk.len() as u64;
                });
            }
            Ok(None) => break,
            Err(_) => return board.ended(Part::File),
        }
    }
    let done_after: Duration = board.elapsed();
    board.change(|picture| {
        picture.hashes.arrived = Some(hasher.finalize());
        picture.hashes.done_after = done_after;
    });
    board.ended(Part::File);
}
