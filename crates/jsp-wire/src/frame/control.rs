//! Frames that steer the connection, its streams and its paths.

use super::kind;
use crate::close::CloseCode;
use crate::connection_id::ConnectionId;
use crate::cursor::{DecodeError, Full, Reader, Writer};
use crate::limits;
use crate::stream::StreamId;

/// A piece of a handshake message.
///
/// `type | id 8 | offset 2 | total 2 | length varint | data`. The id is the start of the whole
/// message's hash: pieces of different messages never mix, and a client can hold several
/// candidate hellos apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HandshakeFragment<'a> {
    /// First 8 bytes of the SHA-256 of the whole message.
    pub id: [u8; 8],
    /// Place of the first byte in the message.
    pub offset: u16,
    /// Bytes of the whole message.
    pub total: u16,
    /// The bytes.
    pub data: &'a [u8],
}

impl<'a> HandshakeFragment<'a> {
    /// Bytes that a fragment takes beside its data, at most.
    pub const HEAD_LEN: usize = 1 + 8 + 2 + 2 + 2;

    /// The same in an EXCHANGE frame.
    pub const EXCHANGE_HEAD_LEN: usize = Self::HEAD_LEN + 1;

    // spec: WIRE-19
    pub(super) fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let id = reader.array()?;
        let (offset, total) = (reader.u16()?, reader.u16()?);
        let data = reader.length_prefixed()?;
        Self { id, offset, total, data }.checked(limits::HANDSHAKE_MESSAGE_LEN_MAX)
    }

    /// Reads the piece that is the content of an EXCHANGE frame: `id 8 | offset 2 | total 2`, then
    /// the data to its end.
    // spec: WIRE-46
    pub fn read_exchange(content: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(content);
        let id = reader.array()?;
        let (offset, total) = (reader.u16()?, reader.u16()?);
        Self { id, offset, total, data: reader.take_rest() }.checked(limits::HELLO_LEN_MAX)
    }

    /// Writes the piece as an EXCHANGE frame; on [`Full`] the writer is as it was.
    pub fn write_exchange(&self, writer: &mut Writer<'_>) -> Result<(), Full> {
        writer.whole(|writer| {
            writer.varint(kind::EXCHANGE)?;
            // A message has 4096 bytes at most.
            writer.varint(self.data.len().saturating_add(12) as u64)?;
            writer.bytes(&self.id)?;
            writer.u16(self.offset)?;
            writer.u16(self.total)?;
            writer.bytes(self.data)
        })
    }

    fn checked(self, total_max: usize) -> Result<Self, DecodeError> {
        let end = usize::from(self.offset).saturating_add(self.data.len());
        let total = usize::from(self.total);
        if self.data.is_empty() || end > total || total > total_max {
            return Err(DecodeError::Invalid);
        }
        Ok(self)
    }

    pub(super) fn write(&self, writer: &mut Writer<'_>) -> Result<(), Full> {
        writer.varint(kind::HANDSHAKE)?;
        writer.bytes(&self.id)?;
        writer.u16(self.offset)?;
        writer.u16(self.total)?;
        writer.length_prefixed(self.data)
    }
}

/// The end of a connection: `type | space 1 | code | length | reason`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Close<'a> {
    /// True when the application closed; the code is then the application's.
    pub by_application: bool,
    /// Why.
    pub code: CloseCode,
    /// A sentence for people, UTF-8 by intention; at most 255 bytes.
    pub reason: &'a [u8],
}

impl<'a> Close<'a> {
    // spec: WIRE-32
    pub(super) fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let by_application = match reader.u8()? {
            0 => false,
            1 => true,
            _ => return Err(DecodeError::Invalid),
        };
        let code = CloseCode(reader.varint()?);
        let reason = reader.length_prefixed()?;
        if reason.len() > limits::CLOSE_REASON_LEN_MAX {
            return Err(DecodeError::Invalid);
        }
        Ok(Self { by_application, code, reason })
    }

    pub(super) fn write(&self, writer: &mut Writer<'_>) -> Result<(), Full> {
        writer.varint(kind::CLOSE)?;
        writer.u8(self.by_application as u8)?;
        writer.varint(self.code.0)?;
        writer.length_prefixed(self.reason)
    }
}

/// A stream and one number about it: a credit, an end, a code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StreamLimit {
    /// The stream.
    pub stream: StreamId,
    /// The number.
    pub value: u64,
}

impl StreamLimit {
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { stream: StreamId(reader.varint()?), value: reader.varint()? })
    }

    pub(super) fn write(&self, writer: &mut Writer<'_>, kind: u64) -> Result<(), Full> {
        writer.varint(kind)?;
        writer.varint(self.stream.0)?;
        writer.varint(self.value)
    }
}

/// Messages that will not come: all below `floor` that have not arrived.
///
/// Both numbers only grow, so a SKIP that arrives late or twice says nothing new.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Skip {
    /// The stream.
    pub stream: StreamId,
    /// The lowest message number that may still come.
    pub floor: u64,
    /// Credit that all messages below `floor` together have used. From it the receiver knows how
    /// much of the credit will never arrive.
    pub credit_below: u64,
}

impl Skip {
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let stream = StreamId(reader.varint()?);
        Ok(Self { stream, floor: reader.varint()?, credit_below: reader.varint()? })
    }

    pub(super) fn write(&self, writer: &mut Writer<'_>) -> Result<(), Full> {
        writer.varint(kind::SKIP)?;
        writer.varint(self.stream.0)?;
        writer.varint(self.floor)?;
        writer.varint(self.credit_below)
    }
}

/// The sender abandons its half of a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ResetStream {
    /// The stream.
    pub stream: StreamId,
    /// Why; the application's.
    pub code: u64,
    /// Credited bytes that were sent on the stream: what it counts for in the connection's credit.
    pub final_bytes: u64,
}

impl ResetStream {
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let stream = StreamId(reader.varint()?);
        Ok(Self { stream, code: reader.varint()?, final_bytes: reader.varint()? })
    }

    pub(super) fn write(&self, writer: &mut Writer<'_>) -> Result<(), Full> {
        writer.varint(kind::RESET_STREAM)?;
        writer.varint(self.stream.0)?;
        writer.varint(self.code)?;
        writer.varint(self.final_bytes)
    }
}

/// A further id: `type | sequence | retire prior to | length 1 | id | reset token 16`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NewConnectionId {
    /// Its place in the issuer's sequence.
    pub sequence: u64,
    /// Ids below this must be retired.
    pub retire_prior_to: u64,
    /// The id; 1 to 20 bytes.
    pub id: ConnectionId,
    /// What ends a stateless reset for this id.
    pub reset_token: [u8; limits::RESET_TOKEN_LEN],
}

impl NewConnectionId {
    // spec: WIRE-33
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (sequence, retire_prior_to) = (reader.varint()?, reader.varint()?);
        let len = usize::from(reader.u8()?);
        let id = ConnectionId::new(reader.take(len)?).ok_or(DecodeError::Invalid)?;
        let reset_token = reader.array()?;
        if id.is_empty() || retire_prior_to > sequence {
            return Err(DecodeError::Invalid);
        }
        Ok(Self { sequence, retire_prior_to, id, reset_token })
    }

    pub(super) fn write(&self, writer: &mut Writer<'_>) -> Result<(), Full> {
        writer.varint(kind::NEW_CONNECTION_ID)?;
        writer.varint(self.sequence)?;
        writer.varint(self.retire_prior_to)?;
        writer.u8(self.id.len() as u8)?;
        writer.bytes(self.id.as_bytes())?;
        writer.bytes(&self.reset_token)
    }
}

/// How often the receiver should acknowledge (the idea of draft-ietf-quic-ack-frequency).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AckFrequency {
    /// Later frames win; counts from 0.
    pub sequence: u64,
    /// Ack-eliciting packets that may go unacknowledged.
    pub threshold: u64,
    /// Longest time that an acknowledgement may be held back, in microseconds.
    pub delay_max_us: u64,
    /// Gap in packet numbers that asks for an acknowledgement at once; 0 for never.
    pub reordering: u64,
}

impl AckFrequency {
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            sequence: reader.varint()?,
            threshold: reader.varint()?,
            delay_max_us: reader.varint()?,
            reordering: reader.varint()?,
        })
    }

    pub(super) fn write(&self, writer: &mut Writer<'_>) -> Result<(), Full> {
        writer.varint(kind::ACK_FREQUENCY)?;
        writer.varint(self.sequence)?;
        writer.varint(self.threshold)?;
        writer.varint(self.delay_max_us)?;
        writer.varint(self.reordering)
    }
}
