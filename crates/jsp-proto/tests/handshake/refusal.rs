//! Servers that the client refuses, and how soon it says so.

use super::*;

#[test]
// spec-test: CON-25
// spec-test: CON-29
fn a_wrong_pin_is_told_soon() {
    let mut pair = Pair::new();
    let wrong = Fingerprint::from_bytes([7; 32]);
    pair.client_config = Arc::new(ClientConfig::new(ServerIdentity::Pinned(wrong)));
    assert_eq!(fails_soon(&mut pair), CloseReason::NotThePinnedServer);
}

struct Refuse;

impl ServerVerifier for Refuse {
    fn verify(&self, _: &Fingerprint) -> Result<(), VerifierRejection> {
        Err(VerifierRejection("not this one"))
    }
}

/// A pair whose client refuses every server.
fn refusing() -> Pair {
    let mut pair = Pair::new();
    let expected = ServerIdentity::TrustOnFirstUse(Box::new(Refuse));
    pair.client_config = Arc::new(ClientConfig::new(expected));
    pair
}

#[test]
fn a_refused_identity_is_told_soon() {
    let mut pair = refusing();
    let error = HandshakeError::IdentityRejected("not this one");
    assert_eq!(fails_soon(&mut pair), CloseReason::Handshake(error));
}

#[test]
// spec-test: CON-24
fn a_client_without_initial_keys_goes_on_asking() {
    // The refused flight is acknowledged in the first Handshake packet, and nothing of what the
    // client says from then on arrives.
    let mut pair = refusing();
    let mut to_server = 0;
    pair.filter = Box::new(move |to, _| {
        to_server += u32::from(to == End::Server);
        to == End::Client || to_server <= 2
    });
    let client = pair.connect();
    pair.run_until(|pair| pair.close_reason(End::Client, client).is_some());
    assert!(pair.datagrams[0] >= 2 + 4, "{} datagrams", pair.datagrams[0]);
}
