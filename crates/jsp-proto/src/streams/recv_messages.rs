//! The receiving half of a message stream: which numbers are settled, which messages are on their
//! way together, which wait for their turn or to be read.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use jsp_wire::frame::{Attributes, MessageFrame, Skip};
use jsp_wire::{CloseCode, Delivery};

use crate::error::TransportError;

use super::assembly::Partial;
use super::config::Received;
use super::copies::Copies;
use super::credit::{MESSAGE_COST, NUMBER_REACH};
use super::gaps::COPY_BELOW;
use super::queue::Queue;

/// Marks a number whose message is complete; the other bits hold its cost.
pub(super) const COMPLETE: u32 = 1 << 31;

/// Beyond this many unread messages, small ones are copied, so that they pin no datagrams.
const UNREAD_SHARED_MAX: usize = 16;

/// A table for so many numbers is neither given back nor counted as work.
const NUMBERS_KEPT: usize = 1024;

/// What a frame did.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Taken {
    /// The application has something new to read.
    pub(super) ready: bool,
    /// Bytes that were worked through in vain, to put a message together from its symbols.
    pub(super) tried: u64,
}

/// Messages of a stream as they arrive.
#[derive(Debug)]
pub(super) struct RecvMessages {
    pub(super) delivery: Delivery,
    pub(super) ordered: bool,
    /// All numbers below are settled: complete or skipped.
    pub(super) base: u64,
    /// Cost so far of the numbers from `base` on; 0 for one that was never seen.
    pub(super) seen: VecDeque<u32>,
    /// One more than the highest number seen.
    pub(super) expected: u64,
    /// One more than the highest number of a symbol. It stands apart, as short numbers are placed by pieces alone.
    pub(super) symbols_expected: u64,
    /// Packets that brought a higher number than all before them in the order of packet numbers, and one more than
    /// that number: both rise.
    pub(super) marks: VecDeque<(u64, u64)>,
    /// The oldest marks gave way to newer ones.
    pub(super) has_lost_marks: bool,
    /// Incomplete messages by number. They may come in any order, and be as many as numbers are within reach.
    pub(super) partial: BTreeMap<u64, Partial>,
    /// Pieces of all of them that wait for what stands in front of them.
    pub(super) pieces: usize,
    /// Complete messages that wait for lower ones, by number.
    pub(super) held: BTreeMap<u64, Received>,
    pub(super) ready: Queue<Received>,
    pub(super) ready_bytes: u64,
    copies: Copies,
    /// Costs of all that was received, and of that below `base`.
    pub(super) received: u64,
    pub(super) received_below: u64,
    /// Credit of messages that were skipped and did not arrive.
    pub(super) forgiven: u64,
    pub(super) consumed: u64,
    /// How many messages there are.
    pub(super) end: Option<u64>,
    /// Bytes of unreliable messages to keep at most.
    pub(super) keep_max: u64,
}

impl RecvMessages {
    pub(super) fn new(delivery: Delivery, ordered: bool, keep_max: u64) -> Self {
        Self {
            delivery,
            ordered,
            base: 0,
            seen: VecDeque::new(),
            expected: 0,
            symbols_expected: 0,
            marks: VecDeque::new(),
            has_lost_marks: false,
            partial: BTreeMap::new(),
            pieces: 0,
            held: BTreeMap::new(),
            ready: Queue::default(),
            ready_bytes: 0,
            copies: Copies::default(),
            received: 0,
            received_below: 0,
            forgiven: 0,
            consumed: 0,
            end: None,
            keep_max,
        }
    }

    pub(super) fn is_credited(&self) -> bool {
        self.delivery != Delivery::Unreliable
    }

    /// What the peer has used of its credit, as far as we know.
    pub(super) fn position(&self) -> u64 {
        self.received.saturating_add(self.forgiven)
    }

    /// Credit that is free again.
    pub(super) fn consumed(&self) -> u64 {
        self.consumed.saturating_add(self.forgiven)
    }

    /// Bytes of the lowest incomplete message.
    pub(super) fn lowest_total(&self) -> u64 {
        self.partial.first_key_value().map_or(0, |(_, partial)| partial.total)
    }

    pub(super) fn expected(&self) -> u64 {
        self.expected
    }

    pub(super) fn has_end(&self) -> bool {
        self.end.is_some()
    }

    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Everything that comes has come.
    pub(super) fn is_complete(&self) -> bool {
        self.end.is_some_and(|end| !self.is_credited() || self.base >= end)
    }

    pub(super) fn overhead(&self) -> (u64, u64) {
        if self.seen.is_empty() {
            return (0, 0);
        }
        if !self.is_credited() {
            // What else an unreliable stream keeps is bounded by itself.
            return (0, self.crumbs());
        }
        (self.seen.len() as u64, (self.pieces + self.partial.len()) as u64)
    }

    /// Sets how many messages there are.
    // spec: STR-14
    pub(super) fn set_end(&mut self, end: u64) -> Result<(), TransportError> {
        let changed = self.end.is_some_and(|known| known != end);
        if changed || self.expected.max(self.symbols_expected).max(self.base) > end {
            return Err(TransportError::new(
                CloseCode::FINAL_SIZE,
                "the number of messages of a stream changed",
            ));
        }
        self.end = Some(end);
        if !self.is_credited() {
            self.partial.clear();
            self.pieces = 0;
            self.seen.clear();
            self.base = end;
        }
        Ok(())
    }

    pub(super) fn end_is_below(&self, number: u64) -> bool {
        self.end.is_some_and(|end| number >= end)
    }

    /// Takes a message or a fragment; `keep` says whether somebody will read it.
    pub(super) fn insert(
        &mut self,
        pn: u64,
        number: u64,
        frame: &MessageFrame<'_>,
        data: Bytes,
        keep: bool,
    ) -> Result<Taken, TransportError> {
        if self.end_is_below(number) {
            return Err(TransportError::new(
                CloseCode::FINAL_SIZE,
                "a message came after the end of its stream",
            ));
        }
        self.note_number(pn, number);
        if number < self.base {
            return Ok(Taken::default());
        }
        if self.is_credited() {
            self.insert_credited(number, frame, data, keep)
        } else {
            Ok(self.insert_unreliable(number, frame, data, keep))
        }
    }

    fn insert_credited(
        &mut self,
        number: u64,
        frame: &MessageFrame<'_>,
        data: Bytes,
        keep: bool,
    ) -> Result<Taken, TransportError> {
        let ahead = number - self.base;
        if frame.fragment.is_none() && ahead == 0 && self.seen.is_empty() {
            let cost = MESSAGE_COST.saturating_add(data.len() as u64);
            self.received = self.received.saturating_add(cost);
            self.received_below = self.received_below.saturating_add(cost);
            self.base = self.base.saturating_add(1);
            return Ok(self.deliver(number, frame.attributes, data, keep));
        }
        // spec: STR-13
        if ahead >= NUMBER_REACH {
            return Err(TransportError::new(
                CloseCode::PROTOCOL_VIOLATION,
                "a message number runs too far ahead",
            ));
        }
        let index = usize::try_from(ahead).unwrap_or(usize::MAX);
        if self.seen.len() <= index {
            self.seen.resize(index + 1, 0);
        }
        let before = self.seen.get(index).copied().unwrap_or(0);
        if before & COMPLETE != 0 {
            return Ok(Taken::default());
        }
        let (new, whole) = self.assemble(number, frame, data)?;
        let first = if before == 0 { MESSAGE_COST } else { 0 };
        let cost = first.saturating_add(new);
        self.received = self.received.saturating_add(cost);
        // Sizes stay below MESSAGE_LEN_CEILING, far from the marking bit.
        let after = before.saturating_add(u32::try_from(cost).unwrap_or(COMPLETE - 1));
        let mark = if whole.is_some() { COMPLETE } else { 0 };
        if let Some(slot) = self.seen.get_mut(index) {
            *slot = after.min(COMPLETE - 1) | mark;
        }
        Ok(match whole {
            Some((payload, attributes)) => self.complete(number, payload, attributes, keep),
            None => self.rebuild(number, keep),
        })
    }

    /// A message is whole: it is delivered, or waits for its turn.
    pub(super) fn complete(
        &mut self,
        number: u64,
        payload: Bytes,
        attributes: Attributes,
        keep: bool,
    ) -> Taken {
        if self.ordered && number != self.base {
            self.held.insert(number, Received { number, payload, attributes });
            return Taken::default();
        }
        let mut taken = self.deliver(number, attributes, payload, keep);
        taken.ready |= self.advance(keep);
        taken
    }

    /// Adds a piece; the new bytes, and the message when it is whole.
    // spec: STR-15, STR-45
    pub(super) fn assemble(
        &mut self,
        number: u64,
        frame: &MessageFrame<'_>,
        data: Bytes,
    ) -> Result<(u64, Option<(Bytes, Attributes)>), TransportError> {
        let credited = self.is_credited();
        let (offset, total) =
            frame.fragment.map_or((0, data.len() as u64), |part| (part.offset, part.total));
        let Some(partial) = self.partial.get_mut(&number) else {
            if data.len() as u64 == total {
                return Ok((total, Some((data, frame.attributes))));
            }
            let mut partial = Partial::new(number, total, frame.attributes);
            let new = partial.insert(offset, data);
            self.pieces += partial.pieces();
            self.partial.insert(number, partial);
            return Ok((new, None));
        };
        if partial.total != total {
            return Err(TransportError::new(
                CloseCode::PROTOCOL_VIOLATION,
                "the size of a message changed between its fragments",
            ));
        }
        let before = partial.pieces();
        if partial.size() == 0 {
            // Only symbols came so far.
            partial.attributes = frame.attributes;
        }
        let new = partial.insert(offset, data);
        if credited {
            // Of unreliable messages, the oldest give way instead.
            partial.gaps.check()?;
        }
        // With the first symbol all of the message was paid for.
        let new = if partial.symbols.is_some() { 0 } else { new };
        self.pieces = (self.pieces + partial.pieces()).saturating_sub(before);
        if !partial.is_complete() {
            return Ok((new, None));
        }
        let whole = self.partial.remove(&number).map(|done| {
            let attributes = done.attributes;
            (done.into_payload(), attributes)
        });
        Ok((new, whole))
    }

    pub(super) fn deliver(
        &mut self,
        number: u64,
        attributes: Attributes,
        mut payload: Bytes,
        keep: bool,
    ) -> Taken {
        let len = payload.len() as u64;
        if !keep {
            self.consumed = self.consumed.saturating_add(len + MESSAGE_COST);
            return Taken::default();
        }
        if payload.len() < COPY_BELOW && self.ready.len() >= UNREAD_SHARED_MAX {
            payload = self.copies.copy(&payload);
        }
        self.ready.push_back(Received { number, payload, attributes });
        self.ready_bytes += len;
        Taken { ready: true, tried: 0 }
    }

    /// Moves `base` over all that is complete; delivers what waited for it.
    fn advance(&mut self, keep: bool) -> bool {
        while let Some(slot) = self.seen.front().copied() {
            if slot & COMPLETE == 0 {
                break;
            }
            self.seen.pop_front();
            self.base += 1;
            self.received_below += u64::from(slot & !COMPLETE);
        }
        self.give_room_back();
        let mut ready = false;
        while self.held.first_key_value().is_some_and(|(number, _)| *number < self.base) {
            let Some((_, held)) = self.held.pop_first() else { break };
            ready |= self.deliver(held.number, held.attributes, held.payload, keep).ready;
        }
        ready
    }

    /// Room for numbers that ran far ahead is given back once they are settled: it is counted while it is used alone.
    // spec: STR-17
    fn give_room_back(&mut self) {
        let (room, used) = (self.seen.capacity(), self.seen.len());
        if room > NUMBERS_KEPT && room / 4 > used {
            self.seen.shrink_to(used * 2);
        }
    }

    /// Bytes that the table of numbers has grown by at once beyond what losses explain, since it had `before` numbers.
    // spec: STR-46
    pub(super) fn leap(&self, before: usize) -> u64 {
        let numbers = self.seen.len().saturating_sub(before).saturating_sub(NUMBERS_KEPT);
        (numbers * size_of::<u32>()) as u64
    }

    /// The sender has given messages up.
    // spec: STR-35, STR-39
    pub(super) fn skip(&mut self, skip: &Skip, keep: bool) -> Result<bool, TransportError> {
        const LIE: TransportError = TransportError::new(
            CloseCode::PROTOCOL_VIOLATION,
            "a SKIP contradicts what was received",
        );
        if self.end.is_some_and(|end| skip.floor > end) {
            return Err(TransportError::new(
                CloseCode::FINAL_SIZE,
                "a SKIP reaches beyond the end of its stream",
            ));
        }
        if skip.floor <= self.base {
            return Ok(false);
        }
        let mut below = self.received_below;
        let count = usize::try_from(skip.floor - self.base).unwrap_or(usize::MAX);
        for slot in self.seen.iter().take(count) {
            below = below.saturating_add(u64::from(slot & !COMPLETE));
        }
        let forgiven = skip.credit_below.checked_sub(below).ok_or(LIE)?;
        if forgiven < self.forgiven {
            return Err(LIE);
        }
        self.forgiven = forgiven;
        self.received_below = below;
        self.seen.drain(..count.min(self.seen.len()));
        self.base = skip.floor;
        while self.partial.first_key_value().is_some_and(|(number, _)| *number < self.base) {
            if let Some(partial) = self.pop_partial() {
                let cost = partial.charged().saturating_add(MESSAGE_COST);
                self.consumed = self.consumed.saturating_add(cost);
            }
        }
        Ok(self.advance(keep))
    }

    /// Bytes of unread messages, and of those that are incomplete or wait.
    pub(super) fn unread(&self) -> u64 {
        let partial: u64 = self.partial.values().map(Partial::held).sum();
        let held: u64 = self.held.values().map(|held| held.payload.len() as u64).sum();
        self.ready_bytes.saturating_add(partial).saturating_add(held)
    }

    /// The next message to read.
    pub(super) fn recv(&mut self) -> Option<Received> {
        let received = self.ready.pop_front()?;
        let len = received.payload.len() as u64;
        self.ready_bytes = self.ready_bytes.saturating_sub(len);
        if self.ready.is_empty() {
            self.copies.on_all_read();
        }
        if self.is_credited() {
            self.consumed = self.consumed.saturating_add(len + MESSAGE_COST);
        }
        Some(received)
    }

    /// Nobody will read: all that is complete counts as consumed.
    pub(super) fn drop_ready(&mut self) {
        while self.recv().is_some() {}
        while let Some((_, held)) = self.held.pop_first() {
            let cost = held.payload.len() as u64 + MESSAGE_COST;
            self.consumed = self.consumed.saturating_add(cost);
        }
    }

    /// The stream was reset: everything counts as consumed.
    pub(super) fn abandon(&mut self, position: u64) {
        self.ready = Queue::default();
        self.held = BTreeMap::new();
        self.partial = BTreeMap::new();
        self.pieces = 0;
        self.seen = VecDeque::new();
        self.forgiven = 0;
        self.received = position;
        self.consumed = position;
    }
}
