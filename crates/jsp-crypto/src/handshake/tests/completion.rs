//! Handshakes that come about, and what both ends have then.

use super::*;

// spec-test: HS-29
// spec-test: HS-32
// spec-test: HS-36
// spec-test: HS-37
// spec-test: HS-30
#[test]
fn every_suite_between_every_pair_of_backends() {
    for suite in Suite::ALL {
        for (of_client, of_server) in all_backends() {
            let mut client = client_config();
            let mut server = server_config();
            (client.backend, server.backend) = (of_client, of_server);
            (client.suites, server.suites) = (alloc::vec![suite], alloc::vec![suite]);
            let mut ends = run(client, server).unwrap_or_else(|e| panic!("{suite:?} {e:?}"));
            assert_established(&mut ends);
            let security = ends.from_client.security.unwrap();
            assert_eq!(security.suite, suite);
            assert!(security.kem.is_post_quantum());
            assert_eq!(security.peer.unwrap().fingerprint, identity(1).fingerprint());
        }
    }
}

// spec-test: HS-107
#[test]
fn keys_made_ahead_serve_one_hello_and_only_where_they_suit() {
    let mut rng = SeededRng(9);
    let classical = ClientConfig { kem: KemPolicy::ClassicalOnly, ..client_config() };
    let portable = ClientConfig { backend: Backend::Portable, ..client_config() };
    for (config, suits) in [(client_config(), true), (classical, false), (portable, false)] {
        let share = KeyShare::generate(Backend::Native, &mut rng).unwrap();
        let public = share.x25519.public();
        let allows = if config.kem == KemPolicy::ClassicalOnly {
            KemPolicy::ClassicalOnly
        } else {
            KemPolicy::Hybrid
        };
        let server = Arc::new(ServerConfig { kem: allows, ..server_config() });
        let config = Arc::new(config);
        let client =
            Handshake::client_sharing(config.clone(), b"client params", Some(share), &mut rng);
        let mut ends = Ends::shared(&config, &server, 1);
        ends.client = client.unwrap();
        ends.from_client = Collected::default();
        ends.from_client.drain(&mut ends.client);
        let hello = ends.from_client.sent[0].1.clone();
        let at = x25519_offset(&hello);
        assert_eq!(hello[at..at + 32] == public, suits);
        ends.run(|_, _| {}).unwrap();
        assert_established(&mut ends);
    }
}

// spec-test: HS-39
#[test]
fn key_updates_stay_in_step_and_change_the_keys() {
    let mut ends = run(client_config(), server_config()).unwrap();
    let mut client = ends.from_client.data_keys.take().unwrap();
    let mut server = ends.from_server.data_keys.take().unwrap();
    let mut earlier: Vec<[u8; 20]> = Vec::new();
    for _ in 0..5 {
        let (client_local, client_remote) = client.next();
        let (server_local, server_remote) = server.next();
        for (seal, open) in [(client_local, server_remote), (server_local, client_remote)] {
            let mut packet = [0; 20];
            seal.seal_in_place(0, b"", &mut packet).unwrap();
            assert!(!earlier.contains(&packet));
            earlier.push(packet);
            assert_eq!(open.open_in_place(0, b"", &mut packet), Ok(4));
        }
    }
}

// spec-test: HS-38
#[test]
fn exports_depend_on_label_context_and_connection() {
    let first = run(client_config(), server_config()).unwrap().from_client.security.unwrap();
    let mut other = Ends::new(client_config(), server_config(), 2);
    other.run(|_, _| {}).unwrap();
    let other = other.from_client.security.unwrap();
    let export = |security: &Security, label, context| {
        let mut out = [0; 32];
        security.export(label, context, &mut out).unwrap();
        out
    };
    let value = export(&first, "a", b"b");
    assert_eq!(value, export(&first, "a", b"b"));
    assert_ne!(value, export(&first, "b", b"b"));
    assert_ne!(value, export(&first, "a", b"c"));
    assert_ne!(value, export(&other, "a", b"b"));
    assert_eq!(first.export("a", b"", &mut [0; 8160]), Ok(()));
    assert_eq!(first.export("a", b"", &mut [0; 8161]), Err(ExportTooLong));
}

#[test]
fn sizes_are_as_designed() {
    let mut lengths = [0; 4];
    let mut ends = Ends::new(client_config(), server_config(), 1);
    // The test's parameters are 13 bytes; real ones are about 64.
    ends.run(|which, bytes| lengths[which] = bytes.len()).unwrap();
    assert!((1320..=1420).contains(&lengths[HELLO]), "{lengths:?}");
    assert_eq!(lengths[SERVER_HELLO], 1162);
    assert!((170..=368).contains(&lengths[SERVER_FLIGHT]), "{lengths:?}");
    assert_eq!(lengths[CLIENT_FLIGHT], 35);
}

/// Values change threads: shards own connections.
#[test]
fn everything_may_move_between_threads() {
    fn is_send<T: Send>() {}
    fn is_shared<T: Send + Sync>() {}
    is_send::<Handshake>();
    is_send::<Output>();
    is_shared::<Keys>();
    is_shared::<DataKeys>();
    is_shared::<ClientConfig>();
    is_shared::<ServerConfig>();
    is_shared::<Identity>();
}
