//! Door 1: what the application may ask of a connection.

use core::borrow::Borrow;
use core::time::Duration;

use bytes::Bytes;
use jsp_crypto::{ClientTicket, Security};
use jsp_wire::stream::Class;
use jsp_wire::{CloseCode, Instant, Route, StreamId, limits};

use super::Connection;
use crate::error::{OpenError, RecvError, SendError};
use crate::event::CloseReason;
use crate::lifecycle::Farewell;
use crate::path::Path;
use crate::path::memory::PathMemory;
use crate::stats::ConnectionStats;
use crate::streams::config::{Message, Received, StreamConfig, StreamInfo};

impl Connection {
    /// Opens a stream. The peer hears of it with the first data, or at once when there is none.
    ///
    /// A client with a ticket may open streams before it is connected, where it was started for early
    /// data: those that are replay-safe send at once, all others when the handshake is complete. Without
    /// a ticket the limit is reached until then.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(
        &mut self,
        now: Instant,
        config: impl Borrow<StreamConfig>,
    ) -> Result<StreamId, OpenError> {
        if !self.lifecycle.is_open() {
            return Err(OpenError::Closed);
        }
        self.streams.open(now, config)
    }

    /// The next stream that the peer opened.
    pub fn accept(&mut self) -> Option<StreamId> {
        self.streams.accept()
    }

    /// Queues a message; answers its number in the stream.
    ///
    /// # Errors
    /// See [`SendError`]; nothing was taken.
    pub fn send(
        &mut self,
        now: Instant,
        stream: StreamId,
        mut message: Message,
    ) -> Result<u64, SendError> {
        self.offer(now, stream, &mut message)
    }

    /// Queues a message and leaves an empty one in its place; answers its number in the stream. A
    /// message that finds no room stays where it is, to be offered again.
    ///
    /// # Errors
    /// See [`SendError`]; nothing was taken.
    pub fn offer(
        &mut self,
        now: Instant,
        stream: StreamId,
        message: &mut Message,
    ) -> Result<u64, SendError> {
        if !self.lifecycle.is_open() {
            return Err(SendError::Closed);
        }
        self.streams.offer(now, stream, message)
    }

    /// Queues the first part of `bytes` that finds room; answers its length in bytes.
    ///
    /// # Errors
    /// See [`SendError`]; nothing was taken.
    pub fn write(
        &mut self,
        now: Instant,
        stream: StreamId,
        bytes: Bytes,
    ) -> Result<usize, SendError> {
        if !self.lifecycle.is_open() {
            return Err(SendError::Closed);
        }
        self.streams.write_bytes(now, stream, bytes)
    }

    /// Ends our half of a stream after what is queued.
    ///
    /// # Errors
    /// [`SendError::Closed`] when it has ended already.
    pub fn finish(&mut self, now: Instant, stream: StreamId) -> Result<(), SendError> {
        self.streams.finish(now, stream)
    }

    /// Abandons our half of a stream; what has not arrived is not sent again.
    pub fn reset(&mut self, now: Instant, stream: StreamId, code: u64) {
        self.streams.reset(now, stream, code.min(jsp_wire::varint::MAX));
    }

    /// Asks the peer to send no more on a stream, and drops what has arrived of it.
    pub fn stop(&mut self, now: Instant, stream: StreamId, code: u64) {
        self.streams.stop(now, stream, code.min(jsp_wire::varint::MAX));
    }

    /// The next message; `None` when there is none now.
    ///
    /// # Errors
    /// [`RecvError::Closed`] at the end of the stream.
    pub fn recv(&mut self, now: Instant, stream: StreamId) -> Result<Option<Received>, RecvError> {
        self.streams.recv(now, stream)
    }

    /// The next bytes, at most `max`; `None` when there are none now.
    ///
    /// # Errors
    /// [`RecvError::Closed`] at the end of the stream.
    pub fn read(
        &mut self,
        now: Instant,
        stream: StreamId,
        max: usize,
    ) -> Result<Option<Bytes>, RecvError> {
        self.streams.read(now, stream, max)
    }

    /// All messages that are there now, at most `max`, behind those in `received`. Answers how many; 0 when there are
    /// none now.
    ///
    /// # Errors
    /// [`RecvError::Closed`] at the end of the stream, [`RecvError::Reset`] when the peer gave it up,
    /// [`RecvError::WrongFraming`] on a stream of bytes.
    pub fn recv_all(
        &mut self,
        now: Instant,
        stream: StreamId,
        max: usize,
        received: &mut Vec<Received>,
    ) -> Result<usize, RecvError> {
        self.streams.recv_all(now, stream, max, received)
    }

    /// All bytes that are there now, at most `max`, as pieces behind those in `chunks`. Answers how many
    /// bytes; 0 when there are none now.
    ///
    /// # Errors
    /// [`RecvError::Closed`] at the end of the stream.
    pub fn read_all(
        &mut self,
        now: Instant,
        stream: StreamId,
        max: usize,
        chunks: &mut Vec<Bytes>,
    ) -> Result<usize, RecvError> {
        self.streams.read_all(now, stream, max, chunks)
    }

    /// True when nothing is left to read of a stream, nor will anything come: all was read, or it is not there.
    pub fn is_read(&self, stream: StreamId) -> bool {
        self.streams.is_read(stream)
    }

    /// True when the peer should hear of credit, or of something else about streams, or the application of a stream
    /// that is forgotten with this: after reading, this says whether it is worth a turn to send.
    pub fn owes_credit(&self) -> bool {
        self.streams.owes() || self.streams.has_forgotten()
    }

    /// Tells [`Event::StreamForgotten`](crate::Event::StreamForgotten) once the stream is over on both sides; false
    /// when it is already.
    pub fn watch_forgotten(&mut self, stream: StreamId) -> bool {
        self.streams.watch_forgotten(stream)
    }

    /// True when bytes or messages of a stream wait to be sent, because nothing more may go now or the turn to
    /// send has yet to come: more behind them change nothing.
    pub fn has_unsent(&self, stream: StreamId) -> bool {
        self.streams.has_unsent(stream)
    }

    /// Tells the peer's application that ours has taken all messages below `number`.
    pub fn consumed(&mut self, stream: StreamId, number: u64) {
        self.streams.consumed(stream, number);
    }

    /// Changes class and weight of what we send on a stream.
    pub fn set_priority(&mut self, now: Instant, stream: StreamId, class: Class, weight: u8) {
        self.streams.set_priority(now, stream, class, weight);
    }

    /// What the opener said about a stream.
    pub fn stream_info(&self, stream: StreamId) -> Option<StreamInfo> {
        self.streams.info(stream)
    }

    /// Closes the connection now: what has not arrived is lost. To end in order, finish the streams
    /// and wait for their `SendFinished` events first. The reason is cut to 255 bytes.
    pub fn close(&mut self, now: Instant, code: u64, reason: &[u8]) {
        if !self.lifecycle.is_open() {
            return;
        }
        let cut = reason.len().min(limits::CLOSE_REASON_LEN_MAX);
        let farewell = Farewell {
            by_application: true,
            code: CloseCode(code.min(jsp_wire::varint::MAX)),
            reason: reason.get(..cut).unwrap_or_default().to_vec(),
        };
        let pto = self.pto();
        self.lifecycle.close(now, farewell, pto);
        self.announce_end(now, CloseReason::ByUs { code });
    }

    /// Updates the keys of both directions now; answers false when the last update is too recent.
    pub fn update_keys_now(&mut self, now: Instant) -> bool {
        self.lifecycle.is_established() && self.update_keys(now)
    }

    /// True from the end of the handshake on: the peer has proved who it is, or that it is there.
    pub fn is_complete(&self) -> bool {
        self.exchange.is_complete()
    }

    /// True from the end of the handshake until either side closes.
    pub fn is_established(&self) -> bool {
        self.lifecycle.is_established()
    }

    /// True when either side has closed, or the connection was lost.
    pub fn is_closed(&self) -> bool {
        !self.lifecycle.is_open()
    }

    /// A ticket for another connection to the same server; each serves once.
    pub fn take_ticket(&mut self) -> Option<ClientTicket> {
        self.exchange.session.take_ticket()
    }

    /// What was negotiated, and who the peer is; `None` before the handshake is complete, but for a
    /// server that accepts early data.
    pub fn security(&self) -> Option<&Security> {
        self.exchange.security.as_deref()
    }

    /// The way that datagrams travel.
    pub fn route(&self) -> Route {
        self.paths.active.route
    }

    /// The ways of all paths, and those that they may go back to.
    pub(crate) fn routes(&self) -> impl Iterator<Item = Route> + '_ {
        let refuge = |path: &Path| path.refuge.as_ref().map(|refuge| refuge.route);
        self.paths.iter().flat_map(move |path| core::iter::once(path.route).chain(refuge(path)))
    }

    /// The smoothed round-trip time.
    pub fn rtt(&self) -> Duration {
        self.paths.active.rtt.smoothed()
    }

    /// Probe timeouts in a row: since something was acknowledged last.
    pub fn timeouts_in_a_row(&self) -> u32 {
        self.paths.active.numbers.recovery.pto_count()
    }

    /// What a later connection over this path should know of it
    /// ([`TransportConfig::initial_path_memory`](crate::TransportConfig::initial_path_memory)): how much it
    /// carried, if it was ever asked for enough to tell. `None` before anything was measured.
    pub fn path_memory(&self) -> Option<PathMemory> {
        self.paths.active.path_memory()
    }

    /// Takes the qlog text written so far (JSON-SEQ, qlog 0.3); empty unless it was asked for.
    pub fn take_qlog(&mut self) -> String {
        self.trace.take()
    }

    /// Counters and measurements.
    pub fn stats(&self) -> ConnectionStats {
        let path = &self.paths.active;
        let repeats = self.streams.repeats();
        let mut traffic = self.trace.traffic();
        traffic.bytes_retransmitted = repeats.retransmitted;
        traffic.bytes_bundled = repeats.bundled;
        traffic.bytes_doubled = repeats.doubled;
        ConnectionStats {
            traffic,
            rtt: path.rtt.smoothed(),
            rtt_min: path.rtt.min(),
            congestion_window: path.congestion.window(),
            bytes_in_flight: self.bytes_in_flight(),
            datagram_len: path.mtud.current(),
            buffered: self.streams.buffered(),
            exchanges: self.exchange.session.round(),
        }
    }
}
