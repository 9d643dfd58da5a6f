//! An endpoint that strangers send datagrams to, in virtual time, and what must hold of any: three times
//! the bytes at most to an address that has proved nothing, and nothing kept for ever.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::BytesMut;
use jsp_proto::{
    Batch, Datagram, Endpoint, EndpointConfig, Instant, Reason, RetryPolicy, Route, ServerSetup,
    TransportConfig,
};

use super::parties::parties;

/// Connections that a server may hold.
pub const CONNECTIONS_MAX: usize = 4;
/// When clocks begin.
pub const BEGIN: Instant = Instant::from_nanos(1_000_000_000);

/// An endpoint whose clock stood at zero at `unix_seconds`.
pub fn endpoint(server: Option<ServerSetup>, seed: u8, unix_seconds: u64) -> Endpoint {
    Endpoint::new(EndpointConfig {
        server,
        transport: Arc::new(TransportConfig::default()),
        seed: [seed; 32],
        unix_seconds_at_zero: unix_seconds,
    })
}

/// What makes an endpoint a server.
pub fn setup(retry: RetryPolicy) -> ServerSetup {
    let crypto = parties().server.clone();
    ServerSetup { crypto, retry, connections_max: CONNECTIONS_MAX, silent: false }
}

/// One of four addresses.
pub fn address(n: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1 + n % 4], 1000))
}

/// Everything that an endpoint wants sent now: where to, and the bytes.
pub fn drain(endpoint: &mut Endpoint, now: Instant) -> Vec<(SocketAddr, Vec<u8>)> {
    let (mut batch, mut out) = (Batch::new(0, 64), Vec::new());
    while endpoint.poll_transmit(now, &mut batch) {
        let to = batch.route().and_then(|route| route.remote()).expect("plain UDP");
        let segments = batch.contents().chunks(batch.segment_len());
        out.extend(segments.map(|segment| (to, segment.to_vec())));
        batch.clear();
    }
    out
}

/// A datagram arrives.
pub fn deliver(endpoint: &mut Endpoint, now: Instant, from: SocketAddr, bytes: &[u8]) {
    let payload = BytesMut::from(bytes);
    endpoint.handle_datagram(now, Datagram { route: Route::udp(from), ecn: None, payload });
}

/// A server, its time, and the bytes that it got from and gave to each address.
pub struct Host {
    pub endpoint: Endpoint,
    pub now: Instant,
    got: HashMap<SocketAddr, usize>,
    gave: HashMap<SocketAddr, usize>,
}

impl Host {
    pub fn new(endpoint: Endpoint, now: Instant) -> Self {
        Self { endpoint, now, got: HashMap::new(), gave: HashMap::new() }
    }

    /// A datagram arrives now.
    pub fn deliver(&mut self, from: SocketAddr, bytes: &[u8]) {
        *self.got.entry(from).or_default() += bytes.len();
        deliver(&mut self.endpoint, self.now, from, bytes);
    }

    /// Everything that it wants sent now.
    pub fn drain(&mut self) -> Vec<(SocketAddr, Vec<u8>)> {
        let sent = drain(&mut self.endpoint, self.now);
        for (to, datagram) in &sent {
            *self.gave.entry(*to).or_default() += datagram.len();
        }
        for (to, gave) in &self.gave {
            let got = self.got.get(to).copied().unwrap_or(0);
            assert!(*gave <= 3 * got, "{gave} bytes for {got}");
        }
        sent
    }

    /// Time is at its next timer, if there is one by `until`; answers whether there is.
    pub fn next_timer(&mut self, until: Option<Instant>) -> bool {
        let next = self.endpoint.poll_timeout().filter(|(_, why)| *why != Reason::TicketKeys);
        let Some(at) = next.map(|(at, _)| at).filter(|at| until.is_none_or(|until| *at <= until))
        else {
            return false;
        };
        self.now = self.now.max(at);
        self.endpoint.handle_timeout(self.now);
        true
    }

    /// What strangers began is forgotten.
    pub fn check_over(&mut self) {
        assert_eq!(self.endpoint.connection_count(), 0);
        assert!(self.endpoint.is_at_rest(), "timers never end");
    }
}
