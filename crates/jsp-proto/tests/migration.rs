//! Clients that move, and datagrams that only seem to.

mod pair;

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use jsp_proto::{
    ConnectionHandle, Event, PathId, RetryPolicy, Route, StreamConfig, StreamId, TransportConfig,
};
use pair::{End, Pair};

/// A pair with a stream on which the server sends.
fn streaming(pair: &mut Pair) -> (ConnectionHandle, ConnectionHandle, StreamId) {
    let (client, server) = pair.establish();
    let now = pair.now;
    let connection = pair.client.connection(client).unwrap();
    let stream = connection.open(now, StreamConfig::bytes()).unwrap();
    connection.write(now, stream, Bytes::from_static(b"go")).unwrap();
    pair.run_for(Duration::from_millis(100));
    (client, server, stream)
}

/// Lets `from` send 100 kB to the other end and waits until they are there.
fn send(pair: &mut Pair, from: End, handles: [ConnectionHandle; 2], stream: StreamId) {
    let data = Bytes::from(vec![7; 100_000]);
    let (mut sent, mut got) = (0, 0);
    pair.run_until(|pair| {
        let now = pair.now;
        let mut ends = [
            pair.client.connection(handles[0]).unwrap(),
            pair.server.connection(handles[1]).unwrap(),
        ];
        if from == End::Server {
            ends.reverse();
        }
        let [sender, receiver] = ends;
        while sent < data.len() {
            match sender.write(now, stream, data.slice(sent..)) {
                Ok(n) if n > 0 => sent += n,
                _ => break,
            }
        }
        while let Ok(Some(bytes)) = receiver.read(now, stream, usize::MAX) {
            got += bytes.len();
        }
        got >= data.len()
    });
}

#[test]
// spec-test: CON-9, CON-10, CON-13, CON-14
fn a_client_that_moves_is_followed() {
    let places: [SocketAddr; 2] =
        ["192.0.2.1:4000".parse().unwrap(), "198.51.100.3:1000".parse().unwrap()];
    for (place, from) in places.into_iter().flat_map(|p| [(p, End::Client), (p, End::Server)]) {
        let mut pair = Pair::new();
        let (client, server, stream) = streaming(&mut pair);
        send(&mut pair, from, [client, server], stream);
        pair.client_addr = place;
        let now = pair.now;
        let connection = pair.client.connection(client).unwrap();
        connection.write(now, stream, Bytes::from_static(b"here")).unwrap();
        let mut proved = false;
        pair.run_until(|pair| {
            proved |= pair.events.contains(&(
                End::Server,
                server,
                Event::PathChanged { path: PathId::FIRST, route: Route::udp(place) },
            ));
            let told = pair.told.get(&place).copied().unwrap_or(0);
            let heard = pair.heard.get(&place).copied().unwrap_or(0);
            assert!(proved || told <= 3 * heard, "{told} bytes for {heard}");
            proved
        });
        send(&mut pair, from, [client, server], stream);
        let connection = pair.server.connection(server).unwrap();
        assert_eq!(connection.route(), Route::udp(place));
        // What was measured before is forgotten when the host is another.
        if from == End::Server {
            assert_eq!(connection.stats().rtt_min, pair::DELAY * 2);
        }
    }
}

#[test]
// spec-test: CON-14
fn a_copy_from_elsewhere_moves_nothing() {
    let mut pair = Pair::new();
    let (client, server, stream) = streaming(&mut pair);
    let thief: SocketAddr = "203.0.113.9:9".parse().unwrap();
    for _ in 0..5 {
        // The copy overtakes the original.
        let now = pair.now;
        let connection = pair.client.connection(client).unwrap();
        connection.write(now, stream, Bytes::from_static(b"copy me")).unwrap();
        pair.flush();
        for copy in pair.on_the_way(End::Server) {
            pair.inject(End::Server, thief, &copy);
        }
        pair.run_for(Duration::from_secs(1));
        assert!(pair.told[&thief] <= 3 * pair.heard[&thief]);
        let home = Route::udp(pair.client_addr);
        assert_eq!(pair.server.connection(server).unwrap().route(), home);
    }
    send(&mut pair, End::Server, [client, server], stream);
    send(&mut pair, End::Client, [client, server], stream);
    assert!(pair.told[&thief] <= 3 * pair.heard[&thief]);
}

#[test]
// spec-test: CON-12
fn an_answer_to_a_challenge_waits_for_no_window() {
    let mut pair = Pair::new();
    let (client, server, stream) = streaming(&mut pair);
    // The client fills its window, and no acknowledgement comes back from where it was.
    let old = pair.client_addr;
    pair.filter = Box::new(|to, _| to == End::Server);
    let now = pair.now;
    let data = Bytes::from(vec![7; 4_000_000]);
    let connection = pair.client.connection(client).unwrap();
    assert!(connection.write(now, stream, data).unwrap() > 500_000);
    pair.run_for(Duration::from_millis(30));
    let stats = pair.client.connection(client).unwrap().stats();
    assert!(stats.bytes_in_flight + 1452 > stats.congestion_window, "{stats:?}");
    pair.client_addr = "198.51.100.3:1000".parse().unwrap();
    pair.filter = Box::new(|_, _| true);
    assert_ne!(pair.client_addr, old);
    let moved = Event::PathChanged { path: PathId::FIRST, route: Route::udp(pair.client_addr) };
    let mut asked = None;
    pair.run_until(|pair| {
        // The first datagram to the new address is the challenge.
        if asked.is_none() && pair.told.contains_key(&pair.client_addr) {
            asked = Some(pair.now);
        }
        pair.events.contains(&(End::Server, server, moved.clone()))
    });
    let waited = pair.now - asked.unwrap();
    assert!(waited <= pair::DELAY * 2, "{waited:?}");
}

#[test]
// spec-test: CON-17
fn a_client_that_moves_before_the_handshake_is_confirmed_is_found() {
    // Without room for larger datagrams there are no probes for them, which would show it too.
    let config = TransportConfig { mtu_ceiling: 1200, ..Default::default() };
    let mut pair = Pair::with(config, RetryPolicy::Never);
    let client = pair.connect();
    pair.run_until(|pair| pair.client.connection(client).unwrap().is_established());
    // Its flight is under way; what the server says of it goes to where it came from.
    pair.flush();
    let start = pair.now;
    pair.client_addr = "198.51.100.3:1000".parse().unwrap();
    let moved = Event::PathChanged { path: PathId::FIRST, route: Route::udp(pair.client_addr) };
    pair.run_until(|pair| {
        pair.events.iter().any(|(end, _, event)| *end == End::Server && *event == moved)
    });
    // The client had nothing to say but its flight: one probe time-out of it.
    assert!(pair.now - start < Duration::from_millis(500), "{:?}", pair.now - start);
    pair.run_for(Duration::from_secs(1));
    assert_eq!(pair.client.connection(client).unwrap().stats().bytes_in_flight, 0);
}

#[test]
// spec-test: CAR-32
fn the_way_in_use_outlives_all_that_were_tried() {
    for tries in 1..9u8 {
        let mut pair = Pair::new();
        let (client, server, stream) = streaming(&mut pair);
        let now = pair.now;
        for n in 1..=tries {
            let nobody = Route::udp(SocketAddr::from(([203, 0, 113, n], 1)));
            assert!(pair.client.try_route(now, client, nobody));
        }
        send(&mut pair, End::Server, [client, server], stream);
    }
}

#[test]
fn an_address_is_one_connections_where_nothing_else_names_it() {
    let mut pair = Pair::new();
    let (client, server, stream) = streaming(&mut pair);
    let (now, elsewhere) = (pair.now, Route::udp("203.0.113.1:1".parse().unwrap()));
    let (config, transport) = (pair.client_config.clone(), pair.transport.clone());
    let other = pair.client.connect(now, elsewhere, config, transport).unwrap();
    assert!(!pair.client.try_route(now, client, elsewhere), "what comes from there is the other's");
    pair.client.forget(now, other);
    pair.run_for(Duration::from_secs(20));
    let now = pair.now;
    assert!(pair.client.try_route(now, client, elsewhere));
    send(&mut pair, End::Server, [client, server], stream);
}

#[test]
fn a_candidate_that_never_answers_is_given_up() {
    let mut pair = Pair::new();
    let (client, server, stream) = streaming(&mut pair);
    pair.client_addr = "198.51.100.3:1000".parse().unwrap();
    // The new place can be sent from, but not to.
    pair.filter = Box::new(|to, _| to == End::Server);
    let now = pair.now;
    let connection = pair.client.connection(client).unwrap();
    connection.write(now, stream, Bytes::from_static(b"anyone?")).unwrap();
    pair.run_for(Duration::from_secs(5));
    // Back home all is well.
    pair.client_addr = "192.0.2.1:1000".parse().unwrap();
    pair.filter = Box::new(|_, _| true);
    send(&mut pair, End::Server, [client, server], stream);
    let home = Route::udp(pair.client_addr);
    assert_eq!(pair.server.connection(server).unwrap().route(), home);
}
