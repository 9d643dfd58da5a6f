//! Attacks by those who are not the peer: off the path, on its side, before it.

use std::sync::Arc;
use std::time::Duration;

use jsp_crypto::{
    ClientConfig, Fingerprint, Identity, Role, ServerConfig, ServerIdentity, ServerVerifier,
    VERSION_1, VerifierRejection, initial_keys,
};
use jsp_proto::RetryPolicy;
use jsp_wire::frame::HandshakeFragment;
use jsp_wire::header::{write_retry, write_version_negotiation};
use jsp_wire::{ConnectionId, Frame, FrameIter, Header, LongType, Shape, Writer};

use super::exchange::hellos_tried;
use crate::peer::{Peer, Random, frame, long_packet, open_long};
use crate::row::{Figure, Run};
use crate::victim::{CLIENT, ELSEWHERE, SERVER, Victim, addr, pin, pinned};
use crate::wires::{DELAY, To, Wires};

/// What must stay as it is, as far as one sees it: statistics but for what was received, and the
/// next deadline.
fn state(victim: &mut Victim, handle: jsp_proto::ConnectionHandle) -> String {
    let mut stats = victim.connection(handle).stats();
    stats.traffic.datagrams_received = 0;
    stats.traffic.bytes_received = 0;
    let silent = victim.take().is_empty();
    format!("{stats:?} {:?} {silent}", victim.deadline())
}

/// Row 4: forged packets change nothing, and hide nothing.
pub(super) fn forgeries(run: &mut Run) -> Figure {
    let mut server = Victim::server(RetryPolicy::Never);
    let (mut peer, handle) = server.befriend(21);
    for _ in 0..5 {
        let ping = peer.frames(&[1]);
        server.hit(&mut peer, &ping);
        server.pass(Duration::from_millis(50));
    }
    let before = state(&mut server, handle);
    let random = &mut run.random.clone();
    // A true packet, held back: its copies are damaged.
    let held_back = peer.frames(&frame(&Frame::PathChallenge([7; 8])));
    let count = run.count(5_000, 1_000_000);
    for n in 0..count {
        let mut forged = held_back.clone();
        match n % 3 {
            0 => forged[1 + 4..].copy_from_slice(&random.bytes(held_back.len() - 5)),
            1 => {
                let at = 5 + random.place(forged.len() - 5);
                forged[at] ^= 1 << random.below(8);
            }
            _ => {
                // A high number under a wrong key.
                let pn = peer.pn + random.below(1 << 30);
                let other = initial_keys(Role::Client, VERSION_1, &n.to_be_bytes(), None);
                let keys = (&other.local.packet, &other.local.header);
                let id = &peer.remote_id;
                forged =
                    crate::peer::short_packet(id, Shape::Frames, n % 2 == 0, pn, &[1; 30], keys);
            }
        }
        server.give(peer.addr, &forged);
    }
    let unchanged = state(&mut server, handle) == before;
    peer.heard.clear();
    server.hit(&mut peer, &held_back);
    let answered = peer
        .heard
        .iter()
        .any(|heard| heard.frames().any(|frame| frame == Frame::PathResponse([7; 8])));
    let verdict = if unchanged { "nothing changed" } else { "the state changed" };
    let taken = if answered { "taken" } else { "lost" };
    Figure::new(
        unchanged && answered,
        format!("{count}: {verdict}, the next true packet was {taken}"),
    )
}

/// Row 24: each number is taken once, and none is lost that is near.
pub(super) fn replays(run: &mut Run) -> Figure {
    let mut server = Victim::server(RetryPolicy::Never);
    let (mut peer, _) = server.befriend(31);
    let random = &mut run.random.clone();
    let count = run.count(8_000, 1_000_000);
    let start = 1u64 << 16;
    let mut largest = start;
    let (mut seen, mut twice, mut lost) = (std::collections::HashSet::new(), 0u64, 0u64);
    for n in 0..count {
        // In order, a little behind, far behind, or far ahead.
        let pn = match random.below(8) {
            0..=3 => largest + 1,
            4 | 5 => largest.saturating_sub(random.below(2_000)),
            6 => largest.saturating_sub(random.below(1 << 16)),
            _ => largest + random.below(200),
        };
        let is_near = pn + 2_000 > largest;
        largest = largest.max(pn);
        let mut payload = frame(&Frame::PathChallenge(n.to_be_bytes()));
        if n % 4 == 0 {
            payload.splice(0..0, peer.ack());
        }
        let packet = peer.short_numbered(Shape::Frames, pn, &payload);
        server.now = server.now + Duration::from_millis(1);
        let mut answers = 0;
        for copy in 0..=random.below(3) {
            peer.heard.clear();
            server.hit(&mut peer, &packet);
            let wanted = Frame::PathResponse(n.to_be_bytes());
            let answered = peer.heard.iter().any(|h| h.frames().any(|frame| frame == wanted));
            answers += u64::from(answered);
            twice += u64::from(answered && copy > 0);
        }
        let is_new = seen.insert(pn);
        twice += u64::from(!is_new && answers > 0);
        lost += u64::from(is_new && is_near && answers == 0);
    }
    let held = twice == 0 && lost == 0;
    Figure::new(held, format!("{count} packets and their copies: {twice} taken twice, {lost} lost"))
}

/// Things that somebody can send who knows addresses and nothing else.
fn junk(random: &mut Random, n: u64) -> Vec<u8> {
    let id = ConnectionId::new(&random.bytes(8)).expect("an id");
    let mut buf = [0; 300];
    let mut writer = Writer::new(&mut buf);
    match n % 4 {
        0 => {
            let keys = initial_keys(Role::Server, VERSION_1, id.as_bytes(), None);
            let close = frame(&Frame::Ping);
            long_packet(LongType::Initial, (ConnectionId::EMPTY, id), &[], n, &close, &keys.local)
        }
        1 => {
            write_retry(&mut writer, &ConnectionId::EMPTY, &id, &random.bytes(29)).expect("room");
            let mut packet = writer.written().to_vec();
            packet.extend(jsp_crypto::retry_integrity_tag(VERSION_1, id.as_bytes(), &packet));
            packet
        }
        2 => {
            write_version_negotiation(&mut writer, &[], id.as_bytes(), &[7, 8]).expect("room");
            writer.written().to_vec()
        }
        _ => {
            let mut reset = random.bytes(40);
            reset[0] = reset[0] & 0x3f | 0x40;
            reset
        }
    }
}

/// Row 11: a handshake under fire from off the path goes as one without.
pub(super) fn off_path(run: &mut Run) -> Figure {
    let total = run.count(20_000, 1_000_000);
    let rounds = run.count(5, 100);
    let random = &mut run.random.clone();
    let (mut differ, mut sent) = (0u64, 0u64);
    for seed in 0..rounds {
        let mut went = Vec::new();
        for under_fire in [false, true] {
            let client = Victim::client(seed as u8);
            let mut wires = Wires::new(client, Victim::server(RetryPolicy::Never));
            let handle = wires.client.connect(pinned());
            let start = wires.now();
            let each = if under_fire { total / rounds / 8 } else { 0 };
            let connected = wires.run(Duration::from_secs(5), |wires| {
                for n in 0..each {
                    sent += 1;
                    wires.client.give(addr(SERVER), &junk(random, n));
                }
                wires.client.connection(handle).is_established()
            });
            went.push((connected, wires.now().since(start), wires.sent_by_client));
        }
        differ += u64::from(went[0] != went[1] || !went[0].0);
    }
    Figure::new(
        differ == 0,
        format!("{sent} packets in {rounds} handshakes, {differ} went otherwise"),
    )
}

/// Accepts one server only.
struct Only(Fingerprint);

impl ServerVerifier for Only {
    fn verify(&self, found: &Fingerprint) -> Result<(), VerifierRejection> {
        if *found == self.0 { Ok(()) } else { Err(VerifierRejection("another server")) }
    }
}

/// A Retry by somebody who has seen the hello.
fn forged_retry(hello: &[u8], random: &mut Random) -> Vec<u8> {
    let Ok(Header::Long(header)) = Header::parse(hello) else { return Vec::new() };
    let source = ConnectionId::new(&random.bytes(8)).expect("an id");
    let mut buf = [0; 300];
    let mut writer = Writer::new(&mut buf);
    write_retry(&mut writer, &header.scid, &source, &random.bytes(29)).expect("room");
    let mut packet = writer.written().to_vec();
    packet.extend(jsp_crypto::retry_integrity_tag(VERSION_1, header.dcid.as_bytes(), &packet));
    packet
}

/// What somebody who has seen the hello makes up beside a datagram of the server: pieces of long messages,
/// other bytes and another length under the name of the server's message, and what is no frame at all.
fn beside(hello: &[u8], answer: &[u8], random: &mut Random) -> Vec<Vec<u8>> {
    let Ok(Header::Long(header)) = Header::parse(hello) else { return Vec::new() };
    let keys = initial_keys(Role::Client, VERSION_1, header.dcid.as_bytes(), None);
    let long = random.bytes(8).try_into().expect("eight bytes");
    let longer = random.bytes(8).try_into().expect("eight bytes");
    let mut pieces = vec![(long, 0, 12288, 100), (longer, 500, 12288, 100)];
    if let Some((_, payload)) = open_long(answer, 0, &keys.remote) {
        pieces.extend(FrameIter::new(&payload).flatten().find_map(|frame| match frame {
            Frame::Handshake(piece) => {
                let end = piece.offset + piece.data.len() as u16;
                let (from, len) =
                    if end < piece.total { (end, piece.total - end) } else { (0, piece.offset) };
                Some((piece.id, from, piece.total, len))
            }
            _ => None,
        }));
        if let Some((id, _, total, _)) = pieces.get(2).copied() {
            pieces.push((id, 0, total - 1, 50));
        }
    }
    let bytes = random.bytes(1200);
    let frames = pieces.into_iter().map(|(id, offset, total, len)| {
        let data = &bytes[..usize::from(len).min(1100)];
        frame(&Frame::Handshake(HandshakeFragment { id, offset, total, data }))
    });
    let ids = (header.scid, ConnectionId::new(&[0xee; 8]).expect("an id"));
    let packets = frames.chain([vec![0xff]]).zip(50..);
    let packets = packets
        .map(|(payload, pn)| long_packet(LongType::Initial, ids, &[], pn, &payload, &keys.remote));
    packets.collect()
}

/// Row 12: whole false answers are there before the true one, pieces of others beside it each time, and
/// Retries that nobody asked for.
pub(super) fn on_the_side(run: &mut Run) -> Figure {
    let count = run.count(40, 20_000);
    let random = &mut run.random.clone();
    let mut failed = 0u64;
    for n in 0..count {
        let policy = if n % 3 == 0 { RetryPolicy::Always } else { RetryPolicy::Never };
        let mut wires = Wires::new(Victim::client(n as u8), Victim::server(policy));
        let expected = ServerIdentity::TrustOnFirstUse(Box::new(Only(pin())));
        let handle = wires.client.connect(ClientConfig::new(expected));
        let hello = wires.client.take();
        for fake in 0..=n % 4 {
            if n % 8 < fake * 2 {
                wires.client.give(addr(SERVER), &forged_retry(&hello[0].1, random));
                continue;
            }
            let other = Arc::new(Identity::from_seed(&[90 + fake as u8; 32]).expect("a seed"));
            let config = ServerConfig::new(other);
            let mut peer = Peer::server(addr(SERVER), config, &hello[0].1, n + fake * 977, |_| {});
            hello.iter().for_each(|(_, datagram)| peer.read(datagram));
            for datagram in peer.take() {
                wires.client.give(addr(SERVER), &datagram);
            }
        }
        if n % 2 == 1 {
            let (first, mut random) = (hello[0].1.clone(), random.clone());
            wires.weather = Box::new(move |to, bytes| {
                let forged = match to {
                    To::Client => beside(&first, &bytes, &mut random),
                    To::Server => Vec::new(),
                };
                std::iter::once(bytes).chain(forged).map(|bytes| (DELAY, bytes)).collect()
            });
        }
        for (_, datagram) in hello {
            wires.launch(To::Server, addr(CLIENT), Duration::from_millis(10), datagram);
        }
        failed += u64::from(wires.until_connected(handle, Duration::from_secs(5)).is_none());
    }
    let tried = hellos_tried(50, random);
    let held = failed * 1000 <= count && tried == 5;
    Figure::new(held, format!("{failed} of {count} failed; {tried} exchanges for 50 server hellos"))
}

/// Row 13: the same hello, from elsewhere, first.
pub(super) fn hello_race(run: &mut Run) -> Figure {
    let count = run.count(40, 20_000);
    let mut harmed = 0u64;
    let mut worst = 0u64;
    for n in 0..count {
        let mut wires = Wires::new(Victim::client(n as u8), Victim::server(RetryPolicy::Never));
        let handle = wires.client.connect(pinned());
        let hello = wires.client.take();
        for (_, datagram) in &hello {
            wires.launch(To::Server, addr(ELSEWHERE), Duration::from_millis(1), datagram.clone());
        }
        for (_, datagram) in hello {
            wires.launch(To::Server, addr(CLIENT), Duration::from_millis(10), datagram);
        }
        let took = wires.until_connected(handle, Duration::from_secs(5));
        let whole = took.is_some_and(|took| took < Duration::from_millis(100));
        wires.run(Duration::from_secs(1), |_| false);
        harmed += u64::from(!whole || wires.client.end_of(handle).is_some());
        let (got, gave) = wires.account.get(&addr(ELSEWHERE)).copied().unwrap_or_default();
        worst = worst.max(gave * 1000 / got.max(1));
    }
    let held = harmed == 0 && worst <= 3000;
    let worst = worst as f64 / 1000.0;
    Figure::new(held, format!("{harmed} of {count} harmed; the thief got {worst:.3} bytes for one"))
}
