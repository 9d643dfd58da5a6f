//! Two ends that know each other, for tests that look inside of them.

use core::time::Duration;
use std::sync::Arc;

use bytes::BytesMut;
use jsp_crypto::{ClientConfig, Identity, ServerConfig, ServerIdentity};
use jsp_wire::frame::AckFrequency;
use jsp_wire::{Instant, Route, StreamId};

use crate::batch::Batch;
use crate::config::{CongestionControl, EndpointConfig, RetryPolicy, ServerSetup, TransportConfig};
use crate::congestion::Congestion;
use crate::endpoint::{ConnectionHandle, Datagram, Endpoint};
use crate::event::Event;
use crate::padding::{ConstantRate, Padder, Padding};
use crate::path::Path;
use crate::recovery::SentInfo;
use crate::rng::SeededRng;
use crate::streams::config::StreamConfig;

pub(super) const NOW: Instant = Instant::from_nanos(1_000_000_000);

pub(super) fn address(host: u8) -> Route {
    Route::udp(std::net::SocketAddr::from(([192, 0, 2, host], 1)))
}

/// Carries everything from one endpoint to the other; false when there was nothing.
fn carry(from: &mut Endpoint, host: u8, to: &mut Endpoint) -> bool {
    let mut batch = Batch::new(0, 1);
    let mut any = false;
    while from.poll_transmit(NOW, &mut batch) {
        let payload = BytesMut::from(batch.contents());
        to.handle_datagram(NOW, Datagram { route: address(host), ecn: None, payload });
        batch.clear();
        any = true;
    }
    any
}

fn connected(endpoint: &mut Endpoint) -> ConnectionHandle {
    let mut events = core::iter::from_fn(|| endpoint.poll_event());
    events.find(|(_, event)| *event == Event::Connected).unwrap().0
}

/// A client at host 1 and a server at host 2 that know each other.
pub(super) fn pair() -> [(Endpoint, ConnectionHandle); 2] {
    let crypto =
        Arc::new(ServerConfig::new(Arc::new(Identity::generate(&mut SeededRng::new([1; 32])))));
    let pin = ServerIdentity::Pinned(crypto.fingerprint());
    let transport = Arc::new(TransportConfig::default());
    let endpoint = |server, seed| {
        let transport = transport.clone();
        let seed = [seed; 32];
        Endpoint::new(EndpointConfig { server, transport, seed, unix_seconds_at_zero: 0 })
    };
    let setup =
        ServerSetup { crypto, retry: RetryPolicy::Never, connections_max: 1, silent: false };
    let (mut client, mut server) = (endpoint(None, 2), endpoint(Some(setup), 3));
    let config = Arc::new(ClientConfig::new(pin));
    client.connect(NOW, address(2), config, transport.clone()).unwrap();
    while carry(&mut client, 1, &mut server) | carry(&mut server, 2, &mut client) {}
    let (at, with) = (connected(&mut client), connected(&mut server));
    [(client, at), (server, with)]
}

#[test]
/// spec-test: CON-33
fn last_words_that_cannot_be_sent_are_not_tried_for_ever() {
    let [_, (mut server, with)] = pair();
    let connection = server.connection(with).unwrap();
    let Path { numbers, delivery, .. } = &mut *connection.paths.active;
    // The peer has drawn so many acknowledgements, and acknowledged none, that the ledger takes no more.
    let error = loop {
        let pn = numbers.numbers.next_pn().unwrap();
        let quiet = SentInfo { pn, size: 50, ..SentInfo::default() };
        if let Err(error) = numbers.recovery.on_sent(NOW, quiet, &[], false, delivery) {
            break error;
        }
    };
    connection.fail(NOW, error);
    let mut batch = Batch::new(0, 1);
    while server.poll_transmit(NOW, &mut batch) {
        batch.clear();
    }
    assert!(server.poll_timeout().is_some(), "it closes");
}

#[test]
/// spec-test: PRV-6
fn slots_that_a_full_carrier_has_no_room_for_pass() {
    let [_, (mut server, with)] = pair();
    let connection = server.connection(with).unwrap();
    let rate = ConstantRate { size: 1200, interval: Duration::from_millis(10) };
    connection.paths.padder = Padder::new(&Padding::ConstantRate(rate), 0);
    connection.paths.active.route = Route::Tunnel { id: 1 };
    connection.paths.active.carrier_room = 0;
    let mut batch = Batch::new(0, 1);
    for n in 1..5 {
        let now = NOW + Duration::from_millis(10) * n;
        server.handle_timeout(now);
        assert!(!server.poll_transmit(now, &mut batch));
        let (next, _) = server.poll_timeout().unwrap();
        assert!(next > now, "it would be asked again at once");
    }
}

/// A pair whose server would let a hundred packets go by before it acknowledges one; the client has a stream of bytes,
/// and a window of two packets if it `is_small`.
fn patient_pair(is_small: bool) -> ([(Endpoint, ConnectionHandle); 2], StreamId) {
    let [(mut client, at), (mut server, with)] = pair();
    let wish = AckFrequency { sequence: 0, threshold: 100, delay_max_us: 25_000, reordering: 1 };
    let acks = &mut server.connection(with).unwrap().paths.active.numbers.acks;
    acks.set_frequency(&wish).unwrap();
    let connection = client.connection(at).unwrap();
    if is_small {
        let path = &mut connection.paths.active;
        path.congestion = Congestion::new(CongestionControl::Cubic, path.datagram_len_max());
        path.congestion.on_persistent_congestion(NOW);
    }
    let stream = connection.open(NOW, StreamConfig::bytes()).unwrap();
    ([(client, at), (server, with)], stream)
}

#[test]
/// spec-test: ACK-18
fn what_fills_a_small_window_is_acknowledged_at_once() {
    for is_small in [true, false] {
        let ([(mut client, at), (mut server, _)], stream) = patient_pair(is_small);
        let connection = client.connection(at).unwrap();
        connection.write(NOW, stream, vec![7; 100_000].into()).unwrap();
        assert!(carry(&mut client, 1, &mut server));
        let sent = client.connection(at).unwrap().bytes_in_flight();
        carry(&mut server, 2, &mut client);
        let left = client.connection(at).unwrap().bytes_in_flight();
        assert_eq!(left, if is_small { 0 } else { sent });
        assert!(sent > 0);
    }
}

#[test]
/// spec-test: ACK-18
fn who_has_no_more_to_send_leaves_the_acknowledgement_to_the_peer() {
    let ([(mut client, at), (mut server, _)], stream) = patient_pair(true);
    for _ in 0..2 {
        let connection = client.connection(at).unwrap();
        connection.write(NOW, stream, vec![7; 100].into()).unwrap();
        assert!(carry(&mut client, 1, &mut server));
    }
    assert!(!carry(&mut server, 2, &mut client));
}
