//! Several paths: how they begin and end, and what goes where.

mod pair;

use std::cell::Cell;
use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use jsp_proto::{
    Class, ConnectionHandle, ConstantRate, Event, Message, NetworkHint, Padding, PathEnd,
    PathError, PathId, PathUse, Reason, RetryPolicy, Route, StreamConfig, StreamId,
    TransportConfig,
};
use pair::{End, Pair, Stream};

const FIRST: PathId = PathId(0);
const SECOND: PathId = PathId(1);

fn second_route(pair: &Pair) -> Route {
    let local: IpAddr = pair.second_addr.ip();
    Route::Udp { local: Some(local), remote: pair.server_addr }
}

/// A pair with two paths, and a stream of real-time messages from the client.
fn two_paths(mut pair: Pair) -> (Pair, [ConnectionHandle; 2], StreamId) {
    let handles = pair.establish();
    with_second_path(pair, handles)
}

/// The same of a client that is known by ids of its own, as its address is that of another connection.
fn two_named_paths(mut pair: Pair) -> (Pair, [ConnectionHandle; 2], StreamId) {
    let _ = pair.establish();
    let handles = pair.establish();
    with_second_path(pair, handles)
}

fn with_second_path(
    mut pair: Pair,
    (client, server): (ConnectionHandle, ConnectionHandle),
) -> (Pair, [ConnectionHandle; 2], StreamId) {
    let now = pair.now;
    let connection = pair.client.connection(client).unwrap();
    let config = StreamConfig { class: Class::RealTime, ..StreamConfig::messages() };
    let stream = connection.open(now, config).unwrap();
    let route = second_route(&pair);
    assert_eq!(pair.client.open_path(now, client, route), Ok(SECOND));
    assert_eq!(pair.client.open_path(now, client, route), Err(PathError::Exists));
    pair.run_for(Duration::from_millis(300));
    for end in [End::Client, End::Server] {
        assert!(opened(&pair, end), "{end:?}: {:?}", pair.events);
    }
    (pair, [client, server], stream)
}

fn opened(pair: &Pair, end: End) -> bool {
    let is_opened = |event: &Event| matches!(event, Event::PathOpened { path: SECOND, .. });
    pair.events.iter().any(|(at, _, event)| *at == end && is_opened(event))
}

fn send(pair: &mut Pair, client: ConnectionHandle, stream: StreamId, text: String) {
    let now = pair.now;
    let connection = pair.client.connection(client).unwrap();
    connection.send(now, stream, Message::binary(text.into_bytes())).unwrap();
}

/// Everything that the server has got since the last time.
fn received(pair: &mut Pair, server: ConnectionHandle) -> Vec<String> {
    let now = pair.now;
    let connection = pair.server.connection(server).unwrap();
    while connection.accept().is_some() {}
    let mut texts = Vec::new();
    while let Ok(Some(message)) = connection.recv(now, StreamId(2)) {
        texts.push(String::from_utf8(message.payload.to_vec()).unwrap());
    }
    texts
}

#[test]
/// spec-test: PTH-3, PTH-6, PTH-7, PTH-15
fn a_path_begins_when_both_sides_have_answered_and_stays_warm() {
    let (mut pair, [client, server], stream) = two_paths(Pair::new());
    for (end, handle) in [(End::Client, client), (End::Server, server)] {
        let sent = pair.datagrams;
        send(&mut pair, client, stream, "busy".to_owned());
        pair.run_for(Duration::from_secs(2));
        assert!(pair.datagrams[end as usize] - sent[end as usize] >= 4, "it stays warm");
        pair.run_for(Duration::from_secs(4));
        let sent = pair.datagrams;
        pair.run_for(Duration::from_secs(10));
        assert_eq!(pair.datagrams, sent, "unless there is nothing to be ready for");
        let connection = match end {
            End::Client => pair.client.connection(handle).unwrap(),
            End::Server => pair.server.connection(handle).unwrap(),
        };
        let paths: Vec<_> = connection.paths().collect();
        assert_eq!(paths.len(), 2);
        assert!(paths.iter().all(|path| path.is_validated && path.rtt.as_millis() < 100));
    }
    // What an id tells: no id of one path is seen on another.
    assert!(pair.heard.contains_key(&pair.second_addr));
}

#[test]
/// spec-test: PTH-1, PTH-2
fn without_both_sides_there_is_one_path() {
    let config = TransportConfig { paths_max: 1, ..TransportConfig::default() };
    let mut pair = Pair::with(config, RetryPolicy::Never);
    let (client, _) = pair.establish();
    let (now, route) = (pair.now, second_route(&pair));
    assert_eq!(pair.client.open_path(now, client, route), Err(PathError::Unsupported));
    let config = TransportConfig { paths_max: 2, ..TransportConfig::default() };
    let (mut pair, [client, server], _) = two_paths(Pair::with(config, RetryPolicy::Never));
    let now = pair.now;
    let third = Route::Udp { local: Some([192, 0, 2, 77].into()), remote: pair.server_addr };
    assert_eq!(pair.client.open_path(now, client, third), Err(PathError::TooMany));
    let connection = pair.server.connection(server).unwrap();
    assert_eq!(connection.abandon_path(now, SECOND), Err(PathError::NotTheClient));
}

#[test]
/// spec-test: PTH-16, PTH-17, PTH-18
fn an_abandoned_path_takes_nothing_with_it() {
    let (mut pair, [client, server], stream) = two_paths(Pair::new());
    // From here on nothing gets through by the first path.
    let second = pair.second_addr;
    pair.filter_from = Some(Box::new(move |from, to| from == second || to == second));
    for n in 0..20 {
        send(&mut pair, client, stream, format!("{n}"));
    }
    pair.flush();
    let now = pair.now;
    let connection = pair.client.connection(client).unwrap();
    connection.abandon_path(now, FIRST).unwrap();
    pair.run_for(Duration::from_millis(100));
    let wanted: Vec<_> = (0..20).map(|n| n.to_string()).collect();
    assert_eq!(received(&mut pair, server), wanted);
    let connection = pair.client.connection(client).unwrap();
    assert_eq!(connection.abandon_path(now, SECOND), Err(PathError::LastPath));
    assert_eq!(connection.abandon_path(now, FIRST), Err(PathError::Unknown));
    let ended = Event::PathClosed { path: FIRST, cause: PathEnd::ByPeer };
    assert!(pair.events.iter().any(|(end, _, event)| *end == End::Server && *event == ended));
    // A further path has a further number.
    pair.run_for(Duration::from_millis(200));
    let (now, route) = (pair.now, Route::udp(pair.server_addr));
    pair.filter_from = None;
    assert_eq!(pair.client.open_path(now, client, route), Ok(PathId(2)));
    pair.run_for(Duration::from_secs(1));
    assert_eq!(pair.server.connection(server).unwrap().paths().count(), 2);
}

/// What becomes of packets that are under way on the first path when it ends; they take so much longer than those
/// of the second.
fn end_the_first_path_late(two_paths: (Pair, [ConnectionHandle; 2], StreamId), lag: Duration) {
    let (mut pair, [client, server], stream) = two_paths;
    pair.lag = Some((pair.client_addr, lag));
    let now = pair.now;
    let back = pair.server.connection(server).unwrap();
    let answers = back.open(now, StreamConfig::messages()).unwrap();
    for n in 0..20 {
        send(&mut pair, client, stream, n.to_string());
        let back = pair.server.connection(server).unwrap();
        back.send(now, answers, Message::binary(n.to_string().into_bytes())).unwrap();
    }
    pair.flush();
    let first = pair.client_addr;
    pair.client.connection(client).unwrap().abandon_path(now, FIRST).unwrap();
    pair.flush();
    let (heard, told) = (pair.heard.get(&first).copied(), pair.told.get(&first).copied());
    pair.run_for(lag + Duration::from_secs(1));
    assert!(pair.heard.get(&first).copied() > heard, "something was under way there");
    if lag < Duration::from_millis(100) {
        assert_eq!(pair.told.get(&first).copied(), told, "nothing answers it");
    }
    // Long after, nobody knows those packets any more, and what says so changes nothing.
    let wanted: Vec<_> = (0..20).map(|n| n.to_string()).collect();
    assert_eq!(received(&mut pair, server), wanted);
    for _ in 0..3 {
        send(&mut pair, client, stream, "more".to_owned());
        pair.run_for(Duration::from_secs(3));
    }
    assert_eq!(received(&mut pair, server), ["more"; 3]);
    for (end, handle) in [(End::Client, client), (End::Server, server)] {
        assert_eq!(pair.close_reason(end, handle), None, "{end:?}");
    }
    let now = pair.now;
    let connection = pair.client.connection(client).unwrap();
    while connection.accept().is_some() {}
    let got = std::iter::from_fn(|| connection.recv(now, answers).unwrap()).count();
    assert_eq!(got, 20);
}

#[test]
/// spec-test: PTH-18
fn packets_under_way_when_the_first_path_ends_harm_nothing() {
    for lag in [80, 3000].map(Duration::from_millis) {
        end_the_first_path_late(two_paths(Pair::new()), lag);
        end_the_first_path_late(two_named_paths(Pair::new()), lag);
    }
}

#[test]
/// spec-test: PTH-3, PTH-6
fn each_path_of_a_client_with_ids_has_ids_of_its_own_both_ways() {
    let (mut pair, [client, server], stream) = two_named_paths(Pair::new());
    for (used, other) in [(FIRST, SECOND), (SECOND, FIRST)] {
        let connection = pair.client.connection(client).unwrap();
        connection.set_path_use(used, PathUse::Available).unwrap();
        connection.set_path_use(other, PathUse::Standby).unwrap();
        for n in 0..10 {
            send(&mut pair, client, stream, n.to_string());
            pair.run_for(Duration::from_millis(30));
        }
        assert_eq!(received(&mut pair, server).len(), 10);
    }
    for to in [End::Client, End::Server] {
        let [first, second] = [pair.client_addr, pair.second_addr].map(|at| &pair.ids[&(to, at)]);
        assert!(first.is_disjoint(second), "to the {to:?}: {first:?} {second:?}");
        assert_eq!(second.len(), 1, "{second:?}");
    }
    // The path ends, and another one has others again.
    let now = pair.now;
    pair.client.connection(client).unwrap().abandon_path(now, SECOND).unwrap();
    pair.run_for(Duration::from_secs(1));
    let (now, route) = (pair.now, second_route(&pair));
    assert_eq!(pair.client.open_path(now, client, route), Ok(PathId(2)));
    pair.run_for(Duration::from_secs(1));
    assert_eq!(pair.server.connection(server).unwrap().paths().count(), 2);
}

#[test]
/// spec-test: CON-14
fn a_path_whose_address_changes_says_which_it_is() {
    let (mut pair, [client, server], stream) = two_paths(Pair::new());
    pair.second_addr.set_port(1001);
    let now = pair.now;
    let connection = pair.client.connection(client).unwrap();
    connection.hint_path(now, FIRST, NetworkHint::InterfaceDown).unwrap();
    send(&mut pair, client, stream, "here".to_owned());
    pair.run_for(Duration::from_millis(200));
    let route = Route::udp(pair.second_addr);
    let moved = (End::Server, server, Event::PathChanged { path: SECOND, route });
    assert!(pair.events.contains(&moved), "{:?}", pair.events);
    let connection = pair.server.connection(server).unwrap();
    assert_eq!(connection.route(), route, "it is used first");
}

/// A standby path, and voice; at some time the path in use falls silent. Answers the longest pauses of the voice before,
/// then and after.
fn fall_silent_after(messages: u32) {
    let (mut pair, [client, server], stream) = two_paths(Pair::new());
    let connection = pair.client.connection(client).unwrap();
    connection.set_path_use(SECOND, PathUse::Standby).unwrap();
    pair.run_for(Duration::from_millis(50));
    let second = pair.second_addr;
    let before = pair.heard.get(&second).copied().unwrap_or_default();
    let mut count = 0;
    let mut talk = |pair: &mut Pair, messages: u32| {
        let mut longest = Duration::ZERO;
        let mut last = pair.now;
        let mut texts = Vec::new();
        for _ in 0..messages {
            send(pair, client, stream, count.to_string());
            count += 1;
            for _ in 0..10 {
                pair.run_for(Duration::from_millis(1));
                let news = received(pair, server);
                if !news.is_empty() {
                    longest = longest.max(pair.now - last);
                    last = pair.now;
                    texts.extend(news);
                }
            }
        }
        (longest, texts.len())
    };
    talk(&mut pair, messages);
    let heard = pair.heard.get(&second).copied().unwrap_or_default() - before;
    assert!(heard < 1500 * 5, "a standby carries nothing but signs of life: {heard}");
    pair.filter_from = Some(Box::new(move |from, to| from == second || to == second));
    let (longest, got) = talk(&mut pair, 100);
    // A round trip takes 20 ms, and every second packet is acknowledged: after 32 ms one is overdue, whose
    // copy takes 10 ms. When the other half of the packets is hit, it is 10 ms less.
    assert!(longest <= Duration::from_millis(42), "{longest:?}");
    assert!(got >= 98, "{got}");
    pair.filter_from = None;
    let (longest, _) = talk(&mut pair, 100);
    assert!(longest <= Duration::from_millis(40), "{longest:?}");
}

#[test]
/// spec-test: PTH-13, PTH-14, PTH-9
fn a_standby_takes_over_when_the_path_in_use_falls_silent() {
    [300, 301].into_iter().for_each(fall_silent_after);
}

#[test]
/// spec-test: PTH-9, PTH-19
fn a_path_that_fails_one_way_is_acknowledged_by_another() {
    let (mut pair, [client, server], stream) = two_paths(Pair::new());
    // Nothing comes to the client by the first path any more: the server knows when it has tried.
    let first = pair.client_addr;
    pair.filter_from = Some(Box::new(move |_, to| to != first));
    let now = pair.now;
    let connection = pair.server.connection(server).unwrap();
    let answers = connection.open(now, StreamConfig::messages()).unwrap();
    connection.send(now, answers, Message::binary(&b"is anybody there"[..])).unwrap();
    pair.run_for(Duration::from_secs(1));
    for n in 0..10 {
        send(&mut pair, client, stream, n.to_string());
        pair.run_for(Duration::from_millis(1));
    }
    pair.run_for(Duration::from_millis(29));
    let connection = pair.client.connection(client).unwrap();
    let heard = connection.paths().find(|path| path.id == FIRST);
    assert!(heard.is_some_and(|path| path.bytes_in_flight < 100), "{heard:?}");
    assert_eq!(received(&mut pair, server).len(), 10);
}

#[test]
/// spec-test: PTH-14
fn a_silent_path_from_which_nothing_is_to_cross_wakes_nobody() {
    let (mut pair, [client, server], stream) = two_paths(Pair::new());
    for n in 0..300 {
        send(&mut pair, client, stream, n.to_string());
        pair.run_for(Duration::from_millis(10));
    }
    let second = pair.second_addr;
    pair.filter_from = Some(Box::new(move |from, to| from == second || to == second));
    send(&mut pair, client, stream, "last".to_owned());
    pair.run_for(Duration::from_millis(200));
    assert_eq!(received(&mut pair, server).last().map(String::as_str), Some("last"));
    // What is said from now on takes the other path, and waits there for its acknowledgement most of the time.
    let mut wakes = 0;
    for n in 0..1000 {
        if n % 50 == 0 {
            send(&mut pair, client, stream, n.to_string());
        }
        pair.run_for(Duration::from_millis(1));
        let soon = pair.now + Duration::from_millis(1);
        let next = pair.client.poll_timeout();
        wakes += usize::from(next.is_some_and(|(at, why)| at <= soon && why == Reason::Forecast));
    }
    assert!(wakes < 20, "{wakes}");
}

#[test]
/// spec-test: PTH-12, PTH-16
fn a_hint_that_an_interface_is_down_moves_both_directions() {
    let (mut pair, [client, server], stream) = two_paths(Pair::new());
    let second = pair.second_addr;
    pair.filter_from = Some(Box::new(move |from, to| from == second || to == second));
    let now = pair.now;
    let connection = pair.client.connection(client).unwrap();
    connection.hint_path(now, FIRST, NetworkHint::InterfaceDown).unwrap();
    send(&mut pair, client, stream, "here".to_owned());
    pair.run_for(Duration::from_millis(12));
    assert_eq!(received(&mut pair, server), ["here"]);
    let usage = |pair: &mut Pair| {
        let connection = pair.server.connection(server).unwrap();
        connection.paths().find(|path| path.id == FIRST).unwrap().usage
    };
    assert_eq!(usage(&mut pair), PathUse::Down);
    pair.filter_from = None;
    let connection = pair.client.connection(client).unwrap();
    connection.hint_path(now, FIRST, NetworkHint::InterfaceUp).unwrap();
    pair.run_for(Duration::from_millis(100));
    assert_eq!(usage(&mut pair), PathUse::Available);
}

#[test]
/// spec-test: PTH-11
fn bulk_fills_both_windows() {
    let (mut pair, [client, server], _) = two_paths(Pair::new());
    let now = pair.now;
    let connection = pair.client.connection(client).unwrap();
    let stream = connection.open(now, StreamConfig::bytes()).unwrap();
    let data = Bytes::from(vec![7; 1 << 20]);
    assert_eq!(connection.write(now, stream, data).unwrap(), 1 << 20);
    let second = pair.second_addr;
    let before = pair.heard.get(&second).copied().unwrap_or_default();
    pair.run_for(Duration::from_millis(500));
    assert!(pair.heard.get(&second).copied().unwrap_or_default() - before > 100_000);
    let now = pair.now;
    let connection = pair.server.connection(server).unwrap();
    while connection.accept().is_some() {}
    let mut total = 0;
    while let Ok(Some(bytes)) = connection.read(now, stream, 1 << 20) {
        total += bytes.len();
    }
    assert_eq!(total, 1 << 20);
}

#[test]
/// spec-test: PTH-8, PTH-10
fn keys_are_updated_across_paths() {
    let (mut pair, [client, server], stream) = two_paths(Pair::new());
    let connection = pair.client.connection(client).unwrap();
    connection.set_path_use(SECOND, PathUse::Standby).unwrap();
    let mut wanted = Vec::new();
    for n in 0..4 {
        pair.run_for(Duration::from_secs(3));
        let now = pair.now;
        assert!(pair.client.connection(client).unwrap().update_keys_now(now), "{n}");
        wanted.push(n.to_string());
        send(&mut pair, client, stream, n.to_string());
    }
    pair.run_for(Duration::from_secs(3));
    assert_eq!(received(&mut pair, server), wanted);
    let lost = pair.client.connection(client).unwrap().stats().traffic.packets_lost;
    assert_eq!(lost, 0);
}

#[test]
/// spec-test: PTH-7
fn a_path_that_is_not_answered_is_given_up() {
    let mut pair = Pair::new();
    let (client, server) = pair.establish();
    let second = pair.second_addr;
    pair.filter_from = Some(Box::new(move |_, to| to != second));
    let (now, route) = (pair.now, second_route(&pair));
    pair.client.open_path(now, client, route).unwrap();
    pair.run_for(Duration::from_secs(15));
    let ended = Event::PathClosed { path: SECOND, cause: PathEnd::Unanswered };
    assert!(pair.events.iter().any(|(end, _, event)| *end == End::Client && *event == ended));
    assert_eq!(pair.client.connection(client).unwrap().paths().count(), 1);
    assert_eq!(pair.server.connection(server).unwrap().paths().count(), 1);
    assert!(pair.told[&second] <= 3 * pair.heard[&second]);
}

#[test]
/// spec-test: PTH-7
fn a_server_that_was_not_answered_asks_again_when_the_client_comes_by_that_path() {
    let mut pair = Pair::new();
    let (client, server) = pair.establish();
    let second = pair.second_addr;
    // One datagram passes: the server answers it, and is not answered itself.
    let passed = Cell::new(false);
    pair.filter_from = Some(Box::new(move |from, _| from != second || !passed.replace(true)));
    let (now, route) = (pair.now, second_route(&pair));
    assert_eq!(pair.client.open_path(now, client, route), Ok(SECOND));
    pair.run_for(Duration::from_secs(11));
    assert!(opened(&pair, End::Client) && !opened(&pair, End::Server), "{:?}", pair.events);
    pair.filter_from = None;
    let now = pair.now;
    let connection = pair.client.connection(client).unwrap();
    let stream = connection.open(now, StreamConfig::messages()).unwrap();
    connection.hint_path(now, FIRST, NetworkHint::InterfaceDown).unwrap();
    send(&mut pair, client, stream, "here".to_owned());
    pair.run_for(Duration::from_secs(1));
    assert_eq!(received(&mut pair, server), ["here"]);
    assert!(opened(&pair, End::Server), "{:?}", pair.events);
}

#[test]
/// spec-test: PRV-7
fn a_side_with_a_timetable_has_one_path() {
    let rate = ConstantRate { size: 400, interval: Duration::from_millis(10) };
    let padding = Padding::ConstantRate(rate);
    let config = TransportConfig { padding, ..TransportConfig::default() };
    let mut pair = Pair::with(config, RetryPolicy::Never);
    let (client, _) = pair.establish();
    let (now, route) = (pair.now, second_route(&pair));
    assert_eq!(pair.client.open_path(now, client, route), Err(PathError::Unsupported));
}

#[test]
/// spec-test: PTH-7
fn thousands_of_addresses_of_an_attacker_change_nothing() {
    let (mut pair, [client, server], stream) = two_paths(Pair::new());
    send(&mut pair, client, stream, "first".to_owned());
    pair.record = Some(Vec::new());
    pair.run_for(Duration::from_secs(2));
    let recorded = pair.record.take().unwrap();
    let to_server: Vec<_> =
        recorded.into_iter().filter(|(to, _)| *to == End::Server).map(|(_, bytes)| bytes).collect();
    // The newest packets, which the server has not got: the attacker has them first.
    let mut fresh = Vec::new();
    for n in 0..10_000u32 {
        if n % 100 == 0 {
            pair.held = Some(Vec::new());
            send(&mut pair, client, stream, n.to_string());
            pair.flush();
            fresh = pair.held.take().unwrap();
        }
        let from = format!("203.0.{}.{}:{}", n >> 8 & 0xff, n & 0xff, 1024 + n % 60_000);
        let from = from.parse().unwrap();
        let bytes = fresh.pop().unwrap_or_else(|| to_server[n as usize % to_server.len()].clone());
        pair.inject(End::Server, from, &bytes);
        pair.run_for(Duration::from_millis(1));
        let told = pair.told.get(&from).copied().unwrap_or_default();
        assert!(told <= 3 * bytes.len() as u64, "{told} for {}", bytes.len());
    }
    let connection = pair.server.connection(server).unwrap();
    let routes: Vec<_> = connection.paths().filter_map(|path| path.route.remote()).collect();
    assert_eq!(routes.len(), 2);
    assert!(
        routes.iter().all(|at| [pair.client_addr, pair.second_addr].contains(at)),
        "{routes:?}"
    );
    pair.run_for(Duration::from_secs(5));
    assert!(received(&mut pair, server).len() >= 100);
}

#[test]
// spec-test: CAR-34
fn a_slow_carrier_is_kept_and_a_dead_one_is_not() {
    let mut pair = Pair::new();
    pair.stream = Some(Stream::new(10_000));
    let (client, server) = pair.establish();
    let (now, route) = (pair.now, pair.stream.as_ref().unwrap().route);
    assert_eq!(pair.client.open_path(now, client, route), Ok(SECOND));
    pair.run_until(|pair| opened(pair, End::Client) && opened(pair, End::Server));
    let connection = pair.client.connection(client).unwrap();
    connection.set_path_use(FIRST, PathUse::Standby).unwrap();
    let stream = connection.open(now, StreamConfig::bytes()).unwrap();
    // The stream takes all of it at once, and has nine seconds to do.
    assert_eq!(connection.write(now, stream, Bytes::from(vec![7; 90_000])), Ok(90_000));
    let closed = |pair: &Pair| {
        let is_closed = |event: &Event| matches!(event, Event::PathClosed { path: SECOND, .. });
        pair.events.iter().any(|(_, _, event)| is_closed(event))
    };
    let (start, mut got) = (pair.now, 0);
    pair.run_until(|pair| {
        let now = pair.now;
        let connection = pair.server.connection(server).unwrap();
        while let Ok(Some(bytes)) = connection.read(now, stream, usize::MAX) {
            got += bytes.len();
        }
        got >= 90_000
    });
    assert!(pair.now - start > Duration::from_secs(8), "it went by the stream");
    assert!(!closed(&pair));
    // From here on it takes what it is given, and brings nothing.
    pair.run_for(Duration::from_secs(1));
    pair.stream.as_mut().unwrap().rate = 1;
    let start = pair.now;
    let connection = pair.client.connection(client).unwrap();
    connection.write(start, stream, Bytes::from(vec![7; 9000])).unwrap();
    pair.run_until(|pair| closed(pair));
    let took = pair.now - start;
    assert!(took >= Duration::from_secs(4) && took <= Duration::from_secs(6), "{took:?}");
}

#[test]
// spec-test: REC-37
fn a_path_that_is_kept_warm_is_given_up_when_nothing_answers() {
    let (mut pair, [client, server], stream) = two_paths(Pair::new());
    let second = pair.second_addr;
    pair.filter_from = Some(Box::new(move |from, to| from == second || to == second));
    for n in 0..300 {
        send(&mut pair, client, stream, n.to_string());
        pair.run_for(Duration::from_millis(100));
    }
    assert_eq!(received(&mut pair, server).len(), 300);
    let ended = Event::PathClosed { path: FIRST, cause: PathEnd::Unanswered };
    assert!(pair.events.iter().any(|(end, _, event)| *end == End::Client && *event == ended));
}

#[test]
// spec-test: PTH-16
fn credit_that_was_told_by_a_path_that_fails_is_told_by_another() {
    let config = TransportConfig {
        connection_window: 20_000,
        connection_window_max: 20_000,
        message_len_max: 1000,
        ..TransportConfig::default()
    };
    let (mut pair, [client, server], _) = two_paths(Pair::with(config, RetryPolicy::Never));
    let now = pair.now;
    let connection = pair.client.connection(client).unwrap();
    connection.set_path_use(SECOND, PathUse::Standby).unwrap();
    let stream = connection.open(now, StreamConfig::bytes()).unwrap();
    connection.write(now, stream, Bytes::from(vec![7; 30_000])).unwrap();
    pair.run_for(Duration::from_secs(1));
    // From here on nothing gets through by the first path, where the credit is told in the second packet.
    let second = pair.second_addr;
    pair.filter_from = Some(Box::new(move |from, to| from == second || to == second));
    let now = pair.now;
    let connection = pair.server.connection(server).unwrap();
    let back = connection.open(now, StreamConfig::messages()).unwrap();
    connection.send(now, back, Message::binary(vec![8; 10])).unwrap();
    pair.flush();
    let mut got = 0;
    for _ in 0..20 {
        let now = pair.now;
        let connection = pair.server.connection(server).unwrap();
        while let Ok(Some(bytes)) = connection.read(now, stream, usize::MAX) {
            got += bytes.len();
        }
        pair.run_for(Duration::from_millis(100));
    }
    assert_eq!(got, 30_000);
}
