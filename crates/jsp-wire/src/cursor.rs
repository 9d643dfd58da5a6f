//! Total reading and writing of byte slices.

use core::fmt;

use crate::varint;

/// Why bytes are not what they claim to be. Two kinds suffice: the transport treats both as an
/// encoding error, and the difference serves whoever reads a log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DecodeError {
    /// The input ends before the value does.
    Truncated,
    /// The value is one that the format does not allow.
    Invalid,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Truncated => "the input ends inside a value",
            Self::Invalid => "the input holds a value that the format does not allow",
        })
    }
}

impl core::error::Error for DecodeError {}

/// The buffer has no room for what should be written; nothing partial is kept by frame writers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full;

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the buffer has no room for the value, or the value exceeds its field")
    }
}

impl core::error::Error for Full {}

/// Reads forward over a slice; every method is total.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts at the first byte of `bytes`.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What is not read yet.
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Bytes not read yet.
    pub const fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// True when all is read.
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next byte, left in place.
    pub fn peek(&self) -> Result<u8, DecodeError> {
        self.rest.first().copied().ok_or(DecodeError::Truncated)
    }

    /// The next byte.
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        let (first, rest) = self.rest.split_first().ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(*first)
    }

    /// The next `N` bytes as an array.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(*head)
    }

    /// The next `len` bytes.
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (head, rest) = self.rest.split_at_checked(len).ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(head)
    }

    /// All that is left.
    pub fn take_rest(&mut self) -> &'a [u8] {
        core::mem::take(&mut self.rest)
    }

    /// A big-endian 16-bit number.
    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    /// A big-endian 32-bit number.
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    /// A varint.
    pub fn varint(&mut self) -> Result<u64, DecodeError> {
        varint::read(self)
    }

    /// A varint that counts bytes of this input: anything longer than the input is an error.
    pub fn varint_len(&mut self) -> Result<usize, DecodeError> {
        usize::try_from(self.varint()?).map_err(|_| DecodeError::Truncated)
    }

    /// A varint length, then that many bytes.
    pub fn length_prefixed(&mut self) -> Result<&'a [u8], DecodeError> {
        let len = self.varint_len()?;
        self.take(len)
    }
}

/// Writes forward into a slice that it does not own.
#[derive(Debug)]
pub struct Writer<'a> {
    buf: &'a mut [u8],
    len: usize,
}

impl<'a> Writer<'a> {
    /// Starts at the first byte of `buf`.
    pub fn new(buf: &'a mut [u8]) -> Self {
        Self { buf, len: 0 }
    }

    /// Bytes written so far.
    #[allow(clippy::len_without_is_empty)]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Room that is left, in bytes.
    pub const fn remaining(&self) -> usize {
        self.buf.len().saturating_sub(self.len)
    }

    /// What has been written.
    pub fn written(&self) -> &[u8] {
        self.buf.get(..self.len).unwrap_or_default()
    }

    /// Gives back everything written after the first `len` bytes.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Runs `write`; when it fails, what it wrote is given back, so that no half value stays.
    pub fn whole<T>(
        &mut self,
        write: impl FnOnce(&mut Self) -> Result<T, Full>,
    ) -> Result<T, Full> {
        let before = self.len;
        let result = write(self);
        if result.is_err() {
            self.truncate(before);
        }
        result
    }

    /// One byte.
    pub fn u8(&mut self, value: u8) -> Result<(), Full> {
        *self.buf.get_mut(self.len).ok_or(Full)? = value;
        self.len = self.len.saturating_add(1);
        Ok(())
    }

    /// The bytes as they are.
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), Full> {
        self.reserve(bytes.len())?.copy_from_slice(bytes);
        Ok(())
    }

    /// The next `len` bytes, to be filled by the caller.
    pub fn reserve(&mut self, len: usize) -> Result<&mut [u8], Full> {
        let end = self.len.checked_add(len).ok_or(Full)?;
        let slot = self.buf.get_mut(self.len..end).ok_or(Full)?;
        self.len = end;
        Ok(slot)
    }

    /// A big-endian 16-bit number.
    pub fn u16(&mut self, value: u16) -> Result<(), Full> {
        self.bytes(&value.to_be_bytes())
    }

    /// A big-endian 32-bit number.
    pub fn u32(&mut self, value: u32) -> Result<(), Full> {
        self.bytes(&value.to_be_bytes())
    }

    /// A varint in its shortest form.
    pub fn varint(&mut self, value: u64) -> Result<(), Full> {
        varint::write(self, value)
    }

    /// A varint length, then the bytes.
    pub fn length_prefixed(&mut self, bytes: &[u8]) -> Result<(), Full> {
        self.varint(bytes.len() as u64)?;
        self.bytes(bytes)
    }
}
