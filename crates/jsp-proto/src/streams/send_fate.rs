//! The fates of messages: acknowledged, lost, expired, superseded, abandoned; and the floor that tells
//! the receiver of those that will not come.

use std::collections::{HashMap, VecDeque};

use jsp_wire::Instant;

use super::config::MessageFate;
use super::event::StreamEvent;
use super::record::Record;
use super::send_messages::{Lost, SendMessages, SendScope};
use crate::token::{Fate, Sending};

impl SendMessages {
    // spec: STR-33
    pub(super) fn supersede(&mut self, key: u64, by: u64, scope: &mut SendScope<'_>) {
        let Some(old) = self.keys.insert(key, by) else { return };
        let lost = self.is_queued(old);
        let Some(record) = self.record_mut(old) else { return };
        if record.done {
            return;
        }
        let waits = lost || !record.is_sent() || record.owes_symbols();
        record.superseded = true;
        if waits {
            self.give_up(old, MessageFate::Superseded, scope);
            self.pop_done();
        }
    }

    /// Ends a message that will not be sent, or not again.
    pub(super) fn give_up(&mut self, number: u64, fate: MessageFate, scope: &mut SendScope<'_>) {
        let credited = self.is_credited();
        let Some(record) = self.record_mut(number) else { return };
        if record.done {
            return;
        }
        let unsent = u64::from(record.len - record.sent);
        if credited && record.started && !record.is_sent() {
            scope.credit.end(unsent);
        }
        record.given_up = true;
        self.waiting = self.waiting.saturating_sub(unsent);
        self.settle(number, fate, scope);
    }

    pub(super) fn settle(&mut self, number: u64, fate: MessageFate, scope: &mut SendScope<'_>) {
        let Some(record) = self.record_mut(number) else { return };
        record.done = true;
        record.payload = bytes::Bytes::new();
        record.pieces = None;
        record.fountain = None;
        let key = record.key;
        if record.want_fate {
            scope.events.push_back(StreamEvent::Fate { stream: scope.stream, number, fate });
        }
        self.forget_key(key, number);
    }

    pub(super) fn forget_key(&mut self, key: Option<u64>, number: u64) {
        if let Some(key) = key
            && self.keys.get(&key) == Some(&number)
        {
            self.keys.remove(&key);
        }
    }

    pub(super) fn pop_done(&mut self) {
        let credited = self.is_credited();
        while self.records.front().is_some_and(|record| record.done) {
            let Some(record) = self.records.pop_front() else { break };
            self.first += 1;
            if credited {
                self.credited_below += record.cost();
                if record.given_up {
                    self.skip_needed = self.first;
                }
            }
        }
        self.cursor = self.cursor.max(self.first);
        if self.skip_acked >= self.skip_needed {
            self.confirmed = self.first;
        }
    }

    /// The peer has a piece: bytes of a message from `offset` on. What comes late has left flight
    /// when it was held lost.
    pub(super) fn acked(
        &mut self,
        (number, offset, len): (u64, u32, u32),
        (sending, fate): (Sending, Fate),
        scope: &mut SendScope<'_>,
    ) {
        let was_flying = fate != Fate::Late;
        self.in_flight = self.in_flight.saturating_sub(u64::from(was_flying));
        self.acked_next = self.acked_next.max(number + 1);
        let Some(record) = self.record_mut(number) else { return };
        if was_flying {
            record.on_settled(sending, offset, len);
        }
        if record.done {
            return;
        }
        if record.acked(offset, len) {
            self.settle(number, MessageFate::Acknowledged, scope);
            self.pop_done();
        } else {
            self.divided_acked((number, offset, len), fate, scope);
        }
    }

    /// The peer has `count` whole messages from `first` on.
    pub(super) fn run_acked(
        &mut self,
        first: u64,
        count: u32,
        fate: Fate,
        scope: &mut SendScope<'_>,
    ) {
        let end = first.saturating_add(u64::from(count));
        if fate != Fate::Late {
            self.in_flight = self.in_flight.saturating_sub(count.into());
        }
        self.acked_next = self.acked_next.max(end);
        for number in first.max(self.first)..end {
            if self.record(number).is_some_and(|record| !record.done) {
                self.settle(number, MessageFate::Acknowledged, scope);
            }
        }
        self.pop_done();
    }

    /// `count` whole messages from `first` on were lost.
    pub(super) fn run_lost(&mut self, first: u64, count: u32, scope: &mut SendScope<'_>) {
        for number in first..first.saturating_add(u64::from(count)) {
            let len = self.record(number).map_or(0, |record| record.len);
            self.lost((number, 0, len), Sending::FIRST, scope);
        }
    }

    /// `count` whole messages from `first` on go once more.
    pub(super) fn doubt_run(&mut self, now: Instant, first: u64, count: u32) {
        for number in first..first.saturating_add(u64::from(count)) {
            let len = self.record(number).map_or(0, |record| record.len);
            self.doubt(now, (number, 0, len), Sending::FIRST);
        }
    }

    /// A piece was lost: it goes again, or its message is given up.
    // spec: STR-30, STR-31, STR-32
    pub(super) fn lost(
        &mut self,
        (number, offset, len): (u64, u32, u32),
        sending: Sending,
        scope: &mut SendScope<'_>,
    ) {
        self.in_flight = self.in_flight.saturating_sub(1);
        let unreliable = !self.is_credited();
        let Some(record) = self.record_mut(number) else { return };
        // A copy is waited for: its fate decides.
        let has_copy = record.on_settled(sending, offset, len) && !unreliable;
        record.was_lost = true;
        if record.done || self.divided_lost((number, offset, len), scope) {
            return;
        }
        let waits = self.waits(number, offset, len);
        let Some(record) = self.record_mut(number) else { return };
        if has_copy || record.missing(offset, len).is_none() {
            return;
        }
        let fate = if unreliable {
            Some(MessageFate::Lost)
        } else if record.superseded {
            Some(MessageFate::Superseded)
        } else if record.expires <= scope.now {
            Some(MessageFate::Expired)
        } else if waits || record.may_repeat(offset, len) {
            None
        } else {
            Some(MessageFate::Lost)
        };
        let expires = record.expires;
        match fate {
            // What has not gone again since it was doubted, lost or echoed goes once, not twice.
            None if waits => {}
            None => {
                self.queue_again(Lost { number, offset, len });
                self.expiry = self.expiry.min(expires);
            }
            Some(fate) => {
                self.give_up(number, fate, scope);
                self.pop_done();
            }
        }
    }

    /// True when all of these bytes stand in the queue of what goes again.
    pub(super) fn waits(&self, number: u64, offset: u32, len: u32) -> bool {
        let record = self.record(number).filter(|record| record.is_queued());
        record.is_some_and(|record| record.first_unqueued(offset, len).is_none())
    }

    /// True when a piece of the message stands in the queue of what goes again. The queue itself is never searched: it
    /// may hold all of a long message.
    pub(super) fn is_queued(&self, number: u64) -> bool {
        self.record(number).is_some_and(Record::is_queued)
    }

    fn push_lost(&mut self, piece: Lost) {
        if let Some(record) = self.record_mut(piece.number) {
            record.on_queued(piece.offset, piece.len);
        }
        self.waiting += u64::from(piece.len);
        self.lost.push_back(piece);
    }

    /// The first `len` bytes of a piece have left the queue, or all of it.
    pub(super) fn note_unqueued(&mut self, piece: Lost, len: u32) {
        if let Some(record) = self.record_mut(piece.number) {
            record.on_unqueued(piece.offset, len, len == piece.len);
        }
    }

    /// Queues a piece to go again. What of it stands in the queue already, cut otherwise, goes once.
    pub(super) fn queue_again(&mut self, piece: Lost) {
        let mut rest = piece;
        while let Some(record) = self.record(piece.number)
            && let Some((offset, len)) = record.first_unqueued(rest.offset, rest.len)
        {
            self.push_lost(Lost { offset, len, ..piece });
            let known = (offset - rest.offset) + len;
            if known >= rest.len {
                break;
            }
            rest = Lost { offset: rest.offset + known, len: rest.len - known, ..piece };
        }
    }

    /// A piece goes once more, whatever becomes of the first; says whether it does. That counts where
    /// retransmissions are bounded.
    // spec: STR-31
    pub(super) fn doubt(
        &mut self,
        now: Instant,
        (number, offset, len): (u64, u32, u32),
        sending: Sending,
    ) -> bool {
        let waits = self.waits(number, offset, len.min(1));
        let credited = self.is_credited();
        let Some(record) = self.record_mut(number) else { return false };
        record.on_settled(sending, offset, len);
        let useless = record.done || record.superseded || record.expires <= now;
        if waits || useless || !credited || record.missing(offset, len).is_none() {
            return false;
        }
        if !record.may_repeat(offset, len) {
            return false;
        }
        if self.divided_doubt(number, offset) {
            return true;
        }
        let Some(record) = self.record(number) else { return false };
        let expires = record.expires;
        self.expiry = self.expiry.min(expires);
        self.queue_again(Lost { number, offset, len });
        true
    }

    /// Gives up what expired while it waited; computes the next expiry.
    pub(super) fn expire(&mut self, scope: &mut SendScope<'_>) {
        if self.expiry > scope.now {
            return;
        }
        let mut earliest = Instant::FAR_FUTURE;
        self.release_echoes(scope.now);
        let mut lost = std::mem::take(&mut self.lost);
        lost.retain(|piece| {
            let expires = self.record(piece.number).filter(|r| !r.done).map(|r| r.expires);
            let keep = expires.is_some_and(|expires| expires > scope.now);
            if keep {
                earliest = earliest.min(expires.unwrap_or(Instant::FAR_FUTURE));
            } else {
                self.waiting = self.waiting.saturating_sub(u64::from(piece.len));
                self.note_unqueued(*piece, piece.len);
                self.give_up(piece.number, MessageFate::Expired, scope);
            }
            keep
        });
        self.lost = lost;
        earliest = earliest.min(self.expire_symbols(scope));
        for number in self.cursor..self.count() {
            let Some(record) = self.record(number) else { break };
            if record.done || record.is_sent() {
                continue;
            }
            if record.expires <= scope.now {
                self.give_up(number, MessageFate::Expired, scope);
            } else {
                earliest = earliest.min(record.expires);
            }
        }
        self.expiry = self.echoes.iter().map(|(at, _)| *at).fold(earliest, Instant::min);
        self.pop_done();
    }

    /// True when the peer should hear of messages that will not come.
    pub(super) fn wants_skip(&self) -> bool {
        self.skip_needed > self.skip_sent.max(self.skip_acked)
    }

    /// What a SKIP says now: floor, and credit of all messages below it.
    // spec: STR-34
    pub(super) fn skip(&self) -> (u64, u64) {
        (self.first, self.credited_below)
    }

    pub(super) fn skip_sent(&mut self, floor: u64) {
        self.skip_sent = floor;
    }

    pub(super) fn skip_acked(&mut self, floor: u64) {
        self.skip_acked = self.skip_acked.max(floor);
        self.confirmed = self.confirmed.max(floor);
        self.pop_done();
    }

    pub(super) fn skip_lost(&mut self, floor: u64) {
        if self.skip_sent == floor {
            self.skip_sent = 0;
        }
    }

    /// Ends all messages; the credit that was used stays known.
    pub(super) fn abandon(&mut self, scope: &mut SendScope<'_>) {
        for number in self.first..self.count() {
            self.give_up(number, MessageFate::Abandoned, scope);
        }
        self.first = self.count();
        self.cursor = self.first;
        self.records = VecDeque::new();
        self.lost = VecDeque::new();
        self.symbols = VecDeque::new();
        self.keys = HashMap::new();
        self.echoes = VecDeque::new();
        self.waiting = 0;
        self.expiry = Instant::FAR_FUTURE;
        self.skip_needed = 0;
    }
}
