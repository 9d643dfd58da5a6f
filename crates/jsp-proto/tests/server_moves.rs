//! Servers whose address changes, and datagrams that only seem to come from one.

mod pair;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use jsp_crypto::Rng;
use jsp_proto::{
    ConnectionHandle, Event, NetworkHint, PathId, RetryPolicy, Route, StreamConfig, StreamId,
    TransportConfig,
};
use pair::{End, Pair, TestRng};

const NEW: &str = "198.51.100.9:7000";

fn new() -> SocketAddr {
    NEW.parse().unwrap()
}

/// An established pair whose client follows, with a stream that the client has opened.
fn begin(seed: u8) -> (Pair, ConnectionHandle, ConnectionHandle, StreamId) {
    let config = TransportConfig { follow_server: true, ..Default::default() };
    let mut pair = Pair::seeded(config, RetryPolicy::Never, 16, seed);
    let (client, server) = pair.establish();
    let now = pair.now;
    let connection = pair.client.connection(client).unwrap();
    let stream = connection.open(now, StreamConfig::bytes()).unwrap();
    connection.write(now, stream, Bytes::from_static(b"go")).unwrap();
    pair.run_for(Duration::from_millis(100));
    (pair, client, server, stream)
}

/// The server is somewhere else from here on, and knows it.
fn move_server(pair: &mut Pair, server: ConnectionHandle) {
    pair.server_addr = new();
    let now = pair.now;
    pair.server.connection(server).unwrap().hint(now, NetworkHint::InterfaceUp);
}

/// Sends 50 kB each way and waits until they are there.
fn send(pair: &mut Pair, [client, server]: [ConnectionHandle; 2], stream: StreamId) {
    let data = Bytes::from(vec![7; 50_000]);
    let (mut sent, mut got) = ([0; 2], [0; 2]);
    pair.run_until(|pair| {
        let now = pair.now;
        for end in [0, 1] {
            let connection = match end {
                0 => pair.client.connection(client).unwrap(),
                _ => pair.server.connection(server).unwrap(),
            };
            if sent[end] < data.len() {
                sent[end] += connection.write(now, stream, data.slice(sent[end]..)).unwrap_or(0);
            }
            while let Ok(Some(bytes)) = connection.read(now, stream, usize::MAX) {
                got[end] += bytes.len();
            }
        }
        got.iter().all(|got| *got >= data.len())
    });
}

fn route_of(pair: &mut Pair, client: ConnectionHandle) -> Option<SocketAddr> {
    pair.client.connection(client).unwrap().route().remote()
}

#[test]
// spec-test: CON-72, CON-74
fn a_server_that_moves_is_followed() {
    let (mut pair, client, server, stream) = begin(1);
    let old = pair.server_addr;
    let start = pair.now;
    move_server(&mut pair, server);
    pair.run_until(|pair| route_of(pair, client) == Some(new()));
    // The server's challenge, the client's, and the answer.
    assert!(pair.now - start <= 3 * pair::DELAY, "{:?}", pair.now - start);
    let told = Event::PathChanged { path: PathId::FIRST, route: Route::udp(new()) };
    pair.run_until(|pair| pair.events.contains(&(End::Client, client, told.clone())));
    send(&mut pair, [client, server], stream);
    // The ways before and after cannot be linked by what the client writes.
    let ids = |at| pair.ids_at.get(&(End::Server, at)).cloned().unwrap_or_default();
    let both: HashSet<_> = ids(old).intersection(&ids(new())).cloned().collect();
    assert!(both.is_empty(), "{both:?}");
}

#[test]
fn a_server_that_moves_is_followed_under_loss() {
    for seed in 0..30u8 {
        let (mut pair, client, server, stream) = begin(seed);
        let mut dice = TestRng(u64::from(seed) * 91 + 5);
        pair.filter = Box::new(move |_, _| {
            let mut roll = [0];
            dice.fill(&mut roll);
            roll[0] >= 60
        });
        let now = pair.now;
        let data = Bytes::from(vec![7; 200_000]);
        pair.server.connection(server).unwrap().write(now, stream, data).unwrap();
        pair.run_for(Duration::from_millis(60));
        move_server(&mut pair, server);
        let mut got = 0;
        pair.run_until(|pair| {
            let now = pair.now;
            let connection = pair.client.connection(client).unwrap();
            while let Ok(Some(bytes)) = connection.read(now, stream, usize::MAX) {
                got += bytes.len();
            }
            got >= 200_000
        });
        assert_eq!(route_of(&mut pair, client), Some(new()), "seed {seed}");
    }
}

#[test]
// spec-test: CON-10, CON-74
fn forged_moves_of_a_server_adopt_nothing() {
    let (mut pair, client, server, stream) = begin(1);
    let home = pair.server_addr;
    let mut dice = TestRng(99);
    let mut thieves = HashSet::new();
    // Somebody copies all that the server sends, true challenges among it, and is quicker than the network.
    pair.client_account = Some(Default::default());
    for round in 0..400 {
        let now = pair.now;
        if round % 40 == 0 {
            // The server believes that it has moved, and has not.
            pair.server.connection(server).unwrap().hint(now, NetworkHint::InterfaceUp);
        }
        let connection = pair.server.connection(server).unwrap();
        connection.write(now, stream, Bytes::from_static(b"tick")).unwrap();
        pair.flush();
        for copy in pair.on_the_way(End::Client) {
            let mut at = [0; 4];
            dice.fill(&mut at);
            let thief = SocketAddr::from(([203, at[0], at[1], at[2]], 1 + u16::from(at[3])));
            thieves.insert(thief);
            pair.inject(End::Client, thief, &copy);
        }
        pair.run_for(Duration::from_millis(25));
        assert_eq!(route_of(&mut pair, client), Some(home));
    }
    let paid = pair.client_account.take().unwrap();
    let mut asked = 0;
    for thief in &thieves {
        let (heard, told) = paid.get(thief).copied().unwrap_or_default();
        assert!(told <= 3 * heard, "{thief}: {told} for {heard}");
        asked += usize::from(told > 0);
    }
    assert!(asked > 0 && asked <= 40, "{asked} of {} were asked", thieves.len());
    send(&mut pair, [client, server], stream);
    // All the time, and afterwards, the true way is the one.
    assert_eq!(route_of(&mut pair, client), Some(home));
}

#[test]
fn a_client_without_ids_stays() {
    let mut pair = Pair::new();
    let (client, server) = pair.establish();
    let home = pair.server_addr;
    move_server(&mut pair, server);
    pair.run_for(Duration::from_secs(3));
    assert_eq!(route_of(&mut pair, client), Some(home));
}
