//! What programs do through the tokio facade when instructions are counted: `cargo xtask instructions`.
//!
//! Client and server share one thread, an in-memory link and a paused clock, so that each run is the same.
//! Each case is done under callgrind, which counts only what [`counted`] calls and writes down what it
//! has when [`case_over`] returns; a line for each case says how many units of work that was.

use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use jsp::emulate::pair;
use jsp::{Connection, Endpoint, Identity, StreamConfig};
use tokio::runtime::{self, Runtime};
use tokio::time;

/// A sender that never rests queues about so many small messages before it is time for a packet.
const MESSAGES_AT_ONCE: u64 = 32;
/// The time that they take, and that a message takes to the other end.
const MOMENT: Duration = Duration::from_micros(20);

/// Callgrind counts what happens in here.
#[inline(never)]
fn counted(work: &mut dyn FnMut()) {
    work();
    black_box(());
}

/// Callgrind writes down here what it has counted since the last time.
#[inline(never)]
fn case_over(name: &str, units: u64) {
    println!("{name} {units}");
    black_box(());
}

/// Two connected endpoints, and the runtime that they live in.
struct Peers {
    runtime: Runtime,
    at_client: Connection,
    at_server: Connection,
    _endpoints: (Endpoint, Endpoint),
}

impl Peers {
    fn new() -> Self {
        let runtime =
            runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let runtime = runtime.unwrap();
        let ((at_client, at_server), _endpoints) = runtime.block_on(async {
            let (near, far) = pair();
            let server = Endpoint::builder().link(Box::new(far)).seed([1; 32]);
            let server = server.identity(Identity::generate()).build().unwrap();
            let client = Endpoint::builder().link(Box::new(near)).seed([2; 32]).build().unwrap();
            let (address, name) = (server.local_addr().unwrap(), server.fingerprint());
            let (at_client, at_server) =
                tokio::join!(client.connect(address, name), server.accept());
            time::sleep(Duration::from_secs(1)).await;
            ((at_client.unwrap(), at_server.unwrap()), (client, server))
        });
        Self { runtime, at_client, at_server, _endpoints }
    }

    /// Counts the second of two equal runs; `work` answers how many units it did.
    fn measure(&self, name: &str, work: impl AsyncFn() -> u64) {
        self.runtime.block_on(work());
        let mut units = 0;
        counted(&mut || units = self.runtime.block_on(work()));
        case_over(name, units);
    }
}

/// A byte stream; a unit is 1452 bytes.
fn bulk() {
    const TOTAL: u64 = 8 << 20;
    let peers = Peers::new();
    let server = peers.at_server.clone();
    peers.runtime.spawn(async move {
        let stream = server.accept().await.unwrap();
        let (mut chunks, mut total) = (Vec::new(), 0);
        let (send, recv) = stream.split();
        loop {
            total += recv.read_chunks(&mut chunks, 1 << 20).await.unwrap_or(0);
            chunks.clear();
            if total >= TOTAL as usize {
                total -= TOTAL as usize;
                send.write_all(&b"."[..]).await.unwrap();
            }
        }
    });
    let stream = peers.runtime.block_on(peers.at_client.open(StreamConfig::bytes())).unwrap();
    let piece = Bytes::from(vec![7; 64 << 10]);
    peers.measure("facade/bulk", async || {
        for _ in 0..TOTAL / piece.len() as u64 {
            stream.write_all(piece.clone()).await.unwrap();
        }
        stream.read_chunk(1).await.unwrap().unwrap();
        TOTAL / 1452
    });
}

/// Messages on one stream, a call for each; a unit is a message.
fn messages() {
    const COUNT: u64 = 10_000;
    let peers = Peers::new();
    let server = peers.at_server.clone();
    peers.runtime.spawn(async move {
        let stream = server.accept().await.unwrap();
        let (send, recv) = stream.split();
        let (mut messages, mut total) = (Vec::new(), 0);
        loop {
            total += recv.recv_many(&mut messages, 256).await.unwrap_or(0) as u64;
            messages.clear();
            if total == COUNT {
                total = 0;
                send.send(&b"."[..]).await.unwrap();
            }
        }
    });
    let stream = peers.runtime.block_on(peers.at_client.open(StreamConfig::messages())).unwrap();
    let payload = Bytes::from(vec![7; 64]);
    peers.measure("facade/messages-64", async || {
        for number in 0..COUNT {
            stream.send(payload.clone()).await.unwrap();
            if number % MESSAGES_AT_ONCE == 0 {
                time::advance(MOMENT).await;
            }
        }
        stream.recv().await.unwrap().unwrap();
        COUNT
    });
}

/// A stream for each message; a unit is a stream.
fn one_shots() {
    const COUNT: u64 = 4_000;
    let peers = Peers::new();
    let server = peers.at_server.clone();
    peers.runtime.spawn(async move {
        let mut total = 0;
        while let Ok(stream) = server.accept().await {
            while let Ok(Some(_)) = stream.recv().await {}
            total += 1;
            if total % COUNT == 0 {
                server.send_one(StreamConfig::messages(), &b"."[..]).await.unwrap();
            }
        }
    });
    let payload = Bytes::from(vec![7; 64]);
    let config = StreamConfig { unidirectional: true, ..StreamConfig::messages() };
    peers.measure("facade/one-shots", async || {
        for number in 0..COUNT {
            peers.at_client.send_one(config.clone(), payload.clone()).await.unwrap();
            if number % MESSAGES_AT_ONCE == 0 {
                time::advance(MOMENT).await;
            }
        }
        let answer = peers.at_client.accept().await.unwrap();
        answer.recv().await.unwrap().unwrap();
        COUNT
    });
}

/// A message one way and its echo, when nothing else goes on; a unit is a round trip.
fn ping_pong() {
    const COUNT: u64 = 400;
    let peers = Peers::new();
    let server = peers.at_server.clone();
    peers.runtime.spawn(async move {
        let stream = server.accept().await.unwrap();
        while let Ok(Some(message)) = stream.recv().await {
            stream.send(message.payload).await.unwrap();
        }
    });
    let stream = peers.runtime.block_on(peers.at_client.open(StreamConfig::messages())).unwrap();
    let payload = Bytes::from(vec![7; 64]);
    peers.measure("facade/ping-pong", async || {
        for _ in 0..COUNT {
            time::advance(MOMENT).await;
            stream.send(payload.clone()).await.unwrap();
            stream.recv().await.unwrap().unwrap();
        }
        COUNT
    });
}

/// All cases, or the one that is named.
fn main() {
    let wanted = std::env::args().nth(1);
    let cases: [(&str, fn()); 4] = [
        ("bulk", bulk),
        ("messages-64", messages),
        ("one-shots", one_shots),
        ("ping-pong", ping_pong),
    ];
    for (name, run) in cases {
        if wanted.as_ref().is_none_or(|wanted| wanted == name) {
            run();
        }
    }
}
