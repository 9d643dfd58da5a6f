//! Attacks by those who have no connection: floods, pieces, cookies, amplification.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant as Clock};

use jsp_crypto::Level;
use jsp_proto::{RetryPolicy, TransportConfig};
use jsp_wire::{Header, limits};

use super::early::{early_amplification, pointed_at_another};
use crate::allocated;
use crate::peer::{Peer, Random};
use crate::row::{Figure, Run, Scale};
use crate::victim::{CLIENT, SERVER, Victim, addr, pinned};
use crate::wires::{To, Wires};

/// Hellos to throw: datagrams of many clients, each client's pieces side by side.
fn hellos(count: u64) -> Vec<Vec<Vec<u8>>> {
    (0..count).map(|seed| Peer::client(addr(CLIENT), pinned(), 1 + seed * 7919).take()).collect()
}

fn anywhere(random: &mut Random) -> SocketAddr {
    let [a, b, c, d, e, f, ..] = random.number().to_be_bytes();
    SocketAddr::from(([a, b, c, d], u16::from_be_bytes([e, f])))
}

/// A server under fire, 100,000 datagrams a second.
struct UnderFire {
    server: Victim,
    pool: Vec<Vec<Vec<u8>>>,
    random: Random,
    thrown: u64,
    peak: u64,
    /// The true client that is served at present, and what came for it.
    home: SocketAddr,
    mail: Vec<Vec<u8>>,
}

impl UnderFire {
    fn throw(&mut self, count: u64) {
        for _ in 0..count {
            self.thrown += 1;
            self.server.now = self.server.now + Duration::from_micros(10);
            let from = anywhere(&mut self.random);
            let hello = &self.pool[self.random.place(self.pool.len())];
            // Whole hellos, and single pieces of them.
            let pieces = if self.random.one_in(2) { &hello[..] } else { &hello[..1] };
            pieces.iter().for_each(|datagram| self.server.give(from, datagram));
            if self.thrown.is_multiple_of(32) {
                self.collect();
            }
            if self.thrown.is_multiple_of(1024) {
                self.peak = self.peak.max(allocated());
            }
        }
    }

    fn collect(&mut self) {
        let sent = self.server.pass(Duration::ZERO);
        self.mail
            .extend(sent.into_iter().filter(|(to, _)| *to == self.home).map(|(_, bytes)| bytes));
    }

    /// One attempt of a true client, every datagram with some of the flood before it.
    fn attempt(&mut self, seed: u64) -> bool {
        let mut client = Victim::client(seed as u8);
        let home = SocketAddr::from(([198, 18, (seed >> 8) as u8, seed as u8], 4000 + seed as u16));
        client.now = self.server.now;
        let handle = client.connect(pinned());
        self.home = home;
        self.mail.clear();
        for _ in 0..8 {
            client.now = self.server.now;
            for (_, datagram) in client.pass(Duration::ZERO) {
                self.throw(50);
                self.server.give(home, &datagram);
            }
            self.collect();
            for datagram in std::mem::take(&mut self.mail) {
                client.give(addr(SERVER), &datagram);
            }
            if client.connection(handle).is_established() {
                // What a true connection takes is not the flood's: it ends in order.
                for (_, datagram) in client.take() {
                    self.server.give(home, &datagram);
                }
                self.collect();
                if let Some(served) = self.server.newest() {
                    self.server.endpoint.forget(self.server.now, served);
                }
                return true;
            }
        }
        false
    }
}

/// Row 5: true clients under a flood of hellos, in the machine alone. What sockets add is measured
/// by `cargo xtask bench flood`.
pub(super) fn flood(run: &mut Run) -> Figure {
    let pool = hellos(run.count(60, 500));
    let server = Victim::server(RetryPolicy::WhenHalfOpen(256));
    let random = run.random.clone();
    let before = allocated();
    let mut fire = UnderFire {
        server,
        pool,
        random,
        thrown: 0,
        peak: 0,
        home: addr(CLIENT),
        mail: Vec::new(),
    };
    fire.throw(run.count(10_000, 200_000));
    let clients = run.count(40, 1000);
    let (mut first, mut within) = (0, 0);
    for seed in 0..clients {
        fire.throw(run.count(200, 1000));
        let mut tries = (0..3).map(|again| fire.attempt(seed * 3 + again));
        if tries.next() == Some(true) {
            first += 1;
            within += 1;
        } else if tries.any(|connected| connected) {
            within += 1;
        }
    }
    let grown = fire.peak.saturating_sub(before) as f64 / f64::from(1 << 20);
    let share = |n: u64| n as f64 * 100.0 / clients as f64;
    let (first, within) = (share(first), share(within));
    let held = grown <= 16.0 && within >= 99.0 && first >= 95.0;
    let thrown = fire.thrown;
    Figure::new(
        held,
        format!(
            "{thrown} hellos: {within:.1} % in 3 tries, {first:.1} % in the first, {grown:.1} MiB more"
        ),
    )
}

/// Row 6: pieces that are never followed by the rest.
pub(super) fn halves(run: &mut Run) -> Figure {
    let firsts: Vec<Vec<u8>> = hellos(200).into_iter().map(|mut pieces| pieces.remove(0)).collect();
    let before = allocated();
    let mut server = Victim::server(RetryPolicy::Never);
    let taken = allocated().saturating_sub(before);
    let random = &mut run.random.clone();
    let mut throw = |server: &mut Victim, count: u64| {
        for n in 0..count {
            server.now = server.now + Duration::from_micros(10);
            server.give(anywhere(random), &firsts[n as usize % firsts.len()]);
        }
        server.take();
    };
    throw(&mut server, 8_000);
    let filled = allocated();
    let count = run.count(20_000, 500_000);
    throw(&mut server, count);
    let grown = allocated().abs_diff(filled);
    let total = filled.saturating_sub(before) as f64 / f64::from(1 << 20);
    let taken = taken as f64 / f64::from(1 << 20);
    let held = grown == 0 && server.endpoint.connection_count() == 0;
    Figure::new(
        held,
        format!(
            "{count} halves: {grown} bytes more than {total:.1} MiB, {taken:.1} of them at the start"
        ),
    )
}

/// Row 7: a hello in pieces that overlap and repeat, and a storm of such pieces.
pub(super) fn pieces(run: &mut Run) -> Figure {
    let random = &mut run.random.clone();
    let rounds = run.count(30, 5_000);
    let mut failed = 0u64;
    for seed in 0..rounds {
        let mut server = Victim::server(RetryPolicy::Never);
        let mut peer = Peer::client(addr(CLIENT), pinned(), 3 + seed);
        let (_, hello) = peer.outgoing.remove(0);
        // The second half first; then pieces that overlap it, and one of them twice.
        let middle = 600 + random.place(500);
        let from = random.place(400);
        for range in [middle..hello.len(), from..middle + 100, from..middle + 100, 0..from + 200] {
            let datagram = peer.piece(Level::Initial, &hello, range);
            server.give(peer.addr, &datagram);
        }
        server.talk(&mut peer);
        failed += u64::from(!peer.is_complete());
    }
    // Pieces of one byte, of one hello, over and over.
    let mut server = Victim::server(RetryPolicy::Never);
    let mut peer = Peer::client(addr(CLIENT), pinned(), 2);
    let (_, hello) = peer.outgoing.remove(0);
    let mut payload = Vec::new();
    for at in 0..70usize {
        let fragment = jsp_wire::frame::HandshakeFragment {
            id: jsp_crypto::hello_id(&hello),
            offset: (at * 2 % 40) as u16,
            total: hello.len() as u16,
            data: &hello[at * 2 % 40..at * 2 % 40 + 1],
        };
        payload.extend(crate::peer::frame(&jsp_wire::Frame::Handshake(fragment)));
    }
    let packets: Vec<Vec<u8>> = (0..100).map(|_| peer.long(Level::Initial, &payload)).collect();
    let (mut count, start) = (0u64, Clock::now());
    let wanted = run.count(10_000, 1_000_000);
    while count < wanted {
        for packet in &packets {
            server.give(peer.addr, packet);
            count += 70;
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    // The tests do not judge by the clock.
    let fast = run.scale == Scale::Quick || seconds <= 1.0 * count as f64 / 1e6;
    let calm = server.take().is_empty() && server.endpoint.connection_count() == 0;
    let per_million = seconds * 1e6 / count as f64;
    Figure::new(
        failed == 0 && fast && calm,
        format!(
            "{failed} of {rounds} overlapping hellos failed; a million pieces take {per_million:.2} s"
        ),
    )
}

/// Row 8: two datagrams, a Retry, two datagrams, in any order, with losses and doubles.
pub(super) fn split_retry(run: &mut Run) -> Figure {
    let seeds = run.count(150, 20_000);
    let (mut failed, mut odd) = (0u64, 0u64);
    for seed in 0..seeds {
        let mut random = Random::new(seed + 1);
        let mut retries: BTreeMap<Vec<u8>, BTreeSet<Vec<u8>>> = BTreeMap::new();
        let client = Victim::client(seed as u8);
        let server = Victim::server_with(RetryPolicy::Always, TransportConfig::default(), 9);
        let mut wires = Wires::new(client, server);
        let mut under_way = 0;
        let log = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
        let store = log.clone();
        wires.weather = Box::new(move |to, bytes| {
            under_way += 1;
            if to == To::Client && matches!(Header::parse(&bytes), Ok(Header::Retry { .. })) {
                store.borrow_mut().push(bytes.clone());
            }
            let copies = if under_way > 8 { 1 } else { [0, 1, 1, 1, 2][random.place(5)] };
            let mut delay = || Duration::from_millis(5 + random.below(40));
            (0..copies).map(|_| (delay(), bytes.clone())).collect()
        });
        let handle = wires.client.connect(pinned());
        failed += u64::from(wires.until_connected(handle, Duration::from_secs(9)).is_none());
        drop(wires);
        // Cookies of one bucket of two seconds are equal: the time stands behind the key's epoch, which
        // turns every ten minutes.
        for retry in log.take() {
            let Ok(Header::Retry { token, .. }) = Header::parse(&retry) else { continue };
            retries.entry(token[1..5].to_vec()).or_default().insert(retry);
        }
        odd += u64::from(retries.values().any(|different| different.len() > 1));
    }
    let held = failed == 0 && odd == 0;
    Figure::new(held, format!("{failed} of {seeds} did not connect; {odd} saw two kinds of Retry"))
}

/// Row 9: whatever a stranger does, he gets no more than three times what he sends.
pub(super) fn amplification(run: &mut Run) -> Figure {
    let seeds = run.count(150, 20_000);
    let mut worst = 0.0f64;
    for seed in 0..seeds {
        let mut random = Random::new(seed + 5);
        let policy = [RetryPolicy::Never, RetryPolicy::Always][random.place(2)];
        let mut server = Victim::server(policy);
        let mut peer = Peer::client(addr(CLIENT), pinned(), seed + 77);
        let hello = peer.take();
        let (mut sent, mut got) = (0usize, 0usize);
        for _ in 0..1 + random.below(6) {
            let mut datagram = hello[random.place(hello.len())].clone();
            match random.below(6) {
                // Coalesced with packets that nobody can open, cut short, or another version.
                0 => {
                    let mut other = datagram.clone();
                    other[0] |= 0x20;
                    datagram.extend(other);
                }
                1 => datagram.truncate(1 + random.place(1199)),
                2 => datagram[4] ^= 0x55,
                3 => datagram = random.bytes(40),
                _ => {}
            }
            sent += datagram.len();
            server.give(peer.addr, &datagram);
            let pause = Duration::from_millis(random.below(400));
            got += server.pass(pause).iter().map(|(_, bytes)| bytes.len()).sum::<usize>();
            worst = worst.max(got as f64 / sent as f64);
        }
        got += server.pass(Duration::from_secs(30)).iter().map(|(_, b)| b.len()).sum::<usize>();
        worst = worst.max(got as f64 / sent as f64);
    }
    let early = early_amplification(run.count(60, 5_000));
    let pointed = pointed_at_another(run.count(5, 500));
    Figure::new(
        worst <= 3.0 && early <= 3.0 && early > 2.0 && pointed <= 3.0 && pointed > 1.0,
        format!(
            "{worst:.3} in {seeds} seeds, {early:.3} with early data that is answered at length, {pointed:.3} to an \
             address that the finish comes from after the hello came again from there; retransmissions counted"
        ),
    )
}

/// A client with a cookie, whose second hello waits to be sent.
fn with_cookie(server: &mut Victim, seed: u64) -> Peer {
    let mut peer = Peer::client(addr(CLIENT), pinned(), seed);
    for datagram in peer.take() {
        server.give(peer.addr, &datagram);
    }
    let answers = server.take();
    let obeyed = answers.iter().any(|(_, datagram)| peer.obey_retry(datagram));
    assert!(obeyed, "a server that always retries answers by Retry");
    peer
}

/// Somebody on the path who sends under the keys and the token of another client's second hello.
fn with_token(peer: &Peer, seed: u64) -> Peer {
    let mut thief = Peer::client(peer.addr, pinned(), 3000 + seed);
    thief.take_over(peer);
    thief
}

/// How many connections a cookie still opens after its own has ended, for its hello and for others.
fn used_again(server: &mut Victim, peer: &Peer) -> usize {
    let mut uses = 0;
    for seed in 0..5 {
        server.pass(Duration::from_millis(200));
        let mut second = Peer::client(addr(CLIENT), pinned(), 900 + seed);
        second.token.clone_from(&peer.token);
        let message = if seed % 2 == 0 { peer.hello.clone() } else { second.hello.clone() };
        let mut thief = with_token(peer, seed);
        let again = thief.datagrams(Level::Initial, &message);
        let before = server.endpoint.connection_count();
        again.iter().for_each(|datagram| server.give(peer.addr, datagram));
        server.take();
        uses += server.endpoint.connection_count().saturating_sub(before);
    }
    uses
}

/// Row 10: a cookie serves the one it was made for, once.
pub(super) fn cookies(run: &mut Run) -> Figure {
    let random = &mut run.random.clone();
    let give = |server: &mut Victim, from: SocketAddr, datagrams: &[Vec<u8>]| {
        let before = server.endpoint.connection_count();
        datagrams.iter().for_each(|datagram| server.give(from, datagram));
        server.take();
        server.endpoint.connection_count() - before
    };
    let mut refused = 0;
    let mut server = Victim::server(RetryPolicy::Always);
    let mut peer = with_cookie(&mut server, 41);
    let hello = peer.take();
    refused += give(&mut server, addr("192.0.2.1:1001"), &hello);
    refused += give(&mut server, addr("192.0.2.7:1000"), &hello);
    let mut other = Victim::server_with(RetryPolicy::Always, TransportConfig::default(), 99);
    refused += give(&mut other, peer.addr, &hello);
    // Damage, sealed anew each time, so that only the cookie speaks against it.
    let flips = run.count(1_500, 1_000_000);
    let token = peer.token.clone();
    for n in 0..flips {
        let mut damaged = token.clone();
        let bits = if n < 232 { n..n + 1 } else { 0..1 + random.below(4) };
        for bit in bits {
            let bit = if n < 232 { bit } else { random.below(232) };
            damaged[bit as usize / 8] ^= 1 << (bit % 8);
        }
        if damaged == token {
            continue;
        }
        peer.token = damaged;
        let forged = peer.datagrams(Level::Initial, &peer.hello.clone());
        refused += give(&mut server, peer.addr, &forged);
    }
    peer.token = token;
    // Too old.
    let mut late = Victim::server(RetryPolicy::Always);
    let mut latecomer = with_cookie(&mut late, 43);
    late.pass(Duration::from_secs(13));
    refused += give(&mut late, latecomer.addr, &latecomer.take());
    // In time, from the right place: once, also for another hello, also after the first has ended.
    let before = server.endpoint.connection_count();
    hello.iter().for_each(|datagram| server.give(peer.addr, datagram));
    server.listen(&mut peer);
    let first = server.endpoint.connection_count() - before;
    server.talk(&mut peer);
    if let Some(handle) = server.newest() {
        server.endpoint.forget(server.now, handle);
    }
    server.pass(Duration::from_secs(5));
    let uses = used_again(&mut server, &peer);
    let held = refused == 0 && first == 1 && uses == 0;
    Figure::new(
        held,
        format!(
            "{flips} damaged and 4 of others: {refused} accepted; the true one {} time(s), another hello included",
            first + uses
        ),
    )
}

/// Row 43: handshakes that stop when the server has done its part.
pub(super) fn half_open(run: &mut Run) -> Figure {
    let count = run.count(100, 10_000);
    let mut server = Victim::server(RetryPolicy::Never);
    let pool = hellos(count);
    // What the first few need is needed once.
    for (n, hello) in hellos(3).into_iter().enumerate() {
        let from = SocketAddr::from(([10, 9, 8, n as u8], 9));
        hello.iter().for_each(|datagram| server.give(from, datagram));
    }
    server.take();
    let before = allocated();
    for (n, hello) in pool.iter().enumerate() {
        let [.., b, c, d] = (n as u32).to_be_bytes();
        let from = SocketAddr::from(([10, b, c, d], 4000));
        hello.iter().for_each(|datagram| server.give(from, datagram));
        server.take();
    }
    let each = allocated().saturating_sub(before) / count;
    let held_back = server.endpoint.connection_count() as u64;
    server.pass(Duration::from_secs(10));
    let ended = server
        .events
        .iter()
        .filter(|(_, event)| matches!(event, jsp_proto::Event::Closed { .. }))
        .count() as u64;
    let all_ended = ended == held_back && held_back == count + 3;
    let largest = limits::HELLO_LEN_MAX as u64;
    Figure::new(
        each <= largest && all_ended,
        format!("{each} bytes each of {count}; {ended} of {held_back} ended after 10 s"),
    )
}
