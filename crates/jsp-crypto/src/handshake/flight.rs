//! The flight of a server: its extensions, who it is, and what proves both.

use super::codec::Reader;
use super::messages::{EXTENSIONS, IDENTITY, MAX_FLIGHT_LEN, peek_kind, unframe};
use super::proof::{self, Claim};

/// A server flight taken apart.
pub(super) struct Flight<'a> {
    pub(super) extensions_message: &'a [u8],
    pub(super) extensions: &'a [u8],
    /// Absent where the connection is resumed.
    pub(super) claim: Option<Claim<'a>>,
    pub(super) finished_message: &'a [u8],
    pub(super) finished: &'a [u8],
}

impl<'a> Flight<'a> {
    /// `None` for what has not the form of one.
    pub(super) fn read(message: &'a [u8]) -> Option<Self> {
        if message.len() > MAX_FLIGHT_LEN {
            return None;
        }
        let mut reader = Reader::new(message);
        let (extensions_message, extensions) = unframe(&mut reader, EXTENSIONS)?;
        let is_signed = peek_kind(&reader) == Some(IDENTITY);
        let claim = if is_signed { Some(Claim::read(&mut reader)?) } else { None };
        let (finished_message, finished) = proof::read_finished(&mut reader)?;
        Some(Self { extensions_message, extensions, claim, finished_message, finished })
    }
}
