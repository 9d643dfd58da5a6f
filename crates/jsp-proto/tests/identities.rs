//! Identities whose signatures a quantum computer does not forge: long flights over short datagrams.

mod pair;

use std::sync::Arc;
use std::time::Duration;

use jsp_crypto::{
    ClientAuth, ClientConfig, ClientVerifier, Credential, Delegation, Fingerprint, Identity, Mode,
    PeerIdentity, ServerConfig, ServerIdentity, SignaturePolicy, SignatureScheme,
    VerifierRejection,
};
use jsp_proto::{Event, RetryPolicy, TransportConfig};
use pair::{DELAY, End, Pair};

const NOW: u64 = 1_800_000_000;

fn identity(scheme: SignatureScheme, byte: u8) -> Arc<Identity> {
    Arc::new(Identity::from_seed_with(scheme, &[byte; 32]).unwrap())
}

/// What proves the ML-DSA identity 1: itself, or an online key.
fn credential(online: Option<SignatureScheme>) -> Credential {
    let own = identity(SignatureScheme::MlDsa65, 1);
    let Some(online) = online else { return own.into() };
    let online = identity(online, 2);
    let delegation = Delegation::issue(&*own, online.public(), NOW - 9, NOW + 999, 1).unwrap();
    Credential::delegated(online, delegation).unwrap()
}

fn pair(retry: RetryPolicy, online: Option<SignatureScheme>) -> Pair {
    let credential = credential(online);
    let pin = ServerIdentity::Pinned(credential.fingerprint());
    let client = ClientConfig { signatures: SignaturePolicy::Any, ..ClientConfig::new(pin) };
    Pair::with(TransportConfig::default(), retry).proving(client, ServerConfig::new(credential))
}

const ONLINE: [Option<SignatureScheme>; 3] =
    [None, Some(SignatureScheme::Ed25519), Some(SignatureScheme::MlDsa65)];

/// Flights of 5.5 to 10.7 kB. Within the budget of three hello datagrams the first two come at once;
/// two keys and two signatures wait for a probe of the client, which comes after 100 ms at first.
#[test]
// spec-test: HS-103, CON-10
fn ml_dsa_servers_are_proved_in_a_round_trip() {
    for (online, round_trips) in ONLINE.into_iter().zip([1, 1, 7]) {
        let mut pair = pair(RetryPolicy::Never, online);
        let client = pair.connect();
        let start = pair.now;
        pair.run_until(|pair| pair.client.connection(client).unwrap().is_established());
        assert_eq!(pair.now - start, DELAY * 2 * round_trips, "{online:?}");
        let security = pair.client.connection(client).unwrap().security().unwrap();
        let peer = security.peer.unwrap();
        assert_eq!(peer.scheme, SignatureScheme::MlDsa65);
        assert_eq!(peer.signer, online.unwrap_or(SignatureScheme::MlDsa65));
        assert!(security.post_quantum);
    }
}

#[test]
// spec-test: CON-3, CON-10
fn any_one_datagram_of_a_long_flight_may_be_lost() {
    for retry in [RetryPolicy::Never, RetryPolicy::Always] {
        for online in ONLINE {
            for lost in 0..14 {
                let mut pair = pair(retry, online);
                let mut seen = 0;
                pair.filter = Box::new(move |_, _| {
                    seen += 1;
                    seen - 1 != lost
                });
                let client = pair.connect();
                pair.run_until(|pair| {
                    let told = pair.told.get(&pair.client_addr).copied().unwrap_or(0);
                    let heard = pair.heard.get(&pair.client_addr).copied().unwrap_or(0);
                    let proved = pair.events.iter().any(|(end, ..)| *end == End::Server);
                    assert!(proved || retry != RetryPolicy::Never || told <= 3 * heard);
                    assert_eq!(pair.close_reason(End::Client, client), None);
                    pair.client.connection(client).unwrap().is_established()
                });
            }
        }
    }
}

struct Known(Fingerprint);

impl ClientVerifier for Known {
    fn verify(&self, shown: &PeerIdentity) -> Result<(), VerifierRejection> {
        if shown.fingerprint == self.0 { Ok(()) } else { Err(VerifierRejection("a stranger")) }
    }
}

/// Both sides by ML-DSA, wrapped, with online keys of it; then once more by ticket.
#[test]
// spec-test: HS-105, HS-66
fn clients_are_proved_the_same_way_and_remembered() {
    let own = credential(Some(SignatureScheme::MlDsa65));
    let known = own.fingerprint();
    let client = ClientConfig {
        signatures: SignaturePolicy::PostQuantum,
        credential: Some(own.clone()),
        ..ClientConfig::new(ServerIdentity::Pinned(known))
    };
    let server = ServerConfig {
        client_auth: ClientAuth::Required(Box::new(Known(known))),
        ..ServerConfig::new(own)
    };
    let mut pair = Pair::new().proving(client, server).obfuscated([7; 32]);
    let ticket = pair.ticket();
    assert!(ticket.peer().is_post_quantum());
    let client = pair.resume(ticket, false);
    pair.run_until(|pair| pair.client.connection(client).unwrap().is_established());
    pair.run_for(Duration::from_millis(100));
    let connected = |(end, handle, event): &(End, _, Event)| {
        (*end == End::Server && *event == Event::Connected).then_some(*handle)
    };
    let server = pair.events.iter().find_map(connected).unwrap();
    for (end, handle) in [(&mut pair.client, client), (&mut pair.server, server)] {
        let security = end.connection(handle).unwrap().security().unwrap();
        let peer = security.peer.unwrap();
        assert_eq!(security.mode, Mode::Resumed);
        assert_eq!(peer.fingerprint, known);
        assert!(peer.is_post_quantum() && peer.delegated);
    }
}

#[test]
// spec-test: HS-56, HS-227
fn dates_are_checked_against_the_time_that_was_told_last() {
    let own = identity(SignatureScheme::Ed25519, 1);
    let online = identity(SignatureScheme::Ed25519, 2);
    let issue = |from: u64, until: u64| {
        let delegation = Delegation::issue(&*own, online.public(), from, until, 1).unwrap();
        ServerConfig::new(Credential::delegated(online.clone(), delegation).unwrap())
    };
    let pinned = || ServerIdentity::Pinned(own.fingerprint());
    // The host has slept for three hours, and `now` stood still.
    let asleep = Duration::from_secs(NOW + 3 * 3600);
    let [fresh, ended] = [issue(NOW + 2 * 3600, NOW + 9 * 3600), issue(NOW, NOW + 3600)];
    for (server, accepted_before) in [(fresh, false), (ended, true)] {
        let mut pair = Pair::new().proving(ClientConfig::new(pinned()), server);
        for told in [false, true] {
            if told {
                pair.client.set_unix_time(pair.now, asleep);
            }
            let client = pair.connect();
            pair.run_for(Duration::from_secs(9));
            let accepted = pair.client.connection(client).unwrap().is_established();
            assert_eq!(accepted, accepted_before != told);
        }
    }
    // A connection that was begun before the host slept knows the time as well.
    let mut pair = Pair::new().proving(ClientConfig::new(pinned()), issue(NOW, NOW + 3600));
    let client = pair.connect();
    pair.flush();
    pair.client.set_unix_time(pair.now, asleep);
    pair.run_for(Duration::from_secs(9));
    assert!(!pair.client.connection(client).unwrap().is_established());
}
