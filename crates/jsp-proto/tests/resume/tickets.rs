//! Connections that a ticket resumes or fails to, and the exchange that follows.

use std::sync::Arc;

use jsp_crypto::{
    ClientAuth, ClientConfig, ClientVerifier, Credential, Delegation, Identity, PeerIdentity, Role,
    ServerConfig, ServerIdentity, VERSION_1, VerifierRejection, initial_keys,
};
use jsp_wire::header::{Header, LongHeader, Protected};

use super::*;

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
// spec-test: HS-66
fn a_ticket_of_a_delegated_server_lives_as_long_as_the_delegation() {
    let mut pair = Pair::new();
    let begin = 1_800_000_000;
    let identity = Identity::from_seed(&[1; 32]).unwrap();
    let online = Identity::from_seed(&[2; 32]).unwrap();
    let delegation =
        Delegation::issue(&identity, online.public(), begin - 10, begin + 100, 1).unwrap();
    let credential = Credential::delegated(Arc::new(online), delegation).unwrap();
    let mut config = pair.server_config();
    let crypto = Arc::new(ServerConfig::new(credential));
    config.server.as_mut().unwrap().crypto = crypto;
    pair.server = Endpoint::new(config);
    let pin = ServerIdentity::Pinned(identity.fingerprint());
    pair.client_config = Arc::new(ClientConfig::new(pin));
    let ticket = pair.ticket();
    let valid_at = |seconds: u64| ticket.is_valid_at((begin + seconds) * 1000);
    assert!(valid_at(60) && !valid_at(102));
    // The server takes it as well.
    let client = pair.resume(ticket, false);
    pair.run_for(RTT * 4);
    assert_eq!(mode(&mut pair, client).0, Mode::Resumed);
}

#[test]
// spec-test: HS-64
fn a_ticket_is_good_for_the_epoch_of_its_key_and_the_next() {
    let begin = 1_800_000_000u64;
    let mut pair = Pair::new();
    let mut config = pair.server_config();
    Arc::make_mut(&mut config.transport).ticket_lifetime = Duration::from_secs(24 * 3600);
    pair.server = Endpoint::new(config);
    let tickets = [pair.ticket(), pair.ticket()];
    let epoch = TicketKeys::epoch_at(begin);
    let ends = (begin..).step_by(60).find(|at| TicketKeys::epoch_at(*at) == epoch + 2).unwrap();
    let wait = |pair: &mut Pair, until: u64| {
        let gone = pair.now - Instant::ZERO;
        pair.run_for(Duration::from_secs(until - begin) - gone);
    };
    let [in_time, late] = tickets;
    for (until, ticket, expected) in
        [(ends - 70, in_time, Mode::Resumed), (ends + 10, late, Mode::Full)]
    {
        wait(&mut pair, until);
        let client = pair.resume(ticket, false);
        pair.run_for(RTT * 4);
        assert_eq!(mode(&mut pair, client).0, expected);
    }
}

#[test]
// spec-test: HS-64
fn keys_whose_tickets_are_over_are_wiped_though_nobody_comes() {
    let mut pair = Pair::new();
    let ticket = pair.ticket();
    let (at, why) = pair.server.poll_timeout().unwrap();
    let waited = at.since(Instant::ZERO).as_secs();
    assert_eq!(why, Reason::TicketKeys);
    assert!((12 * 3600..=24 * 3600).contains(&waited), "{waited} s");
    pair.run_for(at.since(pair.now));
    assert_eq!(pair.server.poll_timeout(), None, "there are none any more");
    let client = pair.resume(ticket, false);
    pair.run_for(RTT * 4);
    assert_eq!(mode(&mut pair, client).0, Mode::Full);
}

#[test]
// spec-test: HS-64
fn keys_that_servers_share_go_on_though_nobody_comes() {
    let mut pair = sharing();
    let (at, why) = pair.server.poll_timeout().unwrap();
    assert_eq!(why, Reason::TicketKeys);
    pair.run_for(at.since(pair.now));
    let (next, why) = pair.server.poll_timeout().unwrap();
    assert_eq!((next.since(at).as_secs(), why), (24 * 3600, Reason::TicketKeys));
}

/// A server that lets everybody in who proves an identity.
struct Anybody;

impl ClientVerifier for Anybody {
    fn verify(&self, _: &PeerIdentity) -> Result<(), VerifierRejection> {
        Ok(())
    }
}

#[test]
// spec-test: HS-210
fn tickets_of_a_delegated_client_end_with_the_delegation_and_so_do_those_after_them() {
    let begin = 1_800_000_000;
    let [identity, online, server] =
        [1, 2, 3].map(|byte| Arc::new(Identity::from_seed(&[byte; 32]).unwrap()));
    let delegation =
        Delegation::issue(&*identity, online.public(), begin - 10, begin + 100, 1).unwrap();
    let pin = ServerIdentity::Pinned(server.fingerprint());
    let client = ClientConfig {
        credential: Some(Credential::delegated(online, delegation).unwrap()),
        ..ClientConfig::new(pin)
    };
    let server = ServerConfig {
        client_auth: ClientAuth::Required(Box::new(Anybody)),
        ..ServerConfig::new(server)
    };
    let mut pair = Pair::new().proving(client, server);
    let mut ticket = pair.ticket();
    for second in [30, 60, 90] {
        assert!(ticket.is_valid_at((begin + second) * 1000));
        assert!(!ticket.is_valid_at((begin + 101) * 1000), "until the delegation ends");
        let until = Instant::from_nanos(second * 1_000_000_000);
        pair.run_for(until - pair.now);
        let client = pair.resume(ticket, false);
        pair.run_for(RTT * 4);
        assert_eq!(mode(&mut pair, client).0, Mode::Resumed);
        let handle = server_handles(&pair)[0];
        let of = pair.server.connection(handle).unwrap().security().unwrap().peer.unwrap();
        assert_eq!(of.fingerprint, identity.fingerprint());
        assert!(of.delegated && of.until.is_some_and(|until| until <= begin + 100));
        ticket = pair.take_ticket(client);
        let now = pair.now;
        pair.client.forget(now, client);
        pair.run_for(Duration::from_millis(100));
        pair.events.clear();
    }
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
// spec-test: CON-184
fn a_refusal_has_a_number_that_no_connection_comes_to() {
    let mut pair = Pair::new();
    let ticket = pair.ticket();
    pair.held = Some(Vec::new());
    pair.resume(ticket, false);
    pair.flush();
    let hello = pair.held.take().unwrap().remove(0);
    let mut refusal = refusal_of(&pair, &hello);
    let Ok(Header::Long(asked)) = Header::parse(&hello) else { panic!() };
    let ServerIdentity::Pinned(pin) = &pair.client_config.expected else { panic!() };
    let keys = initial_keys(Role::Client, VERSION_1, asked.dcid.as_bytes(), Some(pin));
    let Ok(Header::Long(LongHeader { pn_offset, .. })) = Header::parse(&refusal) else { panic!() };
    let sample = Protected::sample(&refusal, pn_offset).unwrap();
    let mask = keys.remote.header.mask(&sample);
    let (pn, pn_len) = Protected::unmask_long(&mut refusal, pn_offset, mask).unwrap();
    assert_eq!((pn_len, pn >> 30), (4, 1), "{pn}");
}

#[test]
fn a_ticket_refusal_that_anybody_made_up_does_no_harm() {
    // The server accepts, but a forged refusal is there first: either answer will do.
    let mut pair = Pair::new();
    let ticket = pair.ticket();
    let client = pair.resume(ticket, true);
    say(&mut pair, client, safe(), "early");
    pair.flush();
    let refusal = refusal_of(&pair, &pair.on_the_way(End::Server)[0]);
    let from = pair.server_addr;
    pair.inject(End::Client, from, &refusal);
    let mut heard = Heard::default();
    listen_for(&mut pair, &mut heard, RTT * 5);
    assert_eq!(heard.count("early"), 1);
    assert_eq!(mode(&mut pair, client).0, Mode::Resumed);
    assert_eq!(server_handles(&pair).len(), 1);
}
