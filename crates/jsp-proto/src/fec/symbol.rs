//! What a packet held, in the form in which repairs add it up.

use jsp_wire::{Shape, limits};

/// Bits of the first two bytes that tell the length; the three above tell the shape.
const LENGTH_BITS: u32 = 13;

const _: () = assert!(limits::PROTECTED_LEN_MAX < 1 << LENGTH_BITS);

/// Longest symbol, in bytes.
pub(super) const SYMBOL_LEN_MAX: usize = limits::PROTECTED_LEN_MAX + limits::SYMBOL_LENGTH_LEN;

/// Shape, length and content of a packet; empty where none of these is known.
#[derive(Clone, Debug, Default)]
pub(super) struct Symbol(Vec<u8>);

impl Symbol {
    /// Says what it stands for; the room of what it stood for before is used again. Contents that are too
    /// long are cut, which none that is protected is.
    // spec: FEC-2
    pub(super) fn set(&mut self, shape: Shape, content: &[u8]) {
        let content = content.get(..limits::PROTECTED_LEN_MAX).unwrap_or(content);
        let told = u16::from(shape.to_bits()) << LENGTH_BITS | content.len() as u16;
        self.0.clear();
        // Not more room than it takes: a receiver has one of these for each number.
        self.0.reserve_exact(content.len().saturating_add(limits::SYMBOL_LENGTH_LEN));
        self.0.extend_from_slice(&told.to_be_bytes());
        self.0.extend_from_slice(content);
    }

    /// All of it.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Reads what is followed by zeros that other symbols of a sum have left: shape, content, and the symbol
    /// itself. `None` for what cannot be.
    pub(super) fn read(padded: &[u8]) -> Option<(Shape, &[u8], Self)> {
        let (told, rest) = padded.split_first_chunk()?;
        let told = u16::from_be_bytes(*told);
        let shape = Shape::from_bits((told >> LENGTH_BITS) as u8)?;
        let content = rest.get(..usize::from(told & ((1 << LENGTH_BITS) - 1)))?;
        let len = content.len().saturating_add(limits::SYMBOL_LENGTH_LEN);
        let symbol = Self(padded.get(..len)?.to_vec());
        (!content.is_empty()).then_some((shape, content, symbol))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    /// spec-test: FEC-2
    fn a_symbol_tells_shape_length_and_content() {
        let mut symbol = Symbol::default();
        symbol.set(Shape::Fragment, &[7; 300]);
        assert_eq!(symbol.bytes()[..3], [0x81, 0x2c, 7]);
        let mut padded = symbol.bytes().to_vec();
        padded.extend([0; 9]);
        let (shape, content, read) = Symbol::read(&padded).unwrap();
        assert_eq!(
            (shape, content, read.bytes()),
            (Shape::Fragment, &[7; 300][..], symbol.bytes())
        );
        assert!(Symbol::read(&padded[..300]).is_none(), "longer than what there is");
        assert!(Symbol::read(&[0, 0, 1]).is_none(), "nothing");
        assert!(Symbol::read(&[0xe0, 1, 1]).is_none(), "the shape that is reserved");
        assert!(Symbol::read(&[1]).is_none());
    }
}
