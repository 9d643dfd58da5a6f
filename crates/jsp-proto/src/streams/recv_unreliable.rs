//! Short numbers, and what differs for unreliable messages as they arrive: a window of numbers that
//! slides by itself, and bounds that the oldest give way to.

use bytes::Bytes;
use jsp_wire::frame::{MessageFrame, MessageNumber};
use jsp_wire::limits;

use super::assembly::Partial;
use super::credit::MESSAGE_COST;
use super::gaps::{PIECE_LEN_MIN, PIECES_ALWAYS};
use super::recv_messages::{COMPLETE, RecvMessages, Taken};
use crate::error::TransportError;

/// Numbers below the highest that an unreliable stream still takes, in messages.
const UNRELIABLE_REACH: u64 = 1024;

/// Packets that are remembered to place short numbers in packets that come late: as late as forward
/// error correction brings them.
const MARKS_MAX: usize = limits::REPAIR_REACH;

/// Unreliable messages that may be incomplete at once.
const UNRELIABLE_PARTIAL_MAX: usize = 64;

impl RecvMessages {
    /// The number of a message in packet `pn`; `None` when it came too late to tell.
    ///
    /// A short number is used only the first time that a message is sent, and messages are first sent
    /// in order, so the highest number in the packets before `pn` tells which of the possible
    /// numbers it is, however late it comes.
    // spec: STR-18
    pub(super) fn resolve(
        &self,
        pn: u64,
        number: MessageNumber,
    ) -> Result<Option<u64>, TransportError> {
        if let MessageNumber::Full(number) = number {
            return Ok(Some(number));
        }
        let before = self.marks.iter().rev().find(|mark| mark.0 < pn).map(|mark| mark.1);
        match before {
            Some(expected) => Ok(Some(number.resolve(expected)?)),
            None if !self.has_lost_marks => Ok(Some(number.resolve(0)?)),
            None => Ok(None),
        }
    }

    /// Notes the number of a message in packet `pn`. Number 0 is what is known without a mark, which
    /// keeps streams of one message free of them.
    // spec: STR-18
    pub(super) fn note_number(&mut self, pn: u64, number: u64) {
        let next = number.saturating_add(1);
        self.expected = self.expected.max(next);
        match self.marks.back_mut() {
            Some(last) if last.0 > pn => return self.note_late(pn, next),
            Some(last) if last.1 >= next => return,
            Some(last) if last.0 == pn => {
                last.1 = next;
                return;
            }
            None if number == 0 => return,
            _ => {}
        }
        if self.marks.len() >= MARKS_MAX {
            self.marks.pop_front();
            self.has_lost_marks = true;
        }
        self.marks.push_back((pn, next));
    }

    /// The same of a packet that others overtook: it may tell more than the marks of those.
    fn note_late(&mut self, pn: u64, next: u64) {
        let mut at = self.marks.partition_point(|mark| mark.0 < pn);
        // Marks rise by both: from here on they tell more than this packet.
        let above = self.marks.partition_point(|mark| mark.0 < pn || mark.1 <= next);
        let before = at.checked_sub(1).and_then(|before| self.marks.get(before));
        let is_known = before.map_or(next <= 1, |mark| mark.1 >= next)
            || self.marks.get(above).is_some_and(|mark| mark.0 == pn);
        // In front of all marks, it might tell less than one that is lost.
        if is_known || (self.has_lost_marks && above == 0) {
            return;
        }
        self.marks.drain(at..above);
        if self.marks.len() >= MARKS_MAX {
            self.has_lost_marks = true;
            let Some(left) = at.checked_sub(1) else { return };
            self.marks.pop_front();
            at = left;
        }
        self.marks.insert(at, (pn, next));
    }

    pub(super) fn insert_unreliable(
        &mut self,
        number: u64,
        frame: &MessageFrame<'_>,
        data: Bytes,
        keep: bool,
    ) -> Taken {
        if number - self.base >= UNRELIABLE_REACH {
            self.raise_base(number - UNRELIABLE_REACH + 1);
        }
        let index = usize::try_from(number - self.base).unwrap_or(usize::MAX);
        if self.seen.len() <= index {
            self.seen.resize(index + 1, 0);
        }
        match self.seen.get_mut(index) {
            Some(slot) if *slot & COMPLETE == 0 => *slot = 1,
            _ => return Taken::default(),
        }
        // A total that changes makes the message worthless, not the connection.
        let Ok((_, whole)) = self.assemble(number, frame, data) else { return Taken::default() };
        let Some((payload, attributes)) = whole else {
            self.evict();
            return Taken::default();
        };
        if let Some(slot) = self.seen.get_mut(index) {
            *slot = COMPLETE;
        }
        if self.ordered {
            self.raise_base(number + 1);
        }
        if !keep {
            return Taken::default();
        }
        let taken = self.deliver(number, attributes, payload, keep);
        // spec: STR-36
        let over = |s: &Self| s.ready_bytes + s.ready.len() as u64 * MESSAGE_COST > s.keep_max;
        while self.ready.len() > 1 && over(self) {
            if let Some(dropped) = self.ready.pop_front() {
                self.ready_bytes = self.ready_bytes.saturating_sub(dropped.payload.len() as u64);
            }
        }
        taken
    }

    pub(super) fn raise_base(&mut self, base: u64) {
        let by = usize::try_from(base.saturating_sub(self.base)).unwrap_or(usize::MAX);
        self.seen.drain(..by.min(self.seen.len()));
        self.base = self.base.max(base);
        while self.partial.first_key_value().is_some_and(|(number, _)| *number < self.base) {
            self.pop_partial();
        }
    }

    pub(super) fn pop_partial(&mut self) -> Option<Partial> {
        let (_, partial) = self.partial.pop_first()?;
        self.pieces = self.pieces.saturating_sub(partial.pieces());
        Some(partial)
    }

    /// Pieces that weigh too little for what a record of each takes.
    pub(super) fn crumbs(&self) -> u64 {
        if self.pieces == 0 {
            return 0;
        }
        let bytes: u64 = self.partial.values().map(Partial::size).sum();
        (self.pieces as u64).saturating_sub(bytes / PIECE_LEN_MIN)
    }

    /// Keeps incomplete unreliable messages within bounds: the oldest go first.
    // spec: STR-36
    pub(super) fn evict(&mut self) {
        let mut bytes: u64 = self.partial.values().map(Partial::size).sum();
        while self.partial.len() > UNRELIABLE_PARTIAL_MAX
            || (self.partial.len() > 1 && bytes > self.keep_max)
            || self.pieces as u64 > PIECES_ALWAYS.saturating_add(bytes / PIECE_LEN_MIN)
        {
            let Some(oldest) = self.pop_partial() else { break };
            bytes = bytes.saturating_sub(oldest.size());
            let index = usize::try_from(oldest.number.saturating_sub(self.base));
            // Fragments that still come are not put together again.
            if let Some(slot) = index.ok().and_then(|index| self.seen.get_mut(index)) {
                *slot = COMPLETE;
            }
        }
    }
}
