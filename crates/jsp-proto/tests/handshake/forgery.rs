//! Somebody on the way who reads the hello and speaks in another's name.

use super::*;

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

#[test]
// spec-test: CON-182, CON-183
fn pieces_that_somebody_makes_up_do_not_keep_the_server_hello_apart() {
    let mut pair = Pair::new();
    let (client, dcid, scid, keys) = overheard(&mut pair);
    pair.run_for(DELAY);
    let answers = pair.on_the_way(End::Client);
    assert!(answers.len() >= 2, "a server hello has two pieces");
    // Pieces of two long messages, and other bytes and another length under the server's name.
    let theirs = initial_keys(Role::Client, VERSION_1, dcid.as_bytes(), Some(&pin_of(&pair)));
    let mut first = answers[0].clone();
    let (id, total, end) = first_piece(&mut first, &theirs);
    let bytes = [0xaa; 100];
    let pieces = [([1; 8], 0, 12288), ([2; 8], 600, 12288), (id, end, total), (id, 0, total - 1)];
    let forged = pieces.map(|(id, offset, total)| {
        let data = &bytes[..usize::from(total - offset).min(100)];
        let mut room = [0; 300];
        let mut writer = Writer::new(&mut room);
        let piece = HandshakeFragment { id, offset, total, data };
        Frame::Handshake(piece).write(&mut writer).unwrap();
        forge(&keys, (scid, ConnectionId::new(&[9; 4]).unwrap()), 70, 1, writer.written())
    });
    let from = pair.server_addr;
    for answer in &answers {
        forged.iter().for_each(|lie| pair.inject(End::Client, from, lie));
        pair.inject(End::Client, from, answer);
    }
    assert!(pair.client.connection(client).unwrap().is_established());
}

/// The piece of the server's message in an Initial packet: its name, its message's length, and where it ends.
fn first_piece(datagram: &mut [u8], keys: &Keys) -> ([u8; 8], u16, u16) {
    let Ok(Header::Long(LongHeader { packet_len, pn_offset, .. })) = Header::parse(datagram) else {
        panic!()
    };
    let packet = &mut datagram[..packet_len];
    let sample = Protected::sample(packet, pn_offset).unwrap();
    let mask = keys.remote.header.mask(&sample);
    let (pn, pn_len) = Protected::unmask_long(packet, pn_offset, mask).unwrap();
    let (head, body) = packet.split_at_mut(pn_offset + pn_len);
    let len = keys.remote.packet.open_in_place(pn.into(), head, body).unwrap();
    let found = FrameIter::new(&body[..len]).flatten().find_map(|frame| match frame {
        Frame::Handshake(piece) => {
            Some((piece.id, piece.total, piece.offset + piece.data.len() as u16))
        }
        _ => None,
    });
    found.unwrap()
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
    let client = pair.connect();
    pair.flush();
    (client, pair.on_the_way(End::Server))
}

#[test]
// spec-test: CON-25, CON-26, CON-39
fn a_server_on_the_side_that_answers_first_changes_nothing() {
    let mut pair = Pair::new();
    let true_server = pin_of(&pair);
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
// spec-test: CON-68
fn a_forged_refusal_does_not_end_a_servers_attempt() {
    for is_true in [false, true] {
        let mut pair = Pair::new();
        let pin = pin_of(&pair);
        let (client, dcid, scid, _) = overheard(&mut pair);
        pair.run_for(Duration::from_millis(11));
        assert_eq!(pair.server.connection_count(), 1);
        let keys = initial_keys(Role::Client, VERSION_1, dcid.as_bytes(), Some(&pin));
        let home = pair.client_addr;
        pair.inject(End::Server, home, &forge(&keys, (dcid, scid), 77, 1, &[0x03, 0, 0x10, 0]));
        if is_true {
            // The client is gone, and the server does not wait for long.
            pair.filter = Box::new(|_, _| false);
            pair.run_for(Duration::from_secs(4));
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
