//! How a stream opens: from the application's configuration to the parameters on the wire, and back.

use core::time::Duration;

use bytes::Bytes;
use jsp_wire::stream::open_id;
use jsp_wire::{Full, Open, Writer, limits, tlv};

use super::config::{self, FecPolicy, StreamConfig, StreamInfo};
use crate::error::OpenError;

/// Longest content type, in bytes: RFC 6838, section 4.2 allows 127 for each of its two names.
const CONTENT_TYPE_LEN_MAX: usize = 255;

/// Room for all parameters of an opening, in bytes: label, content type, and a few numbers.
const PARAMS_LEN_MAX: usize = limits::LABEL_LEN_MAX + CONTENT_TYPE_LEN_MAX + 96;

/// Weight of a stream that does not tell one.
pub(super) const WEIGHT_DEFAULT: u8 = 16;

/// The parameters of an opening.
// spec: STR-3
pub(super) fn encode(config: &StreamConfig) -> Result<Bytes, OpenError> {
    let content_type_len = config.content_type.as_ref().map_or(0, String::len);
    if !config.profile().is_valid()
        || config.weight == 0
        || config.label.len() > limits::LABEL_LEN_MAX
        || content_type_len > CONTENT_TYPE_LEN_MAX
    {
        return Err(OpenError::InvalidConfig);
    }
    let mut room = [0u8; PARAMS_LEN_MAX];
    let mut writer = Writer::new(&mut room);
    write(config, &mut writer).map_err(|Full| OpenError::InvalidConfig)?;
    Ok(match writer.written() {
        [] => Bytes::new(),
        params => Bytes::copy_from_slice(params),
    })
}

fn write(config: &StreamConfig, writer: &mut Writer<'_>) -> Result<(), Full> {
    if !config.label.is_empty() {
        tlv::write(writer, open_id::LABEL, config.label.as_bytes())?;
    }
    if config.weight != WEIGHT_DEFAULT {
        tlv::write_varint(writer, open_id::WEIGHT, config.weight.into())?;
    }
    if let Some(rate) = config.rate_cap {
        tlv::write_varint(writer, open_id::RATE_CAP, rate.min(jsp_wire::varint::MAX))?;
    }
    if let config::Delivery::Partial { retransmits, lifetime } = config.delivery {
        if let Some(lifetime) = lifetime {
            let ms = u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX);
            tlv::write_varint(writer, open_id::LIFETIME_MS, ms.min(jsp_wire::varint::MAX))?;
        }
        if let Some(retransmits) = retransmits {
            tlv::write_varint(writer, open_id::RETRANSMITS_MAX, retransmits.into())?;
        }
    }
    match config.fec {
        // Each side has its own code.
        FecPolicy::Auto | FecPolicy::Fountain(_) => {}
        FecPolicy::Off => tlv::write_varint(writer, open_id::FEC, 1)?,
        FecPolicy::Fixed(percent) => {
            tlv::write_varint(writer, open_id::FEC, 2 + u64::from(percent))?;
        }
    }
    if config.replay_safe {
        tlv::write(writer, open_id::REPLAY_SAFE, &[])?;
    }
    match &config.content_type {
        Some(name) => tlv::write(writer, open_id::CONTENT_TYPE, name.as_bytes()),
        None => Ok(()),
    }
}

/// What the accepting side's own sending half takes from the opening.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) weight: u8,
    pub(super) rate_cap: Option<u64>,
    pub(super) lifetime: Option<Duration>,
    pub(super) retransmits: Option<u32>,
    pub(super) fec: FecPolicy,
}

/// Reads the numbers of an opening; values out of range count as absent.
pub(super) fn decode(open: &Open<'_>) -> Asked {
    if open.params.is_empty() {
        let (rate_cap, lifetime, retransmits) = (None, None, None);
        let fec = FecPolicy::Auto;
        return Asked { weight: WEIGHT_DEFAULT, rate_cap, lifetime, retransmits, fec };
    }
    let weight = open.param_varint(open_id::WEIGHT).and_then(|weight| u8::try_from(weight).ok());
    let retransmits = open.param_varint(open_id::RETRANSMITS_MAX);
    Asked {
        weight: weight.filter(|weight| *weight > 0).unwrap_or(WEIGHT_DEFAULT),
        rate_cap: open.param_varint(open_id::RATE_CAP).filter(|rate| *rate > 0),
        lifetime: open.param_varint(open_id::LIFETIME_MS).map(Duration::from_millis),
        retransmits: retransmits.map(|n| u32::try_from(n).unwrap_or(u32::MAX)),
        fec: fec(open.param_varint(open_id::FEC).unwrap_or(0)),
    }
}

/// What the parameter says; more than all counts as all.
// spec: FEC-9
fn fec(value: u64) -> FecPolicy {
    match value {
        0 => FecPolicy::Auto,
        1 => FecPolicy::Off,
        percent => {
            FecPolicy::Fixed(u8::try_from(percent.saturating_sub(2)).unwrap_or(100).min(100))
        }
    }
}

/// Whether what the opener sends may come in 0-RTT packets.
pub(super) fn is_replay_safe(open: &Open<'_>) -> bool {
    open.param(open_id::REPLAY_SAFE).is_some()
}

/// What the application may know of an opening. Labels that are not UTF-8 are shown as far as they
/// can be.
pub(super) fn info(open: &Open<'_>) -> StreamInfo {
    if open.params.is_empty() {
        let (label, content_type, replay_safe) = (String::new(), None, false);
        return StreamInfo { profile: open.profile, label, content_type, replay_safe };
    }
    let text = |id| open.param(id).map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    StreamInfo {
        profile: open.profile,
        label: text(open_id::LABEL).unwrap_or_default(),
        content_type: text(open_id::CONTENT_TYPE),
        replay_safe: is_replay_safe(open),
    }
}
