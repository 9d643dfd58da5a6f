//! Transport parameters and openings.

use jsp_wire::stream::{Class, Delivery, Framing, Open, Profile};
use jsp_wire::{ConnectionId, PreferredAddress, TransportParams};
use serde_json::{Value, json};

use super::{hex, hex_of, refused};

pub(super) fn all() -> Value {
    json!({
        "description": "Transport parameters, with the number of their grease entry; openings of \
                        streams; and lists of parameters that are refused",
        "parameters": parameters(),
        "openings": openings(),
        "refused": refused(&[
            ("the source id is missing", &[]),
            ("an even id is not known", &[2, 0, 8, 0]),
            ("an id comes twice", &[2, 0, 1, 1, 9, 1, 1, 9]),
            ("a value is cut", &[2, 0, 1, 2, 0x40]),
            ("a varint does not fill its entry", &[2, 0, 1, 2, 9, 9]),
            ("datagram_len_max is 1199", &[2, 0, 3, 2, 0x44, 0xaf]),
            ("connection_ids_max is 1", &[2, 0, 0x0f, 1, 1]),
            ("no address is preferred", &[&[2, 0, 0x17, 42][..], &[0; 24], &[1], &[9; 17]].concat()),
            ("the reset token has 15 bytes", &[&[2, 0, 0x11, 15][..], &[0; 15]].concat()),
        ]),
    })
}

fn parameters() -> Vec<Value> {
    let id = |byte: u8, len: usize| ConnectionId::new(&[byte; 20][..len]).expect("a short id");
    let client = TransportParams {
        idle_timeout_ms: 30_000,
        data_max: 16_777_216,
        stream_data_max: 1_048_576,
        streams_max: 100,
        message_len_max: 65_536,
        ..TransportParams::default()
    };
    let server = TransportParams {
        initial_source_id: id(0x51, 4),
        original_destination_id: Some(id(0xd1, 8)),
        retry_source_id: Some(id(0x52, 8)),
        datagram_len_max: 1472,
        ack_delay_max_us: 1000,
        connection_ids_max: 8,
        reset_token: Some([0xee; 16]),
        features: 5,
        paths_max: 4,
        preferred: Some(PreferredAddress {
            v4: Some("192.0.2.7:4433".parse().expect("an address")),
            v6: Some("[2001:db8::7]:4434".parse().expect("an address")),
            id: id(0x53, 4),
            reset_token: [0xef; 16],
        }),
        ..client
    };
    let v6 = server.preferred.map(|preferred| PreferredAddress { v4: None, ..preferred });
    let by_v6 = TransportParams { preferred: v6, ..TransportParams::default() };
    [(TransportParams::default(), 0), (client, 3), (server, 65_535), (by_v6, 1)]
        .iter()
        .map(case)
        .collect()
}

fn case((params, grease): &(TransportParams, u16)) -> Value {
    let id = |id: Option<ConnectionId>| id.map(|id| hex_of(id.as_bytes()));
    json!({
        "initial_source_id": id(Some(params.initial_source_id)),
        "original_destination_id": id(params.original_destination_id),
        "retry_source_id": id(params.retry_source_id),
        "idle_timeout_ms": params.idle_timeout_ms.to_string(),
        "datagram_len_max": params.datagram_len_max.to_string(),
        "data_max": params.data_max.to_string(),
        "stream_data_max": params.stream_data_max.to_string(),
        "streams_max": params.streams_max.to_string(),
        "message_len_max": params.message_len_max.to_string(),
        "ack_delay_max_us": params.ack_delay_max_us.to_string(),
        "connection_ids_max": params.connection_ids_max.to_string(),
        "reset_token": params.reset_token.map(|token| hex_of(&token)),
        "features": params.features.to_string(),
        "paths_max": params.paths_max.to_string(),
        "preferred_address": params.preferred.map(|preferred| hex(|writer| preferred.write(writer))),
        "grease": grease.to_string(),
        "hex": hex(|writer| params.write(writer, *grease)),
    })
}

fn openings() -> Vec<Value> {
    let voice = Profile {
        framing: Framing::Messages,
        delivery: Delivery::Unreliable,
        ordered: false,
        class: Class::RealTime,
        unidirectional: true,
    };
    let file = Profile { framing: Framing::Bytes, class: Class::Scavenger, ..Profile::SIGNALLING };
    let partial = Profile { delivery: Delivery::Partial, class: Class::Interactive, ..voice };
    [
        (Profile::SIGNALLING, &b""[..]),
        (voice, b"\x01\x05voice\x07\x02\x40\xc8\x0f\x04opus"),
        (file, b"\x03\x01\x0a"),
        (partial, b"\x09\x01\x02"),
    ]
    .into_iter()
    .map(|(profile, params)| {
        let open = Open { profile, params };
        let mut value = describe_open(&open);
        value["hex"] = hex(|writer| open.write(writer)).into();
        value
    })
    .collect()
}

pub(super) fn describe_open(open: &Open<'_>) -> Value {
    let profile = &open.profile;
    json!({
        "framing": match profile.framing {
            Framing::Bytes => "bytes",
            Framing::Messages => "messages",
        },
        "delivery": match profile.delivery {
            Delivery::Reliable => "reliable",
            Delivery::Partial => "partial",
            Delivery::Unreliable => "unreliable",
        },
        "ordered": profile.ordered,
        "class": match profile.class {
            Class::Control => "control",
            Class::RealTime => "real time",
            Class::Interactive => "interactive",
            Class::Scavenger => "scavenger",
        },
        "unidirectional": profile.unidirectional,
        "list": hex_of(open.params),
    })
}
