//! What forward error correction says: the content of a REPAIR frame, and the section of an ACK that
//! names recovered packets.
//!
//! ```text
//! repair     abandons (1 bit) back (7 bits) | span 1 | members ceil(span / 8) | symbol
//! recovered  gap | gap ...
//! ```

use super::{Frame, kind};
use crate::cursor::{DecodeError, Full, Reader, Writer};
use crate::{limits, varint};

/// What forward error correction protects of a payload of shape 0: all but the ACK frames that it begins
/// with, and the REPAIR frame and what may follow it. Payloads of other shapes are protected whole.
///
/// # Errors
/// When the frames cannot be read.
// spec: FEC-2
pub fn protected_part(payload: &[u8]) -> Result<&[u8], DecodeError> {
    let mut reader = Reader::new(payload);
    let (mut from, mut is_front) = (0usize, true);
    while !reader.is_empty() {
        let at = payload.len().saturating_sub(reader.remaining());
        match Frame::read(&mut reader)? {
            Frame::Ack(_) if is_front => {
                from = payload.len().saturating_sub(reader.remaining());
            }
            Frame::Repair(_) => return Ok(payload.get(from..at).unwrap_or_default()),
            _ => is_front = false,
        }
    }
    Ok(payload.get(from..).unwrap_or_default())
}

/// The bit of the first byte that says [`Repair::abandons`]; the others are [`Repair::back`].
const ABANDONS: u8 = 0x80;

/// A repair symbol and the packets that it is made of, which have lower packet numbers than the packet
/// it stands in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Repair<'a> {
    /// How far the highest member lies below the packet that holds the repair: 1 is the one before.
    pub back: u8,
    /// What the repair leaves out of its size class, below the packet that holds it, is not to be put together
    /// any more.
    pub abandons: bool,
    /// Bit `n` stands for the number `n` below the highest member; bit 0 is set.
    pub members: u128,
    /// The combination of the members.
    pub symbol: &'a [u8],
}

/// Writes what stands before the content of a REPAIR frame whose content has `len` bytes: 4 bytes, so that they
/// can be left free until it has been written.
///
/// # Errors
/// [`Full`] when there is no room, or when the content is longer than 16383 bytes.
pub fn write_repair_head(writer: &mut Writer<'_>, len: usize) -> Result<(), Full> {
    writer.varint(kind::REPAIR)?;
    varint::write_two_bytes(writer, len as u64)
}

impl<'a> Repair<'a> {
    /// Reads the content of a frame.
    // spec: FEC-4
    pub fn read(content: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(content);
        let (first, span) = (reader.u8()?, reader.u8()?);
        let (abandons, back) = (first & ABANDONS != 0, first & !ABANDONS);
        let reach = usize::from(back).saturating_add(usize::from(span));
        if back == 0 || span == 0 || reach > limits::REPAIR_REACH {
            return Err(DecodeError::Invalid);
        }
        let mut bytes = [0; 16];
        let named = reader.take(usize::from(span).div_ceil(8))?;
        bytes.get_mut(..named.len()).ok_or(DecodeError::Invalid)?.copy_from_slice(named);
        let members = u128::from_le_bytes(bytes);
        let symbol = reader.take_rest();
        let repair = Self { back, abandons, members, symbol };
        let is_exact = members & 1 == 1 && repair.span() == u32::from(span);
        if is_exact && symbol.len() > limits::SYMBOL_LENGTH_LEN {
            Ok(repair)
        } else {
            Err(DecodeError::Invalid)
        }
    }

    /// Numbers from the lowest member to the highest.
    pub const fn span(&self) -> u32 {
        u128::BITS.saturating_sub(self.members.leading_zeros())
    }

    /// Bytes before the symbol.
    pub const fn head_len(&self) -> usize {
        (self.span() as usize).div_ceil(8).saturating_add(2)
    }

    /// Writes what stands before the content in a frame, whose symbol has `symbol_len` bytes.
    ///
    /// # Errors
    /// [`Full`] when there is no room.
    pub fn write_frame_head(&self, writer: &mut Writer<'_>, symbol_len: usize) -> Result<(), Full> {
        writer.varint(kind::REPAIR)?;
        writer.varint(self.head_len().saturating_add(symbol_len) as u64)
    }

    /// Writes what stands before the symbol.
    ///
    /// # Errors
    /// [`Full`] when there is no room, or the members are out of reach.
    // spec: FEC-4
    pub fn write_head(&self, writer: &mut Writer<'_>) -> Result<(), Full> {
        let span = self.span();
        let reach = span.saturating_add(u32::from(self.back));
        if self.back == 0 || self.members & 1 == 0 || reach > limits::REPAIR_REACH as u32 {
            return Err(Full);
        }
        let bytes = self.members.to_le_bytes();
        writer.u8(self.back | if self.abandons { ABANDONS } else { 0 })?;
        writer.u8(u8::try_from(span).map_err(|_| Full)?)?;
        writer.bytes(bytes.get(..(span as usize).div_ceil(8)).ok_or(Full)?)
    }
}

/// The packet numbers of the section `recovered`, from the highest down. A number that cannot be ends
/// the list.
#[derive(Clone, Debug)]
pub struct RecoveredNumbers<'a> {
    reader: Reader<'a>,
    /// What the next gap is counted from, if anything can follow.
    from: Option<u64>,
    left: usize,
}

impl<'a> RecoveredNumbers<'a> {
    /// Reads the section of an ACK whose largest number is `largest`.
    // spec: FEC-7
    pub fn read(section: &'a [u8], largest: u64) -> Result<Self, DecodeError> {
        let mut numbers = Self {
            reader: Reader::new(section),
            from: Some(largest),
            left: limits::RECOVERED_NUMBERS_MAX,
        };
        let whole = numbers.clone();
        while numbers.next().is_some() {}
        if numbers.reader.is_empty() { Ok(whole) } else { Err(DecodeError::Invalid) }
    }
}

impl Iterator for RecoveredNumbers<'_> {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        if self.reader.is_empty() || self.left == 0 {
            return None;
        }
        let mut ahead = self.reader;
        let number = self.from?.checked_sub(ahead.varint().ok()?)?;
        self.reader = ahead;
        self.left = self.left.saturating_sub(1);
        self.from = number.checked_sub(1);
        Some(number)
    }
}

/// Writes the section: numbers that fall, none above `largest`; as many as fit.
// spec: FEC-7
pub fn write_recovered(writer: &mut Writer<'_>, largest: u64, numbers: impl Iterator<Item = u64>) {
    let mut from = Some(largest);
    for number in numbers.take(limits::RECOVERED_NUMBERS_MAX) {
        let Some(gap) = from.and_then(|from| from.checked_sub(number)) else { return };
        if writer.varint(gap).is_err() {
            return;
        }
        from = number.checked_sub(1);
    }
}
