//! What the machine is asked to do when its instructions are counted: `cargo xtask instructions`.
//!
//! Each case is done under callgrind, which counts only what [`counted`] calls and writes down what it
//! has when [`case_over`] returns; a line for each case says how many units of work that was.

#[allow(dead_code, unreachable_pub, reason = "each program uses its own part")]
mod machine;

use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use jsp_crypto::{
    ClientConfig, DirectionKeys, Handshake, Identity, Output, ServerConfig, ServerIdentity,
};
use jsp_proto::{Delivery, Event, Message, Received, StreamConfig, StreamId};
use machine::{FixedRng, Machine};

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

/// Which part of a workload is counted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// The sender's application queues, and the sender fills batches.
    Send,
    /// The receiver takes datagrams, and its application reads.
    Receive,
    /// The receiver acknowledges.
    Acknowledge,
    /// The sender takes acknowledgements.
    Settle,
}

impl Part {
    const ALL: [(Self, &'static str); 4] = [
        (Self::Send, "send"),
        (Self::Receive, "receive"),
        (Self::Acknowledge, "acknowledge"),
        (Self::Settle, "settle"),
    ];

    /// Does the work, counted when it is this part's.
    fn run(self, part: Self, mut work: impl FnMut()) {
        if self == part { counted(&mut work) } else { work() }
    }
}

/// What an application does with a connection.
trait Workload {
    /// Queues what there is to send, at the client.
    fn send(&mut self, machine: &mut Machine);
    /// Takes what has arrived, at the server; answers how many units.
    fn receive(&mut self, machine: &mut Machine) -> u64;
}

/// A byte stream that always has something to send; a unit is a packet of 1452 bytes.
struct Bulk {
    stream: StreamId,
    chunk: Bytes,
    read: u64,
}

impl Bulk {
    fn new(machine: &mut Machine) -> Self {
        let stream = machine.open(StreamConfig::bytes());
        Self { stream, chunk: Bytes::from(vec![7; 256 << 10]), read: 0 }
    }
}

impl Workload for Bulk {
    fn send(&mut self, machine: &mut Machine) {
        let now = machine.now;
        let client = machine.connection(0);
        while client.write(now, self.stream, self.chunk.clone()).is_ok_and(|len| len > 0) {}
    }

    fn receive(&mut self, machine: &mut Machine) -> u64 {
        let before = self.read / 1420;
        let now = machine.now;
        let server = machine.connection(1);
        while let Ok(Some(bytes)) = server.read(now, self.stream, usize::MAX) {
            self.read += bytes.len() as u64;
        }
        self.read / 1420 - before
    }
}

/// Messages on one stream, so many at a time; a unit is a message.
struct Messages {
    stream: StreamId,
    payload: Bytes,
    burst: u32,
    received: Vec<Received>,
}

impl Messages {
    fn new(machine: &mut Machine, burst: u32) -> Self {
        let stream = machine.open(StreamConfig::messages());
        Self { stream, payload: Bytes::from(vec![7; 64]), burst, received: Vec::new() }
    }

    /// Messages of 1000 bytes that are sent once, in whatever order they arrive.
    fn datagrams(machine: &mut Machine, burst: u32) -> Self {
        let delivery = Delivery::Unreliable;
        let config = StreamConfig { delivery, ordered: false, ..StreamConfig::messages() };
        let (stream, payload) = (machine.open(config), Bytes::from(vec![7; 1000]));
        Self { stream, payload, burst, received: Vec::new() }
    }
}

impl Workload for Messages {
    fn send(&mut self, machine: &mut Machine) {
        let now = machine.now;
        for _ in 0..self.burst {
            let message = Message::binary(self.payload.clone());
            if machine.connection(0).send(now, self.stream, message).is_err() {
                break;
            }
        }
    }

    fn receive(&mut self, machine: &mut Machine) -> u64 {
        let (now, server) = (machine.now, machine.connection(1));
        let count = server.recv_all(now, self.stream, usize::MAX, &mut self.received);
        self.received.clear();
        count.unwrap_or(0) as u64
    }
}

/// Streams of one message of 64 bytes; a unit is a stream.
struct OneShots {
    payload: Bytes,
    config: StreamConfig,
}

impl OneShots {
    fn new() -> Self {
        let config = StreamConfig { unidirectional: true, ..StreamConfig::messages() };
        Self { payload: Bytes::from(vec![7; 64]), config }
    }
}

impl Workload for OneShots {
    fn send(&mut self, machine: &mut Machine) {
        let now = machine.now;
        for _ in 0..200 {
            let client = machine.connection(0);
            let Ok(stream) = client.open(now, self.config.clone()) else { break };
            let message = Message::binary(self.payload.clone());
            client.send(now, stream, message).unwrap();
            client.finish(now, stream).unwrap();
        }
    }

    fn receive(&mut self, machine: &mut Machine) -> u64 {
        let (now, mut count) = (machine.now, 0);
        let server = machine.connection(1);
        while let Some(stream) = server.accept() {
            while let Ok(Some(_)) = server.recv(now, stream) {
                count += 1;
            }
        }
        count
    }
}

/// One round of a workload, of which one part is counted; answers how many units came through.
fn round(machine: &mut Machine, workload: &mut dyn Workload, part: Option<Part>) -> u64 {
    let run = |own: Part, machine: &mut Machine, work: &mut dyn FnMut(&mut Machine)| match part {
        Some(part) => part.run(own, || work(machine)),
        None => work(machine),
    };
    machine.tick();
    run(Part::Send, machine, &mut |machine| workload.send(machine));
    let mut units = 0;
    loop {
        let mut any = false;
        run(Part::Send, machine, &mut |machine| any = machine.transmit(0));
        if !any {
            break;
        }
        let (mut datagrams, _buffer) = machine.arrivals();
        run(Part::Receive, machine, &mut |machine| {
            datagrams.drain(..).for_each(|datagram| machine.deliver(1, datagram));
        });
    }
    machine.tick();
    run(Part::Receive, machine, &mut |machine| {
        while machine.ends[1].poll_event().is_some() {}
        units = workload.receive(machine);
    });
    loop {
        let mut any = false;
        run(Part::Acknowledge, machine, &mut |machine| any = machine.transmit(1));
        if !any {
            break;
        }
        let (mut datagrams, _buffer) = machine.arrivals();
        run(Part::Settle, machine, &mut |machine| {
            datagrams.drain(..).for_each(|datagram| machine.deliver(0, datagram));
            while machine.ends[0].poll_event().is_some() {}
        });
    }
    units
}

type MakeWorkload = fn(&mut Machine) -> Box<dyn Workload>;

/// Counts each part of a workload in turn, or the one that is named, in a state that has settled.
fn measure(name: &str, rounds: u32, make: MakeWorkload, wanted: Option<&str>) {
    let mut machine = Machine::new();
    let mut workload = make(&mut machine);
    for _ in 0..rounds {
        round(&mut machine, workload.as_mut(), None);
    }
    for (part, part_name) in Part::ALL {
        if wanted.is_some_and(|wanted| wanted != part_name) {
            continue;
        }
        let mut units = 0;
        for _ in 0..rounds {
            units += round(&mut machine, workload.as_mut(), Some(part));
        }
        case_over(&format!("{name}/{part_name}"), units);
    }
}

/// A message one way, and its echo: all that both ends do; a unit is a round trip.
fn ping_pong(rounds: u32) {
    let mut machine = Machine::new();
    let stream = machine.open(StreamConfig::messages());
    let payload = Bytes::from(vec![7; 64]);
    let mut once = |counts: bool| {
        let run = |work: &mut dyn FnMut()| if counts { counted(work) } else { work() };
        for (from, to) in [(0, 1), (1, 0)] {
            machine.tick();
            run(&mut || {
                let now = machine.now;
                let message = Message::binary(payload.clone());
                machine.connection(from).send(now, stream, message).unwrap();
            });
            carry(&mut machine, from, to, &run);
            run(&mut || {
                while machine.ends[to].poll_event().is_some() {}
                let now = machine.now;
                let got = machine.connection(to).recv(now, stream).unwrap();
                assert!(got.is_some(), "the message came with the datagram");
            });
            carry(&mut machine, to, from, &run);
            run(&mut || {
                black_box((machine.ends[from].poll_timeout(), machine.ends[to].poll_timeout()));
            });
        }
    };
    (0..rounds).for_each(|_| once(false));
    (0..rounds).for_each(|_| once(true));
    case_over("ping-pong", u64::from(rounds));
}

/// A full handshake with a server that is pinned, and no ticket; a unit is a handshake.
fn handshakes(rounds: u32, wanted: Option<&str>) {
    for part in ["hello", "answer", "accept", "confirm"] {
        if wanted.is_some_and(|wanted| wanted != part) {
            continue;
        }
        let mut machine = Machine::new();
        (0..rounds).for_each(|_| handshake(&mut machine, ""));
        (0..rounds).for_each(|_| handshake(&mut machine, part));
        case_over(&format!("handshake/{part}"), u64::from(rounds));
    }
}

/// One handshake, of which one part is counted.
fn handshake(machine: &mut Machine, counts: &str) {
    let run = |part: &str, machine: &mut Machine, work: &mut dyn FnMut(&mut Machine)| {
        if part == counts { counted(&mut || work(machine)) } else { work(machine) }
    };
    let (mut client, mut is_connected) = (None, false);
    machine.tick();
    run("hello", machine, &mut |machine| {
        client = Some(machine.connect());
        machine.transmit(0);
    });
    for (to, part) in [(1, "answer"), (0, "accept"), (1, "confirm")] {
        let (mut datagrams, _buffer) = machine.arrivals();
        machine.tick();
        run(part, machine, &mut |machine| {
            datagrams.drain(..).for_each(|datagram| machine.deliver(to, datagram));
            while let Some((handle, event)) = machine.ends[to].poll_event() {
                is_connected |= Some(handle) == client && event == Event::Connected;
            }
            machine.transmit(to);
        });
        assert_eq!(is_connected, part != "answer", "the client is connected by the answer");
    }
    machine.forget(client);
}

/// A hello that is asked for a proof of its address, as all are in a flood; a unit is one of its datagrams.
fn retries(rounds: u32) {
    let mut machine = Machine::new();
    machine.ask_for_proof();
    machine.connect();
    machine.transmit(0);
    let (hello, _buffer) = machine.arrivals();
    let mut once = |counts: bool| {
        for datagram in &hello {
            let datagram = datagram.clone();
            let mut work = || {
                machine.deliver(1, datagram.clone());
                assert!(machine.transmit(1), "a Retry");
            };
            if counts {
                counted(&mut work)
            } else {
                work()
            }
            machine.arrivals();
        }
    };
    (0..rounds).for_each(|_| once(false));
    (0..rounds).for_each(|_| once(true));
    case_over("retry", u64::from(rounds) * hello.len() as u64);
}

/// Carries what one end wants to send to the other.
fn carry(machine: &mut Machine, from: usize, to: usize, run: &dyn Fn(&mut dyn FnMut())) {
    loop {
        let mut any = false;
        run(&mut || any = machine.transmit(from));
        if !any {
            return;
        }
        let (mut datagrams, _buffer) = machine.arrivals();
        run(&mut || datagrams.drain(..).for_each(|datagram| machine.deliver(to, datagram)));
    }
}

/// What seals 1-RTT packets at a client, and opens them at its server.
fn keys() -> (DirectionKeys, DirectionKeys) {
    let mut rng = FixedRng(7);
    let identity = Arc::new(Identity::generate(&mut rng));
    let config = Arc::new(ClientConfig::new(ServerIdentity::AnyInsecure));
    let client = Handshake::client(config, &[], &mut rng).unwrap();
    let server = Handshake::server(Arc::new(ServerConfig::new(identity)), Vec::new());
    let mut ends = [(client, None), (server, None)];
    loop {
        let mut under_way = Vec::new();
        for (place, (machine, keys)) in ends.iter_mut().enumerate() {
            while let Some(output) = machine.poll() {
                match output {
                    Output::Send { level, message } => under_way.push((1 - place, level, message)),
                    Output::DataKeys(mut data) => *keys = data.take_keys(),
                    _ => {}
                }
            }
        }
        if under_way.is_empty() {
            let [(_, client), (_, server)] = ends;
            return (client.unwrap().local, server.unwrap().remote);
        }
        for (to, level, message) in under_way {
            ends[to].0.read(level, &message, 1_800_000_000, &mut rng).unwrap();
        }
    }
}

/// Sealing and opening of packets with a payload of `len` bytes, and the masks of their headers.
fn protection(len: usize) {
    let (local, remote) = keys();
    let mask = |keys: &DirectionKeys, packet: &[u8]| {
        let sample: [u8; 16] = packet[..16].try_into().unwrap();
        black_box(keys.header.mask(&sample));
    };
    let header = [0x40, 1, 2, 3, 4, 5];
    let mut packets = vec![vec![7; len + 16]; 100];
    counted(&mut || {
        for (pn, packet) in packets.iter_mut().enumerate() {
            local.packet.seal_in_place(pn as u64, &header, packet).unwrap();
            mask(&local, packet);
        }
    });
    case_over(&format!("seal-{len}"), packets.len() as u64);
    counted(&mut || {
        for (pn, packet) in packets.iter_mut().enumerate() {
            mask(&remote, packet);
            remote.packet.open_in_place(pn as u64, &header, packet).unwrap();
        }
    });
    case_over(&format!("open-{len}"), packets.len() as u64);
}

/// All cases, or the one that is named.
fn main() {
    let wanted = std::env::args().nth(1);
    let wants = |name: &str| wanted.as_ref().is_none_or(|wanted| wanted.starts_with(name));
    if wants("protection") {
        protection(1420);
        protection(64);
    }
    let workloads: [(&str, u32, MakeWorkload); 5] = [
        ("bulk", 12, |machine| Box::new(Bulk::new(machine))),
        ("messages-64", 40, |machine| Box::new(Messages::new(machine, 400))),
        ("lone-64", 400, |machine| Box::new(Messages::new(machine, 1))),
        ("one-shots", 30, |_| Box::new(OneShots::new())),
        ("datagrams-1000", 40, |machine| Box::new(Messages::datagrams(machine, 100))),
    ];
    for (name, rounds, make) in workloads {
        if wants(name) {
            let part = wanted.as_ref().and_then(|wanted| wanted.split_once('/'));
            measure(name, rounds, make, part.map(|(_, part)| part));
        }
    }
    if wants("ping-pong") {
        ping_pong(400);
    }
    if wants("handshake") {
        let part = wanted.as_ref().and_then(|wanted| wanted.split_once('/'));
        handshakes(50, part.map(|(_, part)| part));
    }
    if wants("retry") {
        retries(200);
    }
}
