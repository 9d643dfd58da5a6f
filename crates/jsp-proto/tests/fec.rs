//! Forward error correction through whole connections: negotiated, repaired, acknowledged, counted.

mod pair;

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use jsp_proto::{
    Class, ConnectionHandle, ConnectionStats, Delivery, FecPolicy, Message, RetryPolicy,
    StreamConfig, StreamId, TransportConfig,
};
use pair::{End, Pair};

const MESSAGES: u64 = 1000;

/// Unreliable messages, one a millisecond: what is lost does not come again.
fn media(fec: FecPolicy) -> StreamConfig {
    StreamConfig { fec, ordered: false, unidirectional: true, ..StreamConfig::voice() }
}

/// Opens a stream at the client.
fn open(pair: &mut Pair, client: ConnectionHandle, config: StreamConfig) -> StreamId {
    let now = pair.now;
    pair.client.connection(client).unwrap().open(now, config).unwrap()
}

/// Sends one message of the client.
fn say(pair: &mut Pair, client: ConnectionHandle, stream: StreamId, payload: Vec<u8>) {
    let now = pair.now;
    let message = Message::binary(payload);
    pair.client.connection(client).unwrap().send(now, stream, message).unwrap();
}

/// One way of a path that fades.
const FADING_DELAY: Duration = Duration::from_millis(30);

/// A connection from a client to a server on a path that can fade: while the cell says so, nothing
/// reaches the server.
fn fading() -> (Pair, [ConnectionHandle; 2], Rc<Cell<bool>>) {
    let mut pair = Pair::new();
    pair.weather = Box::new(|_| vec![FADING_DELAY]);
    let (client, server) = pair.establish();
    let fades = Rc::new(Cell::new(false));
    let is_fading = fades.clone();
    pair.filter = Box::new(move |to, _| to == End::Client || !is_fading.get());
    (pair, [client, server], fades)
}

struct Outcome {
    received: u64,
    /// Of the sender.
    sent: ConnectionStats,
    /// Of the receiver.
    got: ConnectionStats,
    dropped: u64,
}

/// Sends messages of `len` bytes while every tenth datagram to the server gets lost.
fn send(pair: &mut Pair, config: &StreamConfig, len: usize) -> Outcome {
    let (client, server) = pair.establish();
    let dropped = Rc::new(Cell::new((0u64, 0u64)));
    let count = dropped.clone();
    pair.filter = Box::new(move |to, _| {
        let (seen, lost) = count.get();
        let drops = to == End::Server && seen % 10 == 7;
        count.set((seen + u64::from(to == End::Server), lost + u64::from(drops)));
        !drops
    });
    let stream = open(pair, client, config.clone());
    let mut received = 0;
    for n in 0..MESSAGES + 200 {
        if n < MESSAGES {
            say(pair, client, stream, vec![n as u8; len]);
        }
        pair.run_for(Duration::from_millis(1));
        let now = pair.now;
        let connection = pair.server.connection(server).unwrap();
        while let Ok(Some(message)) = connection.recv(now, stream) {
            assert_eq!(message.payload, vec![message.number as u8; len]);
            received += 1;
        }
    }
    let sent = pair.client.connection(client).unwrap().stats();
    let got = pair.server.connection(server).unwrap().stats();
    let dropped = dropped.get().1;
    Outcome { received, sent, got, dropped }
}

#[test]
/// spec-test: FEC-6
/// spec-test: FEC-8
fn repairs_bring_back_what_is_lost_and_the_loss_still_counts() {
    for len in [150, 1100] {
        let outcome = send(&mut Pair::new(), &media(FecPolicy::Fixed(33)), len);
        // What was sent before the receiver knew of repairs is lost for good.
        assert!(outcome.received >= MESSAGES - 2, "{len}: {}", outcome.received);
        let (sent, got) = (outcome.sent.traffic, outcome.got.traffic);
        assert!((300..360).contains(&sent.repairs_sent), "{}", sent.repairs_sent);
        assert!(got.packets_recovered >= 60, "{}", got.packets_recovered);
        // Every datagram that was dropped is known to be lost, those that were recovered too.
        assert!(
            sent.packets_lost + 3 >= outcome.dropped,
            "{} {}",
            sent.packets_lost,
            outcome.dropped
        );
        assert!(
            sent.packets_lost <= outcome.dropped + 3,
            "{} {}",
            sent.packets_lost,
            outcome.dropped
        );
    }
}

#[test]
/// spec-test: FEC-1
fn without_the_feature_on_both_sides_there_are_no_repairs() {
    let off = TransportConfig { fec: false, ..TransportConfig::default() };
    for (client, server) in [(true, false), (false, true)] {
        let of = |on: bool| if on { TransportConfig::default() } else { off.clone() };
        let mut pair = Pair::with(of(server), RetryPolicy::Never);
        pair.transport = std::sync::Arc::new(of(client));
        let outcome = send(&mut pair, &media(FecPolicy::Fixed(50)), 150);
        assert_eq!(outcome.sent.traffic.repairs_sent, 0);
        assert!(outcome.received < MESSAGES - 50);
    }
}

#[test]
/// spec-test: FEC-12
fn automatic_repair_follows_the_losses() {
    let outcome = send(&mut Pair::new(), &media(FecPolicy::Auto), 150);
    assert!(outcome.sent.traffic.repairs_sent > 0);
    assert!(outcome.got.traffic.packets_recovered > 0);
    for config in [
        media(FecPolicy::Off),
        StreamConfig { class: Class::Interactive, ..media(FecPolicy::Fixed(50)) },
    ] {
        let outcome = send(&mut Pair::new(), &config, 150);
        assert_eq!(outcome.sent.traffic.repairs_sent, 0);
    }
}

/// Voice of 50 packets a second for 20 s beside 8 Mbit/s of a file, on a path that loses one datagram of 17 by chance;
/// answers how many packets arrived of how many, and what the sender counted.
fn voice_beside_a_file(voice: StreamConfig) -> (u64, u64, ConnectionStats) {
    let (mut pair, [client, server], _) = fading();
    let chance = Cell::new(1u64);
    pair.filter = Box::new(move |to, _| {
        chance.set(chance.get().wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
        to == End::Client || !(chance.get() >> 33).is_multiple_of(17)
    });
    let voice = open(&mut pair, client, StreamConfig { unidirectional: true, ..voice });
    let file = StreamConfig { unidirectional: true, ..StreamConfig::file() };
    let file = open(&mut pair, client, file);
    let (frames, mut received) = (1000, 0);
    for _ in 0..frames {
        say(&mut pair, client, voice, vec![7; 160]);
        for _ in 0..20 {
            let now = pair.now;
            let connection = pair.client.connection(client).unwrap();
            connection.write(now, file, vec![0; 1000].into()).unwrap();
            pair.run_for(Duration::from_millis(1));
            let (now, connection) = (pair.now, pair.server.connection(server).unwrap());
            while let Ok(Some(_)) = connection.read(now, file, 1 << 20) {}
            received += std::iter::from_fn(|| connection.recv(now, voice).ok().flatten()).count();
        }
    }
    let stats = pair.client.connection(client).unwrap().stats();
    (received as u64, frames, stats)
}

#[test]
/// spec-test: FEC-13
/// spec-test: FEC-28
/// spec-test: FEC-29
fn voice_beside_a_file_is_repaired_and_the_file_is_not() {
    let (received, frames, stats) = voice_beside_a_file(StreamConfig::voice());
    assert!(received * 1000 >= frames * 990, "{received} of {frames}: {stats:?}");
    let traffic = stats.traffic;
    assert!(traffic.repairs_sent >= frames / 2, "{traffic:?}");
    assert!(traffic.repair_bytes_sent / traffic.repairs_sent <= 280, "{traffic:?}");
}

#[test]
/// spec-test: FEC-30
fn where_the_newest_wins_nothing_is_repaired() {
    let config = StreamConfig { ordered: true, ..StreamConfig::voice() };
    let (received, frames, stats) = voice_beside_a_file(config);
    assert!(received < frames * 97 / 100, "{received} of {frames}");
    assert_eq!(stats.traffic.repairs_sent, 0);
}

#[test]
/// spec-test: FEC-12
fn a_path_without_losses_carries_no_repair() {
    let mut pair = Pair::new();
    let (client, _) = pair.establish();
    let stream = open(&mut pair, client, media(FecPolicy::Auto));
    for _ in 0..MESSAGES {
        say(&mut pair, client, stream, vec![7; 150]);
        pair.run_for(Duration::from_millis(1));
    }
    let traffic = pair.client.connection(client).unwrap().stats().traffic;
    assert_eq!((traffic.repairs_sent, traffic.repair_bytes_sent), (0, 0));
}

#[test]
/// spec-test: FEC-10
fn repairs_are_in_flight_and_stop_at_the_window() {
    let mut pair = Pair::new();
    let (client, _) = pair.establish();
    let before = pair.client.connection(client).unwrap().stats().traffic.bytes_sent;
    let stream = open(&mut pair, client, media(FecPolicy::Fixed(100)));
    // Nothing is acknowledged from here on, and nothing is asked after yet.
    pair.filter = Box::new(|to, _| to == End::Server);
    for _ in 0..20 {
        say(&mut pair, client, stream, vec![7; 1000]);
        pair.run_for(Duration::from_micros(500));
    }
    let stats = pair.client.connection(client).unwrap().stats();
    assert!((2..8).contains(&stats.traffic.repairs_sent), "{stats:?}");
    assert_eq!(stats.bytes_in_flight, stats.traffic.bytes_sent - before);
    // Urgent data may go a little beyond the window, which twenty repairs would fill twice.
    assert!(stats.bytes_in_flight <= stats.congestion_window + 5 * 1200, "{stats:?}");
}

#[test]
/// spec-test: STR-18
/// spec-test: FEC-6
fn a_burst_comes_back_before_a_round_trip_has_passed() {
    let (mut pair, [client, server], fades) = fading();
    let config = StreamConfig { delivery: Delivery::Reliable, ..media(FecPolicy::Fixed(33)) };
    let stream = open(&mut pair, client, config);
    let (mut sent, mut latest) = (Vec::new(), Duration::ZERO);
    for n in 0..MESSAGES {
        fades.set(n > 100 && n % 100 < 9);
        sent.push(pair.now);
        say(&mut pair, client, stream, vec![n as u8; 200]);
        pair.run_for(Duration::from_millis(1));
        let now = pair.now;
        let connection = pair.server.connection(server).unwrap();
        while let Ok(Some(message)) = connection.recv(now, stream) {
            latest = latest.max(now.since(sent[message.number as usize]));
        }
    }
    // Nine packets come back with nine repairs, which take 27 ms.
    assert!(latest <= FADING_DELAY + Duration::from_millis(9 + 27 + 3), "{latest:?}");
}

#[test]
/// spec-test: FEC-15
fn a_probe_brings_back_what_was_lost_last_although_it_is_not_sent_again() {
    let (mut pair, [client, server], fades) = fading();
    let stream = open(&mut pair, client, media(FecPolicy::Fixed(5)));
    for n in 0..10 {
        fades.set(n == 9);
        say(&mut pair, client, stream, vec![n; 150]);
        pair.run_for(Duration::from_millis(5));
    }
    fades.set(false);
    pair.run_for(Duration::from_secs(1));
    let now = pair.now;
    let connection = pair.server.connection(server).unwrap();
    let received = std::iter::from_fn(|| connection.recv(now, stream).ok().flatten());
    assert!(received.map(|message| message.number).eq(0..10));
    assert_eq!(connection.stats().traffic.packets_recovered, 1);
}
