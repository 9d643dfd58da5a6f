//! Servers that the client refuses, and clients for whom the server has no room.

use super::*;

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
