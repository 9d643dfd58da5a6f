//! The register against replays: copies of hellos, restarts, and other shards.

use std::collections::HashMap;
use std::net::SocketAddr;

use super::*;

/// Another server takes the place of the pair's, with what was kept of it.
pub(crate) fn restart_with(pair: &mut Pair, kept: Option<&[u8]>) -> bool {
    pair.restart_server();
    let (now, epoch) = (pair.now, TicketKeys::epoch_at(1_800_000_000));
    pair.server.share_tickets(now, SECRET, epoch, 0, kept)
}

#[test]
// spec-test: CON-55, HS-74
fn after_a_restart_early_data_wait_for_the_handshake() {
    let mut pair = sharing();
    let ticket = pair.ticket();
    pair.restart_server();
    share(&mut pair, 0);
    refused(pair, ticket, Mode::Resumed);
}

#[test]
// spec-test: HS-95, HS-96
fn a_register_that_was_kept_takes_early_data_at_once_and_none_twice() {
    let mut pair = sharing();
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
    // What comes afterwards waits for the next server: it could not be kept any more.
    let waiting = pair.resume(late, true);
    say(&mut pair, waiting, safe(), "late");
    listen_for(&mut pair, &mut heard, RTT * 5);
    assert_eq!(heard.count("late"), 0);

    assert!(restart_with(&mut pair, Some(&kept)));
    listen_for(&mut pair, &mut heard, Duration::from_secs(2));
    assert_eq!((heard.count("late"), mode(&mut pair, waiting).1), (1, true));
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
// spec-test: HS-74, HS-95
fn a_register_that_is_missing_spoilt_foreign_or_old_is_none() {
    let mut pair = sharing();
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
    let mut pair = sharing();
    let ticket = pair.ticket();
    pair.restart_server();
    share(&mut pair, 1);
    pair.run_for(Duration::from_secs(30));
    refused(pair, ticket, Mode::Resumed);
}

#[test]
// spec-test: CON-58, HS-72
fn a_copy_that_comes_first_from_elsewhere_makes_one_connection() {
    let mut pair = Pair::new();
    let ticket = pair.ticket();
    let client = pair.resume(ticket, true);
    say(&mut pair, client, safe(), "early");
    // Somebody is quicker than the client, and is first at the server.
    pair.held = Some(Vec::new());
    pair.flush();
    let stolen = pair.held.take().unwrap();
    assert_eq!(stolen.len(), 1);
    let elsewhere = "192.0.2.66:666".parse().unwrap();
    pair.inject(End::Server, elsewhere, &stolen[0]);
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

/// A client whose hello came again from somebody else's address, to which all that it sends afterwards seems to come
/// from; its server has much to say.
fn one_who_points_at_another(pair: &mut Pair, victim: SocketAddr) -> ConnectionHandle {
    let ticket = pair.ticket();
    let client = pair.resume(ticket, true);
    let stream = say(pair, client, safe(), "much, please");
    pair.held = Some(Vec::new());
    pair.flush();
    let hello = pair.held.take().unwrap();
    let own = pair.client_addr;
    pair.held = Some(Vec::new());
    pair.inject(End::Server, own, &hello[0]);
    pair.run_for(DELAY);
    pair.inject(End::Server, victim, &hello[0]);
    let mut server = None;
    for _ in 0..200 {
        pair.run_for(DELAY);
        for datagram in pair.held.replace(Vec::new()).unwrap() {
            pair.inject(End::Server, victim, &datagram);
        }
        let now = pair.now;
        if server.is_none()
            && let Some(handle) = server_handles(pair).first()
        {
            server = Some(*handle);
            let connection = pair.server.connection(*handle).unwrap();
            let much = Message::from(vec![7; 200_000]);
            connection.send(now, stream, much).unwrap();
        }
    }
    server.unwrap()
}

#[test]
// spec-test: CON-9, CON-10, CON-58, CON-264
fn an_address_that_a_hello_came_again_from_proves_itself() {
    let mut pair = Pair::new();
    let victim = "192.0.2.66:666".parse().unwrap();
    let server = one_who_points_at_another(&mut pair, victim);
    assert!(pair.server.connection(server).unwrap().is_established());
    let (told, heard) = (pair.told[&victim], pair.heard[&victim]);
    assert!(told <= 3 * heard, "{told} bytes for {heard}");
    assert!(told < 20_000, "{told} bytes to who has not asked");
    // Last words go within the same bound.
    let now = pair.now;
    pair.server.connection(server).unwrap().close(now, 1, &[7; 1000]);
    pair.run_for(DELAY);
    let told = pair.told[&victim];
    assert!(told <= 3 * heard, "{told} bytes for {heard} with the last words");
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
pub(crate) fn replay(
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
    let mut pair = sharing();
    let mut rng = TestRng(0x5eed_0001);
    let mut random = move |below: u64| {
        let mut bytes = [0; 8];
        jsp_crypto::Rng::fill(&mut rng, &mut bytes);
        u64::from_le_bytes(bytes) % below
    };
    // There is room for all the connections that copies begin.
    let mut config = pair.server_config();
    config.server.as_mut().unwrap().connections_max = 10_000;
    let mut home = shard(&config, Instant::ZERO, 0, 0);
    let mut other = shard(&config, Instant::ZERO, 0, 1);
    let mut now = pair.now;
    let mut heard: HashMap<String, usize> = HashMap::new();
    let mut honest = Heard::default();
    // Hellos of twenty tickets, as they leave; none of them reaches the pair's own server.
    let mut hellos: Vec<Vec<u8>> = Vec::new();
    for number in 0..20 {
        let ticket = pair.ticket();
        pair.held = Some(Vec::new());
        let client = pair.resume(ticket, true);
        say(&mut pair, client, safe(), &format!("message {number}"));
        pair.flush();
        let first = pair.held.take().unwrap()[0].clone();
        hellos.push(first.clone());
        now = now.max(pair.now);
        // Some clients go on until they are heard, by a home that takes nothing early at the time.
        if matches!(number, 5 | 6 | 15 | 16) {
            std::mem::swap(&mut pair.server, &mut home);
            let from = pair.client_addr;
            pair.inject(End::Server, from, &first);
            listen_for(&mut pair, &mut honest, RTT * 6);
            honest.streams.clear();
            pair.events.clear();
            std::mem::swap(&mut pair.server, &mut home);
            now = now.max(pair.now);
        }
        pair.client.forget(pair.now, client);
        replay(&mut home, now, number, &first, &mut heard);
        pair.run_for(Duration::from_millis(300));
        now = now.max(pair.now);
        for step in 0..500 {
            let which = random(hellos.len() as u64) as usize;
            now = now + Duration::from_millis(random(30));
            // Its clock is set while it runs, too.
            if number % 5 == 4 && step % 250 == 249 {
                let wrong_by = [45, -45, 3600, -3600][(number / 5 % 4) as usize];
                tell_time(&mut home, now, if step == 249 { wrong_by } else { 0 });
            }
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
    assert_eq!(honest.texts.len(), 4, "they are heard");
    for (text, _) in honest.texts {
        *heard.entry(text).or_default() += 1;
    }
    assert!(heard.values().all(|count| *count == 1), "{heard:?}");
}

/// Tells an endpoint a Unix time so many seconds from the true one.
fn tell_time(endpoint: &mut Endpoint, now: Instant, wrong_by: i64) {
    let since_1970 = Duration::from_secs(1_800_000_000u64.saturating_add_signed(wrong_by));
    endpoint.set_unix_time(now, since_1970 + now.since(Instant::ZERO));
}

#[test]
// spec-test: HS-72, HS-73, HS-228
fn a_clock_that_leaps_opens_no_window_for_copies() {
    for leaps in [[25, 0], [60, 60], [3600, 0], [-25, 0], [-3600, 3600], [60, -60]] {
        let mut pair = sharing();
        let tickets = [(); 3].map(|()| pair.ticket());
        let now = pair.now;
        let mut home = shard(&pair.server_config(), Instant::ZERO, 0, 0);
        let hellos = tickets.map(|ticket| {
            pair.held = Some(Vec::new());
            let client = pair.resume(ticket, true);
            say(&mut pair, client, safe(), "once");
            pair.flush();
            pair.held.take().unwrap().remove(0)
        });
        let mut heard = HashMap::new();
        replay(&mut home, now, 0, &hellos[0], &mut heard);
        assert_eq!(heard.get("once"), Some(&1));
        let connections = home.connection_count();
        for (step, leap) in leaps.into_iter().enumerate() {
            let now = now + Duration::from_secs(2 * step as u64 + 1);
            tell_time(&mut home, now, leap);
            // Others come, old or new by that time, and are entered or not.
            replay(&mut home, now, 7, &hellos[step + 1], &mut HashMap::new());
            let with_another = home.connection_count();
            replay(&mut home, now, 9, &hellos[0], &mut heard);
            assert_eq!(home.connection_count(), with_another, "a copy at {leap} s");
        }
        assert!(home.connection_count() > connections);
        assert_eq!(heard.get("once"), Some(&1), "{leaps:?}");
    }
}

#[test]
// spec-test: HS-74, HS-228
fn a_clock_that_is_set_right_after_the_start_leaves_the_server_blind() {
    let mut pair = sharing();
    let ticket = pair.ticket();
    let config = pair.server_config();
    let now = pair.now;
    let mut home = shard(&config, Instant::ZERO, 0, 0);
    pair.held = Some(Vec::new());
    let client = pair.resume(ticket, true);
    say(&mut pair, client, safe(), "once");
    pair.flush();
    let hello = pair.held.take().unwrap().remove(0);
    let mut heard = HashMap::new();
    replay(&mut home, now, 0, &hello, &mut heard);
    // Another server takes its place, whose clock is an hour behind until somebody sets it.
    let mut home = shard(&config, now, -3600, 0);
    for seconds in 1..30 {
        let now = now + Duration::from_secs(seconds);
        tell_time(&mut home, now, 0);
        replay(&mut home, now, seconds as u32, &hello, &mut heard);
    }
    assert_eq!(heard.get("once"), Some(&1));
}

#[test]
// spec-test: HS-227
fn early_data_go_on_after_both_hosts_have_slept() {
    let mut pair = sharing();
    let ticket = pair.ticket();
    let now = pair.now;
    // The server sleeps for two hours, and the client does not; `now` stands still meanwhile.
    tell_time(&mut pair.server, now, 7200);
    pair.run_for(Duration::from_secs(1));
    let now = pair.now;
    tell_time(&mut pair.client, now, 7200);
    let client = pair.resume(ticket, true);
    say(&mut pair, client, safe(), "early");
    let mut heard = Heard::default();
    listen_for(&mut pair, &mut heard, RTT * 5);
    assert_eq!((heard.count("early"), mode(&mut pair, client)), (1, (Mode::Resumed, true, true)));
}

#[test]
// spec-test: HS-228
fn a_clock_that_was_set_is_told_once_to_what_all_shards_share() {
    let mut pair = sharing();
    let ticket = pair.ticket();
    let (now, behind) = (pair.now, 8 * 3600);
    let mut config = pair.server_config();
    config.unix_seconds_at_zero -= behind as u64;
    let mut shards = Endpoint::sharded(config, 3);
    let epoch = TicketKeys::epoch_at(1_800_000_000);
    shards[0].share_tickets(Instant::ZERO, SECRET, epoch, 0, None);
    // Set right, set wrong again, and set right: the quiet after the start is over all the same.
    for wrong_by in [0, -behind, 0] {
        shards.iter_mut().for_each(|shard| tell_time(shard, now, wrong_by));
    }
    pair.held = Some(Vec::new());
    let client = pair.resume(ticket, true);
    say(&mut pair, client, safe(), "early");
    pair.flush();
    let hello = pair.held.take().unwrap().remove(0);
    let mut heard = HashMap::new();
    for (place, shard) in shards.iter_mut().enumerate() {
        replay(shard, now, place as u32, &hello, &mut heard);
    }
    assert_eq!(heard.get("early"), Some(&1));
}

#[test]
// spec-test: HS-72, CON-121
fn shards_of_one_server_take_early_data_once_between_them() {
    let mut pair = sharing();
    let mut shards = Endpoint::sharded(pair.server_config(), 3);
    let epoch = TicketKeys::epoch_at(1_800_000_000);
    shards[2].share_tickets(Instant::ZERO, SECRET, epoch, 0, None);
    let mut heard = HashMap::new();
    for turn in 0..3 {
        let ticket = pair.ticket();
        pair.held = Some(Vec::new());
        let client = pair.resume(ticket, true);
        say(&mut pair, client, safe(), &format!("message {turn}"));
        pair.flush();
        let hello = pair.held.take().unwrap()[0].clone();
        for copy in 0..9 {
            let shard = &mut shards[(turn + copy) % 3];
            replay(shard, pair.now, copy as u32, &hello, &mut heard);
            assert_eq!(heard.len(), turn + 1, "the first shard takes them: {heard:?}");
        }
    }
    assert!(heard.values().all(|count| *count == 1), "{heard:?}");
}
