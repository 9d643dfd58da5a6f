//! Attacks on what the victim keeps and does for a peer with keys.

use std::time::{Duration, Instant as Clock};

use bytes::Bytes;
use jsp_proto::{RetryPolicy, StreamConfig, TransportConfig};
use jsp_wire::frame::ResetStream;
use jsp_wire::params::feature;
use jsp_wire::{CloseCode, ConnectionId, Frame, Payload, StreamId};

use super::frames::{bytes_frame, varint};
use crate::allocated;
use crate::peer::{Peer, Random, frame, generous};
use crate::row::{Figure, Run, Scale};
use crate::victim::{CLIENT, Victim, addr, pinned};

/// An ACK frame from its numbers: largest, then first run, then gaps and runs.
fn ack(largest: u64, first_run: u64, further: &[(u64, u64)]) -> Vec<u8> {
    let mut out = vec![0x08];
    out.extend(varint(largest));
    out.push(0);
    out.extend(varint(further.len() as u64));
    out.extend(varint(first_run));
    further.iter().for_each(|(gap, run)| out.extend([varint(*gap), varint(*run)].concat()));
    out
}

/// Row 30: a receiver that acknowledges everything, also what it did not get.
pub(super) fn optimistic(run: &mut Run) -> Figure {
    let tries = run.count(3, 50);
    let (mut uncaught, mut worst) = (0u64, 0.0f64);
    for seed in 0..tries {
        let mut server =
            Victim::server_with(RetryPolicy::Never, TransportConfig::default(), seed as u8);
        let (mut peer, handle) = server.befriend(81 + seed);
        let now = server.now;
        let stream = server.connection(handle).open(now, StreamConfig::bytes()).expect("a stream");
        let (mut highest, mut window) = (0u64, 0u64);
        for _ in 0..4000 {
            let now = server.now;
            let room = Bytes::from(vec![0; 1 << 16]);
            let _ = server.connection(handle).write(now, stream, room);
            for (n, (_, datagram)) in server.pass(Duration::from_millis(5)).into_iter().enumerate()
            {
                // Half of it is dropped, and said to be there.
                if n % 2 == 0 {
                    peer.read(&datagram);
                }
            }
            highest =
                peer.heard.drain(..).map(|heard| heard.pn).max().unwrap_or(highest).max(highest);
            let everything = peer.frames(&ack(highest, highest, &[]));
            server.hit(&mut peer, &everything);
            if server.close_code(handle).is_some() {
                break;
            }
            let stats = server.connection(handle).stats();
            window = window.max(stats.congestion_window / stats.datagram_len as u64);
        }
        uncaught += u64::from(server.close_code(handle) != Some(CloseCode::ACK_OF_UNSENT.0));
        worst = worst.max(highest as f64 / window.max(64) as f64);
    }
    let held = uncaught == 0 && worst <= 2.0;
    Figure::new(held, format!("{uncaught} of {tries} not caught; after {worst:.2} windows at most"))
}

/// Row 32: the most ranges that an ACK may have, one more, and the ranges that we are made to keep.
pub(super) fn ack_bomb(run: &mut Run) -> Figure {
    // Packets of which only every second is acknowledged: as many ranges as fit.
    let mut server = Victim::server(RetryPolicy::Never);
    let (mut peer, handle) = server.befriend(91);
    for n in 0..1500u64 {
        let ping = peer.short_numbered(jsp_wire::Shape::Frames, 1000 + 2 * n, &[1]);
        server.now = server.now + Duration::from_millis(1);
        server.hit(&mut peer, &ping);
    }
    let ranges = peer.heard.iter().filter_map(|heard| {
        let frames = Payload::read(heard.shape?, &heard.payload).ok()?;
        frames.flatten().find_map(|frame| match frame {
            Frame::Ack(ack) => Some(ack.ranges().count()),
            _ => None,
        })
    });
    let told = ranges.max().unwrap_or(0);
    let mut time = Duration::ZERO;
    let count = run.count(100, 20_000);
    // Numbers that the victim has sent, named in as many ranges as they allow.
    let sent = peer.heard.iter().map(|heard| heard.pn).max().unwrap_or(0);
    let most = (sent / 2).min(255).saturating_sub(1);
    let gaps: Vec<(u64, u64)> = (0..most).map(|_| (0, 0)).collect();
    let bomb = ack(sent, 0, &gaps);
    peer.pn = 100_000;
    for _ in 0..count {
        let packet = peer.frames(&bomb);
        let start = Clock::now();
        server.give(peer.addr, &packet);
        time += start.elapsed();
    }
    let each = time.as_secs_f64() * 1e6 / count as f64;
    let too_many = ack(sent, 0, &vec![(0, 0); 256]);
    let packet = peer.frames(&too_many);
    let unharmed = server.close_code(handle).is_none();
    server.hit(&mut peer, &packet);
    let code = server.close_code(handle);
    let fast = run.scale == Scale::Quick || each <= 50.0;
    let held = told <= 256 && fast && unharmed && code == Some(CloseCode::FRAME_ENCODING.0);
    Figure::new(
        held,
        format!("{told} ranges told; {} ranges take {each:.1} us; 257: {code:x?}", most + 1),
    )
}

/// Row 33: every second byte of a stream.
pub(super) fn gaps(_: &mut Run) -> Figure {
    let mut server = Victim::server(RetryPolicy::Never);
    let (mut peer, handle) = server.befriend(101);
    server.listen(&mut peer);
    let window = TransportConfig::default().stream_window;
    let before = allocated();
    let (mut offset, mut peak) = (1u64, 0u64);
    while offset < window && server.close_code(handle).is_none() {
        let mut payload = Vec::new();
        while payload.len() < 1100 && offset < window {
            payload.extend(bytes_frame(2, offset, b"x"));
            offset += 2;
        }
        let packet = peer.frames(&payload);
        server.now = server.now + Duration::from_micros(100);
        server.give(peer.addr, &packet);
        server.take();
        peak = peak.max(allocated().saturating_sub(before));
    }
    let code = server.close_code(handle);
    let share = peak as f64 / window as f64;
    Figure::new(
        share <= 1.25,
        format!("{} pieces, {share:.2} windows of memory, closed with {code:x?}", offset / 2),
    )
}

/// Row 34: kinds of frames that bring nothing, as many as one likes in one round trip.
pub(super) fn empty_frames(run: &mut Run) -> Figure {
    let count = run.count(20_000, 1_000_000);
    let open = bytes_frame(2, 0, b"x");
    let kinds: [(&str, Vec<u8>); 4] = [
        ("PING", vec![1]),
        ("empty BYTES", bytes_frame(2, 1, b"")),
        ("MAX_DATA", vec![0x04, 1]),
        ("BLOCKED", vec![0x40, 0x42, 1]),
    ];
    let mut words = Vec::new();
    let mut held = true;
    for (name, empty) in kinds {
        let mut server = Victim::server(RetryPolicy::Never);
        let (mut peer, handle) = server.befriend(111);
        let packet = peer.frames(&open);
        server.hit(&mut peer, &packet);
        let memory = allocated();
        let mut given = 0u64;
        let mut answers = 0usize;
        while given < count && server.close_code(handle).is_none() {
            let many = 1100 / empty.len();
            let packet = peer.frames(&empty.repeat(many));
            given += many as u64;
            server.now = server.now + Duration::from_micros(1);
            server.give(peer.addr, &packet);
            answers += server.take().len();
        }
        let grown = allocated().saturating_sub(memory);
        let closed = server.close_code(handle) == Some(CloseCode::EXCESSIVE_LOAD.0);
        held &= closed && given <= 4000 && grown < 1 << 20;
        let end = if closed { "closed" } else { "not closed" };
        words.push(format!("{name}: {end} after {given}, {answers} answers, {grown} bytes"));
    }
    Figure::new(held, words.join("; "))
}

/// The highest limit of streams that was told.
fn grants(peer: &mut Peer) -> u64 {
    let frames = peer.heard.drain(..).flat_map(|heard| {
        let told = heard.frames().map(|frame| match frame {
            Frame::MaxStreams(most) => most,
            _ => 0,
        });
        told.max()
    });
    frames.max().unwrap_or(0)
}

/// Row 36: streams opened and reset as fast as they are granted.
pub(super) fn stream_churn(run: &mut Run) -> Figure {
    let limit = 64;
    let config = TransportConfig { streams_max: limit, ..TransportConfig::default() };
    let mut server = Victim::server_with(RetryPolicy::Never, config, 1);
    let (mut peer, handle) = server.befriend(121);
    server.listen(&mut peer);
    let before = allocated();
    let most = run.count(2_000, 100_000);
    let (mut opened, mut granted, mut peak) = (0u64, limit, 0u64);
    while opened < most && server.close_code(handle).is_none() {
        // New grants come once the resets are acknowledged.
        for _ in 0..4 {
            if opened < granted {
                break;
            }
            let packet = peer.frames(&peer.ack());
            server.hit(&mut peer, &packet);
            for (_, datagram) in server.pass(Duration::from_millis(30)) {
                peer.read(&datagram);
            }
            granted = granted.max(grants(&mut peer));
        }
        if opened >= granted {
            break;
        }
        let id = 2 * (opened + 1);
        opened += 1;
        let reset =
            Frame::ResetStream(ResetStream { stream: StreamId(id), code: 0, final_bytes: 1 });
        let stop =
            Frame::StopSending(jsp_wire::frame::StreamLimit { stream: StreamId(id), value: 0 });
        let payload = [peer.ack(), bytes_frame(id, 0, b"x"), frame(&reset), frame(&stop)].concat();
        let packet = peer.frames(&payload);
        server.now = server.now + Duration::from_millis(1);
        server.hit(&mut peer, &packet);
        // The application takes what is offered.
        let now = server.now;
        while let Some(stream) = server.connection(handle).accept() {
            let _ = server.connection(handle).read(now, stream, 10);
        }
        server.listen(&mut peer);
        granted = granted.max(grants(&mut peer));
        peak = peak.max(allocated().saturating_sub(before));
    }
    let code = server.close_code(handle);
    let in_time = opened <= 10 * limit + 1 && code == Some(CloseCode::EXCESSIVE_LOAD.0);
    let held = in_time && peak < limit * 4096;
    Figure::new(
        held,
        format!(
            "{opened} opened and reset at a limit of {limit}, {} kB more, closed with {code:x?}",
            peak / 1024
        ),
    )
}

/// The latest packet, members beyond reach, and bits beyond the span.
fn impossible_repairs_are_refused() -> bool {
    let wrong = [vec![0, 1, 1, 0, 0, 0], vec![1, 128, 1, 0, 0, 0], vec![1, 1, 3, 0, 0, 9]];
    wrong.iter().all(|repair| {
        let mut other = Victim::server(RetryPolicy::Never);
        let params =
            jsp_wire::TransportParams { features: feature::FEC, ..generous(ConnectionId::EMPTY) };
        let mut liar = Peer::client_with(addr(CLIENT), pinned(), 132, params);
        other.talk(&mut liar);
        let handle = other.newest().expect("a correct client is accepted");
        let packet = liar.short(jsp_wire::Shape::Repair, repair);
        other.hit(&mut liar, &packet);
        other.close_code(handle) == Some(CloseCode::FRAME_ENCODING.0)
    })
}

/// A repair over random members, of random bytes.
fn random_repair(random: &mut Random) -> Vec<u8> {
    let back = 1 + random.below(20);
    let span = 1 + random.below(100);
    let mut members = random.bytes((span as usize).div_ceil(8));
    members[0] |= 1;
    let last = (span - 1) as usize;
    members[last / 8] |= 1 << (last % 8);
    if !span.is_multiple_of(8) {
        let top = members.len() - 1;
        members[top] &= (1 << (span % 8)) - 1;
    }
    let mut payload = vec![back as u8, span as u8];
    payload.extend(members);
    let len = 100 + random.place(1000);
    payload.extend(random.bytes(len));
    payload
}

/// What a peer achieved by repairs of nothing.
#[derive(Default)]
struct Lies {
    count: u64,
    time: Duration,
    /// Bytes that the victim took at most.
    peak: u64,
    /// Connections that ended otherwise than by a typed close.
    odd_ends: u64,
}

impl Lies {
    /// Lies until the victim closes, or `most` times.
    fn tell(&mut self, random: &mut Random, most: u64) {
        let mut server = Victim::server(RetryPolicy::Never);
        let id = ConnectionId::EMPTY;
        let params = jsp_wire::TransportParams { features: feature::FEC, ..generous(id) };
        let mut peer = Peer::client_with(addr(CLIENT), pinned(), random.number(), params);
        server.talk(&mut peer);
        let handle = server.newest().expect("a correct client is accepted");
        let mut before = allocated();
        peer.pn = 300;
        for _ in 0..most {
            let packet = if random.one_in(3) {
                // The victim's own packets are acknowledged, so that it keeps none of them.
                peer.frames(&[peer.ack(), vec![1]].concat())
            } else {
                peer.short(jsp_wire::Shape::Repair, &random_repair(random))
            };
            self.count += 1;
            peer.pn += random.below(3);
            server.now = server.now + Duration::from_millis(1);
            let start = Clock::now();
            server.give(peer.addr, &packet);
            self.time += start.elapsed();
            let memory = allocated();
            self.peak = self.peak.max(memory.saturating_sub(before));
            // What the liar itself keeps is not the victim's.
            server.listen(&mut peer);
            peer.heard.clear();
            before = before.saturating_add(allocated()).saturating_sub(memory);
            if server.end_of(handle).is_some() {
                self.odd_ends += u64::from(server.close_code(handle).is_none());
                return;
            }
        }
    }
}

/// Row 48: repairs of what nobody sent, by a peer with keys, and repairs that say what cannot be. Others
/// cannot make any: repairs are sealed.
pub(super) fn repairs(run: &mut Run) -> Figure {
    let random = &mut run.random.clone();
    let wanted = run.count(2_000, 200_000);
    let (mut lies, mut connections) = (Lies::default(), 0u64);
    while lies.count < wanted {
        connections += 1;
        lies.tell(random, wanted);
    }
    let each = lies.time.as_secs_f64() * 1e6 / lies.count as f64;
    let fast = run.scale == Scale::Quick || each <= 1000.0;
    // Two windows of 128 packets of 1500 bytes.
    let is_bounded = lies.peak <= 384_000;
    let held = lies.odd_ends == 0 && fast && is_bounded && impossible_repairs_are_refused();
    let Lies { count, peak, odd_ends, .. } = lies;
    let peak = peak >> 10;
    Figure::new(
        held,
        format!(
            "{count} lies in {connections} connections: {peak} kB more, {each:.0} us each; {odd_ends} ended without a code"
        ),
    )
}
