//! Overdue bundling: a real-time message whose acknowledgement is overdue goes once more into a packet
//! that leaves anyway. Nothing is held lost by that, nothing is sent for it alone, and the receiver
//! drops what comes twice by the number of the message.

use core::time::Duration;

use jsp_wire::{Class, Delivery, Instant, Open, PathId};

use super::Streams;
use super::record::Record;
use super::send_bytes::Packing;
use super::send_messages::{MessagePiece, SendMessages};
use super::stream::{SendBody, SendPhase, Stream};
use super::table::Key;
use crate::pack::{Pack, Packer, Unpacker, packed};
use crate::packet::PacketBuilder;
use crate::token::{StreamPart, StreamToken, Token};

/// A message is bundled at most once in this time: fades that matter last tens of milliseconds, and one
/// that took a copy takes the next right behind it too.
const COPY_INTERVAL: Duration = Duration::from_millis(30);

/// Copies that go before one of them is overdue itself: what outlasts so many is better waited for.
const COPIES_IN_A_ROW: u8 = 4;

/// Time after any other sending of a message until it is bundled: in the same packet, or right behind,
/// a copy shares the fate of what it copies.
const APART: Duration = Duration::from_millis(5);

/// Bytes that a frame takes beside its message, at most: type, stream, number, length, attributes.
const HEAD_LEN_MAX: usize = 40;

/// Copies that each packet pays for that proved lost: on a path that only stalls, and loses nothing, what
/// is overdue comes by itself, and copies are in vain. A message lost in a fade takes four or five.
const COPIES_PER_LOSS: u32 = 6;

/// Copies that may go before anything proved lost, and that may be saved up: one fade's worth, and a
/// second of long ones.
const COPIES_FIRST: u32 = 16;
const COPIES_MAX: u32 = 200;

/// Streams, and messages of each, that are looked at for one packet: more than it could carry.
const STREAMS_MAX: usize = 16;
const MESSAGES_MAX: usize = 64;

/// Which messages go once more.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Overdue {
    /// Acknowledgements of what was first sent at this instant or earlier are overdue.
    pub(crate) before: Instant,
    /// The path loses so much that what was sent again may well be lost again: a message that was
    /// retransmitted goes on being bundled.
    pub(crate) eager: bool,
    /// The path that they took last.
    pub(crate) path: PathId,
    /// They go by another path than that, which is silent: that is worth a packet.
    pub(crate) crosses: bool,
    /// The same as `before`, for messages that have gone by two paths already.
    pub(crate) before_doubled: Instant,
}

/// How many copies may still go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Allowance(u32);

impl Pack for Allowance {
    fn pack(&self, to: &mut Packer) {
        self.0.pack(to);
    }

    fn unpack(from: &mut Unpacker<'_>) -> Self {
        Self(u32::unpack(from))
    }
}

impl Default for Allowance {
    fn default() -> Self {
        Self(COPIES_FIRST)
    }
}

/// Application bytes that were sent more than once, by cause.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Repeats {
    /// Held lost, or asked after by a probe.
    pub(crate) retransmitted: u64,
    /// Bundled because an acknowledgement was overdue.
    pub(crate) bundled: u64,
    /// Sent by a second path too.
    pub(crate) doubled: u64,
}
packed!(Repeats { retransmitted, bundled, doubled });

impl Repeats {
    /// Bytes went out by themselves; `again` says that it was not for the first time.
    pub(super) fn note(&mut self, again: bool, len: usize) {
        if again {
            self.retransmitted = self.retransmitted.saturating_add(len as u64);
        }
    }
}

impl Streams {
    /// So many packets proved lost.
    // spec: SEN-10
    pub(crate) fn on_losses(&mut self, packets: u32) {
        let earned = packets.saturating_mul(COPIES_PER_LOSS);
        self.copies.0 = self.copies.0.saturating_add(earned).min(COPIES_MAX);
    }

    /// True when some message might go once more: there are such streams, and copies that losses have paid for.
    pub(crate) fn may_bundle(&self) -> bool {
        self.copies.0 > 0 && !self.watched.is_empty()
    }

    /// True when some message should go once more, if a packet leaves anyway.
    // spec: SEN-10
    pub(crate) fn has_overdue(&mut self, now: Instant, overdue: Overdue) -> bool {
        if self.copies.0 == 0 && !overdue.crosses {
            return false;
        }
        if self.watched.len() > STREAMS_MAX {
            self.watched.rotate_left(STREAMS_MAX);
        } else {
            self.forget_settled();
        }
        let keys = self.watched.iter().take(STREAMS_MAX).copied();
        let mut table = keys.filter_map(|key| Some((key, self.table.get(key)?)));
        table.any(|(_, stream)| {
            messages_of(stream).is_some_and(|m| m.overdue(now, overdue).next().is_some())
        })
    }

    /// Writes messages whose acknowledgement is overdue once more, as far as there is room.
    // spec: SEN-6
    pub(crate) fn write_overdue(
        &mut self,
        now: Instant,
        overdue: Overdue,
        packet: &mut PacketBuilder<'_>,
    ) {
        for _ in 0..self.watched.len().min(STREAMS_MAX) {
            // Streams take turns, so that many of them all have a chance.
            self.watched.rotate_left(1);
            let Some(key) = self.watched.back().copied() else { return };
            let Some(stream) = self.table.get_mut(key) else { continue };
            let numbers: Vec<u64> = messages_of(stream)
                .map(|messages| messages.overdue(now, overdue).collect())
                .unwrap_or_default();
            for number in numbers {
                if self.copies.0 == 0 && !overdue.crosses {
                    return;
                }
                let Some(bytes) = copy(number, stream, packet) else { continue };
                let SendBody::Messages(messages) = &mut stream.send.body else { continue };
                if overdue.crosses {
                    messages.doubled(now, number, packet.path());
                    self.repeats.doubled = self.repeats.doubled.saturating_add(bytes);
                } else {
                    messages.copied(now, overdue, number);
                    self.copies.0 -= 1;
                    self.repeats.bundled = self.repeats.bundled.saturating_add(bytes);
                }
            }
        }
    }

    /// Notes that a stream has sent something that may become overdue.
    pub(super) fn watch(&mut self, key: Key) {
        let Some(stream) = self.table.get_mut(key) else { return };
        if !stream.in_watched && messages_of(stream).is_some() {
            stream.in_watched = true;
            self.watched.push_back(key);
            let count = self.watched.len();
            if count >= STREAMS_MAX && count.is_power_of_two() {
                self.forget_settled();
            }
        }
    }

    /// Streams without open messages are not looked at.
    fn forget_settled(&mut self) {
        for _ in 0..self.watched.len() {
            let Some(key) = self.watched.pop_front() else { return };
            let Some(stream) = self.table.get_mut(key) else { continue };
            stream.in_watched = messages_of(stream).is_some_and(|m| !m.records.is_empty());
            if stream.in_watched {
                self.watched.push_back(key);
            }
        }
    }

    /// Messages of class real time are on their way that must arrive, or were of late.
    pub(crate) fn has_realtime(&self) -> bool {
        !self.watched.is_empty()
    }

    /// Messages of class real time that took this path could go once more by another one. Of very many streams
    /// some are taken to have such.
    pub(crate) fn may_cross(&self, now: Instant, path: PathId) -> bool {
        let mut streams = self.watched.iter().filter_map(|key| self.table.get(*key));
        self.watched.len() > STREAMS_MAX
            || streams.any(|stream| messages_of(stream).is_some_and(|m| m.may_cross(now, path)))
    }

    /// Application bytes that were sent more than once.
    pub(crate) fn repeats(&self) -> Repeats {
        self.repeats
    }
}

/// The messages of a stream that is to be looked after.
fn messages_of(stream: &Stream) -> Option<&SendMessages> {
    let is_open = stream.class == Class::RealTime
        && matches!(stream.send.phase, SendPhase::Open | SendPhase::Finishing);
    match &stream.send.body {
        SendBody::Messages(messages) if is_open && messages.delivery != Delivery::Unreliable => {
            Some(messages)
        }
        _ => None,
    }
}

/// Writes a message once more if there is room for all of it; answers its bytes. Whoever asks notes it.
pub(super) fn copy(
    number: u64,
    stream: &mut Stream,
    packet: &mut PacketBuilder<'_>,
) -> Option<u64> {
    let carries = stream.is_local && !stream.is_known;
    let open = carries.then_some(Open { profile: stream.profile, params: &stream.opening });
    let open_len = open.map_or(0, |open| open.len());
    let capacity = packet.writer().len() + packet.remaining();
    let id = stream.id;
    let packing = Packing {
        stream: id,
        open,
        may_shape: false,
        in_full: true,
        alone: false,
        capacity,
        has_data: true,
    };
    let SendBody::Messages(messages) = &mut stream.send.body else { return None };
    let record = messages.record(number)?;
    let (len, due, sending) = (record.len, record.due, record.sending.next());
    if packet.remaining() < len as usize + open_len + HEAD_LEN_MAX {
        return None;
    }
    let piece = MessagePiece { number, offset: 0, len, again: true, symbol: false, due };
    // The end of the stream, if it was told, is asked after by itself.
    messages.write(piece, &packing, false, packet.writer())?;
    if let Some(rate) = &mut stream.rate {
        rate.spend(len as usize);
    }
    let what = StreamPart::Message { number, offset: 0, len, fin: false, sending };
    packet.push(Token::Stream(StreamToken { stream: id, what, open: carries }));
    Some(len.into())
}

impl SendMessages {
    /// Messages that should go once more, the oldest first.
    // spec: SEN-7, SEN-9
    fn overdue(&self, now: Instant, overdue: Overdue) -> impl Iterator<Item = u64> + '_ {
        (self.first..)
            .zip(self.records.iter())
            .take(MESSAGES_MAX)
            .take_while(move |(_, record)| {
                record.done || (record.is_sent() && record.first_sent_at <= overdue.before)
            })
            .filter(move |(_, record)| record.wants_copy(now, overdue))
            .map(|(number, _)| number)
    }

    /// Some of the messages that would be looked at could go once more by another path than this one.
    fn may_cross(&self, now: Instant, path: PathId) -> bool {
        let mut sent = self.records.iter().take(MESSAGES_MAX).filter(|record| record.is_sent());
        sent.any(|record| record.may_go_once_more(now, path))
    }

    /// A copy went out.
    fn copied(&mut self, now: Instant, overdue: Overdue, number: u64) {
        self.in_flight += 1;
        if let Some(record) = self.record_mut(number) {
            let is_first = record.sent_at <= overdue.before;
            record.copies = if is_first { 1 } else { record.copies.saturating_add(1) };
            record.on_sent(now);
            record.copied_at = Some(now);
            record.spend_retransmit();
        }
    }
}

impl SendMessages {
    /// A copy went out by another path.
    pub(super) fn doubled(&mut self, now: Instant, number: u64, path: PathId) {
        self.in_flight += 1;
        if let Some(record) = self.record_mut(number) {
            record.on_sent(now);
            record.path = path;
            record.is_doubled = true;
        }
    }
}

impl Record {
    /// It took this path, matters still, and was in one piece. A bound on retransmissions counts copies too.
    fn may_go_once_more(&self, now: Instant, path: PathId) -> bool {
        let matters = !self.done && !self.superseded && self.expires > now && self.is_whole;
        self.path == path && matters && self.repeats(0, self.len) < self.retransmits_max
    }

    /// It may go once more, and was not sent just now.
    fn wants_copy(&self, now: Instant, overdue: Overdue) -> bool {
        if !self.may_go_once_more(now, overdue.path) {
            return false;
        }
        if overdue.crosses {
            let is_double = self.is_doubled;
            let before = if is_double { overdue.before_doubled } else { overdue.before };
            return self.sent_at <= before;
        }
        let rested = now.since(self.sent_at) >= APART
            && self.copied_at.is_none_or(|at| now.since(at) >= COPY_INTERVAL);
        let doubtful = overdue.eager || !self.was_lost;
        let may_follow = self.copies < COPIES_IN_A_ROW || self.sent_at <= overdue.before;
        rested && doubtful && may_follow
    }
}
