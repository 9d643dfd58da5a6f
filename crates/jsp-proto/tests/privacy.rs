//! What somebody on the way gets to see: sizes and times under padding, and nothing else under the wrapping.

mod pair;

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use jsp_crypto::Rng;
use jsp_proto::{
    Buckets, ConstantRate, Event, FecPolicy, Message, Padding, RetryPolicy, StreamConfig,
    TransportConfig,
};
use pair::{End, Pair, TestRng};
use proptest::prelude::*;

const KEY: [u8; 32] = [0x5b; 32];
/// Bytes that the wrapping adds.
const WRAPPING: usize = 16;
const STRANGER: &str = "198.51.100.7:7";

fn padded(padding: Padding) -> TransportConfig {
    TransportConfig { padding, ..TransportConfig::default() }
}

/// Sends bytes and messages both ways until all have arrived; answers how long that took.
fn converse(pair: &mut Pair, len: usize) -> Duration {
    let (client, server) = pair.establish();
    let start = pair.now;
    let connection = pair.client.connection(client).unwrap();
    let bytes = connection.open(start, StreamConfig::bytes()).unwrap();
    let chat = connection.open(start, StreamConfig::chat()).unwrap();
    connection.write(start, bytes, Bytes::from(vec![7; len])).unwrap();
    connection.finish(start, bytes).unwrap();
    for size in [1, 30, 500, 3000] {
        connection.send(start, chat, Message::binary(vec![9; size])).unwrap();
    }
    let (mut got_bytes, mut got_messages, mut got_answers) = (0, 0, 0);
    pair.run_until(|pair| {
        let now = pair.now;
        let connection = pair.server.connection(server).unwrap();
        while let Ok(Some(part)) = connection.read(now, bytes, usize::MAX) {
            assert!(part.iter().all(|byte| *byte == 7));
            got_bytes += part.len();
        }
        while let Ok(Some(message)) = connection.recv(now, chat) {
            got_messages += 1;
            connection.send(now, chat, Message::binary(message.payload)).unwrap();
        }
        let connection = pair.client.connection(client).unwrap();
        while let Ok(Some(_)) = connection.recv(now, chat) {
            got_answers += 1;
        }
        (got_bytes, got_messages, got_answers) == (len, 4, 4)
    });
    pair.now.since(start)
}

/// Closes, and waits until both ends are gone.
fn close(pair: &mut Pair) {
    let (client, _) = pair.handles();
    let now = pair.now;
    pair.client.connection(client).unwrap().close(now, 1, b"that was all");
    pair.run_for(Duration::from_secs(20));
    assert!(pair.client.is_idle() && pair.server.is_idle());
}

fn sizes(pair: &Pair, of: Option<End>) -> HashMap<usize, usize> {
    let mut counts = HashMap::new();
    for (end, _, len) in pair.departures.as_ref().unwrap() {
        if of.is_none_or(|of| of == *end) {
            *counts.entry(*len).or_default() += 1;
        }
    }
    counts
}

/// The declared sizes as they are on the wire.
fn declared(buckets: &Buckets, wrapping: usize) -> HashSet<usize> {
    buckets.sizes().chain([1200 + wrapping]).collect()
}

/// A whole connection under the buckets: every datagram has a declared size.
fn live_in_buckets(buckets: Buckets, wrapped: bool, retry: bool, drop_every: u64) -> u64 {
    let retry = if retry { RetryPolicy::Always } else { RetryPolicy::Never };
    let mut pair = Pair::with(padded(Padding::Buckets(buckets)), retry);
    let wrapping = if wrapped { WRAPPING } else { 0 };
    if wrapped {
        pair = pair.obfuscated(KEY);
    }
    pair.departures = Some(Vec::new());
    let mut seen = 0;
    pair.filter = Box::new(move |_, _| {
        seen += 1;
        drop_every == 0 || seen % drop_every != 3
    });
    converse(&mut pair, 200_000);
    let (client, _) = pair.handles();
    let padding = pair.client.connection(client).unwrap().stats().traffic.padding_bytes_sent;
    close(&mut pair);
    let declared = declared(&buckets, wrapping);
    let answers = if retry == RetryPolicy::Always { 2 } else { 0 };
    let others: Vec<_> = pair
        .departures
        .as_ref()
        .unwrap()
        .iter()
        .filter(|(_, _, len)| !declared.contains(len))
        .collect();
    // An answer of a server that knows no connection is as long as it is.
    let is_answer = |end: &End| *end == End::Server;
    assert!(others.len() <= answers && others.iter().all(|(end, ..)| is_answer(end)), "{others:?}");
    padding
}

#[test]
/// spec-test: PRV-1, PRV-2, PRV-3
fn every_datagram_has_a_declared_size() {
    for sizes in [&[128, 1452][..], &[192, 448, 1452], &[300], &[1300, 1400, 1452], &[9000]] {
        let buckets = Buckets::new(sizes).unwrap();
        for (wrapped, retry) in [(false, false), (true, false), (false, true)] {
            let padding = live_in_buckets(buckets, wrapped, retry, 0);
            assert!(padding > 0);
            live_in_buckets(buckets, wrapped, retry, 11);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    // spec-test: PRV-1
    fn every_datagram_has_a_declared_size_whatever_is_declared(
        sizes in prop::collection::vec(128usize..2000, 1..15),
        wrapped in any::<bool>(),
        drop_every in 8u64..40,
    ) {
        live_in_buckets(Buckets::new(&sizes).unwrap(), wrapped, false, drop_every);
    }
}

#[test]
/// spec-test: PRV-3
fn repairs_and_searches_for_larger_datagrams_keep_to_the_sizes() {
    let buckets = Buckets::new(&[400, 900, 1300, 1452]).unwrap();
    let config = padded(Padding::Buckets(buckets));
    let mut pair = Pair::with(config, RetryPolicy::Never);
    pair.departures = Some(Vec::new());
    let mut seen = 0;
    pair.filter = Box::new(move |to, bytes| {
        seen += u64::from(to == End::Server);
        // The path carries no more than 1400 bytes, and loses one of ten.
        bytes.len() <= 1400 && (to == End::Client || seen % 10 != 7)
    });
    let (client, server) = pair.establish();
    let voice = StreamConfig {
        fec: FecPolicy::Fixed(50),
        ordered: false,
        unidirectional: true,
        ..StreamConfig::voice()
    };
    let now = pair.now;
    let stream = pair.client.connection(client).unwrap().open(now, voice).unwrap();
    let mut received = 0;
    for n in 0..700 {
        let now = pair.now;
        if n < 500 {
            let message = Message::binary(vec![n as u8; 150 + n % 400]);
            pair.client.connection(client).unwrap().send(now, stream, message).unwrap();
        }
        pair.run_for(Duration::from_millis(5));
        let now = pair.now;
        while let Ok(Some(_)) = pair.server.connection(server).unwrap().recv(now, stream) {
            received += 1;
        }
    }
    let sent = pair.client.connection(client).unwrap().stats();
    let got = pair.server.connection(server).unwrap().stats();
    assert!(sent.traffic.repairs_sent > 100 && got.traffic.packets_recovered > 20, "{got:?}");
    assert!(received > 470, "{received}");
    assert_eq!(sent.datagram_len, 1300);
    let declared = declared(&buckets, 0);
    assert!(sizes(&pair, None).keys().all(|len| declared.contains(len)));
    assert!(sizes(&pair, None).contains_key(&1452), "larger ones were tried");
}

#[test]
/// spec-test: PRV-4
fn each_end_chooses_for_itself() {
    let buckets = Buckets::new(&[256, 1452]).unwrap();
    let mut pair = Pair::with(TransportConfig::default(), RetryPolicy::Never);
    pair.transport = padded(Padding::Buckets(buckets)).into();
    pair.departures = Some(Vec::new());
    converse(&mut pair, 100_000);
    close(&mut pair);
    let declared = declared(&buckets, 0);
    assert!(sizes(&pair, Some(End::Client)).keys().all(|len| declared.contains(len)));
    assert!(!sizes(&pair, Some(End::Server)).keys().all(|len| declared.contains(len)));
}

#[test]
/// spec-test: PRV-3
fn a_peer_whose_datagrams_are_small_can_move() {
    let mut pair = Pair::with(padded(Padding::Buckets(Buckets::default())), RetryPolicy::Never);
    pair.transport = TransportConfig::default().into();
    let (client, server) = pair.establish();
    let start = pair.now;
    let stream = pair.client.connection(client).unwrap().open(start, StreamConfig::chat()).unwrap();
    pair.client_addr = "203.0.113.9:9".parse().unwrap();
    pair.client.connection(client).unwrap().send(start, stream, Message::binary("x")).unwrap();
    pair.run_for(Duration::from_secs(3));
    let route = pair.server.connection(server).unwrap().route();
    assert_eq!(route.remote(), Some(pair.client_addr));
}

/// Times of an end's datagrams from `from` on, and their sizes.
fn departures(pair: &Pair, of: End, from: jsp_proto::Instant) -> Vec<(u64, usize)> {
    let all = pair.departures.as_ref().unwrap().iter();
    all.filter(|(end, at, _)| *end == of && *at >= from)
        .map(|(_, at, len)| (at.as_nanos() / 1_000_000, *len))
        .collect()
}

#[test]
/// spec-test: PRV-5, PRV-7
fn a_constant_rate_shows_neither_silence_nor_traffic() {
    let rate = ConstantRate { size: 400, interval: Duration::from_millis(10) };
    for wrapped in [false, true] {
        let mut pair = Pair::with(padded(Padding::ConstantRate(rate)), RetryPolicy::Never);
        if wrapped {
            pair = pair.obfuscated(KEY);
        }
        pair.departures = Some(Vec::new());
        let (client, _) = pair.establish();
        let start = pair.now;
        pair.run_for(Duration::from_secs(5));
        let now = pair.now;
        let connection = pair.client.connection(client).unwrap();
        let stream = connection.open(now, StreamConfig::bytes()).unwrap();
        connection.write(now, stream, Bytes::from(vec![1; 60_000])).unwrap();
        pair.run_for(Duration::from_secs(5));
        for end in [End::Client, End::Server] {
            let seen = departures(&pair, end, start);
            assert!(seen.iter().all(|(_, len)| *len == 400), "{seen:?}");
            let is_beat = |pair: &[(u64, usize)]| pair[1].0 - pair[0].0 == 10;
            assert!(seen.windows(2).all(is_beat), "{seen:?}");
            assert!(seen.len() >= 999, "{}", seen.len());
        }
        let stats = pair.client.connection(client).unwrap().stats();
        // More than half of it was idle.
        assert!(stats.traffic.padding_bytes_sent > 180_000, "{stats:?}");
        assert!(stats.traffic.packets_lost == 0);
        close(&mut pair);
    }
}

#[test]
/// spec-test: PRV-6
fn congestion_control_still_rules_a_constant_rate() {
    let rate = ConstantRate { size: 1200, interval: Duration::from_millis(1) };
    let mut pair = Pair::with(padded(Padding::ConstantRate(rate)), RetryPolicy::Never);
    pair.departures = Some(Vec::new());
    let (client, _) = pair.establish();
    // Nothing comes back any more: the window fills, and then only probes leave.
    pair.filter = Box::new(|to, _| to == End::Server);
    let window = pair.client.connection(client).unwrap().stats().congestion_window;
    let start = pair.now;
    pair.run_for(Duration::from_secs(3));
    let seen = departures(&pair, End::Client, start);
    let most = window / 1200 + 40;
    assert!((seen.len() as u64) < most, "{} of 3000 slots, window {window}", seen.len());
    assert!(seen.iter().all(|(_, len)| *len == 1200));
}

#[test]
/// spec-test: ACK-10
fn an_end_that_only_acknowledges_a_constant_rate_lives_on() {
    let rate = ConstantRate { size: 200, interval: Duration::from_millis(1) };
    let mut pair = Pair::with(TransportConfig::default(), RetryPolicy::Never);
    pair.transport = padded(Padding::ConstantRate(rate)).into();
    let (client, server) = pair.establish();
    pair.run_for(Duration::from_secs(55));
    assert_eq!(pair.close_reason(End::Server, server), None);
    let acks = pair.server.connection(server).unwrap().stats().traffic.packets_sent;
    assert!(acks > 16_384, "more than the ledger takes: {acks}");
    assert!(pair.client.connection(client).unwrap().is_established());
}

#[test]
/// spec-test: PRV-5
fn what_waits_takes_the_place_of_what_says_nothing() {
    let rate = ConstantRate { size: 1200, interval: Duration::from_millis(5) };
    let mut pair = Pair::with(padded(Padding::ConstantRate(rate)), RetryPolicy::Never);
    let took = converse(&mut pair, 100_000);
    // 104 kB in datagrams of 1200 bytes at 200 a second, and a little for what is said besides.
    assert!(took < Duration::from_millis(700), "{took:?}");
    close(&mut pair);
}

#[test]
/// spec-test: PRV-20, PRV-23
fn wrapped_connections_work_and_find_the_size_of_their_path() {
    for retry in [RetryPolicy::Never, RetryPolicy::Always] {
        let mut pair = Pair::with(TransportConfig::default(), retry).obfuscated(KEY);
        pair.departures = Some(Vec::new());
        converse(&mut pair, 400_000);
        let (client, _) = pair.handles();
        let stats = pair.client.connection(client).unwrap().stats();
        assert_eq!(stats.datagram_len, 1452 - WRAPPING);
        let largest = sizes(&pair, None).keys().copied().max();
        assert_eq!(largest, Some(1452));
        let client_sent: u64 =
            sizes(&pair, Some(End::Client)).iter().map(|(len, n)| (len * n) as u64).sum();
        assert_eq!(stats.traffic.bytes_sent, client_sent, "as they were on the wire");
        close(&mut pair);
    }
}

#[test]
/// spec-test: PRV-24
fn first_flights_have_no_length_in_common() {
    let mut lengths = HashSet::new();
    let mut firsts = HashMap::new();
    for seed in 0..120 {
        let config = TransportConfig::default();
        let mut pair = Pair::seeded(config, RetryPolicy::Always, 16, seed).obfuscated(KEY);
        pair.departures = Some(Vec::new());
        pair.establish();
        let departures = pair.departures.as_ref().unwrap();
        let of = |end| departures.iter().filter(move |departure| departure.0 == end);
        let hellos: Vec<_> = of(End::Client).take(2).map(|(_, _, len)| *len).collect();
        assert!(hellos.iter().all(|len| (816..=1216).contains(len)), "{hellos:?}");
        lengths.extend(hellos.iter().copied());
        for (place, (_, _, len)) in
            of(End::Client).take(4).chain(of(End::Server).take(4)).enumerate()
        {
            *firsts.entry((place, *len)).or_insert(0) += 1;
        }
        let proved = *pair.told.values().next().unwrap() <= 3 * pair.heard.values().sum::<u64>();
        assert!(proved);
    }
    assert!(lengths.len() > 120, "{}", lengths.len());
    let most = firsts.values().copied().max().unwrap();
    assert!(most <= 8, "a length comes {most} times of 120");
}

#[test]
/// spec-test: PRV-21, PRV-22
fn who_has_not_the_key_is_not_answered() {
    let config = TransportConfig::default;
    // What a client without the key would say, and one with another key.
    let mut others = Vec::new();
    let mut plain = Pair::with(config(), RetryPolicy::Never);
    let mut wrong = Pair::with(config(), RetryPolicy::Never);
    wrong.client = wrong.client.obfuscated(&jsp_crypto::ObfuscationKey::from_bytes([1; 32]));
    for pair in [&mut plain, &mut wrong] {
        pair.record = Some(Vec::new());
        pair.connect();
        pair.run_for(Duration::from_secs(1));
        others.extend(pair.record.take().unwrap().into_iter().filter(|(to, _)| *to == End::Server));
    }
    assert!(others.len() >= 4);
    let stranger: SocketAddr = STRANGER.parse().unwrap();
    let mut pair = Pair::with(config(), RetryPolicy::Never).obfuscated(KEY);
    pair.record = Some(Vec::new());
    converse(&mut pair, 50_000);
    let recorded = pair.record.take().unwrap();
    let silent = |pair: &mut Pair| {
        pair.run_for(Duration::from_secs(1));
        assert!(!pair.told.contains_key(&stranger), "{:?}", pair.told);
    };
    let mut rng = TestRng(77);
    for (_, bytes) in &others {
        pair.inject(End::Server, stranger, bytes);
    }
    for round in 0..3000 {
        let mut bytes = vec![0; 1 + round % 1400];
        rng.fill(&mut bytes);
        pair.inject(End::Server, stranger, &bytes);
    }
    silent(&mut pair);
    // What was recorded on the way, from another address: while the connection lives, and after.
    let replay = |pair: &mut Pair| {
        for (_, bytes) in &recorded {
            pair.inject(End::Server, stranger, bytes);
        }
        silent(pair);
    };
    replay(&mut pair);
    close(&mut pair);
    replay(&mut pair);
    pair.now = pair.now + Duration::from_secs(2 * 3600 + 60);
    replay(&mut pair);
}

#[test]
/// spec-test: PRV-20
fn nothing_of_a_wrapped_connection_is_constant() {
    let mut values = vec![HashSet::new(); 64];
    for seed in 0..100 {
        let config = TransportConfig::default();
        let mut pair = Pair::seeded(config, RetryPolicy::Never, 16, seed).obfuscated(KEY);
        pair.record = Some(Vec::new());
        pair.establish();
        for (_, bytes) in pair.record.take().unwrap().into_iter().take(4) {
            for (seen, byte) in values.iter_mut().zip(bytes) {
                seen.insert(byte);
            }
        }
    }
    // Of 400 draws of 256 values 202 differ on average.
    assert!(values.iter().all(|seen| seen.len() > 150), "{values:?}");
}

/// Resumes with early data of this length; answers the lengths of what each end then sends until the message is
/// there, and whether the server took it early.
fn resume_early(pair: &mut Pair, len: usize) -> (HashMap<usize, usize>, Vec<usize>, bool) {
    let ticket = pair.ticket();
    pair.departures = Some(Vec::new());
    let client = pair.resume(ticket, true);
    let now = pair.now;
    let connection = pair.client.connection(client).unwrap();
    let stream = connection.open(now, StreamConfig::messages().replay_safe()).unwrap();
    connection.send(now, stream, Message::binary(vec![3; len])).unwrap();
    pair.run_for(Duration::from_nanos(1));
    let first = pair.departures.as_ref().unwrap().iter().map(|(_, _, len)| *len).collect();
    pair.run_for(Duration::from_secs(1));
    let mut events = pair.events.iter();
    let connected =
        events.find(|(end, _, event)| *end == End::Server && *event == Event::Connected);
    let server = connected.unwrap().1;
    let now = pair.now;
    let received = pair.server.connection(server).unwrap().recv(now, stream).unwrap().unwrap();
    assert_eq!(received.payload.len(), len);
    let early = pair.client.connection(client).unwrap().security().unwrap().early_data;
    (sizes(pair, None), first, early)
}

#[test]
/// spec-test: PRV-1, PRV-2
fn early_data_have_declared_sizes() {
    for (given, len, most) in [
        (&[192, 448, 1452][..], 20, 16_384),
        (&[192, 448, 1452], 700, 16_384),
        (&[300, 700], 5_000, 16_384),
        // What the ticket allows is less than a datagram: zero bytes stand behind the packet.
        (&[1452], 20, 400),
        (&[192, 448], 2_000, 1_000),
    ] {
        let buckets = Buckets::new(given).unwrap();
        for wrapped in [false, true] {
            let mut config = padded(Padding::Buckets(buckets));
            config.early_data_max = most;
            let mut pair = Pair::with(config, RetryPolicy::Never);
            let wrapping = if wrapped { WRAPPING } else { 0 };
            if wrapped {
                pair = pair.obfuscated(KEY);
            }
            let (seen, first, early) = resume_early(&mut pair, len);
            let declared = declared(&buckets, wrapping);
            assert!(seen.keys().all(|len| declared.contains(len)), "{given:?} {seen:?}");
            assert!(first[0] >= 1200 + wrapping, "{first:?}");
            assert!(early);
        }
    }
}

#[test]
/// spec-test: PRV-24
fn hellos_with_early_data_have_no_length_in_common() {
    let mut lengths = HashSet::new();
    for seed in 0..60 {
        for (len, most) in [(20, 16_384), (3_000, 16_384), (3_000, 600)] {
            let config = TransportConfig { early_data_max: most, ..TransportConfig::default() };
            let mut pair = Pair::seeded(config, RetryPolicy::Never, 16, seed).obfuscated(KEY);
            let (_, first, early) = resume_early(&mut pair, len);
            assert!(early);
            let drawn = 800 + WRAPPING..=1200 + WRAPPING;
            assert!(first.iter().all(|len| drawn.contains(len)), "{first:?}");
            lengths.extend(first);
        }
    }
    assert!(lengths.len() > 100, "{}", lengths.len());
}

#[test]
// spec-test: HS-227, PRV-20, PRV-21
fn hosts_that_have_slept_still_understand_each_other() {
    let mut pair = Pair::new().obfuscated(KEY);
    // Both have slept for two hours, and one is told so before the other.
    let told = Duration::from_secs(1_800_000_000 + 7200);
    pair.server.set_unix_time(pair.now, told);
    let client = pair.connect();
    pair.run_for(Duration::from_secs(1));
    assert_eq!((pair.server.connection_count(), pair.datagrams[1]), (0, 0));
    pair.client.set_unix_time(pair.now, told + Duration::from_secs(1));
    pair.run_until(|pair| pair.client.connection(client).unwrap().is_established());
}
