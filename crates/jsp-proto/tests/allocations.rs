//! What the machine asks of the allocator: nothing for each packet once it runs, and little for a connection
//! that rests.

#[path = "../examples/machine/mod.rs"]
#[allow(dead_code, unreachable_pub, reason = "each program uses its own part")]
mod machine;

use std::time::Duration;

use allocation_counter::measure;
use bytes::Bytes;
use jsp_proto::{Buckets, Message, Padding, StreamConfig, TransportConfig};
use machine::Machine;

/// Allocations of each part of the work, and the datagrams that it was about.
#[derive(Default, Debug)]
struct Tally {
    send: u64,
    receive: u64,
    acknowledge: u64,
    settle: u64,
    datagrams: u64,
}

impl Tally {
    /// Packets ask the allocator for nothing. A ring that doubles after a thousand packets does, and what
    /// happens once in seconds.
    fn assert_none(&self) {
        println!("{self:?}");
        let total = self.send + self.receive + self.acknowledge + self.settle;
        assert!(total * 100 < self.datagrams, "{self:?}");
    }
}

/// Everything that one end has to send arrives at the other; answers allocations there and here.
fn carry(machine: &mut Machine, from: usize, tally: &mut u64) -> (u64, u64) {
    let (mut taken, mut count) = (0, 0);
    loop {
        let mut any = false;
        *tally += measure(|| any = machine.transmit(from)).count_total;
        if !any {
            return (taken, count);
        }
        // The buffer is the driver's, and stays there.
        let (mut datagrams, _buffer) = machine.arrivals();
        count += datagrams.len() as u64;
        taken += measure(|| {
            for datagram in datagrams.drain(..) {
                machine.deliver(1 - from, datagram);
            }
        })
        .count_total;
    }
}

/// Lets a client send and a server read, round after round with a pause between. The first half is for
/// rings to grow to what the load needs, the second is counted.
fn tally(
    machine: &mut Machine,
    (rounds, pause): (u32, Duration),
    mut send: impl FnMut(&mut Machine),
    mut receive: impl FnMut(&mut Machine),
) -> Tally {
    let mut tally = Tally::default();
    for round in 0..2 * rounds {
        if round == rounds {
            tally = Tally::default();
        }
        machine.now = machine.now + pause;
        tally.send += measure(|| send(machine)).count_total;
        let (taken, datagrams) = carry(machine, 0, &mut tally.send);
        tally.receive += taken;
        tally.datagrams += datagrams;
        machine.tick();
        tally.receive += measure(|| receive(machine)).count_total;
        let (taken, _) = carry(machine, 1, &mut tally.acknowledge);
        tally.settle += taken;
        tally.settle += measure(|| machine.drop_events()).count_total;
    }
    assert!(tally.datagrams > 0);
    tally
}

#[test]
fn a_packet_of_a_byte_stream_allocates_nothing() {
    let mut machine = Machine::new();
    let stream = machine.open(StreamConfig::bytes());
    let chunk = Bytes::from(vec![7; 64 << 10]);
    let send = |machine: &mut Machine| {
        let now = machine.now;
        for _ in 0..4 {
            let _ = machine.connection(0).write(now, stream, chunk.clone());
        }
    };
    let receive = |machine: &mut Machine| {
        let now = machine.now;
        while let Ok(Some(_)) = machine.connection(1).read(now, stream, usize::MAX) {}
    };
    tally(&mut machine, (200, Duration::from_micros(10)), send, receive).assert_none();
}

#[test]
fn a_packet_of_small_messages_allocates_nothing() {
    for (burst, rounds, micros) in [(1, 1500, 1000), (10, 1500, 1000), (400, 300, 20)] {
        println!("{burst} messages of 64 bytes at a time");
        let mut machine = Machine::new();
        let stream = machine.open(StreamConfig::messages());
        let payload = Bytes::from(vec![7; 64]);
        let send = |machine: &mut Machine| {
            let now = machine.now;
            for _ in 0..burst {
                let message = Message::binary(payload.clone());
                let _ = machine.connection(0).send(now, stream, message);
            }
        };
        let receive = |machine: &mut Machine| {
            let now = machine.now;
            while let Ok(Some(_)) = machine.connection(1).recv(now, stream) {}
        };
        tally(&mut machine, (rounds, Duration::from_micros(micros)), send, receive).assert_none();
    }
}

/// Bytes of the heap that each end holds, over what it held when this began.
fn hold(machine: &mut Machine, held: &mut [i64; 2]) {
    loop {
        let mut any = false;
        for from in [0, 1] {
            machine.tick();
            let mut has = true;
            while has {
                held[from] += measure(|| has = machine.transmit(from)).bytes_current;
                let (mut datagrams, _buffer) = machine.arrivals();
                any |= has;
                held[1 - from] += measure(|| {
                    for datagram in datagrams.drain(..) {
                        machine.deliver(1 - from, datagram);
                    }
                })
                .bytes_current;
            }
            let end = &mut machine.ends[from];
            held[from] += measure(|| while end.poll_event().is_some() {}).bytes_current;
        }
        if !any {
            return;
        }
    }
}

#[test]
fn an_idle_connection_is_small() {
    const COUNT: i64 = 100;
    let mut machine = Machine::new();
    let mut held = [0; 2];
    for _ in 0..COUNT {
        held[0] += measure(|| _ = machine.connect()).bytes_current;
        hold(&mut machine, &mut held);
    }
    for _ in 0..3 {
        machine.now = machine.now + Duration::from_secs(1);
        hold(&mut machine, &mut held);
    }
    let [client, server] = held.map(|bytes| bytes / COUNT);
    let itself = size_of::<jsp_proto::Connection>();
    println!("bytes a side: client {client}, server {server}, of which the connection {itself}");
    assert!(client <= 3584 && server <= 3072, "{client} {server}");
}

#[test]
fn an_idle_connection_has_nothing_to_do() {
    let mut machine = Machine::new();
    let busy_until = machine.now + Duration::from_secs(8);
    let next = |machine: &mut Machine| {
        let ends = machine.ends.iter_mut();
        ends.filter_map(|end| end.poll_timeout()).map(|(at, _)| at).min()
    };
    while let Some(at) = next(&mut machine).filter(|at| *at < busy_until) {
        machine.now = at;
        while machine.round() > 0 {}
    }
    machine.now = busy_until;
    while machine.round() > 0 {}
    machine.drop_events();
    let idle_until = busy_until + Duration::from_secs(10);
    assert!(next(&mut machine).is_some_and(|at| at > idle_until), "{:?}", next(&mut machine));
}

#[test]
fn a_half_open_connection_is_small() {
    for padding in [Padding::None, Padding::Buckets(Buckets::new(&[400, 900]).unwrap())] {
        half_open_connections_are_small(&TransportConfig { padding, ..Default::default() });
    }
}

fn half_open_connections_are_small(transport: &TransportConfig) {
    const COUNT: i64 = 100;
    let mut machine = Machine::with(transport.clone());
    let mut held = 0;
    for _ in 0..COUNT {
        machine.connect();
        machine.tick();
        while machine.transmit(0) {
            let (mut datagrams, _buffer) = machine.arrivals();
            held += measure(|| {
                for datagram in datagrams.drain(..) {
                    machine.deliver(1, datagram);
                }
            })
            .bytes_current;
        }
        machine.tick();
        let mut any = true;
        while any {
            held += measure(|| any = machine.transmit(1)).bytes_current;
            machine.arrivals();
        }
    }
    let each = held / COUNT;
    println!("bytes of the server: {each}");
    assert!(each <= 4 * 1024, "{each}");
    // They are whole again when their clients speak.
    machine.now = machine.now + Duration::from_secs(1);
    while machine.round() > 0 {}
    let mut connected = 0;
    while let Some((_, event)) = machine.ends[1].poll_event() {
        connected += i64::from(event == jsp_proto::Event::Connected);
    }
    assert_eq!(connected, COUNT);
}
