//! Attacks by who brings peers together: a coordinator that lies, somebody who answers for a STUN server, a peer that
//! names the addresses of others.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use jsp_crypto::{Identity, ServerConfig};
use jsp_nat::Instant;
use jsp_nat::candidate::{Candidate, Kind, Offer};
use jsp_nat::punch::{PUNCH_LEN, Puncher, Role, Sealer};
use jsp_nat::stun::{Binding, Response};
use jsp_proto::{RetryPolicy, ServerSetup, TransportConfig};

use crate::peer::Random;
use crate::row::{Figure, Run};
use crate::victim::{CLIENT, SERVER, Victim, addr, pinned};
use crate::wires::Wires;

/// Row 50: another peer than the one that is called, another's answer, addresses of who has not asked.
pub(super) fn liars(run: &mut Run) -> Figure {
    let calls = run.count(5, 500);
    let taken = (0..calls).filter(|n| leads_to_another(*n)).count();
    let answers = run.count(10_000, 1_000_000);
    let believed = spoofed_answers(answers, &mut run.random);
    let (most, named, allowed) = lied_addresses(&mut run.random);
    let held = taken == 0 && believed == 0 && most <= allowed;
    Figure::new(
        held,
        format!(
            "{taken} of {calls} peers without the key taken; {believed} of {answers} answers believed; \
             {most} B to {named} addresses that a peer made up, 3 times its own were {allowed}"
        ),
    )
}

/// A coordinator that relays a call to somebody else, who has his own key and no other: whether he is taken for the peer.
fn leads_to_another(n: u64) -> bool {
    let mut seed = [0x51; 32];
    seed[..8].copy_from_slice(&n.to_be_bytes());
    let other = Arc::new(Identity::from_seed(&seed).expect("a seed"));
    let crypto = Arc::new(ServerConfig::new(other));
    let setup =
        ServerSetup { crypto, retry: RetryPolicy::Never, connections_max: 10, silent: false };
    let impostor = Victim::with(Some(setup), TransportConfig::default(), 77);
    let mut wires = Wires::new(Victim::client(3), impostor);
    let handle = wires.client.connect(pinned());
    wires.run(Duration::from_secs(15), |wires| wires.client.end_of(handle).is_some());
    wires.client.newest().is_some()
}

/// What a liar has to send before anybody hears an offer of his: the client's part of a handshake.
fn price_of_a_word() -> u64 {
    let mut wires = Wires::new(Victim::client(4), Victim::server(RetryPolicy::Never));
    wires.client.connect(pinned());
    wires.run(Duration::from_secs(5), |wires| wires.server.newest().is_some());
    wires.account.get(&addr(CLIENT)).map_or(0, |(got, _)| *got)
}

/// Answers to a question that nobody has seen: how many are taken, and a true one must be.
fn spoofed_answers(count: u64, random: &mut Random) -> u64 {
    let server = addr(SERVER);
    let mut guess = random.clone();
    let mut binding = Binding::new(Instant::ZERO, server, &mut || random.below(u64::MAX));
    let question = binding.poll_transmit(Instant::ZERO).expect("a question").payload;
    let mut spoofed = 0;
    for _ in 0..count {
        let transaction = guess.bytes(12).try_into().expect("12 bytes");
        let lie = Response { transaction, mapped: addr("203.0.113.66:6"), other: None };
        spoofed += u64::from(binding.handle_datagram(&lie.encode()));
    }
    let truth = jsp_nat::stun::answer(addr(CLIENT), &question, None).expect("an answer");
    spoofed + u64::from(!binding.handle_datagram(&truth.payload))
}

/// A peer names as many addresses as it may, none of them its own: bytes sent to all of them together, how many they
/// are, and three times what the peer had to send for it.
fn lied_addresses(random: &mut Random) -> (u64, usize, u64) {
    let victims = (0..200u16).map(|n| SocketAddr::from(([198, 51, 100, n as u8], 1000 + n)));
    let lies = victims.map(|at| Candidate::new(Kind::ServerReflexive, at, 0)).collect();
    let lies = Offer { token: 1, candidates: lies }.encode();
    let told = Offer::decode(&lies).expect("an offer");
    let own = Candidate::new(Kind::ServerReflexive, addr(CLIENT), 0);
    let own = Offer { token: 2, candidates: vec![own] };
    let mut entropy = || random.below(u64::MAX);
    let (mut now, pace) = (Instant::ZERO, Duration::from_millis(20));
    let sealer = Sealer::new(|_| [0; 8]);
    let both = (&own, &told);
    let mut puncher = Puncher::new(now, Role::Controlling, both, sealer, pace, &mut entropy);
    let mut sent: HashMap<SocketAddr, u64> = HashMap::new();
    let end = now + Duration::from_secs(60);
    loop {
        while let Some((way, _)) = puncher.poll_transmit(now, &mut entropy) {
            *sent.entry(way.remote).or_default() += PUNCH_LEN as u64;
        }
        match puncher.poll_timeout().filter(|at| *at <= end) {
            Some(at) => now = now.max(at),
            None => break,
        }
    }
    (sent.values().sum(), sent.len(), 3 * (price_of_a_word() + lies.len() as u64))
}
