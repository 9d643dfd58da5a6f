//! The client hello: its sizes, its noise, its lists and its core.

use super::*;

// spec-test: HS-2
#[test]
fn a_hello_of_more_than_4096_bytes_is_refused() {
    let mut ends = Ends::new(client_config(), server_config(), 1);
    let mut hello = ends.from_client.take_message(Level::Initial).unwrap();
    hello.resize(4097, 0);
    let refused = Err(HandshakeError::Malformed("client hello"));
    assert_eq!(ends.give_server(Level::Initial, &hello), refused);
}

// spec-test: HS-1, HS-2
#[test]
fn the_longest_hello_that_a_client_makes_is_one_that_a_server_takes() {
    let hello = |params: usize| {
        let params = alloc::vec![0; params];
        let config = Arc::new(client_config());
        let mut client = Handshake::client(config, &params, &mut SeededRng(1)).unwrap();
        let mut made = Collected::default();
        made.drain(&mut client);
        made.take_message(Level::Initial).unwrap()
    };
    let longest = hello(2600 + 4096 - hello(2600).len());
    assert_eq!(longest.len(), 4096);
    let mut ends = Ends::new(client_config(), server_config(), 1);
    assert_eq!(ends.give_server(Level::Initial, &longest), Ok(()));
}

#[test]
fn the_longest_flight_that_a_server_makes_is_one_that_a_client_takes() {
    let answer = |params: usize| {
        let mut ends = Ends::new(client_config(), server_config(), 1);
        ends.server = Handshake::server(Arc::new(server_config()), alloc::vec![0; params]);
        let hello = ends.from_client.take_message(Level::Initial).unwrap();
        ends.give_server(Level::Initial, &hello).map(|()| ends)
    };
    let flight = |ends: &mut Ends| ends.from_server.take_message(Level::Handshake).unwrap();
    let longest = 9000 + 12288 - flight(&mut answer(9000).unwrap()).len();
    let mut ends = answer(longest).unwrap();
    let server_hello = ends.from_server.take_message(Level::Initial).unwrap();
    ends.give_client(Level::Initial, &server_hello).unwrap();
    let flight = flight(&mut ends);
    assert_eq!((flight.len(), ends.give_client(Level::Handshake, &flight)), (12288, Ok(())));
    let too_long = HandshakeError::Config("the flight is longer than 12288 bytes");
    for longer in [longest + 1, longest + 2] {
        assert_eq!(answer(longer).err(), Some(too_long.clone()));
    }
}

// spec-test: HS-1
#[test]
fn a_configuration_that_does_not_fit_is_refused_at_once() {
    let mut rng = SeededRng(1);
    let config = Arc::new(client_config());
    assert!(Handshake::client(config.clone(), &[0; 2700], &mut rng).is_ok());
    assert!(Handshake::client(config.clone(), &[0; 2900], &mut rng).is_err());
    assert!(Handshake::client(config, &[0; 70_000], &mut rng).is_err());
    let empty = ClientConfig { suites: Vec::new(), ..client_config() };
    assert!(Handshake::client(Arc::new(empty), &[], &mut rng).is_err());
    for name in [Vec::new(), alloc::vec![b'x'; 256]] {
        let config = ClientConfig { application_protocols: alloc::vec![name], ..client_config() };
        assert!(Handshake::client(Arc::new(config), &[], &mut rng).is_err());
    }
}

// spec-test: HS-7
#[test]
fn noise_differs_from_hello_to_hello_and_never_counts() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..40 {
        let client = ClientConfig { features: 0b110, ..client_config() };
        let server = ServerConfig { features: 0b011 | features::GREASE_MASK, ..server_config() };
        let mut ends = Ends::new(client, server, seed);
        let hello = ends.from_client.sent[0].1.clone();
        for (start, length) in lists(&hello) {
            seen.insert((start, hello[start + length - 1]));
            assert_eq!(hello[start + length - 1] & 0x0f, 0x0a);
        }
        ends.run(|_, _| {}).unwrap();
        assert_eq!(ends.from_client.security.unwrap().features & 0xff, 0b010);
        assert_eq!(ends.from_server.security.unwrap().features, 0b010);
    }
    assert!(seen.len() > 20, "{seen:?}");
}

// spec-test: HS-3
// spec-test: HS-5
// spec-test: HS-6
// spec-test: HS-8
#[test]
fn malformed_lists_and_extensions_are_refused() {
    use super::messages::{ClientHello, Extensions};
    let read = |bytes: &[u8]| Extensions::read(bytes, &[2], "test").map(|_| ());
    assert_eq!(read(&[0, 2, 0, 0, 0x0a, 0x0b, 0, 1, 7]), Ok(()));
    assert_eq!(read(&[0, 4, 0, 0]), Err(HandshakeError::UnknownExtension(4)));
    assert!(read(&[0, 2, 0, 0, 0, 2, 0, 0]).is_err(), "twice");
    assert!(read(&[0, 2, 0, 1]).is_err(), "cut");
    assert!(read(&[0]).is_err(), "cut");
    let many: Vec<u8> = (0..33u8).flat_map(|n| [n, 1, 0, 0]).collect();
    assert!(read(&many).is_err(), "33 extensions");
    assert!(read(&many[4..]).is_ok(), "32 extensions");

    let mut ends = Ends::new(client_config(), server_config(), 1);
    let hello = ends.from_client.take_message(Level::Initial).unwrap();
    assert!(ClientHello::read(&hello).is_ok());
    let mut longer = hello.clone();
    longer.push(0);
    assert!(ClientHello::read(&longer).is_err(), "a byte behind the hello");
    let body = u16::try_from(longer.len() - 3).unwrap();
    longer[1..3].copy_from_slice(&body.to_be_bytes());
    assert!(ClientHello::read(&longer).is_err(), "a byte behind its last list");
    for (start, length) in lists(&hello) {
        let mut empty = hello.clone();
        empty.drain(start..start + length);
        empty[start - 1] = 0;
        let body = u16::try_from(empty.len() - 3).unwrap();
        empty[1..3].copy_from_slice(&body.to_be_bytes());
        assert!(ClientHello::read(&empty).is_err());
    }
    // Without transport parameters: their identifier becomes an ignorable one.
    let mut without = hello;
    let at = x25519_offset(&without) + 32 + 32 + 8 + 2;
    assert_eq!(without[at..at + 2], [0, 2]);
    without[at + 1] = 3;
    let refused = Err(HandshakeError::Malformed("client hello"));
    assert_eq!(ends.give_server(Level::Initial, &without), refused);
}

// spec-test: HS-21
// spec-test: HS-22
#[test]
fn the_core_of_a_hello_is_found_in_its_first_fragment() {
    let ends = Ends::new(client_config(), server_config(), 1);
    let hello = &ends.from_client.sent[0].1;
    let core_end = x25519_offset(hello) + 32 + 32 + 8;
    let expected = crate::hello_core_hash(hello).unwrap();
    for end in 0..hello.len() {
        let hash = crate::hello_core_hash(&hello[..end]);
        assert_eq!(hash, (end >= core_end).then_some(expected), "{end}");
    }
    for at in 3..hello.len() {
        let mut changed = hello.clone();
        changed[at] ^= 1;
        assert_eq!(crate::hello_core_hash(&changed) == Some(expected), at >= core_end, "{at}");
        assert_ne!(crate::hello_id(&changed), crate::hello_id(hello));
    }
}
