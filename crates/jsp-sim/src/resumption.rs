//! Clients that come back: their ticket is from a connection before the world began.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use jsp_crypto::{ClientConfig, ClientTicket, ObfuscationKey};
use jsp_proto::{Batch, ConnectionHandle, Datagram, Endpoint, EndpointConfig, Event};
use jsp_wire::{Instant, Route};

use crate::flow::Pair;
use crate::random::Random;
use crate::topology::{Client, SERVER_ADDRESS, client_address};

/// How a client begins its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Resumes {
    /// In full.
    #[default]
    No,
    /// With a ticket.
    Plain,
    /// With a ticket, and early data.
    Early,
    /// With a ticket and early data, but the server cannot read the ticket.
    Spoilt,
}

/// A client's port in the time before the world: the change of address that no world comes to.
const CHANGES_BEFORE: usize = 1_000;
/// Where the sealed ticket stands in the stored form, and a little further.
const IN_TICKET: usize = 140;
/// Rounds of datagrams there and back, and how long each takes: so that pacers let everything go. No
/// client that has been there before connects earlier than they end.
const ROUNDS_MAX: u32 = 100;
const ROUND: Duration = Duration::from_millis(5);

/// The ticket of a connection that is made and closed in the first half second, and that connection at the server,
/// which will tell of its end.
pub(crate) fn meet(
    server: &mut Endpoint,
    seed: u64,
    pair: Pair,
    client: &Client,
    (crypto, unix_seconds_at_zero, key): (Arc<ClientConfig>, u64, Option<[u8; 32]>),
) -> (ClientTicket, ConnectionHandle) {
    let transport = Arc::new(client.transport.clone());
    let mut random = Random::part(seed, "before", u64::from(pair));
    let mut endpoint = Endpoint::new(EndpointConfig {
        server: None,
        transport: transport.clone(),
        seed: random.seed_bytes(),
        unix_seconds_at_zero,
    });
    if let Some(key) = key {
        endpoint = endpoint.obfuscated(&ObfuscationKey::from_bytes(key));
    }
    let address = client_address(pair, CHANGES_BEFORE);
    let handle = endpoint
        .connect(Instant::ZERO, Route::udp(SERVER_ADDRESS), crypto, transport)
        .expect("a fresh endpoint has room for a connection");
    let (mut ticket, mut other) = (None, None);
    for round in 0..ROUNDS_MAX {
        let now = Instant::ZERO + ROUND * round;
        endpoint.handle_timeout(now);
        server.handle_timeout(now);
        carry(now, &mut endpoint, server, Route::udp(address));
        carry(now, server, &mut endpoint, Route::udp(SERVER_ADDRESS));
        while let Some((handle, _)) = server.poll_event() {
            other = Some(handle);
        }
        let connection = endpoint.connection(handle).expect("it is not forgotten");
        ticket = ticket.or_else(|| connection.take_ticket());
        if ticket.is_some() {
            connection.close(now, 0, b"");
            carry(now, &mut endpoint, server, Route::udp(address));
            break;
        }
    }
    while let Some((_, event)) = server.poll_event() {
        assert!(matches!(event, Event::Closed { .. }), "{event:?}");
    }
    let ticket = ticket.expect("a server gives tickets");
    let ticket = if client.resumes == Resumes::Spoilt { spoilt(&ticket) } else { ticket };
    (ticket, other.expect("the server had a connection"))
}

fn spoilt(ticket: &ClientTicket) -> ClientTicket {
    let mut bytes = ticket.to_bytes().to_vec();
    bytes[IN_TICKET] ^= 1;
    ClientTicket::from_bytes(&bytes).expect("only the sealed part has changed")
}

fn carry(now: Instant, from: &mut Endpoint, to: &mut Endpoint, route: Route) {
    let mut batch = Batch::new(0, 1);
    while from.poll_transmit(now, &mut batch) {
        let payload = BytesMut::from(batch.contents());
        to.handle_datagram(now, Datagram { route, ecn: None, payload });
        batch.clear();
    }
}

/// Lets some clients of a random world come back, marks some of their streams as replay-safe, and has
/// secrets renewed often enough to be seen.
pub(crate) fn scatter(seed: u64, pair: Pair, client: &mut Client) {
    let mut random = Random::part(seed, "resumption", u64::from(pair));
    if random.chance(0.6) {
        return;
    }
    client.connect_at = client.connect_at + ROUND * ROUNDS_MAX;
    client.resumes =
        *random.pick(&[Resumes::Plain, Resumes::Early, Resumes::Early, Resumes::Spoilt]);
    for plan in &mut client.script.client {
        plan.config.replay_safe = random.chance(0.7);
        if random.chance(0.5) {
            plan.open_at = Instant::ZERO;
        }
    }
    if random.chance(0.5) {
        // By bytes: by time they would break the silence that is watched in the end.
        client.transport.exchange_bytes = random.log_between(20_000, 2_000_000);
        client.transport.key_update_after = Duration::from_millis(random.between(500, 8_000));
    }
}
