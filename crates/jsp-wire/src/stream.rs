//! What a stream is: its id, its profile byte and the parameters it opens with.

use crate::cursor::{DecodeError, Full, Reader, Writer};
use crate::limits;
use crate::tlv::{self, TlvIter};

/// The name of a stream. The low bit says who opened it (0 client, 1 server); the rest counts.
///
/// Stream 0 exists from the start: reliable ordered messages in class control, open in both
/// directions, for metadata and signalling.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct StreamId(pub u64);

impl StreamId {
    /// The stream of metadata and signalling messages.
    pub const SIGNALLING: Self = Self(0);

    /// The `index`-th stream of a side.
    pub const fn new(index: u64, by_server: bool) -> Self {
        Self(index << 1 | by_server as u64)
    }

    /// True when the server opened it.
    pub const fn by_server(self) -> bool {
        self.0 & 1 == 1
    }

    /// Its place among the streams of its opener.
    pub const fn index(self) -> u64 {
        self.0 >> 1
    }
}

impl core::fmt::Display for StreamId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What a stream carries.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Framing {
    /// A sequence of bytes.
    Bytes,
    /// Numbered messages.
    Messages,
}

/// How hard the transport tries.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Delivery {
    /// Until it arrives.
    Reliable,
    /// Until a deadline or a number of retransmissions.
    Partial,
    /// Once.
    Unreliable,
}

/// Priority class. A higher class goes first whenever a packet is built.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Class {
    /// Signalling.
    Control,
    /// Voice, video, input: earliest deadline first.
    RealTime,
    /// Chat, requests, telemetry: shared by weight.
    Interactive,
    /// Files: what is left, but never nothing.
    Scavenger,
}

impl Class {
    /// All classes, most urgent first.
    pub const ALL: [Self; 4] = [Self::Control, Self::RealTime, Self::Interactive, Self::Scavenger];
}

/// What a receiver must know before it can take a stream's data: one byte on the wire.
///
/// ```text
/// bit 0-1 delivery   bit 2 unordered   bit 3 messages   bit 4-5 class
/// bit 6 unidirectional   bit 7 a TLV list follows
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Profile {
    /// What the stream carries.
    pub framing: Framing,
    /// How hard the transport tries.
    pub delivery: Delivery,
    /// Delivered in the order of sending; for unreliable messages: never older than delivered.
    pub ordered: bool,
    /// Priority class.
    pub class: Class,
    /// Only the opener sends.
    pub unidirectional: bool,
}

impl Profile {
    /// The profile of stream 0.
    pub const SIGNALLING: Self = Self {
        framing: Framing::Messages,
        delivery: Delivery::Reliable,
        ordered: true,
        class: Class::Control,
        unidirectional: false,
    };

    /// A byte stream must be reliable and ordered; all else may be combined freely.
    // spec: WIRE-30
    pub const fn is_valid(&self) -> bool {
        matches!(self.framing, Framing::Messages)
            || (matches!(self.delivery, Delivery::Reliable) && self.ordered)
    }

    /// The byte on the wire, without the TLV bit.
    pub const fn to_bits(self) -> u8 {
        let delivery = match self.delivery {
            Delivery::Reliable => 0u8,
            Delivery::Partial => 1,
            Delivery::Unreliable => 2,
        };
        let class = match self.class {
            Class::Control => 0u8,
            Class::RealTime => 1,
            Class::Interactive => 2,
            Class::Scavenger => 3,
        };
        let unordered = !self.ordered as u8;
        let messages = matches!(self.framing, Framing::Messages) as u8;
        delivery | unordered << 2 | messages << 3 | class << 4 | (self.unidirectional as u8) << 6
    }

    /// Reads the byte, leaving the TLV bit aside.
    pub const fn from_bits(bits: u8) -> Result<Self, DecodeError> {
        let delivery = match bits & 3 {
            0 => Delivery::Reliable,
            1 => Delivery::Partial,
            2 => Delivery::Unreliable,
            _ => return Err(DecodeError::Invalid),
        };
        let class = match bits >> 4 & 3 {
            0 => Class::Control,
            1 => Class::RealTime,
            2 => Class::Interactive,
            _ => Class::Scavenger,
        };
        let profile = Self {
            framing: if bits & 8 == 0 { Framing::Bytes } else { Framing::Messages },
            delivery,
            ordered: bits & 4 == 0,
            class,
            unidirectional: bits & 0x40 != 0,
        };
        if profile.is_valid() { Ok(profile) } else { Err(DecodeError::Invalid) }
    }
}

/// Ids of the parameters a stream may open with. All are ignorable: a receiver that does not know
/// one still takes the stream's data.
pub mod open_id {
    /// Bytes of UTF-8: what the stream is for, told to the accepting application.
    pub const LABEL: u64 = 0x01;
    /// Varint: share inside the class, 1 to 255.
    pub const WEIGHT: u64 = 0x03;
    /// Varint: rate cap in bytes per second that the opener asks the other side to keep too.
    pub const RATE_CAP: u64 = 0x05;
    /// Varint: how long a message of the stream is worth sending, in milliseconds.
    pub const LIFETIME_MS: u64 = 0x07;
    /// Varint: how often a lost piece is sent again at most.
    pub const RETRANSMITS_MAX: u64 = 0x09;
    /// Varint: FEC policy, 0 automatic, 1 off, 2 + percentage fixed.
    pub const FEC: u64 = 0x0b;
    /// Bytes: media type of the content.
    pub const CONTENT_TYPE: u64 = 0x0d;
    /// Bytes: name of the codec.
    pub const CODEC: u64 = 0x0f;
    /// Empty: what the opener sends may come in 0-RTT packets.
    pub const REPLAY_SAFE: u64 = 0x11;
}

/// How a stream opens: profile and parameters, as they stand in a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Open<'a> {
    /// What the receiver must know.
    pub profile: Profile,
    /// The TLV list; may be empty.
    pub params: &'a [u8],
}

impl<'a> Open<'a> {
    /// Reads profile and parameters.
    // spec: WIRE-31
    pub fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let bits = reader.u8()?;
        let profile = Profile::from_bits(bits)?;
        let params = if bits & 0x80 == 0 { &[][..] } else { reader.length_prefixed()? };
        tlv::check_unique(params)?;
        for entry in TlvIter::new(params) {
            let entry = entry?;
            let too_long = entry.id == open_id::LABEL && entry.value.len() > limits::LABEL_LEN_MAX;
            if entry.is_critical() || too_long {
                return Err(DecodeError::Invalid);
            }
        }
        Ok(Self { profile, params })
    }

    /// Writes profile and parameters.
    pub fn write(&self, writer: &mut Writer<'_>) -> Result<(), Full> {
        if self.params.is_empty() {
            return writer.u8(self.profile.to_bits());
        }
        writer.u8(self.profile.to_bits() | 0x80)?;
        writer.length_prefixed(self.params)
    }

    /// Bytes that [`Open::write`] takes.
    pub const fn len(&self) -> usize {
        match self.params.len() {
            0 => 1,
            n => n.saturating_add(crate::varint::len(n as u64)).saturating_add(1),
        }
    }

    /// Never true: an opening has at least its profile.
    pub const fn is_empty(&self) -> bool {
        false
    }

    /// The parameter with this id, where present.
    pub fn param(&self, id: u64) -> Option<&'a [u8]> {
        TlvIter::new(self.params).flatten().find(|entry| entry.id == id).map(|entry| entry.value)
    }

    /// The varint parameter with this id, where present and well-formed.
    pub fn param_varint(&self, id: u64) -> Option<u64> {
        TlvIter::new(self.params).flatten().find(|e| e.id == id).and_then(|e| e.as_varint().ok())
    }
}
