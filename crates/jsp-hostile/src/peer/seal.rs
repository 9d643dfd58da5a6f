//! Packets sealed and opened apart from the transport's own code.

use jsp_crypto::{DirectionKeys, HeaderKey, PacketKey};
use jsp_wire::header::{LongFields, Protected, patch_length, write_short};
use jsp_wire::{ConnectionId, Header, LongType, Shape, Writer, limits};

/// Bytes that a payload must have at least, so that the mask finds its sample.
const PAYLOAD_LEN_MIN: usize = 4;

/// A packet with a long header: ids are destination and source.
pub fn long_packet(
    kind: LongType,
    (dcid, scid): (ConnectionId, ConnectionId),
    token: &[u8],
    pn: u64,
    payload: &[u8],
    keys: &DirectionKeys,
) -> Vec<u8> {
    let mut packet = vec![0; 200 + payload.len()];
    let fields = LongFields { kind, dcid, scid, token, pn, pn_len: 4 };
    let layout = fields.write(&mut Writer::new(&mut packet)).expect("room for a header");
    let head = layout.pn_offset + 4;
    let body = payload.len().max(PAYLOAD_LEN_MIN) + limits::TAG_LEN;
    packet[head..head + payload.len()].copy_from_slice(payload);
    packet.truncate(head + body);
    patch_length(&mut packet, layout, 4 + body).expect("a length of two bytes");
    let (header, text) = packet.split_at_mut(head);
    keys.packet.seal_in_place(pn, header, text).expect("a packet number below 2^62");
    let sample = Protected::sample(&packet, layout.pn_offset).expect("a sample");
    Protected::mask(&mut packet, layout.pn_offset, keys.header.mask(&sample)).expect("a mask");
    packet
}

/// Opens a packet with a long header; its number and its payload.
pub fn open_long(packet: &[u8], expected: u64, keys: &DirectionKeys) -> Option<(u64, Vec<u8>)> {
    let Ok(Header::Long(header)) = Header::parse(packet) else { return None };
    let mut packet = packet[..header.packet_len].to_vec();
    let sample = Protected::sample(&packet, header.pn_offset).ok()?;
    let mask = keys.header.mask(&sample);
    let (low, pn_len) = Protected::unmask_long(&mut packet, header.pn_offset, mask).ok()?;
    let pn = jsp_wire::pn::expand(low, pn_len, expected);
    let (head, body) = packet.split_at_mut_checked(header.pn_offset + pn_len)?;
    let len = keys.packet.open_in_place(pn, head, body).ok()?;
    Some((pn, body[..len].to_vec()))
}

/// A packet with a short header, its number in four bytes.
pub fn short_packet(
    dcid: &ConnectionId,
    shape: Shape,
    phase: bool,
    pn: u64,
    payload: &[u8],
    (key, header_key): (&PacketKey, &HeaderKey),
) -> Vec<u8> {
    let head = 1 + dcid.len() + 4;
    let mut packet = vec![0; head + payload.len() + limits::TAG_LEN];
    let mut writer = Writer::new(&mut packet);
    let pn_offset = write_short(&mut writer, dcid, shape, phase, pn, 4).expect("room");
    packet[head..head + payload.len()].copy_from_slice(payload);
    let (header, body) = packet.split_at_mut(head);
    key.seal_in_place(pn, header, body).expect("a packet number below 2^62");
    let sample = Protected::sample(&packet, pn_offset).expect("a sample");
    Protected::mask(&mut packet, pn_offset, header_key.mask(&sample)).expect("a mask");
    packet
}
