//! Early data: what may be sent early, and when it arrives.

use super::*;

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

#[test]
// spec-test: CON-55, HS-75, STR-51
fn a_server_with_other_limits_takes_no_early_data_and_is_not_overrun() {
    let mut pair = sharing();
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
// spec-test: CON-266
fn a_client_whose_host_slept_sends_nothing_once_more_that_may_have_been_taken() {
    let mut pair = sharing();
    let ticket = pair.ticket();
    let client = pair.resume(ticket, true);
    say(&mut pair, client, safe(), "early");
    // The server takes them; nothing comes back before the host sleeps.
    pair.filter = Box::new(|to, _| to == End::Server);
    let mut heard = Heard::default();
    listen_for(&mut pair, &mut heard, RTT * 2);
    assert_eq!(heard.count("early"), 1);
    // Its connection is over by then, and its register has let the ticket go.
    pair.restart_server();
    share(&mut pair, 0);
    let (now, awake) = (pair.now, Duration::from_secs(1_800_000_000 + 3600));
    pair.client.set_unix_time(now, awake);
    pair.server.set_unix_time(now, awake);
    pair.filter = Box::new(|_, _| true);
    listen_for(&mut pair, &mut heard, Duration::from_secs(9));
    assert_eq!(heard.count("early"), 1);
    assert_eq!(pair.close_reason(End::Client, client), Some(CloseReason::HandshakeTimeout));
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

/// The first datagrams of clients with tickets, early data in them; nothing of them has reached the server.
fn early_hellos(pair: &mut Pair, count: usize) -> Vec<Vec<u8>> {
    let tickets: Vec<ClientTicket> = (0..count).map(|_| pair.ticket()).collect();
    let mut hellos = Vec::new();
    for (number, ticket) in tickets.into_iter().enumerate() {
        pair.held = Some(Vec::new());
        let client = pair.resume(ticket, true);
        say(pair, client, safe(), &format!("hoarded {number}"));
        pair.flush();
        hellos.push(pair.held.take().unwrap().remove(0));
        // It goes without a word.
        pair.client.forget(pair.now, client);
        pair.held = Some(Vec::new());
        pair.flush();
        pair.held = None;
    }
    hellos
}

#[test]
// spec-test: CON-201, CON-61, CON-80
fn early_connections_are_half_open_until_their_clients_prove_themselves() {
    let mut pair = Pair::with(TransportConfig::default(), RetryPolicy::WhenHalfOpen(3));
    let mine = pair.ticket();
    let hellos = early_hellos(&mut pair, 6);
    let elsewhere = |n: usize| format!("203.0.{n}.7:7").parse().unwrap();
    for (n, hello) in hellos.iter().enumerate() {
        pair.inject(End::Server, elsewhere(n), hello);
        pair.flush();
    }
    let early: Vec<_> = server_handles(&pair);
    assert_eq!((early.len(), pair.server.connection_count()), (4, 4));
    // They are strangers still, and the others were asked who they are.
    let payload = bytes::BytesMut::from(&hellos[0][..]);
    let again = Datagram { route: Route::udp(elsewhere(0)), ecn: None, payload };
    assert!(pair.server.handle_or_defer(pair.now, again).is_some());
    assert!((4..6).all(|n| pair.told[&elsewhere(n)] < 100));
    // Who has an address is served, though not early.
    let client = pair.resume(mine, true);
    say(&mut pair, client, safe(), "mine");
    let mut heard = Heard::default();
    listen_for(&mut pair, &mut heard, RTT * 5);
    assert_eq!(mode(&mut pair, client), (Mode::Resumed, false, true));
    assert_eq!(heard.count("mine"), 1);
    // Whoever does not come is given up, and the server is calm again.
    pair.run_for(Duration::from_secs(15));
    for handle in early {
        pair.server.forget(pair.now, handle);
    }
    pair.run_for(Duration::from_secs(10));
    let next = pair.take_ticket(client);
    let client = pair.resume(next, true);
    pair.run_for(RTT * 5);
    assert_eq!(mode(&mut pair, client), (Mode::Resumed, true, true));
}
