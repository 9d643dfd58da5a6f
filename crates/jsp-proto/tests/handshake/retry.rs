//! Retry packets and their cookies, true and forged.

use super::*;

#[test]
// spec-test: CON-37
fn a_cookie_of_another_address_is_told_of() {
    // The client's address changes between the Retry and the hello that obeys it.
    let mut pair = Pair::with(TransportConfig::default(), RetryPolicy::Always);
    let start = pair.now;
    let client = pair.connect();
    pair.run_for(Duration::from_millis(15));
    pair.client_addr = "192.0.2.1:1001".parse().unwrap();
    pair.run_until(|pair| pair.close_reason(End::Client, client).is_some());
    match pair.close_reason(End::Client, client) {
        Some(CloseReason::PeerError { code, .. }) => assert_eq!(code, CloseCode::INVALID_TOKEN),
        other => panic!("{other:?}"),
    }
    assert!(pair.now - start < Duration::from_millis(3300));
    assert_eq!(pair.server.connection_count(), 0);
}

/// Has a client connect and keeps from the server what it says with a cookie: a hello of two datagrams.
fn held_hellos(pair: &mut Pair) -> (ConnectionHandle, Vec<Vec<u8>>) {
    let hellos = Arc::new(Mutex::new(Vec::new()));
    let sink = hellos.clone();
    pair.filter = Box::new(move |to, bytes| {
        let retried = matches!(Header::parse(bytes), Ok(Header::Long(h)) if !h.token.is_empty());
        if to == End::Server && retried {
            sink.lock().unwrap().push(bytes.clone());
        }
        !retried
    });
    let client = pair.connect();
    pair.run_for(DELAY * 3);
    let hellos = hellos.lock().unwrap().clone();
    assert_eq!(hellos.len(), 2);
    (client, hellos)
}

#[test]
// spec-test: CON-37
fn a_hello_with_a_bad_cookie_opens_nothing() {
    let mut pair = Pair::with(TransportConfig::default(), RetryPolicy::Always);
    let (_, hellos) = held_hellos(&mut pair);
    // A server with other cookie keys, with and without Retry; and the same bytes, damaged.
    for policy in [RetryPolicy::Never, RetryPolicy::Always] {
        for damaged in [false, true] {
            let mut other = Pair::seeded(TransportConfig::default(), policy, 16, 99);
            let from = other.client_addr;
            for hello in &hellos {
                let mut hello = hello.clone();
                hello[40] ^= u8::from(damaged);
                other.inject(End::Server, from, &hello);
            }
            other.run_for(DELAY);
            assert_eq!(other.server.connection_count(), 0);
            let told = other.told.get(&from).copied().unwrap_or(0);
            assert_eq!(told > 0, !damaged);
            assert!(told < 150, "two short answers at most: {told}");
        }
    }
}

#[test]
// spec-test: HS-51
fn a_cookie_is_good_for_ten_seconds() {
    for (age, opened) in [(9, 1), (12, 0)] {
        let mut pair = Pair::with(TransportConfig::default(), RetryPolicy::Always);
        let (client, hellos) = held_hellos(&mut pair);
        pair.client.forget(pair.now, client);
        pair.filter = Box::new(|_, _| true);
        pair.run_for(Duration::from_secs(age));
        for hello in &hellos {
            pair.inject(End::Server, pair.client_addr, hello);
        }
        pair.run_for(DELAY);
        assert_eq!(pair.server.connection_count(), opened, "{age} s");
    }
}

#[test]
// spec-test: CON-2, CON-15
fn a_retry_is_obeyed_once_and_its_cookie_serves_one_address() {
    let mut pair = Pair::with(TransportConfig::default(), RetryPolicy::Always);
    pair.record = Some(Vec::new());
    let client = pair.connect();
    pair.run_until(|pair| pair.client.connection(client).unwrap().is_established());
    pair.run_for(Duration::from_secs(1));
    let record = pair.record.take().unwrap();
    // The hello with its cookie, from elsewhere and again: no connection, no more than a Retry.
    let stranger = "203.0.113.9:9".parse().unwrap();
    let with_cookie = |datagram: &[u8]| match Header::parse(datagram) {
        Ok(Header::Long(header)) => header.kind == LongType::Initial && !header.token.is_empty(),
        _ => false,
    };
    let mut count = 0;
    for (to, datagram) in &record {
        if *to == End::Server && with_cookie(datagram) {
            pair.inject(End::Server, stranger, datagram);
            count += 1;
        }
    }
    assert!(count >= 2);
    let before = pair.server.connection_count();
    pair.run_for(Duration::from_secs(1));
    assert_eq!(pair.server.connection_count(), before);
    assert_eq!(before, 1);
    // A Retry that comes again does nothing.
    let from = pair.server_addr;
    for (to, datagram) in &record {
        if *to == End::Client && matches!(Header::parse(datagram), Ok(Header::Retry { .. })) {
            pair.inject(End::Client, from, datagram);
        }
    }
    pair.run_for(Duration::from_secs(1));
    assert!(pair.client.connection(client).unwrap().is_established());
    let route = Route::udp(pair.server_addr);
    assert_eq!(pair.client.connection(client).unwrap().route(), route);
}

/// A Retry by somebody who has seen the hello.
fn forged_retry(dcid: &ConnectionId, scid: &ConnectionId, n: u8) -> Vec<u8> {
    let mut buf = [0; 100];
    let mut writer = Writer::new(&mut buf);
    let source = ConnectionId::new(&[n; 8]).unwrap();
    header::write_retry(&mut writer, scid, &source, &[n; 29]).unwrap();
    let mut packet = writer.written().to_vec();
    packet.extend(jsp_crypto::retry_integrity_tag(VERSION_1, dcid.as_bytes(), &packet));
    packet
}

#[test]
// spec-test: CON-5, CON-15, CON-66, CON-67
fn forged_retries_do_not_mislead_an_attempt() {
    for policy in [RetryPolicy::Never, RetryPolicy::Always] {
        for forgeries in 1..=3 {
            let mut pair = Pair::with(TransportConfig::default(), policy);
            let (client, dcid, scid, keys) = overheard(&mut pair);
            let from = pair.server_addr;
            // An Initial packet goes before, so that the server's Retry is not the first word.
            let ids = (scid, ConnectionId::new(&[9; 4]).unwrap());
            pair.inject(End::Client, from, &forge(&keys, ids, 0, 1, &[1]));
            for n in 1..=forgeries {
                pair.inject(End::Client, from, &forged_retry(&dcid, &scid, n));
                pair.flush();
            }
            let start = pair.now;
            pair.run_until(|pair| pair.client.connection(client).unwrap().is_established());
            assert!(pair.now - start < Duration::from_millis(100), "{:?}", pair.now - start);
            pair.run_for(Duration::from_secs(2));
            assert_eq!(pair.close_reason(End::Client, client), None, "{policy:?} {forgeries}");
        }
    }
    // What is not sent to this hello is not obeyed, nor is a fifth.
    let mut pair = Pair::with(TransportConfig::default(), RetryPolicy::Never);
    let (_, dcid, scid, _) = overheard(&mut pair);
    let from = pair.server_addr;
    let ids = Arc::new(Mutex::new(Vec::new()));
    let sink = ids.clone();
    pair.filter = Box::new(move |to, bytes| {
        if to == End::Server {
            let mut ids = sink.lock().unwrap();
            ids.push(ids_of(bytes).0);
            ids.dedup();
        }
        false
    });
    for n in 0..8 {
        let dcid = if n == 0 { scid } else { dcid };
        pair.inject(End::Client, from, &forged_retry(&dcid, &scid, n));
        pair.flush();
    }
    let id = |n: u8| ConnectionId::new(&[n; 8]).unwrap();
    assert_eq!(*ids.lock().unwrap(), [id(1)]);
    pair.run_for(Duration::from_secs(9));
    assert_eq!(*ids.lock().unwrap(), [id(1), id(2), id(3), id(4)]);
}

#[test]
// spec-test: CON-60, HS-51, HS-229
fn a_clock_that_is_set_back_makes_no_cookie_new_again() {
    let mut pair = Pair::with(TransportConfig::default(), RetryPolicy::Always);
    let told = |seconds: u64| Duration::from_secs(1_800_000_000 + seconds);
    pair.record = Some(Vec::new());
    let (client, server) = pair.establish();
    let record = pair.record.take().unwrap();
    let hellos: Vec<_> = record
        .iter()
        .filter(|(to, datagram)| {
            let header = Header::parse(datagram);
            let has_token = matches!(header, Ok(Header::Long(header)) if !header.token.is_empty());
            *to == End::Server && has_token
        })
        .collect();
    assert!(hellos.len() >= 2);
    pair.client.forget(pair.now, client);
    pair.server.forget(pair.now, server);
    pair.run_for(Duration::from_secs(40));
    assert_eq!(pair.server.connection_count(), 0);
    let from = pair.client_addr;
    for back in 0..12 {
        pair.server.set_unix_time(pair.now, told(back));
        for (_, hello) in &hellos {
            pair.inject(End::Server, from, hello);
        }
        assert_eq!(pair.server.connection_count(), 0);
    }
}
