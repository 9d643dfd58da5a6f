//! Junk, damage, replays, and peers that have forgotten.

mod pair;

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use jsp_crypto::Rng;
use jsp_proto::{
    CloseReason, ConnectionHandle, Endpoint, EndpointConfig, Event, Message, RetryPolicy,
    StreamConfig, StreamId, TransportConfig,
};
use pair::{End, Pair, TestRng};

fn random(rng: &mut TestRng, below: usize) -> usize {
    let mut bytes = [0; 8];
    rng.fill(&mut bytes);
    (u64::from_le_bytes(bytes) % below as u64) as usize
}

/// Throws junk of every size at both ends, from the peer's address and from elsewhere.
fn throw_junk(pair: &mut Pair, rng: &mut TestRng) {
    let elsewhere: SocketAddr = "203.0.113.9:9".parse().unwrap();
    for size in 0..1500 {
        let mut junk = vec![0; size];
        rng.fill(&mut junk);
        // A quarter each: short header, long header of version 1, anything, an id that exists.
        match (size % 4, junk.first_mut()) {
            (0, Some(first)) => *first = *first & 0x3f | 0x40,
            (1, Some(first)) => {
                *first |= 0xc0;
                for (slot, byte) in junk.iter_mut().skip(1).zip(jsp_wire::VERSION_1.to_be_bytes()) {
                    *slot = byte;
                }
            }
            _ => {}
        }
        let (to, home) = if size % 3 == 0 {
            (End::Client, pair.server_addr)
        } else {
            (End::Server, pair.client_addr)
        };
        let from = if size % 5 == 0 { elsewhere } else { home };
        pair.inject(to, from, &junk);
    }
}

/// Throws damaged copies of what was delivered so far at its receiver.
fn throw_damaged(pair: &mut Pair, rng: &mut TestRng, copies: usize) {
    let record = pair.record.clone().unwrap_or_default();
    for n in 0..copies.min(copies * record.len()) {
        let (to, datagram) = &record[random(rng, record.len())];
        let mut copy = datagram.clone();
        match n % 3 {
            0 => {
                let bit = random(rng, copy.len() * 8);
                copy[bit / 8] ^= 1 << (bit % 8);
            }
            1 => copy.truncate(random(rng, copy.len())),
            _ => copy.extend_from_slice(&datagram[..random(rng, datagram.len())]),
        }
        let from = if *to == End::Client { pair.server_addr } else { pair.client_addr };
        pair.inject(*to, from, &copy);
    }
}

fn open_stream(pair: &mut Pair, client: ConnectionHandle) -> StreamId {
    let now = pair.now;
    let connection = pair.client.connection(client).unwrap();
    let stream = connection.open(now, StreamConfig::bytes()).unwrap();
    connection.write(now, stream, Bytes::from(vec![3; 20_000])).unwrap();
    connection.finish(now, stream).unwrap();
    stream
}

#[test]
// spec-test: CON-8, CON-40
fn junk_and_damage_at_every_stage_change_nothing() {
    for retry in [RetryPolicy::Never, RetryPolicy::Always] {
        let mut rng = TestRng(0x5eed_0001);
        let mut pair = Pair::with(TransportConfig::default(), retry);
        pair.record = Some(Vec::new());
        let client = pair.connect();
        for _ in 0..12 {
            throw_junk(&mut pair, &mut rng);
            throw_damaged(&mut pair, &mut rng, 300);
            pair.run_for(Duration::from_millis(5));
        }
        pair.run_until(|pair| pair.client.connection(client).unwrap().is_established());
        let stream = open_stream(&mut pair, client);
        for _ in 0..20 {
            throw_junk(&mut pair, &mut rng);
            throw_damaged(&mut pair, &mut rng, 300);
            pair.run_for(Duration::from_millis(5));
        }
        let done = Event::SendFinished { stream };
        pair.run_until(|pair| pair.events.contains(&(End::Client, client, done.clone())));
        assert_eq!(pair.close_reason(End::Client, client), None);
        let now = pair.now;
        pair.client.connection(client).unwrap().close(now, 0, b"");
        for _ in 0..4 {
            throw_junk(&mut pair, &mut rng);
            throw_damaged(&mut pair, &mut rng, 300);
            pair.run_for(Duration::from_millis(20));
        }
        pair.run_for(Duration::from_secs(20));
        assert!(pair.client.is_idle() && pair.server.is_idle());
    }
}

#[test]
// spec-test: CON-40
fn a_replayed_conversation_is_not_heard_twice() {
    let mut pair = Pair::new();
    let (client, server) = pair.establish();
    pair.record = Some(Vec::new());
    let stream = open_stream(&mut pair, client);
    pair.run_for(Duration::from_secs(1));
    let record = pair.record.take().unwrap();
    let before = pair.server.connection(server).unwrap().stats().traffic.packets_sent;
    for (to, datagram) in &record {
        let from = if *to == End::Client { pair.server_addr } else { pair.client_addr };
        pair.inject(*to, from, datagram);
    }
    pair.run_for(Duration::from_secs(1));
    let after = pair.server.connection(server).unwrap().stats().traffic.packets_sent;
    assert_eq!(before, after, "a replay was answered");
    let now = pair.now;
    let connection = pair.server.connection(server).unwrap();
    let mut got = 0;
    while let Ok(Some(bytes)) = connection.read(now, stream, usize::MAX) {
        got += bytes.len();
    }
    assert_eq!(got, 20_000);
}

#[test]
// spec-test: CON-32, CON-36
fn a_server_that_forgot_says_so() {
    let mut pair = Pair::new();
    let (client, _) = pair.establish();
    pair.restart_server();
    let start = pair.now;
    open_stream(&mut pair, client);
    pair.run_until(|pair| pair.close_reason(End::Client, client).is_some());
    assert_eq!(pair.close_reason(End::Client, client), Some(CloseReason::Reset));
    assert!(pair.now - start <= pair::DELAY * 3);
    pair.run_for(Duration::from_secs(1));
    let closed = pair.events.iter().filter(|(_, _, e)| matches!(e, Event::Closed { .. })).count();
    assert_eq!(closed, 1);
}

#[test]
// spec-test: CON-203
fn a_server_that_starts_anew_with_its_key_ends_what_was_before() {
    for key in [[1; 32], [2; 32]] {
        let mut pair = Pair::new();
        let config = pair.server_config();
        pair.server = Endpoint::new(config.clone()).with_reset_key([1; 32]);
        let (client, _) = pair.establish();
        let config = EndpointConfig { seed: [77; 32], ..config };
        pair.server = Endpoint::new(config).with_reset_key(key);
        open_stream(&mut pair, client);
        pair.run_for(pair::DELAY * 3);
        let is_reset = pair.close_reason(End::Client, client) == Some(CloseReason::Reset);
        assert_eq!(is_reset, key == [1; 32]);
    }
}

#[test]
// spec-test: CON-32
fn a_reset_that_finds_a_closed_connection_is_no_second_end() {
    let mut pair = Pair::new();
    let (client, _) = pair.establish();
    pair.restart_server();
    let now = pair.now;
    pair.client.connection(client).unwrap().close(now, 3, b"a reason that makes the packet longer");
    pair.run_for(Duration::from_secs(2));
    let closed: Vec<_> =
        pair.events.iter().filter(|(_, _, e)| matches!(e, Event::Closed { .. })).collect();
    assert_eq!(closed.len(), 1, "{closed:?}");
}

#[test]
// spec-test: CON-36
fn resets_are_shorter_than_what_they_answer_and_bounded() {
    let mut pair = Pair::new();
    let stranger: SocketAddr = "203.0.113.9:9".parse().unwrap();
    let mut told = 0;
    for size in 0..200usize {
        let mut stray = vec![0x55; size];
        if let Some(last) = stray.last_mut() {
            *last = size as u8;
        }
        // A new second for each, so that the bound does not interfere.
        pair.run_for(Duration::from_secs(1));
        pair.inject(End::Server, stranger, &stray);
        pair.flush();
        let now = pair.told.get(&stranger).copied().unwrap_or(0);
        assert!(now - told < size.max(1) as u64, "{size}");
        assert_eq!(now > told, size >= 22, "{size}");
        told = now;
    }
    pair.run_for(Duration::from_secs(1));
    let before = pair.datagrams[1];
    for n in 0..10_000u32 {
        let mut stray = vec![0x55; 40];
        stray[1..5].copy_from_slice(&n.to_be_bytes());
        pair.inject(End::Server, stranger, &stray);
        pair.flush();
    }
    assert_eq!(pair.datagrams[1] - before, 10);
}

#[test]
// spec-test: CON-4
fn unfinished_hellos_are_bounded_and_room_is_found_for_true_ones() {
    let mut pair = Pair::new();
    pair.record = Some(Vec::new());
    let client = pair.connect();
    pair.flush();
    // The first half of a true hello, as if from very many addresses.
    pair.run_for(pair::DELAY);
    let first = pair.record.take().unwrap().into_iter().next().unwrap().1;
    for n in 0..5_000u32 {
        let from = SocketAddr::from((n.to_be_bytes(), 7));
        pair.inject(End::Server, from, &first);
    }
    pair.run_until(|pair| pair.client.connection(client).unwrap().is_established());
    assert_eq!(pair.server.connection_count(), 1);
}

#[test]
// spec-test: CON-33
fn a_lost_close_is_said_again_but_ever_more_rarely() {
    let mut pair = Pair::new();
    let (client, server) = pair.establish();
    let now = pair.now;
    pair.filter = Box::new(|to, _| to == End::Client);
    pair.client.connection(client).unwrap().close(now, 5, b"bye");
    pair.flush();
    let before = pair.datagrams[0];
    // The server, which has not heard it, sends many packets.
    let connection = pair.server.connection(server).unwrap();
    let stream = connection.open(now, StreamConfig::bytes()).unwrap();
    connection.write(now, stream, Bytes::from(vec![1; 9_000])).unwrap();
    pair.run_for(Duration::from_millis(50));
    let answers = pair.datagrams[0] - before;
    assert!((1..=4).contains(&answers), "{answers}");
    pair.filter = Box::new(|_, _| true);
    pair.run_for(Duration::from_secs(20));
    let reason = pair.close_reason(End::Server, server);
    assert!(
        matches!(
            reason,
            Some(
                CloseReason::ByPeer { code: 5, .. } | CloseReason::IdleTimeout | CloseReason::Reset
            )
        ),
        "{reason:?}"
    );
}

#[test]
// spec-test: CON-35
fn an_early_close_keeps_the_applications_words() {
    let mut pair = Pair::new();
    let client = pair.connect();
    pair.run_for(pair::DELAY);
    let now = pair.now;
    pair.client.connection(client).unwrap().close(now, 77, b"a secret reason");
    // In an Initial packet anybody could have said it: the server waits a little.
    pair.run_for(Duration::from_secs(4));
    let told = pair.events.iter().find_map(|(end, _, event)| match event {
        Event::Closed { reason } if *end == End::Server => Some(reason.clone()),
        _ => None,
    });
    match told {
        Some(CloseReason::PeerError { code, reason }) => {
            assert_eq!((code, reason.as_str()), (jsp_wire::CloseCode::NO_ERROR, ""));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
/// spec-test: CC-29
fn real_time_data_for_a_peer_that_acknowledges_nothing_ends() {
    let hour = Duration::from_secs(3600);
    let config = TransportConfig { idle_timeout: hour, ..Default::default() };
    let mut pair = Pair::with(config, RetryPolicy::Never);
    let (client, _) = pair.establish();
    pair.filter = Box::new(|to, _| to == End::Server);
    let connection = pair.client.connection(client).unwrap();
    let stream = connection.open(pair.now, StreamConfig::voice()).unwrap();
    let mut sent = [0; 3];
    for sent in &mut sent {
        for _ in 0..3000 {
            let connection = pair.client.connection(client).unwrap();
            // Once nothing leaves any more, the queue fills up.
            let _full = connection.send(pair.now, stream, Message::binary(vec![7; 160]));
            pair.run_for(Duration::from_millis(40));
        }
        *sent = pair.datagrams[0];
    }
    assert!(sent[0] > 2900 && sent[1] > sent[0] + 500, "an outage of minutes: {sent:?}");
    assert!(sent[2] < sent[1] + 20, "only probes are left: {sent:?}");
}

#[test]
fn qlog_records_are_json() {
    let config = TransportConfig { qlog: true, ..Default::default() };
    let mut pair = Pair::with(config, RetryPolicy::Never);
    let (client, server) = pair.establish();
    open_stream(&mut pair, client);
    pair.run_for(Duration::from_secs(1));
    let now = pair.now;
    pair.client.connection(client).unwrap().close(now, 1, b"quote \" and \\ and \n");
    pair.run_for(Duration::from_millis(100));
    let texts = [
        pair.client.connection(client).unwrap().take_qlog(),
        pair.server.connection(server).unwrap().take_qlog(),
    ];
    for (text, side) in texts.into_iter().zip(["client", "server"]) {
        let mut records = text.split('\u{1e}').skip(1).map(|record| {
            assert!(record.ends_with('\n'));
            serde_json::from_str::<serde_json::Value>(record).unwrap()
        });
        let header = records.next().unwrap();
        assert_eq!(header["qlog_format"], "JSON-SEQ");
        assert_eq!(header["qlog_version"], "0.3");
        assert_eq!(header["trace"]["vantage_point"]["type"], side);
        assert_eq!(header["trace"]["common_fields"]["time_format"], "relative");
        let mut names = std::collections::BTreeSet::new();
        let mut last = 0.0;
        for record in records {
            let time = record["time"].as_f64().unwrap();
            assert!(time >= last);
            last = time;
            assert!(record["data"].is_object());
            names.insert(record["name"].as_str().unwrap().to_owned());
        }
        for name in [
            "transport:packet_sent",
            "transport:packet_received",
            "recovery:metrics_updated",
            "connectivity:connection_state_updated",
            "connectivity:connection_closed",
        ] {
            assert!(names.contains(name), "{side}: {name}");
        }
    }
}
