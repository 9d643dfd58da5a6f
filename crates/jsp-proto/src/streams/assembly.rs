//! Putting a message of several pieces together.

use bytes::{Bytes, BytesMut};
use jsp_wire::frame::Attributes;

use super::gaps::Gaps;
use super::objects::Symbols;

/// A message of which some pieces are missing.
#[derive(Debug)]
pub(super) struct Partial {
    pub(super) number: u64,
    pub(super) total: u64,
    pub(super) attributes: Attributes,
    /// The contiguous start.
    pub(super) start: BytesMut,
    pub(super) gaps: Gaps,
    /// Present once a symbol of it came.
    pub(super) symbols: Option<Box<Symbols>>,
}

impl Partial {
    /// Nothing of a message of `total` bytes yet.
    pub(super) fn new(number: u64, total: u64, attributes: Attributes) -> Self {
        let (start, gaps) = (BytesMut::new(), Gaps::default());
        Self { number, total, attributes, start, gaps, symbols: None }
    }

    /// Takes a fragment; how many of its bytes were new.
    pub(super) fn insert(&mut self, offset: u64, data: Bytes) -> u64 {
        let base = self.start.len() as u64;
        let end = offset.saturating_add(data.len() as u64);
        if let Some(symbols) = &mut self.symbols {
            symbols.insert_piece(offset, data.len() as u64);
        }
        if end <= base {
            return 0;
        }
        if offset > base {
            return self.gaps.insert(offset, data);
        }
        let known = usize::try_from(base - offset).unwrap_or(usize::MAX);
        // What the gaps hold already is not new.
        let mut new = 0;
        let mut rest = data.slice(known.min(data.len())..);
        if self.gaps.is_empty() {
            new = rest.len() as u64;
            self.append(&rest);
            return new;
        }
        let at = base;
        new += self.gaps.insert(at, std::mem::take(&mut rest));
        while let Some(piece) = self.gaps.pop_at(self.start.len() as u64) {
            self.append(&piece);
        }
        new
    }

    fn append(&mut self, data: &[u8]) {
        let missing = self.start.capacity() - self.start.len();
        if missing < data.len() {
            let total = usize::try_from(self.total).unwrap_or(usize::MAX);
            let left = total.saturating_sub(self.start.len());
            // No more than what has come: a message may be said to be long and never come.
            let grown = self.start.len().max(data.len());
            self.start.reserve(grown.min(left).max(data.len()));
        }
        self.start.extend_from_slice(data);
    }

    pub(super) fn is_complete(&self) -> bool {
        self.start.len() as u64 == self.total
    }

    /// Bytes that have arrived.
    pub(super) fn size(&self) -> u64 {
        (self.start.len() as u64).saturating_add(self.gaps.bytes())
    }

    /// Bytes that are kept of it, those of symbols among them.
    pub(super) fn held(&self) -> u64 {
        let kept = self.symbols.as_ref().map_or(0, |symbols| symbols.kept());
        self.size().saturating_add(kept)
    }

    /// Bytes that it has used of the credit.
    pub(super) fn charged(&self) -> u64 {
        if self.symbols.is_some() { self.total } else { self.size() }
    }

    /// Pieces that wait for what stands in front of them.
    pub(super) fn pieces(&self) -> usize {
        self.gaps.len()
    }

    /// The message, once it is complete.
    pub(super) fn into_payload(self) -> Bytes {
        self.start.freeze()
    }
}
