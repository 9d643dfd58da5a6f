//! Door 7 out and 2 in: header, number, protection.

use core::ops::Range;

use jsp_crypto::{DirectionKeys, HeaderKey, PacketKey};
use jsp_wire::header::{self, LongFields, LongLayout, Protected};
use jsp_wire::{CloseCode, PathId, Writer, limits};

use crate::error::TransportError;
use crate::packet::Built;

/// Payload bytes that a packet must have so that header protection finds its sample, less the
/// bytes of the packet number.
const SAMPLED_LEN_MIN: usize = limits::SAMPLE_OFFSET;

fn internal(_: impl Sized) -> TransportError {
    TransportError::new(CloseCode::INTERNAL, "a packet could not be sealed")
}

/// A long header at the start of `packet`.
pub(crate) fn write_long_header(
    packet: &mut [u8],
    fields: &LongFields<'_>,
) -> Result<LongLayout, TransportError> {
    fields.write(&mut Writer::new(packet)).map_err(internal)
}

/// Pads, completes and protects a packet with a long header; answers its length.
pub(crate) fn seal_long(
    packet: &mut [u8],
    layout: LongLayout,
    fields: &LongFields<'_>,
    built: Built,
    keys: &DirectionKeys,
) -> Result<usize, TransportError> {
    let header_len = layout.pn_offset.saturating_add(fields.pn_len);
    let payload_len = built.len.max(SAMPLED_LEN_MIN.saturating_sub(fields.pn_len));
    let sealed_len = payload_len.saturating_add(limits::TAG_LEN);
    let end = header_len.saturating_add(sealed_len);
    let packet = packet.get_mut(..end).ok_or(()).map_err(internal)?;
    pad(packet, header_len.saturating_add(built.len), payload_len.saturating_sub(built.len));
    header::patch_length(packet, layout, fields.pn_len.saturating_add(sealed_len))
        .map_err(internal)?;
    let number = (PathId::FIRST, fields.pn);
    protect(packet, layout.pn_offset, header_len, number, &keys.packet, &keys.header)?;
    Ok(end)
}

/// A short header at the start of `packet`; answers the offset of the packet number.
pub(crate) fn write_short_header(
    packet: &mut [u8],
    fields: &ShortHeader<'_>,
) -> Result<usize, TransportError> {
    let ShortHeader { dcid, phase, pn, pn_len, .. } = *fields;
    let mut writer = Writer::new(packet);
    header::write_short(&mut writer, dcid, jsp_wire::Shape::Frames, phase, pn, pn_len)
        .map_err(internal)
}

/// What a short header says, before its shape is known.
#[derive(Clone, Copy)]
pub(crate) struct ShortHeader<'a> {
    pub(crate) path: PathId,
    pub(crate) dcid: &'a jsp_wire::ConnectionId,
    pub(crate) phase: bool,
    pub(crate) pn: u64,
    pub(crate) pn_len: usize,
}

/// Completes and protects a packet with a short header; answers its length.
///
/// A payload that is too short for the sample gets padding if it consists of frames, and else a
/// longer packet number, because a shape says exactly what fills the packet.
pub(crate) fn seal_short(
    packet: &mut [u8],
    fields: &ShortHeader<'_>,
    built: Built,
    key: &PacketKey,
    header_key: &HeaderKey,
) -> Result<usize, TransportError> {
    let pn_offset = fields.dcid.len().saturating_add(1);
    let mut header_len = pn_offset.saturating_add(fields.pn_len);
    let mut payload_len = built.len;
    let missing = SAMPLED_LEN_MIN.saturating_sub(fields.pn_len.saturating_add(built.len));
    if missing > 0 && built.shape == jsp_wire::Shape::Frames {
        pad(packet, header_len.saturating_add(built.len), missing);
        payload_len = payload_len.saturating_add(missing);
    } else if missing > 0 {
        let old = header_len..header_len.saturating_add(built.len);
        header_len = header_len.saturating_add(missing);
        if header_len.saturating_add(built.len) > packet.len() {
            return Err(internal(()));
        }
        packet.copy_within(old, header_len);
        let pn_len = fields.pn_len.saturating_add(missing);
        write_short_header(packet, &ShortHeader { pn_len, ..*fields })?;
    }
    let end = header_len.saturating_add(payload_len).saturating_add(limits::TAG_LEN);
    let packet = packet.get_mut(..end).ok_or(()).map_err(internal)?;
    header::patch_shape(packet, built.shape);
    protect(packet, pn_offset, header_len, (fields.path, fields.pn), key, header_key)?;
    Ok(end)
}

/// Takes the protection off a packet with a long header; answers its number and where in it the
/// payload lies. On failure the packet is spoilt.
pub(crate) fn open_long(
    packet: &mut [u8],
    pn_offset: usize,
    expected: u64,
    keys: &DirectionKeys,
) -> Option<(u64, Range<usize>)> {
    let sample = Protected::sample(packet, pn_offset).ok()?;
    let mask = keys.header.mask(&sample);
    let (low, pn_len) = Protected::unmask_long(packet, pn_offset, mask).ok()?;
    let pn = jsp_wire::pn::expand(low, pn_len, expected);
    let header_len = pn_offset.checked_add(pn_len)?;
    let (head, body) = packet.split_at_mut_checked(header_len)?;
    let len = keys.packet.open_in_place(pn, head, body).ok()?;
    Some((pn, header_len..header_len.checked_add(len)?))
}

fn pad(packet: &mut [u8], from: usize, len: usize) {
    if let Some(slot) = packet.get_mut(from..from.saturating_add(len)) {
        slot.fill(0);
    }
}

fn protect(
    packet: &mut [u8],
    pn_offset: usize,
    header_len: usize,
    (path, pn): (PathId, u64),
    key: &PacketKey,
    header_key: &HeaderKey,
) -> Result<(), TransportError> {
    let (header, payload) = packet.split_at_mut_checked(header_len).ok_or(()).map_err(internal)?;
    key.seal_on_path(path.0, pn, header, payload).map_err(internal)?;
    let sample = Protected::sample(packet, pn_offset).map_err(internal)?;
    Protected::mask(packet, pn_offset, header_key.mask(&sample)).map_err(internal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jsp_crypto::{Role, VERSION_1, initial_keys};
    use jsp_wire::{ConnectionId, Shape};

    const PN: u64 = 0x1234_5678;

    /// Seals a payload of so many bytes of 7 behind a number of `pn_len` bytes, and opens it: length of the number, and payload.
    fn sealed(shape: Shape, pn_len: usize, len: usize) -> (usize, Vec<u8>) {
        let dcid = ConnectionId::new(&[9; 8]).unwrap();
        let keys = initial_keys(Role::Client, VERSION_1, dcid.as_bytes(), None).local;
        let mut packet = vec![7; 100];
        let path = PathId::FIRST;
        let fields = ShortHeader { path, dcid: &dcid, phase: true, pn: PN, pn_len };
        let pn_offset = write_short_header(&mut packet, &fields).unwrap();
        packet[pn_offset + pn_len + len..].fill(1);
        let content = (0, len);
        let built = Built { len, shape, ack_eliciting: true, protection: None, content };
        let end = seal_short(&mut packet, &fields, built, &keys.packet, &keys.header).unwrap();
        packet.truncate(end);
        let mask = keys.header.mask(&Protected::sample(&packet, pn_offset).unwrap());
        let opened = Protected::unmask_short(&mut packet, pn_offset, mask).unwrap();
        assert_eq!((opened.shape, opened.key_phase), (Some(shape), true));
        let pn = jsp_wire::pn::expand(opened.truncated_pn, opened.pn_len, PN);
        let (header, payload) = packet.split_at_mut(pn_offset + opened.pn_len);
        let len = keys.packet.open_on_path(0, pn, header, payload).unwrap();
        (opened.pn_len, payload[..len].to_vec())
    }

    #[test]
    fn frames_that_are_too_short_for_the_sample_are_padded() {
        for (pn_len, len, padded) in [(1, 1, 3), (1, 3, 3), (2, 1, 2), (4, 0, 0), (1, 9, 9)] {
            let expected: Vec<u8> = [vec![7; len], vec![0; padded - len]].concat();
            assert_eq!(sealed(Shape::Frames, pn_len, len), (pn_len, expected), "{pn_len} {len}");
        }
    }

    #[test]
    fn a_shape_that_is_too_short_for_the_sample_has_a_longer_number() {
        for (pn_len, len, longer) in
            [(1, 1, 3), (1, 2, 2), (2, 1, 3), (1, 3, 1), (4, 1, 4), (1, 0, 4)]
        {
            assert_eq!(sealed(Shape::Ack, pn_len, len), (longer, vec![7; len]), "{pn_len} {len}");
        }
    }

    #[test]
    fn what_does_not_fit_is_not_sealed() {
        let dcid = ConnectionId::new(&[9; 8]).unwrap();
        let keys = initial_keys(Role::Client, VERSION_1, dcid.as_bytes(), None).local;
        let path = PathId::FIRST;
        let fields = ShortHeader { path, dcid: &dcid, phase: false, pn: PN, pn_len: 1 };
        let shape = Shape::Ack;
        let built = Built { len: 1, shape, ack_eliciting: true, protection: None, content: (0, 1) };
        // One byte of header, the id, a number of three bytes, the payload and the tag.
        let least = 1 + 8 + 3 + 1 + limits::TAG_LEN;
        for (room, fits) in [(least - 1, false), (least, true), (11, false)] {
            let mut packet = vec![0; room];
            write_short_header(&mut packet, &fields).unwrap();
            let sealed = seal_short(&mut packet, &fields, built, &keys.packet, &keys.header);
            assert_eq!(sealed.is_ok(), fits, "{room}");
        }
    }
}
