//! Type-length-value lists: `id varint | length varint | value`, repeated.
//!
//! The low bit of an id says what a receiver that does not know it must do: even ids are critical
//! and refuse the whole list, odd ids are ignorable. Ids of the form `31 * n + 29` with an odd
//! result are reserved for greasing (RFC 8701's idea) and are never given a meaning.

use crate::cursor::{DecodeError, Full, Reader, Writer};
use crate::limits;

/// One entry of a list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tlv<'a> {
    /// What the value is.
    pub id: u64,
    /// The value's bytes.
    pub value: &'a [u8],
}

impl Tlv<'_> {
    /// True when a receiver that does not know the id must refuse the list.
    // spec: WIRE-20
    pub const fn is_critical(&self) -> bool {
        self.id & 1 == 0
    }

    /// The value as one varint and nothing more.
    pub fn as_varint(&self) -> Result<u64, DecodeError> {
        let mut reader = Reader::new(self.value);
        let value = reader.varint()?;
        if reader.is_empty() { Ok(value) } else { Err(DecodeError::Invalid) }
    }
}

/// True for ids that exist only to keep receivers honest.
// spec: WIRE-29
pub const fn is_grease(id: u64) -> bool {
    id >= 29 && id & 1 == 1 && id.wrapping_sub(29).is_multiple_of(31)
}

/// The `n`-th grease id (odd, so ignorable).
pub const fn grease_id(n: u16) -> u64 {
    // 29 + 62 n is odd for each n and congruent to 29 modulo 31.
    29u64.saturating_add(62u64.saturating_mul(n as u64))
}

/// Iterates over a list; ends after the first error.
#[derive(Clone, Debug)]
pub struct TlvIter<'a> {
    reader: Reader<'a>,
    failed: bool,
}

impl<'a> TlvIter<'a> {
    /// Reads the list that fills `bytes`.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { reader: Reader::new(bytes), failed: false }
    }

    fn read(&mut self) -> Result<Tlv<'a>, DecodeError> {
        Ok(Tlv { id: self.reader.varint()?, value: self.reader.length_prefixed()? })
    }
}

impl<'a> Iterator for TlvIter<'a> {
    type Item = Result<Tlv<'a>, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.reader.is_empty() {
            return None;
        }
        let item = self.read();
        self.failed = item.is_err();
        Some(item)
    }
}

/// Writes one entry with a value of bytes.
pub fn write(writer: &mut Writer<'_>, id: u64, value: &[u8]) -> Result<(), Full> {
    writer.varint(id)?;
    writer.length_prefixed(value)
}

/// Writes one entry whose value is a varint.
pub fn write_varint(writer: &mut Writer<'_>, id: u64, value: u64) -> Result<(), Full> {
    writer.varint(id)?;
    writer.varint(crate::varint::len(value) as u64)?;
    writer.varint(value)
}

/// Refuses a list that holds an id twice, or more than [`limits::TLV_ENTRIES_MAX`] entries.
// spec: WIRE-21
pub fn check_unique(bytes: &[u8]) -> Result<(), DecodeError> {
    for (index, entry) in TlvIter::new(bytes).enumerate() {
        // Looking for doubles is quadratic in the number of entries, so their number is bounded.
        if index >= limits::TLV_ENTRIES_MAX {
            return Err(DecodeError::Invalid);
        }
        let id = entry?.id;
        let again = TlvIter::new(bytes).take(index).any(|e| e.is_ok_and(|e| e.id == id));
        if again {
            return Err(DecodeError::Invalid);
        }
    }
    Ok(())
}
