//! The receiving half.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use jsp_proto::{Received, StreamInfo};
use jsp_wire::StreamId;

use super::{Shared, read_many_now, read_now, recv_many_now, recv_now, recv_to_end};
use crate::connection::{Inner, Waiting};
use crate::error::RecvError;
use crate::shard::{Locked, Place};

/// The receiving half of a stream.
///
/// Dropping it before the end stops the stream with code 0: the peer learns that nobody reads on.
#[derive(Debug)]
pub struct RecvStream {
    shared: Arc<Shared>,
    /// The end was read: there is nothing left to stop.
    ended: AtomicBool,
}

impl RecvStream {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, ended: AtomicBool::new(false) }
    }

    /// The stream's id, the same on both sides.
    pub fn id(&self) -> StreamId {
        self.shared.id
    }

    /// What its opener said about it.
    pub fn info(&self) -> &StreamInfo {
        &self.shared.info
    }

    /// The next message; `None` at the end of the stream.
    ///
    /// Cancel-safe: no message is lost.
    ///
    /// # Errors
    /// See [`RecvError`]. Messages that arrived before the connection ended come first.
    pub async fn recv(&self) -> Result<Option<Received>, RecvError> {
        if self.ended.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let id = self.shared.id;
        let mut waiting = self.readable();
        let attempt = |core: &mut Locked<'_>, inner: &Inner, now| {
            recv_to_end(core, inner, id, now).map_ok(|(received, is_over)| {
                // Who asks for more after the last one finds that there is none without the lock.
                self.note_end(is_over);
                received
            })
        };
        poll_fn(|cx| waiting.poll(cx, attempt)).await
    }

    fn note_end(&self, ended: bool) {
        if ended {
            self.ended.store(true, Ordering::Relaxed);
        }
    }

    /// Waits for messages and appends all there are, at most `max`, to `messages`, under one lock.
    /// Answers how many; 0 at the end of the stream.
    ///
    /// Cancel-safe: no message is lost.
    ///
    /// # Errors
    /// See [`RecvError`].
    pub async fn recv_many(
        &self,
        messages: &mut Vec<Received>,
        max: usize,
    ) -> Result<usize, RecvError> {
        let id = self.shared.id;
        let mut waiting = self.readable();
        let result = poll_fn(|cx| {
            waiting.poll(cx, |core, inner, now| {
                recv_many_now(core, inner, id, now, messages, max.max(1))
            })
        })
        .await;
        self.note_end(matches!(result, Ok(0)));
        result
    }

    /// The next message if it is there, without waiting: `None` when there is none now, or no more.
    ///
    /// # Errors
    /// See [`RecvError`].
    pub fn try_recv(&self) -> Result<Option<Received>, RecvError> {
        let inner = &self.shared.inner;
        let now = inner.shard.clock.now();
        match recv_now(&mut inner.shard.lock(), inner, self.shared.id, now) {
            Poll::Ready(result) => result,
            Poll::Pending => Ok(None),
        }
    }

    /// Reads into `buffer`; answers how many bytes, 0 at the end of the stream.
    ///
    /// Cancel-safe: no byte is lost.
    ///
    /// # Errors
    /// See [`RecvError`].
    pub async fn read(&self, buffer: &mut [u8]) -> Result<usize, RecvError> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let chunk = self.read_chunk(buffer.len()).await?.unwrap_or_default();
        buffer[..chunk.len()].copy_from_slice(&chunk);
        Ok(chunk.len())
    }

    /// Fills `buffer` whole.
    ///
    /// Not cancel-safe: when the call is dropped, bytes already read are lost.
    ///
    /// # Errors
    /// See [`RecvError`]; a stream that ends first is `Ok(false)`, with what there was in the
    /// buffer.
    pub async fn read_exact(&self, buffer: &mut [u8]) -> Result<bool, RecvError> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.read(&mut buffer[filled..]).await? {
                0 => return Ok(false),
                len => filled += len,
            }
        }
        Ok(true)
    }

    /// The next bytes, at most `max`, without a copy; `None` at the end of the stream. A `max` of 0 is taken as 1.
    ///
    /// Cancel-safe: no byte is lost.
    ///
    /// # Errors
    /// See [`RecvError`].
    pub async fn read_chunk(&self, max: usize) -> Result<Option<Bytes>, RecvError> {
        let (id, max) = (self.shared.id, max.max(1));
        let mut waiting = self.readable();
        let read = |core: &mut Locked<'_>, inner: &Inner, now| read_now(core, inner, id, max, now);
        let result = poll_fn(|cx| waiting.poll(cx, read)).await;
        self.note_end(matches!(result, Ok(None)));
        result
    }

    /// Waits for bytes and appends all chunks there are, up to about `max` bytes, to `chunks`,
    /// without a copy and under one lock. Answers how many bytes; 0 at the end of the stream. A `max` of 0 is taken
    /// as 1.
    ///
    /// Cancel-safe: no byte is lost.
    ///
    /// # Errors
    /// See [`RecvError`].
    pub async fn read_chunks(
        &self,
        chunks: &mut Vec<Bytes>,
        max: usize,
    ) -> Result<usize, RecvError> {
        let (id, max) = (self.shared.id, max.max(1));
        let mut waiting = self.readable();
        poll_fn(|cx| {
            waiting.poll(cx, |core, inner, now| read_many_now(core, inner, id, now, chunks, max))
        })
        .await
    }

    /// Reads to the end of the stream.
    ///
    /// Not cancel-safe: when the call is dropped, bytes already read are lost.
    ///
    /// # Errors
    /// [`RecvError::TooLong`] when there are more than `limit` bytes, and as [`RecvError`] says.
    pub async fn read_to_end(&self, limit: usize) -> Result<Vec<u8>, RecvError> {
        let mut all = Vec::new();
        while let Some(chunk) = self.read_chunk(usize::MAX).await? {
            if all.len() + chunk.len() > limit {
                return Err(RecvError::TooLong { limit });
            }
            all.extend_from_slice(&chunk);
        }
        Ok(all)
    }

    fn readable(&self) -> Waiting<'_> {
        Waiting::new(&self.shared.inner, Place::Readable(self.shared.id))
    }

    /// One attempt of `AsyncRead`. The task stays noted until it is woken.
    pub(super) fn poll_chunk(
        &self,
        cx: &mut Context<'_>,
        max: usize,
    ) -> Poll<Result<Option<Bytes>, RecvError>> {
        let id = self.shared.id;
        let mut waiting = Waiting::shared(&self.shared.inner, Place::Readable(id));
        let result = waiting.poll(cx, |core, inner, now| read_now(core, inner, id, max, now));
        waiting.keep();
        result
    }

    /// Tells the peer's application that this one has taken all messages below `number`. The
    /// transport tells arrival by itself; this tells consumption. On a stream that was read to its end, and that this
    /// side has nothing to send on, the peer is not told any more: see [`SendStream::consumed`](crate::SendStream::consumed).
    pub fn consumed(&self, number: u64) {
        let inner = &self.shared.inner;
        let now = inner.shard.clock.now();
        let mut core = inner.shard.lock();
        if let Ok((connection, _)) = core.live(inner.key) {
            connection.consumed(self.shared.id, number);
            inner.shard.flush(&mut core, now);
        }
    }

    /// Wants no more: the peer's sends fail with `code` (larger ones are cut to 2^62 - 1), and what has arrived is
    /// dropped. To this side's readers, also those that wait, the stream is at its end.
    pub fn stop(&self, code: u64) {
        let inner = &self.shared.inner;
        let now = inner.shard.clock.now();
        let mut core = inner.shard.lock();
        if let Ok((connection, _)) = core.live(inner.key) {
            connection.stop(now, self.shared.id, code);
            if let Some((state, wakes)) = core.state_and_wakes(inner.key)
                && let Some(stream) = state.streams.get_mut(&self.shared.id)
            {
                stream.readable.wake(wakes);
            }
            inner.shard.flush(&mut core, now);
        }
    }
}

impl Drop for RecvStream {
    fn drop(&mut self) {
        if !self.shared.has_half(false) {
            return;
        }
        let (inner, id) = (&self.shared.inner, self.shared.id);
        let mut core = inner.shard.lock();
        if !*self.ended.get_mut() {
            let now = core.time(&inner.shard.clock);
            if let Ok((connection, _)) = core.live(inner.key) {
                connection.stop(now, id, 0);
                inner.shard.flush(&mut core, now);
            }
        }
        if let Some(state) = core.state(inner.key) {
            state.let_go_of_recv(id);
        }
    }
}
