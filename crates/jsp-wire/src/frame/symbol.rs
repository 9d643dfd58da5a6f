//! A symbol of a large message: see chapter 8.4 of the specification.

use super::kind;
use crate::cursor::{DecodeError, Full, Reader, Writer};
use crate::limits;
use crate::stream::StreamId;

/// A sum over all of a message, from which it can be put together with pieces and other symbols.
///
/// ```text
/// SYMBOL  type | stream | number | total | id | length | data
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Symbol<'a> {
    /// The stream.
    pub stream: StreamId,
    /// The message's number in its stream.
    pub number: u64,
    /// Bytes of the whole message.
    pub total: u64,
    /// Which symbol it is, counted from the first one that holds a part of the message itself.
    pub id: u32,
    /// The symbol.
    pub data: &'a [u8],
}

impl<'a> Symbol<'a> {
    // spec: FEC-20
    pub(super) fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let stream = StreamId(reader.varint()?);
        let number = reader.varint()?;
        let total = reader.varint()?;
        let id = u32::try_from(reader.varint()?).map_err(|_| DecodeError::Invalid)?;
        let symbol = Self { stream, number, total, id, data: reader.length_prefixed()? };
        if symbol.is_valid() { Ok(symbol) } else { Err(DecodeError::Invalid) }
    }

    pub(super) fn write(&self, writer: &mut Writer<'_>) -> Result<(), Full> {
        if !self.is_valid() {
            return Err(Full);
        }
        writer.varint(kind::SYMBOL)?;
        writer.varint(self.stream.0)?;
        writer.varint(self.number)?;
        writer.varint(self.total)?;
        writer.varint(u64::from(self.id))?;
        writer.length_prefixed(self.data)
    }

    /// Symbols that hold the message itself; the last one is filled with zeros.
    pub fn sources(&self) -> u64 {
        self.total.div_ceil((self.data.len() as u64).max(1))
    }

    fn is_valid(&self) -> bool {
        let len = self.data.len();
        let fits = (limits::OBJECT_SYMBOL_LEN_MIN..=limits::OBJECT_SYMBOL_LEN_MAX).contains(&len);
        let sources = self.sources();
        let range = limits::OBJECT_SYMBOLS_MIN..=limits::OBJECT_SYMBOLS_MAX;
        fits && len.is_multiple_of(8)
            && range.contains(&sources)
            && u64::from(self.id).checked_sub(sources).is_some_and(|beyond| {
                beyond < sources.saturating_add(limits::OBJECT_SYMBOLS_BEYOND)
            })
    }
}
