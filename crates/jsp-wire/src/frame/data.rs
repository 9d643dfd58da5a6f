//! Frames that carry the application's data.
//!
//! ```text
//! BYTES    type | stream | [open] | [offset] | [length] | data
//! MESSAGE  type | stream | [open] | number | [fragment offset, total] | [attributes] | [length] | data
//!
//! shape message   stream | number's low 8 bits 1 | data
//! shape fragment  stream | number | offset | total | data
//! shape one-shot  stream | open | data
//! shape bytes     stream | offset | data
//! ```

use super::kind;
use crate::cursor::{DecodeError, Full, Reader, Writer};
use crate::stream::{Open, StreamId};
use crate::varint;

const BYTES_LEN: u64 = 1;
const BYTES_FIN: u64 = 2;
const BYTES_OFFSET: u64 = 4;
const BYTES_OPEN: u64 = 8;

const MESSAGE_LEN: u64 = 1;
const MESSAGE_FIN: u64 = 2;
const MESSAGE_FRAGMENT: u64 = 4;
const MESSAGE_OPEN: u64 = 8;
const MESSAGE_ATTRIBUTES: u64 = 16;

/// A piece of a byte stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BytesFrame<'a> {
    /// The stream.
    pub stream: StreamId,
    /// Present until the opening is known to have arrived.
    pub open: Option<Open<'a>>,
    /// Place of the first byte in the stream.
    pub offset: u64,
    /// The stream ends with this piece.
    pub fin: bool,
    /// The bytes.
    pub data: &'a [u8],
    /// Written without a length: the frame is the last of its packet.
    pub to_end: bool,
}

impl<'a> BytesFrame<'a> {
    pub(super) fn read(reader: &mut Reader<'a>, kind: u64) -> Result<Self, DecodeError> {
        let stream = StreamId(reader.varint()?);
        let open = read_open(reader, kind & BYTES_OPEN != 0)?;
        let offset = if kind & BYTES_OFFSET == 0 { 0 } else { reader.varint()? };
        let (data, to_end) = read_data(reader, kind & BYTES_LEN != 0)?;
        check_end(offset, data.len())?;
        Ok(Self { stream, open, offset, fin: kind & BYTES_FIN != 0, data, to_end })
    }

    pub(super) fn read_shape(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let stream = StreamId(reader.varint()?);
        let offset = reader.varint()?;
        let data = reader.take_rest();
        check_end(offset, data.len())?;
        Ok(Self { stream, open: None, offset, fin: false, data, to_end: true })
    }

    pub(super) fn write(&self, writer: &mut Writer<'_>) -> Result<(), Full> {
        self.write_head(writer, self.data.len())?;
        writer.bytes(self.data)
    }

    /// Writes all but the data, which the caller appends: `len` bytes of it.
    pub fn write_head(&self, writer: &mut Writer<'_>, len: usize) -> Result<(), Full> {
        let mut bits = kind::BYTES;
        bits |= if self.to_end { 0 } else { BYTES_LEN };
        bits |= if self.fin { BYTES_FIN } else { 0 };
        bits |= if self.offset == 0 { 0 } else { BYTES_OFFSET };
        bits |= if self.open.is_some() { BYTES_OPEN } else { 0 };
        writer.varint(bits)?;
        writer.varint(self.stream.0)?;
        if let Some(open) = &self.open {
            open.write(writer)?;
        }
        if self.offset != 0 {
            writer.varint(self.offset)?;
        }
        write_len(writer, self.to_end, len)
    }

    /// Writes the body of shape bytes, without the data.
    pub fn write_shape_head(&self, writer: &mut Writer<'_>) -> Result<(), Full> {
        writer.varint(self.stream.0)?;
        writer.varint(self.offset)
    }

    /// True when the frame may travel as shape bytes.
    pub const fn fits_shape(&self) -> bool {
        self.to_end && !self.fin && self.open.is_none()
    }

    /// Most bytes a frame spends beside its data and opening.
    pub fn head_len(stream: StreamId, offset: u64, data_len: usize) -> usize {
        let offset_len = if offset == 0 { 0 } else { varint::len(offset) };
        1usize
            .saturating_add(varint::len(stream.0))
            .saturating_add(offset_len)
            .saturating_add(varint::len(data_len as u64))
    }
}

/// The number of a message in its stream, as far as the frame tells it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MessageNumber {
    /// All of it.
    Full(u64),
    /// The low 8 bits; the rest follows from what the receiver expects.
    Low8(u8),
}

impl MessageNumber {
    /// The full number, given the lowest number that is higher than all seen so far in the stream.
    // spec: WIRE-15
    pub fn resolve(self, expected: u64) -> Result<u64, DecodeError> {
        match self {
            Self::Full(number) => Ok(number),
            Self::Low8(low) => {
                let number = crate::pn::expand(u32::from(low), 1, expected);
                if number > varint::MAX { Err(DecodeError::Invalid) } else { Ok(number) }
            }
        }
    }
}

/// Which part of a message a frame holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fragment {
    /// Place of the first byte in the message.
    pub offset: u64,
    /// Bytes of the whole message.
    pub total: u64,
}

/// What sort of message it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Default)]
pub enum Kind {
    /// The application's own.
    #[default]
    Data,
    /// About the application's data.
    Metadata,
    /// Of a signalling protocol between the applications.
    Signalling,
}

/// What a message says about itself; absent for binary data without a time.
///
/// ```text
/// bit 0 text   bit 1-2 kind   bit 3 a timestamp follows: varint, milliseconds of the sender's choice of origin
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Default)]
pub struct Attributes {
    /// UTF-8 text rather than bytes.
    pub text: bool,
    /// What sort of message it is.
    pub kind: Kind,
    /// The sender's time stamp in milliseconds.
    pub timestamp_ms: Option<u64>,
}

impl Attributes {
    // spec: WIRE-34
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let bits = reader.u8()?;
        let kind = match bits >> 1 & 3 {
            0 => Kind::Data,
            1 => Kind::Metadata,
            2 => Kind::Signalling,
            _ => return Err(DecodeError::Invalid),
        };
        if bits & 0xf0 != 0 {
            return Err(DecodeError::Invalid);
        }
        let timestamp_ms = if bits & 8 == 0 { None } else { Some(reader.varint()?) };
        Ok(Self { text: bits & 1 != 0, kind, timestamp_ms })
    }

    fn write(&self, writer: &mut Writer<'_>) -> Result<(), Full> {
        let kind = match self.kind {
            Kind::Data => 0u8,
            Kind::Metadata => 1,
            Kind::Signalling => 2,
        };
        let time = if self.timestamp_ms.is_some() { 8 } else { 0 };
        writer.u8(self.text as u8 | kind << 1 | time)?;
        self.timestamp_ms.map_or(Ok(()), |ms| writer.varint(ms))
    }

    /// True when nothing needs to be said.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Bytes that the attributes take in a frame.
    pub fn len(&self) -> usize {
        if self.is_default() {
            0
        } else {
            1usize.saturating_add(self.timestamp_ms.map_or(0, varint::len))
        }
    }

    /// True when they take no bytes.
    pub fn is_empty(&self) -> bool {
        self.is_default()
    }
}

/// A message or a fragment of one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MessageFrame<'a> {
    /// The stream.
    pub stream: StreamId,
    /// Present until the opening is known to have arrived.
    pub open: Option<Open<'a>>,
    /// The message's number in its stream.
    pub number: MessageNumber,
    /// Absent when the frame holds the whole message.
    pub fragment: Option<Fragment>,
    /// What the message says about itself; told in every fragment.
    pub attributes: Attributes,
    /// The stream ends with this message.
    pub fin: bool,
    /// The bytes.
    pub data: &'a [u8],
    /// Written without a length: the frame is the last of its packet.
    pub to_end: bool,
}

impl<'a> MessageFrame<'a> {
    pub(super) fn read(reader: &mut Reader<'a>, kind: u64) -> Result<Self, DecodeError> {
        let stream = StreamId(reader.varint()?);
        let open = read_open(reader, kind & MESSAGE_OPEN != 0)?;
        let number = MessageNumber::Full(reader.varint()?);
        let fragment =
            if kind & MESSAGE_FRAGMENT == 0 { None } else { Some(read_fragment(reader)?) };
        let attributes = if kind & MESSAGE_ATTRIBUTES == 0 {
            Attributes::default()
        } else {
            Attributes::read(reader)?
        };
        let (data, to_end) = read_data(reader, kind & MESSAGE_LEN != 0)?;
        check_fragment(fragment, data.len())?;
        let fin = kind & MESSAGE_FIN != 0;
        Ok(Self { stream, open, number, fragment, attributes, fin, data, to_end })
    }

    pub(super) fn read_shape_message(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let stream = StreamId(reader.varint()?);
        let number = MessageNumber::Low8(reader.u8()?);
        Ok(Self::plain(stream, number, None, reader.take_rest()))
    }

    pub(super) fn read_shape_fragment(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let stream = StreamId(reader.varint()?);
        let number = MessageNumber::Full(reader.varint()?);
        let fragment = Some(read_fragment(reader)?);
        let data = reader.take_rest();
        check_fragment(fragment, data.len())?;
        Ok(Self::plain(stream, number, fragment, data))
    }

    pub(super) fn read_shape_one_shot(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let stream = StreamId(reader.varint()?);
        let open = Some(Open::read(reader)?);
        let data = reader.take_rest();
        let plain = Self::plain(stream, MessageNumber::Full(0), None, data);
        Ok(Self { open, fin: true, ..plain })
    }

    const fn plain(
        stream: StreamId,
        number: MessageNumber,
        fragment: Option<Fragment>,
        data: &'a [u8],
    ) -> Self {
        let attributes = Attributes { text: false, kind: Kind::Data, timestamp_ms: None };
        Self { stream, open: None, number, fragment, attributes, fin: false, data, to_end: true }
    }

    pub(super) fn write(&self, writer: &mut Writer<'_>) -> Result<(), Full> {
        self.write_head(writer, self.data.len())?;
        writer.bytes(self.data)
    }

    /// Writes all but the data, which the caller appends: `len` bytes of it. The number must be
    /// full: its short form exists in shapes only.
    pub fn write_head(&self, writer: &mut Writer<'_>, len: usize) -> Result<(), Full> {
        let MessageNumber::Full(number) = self.number else { return Err(Full) };
        let mut bits = kind::MESSAGE;
        bits |= if self.to_end { 0 } else { MESSAGE_LEN };
        bits |= if self.fin { MESSAGE_FIN } else { 0 };
        bits |= if self.fragment.is_some() { MESSAGE_FRAGMENT } else { 0 };
        bits |= if self.open.is_some() { MESSAGE_OPEN } else { 0 };
        bits |= if self.attributes.is_default() { 0 } else { MESSAGE_ATTRIBUTES };
        writer.varint(bits)?;
        writer.varint(self.stream.0)?;
        if let Some(open) = &self.open {
            open.write(writer)?;
        }
        writer.varint(number)?;
        if let Some(fragment) = &self.fragment {
            writer.varint(fragment.offset)?;
            writer.varint(fragment.total)?;
        }
        if !self.attributes.is_default() {
            self.attributes.write(writer)?;
        }
        write_len(writer, self.to_end, len)
    }

    /// Writes the body of the shape that [`MessageFrame::shape`] names, without the data.
    pub fn write_shape_head(&self, writer: &mut Writer<'_>) -> Result<(), Full> {
        writer.varint(self.stream.0)?;
        if let Some(open) = &self.open {
            return open.write(writer);
        }
        match (self.number, self.fragment) {
            (MessageNumber::Full(number), Some(fragment)) => {
                writer.varint(number)?;
                writer.varint(fragment.offset)?;
                writer.varint(fragment.total)
            }
            (MessageNumber::Full(number), None) => writer.u8(number as u8),
            (MessageNumber::Low8(low), _) => writer.u8(low),
        }
    }

    /// The shape the frame may travel as when it is alone in its packet. The caller knows whether
    /// the number lies within reach of its low 8 bits.
    pub fn shape(&self, number_in_reach: bool) -> Option<crate::Shape> {
        if !self.to_end || !self.attributes.is_default() {
            return None;
        }
        let is_full = matches!(self.number, MessageNumber::Full(_));
        match (self.open.is_some(), self.fin, self.fragment.is_some()) {
            (true, true, false) if self.number == MessageNumber::Full(0) => {
                Some(crate::Shape::OneShot)
            }
            (false, false, true) if is_full => Some(crate::Shape::Fragment),
            (false, false, false) if number_in_reach => Some(crate::Shape::Message),
            _ => None,
        }
    }
}

fn read_open<'a>(reader: &mut Reader<'a>, present: bool) -> Result<Option<Open<'a>>, DecodeError> {
    if present { Ok(Some(Open::read(reader)?)) } else { Ok(None) }
}

fn read_fragment(reader: &mut Reader<'_>) -> Result<Fragment, DecodeError> {
    Ok(Fragment { offset: reader.varint()?, total: reader.varint()? })
}

fn read_data<'a>(reader: &mut Reader<'a>, has_len: bool) -> Result<(&'a [u8], bool), DecodeError> {
    if has_len { Ok((reader.length_prefixed()?, false)) } else { Ok((reader.take_rest(), true)) }
}

fn write_len(writer: &mut Writer<'_>, to_end: bool, len: usize) -> Result<(), Full> {
    if to_end { Ok(()) } else { writer.varint(len as u64) }
}

// spec: WIRE-16
fn check_end(offset: u64, len: usize) -> Result<(), DecodeError> {
    let end = offset.checked_add(len as u64).ok_or(DecodeError::Invalid)?;
    if end > varint::MAX { Err(DecodeError::Invalid) } else { Ok(()) }
}

// spec: WIRE-17
fn check_fragment(fragment: Option<Fragment>, len: usize) -> Result<(), DecodeError> {
    let Some(fragment) = fragment else { return Ok(()) };
    let end = fragment.offset.checked_add(len as u64).ok_or(DecodeError::Invalid)?;
    if len == 0 || end > fragment.total { Err(DecodeError::Invalid) } else { Ok(()) }
}
