//! Connections from hello to end, over a perfect wire and over bad ones.

mod pair;

use std::time::Duration;

use bytes::Bytes;
use jsp_proto::{
    CloseReason, Event, Message, MessageFate, RecvError, RetryPolicy, StreamConfig, TransportConfig,
};
use pair::{End, Pair};

#[test]
fn a_handshake_takes_one_round_trip() {
    let mut pair = Pair::new();
    let start = pair.now;
    let client = pair.connect();
    pair.run_until(|pair| pair.client.connection(client).unwrap().is_established());
    assert_eq!(pair.now - start, pair::DELAY * 2);
    let security = pair.client.connection(client).unwrap().security().unwrap();
    assert!(security.kem.is_post_quantum());
    assert!(security.peer.is_some());
}

#[test]
// spec-test: CON-2, CON-15
fn with_retry_it_takes_two() {
    let mut pair = Pair::with(TransportConfig::default(), RetryPolicy::Always);
    let start = pair.now;
    let client = pair.connect();
    pair.run_until(|pair| pair.client.connection(client).unwrap().is_established());
    assert_eq!(pair.now - start, pair::DELAY * 4);
}

#[test]
fn a_message_and_its_fate_cross() {
    let mut pair = Pair::new();
    let (client, server) = pair.establish();
    let now = pair.now;
    let connection = pair.client.connection(client).unwrap();
    let stream = connection.open(now, StreamConfig::chat().labelled("talk")).unwrap();
    let mut message = Message::text("hello");
    message.want_fate = true;
    connection.send(now, stream, message).unwrap();
    pair.run_for(Duration::from_millis(200));
    assert!(pair.events.contains(&(End::Server, server, Event::StreamOpened { stream })));
    let fate = Event::Fate { stream, number: 0, fate: MessageFate::Acknowledged };
    assert!(pair.events.contains(&(End::Client, client, fate)));
    let now = pair.now;
    let connection = pair.server.connection(server).unwrap();
    assert_eq!(connection.accept(), Some(stream));
    assert_eq!(connection.stream_info(stream).unwrap().label, "talk");
    let received = connection.recv(now, stream).unwrap().unwrap();
    assert_eq!(&received.payload[..], b"hello");
    assert!(received.attributes.text);
    connection.send(now, stream, Message::text("hello back")).unwrap();
    pair.run_for(Duration::from_millis(200));
    let now = pair.now;
    let received = pair.client.connection(client).unwrap().recv(now, stream).unwrap().unwrap();
    assert_eq!(&received.payload[..], b"hello back");
}

/// Sends `len` bytes from client to server through a pair; answers when they had arrived.
fn transfer(pair: &mut Pair, len: usize) -> Duration {
    let (client, server) = pair.establish();
    let start = pair.now;
    let data: Bytes = (0..len).map(|i| (i * 7 + i / 253) as u8).collect::<Vec<_>>().into();
    let connection = pair.client.connection(client).unwrap();
    let stream = connection.open(start, StreamConfig::bytes()).unwrap();
    let (mut written, mut got) = (0, Vec::with_capacity(len));
    pair.run_until(|pair| {
        let now = pair.now;
        let connection = pair.client.connection(client).unwrap();
        while written < len {
            match connection.write(now, stream, data.slice(written..)) {
                Ok(n) => written += n,
                Err(_) => break,
            }
            if written == len {
                connection.finish(now, stream).unwrap();
            }
        }
        let connection = pair.server.connection(server).unwrap();
        loop {
            match connection.read(now, stream, usize::MAX) {
                Ok(Some(bytes)) => got.extend_from_slice(&bytes),
                Ok(None) => return false,
                Err(RecvError::Closed) => return !got.is_empty() || len == 0,
                Err(error) => panic!("{error}"),
            }
        }
    });
    assert!(got == data, "the bytes differ");
    pair.now - start
}

#[test]
fn bytes_cross_whole_and_in_order() {
    transfer(&mut Pair::new(), 3_000_000);
}

#[test]
fn bytes_cross_a_lossy_wire() {
    let mut pair = Pair::new();
    let mut n = 0u64;
    pair.filter = Box::new(move |_, _| {
        n += 1;
        n % 11 != 7 && n % 29 != 3
    });
    transfer(&mut pair, 1_000_000);
}

#[test]
fn a_larger_mtu_is_found() {
    let mut pair = Pair::new();
    let (client, _) = pair.establish();
    pair.run_for(Duration::from_secs(3));
    assert_eq!(pair.client.connection(client).unwrap().stats().datagram_len, 1452);
}

#[test]
// spec-test: CON-33, CON-34
fn closing_tells_the_peer_and_drains() {
    let mut pair = Pair::new();
    let (client, server) = pair.establish();
    let now = pair.now;
    pair.client.connection(client).unwrap().close(now, 7, b"done");
    pair.run_for(Duration::from_secs(5));
    let reason = CloseReason::ByPeer { code: 7, reason: "done".into() };
    assert!(pair.events.contains(&(End::Server, server, Event::Closed { reason })));
    assert!(pair.events.contains(&(End::Server, server, Event::Drained)));
    assert!(pair.events.contains(&(End::Client, client, Event::Drained)));
    assert!(pair.client.is_idle() && pair.server.is_idle());
    let now = pair.now;
    pair.client.forget(now, client);
    pair.server.forget(now, server);
    pair.flush();
    assert_eq!(pair.client.connection_count() + pair.server.connection_count(), 0);
}

#[test]
// spec-test: CON-30
fn silence_ends_a_connection() {
    let config = TransportConfig { idle_timeout: Duration::from_secs(4), ..Default::default() };
    let mut pair = Pair::with(config, RetryPolicy::Never);
    let (client, server) = pair.establish();
    let start = pair.now;
    pair.filter = Box::new(|_, _| false);
    pair.run_until(|pair| {
        pair.events.iter().filter(|(_, _, e)| matches!(e, Event::Closed { .. })).count() == 2
    });
    let reason = CloseReason::IdleTimeout;
    assert!(pair.events.contains(&(End::Client, client, Event::Closed { reason: reason.clone() })));
    assert!(pair.events.contains(&(End::Server, server, Event::Closed { reason })));
    assert!(pair.now - start < Duration::from_secs(5));
}

#[test]
// spec-test: CON-31
fn keep_alive_keeps_a_quiet_connection() {
    let config = TransportConfig {
        idle_timeout: Duration::from_secs(4),
        keep_alive: Some(Duration::from_secs(1)),
        ..Default::default()
    };
    let mut pair = Pair::with(config, RetryPolicy::Never);
    let (client, _) = pair.establish();
    pair.run_for(Duration::from_secs(3));
    let before = pair.datagrams;
    pair.run_for(Duration::from_secs(20));
    assert!(!pair.client.connection(client).unwrap().is_closed());
    let sent = pair.datagrams[0] - before[0] + pair.datagrams[1] - before[1];
    assert!((20..100).contains(&sent), "{sent} datagrams in 20 s");
}

#[test]
fn a_server_that_does_not_answer_is_given_up() {
    let mut pair = Pair::new();
    pair.filter = Box::new(|_, _| false);
    let client = pair.connect();
    pair.run_for(Duration::from_secs(20));
    let reason = CloseReason::HandshakeTimeout;
    assert!(pair.events.contains(&(End::Client, client, Event::Closed { reason })));
}
