//! Packet headers: the long form of the handshake, inside the invariants of RFC 8999, and the
//! short form of everything after.
//!
//! ```text
//! long   flags 1 | version 4 | dcid_len 1 | dcid | scid_len 1 | scid
//!        | Initial only: token_len varint, token | length varint | packet number 1-4
//! retry  flags 1 | version 4 | dcid_len 1 | dcid | scid_len 1 | scid | token | integrity tag 16
//! vn     flags 1 | 0 4       | dcid_len 1 | dcid | scid_len 1 | scid | version 4 ...
//! short  flags 1 | connection id 0/4/.. | packet number 1-4
//! ```
//!
//! What is masked by header protection (the low bits of the first byte and the packet number) is
//! read in a second step, once the mask is known: see [`Protected`].

use crate::connection_id::ConnectionId;
use crate::cursor::{DecodeError, Full, Reader, Writer};
use crate::limits;
use crate::varint;

/// Bit 7 of the first byte: set in long headers.
const FORM_LONG: u8 = 0x80;
/// Bit 6 of the first byte: always set, so that other protocols on the port can be told apart
/// (RFC 9443).
const FIXED: u8 = 0x40;
/// Bits of the first byte that header protection masks in a long header.
const MASKED_LONG: u8 = 0x0f;
/// Bits of the first byte that header protection masks in a short header.
const MASKED_SHORT: u8 = 0x3f;

/// What a packet with a long header is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum LongType {
    /// Hellos, under keys that anyone on the path can derive.
    Initial,
    /// Early data under a ticket's keys.
    ZeroRtt,
    /// Authentication, under handshake keys.
    Handshake,
}

/// What the payload of a short-header packet holds; saves the frame type of the commonest packets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Shape {
    /// A sequence of frames.
    Frames,
    /// One whole message of a stream that the receiver knows.
    Message,
    /// One piece of a byte stream that the receiver knows.
    Bytes,
    /// One message that opens its stream and ends it.
    OneShot,
    /// One fragment of a message of a stream that the receiver knows.
    Fragment,
    /// One FEC repair symbol.
    Repair,
    /// One acknowledgement without counts or times.
    Ack,
}

impl Shape {
    /// The number of the shape.
    pub const fn to_bits(self) -> u8 {
        match self {
            Self::Frames => 0,
            Self::Message => 1,
            Self::Bytes => 2,
            Self::OneShot => 3,
            Self::Fragment => 4,
            Self::Repair => 5,
            Self::Ack => 6,
        }
    }

    /// The shape with the number in the low 3 bits; nothing for the one that is reserved.
    pub const fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits & 7 {
            0 => Self::Frames,
            1 => Self::Message,
            2 => Self::Bytes,
            3 => Self::OneShot,
            4 => Self::Fragment,
            5 => Self::Repair,
            6 => Self::Ack,
            // spec: WIRE-35
            _ => return None,
        })
    }
}

/// The part of a header that is readable without any key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Header<'a> {
    /// A packet of the handshake.
    Long(LongHeader<'a>),
    /// A packet of a version other than 1, cut where the invariants of RFC 8999 end.
    OtherVersion {
        /// Its version.
        version: u32,
        /// Destination id, of at most 255 bytes.
        dcid: &'a [u8],
        /// Source id, of at most 255 bytes.
        scid: &'a [u8],
    },
    /// The server's list of versions.
    VersionNegotiation {
        /// Destination id: the source id of what it answers.
        dcid: &'a [u8],
        /// Source id: the destination id of what it answers.
        scid: &'a [u8],
        /// Versions, 4 bytes each.
        versions: &'a [u8],
    },
    /// The server asks for a proof of address.
    Retry {
        /// Destination id: the source id of what it answers.
        dcid: ConnectionId,
        /// Source id: what the client must send to from now on.
        scid: ConnectionId,
        /// The cookie to bring back; at least one byte.
        token: &'a [u8],
        /// Proof that the sender saw the client's packet.
        integrity_tag: [u8; 16],
        /// All of the packet before the tag.
        covered: &'a [u8],
    },
    /// A packet with a short header; the connection id's length is the receiver's knowledge.
    Short,
}

/// The readable part of a long header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LongHeader<'a> {
    /// What the packet is for.
    pub kind: LongType,
    /// The id that its receiver is known by.
    pub dcid: ConnectionId,
    /// The id that its sender is known by.
    pub scid: ConnectionId,
    /// The cookie; empty in all but retried Initial packets.
    pub token: &'a [u8],
    /// Offset of the packet number from the packet's first byte.
    pub pn_offset: usize,
    /// Bytes of the whole packet; what follows in the datagram is another packet.
    pub packet_len: usize,
}

impl<'a> Header<'a> {
    /// Reads the readable part of the packet at the start of `datagram`.
    // spec: WIRE-1, WIRE-2, WIRE-3, WIRE-26
    pub fn parse(datagram: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(datagram);
        let first = reader.u8()?;
        if first & FORM_LONG == 0 {
            return if first & FIXED == 0 { Err(DecodeError::Invalid) } else { Ok(Self::Short) };
        }
        let version = reader.u32()?;
        let dcid_len = usize::from(reader.u8()?);
        let dcid = reader.take(dcid_len)?;
        let scid_len = usize::from(reader.u8()?);
        let scid = reader.take(scid_len)?;
        if version == 0 {
            let versions = reader.take_rest();
            let whole = !versions.is_empty() && versions.len().is_multiple_of(4);
            return if whole {
                Ok(Self::VersionNegotiation { dcid, scid, versions })
            } else {
                Err(DecodeError::Invalid)
            };
        }
        if version != crate::VERSION_1 {
            return Ok(Self::OtherVersion { version, dcid, scid });
        }
        if first & FIXED == 0 {
            return Err(DecodeError::Invalid);
        }
        let dcid = ConnectionId::new(dcid).ok_or(DecodeError::Invalid)?;
        let scid = ConnectionId::new(scid).ok_or(DecodeError::Invalid)?;
        let kind = match (first >> 4) & 3 {
            0 => LongType::Initial,
            1 => LongType::ZeroRtt,
            2 => LongType::Handshake,
            _ => return Self::parse_retry(datagram, reader, dcid, scid),
        };
        Self::parse_long(datagram, reader, kind, dcid, scid)
    }

    // spec: WIRE-25, WIRE-41
    fn parse_retry(
        datagram: &'a [u8],
        mut reader: Reader<'a>,
        dcid: ConnectionId,
        scid: ConnectionId,
    ) -> Result<Self, DecodeError> {
        let token_len = reader.remaining().checked_sub(16).ok_or(DecodeError::Truncated)?;
        if !(1..=limits::TOKEN_LEN_MAX).contains(&token_len) {
            return Err(DecodeError::Invalid);
        }
        let token = reader.take(token_len)?;
        let integrity_tag = reader.array()?;
        let covered =
            datagram.get(..datagram.len().saturating_sub(16)).ok_or(DecodeError::Truncated)?;
        Ok(Self::Retry { dcid, scid, token, integrity_tag, covered })
    }

    // spec: WIRE-25, WIRE-28
    fn parse_long(
        datagram: &'a [u8],
        mut reader: Reader<'a>,
        kind: LongType,
        dcid: ConnectionId,
        scid: ConnectionId,
    ) -> Result<Self, DecodeError> {
        let token = match kind {
            LongType::Initial => reader.length_prefixed()?,
            LongType::ZeroRtt | LongType::Handshake => &[],
        };
        if token.len() > limits::TOKEN_LEN_MAX {
            return Err(DecodeError::Invalid);
        }
        let length = reader.varint_len()?;
        if length > reader.remaining() {
            return Err(DecodeError::Truncated);
        }
        let pn_offset = datagram.len().saturating_sub(reader.remaining());
        let packet_len = pn_offset.saturating_add(length);
        Ok(Self::Long(LongHeader { kind, dcid, scid, token, pn_offset, packet_len }))
    }
}

/// A packet whose header protection is still on.
///
/// Works on the packet's own bytes; the caller gets the mask from the sample and hands it back.
pub struct Protected;

impl Protected {
    /// The bytes that header protection samples, for a packet number at `pn_offset`.
    // spec: WIRE-6
    pub fn sample(packet: &[u8], pn_offset: usize) -> Result<[u8; 16], DecodeError> {
        let start = pn_offset.saturating_add(limits::SAMPLE_OFFSET);
        let tail = packet.get(start..).ok_or(DecodeError::Truncated)?;
        tail.first_chunk().copied().ok_or(DecodeError::Truncated)
    }

    /// Takes the mask off a long header; answers the truncated packet number and its length.
    pub fn unmask_long(
        packet: &mut [u8],
        pn_offset: usize,
        mask: [u8; 5],
    ) -> Result<(u32, usize), DecodeError> {
        let first = packet.first_mut().ok_or(DecodeError::Truncated)?;
        *first ^= mask[0] & MASKED_LONG;
        let pn_len = usize::from(*first & 3).saturating_add(1);
        Ok((Self::flip_pn(packet, pn_offset, pn_len, mask)?, pn_len))
    }

    /// Takes the mask off a short header.
    pub fn unmask_short(
        packet: &mut [u8],
        pn_offset: usize,
        mask: [u8; 5],
    ) -> Result<ShortFields, DecodeError> {
        let first = packet.first_mut().ok_or(DecodeError::Truncated)?;
        *first ^= mask[0] & MASKED_SHORT;
        let bits = *first;
        let pn_len = usize::from(bits & 3).saturating_add(1);
        let truncated_pn = Self::flip_pn(packet, pn_offset, pn_len, mask)?;
        Ok(ShortFields {
            key_phase: bits & 0x20 != 0,
            shape: Shape::from_bits(bits >> 2),
            pn_len,
            truncated_pn,
        })
    }

    // spec: WIRE-27
    /// Puts the mask on; the same act for both forms but for how many bits of the first byte hide.
    pub fn mask(packet: &mut [u8], pn_offset: usize, mask: [u8; 5]) -> Result<(), DecodeError> {
        let first = packet.first_mut().ok_or(DecodeError::Truncated)?;
        let pn_len = usize::from(*first & 3).saturating_add(1);
        let hidden = if *first & FORM_LONG == 0 { MASKED_SHORT } else { MASKED_LONG };
        *first ^= mask[0] & hidden;
        Self::flip_pn(packet, pn_offset, pn_len, mask)?;
        Ok(())
    }

    /// Flips the packet number's bytes and answers them as one number, as they stand after it.
    fn flip_pn(
        packet: &mut [u8],
        pn_offset: usize,
        pn_len: usize,
        mask: [u8; 5],
    ) -> Result<u32, DecodeError> {
        let end = pn_offset.saturating_add(pn_len);
        let bytes = packet.get_mut(pn_offset..end).ok_or(DecodeError::Truncated)?;
        let mut number = 0u32;
        for (byte, flip) in bytes.iter_mut().zip(mask.into_iter().skip(1)) {
            *byte ^= flip;
            number = number << 8 | u32::from(*byte);
        }
        Ok(number)
    }
}

/// What a short header hides.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ShortFields {
    /// Which of two successive key generations sealed the packet.
    pub key_phase: bool,
    /// What the payload holds; `None` for the reserved value, an error once the packet is opened.
    pub shape: Option<Shape>,
    /// Bytes of the packet number.
    pub pn_len: usize,
    /// The packet number's low bytes.
    pub truncated_pn: u32,
}

/// A long header to be written; the length field is filled in when the payload is known.
#[derive(Clone, Copy, Debug)]
pub struct LongFields<'a> {
    /// What the packet is for.
    pub kind: LongType,
    /// The id that the receiver is known by.
    pub dcid: ConnectionId,
    /// The id that we are known by.
    pub scid: ConnectionId,
    /// The cookie; written in Initial packets only.
    pub token: &'a [u8],
    /// The packet number.
    pub pn: u64,
    /// Bytes of the packet number, 1 to 4.
    pub pn_len: usize,
}

/// Where in a written long header the caller finds what it must fill in or mask.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LongLayout {
    /// Offset of the two-byte length field.
    pub length_offset: usize,
    /// Offset of the packet number.
    pub pn_offset: usize,
}

impl LongFields<'_> {
    /// Writes the header with a length of zero; on [`Full`] the writer is as it was.
    pub fn write(&self, writer: &mut Writer<'_>) -> Result<LongLayout, Full> {
        writer.whole(|writer| self.write_parts(writer))
    }

    fn write_parts(&self, writer: &mut Writer<'_>) -> Result<LongLayout, Full> {
        let bits = match self.kind {
            LongType::Initial => 0u8,
            LongType::ZeroRtt => 1,
            LongType::Handshake => 2,
        };
        let start = writer.len();
        writer.u8(FORM_LONG | FIXED | bits << 4 | pn_len_bits(self.pn_len))?;
        writer.u32(crate::VERSION_1)?;
        write_id(writer, &self.dcid)?;
        write_id(writer, &self.scid)?;
        if self.kind == LongType::Initial {
            writer.length_prefixed(self.token)?;
        }
        let length_offset = writer.len().saturating_sub(start);
        varint::write_two_bytes(writer, 0)?;
        let pn_offset = writer.len().saturating_sub(start);
        write_pn(writer, self.pn, self.pn_len)?;
        Ok(LongLayout { length_offset, pn_offset })
    }
}

/// Fills in the length field of a long header: packet number, payload and tag, in bytes.
pub fn patch_length(packet: &mut [u8], layout: LongLayout, length: usize) -> Result<(), Full> {
    let end = layout.length_offset.saturating_add(2);
    let slot = packet.get_mut(layout.length_offset..end).ok_or(Full)?;
    varint::write_two_bytes(&mut Writer::new(slot), length as u64)
}

/// Writes a short header; answers the offset of the packet number. On [`Full`] the writer is as it
/// was.
// spec: WIRE-4, WIRE-5
pub fn write_short(
    writer: &mut Writer<'_>,
    dcid: &ConnectionId,
    shape: Shape,
    key_phase: bool,
    pn: u64,
    pn_len: usize,
) -> Result<usize, Full> {
    let phase = if key_phase { 0x20 } else { 0 };
    writer.whole(|writer| {
        writer.u8(FIXED | phase | shape.to_bits() << 2 | pn_len_bits(pn_len))?;
        writer.bytes(dcid.as_bytes())?;
        write_pn(writer, pn, pn_len)?;
        Ok(dcid.len().saturating_add(1))
    })
}

/// Changes the shape in a short header that is written but not yet sealed.
pub fn patch_shape(packet: &mut [u8], shape: Shape) {
    if let Some(first) = packet.first_mut() {
        *first = *first & !0x1c | shape.to_bits() << 2;
    }
}

/// Writes a version negotiation packet in answer to a packet with these ids.
///
/// # Errors
/// [`Full`] when the buffer has no room, when an id has more than 255 bytes, or when no version is
/// listed: a receiver drops such a packet. The writer is then as it was.
pub fn write_version_negotiation(
    writer: &mut Writer<'_>,
    dcid: &[u8],
    scid: &[u8],
    versions: &[u32],
) -> Result<(), Full> {
    if versions.is_empty() {
        return Err(Full);
    }
    writer.whole(|writer| {
        writer.u8(FORM_LONG | FIXED)?;
        writer.u32(0)?;
        for id in [dcid, scid] {
            writer.u8(u8::try_from(id.len()).map_err(|_| Full)?)?;
            writer.bytes(id)?;
        }
        versions.iter().try_for_each(|version| writer.u32(*version))
    })
}

/// Writes a Retry packet without its integrity tag.
///
/// # Errors
/// [`Full`] when the buffer has no room, or when the token has no byte or more than 128: a receiver
/// drops such a packet. The writer is then as it was.
pub fn write_retry(
    writer: &mut Writer<'_>,
    dcid: &ConnectionId,
    scid: &ConnectionId,
    token: &[u8],
) -> Result<(), Full> {
    if !(1..=limits::TOKEN_LEN_MAX).contains(&token.len()) {
        return Err(Full);
    }
    writer.whole(|writer| {
        writer.u8(FORM_LONG | FIXED | 3 << 4)?;
        writer.u32(crate::VERSION_1)?;
        write_id(writer, dcid)?;
        write_id(writer, scid)?;
        writer.bytes(token)
    })
}

fn write_id(writer: &mut Writer<'_>, id: &ConnectionId) -> Result<(), Full> {
    writer.u8(id.len() as u8)?;
    writer.bytes(id.as_bytes())
}

fn write_pn(writer: &mut Writer<'_>, pn: u64, pn_len: usize) -> Result<(), Full> {
    let bytes = (pn as u32).to_be_bytes();
    if pn_len == 0 {
        return Err(Full);
    }
    let skip = limits::PN_LEN_MAX.checked_sub(pn_len).ok_or(Full)?;
    writer.bytes(bytes.get(skip..).ok_or(Full)?)
}

const fn pn_len_bits(pn_len: usize) -> u8 {
    pn_len.saturating_sub(1) as u8 & 3
}
