//! One message on its way out.

use bytes::Bytes;
use jsp_wire::frame::Attributes;
use jsp_wire::{Instant, PathId};

use super::credit::MESSAGE_COST;
use super::objects::Fountain;
use super::ranges::RangeSet;
use crate::token::Sending;

/// A message between `send` and its fate.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) payload: Bytes,
    pub(super) attributes: Attributes,
    /// Worth nothing after this.
    pub(super) expires: Instant,
    /// What the real-time class sorts by.
    pub(super) due: Instant,
    pub(super) key: Option<u64>,
    /// Bytes of the message; the payload itself is dropped when the fate is known.
    pub(super) len: u32,
    /// Bytes that were sent at least once.
    pub(super) sent: u32,
    /// Pieces and copies that are waited for: on their way, and nothing has gone in their stead.
    pub(super) hopes: u16,
    /// The latest of them.
    pub(super) sending: Sending,
    /// When any of it was sent first, and last.
    pub(super) first_sent_at: Instant,
    pub(super) sent_at: Instant,
    /// The path that it took last.
    pub(super) path: PathId,
    /// It has gone by another one too.
    pub(super) is_doubled: bool,
    /// When it was last bundled because its acknowledgement was overdue.
    pub(super) copied_at: Option<Instant>,
    /// How often, since a sending of it that is itself overdue.
    pub(super) copies: u8,
    /// It was sent in one piece.
    pub(super) is_whole: bool,
    /// Some of it was held lost.
    pub(super) was_lost: bool,
    /// Pieces of it in the queue of what goes again. Which bytes they hold stands in `pieces`, if there are such; else
    /// they hold all of it.
    pub(super) queued: u32,
    /// Its last retransmission goes, or went, twice.
    pub(super) is_echoed: bool,
    /// How often a lost piece may go again.
    pub(super) retransmits_max: u32,
    pub(super) want_fate: bool,
    /// Some of it was sent, or all of an empty message.
    pub(super) started: bool,
    /// Its fate is known.
    pub(super) done: bool,
    /// Its fate is that it will not come.
    pub(super) given_up: bool,
    /// A newer message with its key exists: if lost, it stays lost.
    pub(super) superseded: bool,
    /// For messages of several pieces, once one of them is acknowledged or lost, and where losses are counted.
    pub(super) pieces: Option<Box<Pieces>>,
    /// For messages that go as symbols.
    pub(super) fountain: Option<Box<Fountain>>,
}

/// What became of the pieces of a message.
#[derive(Default, Debug)]
pub(super) struct Pieces {
    acked: RangeSet,
    acked_bytes: u64,
    /// What was lost, in rising order without overlap, and how often; kept only where that is limited.
    losses: Vec<(u32, u32, u32)>,
    /// What stands in the queue of what goes again.
    queued: RangeSet,
}

impl Pieces {
    /// How often each of these bytes was lost, at least.
    fn repeats(&self, offset: u32, end: u32) -> u32 {
        let first = self.losses.partition_point(|(_, stop, _)| *stop <= offset);
        let (mut at, mut least) = (offset, u32::MAX);
        for (start, stop, times) in self.losses.iter().skip(first) {
            if *start > at {
                break;
            }
            (at, least) = (*stop, least.min(*times));
            if at >= end {
                return least;
            }
        }
        0
    }

    /// Each of these bytes was lost so often, or more often.
    fn note_loss(&mut self, offset: u32, end: u32, times: u32) {
        if self.losses.last().is_none_or(|(_, stop, _)| *stop <= offset) {
            return self.losses.push((offset, end, times));
        }
        let first = self.losses.partition_point(|(_, stop, _)| *stop <= offset);
        match self.losses.get_mut(first) {
            Some(loss) if loss.0 == offset && loss.1 == end => {
                loss.2 = loss.2.max(times);
                return;
            }
            _ => {}
        }
        let after = self.losses.partition_point(|(start, _, _)| *start < end);
        let (mut cut, mut at) = (Vec::new(), offset);
        for (start, stop, known) in self.losses.drain(first..after) {
            let (from, to) = (start.max(offset), stop.min(end));
            cut.extend([(start, from, known), (at, from, times), (from, to, known.max(times))]);
            cut.push((to, stop, known));
            at = to;
        }
        cut.push((at, end, times));
        cut.retain(|(start, stop, _)| start < stop);
        self.losses.splice(first..first, cut);
    }
}

/// Where a lost piece ends: one of no bytes counts as one byte.
fn end_of_loss(offset: u32, len: u32) -> u32 {
    offset.saturating_add(len.max(1))
}

impl Record {
    /// Some of it leaves.
    pub(super) fn on_sent(&mut self, now: Instant) {
        self.sending = if self.started { self.sending.next() } else { Sending::FIRST };
        self.hopes |= self.sending.bit();
        self.on_symbol_sent(now);
    }

    /// All of it leaves by this path, in one piece and for the first time.
    pub(super) fn went_whole(&mut self, now: Instant, path: PathId) {
        self.on_sent(now);
        self.path = path;
        self.is_whole = true;
        self.started = true;
        self.sent = self.len;
    }

    /// A symbol of it leaves, which counts for itself.
    pub(super) fn on_symbol_sent(&mut self, now: Instant) {
        if !self.started {
            self.first_sent_at = now;
        }
        self.sent_at = now;
    }

    /// A piece has its fate, or goes again because it is in doubt: it is not waited for any more. True when a copy of
    /// the whole message still is.
    // spec: SEN-8, SEN-32
    pub(super) fn on_settled(&mut self, sending: Sending, offset: u32, len: u32) -> bool {
        self.hopes &= !sending.bit();
        self.hopes != 0 && offset == 0 && len == self.len
    }

    /// Credit that the message has used.
    pub(super) fn cost(&self) -> u64 {
        if self.started { MESSAGE_COST + u64::from(self.sent) } else { 0 }
    }

    /// All of it was sent at least once.
    pub(super) fn is_sent(&self) -> bool {
        self.started && self.sent == self.len
    }

    /// The peer has a piece; true when it now has the whole message.
    pub(super) fn acked(&mut self, offset: u32, len: u32) -> bool {
        if offset == 0 && len == self.len {
            return true;
        }
        let pieces = self.pieces_mut();
        let start = u64::from(offset);
        pieces.acked_bytes += pieces.acked.insert(start, start + u64::from(len));
        let acked_bytes = pieces.acked_bytes;
        acked_bytes >= u64::from(self.len)
    }

    fn pieces_mut(&mut self) -> &mut Pieces {
        let is_queued = self.queued > 0 && self.pieces.is_none();
        let pieces = self.pieces.get_or_insert_default();
        if is_queued {
            pieces.queued.insert(0, self.len.into());
        }
        pieces
    }

    /// Some of it stands in the queue of what goes again.
    pub(super) fn is_queued(&self) -> bool {
        self.queued > 0
    }

    /// A piece came into the queue: bytes of which none stood there.
    pub(super) fn on_queued(&mut self, offset: u32, len: u32) {
        if self.pieces.is_some() || offset != 0 || len != self.len {
            let start = u64::from(offset);
            self.pieces_mut().queued.insert(start, start + u64::from(len));
        }
        self.queued += 1;
    }

    /// The first bytes of a piece, or all, have left the queue; `ends` when all have.
    pub(super) fn on_unqueued(&mut self, offset: u32, len: u32, ends: bool) {
        let is_noted = self.pieces.is_some() || offset != 0 || len != self.len;
        // What is done has no pieces any more.
        if is_noted && !self.done {
            let start = u64::from(offset);
            self.pieces_mut().queued.remove(start, start + u64::from(len));
        }
        self.queued = self.queued.saturating_sub(u32::from(ends));
    }

    /// The first of these bytes that do not stand in the queue.
    pub(super) fn first_unqueued(&self, offset: u32, len: u32) -> Option<(u32, u32)> {
        let start = u64::from(offset);
        let end = start + u64::from(len);
        let (from, to) = match &self.pieces {
            _ if self.queued == 0 => (start, end),
            Some(pieces) if self.len > 0 => pieces.queued.first_missing(start, end)?,
            _ => return None,
        };
        // Both lie inside the piece, whose ends are 32 bits.
        Some((from as u32, (to - from) as u32))
    }

    /// Symbols of it are to go.
    // spec: STR-33
    pub(super) fn owes_symbols(&self) -> bool {
        let is_open = !self.done && !self.superseded;
        is_open && self.fountain.as_ref().is_some_and(|fountain| fountain.owes())
    }

    /// It goes once more, although nothing of it is held lost: that counts where it is bounded.
    pub(super) fn spend_retransmit(&mut self) {
        if self.retransmits_max != u32::MAX {
            self.retransmits_max = self.retransmits_max.saturating_sub(1);
        }
    }

    /// How often a piece went again because it, or what holds it, was lost or in doubt; kept only where that is limited.
    pub(super) fn repeats(&self, offset: u32, len: u32) -> u32 {
        self.pieces.as_ref().map_or(0, |pieces| pieces.repeats(offset, end_of_loss(offset, len)))
    }

    /// A piece was lost, or is in doubt; true when it may go again, which then counts.
    // spec: STR-31
    pub(super) fn may_repeat(&mut self, offset: u32, len: u32) -> bool {
        if self.retransmits_max == u32::MAX {
            return true;
        }
        let before = self.repeats(offset, len);
        if before >= self.retransmits_max {
            return false;
        }
        self.pieces_mut().note_loss(offset, end_of_loss(offset, len), before + 1);
        true
    }

    /// The first part of a piece that the peer is not known to have.
    pub(super) fn missing(&self, offset: u32, len: u32) -> Option<(u32, u32)> {
        let Some(pieces) = &self.pieces else { return Some((offset, len)) };
        if len == 0 {
            return Some((offset, len));
        }
        let start = u64::from(offset);
        let (from, to) = pieces.acked.first_missing(start, start + u64::from(len))?;
        // Both lie inside the piece, whose ends are 32 bits.
        Some((from as u32, (to - from) as u32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn losses_are_counted_for_each_byte(
            lost in prop::collection::vec((0u32..60, 1u32..30), 1..40),
            (offset, len) in (0u32..60, 1u32..30),
        ) {
            let (mut pieces, mut counts) = (Pieces::default(), [0u32; 100]);
            for (offset, len) in lost {
                let bytes = &mut counts[offset as usize..(offset + len) as usize];
                let before = *bytes.iter().min().unwrap();
                prop_assert_eq!(pieces.repeats(offset, offset + len), before);
                pieces.note_loss(offset, offset + len, before + 1);
                bytes.iter_mut().for_each(|count| *count = (*count).max(before + 1));
                prop_assert!(pieces.losses.is_sorted_by(|a, b| a.1 <= b.0));
            }
            let least = counts[offset as usize..(offset + len) as usize].iter().min();
            prop_assert_eq!(Some(&pieces.repeats(offset, offset + len)), least);
        }
    }
}
