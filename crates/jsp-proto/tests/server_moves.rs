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
use pair::{End, Pair, TestRng, Thief};

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
fn send(pair: &mut Pair, handles: [ConnectionHandle; 2], stream: StreamId) {
    send_and(pair, handles, stream, |_, _| ());
}

/// The same, and does something whenever anything has happened, told how many bytes the client has got.
fn send_and(
    pair: &mut Pair,
    [client, server]: [ConnectionHandle; 2],
    stream: StreamId,
    mut then: impl FnMut(&mut Pair, usize),
) {
    let data = Bytes::from(vec![7; 50_000]);
    let (mut sent, mut got) = ([0; 2], [0; 2]);
    pair.run_until(|pair| {
        then(pair, got[0]);
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
// spec-test: CON-84
fn a_server_that_moves_is_followed_under_loss() {
    for seed in 0..=255u8 {
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
    // No two of them learn that they were asked by the same client.
    assert!(pair.linked().is_empty(), "{:?}", pair.linked());
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

#[test]
// spec-test: CON-263
fn a_server_that_is_not_followed_gets_no_answer_and_both_find_out() {
    const IDLE: Duration = Duration::from_secs(5);
    for data in [0, 20_000] {
        let config = TransportConfig {
            idle_timeout: IDLE,
            keep_alive: Some(Duration::from_secs(1)),
            ..TransportConfig::default()
        };
        let mut pair = Pair::seeded(config, RetryPolicy::Never, 16, 1);
        let (client, server) = pair.establish();
        let now = pair.now;
        let connection = pair.client.connection(client).unwrap();
        connection.watch_silence(now);
        let stream = connection.open(now, StreamConfig::bytes()).unwrap();
        connection.write(now, stream, Bytes::from_static(b"go")).unwrap();
        pair.run_for(Duration::from_millis(100));
        let start = pair.now;
        move_server(&mut pair, server);
        // What the server sends still comes, and answers nothing.
        for (end, handle) in [(&mut pair.client, client), (&mut pair.server, server)] {
            let connection = end.connection(handle).unwrap();
            connection.write(start, stream, Bytes::from(vec![7; data])).unwrap();
        }
        let silent = (End::Client, client, Event::PathSilent);
        pair.run_until(|pair| pair.events.contains(&silent));
        // The keep-alive finds out where there is nothing to say.
        assert!(pair.now - start < Duration::from_secs(2), "{:?}", pair.now - start);
        let is_over = |pair: &mut Pair, end: End| {
            let closed = |(at, _, event): &(End, ConnectionHandle, Event)| {
                *at == end && matches!(event, Event::Closed { .. })
            };
            pair.events.iter().any(closed)
        };
        pair.run_until(|pair| is_over(pair, End::Client) && is_over(pair, End::Server));
        assert!(pair.now - start < IDLE * 3, "{:?}", pair.now - start);
    }
}

#[test]
// spec-test: CON-82
fn a_client_goes_back_when_the_address_that_it_followed_to_dies() {
    for when in [0, 10_000, 30_000] {
        let (mut pair, client, server, stream) = begin(1);
        let home = pair.server_addr;
        move_server(&mut pair, server);
        pair.run_until(|pair| route_of(pair, client) == Some(new()));
        // Nobody answers at home, which is asked at once.
        pair.run_for(Duration::from_secs(5));
        assert_eq!(route_of(&mut pair, client), Some(new()));
        let mut died_at = None;
        send_and(&mut pair, [client, server], stream, |pair, got| {
            if died_at.is_none() && got >= when {
                // The host is back where it was, and does not know.
                pair.server_addr = home;
                died_at = Some(pair.now);
            }
        });
        assert_eq!(route_of(&mut pair, client), Some(home));
        let took = pair.now - died_at.unwrap();
        assert!(took < Duration::from_secs(2), "{took:?}");
        let linked = pair.linked();
        assert!(linked.iter().all(|(end, _)| *end == End::Client), "{linked:?}");
    }
}

#[test]
// spec-test: CON-82
fn a_client_that_is_silent_everywhere_stays_and_asks_seldom() {
    let (mut pair, client, server, stream) = begin(1);
    move_server(&mut pair, server);
    pair.run_until(|pair| route_of(pair, client) == Some(new()));
    pair.run_for(Duration::from_secs(5));
    pair.filter = Box::new(|_, _| false);
    let (now, before) = (pair.now, pair.datagrams[0]);
    let connection = pair.client.connection(client).unwrap();
    connection.write(now, stream, Bytes::from(vec![7; 5000])).unwrap();
    pair.run_for(Duration::from_secs(20));
    assert!(pair.datagrams[0] - before < 60, "{}", pair.datagrams[0] - before);
    pair.filter = Box::new(|_, _| true);
    send(&mut pair, [client, server], stream);
    assert_eq!(route_of(&mut pair, client), Some(new()));
}

/// A pair whose client follows somebody who copies what the server sends, and passes on what comes to him.
fn led_astray() -> (Pair, ConnectionHandle, ConnectionHandle, StreamId) {
    let (mut pair, client, server, stream) = begin(1);
    pair.thief = Some(Thief { addr: new(), copies: true, relays: true });
    let now = pair.now;
    // The server asks from where it is, for a reason of its own.
    pair.server.connection(server).unwrap().hint(now, NetworkHint::InterfaceUp);
    (pair, client, server, stream)
}

#[test]
// spec-test: CON-83
fn who_passes_on_what_a_server_sends_keeps_nobody() {
    let (mut pair, client, server, stream) = led_astray();
    let home = pair.server_addr;
    pair.run_until(|pair| route_of(pair, client) == Some(new()));
    let start = pair.now;
    pair.run_until(|pair| route_of(pair, client) == Some(home));
    // The server answers where it was all the time.
    assert!(pair.now - start <= 2 * pair::DELAY, "{:?}", pair.now - start);
    // He goes on, and the server asks again and again.
    for _ in 0..10 {
        send(&mut pair, [client, server], stream);
        let now = pair.now;
        pair.server.connection(server).unwrap().hint(now, NetworkHint::InterfaceUp);
        pair.run_for(Duration::from_secs(1));
        assert_eq!(route_of(&mut pair, client), Some(home));
    }
    // A server that truly moves is followed all the same, once it is not heard at home any more.
    pair.thief = None;
    pair.run_for(Duration::from_secs(1));
    move_server(&mut pair, server);
    send(&mut pair, [client, server], stream);
    assert_eq!(route_of(&mut pair, client), Some(new()));
}

#[test]
// spec-test: CON-82, CON-83
fn who_led_a_client_away_and_falls_silent_costs_a_few_round_trips() {
    for way in [End::Client, End::Server] {
        let (mut pair, client, server, stream) = led_astray();
        let home = pair.server_addr;
        // While home cannot be reached, he has the client.
        pair.filter_from = Some(Box::new(move |from, to| from != home && to != home));
        pair.run_until(|pair| route_of(pair, client) == Some(new()));
        let by_thief = Route::udp(new());
        pair.run_until(|pair| pair.server.connection(server).unwrap().route() == by_thief);
        send(&mut pair, [client, server], stream);
        pair.run_for(Duration::from_secs(3));
        assert_eq!(route_of(&mut pair, client), Some(new()));
        pair.filter_from = None;
        pair.thief = None;
        // Whichever end has something to say finds out.
        let (now, data) = (pair.now, Bytes::from(vec![7; 20_000]));
        let sender = match way {
            End::Client => pair.client.connection(client).unwrap(),
            End::Server => pair.server.connection(server).unwrap(),
        };
        sender.write(now, stream, data).unwrap();
        let mut got = 0;
        pair.run_until(|pair| {
            let now = pair.now;
            let connection = match way {
                End::Client => pair.server.connection(server).unwrap(),
                End::Server => pair.client.connection(client).unwrap(),
            };
            while let Ok(Some(bytes)) = connection.read(now, stream, usize::MAX) {
                got += bytes.len();
            }
            got >= 20_000
        });
        assert!(pair.now - now < Duration::from_secs(2), "{way:?}: {:?}", pair.now - now);
        send(&mut pair, [client, server], stream);
        let home = Route::udp(pair.client_addr);
        assert_eq!(pair.server.connection(server).unwrap().route(), home);
    }
}

#[test]
// spec-test: CON-83
fn a_client_goes_home_when_datagrams_come_from_there() {
    let (mut pair, client, server, stream) = led_astray();
    let home = pair.server_addr;
    // The server cannot be asked at home, and what it sends comes late.
    pair.filter_from = Some(Box::new(move |_, to| to != home));
    pair.run_until(|pair| route_of(pair, client) == Some(new()));
    send(&mut pair, [client, server], stream);
    pair.run_for(Duration::from_secs(3));
    assert_eq!(route_of(&mut pair, client), Some(new()));
    pair.filter_from = None;
    // He never falls silent, but the server sends from home too.
    let copy = {
        let now = pair.now;
        let connection = pair.server.connection(server).unwrap();
        connection.write(now, stream, Bytes::from_static(b"tick")).unwrap();
        pair.flush();
        pair.on_the_way(End::Client).pop().unwrap()
    };
    pair.run_for(Duration::from_millis(30));
    pair.inject(End::Client, home, &copy);
    pair.run_until(|pair| route_of(pair, client) == Some(home));
    send(&mut pair, [client, server], stream);
}

#[test]
// spec-test: CON-72
fn no_id_is_seen_between_two_pairs_of_addresses() {
    for seed in 0..20u8 {
        let (mut pair, client, server, stream) = begin(seed);
        let mut dice = TestRng(u64::from(seed) * 55 + 3);
        let mut roll = move |below: u8| {
            let mut byte = [0];
            dice.fill(&mut byte);
            byte[0] % below
        };
        for step in 0..12u8 {
            let now = pair.now;
            match roll(4) {
                // Addresses where nobody is, asked one before the other was given up.
                0 => {
                    let nobody = Route::udp(SocketAddr::from(([203, 0, 113, step], 1)));
                    pair.client.try_route(now, client, nobody);
                }
                1 => {
                    pair.server_addr = SocketAddr::from(([198, 51, 100, step], 9));
                    let moved = pair.server.connection(server).unwrap();
                    moved.hint(now, NetworkHint::InterfaceUp);
                }
                2 => {
                    pair.client_addr = SocketAddr::from(([192, 0, 2, 100 + step], 9));
                    let moved = pair.client.connection(client).unwrap();
                    moved.hint(now, NetworkHint::InterfaceUp);
                }
                // The server looks for the client where nobody answers.
                _ => {
                    let connection = pair.client.connection(client).unwrap();
                    connection.write(now, stream, Bytes::from_static(b"copy")).unwrap();
                    pair.flush();
                    for copy in pair.on_the_way(End::Server) {
                        pair.inject(End::Server, SocketAddr::from(([203, 0, 113, 99], 9)), &copy);
                    }
                }
            }
            pair.run_for(Duration::from_millis(u64::from(roll(200)) * 10));
            send(&mut pair, [client, server], stream);
        }
        assert!(pair.linked().is_empty(), "seed {seed}: {:?}", pair.linked());
    }
}

#[test]
// spec-test: CON-74
fn a_server_that_moves_is_followed_by_every_path() {
    let (mut pair, client, server, stream) = begin(1);
    let now = pair.now;
    let route = Route::Udp { local: Some(pair.second_addr.ip()), remote: pair.server_addr };
    pair.client.open_path(now, client, route).unwrap();
    let lead_to = |pair: &mut Pair, at: SocketAddr| {
        let paths: Vec<_> = pair.client.connection(client).unwrap().paths().collect();
        let is_there =
            |path: &jsp_proto::PathInfo| path.is_validated && path.route.remote() == Some(at);
        paths.len() == 2 && paths.iter().all(is_there)
    };
    let home = pair.server_addr;
    pair.run_until(|pair| lead_to(pair, home));
    pair.run_for(Duration::from_millis(100));
    pair.server_addr = new();
    let now = pair.now;
    for path in [PathId(0), PathId(1)] {
        let connection = pair.server.connection(server).unwrap();
        connection.hint_path(now, path, NetworkHint::InterfaceUp).unwrap();
    }
    pair.run_until(|pair| lead_to(pair, new()));
    send(&mut pair, [client, server], stream);
}
