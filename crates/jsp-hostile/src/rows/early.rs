//! Attacks on early data: copies, full registers, streams where a copy does harm.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use jsp_crypto::{ClientTicket, Mode};
use jsp_proto::{
    ConnectionHandle, Event, Instant, Message, StreamConfig, StreamId, TransportConfig,
};
use jsp_wire::frame::{BytesFrame, StreamLimit};
use jsp_wire::stream::open_id;
use jsp_wire::{CloseCode, Frame, Open, Writer, tlv};

use super::tickets::{forged_refusal, given, ticket_of};
use crate::peer::{Peer, Random, UNIX_SECONDS, frame};
use crate::row::{Figure, Run};
use crate::victim::{CLIENT, ELSEWHERE, SERVER, Victim, addr};
use crate::wires::{DELAY, To, Wires};

/// Longer than a register is blind that was not there before.
const BLIND: Duration = Duration::from_secs(22);

/// A stream whose data may be early.
fn safe() -> StreamConfig {
    StreamConfig::messages().replay_safe()
}

/// What the applications of a server hear: texts, each with its count.
#[derive(Default)]
struct Ears {
    texts: BTreeMap<String, u64>,
    known: HashSet<ConnectionHandle>,
    streams: Vec<(ConnectionHandle, StreamId)>,
}

impl Ears {
    /// Another server: connections are told apart by their server alone.
    fn turn(&mut self) {
        self.known.clear();
        self.streams.clear();
    }

    fn listen(&mut self, server: &mut Victim) {
        let opened = server.events.drain(..).filter_map(|(handle, event)| match event {
            Event::StreamOpened { .. } => Some(handle),
            _ => None,
        });
        self.known.extend(opened);
        let now = server.now;
        for handle in &self.known {
            let Some(connection) = server.endpoint.connection(*handle) else { continue };
            self.streams.extend(std::iter::from_fn(|| connection.accept()).map(|s| (*handle, s)));
        }
        for (handle, stream) in &self.streams {
            let Some(connection) = server.endpoint.connection(*handle) else { continue };
            while let Ok(Some(message)) = connection.recv(now, *stream) {
                let text = message.text().unwrap_or("?").to_owned();
                *self.texts.entry(text).or_default() += 1;
            }
        }
    }

    fn count(&self, text: &str) -> u64 {
        self.texts.get(text).copied().unwrap_or(0)
    }
}

/// The first flight of a client whose clock has run `skew` milliseconds too far since its ticket came.
fn first_flight(ticket: ClientTicket, now: Instant, skew: i64, text: &str) -> Vec<Vec<u8>> {
    let seed = text.bytes().fold(7u8, |seed, byte| seed.wrapping_mul(31).wrapping_add(byte));
    let mut client = Victim::client(seed);
    client.now = Instant::from_nanos(now.as_nanos().saturating_add_signed(skew * 1_000_000));
    let handle = client.resume(ticket);
    client.say(handle, safe(), text);
    client.take().into_iter().map(|(_, datagram)| datagram).collect()
}

/// Home, another shard, and who hears what there.
struct Shards {
    servers: [Victim; 2],
    ears: [Ears; 2],
}

impl Shards {
    fn new(now: Instant) -> Self {
        let shard = |number| Victim::shard(now, 0, (1, number), TransportConfig::default());
        let mut servers = [shard(0), shard(1)];
        servers.iter_mut().for_each(|server| drop(server.pass(BLIND)));
        Self { servers, ears: Default::default() }
    }

    fn give(&mut self, at: usize, from: u64, flight: &[Vec<u8>]) {
        let port = 1000 + (from % 60_000) as u16;
        let from = std::net::SocketAddr::new(addr(ELSEWHERE).ip(), port);
        for datagram in flight {
            self.servers[at].give(from, datagram);
        }
        self.servers[at].take();
        self.ears[at].listen(&mut self.servers[at]);
    }

    fn pass(&mut self, time: Duration) {
        self.servers.iter_mut().for_each(|server| drop(server.pass(time)));
    }

    /// The home is there anew: with the old ticket keys or others, and a clock that is set.
    fn restart(&mut self, secret: u8, shift: i64) {
        let now = self.servers[0].now;
        self.servers[0] = Victim::shard(now, shift, (secret, 0), TransportConfig::default());
        self.ears[0].turn();
    }

    fn count(&self, text: &str) -> u64 {
        self.ears.iter().map(|ears| ears.count(text)).sum()
    }
}

/// When copies come: the edges of what is fresh and of what is blind, and any moment.
fn moments(count: u64, random: &mut Random) -> Vec<u64> {
    let edges =
        [0, 1, 9_980, 9_999, 10_000, 19_950, 19_998, 19_999, 20_000, 20_001, 20_990, 21_001];
    let mut all: Vec<u64> = (0..count).map(|_| random.below(70_000)).chain(edges).collect();
    all.sort_unstable();
    all
}

/// Row 20: one first flight again and again, to two shards, over restarts and set clocks.
pub(super) fn copies(run: &mut Run) -> Figure {
    let (rounds, copies) = (run.count(40, 100), run.count(20, 10_000));
    let random = &mut run.random.clone();
    let (mut given_out, mut taken, mut worst) = (0u64, 0u64, 0u64);
    for round in 0..rounds {
        let mut shards = Shards::new(Instant::from_nanos(1_000_000_000));
        let ticket = ticket_of(&mut shards.servers[0], round as u8);
        shards.servers[1].now = shards.servers[0].now;
        // A client's clock may say less than it should, but not that the ticket has not come yet.
        shards.pass(Duration::from_secs(12));
        let text = format!("early {round}");
        let skew = [0, 9_980, -9_980, 5_000, 10_020][round as usize % 5];
        let flight = first_flight(ticket, shards.servers[0].now, skew, &text);
        shards.give(usize::from(round % 3 == 2), 0, &flight);
        taken += u64::from(shards.count(&text) == 1);
        // A clock may be behind by the second that starts differ by; further back only with new keys.
        match round % 8 {
            0 => shards.restart(1, 0),
            1 => shards.restart(1, -1),
            2 => shards.restart(1, 60),
            3 => shards.restart(2, -60),
            _ => {}
        }
        // A copy that comes while the server is blind is refused, and remembered for that: here none does.
        let first = if round % 8 == 1 { 20_001 } else { 0 };
        let mut at = 0;
        for moment in moments(copies, random).into_iter().filter(|moment| *moment >= first) {
            shards.pass(Duration::from_millis(moment - at));
            at = moment;
            for shard in 0..2 {
                shards.give(shard, random.number(), &flight);
                given_out += 1;
            }
        }
        worst = worst.max(shards.count(&text));
    }
    let (late_copies, late_worst) = late_copies(run.count(8, 40), copies.min(1000), random);
    let held = worst == 1 && taken > rounds / 3 && late_worst == 1;
    Figure::new(
        held,
        format!(
            "{given_out} copies; {taken} of {rounds} taken at first; {worst} times at most; \
             {late_copies} copies of what came after the handshake; {late_worst} times at most"
        ),
    )
}

/// What keeps early data from being taken as such, so that they come after the handshake.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Obstacle {
    /// The server has begun a moment ago.
    Blind,
    /// The client's clock is so many seconds ahead.
    Ahead(u64),
    /// The register has no room, and turns soon.
    Full,
    /// The attacker holds the hello back and says that the ticket is refused.
    Lie,
}

/// Another client's early data are taken.
fn take_one(server: &mut Victim, ticket: ClientTicket) {
    for datagram in first_flight(ticket, server.now, 0, "another") {
        server.give(addr(ELSEWHERE), &datagram);
    }
    server.take();
}

/// A client that is heard after the handshake, and the first flight that the attacker has caught.
fn heard_late(round: u8, obstacle: Obstacle, text: &str) -> (Shards, Vec<Vec<u8>>) {
    let room = if obstacle == Obstacle::Full { 1 } else { 100 };
    let few = TransportConfig { early_tickets_max: room, ..TransportConfig::default() };
    let mut server = Victim::shard(Instant::from_nanos(1_000_000_000), 0, (1, 0), few);
    let tickets = [ticket_of(&mut server, round), ticket_of(&mut server, round ^ 0x80)];
    let [ticket, another] = tickets;
    server.pass(if obstacle == Obstacle::Blind { BLIND / 2 } else { BLIND });
    if obstacle == Obstacle::Full {
        take_one(&mut server, another);
        server.pass(Duration::from_secs(15));
    }
    server.events.clear();
    let mut client = match obstacle {
        Obstacle::Ahead(seconds) => Victim::client_ahead(77, seconds),
        _ => Victim::client(77),
    };
    client.now = server.now;
    let handle = client.resume(ticket);
    client.say(handle, safe(), text);
    let flight: Vec<Vec<u8>> = client.take().into_iter().map(|(_, bytes)| bytes).collect();
    let mut wires = Wires::new(client, server);
    if obstacle == Obstacle::Lie {
        let forged = forged_refusal(&flight[0]).expect("a hello");
        wires.launch(To::Client, addr(SERVER), DELAY, forged);
    } else {
        flight.iter().for_each(|datagram| {
            wires.launch(To::Server, addr(CLIENT), DELAY, datagram.clone());
        });
    }
    let mut ears = Ears::default();
    wires.until_connected(handle, Duration::from_secs(5));
    wires.run(Duration::from_millis(200), |wires| {
        ears.listen(&mut wires.server);
        false
    });
    let elsewhere = Victim::shard(wires.server.now, 0, (1, 1), TransportConfig::default());
    let shards = Shards { servers: [wires.server, elsewhere], ears: [ears, Ears::default()] };
    (shards, flight)
}

/// A part of row 20: early data that were refused and came after the handshake, and then copies of the
/// first flight. How many copies, and how often one was heard at most.
fn late_copies(rounds: u64, copies: u64, random: &mut Random) -> (u64, u64) {
    let (mut given_out, mut worst) = (0u64, 0u64);
    let obstacles =
        [Obstacle::Blind, Obstacle::Ahead(15), Obstacle::Full, Obstacle::Lie, Obstacle::Ahead(40)];
    for round in 0..rounds {
        let text = format!("late {round}");
        let obstacle = obstacles[round as usize % obstacles.len()];
        let (mut shards, flight) = heard_late(round as u8, obstacle, &text);
        let mut at = 0;
        for moment in moments(copies, random) {
            shards.pass(Duration::from_millis(moment - at));
            at = moment;
            shards.give(0, random.number(), &flight);
            given_out += 1;
        }
        // None at all is as bad as two.
        worst = worst.max(if shards.count(&text) == 0 { 99 } else { shards.count(&text) });
    }
    (given_out, worst)
}

/// What an honest client has from this server with a ticket: connected, resumed, early, its message
/// heard once.
fn resumed(server: Victim, ticket: ClientTicket, text: &str) -> (Victim, bool, Mode, bool, u64) {
    let mut client = Victim::client(77);
    client.now = server.now;
    let mut wires = Wires::new(client, server);
    wires.server.events.clear();
    let handle = wires.client.resume(ticket);
    wires.client.say(handle, safe(), text);
    let mut ears = Ears::default();
    let connected = wires.until_connected(handle, Duration::from_secs(5)).is_some();
    wires.run(Duration::from_secs(1), |wires| {
        ears.listen(&mut wires.server);
        false
    });
    let security = wires.client.connection(handle).security();
    let (mode, early) = security.map_or((Mode::Full, false), |s| (s.mode, s.early_data));
    (wires.server, connected, mode, early, ears.count(text))
}

/// Row 21: more early data than the register holds; a server whose clock has leapt.
pub(super) fn full_register(run: &mut Run) -> Figure {
    let room = 8u64;
    let tries = run.count(20, 300);
    let few = TransportConfig { early_tickets_max: room as usize, ..TransportConfig::default() };
    let start = Instant::from_nanos(1_000_000_000);
    let mut server = Victim::shard(start, 0, (1, 0), few);
    server.pass(BLIND);
    let tickets: Vec<ClientTicket> = (0..tries).map(|n| ticket_of(&mut server, n as u8)).collect();
    // A generation begins, and does not turn meanwhile: the attacker's are quick.
    server.pass(BLIND);
    let (mut early, mut failed) = (0u64, 0u64);
    let honest = ticket_of(&mut server, 99);
    for (n, ticket) in tickets.into_iter().enumerate() {
        let text = format!("flood {n}");
        let mut ears = Ears::default();
        for datagram in first_flight(ticket, server.now, 0, &text) {
            server.give(addr(ELSEWHERE), &datagram);
        }
        server.take();
        ears.listen(&mut server);
        early += ears.count(&text);
    }
    let (_, connected, mode, was_early, heard) = resumed(server, honest, "honest");
    failed += u64::from(!connected || mode != Mode::Resumed || was_early || heard != 1);
    let shifts = [1, 9, 11, 60, -1, -9, -60, 3_600, -3_600, 13 * 3_600, -13 * 3_600, 400 * 86_400];
    let (mut jumps, mut early_after) = (0u64, 0u64);
    for shift in shifts {
        let mut server = Victim::shard(start, 0, (1, 0), TransportConfig::default());
        server.pass(BLIND);
        let ticket = ticket_of(&mut server, 5);
        let now = server.now;
        let server = Victim::shard(now, shift, (1, 0), TransportConfig::default());
        let (_, connected, _, was_early, heard) = resumed(server, ticket, "after the jump");
        jumps += 1;
        failed += u64::from(!connected || heard != 1);
        early_after += u64::from(was_early);
    }
    Figure::new(
        early == room && failed == 0 && early_after == 0,
        format!(
            "{early} of {tries} taken with room for {room}; {jumps} jumps, early data after them \
             {early_after}; {failed} handshakes failed"
        ),
    )
}

/// Bytes on a stream, with an opening that says replay-safe or not, or with none.
fn bytes_on(stream: StreamId, opening: Option<bool>) -> Vec<u8> {
    let mut room = [0; 8];
    let mut writer = Writer::new(&mut room);
    if opening == Some(true) {
        tlv::write(&mut writer, open_id::REPLAY_SAFE, &[]).expect("room");
    }
    let profile = StreamConfig::bytes().profile();
    let open = opening.map(|_| Open { profile, params: writer.written() });
    let data = b"harm";
    frame(&Frame::Bytes(BytesFrame { stream, offset: 0, data, fin: false, open, to_end: false }))
}

/// Row 23: a client that sends early what must not come early.
pub(super) fn unsafe_streams(run: &mut Run) -> Figure {
    let (one, two) = (StreamId::new(1, false), StreamId::new(2, false));
    let limit = StreamLimit { stream: two, value: 0 };
    let wrong: Vec<Vec<Vec<u8>>> = vec![
        vec![bytes_on(one, Some(false))],
        vec![bytes_on(one, None)],
        vec![bytes_on(StreamId::SIGNALLING, None)],
        vec![bytes_on(one, Some(true)), bytes_on(two, Some(false))],
        vec![[bytes_on(one, Some(true)), bytes_on(two, Some(false))].concat()],
        vec![frame(&Frame::Finish(limit))],
        vec![frame(&Frame::MaxData(1 << 40))],
        vec![frame(&Frame::MaxStreams(1 << 20))],
        vec![frame(&Frame::MaxStreamData(limit))],
        vec![frame(&Frame::HandshakeDone)],
        vec![frame(&Frame::PathChallenge([0; 8]))],
        vec![frame(&Frame::Ticket(&[0; 169]))],
        vec![frame(&Frame::Exchange(&[0; 60]))],
        // More than the ticket allows.
        (0..20).map(|_| vec![0; 1000]).collect(),
    ];
    let (mut served, mut heard, mut tries) = (Vec::new(), 0u64, 0u64);
    for round in 0..run.count(1, 50) {
        for (n, packets) in wrong.iter().enumerate() {
            let (mut server, ticket) = given(round as u8);
            let mut peer = hostile_resumption(&server, ticket, round);
            let (code, bytes) = send_early(&mut server, &mut peer, packets);
            tries += 1;
            // What came on a stream that is replay-safe may be handed out before.
            let harmless = if matches!(n, 3 | 4) { 4 } else { 0 };
            heard += u64::from(bytes > harmless);
            if code != Some(CloseCode::EARLY_DATA.0) {
                served.push(n);
            }
        }
    }
    let (mut server, ticket) = given(200);
    let mut peer = hostile_resumption(&server, ticket, 200);
    let (code, bytes) = send_early(&mut server, &mut peer, &[bytes_on(one, Some(true))]);
    let control = code.is_none() && bytes == 4;
    Figure::new(
        control && served.is_empty() && heard == 0,
        format!(
            "{tries} tries; closed with another code or not: {served:?}; {heard} handed out; \
             the control {}",
            if control { "was taken" } else { "was not" }
        ),
    )
}

fn hostile_resumption(server: &Victim, ticket: ClientTicket, seed: u64) -> Peer {
    let now_ms = UNIX_SECONDS * 1000 + server.now.as_nanos() / 1_000_000;
    Peer::resuming(addr(CLIENT), ticket, 300 + seed, now_ms)
}

/// The hello and these 0-RTT packets: the code of the close, and bytes that the application was handed.
fn send_early(server: &mut Victim, peer: &mut Peer, packets: &[Vec<u8>]) -> (Option<u64>, usize) {
    server.events.clear();
    for datagram in peer.take() {
        server.give(peer.addr, &datagram);
    }
    for packet in packets {
        let packet = peer.early(packet);
        server.give(peer.addr, &packet);
    }
    server.take();
    let handle = server.newest().expect("the ticket is good");
    let (now, mut bytes) = (server.now, 0);
    if let Some(connection) = server.endpoint.connection(handle) {
        let streams: Vec<StreamId> = std::iter::from_fn(|| connection.accept()).collect();
        for stream in streams {
            while let Ok(Some(data)) = connection.read(now, stream, 100) {
                bytes += data.len();
            }
        }
    }
    (server.close_code(handle), bytes)
}

/// A part of row 9: a first flight with early data, from a stranger's address, answered with as much as
/// the server will; the most bytes out for one in.
pub(super) fn early_amplification(seeds: u64) -> f64 {
    let mut worst = 0.0f64;
    for seed in 0..seeds {
        let mut random = Random::new(seed + 900);
        let (mut server, ticket) = given(seed as u8);
        let flight = first_flight(ticket, server.now, 0, "ask");
        let mut account: BTreeMap<std::net::SocketAddr, (u64, u64)> = BTreeMap::new();
        let places = ["203.0.113.9:9", "203.0.113.10:9", "192.0.2.1:1001"].map(addr);
        for _ in 0..1 + random.below(6) {
            let from = places[random.place(places.len())];
            for datagram in &flight {
                account.entry(from).or_default().0 += datagram.len() as u64;
                server.give(from, datagram);
            }
            let mut out = server.take();
            if let Some(handle) = server.newest() {
                answer_at_length(&mut server, handle);
            }
            out.extend(server.pass(Duration::from_millis(random.below(2_000))));
            for (to, bytes) in out {
                account.entry(to).or_default().1 += bytes.len() as u64;
            }
            worst = account.values().fold(worst, |worst, (got, sent)| {
                if *sent == 0 { worst } else { worst.max(*sent as f64 / *got as f64) }
            });
        }
        for (to, bytes) in server.pass(Duration::from_secs(20)) {
            account.entry(to).or_default().1 += bytes.len() as u64;
        }
        worst = account.values().fold(worst, |worst, (got, sent)| {
            if *sent == 0 { worst } else { worst.max(*sent as f64 / *got as f64) }
        });
    }
    worst
}

/// A part of row 9: a client that is answered has its hello come again from somebody else's address, and all that it
/// sends from then on, its finish first; the most bytes out for one in.
pub(super) fn pointed_at_another(seeds: u64) -> f64 {
    let mut worst = 0.0f64;
    let victim = addr("203.0.113.9:9");
    for seed in 0..seeds {
        let (mut server, ticket) = given(seed as u8);
        let mut peer = hostile_resumption(&server, ticket, seed);
        let hello = peer.take();
        let asks = peer.early(&bytes_on(StreamId::new(1, false), Some(true)));
        hello.iter().chain([&asks]).for_each(|datagram| server.give(peer.addr, datagram));
        server.take().iter().for_each(|(_, datagram)| peer.read(datagram));
        let (mut got, mut sent) = (0usize, 0usize);
        for datagram in hello.into_iter().chain(peer.take()) {
            got += datagram.len();
            server.give(victim, &datagram);
        }
        let handle = server.newest().expect("the ticket is good");
        let now = server.now;
        let connection = server.connection(handle);
        if let Some(stream) = connection.accept() {
            let _ = connection.write(now, stream, vec![0; 100_000].into());
        }
        for _ in 0..30 {
            let out = server.pass(Duration::from_millis(100));
            sent += out.iter().filter(|(to, _)| *to == victim).map(|(_, b)| b.len()).sum::<usize>();
            worst = worst.max(sent as f64 / got as f64);
            let ping = peer.frames(&frame(&Frame::Ping));
            got += ping.len();
            server.give(victim, &ping);
        }
    }
    worst
}

fn answer_at_length(server: &mut Victim, handle: ConnectionHandle) {
    let now = server.now;
    let Some(connection) = server.endpoint.connection(handle) else { return };
    let streams: Vec<StreamId> = std::iter::from_fn(|| connection.accept()).collect();
    for stream in streams {
        let _ = connection.send(now, stream, Message::from("a".repeat(100_000)));
    }
}
