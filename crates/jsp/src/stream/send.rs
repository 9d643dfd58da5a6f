//! The sending half.

use std::future::poll_fn;
use std::io::IoSlice;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use jsp_proto::{Message, StreamInfo};
use jsp_wire::stream::Class;
use jsp_wire::{Framing, Instant, StreamId};

use super::{Fate, IntoChunk, Shared, explain_closed, send_now};
use crate::connection::{Inner, Waiting, mark_finishing};
use crate::error::{ConnectionError, SendError};
use crate::shard::{ConnectionState, FateSlot, Locked, Place, SendEnd};

/// Bytes that a borrowed write copies at most in one call.
const COPY_MAX: usize = 64 << 10;

/// The sending half of a stream.
///
/// Dropping it finishes the stream: what was sent before arrives as if [`SendStream::finish`] had
/// been called.
#[derive(Debug)]
pub struct SendStream {
    shared: Arc<Shared>,
}

impl SendStream {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The stream's id, the same on both sides.
    pub fn id(&self) -> StreamId {
        self.shared.id
    }

    /// What its opener said about it.
    pub fn info(&self) -> &StreamInfo {
        &self.shared.info
    }

    /// Sends a message and answers its number in the stream, from 0. Waits while the send buffer is
    /// full ([`StreamConfig::send_buffer`](crate::StreamConfig::send_buffer)); returns as soon as
    /// the message is queued.
    ///
    /// Cancel-safe: the message is sent only when the call returns its number.
    ///
    /// # Errors
    /// See [`SendError`].
    pub async fn send(&self, message: impl Into<Message>) -> Result<u64, SendError> {
        self.send_as(message.into(), false, |_, _| {}).await
    }

    /// Sends a message and finishes the stream in one step; as [`SendStream::send`] otherwise.
    ///
    /// # Errors
    /// See [`SendError`].
    pub async fn send_last(&self, message: impl Into<Message>) -> Result<u64, SendError> {
        self.send_as(message.into(), true, |_, _| {}).await
    }

    /// Sends a message and answers its fate, which may be awaited or dropped.
    ///
    /// Cancel-safe: the message is sent only when the call returns.
    ///
    /// # Errors
    /// See [`SendError`].
    pub async fn send_tracked(&self, message: impl Into<Message>) -> Result<Fate, SendError> {
        let mut message = message.into();
        message.want_fate = true;
        let id = self.shared.id;
        let number = self.send_as(message, false, |state, number| {
            state.fates.insert((id, number), FateSlot::Waiting(None));
        });
        Ok(Fate::new(Arc::clone(&self.shared), number.await?))
    }

    async fn send_as(
        &self,
        mut message: Message,
        last: bool,
        mut note: impl FnMut(&mut ConnectionState, u64),
    ) -> Result<u64, SendError> {
        let id = self.shared.id;
        let mut waiting = Waiting::new(&self.shared.inner, Place::Writable(id));
        poll_fn(|cx| {
            waiting.poll(cx, |core, inner, now| {
                match send_now(core, inner, id, &mut message, last, now, &mut note) {
                    Err(SendError::Full) => Poll::Pending,
                    result => Poll::Ready(result),
                }
            })
        })
        .await
    }

    /// Sends a message without waiting, from any context, also outside a runtime.
    ///
    /// # Errors
    /// [`SendError::Full`] where [`SendStream::send`] would wait, and as there.
    pub fn try_send(&self, message: impl Into<Message>) -> Result<u64, SendError> {
        let inner = &self.shared.inner;
        let now = inner.shard.clock.now();
        let mut message = message.into();
        let mut core = inner.shard.lock();
        send_now(&mut core, inner, self.shared.id, &mut message, false, now, |_, _| {})
    }

    /// Writes as much of `data` as finds room in the send buffer and answers how many bytes that
    /// were; waits while there is no room at all.
    ///
    /// Cancel-safe: bytes are taken only when the call returns their number.
    ///
    /// # Errors
    /// See [`SendError`].
    pub async fn write(&self, data: impl IntoChunk) -> Result<usize, SendError> {
        let data = data.into_chunk();
        let mut waiting = self.writable();
        poll_fn(|cx| self.poll_chunk(cx, &mut waiting, &data)).await
    }

    /// Writes all of `data`, waiting for room as needed.
    ///
    /// Not cancel-safe: when the call is dropped, a part may have been written.
    ///
    /// # Errors
    /// See [`SendError`].
    pub async fn write_all(&self, data: impl IntoChunk) -> Result<(), SendError> {
        let mut data = data.into_chunk();
        let mut waiting = self.writable();
        while !data.is_empty() {
            let written = poll_fn(|cx| self.poll_chunk(cx, &mut waiting, &data)).await?;
            let _ = data.split_to(written.min(data.len()));
        }
        Ok(())
    }

    /// Writes as much of the buffers, one behind the other, as finds room, at most 64 KiB.
    ///
    /// Cancel-safe: bytes are taken only when the call returns their number.
    ///
    /// # Errors
    /// See [`SendError`].
    pub async fn write_vectored(&self, buffers: &[IoSlice<'_>]) -> Result<usize, SendError> {
        self.write(gather(buffers)).await
    }

    /// Writes all of several chunks without a copy, under one lock each time there is room. Written
    /// chunks are taken from the front of `chunks`.
    ///
    /// Cancel-safe: what is left in `chunks` has not been written.
    ///
    /// # Errors
    /// See [`SendError`].
    pub async fn write_chunks(&self, chunks: &mut Vec<Bytes>) -> Result<(), SendError> {
        let mut waiting = self.writable();
        poll_fn(|cx| {
            waiting.poll(cx, |core, inner, now| self.write_chunks_now(core, inner, now, chunks))
        })
        .await
    }

    fn write_chunks_now(
        &self,
        core: &mut Locked<'_>,
        inner: &Inner,
        now: Instant,
        chunks: &mut Vec<Bytes>,
    ) -> Poll<Result<(), SendError>> {
        let mut done = 0;
        let mut result = Poll::Ready(Ok(()));
        while let Some(chunk) = chunks.get_mut(done) {
            let (connection, _) = match core.live(inner.key) {
                Ok(live) => live,
                Err(error) => {
                    result = Poll::Ready(Err(error.into()));
                    break;
                }
            };
            match connection.write(now, self.shared.id, chunk.clone()) {
                Ok(len) => {
                    let _ = chunk.split_to(len.min(chunk.len()));
                    if chunk.is_empty() {
                        done += 1;
                    }
                }
                Err(jsp_proto::SendError::WouldBlock) => {
                    result = Poll::Pending;
                    break;
                }
                Err(error) => {
                    result = Poll::Ready(Err(explain_closed(core, inner, error)));
                    break;
                }
            }
        }
        chunks.drain(..done);
        inner.shard.flush(core, now);
        result
    }

    fn writable(&self) -> Waiting<'_> {
        Waiting::new(&self.shared.inner, Place::Writable(self.shared.id))
    }

    fn poll_chunk(
        &self,
        cx: &mut Context<'_>,
        waiting: &mut Waiting<'_>,
        data: &Bytes,
    ) -> Poll<Result<usize, SendError>> {
        if data.is_empty() {
            return Poll::Ready(Ok(0));
        }
        waiting.poll(cx, |core, inner, now| write_now(core, inner, self.shared.id, data, now))
    }

    /// One attempt of `AsyncWrite`. The task stays noted until it is woken.
    pub(super) fn poll_write_slice(
        &self,
        cx: &mut Context<'_>,
        data: Bytes,
    ) -> Poll<Result<usize, SendError>> {
        if data.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let id = self.shared.id;
        let mut waiting = Waiting::shared(&self.shared.inner, Place::Writable(id));
        let result = waiting.poll(cx, |core, inner, now| write_now(core, inner, id, &data, now));
        waiting.keep();
        result
    }

    /// Ends the stream after what was sent. Does not wait; see [`SendStream::closed`].
    ///
    /// # Errors
    /// [`SendError::Closed`] when it has ended already, or the connection is over.
    pub fn finish(&self) -> Result<(), SendError> {
        let inner = &self.shared.inner;
        let now = inner.shard.clock.now();
        let mut core = inner.shard.lock();
        let (connection, _) = core.live(inner.key)?;
        connection.finish(now, self.shared.id)?;
        mark_finishing(&mut core, inner, self.shared.id);
        inner.shard.flush(&mut core, now);
        Ok(())
    }

    /// Abandons the stream: what has not arrived is not sent again, and the peer sees `code`, at most 2^62 - 1; larger
    /// ones are cut to that. Does nothing on a stream that has ended: all of it has arrived, or the peer has stopped it.
    pub fn reset(&self, code: u64) {
        let inner = &self.shared.inner;
        let now = inner.shard.clock.now();
        let mut core = inner.shard.lock();
        let Ok((connection, _)) = core.live(inner.key) else { return };
        connection.reset(now, self.shared.id, code);
        if let Some((state, wakes)) = core.state_and_wakes(inner.key)
            && !state.streams.get(&self.shared.id).is_some_and(|stream| stream.has_ended())
        {
            state.end_sending(self.shared.id, SendEnd::Reset, wakes);
        }
        core.close_if_delivered(inner.key, now);
        inner.shard.flush(&mut core, now);
    }

    /// Waits until the peer's transport has all of the finished stream.
    ///
    /// Cancel-safe. Waits for ever when the stream is never finished.
    ///
    /// # Errors
    /// [`SendError::Stopped`] when the peer wants no more, [`SendError::Closed`] when this side has
    /// reset the stream, and when the connection ends first.
    pub async fn closed(&self) -> Result<(), SendError> {
        let id = self.shared.id;
        let mut waiting = Waiting::new(&self.shared.inner, Place::Ended(id));
        poll_fn(|cx| {
            waiting.poll(cx, |core, inner, _| {
                let Some(state) = core.state(inner.key) else {
                    return Poll::Ready(Err(ConnectionError::EndpointClosed.into()));
                };
                let over = state.error().cloned();
                let end = state.streams.get(&id).map_or(SendEnd::Reset, |stream| stream.end);
                match (end, over) {
                    (SendEnd::Finished, _) => Poll::Ready(Ok(())),
                    (SendEnd::Stopped(code), _) => Poll::Ready(Err(SendError::Stopped(code))),
                    (SendEnd::Reset, None) => Poll::Ready(Err(SendError::Closed)),
                    (_, Some(error)) => Poll::Ready(Err(error.into())),
                    (SendEnd::Open | SendEnd::Finishing, None) => Poll::Pending,
                }
            })
        })
        .await
    }

    /// Waits until the peer's application says that it has taken message `number` and all before
    /// it, with [`RecvStream::consumed`](crate::RecvStream::consumed).
    ///
    /// A stream that is over on both sides is forgotten, and nothing is told of it any more. For its last messages this is
    /// of no use on a stream that the peer reads to its end and sends nothing on, as on every unidirectional one:
    /// [`SendStream::closed`] tells that they have arrived, and an answer that they are taken.
    ///
    /// Cancel-safe. Waits as long as the peer's application does not say so and still may.
    ///
    /// # Errors
    /// [`SendError::Closed`] when it cannot say so any more: all of the finished stream has arrived, and nothing comes
    /// back on it; or this side has reset it. And when the peer stops the stream, or the connection ends first.
    pub async fn consumed(&self, number: u64) -> Result<(), SendError> {
        let id = self.shared.id;
        let mut waiting = Waiting::new(&self.shared.inner, Place::Ended(id));
        poll_fn(|cx| {
            waiting.poll(cx, |core, inner, _| {
                let Some(state) = core.state(inner.key) else {
                    return Poll::Ready(Err(ConnectionError::EndpointClosed.into()));
                };
                let over = state.error().cloned();
                let stream = state.streams.get(&id);
                match (stream.map(|s| (s.consumed_below > number, s.end)), over) {
                    (Some((true, _)), _) => Poll::Ready(Ok(())),
                    (Some((_, SendEnd::Stopped(code))), _) => {
                        Poll::Ready(Err(SendError::Stopped(code)))
                    }
                    (_, Some(error)) => Poll::Ready(Err(error.into())),
                    (None | Some((_, SendEnd::Reset)), None) => Poll::Ready(Err(SendError::Closed)),
                    (Some((_, SendEnd::Finished)), None) if will_not_tell(core, inner, id) => {
                        Poll::Ready(Err(SendError::Closed))
                    }
                    (Some(_), None) => Poll::Pending,
                }
            })
        })
        .await
    }

    /// Changes the priority of what this side sends: class, and weight in the class from 1 to 255.
    pub fn set_priority(&self, class: Class, weight: u8) {
        let inner = &self.shared.inner;
        let now = inner.shard.clock.now();
        if let Ok((connection, _)) = inner.shard.lock().live(inner.key) {
            connection.set_priority(now, self.shared.id, class, weight.max(1));
        }
    }

    pub(super) fn is_bytes(&self) -> bool {
        self.shared.info.profile.framing == Framing::Bytes
    }
}

/// The transport knows nothing of the stream any more. If it does, it tells when it does not.
fn will_not_tell(core: &mut Locked<'_>, inner: &Inner, id: StreamId) -> bool {
    core.live(inner.key).is_ok_and(|(connection, _)| !connection.watch_forgotten(id))
}

fn write_now(
    core: &mut Locked<'_>,
    inner: &Inner,
    id: StreamId,
    data: &Bytes,
    now: Instant,
) -> Poll<Result<usize, SendError>> {
    let (connection, _) = match core.live(inner.key) {
        Ok(live) => live,
        Err(error) => return Poll::Ready(Err(error.into())),
    };
    // What waits already was left by the last turn to send, or has one before it.
    let has_unsent = connection.has_unsent(id);
    match connection.write(now, id, data.clone()) {
        Ok(len) => {
            if !has_unsent {
                inner.shard.flush(core, now);
            }
            Poll::Ready(Ok(len))
        }
        Err(jsp_proto::SendError::WouldBlock) => Poll::Pending,
        Err(error) => Poll::Ready(Err(explain_closed(core, inner, error))),
    }
}

/// One buffer out of several, at most [`COPY_MAX`] bytes.
pub(super) fn gather(buffers: &[IoSlice<'_>]) -> Bytes {
    let total = buffers.iter().map(|buffer| buffer.len()).sum::<usize>().min(COPY_MAX);
    let mut joined = BytesMut::with_capacity(total);
    for buffer in buffers {
        let room = total - joined.len();
        joined.extend_from_slice(&buffer[..buffer.len().min(room)]);
    }
    joined.freeze()
}

/// The part of a borrowed buffer that one call copies.
pub(super) fn copy_some(data: &[u8]) -> Bytes {
    Bytes::copy_from_slice(&data[..data.len().min(COPY_MAX)])
}

impl Drop for SendStream {
    fn drop(&mut self) {
        if !self.shared.has_half(true) {
            return;
        }
        let (inner, id) = (&self.shared.inner, self.shared.id);
        let mut core = inner.shard.lock();
        if !core.state(inner.key).is_some_and(|state| state.let_go_of_send(id)) {
            return;
        }
        let now = core.time(&inner.shard.clock);
        if let Ok((connection, _)) = core.live(inner.key)
            && connection.finish(now, id).is_ok()
        {
            mark_finishing(&mut core, inner, id);
            inner.shard.flush(&mut core, now);
        }
        if let Some(state) = core.state(inner.key) {
            state.forget_unheld(id);
        }
    }
}
