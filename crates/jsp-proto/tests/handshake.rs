//! Handshakes in bad weather and bad company.

mod pair;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jsp_crypto::{
    ClientConfig, Fingerprint, HandshakeError, Identity, Keys, Role, ServerConfig, ServerIdentity,
    ServerVerifier, VerifierRejection, initial_keys,
};
use jsp_proto::{
    Batch, CloseReason, ConnectionHandle, Datagram, Endpoint, EndpointConfig, Event, RetryPolicy,
    Route, ServerSetup, StreamConfig, TransportConfig,
};
use jsp_wire::header::{self, Header, LongFields, Protected};
use jsp_wire::{CloseCode, ConnectionId, LongType, VERSION_1, Writer, limits};
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

/// Runs one handshake with the filter; the server must keep to its budget until the client is proved.
/// Panics when it does not come about.
fn connects(retry: RetryPolicy, filter: impl FnMut(End, &mut Vec<u8>) -> bool + 'static) -> Pair {
    let mut pair = Pair::with(TransportConfig::default(), retry);
    pair.filter = Box::new(filter);
    let client = pair.connect();
    pair.record = Some(Vec::new());
    let mut proved = false;
    pair.run_until(|pair| {
        let record = pair.record.take().unwrap();
        proved |= record.iter().any(|(to, bytes)| *to == End::Server && has_handshake(bytes));
        pair.record = Some(Vec::new());
        if !proved {
            let told = pair.told.get(&pair.client_addr).copied().unwrap_or(0);
            let heard = pair.heard.get(&pair.client_addr).copied().unwrap_or(0);
            assert!(told <= 3 * heard, "{told} bytes for {heard}");
        }
        let count = pair.events.iter().filter(|(_, _, e)| *e == Event::Connected).count();
        assert_eq!(pair.close_reason(End::Client, client), None);
        count == 2
    });
    pair
}

#[test]
// spec-test: CON-3, CON-10, CON-11, CON-27
fn any_one_or_two_datagrams_may_be_lost() {
    for retry in [RetryPolicy::Never, RetryPolicy::Always] {
        for first in 0..9 {
            for second in first..9 {
                let mut n = 0;
                connects(retry, move |_, _| {
                    n += 1;
                    n - 1 != first && n - 1 != second
                });
            }
        }
    }
}

#[test]
// spec-test: CON-11
fn a_server_without_budget_is_asked_again() {
    // The server's flight is lost but for its first datagram, until its budget is used up; then the
    // client's answer is lost as well.
    let (mut to_client, mut to_server) = (0, 0);
    connects(RetryPolicy::Never, move |to, _| {
        let n = if to == End::Client { &mut to_client } else { &mut to_server };
        *n += 1;
        match to {
            End::Client => *n == 1 || *n > 5,
            End::Server => *n <= 2 || *n > 4,
        }
    });
}

#[test]
// spec-test: CON-3
fn hello_fragments_may_change_places_and_come_twice() {
    let mut pair = Pair::new();
    let mut n = 0u64;
    pair.weather = Box::new(move |to| {
        n += 1;
        let first = if to == End::Server && n == 1 { 25 } else { 10 };
        vec![Duration::from_millis(first), Duration::from_millis(40)]
    });
    let client = pair.connect();
    pair.run_until(|pair| pair.client.connection(client).unwrap().is_established());
    pair.run_for(Duration::from_secs(1));
    assert_eq!(pair.close_reason(End::Client, client), None);
    let connected = pair.events.iter().filter(|(_, _, e)| *e == Event::Connected).count();
    assert_eq!(connected, 2);
}

#[test]
// spec-test: CON-17
fn a_lost_handshake_done_is_said_again() {
    let mut pair = Pair::new();
    let mut to_client = 0;
    pair.filter = Box::new(move |to, _| {
        to_client += u32::from(to == End::Client);
        // After the server's flight, nothing reaches the client for a while.
        to == End::Server || !(3..8).contains(&to_client)
    });
    let client = pair.connect();
    pair.run_for(Duration::from_secs(8));
    let now = pair.now;
    let connection = pair.client.connection(client).unwrap();
    assert!(connection.is_established());
    let stream = connection.open(now, StreamConfig::bytes()).unwrap();
    connection.write(now, stream, bytes::Bytes::from_static(b"later")).unwrap();
    pair.run_for(Duration::from_secs(2));
    assert!(pair.events.iter().any(|(_, _, e)| *e == Event::StreamOpened { stream }));
    assert_eq!(pair.client.connection(client).unwrap().stats().bytes_in_flight, 0);
}

#[test]
// spec-test: CON-19
fn data_that_overtakes_the_clients_flight_is_kept() {
    let mut pair = Pair::new();
    pair.filter = Box::new(|_, _| true);
    let client = pair.connect();
    pair.run_until(|pair| pair.client.connection(client).unwrap().is_established());
    // The client's flight is on its way; hold it back, and let the data pass.
    let now = pair.now;
    pair.weather = {
        let mut n = 0;
        Box::new(move |to| {
            n += u32::from(to == End::Server);
            let late = to == End::Server && n == 1;
            vec![Duration::from_millis(if late { 60 } else { 10 })]
        })
    };
    pair.flush();
    let connection = pair.client.connection(client).unwrap();
    let stream = connection.open(now, StreamConfig::bytes()).unwrap();
    connection.write(now, stream, bytes::Bytes::from_static(b"early")).unwrap();
    pair.run_until(|pair| {
        pair.events
            .iter()
            .any(|(end, _, e)| *end == End::Server && *e == Event::StreamOpened { stream })
    });
    // It was not sent a second time: it came with the flight.
    assert!(pair.now - now <= Duration::from_millis(61), "{:?}", pair.now - now);
}

#[test]
// spec-test: CON-38
fn a_lost_client_flight_goes_again_with_the_first_data() {
    let mut pair = Pair::new();
    // The client's flight leaves alone, and is lost.
    let mut flights = 0;
    pair.filter = Box::new(move |to, bytes| {
        let is_flight = to == End::Server && has_handshake(bytes);
        flights += u32::from(is_flight);
        !is_flight || flights > 1
    });
    let client = pair.connect();
    pair.run_until(|pair| pair.client.connection(client).unwrap().is_established());
    let now = pair.now;
    let connection = pair.client.connection(client).unwrap();
    let stream = connection.open(now, StreamConfig::bytes()).unwrap();
    connection.write(now, stream, bytes::Bytes::from_static(b"first")).unwrap();
    pair.run_until(|pair| {
        pair.events
            .iter()
            .any(|(end, _, e)| *end == End::Server && *e == Event::StreamOpened { stream })
    });
    assert!(pair.now - now <= Duration::from_millis(11), "{:?}", pair.now - now);
    // Once is enough: the data that follow are data alone.
    let before = pair.sent[0];
    let now = pair.now;
    let connection = pair.client.connection(client).unwrap();
    connection.write(now, stream, bytes::Bytes::from_static(b"second")).unwrap();
    pair.flush();
    assert!((1..60).contains(&(pair.sent[0] - before)), "{}", pair.sent[0] - before);
}

#[test]
// spec-test: CON-29
fn damaged_hellos_are_no_sign_of_a_wrong_pin() {
    // Two whole hellos arrive damaged, and twice each: the third, after three seconds, is heard.
    let mut pair = Pair::new();
    let mut to_server = 0;
    pair.filter = Box::new(move |to, bytes| {
        to_server += u32::from(to == End::Server);
        if to == End::Server && to_server <= 4 {
            bytes[600] ^= 0x10;
        }
        true
    });
    pair.weather = Box::new(|to| vec![DELAY; if to == End::Server { 2 } else { 1 }]);
    let start = pair.now;
    let client = pair.connect();
    pair.run_until(|pair| pair.client.connection(client).unwrap().is_established());
    assert!(pair.now - start > Duration::from_millis(1600), "{:?}", pair.now - start);
    assert!(pair.told[&pair.client_addr] > 0);
    assert_eq!(pair.close_reason(End::Client, client), None);
}

#[test]
// spec-test: CON-37
fn a_cookie_of_another_address_is_told_of() {
    // The client's address changes between the Retry and the hello that obeys it.
    let mut pair = Pair::with(TransportConfig::default(), RetryPolicy::Always);
    let start = pair.now;
    let client = pair.connect();
    pair.run_for(Duration::from_millis(15));
    pair.client_addr = "192.0.2.1:1001".parse().unwrap();
    pair.run_until(|pair| pair.close_reason(End::Client, client).is_some());
    match pair.close_reason(End::Client, client) {
        Some(CloseReason::PeerError { code, .. }) => assert_eq!(code, CloseCode::INVALID_TOKEN),
        other => panic!("{other:?}"),
    }
    assert!(pair.now - start < Duration::from_millis(1800));
    assert_eq!(pair.server.connection_count(), 0);
}

#[test]
// spec-test: CON-37
fn a_hello_with_a_bad_cookie_opens_nothing() {
    let mut pair = Pair::with(TransportConfig::default(), RetryPolicy::Always);
    let hellos = Arc::new(Mutex::new(Vec::new()));
    let sink = hellos.clone();
    pair.filter = Box::new(move |to, bytes| {
        let retried = matches!(Header::parse(bytes), Ok(Header::Long(h)) if !h.token.is_empty());
        if to == End::Server && retried {
            sink.lock().unwrap().push(bytes.clone());
        }
        !retried
    });
    pair.connect();
    pair.run_for(DELAY * 3);
    let hellos = hellos.lock().unwrap().clone();
    assert_eq!(hellos.len(), 2);
    // A server with other cookie keys, with and without Retry; and the same bytes, damaged.
    for policy in [RetryPolicy::Never, RetryPolicy::Always] {
        for damaged in [false, true] {
            let mut other = Pair::seeded(TransportConfig::default(), policy, 16, 99);
            let from = other.client_addr;
            for hello in &hellos {
                let mut hello = hello.clone();
                hello[40] ^= u8::from(damaged);
                other.inject(End::Server, from, &hello);
            }
            other.run_for(DELAY);
            assert_eq!(other.server.connection_count(), 0);
            let told = other.told.get(&from).copied().unwrap_or(0);
            assert_eq!(told > 0, !damaged);
            assert!(told < 150, "two short answers at most: {told}");
        }
    }
}

#[test]
// spec-test: CON-25
// spec-test: CON-29
fn a_wrong_pin_is_told_soon() {
    let mut pair = Pair::new();
    let wrong = Fingerprint::from_bytes([7; 32]);
    pair.client_config = Arc::new(ClientConfig::new(ServerIdentity::Pinned(wrong)));
    let start = pair.now;
    let client = pair.connect();
    pair.run_until(|pair| pair.close_reason(End::Client, client).is_some());
    let reason = pair.close_reason(End::Client, client);
    assert_eq!(reason, Some(CloseReason::NotThePinnedServer));
    assert!(pair.now - start < Duration::from_millis(1800));
}

struct Refuse;

impl ServerVerifier for Refuse {
    fn verify(&self, _: &Fingerprint) -> Result<(), VerifierRejection> {
        Err(VerifierRejection("not this one"))
    }
}

#[test]
fn a_refused_identity_is_told_soon() {
    let mut pair = Pair::new();
    let expected = ServerIdentity::TrustOnFirstUse(Box::new(Refuse));
    pair.client_config = Arc::new(ClientConfig::new(expected));
    let start = pair.now;
    let client = pair.connect();
    pair.run_until(|pair| pair.close_reason(End::Client, client).is_some());
    let error = HandshakeError::IdentityRejected("not this one");
    assert_eq!(pair.close_reason(End::Client, client), Some(CloseReason::Handshake(error)));
    assert!(pair.now - start < Duration::from_millis(1800));
}

#[test]
// spec-test: CON-25
fn too_many_connections_are_refused() {
    let mut pair = Pair::seeded(TransportConfig::default(), RetryPolicy::Never, 1, 1);
    let (first, _) = pair.establish();
    let start = pair.now;
    let second = pair.connect();
    pair.run_until(|pair| pair.close_reason(End::Client, second).is_some());
    match pair.close_reason(End::Client, second) {
        Some(CloseReason::PeerError { code, .. }) => assert_eq!(code, CloseCode::REFUSED),
        other => panic!("{other:?}"),
    }
    assert!(pair.now - start < Duration::from_millis(1800));
    assert!(!pair.client.connection(first).unwrap().is_closed());
    // Once the first is gone there is room again.
    let now = pair.now;
    pair.client.connection(first).unwrap().close(now, 0, b"");
    pair.run_for(Duration::from_secs(2));
    let third = pair.connect();
    pair.run_until(|pair| pair.client.connection(third).unwrap().is_established());
}

#[test]
fn two_connections_to_one_server_share_the_socket() {
    let mut pair = Pair::new();
    let (first, _) = pair.establish();
    let second = pair.connect();
    pair.run_until(|pair| pair.client.connection(second).unwrap().is_established());
    pair.run_for(Duration::from_millis(200));
    for handle in [first, second] {
        let now = pair.now;
        let connection = pair.client.connection(handle).unwrap();
        let stream = connection.open(now, StreamConfig::bytes()).unwrap();
        connection.write(now, stream, bytes::Bytes::from(vec![1; 5000])).unwrap();
        connection.finish(now, stream).unwrap();
        pair.run_until(|pair| {
            let done = Event::SendFinished { stream };
            pair.events.contains(&(End::Client, handle, done))
        });
        let _ = pair.client.connection(handle).unwrap().stats();
        pair.run_for(Duration::from_millis(100));
    }
    let now = pair.now;
    pair.client.connection(first).unwrap().close(now, 1, b"");
    pair.run_for(Duration::from_secs(3));
    assert!(!pair.client.connection(second).unwrap().is_closed());
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

/// A client's attempt whose hello somebody on the way has read; answers the ids and the keys with
/// which he can speak as the server.
fn overheard(pair: &mut Pair) -> (ConnectionHandle, ConnectionId, ConnectionId, Keys) {
    let ServerIdentity::Pinned(pin) = &pair.client_config.expected else { panic!() };
    let pin = *pin;
    let seen = Arc::new(Mutex::new(None));
    let sink = seen.clone();
    pair.filter = Box::new(move |_, bytes| {
        sink.lock().unwrap().get_or_insert_with(|| bytes.clone());
        true
    });
    let client = pair.connect();
    pair.flush();
    let (dcid, scid) = ids_of(seen.lock().unwrap().as_ref().unwrap());
    let keys = initial_keys(Role::Server, VERSION_1, dcid.as_bytes(), Some(&pin));
    (client, dcid, scid, keys)
}

#[test]
// spec-test: CON-8, CON-25
fn a_forged_packet_with_reserved_bits_ends_nothing() {
    let mut pair = Pair::new();
    let (client, _, scid, keys) = overheard(&mut pair);
    let ids = (scid, ConnectionId::new(&[9; 4]).unwrap());
    let from = pair.server_addr;
    pair.inject(End::Client, from, &forge_with(&keys, ids, 0, 1, 0x0c, &[1]));
    pair.run_until(|pair| pair.client.connection(client).unwrap().is_established());
    pair.run_for(Duration::from_secs(2));
    assert_eq!(pair.close_reason(End::Client, client), None);
}

#[test]
// spec-test: CON-25, CON-26
fn forged_initial_packets_do_not_stop_a_handshake() {
    let close = [0x03, 0, 0x01, 0];
    let ack_of_unsent = [0x08, 50, 0, 0, 0];
    let not_allowed_here = [0x4b];
    for (pn, pn_len) in [(0, 1), (0xffff_fff0, 4)] {
        for payload in [&close[..], &ack_of_unsent, &not_allowed_here, &[0xff], &[0x01]] {
            let mut pair = Pair::new();
            let (client, dcid, scid, keys) = overheard(&mut pair);
            let elsewhere = ConnectionId::new(&[9; 4]).unwrap();
            let from = pair.server_addr;
            for n in 0..3 {
                let forged = forge(&keys, (scid, elsewhere), pn + n, pn_len, payload);
                pair.inject(End::Client, from, &forged);
            }
            assert_eq!(dcid.len(), 8);
            pair.run_until(|pair| pair.client.connection(client).unwrap().is_established());
            pair.run_for(Duration::from_secs(2));
            assert_eq!(pair.close_reason(End::Client, client), None, "{payload:?}");
        }
    }
}

/// Accepts one server only.
struct Only(Fingerprint);

impl ServerVerifier for Only {
    fn verify(&self, found: &Fingerprint) -> Result<(), VerifierRejection> {
        if *found == self.0 { Ok(()) } else { Err(VerifierRejection("another server")) }
    }
}

/// A client that begins, and the datagrams that its hello travels in.
fn overheard_hello(pair: &mut Pair) -> (ConnectionHandle, Vec<Vec<u8>>) {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let sink = heard.clone();
    pair.filter = Box::new(move |to, bytes| {
        if to == End::Server {
            sink.lock().unwrap().push(bytes.clone());
        }
        true
    });
    let client = pair.connect();
    pair.flush();
    let hello = heard.lock().unwrap().clone();
    pair.filter = Box::new(|_, _| true);
    (client, hello)
}

#[test]
// spec-test: CON-25, CON-26, CON-39
fn a_server_on_the_side_that_answers_first_changes_nothing() {
    let mut pair = Pair::new();
    let ServerIdentity::Pinned(pin) = &pair.client_config.expected else { panic!() };
    let true_server = *pin;
    let expected = ServerIdentity::TrustOnFirstUse(Box::new(Only(true_server)));
    pair.client_config = Arc::new(ClientConfig::new(expected));
    let (client, hello) = overheard_hello(&mut pair);
    // Another server reads the hello, and its whole answer is there before the true one's.
    let identity = Arc::new(Identity::generate(&mut TestRng(77)));
    let setup = ServerSetup {
        crypto: Arc::new(ServerConfig::new(identity)),
        retry: RetryPolicy::Never,
        connections_max: 4,
        silent: false,
    };
    let mut other = Endpoint::new(EndpointConfig {
        server: Some(setup),
        transport: pair.transport.clone(),
        seed: [8; 32],
        unix_seconds_at_zero: 1_800_000_000,
    });
    let (now, route) = (pair.now, Route::udp(pair.client_addr));
    for bytes in &hello {
        let payload = bytes::BytesMut::from(&bytes[..]);
        other.handle_datagram(now, Datagram { route, ecn: None, payload });
    }
    let mut batch = Batch::new(0, 64);
    let (from, mut answers) = (pair.server_addr, 0);
    while other.poll_transmit(now, &mut batch) {
        for segment in batch.contents().chunks(batch.segment_len()) {
            pair.inject(End::Client, from, segment);
            pair.flush();
            answers += 1;
        }
        batch.clear();
    }
    assert!(answers >= 2);
    let start = pair.now;
    pair.run_until(|pair| pair.client.connection(client).unwrap().is_established());
    assert!(pair.now - start < Duration::from_millis(100), "{:?}", pair.now - start);
    pair.run_for(Duration::from_secs(2));
    assert_eq!(pair.close_reason(End::Client, client), None);
    let security = pair.client.connection(client).unwrap().security().unwrap();
    assert_eq!(security.peer.unwrap().fingerprint, true_server);
}

#[test]
fn another_client_with_the_same_id_does_not_take_the_first_ones_place() {
    // Somebody elsewhere sends the victim's own hello, from his address, before it arrives.
    let mut pair = Pair::new();
    let (client, hello) = overheard_hello(&mut pair);
    let thief = "203.0.113.9:9".parse().unwrap();
    for datagram in hello {
        pair.inject(End::Server, thief, &datagram);
    }
    pair.run_until(|pair| pair.client.connection(client).unwrap().is_established());
    pair.run_for(Duration::from_secs(1));
    assert_eq!(pair.close_reason(End::Client, client), None);
    assert!(pair.told[&thief] <= 3 * pair.heard[&thief]);
}

#[test]
// spec-test: CON-1
fn small_datagrams_and_short_ids_open_nothing() {
    let mut pair = Pair::new();
    let (_, dcid, scid, _) = overheard(&mut pair);
    let ServerIdentity::Pinned(pin) = &pair.client_config.expected else { panic!() };
    let pin = *pin;
    let client = "203.0.113.9:9".parse().unwrap();
    for (id, len) in [(&dcid.as_bytes()[..7], 1200), (dcid.as_bytes(), 1199)] {
        let keys = initial_keys(Role::Client, VERSION_1, id, Some(&pin));
        let id = ConnectionId::new(id).unwrap();
        let mut datagram = forge(&keys, (id, scid), 0, 1, &[1]);
        datagram.resize(len, 0);
        pair.inject(End::Server, client, &datagram);
    }
    pair.run_for(Duration::from_millis(1));
    assert_eq!(pair.told.get(&client), None);
}

#[test]
// spec-test: CON-16
// spec-test: WIRE-39
fn versions_are_negotiated_both_ways() {
    // The server answers a version that it does not know.
    let mut pair = Pair::new();
    let stranger = "203.0.113.9:9".parse().unwrap();
    let mut datagram = vec![0xc0, 0x0a, 0x0a, 0x0a, 0x0a, 8, 1, 2, 3, 4, 5, 6, 7, 8, 2, 9, 9];
    datagram.resize(1200, 0);
    pair.inject(End::Server, stranger, &datagram);
    pair.inject(End::Server, stranger, &datagram[..1199]);
    pair.flush();
    // flags, version 0, the ids turned round, and one version: 5 + 3 + 9 + 4 bytes, once.
    assert_eq!(pair.told[&stranger], 21);

    // A client gives up when the server speaks none of its versions, and when that is no forgery.
    for (versions, wrong_id, ends) in
        [(&[7, 8][..], false, true), (&[7, VERSION_1], false, false), (&[7, 8], true, false)]
    {
        let mut pair = Pair::new();
        let (client, dcid, scid, _) = overheard(&mut pair);
        let mut buf = [0; 100];
        let mut writer = Writer::new(&mut buf);
        let source = if wrong_id { &[5; 8][..] } else { dcid.as_bytes() };
        header::write_version_negotiation(&mut writer, scid.as_bytes(), source, versions).unwrap();
        let packet = writer.written().to_vec();
        let from = pair.server_addr;
        pair.inject(End::Client, from, &packet);
        // The server is not heard: what was answered may be true.
        pair.filter = Box::new(|to, _| to == End::Server);
        pair.run_for(Duration::from_millis(1600));
        let reason = CloseReason::VersionMismatch { offered: versions.to_vec() };
        assert_eq!(pair.close_reason(End::Client, client), ends.then_some(reason));
    }
    // By somebody on the side it ends nothing: the server is heard soon after.
    let mut pair = Pair::new();
    let (client, dcid, scid, _) = overheard(&mut pair);
    let mut buf = [0; 100];
    let mut writer = Writer::new(&mut buf);
    header::write_version_negotiation(&mut writer, scid.as_bytes(), dcid.as_bytes(), &[7]).unwrap();
    let packet = writer.written().to_vec();
    let from = pair.server_addr;
    pair.inject(End::Client, from, &packet);
    pair.run_for(Duration::from_secs(2));
    assert!(pair.client.connection(client).unwrap().is_established());
    // It comes too late once anything else was heard.
    let mut pair = Pair::new();
    let (client, dcid, scid, _) = overheard(&mut pair);
    pair.run_for(Duration::from_millis(21));
    let mut buf = [0; 100];
    let mut writer = Writer::new(&mut buf);
    let ids = (scid.as_bytes(), dcid.as_bytes());
    header::write_version_negotiation(&mut writer, ids.0, ids.1, &[7]).unwrap();
    let packet = writer.written().to_vec();
    let from = pair.server_addr;
    pair.inject(End::Client, from, &packet);
    pair.run_for(Duration::from_millis(500));
    assert!(pair.client.connection(client).unwrap().is_established());
}

#[test]
// spec-test: CON-2, CON-15
fn a_retry_is_obeyed_once_and_its_cookie_serves_one_address() {
    let mut pair = Pair::with(TransportConfig::default(), RetryPolicy::Always);
    pair.record = Some(Vec::new());
    let client = pair.connect();
    pair.run_until(|pair| pair.client.connection(client).unwrap().is_established());
    pair.run_for(Duration::from_secs(1));
    let record = pair.record.take().unwrap();
    // The hello with its cookie, from elsewhere and again: no connection, no more than a Retry.
    let stranger = "203.0.113.9:9".parse().unwrap();
    let with_cookie = |datagram: &[u8]| match Header::parse(datagram) {
        Ok(Header::Long(header)) => header.kind == LongType::Initial && !header.token.is_empty(),
        _ => false,
    };
    let mut count = 0;
    for (to, datagram) in &record {
        if *to == End::Server && with_cookie(datagram) {
            pair.inject(End::Server, stranger, datagram);
            count += 1;
        }
    }
    assert!(count >= 2);
    let before = pair.server.connection_count();
    pair.run_for(Duration::from_secs(1));
    assert_eq!(pair.server.connection_count(), before);
    assert_eq!(before, 1);
    // A Retry that comes again does nothing.
    let from = pair.server_addr;
    for (to, datagram) in &record {
        if *to == End::Client && matches!(Header::parse(datagram), Ok(Header::Retry { .. })) {
            pair.inject(End::Client, from, datagram);
        }
    }
    pair.run_for(Duration::from_secs(1));
    assert!(pair.client.connection(client).unwrap().is_established());
    let route = Route::udp(pair.server_addr);
    assert_eq!(pair.client.connection(client).unwrap().route(), route);
}

/// A Retry by somebody who has seen the hello.
fn forged_retry(dcid: &ConnectionId, scid: &ConnectionId, n: u8) -> Vec<u8> {
    let mut buf = [0; 100];
    let mut writer = Writer::new(&mut buf);
    let source = ConnectionId::new(&[n; 8]).unwrap();
    header::write_retry(&mut writer, scid, &source, &[n; 29]).unwrap();
    let mut packet = writer.written().to_vec();
    packet.extend(jsp_crypto::retry_integrity_tag(VERSION_1, dcid.as_bytes(), &packet));
    packet
}

#[test]
// spec-test: CON-5, CON-15, CON-66, CON-67
fn forged_retries_do_not_mislead_an_attempt() {
    for policy in [RetryPolicy::Never, RetryPolicy::Always] {
        for forgeries in 1..=3 {
            let mut pair = Pair::with(TransportConfig::default(), policy);
            let (client, dcid, scid, keys) = overheard(&mut pair);
            let from = pair.server_addr;
            // An Initial packet goes before, so that the server's Retry is not the first word.
            let ids = (scid, ConnectionId::new(&[9; 4]).unwrap());
            pair.inject(End::Client, from, &forge(&keys, ids, 0, 1, &[1]));
            for n in 1..=forgeries {
                pair.inject(End::Client, from, &forged_retry(&dcid, &scid, n));
                pair.flush();
            }
            let start = pair.now;
            pair.run_until(|pair| pair.client.connection(client).unwrap().is_established());
            assert!(pair.now - start < Duration::from_millis(100), "{:?}", pair.now - start);
            pair.run_for(Duration::from_secs(2));
            assert_eq!(pair.close_reason(End::Client, client), None, "{policy:?} {forgeries}");
        }
    }
    // What is not sent to this hello is not obeyed, nor is a fifth.
    let mut pair = Pair::with(TransportConfig::default(), RetryPolicy::Never);
    let (_, dcid, scid, _) = overheard(&mut pair);
    let from = pair.server_addr;
    let ids = Arc::new(Mutex::new(Vec::new()));
    let sink = ids.clone();
    pair.filter = Box::new(move |to, bytes| {
        if to == End::Server {
            let mut ids = sink.lock().unwrap();
            ids.push(ids_of(bytes).0);
            ids.dedup();
        }
        false
    });
    for n in 0..8 {
        let dcid = if n == 0 { scid } else { dcid };
        pair.inject(End::Client, from, &forged_retry(&dcid, &scid, n));
        pair.flush();
    }
    let id = |n: u8| ConnectionId::new(&[n; 8]).unwrap();
    assert_eq!(*ids.lock().unwrap(), [id(1)]);
    pair.run_for(Duration::from_secs(9));
    assert_eq!(*ids.lock().unwrap(), [id(1), id(2), id(3), id(4)]);
}

#[test]
// spec-test: CON-68
fn a_forged_refusal_does_not_end_a_servers_attempt() {
    for is_true in [false, true] {
        let mut pair = Pair::new();
        let ServerIdentity::Pinned(pin) = &pair.client_config.expected else { panic!() };
        let pin = *pin;
        let (client, dcid, scid, _) = overheard(&mut pair);
        pair.run_for(Duration::from_millis(11));
        assert_eq!(pair.server.connection_count(), 1);
        let keys = initial_keys(Role::Client, VERSION_1, dcid.as_bytes(), Some(&pin));
        let home = pair.client_addr;
        pair.inject(End::Server, home, &forge(&keys, (dcid, scid), 77, 1, &[0x03, 0, 0x10, 0]));
        if is_true {
            // The client is gone, and the server does not wait for long.
            pair.filter = Box::new(|_, _| false);
            pair.run_for(Duration::from_secs(2));
            let closed = |(end, _, event): &(End, _, Event)| {
                *end == End::Server && matches!(event, Event::Closed { .. })
            };
            assert!(pair.events.iter().any(closed));
        } else {
            pair.run_until(|pair| pair.client.connection(client).unwrap().is_established());
            pair.run_for(Duration::from_secs(3));
            assert_eq!(pair.close_reason(End::Client, client), None);
        }
    }
}

#[test]
// spec-test: CON-66
fn a_hello_goes_to_its_own_id_whoever_has_answered() {
    let mut pair = Pair::new();
    let (client, _, scid, keys) = overheard(&mut pair);
    // The first copy of the hello is lost, and somebody answers it from another id.
    let mut lost = 0;
    pair.filter = Box::new(move |to, _| {
        lost += u32::from(to == End::Server);
        to == End::Client || lost > 2
    });
    let from = pair.server_addr;
    let forged = forge(&keys, (scid, ConnectionId::new(&[9; 8]).unwrap()), 0, 1, &[1]);
    pair.inject(End::Client, from, &forged);
    pair.now = pair.now + Duration::from_millis(11);
    let pending = pair.now;
    pair.restart_server();
    pair.run_until(|pair| pair.client.connection(client).unwrap().is_established());
    assert!(pair.now - pending < Duration::from_secs(3));
}

#[test]
// spec-test: CON-7, CON-18
fn hellos_are_large_and_initial_keys_are_dropped_early() {
    let mut pair = Pair::new();
    pair.record = Some(Vec::new());
    let client = pair.connect();
    pair.run_until(|pair| pair.client.connection(client).unwrap().is_established());
    pair.run_for(Duration::from_secs(1));
    let mut client_is_past = false;
    for (to, datagram) in pair.record.take().unwrap() {
        if to == End::Client {
            continue;
        }
        let is_initial = |datagram: &[u8]| matches!(Header::parse(datagram), Ok(Header::Long(h)) if h.kind == LongType::Initial);
        // A client's first datagrams are whole hellos; with its first Handshake packet it sends
        // its last Initial packet, an acknowledgement.
        assert!(!(client_is_past && is_initial(&datagram)));
        assert!(client_is_past || datagram.len() >= 1200 || has_handshake(&datagram));
        client_is_past |= has_handshake(&datagram);
    }
    assert!(client_is_past);
}

#[test]
// spec-test: CON-24
fn a_client_without_initial_keys_goes_on_asking() {
    // The refused flight is acknowledged in the first Handshake packet, and nothing of what the
    // client says from then on arrives.
    let mut pair = Pair::new();
    let expected = ServerIdentity::TrustOnFirstUse(Box::new(Refuse));
    pair.client_config = Arc::new(ClientConfig::new(expected));
    let mut to_server = 0;
    pair.filter = Box::new(move |to, _| {
        to_server += u32::from(to == End::Server);
        to == End::Client || to_server <= 2
    });
    let client = pair.connect();
    pair.run_until(|pair| pair.close_reason(End::Client, client).is_some());
    assert!(pair.datagrams[0] >= 2 + 4, "{} datagrams", pair.datagrams[0]);
}

#[test]
// spec-test: CON-10
fn a_client_that_falls_silent_is_not_flooded() {
    let mut pair = Pair::new();
    let mut to_server = 0;
    pair.filter = Box::new(move |to, _| {
        to_server += u32::from(to == End::Server);
        to == End::Server && to_server <= 2
    });
    pair.connect();
    pair.run_for(Duration::from_secs(30));
    let (told, heard) = (pair.told[&pair.client_addr], pair.heard[&pair.client_addr]);
    assert_eq!(heard, 2400);
    assert!(told > 2 * heard && told <= 3 * heard, "{told}");
}

#[test]
// spec-test: WIRE-7
// spec-test: WIRE-37
fn what_stands_before_a_packet_does_not_hide_it() {
    // Before each packet of the handshake: one that nobody can open, and one of early data.
    let mut pair = Pair::new();
    let changed = Arc::new(AtomicU32::new(0));
    let sink = changed.clone();
    pair.filter = Box::new(move |_, datagram| {
        let Ok(Header::Long(header)) = Header::parse(datagram) else { return true };
        let (dcid, scid) = (header.dcid, header.scid);
        if dcid.len() == limits::CONNECTION_ID_LEN_INITIAL {
            // A datagram that opens a connection starts with an Initial packet.
            return true;
        }
        sink.fetch_add(1, Ordering::Relaxed);
        for kind in [LongType::Handshake, LongType::ZeroRtt] {
            let mut packet = [0x55; 100];
            let fields = LongFields { kind, dcid, scid, token: &[], pn: 0, pn_len: 1 };
            let layout = fields.write(&mut Writer::new(&mut packet)).unwrap();
            header::patch_length(&mut packet, layout, 100 - layout.pn_offset).unwrap();
            datagram.splice(0..0, packet);
        }
        true
    });
    let client = pair.connect();
    pair.run_until(|pair| pair.client.connection(client).unwrap().is_established());
    pair.run_for(Duration::from_secs(1));
    assert_eq!(pair.close_reason(End::Client, client), None);
    assert!(changed.load(Ordering::Relaxed) >= 2);
}
