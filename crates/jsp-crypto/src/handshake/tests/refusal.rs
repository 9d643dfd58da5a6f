//! Messages of false servers and out of place, and what the peer is told of a failure.

use super::*;

// spec-test: HS-42
// spec-test: HS-43
// spec-test: HS-44
#[test]
fn four_false_servers_do_not_keep_the_true_one_out() {
    let mut ends = Ends::new(client_config(), server_config(), 1);
    let hello = ends.from_client.take_message(Level::Initial).unwrap();
    for byte in 10..14 {
        let mut fake =
            Handshake::server(Arc::new(ServerConfig::new(identity(byte))), b"fake params".to_vec());
        let mut out = Collected::default();
        fake.read(Level::Initial, &hello, NOW, &mut ends.rng).unwrap();
        out.drain(&mut fake);
        let server_hello = out.take_message(Level::Initial).unwrap();
        ends.give_client(Level::Initial, &server_hello).unwrap();
        assert_eq!(ends.give_client(Level::Initial, &server_hello), Err(HandshakeError::Duplicate));
        if byte % 2 == 0 {
            let flight = out.take_message(Level::Handshake).unwrap();
            let error = ends.give_client(Level::Handshake, &flight).unwrap_err();
            assert!(matches!(error, HandshakeError::PinMismatch { .. }));
            assert_eq!(
                ends.give_client(Level::Initial, &server_hello),
                Err(HandshakeError::Duplicate),
                "a burnt candidate stays burnt"
            );
        }
        assert!(!ends.client.is_failed());
    }
    // Junk of every kind is ignored as well.
    for junk in [&b""[..], b"\x02\x00\x00", &[2; 1162], &[0xff; 4096]] {
        assert!(ends.give_client(Level::Initial, junk).is_err());
        assert!(ends.give_client(Level::Handshake, junk).is_err());
        assert!(ends.give_client(Level::Data, junk).is_err());
    }
    ends.give_server(Level::Initial, &hello).unwrap();
    let server_hello = ends.from_server.take_message(Level::Initial).unwrap();
    ends.give_client(Level::Initial, &server_hello).unwrap();
    let mut sixth = server_hello.clone();
    sixth[5] ^= 1;
    assert_eq!(ends.give_client(Level::Initial, &sixth), Err(HandshakeError::TooManyCandidates));
    let flight = ends.from_server.take_message(Level::Handshake).unwrap();
    ends.give_client(Level::Handshake, &flight).unwrap();
    let finished = ends.from_client.take_message(Level::Handshake).unwrap();
    ends.give_server(Level::Handshake, &finished).unwrap();
    assert_eq!(ends.from_client.committed, Some(4));
    assert_established(&mut ends);
}

#[test]
fn messages_out_of_place_are_refused() {
    let mut ends = Ends::new(client_config(), server_config(), 1);
    let hello = ends.from_client.sent[0].1.clone();
    assert_eq!(ends.give_server(Level::Handshake, &hello), Err(HandshakeError::Unexpected));
    assert!(!ends.server.is_failed());
    ends.run(|_, _| {}).unwrap();
    for level in [Level::Initial, Level::Handshake, Level::Data] {
        assert_eq!(ends.give_server(level, &hello), Err(HandshakeError::Unexpected));
        assert_eq!(ends.give_client(level, &hello), Err(HandshakeError::Unexpected));
    }
    assert!(ends.client.is_complete() && ends.server.is_complete());
    let mut failed = Ends::new(client_config(), server_config(), 1);
    assert!(failed.give_server(Level::Initial, b"junk").is_err());
    assert!(failed.server.is_failed());
    let hello = failed.from_client.sent[0].1.clone();
    assert_eq!(failed.give_server(Level::Initial, &hello), Err(HandshakeError::Failed));
}

// spec-test: HS-45
#[test]
fn the_peer_learns_one_code_for_all_failures() {
    for error in [
        HandshakeError::Signature,
        HandshakeError::Finished,
        HandshakeError::NoCommonSuite,
        HandshakeError::Malformed("x"),
        HandshakeError::ClientIdentityRequired,
    ] {
        assert_eq!(error.close_code(), 0x10);
    }
}
