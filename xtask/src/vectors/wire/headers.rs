//! Headers of packets, before and after their mask.

use jsp_wire::header::{
    LongFields, Protected, patch_length, write_retry, write_short, write_version_negotiation,
};
use jsp_wire::{ConnectionId, LongType, Shape, VERSION_1};
use serde_json::{Value, json};

use super::{encode, hex_of, refused};

/// What stands behind each header, as ciphertext and tag.
const REST: [u8; 24] = [
    0x30, 0x31, 0x32, 0x33, 0x34, 0x35, 0x36, 0x37, 0x38, 0x39, 0x3a, 0x3b, 0x3c, 0x3d, 0x3e, 0x3f,
    0x40, 0x41, 0x42, 0x43, 0x44, 0x45, 0x46, 0x47,
];
/// A mask as a header key makes it.
const MASK: [u8; 5] = [0xb7, 0x1e, 0x2d, 0x4c, 0x8b];

pub(super) fn all() -> Value {
    json!({
        "description": "Headers of packets; `rest` stands behind each and fills the packet, \
                        `masked` is the packet with the mask on",
        "rest": hex_of(&REST),
        "mask": hex_of(&MASK),
        "long": long(),
        "short": short(),
        "retry": retry(),
        "version_negotiation": version_negotiation(),
        "refused": refused(&[
            ("the fixed bit is clear in a short header", &[0x00; 30]),
            ("the fixed bit is clear in a long header", &[0x80, 0x4a, 0x53, 0x50, 1, 0, 0, 0, 1, 0]),
            ("an id has 21 bytes", &[&[0xe0, 0x4a, 0x53, 0x50, 1, 21][..], &[0; 40]].concat()),
            ("the length is more than there is", &[0xe0, 0x4a, 0x53, 0x50, 1, 0, 0, 2, 0]),
            ("the ids are cut", &[0xc0, 0x4a, 0x53, 0x50, 1, 4, 0]),
            ("a list of versions is empty", &[0xc0, 0, 0, 0, 0, 0, 0]),
            ("a list of versions is cut", &[0xc0, 0, 0, 0, 0, 0, 0, 0x4a, 0x53, 0x50]),
            ("a Retry is shorter than its tag", &[0xf0, 0x4a, 0x53, 0x50, 1, 0, 0, 1, 2, 3]),
        ]),
    })
}

fn id(first: u8, len: u8) -> ConnectionId {
    let bytes: Vec<u8> = (first..first + len).collect();
    ConnectionId::new(&bytes).expect("at most 20 bytes")
}

fn masked(packet: &[u8], pn_offset: usize) -> String {
    let mut packet = packet.to_vec();
    Protected::mask(&mut packet, pn_offset, MASK).expect("the number is there");
    hex_of(&packet)
}

fn long() -> Vec<Value> {
    let cases = [
        ("initial", LongType::Initial, id(0x10, 8), id(0, 0), &[][..], 0, 1),
        ("initial", LongType::Initial, id(0x10, 8), id(0x80, 4), &[0xcc; 29][..], 0x1234, 2),
        ("0-rtt", LongType::ZeroRtt, id(0x10, 20), id(0x80, 4), &[][..], 0x12_3456, 3),
        ("handshake", LongType::Handshake, id(0, 0), id(0x80, 20), &[][..], 0xaa_1234_5678, 4),
    ];
    let describe = |(name, kind, dcid, scid, token, pn, pn_len): (
        _,
        _,
        ConnectionId,
        ConnectionId,
        _,
        u64,
        _,
    )| {
        let fields = LongFields { kind, dcid, scid, token, pn, pn_len };
        let mut layout = None;
        let mut packet = encode(|writer| {
            layout = Some(fields.write(writer)?);
            writer.bytes(&REST)
        });
        let layout = layout.expect("the header is written");
        patch_length(&mut packet, layout, pn_len + REST.len()).expect("the length is there");
        json!({
            "type": name,
            "dcid": hex_of(dcid.as_bytes()),
            "scid": hex_of(scid.as_bytes()),
            "token": hex_of(token),
            "number": pn.to_string(),
            "number_bytes": pn_len,
            "number_offset": layout.pn_offset,
            "hex": hex_of(&packet),
            "masked": masked(&packet, layout.pn_offset),
        })
    };
    cases.into_iter().map(describe).collect()
}

fn short() -> Vec<Value> {
    let shapes = [
        Shape::Frames,
        Shape::Message,
        Shape::Bytes,
        Shape::OneShot,
        Shape::Fragment,
        Shape::Repair,
        Shape::Ack,
    ];
    let describe = |(number, shape): (usize, Shape)| {
        let (dcid, key_phase) = (id(0x20, if number % 2 == 0 { 0 } else { 4 }), number > 2);
        let (pn, pn_len) = (0x0a0b_0c0d_0e0f_u64, 1 + number % 4);
        let mut pn_offset = 0;
        let packet = encode(|writer| {
            pn_offset = write_short(writer, &dcid, shape, key_phase, pn, pn_len)?;
            writer.bytes(&REST)
        });
        json!({
            "dcid": hex_of(dcid.as_bytes()),
            "shape": number,
            "key_phase": key_phase,
            "number": pn.to_string(),
            "number_bytes": pn_len,
            "hex": hex_of(&packet),
            "masked": masked(&packet, pn_offset),
        })
    };
    shapes.into_iter().enumerate().map(describe).collect()
}

/// The tag is that of chapter 2; here it is any 16 bytes.
fn retry() -> Vec<Value> {
    let (dcid, scid, token, tag) = (id(0x80, 4), id(0x10, 8), [0xcc; 29], [0x77; 16]);
    let packet = encode(|writer| {
        write_retry(writer, &dcid, &scid, &token)?;
        writer.bytes(&tag)
    });
    vec![json!({
        "dcid": hex_of(dcid.as_bytes()),
        "scid": hex_of(scid.as_bytes()),
        "token": hex_of(&token),
        "tag": hex_of(&tag),
        "hex": hex_of(&packet),
    })]
}

fn version_negotiation() -> Vec<Value> {
    let versions = [VERSION_1, 0x1a2a_3a4a];
    let describe = |(dcid, scid): (&[u8], &[u8])| {
        let packet = encode(|writer| write_version_negotiation(writer, dcid, scid, &versions));
        json!({
            "dcid": hex_of(dcid),
            "scid": hex_of(scid),
            "versions": versions.map(|version| format!("{version:08x}")),
            "hex": hex_of(&packet),
        })
    };
    [(&[1, 2, 3, 4][..], &[5; 8][..]), (&[6; 30], &[])].into_iter().map(describe).collect()
}
