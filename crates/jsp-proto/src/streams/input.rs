//! Door 8: frames of the peer. Each is checked against what the peer may do, taken, and accounted.

use bytes::Bytes;
use jsp_wire::frame::{BytesFrame, MessageFrame, MessageNumber, ResetStream, Skip, StreamLimit};
use jsp_wire::{CloseCode, Framing, Instant, Open, StreamId};

use super::rate::RateCap;
use super::recv_messages::RecvMessages;
use super::stream::{RecvBody, RecvPhase, ResetCause, SendPhase, Stream};
use super::table::{Key, Standing};
use super::{StreamEvent, Streams, opening};
use crate::error::TransportError;

const NO_SUCH_HALF: TransportError =
    TransportError::new(CloseCode::STREAM_STATE, "a frame for a direction that the stream lacks");
pub(super) const WRONG_FRAMING: TransportError =
    TransportError::new(CloseCode::STREAM_STATE, "a frame of the other framing");
const SIGNALLING_ENDS: TransportError =
    TransportError::new(CloseCode::STREAM_STATE, "stream 0 cannot be ended");
const NEVER_OPENED: TransportError =
    TransportError::new(CloseCode::STREAM_STATE, "a frame for a stream that was never opened");
const BAD_OPENING: TransportError =
    TransportError::new(CloseCode::STREAM_STATE, "an opening for a stream that exists otherwise");
pub(super) const OVER_CREDIT: TransportError =
    TransportError::new(CloseCode::FLOW_CONTROL, "more data than the credit allows");

impl Streams {
    /// Finds the stream of a frame; opens it when the frame says how. `None` for a stream that is
    /// finished: its frames are late, and mean nothing.
    // spec: STR-6, STR-8, STR-9
    pub(super) fn enter(
        &mut self,
        id: StreamId,
        open: Option<&Open<'_>>,
    ) -> Result<Option<Key>, TransportError> {
        if let Some((key, stream)) = self.table.find(id) {
            let allowed = !stream.is_local && id != StreamId::SIGNALLING;
            if open.is_some_and(|open| !allowed || open.profile != stream.profile) {
                return Err(BAD_OPENING);
            }
            return Ok(Some(key));
        }
        let ordinal = Self::ordinal(id);
        if self.is_local(id) {
            if open.is_some() {
                return Err(BAD_OPENING);
            }
            let was_open = ordinal < self.local_streams.next;
            return if was_open { Ok(None) } else { Err(NEVER_OPENED) };
        }
        match (self.peer_streams.standing(ordinal), open) {
            (Standing::OverLimit, _) => Err(over_limit()),
            (Standing::Seen, _) => Ok(None),
            (Standing::Unseen, None) => Err(NEVER_OPENED),
            (Standing::Unseen, Some(open)) => Ok(Some(self.open_for_peer(id, open))),
        }
    }

    fn open_for_peer(&mut self, id: StreamId, open: &Open<'_>) -> Key {
        let params = match open.params {
            [] => Bytes::new(),
            params => Bytes::copy_from_slice(params),
        };
        let asked = opening::decode(open);
        let mut stream = self.blank(id, open.profile, false, params);
        stream.weight = asked.weight;
        stream.rate = asked.rate_cap.map(|rate| Box::new(RateCap::new(rate)));
        stream.lifetime = asked.lifetime;
        stream.retransmits = asked.retransmits;
        stream.fec = asked.fec;
        stream.is_replay_safe = opening::is_replay_safe(open);
        stream.is_accepted = false;
        self.peer_streams.mark_seen(Self::ordinal(id));
        let key = self.table.insert(stream);
        self.accept.push_back(id);
        self.events.push_back(StreamEvent::Opened(id));
        key
    }

    /// The peer opens a stream without data.
    pub(crate) fn on_open(
        &mut self,
        _now: Instant,
        id: StreamId,
        open: &Open<'_>,
    ) -> Result<(), TransportError> {
        self.enter(id, Some(open)).map(drop)
    }

    /// A piece of a byte stream; `data` holds the same bytes as the frame.
    // spec: STR-10, STR-22
    pub(crate) fn on_bytes(
        &mut self,
        now: Instant,
        frame: &BytesFrame<'_>,
        data: Bytes,
    ) -> Result<(), TransportError> {
        let Some(key) = self.enter(frame.stream, frame.open.as_ref())? else { return Ok(()) };
        let end = frame.offset.saturating_add(data.len() as u64);
        let left = self.window.announced().saturating_sub(self.received.position);
        let Some(stream) = self.receiving(key, Framing::Bytes)? else { return Ok(()) };
        let keep = stream.recv.phase == RecvPhase::Open;
        let limit = stream.recv.window.announced();
        let RecvBody::Bytes(bytes) = &mut stream.recv.body else { return Err(WRONG_FRAMING) };
        if end > limit || end.saturating_sub(bytes.position()) > left {
            return Err(OVER_CREDIT);
        }
        bytes.check_end(end, frame.fin)?;
        bytes.insert(frame.offset, data, frame.fin, keep);
        bytes.check_gaps()?;
        self.after_arrival(now, key)
    }

    /// A message or a fragment of one in packet `pn`; `data` holds the same bytes as the frame.
    pub(crate) fn on_message(
        &mut self,
        now: Instant,
        pn: u64,
        frame: &MessageFrame<'_>,
        data: Bytes,
    ) -> Result<(), TransportError> {
        let key = match self.same_again(frame) {
            Some(key) => key,
            None => {
                self.settle_arrived(now)?;
                let Some(key) = self.enter(frame.stream, frame.open.as_ref())? else {
                    return Ok(());
                };
                key
            }
        };
        let total = frame.fragment.map_or(data.len() as u64, |part| part.total);
        self.check_message_len(total)?;
        let Some(stream) = self.receiving(key, Framing::Messages)? else { return Ok(()) };
        let keep = stream.recv.phase == RecvPhase::Open;
        let RecvBody::Messages(messages) = &mut stream.recv.body else {
            return Err(WRONG_FRAMING);
        };
        let Some(number) = messages.resolve(pn, frame.number)? else { return Ok(()) };
        let numbers = messages.seen.len();
        let tried = messages.insert(pn, number, frame, data, keep)?.tried + messages.leap(numbers);
        if frame.fin {
            messages.set_end(number.saturating_add(1))?;
        }
        self.tried = self.tried.saturating_add(tried);
        self.arrived = Some(key);
        Ok(())
    }

    /// The stream of the message before in the same packet, if this one is for it too.
    fn same_again(&self, frame: &MessageFrame<'_>) -> Option<Key> {
        let key = self.arrived.filter(|_| frame.open.is_none())?;
        self.table.get(key).filter(|stream| stream.id == frame.stream).map(|_| key)
    }

    // spec: STR-16
    pub(super) fn check_message_len(&self, total: u64) -> Result<(), TransportError> {
        if total > self.limits.message_len_max {
            return Err(TransportError::new(
                CloseCode::MESSAGE_TOO_LARGE,
                "a message is larger than we accept",
            ));
        }
        Ok(())
    }

    /// False when a message has a short number and comes too late to tell which: its packet must pass
    /// for lost, so that the message is sent again under its full number.
    // spec: STR-18
    pub(crate) fn can_place(&mut self, pn: u64, frame: &MessageFrame<'_>) -> bool {
        if matches!(frame.number, MessageNumber::Full(_)) {
            return true;
        }
        let Some((_, stream)) = self.table.find(frame.stream) else { return true };
        let RecvBody::Messages(messages) = &stream.recv.body else { return true };
        !matches!(messages.resolve(pn, frame.number), Ok(None))
    }

    /// The stream with a body to receive into; `None` when what comes is of no use any more.
    pub(super) fn receiving(
        &mut self,
        key: Key,
        framing: Framing,
    ) -> Result<Option<&mut Stream>, TransportError> {
        let keep_max = self.limits.unreliable_buffer;
        let Some(stream) = self.table.get_mut(key) else { return Ok(None) };
        if stream.recv.phase == RecvPhase::Absent {
            return Err(NO_SUCH_HALF);
        }
        if stream.profile.framing != framing {
            return Err(WRONG_FRAMING);
        }
        if !matches!(stream.recv.phase, RecvPhase::Open | RecvPhase::Stopped { .. }) {
            return Ok(None);
        }
        if matches!(stream.recv.body, RecvBody::Idle) {
            let profile = stream.profile;
            stream.recv.body = match framing {
                Framing::Bytes => RecvBody::Bytes(Box::default()),
                Framing::Messages => RecvBody::Messages(Box::new(RecvMessages::new(
                    profile.delivery,
                    profile.ordered,
                    keep_max,
                ))),
            };
        }
        Ok(Some(stream))
    }

    /// The peer says how long a stream is.
    // spec: STR-14
    pub(crate) fn on_finish(
        &mut self,
        now: Instant,
        frame: &StreamLimit,
    ) -> Result<(), TransportError> {
        let Some(key) = self.enter(frame.stream, None)? else { return Ok(()) };
        if frame.stream == StreamId::SIGNALLING {
            return Err(SIGNALLING_ENDS);
        }
        let Some(framing) = self.table.get(key).map(|stream| stream.profile.framing) else {
            return Ok(());
        };
        let Some(stream) = self.receiving(key, framing)? else { return Ok(()) };
        let limit = stream.recv.window.announced();
        match &mut stream.recv.body {
            RecvBody::Idle => {}
            RecvBody::Bytes(bytes) => {
                if frame.value > limit {
                    return Err(OVER_CREDIT);
                }
                bytes.set_end(frame.value)?;
            }
            RecvBody::Messages(messages) => messages.set_end(frame.value)?,
        }
        self.after_arrival(now, key)
    }

    /// The peer abandons its half of a stream.
    // spec: STR-25
    pub(crate) fn on_reset(
        &mut self,
        now: Instant,
        frame: &ResetStream,
    ) -> Result<(), TransportError> {
        let id = frame.stream;
        let ordinal = Self::ordinal(id);
        let is_new = !self.is_local(id)
            && self.table.key(id).is_none()
            && self.peer_streams.standing(ordinal) == Standing::Unseen;
        if is_new {
            return self.on_bare_reset(ordinal, frame.final_bytes);
        }
        let Some(key) = self.enter(id, None)? else { return Ok(()) };
        if id == StreamId::SIGNALLING {
            return Err(SIGNALLING_ENDS);
        }
        let Some(framing) = self.table.get(key).map(|stream| stream.profile.framing) else {
            return Ok(());
        };
        let Some(stream) = self.receiving(key, framing)? else { return Ok(()) };
        let credited = stream.recv.is_credited();
        let known = if credited { stream.recv.position() } else { 0 };
        if frame.final_bytes < known || (!credited && frame.final_bytes != 0) {
            return Err(TransportError::new(
                CloseCode::FINAL_SIZE,
                "a reset contradicts what was received",
            ));
        }
        match &mut stream.recv.body {
            RecvBody::Idle => {}
            RecvBody::Bytes(bytes) => bytes.abandon(frame.final_bytes),
            RecvBody::Messages(messages) => messages.abandon(frame.final_bytes),
        }
        stream.recv.phase = match stream.recv.phase {
            RecvPhase::Open => RecvPhase::Reset { code: frame.code },
            _ => RecvPhase::Closed,
        };
        if matches!(stream.recv.phase, RecvPhase::Reset { .. }) && !stream.recv.told_readable {
            stream.recv.told_readable = true;
            self.events.push_back(StreamEvent::Readable(id));
        }
        self.account(now, key)?;
        self.free_if_over(key);
        Ok(())
    }

    /// A stream that was given up before we heard of it: it counts as used.
    // spec: STR-27
    fn on_bare_reset(&mut self, ordinal: u64, final_bytes: u64) -> Result<(), TransportError> {
        let left = self.window.announced().saturating_sub(self.received.position);
        if final_bytes > left || final_bytes > self.limits.stream_window {
            return Err(OVER_CREDIT);
        }
        self.received.position = self.received.position.saturating_add(final_bytes);
        self.received.consumed = self.received.consumed.saturating_add(final_bytes);
        self.owes_max_data |=
            self.window.wants(self.received.consumed, self.limits.message_len_max);
        self.peer_streams.mark_seen(ordinal);
        self.peer_streams.mark_finished();
        self.owes_max_streams |= self.peer_streams.wants();
        Ok(())
    }

    /// The peer wants no more of a stream: we reset it.
    // spec: STR-26
    pub(crate) fn on_stop(
        &mut self,
        now: Instant,
        frame: &StreamLimit,
    ) -> Result<(), TransportError> {
        let Some(key) = self.enter(frame.stream, None)? else { return Ok(()) };
        if frame.stream == StreamId::SIGNALLING {
            return Err(SIGNALLING_ENDS);
        }
        let Some(stream) = self.table.get_mut(key) else { return Ok(()) };
        match stream.send.phase {
            SendPhase::Absent => return Err(NO_SUCH_HALF),
            SendPhase::Open | SendPhase::Finishing => {}
            SendPhase::Reset { .. } | SendPhase::Closed => return Ok(()),
        }
        let event = StreamEvent::SendStopped { stream: frame.stream, code: frame.value };
        self.events.push_back(event);
        self.start_reset(now, key, frame.value, ResetCause::Peer);
        Ok(())
    }

    /// The peer gave messages up.
    pub(crate) fn on_skip(&mut self, now: Instant, frame: &Skip) -> Result<(), TransportError> {
        let Some(key) = self.enter(frame.stream, None)? else { return Ok(()) };
        let Some(stream) = self.receiving(key, Framing::Messages)? else { return Ok(()) };
        let keep = stream.recv.phase == RecvPhase::Open;
        let RecvBody::Messages(messages) = &mut stream.recv.body else {
            return Err(WRONG_FRAMING);
        };
        // spec: STR-39
        if !messages.is_credited() {
            return Err(TransportError::new(
                CloseCode::STREAM_STATE,
                "a SKIP for a stream whose messages are unreliable",
            ));
        }
        messages.skip(frame, keep)?;
        self.after_arrival(now, key)
    }

    /// The peer grants the connection credit. It is used at the [end of the packet](Streams::end_of_packet).
    pub(crate) fn on_max_data(&mut self, limit: u64) {
        self.has_new_credit |= self.credit.raise(limit);
    }

    /// The peer grants a stream credit.
    pub(crate) fn on_max_stream_data(
        &mut self,
        now: Instant,
        frame: &StreamLimit,
    ) -> Result<(), TransportError> {
        let Some(key) = self.enter(frame.stream, None)? else { return Ok(()) };
        let Some(stream) = self.table.get_mut(key) else { return Ok(()) };
        if stream.send.phase == SendPhase::Absent {
            return Err(NO_SUCH_HALF);
        }
        if frame.value > stream.send.limit {
            stream.send.limit = frame.value;
            self.refresh(now, key);
        }
        Ok(())
    }

    /// The peer allows more streams.
    pub(crate) fn on_max_streams(
        &mut self,
        now: Instant,
        limit: u64,
    ) -> Result<(), TransportError> {
        if limit > self.local_streams.limit {
            let any_held = self.local_streams.next > self.local_streams.limit;
            self.local_streams.limit = limit;
            if any_held {
                self.release_held(now);
            }
        }
        self.note_streams_available();
        Ok(())
    }

    /// The peer's application has taken messages.
    // spec: STR-38
    pub(crate) fn on_consumed(
        &mut self,
        _now: Instant,
        frame: &StreamLimit,
    ) -> Result<(), TransportError> {
        let Some(key) = self.enter(frame.stream, None)? else { return Ok(()) };
        let Some(stream) = self.table.get_mut(key) else { return Ok(()) };
        if stream.send.phase == SendPhase::Absent {
            return Err(NO_SUCH_HALF);
        }
        if !stream.has_messages() {
            return Err(WRONG_FRAMING);
        }
        if frame.value > stream.total() {
            return Err(TransportError::new(
                CloseCode::PROTOCOL_VIOLATION,
                "a message was consumed that was never sent",
            ));
        }
        if frame.value > stream.send.consumed_below {
            stream.send.consumed_below = frame.value;
            let event = StreamEvent::Consumed { stream: frame.stream, below: frame.value };
            self.events.push_back(event);
        }
        Ok(())
    }
}

fn over_limit() -> TransportError {
    TransportError::new(CloseCode::STREAM_LIMIT, "more streams than allowed")
}
