//! Servers that would rather be reached at another address than where their clients have found them.

mod pair;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use jsp_proto::{
    ConnectionHandle, Event, NetworkHint, PathId, PreferredAddresses, RetryPolicy, Route,
    StreamConfig, StreamId, TransportConfig,
};
use pair::{End, Pair};

const OTHER: &str = "198.51.100.2:3000";

fn other() -> SocketAddr {
    OTHER.parse().unwrap()
}

/// A pair whose server prefers an address, and can be reached there.
fn preferring() -> Pair {
    let preferred = PreferredAddresses {
        v4: Some(OTHER.parse().unwrap()),
        v6: Some("[2001:db8::1]:9".parse().unwrap()),
    };
    let mut pair =
        Pair::with(TransportConfig { preferred, ..Default::default() }, RetryPolicy::Never);
    pair.server_other = Some(other());
    pair
}

/// An established pair, without a pause after the handshake.
fn begin(pair: &mut Pair) -> (ConnectionHandle, ConnectionHandle, StreamId) {
    let client = pair.connect();
    let mut server = None;
    pair.run_until(|pair| {
        let accepted = |(end, handle, event): &(End, ConnectionHandle, Event)| {
            (*end == End::Server && *event == Event::Connected).then_some(*handle)
        };
        server = server.or_else(|| pair.events.iter().find_map(accepted));
        server.is_some() && pair.client.connection(client).unwrap().is_established()
    });
    let now = pair.now;
    let connection = pair.client.connection(client).unwrap();
    let stream = connection.open(now, StreamConfig::bytes()).unwrap();
    (client, server.unwrap(), stream)
}

/// Sends 100 kB from the client and waits until they are there.
fn send(pair: &mut Pair, client: ConnectionHandle, server: ConnectionHandle, stream: StreamId) {
    let data = Bytes::from(vec![7; 100_000]);
    let (mut sent, mut got) = (0, 0);
    pair.run_until(|pair| {
        let now = pair.now;
        let connection = pair.client.connection(client).unwrap();
        if sent < data.len() {
            sent += connection.write(now, stream, data.slice(sent..)).unwrap_or(0);
        }
        let connection = pair.server.connection(server).unwrap();
        while let Ok(Some(bytes)) = connection.read(now, stream, usize::MAX) {
            got += bytes.len();
        }
        got >= data.len()
    });
}

/// Connection ids that 1-RTT packets to `to` bore on the way to, or from, an address of the server.
fn ids(pair: &Pair, to: End, at: SocketAddr) -> HashSet<Vec<u8>> {
    pair.ids_at.get(&(to, at)).cloned().unwrap_or_default()
}

fn moved(pair: &Pair, end: End, route: Route) -> bool {
    let moved = Event::PathChanged { path: PathId::FIRST, route };
    pair.events.iter().any(|(at, _, event)| *at == end && *event == moved)
}

#[test]
// spec-test: CON-14, CON-70, CON-72
fn a_client_goes_where_the_server_would_rather_be() {
    let mut pair = preferring();
    let (client, server, stream) = begin(&mut pair);
    let start = pair.now;
    pair.run_until(|pair| moved(pair, End::Client, Route::udp(other())));
    // HANDSHAKE_DONE comes, and the challenge goes and is answered.
    assert!(pair.now - start <= 4 * pair::DELAY, "{:?}", pair.now - start);
    send(&mut pair, client, server, stream);
    let home = Route::Udp { local: Some(other().ip()), remote: pair.client_addr };
    assert!(moved(&pair, End::Server, home));
    assert_eq!(pair.server.connection(server).unwrap().route(), home);
    assert_eq!(pair.client.connection(client).unwrap().route(), Route::udp(other()));
    // Nobody who sees both ways knows that they are of one connection.
    let before = ids(&pair, End::Server, pair.server_addr);
    assert!(before.is_disjoint(&ids(&pair, End::Server, other())), "{:?}", pair.ids_at);
    // Everything goes there now, both ways.
    let at_first = pair.ids_at.clone();
    pair.ids_at.clear();
    send(&mut pair, client, server, stream);
    for to in [End::Server, End::Client] {
        assert!(ids(&pair, to, pair.server_addr).is_empty() && !at_first.is_empty());
        assert!(!ids(&pair, to, other()).is_empty());
    }
}

#[test]
// spec-test: CON-73
fn a_client_stays_where_it_is_when_nobody_answers_there() {
    for way in [End::Client, End::Server] {
        let mut pair = preferring();
        // Nothing passes to the address, or nothing back.
        pair.filter_from = Some(Box::new(move |from, to| match way {
            End::Server => to != other(),
            End::Client => from != other(),
        }));
        let (client, server, stream) = begin(&mut pair);
        let start = pair.now;
        send(&mut pair, client, server, stream);
        assert!(pair.now - start < Duration::from_secs(1), "it goes on meanwhile");
        let tried = ids(&pair, End::Server, other());
        assert_eq!(tried.len(), 1);
        pair.run_for(Duration::from_secs(20));
        send(&mut pair, client, server, stream);
        let first = pair.server_addr;
        assert_eq!(pair.client.connection(client).unwrap().route(), Route::udp(first));
        let home = Route::Udp { local: Some(first.ip()), remote: pair.client_addr };
        assert_eq!(pair.server.connection(server).unwrap().route(), home);
        assert!(!moved(&pair, End::Client, Route::udp(other())));
        // The id that was seen there is not used anywhere else, also when the client moves later.
        pair.client_addr = "192.0.2.77:7".parse().unwrap();
        send(&mut pair, client, server, stream);
        assert!(tried.is_disjoint(&ids(&pair, End::Server, first)), "{:?}", pair.ids_at);
    }
}

#[test]
// spec-test: CON-71
fn a_client_is_not_sent_inside() {
    let preferred = PreferredAddresses { v4: Some("127.0.0.1:3000".parse().unwrap()), v6: None };
    let config = TransportConfig { preferred, ..Default::default() };
    let mut pair = Pair::with(config, RetryPolicy::Never);
    pair.server_other = Some("127.0.0.1:3000".parse().unwrap());
    let (client, server, stream) = begin(&mut pair);
    send(&mut pair, client, server, stream);
    pair.run_for(Duration::from_secs(1));
    assert!(ids(&pair, End::Server, "127.0.0.1:3000".parse().unwrap()).is_empty());
}

#[test]
fn a_client_without_ids_is_found_at_the_preferred_address_under_loss() {
    for seed in 0..40u8 {
        let preferred = PreferredAddresses { v4: Some(OTHER.parse().unwrap()), v6: None };
        let config = TransportConfig { preferred, ..Default::default() };
        let mut pair = Pair::seeded(config, RetryPolicy::Never, 16, seed);
        pair.server_other = Some(other());
        let mut dice = pair::TestRng(u64::from(seed) * 77 + 1);
        pair.filter = Box::new(move |_, _| {
            let mut roll = [0];
            jsp_crypto::Rng::fill(&mut dice, &mut roll);
            roll[0] >= 50
        });
        let (client, server, stream) = begin(&mut pair);
        send(&mut pair, client, server, stream);
        pair.run_for(Duration::from_secs(5));
        pair.filter = Box::new(|_, _| true);
        send(&mut pair, client, server, stream);
        let end = pair.client.connection(client).unwrap().route();
        let far = pair.server.connection(server).unwrap().route();
        let Route::Udp { local, .. } = far else { panic!("{far:?}") };
        assert_eq!(local, end.remote().map(|at| at.ip()), "seed {seed}");
    }
}

#[test]
// spec-test: CON-82
fn a_client_goes_back_when_the_preferred_address_dies_and_there_again() {
    let mut pair = preferring();
    let (client, server, stream) = begin(&mut pair);
    let home = pair.server_addr;
    pair.run_until(|pair| moved(pair, End::Client, Route::udp(other())));
    send(&mut pair, client, server, stream);
    pair.filter_from = Some(Box::new(|from, to| ![from, to].contains(&other())));
    let start = pair.now;
    send(&mut pair, client, server, stream);
    assert!(pair.now - start < Duration::from_secs(1), "{:?}", pair.now - start);
    assert_eq!(pair.client.connection(client).unwrap().route(), Route::udp(home));
    // What works is not left, until it does not.
    pair.run_for(Duration::from_secs(5));
    pair.filter_from = None;
    send(&mut pair, client, server, stream);
    assert_eq!(pair.client.connection(client).unwrap().route(), Route::udp(home));
    pair.filter_from = Some(Box::new(move |from, to| ![from, to].contains(&home)));
    send(&mut pair, client, server, stream);
    assert_eq!(pair.client.connection(client).unwrap().route(), Route::udp(other()));
}

#[test]
fn a_server_that_looks_for_its_client_does_so_from_where_the_client_knows_it() {
    for is_gone in [false, true] {
        let mut pair = preferring();
        let (client, server, stream) = begin(&mut pair);
        send(&mut pair, client, server, stream);
        let home = Route::Udp { local: Some(other().ip()), remote: pair.client_addr };
        pair.run_until(|pair| pair.server.connection(server).unwrap().route() == home);
        pair.run_for(Duration::from_secs(1));
        pair.ids_at.clear();
        let now = pair.now;
        let connection = pair.server.connection(server).unwrap();
        if is_gone {
            connection.release_local(PathId::FIRST);
        }
        connection.hint(now, NetworkHint::InterfaceUp);
        pair.run_for(Duration::from_millis(5));
        let asked_from = if is_gone { pair.server_addr } else { other() };
        let asked = [pair.server_addr, other()].map(|at| !ids(&pair, End::Client, at).is_empty());
        assert_eq!(asked, [pair.server_addr, other()].map(|at| at == asked_from));
    }
}
