//! Speed of the machine itself: two endpoints in one thread, no socket, no delay, no loss.
//!
//! `cargo run --release -p jsp-proto --example machine_speed [bulk|messages-64|messages-256|one-shots]`

#[allow(dead_code, unreachable_pub, reason = "each program uses its own part")]
mod machine;

use std::time::Instant as Clock;

use bytes::Bytes;
use jsp_proto::{Message, StreamConfig};
use machine::Machine;

fn bulk() {
    let mut machine = Machine::new();
    let stream = machine.open(StreamConfig::bytes());
    let chunk = Bytes::from(vec![7; 1 << 20]);
    let total = 2usize << 30;
    let (mut written, mut read) = (0, 0);
    let start = Clock::now();
    while read < total {
        let now = machine.now;
        while written < total {
            let Ok(n) = machine.connection(0).write(now, stream, chunk.clone()) else { break };
            written += n;
        }
        machine.round();
        let now = machine.now;
        while let Ok(Some(bytes)) = machine.connection(1).read(now, stream, usize::MAX) {
            read += bytes.len();
        }
        machine.drop_events();
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
        let client = machine.connection(0);
        while sent < total && client.send(now, stream, Message::binary(payload.clone())).is_ok() {
            sent += 1;
        }
        machine.round();
        let now = machine.now;
        while let Ok(Some(_)) = machine.connection(1).recv(now, stream) {
            received += 1;
        }
        machine.drop_events();
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
        let client = machine.connection(0);
        while sent < total {
            let Ok(stream) = client.open(now, config.clone()) else { break };
            client.send(now, stream, Message::binary(payload.clone())).unwrap();
            client.finish(now, stream).unwrap();
            sent += 1;
        }
        machine.round();
        let now = machine.now;
        let server = machine.connection(1);
        while let Some(stream) = server.accept() {
            while let Ok(Some(_)) = server.recv(now, stream) {
                received += 1;
            }
        }
        machine.drop_events();
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
