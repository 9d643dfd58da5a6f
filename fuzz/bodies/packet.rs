//! A packet with a long header, as a client sends it.

use jsp_crypto::DirectionKeys;
use jsp_wire::header::{LongFields, Protected, patch_length};
use jsp_wire::{ConnectionId, LongType, Writer};

/// The packet, sealed, with a packet number of `pn_len` bytes.
pub fn sealed(
    kind: LongType,
    dcid: ConnectionId,
    (pn, pn_len): (u64, usize),
    payload: &[u8],
    keys: &DirectionKeys,
) -> Vec<u8> {
    let mut packet = vec![0; 200 + payload.len()];
    let scid = ConnectionId::EMPTY;
    let fields = LongFields { kind, dcid, scid, token: &[], pn, pn_len };
    let layout = fields.write(&mut Writer::new(&mut packet)).expect("room for a header");
    let start = layout.pn_offset + pn_len;
    packet[start..start + payload.len()].copy_from_slice(payload);
    let len = payload.len().max(4) + 16;
    packet.truncate(start + len);
    patch_length(&mut packet, layout, pn_len + len).expect("the length fits");
    let (head, body) = packet.split_at_mut(start);
    keys.packet.seal_in_place(pn, head, body).expect("the first packets of a key");
    let sample = Protected::sample(&packet, layout.pn_offset).expect("a whole packet");
    let mask = keys.header.mask(&sample);
    Protected::mask(&mut packet, layout.pn_offset, mask).expect("a whole packet");
    packet
}
