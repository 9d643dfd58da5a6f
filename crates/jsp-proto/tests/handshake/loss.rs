//! Handshakes of which something is lost, late, doubled or damaged.

use super::*;

/// Runs one handshake with the filter; the server must keep to its budget until the client is proved.
/// Panics when it does not come about.
fn connects(retry: RetryPolicy, filter: impl FnMut(End, &mut Vec<u8>) -> bool + 'static) -> Pair {
    let mut pair = Pair::with(TransportConfig::default(), retry);
    pair.filter = Box::new(filter);
    let client = pair.connect();
    pair.record = Some(Vec::new());
    let mut proved = false;
    pair.run_until(|pair| {
        let record = pair.record.take().unwrap();
        proved |= record.iter().any(|(to, bytes)| *to == End::Server && has_handshake(bytes));
        pair.record = Some(Vec::new());
        if !proved {
            let told = pair.told.get(&pair.client_addr).copied().unwrap_or(0);
            let heard = pair.heard.get(&pair.client_addr).copied().unwrap_or(0);
            assert!(told <= 3 * heard, "{told} bytes for {heard}");
        }
        let count = pair.events.iter().filter(|(_, _, e)| *e == Event::Connected).count();
        assert_eq!(pair.close_reason(End::Client, client), None);
        count == 2
    });
    pair
}

/// Writes the first bytes of a stream, and runs until the server hears of it.
fn write_until_heard(pair: &mut Pair, client: ConnectionHandle, bytes: &'static [u8]) -> StreamId {
    let stream = write_first(pair, client, bytes);
    let opened = Event::StreamOpened { stream };
    pair.run_until(|pair| {
        pair.events.iter().any(|(end, _, event)| *end == End::Server && *event == opened)
    });
    stream
}

#[test]
// spec-test: CON-3, CON-10, CON-11, CON-27
fn any_one_or_two_datagrams_may_be_lost() {
    for retry in [RetryPolicy::Never, RetryPolicy::Always] {
        for first in 0..9 {
            for second in first..9 {
                let mut n = 0;
                connects(retry, move |_, _| {
                    n += 1;
                    n - 1 != first && n - 1 != second
                });
            }
        }
    }
}

#[test]
// spec-test: CON-11
fn a_server_without_budget_is_asked_again() {
    // The server's flight is lost but for its first datagram, until its budget is used up; then the
    // client's answer is lost as well.
    let (mut to_client, mut to_server) = (0, 0);
    connects(RetryPolicy::Never, move |to, _| {
        let n = if to == End::Client { &mut to_client } else { &mut to_server };
        *n += 1;
        match to {
            End::Client => *n == 1 || *n > 5,
            End::Server => *n <= 2 || *n > 4,
        }
    });
}

#[test]
// spec-test: CON-3
fn hello_fragments_may_change_places_and_come_twice() {
    let mut pair = Pair::new();
    let mut n = 0u64;
    pair.weather = Box::new(move |to| {
        n += 1;
        let first = if to == End::Server && n == 1 { 25 } else { 10 };
        vec![Duration::from_millis(first), Duration::from_millis(40)]
    });
    let client = pair.connect();
    pair.run_until(|pair| pair.client.connection(client).unwrap().is_established());
    pair.run_for(Duration::from_secs(1));
    assert_eq!(pair.close_reason(End::Client, client), None);
    let connected = pair.events.iter().filter(|(_, _, e)| *e == Event::Connected).count();
    assert_eq!(connected, 2);
}

#[test]
// spec-test: CON-17
fn a_lost_handshake_done_is_said_again() {
    let mut pair = Pair::new();
    let mut to_client = 0;
    pair.filter = Box::new(move |to, _| {
        to_client += u32::from(to == End::Client);
        // After the server's flight, nothing reaches the client for a while.
        to == End::Server || !(3..8).contains(&to_client)
    });
    let client = pair.connect();
    pair.run_for(Duration::from_secs(8));
    assert!(pair.client.connection(client).unwrap().is_established());
    let stream = write_first(&mut pair, client, b"later");
    pair.run_for(Duration::from_secs(2));
    assert!(pair.events.iter().any(|(_, _, e)| *e == Event::StreamOpened { stream }));
    assert_eq!(pair.client.connection(client).unwrap().stats().bytes_in_flight, 0);
}

#[test]
// spec-test: CON-19
fn data_that_overtakes_the_clients_flight_is_kept() {
    let mut pair = Pair::new();
    pair.filter = Box::new(|_, _| true);
    let client = pair.connect();
    pair.run_until(|pair| pair.client.connection(client).unwrap().is_established());
    // The client's flight is on its way; hold it back, and let the data pass.
    let now = pair.now;
    pair.weather = {
        let mut n = 0;
        Box::new(move |to| {
            n += u32::from(to == End::Server);
            let late = to == End::Server && n == 1;
            vec![Duration::from_millis(if late { 60 } else { 10 })]
        })
    };
    pair.flush();
    write_until_heard(&mut pair, client, b"early");
    // It was not sent a second time: it came with the flight.
    assert!(pair.now - now <= Duration::from_millis(61), "{:?}", pair.now - now);
}

#[test]
// spec-test: CON-38
fn a_lost_client_flight_goes_again_with_the_first_data() {
    let mut pair = Pair::new();
    // The client's flight leaves alone, and is lost.
    let mut flights = 0;
    pair.filter = Box::new(move |to, bytes| {
        let is_flight = to == End::Server && has_handshake(bytes);
        flights += u32::from(is_flight);
        !is_flight || flights > 1
    });
    let client = pair.connect();
    pair.run_until(|pair| pair.client.connection(client).unwrap().is_established());
    let now = pair.now;
    let stream = write_until_heard(&mut pair, client, b"first");
    assert!(pair.now - now <= Duration::from_millis(11), "{:?}", pair.now - now);
    // Once is enough: the data that follow are data alone.
    let before = pair.sent[0];
    let now = pair.now;
    let connection = pair.client.connection(client).unwrap();
    connection.write(now, stream, bytes::Bytes::from_static(b"second")).unwrap();
    pair.flush();
    assert!((1..60).contains(&(pair.sent[0] - before)), "{}", pair.sent[0] - before);
}

#[test]
// spec-test: CON-29
fn damaged_hellos_are_no_sign_of_a_wrong_pin() {
    // Two whole hellos arrive damaged, and twice each: the third, after three seconds, is heard.
    let mut pair = Pair::new();
    let mut to_server = 0;
    pair.filter = Box::new(move |to, bytes| {
        to_server += u32::from(to == End::Server);
        if to == End::Server && to_server <= 4 {
            bytes[600] ^= 0x10;
        }
        true
    });
    pair.weather = Box::new(|to| vec![DELAY; if to == End::Server { 2 } else { 1 }]);
    let start = pair.now;
    let client = pair.connect();
    pair.run_until(|pair| pair.client.connection(client).unwrap().is_established());
    assert!(pair.now - start > Duration::from_millis(1600), "{:?}", pair.now - start);
    assert!(pair.told[&pair.client_addr] > 0);
    assert_eq!(pair.close_reason(End::Client, client), None);
}

#[test]
// spec-test: CON-10
fn a_client_that_falls_silent_is_not_flooded() {
    let mut pair = Pair::new();
    let mut to_server = 0;
    pair.filter = Box::new(move |to, _| {
        to_server += u32::from(to == End::Server);
        to == End::Server && to_server <= 2
    });
    pair.connect();
    pair.run_for(Duration::from_secs(30));
    let (told, heard) = (pair.told[&pair.client_addr], pair.heard[&pair.client_addr]);
    assert_eq!(heard, 2400);
    assert!(told > 2 * heard && told <= 3 * heard, "{told}");
}
