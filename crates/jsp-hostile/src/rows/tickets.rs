//! Attacks on tickets: stolen, changed, of other keys, refused by liars, stripped on the way.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use jsp_crypto::{ClientTicket, Keys, Mode, Role, TICKET_LEN, VERSION_1, hello_id, initial_keys};
use jsp_proto::{ConnectionHandle, Event, Instant, RetryPolicy, StreamConfig, TransportConfig};
use jsp_wire::frame::{Close, HandshakeFragment};
use jsp_wire::{CloseCode, ConnectionId, Frame, FrameIter, Header, LongType, limits};

use crate::peer::{frame, long_packet, open_long};
use crate::row::{Figure, Run};
use crate::victim::{CLIENT, ELSEWHERE, SERVER, Victim, addr, pin, pinned};
use crate::wires::{DELAY, To, Wires};

/// Where the secret stands in a stored ticket, and where the sealed part does: after six fields of one
/// byte each, four of version, eight of time and so on.
const STORED_PSK: usize = 34;
const STORED_TICKET: usize = 132;

/// A ticket of this server, for a client that has come and gone. The server's time passes.
pub(super) fn ticket_of(server: &mut Victim, seed: u8) -> ClientTicket {
    let mut client = Victim::client(seed);
    client.now = server.now;
    let place = std::mem::replace(server, Victim::client(0));
    let mut wires = Wires::new(client, place);
    let handle = wires.client.connect(pinned());
    let mut ticket = None;
    wires.run(Duration::from_secs(5), |wires| {
        ticket = wires.client.connection(handle).take_ticket();
        ticket.is_some()
    });
    let now = wires.now();
    wires.client.endpoint.forget(now, handle);
    wires.run(Duration::from_secs(3), |_| false);
    *server = wires.server;
    server.events.clear();
    ticket.expect("a server gives tickets")
}

/// A server and a ticket of it.
pub(super) fn given(seed: u8) -> (Victim, ClientTicket) {
    let mut server = Victim::server(RetryPolicy::Never);
    let ticket = ticket_of(&mut server, seed);
    (server, ticket)
}

/// A ticket with one byte of its stored form changed.
fn changed(ticket: &ClientTicket, at: usize, mask: u8) -> ClientTicket {
    let mut bytes = ticket.to_bytes().to_vec();
    bytes[at] ^= mask;
    ClientTicket::from_bytes(&bytes).expect("the form is as it was")
}

/// What a server answers to a hello with this ticket from there, whose client has its own time: payloads
/// of Initial packets with the lengths of their datagrams; and whether it has begun a connection.
fn answers(
    server: &mut Victim,
    (from, client_now): (SocketAddr, Instant),
    ticket: ClientTicket,
) -> (Vec<Vec<u8>>, bool) {
    let before = server.endpoint.connection_count();
    let mut client = Victim::client(4);
    client.now = client_now;
    client.resume(ticket);
    let hello = client.take();
    let keys = hello.first().and_then(|(_, datagram)| initial_keys_of(datagram));
    for (_, datagram) in &hello {
        server.give(from, datagram);
    }
    let read = |datagram: &Vec<u8>| {
        let opened = keys.as_ref().and_then(|keys| open_long(datagram, 0, &keys.remote));
        let mut seen = opened.map(|(_, payload)| payload).unwrap_or_default();
        seen.extend(datagram.len().to_be_bytes());
        seen
    };
    let seen = server.take().iter().map(|(_, datagram)| read(datagram)).collect();
    (seen, server.endpoint.connection_count() > before)
}

/// The client's keys for Initial packets under the id that this datagram goes to.
fn initial_keys_of(datagram: &[u8]) -> Option<Keys> {
    let Ok(Header::Long(header)) = Header::parse(datagram) else { return None };
    Some(initial_keys(Role::Client, VERSION_1, header.dcid.as_bytes(), Some(&pin())))
}

/// Row 22: tickets without their secret, changed, of other keys, too old.
pub(super) fn stolen(run: &mut Run) -> Figure {
    let start = Instant::from_nanos(1_000_000_000);
    let mut server = Victim::shard(start, 0, (1, 0), TransportConfig::default());
    let ticket = ticket_of(&mut server, 1);
    let mut other = Victim::shard(start, 0, (2, 0), TransportConfig::default());
    let foreign = ticket_of(&mut other, 1);
    let (here, there) = (addr(CLIENT), addr(ELSEWHERE));
    let now = server.now;
    // A thief has seen the ticket on the way, not its secret; or changes what it has.
    let mut attempts: Vec<(SocketAddr, ClientTicket)> = vec![(here, foreign)];
    for at in 0..32 {
        let guess = changed(&ticket, STORED_PSK + at, 1 << (at % 8));
        attempts.extend([(here, guess.clone()), (there, guess)]);
    }
    for at in 0..TICKET_LEN {
        for bit in 0..run.count(1, 8) {
            let mask = 1 << ((at as u64 + bit) % 8);
            attempts.push((here, changed(&ticket, STORED_TICKET + at, mask)));
        }
    }
    let mut outcomes: Vec<(Vec<Vec<u8>>, bool)> = attempts
        .into_iter()
        .map(|(from, ticket)| answers(&mut server, (from, now), ticket))
        .collect();
    // Its own client's hello, whose binder, the last that it has, was changed on the way.
    const BINDER_LEN: usize = 32;
    let spoilt = (0..BINDER_LEN).filter(|at| {
        let mut client = Victim::client(4);
        client.now = now;
        client.resume(ticket.clone());
        let before = server.endpoint.connection_count();
        for (_, datagram) in &client.take() {
            if let Some(datagram) = hello_changed(datagram, |len| len - 1 - at, 1 << (at % 8)) {
                server.give(here, &datagram);
            }
        }
        let _answers = server.take();
        server.endpoint.connection_count() > before
    });
    let spoilt = spoilt.count();
    // Whoever has the secret as well is its client, wherever it is.
    let (_, control) = answers(&mut server, (there, now), ticket.clone());
    // Too old for the server, though the client's clock has stood still; then its key is gone too.
    for _ in 0..2 {
        server.pass(Duration::from_secs(13 * 3600));
        outcomes.push(answers(&mut server, (here, now), ticket.clone()));
    }
    let accepted = outcomes.iter().filter(|(_, began)| *began).count() + spoilt;
    let kinds: BTreeSet<&Vec<Vec<u8>>> = outcomes.iter().map(|(seen, _)| seen).collect();
    Figure::new(
        accepted == 0 && kinds.len() == 1 && control,
        format!(
            "{} tries, {accepted} accepted, {} kinds of answers; with its secret, from elsewhere: {}",
            outcomes.len() + BINDER_LEN,
            kinds.len(),
            if control { "resumed" } else { "refused" }
        ),
    )
}

/// The datagram with the byte of its hello changed that `at` chooses by the hello's length, and everything else as a client
/// would have it.
fn hello_changed(datagram: &[u8], at: impl Fn(usize) -> usize, mask: u8) -> Option<Vec<u8>> {
    let Ok(Header::Long(header)) = Header::parse(datagram) else { return None };
    let keys = initial_keys_of(datagram)?;
    let (pn, payload) = open_long(datagram, 0, &keys.local)?;
    let piece = FrameIter::new(&payload).find_map(|read| match read {
        Ok(Frame::Handshake(piece)) if piece.offset == 0 => Some(piece),
        _ => None,
    })?;
    let mut message = piece.data.to_vec();
    // A full hello is longer than its first piece: only those with a ticket are changed.
    if message.len() != usize::from(piece.total) {
        return None;
    }
    let at = at(message.len());
    *message.get_mut(at)? ^= mask;
    let piece = HandshakeFragment { id: hello_id(&message), data: &message, ..piece };
    let mut payload = frame(&Frame::Handshake(piece));
    let ids = (header.dcid, header.scid);
    let empty = long_packet(LongType::Initial, ids, header.token, pn, &payload, &keys.local);
    let short = header.packet_len.saturating_sub(empty.len());
    payload.resize(payload.len() + short, 0);
    let mut out = long_packet(LongType::Initial, ids, header.token, pn, &payload, &keys.local);
    out.extend(&datagram[header.packet_len..]);
    if out.len() < limits::MTU_BASE {
        out.resize(limits::MTU_BASE, 0);
    }
    Some(out)
}

/// A CLOSE that says that the ticket is refused, by somebody who has seen the hello.
pub(super) fn forged_refusal(hello: &[u8]) -> Option<Vec<u8>> {
    let Ok(Header::Long(header)) = Header::parse(hello) else { return None };
    let keys = initial_keys_of(hello)?;
    let code = CloseCode::TICKET_REFUSED;
    let close = frame(&Frame::Close(Close { by_application: false, code, reason: &[] }));
    let ids = (header.scid, ConnectionId::new(&[0xee; 8])?);
    let mut out = long_packet(LongType::Initial, ids, &[], 0, &close, &keys.remote);
    out.resize(limits::MTU_BASE, 0);
    Some(out)
}

/// What a client with a ticket came to.
struct Outcome {
    connected: bool,
    resumed: bool,
    /// As strong as it asked for, by the server that it asked for.
    strong: bool,
    heard: usize,
}

fn attempt(wires: &mut Wires<'_>, handle: ConnectionHandle) -> Outcome {
    let connected = wires.until_connected(handle, Duration::from_secs(8)).is_some();
    wires.run(Duration::from_secs(1), |_| false);
    let security = wires.client.connection(handle).security();
    let resumed = security.is_some_and(|security| security.mode == Mode::Resumed);
    let strong = security.is_some_and(|security| {
        security.post_quantum && security.peer.is_some_and(|peer| peer.fingerprint == pin())
    });
    let opened = wires
        .server
        .events
        .drain(..)
        .filter(|(_, event)| matches!(event, Event::StreamOpened { .. }));
    let heard = opened.count();
    Outcome { connected, resumed, strong, heard }
}

/// A part of row 14: refusals of tickets made up on the side, and hellos with tickets changed on the
/// way. Attempts, and those that were weaker for it, failed for a lie, or had data heard twice.
pub(super) fn downgrades(run: &mut Run) -> (u64, u64) {
    let (mut tries, mut passed) = (0u64, 0u64);
    for lies in 1..=run.count(4, 40) {
        let (server, ticket) = given(lies as u8);
        let mut client = Victim::client(lies as u8 ^ 0x40);
        client.now = server.now;
        let mut wires = Wires::new(client, server);
        let handle = wires.client.resume(ticket);
        wires.client.say(handle, StreamConfig::messages().replay_safe(), "early");
        let hello = wires.client.take();
        for (_, datagram) in &hello {
            wires.launch(To::Server, addr(CLIENT), DELAY, datagram.clone());
        }
        for lie in 0..lies % 4 + 1 {
            let forged = forged_refusal(&hello[0].1).expect("a hello");
            let delay = Duration::from_millis(1 + lie * 5);
            wires.launch(To::Client, addr(SERVER), delay, forged);
        }
        let outcome = attempt(&mut wires, handle);
        tries += 1;
        passed += u64::from(!outcome.connected || !outcome.strong || outcome.heard != 1);
    }
    let step = run.count(23, 1) as usize;
    for at in (0..500usize).step_by(step) {
        let (server, ticket) = given(3);
        let mut client = Victim::client(at as u8);
        client.now = server.now;
        let mut wires = Wires::new(client, server);
        let handle = wires.client.resume(ticket);
        wires.client.say(handle, StreamConfig::messages().replay_safe(), "early");
        let mask = 1 << (at % 8);
        wires.weather = Box::new(move |to, bytes| {
            let changed =
                (to == To::Server).then(|| hello_changed(&bytes, |len| at % len, mask)).flatten();
            vec![(DELAY, changed.unwrap_or(bytes))]
        });
        let outcome = attempt(&mut wires, handle);
        tries += 1;
        let weak = outcome.connected && !outcome.strong;
        passed += u64::from(outcome.resumed || weak || outcome.heard > 1);
    }
    (tries, passed)
}
