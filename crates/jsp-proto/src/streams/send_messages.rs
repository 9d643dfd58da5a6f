//! The sending half of a message stream: a ring of records by number, a queue of lost pieces, and
//! the floor below which nothing will come any more.

use std::collections::{HashMap, VecDeque};

use core::time::Duration;

use jsp_wire::{Delivery, Instant, PathId, StreamId, Writer, limits};

use super::config::{Message, MessageFate};
use super::credit::{MESSAGE_COST, NUMBER_REACH, START_MIN, SendCredit};
use super::event::Events;
use super::pack::{Content, pack};
use super::record::Record;
use super::send_bytes::{Packed, Packing};
use crate::token::Sending;

/// A real-time message without a lifetime is due this long after it was queued.
const DUE_WITHOUT_LIFETIME: Duration = Duration::from_millis(100);

/// Bytes that the head of a frame with a whole message takes at most, where the stream is known: type, stream, number,
/// attributes.
const HEAD_MAX: usize = 1 + 8 + 8 + 9;

/// A piece that must go again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lost {
    pub(super) number: u64,
    pub(super) offset: u32,
    pub(super) len: u32,
}

/// A piece that may go next.
#[derive(Clone, Copy, Debug)]
pub(super) struct MessagePiece {
    pub(super) number: u64,
    pub(super) offset: u32,
    pub(super) len: u32,
    pub(super) again: bool,
    /// It is a symbol made of all of the message.
    pub(super) symbol: bool,
    pub(super) due: Instant,
}

/// Whether a message stream has something to send.
#[derive(Clone, Copy, Debug)]
pub(super) enum Next {
    Piece(MessagePiece),
    /// Nothing waits.
    Nothing,
    /// The stream's credit, or the reach of numbers, does not allow it.
    StreamCredit,
    /// The connection's credit does not allow it.
    ConnectionCredit,
}

/// What every operation may touch beside the stream itself.
pub(super) struct SendScope<'a> {
    pub(super) now: Instant,
    pub(super) stream: StreamId,
    pub(super) credit: &'a mut SendCredit,
    pub(super) events: &'a mut Events,
}

/// Messages of a stream from the oldest whose fate is open to the newest queued.
#[derive(Debug)]
pub(super) struct SendMessages {
    pub(super) delivery: Delivery,
    pub(super) records: VecDeque<Record>,
    /// Number of the first record.
    pub(super) first: u64,
    /// The message to start or to continue.
    pub(super) cursor: u64,
    pub(super) lost: VecDeque<Lost>,
    /// Messages of which symbols are to go.
    pub(super) symbols: VecDeque<u64>,
    /// Credit used since the start, and that of messages below `first`.
    pub(super) credited: u64,
    pub(super) credited_below: u64,
    /// Bytes that wait: never sent, or lost.
    pub(super) waiting: u64,
    /// Pieces without a fate.
    pub(super) in_flight: u64,
    /// One more than the highest number acknowledged, and sent.
    pub(super) acked_next: u64,
    pub(super) sent_next: u64,
    /// Below this everything is acknowledged, or known to be skipped.
    pub(super) confirmed: u64,
    /// The floor that a SKIP must reach, that is on its way, that has arrived.
    pub(super) skip_needed: u64,
    pub(super) skip_sent: u64,
    pub(super) skip_acked: u64,
    pub(super) keys: HashMap<u64, u64>,
    /// Messages whose last retransmission goes twice, and when the second one is due.
    pub(super) echoes: VecDeque<(Instant, u64)>,
    /// The earliest expiry among waiting messages; may be too early, never too late.
    pub(super) expiry: Instant,
}

impl SendMessages {
    pub(super) fn new(delivery: Delivery) -> Self {
        Self {
            delivery,
            records: VecDeque::new(),
            first: 0,
            cursor: 0,
            lost: VecDeque::new(),
            symbols: VecDeque::new(),
            credited: 0,
            credited_below: 0,
            waiting: 0,
            in_flight: 0,
            acked_next: 0,
            sent_next: 0,
            confirmed: 0,
            skip_needed: 0,
            skip_sent: 0,
            skip_acked: 0,
            keys: HashMap::new(),
            echoes: VecDeque::new(),
            expiry: Instant::FAR_FUTURE,
        }
    }

    pub(super) fn is_credited(&self) -> bool {
        self.delivery != Delivery::Unreliable
    }

    /// Number of the next message that will be queued: how many there were.
    pub(super) fn count(&self) -> u64 {
        self.first + self.records.len() as u64
    }

    /// Credit that was used since the start.
    pub(super) fn credited(&self) -> u64 {
        self.credited
    }

    /// Bytes that wait to be sent.
    pub(super) fn waiting(&self) -> u64 {
        self.waiting
    }

    /// True when no more records can be kept.
    pub(super) fn is_full(&self) -> bool {
        self.records.len() as u64 >= NUMBER_REACH
    }

    /// Nothing waits to be sent, be it new or lost.
    pub(super) fn is_drained(&self) -> bool {
        self.cursor == self.count() && self.lost.is_empty() && !self.owes_symbols()
    }

    /// True when every message has its fate and the peer knows of those that will not come.
    pub(super) fn is_settled(&self) -> bool {
        self.records.is_empty() && self.skip_acked >= self.skip_needed
    }

    /// True when the last piece may say that the stream ends: a receiver of unreliable messages
    /// stops listening there, so nothing may be on its way before it.
    pub(super) fn may_finish(&self) -> bool {
        self.is_credited() || self.in_flight == 0
    }

    /// Nothing of the stream was ever acknowledged or is on its way.
    pub(super) fn is_unheard(&self) -> bool {
        self.acked_next == 0 && self.in_flight == 0
    }

    pub(super) fn expiry(&self) -> Instant {
        self.expiry
    }

    /// Queues a message; its number.
    pub(super) fn push(
        &mut self,
        message: Message,
        lifetime: Option<Duration>,
        retransmits: Option<u32>,
        scope: &mut SendScope<'_>,
    ) -> u64 {
        let number = self.count();
        if let Some(key) = message.supersede_key {
            self.supersede(key, number, scope);
        }
        let partial = self.delivery != Delivery::Reliable;
        let lifetime = message.lifetime.or(lifetime).filter(|_| partial);
        let retransmits = match self.delivery {
            Delivery::Reliable => None,
            Delivery::Partial => message.retransmits.or(retransmits),
            Delivery::Unreliable => Some(0),
        };
        let expires = lifetime.map_or(Instant::FAR_FUTURE, |lifetime| scope.now + lifetime);
        // Sizes are checked against MESSAGE_LEN_CEILING before.
        let len = message.payload.len() as u32;
        self.waiting += u64::from(len);
        self.expiry = self.expiry.min(expires);
        if self.records.capacity() == 0 {
            // Many a stream carries one message.
            self.records.reserve_exact(1);
        }
        self.records.push_back(Record {
            payload: message.payload,
            attributes: message.attributes,
            expires,
            due: expires.min(scope.now + DUE_WITHOUT_LIFETIME),
            key: message.supersede_key,
            len,
            sent: 0,
            hopes: 0,
            sending: Sending::FIRST,
            first_sent_at: scope.now,
            sent_at: scope.now,
            path: PathId::FIRST,
            is_doubled: false,
            copied_at: None,
            copies: 0,
            is_whole: false,
            was_lost: false,
            queued: 0,
            is_echoed: false,
            retransmits_max: retransmits.unwrap_or(u32::MAX),
            want_fate: message.want_fate,
            started: false,
            done: false,
            given_up: false,
            superseded: false,
            pieces: None,
            fountain: None,
        });
        number
    }

    fn index(&self, number: u64) -> Option<usize> {
        usize::try_from(number.checked_sub(self.first)?).ok()
    }

    pub(super) fn record(&self, number: u64) -> Option<&Record> {
        self.records.get(self.index(number)?)
    }

    pub(super) fn record_mut(&mut self, number: u64) -> Option<&mut Record> {
        let index = self.index(number)?;
        self.records.get_mut(index)
    }

    /// What goes next. Messages whose time is over are given up on the way.
    // spec: STR-30
    pub(super) fn next(&mut self, limit: u64, scope: &mut SendScope<'_>) -> Next {
        let again = self.next_lost(scope).or_else(|| self.next_symbol(scope));
        let next = again.unwrap_or_else(|| self.next_new(limit, scope));
        self.pop_done();
        next
    }

    fn next_lost(&mut self, scope: &mut SendScope<'_>) -> Option<Next> {
        while let Some(piece) = self.lost.front().copied() {
            let record = self.record(piece.number).filter(|record| !record.done);
            let missing = record.and_then(|record| record.missing(piece.offset, piece.len));
            let (Some(record), Some((offset, len))) = (record, missing) else {
                self.drop_lost();
                continue;
            };
            if record.expires <= scope.now {
                self.drop_lost();
                self.give_up(piece.number, MessageFate::Expired, scope);
                continue;
            }
            let due = record.due;
            let known = offset - piece.offset;
            if known > 0
                && let Some(front) = self.lost.front_mut()
            {
                front.offset += known;
                front.len -= known;
                self.waiting = self.waiting.saturating_sub(u64::from(known));
                self.note_unqueued(piece, known);
            }
            let number = piece.number;
            let (again, symbol) = (true, false);
            return Some(Next::Piece(MessagePiece { number, offset, len, again, symbol, due }));
        }
        None
    }

    fn drop_lost(&mut self) {
        if let Some(piece) = self.lost.pop_front() {
            self.note_unqueued(piece, piece.len);
            self.waiting = self.waiting.saturating_sub(u64::from(piece.len));
        }
    }

    // spec: STR-13, STR-21, STR-23
    fn next_new(&mut self, limit: u64, scope: &mut SendScope<'_>) -> Next {
        loop {
            let Some(record) = self.record(self.cursor) else { return Next::Nothing };
            if record.done || record.is_sent() {
                self.cursor += 1;
                continue;
            }
            if record.expires <= scope.now {
                self.give_up(self.cursor, MessageFate::Expired, scope);
                continue;
            }
            let (started, offset, due) = (record.started, record.sent, record.due);
            let unsent = record.len - offset;
            let mut len = unsent;
            if self.is_credited() {
                let mut own = limit.saturating_sub(self.credited);
                let mut left = scope.credit.left();
                if !started {
                    let least = MESSAGE_COST + u64::from(unsent).min(START_MIN);
                    if own < least || self.cursor >= self.confirmed + NUMBER_REACH {
                        return Next::StreamCredit;
                    }
                    if !scope.credit.may_start(u64::from(unsent)) {
                        return Next::ConnectionCredit;
                    }
                    own -= MESSAGE_COST;
                    left = left.saturating_sub(MESSAGE_COST);
                }
                if unsent > 0 && own == 0 {
                    return Next::StreamCredit;
                }
                if unsent > 0 && left == 0 {
                    return Next::ConnectionCredit;
                }
                len = u32::try_from(own.min(left)).unwrap_or(u32::MAX).min(unsent);
            }
            let number = self.cursor;
            let (again, symbol) = (false, false);
            return Next::Piece(MessagePiece { number, offset, len, again, symbol, due });
        }
    }

    /// Writes `piece`, or its start; nothing when the room is not worth a frame.
    pub(super) fn write(
        &self,
        piece: MessagePiece,
        packing: &Packing<'_>,
        finishing: bool,
        writer: &mut Writer<'_>,
    ) -> Option<Packed> {
        let record = self.record(piece.number)?;
        let len = piece.len as usize;
        let is_behind = packing.has_data && packing.open.is_none() && piece.len == record.len;
        if is_behind && len > writer.remaining() && len + HEAD_MAX <= packing.capacity {
            // Plain to see without a head: the next packet holds it uncut.
            return None;
        }
        let start = piece.offset as usize;
        let content = Content {
            number: piece.number,
            offset: piece.offset,
            total: record.len,
            attributes: record.attributes,
            data: record.payload.get(start..start + len)?,
            fins: finishing && piece.number + 1 == self.count() && self.may_finish(),
            in_reach: !piece.again && !packing.in_full && self.in_reach(piece.number),
        };
        pack(&content, packing, writer)
    }

    /// True when the low 8 bits tell the receiver which number it is: in packets that bring a number
    /// for the first time, numbers rise with the packet number, so that a packet that comes late is
    /// placed by the packets around it.
    // spec: STR-12
    fn in_reach(&self, number: u64) -> bool {
        let ahead = (number + 1).saturating_sub(self.acked_next);
        let behind = self.sent_next.saturating_sub(number + 1);
        behind == 0 && ahead <= limits::MESSAGE_NUMBER_LOW8_REACH
    }

    /// Some of the message left by this path; answers which sending of it that was.
    pub(super) fn went_by(&mut self, number: u64, path: PathId) -> Sending {
        let Some(record) = self.record_mut(number) else { return Sending::FIRST };
        record.path = path;
        record.sending
    }

    /// Notes that the first `len` bytes of `piece` went out, over a path with this round-trip time; true
    /// when they are a whole message that goes for the first time.
    pub(super) fn sent(
        &mut self,
        piece: MessagePiece,
        len: usize,
        rtt: Duration,
        scope: &mut SendScope<'_>,
    ) -> bool {
        if piece.symbol {
            self.symbol_sent(piece.number, scope.now);
            return false;
        }
        // Pieces are at most the message's 32-bit length.
        let len = len as u32;
        self.in_flight += 1;
        self.sent_next = self.sent_next.max(piece.number + 1);
        self.waiting = self.waiting.saturating_sub(u64::from(len));
        if let Some(record) = self.record_mut(piece.number) {
            record.on_sent(scope.now);
            record.is_whole = piece.offset == 0 && len == record.len;
            if let Some(fountain) = &mut record.fountain {
                fountain.on_piece_sent();
            }
        }
        if piece.again {
            if let Some(front) = self.lost.front_mut() {
                let before = *front;
                front.offset += len;
                front.len = front.len.saturating_sub(len);
                if front.len == 0 {
                    self.lost.pop_front();
                }
                self.note_unqueued(before, len.min(before.len));
            }
            self.plan_echo(piece.number, scope.now, rtt);
            return false;
        }
        let credited = self.is_credited();
        let (mut cost, mut is_whole) = (0, false);
        if let Some(record) = self.record_mut(piece.number) {
            let unsent = u64::from(record.len - record.sent);
            if credited && !record.started {
                scope.credit.start(unsent);
                cost += MESSAGE_COST;
            }
            record.started = true;
            record.sent += len;
            if credited {
                scope.credit.advance(u64::from(len));
                cost += u64::from(len);
                if record.is_sent() {
                    scope.credit.end(0);
                }
            }
            if record.is_sent() {
                is_whole = piece.offset == 0;
                self.cursor = piece.number + 1;
                self.begin_symbols(piece.number);
                self.end_unreliable(piece.number);
            }
        }
        self.credited += cost;
        is_whole
    }

    /// An unreliable message whose fate nobody asked for is done once it is sent.
    fn end_unreliable(&mut self, number: u64) {
        if self.is_credited() {
            return;
        }
        if let Some(record) = self.record_mut(number)
            && !record.want_fate
        {
            record.done = true;
            record.payload = bytes::Bytes::new();
            let key = record.key;
            self.forget_key(key, number);
            self.pop_done();
        }
    }
}
