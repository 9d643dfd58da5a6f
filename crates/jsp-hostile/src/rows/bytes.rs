//! Attacks by the bytes alone.

use std::sync::Arc;
use std::time::Duration;

use jsp_crypto::{Handshake, Level, ServerConfig};
use jsp_proto::RetryPolicy;
use jsp_wire::{ConnectionId, TransportParams};

use crate::peer::{Peer, Random, UNIX_SECONDS, encode_params, generous};
use crate::row::{Figure, Run};
use crate::victim::{CLIENT, ELSEWHERE, SERVER, Victim, addr, identity, pinned};
use crate::wires::Wires;

/// Does one to three kinds of damage.
fn damage(random: &mut Random, bytes: &[u8]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    for _ in 0..=random.below(3) {
        let place = random.place(out.len());
        match random.below(7) {
            0 => out.truncate(place),
            1 => out.insert(place, random.number() as u8),
            2 => out.extend(random.bytes(5)),
            3 if !out.is_empty() => {
                out.remove(place);
            }
            4 if out.len() > place + 2 => out[place..place + 2].fill(0xff),
            5 if out.len() > place => out[place] = 0,
            _ if !out.is_empty() => out[place] ^= 1 << random.below(8),
            _ => {}
        }
    }
    out
}

/// Row 1: hellos, server hellos, flights and parameters, damaged in every way.
pub(super) fn damaged(run: &mut Run) -> Figure {
    let config = || Arc::new(ServerConfig::new(identity()));
    let params = encode_params(&generous(ConnectionId::EMPTY));
    let random = &mut run.random.clone();
    let client = || Handshake::client(Arc::new(pinned()), &params, &mut Random::new(5));
    let messages = run.count(1_000, 200_000);
    // A true exchange, so that damage starts from what is right.
    let mut peer = Peer::client(addr(CLIENT), pinned(), 3);
    let (_, hello) = peer.outgoing.remove(0);
    let mut server = Handshake::server(config(), params.clone());
    server.read(Level::Initial, &hello, UNIX_SECONDS, random).expect("a true hello");
    let answers: Vec<(Level, Vec<u8>)> = std::iter::from_fn(|| server.poll())
        .filter_map(|output| match output {
            jsp_crypto::Output::Send { level, message } => Some((level, message)),
            _ => None,
        })
        .collect();
    let mut accepted = 0u64;
    for _ in 0..messages {
        let bytes = damage(random, &hello);
        let mut server = Handshake::server(config(), params.clone());
        let read = server.read(Level::Initial, &bytes, UNIX_SECONDS, random);
        accepted += u64::from(read.is_ok());
        let mut client = client().expect("a hello");
        for (level, message) in &answers {
            // What the client makes of it does not matter here, only that it goes on.
            let bytes = damage(random, message);
            accepted += u64::from(client.read(*level, &bytes, UNIX_SECONDS, random).is_ok());
            let _ = client.read(*level, message, UNIX_SECONDS, random);
        }
    }
    let lists = run.count(200_000, 100_000_000);
    for _ in 0..lists {
        let bytes = damage(random, &params);
        accepted += u64::from(TransportParams::read(&bytes).is_ok());
    }
    let total = messages * 3 + lists;
    Figure::new(
        accepted < total,
        format!("{total} inputs, {accepted} of them well-formed, no panic"),
    )
}

/// Row 3: datagrams that hold nothing.
pub(super) fn tiny(run: &mut Run) -> Figure {
    let mut server = Victim::server(RetryPolicy::Never);
    let (peer, handle) = server.befriend(11);
    server.pass(Duration::from_secs(1));
    let events = server.events.len();
    let deadline = server.deadline();
    let memory = crate::allocated();
    let count = run.count(20_000, 1_000_000);
    let mut answers = 0;
    for n in 0..count {
        let from = if n % 2 == 0 { peer.addr } else { addr(ELSEWHERE) };
        match n % 3 {
            0 => server.give(from, &[]),
            _ => server.give(from, &[(n / 3) as u8]),
        }
        answers += usize::from(n % 64 == 0 && !server.take().is_empty());
    }
    answers += server.take().len();
    let same_memory = crate::allocated().abs_diff(memory) < 4096;
    // A client is found by its route, also by a byte that could be a short header.
    let mut wires = Wires::new(Victim::client(3), Victim::server(RetryPolicy::Never));
    let client = wires.client.connect(pinned());
    wires.run(Duration::from_secs(2), |_| false);
    let idle = wires.client.deadline();
    let mut wakes = 0usize;
    for n in 0..count / 4 {
        let byte = [n as u8];
        wires.client.now = wires.client.now + Duration::from_micros(1);
        wires.client.give(addr(SERVER), if n % 2 == 0 { &byte } else { &[] });
        wakes += usize::from(n % 64 == 0 && !wires.client.take().is_empty());
    }
    wakes += wires.client.take().len();
    let client_sleeps =
        wakes == 0 && wires.client.deadline() == idle && wires.client.end_of(client).is_none();
    let held = answers == 0
        && client_sleeps
        && server.events.len() == events
        && server.deadline() == deadline
        && same_memory
        && server.end_of(handle).is_none();
    Figure::new(held, format!("{count} datagrams, {answers} answers, {wakes} wakes of a client"))
}

/// Row 25: numbers are completed as RFC 9000, appendix A.3, defines it.
pub(super) fn numbers(run: &mut Run) -> Figure {
    let random = &mut run.random.clone();
    let mut wrong = 0u64;
    let mut check = |pn_len: usize, expected: u64, low: u32| {
        let window = 1u64 << (8 * pn_len);
        let low = u64::from(low) & (window - 1);
        // The candidates around, by the definition: the closest, of two the higher, in range.
        let base = (expected & !(window - 1)) | low;
        let all = [base.checked_sub(window), Some(base), base.checked_add(window)];
        let best = all
            .into_iter()
            .flatten()
            .filter(|pn| *pn <= jsp_wire::limits::PN_MAX)
            .min_by_key(|pn| (pn.abs_diff(expected), u64::MAX - pn));
        wrong += u64::from(Some(jsp_wire::pn::expand(low as u32, pn_len, expected)) != best);
    };
    for pn_len in 1..=4usize {
        let window = 1u64 << (8 * pn_len);
        for edge in
            [0, window / 2, window, window * 3 / 2, 1 << 40, (1 << 62) - window, (1 << 62) - 1]
        {
            for near in 0..8u64 {
                for low in
                    [0, 1, window / 2 - 1, window / 2, window / 2 + 1, window - 2, window - 1]
                {
                    let expected = (edge + near).saturating_sub(4).min((1 << 62) - 1);
                    check(pn_len, expected, low as u32);
                }
            }
        }
    }
    let count = run.count(500_000, 100_000_000);
    for _ in 0..count {
        let pn_len = 1 + random.place(4);
        let expected = random.number() >> (2 + random.below(60));
        check(pn_len, expected, random.number() as u32);
    }
    Figure::new(wrong == 0, format!("{count} random and 1568 at edges, {wrong} wrong"))
}
