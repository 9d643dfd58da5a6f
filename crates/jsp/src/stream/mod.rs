//! Streams: messages or bytes, in both directions or one.

mod chunk;
mod fate;
mod io;
mod recv;
mod send;

use std::fmt;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use jsp_proto::{Message, Received, StreamInfo};
use jsp_wire::{Instant, StreamId};

use crate::connection::Inner;
use crate::error::{RecvError, SendError};
use crate::shard::{ConnectionState, Locked, Rest};
pub use chunk::IntoChunk;
pub use fate::Fate;
pub use recv::RecvStream;
pub use send::SendStream;

/// What the two halves of a stream share.
pub(crate) struct Shared {
    inner: Arc<Inner>,
    id: StreamId,
    info: StreamInfo,
    /// This side opened it.
    opened_here: bool,
}

impl Shared {
    /// The half that a unidirectional stream lacks on this side is nothing to finish or to stop.
    fn has_half(&self, sending: bool) -> bool {
        !self.info.profile.unidirectional || self.opened_here == sending
    }
}

/// A stream with both its halves. All that [`SendStream`] and [`RecvStream`] can do, it can do.
///
/// On a unidirectional stream the accepting side only receives and the opening side only sends; the
/// other half says so by its errors.
#[derive(Debug)]
pub struct Stream {
    send: SendStream,
    recv: RecvStream,
}

impl Stream {
    pub(crate) fn new(
        inner: Arc<Inner>,
        id: StreamId,
        info: StreamInfo,
        opened_here: bool,
    ) -> Self {
        let shared = Arc::new(Shared { inner, id, info, opened_here });
        Self { send: SendStream::new(Arc::clone(&shared)), recv: RecvStream::new(shared) }
    }

    /// The two halves, to be used by different tasks.
    pub fn split(self) -> (SendStream, RecvStream) {
        (self.send, self.recv)
    }

    /// Both halves, borrowed.
    pub fn halves(&mut self) -> (&mut SendStream, &mut RecvStream) {
        (&mut self.send, &mut self.recv)
    }

    /// The stream's id, the same on both sides.
    pub fn id(&self) -> StreamId {
        self.send.id()
    }

    /// What its opener said about it.
    pub fn info(&self) -> &StreamInfo {
        self.send.info()
    }

    /// See [`SendStream::send`].
    ///
    /// # Errors
    /// See [`SendError`].
    pub async fn send(&self, message: impl Into<Message>) -> Result<u64, SendError> {
        self.send.send(message).await
    }

    /// See [`SendStream::send_tracked`].
    ///
    /// # Errors
    /// See [`SendError`].
    pub async fn send_tracked(&self, message: impl Into<Message>) -> Result<Fate, SendError> {
        self.send.send_tracked(message).await
    }

    /// See [`SendStream::send_last`].
    ///
    /// # Errors
    /// See [`SendError`].
    pub async fn send_last(&self, message: impl Into<Message>) -> Result<u64, SendError> {
        self.send.send_last(message).await
    }

    /// See [`SendStream::try_send`].
    ///
    /// # Errors
    /// See [`SendError`].
    pub fn try_send(&self, message: impl Into<Message>) -> Result<u64, SendError> {
        self.send.try_send(message)
    }

    /// See [`SendStream::write`].
    ///
    /// # Errors
    /// See [`SendError`].
    pub async fn write(&self, data: impl IntoChunk) -> Result<usize, SendError> {
        self.send.write(data).await
    }

    /// See [`SendStream::write_all`].
    ///
    /// # Errors
    /// See [`SendError`].
    pub async fn write_all(&self, data: impl IntoChunk) -> Result<(), SendError> {
        self.send.write_all(data).await
    }

    /// See [`SendStream::finish`].
    ///
    /// # Errors
    /// See [`SendError`].
    pub fn finish(&self) -> Result<(), SendError> {
        self.send.finish()
    }

    /// See [`SendStream::reset`].
    pub fn reset(&self, code: u64) {
        self.send.reset(code);
    }

    /// See [`RecvStream::recv`].
    ///
    /// # Errors
    /// See [`RecvError`].
    pub async fn recv(&self) -> Result<Option<Received>, RecvError> {
        self.recv.recv().await
    }

    /// See [`RecvStream::read`].
    ///
    /// # Errors
    /// See [`RecvError`].
    pub async fn read(&self, buffer: &mut [u8]) -> Result<usize, RecvError> {
        self.recv.read(buffer).await
    }

    /// See [`RecvStream::read_chunk`].
    ///
    /// # Errors
    /// See [`RecvError`].
    pub async fn read_chunk(&self, max: usize) -> Result<Option<Bytes>, RecvError> {
        self.recv.read_chunk(max).await
    }

    /// See [`RecvStream::read_to_end`].
    ///
    /// # Errors
    /// See [`RecvError`].
    pub async fn read_to_end(&self, limit: usize) -> Result<Vec<u8>, RecvError> {
        self.recv.read_to_end(limit).await
    }

    /// See [`RecvStream::stop`].
    pub fn stop(&self, code: u64) {
        self.recv.stop(code);
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("id", &self.id).field("info", &self.info).finish()
    }
}

/// Queues a message under the lock and lets it go out. `Full` when there is no room: then, and only
/// then, the message is still there. What is to be known of it, by its number, is noted before it goes: its fate
/// may be told as it does.
#[inline]
pub(crate) fn send_now(
    core: &mut Locked<'_>,
    inner: &Inner,
    id: StreamId,
    message: &mut Message,
    last: bool,
    now: Instant,
    note: impl FnOnce(&mut ConnectionState, u64),
) -> Result<u64, SendError> {
    let (connection, state) = core.live(inner.key)?;
    let sent = connection.offer(now, id, message);
    if let Ok(number) = sent {
        note(state, number);
    }
    let finished = last && sent.is_ok() && connection.finish(now, id).is_ok();
    let number = sent.map_err(|error| explain_closed(core, inner, error))?;
    if finished {
        crate::connection::mark_finishing(core, inner, id);
    }
    inner.shard.flush(core, now);
    Ok(number)
}

/// A stream takes no more: because it has ended, or because all has.
fn explain_closed(core: &mut Locked<'_>, inner: &Inner, error: jsp_proto::SendError) -> SendError {
    if error != jsp_proto::SendError::Closed {
        return error.into();
    }
    let over = core.state(inner.key).and_then(|state| state.error().cloned());
    over.map_or(SendError::Closed, SendError::from)
}

/// The next message under the lock; `Ready(Ok(None))` at the end of the stream.
pub(crate) fn recv_now(
    core: &mut Locked<'_>,
    inner: &Inner,
    id: StreamId,
    now: Instant,
) -> Poll<Result<Option<Received>, RecvError>> {
    recv_to_end(core, inner, id, now).map_ok(|(received, _)| received)
}

/// The same, and whether nothing will follow.
fn recv_to_end(
    core: &mut Locked<'_>,
    inner: &Inner,
    id: StreamId,
    now: Instant,
) -> Poll<Result<(Option<Received>, bool), RecvError>> {
    let (connection, _) = match core.live(inner.key) {
        Ok(live) => live,
        Err(error) => {
            let rest = recv_rest(core, inner, id, error);
            return Poll::Ready(rest.map(|message| {
                let is_over = message.is_none();
                (message, is_over)
            }));
        }
    };
    let owed = connection.owes_credit();
    let received = connection.recv(now, id);
    let is_over = connection.is_read(id);
    let is_due = !owed && connection.owes_credit();
    inner.shard.flush_read(core, is_due);
    match received {
        Ok(Some(message)) => Poll::Ready(Ok((Some(message), is_over))),
        Ok(None) => Poll::Pending,
        Err(error) => Poll::Ready(end_of(error).map(|end| (end, true))),
    }
}

/// The next messages under the lock, at most `max`; `Ready(Ok(0))` at the end of the stream.
pub(crate) fn recv_many_now(
    core: &mut Locked<'_>,
    inner: &Inner,
    id: StreamId,
    now: Instant,
    messages: &mut Vec<Received>,
    max: usize,
) -> Poll<Result<usize, RecvError>> {
    if let Ok((connection, _)) = core.live(inner.key) {
        let owed = connection.owes_credit();
        let received = connection.recv_all(now, id, max, messages);
        let is_due = !owed && connection.owes_credit();
        inner.shard.flush_read(core, is_due);
        return match received {
            Ok(0) => Poll::Pending,
            Ok(count) => Poll::Ready(Ok(count)),
            Err(error) => Poll::Ready(end_of::<Received>(error).map(|_| 0)),
        };
    }
    // After the connection's end: one by one, from what was kept.
    recv_now(core, inner, id, now).map_ok(|message| {
        let count = usize::from(message.is_some());
        messages.extend(message);
        count
    })
}

/// The next bytes under the lock; `Ready(Ok(None))` at the end of the stream.
pub(crate) fn read_now(
    core: &mut Locked<'_>,
    inner: &Inner,
    id: StreamId,
    max: usize,
    now: Instant,
) -> Poll<Result<Option<Bytes>, RecvError>> {
    let (connection, _) = match core.live(inner.key) {
        Ok(live) => live,
        Err(error) => return Poll::Ready(read_rest(core, inner, id, max, error)),
    };
    let owed = connection.owes_credit();
    let read = connection.read(now, id, max);
    let is_due = !owed && connection.owes_credit();
    inner.shard.flush_read(core, is_due);
    match read {
        Ok(Some(bytes)) => Poll::Ready(Ok(Some(bytes))),
        Ok(None) => Poll::Pending,
        Err(error) => Poll::Ready(end_of(error)),
    }
}

/// All bytes there are under the lock, about `max` at most; `Ready(Ok(0))` at the end of the stream.
pub(crate) fn read_many_now(
    core: &mut Locked<'_>,
    inner: &Inner,
    id: StreamId,
    now: Instant,
    chunks: &mut Vec<Bytes>,
    max: usize,
) -> Poll<Result<usize, RecvError>> {
    if let Ok((connection, _)) = core.live(inner.key) {
        let owed = connection.owes_credit();
        let read = connection.read_all(now, id, max, chunks);
        let is_due = !owed && connection.owes_credit();
        inner.shard.flush_read(core, is_due);
        return match read {
            Ok(0) if max > 0 => Poll::Pending,
            Ok(len) => Poll::Ready(Ok(len)),
            Err(error) => Poll::Ready(end_of::<Bytes>(error).map(|_| 0)),
        };
    }
    // After the connection's end: one by one, from what was kept.
    read_now(core, inner, id, max, now).map_ok(|chunk| {
        let len = chunk.as_ref().map_or(0, Bytes::len);
        chunks.extend(chunk);
        len
    })
}

fn end_of<T>(error: jsp_proto::RecvError) -> Result<Option<T>, RecvError> {
    match error {
        jsp_proto::RecvError::Closed => Ok(None),
        jsp_proto::RecvError::Reset(code) => Err(RecvError::Reset(code)),
        jsp_proto::RecvError::WrongFraming => Err(RecvError::WrongFraming),
    }
}

/// A message that had arrived before the connection ended, else why there is none.
fn recv_rest(
    core: &mut Locked<'_>,
    inner: &Inner,
    id: StreamId,
    over: crate::ConnectionError,
) -> Result<Option<Received>, RecvError> {
    let Some(stream) = core.state(inner.key).and_then(|state| state.streams.get_mut(&id)) else {
        return Err(over.into());
    };
    match stream.rest.pop_front() {
        Some(Rest::Message(message)) => Ok(Some(message)),
        Some(Rest::Bytes(_)) => Err(RecvError::WrongFraming),
        Some(Rest::End(code)) => {
            stream.rest.push_front(Rest::End(code));
            code.map_or(Ok(None), |code| Err(RecvError::Reset(code)))
        }
        None => Err(over.into()),
    }
}

/// Bytes that had arrived before the connection ended, else why there are none.
fn read_rest(
    core: &mut Locked<'_>,
    inner: &Inner,
    id: StreamId,
    max: usize,
    over: crate::ConnectionError,
) -> Result<Option<Bytes>, RecvError> {
    let Some(stream) = core.state(inner.key).and_then(|state| state.streams.get_mut(&id)) else {
        return Err(over.into());
    };
    match stream.rest.pop_front() {
        Some(Rest::Bytes(mut bytes)) => {
            let taken = bytes.split_to(max.min(bytes.len()));
            if !bytes.is_empty() {
                stream.rest.push_front(Rest::Bytes(bytes));
            }
            Ok(Some(taken))
        }
        Some(Rest::Message(_)) => Err(RecvError::WrongFraming),
        Some(Rest::End(code)) => {
            stream.rest.push_front(Rest::End(code));
            code.map_or(Ok(None), |code| Err(RecvError::Reset(code)))
        }
        None => Err(over.into()),
    }
}
