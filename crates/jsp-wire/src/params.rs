//! Transport parameters: what each side tells the other inside the handshake, as a TLV list.

use crate::connection_id::ConnectionId;
use crate::cursor::{DecodeError, Full, Writer};
use crate::limits;
use crate::preferred::PreferredAddress;
use crate::tlv::{self, TlvIter};

/// Ids of the transport parameters. Even ids are critical, odd ids ignorable.
#[allow(missing_docs, reason = "the fields of TransportParams document them")]
pub mod id {
    pub const INITIAL_SOURCE_ID: u64 = 0x02;
    pub const ORIGINAL_DESTINATION_ID: u64 = 0x04;
    pub const RETRY_SOURCE_ID: u64 = 0x06;
    pub const IDLE_TIMEOUT_MS: u64 = 0x01;
    pub const DATAGRAM_LEN_MAX: u64 = 0x03;
    pub const DATA_MAX: u64 = 0x05;
    pub const STREAM_DATA_MAX: u64 = 0x07;
    pub const STREAMS_MAX: u64 = 0x09;
    pub const MESSAGE_LEN_MAX: u64 = 0x0b;
    pub const ACK_DELAY_MAX_US: u64 = 0x0d;
    pub const CONNECTION_IDS_MAX: u64 = 0x0f;
    pub const RESET_TOKEN: u64 = 0x11;
    pub const FEATURES: u64 = 0x13;
    pub const PATHS_MAX: u64 = 0x15;
    pub const PREFERRED_ADDRESS: u64 = 0x17;
}

/// Bits of [`TransportParams::features`]: what a side can do beyond the base of version 1.
pub mod feature {
    /// Receives FEC repair symbols.
    pub const FEC: u64 = 1;
    /// Sends and receives receive times in ACK frames.
    pub const ACK_TIMES: u64 = 1 << 1;
    /// In-band key exchange.
    pub const EXCHANGE: u64 = 1 << 3;
    /// Receives symbols of large messages.
    pub const OBJECTS: u64 = 1 << 4;
}

/// What a side tells the other. Absent parameters have the values of [`TransportParams::default`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TransportParams {
    /// The source id of the first packet that the side sent.
    pub initial_source_id: ConnectionId,
    /// Server only: the destination id of the client's very first packet.
    pub original_destination_id: Option<ConnectionId>,
    /// Server only, after a Retry: the source id of the Retry.
    pub retry_source_id: Option<ConnectionId>,
    /// Silence after which the side forgets the connection, in milliseconds; 0 for never.
    pub idle_timeout_ms: u64,
    /// Largest UDP payload that the side receives, in bytes.
    pub datagram_len_max: u64,
    /// Credit of the connection at the start, in bytes.
    pub data_max: u64,
    /// Credit of each stream at the start, in bytes.
    pub stream_data_max: u64,
    /// Streams that the other side may open at the start.
    pub streams_max: u64,
    /// Largest message that the side accepts, in bytes.
    pub message_len_max: u64,
    /// Longest time that the side holds an acknowledgement back, in microseconds.
    pub ack_delay_max_us: u64,
    /// Connection ids that the side keeps at once.
    pub connection_ids_max: u64,
    /// Server only: the reset token of the id that it chose in the handshake.
    pub reset_token: Option<[u8; limits::RESET_TOKEN_LEN]>,
    /// What the side can do; see [`feature`].
    pub features: u64,
    /// Paths that the side uses at once; 1 for a side that knows no further ones.
    pub paths_max: u64,
    /// Server only: where it would rather be reached.
    pub preferred: Option<PreferredAddress>,
}

impl Default for TransportParams {
    fn default() -> Self {
        Self {
            initial_source_id: ConnectionId::EMPTY,
            original_destination_id: None,
            retry_source_id: None,
            idle_timeout_ms: 0,
            datagram_len_max: limits::MTU_MAX as u64,
            data_max: 0,
            stream_data_max: 0,
            streams_max: 0,
            message_len_max: 0,
            ack_delay_max_us: 25_000,
            connection_ids_max: 2,
            reset_token: None,
            features: 0,
            paths_max: 1,
            preferred: None,
        }
    }
}

impl TransportParams {
    /// Reads a list of parameters.
    // spec: WIRE-22, WIRE-23
    pub fn read(bytes: &[u8]) -> Result<Self, DecodeError> {
        tlv::check_unique(bytes)?;
        let mut params = Self::default();
        let mut has_source = false;
        for entry in TlvIter::new(bytes) {
            let entry = entry?;
            let id_of = || ConnectionId::new(entry.value).ok_or(DecodeError::Invalid);
            match entry.id {
                id::INITIAL_SOURCE_ID => {
                    params.initial_source_id = id_of()?;
                    has_source = true;
                }
                id::ORIGINAL_DESTINATION_ID => params.original_destination_id = Some(id_of()?),
                id::RETRY_SOURCE_ID => params.retry_source_id = Some(id_of()?),
                id::IDLE_TIMEOUT_MS => params.idle_timeout_ms = entry.as_varint()?,
                id::DATAGRAM_LEN_MAX => params.datagram_len_max = entry.as_varint()?,
                id::DATA_MAX => params.data_max = entry.as_varint()?,
                id::STREAM_DATA_MAX => params.stream_data_max = entry.as_varint()?,
                id::STREAMS_MAX => params.streams_max = entry.as_varint()?,
                id::MESSAGE_LEN_MAX => params.message_len_max = entry.as_varint()?,
                id::ACK_DELAY_MAX_US => params.ack_delay_max_us = entry.as_varint()?,
                id::CONNECTION_IDS_MAX => params.connection_ids_max = entry.as_varint()?,
                id::RESET_TOKEN => {
                    let token = entry.value.try_into().map_err(|_| DecodeError::Invalid)?;
                    params.reset_token = Some(token);
                }
                id::FEATURES => params.features = entry.as_varint()?,
                id::PATHS_MAX => params.paths_max = entry.as_varint()?,
                id::PREFERRED_ADDRESS => {
                    params.preferred = Some(PreferredAddress::read(entry.value)?);
                }
                _ if entry.is_critical() => return Err(DecodeError::Invalid),
                _ => {}
            }
        }
        if has_source && params.is_valid() { Ok(params) } else { Err(DecodeError::Invalid) }
    }

    /// Ranges that the format sets.
    fn is_valid(&self) -> bool {
        self.datagram_len_max >= limits::MTU_BASE as u64
            && self.ack_delay_max_us < 1 << 24
            && self.connection_ids_max >= 2
            && self.streams_max <= limits::STREAMS_OPEN_MAX
            && (1..=limits::PATHS_MAX).contains(&self.paths_max)
    }

    /// Writes the parameters that differ from the default, and one grease entry.
    // spec: WIRE-24
    pub fn write(&self, writer: &mut Writer<'_>, grease: u16) -> Result<(), Full> {
        let default = Self::default();
        tlv::write(writer, id::INITIAL_SOURCE_ID, self.initial_source_id.as_bytes())?;
        let ids = [
            (id::ORIGINAL_DESTINATION_ID, self.original_destination_id),
            (id::RETRY_SOURCE_ID, self.retry_source_id),
        ];
        for (id, value) in ids {
            if let Some(value) = value {
                tlv::write(writer, id, value.as_bytes())?;
            }
        }
        let numbers = [
            (id::IDLE_TIMEOUT_MS, self.idle_timeout_ms, default.idle_timeout_ms),
            (id::DATAGRAM_LEN_MAX, self.datagram_len_max, default.datagram_len_max),
            (id::DATA_MAX, self.data_max, default.data_max),
            (id::STREAM_DATA_MAX, self.stream_data_max, default.stream_data_max),
            (id::STREAMS_MAX, self.streams_max, default.streams_max),
            (id::MESSAGE_LEN_MAX, self.message_len_max, default.message_len_max),
            (id::ACK_DELAY_MAX_US, self.ack_delay_max_us, default.ack_delay_max_us),
            (id::CONNECTION_IDS_MAX, self.connection_ids_max, default.connection_ids_max),
            (id::FEATURES, self.features, default.features),
            (id::PATHS_MAX, self.paths_max, default.paths_max),
        ];
        for (id, value, default) in numbers {
            if value != default {
                tlv::write_varint(writer, id, value)?;
            }
        }
        if let Some(token) = &self.reset_token {
            tlv::write(writer, id::RESET_TOKEN, token)?;
        }
        if let Some(preferred) = &self.preferred {
            let mut value = [0; PreferredAddress::LEN_MAX];
            let mut inner = Writer::new(&mut value);
            preferred.write(&mut inner)?;
            tlv::write(writer, id::PREFERRED_ADDRESS, inner.written())?;
        }
        tlv::write(writer, tlv::grease_id(grease), &grease.to_be_bytes())
    }
}
