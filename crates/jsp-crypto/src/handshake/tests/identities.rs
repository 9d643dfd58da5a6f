//! Who is believed: pins, verifiers, client authentication, delegated keys.

use super::*;
use crate::identity::SignatureScheme::{Ed25519, MlDsa65};

// spec-test: HS-57
#[test]
fn a_wrong_pin_is_refused_and_named() {
    let wrong = ClientConfig {
        expected: ServerIdentity::Pinned(identity(9).fingerprint()),
        ..client_config()
    };
    let mut ends = Ends::new(wrong, server_config(), 1);
    let hello = ends.from_client.take_message(Level::Initial).unwrap();
    ends.give_server(Level::Initial, &hello).unwrap();
    assert_eq!(ends.client.live_candidates(), 0);
    let answer = ends.from_server.take_message(Level::Initial).unwrap();
    let _ = ends.give_client(Level::Initial, &[&answer[..], &[0]].concat());
    assert_eq!(ends.client.live_candidates(), 0, "nothing may stand behind a hello");
    ends.give_client(Level::Initial, &answer).unwrap();
    assert_eq!(ends.client.live_candidates(), 1);
    let flight = ends.from_server.take_message(Level::Handshake).unwrap();
    let error = ends.give_client(Level::Handshake, &flight).unwrap_err();
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
    assert_eq!((peer.fingerprint, peer.delegated), (identity(1).fingerprint(), true));

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

fn ml_dsa(byte: u8) -> Arc<Identity> {
    Arc::new(Identity::from_seed_with(MlDsa65, &[byte; 32]).unwrap())
}

/// A server that proves itself as `identity`, by itself or by an online key.
fn credential(identity: &Arc<Identity>, online: Option<Arc<Identity>>) -> Credential {
    let Some(online) = online else { return identity.clone().into() };
    let delegation = Delegation::issue(&**identity, online.public(), NOW - 1, NOW + 9, 1).unwrap();
    Credential::delegated(online, delegation).unwrap()
}

fn client_of(pin: Fingerprint, signatures: SignaturePolicy) -> ClientConfig {
    ClientConfig { signatures, ..ClientConfig::new(ServerIdentity::Pinned(pin)) }
}

// spec-test: HS-104
#[test]
fn servers_prove_themselves_by_ml_dsa() {
    let (old, new) = (identity(1), ml_dsa(1));
    assert_ne!(old.fingerprint(), new.fingerprint());
    let cases = [
        (&old, None, Ed25519, [true, true, false]),
        (&new, None, MlDsa65, [false, true, true]),
        (&new, Some(ml_dsa(2)), MlDsa65, [false, true, true]),
        (&new, Some(identity(2)), Ed25519, [false, true, false]),
        (&old, Some(ml_dsa(2)), MlDsa65, [false, true, false]),
    ];
    for (identity, online, signer, outcomes) in cases {
        let credential = credential(identity, online);
        let policies =
            [SignaturePolicy::Ed25519, SignaturePolicy::Any, SignaturePolicy::PostQuantum];
        for (policy, accepted) in policies.into_iter().zip(outcomes) {
            let client = client_of(identity.fingerprint(), policy);
            let outcome = run(client, ServerConfig::new(credential.clone()));
            if !accepted {
                let expected = Some((Role::Server, HandshakeError::NoCommonSignature));
                assert_eq!(outcome.err(), expected);
                continue;
            }
            let mut ends = outcome.unwrap();
            assert_established(&mut ends);
            let peer = ends.from_client.security.unwrap().peer.unwrap();
            assert_eq!((peer.scheme, peer.signer), (identity.scheme(), signer));
            assert_eq!(peer.fingerprint, identity.fingerprint());
            assert_eq!(peer.is_post_quantum(), outcomes == [false, true, true]);
        }
    }
}

/// Says at first that it signs by another scheme.
struct Fickle(Arc<Identity>, AtomicUsize);

impl crate::identity::Signer for Fickle {
    fn public(&self) -> PublicIdentity {
        let calls = self.1.fetch_add(1, Ordering::Relaxed);
        if calls < 3 { identity(1).public() } else { self.0.public() }
    }

    fn sign_message(&self, message: &[u8]) -> Result<Vec<u8>, crate::identity::SignError> {
        self.0.sign_message(message)
    }
}

// spec-test: HS-106
#[test]
fn a_server_signs_by_the_scheme_that_it_has_chosen() {
    let client = || ClientConfig {
        signatures: SignaturePolicy::Any,
        ..ClientConfig::new(ServerIdentity::AnyInsecure)
    };
    let fickle = |calls| Arc::new(Fickle(ml_dsa(1), AtomicUsize::new(calls)));
    let server = |calls| ServerConfig::new(Credential::new(fickle(calls)));
    assert!(run(client(), server(3)).is_ok());
    let mut ends = Ends::new(client(), server(0), 1);
    let outcome = ends.run(|which, bytes| {
        assert!(which != SERVER_HELLO || bytes[3 + 32 + 6] == Ed25519.id());
    });
    assert_eq!(outcome, Err((Role::Client, HandshakeError::Malformed("identity"))));
}

// spec-test: HS-103
#[test]
fn a_hello_that_offers_ml_dsa_takes_three_datagrams() {
    let len = |signatures| {
        let config = ClientConfig { signatures, ..client_config() };
        Ends::new(config, server_config(), 1).from_client.sent[0].1.len()
    };
    assert!(len(SignaturePolicy::Ed25519) < 1500);
    for policy in [SignaturePolicy::Any, SignaturePolicy::PostQuantum] {
        assert!((2400..2700).contains(&len(policy)), "{}", len(policy));
    }
}

// spec-test: HS-105
#[test]
fn clients_prove_themselves_by_ml_dsa() {
    let server = |byte| {
        let verifier = Box::new(AcceptOnly(ml_dsa(byte).fingerprint(), Arc::default()));
        ServerConfig { client_auth: ClientAuth::Required(verifier), ..server_config() }
    };
    for online in [None, Some(ml_dsa(4)), Some(identity(4))] {
        let credential = Some(credential(&ml_dsa(3), online));
        let mut ends = run(ClientConfig { credential, ..client_config() }, server(3)).unwrap();
        assert_established(&mut ends);
        let peer = ends.from_server.security.unwrap().peer.unwrap();
        assert_eq!(peer.fingerprint, ml_dsa(3).fingerprint());
    }
    let client = ClientConfig { credential: Some(ml_dsa(3).into()), ..client_config() };
    assert_eq!(run(client, server(4)).err().unwrap().0, Role::Server);
}

/// The client of a server that can verify Ed25519 alone does not show it another identity.
// spec-test: HS-105
#[test]
fn an_identity_that_the_server_cannot_verify_stays_hidden() {
    let request = |body: &[u8]| client_auth::ClientAuthRequest::read(body);
    assert!(request(&[1, 1]).is_some_and(|request| !request.required));
    assert!(request(&[2, 2, 9]).is_some_and(|request| request.required));
    for malformed in [&[][..], &[1], &[2], &[0, 1], &[3, 1]] {
        assert!(request(malformed).is_none(), "{malformed:?}");
    }
    let old = request(&[2, 1]).unwrap();
    assert!(old.suits(&identity(1).into()));
    assert!(!old.suits(&ml_dsa(1).into()));
    assert!(!old.suits(&credential(&ml_dsa(1), Some(identity(2)))));
    assert!(!old.suits(&credential(&identity(1), Some(ml_dsa(2)))));
}

// spec-test: HS-19
// spec-test: HS-34
// spec-test: HS-35
#[test]
fn a_signature_for_one_role_or_key_serves_no_other() {
    let signature = identity(1).sign("server", b"hash").unwrap();
    assert!(identity(1).public().verify("server", b"hash", &signature));
    assert!(!identity(1).public().verify("client", b"hash", &signature));
    assert!(!identity(1).public().verify("server", b"hash2", &signature));
    assert!(!identity(2).public().verify("server", b"hash", &signature));
    let message = crate::identity::signed_message("server", b"hash");
    assert!(message.starts_with(&[b' '; 64]) && message[64..] == *b"JSP1 server\0hash");

    // A server that shows a key it does not hold: the flight is made with
    // another signer than the identity it names.
    struct Thief(Arc<Identity>, PublicIdentity);
    impl crate::identity::Signer for Thief {
        fn public(&self) -> PublicIdentity {
            self.1.clone()
        }
        fn sign_message(&self, message: &[u8]) -> Result<Vec<u8>, crate::identity::SignError> {
            crate::identity::Signer::sign_message(&*self.0, message)
        }
    }
    let thief = Thief(identity(6), identity(1).public());
    let server = ServerConfig::new(Credential::new(Arc::new(thief)));
    assert_eq!(run(client_config(), server).err(), Some((Role::Client, HandshakeError::Signature)));
}
