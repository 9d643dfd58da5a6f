//! Speed of the machine itself: two endpoints in one thread, no socket, no delay, no loss.
//!
//! `cargo run --release -p jsp-proto --example machine_speed [bulk|messages-64|messages-256|one-shots]`

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant as Clock};

use bytes::{Bytes, BytesMut};
use jsp_crypto::{ClientConfig, Identity, ServerConfig, ServerIdentity, SystemRng};
use jsp_proto::{
    Batch, ConnectionHandle, Datagram, Endpoint, EndpointConfig, Event, Instant, Message,
    RetryPolicy, Route, ServerSetup, StreamConfig, StreamId, TransportConfig,
};

struct Machine {
    ends: [Endpoint; 2],
    addrs: [SocketAddr; 2],
    now: Instant,
    batch: Batch,
    handles: [ConnectionHandle; 2],
}

impl Machine {
    fn new() -> Self {
        let identity = Arc::new(Identity::generate(&mut SystemRng));
        let crypto = Arc::new(ServerConfig::new(identity));
        let pin = crypto.fingerprint();
        let transport = Arc::new(TransportConfig::default());
        let config = |server, seed| EndpointConfig {
            server,
            transport: transport.clone(),
            seed: [seed; 32],
            unix_seconds_at_zero: 1_800_000_000,
        };
        let setup =
            ServerSetup { crypto, retry: RetryPolicy::Never, connections_max: 16, silent: false };
        let mut ends = [Endpoint::new(config(None, 1)), Endpoint::new(config(Some(setup), 2))];
        let addrs: [SocketAddr; 2] =
            ["192.0.2.1:1".parse().unwrap(), "192.0.2.2:2".parse().unwrap()];
        let now = Instant::from_nanos(1_000_000_000);
        let client = ClientConfig::new(ServerIdentity::Pinned(pin));
        let route = Route::udp(addrs[1]);
        let handle = ends[0].connect(now, route, Arc::new(client), transport.clone()).unwrap();
        let batch = Batch::new(0, 44);
        let mut machine = Self { ends, addrs, now, batch, handles: [handle, handle] };
        while machine.round() > 0 {}
        machine.now = machine.now + Duration::from_secs(1);
        while machine.round() > 0 {}
        while let Some((handle, event)) = machine.ends[1].poll_event() {
            if event == Event::Connected {
                machine.handles[1] = handle;
            }
        }
        machine
    }

    /// Carries everything that both ends want to send; answers how many datagrams that were.
    fn round(&mut self) -> usize {
        let mut count = 0;
        self.now = self.now + Duration::from_micros(20);
        for from in [0, 1] {
            self.ends[from].handle_timeout(self.now);
            while self.ends[from].poll_transmit(self.now, &mut self.batch) {
                let mut bytes = BytesMut::from(self.batch.contents());
                while !bytes.is_empty() {
                    let payload = bytes.split_to(self.batch.segment_len().min(bytes.len()));
                    let route = Route::udp(self.addrs[from]);
                    let datagram = Datagram { route, ecn: None, payload };
                    self.ends[1 - from].handle_datagram(self.now, datagram);
                    count += 1;
                }
                self.batch.clear();
            }
        }
        count
    }

    fn open(&mut self, config: StreamConfig) -> StreamId {
        let now = self.now;
        self.ends[0].connection(self.handles[0]).unwrap().open(now, config).unwrap()
    }
}

fn bulk() {
    let mut machine = Machine::new();
    let stream = machine.open(StreamConfig::bytes());
    let chunk = Bytes::from(vec![7; 1 << 20]);
    let total = 2usize << 30;
    let (mut written, mut read) = (0, 0);
    let start = Clock::now();
    while read < total {
        let now = machine.now;
        let client = machine.ends[0].connection(machine.handles[0]).unwrap();
        while written < total {
            let Ok(n) = client.write(now, stream, chunk.clone()) else { break };
            written += n;
        }
        machine.round();
        let server = machine.ends[1].connection(machine.handles[1]).unwrap();
        while let Ok(Some(bytes)) = server.read(machine.now, stream, usize::MAX) {
            read += bytes.len();
        }
        while machine.ends[1].poll_event().is_some() {}
    }
    let seconds = start.elapsed().as_secs_f64();
    println!("bulk       {:8.2} Gbit/s", read as f64 * 8e-9 / seconds);
}

fn messages(size: usize) {
    let mut machine = Machine::new();
    let stream = machine.open(StreamConfig::messages());
    let payload = Bytes::from(vec![7; size]);
    let total = 5_000_000;
    let (mut sent, mut received) = (0, 0);
    let start = Clock::now();
    while received < total {
        let now = machine.now;
        let client = machine.ends[0].connection(machine.handles[0]).unwrap();
        while sent < total && client.send(now, stream, Message::binary(payload.clone())).is_ok() {
            sent += 1;
        }
        machine.round();
        let server = machine.ends[1].connection(machine.handles[1]).unwrap();
        while let Ok(Some(_)) = server.recv(machine.now, stream) {
            received += 1;
        }
        while machine.ends[1].poll_event().is_some() {}
    }
    let seconds = start.elapsed().as_secs_f64();
    println!("messages {size:4} B {:6.2} M/s", received as f64 * 1e-6 / seconds);
}

fn one_shots() {
    let mut machine = Machine::new();
    let payload = Bytes::from(vec![7; 64]);
    let total = 500_000;
    let (mut sent, mut received) = (0, 0);
    let config = StreamConfig { unidirectional: true, ..StreamConfig::messages() };
    let start = Clock::now();
    while received < total {
        let now = machine.now;
        let client = machine.ends[0].connection(machine.handles[0]).unwrap();
        while sent < total {
            let Ok(stream) = client.open(now, config.clone()) else { break };
            client.send(now, stream, Message::binary(payload.clone())).unwrap();
            client.finish(now, stream).unwrap();
            sent += 1;
        }
        machine.round();
        let server = machine.ends[1].connection(machine.handles[1]).unwrap();
        while let Some(stream) = server.accept() {
            while let Ok(Some(_)) = server.recv(machine.now, stream) {
                received += 1;
            }
        }
        while machine.ends[1].poll_event().is_some() {}
        while machine.ends[0].poll_event().is_some() {}
    }
    let seconds = start.elapsed().as_secs_f64();
    println!("one-shot streams {:5.2} M/s", received as f64 * 1e-6 / seconds);
}

fn main() {
    let wanted = std::env::args().nth(1).unwrap_or_default();
    let workloads: [(&str, &dyn Fn()); 4] = [
        ("bulk", &bulk),
        ("messages-64", &|| messages(64)),
        ("messages-256", &|| messages(256)),
        ("one-shots", &one_shots),
    ];
    for (name, run) in workloads {
        if wanted.is_empty() || name == wanted {
            run();
        }
    }
}
