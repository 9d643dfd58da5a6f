//! Resumption and early data, between two endpoints in virtual time.

mod pair;

use std::collections::HashMap;
use std::time::Duration;

use jsp_crypto::{ClientTicket, Credential, Delegation, Identity, Mode, TicketKeys};
use jsp_proto::{
    CloseReason, ConnectionHandle, Datagram, Endpoint, EndpointConfig, Event, Instant, Message,
    RetryPolicy, Route, StreamConfig, StreamId, TransportConfig,
};
use pair::{DELAY, End, Pair, TestRng};

const RTT: Duration = Duration::from_millis(20);

fn safe() -> StreamConfig {
    StreamConfig::messages().replay_safe()
}

/// Opens a stream at the client and sends one message on it.
fn say(pair: &mut Pair, client: ConnectionHandle, config: StreamConfig, text: &str) -> StreamId {
    let now = pair.now;
    let connection = pair.client.connection(client).unwrap();
    let stream = connection.open(now, config).unwrap();
    connection.send(now, stream, Message::from(text)).unwrap();
    stream
}

/// Everything that the server's connections have received, and when it came.
#[derive(Default)]
struct Heard {
    texts: Vec<(String, Instant)>,
    streams: Vec<(ConnectionHandle, StreamId)>,
}

impl Heard {
    /// Takes what has arrived at any connection of `server`.
    fn listen(&mut self, now: Instant, server: &mut Endpoint, handles: &[ConnectionHandle]) {
        for handle in handles {
            let Some(connection) = server.connection(*handle) else { continue };
            while let Some(stream) = connection.accept() {
                self.streams.push((*handle, stream));
            }
        }
        for (handle, stream) in &self.streams {
            let Some(connection) = server.connection(*handle) else { continue };
            while let Ok(Some(message)) = connection.recv(now, *stream) {
                self.texts.push((message.text().unwrap_or("?").to_owned(), now));
            }
        }
    }

    fn count(&self, text: &str) -> usize {
        self.texts.iter().filter(|(heard, _)| heard == text).count()
    }
}

fn server_handles(pair: &Pair) -> Vec<ConnectionHandle> {
    let connected = pair
        .events
        .iter()
        .filter(|(end, _, event)| *end == End::Server && *event == Event::Connected);
    connected.map(|(_, handle, _)| *handle).collect()
}

/// Runs for a while, with an ear to all connections of the server.
fn listen_for(pair: &mut Pair, heard: &mut Heard, time: Duration) {
    let until = pair.now + time;
    while pair.now < until {
        pair.run_for(Duration::from_millis(1));
        let (now, handles) = (pair.now, server_handles(pair));
        heard.listen(now, &mut pair.server, &handles);
    }
}

fn mode(pair: &mut Pair, client: ConnectionHandle) -> (Mode, bool, bool) {
    let security = pair.client.connection(client).unwrap().security().unwrap();
    (security.mode, security.early_data, security.hybrid)
}

#[test]
// spec-test: HS-83, CON-48
fn a_ticket_resumes_in_one_datagram_and_the_exchange_follows_within_a_round_trip() {
    let mut pair = Pair::new();
    let ticket = pair.ticket();
    let fingerprint = ticket.peer().fingerprint;
    let before = pair.datagrams;
    let client = pair.resume(ticket, false);
    pair.run_for(DELAY);
    assert_eq!(pair.datagrams[0] - before[0], 1, "the hello fits one datagram");
    pair.run_for(DELAY);
    assert_eq!(mode(&mut pair, client), (Mode::Resumed, false, false));
    let security = pair.client.connection(client).unwrap().security().unwrap();
    assert_eq!(security.peer.unwrap().fingerprint, fingerprint);
    pair.run_for(RTT + Duration::from_millis(5));
    assert_eq!(mode(&mut pair, client), (Mode::Resumed, false, true));
    let server = server_handles(&pair)[0];
    pair.run_for(RTT);
    assert!(pair.server.connection(server).unwrap().security().unwrap().hybrid);
    // The next ticket has the fresh secret in it, and works as well.
    let next = pair.take_ticket(client);
    let client = pair.resume(next, false);
    pair.run_for(RTT * 3);
    assert_eq!(mode(&mut pair, client), (Mode::Resumed, false, true));
    say(&mut pair, client, StreamConfig::messages(), "under the new keys");
    let mut heard = Heard::default();
    listen_for(&mut pair, &mut heard, RTT);
    assert_eq!(heard.count("under the new keys"), 1);
}

#[test]
// spec-test: CON-52, CON-56
fn early_data_are_answered_within_a_round_trip() {
    let mut pair = Pair::new();
    let ticket = pair.ticket();
    let began = pair.now;
    let client = pair.resume(ticket, true);
    let stream = say(&mut pair, client, safe(), "early");
    pair.run_until(|pair| !server_handles(pair).is_empty());
    assert_eq!(pair.now, began + DELAY);
    let server = server_handles(&pair)[0];
    let now = pair.now;
    let connection = pair.server.connection(server).unwrap();
    assert!(connection.security().unwrap().early_data && !connection.is_established());
    // What the ticket remembers of the path is its first guess.
    assert_eq!(connection.rtt(), RTT * 2);
    assert_eq!(connection.accept(), Some(stream));
    assert!(connection.stream_info(stream).unwrap().replay_safe);
    let message = connection.recv(now, stream).unwrap().unwrap();
    assert_eq!(message.text(), Some("early"));
    connection.send(now, stream, Message::from("answer")).unwrap();
    let mut answer = None;
    pair.run_until(|pair| {
        let now = pair.now;
        let connection = pair.client.connection(client).unwrap();
        answer = connection.recv(now, stream).unwrap();
        answer.is_some()
    });
    assert_eq!(pair.now, began + RTT);
    assert_eq!(mode(&mut pair, client), (Mode::Resumed, true, false));
    pair.run_for(RTT * 3);
    assert!(pair.server.connection(server).unwrap().is_established());
    let connected = pair.events.iter().filter(|(_, _, event)| *event == Event::Connected);
    assert_eq!(connected.count(), 2, "each side hears it once");
    assert_eq!(mode(&mut pair, client), (Mode::Resumed, true, true));
}

#[test]
// spec-test: STR-50
fn streams_that_are_not_replay_safe_wait_for_the_handshake() {
    let mut pair = Pair::new();
    let ticket = pair.ticket();
    let began = pair.now;
    let client = pair.resume(ticket, true);
    say(&mut pair, client, StreamConfig::messages(), "later");
    say(&mut pair, client, safe(), "early");
    let now = pair.now;
    let connection = pair.client.connection(client).unwrap();
    connection.send(now, StreamId::SIGNALLING, Message::from("signal")).unwrap();
    let mut heard = Heard::default();
    listen_for(&mut pair, &mut heard, RTT * 3);
    let at = |text: &str| heard.texts.iter().find(|(t, _)| t == text).unwrap().1.since(began);
    assert!(at("early") <= DELAY + Duration::from_millis(1));
    assert!(at("later") >= DELAY * 3 && heard.count("later") == 1);
    let server = server_handles(&pair)[0];
    let now = pair.now;
    let connection = pair.server.connection(server).unwrap();
    let signal = connection.recv(now, StreamId::SIGNALLING).unwrap().unwrap();
    assert_eq!(signal.text(), Some("signal"));
}

/// What the client gets from a server whose early data are refused: everything, once.
fn refused(mut pair: Pair, ticket: ClientTicket, expected: Mode) {
    let client = pair.resume(ticket, true);
    let texts: Vec<String> = (0..30).map(|n| format!("early {n} {}", "x".repeat(200))).collect();
    for text in &texts {
        say(&mut pair, client, safe(), text);
    }
    say(&mut pair, client, StreamConfig::messages(), "later");
    let mut heard = Heard::default();
    listen_for(&mut pair, &mut heard, RTT * 12);
    assert_eq!(mode(&mut pair, client).0, expected);
    assert!(!mode(&mut pair, client).1);
    for text in texts.iter().map(String::as_str).chain(["later"]) {
        assert_eq!(heard.count(text), 1, "{text}");
    }
    assert!(!pair.client.connection(client).unwrap().is_closed());
}

const SECRET: [u8; 32] = [9; 32];

fn share(pair: &mut Pair, shard: u16) {
    let epoch = TicketKeys::epoch_at(1_800_000_000);
    let now = pair.now;
    pair.server.share_tickets(now, SECRET, epoch, shard, None);
}

/// Another server takes the place of the pair's, with what was kept of it.
fn restart_with(pair: &mut Pair, kept: Option<&[u8]>) -> bool {
    pair.restart_server();
    let (now, epoch) = (pair.now, TicketKeys::epoch_at(1_800_000_000));
    pair.server.share_tickets(now, SECRET, epoch, 0, kept)
}

#[test]
// spec-test: CON-55, HS-74
fn after_a_restart_early_data_wait_for_the_handshake() {
    let mut pair = Pair::new();
    share(&mut pair, 0);
    pair.run_for(Duration::from_secs(30));
    let ticket = pair.ticket();
    pair.restart_server();
    share(&mut pair, 0);
    refused(pair, ticket, Mode::Resumed);
}

#[test]
// spec-test: HS-95, HS-96
fn a_register_that_was_kept_takes_early_data_at_once_and_none_twice() {
    let mut pair = Pair::new();
    share(&mut pair, 0);
    pair.run_for(Duration::from_secs(30));
    let (used, unused, late) = (pair.ticket(), pair.ticket(), pair.ticket());
    pair.record = Some(Vec::new());
    let client = pair.resume(used, true);
    say(&mut pair, client, safe(), "once");
    let mut heard = Heard::default();
    listen_for(&mut pair, &mut heard, RTT * 5);
    assert_eq!((heard.count("once"), mode(&mut pair, client).1), (1, true));
    let copies = pair.record.take().unwrap();

    let now = pair.now;
    let kept = pair.server.keep_register(now).unwrap();
    // What comes before the end is not early any more.
    let client = pair.resume(late, true);
    say(&mut pair, client, safe(), "late");
    listen_for(&mut pair, &mut heard, RTT * 5);
    assert_eq!((heard.count("late"), mode(&mut pair, client).1), (1, false));

    assert!(restart_with(&mut pair, Some(&kept)));
    let mut again = HashMap::new();
    for (from, (to, bytes)) in copies.iter().enumerate() {
        if *to == End::Server {
            replay(&mut pair.server, pair.now, from as u32, bytes, &mut again);
        }
    }
    assert!(again.is_empty(), "{again:?}");
    let client = pair.resume(unused, true);
    say(&mut pair, client, safe(), "soon");
    listen_for(&mut pair, &mut heard, RTT * 5);
    assert_eq!((heard.count("soon"), mode(&mut pair, client).1), (1, true));
}

#[test]
// spec-test: HS-66
fn a_ticket_of_a_delegated_server_lives_as_long_as_the_delegation() {
    let mut pair = Pair::new();
    let begin = 1_800_000_000;
    let identity = Identity::from_seed(&[1; 32]).unwrap();
    let online = Identity::from_seed(&[2; 32]).unwrap();
    let delegation =
        Delegation::issue(&identity, online.public(), begin - 10, begin + 100, 1).unwrap();
    let credential = Credential::delegated(std::sync::Arc::new(online), delegation).unwrap();
    let mut config = pair.server_config();
    let crypto = std::sync::Arc::new(jsp_crypto::ServerConfig::new(credential));
    config.server.as_mut().unwrap().crypto = crypto;
    pair.server = Endpoint::new(config);
    let pin = jsp_crypto::ServerIdentity::Pinned(identity.fingerprint());
    pair.client_config = std::sync::Arc::new(jsp_crypto::ClientConfig::new(pin));
    let ticket = pair.ticket();
    let valid_at = |seconds: u64| ticket.is_valid_at((begin + seconds) * 1000);
    assert!(valid_at(60) && !valid_at(102));
    // The server takes it as well.
    let client = pair.resume(ticket, false);
    pair.run_for(RTT * 4);
    assert_eq!(mode(&mut pair, client).0, Mode::Resumed);
}

#[test]
// spec-test: HS-74, HS-95
fn a_register_that_is_missing_spoilt_foreign_or_old_is_none() {
    let mut pair = Pair::new();
    share(&mut pair, 0);
    pair.run_for(Duration::from_secs(30));
    let (now, epoch) = (pair.now, TicketKeys::epoch_at(1_800_000_000));
    let kept = pair.server.keep_register(now).unwrap();
    assert!(!restart_with(&mut pair, None));
    assert!(!restart_with(&mut pair, Some(b"")));
    assert!(!restart_with(&mut pair, Some(&kept[1..])));
    let mut spoilt = kept.clone();
    spoilt[12] ^= 1;
    assert!(!restart_with(&mut pair, Some(&spoilt)));
    assert!(!pair.server.share_tickets(now, [1; 32], epoch, 0, Some(&kept)), "another secret");
    assert!(!pair.server.share_tickets(now, SECRET, epoch, 1, Some(&kept)), "another shard");
    let old = now + Duration::from_secs(21);
    assert!(!pair.server.share_tickets(old, SECRET, epoch, 0, Some(&kept)));
    let young = now + Duration::from_secs(20);
    assert!(pair.server.share_tickets(young, SECRET, epoch, 0, Some(&kept)));
    // Keys of its own end with the endpoint: there is nothing to keep.
    pair.restart_server();
    let ticket = pair.ticket();
    assert!(pair.server.keep_register(now).is_none());
    // And one of no use is refused as none is.
    assert!(!restart_with(&mut pair, Some(&spoilt)));
    refused(pair, ticket, Mode::Full);
}

#[test]
// spec-test: CON-55, HS-75
fn another_shard_resumes_but_takes_no_early_data() {
    let mut pair = Pair::new();
    share(&mut pair, 0);
    pair.run_for(Duration::from_secs(30));
    let ticket = pair.ticket();
    pair.restart_server();
    share(&mut pair, 1);
    pair.run_for(Duration::from_secs(30));
    refused(pair, ticket, Mode::Resumed);
}

#[test]
// spec-test: CON-55, HS-75, STR-51
fn a_server_with_other_limits_takes_no_early_data_and_is_not_overrun() {
    let mut pair = Pair::new();
    share(&mut pair, 0);
    pair.run_for(Duration::from_secs(30));
    let ticket = pair.ticket();
    let mut config = pair.server_config();
    config.transport = std::sync::Arc::new(TransportConfig {
        streams_max: 4,
        stream_window: 1 << 14,
        connection_window: 1 << 14,
        ..TransportConfig::default()
    });
    pair.server = Endpoint::new(config);
    share(&mut pair, 0);
    pair.run_for(Duration::from_secs(30));
    let client = pair.resume(ticket, true);
    for n in 0..10 {
        let text = n.to_string();
        let stream = say(&mut pair, client, safe(), &text);
        let now = pair.now;
        pair.client.connection(client).unwrap().finish(now, stream).unwrap();
    }
    let mut heard = Heard::default();
    let until = pair.now + RTT * 40;
    while pair.now < until {
        pair.run_for(Duration::from_millis(1));
        let (now, handles) = (pair.now, server_handles(&pair));
        for handle in handles {
            let Some(connection) = pair.server.connection(handle) else { continue };
            while let Some(stream) = connection.accept() {
                while let Ok(Some(message)) = connection.recv(now, stream) {
                    heard.texts.push((message.text().unwrap().to_owned(), now));
                }
                connection.finish(now, stream).unwrap();
                let _ = connection.recv(now, stream);
            }
        }
    }
    for n in 0..10 {
        assert_eq!(heard.count(&n.to_string()), 1, "{n}");
    }
    assert_eq!(mode(&mut pair, client), (Mode::Resumed, false, true));
}

#[test]
// spec-test: CON-50, CON-51, CON-55
fn a_server_that_does_not_know_the_ticket_asks_for_a_full_hello() {
    let mut pair = Pair::new();
    let ticket = pair.ticket();
    let mut config = pair.server_config();
    config.seed = [77; 32];
    pair.server = Endpoint::new(config);
    refused(pair, ticket, Mode::Full);
}

#[test]
fn retry_and_resumption_go_together() {
    let mut pair = Pair::with(TransportConfig::default(), RetryPolicy::Always);
    let ticket = pair.ticket();
    let began = pair.now;
    let client = pair.resume(ticket, true);
    say(&mut pair, client, safe(), "early");
    let mut heard = Heard::default();
    listen_for(&mut pair, &mut heard, RTT * 5);
    assert_eq!(heard.count("early"), 1);
    assert!(heard.texts[0].1.since(began) <= RTT + DELAY + Duration::from_millis(1));
    assert_eq!(mode(&mut pair, client), (Mode::Resumed, true, true));
}

#[test]
fn a_hello_that_is_lost_goes_again_with_its_early_data() {
    let mut pair = Pair::new();
    let ticket = pair.ticket();
    let began = pair.now;
    let client = pair.resume(ticket, true);
    say(&mut pair, client, safe(), "early");
    let mut left = 1;
    pair.filter = Box::new(move |to, _| {
        let lost = to == End::Server && left > 0;
        left -= i32::from(lost);
        !lost
    });
    let mut heard = Heard::default();
    listen_for(&mut pair, &mut heard, Duration::from_secs(3));
    assert_eq!(heard.count("early"), 1);
    assert_eq!(mode(&mut pair, client), (Mode::Resumed, true, true));
    // The first probe goes after 1 s (RFC 9002, section 6.2.2).
    assert!(heard.texts[0].1.since(began) < Duration::from_millis(1_050));
}

#[test]
// spec-test: CON-58, HS-72
fn a_copy_that_comes_first_from_elsewhere_makes_one_connection() {
    let mut pair = Pair::new();
    let ticket = pair.ticket();
    let client = pair.resume(ticket, true);
    say(&mut pair, client, safe(), "early");
    pair.record = Some(Vec::new());
    pair.filter = Box::new(|_, _| true);
    // Somebody is quicker than the client, and is first at the server.
    let held = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
    let copy = held.clone();
    pair.filter = Box::new(move |to, bytes| {
        let mut held = copy.borrow_mut();
        let first = to == End::Server && held.is_empty();
        if first {
            *held = bytes.clone();
        }
        !first
    });
    pair.flush();
    let stolen = held.borrow().clone();
    let elsewhere = "192.0.2.66:666".parse().unwrap();
    pair.inject(End::Server, elsewhere, &stolen);
    let mut heard = Heard::default();
    listen_for(&mut pair, &mut heard, RTT);
    assert_eq!(heard.count("early"), 1);
    // The client's own hello, sent again, is answered by that very connection.
    listen_for(&mut pair, &mut heard, Duration::from_secs(3));
    assert_eq!(heard.count("early"), 1);
    assert_eq!(mode(&mut pair, client), (Mode::Resumed, true, true));
    assert_eq!(server_handles(&pair).len(), 1);
    for (address, told) in &pair.told {
        if *address == elsewhere {
            assert!(*told <= 3 * pair.heard[address], "{told} bytes to who is not proved");
        }
    }
}

/// A server with its own clock, shard and memory, for replays.
fn shard(config: &EndpointConfig, now: Instant, shift: i64, number: u16) -> Endpoint {
    let mut config = config.clone();
    config.unix_seconds_at_zero = config.unix_seconds_at_zero.saturating_add_signed(shift);
    let mut server = Endpoint::new(config);
    server.share_tickets(now, SECRET, TicketKeys::epoch_at(1_800_000_000), number, None);
    server
}

/// Gives a server a datagram and takes what its applications hear.
fn replay(
    server: &mut Endpoint,
    now: Instant,
    from: u32,
    bytes: &[u8],
    heard: &mut HashMap<String, usize>,
) {
    let host = std::net::Ipv4Addr::from(0x0a00_0000 + (from & 0xffff));
    let route = Route::udp((host, 1000 + (from >> 16) as u16).into());
    let payload = bytes::BytesMut::from(bytes);
    server.handle_datagram(now, Datagram { route, ecn: None, payload });
    server.handle_timeout(now);
    let mut batch = jsp_proto::Batch::new(0, 64);
    while server.poll_transmit(now, &mut batch) {
        batch.clear();
    }
    let mut handles = Vec::new();
    while let Some((handle, event)) = server.poll_event() {
        match event {
            Event::StreamOpened { .. } => handles.push(handle),
            Event::Drained => server.forget(now, handle),
            _ => {}
        }
    }
    for handle in handles {
        let Some(connection) = server.connection(handle) else { continue };
        while let Some(stream) = connection.accept() {
            while let Ok(Some(message)) = connection.recv(now, stream) {
                *heard.entry(message.text().unwrap().to_owned()).or_default() += 1;
            }
        }
    }
}

#[test]
// spec-test: HS-72, HS-73, HS-74, HS-75
fn ten_thousand_replays_bring_each_early_message_once_at_most() {
    let mut pair = Pair::new();
    share(&mut pair, 0);
    let mut rng = TestRng(0x5eed_0001);
    let mut random = move |below: u64| {
        let mut bytes = [0; 8];
        jsp_crypto::Rng::fill(&mut rng, &mut bytes);
        u64::from_le_bytes(bytes) % below
    };
    pair.run_for(Duration::from_secs(30));
    let config = pair.server_config();
    let mut home = shard(&config, Instant::ZERO, 0, 0);
    let mut other = shard(&config, Instant::ZERO, 0, 1);
    let mut now = pair.now;
    let mut heard: HashMap<String, usize> = HashMap::new();
    // Hellos of twenty tickets, as they leave; none of them reaches the pair's own server.
    let mut hellos: Vec<Vec<u8>> = Vec::new();
    for number in 0..20 {
        let ticket = pair.ticket();
        let sent = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
        let copies = sent.clone();
        pair.filter = Box::new(move |to, bytes| {
            if to == End::Server {
                copies.borrow_mut().push(bytes.clone());
            }
            false
        });
        let client = pair.resume(ticket, true);
        say(&mut pair, client, safe(), &format!("message {number}"));
        pair.flush();
        pair.client.forget(pair.now, client);
        pair.filter = Box::new(|_, _| true);
        let first = sent.borrow()[0].clone();
        hellos.push(first.clone());
        now = now.max(pair.now);
        replay(&mut home, now, number, &first, &mut heard);
        pair.run_for(Duration::from_millis(300));
        now = now.max(pair.now);
        for _ in 0..500 {
            let which = random(hellos.len() as u64) as usize;
            now = now + Duration::from_millis(random(30));
            let server = if random(3) == 0 { &mut other } else { &mut home };
            replay(server, now, random(1 << 20) as u32, &hellos[which], &mut heard);
        }
        // Now and then the home server starts anew, at times with a clock that has leapt.
        if number % 5 == 4 {
            let shift = [0, 60, -60, 9][(number / 5 % 4) as usize];
            home = shard(&config, now, shift, 0);
        }
        pair.now = pair.now.max(now);
        pair.run_for(Duration::from_millis(1));
    }
    assert!(heard.len() >= 5, "early data are taken at all: {heard:?}");
    assert!(heard.values().all(|count| *count == 1), "{heard:?}");
}

#[test]
// spec-test: HS-82, HS-83, CON-47, CON-48
fn fresh_secrets_and_keys_come_by_time_and_by_bytes() {
    let config = TransportConfig {
        exchange_after: Duration::from_secs(20),
        exchange_bytes: 400_000,
        key_update_after: Duration::from_secs(7),
        keep_alive: Some(Duration::from_millis(500)),
        ..TransportConfig::default()
    };
    let mut pair = Pair::with(config, RetryPolicy::Never);
    let (client, server) = pair.establish();
    let stream = say(&mut pair, client, StreamConfig::messages(), "first");
    let mut heard = 0;
    for second in 0..100 {
        pair.run_for(Duration::from_secs(1));
        let now = pair.now;
        let connection = pair.client.connection(client).unwrap();
        let len = if second < 50 { 100 } else { 60_000 };
        connection.send(now, stream, Message::from(vec![7; len])).unwrap();
        let connection = pair.server.connection(server).unwrap();
        while connection.accept().is_some() {}
        while let Ok(Some(_)) = connection.recv(now, stream) {
            heard += 1;
        }
        for (end, handle) in [(End::Client, client), (End::Server, server)] {
            assert_eq!(pair.close_reason(end, handle), None);
        }
    }
    assert!(heard >= 99, "{heard}");
    let rounds =
        |endpoint: &mut Endpoint, handle| endpoint.connection(handle).unwrap().stats().exchanges;
    let of_client = rounds(&mut pair.client, client);
    assert!((6..=12).contains(&of_client), "{of_client} exchanges");
    assert!(rounds(&mut pair.server, server).abs_diff(of_client) <= 1);
}

#[test]
// spec-test: CON-57
fn a_client_with_early_data_gives_up_in_time() {
    let transport =
        TransportConfig { handshake_timeout: Duration::from_secs(60), ..Default::default() };
    let mut pair = Pair::with(transport, RetryPolicy::Never);
    let ticket = pair.ticket();
    let client = pair.resume(ticket, true);
    say(&mut pair, client, safe(), "early");
    pair.filter = Box::new(|_, _| false);
    let began = pair.now;
    pair.run_until(|pair| pair.close_reason(End::Client, client).is_some());
    assert_eq!(pair.close_reason(End::Client, client), Some(CloseReason::HandshakeTimeout));
    assert_eq!(pair.now.since(began), Duration::from_secs(10));
}

#[test]
fn a_ticket_refusal_that_anybody_made_up_does_no_harm() {
    // The server accepts, but a forged refusal is there first: either answer will do.
    let mut pair = Pair::new();
    let ticket = pair.ticket();
    let mut stranger = pair.server_config();
    stranger.seed = [78; 32];
    let mut stranger = Endpoint::new(stranger);
    let client = pair.resume(ticket, true);
    say(&mut pair, client, safe(), "early");
    let sent = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
    let copies = sent.clone();
    pair.filter = Box::new(move |to, bytes| {
        if to == End::Server {
            copies.borrow_mut().push(bytes.clone());
        }
        true
    });
    pair.flush();
    let hello = sent.borrow()[0].clone();
    let payload = bytes::BytesMut::from(&hello[..]);
    let route = Route::udp(pair.client_addr);
    let now = pair.now;
    stranger.handle_datagram(now, Datagram { route, ecn: None, payload });
    let mut batch = jsp_proto::Batch::new(0, 1);
    assert!(stranger.poll_transmit(now, &mut batch));
    let refusal = batch.contents().to_vec();
    let from = pair.server_addr;
    pair.inject(End::Client, from, &refusal);
    let mut heard = Heard::default();
    listen_for(&mut pair, &mut heard, RTT * 5);
    assert_eq!(heard.count("early"), 1);
    assert_eq!(mode(&mut pair, client).0, Mode::Resumed);
    assert_eq!(server_handles(&pair).len(), 1);
}

#[test]
fn chaos_neither_loses_nor_doubles_early_data() {
    for seed in 1..=60u64 {
        let retry = if seed % 3 == 0 { RetryPolicy::Always } else { RetryPolicy::Never };
        let mut pair = Pair::seeded(TransportConfig::default(), retry, 16, seed as u8);
        let ticket = pair.ticket();
        if seed % 4 == 0 {
            let mut config = pair.server_config();
            config.seed = [200; 32];
            pair.server = Endpoint::new(config);
        }
        let mut rng = TestRng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        pair.weather = Box::new(move |_| {
            let mut byte = [0; 3];
            jsp_crypto::Rng::fill(&mut rng, &mut byte);
            let delay = |byte: u8| Duration::from_millis(5 + u64::from(byte % 40));
            match byte[0] % 10 {
                0 | 1 => Vec::new(),
                2 => vec![delay(byte[1]), delay(byte[2])],
                _ => vec![delay(byte[1])],
            }
        });
        let client = pair.resume(ticket, true);
        let texts: Vec<String> = (0..12).map(|n| format!("{n} {}", "y".repeat(300))).collect();
        for (n, text) in texts.iter().enumerate() {
            let config = if n % 4 == 3 { StreamConfig::messages() } else { safe() };
            say(&mut pair, client, config, text);
        }
        let mut heard = Heard::default();
        listen_for(&mut pair, &mut heard, Duration::from_secs(8));
        let reason = pair.close_reason(End::Client, client);
        assert_eq!(reason, None, "seed {seed}");
        for text in &texts {
            assert_eq!(heard.count(text), 1, "seed {seed}: {}", &text[..2]);
        }
    }
}
