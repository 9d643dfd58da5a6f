//! Key updates, under loss and reordering.

mod pair;

use std::time::Duration;

use bytes::Bytes;
use jsp_proto::{CloseReason, Event, RecvError, RetryPolicy, StreamConfig, TransportConfig};
use pair::{End, Pair, TestRng};

/// Sends `len` bytes each way; `each` is called in every round.
fn exchange(pair: &mut Pair, len: usize, mut each: impl FnMut(&mut Pair)) {
    let (client, server) = pair.establish();
    let now = pair.now;
    let data = Bytes::from(vec![0x5a; len]);
    let connection = pair.client.connection(client).unwrap();
    let stream = connection.open(now, StreamConfig::bytes()).unwrap();
    let (mut sent, mut got) = ([0; 2], [0; 2]);
    pair.run_until(|pair| {
        each(pair);
        let now = pair.now;
        let ends = [pair.client.connection(client), pair.server.connection(server)];
        for (place, connection) in ends.into_iter().flatten().enumerate() {
            assert!(!connection.is_closed());
            while let Ok(n) = connection.write(now, stream, data.slice(sent[place]..)) {
                sent[place] += n;
                if n == 0 || sent[place] == len {
                    break;
                }
            }
            loop {
                match connection.read(now, stream, usize::MAX) {
                    Ok(Some(bytes)) => got[place] += bytes.len(),
                    Ok(None) | Err(RecvError::Closed) => break,
                    Err(error) => panic!("{error}"),
                }
            }
        }
        got == [len; 2]
    });
}

fn stormy(seed: u64) -> impl FnMut(End) -> Vec<Duration> {
    let mut rng = TestRng(seed);
    move |_| {
        let mut byte = [0; 2];
        jsp_crypto::Rng::fill(&mut rng, &mut byte);
        let delay = Duration::from_millis(10 + u64::from(byte[0] % 12));
        if byte[1] < 10 { Vec::new() } else { vec![delay] }
    }
}

#[test]
// spec-test: CON-41, CON-42, CON-44, CON-46
fn keys_are_updated_by_count_without_losing_what_is_under_way() {
    let config = TransportConfig { key_update_packets: 50, ..Default::default() };
    let mut pair = Pair::with(config, RetryPolicy::Never);
    let mut lost = 0;
    exchange(&mut pair, 1_000_000, |pair| {
        lost = pair.datagrams[0] + pair.datagrams[1];
    });
    // On a wire that loses nothing, nothing is sent twice: two megabytes in datagrams of 1200 and
    // more, and acknowledgements.
    let sent = pair.sent[0] + pair.sent[1];
    assert!(sent < 2_300_000, "{sent} bytes in {lost} datagrams");
}

#[test]
// spec-test: CON-41, CON-42
fn keys_are_updated_in_loss_and_disorder() {
    for seed in 1..6 {
        let config = TransportConfig { key_update_packets: 30, ..Default::default() };
        let mut pair = Pair::with(config, RetryPolicy::Never);
        pair.weather = Box::new(stormy(seed * 0x9e37_79b9));
        exchange(&mut pair, 300_000, |_| {});
    }
}

#[test]
// spec-test: CON-42, CON-43, CON-44
fn both_ends_may_ask_for_updates_at_any_time() {
    let mut pair = Pair::new();
    pair.weather = Box::new(stormy(77));
    let mut updates = [0u32; 2];
    let mut handles = None;
    exchange(&mut pair, 12_000_000, |pair| {
        // Handles are numbered from zero in each endpoint; both have one connection.
        let now = pair.now;
        let (client, server) = *handles.get_or_insert_with(|| pair.handles());
        // In turn, so that none always comes first.
        if updates[0] <= updates[1] {
            let connection = pair.client.connection(client).unwrap();
            updates[0] += u32::from(connection.update_keys_now(now));
        } else {
            let connection = pair.server.connection(server).unwrap();
            updates[1] += u32::from(connection.update_keys_now(now));
        }
    });
    assert!(updates.iter().all(|n| *n > 0), "{updates:?}");
}

#[test]
// spec-test: CON-44
fn an_update_waits_until_the_last_one_has_settled() {
    let mut pair = Pair::new();
    let (client, server) = pair.establish();
    pair.run_for(Duration::from_secs(2));
    let now = pair.now;
    let connection = pair.client.connection(client).unwrap();
    assert!(connection.update_keys_now(now));
    assert!(!connection.update_keys_now(now));
    // Nothing is sent under the new keys: nothing can be acknowledged.
    pair.run_for(Duration::from_secs(2));
    let now = pair.now;
    let connection = pair.client.connection(client).unwrap();
    assert!(!connection.update_keys_now(now));
    let stream = connection.open(now, StreamConfig::bytes()).unwrap();
    connection.write(now, stream, Bytes::from_static(b"x")).unwrap();
    pair.run_for(Duration::from_secs(2));
    let now = pair.now;
    assert!(pair.client.connection(client).unwrap().update_keys_now(now));
    assert!(pair.events.contains(&(End::Server, server, Event::StreamOpened { stream })));
    assert_eq!(pair.close_reason(End::Client, client), None::<CloseReason>);
}
