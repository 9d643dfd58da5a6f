//! What was refused as early data and came after the handshake: no copy of it is early any more.

use std::collections::HashMap;

use super::replay::{replay, restart_with};
use super::*;

/// A client says `text` early. It is refused, and heard once, after the handshake. Answers the first
/// flight, as somebody on the way has caught it.
fn refused_flight(pair: &mut Pair, ticket: ClientTicket, text: &str) -> Vec<Vec<u8>> {
    pair.record = Some(Vec::new());
    let client = pair.resume(ticket, true);
    say(pair, client, safe(), text);
    pair.run_for(DELAY);
    let flight = pair.record.take().unwrap();
    let mut heard = Heard::default();
    listen_for(pair, &mut heard, RTT * 12);
    assert_eq!((heard.count(text), mode(pair, client).1), (1, false), "{text}");
    flight.into_iter().filter(|(to, _)| *to == End::Server).map(|(_, bytes)| bytes).collect()
}

/// Gives the server copies of these flights from `from` to `until` and answers what its applications hear.
fn copies(
    pair: &mut Pair,
    flights: &[Vec<Vec<u8>>],
    from: Duration,
    until: Duration,
) -> HashMap<String, usize> {
    let (mut heard, mut number, mut after) = (HashMap::new(), 0, from);
    while after < until {
        for flight in flights {
            number += 1;
            for datagram in flight {
                replay(&mut pair.server, pair.now + after, number, datagram, &mut heard);
            }
        }
        after += Duration::from_millis(250);
    }
    heard
}

const MINUTE: Duration = Duration::from_secs(60);

/// A pair whose server has room for all the connections that copies begin, and shares tickets from now on.
fn roomy(transport: TransportConfig) -> Pair {
    let mut pair = Pair::seeded(transport, RetryPolicy::Never, 10_000, 1);
    share(&mut pair, 0);
    pair
}

/// The same, and it takes early data.
fn seeing() -> Pair {
    let mut pair = roomy(TransportConfig::default());
    pair.run_for(Duration::from_secs(30));
    pair
}

/// The same client with a clock that is so many seconds ahead.
fn clock_ahead(pair: &mut Pair, seconds: u64) {
    let mut config = pair.server_config();
    config.server = None;
    config.seed = [33; 32];
    config.unix_seconds_at_zero += seconds;
    pair.client = Endpoint::new(config);
}

#[test]
// spec-test: HS-208
fn what_a_blind_server_refused_is_not_early_once_it_sees() {
    let mut pair = roomy(TransportConfig::default());
    let began = pair.now;
    let (ticket, fresh) = (pair.ticket(), pair.ticket());
    pair.run_for(Duration::from_millis(12_500) - pair.now.since(began));
    let flight = refused_flight(&mut pair, ticket, "blind");
    let heard = copies(&mut pair, &[flight], Duration::ZERO, MINUTE);
    assert!(heard.is_empty(), "{heard:?}");
    // The server does see by then.
    pair.now = pair.now + MINUTE;
    let client = pair.resume(fresh, true);
    say(&mut pair, client, safe(), "seen");
    pair.run_for(RTT * 4);
    assert!(mode(&mut pair, client).1);
}

#[test]
// spec-test: HS-208
fn what_came_from_the_future_is_not_early_once_its_time_has_come() {
    for seconds in [11, 25, 3600] {
        let mut pair = seeing();
        let ticket = pair.ticket();
        clock_ahead(&mut pair, seconds);
        let flight = refused_flight(&mut pair, ticket, "soon");
        let due = Duration::from_secs(seconds);
        let heard = copies(&mut pair, &[flight], due.saturating_sub(MINUTE), due + MINUTE);
        assert!(heard.is_empty(), "{seconds} s: {heard:?}");
    }
}

#[test]
// spec-test: HS-208
fn what_came_from_the_future_is_known_to_the_server_that_goes_on_with_the_register() {
    let mut pair = seeing();
    let ticket = pair.ticket();
    clock_ahead(&mut pair, 30);
    let flight = refused_flight(&mut pair, ticket, "soon");
    let now = pair.now;
    let kept = pair.server.keep_register(now).unwrap();
    assert!(restart_with(&mut pair, Some(&kept)));
    let heard = copies(&mut pair, &[flight], Duration::ZERO, MINUTE);
    assert!(heard.is_empty(), "{heard:?}");
}

#[test]
// spec-test: HS-73, HS-208
fn what_a_full_register_refused_is_not_early_once_there_is_room() {
    let few = TransportConfig { early_tickets_max: 1, ..TransportConfig::default() };
    let mut pair = roomy(few);
    let tickets = [(); 4].map(|()| pair.ticket());
    let last = pair.ticket();
    // A generation begins with the first of them.
    pair.run_for(Duration::from_secs(45));
    let [taken, full, fuller, fullest] = tickets;
    let client = pair.resume(taken, true);
    say(&mut pair, client, safe(), "taken");
    pair.run_for(RTT * 4);
    assert!(mode(&mut pair, client).1);
    pair.run_for(Duration::from_secs(15));
    // Before it turns, one is noted as late; for others there is no room: nothing is early for as long.
    let flights = [(full, "full"), (fuller, "fuller"), (fullest, "fullest")]
        .map(|(ticket, text)| refused_flight(&mut pair, ticket, text));
    let heard = copies(&mut pair, &flights, Duration::ZERO, MINUTE);
    assert!(heard.is_empty(), "{heard:?}");
    pair.now = pair.now + MINUTE;
    let client = pair.resume(last, true);
    say(&mut pair, client, safe(), "seen");
    pair.run_for(RTT * 4);
    assert!(mode(&mut pair, client).1, "there is room again");
}

/// A client whose hello with early data is held back, as what it sends from here on is; the hello, and a forged
/// refusal of its ticket.
fn held_back() -> (Pair, ConnectionHandle, Vec<Vec<u8>>, Vec<u8>) {
    let mut pair = seeing();
    let ticket = pair.ticket();
    pair.held = Some(Vec::new());
    let client = pair.resume(ticket, true);
    say(&mut pair, client, safe(), "once");
    pair.flush();
    let flight = pair.held.replace(Vec::new()).unwrap();
    let refusal = refusal_of(&pair, &flight[0]);
    (pair, client, flight, refusal)
}

#[test]
// spec-test: HS-76, HS-208
fn a_hello_that_was_held_back_behind_a_forged_refusal_is_not_early_any_more() {
    for pause in [0, 1, 9] {
        let (mut pair, client, flight, refusal) = held_back();
        pair.held = None;
        let from = pair.server_addr;
        pair.inject(End::Client, from, &refusal);
        let mut heard = Heard::default();
        listen_for(&mut pair, &mut heard, RTT * 5);
        assert_eq!((heard.count("once"), mode(&mut pair, client)), (1, (Mode::Full, false, true)));
        let pause = Duration::from_secs(pause);
        let again = copies(&mut pair, &[flight], pause, pause + MINUTE);
        assert!(again.is_empty(), "{again:?}");
    }
}

#[test]
// spec-test: HS-76, HS-208
fn a_forger_who_names_a_ticket_costs_its_client_the_early_data_and_no_more() {
    // The forger has seen the ticket, and has the server told that it was refused.
    let (mut pair, client, flight, refusal) = held_back();
    let from = pair.server_addr;
    pair.inject(End::Client, from, &refusal);
    pair.run_for(DELAY);
    let named = pair.held.take().unwrap();
    assert!(named.len() >= 2, "a full hello besides");
    let mut none = HashMap::new();
    for datagram in &named {
        replay(&mut pair.server, pair.now, 9, datagram, &mut none);
    }
    // The client's own hello comes only now: it resumes, and what it says comes after the handshake.
    for datagram in &flight {
        let from = pair.client_addr;
        pair.inject(End::Server, from, datagram);
    }
    let mut heard = Heard::default();
    listen_for(&mut pair, &mut heard, RTT * 5);
    assert_eq!((heard.count("once"), mode(&mut pair, client).1), (1, false));
}
