//! Loss, duplication, disorder, delay and damage, by seed: what is reliable arrives all the same.

mod pair;

use std::time::Duration;

use bytes::Bytes;
use jsp_crypto::Rng;
use jsp_proto::{Event, Message, RetryPolicy, StreamConfig, TransportConfig};
use pair::{End, Pair, TestRng};
use proptest::prelude::*;

/// How bad the weather is, in parts of a thousand.
#[derive(Clone, Copy, Debug)]
struct Weather {
    seed: u64,
    lost: u32,
    twice: u32,
    damaged: u32,
    /// Largest further delay, in milliseconds.
    jitter: u32,
    retry: bool,
    key_updates: bool,
}

fn number(rng: &mut TestRng) -> u32 {
    let mut bytes = [0; 4];
    rng.fill(&mut bytes);
    u32::from_le_bytes(bytes)
}

impl Weather {
    fn over(self, pair: &mut Pair) {
        let mut rng = TestRng(self.seed | 1);
        pair.weather = Box::new(move |_| {
            let copies = if number(&mut rng) % 1000 < self.lost {
                0
            } else if number(&mut rng) % 1000 < self.twice {
                2
            } else {
                1
            };
            (0..copies)
                .map(|_| {
                    let late = number(&mut rng) % (self.jitter + 1);
                    Duration::from_millis(u64::from(10 + late))
                })
                .collect()
        });
        let mut rng = TestRng(self.seed.rotate_left(32) | 1);
        pair.filter = Box::new(move |_, bytes| {
            if number(&mut rng) % 1000 < self.damaged {
                let bit = number(&mut rng) as usize % (bytes.len() * 8);
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
            true
        });
    }
}

const STREAM_LEN: usize = 60_000;
const MESSAGES: u64 = 60;

fn message(n: u64) -> Vec<u8> {
    (0..(n * 97) % 3000 + 8).map(|i| (n + i) as u8).collect()
}

/// One connection in this weather: both sides send a byte stream, the client messages as well.
fn live_through(weather: Weather) {
    let retry = if weather.retry { RetryPolicy::Always } else { RetryPolicy::Never };
    let packets = if weather.key_updates { 40 } else { 1 << 20 };
    let config = TransportConfig {
        key_update_packets: packets,
        handshake_timeout: Duration::from_secs(60),
        ..Default::default()
    };
    let mut pair = Pair::seeded(config, retry, 16, weather.seed as u8);
    weather.over(&mut pair);
    let (client, server) = pair.establish();
    let now = pair.now;
    let data: Bytes = (0..STREAM_LEN).map(|i| (i * 31 + i / 251) as u8).collect::<Vec<_>>().into();
    let connection = pair.client.connection(client).unwrap();
    let bytes = connection.open(now, StreamConfig::bytes()).unwrap();
    let chat = connection.open(now, StreamConfig::chat()).unwrap();
    for n in 0..MESSAGES {
        connection.send(now, chat, Message::binary(message(n))).unwrap();
    }
    connection.finish(now, chat).unwrap();
    let (mut sent, mut got) = ([0; 2], [Vec::new(), Vec::new()]);
    let mut heard = 0;
    pair.run_until(|pair| {
        let now = pair.now;
        let ends = [pair.client.connection(client), pair.server.connection(server)];
        for (place, connection) in ends.into_iter().flatten().enumerate() {
            assert!(!connection.is_closed(), "{weather:?}");
            while sent[place] < STREAM_LEN {
                match connection.write(now, bytes, data.slice(sent[place]..)) {
                    Ok(n) if n > 0 => sent[place] += n,
                    _ => break,
                }
            }
            while let Ok(Some(piece)) = connection.read(now, bytes, usize::MAX) {
                got[place].extend_from_slice(&piece);
            }
        }
        let connection = pair.server.connection(server).unwrap();
        while let Ok(Some(received)) = connection.recv(now, chat) {
            assert_eq!(received.payload[..], message(heard)[..], "{weather:?}");
            heard += 1;
        }
        heard == MESSAGES && got.iter().all(|got| got.len() == STREAM_LEN)
    });
    assert!(got.iter().all(|got| *got == data), "{weather:?}");
    let now = pair.now;
    pair.client.connection(client).unwrap().close(now, 0, b"");
    pair.run_for(Duration::from_secs(120));
    for (end, handle) in [(End::Client, client), (End::Server, server)] {
        assert!(pair.events.contains(&(end, handle, Event::Drained)), "{end:?} {weather:?}");
    }
    assert!(pair.client.is_idle() && pair.server.is_idle());
}

#[test]
fn a_handshake_lives_through_heavy_loss() {
    // 30 % loss, 25 % doubles, 1 % damage: at least 99 of 100 connect within 10 seconds.
    let mut failed = 0;
    for seed in 0..100 {
        let weather = Weather {
            seed: 0x1000 + seed * 7919,
            lost: 300,
            twice: 250,
            damaged: 10,
            jitter: 30,
            retry: seed % 2 == 0,
            key_updates: false,
        };
        let retry = if weather.retry { RetryPolicy::Always } else { RetryPolicy::Never };
        let mut pair = Pair::seeded(TransportConfig::default(), retry, 1000, seed as u8);
        weather.over(&mut pair);
        let client = pair.connect();
        pair.run_for(Duration::from_secs(10));
        failed += u32::from(!pair.events.contains(&(End::Client, client, Event::Connected)));
    }
    assert!(failed <= 1, "{failed} of 100 did not connect");
}

#[test]
fn damaged_hellos_that_come_twice_are_no_wrong_pin() {
    live_through(Weather {
        seed: 738_481_042_078_975_019,
        lost: 0,
        twice: 86,
        damaged: 36,
        jitter: 12,
        retry: true,
        key_updates: false,
    });
}

/// A few cases each time, and as many as `PROPTEST_CASES` says where it is set.
fn cases() -> ProptestConfig {
    let config = ProptestConfig::default();
    let is_asked = std::env::var_os("PROPTEST_CASES").is_some();
    ProptestConfig { cases: if is_asked { config.cases } else { 40 }, ..config }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn what_is_reliable_arrives_in_any_weather(
        seed in 1u64..u64::MAX,
        lost in 0u32..150,
        twice in 0u32..150,
        damaged in 0u32..50,
        jitter in 0u32..40,
        retry: bool,
        key_updates: bool,
    ) {
        live_through(Weather { seed, lost, twice, damaged, jitter, retry, key_updates });
    }
}
