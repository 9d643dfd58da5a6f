//! Large messages that any sufficient number of packets brings: their pieces are symbols of a fountain code, and what
//! is lost is made up for by further symbols, whichever they are.
//!
//! Both sides count by [`Holding`] what one of them has of a message, so that they agree on what is enough.

#[cfg(not(feature = "raptorq"))]
#[path = "codec_absent.rs"]
mod codec;
#[cfg(feature = "raptorq")]
#[path = "codec_raptorq.rs"]
mod codec;
mod fountain;
mod symbols;

use std::collections::BTreeMap;

use jsp_wire::frame::Symbol;
use jsp_wire::limits;

pub(crate) use codec::IS_PRESENT;
pub(super) use fountain::{Fountain, Outlook};
pub(super) use symbols::Symbols;

use super::ranges::RangeSet;

/// What a packet holds beside a symbol, at most: acknowledgements, and the head of the frame.
const BESIDE_SYMBOL: usize = 64;

/// Symbols beyond those of the message itself with which a message is put together but once in a million.
const SURPLUS: u32 = 2;

/// Symbols that are kept beyond those of the message itself: when not even they suffice, pieces must.
const KEPT_BEYOND: u32 = 8;

/// How a message is divided: within the bounds of the wire format.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Geometry {
    /// Symbols that hold the message itself.
    pub(super) sources: u32,
    /// Bytes of each.
    pub(super) symbol_len: u16,
}

impl Geometry {
    /// Of a message that goes in packets with so much room; `None` when it is too small or too large.
    // spec: FEC-23
    fn of_message(total: u32, capacity: usize) -> Option<Self> {
        let len = capacity.checked_sub(BESIDE_SYMBOL)?.min(limits::OBJECT_SYMBOL_LEN_MAX) / 8 * 8;
        let symbol_len =
            u16::try_from(len).ok().filter(|_| len >= limits::OBJECT_SYMBOL_LEN_MIN)?;
        let sources = total.div_ceil(u32::from(symbol_len));
        let range = limits::OBJECT_SYMBOLS_MIN..=limits::OBJECT_SYMBOLS_MAX;
        range.contains(&u64::from(sources)).then_some(Self { sources, symbol_len })
    }

    /// Of what a frame belongs to: its bounds are those of the wire format.
    fn of_symbol(symbol: &Symbol<'_>) -> Option<Self> {
        let sources = u32::try_from(symbol.sources()).ok()?;
        Some(Self { sources, symbol_len: u16::try_from(symbol.data.len()).ok()? })
    }

    /// Bytes of all symbols of the message itself.
    fn padded_len(self) -> usize {
        (self.sources as usize).saturating_mul(usize::from(self.symbol_len))
    }

    /// The symbols of the message itself that these bytes touch.
    fn touched(self, offset: u32, len: u32) -> std::ops::Range<u32> {
        let whole = u32::from(self.symbol_len).max(1);
        offset / whole..offset.saturating_add(len).div_ceil(whole).min(self.sources)
    }
}

/// What one side has of a message: bytes, of which some are symbols of the message itself, and further symbols, with
/// what is kept of each.
#[derive(Debug)]
struct Holding<S> {
    geometry: Geometry,
    total: u64,
    bytes: RangeSet,
    /// Symbols of the message itself that are there whole.
    sources: u32,
    symbols: BTreeMap<u32, S>,
}

impl<S> Holding<S> {
    fn new(geometry: Geometry, total: u64) -> Self {
        Self { geometry, total, bytes: RangeSet::default(), sources: 0, symbols: BTreeMap::new() }
    }

    /// Bytes of the message are there. However they were cut, what is whole counts, and once.
    fn insert_piece(&mut self, offset: u64, len: u64) {
        let (total, whole) = (self.total, u64::from(self.geometry.symbol_len).max(1));
        let end = offset.saturating_add(len).min(total);
        let count = |start: u64, end: u64| {
            let last = if end == total { end.div_ceil(whole) } else { end / whole };
            last.saturating_sub(start.div_ceil(whole))
        };
        let grown = self.bytes.insert_measured(offset, end, count);
        self.sources = self.sources.saturating_add(u32::try_from(grown).unwrap_or(u32::MAX));
    }

    /// Where a symbol of the message itself lies in it.
    fn place(&self, id: u32) -> (u64, u64) {
        let whole = u64::from(self.geometry.symbol_len);
        let start = u64::from(id).saturating_mul(whole);
        (start, start.saturating_add(whole).min(self.total))
    }

    fn has(&self, id: u32) -> bool {
        if id >= self.geometry.sources {
            return self.symbols.contains_key(&id);
        }
        let (start, end) = self.place(id);
        self.bytes.first_missing(start, end).is_none()
    }

    /// Whole symbols.
    fn count(&self) -> u32 {
        self.sources.saturating_add(u32::try_from(self.symbols.len()).unwrap_or(u32::MAX))
    }

    /// A piece is there, which tells what no symbol does: the attributes.
    fn has_piece(&self) -> bool {
        !self.bytes.is_empty()
    }

    fn is_complete(&self) -> bool {
        self.sources == self.geometry.sources
    }

    /// So many symbols, or none do it.
    fn is_past_hope(&self) -> bool {
        self.count() >= self.geometry.sources.saturating_add(KEPT_BEYOND)
    }

    fn ids(&self) -> impl Iterator<Item = u32> + '_ {
        let sources = (0..self.geometry.sources).filter(|id| self.has(*id));
        sources.chain(self.symbols.keys().copied())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    /// spec-test: FEC-23
    fn a_message_is_divided_by_the_room_of_packets() {
        assert_eq!(Geometry::of_message(50_000, 1_300), None);
        let geometry = Geometry { sources: 406, symbol_len: 1_232 };
        assert_eq!(Geometry::of_message(500_000, 1_300), Some(geometry));
        assert_eq!(Geometry::of_message(16 << 20, 1_300), None);
        assert_eq!(Geometry::of_message(500_000, 300), None);
        assert_eq!(geometry.touched(1_231, 2), 0..2);
        assert_eq!(geometry.touched(499_000, 1_000), 405..406);
    }

    proptest! {
        #[test]
        /// spec-test: FEC-22
        fn whole_symbols_count_however_they_were_cut(
            pieces in prop::collection::vec((0u64..800, 0u64..60), 0..60),
            total in 761u64..=768,
        ) {
            let geometry = Geometry { sources: 96, symbol_len: 8 };
            let mut holding = Holding::<()>::new(geometry, total);
            let mut there = [false; 1000];
            for (offset, len) in pieces {
                holding.insert_piece(offset, len);
                there[offset as usize..(offset + len) as usize].fill(true);
                let whole = |id: &usize| {
                    let end = (id * 8 + 8).min(total as usize);
                    there[id * 8..end].iter().all(|byte| *byte)
                };
                let ids: Vec<u32> = (0..96usize).filter(whole).map(|id| id as u32).collect();
                prop_assert_eq!(holding.count() as usize, ids.len());
                prop_assert_eq!(holding.ids().collect::<Vec<_>>(), ids);
            }
        }
    }
}
