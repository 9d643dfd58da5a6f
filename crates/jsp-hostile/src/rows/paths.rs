//! Attacks on paths: challenges, addresses, sizes, resets.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use jsp_proto::{ConnectionHandle, Event, RetryPolicy, StreamConfig, StreamId, TransportConfig};
use jsp_wire::{ConnectionId, Frame, TransportParams};

use crate::allocated;
use crate::peer::{Peer, Random, frame, generous};
use crate::row::{Figure, Run};
use crate::victim::{CLIENT, ELSEWHERE, SERVER, Victim, addr, pinned};

/// Row 39: as many challenges as fit, in as many packets as one likes, before an answer can leave.
pub(super) fn challenges(run: &mut Run) -> Figure {
    let mut server = Victim::server(RetryPolicy::Never);
    let (mut peer, handle) = server.befriend(141);
    server.listen(&mut peer);
    peer.heard.clear();
    let packets = run.count(50, 10_000);
    let mut last = 0u64;
    for _ in 0..packets {
        let mut payload = Vec::new();
        while payload.len() < 1100 {
            last += 1;
            payload.extend(frame(&Frame::PathChallenge(last.to_be_bytes())));
        }
        let packet = peer.frames(&payload);
        server.give(peer.addr, &packet);
    }
    server.listen(&mut peer);
    let answers: Vec<u64> = peer
        .heard
        .iter()
        .flat_map(|heard| heard.frames().collect::<Vec<_>>())
        .filter_map(|frame| match frame {
            Frame::PathResponse(data) => Some(u64::from_be_bytes(data)),
            _ => None,
        })
        .collect();
    let latest = (last - 7..=last).all(|n| answers.contains(&n));
    let held = answers.len() <= 8 && latest && server.end_of(handle).is_none();
    let which = if latest { "the latest" } else { "not the latest" };
    Figure::new(held, format!("{} answers to {last} challenges, {which}", answers.len()))
}

/// A server that has much to say, and a client of its own whose packets somebody forwards.
struct Forwarding {
    server: Victim,
    peer: Peer,
    handle: ConnectionHandle,
    stream: StreamId,
    /// Bytes that the server got from and gave to each address.
    account: HashMap<SocketAddr, (usize, usize)>,
}

impl Forwarding {
    fn new(seed: u64) -> Self {
        let config = TransportConfig::default();
        let mut server = Victim::server_with(RetryPolicy::Never, config, seed as u8);
        let (peer, handle) = server.befriend(151 + seed);
        let now = server.now;
        let stream = server.connection(handle).open(now, StreamConfig::bytes()).expect("a stream");
        Self { server, peer, handle, stream, account: HashMap::new() }
    }

    /// The client's next packet arrives from this address; whether data came home.
    fn step(&mut self, from: SocketAddr) -> bool {
        let now = self.server.now;
        let data = Bytes::from(vec![0; 20_000]);
        let _ = self.server.connection(self.handle).write(now, self.stream, data);
        let payload = [self.peer.ack(), vec![1]].concat();
        let packet = self.peer.frames(&payload);
        self.account.entry(from).or_default().0 += packet.len();
        self.server.give(from, &packet);
        let mut home = false;
        for (to, datagram) in self.server.pass(Duration::from_millis(5)) {
            self.account.entry(to).or_default().1 += datagram.len();
            if to == self.peer.addr {
                self.peer.read(&datagram);
                home |= datagram.len() > 1000;
            }
        }
        home
    }

    /// The most bytes that another address got for one of its own.
    fn worst(&self) -> f64 {
        let others = self.account.iter().filter(|(to, _)| **to != self.peer.addr);
        others.map(|(_, (got, gave))| *gave as f64 / (*got).max(1) as f64).fold(0.0, f64::max)
    }
}

/// What many changes of address come to.
struct Changes {
    count: u64,
    /// The most bytes that another address got for one of its own.
    worst: f64,
    /// Other addresses that were taken for the peer's.
    adopted: usize,
    /// Bytes of memory that the second half took beyond the most of the first.
    grown: u64,
}

/// True packets, each from a random address that was not there before and that answers nothing.
fn changes(random: &mut Random, count: u64) -> Changes {
    let mut world = Forwarding::new(250);
    // The account is the observer's: it does not grow while memory is looked at.
    world.account.reserve(count as usize + 1);
    let (mut before, mut grown, mut adopted) = (0, 0, 0);
    for n in 0..count {
        let bytes = random.bytes(5);
        let port = 1024 + u16::from(bytes[3]) * 128 + u16::from(bytes[4] % 128);
        let from = SocketAddr::from(([198, bytes[0], bytes[1], bytes[2]], port));
        world.step(from);
        world.peer.forget();
        let other = |(_, event): &(ConnectionHandle, Event)| match event {
            Event::PathChanged { route, .. } => route.remote() != Some(world.peer.addr),
            _ => false,
        };
        adopted += world.server.events.iter().filter(|event| other(event)).count();
        world.server.events.clear();
        match n < count / 2 {
            true => before = before.max(allocated()),
            false => grown = grown.max(allocated().saturating_sub(before)),
        }
    }
    Changes { count, worst: world.worst(), adopted, grown }
}

/// Bytes that may come and go with the data on their way: what is written in three steps.
const FLAT: u64 = 64 << 10;

/// Row 40: somebody forwards true packets from addresses of his own, each from another port.
pub(super) fn forwarded(run: &mut Run) -> Figure {
    let rounds = run.count(5, 200);
    let (mut worst, mut strays, mut longest) = (0.0f64, 0u64, Duration::ZERO);
    for seed in 0..rounds {
        let mut world = Forwarding::new(seed);
        for n in 0..60u16 {
            let from = match seed % 2 {
                0 => SocketAddr::from(([203, 0, 113, 9], 2000 + n)),
                _ => SocketAddr::from(([203, 0, (n % 200) as u8, 9], 2000)),
            };
            world.step(from);
        }
        // The true path again.
        let rtt = world.server.connection(world.handle).rtt();
        let pto = rtt * 3 + Duration::from_millis(26);
        let (start, home, mut back) = (world.server.now, world.peer.addr, None);
        while back.is_none() && world.server.now.since(start) < Duration::from_secs(20) {
            let is_home = world.step(home);
            back = is_home.then(|| world.server.now.since(start));
        }
        strays += u64::from(back.is_none_or(|took| took > pto * 3));
        longest = longest.max(back.unwrap_or(Duration::from_secs(20)));
        worst = worst.max(world.worst());
    }
    let count = run.count(2_000, 10_000);
    let changes = changes(&mut run.random, count);
    let worst = worst.max(changes.worst);
    let is_flat = changes.grown <= FLAT && changes.adopted == 0;
    let held = worst <= 3.0 && strays == 0 && is_flat;
    let longest = longest.as_millis();
    Figure::new(
        held,
        format!(
            "{worst:.3} bytes for one; home after {longest} ms at most, {strays} of {rounds} too late; \
             {} random addresses: {} adopted, the second half took {} B more than the first",
            changes.count, changes.adopted, changes.grown
        ),
    )
}

/// Row 41: a peer that acknowledges large packets and then loses them all, and one that claims less
/// than every path carries. The machine hears nothing of ICMP.
pub(super) fn sizes(run: &mut Run) -> Figure {
    let mut least = usize::MAX;
    for seed in 0..run.count(3, 50) {
        let mut server =
            Victim::server_with(RetryPolicy::Never, TransportConfig::default(), seed as u8);
        let (mut peer, handle) = server.befriend(161 + seed);
        let now = server.now;
        let stream = server.connection(handle).open(now, StreamConfig::bytes()).expect("a stream");
        for round in 0..400 {
            let now = server.now;
            let _ = server.connection(handle).write(now, stream, Bytes::from(vec![0; 30_000]));
            for (_, datagram) in server.pass(Duration::from_millis(20)) {
                // Large ones arrive only in the first part.
                if round < 100 || datagram.len() < 1100 + (seed as usize * 37) % 300 {
                    peer.read(&datagram);
                }
            }
            let packet = peer.frames(&peer.ack());
            server.hit(&mut peer, &packet);
            least = least.min(server.connection(handle).stats().datagram_len);
        }
    }
    let mut server = Victim::server(RetryPolicy::Never);
    let params = TransportParams { datagram_len_max: 1199, ..generous(ConnectionId::EMPTY) };
    let mut liar = Peer::client_with(addr(CLIENT), pinned(), 162, params);
    server.talk(&mut liar);
    let refused = server.newest().is_none();
    let words = if refused { "refused" } else { "accepted" };
    Figure::new(
        least >= 1200 && refused,
        format!("{least} bytes at least; a claim of 1199 is {words}"),
    )
}

/// Row 42: resets tell nothing of connections that live, and two servers do not answer each other
/// for long.
pub(super) fn resets(run: &mut Run) -> Figure {
    let random = &mut run.random.clone();
    let mut server = Victim::server(RetryPolicy::Never);
    let (mut peer, handle) = server.befriend(171);
    server.pass(Duration::from_secs(2));
    let mut oracle = 0usize;
    for n in 0..run.count(2_000, 100_000) {
        let mut stray = vec![0x40];
        stray.extend(peer.remote_id.as_bytes());
        let len = 20 + random.place(200);
        stray.extend(random.bytes(len));
        let from = if n % 2 == 0 { peer.addr } else { addr(ELSEWHERE) };
        server.now = server.now + Duration::from_millis(1);
        server.give(from, &stray);
        oracle += server.take().len();
    }
    let ping = peer.frames(&[1]);
    server.hit(&mut peer, &ping);
    let lives = server.end_of(handle).is_none() && !peer.heard.is_empty();
    // Two servers that have forgotten everything, and one packet.
    let mut other = Victim::server_with(RetryPolicy::Never, TransportConfig::default(), 77);
    let mut longest = 0;
    for _ in 0..run.count(20, 1000) {
        let mut rounds = 0;
        let first = 30 + random.place(1000);
        let mut ball = random.bytes(first);
        ball[0] = 0x55;
        loop {
            rounds += 1;
            let (to, from) =
                if rounds % 2 == 0 { (&mut server, SERVER) } else { (&mut other, CLIENT) };
            to.now = to.now + Duration::from_secs(1);
            to.give(addr(from), &ball);
            match to.pass(Duration::ZERO).pop() {
                Some((_, answer)) if rounds < 10_000 => ball = answer,
                _ => break,
            }
        }
        longest = longest.max(rounds);
    }
    let held = oracle == 0 && lives && longest < 100;
    Figure::new(
        held,
        format!(
            "{oracle} resets for an id in use; two servers fall silent after {longest} at most"
        ),
    )
}
