//! Attacks on the machine as a whole: any calls, numbers at their end, storms.

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;
use jsp_crypto::{Renewal, Role, VERSION_1, hello_id, initial_keys};
use jsp_proto::{
    ConnectionHandle, Instant, Message, RetryPolicy, StreamConfig, StreamId, TransportConfig,
};
use jsp_wire::frame::{AckFrequency, HandshakeFragment};
use jsp_wire::{CloseCode, ConnectionId, Frame, TransportParams, Writer};

use crate::peer::{Heard, Peer, Random, frame, generous};
use crate::row::{Figure, Run};
use crate::victim::{CLIENT, Victim, addr, pinned};
use crate::wires::{To, Wires};

/// One call of the application, whatever the state.
fn call(victim: &mut Victim, random: &mut Random) {
    let now = victim.now;
    let handles: Vec<_> = victim.events.iter().map(|(handle, _)| *handle).collect();
    let Some(handle) = handles.get(random.place(handles.len())).copied() else { return };
    let stream = StreamId(random.below(12));
    let kind = random.below(16);
    if kind == 0 {
        return victim.endpoint.forget(now, handle);
    }
    let Some(connection) = victim.endpoint.connection(handle) else { return };
    let configs = [
        StreamConfig::bytes(),
        StreamConfig::messages(),
        StreamConfig::file(),
        StreamConfig::voice(),
    ];
    match kind {
        1 => {
            let config = configs[random.place(configs.len())].clone();
            let _ = connection.open(now, config);
        }
        2 => drop(connection.accept()),
        3 | 4 => drop(connection.write(now, stream, Bytes::from(vec![1; random.place(5000)]))),
        5 | 6 => {
            let message = Message::binary(Bytes::from(vec![2; random.place(5000)]));
            let _ = connection.send(now, stream, message);
        }
        7 => drop(connection.finish(now, stream)),
        8 => connection.reset(now, stream, 1),
        9 => connection.stop(now, stream, 2),
        10 | 11 => drop(connection.recv(now, stream)),
        12 => drop(connection.update_keys_now(now)),
        13 => connection.consumed(stream, random.below(10)),
        14 if random.one_in(8) => connection.close(now, 3, b"any"),
        _ => drop((connection.stats(), connection.rtt(), connection.is_closed())),
    }
}

/// Row 19: any calls at any time, between packets that are lost, late and doubled.
pub(super) fn any_calls(run: &mut Run) -> Figure {
    let total = run.count(20_000, 1_000_000);
    let random = &mut run.random.clone();
    let mut calls = 0;
    let mut worlds = 0u64;
    while calls < total {
        worlds += 1;
        let policy = [RetryPolicy::Never, RetryPolicy::Always, RetryPolicy::WhenHalfOpen(1)];
        let server = Victim::server(policy[random.place(3)]);
        let mut wires = Wires::new(Victim::client(worlds as u8), server);
        let mut weather = random.clone();
        wires.weather = Box::new(move |_, bytes| {
            let copies = [0, 1, 1, 1, 2][weather.place(5)];
            let mut delay = || Duration::from_millis(weather.below(30));
            (0..copies).map(|_| (delay(), bytes.clone())).collect()
        });
        wires.client.connect(pinned());
        for _ in 0..400 {
            let step = Duration::from_millis(random.below(20));
            wires.run(step, |_| false);
            call(&mut wires.client, random);
            call(&mut wires.server, random);
            calls += 2;
            match random.below(300) {
                0 => wires.server.endpoint.stop_accepting(),
                1 => drop(wires.client.connect(pinned())),
                _ => {}
            }
        }
        random.number();
    }
    Figure::new(true, format!("{calls} calls in {worlds} worlds, no panic"))
}

/// Row 26: no number twice under one generation of keys, and none beyond the last.
pub(super) fn numbers_used(run: &mut Run) -> Figure {
    let keys = initial_keys(Role::Client, VERSION_1, &[1; 8], None);
    let seals = |pn: u64| keys.local.packet.seal_in_place(pn, b"", &mut [0; 40]).is_ok();
    let last = seals((1 << 62) - 1) && !seals(1 << 62) && !seals(u64::MAX);
    let config = TransportConfig { key_update_packets: 40, ..TransportConfig::default() };
    let mut server = Victim::server_with(RetryPolicy::Never, config, 1);
    let (mut peer, handle) = server.befriend(181);
    let now = server.now;
    let stream = server.connection(handle).open(now, StreamConfig::bytes()).expect("a stream");
    let (mut seen, mut twice, mut generation, mut phase) = (HashSet::new(), 0u64, 0u64, false);
    let wanted = run.count(3_000, 300_000);
    for _ in 0..1_000_000 {
        let now = server.now;
        let _ = server.connection(handle).write(now, stream, Bytes::from(vec![0; 3_000]));
        for (_, datagram) in server.pass(Duration::from_millis(5)) {
            peer.read(&datagram);
        }
        for heard in std::mem::take(&mut peer.heard) {
            generation += u64::from(heard.phase != phase);
            phase = heard.phase;
            twice += u64::from(!seen.insert(heard.pn));
        }
        let packet = peer.frames(&[peer.ack(), vec![1]].concat());
        server.hit(&mut peer, &packet);
        if seen.len() as u64 >= wanted {
            break;
        }
    }
    let held = last && twice == 0 && generation > 10 && server.end_of(handle).is_none();
    Figure::new(
        held,
        format!(
            "{} packets under {generation} generations of keys, {twice} numbers twice",
            seen.len()
        ),
    )
}

/// Row 28: a peer that updates its keys again as soon as it is followed.
pub(super) fn key_updates(run: &mut Run) -> Figure {
    let mut server = Victim::server(RetryPolicy::Never);
    let (mut peer, handle) = server.befriend(191);
    // Some round trips, so that the probe time-out is short.
    for _ in 0..100 {
        let challenge = frame(&Frame::PathChallenge([1; 8]));
        let packet = peer.frames(&[peer.ack(), challenge].concat());
        server.hit(&mut peer, &packet);
        server.now = server.now + Duration::from_millis(1);
    }
    let time = run.count(2_000, 60_000);
    let mut followed = 0u64;
    let mut hasty = false;
    for _ in 0..time {
        if !hasty {
            peer.step_keys();
            hasty = true;
        }
        let phase = peer.phase();
        let packet = peer.frames(&[peer.ack(), vec![1]].concat());
        server.now = server.now + Duration::from_millis(1);
        server.give(peer.addr, &packet);
        let out = server.pass(Duration::ZERO);
        out.iter().for_each(|(_, datagram)| peer.read(datagram));
        if peer.heard.drain(..).any(|heard| heard.phase == phase) {
            followed += 1;
            hasty = false;
        }
    }
    // A probe time-out holds 26 ms at least: a variation of 1 ms and the acknowledgement's delay.
    let most = time.div_ceil(3 * 26) + 1;
    let (storm, exchanges, lost) = updates_beside_exchanges(run.count(20, 300));
    let (hasty_closed, followed_amid) = hasty_exchanges();
    let held = followed <= most
        && followed > 1
        && server.end_of(handle).is_none()
        && lost == 0
        && exchanges > 1
        && hasty_closed
        && followed_amid == 0;
    Figure::new(
        held,
        format!(
            "{followed} followed in {} s, {most} allowed; {exchanges} exchanges beside updates every \
             4 packets in {storm} connections, {lost} broke; of updates amid an exchange \
             {followed_amid} followed; a second exchange at once {}",
            time / 1000,
            if hasty_closed { "closed" } else { "did not close" }
        ),
    )
}

/// Honest ends that update their keys and exchange all the time, while packets are lost and late,
/// answers of exchanges above all: connections, exchanges that were done, connections that broke.
fn updates_beside_exchanges(seeds: u64) -> (u64, u64, u64) {
    let restless = TransportConfig {
        key_update_packets: 4,
        exchange_bytes: 3_000,
        ..TransportConfig::default()
    };
    let (mut exchanges, mut broken) = (0u64, 0u64);
    for seed in 0..seeds {
        let server = Victim::server_with(RetryPolicy::Never, restless.clone(), 3);
        let mut wires = Wires::new(Victim::client(seed as u8), server);
        let handle = wires.client.connect_with(pinned(), restless.clone());
        wires.until_connected(handle, Duration::from_secs(5));
        let mut random = Random::new(seed + 280);
        // Long packets bring the answers of exchanges: they have to go often, while the short ones
        // acknowledge updates.
        wires.weather = Box::new(move |to, bytes| match random.below(6) {
            0 => Vec::new(),
            1..=4 if to == To::Client && bytes.len() > 300 => Vec::new(),
            1 => vec![(Duration::from_millis(10 + random.below(60)), bytes)],
            _ => vec![(Duration::from_millis(10), bytes)],
        });
        let (mut sent, mut heard) = (0u64, 0u64);
        let stream = wires.client.say(handle, StreamConfig::messages(), "0");
        wires.run(Duration::from_secs(60), |wires| {
            let now = wires.now();
            let text = Message::from("x".repeat(900));
            if sent < 1500 && wires.client.connection(handle).send(now, stream, text).is_ok() {
                sent += 1;
            }
            let Some(server) = wires.server.newest() else { return false };
            let connection = wires.server.connection(server);
            let _ = connection.accept();
            while let Ok(Some(_)) = connection.recv(now, stream) {
                heard += 1;
            }
            heard == 1501
        });
        let ended = wires.client.end_of(handle).is_some();
        broken += u64::from(ended || heard != 1501);
        exchanges += u64::from(wires.client.connection(handle).stats().exchanges);
    }
    (seeds, exchanges, broken)
}

/// A client that knows in-band exchanges, after its handshake.
fn exchanging(server: &mut Victim) -> (Peer, ConnectionHandle) {
    let features = jsp_wire::params::feature::EXCHANGE;
    let params = TransportParams { features, ..generous(ConnectionId::EMPTY) };
    let mut peer = Peer::client_with(addr(CLIENT), pinned(), 281, params);
    server.talk(&mut peer);
    (peer, server.newest().expect("a correct client is accepted"))
}

/// Begins the first exchange of a connection; whether the server has answered.
fn offer(server: &mut Victim, peer: &mut Peer) -> bool {
    let security = peer.security.as_ref().expect("a handshake that is complete");
    let begun = Renewal::begin(security, 0, &mut peer.random);
    let (_, message) = begun.expect("an exchange can be begun");
    for start in (0..message.len()).step_by(1000) {
        let data = &message[start..(start + 1000).min(message.len())];
        let (id, total) = (hello_id(&message), message.len() as u16);
        let piece = HandshakeFragment { id, offset: start as u16, total, data };
        let mut room = [0; 1100];
        let mut writer = Writer::new(&mut room);
        piece.write_exchange(&mut writer).expect("room");
        let packet = peer.frames(writer.written());
        server.hit(peer, &packet);
    }
    let is_answer = |heard: &Heard| heard.frames().any(|f| matches!(f, Frame::Exchange(_)));
    peer.heard.drain(..).any(|heard| is_answer(&heard))
}

/// A client that begins an exchange, and another one before the first is done: whether that closed the
/// connection. And one that updates its keys as if there were no exchange: updates that were followed.
fn hasty_exchanges() -> (bool, u64) {
    let mut server = Victim::server(RetryPolicy::Never);
    let (mut peer, handle) = exchanging(&mut server);
    let answered = offer(&mut server, &mut peer) && server.end_of(handle).is_none();
    offer(&mut server, &mut peer);
    let closed = server.close_code(handle) == Some(CloseCode::PROTOCOL_VIOLATION.0);
    let mut server = Victim::server(RetryPolicy::Never);
    let (mut peer, _) = exchanging(&mut server);
    offer(&mut server, &mut peer);
    peer.step_keys();
    let (phase, mut followed) = (peer.phase(), 0u64);
    for _ in 0..100 {
        let packet = peer.frames(&[peer.ack(), vec![1]].concat());
        server.now = server.now + Duration::from_millis(20);
        server.give(peer.addr, &packet);
        for (_, datagram) in server.pass(Duration::ZERO) {
            peer.read(&datagram);
        }
        followed += u64::from(peer.heard.drain(..).any(|heard| heard.phase == phase));
    }
    (answered && closed, followed)
}

/// Row 44: the largest value of everything that tells a time or a size.
pub(super) fn largest_numbers(_: &mut Run) -> Figure {
    let max = (1u64 << 62) - 1;
    let changes: [fn(&mut TransportParams, u64); 8] = [
        |params, max| params.idle_timeout_ms = max,
        |params, max| params.datagram_len_max = max,
        |params, max| params.data_max = max,
        |params, max| params.stream_data_max = max,
        |params, _| params.streams_max = 1 << 20,
        |params, max| params.message_len_max = max,
        |params, _| params.ack_delay_max_us = (1 << 24) - 1,
        |params, max| params.connection_ids_max = max,
    ];
    let frames: [Vec<u8>; 6] = [
        frame(&Frame::AckFrequency(AckFrequency {
            sequence: max,
            threshold: max,
            delay_max_us: (1 << 24) - 1,
            reordering: max,
        })),
        frame(&Frame::MaxData(max)),
        frame(&Frame::DataBlocked(max)),
        [vec![0x08], vec![0], super::frames::varint(max), vec![0, 0]].concat(),
        frame(&Frame::AckFrequency(AckFrequency {
            sequence: max,
            threshold: 1,
            delay_max_us: max,
            reordering: 1,
        })),
        frame(&Frame::RetireConnectionId(max)),
    ];
    let mut runs = 0;
    for start in [1_000_000_000, u64::MAX / 2, u64::MAX - 20_000_000_000, u64::MAX - 5] {
        for change in changes {
            let mut server = Victim::server(RetryPolicy::Never);
            server.now = Instant::from_nanos(start);
            let mut params = generous(ConnectionId::EMPTY);
            change(&mut params, max);
            let mut peer = Peer::client_with(addr(CLIENT), pinned(), 201, params);
            server.talk(&mut peer);
            let Some(handle) = server.newest() else { continue };
            for payload in &frames {
                let now = server.now;
                if let Ok(stream) = server.connection(handle).open(now, StreamConfig::bytes()) {
                    let _ =
                        server.connection(handle).write(now, stream, Bytes::from(vec![0; 9000]));
                }
                let packet = peer.frames(payload);
                server.hit(&mut peer, &packet);
                server.pass(Duration::from_millis(700));
            }
            server.pass(Duration::from_secs(100));
            runs += 1;
        }
    }
    Figure::new(runs >= 24, format!("{runs} connections with the largest numbers, no panic"))
}

/// Row 59: a handshake in a storm.
pub(super) fn storm(run: &mut Run) -> Figure {
    let seeds = run.count(150, 20_000);
    let mut late = 0u64;
    for seed in 0..seeds {
        let mut random = Random::new(seed + 17);
        let mut wires = Wires::new(Victim::client(seed as u8), Victim::server(RetryPolicy::Never));
        wires.weather = Box::new(move |_: To, bytes| {
            let mut copies = Vec::new();
            for _ in 0..=u64::from(random.one_in(4)) {
                if random.below(10) < 3 {
                    continue;
                }
                let mut copy = bytes.clone();
                if random.one_in(100) {
                    let at = random.place(copy.len());
                    copy[at] ^= 1 << random.below(8);
                }
                copies.push((Duration::from_millis(10 + random.below(10)), copy));
            }
            copies
        });
        let handle = wires.client.connect(pinned());
        late += u64::from(wires.until_connected(handle, Duration::from_secs(10)).is_none());
    }
    let share = 100.0 - late as f64 * 100.0 / seeds as f64;
    Figure::new(late * 1000 <= seeds, format!("{share:.2} % of {seeds} within 10 s"))
}
