//! What a server does for those who have no connection yet, and what it does not.

mod pair;

use std::net::SocketAddr;
use std::time::Duration;

use jsp_crypto::{ClientConfig, KeyShare, ServerIdentity, SystemRng};
use jsp_proto::{Batch, Datagram, Instant, RetryPolicy, Route, StreamConfig, TransportConfig};
use jsp_wire::{Header, LongType};
use pair::{End, Pair};

fn is_retry(datagram: &[u8]) -> bool {
    matches!(Header::parse(datagram), Ok(Header::Retry { .. }))
}

fn has_token(datagram: &[u8]) -> bool {
    matches!(Header::parse(datagram), Ok(Header::Long(header))
        if header.kind == LongType::Initial && !header.token.is_empty())
}

#[test]
// spec-test: CON-60
fn a_cookie_opens_one_connection() {
    let mut pair = Pair::with(TransportConfig::default(), RetryPolicy::Always);
    pair.record = Some(Vec::new());
    let client = pair.connect();
    pair.run_until(|pair| pair.client.connection(client).unwrap().is_established());
    let record = pair.record.take().unwrap();
    let hello: Vec<_> =
        record.into_iter().filter(|(to, bytes)| *to == End::Server && has_token(bytes)).collect();
    assert!(hello.len() >= 2);
    // The connection ends and is forgotten; then its hello comes again, from its own address.
    let now = pair.now;
    pair.client.connection(client).unwrap().close(now, 0, b"");
    pair.run_for(Duration::from_secs(3));
    let handles: Vec<_> = pair.events.iter().filter(|(end, ..)| *end == End::Server).collect();
    let server = handles.first().unwrap().1;
    let now = pair.now;
    pair.server.forget(now, server);
    pair.run_for(Duration::from_secs(2));
    assert_eq!(pair.server.connection_count(), 0);
    let (sent, home) = (pair.datagrams[1], pair.client_addr);
    for _ in 0..5 {
        for (_, bytes) in &hello {
            pair.inject(End::Server, home, bytes);
        }
    }
    pair.run_for(Duration::from_secs(1));
    assert_eq!((pair.server.connection_count(), pair.datagrams[1]), (0, sent));
}

/// Half a hello each from `count` addresses, `apart` from each other.
fn throw_halves(pair: &mut Pair, count: u32, apart: Duration, address: impl Fn(u32) -> SocketAddr) {
    for n in 0..count {
        let mut hello =
            Pair::seeded(TransportConfig::default(), RetryPolicy::Never, 4, (n % 250) as u8);
        hello.client_config = pair.client_config.clone();
        hello.record = Some(Vec::new());
        hello.connect();
        hello.run_for(Duration::from_millis(11));
        let record = hello.record.take().unwrap();
        let (_, first) = record.iter().find(|(to, _)| *to == End::Server).unwrap();
        pair.inject(End::Server, address(n), first);
        pair.run_for(apart);
    }
}

#[test]
// spec-test: CON-61
fn a_network_with_many_halves_is_asked_for_proof_and_others_are_not() {
    let policy = RetryPolicy::WhenHalfOpen(256);
    let mut pair = Pair::with(TransportConfig::default(), policy);
    let crowd = |n: u32| format!("203.0.113.{}:{}", n % 200, 1000 + n).parse().unwrap();
    throw_halves(&mut pair, 40, Duration::ZERO, crowd);
    let (asked, calm): (Vec<_>, Vec<_>) =
        (0..40).map(crowd).partition(|address: &SocketAddr| pair.told.contains_key(address));
    assert_eq!((calm.len(), asked.len()), (33, 7));
    // Retries are small, and the network of the true client is calm.
    assert!(asked.iter().all(|address| pair.told[address] < 100));
    pair.record = Some(Vec::new());
    let client = pair.connect();
    pair.run_until(|pair| pair.client.connection(client).unwrap().is_established());
    assert!(!pair.record.take().unwrap().iter().any(|(_, bytes)| is_retry(bytes)));
    // After two seconds nobody is any more.
    pair.run_for(Duration::from_secs(3));
    throw_halves(&mut pair, 1, Duration::ZERO, |_| "203.0.113.201:7".parse().unwrap());
    assert!(!pair.told.contains_key(&"203.0.113.201:7".parse().unwrap()));
}

#[test]
// spec-test: CON-61
fn a_flood_of_hellos_makes_a_server_ask_everybody() {
    let policy = RetryPolicy::WhenHalfOpen(100_000);
    let mut pair = Pair::with(TransportConfig::default(), policy);
    // Initial packets that nobody can open.
    let mut junk = vec![0xc3, 0x4a, 0x53, 0x50, 0x01, 8, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0x44, 0x80];
    junk.resize(1200, 0x55);
    pair.record = Some(Vec::new());
    for n in 0..5000u32 {
        let [_, _, c, d] = n.to_be_bytes();
        let from = format!("198.51.{c}.{d}:9").parse().unwrap();
        pair.inject(End::Server, from, &junk);
        pair.flush();
    }
    let client = pair.connect();
    pair.run_until(|pair| pair.client.connection(client).unwrap().is_established());
    assert!(pair.record.take().unwrap().iter().any(|(_, bytes)| is_retry(bytes)));
    pair.run_for(Duration::from_secs(3));
    pair.record = Some(Vec::new());
    let calm = pair.connect();
    pair.run_until(|pair| pair.client.connection(calm).unwrap().is_established());
    assert!(!pair.record.take().unwrap().iter().any(|(_, bytes)| is_retry(bytes)));
}

#[test]
// spec-test: CON-63
fn a_silent_server_speaks_only_to_those_who_know_it() {
    for retry in [RetryPolicy::Never, RetryPolicy::Always] {
        let mut pair = Pair::silent(retry);
        let client = pair.connect();
        pair.run_until(|pair| pair.client.connection(client).unwrap().is_established());
        // From elsewhere: another version, an id that does not exist, a hello without the pin.
        let stranger: SocketAddr = "203.0.113.9:9".parse().unwrap();
        let mut other = vec![0xc0, 0x0a, 0x0a, 0x0a, 0x0a, 8, 1, 2, 3, 4, 5, 6, 7, 8, 2, 9, 9];
        other.resize(1200, 0);
        pair.inject(End::Server, stranger, &other);
        pair.inject(End::Server, stranger, &[0x55; 60]);
        other[1..5].copy_from_slice(&jsp_wire::VERSION_1.to_be_bytes());
        pair.inject(End::Server, stranger, &other);
        pair.flush();
        assert_eq!(pair.told.get(&stranger), None);
        let mut pair = Pair::silent(retry);
        pair.client_config = ClientConfig::new(ServerIdentity::AnyInsecure).into();
        pair.connect();
        pair.run_for(Duration::from_secs(11));
        assert_eq!(pair.datagrams[1], 0, "{retry:?}");
        assert!(pair.now > Instant::ZERO);
    }
}

#[test]
// spec-test: CON-80
fn a_flood_of_strangers_and_a_connection_take_turns() {
    let mut pair = Pair::with(TransportConfig::default(), RetryPolicy::Always);
    let (_, server) = pair.establish();
    let mut stranger = Pair::with(TransportConfig::default(), RetryPolicy::Always);
    stranger.client_config = pair.client_config.clone();
    stranger.record = Some(Vec::new());
    stranger.connect();
    stranger.run_for(Duration::from_millis(11));
    let record = stranger.record.take().unwrap();
    let (_, hello) = record.into_iter().find(|(to, _)| *to == End::Server).unwrap();
    let now = pair.now;
    let from = |n: usize| Route::udp(format!("203.0.113.{n}:9").parse().unwrap());
    let datagram = |route, bytes: &[u8]| Datagram { route, ecn: None, payload: bytes.into() };
    let first = datagram(from(1), &hello);
    assert!(pair.server.handle_or_defer(now, first).is_some());
    for n in 1..100 {
        pair.server.handle_datagram(now, datagram(from(n), &hello));
    }
    let stream = pair.server.connection(server).unwrap().open(now, StreamConfig::bytes()).unwrap();
    let much = bytes::Bytes::from(vec![7; 100_000]);
    pair.server.connection(server).unwrap().write(now, stream, much).unwrap();
    let mut batch = Batch::new(65_507, 1);
    let mut to_client = |pair: &mut Pair| {
        batch.clear();
        assert!(pair.server.poll_transmit(now, &mut batch));
        batch.route() == Some(Route::udp(pair.client_addr))
    };
    let turns: Vec<bool> = (0..6).map(|_| to_client(&mut pair)).collect();
    assert_eq!(turns, [true, false, true, false, true, false]);
}

#[test]
// spec-test: CON-80
fn who_has_not_proved_itself_waits_with_strangers() {
    let mut pair = Pair::new();
    pair.record = Some(Vec::new());
    pair.connect();
    pair.run_for(Duration::from_millis(11));
    let record = pair.record.take().unwrap();
    assert_eq!(pair.server.connection_count(), 1);
    let route = Route::udp(pair.client_addr);
    for (_, bytes) in record.into_iter().filter(|(to, _)| *to == End::Server) {
        let datagram = Datagram { route, ecn: None, payload: bytes.as_slice().into() };
        assert!(pair.server.handle_or_defer(pair.now, datagram).is_some());
    }
}

#[test]
// spec-test: CON-80
fn whatever_belongs_to_nobody_waits_behind_connections() {
    for is_wrapped in [false, true] {
        let new = |seed| {
            let pair = Pair::seeded(TransportConfig::default(), RetryPolicy::Never, 16, seed);
            if is_wrapped { pair.obfuscated([7; 32]) } else { pair }
        };
        let mut pair = new(1);
        let (client, server) = pair.establish();
        // A hello as another client makes it, and a message of this one.
        let mut stranger = new(2);
        stranger.client_config = pair.client_config.clone();
        let held = |pair: &mut Pair| {
            pair.held = Some(Vec::new());
            pair.flush();
            pair.held.take().unwrap().remove(0)
        };
        stranger.connect();
        let hello = held(&mut stranger);
        let now = pair.now;
        let connection = pair.client.connection(client).unwrap();
        let stream = connection.open(now, StreamConfig::chat()).unwrap();
        connection.send(now, stream, "first".into()).unwrap();
        let message = held(&mut pair);
        let from = |route: &str, bytes: &[u8]| {
            let route = Route::udp(route.parse().unwrap());
            Datagram { route, ecn: None, payload: bytes.into() }
        };
        let elsewhere = "203.0.113.9:9";
        assert!(pair.server.handle_or_defer(now, from(elsewhere, &hello)).is_some());
        // Without the wrapping nothing is kept: it is told apart already.
        for first in [0x00, 0x40, 0x7f, 0x80, 0xe0, 0xff] {
            let junk = from(elsewhere, &[first; 40]);
            assert_eq!(pair.server.handle_or_defer(now, junk).is_some(), !is_wrapped);
        }
        assert_eq!(pair.server.handle_or_defer(now, from(elsewhere, &[])).is_some(), !is_wrapped);
        let home = pair.client_addr.to_string();
        assert!(pair.server.handle_or_defer(now, from(&home, &message)).is_none());
        let connection = pair.server.connection(server).unwrap();
        assert_eq!(connection.accept(), Some(stream));
        let got = connection.recv(now, stream).unwrap().unwrap();
        assert_eq!(got.text(), Some("first"));
        // A handshake packet is of a connection when it names an id of ours, not the one of a hello.
        if !is_wrapped {
            pair.inject(End::Server, elsewhere.parse().unwrap(), &hello);
            let mut forged = hello.clone();
            forged[0] = 0xe0;
            assert!(pair.server.handle_or_defer(now, from(elsewhere, &forged)).is_some());
        }
    }
}

#[test]
// spec-test: CON-202
fn one_network_leaves_room_for_others() {
    let mut pair = Pair::seeded(TransportConfig::default(), RetryPolicy::Always, 80, 1);
    let outcomes = |pair: &mut Pair, count: usize| {
        let clients: Vec<_> = (0..count).map(|_| pair.connect()).collect();
        pair.run_for(Duration::from_millis(500));
        let is_established = |client: &_| pair.client.connection(*client).unwrap().is_established();
        let (taken, refused): (Vec<_>, Vec<_>) = clients.into_iter().partition(is_established);
        for client in &refused {
            pair.client.forget(pair.now, *client);
        }
        (taken, refused.len())
    };
    let (mut taken, refused) = outcomes(&mut pair, 64);
    assert_eq!((taken.len(), refused), (60, 4));
    pair.client_addr = "198.51.100.1:1000".parse().unwrap();
    let (others, refused) = outcomes(&mut pair, 22);
    assert_eq!((others.len(), refused), (20, 2));
    // What ends makes room.
    pair.client_addr = "192.0.2.1:1000".parse().unwrap();
    for client in taken.drain(..50) {
        pair.client.forget(pair.now, client);
    }
    pair.run_for(Duration::from_secs(12));
    let (again, refused) = outcomes(&mut pair, 40);
    assert_eq!((again.len(), refused), (30, 10));
}

#[test]
// spec-test: HS-107
fn keys_that_were_made_ahead_are_taken_by_one_hello() {
    let mut pair = Pair::new();
    assert!(pair.client.wants_key_share() && !pair.server.wants_key_share());
    let share = KeyShare::generate(pair.client_config.backend, &mut SystemRng).ok();
    let now = pair.now;
    pair.client.put_key_share(now, share);
    assert!(!pair.client.wants_key_share());
    pair.establish();
    assert!(pair.client.wants_key_share());
    // None could be made: that is asked for once for each hello.
    let now = pair.now;
    pair.client.put_key_share(now, None);
    assert!(!pair.client.wants_key_share());
    pair.connect();
    assert!(pair.client.wants_key_share());
}

#[test]
// spec-test: HS-127
fn keys_that_were_made_ahead_wait_for_a_minute() {
    let mut pair = Pair::new();
    let at = pair.now;
    let life = Duration::from_secs(60);
    let put = |pair: &mut Pair| {
        let share = KeyShare::generate(pair.client_config.backend, &mut SystemRng).ok();
        pair.client.put_key_share(at, share);
    };
    put(&mut pair);
    assert_eq!(pair.client.poll_timeout().map(|(at, _)| at), Some(at + life));
    pair.client.handle_timeout(at + life - Duration::from_nanos(1));
    assert!(pair.client.poll_timeout().is_some());
    pair.client.handle_timeout(at + life);
    // They are gone, and no others are wanted before a hello.
    assert!(pair.client.poll_timeout().is_none() && !pair.client.wants_key_share());
    // A hello after that time does without them, though no timer has gone off.
    put(&mut pair);
    pair.now = at + life;
    pair.establish();
}

#[test]
// spec-test: CON-102
fn the_flight_of_a_client_is_no_first_packet() {
    let mut pair = Pair::new();
    pair.record = Some(Vec::new());
    pair.establish();
    let record = pair.record.take().unwrap();
    let to_server = record.iter().filter(|(to, _)| *to == End::Server).map(|(_, bytes)| bytes);
    let kinds: Vec<_> = to_server
        .filter_map(|bytes| match Header::parse(bytes) {
            Ok(Header::Long(header)) => Some(header.kind),
            _ => None,
        })
        .collect();
    let hello = kinds.iter().take_while(|kind| **kind == LongType::Initial).count();
    assert!(hello > 0 && kinds.len() > hello, "{kinds:?}");
    assert!(kinds.iter().skip(hello).all(|kind| *kind == LongType::Handshake), "{kinds:?}");
}
