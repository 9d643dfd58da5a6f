//! Symbols of a message that is not complete.

use jsp_wire::frame::Symbol;

use super::{Geometry, Holding, codec};

/// Symbols of a message that is not complete.
#[derive(Debug)]
pub(in crate::streams) struct Symbols {
    here: Holding<Vec<u8>>,
    /// With how many symbols it was last tried.
    tried: u32,
    /// Not even the most that are kept sufficed: only pieces are of use.
    is_spent: bool,
}

impl Symbols {
    /// Those of the message that this one belongs to.
    pub(in crate::streams) fn of(symbol: &Symbol<'_>) -> Option<Box<Self>> {
        let geometry = Geometry::of_symbol(symbol)?;
        let here = Holding::new(geometry, symbol.total);
        Some(Box::new(Self { here, tried: 0, is_spent: false }))
    }

    /// A piece is there.
    pub(in crate::streams) fn insert_piece(&mut self, offset: u64, len: u64) {
        self.here.insert_piece(offset, len);
    }

    /// Keeps a symbol; false when it does not belong to the others.
    // spec: FEC-21, FEC-22
    pub(in crate::streams) fn insert(&mut self, symbol: &Symbol<'_>) -> bool {
        let is_alike = Geometry::of_symbol(symbol) == Some(self.here.geometry);
        if !is_alike || symbol.total != self.here.total {
            return false;
        }
        if !self.is_spent && !self.here.is_past_hope() {
            self.here.symbols.entry(symbol.id).or_insert_with(|| symbol.data.to_vec());
        }
        true
    }

    /// Bytes of symbols that are kept.
    pub(in crate::streams) fn kept(&self) -> u64 {
        let len = u64::from(self.here.geometry.symbol_len);
        (self.here.symbols.len() as u64).saturating_mul(len)
    }

    /// The message, when it can be put together from the symbols and these pieces, which come in order; how many bytes
    /// were worked through in vain, when it cannot.
    // spec: FEC-22
    pub(in crate::streams) fn decode<'a>(
        &mut self,
        pieces: impl Iterator<Item = (u64, &'a [u8])>,
    ) -> Result<Vec<u8>, u64> {
        let (here, count) = (&self.here, self.here.count());
        let is_enough = here.has_piece() && count >= here.geometry.sources;
        if self.is_spent || !is_enough || count <= self.tried {
            return Err(0);
        }
        self.tried = count;
        let padded = self.lay_out(pieces);
        let len = usize::from(here.geometry.symbol_len);
        let sources = (0u32..).zip(padded.chunks(len)).filter(|(id, _)| here.has(*id));
        let sources = sources.map(|(id, data)| (id, data.to_vec()));
        let kept = here.symbols.iter().map(|(id, data)| (*id, data.clone()));
        let Some(mut message) = codec::decode(here.geometry, sources.chain(kept)) else {
            if here.is_past_hope() {
                self.is_spent = true;
                self.here.symbols.clear();
            }
            return Err(padded.len() as u64);
        };
        message.truncate(usize::try_from(self.here.total).unwrap_or(usize::MAX));
        Ok(message)
    }

    /// The pieces in their places.
    fn lay_out<'a>(&self, pieces: impl Iterator<Item = (u64, &'a [u8])>) -> Vec<u8> {
        let mut padded = vec![0; self.here.geometry.padded_len()];
        for (offset, data) in pieces {
            let Ok(start) = usize::try_from(offset) else { break };
            let Some(place) = padded.get_mut(start..start.saturating_add(data.len())) else {
                break;
            };
            place.copy_from_slice(data);
        }
        padded
    }
}

#[cfg(test)]
mod tests {
    use jsp_wire::StreamId;

    use super::super::KEPT_BEYOND;
    use super::*;

    fn symbol(total: u64, id: u32, data: &[u8]) -> Symbol<'_> {
        Symbol { stream: StreamId(2), number: 0, total, id, data }
    }

    #[test]
    /// spec-test: FEC-21, FEC-22
    fn symbols_of_a_message_are_alike_and_no_more_than_it_takes() {
        let data = [7; 296];
        let mut symbols = Symbols::of(&symbol(30_000, 118, &data[..256])).unwrap();
        // Those of the message itself count too.
        symbols.insert_piece(256, 512);
        for id in 118..300 {
            assert!(symbols.insert(&symbol(30_000, id, &data[..256])));
        }
        assert_eq!(symbols.here.count(), 118 + KEPT_BEYOND);
        assert_eq!(symbols.kept(), (118 + u64::from(KEPT_BEYOND) - 2) * 256);
        assert!(!symbols.insert(&symbol(30_001, 118, &data[..256])));
        assert!(!symbols.insert(&symbol(30_000, 118, &data)));
    }
}
