//! Handshakes in bad weather and bad company.

mod datagrams;
mod forgery;
mod loss;
#[path = "../pair/mod.rs"]
mod pair;
mod refusal;
mod retry;
mod second;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use jsp_crypto::{
    ClientConfig, Fingerprint, HandshakeError, Identity, Keys, Role, ServerConfig, ServerIdentity,
    ServerVerifier, VerifierRejection, initial_keys,
};
use jsp_proto::{
    Batch, CloseReason, ConnectionHandle, Datagram, Endpoint, EndpointConfig, Event, RetryPolicy,
    Route, ServerSetup, StreamConfig, StreamId, TransportConfig,
};
use jsp_wire::frame::HandshakeFragment;
use jsp_wire::header::{self, Header, LongFields, LongHeader, Protected};
use jsp_wire::{CloseCode, ConnectionId, Frame, FrameIter, LongType, VERSION_1, Writer};
use pair::{DELAY, End, Pair, TestRng};

/// True when a datagram holds a Handshake packet.
fn has_handshake(mut datagram: &[u8]) -> bool {
    while let Ok(Header::Long(header)) = Header::parse(datagram) {
        if header.kind == LongType::Handshake {
            return true;
        }
        datagram = &datagram[header.packet_len..];
    }
    false
}

/// The first packet of a client, as somebody on the way reads it: its ids.
fn ids_of(datagram: &[u8]) -> (ConnectionId, ConnectionId) {
    match Header::parse(datagram) {
        Ok(Header::Long(header)) => (header.dcid, header.scid),
        other => panic!("{other:?}"),
    }
}

/// An Initial packet with this payload, by somebody who knows the ids and the pin.
fn forge(
    keys: &Keys,
    ids: (ConnectionId, ConnectionId),
    pn: u64,
    pn_len: usize,
    payload: &[u8],
) -> Vec<u8> {
    forge_with(keys, ids, pn, pn_len, 0, payload)
}

/// The same with further bits set in its flags.
fn forge_with(
    keys: &Keys,
    (dcid, scid): (ConnectionId, ConnectionId),
    pn: u64,
    pn_len: usize,
    flags: u8,
    payload: &[u8],
) -> Vec<u8> {
    let mut packet = vec![0; 1200];
    let fields = LongFields { kind: LongType::Initial, dcid, scid, token: &[], pn, pn_len };
    let layout = fields.write(&mut Writer::new(&mut packet)).unwrap();
    packet[0] |= flags;
    let start = layout.pn_offset + pn_len;
    packet[start..start + payload.len()].copy_from_slice(payload);
    let len = payload.len().max(4) + 16;
    packet.truncate(start + len);
    header::patch_length(&mut packet, layout, pn_len + len).unwrap();
    let (head, body) = packet.split_at_mut(start);
    keys.local.packet.seal_in_place(pn, head, body).unwrap();
    let sample = Protected::sample(&packet, layout.pn_offset).unwrap();
    Protected::mask(&mut packet, layout.pn_offset, keys.local.header.mask(&sample)).unwrap();
    packet
}

/// The server that the client expects.
fn pin_of(pair: &Pair) -> Fingerprint {
    let ServerIdentity::Pinned(pin) = &pair.client_config.expected else { panic!() };
    *pin
}

/// Opens a stream at the client and writes its first bytes.
fn write_first(pair: &mut Pair, client: ConnectionHandle, bytes: &'static [u8]) -> StreamId {
    let now = pair.now;
    let connection = pair.client.connection(client).unwrap();
    let stream = connection.open(now, StreamConfig::bytes()).unwrap();
    connection.write(now, stream, bytes::Bytes::from_static(bytes)).unwrap();
    stream
}

/// A client's attempt that the client gives up, soon; answers why.
fn fails_soon(pair: &mut Pair) -> CloseReason {
    let start = pair.now;
    let client = pair.connect();
    pair.run_until(|pair| pair.close_reason(End::Client, client).is_some());
    // Three probe time-outs, of a second each before a round trip is measured.
    assert!(pair.now - start < Duration::from_millis(3300));
    pair.close_reason(End::Client, client).unwrap()
}

/// A client's attempt whose hello somebody on the way has read; answers the ids and the keys with
/// which he can speak as the server.
fn overheard(pair: &mut Pair) -> (ConnectionHandle, ConnectionId, ConnectionId, Keys) {
    let client = pair.connect();
    pair.flush();
    let (dcid, scid) = ids_of(&pair.on_the_way(End::Server)[0]);
    let keys = initial_keys(Role::Server, VERSION_1, dcid.as_bytes(), Some(&pin_of(pair)));
    (client, dcid, scid, keys)
}
