//! The receiving half of a byte stream.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};
use jsp_wire::CloseCode;

use crate::error::TransportError;

use super::gaps::{COPY_BELOW, Gaps};

/// Capacity of the blocks that small unread pieces are copied into, in bytes.
const BLOCK: usize = 4096;

/// Bytes in order and not yet read, and pieces beyond the first gap.
#[derive(Default, Debug)]
pub(super) struct RecvBytes {
    ready: VecDeque<Bytes>,
    /// Small pieces behind all of `ready`.
    tail: BytesMut,
    gaps: Gaps,
    /// All below is in order.
    base: u64,
    /// One more than the highest byte seen.
    highest: u64,
    /// Bytes that were read or dropped.
    consumed: u64,
    end: Option<u64>,
}

impl RecvBytes {
    /// What the peer has used of its credit, as far as we know.
    pub(super) fn position(&self) -> u64 {
        self.highest
    }

    pub(super) fn consumed(&self) -> u64 {
        self.consumed
    }

    /// All of the stream has arrived.
    pub(super) fn is_complete(&self) -> bool {
        self.end == Some(self.base)
    }

    pub(super) fn has_end(&self) -> bool {
        self.end.is_some()
    }

    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty() || !self.tail.is_empty()
    }

    pub(super) fn pieces(&self) -> usize {
        self.gaps.len()
    }

    /// Checks that `offset..end` agrees with what is known of the stream's end.
    // spec: STR-14
    pub(super) fn check_end(&self, end: u64, fin: bool) -> Result<(), TransportError> {
        const CHANGED: TransportError =
            TransportError::new(CloseCode::FINAL_SIZE, "the end of a byte stream changed");
        match self.end {
            Some(known) if end > known || (fin && end != known) => Err(CHANGED),
            None if fin && end < self.highest => Err(CHANGED),
            _ => Ok(()),
        }
    }

    /// Checks that what waits beyond gaps is not made of crumbs.
    // spec: STR-45
    pub(super) fn check_gaps(&self) -> Result<(), TransportError> {
        self.gaps.check()
    }

    /// The stream has this many bytes.
    pub(super) fn set_end(&mut self, end: u64) -> Result<(), TransportError> {
        self.check_end(end, true)?;
        self.end = Some(end);
        Ok(())
    }

    /// Bytes in order that nobody has read, and bytes beyond the first gap.
    pub(super) fn unread(&self) -> u64 {
        (self.base - self.consumed).saturating_add(self.gaps.bytes())
    }

    /// Takes a piece that passed the checks; `keep` says whether somebody will read it.
    pub(super) fn insert(&mut self, offset: u64, mut data: Bytes, fin: bool, keep: bool) {
        let end = offset.saturating_add(data.len() as u64);
        self.highest = self.highest.max(end);
        if fin {
            self.end = Some(end);
        }
        if end <= self.base || data.is_empty() {
            return;
        }
        if offset > self.base {
            self.gaps.insert(offset, data);
        } else {
            let known = usize::try_from(self.base - offset).unwrap_or(usize::MAX);
            data.advance(known.min(data.len()));
            self.append(data);
            if !self.gaps.is_empty() {
                while let Some(data) = self.gaps.pop_at(self.base) {
                    self.append(data);
                }
            }
        }
        if !keep {
            self.drop_ready();
        }
    }

    fn append(&mut self, data: Bytes) {
        self.base = self.base.saturating_add(data.len() as u64);
        if data.len() >= COPY_BELOW || (self.ready.is_empty() && self.tail.is_empty()) {
            self.flush_tail();
            self.ready.push_back(data);
            return;
        }
        if self.tail.len() + data.len() > BLOCK {
            self.flush_tail();
        }
        self.tail.extend_from_slice(&data);
    }

    fn flush_tail(&mut self) {
        if !self.tail.is_empty() {
            self.ready.push_back(self.tail.split().freeze());
        }
    }

    /// The next bytes in order, `max` at most.
    pub(super) fn read(&mut self, max: usize) -> Option<Bytes> {
        if self.ready.is_empty() {
            self.flush_tail();
        }
        let front = self.ready.front_mut()?;
        let data = if front.len() <= max {
            self.ready.pop_front()?
        } else {
            let data = front.slice(..max);
            front.advance(max);
            data
        };
        self.consumed = self.consumed.saturating_add(data.len() as u64);
        Some(data)
    }

    /// Nobody will read: all that is there counts as consumed.
    pub(super) fn drop_ready(&mut self) {
        self.ready.clear();
        self.tail = BytesMut::new();
        self.consumed = self.base;
    }

    /// The stream was reset: everything counts as consumed.
    pub(super) fn abandon(&mut self, position: u64) {
        self.ready = VecDeque::new();
        self.tail = BytesMut::new();
        self.gaps.clear();
        self.highest = position;
        self.base = position;
        self.consumed = position;
    }
}
