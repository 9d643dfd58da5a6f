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
    /// Pieces of it in the queue of what goes again.
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
    /// For messages of several pieces, once one of them is acknowledged or lost.
    pub(super) pieces: Option<Box<Pieces>>,
    /// For messages that go as symbols.
    pub(super) fountain: Option<Box<Fountain>>,
}

/// What became of the pieces of a message.
#[derive(Default, Debug)]
pub(super) struct Pieces {
    acked: RangeSet,
    acked_bytes: u64,
    /// Lost pieces and how often each was lost; kept only where that is limited.
    losses: Vec<(u32, u32, u32)>,
}

impl Record {
    /// Some of it leaves.
    pub(super) fn on_sent(&mut self, now: Instant) {
        self.sending = if self.started { self.sending.next() } else { Sending::FIRST };
        self.hopes |= self.sending.bit();
        self.on_symbol_sent(now);
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
        let pieces = self.pieces.get_or_insert_default();
        let start = u64::from(offset);
        pieces.acked_bytes += pieces.acked.insert(start, start + u64::from(len));
        pieces.acked_bytes >= u64::from(self.len)
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
        let end = offset.saturating_add(len);
        let losses = self.pieces.iter().flat_map(|pieces| &pieces.losses);
        let around = losses.filter(|(start, stop, _)| *start <= offset && end <= *stop);
        around.map(|(_, _, times)| *times).max().unwrap_or(0)
    }

    /// A piece was lost, or is in doubt; true when it may go again, which then counts.
    // spec: STR-31
    pub(super) fn may_repeat(&mut self, offset: u32, len: u32) -> bool {
        if self.retransmits_max == u32::MAX {
            return true;
        }
        let (end, before) = (offset.saturating_add(len), self.repeats(offset, len));
        if before >= self.retransmits_max {
            return false;
        }
        let pieces = self.pieces.get_or_insert_default();
        match pieces.losses.iter_mut().find(|(start, stop, _)| *start == offset && *stop == end) {
            Some(loss) => loss.2 = before + 1,
            None => pieces.losses.push((offset, end, before + 1)),
        }
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
