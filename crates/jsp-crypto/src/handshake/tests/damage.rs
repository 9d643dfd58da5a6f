//! Messages that were changed on the way, bit by bit and at random.

use super::*;

/// Every bit of every message, the two ML-KEM values by one bit of each byte
/// (their other bits are alike, and the whole takes a minute).
// spec-test: HS-33
// spec-test: HS-20
// spec-test: HS-46
#[test]
fn every_flipped_bit_is_rejected() {
    let client = Arc::new(ClientConfig {
        credential: Some(identity(3).into()),
        application_protocols: alloc::vec![b"chat".to_vec()],
        ..client_config()
    });
    let server = Arc::new(ServerConfig {
        client_auth: ClientAuth::Required(accept_only(3)),
        application_protocols: alloc::vec![b"chat".to_vec()],
        ..server_config()
    });
    let mut lengths = [0; 4];
    Ends::shared(&client, &server, 1).run(|which, bytes| lengths[which] = bytes.len()).unwrap();
    for (which, length) in lengths.into_iter().enumerate() {
        for bit in 0..length * 8 {
            let ml_kem = match which {
                HELLO => bit / 8 >= length - 1184,
                SERVER_HELLO => bit / 8 >= length - 1088,
                _ => false,
            };
            if ml_kem && bit % 8 != (bit / 8) % 8 {
                continue;
            }
            let mut ends = Ends::shared(&client, &server, 1);
            let result = ends.run(|index, bytes| {
                if index == which {
                    bytes[bit / 8] ^= 1 << (bit % 8);
                }
            });
            let (_, error) = result.expect_err("a changed message passed");
            assert_eq!(error.close_code(), close::HANDSHAKE_FAILED);
            assert!(!ends.server.is_complete(), "message {which} bit {bit}");
            assert!(ends.from_server.security.is_none());
            assert_eq!(ends.client.is_complete(), which == CLIENT_FLIGHT);
        }
    }
}

// spec-test: HS-4
#[test]
fn truncated_and_lengthened_messages_are_rejected() {
    for which in [HELLO, SERVER_HELLO, SERVER_FLIGHT, CLIENT_FLIGHT] {
        let mut length = 0;
        let mut ends = Ends::new(client_config(), server_config(), 1);
        ends.run(|index, bytes| {
            if index == which {
                length = bytes.len();
            }
        })
        .unwrap();
        let step = if length > 400 { 7 } else { 1 };
        for cut in (0..length).step_by(step).chain([length + 1, length + 300]) {
            let mut ends = Ends::new(client_config(), server_config(), 1);
            let result = ends.run(|index, bytes| {
                if index == which {
                    bytes.resize(cut, 0);
                }
            });
            assert!(result.is_err(), "message {which} cut to {cut}");
            assert!(!ends.server.is_complete());
        }
    }
}

/// Random changes of every kind: nothing panics, nothing passes, and a client
/// that was given junk still completes with the right messages.
#[test]
fn random_damage_neither_panics_nor_passes() {
    let client = Arc::new(ClientConfig {
        application_protocols: alloc::vec![b"chat".to_vec()],
        ..client_config()
    });
    let server = Arc::new(server_config());
    let mut rng = SeededRng(99);
    let mut pick = move |below: usize| {
        let bytes: [u8; 8] = crate::rng::array(&mut rng);
        usize::try_from(u64::from_be_bytes(bytes) % below as u64).unwrap()
    };
    let mut damage = move |bytes: &mut Vec<u8>| {
        for _ in 0..=pick(4) {
            let at = pick(bytes.len().max(1));
            match pick(5) {
                0 if !bytes.is_empty() => bytes[at] = pick(256) as u8,
                1 => bytes.insert(at.min(bytes.len()), pick(256) as u8),
                2 if !bytes.is_empty() => drop(bytes.remove(at)),
                3 => bytes.truncate(at),
                _ => {
                    let end = (at + pick(40)).min(bytes.len());
                    let copy: Vec<u8> = bytes[at.min(end)..end].to_vec();
                    bytes.splice(at.min(bytes.len())..at.min(bytes.len()), copy);
                }
            }
        }
    };
    for seed in 0..400 {
        let mut ends = Ends::shared(&client, &server, seed);
        let right = ends.from_client.take_message(Level::Initial).unwrap();
        for _ in 0..25 {
            let mut hello = right.clone();
            damage(&mut hello);
            let mut victim = Handshake::server(server.clone(), Vec::new());
            let result = victim.read(Level::Initial, &hello, NOW, &mut ends.rng);
            assert_eq!(result.is_err(), victim.is_failed());
            let _ = crate::hello_core_hash(&hello);
        }
        ends.give_server(Level::Initial, &right).unwrap();
        let hello = ends.from_server.take_message(Level::Initial).unwrap();
        let flight = ends.from_server.take_message(Level::Handshake).unwrap();
        ends.give_client(Level::Initial, &hello).unwrap();
        for _ in 0..4 {
            let mut wrong = hello.clone();
            damage(&mut wrong);
            if wrong != hello {
                let _ = ends.give_client(Level::Initial, &wrong);
            }
        }
        for _ in 0..25 {
            let mut wrong = flight.clone();
            damage(&mut wrong);
            if wrong != flight {
                assert!(ends.give_client(Level::Handshake, &wrong).is_err());
            }
        }
        ends.give_client(Level::Handshake, &flight).unwrap();
        let finished = ends.from_client.take_message(Level::Handshake).unwrap();
        let mut wrong = finished.clone();
        damage(&mut wrong);
        if seed % 2 == 0 && wrong != finished {
            assert!(ends.give_server(Level::Handshake, &wrong).is_err());
        } else {
            ends.give_server(Level::Handshake, &finished).unwrap();
            assert_established(&mut ends);
        }
    }
}
