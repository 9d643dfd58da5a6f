//! Who is believed: pins, verifiers, client authentication, delegated keys.

use super::*;

// spec-test: HS-57
#[test]
fn a_wrong_pin_is_refused_and_named() {
    let wrong = ClientConfig {
        expected: ServerIdentity::Pinned(identity(9).fingerprint()),
        ..client_config()
    };
    let mut ends = Ends::new(wrong, server_config(), 1);
    let (role, error) = ends.run(|_, _| {}).unwrap_err();
    assert_eq!(role, Role::Client);
    let expected = HandshakeError::PinMismatch {
        expected: identity(9).fingerprint(),
        found: identity(1).fingerprint(),
    };
    assert_eq!(error, expected);
    assert_eq!(ends.client.last_rejection(), Some(&expected));
    assert_eq!(ends.client.live_candidates(), 0);
    assert!(!ends.client.is_failed(), "another server hello may still come");
    assert!(ends.from_client.security.is_none() && ends.from_client.data_keys.is_none());
}

// spec-test: HS-58
#[test]
fn a_verifier_decides_about_a_server_met_before() {
    let trusting = |byte| ClientConfig {
        expected: ServerIdentity::TrustOnFirstUse(accept_only(byte)),
        ..client_config()
    };
    assert_established(&mut run(trusting(1), server_config()).unwrap());
    let (role, error) = run(trusting(2), server_config()).err().unwrap();
    assert_eq!(role, Role::Client);
    assert_eq!(error, HandshakeError::IdentityRejected("not the one known"));
}

#[test]
fn a_verifier_is_asked_only_about_proved_identities() {
    let asked = Arc::new(AtomicUsize::new(0));
    let verifier = Box::new(AcceptOnly(identity(1).fingerprint(), asked.clone()));
    let config =
        ClientConfig { expected: ServerIdentity::TrustOnFirstUse(verifier), ..client_config() };
    let mut ends = Ends::new(config, server_config(), 1);
    let result = ends.run(|which, bytes| {
        if which == SERVER_FLIGHT {
            let last = bytes.len() - 60;
            bytes[last] ^= 1;
        }
    });
    assert!(result.is_err());
    assert_eq!(asked.load(Ordering::Relaxed), 0);
}

// spec-test: HS-47
// spec-test: HS-48
#[test]
fn client_authentication() {
    let with = |byte| ClientConfig { credential: Some(identity(byte).into()), ..client_config() };
    let required =
        || ServerConfig { client_auth: ClientAuth::Required(accept_only(3)), ..server_config() };
    let optional =
        || ServerConfig { client_auth: ClientAuth::Optional(accept_only(3)), ..server_config() };
    let peer = |ends: &Ends| ends.from_server.security.as_ref().unwrap().peer;

    for server in [required(), optional()] {
        let mut ends = run(with(3), server).unwrap();
        assert_established(&mut ends);
        assert_eq!(peer(&ends).unwrap().fingerprint, identity(3).fingerprint());
    }
    for server in [required(), optional()] {
        let (role, error) = run(with(4), server).err().unwrap();
        assert_eq!(role, Role::Server);
        assert_eq!(error, HandshakeError::IdentityRejected("not the one known"));
    }
    let (role, error) = run(client_config(), required()).err().unwrap();
    assert_eq!((role, error), (Role::Client, HandshakeError::ClientIdentityRequired));
    assert_eq!(peer(&run(client_config(), optional()).unwrap()), None);
    // A server that does not ask learns nothing.
    let mut ends = run(with(3), server_config()).unwrap();
    assert_established(&mut ends);
    assert_eq!(peer(&ends), None);
}

fn delegated(online: u8, from: u64, to: u64) -> Credential {
    let online = identity(online);
    let delegation = Delegation::issue(&*identity(1), online.public(), from, to, 1).unwrap();
    Credential::delegated(online, delegation).unwrap()
}

#[test]
fn a_delegated_key_speaks_for_the_identity_while_it_may() {
    let day = 24 * 3600;
    let server = ServerConfig::new(delegated(7, NOW - day, NOW + day));
    assert_eq!(server.fingerprint(), identity(1).fingerprint());
    let mut ends = run(client_config(), server).unwrap();
    assert_established(&mut ends);
    let peer = ends.from_client.security.unwrap().peer.unwrap();
    assert_eq!((peer.identity, peer.delegated), (identity(1).public(), true));

    for (from, to) in [(NOW - day, NOW - 1), (NOW + 1, NOW + day)] {
        let server = ServerConfig::new(delegated(7, from, to));
        let (role, error) = run(client_config(), server).err().unwrap();
        assert_eq!(role, Role::Client);
        assert!(matches!(error, HandshakeError::Delegation(_)), "{error}");
    }
    let other = Delegation::issue(&*identity(1), identity(8).public(), 0, 10, 1).unwrap();
    assert!(Credential::delegated(identity(7), other).is_err());
}

#[test]
fn a_client_may_be_delegated_too() {
    let client =
        ClientConfig { credential: Some(delegated(7, NOW - 10, NOW + 10)), ..client_config() };
    let server =
        ServerConfig { client_auth: ClientAuth::Required(accept_only(1)), ..server_config() };
    let ends = run(client, server).unwrap();
    let peer = ends.from_server.security.unwrap().peer.unwrap();
    assert_eq!(peer.fingerprint, identity(1).fingerprint());
    assert!(peer.delegated);
}
