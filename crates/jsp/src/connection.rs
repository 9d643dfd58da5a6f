//! A connection: streams opened and accepted, signals, its state and its end.

use std::fmt;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use jsp_proto::{ConnectionStats, Message, PathMemory, Received, StreamConfig, StreamInfo};
use jsp_wire::frame::Kind;
use jsp_wire::{Instant, Route, StreamId};
use tokio::task::coop;

use crate::carrier::Capabilities;
use crate::error::{ConnectionError, OpenError, RecvError, SendError};
use crate::shard::{ConnectionState, Key, LastWords, Locked, Place, SendEnd, Shard};
use crate::stream::{self, SendStream, Stream};

/// A connection to a peer. Cheap to clone; all clones are the same connection.
///
/// It ends when nothing comes for [`TransportConfig::idle_timeout`](crate::TransportConfig::idle_timeout), 30 s by
/// default, also while both sides merely have nothing to say;
/// [`TransportConfig::keep_alive`](crate::TransportConfig::keep_alive) prevents that.
///
/// When the last clone and the last stream are dropped, the connection closes with code 0, after
/// what was finished has arrived, at most 10 seconds later. To know that all has arrived, use
/// [`Connection::shutdown`].
#[derive(Clone)]
pub struct Connection {
    pub(crate) inner: Arc<Inner>,
}

/// One application's hold on a connection, shared by its clones and streams.
pub(crate) struct Inner {
    pub(crate) shard: Arc<Shard>,
    pub(crate) key: Key,
}

impl Connection {
    pub(crate) fn new(shard: Arc<Shard>, key: Key) -> Self {
        Self { inner: Arc::new(Inner { shard, key }) }
    }

    /// Opens a stream. Waits while the peer allows no more. The peer learns of the stream with the
    /// first data on it; opening costs no round trip.
    ///
    /// Cancel-safe: a stream is opened only when the call returns it.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn open(&self, config: StreamConfig) -> Result<Stream, OpenError> {
        self.inner
            .wait(Place::Opening, |core, inner, now| match inner.try_open(core, &config, now) {
                Err(OpenError::LimitReached) => Poll::Pending,
                result => Poll::Ready(result),
            })
            .await
            .map(|id| self.opened(id, &config))
    }

    /// Opens a stream without waiting.
    ///
    /// # Errors
    /// [`OpenError::LimitReached`] where [`Connection::open`] would wait, and as there.
    pub fn try_open(&self, config: StreamConfig) -> Result<Stream, OpenError> {
        let now = self.inner.shard.clock.now();
        let id = self.inner.try_open(&mut self.inner.shard.lock(), &config, now)?;
        Ok(self.opened(id, &config))
    }

    fn opened(&self, id: StreamId, config: &StreamConfig) -> Stream {
        let info = StreamInfo {
            profile: config.profile(),
            label: config.label.clone(),
            content_type: config.content_type.clone(),
            replay_safe: config.replay_safe,
        };
        Stream::new(Arc::clone(&self.inner), id, info, true)
    }

    /// Sends one message on a stream of its own: opened, sent and finished in one step, so that it
    /// may travel in one small frame. Waits while the peer allows no more streams.
    ///
    /// Nobody can answer on it: the receiving half of a bidirectional stream is stopped at once. Where an answer is
    /// wanted, take [`Connection::open`] and [`Stream::send_last`]; where not,
    /// [`unidirectional`](StreamConfig::unidirectional) says so.
    ///
    /// Cancel-safe: nothing is sent unless the call returns.
    ///
    /// # Errors
    /// See [`SendError`]; a configuration that is no message stream, or contradicts itself
    /// ([`OpenError::InvalidConfig`]), is `WrongFraming`.
    pub async fn send_one(
        &self,
        config: StreamConfig,
        message: impl Into<Message>,
    ) -> Result<SendStream, SendError> {
        let mut message = message.into();
        let opened = self
            .inner
            .wait(Place::Opening, |core, inner, now| {
                inner.try_send_one(core, &config, &mut message, now)
            })
            .await;
        let (send, _recv) = self.opened(opened?, &config).split();
        Ok(send)
    }

    /// The next stream that the peer opens.
    ///
    /// Cancel-safe: no stream is lost.
    ///
    /// # Errors
    /// Once the connection is over and all streams that arrived before are handed out.
    pub async fn accept(&self) -> Result<Stream, ConnectionError> {
        poll_fn_waiting(&self.inner, Place::Accepting, |core, inner, _| {
            let (connection, state) = match core.live(inner.key) {
                Ok(live) => live,
                Err(error) => {
                    let left = core.state(inner.key).and_then(|state| state.unaccepted.pop_front());
                    return Poll::Ready(left.ok_or(error));
                }
            };
            if let Some(first) = state.unaccepted.pop_front() {
                return Poll::Ready(Ok(first));
            }
            let Some(id) = connection.accept() else { return Poll::Pending };
            let Some(info) = connection.stream_info(id) else { return Poll::Pending };
            let held = state.streams.entry(id).or_default();
            (held.send_held, held.recv_held) = (!info.profile.unidirectional, true);
            Poll::Ready(Ok((id, info)))
        })
        .await
        .map(|(id, info)| Stream::new(Arc::clone(&self.inner), id, info, false))
    }

    /// Sends a signalling message, ahead of all streams; it arrives reliably and in order with
    /// other signals and metadata.
    ///
    /// Cancel-safe: nothing is sent unless the call returns.
    ///
    /// # Errors
    /// See [`SendError`].
    pub async fn signal(&self, message: impl Into<Message>) -> Result<(), SendError> {
        self.send_kind(message.into().with_kind(Kind::Signalling)).await
    }

    /// Sends a metadata message; as [`Connection::signal`], but of the other kind.
    ///
    /// Cancel-safe: nothing is sent unless the call returns.
    ///
    /// # Errors
    /// See [`SendError`].
    pub async fn metadata(&self, message: impl Into<Message>) -> Result<(), SendError> {
        self.send_kind(message.into().with_kind(Kind::Metadata)).await
    }

    async fn send_kind(&self, mut message: Message) -> Result<(), SendError> {
        message.want_fate = true;
        self.inner.hold_signalling();
        let place = Place::Writable(StreamId::SIGNALLING);
        poll_fn_waiting(&self.inner, place, |core, inner, now| {
            let id = StreamId::SIGNALLING;
            let count = |state: &mut ConnectionState, _| state.unconfirmed += 1;
            match stream::send_now(core, inner, id, &mut message, false, now, count) {
                Err(SendError::Full) => Poll::Pending,
                result => Poll::Ready(result.map(drop)),
            }
        })
        .await
    }

    /// The next signalling or metadata message of the peer; its kind stands in its attributes.
    ///
    /// Cancel-safe: no message is lost.
    ///
    /// # Errors
    /// Once the connection is over and all messages that arrived before are handed out.
    pub async fn recv_signal(&self) -> Result<Received, ConnectionError> {
        self.inner.hold_signalling();
        let place = Place::Readable(StreamId::SIGNALLING);
        let received = poll_fn_waiting(&self.inner, place, |core, inner, now| {
            stream::recv_now(core, inner, StreamId::SIGNALLING, now)
        })
        .await;
        match received {
            Ok(Some(message)) => Ok(message),
            Err(RecvError::ConnectionLost(error)) => Err(*error),
            Ok(None) | Err(_) => Err(self.error().unwrap_or(ConnectionError::EndpointClosed)),
        }
    }

    /// Counters and estimates of this moment; after the end those of the last moment.
    pub fn stats(&self) -> ConnectionStats {
        self.now_or_last(|now| now.stats(), |last| last.stats).unwrap_or_default()
    }

    /// Takes what was written of the qlog since the last call, as text (JSON-SEQ, qlog 0.3); empty unless
    /// [`TransportConfig::qlog`](crate::TransportConfig::qlog) asks for it. What is not taken grows to 4 MiB. After the
    /// connection's end, the rest.
    pub fn take_qlog(&self) -> String {
        let rest = |last: &mut LastWords| std::mem::take(&mut last.qlog);
        self.now_or_last(|now| now.take_qlog(), rest).unwrap_or_default()
    }

    /// What a later connection over the same path should know of it
    /// ([`TransportConfig::initial_path_memory`](crate::TransportConfig::initial_path_memory)): how much it
    /// carried, if it was ever asked for enough to tell; after the end, what was known then. Connections that are
    /// resumed by a ticket know it without this.
    pub fn path_memory(&self) -> Option<PathMemory> {
        self.now_or_last(|now| now.path_memory(), |last| last.memory).flatten()
    }

    /// What the transport says, or has said last.
    fn now_or_last<R>(
        &self,
        now: impl FnOnce(&mut jsp_proto::Connection) -> R,
        last: impl FnOnce(&mut LastWords) -> R,
    ) -> Option<R> {
        let mut core = self.inner.shard.lock();
        if let Ok((connection, _)) = core.live(self.inner.key) {
            return Some(now(connection));
        }
        core.state(self.inner.key)?.last.as_deref_mut().map(last)
    }

    /// The peer's address; that of the relay or the proxy where there is one.
    pub fn remote_addr(&self) -> SocketAddr {
        let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
        self.inner.shard.link.remote_of(&self.route()).unwrap_or(unknown)
    }

    /// What the carrier does that brings the connection's datagrams at present.
    pub fn capabilities(&self) -> Capabilities {
        let route = self.route();
        let reliable = route.is_reliable();
        Capabilities {
            carrier: self.inner.shard.link.kind_of(&route),
            reliable,
            unordered: !reliable,
            datagram_len: self.stats().datagram_len,
        }
    }

    /// The way that datagrams take at present: that of the path that is used first.
    pub fn route(&self) -> Route {
        let unknown = Route::udp(SocketAddr::from(([0, 0, 0, 0], 0)));
        let mut core = self.inner.shard.lock();
        let route = match core.live(self.inner.key) {
            Ok((connection, _)) => connection.route(),
            Err(_) => core.state(self.inner.key).map_or(unknown, |state| state.route),
        };
        self.inner.shard.link.outward(route)
    }

    /// Waits until datagrams take another way than `known`, and tells which; `None` once the connection
    /// is over. Begin with what [`Connection::route`] tells, and go on with what this tells.
    ///
    /// Cancel-safe.
    pub async fn route_changed(&self, known: Route) -> Option<Route> {
        poll_fn_waiting(&self.inner, Place::Route, |core, inner, _| {
            match core.state(inner.key).filter(|state| state.error().is_none()) {
                Some(state) if state.route == known => Poll::Pending,
                state => Poll::Ready(state.map(|state| state.route)),
            }
        })
        .await
    }

    /// The smoothed round-trip time.
    pub fn rtt(&self) -> Duration {
        let mut core = self.inner.shard.lock();
        core.live(self.inner.key).map_or(Duration::ZERO, |(connection, _)| connection.rtt())
    }

    /// Why the connection is over; `None` while it is not.
    pub fn error(&self) -> Option<ConnectionError> {
        self.inner.shard.lock().state(self.inner.key).and_then(|state| state.error().cloned())
    }

    /// Waits until the connection is over, and says why.
    ///
    /// Cancel-safe.
    pub async fn closed(&self) -> ConnectionError {
        poll_fn_waiting(&self.inner, Place::Closed, |core, inner, _| {
            let gone = ConnectionError::EndpointClosed;
            core.state(inner.key).map_or(Poll::Ready(gone), |s| {
                s.error().cloned().map_or(Poll::Pending, Poll::Ready)
            })
        })
        .await
    }

    /// Closes at once. What is under way or in buffers is lost; the peer's application sees `code`, at most 2^62 - 1
    /// (larger ones are cut to that), and at most 255 bytes of `reason`.
    pub fn close(&self, code: u64, reason: &[u8]) {
        let now = self.inner.shard.clock.now();
        self.inner.shard.lock().close(self.inner.key, now, code, reason);
    }

    /// Finishes every stream that this side still sends on, waits until the peer's transport has
    /// all of it, then closes with code 0. Waits as long as a peer that lives does not read.
    ///
    /// The peer hears of the end from the endpoint's task, a moment later: a program that ends here
    /// awaits [`Endpoint::shutdown`](crate::Endpoint::shutdown) instead.
    ///
    /// Cancel-safe: once begun it goes on by itself, but no longer than 10 s after the last handle of the connection
    /// and its streams is dropped.
    pub async fn shutdown(&self) -> ConnectionError {
        let now = self.inner.shard.clock.now();
        self.inner.shard.lock().close_when_delivered(self.inner.key, now, 0);
        self.closed().await
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("remote", &self.remote_addr()).finish_non_exhaustive()
    }
}

impl Inner {
    pub(crate) fn try_open(
        &self,
        core: &mut Locked<'_>,
        config: &StreamConfig,
        now: Instant,
    ) -> Result<StreamId, OpenError> {
        let (connection, state) = self.opening(core)?;
        let id = connection.open(now, config)?;
        let held = state.streams.entry(id).or_default();
        (held.send_held, held.recv_held) = (true, !config.unidirectional);
        Ok(id)
    }

    /// A connection on which streams may be opened.
    fn opening<'a>(
        &self,
        core: &'a mut Locked<'_>,
    ) -> Result<(&'a mut jsp_proto::Connection, &'a mut ConnectionState), OpenError> {
        let (connection, state) = core.live(self.key)?;
        if state.closing.is_some() {
            return Err(ConnectionError::ClosedLocally { code: 0 }.into());
        }
        Ok((connection, state))
    }

    /// Opens a stream, sends the message and finishes the stream; pending where the peer allows no more.
    fn try_send_one(
        &self,
        core: &mut Locked<'_>,
        config: &StreamConfig,
        message: &mut Message,
        now: Instant,
    ) -> Poll<Result<StreamId, SendError>> {
        let opened = self.opening(core).and_then(|(connection, state)| {
            let id = connection.open(now, config)?;
            Ok((id, connection, state))
        });
        let (id, connection, state) = match opened {
            Ok(opened) => opened,
            Err(OpenError::LimitReached) => return Poll::Pending,
            Err(OpenError::InvalidConfig) => return Poll::Ready(Err(SendError::WrongFraming)),
            Err(OpenError::ConnectionLost(error)) => return Poll::Ready(Err((*error).into())),
        };
        let sent = connection.offer(now, id, message).and_then(|_| connection.finish(now, id));
        if let Err(error) = sent {
            // It was opened for nothing.
            connection.reset(now, id, 0);
            return Poll::Ready(Err(error.into()));
        }
        state.add_finishing(id, !config.unidirectional);
        self.shard.flush(core, now);
        Poll::Ready(Ok(id))
    }

    /// Stream 0 is held from its first use on.
    fn hold_signalling(&self) {
        if let Some(state) = self.shard.lock().state(self.key) {
            let stream = state.streams.entry(StreamId::SIGNALLING).or_default();
            stream.recv_held = true;
        }
    }

    /// Tries until it is ready, waiting at `place` in between.
    pub(crate) async fn wait<R>(
        &self,
        place: Place,
        attempt: impl FnMut(&mut Locked<'_>, &Self, Instant) -> Poll<R>,
    ) -> R {
        poll_fn_waiting(self, place, attempt).await
    }

    /// Notes in the connection's state; nothing when the connection is gone.
    pub(crate) fn with_state(&self, edit: impl FnOnce(&mut ConnectionState)) {
        if let Some(state) = self.shard.lock().state(self.key) {
            edit(state);
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let now = self.shard.clock.now();
        self.shard.lock().orphan(self.key, now);
    }
}

/// The place of all poll-based calls of one half of a stream; numbers given to futures stay below.
const SHARED_KEY: u64 = u64::MAX;

/// A task's place among those that wait; given up when the future is dropped.
pub(crate) struct Waiting<'a> {
    inner: &'a Inner,
    place: Place,
    key: Option<u64>,
}

impl<'a> Waiting<'a> {
    pub(crate) fn new(inner: &'a Inner, place: Place) -> Self {
        Self { inner, place, key: None }
    }

    /// For the calls of `AsyncRead` and `AsyncWrite`, which have no future to keep the place in:
    /// all share one place.
    pub(crate) fn shared(inner: &'a Inner, place: Place) -> Self {
        Self { inner, place, key: Some(SHARED_KEY) }
    }

    /// Stays noted beyond this value's life.
    pub(crate) fn keep(mut self) {
        self.key = None;
    }

    /// One attempt; when it is not ready, the task is noted under the same lock.
    #[inline]
    pub(crate) fn poll<R>(
        &mut self,
        cx: &mut Context<'_>,
        attempt: impl FnOnce(&mut Locked<'_>, &Inner, Instant) -> Poll<R>,
    ) -> Poll<R> {
        let coop = ready!(coop::poll_proceed(cx));
        let mut core = self.inner.shard.lock();
        let now = if self.place.is_of_reader() {
            core.time_of_reader()
        } else {
            core.time(&self.inner.shard.clock)
        };
        let result = attempt(&mut core, self.inner, now);
        if result.is_ready() {
            coop.made_progress();
            self.leave(&mut core);
        } else if let Some(waiters) =
            core.state(self.inner.key).and_then(|state| state.waiters(self.place))
        {
            waiters.register(&mut self.key, cx.waker());
        }
        result
    }

    fn leave(&mut self, core: &mut Locked<'_>) {
        if let Some(key) = self.key.take()
            && let Some(state) = core.state(self.inner.key)
        {
            state.forget_waiter(self.place, key);
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.key.is_some() {
            let inner = self.inner;
            self.leave(&mut inner.shard.lock());
        }
    }
}

async fn poll_fn_waiting<R>(
    inner: &Inner,
    place: Place,
    mut attempt: impl FnMut(&mut Locked<'_>, &Inner, Instant) -> Poll<R>,
) -> R {
    let mut waiting = Waiting::new(inner, place);
    poll_fn(|cx| waiting.poll(cx, &mut attempt)).await
}

/// Marks a stream as finished on this side.
pub(crate) fn mark_finishing(core: &mut Locked<'_>, inner: &Inner, id: StreamId) {
    if let Some((state, wakes)) = core.state_and_wakes(inner.key) {
        state.end_sending(id, SendEnd::Finishing, wakes);
    }
}
