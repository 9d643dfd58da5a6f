//! What is chosen out of the offers, and what is noticed when an offer or a choice was changed.

use super::*;

// spec-test: HS-13
#[test]
fn choices_that_were_not_offered_are_refused() {
    // Offset of each choice in a server hello, and a value not offered.
    for (offset, value, what) in [
        (35, 0x7f, "version"),
        (39, 4, "cipher suite"),
        (39, 0x0a, "cipher suite"),
        (40, 2, "key exchange"),
        (40, 9, "key exchange"),
        (41, 2, "signature scheme"),
    ] {
        let mut ends = Ends::new(client_config(), server_config(), 1);
        let result = ends.run(|which, bytes| {
            if which == SERVER_HELLO {
                bytes[offset] = value;
            }
        });
        assert_eq!(result, Err((Role::Client, HandshakeError::NotOffered(what))));
    }
}

#[test]
fn no_server_hello_is_longer_than_the_hybrid() {
    let mut longest = 0;
    let mut ends = Ends::new(client_config(), server_config(), 1);
    let result = ends.run(|which, bytes| {
        if which == SERVER_HELLO {
            longest = bytes.len();
        }
    });
    assert!(result.is_ok());
    assert_eq!(longest, SERVER_HELLO_LEN_MAX);
}

#[test]
fn feature_bits_stand_where_the_specification_says() {
    assert_eq!(features::RESUME, 1);
    assert_eq!(features::GREASE_MASK, 0xff00_0000_0000_0000);
}

fn one() -> [u8; 32] {
    let mut key = [0; 32];
    key[0] = 1;
    key
}

// spec-test: HS-17
// spec-test: HS-18
#[test]
fn bad_public_keys_are_refused() {
    let small_order: [[u8; 32]; 3] = [
        [0; 32],
        one(),
        [
            0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f,
            0xc4, 0x6a, 0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16,
            0x5f, 0x49, 0xb8, 0x00,
        ],
    ];
    for key in small_order {
        for which in [HELLO, SERVER_HELLO] {
            let mut ends = Ends::new(client_config(), server_config(), 1);
            let result = ends.run(|index, bytes| {
                if index == which {
                    let at = if which == HELLO { x25519_offset(bytes) } else { 42 };
                    bytes[at..at + 32].copy_from_slice(&key);
                }
            });
            assert_eq!(result.unwrap_err().1, HandshakeError::KeyShare);
        }
    }
    // An unreduced coefficient, with the hash made to fit.
    for backend in [Backend::Native, Backend::Portable] {
        let config = ServerConfig { backend, ..server_config() };
        let mut ends = Ends::new(client_config(), config, 1);
        let result = ends.run(|index, bytes| {
            if index == HELLO {
                let ek = bytes.len() - 1184;
                bytes[ek] = 0xff;
                bytes[ek + 1] |= 0x0f;
                let alg = crate::primitives::HashAlg::Sha256;
                let hash = alg.hash(&[&bytes[ek..]]);
                let at = x25519_offset(bytes) + 32;
                bytes[at..at + 32].copy_from_slice(hash.as_bytes());
            }
        });
        assert_eq!(result, Err((Role::Server, HandshakeError::KeyShare)));
    }
}

// spec-test: HS-11
#[test]
fn the_hybrid_is_taken_whenever_both_sides_know_it() {
    use KemPolicy::{AllowClassical, ClassicalOnly, Hybrid};
    let outcomes = [
        (Hybrid, Hybrid, Some(Kem::X25519MlKem768)),
        (Hybrid, AllowClassical, Some(Kem::X25519MlKem768)),
        (AllowClassical, Hybrid, Some(Kem::X25519MlKem768)),
        (AllowClassical, AllowClassical, Some(Kem::X25519MlKem768)),
        (ClassicalOnly, AllowClassical, Some(Kem::X25519)),
        (AllowClassical, ClassicalOnly, Some(Kem::X25519)),
        (ClassicalOnly, ClassicalOnly, Some(Kem::X25519)),
        (ClassicalOnly, Hybrid, None),
        (Hybrid, ClassicalOnly, None),
    ];
    for (of_client, of_server, expected) in outcomes {
        let client = ClientConfig { kem: of_client, ..client_config() };
        let server = ServerConfig { kem: of_server, ..server_config() };
        match (run(client, server), expected) {
            (Ok(mut ends), Some(kem)) => {
                assert_established(&mut ends);
                assert_eq!(ends.from_client.security.unwrap().kem, kem);
            }
            (Err((_, error)), None) => assert_eq!(error, HandshakeError::NoCommonKem),
            (result, _) => panic!("{of_client:?} {of_server:?}: {:?}", result.err()),
        }
    }
}

#[test]
fn offers_stripped_on_the_way_are_noticed() {
    // Replaces each entry of each list by noise, one at a time.
    for list in 0..4 {
        for entry in 0..4 {
            let client = ClientConfig { kem: KemPolicy::AllowClassical, ..client_config() };
            let server = ServerConfig { kem: KemPolicy::AllowClassical, ..server_config() };
            let mut ends = Ends::new(client, server, 1);
            let mut changed = false;
            let result = ends.run(|which, bytes| {
                if which == HELLO {
                    let (start, length) = lists(bytes)[list];
                    let size = if list == 0 { 4 } else { 1 };
                    if (entry + 1) * size <= length {
                        bytes[start + entry * size] = 0x5a;
                        changed = true;
                    }
                }
            });
            if changed {
                assert!(result.is_err(), "list {list} entry {entry}");
                assert!(!ends.client.is_complete() && !ends.server.is_complete());
            }
        }
    }
}

// spec-test: HS-14
#[test]
fn the_floor_is_held() {
    let classical_server = || ServerConfig { kem: KemPolicy::ClassicalOnly, ..server_config() };
    let client = |floor| ClientConfig { kem: KemPolicy::AllowClassical, floor, ..client_config() };
    assert!(run(client(Floor::default()), classical_server()).is_ok());
    let had_hybrid = Floor { version: VERSION_1, post_quantum: true };
    let (_, error) = run(client(had_hybrid), classical_server()).err().unwrap();
    assert!(matches!(error, HandshakeError::Downgrade(_)));
    let had_newer = Floor { version: VERSION_1 + 1, post_quantum: false };
    let (_, error) = run(client(had_newer), server_config()).err().unwrap();
    assert!(matches!(error, HandshakeError::Downgrade(_)));
    let mut ends = run(client(had_hybrid), server_config()).unwrap();
    assert_established(&mut ends);
    assert_eq!(ends.from_client.security.unwrap().floor(), had_hybrid);
}

// spec-test: HS-9
// spec-test: HS-15
#[test]
fn versions_are_chosen_by_the_client_and_checked_by_both() {
    let newer = VERSION_1 + 1;
    let client = |versions| ClientConfig { versions, ..client_config() };
    let server = |versions| ServerConfig { versions, ..server_config() };
    for (ours, theirs, expected) in [
        (alloc::vec![newer, VERSION_1], alloc::vec![VERSION_1], Some(VERSION_1)),
        (alloc::vec![VERSION_1], alloc::vec![newer, VERSION_1], Some(VERSION_1)),
        (alloc::vec![newer, VERSION_1], alloc::vec![VERSION_1, newer], Some(newer)),
        (alloc::vec![newer], alloc::vec![VERSION_1], None),
    ] {
        match run(client(ours), server(theirs)) {
            Ok(ends) => assert_eq!(ends.from_client.security.map(|s| s.version), expected),
            Err((_, error)) => {
                assert_eq!((error, expected), (HandshakeError::NoCommonVersion, None));
            }
        }
    }
    // A server that picks the older of two common versions is a bad server, or
    // somebody's tool: it signs what it did, and the client sees it.
    let mut ends = Ends::new(client(alloc::vec![VERSION_1]), server(alloc::vec![VERSION_1]), 1);
    ends.run(|_, _| {}).unwrap();
    let mut client = ClientConfig { versions: alloc::vec![newer, VERSION_1], ..client_config() };
    client.floor.version = newer;
    let (_, error) = run(client, server(alloc::vec![VERSION_1])).err().unwrap();
    assert!(matches!(error, HandshakeError::Downgrade(_)));
}

// spec-test: HS-12
#[test]
fn a_forged_version_negotiation_is_noticed() {
    let newer = VERSION_1 + 1;
    let start = |seen: &[u32]| {
        let mut rng = SeededRng(5);
        let config = Arc::new(client_config());
        let mut client = Handshake::client_after_negotiation(config, b"", seen, &mut rng).unwrap();
        let mut out = Collected::default();
        out.drain(&mut client);
        let both = ServerConfig { versions: alloc::vec![VERSION_1, newer], ..server_config() };
        let mut server = Handshake::server(Arc::new(both), Vec::new());
        let hello = out.take_message(Level::Initial).unwrap();
        server.read(Level::Initial, &hello, NOW, &mut rng)
    };
    assert_eq!(start(&[]), Ok(()));
    assert_eq!(start(&[VERSION_1, newer, 0x1a2a_3a4a]), Ok(()));
    // Forged to hide the newer version.
    assert!(matches!(start(&[VERSION_1]), Err(HandshakeError::Downgrade(_))));
}

// spec-test: HS-10
#[test]
fn the_clients_order_of_suites_decides() {
    use Suite::{Aes128Gcm, Aes256Gcm, ChaCha20Poly1305};
    for order in [[Aes128Gcm, ChaCha20Poly1305], [ChaCha20Poly1305, Aes128Gcm]] {
        let client = ClientConfig { suites: order.to_vec(), ..client_config() };
        let ends = run(client, server_config()).unwrap();
        assert_eq!(ends.from_server.security.unwrap().suite, order[0]);
    }
    let client = ClientConfig { suites: alloc::vec![Aes256Gcm], ..client_config() };
    let server = ServerConfig { suites: alloc::vec![Aes128Gcm], ..server_config() };
    assert_eq!(run(client, server).err(), Some((Role::Server, HandshakeError::NoCommonSuite)));
}

// spec-test: HS-16
#[test]
fn application_protocols() {
    let names = |list: &[&str]| list.iter().map(|name| name.as_bytes().to_vec()).collect();
    for (of_client, of_server, expected) in [
        (&["a", "b"][..], &["b", "a"][..], Ok(Some(b"b".to_vec()))),
        (&["a"], &[], Ok(None)),
        (&[], &[], Ok(None)),
        (&["a"], &["b"], Err(HandshakeError::NoCommonProtocol)),
        (&[], &["b"], Err(HandshakeError::NoCommonProtocol)),
    ] {
        let client = ClientConfig { application_protocols: names(of_client), ..client_config() };
        let server = ServerConfig { application_protocols: names(of_server), ..server_config() };
        let result = run(client, server).map_err(|(_, error)| error).map(|mut ends| {
            assert_established(&mut ends);
            ends.from_client.security.unwrap().application_protocol
        });
        assert_eq!(result, expected);
    }
}
