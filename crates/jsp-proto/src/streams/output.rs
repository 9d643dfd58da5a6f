//! Doors 4 and 5: what of the streams goes into a packet, in this order: the connection's credit,
//! control frames of streams, data as the scheduler says, openings that no data carried.

use jsp_wire::frame::{ResetStream, Skip, StreamLimit};
use jsp_wire::{Class, Frame, Instant, StreamId};

use super::stream::{Fin, RecvPhase, SendBody, SendPhase, Sendable, Stream, owed};
use super::table::Key;
use super::turn::Turn;
use super::{BYTES_DUE, Streams};
use crate::packet::PacketBuilder;
use crate::token::{CreditToken, StreamPart, StreamToken, Token};

/// Streams that are looked at before the data of a packet, whether they wait to be opened without any.
const OPENS_AT_ONCE: usize = 32;

/// The packet has no room for the frame.
pub(super) struct NoRoom;

impl Streams {
    /// True when [`Streams::write`] has something for a packet now.
    pub(crate) fn wants(&self, now: Instant) -> bool {
        self.peer.is_some()
            && !self.is_closed
            && (self.owes_connection()
                || !self.control.is_empty()
                || !self.opens.is_empty()
                || self.scheduler.has_any()
                || self.scheduler.next_release().is_some_and(|at| at <= now))
    }

    /// True when frames are due that are no data: credit, and what streams tell of themselves.
    pub(crate) fn owes(&self) -> bool {
        self.owes_connection() || !self.control.is_empty()
    }

    /// True when a stream has data that were never sent.
    pub(crate) fn has_unsent(&self, id: StreamId) -> bool {
        let stream = self.table.key(id).and_then(|key| self.table.get(key));
        stream.is_some_and(|stream| stream.waiting() > 0)
    }

    /// True when data that may go now will not all fit into so many bytes: of the stream whose turn it is, or of others.
    pub(crate) fn have_more_than(&mut self, room: usize) -> bool {
        let head = self.scheduler.head().and_then(|(_, key)| self.table.get(key));
        let others = self.scheduler.has_others();
        head.is_some_and(|stream| others || stream.waiting() > room as u64)
    }

    /// Frames about all streams are no early data.
    fn owes_connection(&self) -> bool {
        !self.is_early() && (self.owes_max_data || self.owes_max_streams || self.owes_blocked)
    }

    /// True when data of a class waits that must not wait behind others: control or real time.
    pub(crate) fn is_urgent(&self) -> bool {
        self.peer.is_some() && !self.is_closed && self.scheduler.has_urgent()
    }

    /// Streams that share take turns of about this many bytes, as far as the scheduler finds it right.
    pub(crate) fn set_turn(&mut self, bytes: usize) {
        self.scheduler.set_turn(bytes);
    }

    /// Fills the rest of a packet.
    pub(crate) fn write(&mut self, now: Instant, packet: &mut PacketBuilder<'_>) {
        self.write_in_turn(now, false, packet);
    }

    /// The same with a packet that leaves only because urgent data wait: no floor goes before them.
    pub(crate) fn write_urgent_first(&mut self, now: Instant, packet: &mut PacketBuilder<'_>) {
        self.write_in_turn(now, true, packet);
    }

    fn write_in_turn(&mut self, now: Instant, urgent_first: bool, packet: &mut PacketBuilder<'_>) {
        if self.peer.is_none() || self.is_closed {
            return;
        }
        self.release_capped(now);
        self.scheduler.let_floors_wait(urgent_first);
        if self.write_control(packet).is_err() || self.write_opens(packet, false).is_err() {
            return;
        }
        let next = self.write_data(now, packet);
        if next.is_none() {
            let _full = self.write_opens(packet, true);
        }
        self.settle_line(now, next.flatten());
    }

    /// Everything that goes before data.
    fn write_control(&mut self, packet: &mut PacketBuilder<'_>) -> Result<(), NoRoom> {
        self.write_credit(packet)?;
        while let Some(key) = self.control.front().copied() {
            self.write_owed(key, packet)?;
            self.control.pop_front();
            if let Some(stream) = self.table.get_mut(key) {
                stream.in_control = false;
            }
        }
        Ok(())
    }

    fn write_credit(&mut self, packet: &mut PacketBuilder<'_>) -> Result<(), NoRoom> {
        if !self.owes_connection() {
            return Ok(());
        }
        if self.owes_max_data {
            let consumed = self.received.consumed;
            let limit = self.window.announce(consumed, self.limits.message_len_max);
            put(packet, &Frame::MaxData(limit))?;
            packet.push(Token::Credit(CreditToken::MaxData { limit }));
            self.owes_max_data = false;
        }
        if self.owes_max_streams {
            let limit = self.peer_streams.announce();
            put(packet, &Frame::MaxStreams(limit))?;
            packet.push(Token::Credit(CreditToken::MaxStreams { limit }));
            self.owes_max_streams = false;
        }
        if self.owes_blocked {
            put(packet, &Frame::DataBlocked(self.credit.limit()))?;
            packet.push(Token::Credit(CreditToken::Blocked));
            self.owes_blocked = false;
        }
        Ok(())
    }

    /// Writes the control frames that one stream owes.
    fn write_owed(&mut self, key: Key, packet: &mut PacketBuilder<'_>) -> Result<(), NoRoom> {
        const ORDER: [u8; 7] = [
            owed::MAX_DATA,
            owed::STOP,
            owed::RESET,
            owed::SKIP,
            owed::FINISH,
            owed::CONSUMED,
            owed::BLOCKED,
        ];
        let Some(stream) = self.table.get_mut(key) else { return Ok(()) };
        for what in ORDER {
            if stream.owes & what == 0 {
                continue;
            }
            if let Some((frame, part)) = owed_frame(stream, what) {
                let bare = what == owed::RESET && stream.profile.unidirectional;
                if !bare {
                    write_opening(stream, packet)?;
                }
                put(packet, &frame)?;
                let token = StreamToken { stream: stream.id, what: part, open: false };
                packet.push(Token::Stream(token));
                note_owed_sent(stream, part);
            }
            stream.owes &= !what;
        }
        Ok(())
    }

    /// Data, by turns, until the packet is full or nobody has any. `Some` when it is full: then with
    /// the stream that is known to have more, if one is.
    fn write_data(&mut self, now: Instant, packet: &mut PacketBuilder<'_>) -> Option<Option<Key>> {
        let next = self.write_turns(now, packet);
        self.scheduler.bring_back();
        next
    }

    /// See [`Self::write_data`].
    fn write_turns(&mut self, now: Instant, packet: &mut PacketBuilder<'_>) -> Option<Option<Key>> {
        let (mut has_data, mut more) = (false, None);
        while packet.remaining() > 0 {
            let (class, key) = self.scheduler.head()?;
            let is_urgent = matches!(class, Class::Control | Class::RealTime);
            if packet.is_apart() && !is_urgent {
                return Some(None);
            }
            if !self.is_in_line(class, key) {
                self.scheduler.pop(class);
                continue;
            }
            match self.turn(now, key, packet, has_data) {
                Turn::Wrote { bytes, next } => {
                    has_data = true;
                    more = self.after_turn(now, class, key, bytes, next).then_some(key);
                }
                Turn::NoRoom => return Some(Some(key)),
                Turn::Aside => self.scheduler.set_aside(class),
                Turn::Over(why) => self.leave_line(now, class, key, why),
            }
        }
        Some(more)
    }

    /// True when the head of a class is what it was when it joined; otherwise the place is stale.
    fn is_in_line(&mut self, class: Class, key: Key) -> bool {
        let due = self.scheduler.head_due();
        let Some(stream) = self.table.get_mut(key) else { return false };
        if !stream.in_line {
            return false;
        }
        stream.class == class && (class != Class::RealTime || due == Some(stream.due))
    }

    fn leave_line(&mut self, now: Instant, class: Class, key: Key, why: Sendable) {
        self.scheduler.pop(class);
        if let Some(stream) = self.table.get_mut(key) {
            stream.in_line = false;
        }
        self.place(key, now, why);
        // Giving up what expired may have left a SKIP or the end to be told.
        self.refresh_quietly(key);
    }

    /// Where a stream stands after its turn, of which the turn may know already what comes `next`;
    /// answers whether it stays in line.
    fn after_turn(
        &mut self,
        now: Instant,
        class: Class,
        key: Key,
        bytes: usize,
        next: Option<Sendable>,
    ) -> bool {
        self.watch(key);
        let Some(stream) = self.table.get_mut(key) else { return false };
        let next = next.unwrap_or_else(|| stream.sendable(now, &mut self.credit, &mut self.events));
        let stays = matches!(next, Sendable::Bytes(_) | Sendable::Message(_));
        match next {
            Sendable::Bytes(_) | Sendable::Message(_) => {
                stream.due = match next {
                    Sendable::Message(piece) => piece.due,
                    // Bytes that were queued for long must not keep their class to themselves.
                    _ => now + BYTES_DUE,
                };
                let due = stream.due;
                self.scheduler.charge(class, bytes, due);
                self.refresh_quietly(key);
            }
            why => {
                self.scheduler.charge_leaving(class, bytes);
                self.leave_line(now, class, key, why);
            }
        }
        if !self.blocked.is_empty() {
            self.unblock(now);
        }
        stays
    }

    /// What a change, as a turn, leaves to be told or done beside the stream's place in line.
    pub(super) fn refresh_quietly(&mut self, key: Key) {
        let Some(stream) = self.table.get_mut(key) else { return };
        let (skips, expiry) = match &stream.send.body {
            SendBody::Messages(messages) => (messages.wants_skip(), messages.expiry()),
            _ => (false, Instant::FAR_FUTURE),
        };
        let (phase, wants_room) = (stream.send.phase, stream.send.wants_room);
        let may_end = phase != SendPhase::Open;
        if skips && matches!(phase, SendPhase::Open | SendPhase::Finishing) {
            self.owe(key, owed::SKIP);
        }
        if expiry != Instant::FAR_FUTURE {
            self.arm(key, expiry);
        }
        if may_end {
            self.refresh_end(key);
        }
        if wants_room {
            self.refresh_room(key);
        }
        if may_end {
            self.free_if_over(key);
        }
    }

    /// Openings of streams that have no data to carry them; of `all`, or of those that no turn will carry. Those are
    /// looked for among a few at a time, so that many streams with data cost a packet little.
    // spec: STR-3
    fn write_opens(&mut self, packet: &mut PacketBuilder<'_>, all: bool) -> Result<(), NoRoom> {
        let most = if all { usize::MAX } else { OPENS_AT_ONCE };
        for _ in 0..self.opens.len().min(most) {
            let Some(key) = self.opens.pop_front() else { break };
            let Some(stream) = self.table.get_mut(key) else { continue };
            if stream.owes & owed::OPEN != 0 {
                if stream.in_line && !all {
                    self.opens.push_back(key);
                    continue;
                }
                if let Err(full) = write_opening(stream, packet) {
                    self.opens.push_front(key);
                    return Err(full);
                }
            }
            stream.in_opens = false;
        }
        Ok(())
    }

    /// Takes stale and waiting streams from the head of the line, so that [`Streams::wants`] tells
    /// the truth. A stream that is `ready` need not be asked.
    fn settle_line(&mut self, now: Instant, ready: Option<Key>) {
        while let Some((class, key)) = self.scheduler.head() {
            if ready == Some(key) {
                return;
            }
            if !self.is_in_line(class, key) {
                self.scheduler.pop(class);
                continue;
            }
            let Some(stream) = self.table.get_mut(key) else { return };
            match stream.sendable(now, &mut self.credit, &mut self.events) {
                Sendable::Bytes(_) | Sendable::Message(_) => return,
                why => self.leave_line(now, class, key, why),
            }
        }
    }
}

fn put(packet: &mut PacketBuilder<'_>, frame: &Frame<'_>) -> Result<(), NoRoom> {
    if packet.is_closed() {
        return Err(NoRoom);
    }
    frame.write(packet.writer()).map_err(|_| NoRoom)
}

/// Writes the opening of a stream that the peer may not know, so that a frame that carries none may
/// follow in the same packet.
// spec: STR-8
pub(super) fn write_opening(
    stream: &mut Stream,
    packet: &mut PacketBuilder<'_>,
) -> Result<(), NoRoom> {
    if let Some(open) = stream.open() {
        put(packet, &Frame::Open { stream: stream.id, open })?;
        let token = StreamToken { stream: stream.id, what: StreamPart::Open, open: true };
        packet.push(Token::Stream(token));
    }
    stream.owes &= !owed::OPEN;
    Ok(())
}

/// The frame for one bit of what a stream owes, if it still matters.
fn owed_frame(stream: &mut Stream, what: u8) -> Option<(Frame<'static>, StreamPart)> {
    let id = stream.id;
    let limit = |value| StreamLimit { stream: id, value };
    match what {
        owed::MAX_DATA => {
            if stream.recv.phase != RecvPhase::Open || stream.recv.has_end() {
                return None;
            }
            let (consumed, extra) = (stream.recv.consumed(), stream.recv.extra());
            let value = stream.recv.window.announce(consumed, extra);
            Some((Frame::MaxStreamData(limit(value)), StreamPart::MaxData { limit: value }))
        }
        owed::STOP => match stream.recv.phase {
            RecvPhase::Stopped { code } => {
                Some((Frame::StopSending(limit(code)), StreamPart::Stop))
            }
            _ => None,
        },
        owed::RESET => match stream.send.phase {
            SendPhase::Reset { code, .. } => {
                let final_bytes = stream.credited();
                let frame = ResetStream { stream: id, code, final_bytes };
                Some((Frame::ResetStream(frame), StreamPart::Reset))
            }
            _ => None,
        },
        owed::SKIP => match &stream.send.body {
            SendBody::Messages(messages) if messages.wants_skip() => {
                let (floor, credit_below) = messages.skip();
                let frame = Skip { stream: id, floor, credit_below };
                Some((Frame::Skip(frame), StreamPart::Skip { floor, credit_below }))
            }
            _ => None,
        },
        owed::FINISH => {
            let wanted =
                stream.send.phase == SendPhase::Finishing && stream.send.fin == Fin::Unsent;
            // Data that waits again will carry the end itself.
            (wanted && stream.is_drained())
                .then(|| (Frame::Finish(limit(stream.total())), StreamPart::Finish))
        }
        owed::CONSUMED => {
            let floor = stream.recv.consumed_below;
            Some((Frame::Consumed(limit(floor)), StreamPart::Consumed { floor }))
        }
        owed::BLOCKED => {
            let at = stream.send.limit;
            Some((Frame::StreamDataBlocked(limit(at)), StreamPart::Blocked))
        }
        _ => None,
    }
}

fn note_owed_sent(stream: &mut Stream, part: StreamPart) {
    match part {
        StreamPart::Finish => stream.send.fin = Fin::Sent,
        StreamPart::Skip { floor, .. } => {
            if let SendBody::Messages(messages) = &mut stream.send.body {
                messages.skip_sent(floor);
            }
        }
        _ => {}
    }
}
