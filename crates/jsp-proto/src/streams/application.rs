//! Door 1: what the application calls. Every method either takes all or nothing, and none blocks.

use core::borrow::Borrow;

use bytes::Bytes;
use jsp_wire::{Class, Framing, Instant, Open, StreamId};

use super::config::{self, Message, Received, StreamConfig, StreamInfo};
use super::credit::{MESSAGE_LEN_ALWAYS, MESSAGE_LEN_CEILING};
use super::early::Phase;
use super::rate::RateCap;
use super::recv_bytes::RecvBytes;
use super::recv_messages::RecvMessages;
use super::send_bytes::SendBytes;
use super::send_messages::{SendMessages, SendScope};
use super::stream::{RecvBody, RecvPhase, ResetCause, SendBody, SendPhase, Stream, owed};
use super::table::Key;
use super::{StreamEvent, Streams, opening};
use crate::error::{OpenError, RecvError, SendError};

impl Streams {
    /// Bytes of application data in buffers, both directions: counted by going over all streams.
    pub(crate) fn buffered(&self) -> u64 {
        self.table.iter().map(|stream| stream.waiting() + stream.recv.unread()).sum()
    }

    /// Opens a stream. The peer hears of it with its first data, or with the next packet.
    pub(crate) fn open(
        &mut self,
        _now: Instant,
        config: impl Borrow<StreamConfig>,
    ) -> Result<StreamId, OpenError> {
        if self.is_closed {
            return Err(OpenError::Closed);
        }
        let config = config.borrow();
        let params = opening::encode(config)?;
        // spec: STR-2
        if self.local_streams.next >= self.local_streams.limit {
            self.local_streams.refused = true;
            return Err(OpenError::LimitReached);
        }
        let id = self.local_id(self.local_streams.next);
        self.local_streams.next += 1;
        let mut stream = self.blank(id, config.profile(), true, params);
        stream.weight = config.weight;
        stream.rate = config.rate_cap.map(|rate| Box::new(RateCap::new(rate)));
        stream.fec = config.fec;
        stream.duplicate = config.duplicate;
        stream.is_replay_safe = config.replay_safe;
        stream.send_buffer = config.send_buffer as u64;
        if let config::Delivery::Partial { retransmits, lifetime } = config.delivery {
            stream.lifetime = lifetime;
            stream.retransmits = retransmits;
        }
        let key = self.table.insert(stream);
        self.owe(key, owed::OPEN);
        Ok(id)
    }

    /// Queues a message and leaves an empty one in its place; its number in the stream. A message
    /// that is not taken stays what it is.
    pub(crate) fn offer(
        &mut self,
        now: Instant,
        id: StreamId,
        message: &mut Message,
    ) -> Result<u64, SendError> {
        let len_max = self.peer_message_len_max();
        if self.is_closed {
            return Err(SendError::Closed);
        }
        let Some((key, stream)) = self.table.find(id) else { return Err(SendError::Closed) };
        check_sending(stream)?;
        if !stream.has_messages() {
            return Err(SendError::WrongFraming);
        }
        let len = message.payload.len() as u64;
        // spec: STR-16
        if len > len_max {
            let is_known = self.early == Phase::Over;
            // It is told that there is room once what the peer takes is known.
            stream.send.wants_room |= !is_known;
            return Err(if is_known {
                SendError::TooLarge { len, max: len_max }
            } else {
                SendError::WouldBlock
            });
        }
        if matches!(stream.send.body, SendBody::Idle) {
            let messages = SendMessages::new(stream.profile.delivery);
            stream.send.body = SendBody::Messages(Box::new(messages));
        }
        let waiting = stream.waiting();
        let SendBody::Messages(messages) = &mut stream.send.body else {
            return Err(SendError::WrongFraming);
        };
        // A message larger than the buffer is taken when the buffer is empty.
        if messages.is_full() || (waiting > 0 && waiting + len > stream.send_buffer) {
            stream.send.wants_room = true;
            return Err(SendError::WouldBlock);
        }
        let (credit, events) = (&mut self.credit, &mut self.events);
        let mut scope = SendScope { now, stream: id, credit, events };
        let message = core::mem::take(message);
        let supersedes = message.supersede_key.is_some();
        let number = messages.push(message, stream.lifetime, stream.retransmits, &mut scope);
        let (drop_order, in_line) = (messages.wants_skip(), stream.in_line);
        let expires = messages.expiry() < stream.armed;
        if drop_order || expires || !in_line {
            self.refresh(now, key);
        }
        if supersedes {
            // The older message has let go of the connection's credit.
            self.unblock(now);
        }
        Ok(number)
    }

    #[cfg(test)]
    pub(super) fn send(
        &mut self,
        now: Instant,
        id: StreamId,
        mut message: Message,
    ) -> Result<u64, SendError> {
        self.offer(now, id, &mut message)
    }

    fn peer_message_len_max(&self) -> u64 {
        let told = self.peer.map_or(0, |peer| peer.message_len_max);
        told.clamp(MESSAGE_LEN_ALWAYS, MESSAGE_LEN_CEILING)
    }

    /// Queues bytes; how many were taken.
    pub(crate) fn write_bytes(
        &mut self,
        now: Instant,
        id: StreamId,
        mut data: Bytes,
    ) -> Result<usize, SendError> {
        if self.is_closed {
            return Err(SendError::Closed);
        }
        let Some((key, stream)) = self.table.find(id) else { return Err(SendError::Closed) };
        check_sending(stream)?;
        if stream.has_messages() {
            return Err(SendError::WrongFraming);
        }
        if data.is_empty() {
            return Ok(0);
        }
        if matches!(stream.send.body, SendBody::Idle) {
            stream.send.body = SendBody::Bytes(Box::default());
        }
        let SendBody::Bytes(bytes) = &mut stream.send.body else {
            return Err(SendError::WrongFraming);
        };
        let room = stream.send_buffer.max(1).saturating_sub(bytes.unsent());
        if room == 0 {
            stream.send.wants_room = true;
            return Err(SendError::WouldBlock);
        }
        let room = usize::try_from(room).unwrap_or(usize::MAX);
        if data.len() > room {
            data.truncate(room);
            stream.send.wants_room = true;
        }
        let taken = data.len();
        SendBytes::push(bytes, data);
        self.line_up(now, key);
        Ok(taken)
    }

    /// Ends the sending half after what is queued.
    pub(crate) fn finish(&mut self, now: Instant, id: StreamId) -> Result<(), SendError> {
        let Some((key, stream)) = self.table.find(id) else { return Err(SendError::Closed) };
        // spec: STR-4
        if id == StreamId::SIGNALLING {
            return Err(SendError::Closed);
        }
        check_sending(stream)?;
        stream.send.phase = SendPhase::Finishing;
        // What stands in line takes the end along.
        if !stream.in_line || stream.is_drained() {
            self.refresh(now, key);
        }
        Ok(())
    }

    /// Abandons the sending half. Does nothing on a stream that has none, and on stream 0.
    pub(crate) fn reset(&mut self, now: Instant, id: StreamId, code: u64) {
        if let Some((key, stream)) = self.table.find(id)
            && id != StreamId::SIGNALLING
            && matches!(stream.send.phase, SendPhase::Open | SendPhase::Finishing)
        {
            self.start_reset(now, key, code, ResetCause::Application);
        }
    }

    // spec: STR-26
    pub(super) fn start_reset(&mut self, now: Instant, key: Key, code: u64, cause: ResetCause) {
        let Some(stream) = self.table.get_mut(key) else { return };
        stream.send.phase = SendPhase::Reset { code: code.min(jsp_wire::varint::MAX), cause };
        stream.owes &= !(owed::SKIP | owed::FINISH | owed::BLOCKED | owed::OPEN);
        match &mut stream.send.body {
            SendBody::Idle => {}
            SendBody::Bytes(bytes) => bytes.abandon(),
            SendBody::Messages(messages) => {
                let (credit, events) = (&mut self.credit, &mut self.events);
                messages.abandon(&mut SendScope { now, stream: stream.id, credit, events });
            }
        }
        self.owe(key, owed::RESET);
        self.unblock(now);
    }

    /// Tells the peer that nobody will read the stream; what arrives is dropped from here on.
    pub(crate) fn stop(&mut self, now: Instant, id: StreamId, code: u64) {
        if id == StreamId::SIGNALLING {
            return;
        }
        let Some((key, stream)) = self.table.find(id) else { return };
        match stream.recv.phase {
            RecvPhase::Open => {}
            RecvPhase::Reset { .. } => {
                stream.recv.phase = RecvPhase::Closed;
                self.free_if_over(key);
                return;
            }
            _ => return self.free_if_over(key),
        }
        stream.recv.phase = RecvPhase::Stopped { code: code.min(jsp_wire::varint::MAX) };
        match &mut stream.recv.body {
            RecvBody::Idle => {}
            RecvBody::Bytes(bytes) => bytes.drop_ready(),
            RecvBody::Messages(messages) => messages.drop_ready(),
        }
        if !stream.recv.has_end() {
            self.owe(key, owed::STOP);
        }
        // Nothing was received beyond the credit, so this cannot fail.
        let _ = self.account(now, key);
        self.close_if_read(key);
        self.free_if_over(key);
    }

    /// The next stream that the peer opened. One that is over already stays until its end is read,
    /// so that the application can learn what it was.
    pub(crate) fn accept(&mut self) -> Option<StreamId> {
        let id = self.accept.pop_front()?;
        if let Some((_, stream)) = self.table.find(id) {
            stream.is_accepted = true;
        }
        Some(id)
    }

    /// The next message; `None` when there is none now.
    pub(crate) fn recv(
        &mut self,
        now: Instant,
        id: StreamId,
    ) -> Result<Option<Received>, RecvError> {
        let (key, messages) = self.readable_messages(id)?;
        let received = messages.and_then(RecvMessages::recv);
        if received.is_some() {
            self.note_read(now, key);
        }
        Ok(received)
    }

    /// All messages that are there, `max` at most, to the end of `received`; answers how many. Credit is looked at
    /// once.
    pub(crate) fn recv_all(
        &mut self,
        now: Instant,
        id: StreamId,
        max: usize,
        received: &mut Vec<Received>,
    ) -> Result<usize, RecvError> {
        let (key, messages) = self.readable_messages(id)?;
        let Some(messages) = messages else { return Ok(0) };
        let before = received.len();
        received.extend(std::iter::from_fn(|| messages.recv()).take(max));
        let count = received.len() - before;
        if count > 0 {
            self.note_read(now, key);
        }
        Ok(count)
    }

    /// The next bytes, `max` at most; `None` when there are none now.
    pub(crate) fn read(
        &mut self,
        now: Instant,
        id: StreamId,
        max: usize,
    ) -> Result<Option<Bytes>, RecvError> {
        let (key, bytes) = self.readable_bytes(id)?;
        let data = bytes.filter(|_| max > 0).and_then(|bytes| bytes.read(max));
        if data.is_some() {
            self.note_read(now, key);
        }
        Ok(data)
    }

    /// All bytes that are there, `max` at most, piece by piece to the end of `chunks`; answers how many. Credit
    /// is looked at once.
    pub(crate) fn read_all(
        &mut self,
        now: Instant,
        id: StreamId,
        max: usize,
        chunks: &mut Vec<Bytes>,
    ) -> Result<usize, RecvError> {
        let (key, mut bytes) = self.readable_bytes(id)?;
        let mut len = 0;
        while let Some(bytes) = &mut bytes
            && len < max
            && let Some(chunk) = bytes.read(max - len)
        {
            len += chunk.len();
            chunks.push(chunk);
        }
        if len > 0 {
            self.note_read(now, key);
        }
        Ok(len)
    }

    /// The receiving half of a byte stream that the application is about to read, if anything came yet.
    fn readable_bytes(&mut self, id: StreamId) -> Result<(Key, Option<&mut RecvBytes>), RecvError> {
        match self.readable(id, Framing::Bytes)? {
            (key, RecvBody::Bytes(bytes)) => Ok((key, Some(bytes))),
            (key, _) => Ok((key, None)),
        }
    }

    /// The same of a message stream.
    fn readable_messages(
        &mut self,
        id: StreamId,
    ) -> Result<(Key, Option<&mut RecvMessages>), RecvError> {
        match self.readable(id, Framing::Messages)? {
            (key, RecvBody::Messages(messages)) => Ok((key, Some(messages))),
            (key, _) => Ok((key, None)),
        }
    }

    fn readable(
        &mut self,
        id: StreamId,
        framing: Framing,
    ) -> Result<(Key, &mut RecvBody), RecvError> {
        let Some((key, stream)) = self.table.find(id) else { return Err(RecvError::Closed) };
        if stream.profile.framing != framing {
            return Err(RecvError::WrongFraming);
        }
        stream.recv.told_readable = false;
        if let Some(end) = self.read_end(key) {
            return Err(end);
        }
        let Some(stream) = self.table.get_mut(key) else { return Err(RecvError::Closed) };
        Ok((key, &mut stream.recv.body))
    }

    /// True when nothing is left to read of a stream, nor will anything come.
    pub(crate) fn is_read(&self, id: StreamId) -> bool {
        let stream = self.table.key(id).and_then(|key| self.table.get(key));
        stream.is_none_or(|stream| stream.recv.phase == RecvPhase::Closed)
    }

    /// Why nothing can be read, if so. Reading a reset settles it.
    fn read_end(&mut self, key: Key) -> Option<RecvError> {
        let stream = self.table.get_mut(key)?;
        match stream.recv.phase {
            RecvPhase::Open => None,
            RecvPhase::Reset { code } => {
                stream.recv.phase = RecvPhase::Closed;
                self.free_if_over(key);
                Some(RecvError::Reset(code))
            }
            RecvPhase::Absent | RecvPhase::Stopped { .. } | RecvPhase::Closed => {
                self.free_if_over(key);
                Some(RecvError::Closed)
            }
        }
    }

    fn note_read(&mut self, now: Instant, key: Key) {
        // Reading only frees credit, so this cannot fail.
        let _ = self.account(now, key);
        self.close_if_read(key);
        self.free_if_over(key);
    }

    /// The application has taken all messages below `number`; the peer is told.
    pub(crate) fn consumed(&mut self, id: StreamId, number: u64) {
        let Some((key, stream)) = self.table.find(id) else { return };
        let expected = match &stream.recv.body {
            RecvBody::Messages(messages) => messages.expected(),
            _ => return,
        };
        let below = number.min(expected);
        if below > stream.recv.consumed_below {
            stream.recv.consumed_below = below;
            self.owe(key, owed::CONSUMED);
        }
    }

    /// Changes the class and the weight of our sending half.
    pub(crate) fn set_priority(&mut self, now: Instant, id: StreamId, class: Class, weight: u8) {
        if let Some((key, stream)) = self.table.find(id) {
            let before = std::mem::replace(&mut stream.class, class);
            stream.weight = weight.max(1);
            if stream.in_line {
                stream.in_line = false;
                self.scheduler.remove(before, key);
                self.refresh(now, key);
            }
        }
    }

    /// Asks to be told when nothing more is told of a stream; false when that is so already.
    pub(crate) fn watch_forgotten(&mut self, id: StreamId) -> bool {
        let Some((_, stream)) = self.table.find(id) else { return false };
        stream.send.is_watched = true;
        true
    }

    /// True when the last thing to be told is that a stream is forgotten.
    pub(crate) fn has_forgotten(&self) -> bool {
        matches!(self.events.back(), Some(StreamEvent::Forgotten(_)))
    }

    /// What the stream said about itself when it opened.
    pub(crate) fn info(&self, id: StreamId) -> Option<StreamInfo> {
        let stream = self.table.get(self.table.key(id)?)?;
        Some(opening::info(&Open { profile: stream.profile, params: &stream.opening }))
    }
}

fn check_sending(stream: &Stream) -> Result<(), SendError> {
    match stream.send.phase {
        SendPhase::Open => Ok(()),
        SendPhase::Reset { code, cause: ResetCause::Peer } => Err(SendError::Stopped(code)),
        _ => Err(SendError::Closed),
    }
}
