//! Frames of version 1, and the payloads that the short header's shape names.
//!
//! | type | frame | type | frame |
//! |------|-------|------|-------|
//! | 0x00 | PADDING | 0x08-0x0f | ACK (+1 ECN counts, +2 receive times, +4 recovered) |
//! | 0x01 | PING | 0x10-0x1f | BYTES (+1 length, +2 fin, +4 offset, +8 open) |
//! | 0x02 | HANDSHAKE | 0x20-0x3f | MESSAGE (+1 length, +2 fin, +4 fragment, +8 open, +16 attributes) |
//! | 0x03 | CLOSE | 0x40 | RESET_STREAM |
//! | 0x04 | MAX_DATA | 0x41 | STOP_SENDING |
//! | 0x05 | MAX_STREAM_DATA | 0x42 | DATA_BLOCKED |
//! | 0x06 | MAX_STREAMS | 0x43 | STREAM_DATA_BLOCKED |
//! | 0x07 | SKIP | 0x44 | STREAMS_BLOCKED |
//! | 0x45 | NEW_CONNECTION_ID | 0x46 | RETIRE_CONNECTION_ID |
//! | 0x47 | PATH_CHALLENGE | 0x48 | PATH_RESPONSE |
//! | 0x49 | ACK_FREQUENCY | 0x4a | IMMEDIATE_ACK |
//! | 0x4b | HANDSHAKE_DONE | 0x4c | OPEN |
//! | 0x4d | FINISH | 0x4e | CONSUMED |
//! | 0x4f | TICKET | 0x50 | EXCHANGE |
//! | 0x51 | REPAIR | 0x52 | SYMBOL |
//! | 0x53 | ABOUT_PATH | 0x54 | PATH_ABANDON |
//! | 0x55 | PATH_STATUS | | |
//!
//! Types are varints in their shortest form; any other type is an encoding error. What TICKET
//! and EXCHANGE carry is opaque here; REPAIR is read further by [`Repair`].

mod ack;
mod control;
mod data;
mod path;
mod repair;
mod symbol;
mod times;

pub use ack::{Ack, AckRanges, EcnCounts, write_ack};
pub use control::{
    AckFrequency, Close, HandshakeFragment, NewConnectionId, ResetStream, Skip, StreamLimit,
};
pub use data::{Attributes, BytesFrame, Fragment, Kind, MessageFrame, MessageNumber};
pub use path::{PathAbandon, PathId, PathStatus, PathUse};
pub use repair::{RecoveredNumbers, Repair, protected_part, write_recovered, write_repair_head};
pub use symbol::Symbol;
pub use times::{RECEIVE_TIME_UNIT, RECEIVE_TIMES_MAX, ReceiveTimes, write_receive_times};

use crate::cursor::{DecodeError, Full, Reader, Writer};
use crate::header::Shape;
use crate::limits;
use crate::stream::{Open, StreamId};
use crate::varint;

/// Numbers of the frame types. Types with flag bits are named by their lowest value.
#[allow(missing_docs, reason = "the table of the module documents them")]
pub mod kind {
    pub const PADDING: u64 = 0x00;
    pub const PING: u64 = 0x01;
    pub const HANDSHAKE: u64 = 0x02;
    pub const CLOSE: u64 = 0x03;
    pub const MAX_DATA: u64 = 0x04;
    pub const MAX_STREAM_DATA: u64 = 0x05;
    pub const MAX_STREAMS: u64 = 0x06;
    pub const SKIP: u64 = 0x07;
    pub const ACK: u64 = 0x08;
    pub const BYTES: u64 = 0x10;
    pub const MESSAGE: u64 = 0x20;
    pub const RESET_STREAM: u64 = 0x40;
    pub const STOP_SENDING: u64 = 0x41;
    pub const DATA_BLOCKED: u64 = 0x42;
    pub const STREAM_DATA_BLOCKED: u64 = 0x43;
    pub const STREAMS_BLOCKED: u64 = 0x44;
    pub const NEW_CONNECTION_ID: u64 = 0x45;
    pub const RETIRE_CONNECTION_ID: u64 = 0x46;
    pub const PATH_CHALLENGE: u64 = 0x47;
    pub const PATH_RESPONSE: u64 = 0x48;
    pub const ACK_FREQUENCY: u64 = 0x49;
    pub const IMMEDIATE_ACK: u64 = 0x4a;
    pub const HANDSHAKE_DONE: u64 = 0x4b;
    pub const OPEN: u64 = 0x4c;
    pub const FINISH: u64 = 0x4d;
    pub const CONSUMED: u64 = 0x4e;
    pub const TICKET: u64 = 0x4f;
    pub const EXCHANGE: u64 = 0x50;
    pub const REPAIR: u64 = 0x51;
    pub const SYMBOL: u64 = 0x52;
    pub const ABOUT_PATH: u64 = 0x53;
    pub const PATH_ABANDON: u64 = 0x54;
    pub const PATH_STATUS: u64 = 0x55;
}

/// One frame, borrowed from the packet it stands in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Frame<'a> {
    /// This many bytes of nothing.
    Padding(usize),
    /// Asks for an acknowledgement.
    Ping,
    /// A piece of a handshake message.
    Handshake(HandshakeFragment<'a>),
    /// The sender ends the connection.
    Close(Close<'a>),
    /// Credit of the connection, in bytes of reliable stream data since the start.
    MaxData(u64),
    /// Credit of a stream, in bytes since its start.
    MaxStreamData(StreamLimit),
    /// How many streams the receiver may open, counted from the start.
    MaxStreams(u64),
    /// Messages that will not come.
    Skip(Skip),
    /// Packets received.
    Ack(Ack<'a>),
    /// A piece of a byte stream.
    Bytes(BytesFrame<'a>),
    /// A message or a fragment of one.
    Message(MessageFrame<'a>),
    /// The sender abandons its half of a stream.
    ResetStream(ResetStream),
    /// The receiver wants no more of a stream; the code is the application's.
    StopSending(StreamLimit),
    /// The sender has data but no connection credit beyond this.
    DataBlocked(u64),
    /// The sender has data but no stream credit beyond this.
    StreamDataBlocked(StreamLimit),
    /// The sender would open more streams than this.
    StreamsBlocked(u64),
    /// A further id that the receiver may send to.
    NewConnectionId(NewConnectionId),
    /// The sender uses the id of this sequence number no more.
    RetireConnectionId(u64),
    /// Asks for an answer on the same path.
    PathChallenge([u8; 8]),
    /// The answer.
    PathResponse([u8; 8]),
    /// How often the receiver should acknowledge.
    AckFrequency(AckFrequency),
    /// Asks for an acknowledgement at once.
    ImmediateAck,
    /// The server has the client's handshake flight.
    HandshakeDone,
    /// A stream opens without data.
    Open {
        /// The stream.
        stream: StreamId,
        /// How it opens.
        open: Open<'a>,
    },
    /// The stream ends: total bytes of a byte stream, number of messages of a message stream.
    Finish(StreamLimit),
    /// The application has taken all messages below this number.
    Consumed(StreamLimit),
    /// A resumption ticket.
    Ticket(&'a [u8]),
    /// A message of the in-band key exchange.
    Exchange(&'a [u8]),
    /// A repair symbol and its members; see [`Repair`].
    Repair(&'a [u8]),
    /// The frame behind it, an ACK or a NEW_CONNECTION_ID, is about this path.
    AboutPath(PathId),
    /// The sender uses a path no more.
    PathAbandon(PathAbandon),
    /// What the sender wants a path used for.
    PathStatus(PathStatus),
    /// A symbol of a large message.
    Symbol(Symbol<'a>),
}

impl<'a> Frame<'a> {
    /// Reads one frame.
    // spec: WIRE-10, WIRE-11, WIRE-12
    pub fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let before = reader.remaining();
        let kind = reader.varint()?;
        if before.saturating_sub(reader.remaining()) != varint::len(kind) {
            return Err(DecodeError::Invalid);
        }
        match kind {
            kind::PADDING => Ok(Self::read_padding(reader)),
            kind::PING => Ok(Self::Ping),
            kind::HANDSHAKE => Ok(Self::Handshake(HandshakeFragment::read(reader)?)),
            kind::CLOSE => Ok(Self::Close(Close::read(reader)?)),
            kind::MAX_DATA => Ok(Self::MaxData(reader.varint()?)),
            kind::MAX_STREAM_DATA => Ok(Self::MaxStreamData(StreamLimit::read(reader)?)),
            kind::MAX_STREAMS => Ok(Self::MaxStreams(read_stream_count(reader)?)),
            kind::SKIP => Ok(Self::Skip(Skip::read(reader)?)),
            0x08..=0x0f => Ok(Self::Ack(Ack::read(reader, kind)?)),
            0x10..=0x1f => Ok(Self::Bytes(BytesFrame::read(reader, kind)?)),
            0x20..=0x3f => Ok(Self::Message(MessageFrame::read(reader, kind)?)),
            kind::DATA_BLOCKED => Ok(Self::DataBlocked(reader.varint()?)),
            kind::STREAM_DATA_BLOCKED => Ok(Self::StreamDataBlocked(StreamLimit::read(reader)?)),
            kind::STREAMS_BLOCKED => Ok(Self::StreamsBlocked(read_stream_count(reader)?)),
            kind::RESET_STREAM => Ok(Self::ResetStream(ResetStream::read(reader)?)),
            kind::STOP_SENDING => Ok(Self::StopSending(StreamLimit::read(reader)?)),
            kind::FINISH => Ok(Self::Finish(StreamLimit::read(reader)?)),
            kind::CONSUMED => Ok(Self::Consumed(StreamLimit::read(reader)?)),
            kind::OPEN => {
                let stream = StreamId(reader.varint()?);
                Ok(Self::Open { stream, open: Open::read(reader)? })
            }
            _ => Self::read_connection_control(reader, kind),
        }
    }

    fn read_padding(reader: &mut Reader<'a>) -> Self {
        let mut run = 1usize;
        while reader.peek() == Ok(0) && reader.u8().is_ok() {
            run = run.saturating_add(1);
        }
        Self::Padding(run)
    }

    fn read_connection_control(reader: &mut Reader<'a>, kind: u64) -> Result<Self, DecodeError> {
        match kind {
            kind::NEW_CONNECTION_ID => Ok(Self::NewConnectionId(NewConnectionId::read(reader)?)),
            kind::RETIRE_CONNECTION_ID => Ok(Self::RetireConnectionId(reader.varint()?)),
            kind::PATH_CHALLENGE => Ok(Self::PathChallenge(reader.array()?)),
            kind::PATH_RESPONSE => Ok(Self::PathResponse(reader.array()?)),
            kind::ACK_FREQUENCY => Ok(Self::AckFrequency(AckFrequency::read(reader)?)),
            kind::IMMEDIATE_ACK => Ok(Self::ImmediateAck),
            kind::HANDSHAKE_DONE => Ok(Self::HandshakeDone),
            kind::TICKET => Ok(Self::Ticket(reader.length_prefixed()?)),
            kind::EXCHANGE => Ok(Self::Exchange(reader.length_prefixed()?)),
            kind::REPAIR => Ok(Self::Repair(reader.length_prefixed()?)),
            kind::ABOUT_PATH => Ok(Self::AboutPath(PathId::read(reader)?)),
            kind::PATH_ABANDON => Ok(Self::PathAbandon(PathAbandon::read(reader)?)),
            kind::PATH_STATUS => Ok(Self::PathStatus(PathStatus::read(reader)?)),
            kind::SYMBOL => Ok(Self::Symbol(Symbol::read(reader)?)),
            _ => Err(DecodeError::Invalid),
        }
    }

    /// Writes the frame; on [`Full`] the writer is as it was.
    pub fn write(&self, writer: &mut Writer<'_>) -> Result<(), Full> {
        writer.whole(|writer| self.write_parts(writer))
    }

    fn write_parts(&self, writer: &mut Writer<'_>) -> Result<(), Full> {
        match self {
            Self::Padding(run) => {
                writer.reserve(*run)?.fill(0);
                Ok(())
            }
            Self::Ping => writer.varint(kind::PING),
            Self::Handshake(fragment) => fragment.write(writer),
            Self::Close(close) => close.write(writer),
            Self::MaxData(limit) => write_one(writer, kind::MAX_DATA, *limit),
            Self::MaxStreamData(frame) => frame.write(writer, kind::MAX_STREAM_DATA),
            Self::MaxStreams(limit) => write_one(writer, kind::MAX_STREAMS, *limit),
            Self::Skip(skip) => skip.write(writer),
            Self::Ack(ack) => ack.write(writer),
            Self::Bytes(frame) => frame.write(writer),
            Self::Message(frame) => frame.write(writer),
            Self::ResetStream(frame) => frame.write(writer),
            Self::StopSending(frame) => frame.write(writer, kind::STOP_SENDING),
            Self::DataBlocked(limit) => write_one(writer, kind::DATA_BLOCKED, *limit),
            Self::StreamDataBlocked(frame) => frame.write(writer, kind::STREAM_DATA_BLOCKED),
            Self::StreamsBlocked(limit) => write_one(writer, kind::STREAMS_BLOCKED, *limit),
            Self::NewConnectionId(frame) => frame.write(writer),
            Self::RetireConnectionId(n) => write_one(writer, kind::RETIRE_CONNECTION_ID, *n),
            Self::PathChallenge(data) => write_array(writer, kind::PATH_CHALLENGE, data),
            Self::PathResponse(data) => write_array(writer, kind::PATH_RESPONSE, data),
            Self::AckFrequency(frame) => frame.write(writer),
            Self::ImmediateAck => writer.varint(kind::IMMEDIATE_ACK),
            Self::HandshakeDone => writer.varint(kind::HANDSHAKE_DONE),
            Self::Open { stream, open } => {
                write_one(writer, kind::OPEN, stream.0)?;
                open.write(writer)
            }
            Self::Finish(frame) => frame.write(writer, kind::FINISH),
            Self::Consumed(frame) => frame.write(writer, kind::CONSUMED),
            Self::Ticket(bytes) => write_opaque(writer, kind::TICKET, bytes),
            Self::Exchange(bytes) => write_opaque(writer, kind::EXCHANGE, bytes),
            Self::Repair(bytes) => write_opaque(writer, kind::REPAIR, bytes),
            Self::AboutPath(path) => write_one(writer, kind::ABOUT_PATH, path.0.into()),
            Self::PathAbandon(frame) => frame.write(writer),
            Self::PathStatus(frame) => frame.write(writer),
            Self::Symbol(symbol) => symbol.write(writer),
        }
    }

    /// True when a packet that holds the frame must be acknowledged.
    // spec: ACK-1
    pub const fn is_ack_eliciting(&self) -> bool {
        !matches!(self, Self::Padding(_) | Self::Ack(_) | Self::Close(_) | Self::AboutPath(_))
    }

    /// True when the frame may stand in an Initial or Handshake packet.
    // spec: WIRE-13
    pub const fn is_allowed_in_handshake(&self) -> bool {
        matches!(
            self,
            Self::Padding(_) | Self::Ping | Self::Ack(_) | Self::Handshake(_) | Self::Close(_)
        )
    }
}

// spec: WIRE-42
fn read_stream_count(reader: &mut Reader<'_>) -> Result<u64, DecodeError> {
    let count = reader.varint()?;
    if count > limits::STREAMS_COUNT_MAX { Err(DecodeError::Invalid) } else { Ok(count) }
}

fn write_one(writer: &mut Writer<'_>, kind: u64, value: u64) -> Result<(), Full> {
    writer.varint(kind)?;
    writer.varint(value)
}

fn write_array(writer: &mut Writer<'_>, kind: u64, value: &[u8; 8]) -> Result<(), Full> {
    writer.varint(kind)?;
    writer.bytes(value)
}

fn write_opaque(writer: &mut Writer<'_>, kind: u64, value: &[u8]) -> Result<(), Full> {
    writer.varint(kind)?;
    writer.length_prefixed(value)
}

/// Iterates over the frames of a payload; ends after the first error.
#[derive(Clone, Debug)]
pub struct FrameIter<'a> {
    reader: Reader<'a>,
    failed: bool,
}

impl<'a> FrameIter<'a> {
    /// Reads the frames that fill `payload`.
    pub const fn new(payload: &'a [u8]) -> Self {
        Self { reader: Reader::new(payload), failed: false }
    }
}

impl<'a> Iterator for FrameIter<'a> {
    type Item = Result<Frame<'a>, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.reader.is_empty() {
            return None;
        }
        let frame = Frame::read(&mut self.reader);
        self.failed = frame.is_err();
        Some(frame)
    }
}

/// What an opened short-header packet holds.
#[derive(Clone, Debug)]
pub enum Payload<'a> {
    /// Any number of frames.
    Frames(FrameIter<'a>),
    /// Exactly the one that the shape names.
    One(Frame<'a>),
}

impl<'a> Payload<'a> {
    /// Reads a payload as its shape says.
    // spec: WIRE-14
    pub fn read(shape: Shape, payload: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(payload);
        let frame = match shape {
            Shape::Frames if payload.is_empty() => return Err(DecodeError::Truncated),
            Shape::Frames => return Ok(Self::Frames(FrameIter::new(payload))),
            Shape::Message => Frame::Message(MessageFrame::read_shape_message(&mut reader)?),
            Shape::Fragment => Frame::Message(MessageFrame::read_shape_fragment(&mut reader)?),
            Shape::OneShot => Frame::Message(MessageFrame::read_shape_one_shot(&mut reader)?),
            Shape::Bytes => Frame::Bytes(BytesFrame::read_shape(&mut reader)?),
            Shape::Repair => Frame::Repair(reader.take_rest()),
            Shape::Ack => {
                let ack = Ack::read(&mut reader, kind::ACK)?;
                if !reader.is_empty() {
                    return Err(DecodeError::Invalid);
                }
                Frame::Ack(ack)
            }
        };
        Ok(Self::One(frame))
    }
}

impl<'a> Iterator for Payload<'a> {
    type Item = Result<Frame<'a>, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Frames(frames) => frames.next(),
            Self::One(frame) => {
                let frame = *frame;
                *self = Self::Frames(FrameIter::new(&[]));
                Some(Ok(frame))
            }
        }
    }
}
