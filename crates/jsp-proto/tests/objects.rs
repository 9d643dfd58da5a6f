//! Large messages that go as symbols, end to end. `cargo test -p jsp-proto --features raptorq --test objects`.
#![cfg(feature = "raptorq")]

#[path = "../../../fuzz/bodies/objects.rs"]
#[allow(unreachable_pub, reason = "shared with the fuzz target")]
mod bodies;
mod pair;
#[path = "../../../fuzz/bodies/replay.rs"]
#[allow(unreachable_pub, reason = "shared by the tests that replay corpora")]
mod replay;

use std::time::Duration;

use jsp_proto::{
    Class, ConnectionHandle, Delivery, Event, FecPolicy, Message, MessageFate, StreamConfig,
    StreamId, TransportConfig,
};

use pair::{End, Pair};

const FRAME: usize = 500_000;
const LIFETIME: Duration = Duration::from_millis(150);

fn config(fec: FecPolicy, lifetime: Duration) -> StreamConfig {
    StreamConfig {
        delivery: Delivery::Partial { retransmits: None, lifetime: Some(lifetime) },
        ordered: false,
        class: Class::Interactive,
        send_buffer: 8 << 20,
        fec,
        ..StreamConfig::messages()
    }
}

/// Bytes that are different in each message.
fn content(seed: u8, len: usize) -> Vec<u8> {
    let mut state = u32::from(seed) + 1;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..len).map(next).collect()
}

struct Talk {
    pair: Pair,
    client: ConnectionHandle,
    server: ConnectionHandle,
    stream: StreamId,
}

impl Talk {
    /// A stream over a path that has found its rate.
    fn new(fec: FecPolicy, lifetime: Duration) -> Self {
        Self::with(fec, lifetime, TransportConfig::default())
    }

    fn with(fec: FecPolicy, lifetime: Duration, transport: TransportConfig) -> Self {
        let transport =
            TransportConfig { stream_window: 8 << 20, connection_window: 16 << 20, ..transport };
        let mut pair = Pair::with(transport, jsp_proto::RetryPolicy::Never);
        let (client, server) = pair.establish();
        let now = pair.now;
        let stream =
            pair.client.connection(client).unwrap().open(now, config(fec, lifetime)).unwrap();
        let mut talk = Self { pair, client, server, stream };
        for seed in 0..10 {
            talk.send(seed, FRAME);
            talk.pair.run_for(Duration::from_millis(400));
            assert!(talk.receive().is_some(), "{seed}");
        }
        talk.pair.events.clear();
        talk
    }

    fn send(&mut self, seed: u8, len: usize) {
        let now = self.pair.now;
        let connection = self.pair.client.connection(self.client).unwrap();
        let message = Message { want_fate: true, ..Message::binary(content(seed, len)) };
        connection.send(now, self.stream, message).unwrap();
    }

    fn receive(&mut self) -> Option<Vec<u8>> {
        let now = self.pair.now;
        let connection = self.pair.server.connection(self.server).unwrap();
        connection.recv(now, self.stream).ok().flatten().map(|got| got.payload.to_vec())
    }

    /// Loses packets of data towards the server at the ends of a chain: in one of so many, so many in a row.
    fn fade(&mut self, every: u32, run: u32) {
        let mut count = 0;
        self.pair.filter = Box::new(move |to, bytes| {
            if to != End::Server || bytes.len() < 400 {
                return true;
            }
            count += 1;
            count % every >= run
        });
    }

    /// How long each of some messages takes, in milliseconds; those that do not come a second.
    fn latencies(&mut self, frames: u8) -> Vec<u32> {
        let mut latencies = Vec::new();
        for seed in 100..100 + frames {
            self.send(seed, FRAME);
            let mut took = 1000;
            for ms in (2..500).step_by(2) {
                self.pair.run_for(Duration::from_millis(2));
                if let Some(got) = self.receive() {
                    assert!(got == content(seed, FRAME), "{seed}");
                    took = took.min(ms);
                }
            }
            latencies.push(took);
        }
        latencies
    }

    fn fates(&self) -> (usize, usize) {
        let of = |wanted| {
            let is = |event: &Event| matches!(event, Event::Fate { fate, .. } if *fate == wanted);
            self.pair.events.iter().filter(|event| is(&event.2)).count()
        };
        (of(MessageFate::Acknowledged), of(MessageFate::Expired))
    }
}

#[test]
/// spec-test: FEC-20, FEC-22, FEC-23
fn symbols_bring_large_messages_sooner_through_losses() {
    let met = |fec| {
        let mut talk = Talk::new(fec, LIFETIME);
        talk.fade(60, 3);
        (talk.latencies(12), talk.fates())
    };
    let (mut with, fates) = met(FecPolicy::Fountain(12));
    let (mut without, others) = met(FecPolicy::Off);
    with.sort_unstable();
    without.sort_unstable();
    println!("with symbols {with:?} {fates:?}, without {without:?} {others:?}");
    assert!(with[11] <= without[0] && with[6] + 10 <= without[6]);
    assert_eq!(fates, (12, 0));
}

#[test]
/// spec-test: FEC-23
fn what_is_lost_is_made_up_for_by_any_symbols() {
    let mut talk = Talk::new(FecPolicy::Fountain(0), Duration::from_secs(5));
    talk.fade(10, 1);
    let latencies = talk.latencies(4);
    println!("{latencies:?}");
    assert!(latencies.iter().all(|ms| *ms < 500));
    assert_eq!(talk.fates(), (4, 0));
}

#[test]
/// spec-test: FEC-23
fn symbols_end_with_the_lifetime() {
    let mut talk = Talk::new(FecPolicy::Fountain(10), LIFETIME);
    talk.pair.filter = Box::new(|to, bytes| to != End::Server || bytes.len() < 400);
    talk.send(1, FRAME);
    talk.pair.run_for(Duration::from_secs(2));
    assert_eq!(talk.fates(), (0, 1));
    // What was given up leaves nothing behind: the stream goes on.
    talk.pair.filter = Box::new(|_, _| true);
    talk.pair.run_for(Duration::from_secs(1));
    talk.send(2, 1000);
    talk.pair.run_for(Duration::from_secs(1));
    assert!(talk.receive() == Some(content(2, 1000)));
}

#[test]
/// spec-test: FEC-23
fn small_messages_go_as_ever() {
    let mut talk = Talk::new(FecPolicy::Fountain(50), LIFETIME);
    let before = talk.pair.sent[0];
    talk.send(1, 50_000);
    talk.pair.run_for(Duration::from_millis(300));
    assert!(talk.receive() == Some(content(1, 50_000)));
    let sent = talk.pair.sent[0] - before;
    assert!(sent < 56_000, "no symbols: {sent}");
}

#[test]
/// spec-test: FEC-19
fn no_symbols_go_where_they_are_not_offered() {
    let sent = |objects| {
        let transport = TransportConfig { objects, ..TransportConfig::default() };
        let mut talk = Talk::with(FecPolicy::Fountain(50), LIFETIME, transport);
        let before = talk.pair.sent[0];
        // It may not be known to have arrived before the symbols have gone.
        talk.send(1, FRAME);
        talk.pair.run_for(Duration::from_millis(300));
        assert!(talk.receive() == Some(content(1, FRAME)));
        talk.pair.sent[0] - before
    };
    let (with, without) = (sent(true), sent(false));
    assert!(without < 550_000 && with > 600_000, "{with} {without}");
}

#[test]
/// spec-test: FEC-21, FEC-22
fn a_receiver_of_hostile_symbols_keeps_its_bounds() {
    let delivered = replay::replay("objects", bodies::symbols);
    assert!(delivered >= 6, "symbols that fit bring messages");
}
