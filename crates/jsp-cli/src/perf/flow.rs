//! Sending as much as fits.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use jsp::{Connection, Framing, Message, SendError, SendStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::{Count, Request};
use crate::exit::Failure;

/// Opens the streams of a request, fills them until its time is over, and finishes them. Answers
/// what was sent.
pub(super) async fn fill(connection: &Connection, request: Request) -> Result<Count, Failure> {
    let end = Instant::now() + request.time();
    let content = Bytes::from(vec![0x5a; request.size as usize]);
    let (bytes, messages) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut tasks = JoinSet::new();
    for _ in 0..request.streams {
        let (send, _recv) = connection.open(request.mode.stream()).await?.split();
        let (content, bytes, messages) = (content.clone(), bytes.clone(), messages.clone());
        tasks.spawn(async move {
            while Instant::now() < end {
                // A full buffer may not open again before the end.
                let Ok(sent) = timeout_at(end, send_one(&send, &content)).await else { break };
                bytes.fetch_add(sent? as u64, Ordering::Relaxed);
                messages.fetch_add(1, Ordering::Relaxed);
            }
            send.finish()
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.map_err(|_| Failure::file("a stream ended inside this program"))??;
    }
    let bytes = bytes.load(Ordering::Relaxed);
    let messages = if request.mode.stream().framing == Framing::Bytes {
        0
    } else {
        messages.load(Ordering::Relaxed)
    };
    Ok(Count { bytes, messages })
}

async fn send_one(send: &SendStream, content: &Bytes) -> Result<usize, SendError> {
    if send.info().profile.framing == Framing::Bytes {
        return send.write(content).await;
    }
    send.send(Message::binary(content.clone())).await?;
    Ok(content.len())
}
