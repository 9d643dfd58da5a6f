//! One carrier: a task that moves datagrams between a stream and the endpoint's driver.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use jsp_wire::Route;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use super::frame::{self, FrameReader};
use super::stream::BoxStream;
use super::table::News;
#[cfg(feature = "websocket")]
use super::websocket::{WebSocketReader, WebSocketWriter};
use crate::link::Datagram;

/// Bytes that wait here for a stream before the transport is told to wait: data that wait in the
/// transport can still expire, be replaced or overtaken.
// spec: CAR-12
pub(super) const QUEUE: usize = 16 << 10;

/// What is written beyond that, such as last words and answers to other connections, is lost at this
/// many bytes.
const QUEUE_MAX: usize = 128 << 10;

/// Bytes that may wait for a stream beside what is the transport's: what a relay forwards. What comes beyond is lost, as
/// in any queue of the network, and its sender slows down.
// spec: RDV-127
const BESIDE_MAX: usize = 64 << 10;

/// How long a carrier that its connection has left may take to pass on what it has.
pub(super) const LINGER: Duration = Duration::from_secs(1);

/// How long a carrier of a peer stays whose connection goes another way.
// spec: CAR-26
const LEFT_MAX: Duration = Duration::from_secs(10);

/// A stream that datagrams are written to and read from.
pub(crate) enum Wire {
    /// Each datagram behind its length.
    Framed(BoxStream),
    /// Each datagram a binary message.
    #[cfg(feature = "websocket")]
    WebSocket(Box<super::websocket::WebSocket>),
}

enum Reader {
    Framed(FrameReader, ReadHalf<BoxStream>),
    #[cfg(feature = "websocket")]
    WebSocket(WebSocketReader),
}

enum Writer {
    Framed(WriteHalf<BoxStream>),
    #[cfg(feature = "websocket")]
    WebSocket(WebSocketWriter),
}

impl Wire {
    fn split(self) -> (Reader, Writer) {
        match self {
            Self::Framed(stream) => {
                let (read, write) = tokio::io::split(stream);
                (Reader::Framed(FrameReader::default(), read), Writer::Framed(write))
            }
            #[cfg(feature = "websocket")]
            Self::WebSocket(socket) => {
                let (read, write) = super::websocket::split(*socket);
                (Reader::WebSocket(read), Writer::WebSocket(write))
            }
        }
    }
}

impl Reader {
    /// The next datagram; `None` at the end.
    async fn next(&mut self) -> io::Result<Option<BytesMut>> {
        match self {
            Self::Framed(frames, stream) => frames.next(stream).await,
            #[cfg(feature = "websocket")]
            Self::WebSocket(reader) => reader.next().await,
        }
    }
}

impl Writer {
    /// Writes whole frames.
    async fn write(&mut self, frames: BytesMut) -> io::Result<()> {
        match self {
            Self::Framed(stream) => {
                stream.write_all(&frames).await?;
                stream.flush().await
            }
            #[cfg(feature = "websocket")]
            Self::WebSocket(writer) => writer.write(frame::split(frames.freeze())).await,
        }
    }

    async fn close(&mut self) -> io::Result<()> {
        match self {
            Self::Framed(stream) => stream.shutdown().await,
            #[cfg(feature = "websocket")]
            Self::WebSocket(writer) => writer.close().await,
        }
    }
}

/// What waits for a carrier's stream.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<Waiting>,
    changed: Notify,
    retirement: Notify,
    loss: Notify,
}

#[derive(Default)]
struct Waiting {
    frames: BytesMut,
    /// So many bytes of these are not the transport's.
    beside: usize,
    /// It carries an established connection, or has.
    admitted: bool,
    /// Since when that goes another way.
    left: Option<Instant>,
    /// A task looks whether it comes back.
    is_watched: bool,
}

impl Queue {
    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes that it takes before the transport should wait.
    pub(super) fn room(&self) -> usize {
        let waiting = self.lock();
        QUEUE.saturating_sub(waiting.frames.len().saturating_sub(waiting.beside))
    }

    /// Takes a datagram that is not the transport's; false when as much waits as may.
    // spec: RDV-127
    pub(super) fn push_beside(&self, datagram: &[u8]) -> bool {
        let mut waiting = self.lock();
        if waiting.beside >= BESIDE_MAX {
            return false;
        }
        let before = waiting.frames.len();
        frame::write(&mut waiting.frames, datagram);
        waiting.beside += waiting.frames.len().saturating_sub(before);
        drop(waiting);
        if before == 0 {
            self.changed.notify_one();
        }
        true
    }

    /// Takes datagrams of `segment_len` bytes each, but for a shorter last.
    pub(super) fn push(&self, contents: &[u8], segment_len: usize) {
        let mut waiting = self.lock();
        let was_empty = waiting.frames.is_empty();
        for datagram in contents.chunks(segment_len.max(1)) {
            if waiting.frames.len() < QUEUE_MAX + waiting.beside {
                frame::write(&mut waiting.frames, datagram);
            }
        }
        drop(waiting);
        if was_empty {
            self.changed.notify_one();
        }
    }

    pub(super) fn admit(&self) {
        let mut waiting = self.lock();
        waiting.admitted = true;
        waiting.left = None;
    }

    /// Its connection goes another way now. Answers whether somebody has to [watch](Self::watch_left).
    pub(super) fn leave(&self) -> bool {
        let mut waiting = self.lock();
        waiting.left = Some(Instant::now());
        !std::mem::replace(&mut waiting.is_watched, true)
    }

    /// Retires the carrier unless its connection comes back in time.
    pub(super) async fn watch_left(self: Arc<Self>) {
        loop {
            let until = {
                let mut waiting = self.lock();
                let Some(left) = waiting.left else {
                    waiting.is_watched = false;
                    return;
                };
                left + LEFT_MAX
            };
            if until <= Instant::now() {
                return self.retire();
            }
            tokio::time::sleep_until(until).await;
        }
    }

    fn is_admitted(&self) -> bool {
        self.lock().admitted
    }

    pub(super) fn retire(&self) {
        self.retirement.notify_one();
    }

    /// The stream brings nothing any more: nothing is waited for.
    pub(super) fn lose(&self) {
        self.loss.notify_one();
    }

    /// Ends some time after the carrier has been retired: last words, and what is under way to us, have that left.
    async fn retired(&self) {
        self.retirement.notified().await;
        tokio::time::sleep(LINGER).await;
    }

    /// All that waits, once something does.
    async fn take(&self) -> BytesMut {
        loop {
            {
                let mut waiting = self.lock();
                if !waiting.frames.is_empty() {
                    waiting.beside = 0;
                    return std::mem::take(&mut waiting.frames);
                }
            }
            self.changed.notified().await;
        }
    }
}

/// How long a carrier may be of no use.
#[derive(Clone, Copy)]
pub(super) struct Patience {
    /// From its beginning to an established connection.
    pub(super) until_admitted: Duration,
    /// Without a datagram of the peer; `None` for ever.
    pub(super) idle: Option<Duration>,
}

/// Runs a carrier until its stream or its use ends.
pub(super) async fn run(
    id: u64,
    wire: Wire,
    queue: Arc<Queue>,
    news: mpsc::Sender<News>,
    patience: Patience,
) {
    let (reader, mut writer) = wire.split();
    // The driver hears of the carrier before it hears of a datagram.
    if news.send(News::Drained(id)).await.is_ok() {
        let is_lost = tokio::select! {
            () = receive(id, reader, &queue, &news, patience) => false,
            () = send(id, &mut writer, &queue, &news) => false,
            // Also when a peer that does not read holds up what is being written.
            () = queue.retired() => false,
            () = queue.loss.notified() => true,
        };
        if !is_lost {
            // In order, so that the peer need not wait for a time-out; it may not be there any more.
            let _ = tokio::time::timeout(LINGER, writer.close()).await;
        }
    }
    let _ = news.send(News::Closed(id)).await;
}

/// Reads until the stream ends or nothing has come for too long. While the driver does not take what
/// has come, nothing is read, and the stream makes the peer wait.
// spec: CAR-6, CAR-7
async fn receive(
    id: u64,
    mut reader: Reader,
    queue: &Queue,
    news: &mpsc::Sender<News>,
    patience: Patience,
) {
    let admitted_by = Instant::now() + patience.until_admitted;
    let route = Route::Tunnel { id };
    loop {
        let limit = if queue.is_admitted() {
            patience.idle.map(|idle| Instant::now() + idle)
        } else {
            Some(admitted_by)
        };
        let next = match limit {
            Some(limit) => tokio::time::timeout_at(limit, reader.next()).await,
            None => Ok(reader.next().await),
        };
        let payload = match next {
            Ok(Ok(Some(payload))) => payload,
            Ok(_) => return,
            // Admitted in the meantime.
            Err(_) if limit == Some(admitted_by) && queue.is_admitted() => continue,
            Err(_) => return,
        };
        if news.send(News::Arrived(Datagram { route, ecn: None, payload })).await.is_err() {
            return;
        }
    }
}

/// Writes what waits, and tells when there is room again.
async fn send(id: u64, writer: &mut Writer, queue: &Queue, news: &mpsc::Sender<News>) {
    loop {
        if writer.write(queue.take().await).await.is_err() {
            // The peer is gone. What it has sent before can still be read, and may be all that it will ever send.
            return tokio::time::sleep(LINGER).await;
        }
        if news.send(News::Drained(id)).await.is_err() {
            return;
        }
    }
}

/// Reads a stream to its end and forgets what comes, for control connections that say nothing.
pub(super) async fn drain(stream: &mut BoxStream) {
    let mut buffer = [0; 256];
    while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    /// spec-test: CAR-6
    async fn a_driver_that_takes_nothing_makes_the_peer_wait() {
        let (near, mut far) = tokio::io::duplex(4096);
        let (sender, mut news) = mpsc::channel(8);
        let patience = Patience { until_admitted: Duration::from_secs(10), idle: None };
        let queue = Arc::<Queue>::default();
        queue.admit();
        tokio::spawn(run(1, Wire::Framed(Box::new(near)), queue, sender, patience));
        let mut frames = BytesMut::new();
        (0..1000).for_each(|_| frame::write(&mut frames, &[7; 1000]));
        let written = tokio::time::timeout(Duration::from_secs(60), far.write_all(&frames)).await;
        assert!(written.is_err(), "a million bytes are too many");
        let mut datagrams = 0;
        while let Ok(Some(heard)) = tokio::time::timeout(LINGER, news.recv()).await {
            datagrams += usize::from(matches!(heard, News::Arrived(_)));
        }
        assert!(datagrams < 40, "{datagrams}");
    }

    #[tokio::test(start_paused = true)]
    /// spec-test: CAR-5
    async fn a_carrier_ends_when_it_is_retired_although_the_peer_does_not_read() {
        let (near, far) = tokio::io::duplex(64);
        let (sender, mut news) = mpsc::channel(8);
        let patience = Patience { until_admitted: Duration::from_secs(10), idle: None };
        let queue = Arc::<Queue>::default();
        queue.admit();
        tokio::spawn(run(1, Wire::Framed(Box::new(near)), Arc::clone(&queue), sender, patience));
        queue.push(&[7; 1000], 1000);
        // It writes, and waits for the peer.
        assert!(
            tokio::time::timeout(LINGER, async { while news.recv().await.is_some() {} })
                .await
                .is_err()
        );
        queue.retire();
        let ended = async { while news.recv().await.is_some() {} };
        assert!(tokio::time::timeout(3 * LINGER, ended).await.is_ok());
        drop(far);
    }

    #[tokio::test(start_paused = true)]
    /// spec-test: CAR-5
    async fn last_words_of_a_carrier_that_is_retired_are_written() {
        let (near, mut far) = tokio::io::duplex(4096);
        let (sender, _news) = mpsc::channel(8);
        let patience = Patience { until_admitted: Duration::from_secs(10), idle: None };
        let queue = Arc::<Queue>::default();
        tokio::spawn(run(1, Wire::Framed(Box::new(near)), Arc::clone(&queue), sender, patience));
        queue.retire();
        tokio::time::sleep(LINGER / 2).await;
        queue.push(b"bye", 3);
        let mut said = Vec::new();
        far.read_to_end(&mut said).await.unwrap();
        assert_eq!(said, b"\0\x03bye");
    }

    #[test]
    /// spec-test: CAR-12
    fn room_ends_at_16_kib_and_what_comes_all_the_same_is_bounded() {
        let queue = Queue::default();
        assert_eq!(queue.room(), 16 << 10);
        for _ in 0..10_000 {
            queue.push(&[1; 1200], 1200);
        }
        assert_eq!(queue.room(), 0);
        assert!(queue.lock().frames.len() < QUEUE_MAX + 2000);
    }

    #[tokio::test]
    /// spec-test: RDV-127
    async fn what_a_relay_forwards_is_bounded_and_leaves_the_transport_its_room() {
        let queue = Queue::default();
        let taken = (0..1000).filter(|_| queue.push_beside(&[1; 1200])).count();
        assert_eq!(taken, BESIDE_MAX.div_ceil(1202));
        assert_eq!(queue.room(), QUEUE);
        queue.push(&[1; 1200], 1200);
        assert_eq!(queue.room(), QUEUE - 1202);
        // Once the stream has taken it there is room for both again.
        assert_eq!(queue.take().await.len(), (taken + 1) * 1202);
        assert_eq!(queue.room(), QUEUE);
        assert!(queue.push_beside(&[1; 1200]));
    }
}
