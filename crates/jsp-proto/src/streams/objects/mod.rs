//! Large messages that any sufficient number of packets brings: their pieces are symbols of a fountain code, and what
//! is lost is made up for by further symbols, whichever they are.

#[cfg(not(feature = "raptorq"))]
#[path = "codec_absent.rs"]
mod codec;
#[cfg(feature = "raptorq")]
#[path = "codec_raptorq.rs"]
mod codec;

use std::collections::BTreeMap;

use jsp_wire::frame::Symbol;
use jsp_wire::limits;

use codec::Encoder;
pub(crate) use codec::IS_PRESENT;

/// What a packet holds beside a symbol, at most: acknowledgements, and the head of the frame.
const BESIDE_SYMBOL: usize = 64;

/// Symbols beyond those of the message itself with which a message is put together but once in a million.
const SURPLUS: u32 = 2;

/// Symbols that are kept beyond those of the message itself.
const KEPT_BEYOND: usize = 8;

/// How often it is looked whether a message can be put together, and how often it is tried.
const LOOKS_MAX: u32 = 16;
const TRIES_MAX: u32 = 3;

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
}

/// A message on its way out.
#[derive(Debug)]
pub(super) struct Fountain {
    geometry: Geometry,
    total: u32,
    percent: u8,
    encoder: Option<Encoder>,
    /// Symbols beyond the message itself that were made.
    made: u32,
    /// And those that are still to go.
    owed: u32,
    /// Whole symbols that the peer has.
    arrived: u32,
    /// Something was lost.
    is_short: bool,
}

impl Fountain {
    /// A message of `total` bytes in packets that have so much room; `None` where that is not worth it.
    pub(super) fn new(total: u32, capacity: usize, percent: u8) -> Option<Box<Self>> {
        let geometry = Geometry::of_message(total, capacity)?;
        Some(Box::new(Self {
            geometry,
            total,
            percent,
            encoder: None,
            made: 0,
            owed: 0,
            arrived: 0,
            is_short: false,
        }))
    }

    /// A piece that begins at `offset` is no longer than this, so that it is a symbol.
    // spec: FEC-23
    pub(super) fn piece_len(&self, offset: u32) -> u32 {
        let len = u32::from(self.geometry.symbol_len);
        len - offset % len
    }

    /// All of the message was sent once: what goes behind it without being asked for.
    // spec: FEC-23
    pub(super) fn on_sent(&mut self) {
        let ahead = self.geometry.sources.saturating_mul(u32::from(self.percent)).div_ceil(100);
        self.owed = self.owed.saturating_add(ahead);
    }

    /// Something was lost: a symbol takes its place. With the first come those that putting it together takes besides.
    // spec: FEC-23
    pub(super) fn owe(&mut self) {
        let first = if core::mem::replace(&mut self.is_short, true) { 0 } else { SURPLUS };
        self.owed = self.owed.saturating_add(1).saturating_add(first);
    }

    /// Symbols are to go.
    pub(super) fn owes(&self) -> bool {
        let left = limits::OBJECT_SYMBOL_ID_MAX - self.geometry.sources;
        self.owed > 0 && self.made < left
    }

    /// The next symbol: its id and its content.
    pub(super) fn symbol(&mut self, payload: &[u8]) -> Option<(u32, Vec<u8>)> {
        if self.encoder.is_none() {
            self.encoder = Encoder::new(self.geometry, payload);
        }
        let data = self.encoder.as_ref()?.symbol(self.made)?;
        Some((self.geometry.sources.saturating_add(self.made), data))
    }

    /// It went.
    pub(super) fn on_symbol_sent(&mut self) {
        self.made = self.made.saturating_add(1);
        self.owed = self.owed.saturating_sub(1);
    }

    /// A piece arrived; true when the message can be put together.
    // spec: FEC-23
    pub(super) fn on_piece_arrived(&mut self, offset: u32, len: u32) -> bool {
        let whole = u32::from(self.geometry.symbol_len);
        let ends = offset.saturating_add(len) == self.total;
        if offset.is_multiple_of(whole) && (len == whole || ends) {
            return self.on_symbol_arrived();
        }
        false
    }

    /// A symbol arrived; true when the message can be put together.
    pub(super) fn on_symbol_arrived(&mut self) -> bool {
        self.arrived = self.arrived.saturating_add(1);
        self.arrived >= self.geometry.sources.saturating_add(SURPLUS)
    }
}

/// Symbols of a message that is not complete.
#[derive(Debug)]
pub(super) struct Symbols {
    geometry: Geometry,
    total: u64,
    kept: BTreeMap<u32, Vec<u8>>,
    looks: u32,
    tries: u32,
    /// Symbols with which it is looked next.
    next: u64,
}

impl Symbols {
    /// Those of the message that this one belongs to.
    pub(super) fn of(symbol: &Symbol<'_>) -> Option<Box<Self>> {
        let geometry = Geometry::of_symbol(symbol)?;
        let (kept, next) = (BTreeMap::new(), u64::from(geometry.sources));
        Some(Box::new(Self { geometry, total: symbol.total, kept, looks: 0, tries: 0, next }))
    }

    /// Keeps a symbol; false when it does not belong to the others.
    // spec: FEC-21, FEC-22
    pub(super) fn insert(&mut self, symbol: &Symbol<'_>) -> bool {
        if Geometry::of_symbol(symbol) != Some(self.geometry) || symbol.total != self.total {
            return false;
        }
        if self.kept.len() < (self.geometry.sources as usize).saturating_add(KEPT_BEYOND) {
            self.kept.entry(symbol.id).or_insert_with(|| symbol.data.to_vec());
        }
        true
    }

    /// The message, when it can be put together from the symbols and these pieces, which come in order.
    // spec: FEC-22
    pub(super) fn decode<'a>(
        &mut self,
        size: u64,
        pieces: impl Iterator<Item = (u64, &'a [u8])>,
    ) -> Option<Vec<u8>> {
        let whole = u64::from(self.geometry.symbol_len);
        let hoped = size.div_ceil(whole).saturating_add(self.kept.len() as u64);
        let is_spent = self.looks >= LOOKS_MAX || self.tries >= TRIES_MAX;
        if size == 0 || hoped < self.next || is_spent {
            return None;
        }
        self.looks = self.looks.saturating_add(1);
        self.next = hoped.saturating_add(1);
        let (padded, covered) = self.lay_out(pieces);
        let there = covered.iter().filter(|there| **there).count();
        if there.saturating_add(self.kept.len()) < self.geometry.sources as usize {
            return None;
        }
        self.tries = self.tries.saturating_add(1);
        let len = usize::from(self.geometry.symbol_len);
        let sources = (0u32..).zip(padded.chunks(len)).zip(covered);
        let sources =
            sources.filter(|(_, there)| *there).map(|((id, data), _)| (id, data.to_vec()));
        let kept = self.kept.iter().map(|(id, data)| (*id, data.clone()));
        let mut message = codec::decode(self.geometry, sources.chain(kept))?;
        message.truncate(usize::try_from(self.total).ok()?);
        Some(message)
    }

    /// The pieces in their places, and which symbols are there.
    fn lay_out<'a>(&self, pieces: impl Iterator<Item = (u64, &'a [u8])>) -> (Vec<u8>, Vec<bool>) {
        let len = usize::from(self.geometry.symbol_len);
        let mut padded = vec![0; self.geometry.padded_len()];
        let mut missing = vec![len; self.geometry.sources as usize];
        for (offset, data) in pieces {
            let Ok(start) = usize::try_from(offset) else { break };
            let end = start.saturating_add(data.len());
            let Some(place) = padded.get_mut(start..end) else { break };
            place.copy_from_slice(data);
            let mut at = start;
            while at < end {
                let symbol = at / len;
                let stop = symbol.saturating_add(1).saturating_mul(len).min(end);
                if let Some(missing) = missing.get_mut(symbol) {
                    *missing = missing.saturating_sub(stop - at);
                }
                at = stop;
            }
        }
        // What the last one is filled up with.
        let filling = padded.len() as u64 - self.total.min(padded.len() as u64);
        if let Some(last) = missing.last_mut() {
            *last = last.saturating_sub(usize::try_from(filling).unwrap_or(usize::MAX));
        }
        (padded, missing.into_iter().map(|missing| missing == 0).collect())
    }
}

#[cfg(test)]
mod tests {
    use jsp_wire::StreamId;

    use super::*;

    fn symbol(total: u64, id: u32, data: &[u8]) -> Symbol<'_> {
        Symbol { stream: StreamId(2), number: 0, total, id, data }
    }

    #[test]
    /// spec-test: FEC-21, FEC-22
    fn symbols_of_a_message_are_alike_and_no_more_than_it_takes() {
        let data = [7; 296];
        let mut symbols = Symbols::of(&symbol(30_000, 118, &data[..256])).unwrap();
        for id in 118..1000 {
            assert!(symbols.insert(&symbol(30_000, id, &data[..256])));
        }
        assert_eq!(symbols.kept.len(), 118 + KEPT_BEYOND);
        assert!(!symbols.insert(&symbol(30_001, 118, &data[..256])));
        assert!(!symbols.insert(&symbol(30_000, 118, &data)));
        // Whatever comes, they are looked at a few times.
        for size in 1..60_000 {
            let _message = symbols.decode(size, core::iter::empty());
        }
        assert!(symbols.looks <= LOOKS_MAX && symbols.tries <= TRIES_MAX);
    }

    #[test]
    /// spec-test: FEC-23
    fn a_message_is_divided_by_the_room_of_packets() {
        assert_eq!(Geometry::of_message(50_000, 1_300), None);
        let geometry = Geometry { sources: 406, symbol_len: 1_232 };
        assert_eq!(Geometry::of_message(500_000, 1_300), Some(geometry));
        assert_eq!(Geometry::of_message(16 << 20, 1_300), None);
        assert_eq!(Geometry::of_message(500_000, 300), None);
        let mut fountain = Fountain::new(500_000, 1_300, 10).unwrap();
        assert_eq!((fountain.piece_len(0), fountain.piece_len(1_300)), (1_232, 1_164));
        assert!(!fountain.owes());
        fountain.on_sent();
        assert_eq!(fountain.owed, 41);
        fountain.owe();
        fountain.owe();
        assert_eq!(fountain.owed, 45);
        for n in 0..405 {
            assert!(!fountain.on_piece_arrived(n * 1_232, 1_232));
        }
        assert!(!fountain.on_piece_arrived(10, 100), "no whole symbol");
        assert!(!fountain.on_piece_arrived(405 * 1_232, 1_040));
        assert!(!fountain.on_symbol_arrived() && fountain.on_symbol_arrived());
    }
}
