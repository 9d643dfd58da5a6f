//! The transport's machine under attack, in virtual time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use jsp_crypto::{
    ClientConfig, ClientTicket, Fingerprint, Identity, ServerConfig, ServerIdentity, TicketKeys,
};
use jsp_proto::{
    Batch, CloseReason, Connection, ConnectionHandle, Datagram, Endpoint, EndpointConfig, Event,
    Instant, Message, RetryPolicy, Route, ServerSetup, StreamConfig, StreamId, TransportConfig,
};

use crate::peer::{Peer, UNIX_SECONDS};

/// Where the victim's server is.
pub const SERVER: &str = "192.0.2.2:2000";
/// Where its client is.
pub const CLIENT: &str = "192.0.2.1:1000";
/// Somewhere else.
pub const ELSEWHERE: &str = "203.0.113.9:9";

/// An address from its text.
pub fn addr(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

/// The server's identity.
pub fn identity() -> Arc<Identity> {
    Arc::new(Identity::from_seed(&[7; 32]).expect("a seed"))
}

/// What clients pin.
pub fn pin() -> Fingerprint {
    identity().fingerprint()
}

/// A client that pins the server.
pub fn pinned() -> ClientConfig {
    ClientConfig::new(ServerIdentity::Pinned(pin()))
}

/// An endpoint, its clock, and what happened.
pub struct Victim {
    /// The machine.
    pub endpoint: Endpoint,
    /// Its time.
    pub now: Instant,
    /// Events that were polled.
    pub events: Vec<(ConnectionHandle, Event)>,
    batch: Batch,
}

impl Victim {
    /// A server.
    pub fn server(retry: RetryPolicy) -> Self {
        Self::server_with(retry, TransportConfig::default(), 1)
    }

    /// A server with a configuration and a seed of its own.
    pub fn server_with(retry: RetryPolicy, transport: TransportConfig, seed: u8) -> Self {
        let crypto = Arc::new(ServerConfig::new(identity()));
        let setup = ServerSetup { crypto, retry, connections_max: 100_000, silent: false };
        Self::with(Some(setup), transport, seed)
    }

    /// A client.
    pub fn client(seed: u8) -> Self {
        Self::with(None, TransportConfig::default(), seed)
    }

    /// A client whose clock is so many seconds ahead.
    pub fn client_ahead(seed: u8, seconds: u64) -> Self {
        Self::at(UNIX_SECONDS + seconds, None, TransportConfig::default(), seed)
    }

    /// Any endpoint.
    pub fn with(server: Option<ServerSetup>, transport: TransportConfig, seed: u8) -> Self {
        Self::at(UNIX_SECONDS, server, transport, seed)
    }

    /// A server that starts at `now` with a clock that is `shift` seconds ahead, and shares tickets.
    pub fn shard(
        now: Instant,
        shift: i64,
        (secret, number): (u8, u16),
        transport: TransportConfig,
    ) -> Self {
        let crypto = Arc::new(ServerConfig::new(identity()));
        let retry = RetryPolicy::Never;
        let setup = ServerSetup { crypto, retry, connections_max: 100_000, silent: false };
        let unix = UNIX_SECONDS.saturating_add_signed(shift);
        let mut server = Self::at(unix, Some(setup), transport, 9);
        server.now = now;
        let epoch = TicketKeys::epoch_at(UNIX_SECONDS);
        server.endpoint.share_tickets(now, [secret; 32], epoch, number, None);
        server
    }

    fn at(unix: u64, server: Option<ServerSetup>, transport: TransportConfig, seed: u8) -> Self {
        let config = EndpointConfig {
            server,
            transport: Arc::new(transport),
            seed: [seed; 32],
            unix_seconds_at_zero: unix,
        };
        Self {
            endpoint: Endpoint::new(config),
            now: Instant::from_nanos(1_000_000_000),
            events: Vec::new(),
            batch: Batch::new(0, 64),
        }
    }

    /// Starts a connection to the server's address.
    pub fn connect(&mut self, crypto: ClientConfig) -> ConnectionHandle {
        self.connect_with(crypto, TransportConfig::default())
    }

    /// The same with a configuration of its own.
    pub fn connect_with(
        &mut self,
        crypto: ClientConfig,
        transport: TransportConfig,
    ) -> ConnectionHandle {
        let route = Route::udp(addr(SERVER));
        let connect = self.endpoint.connect(self.now, route, Arc::new(crypto), Arc::new(transport));
        connect.expect("a hello can be made")
    }

    /// Starts a connection with a ticket, and early data to come.
    pub fn resume(&mut self, ticket: ClientTicket) -> ConnectionHandle {
        let route = Route::udp(addr(SERVER));
        let transport = Arc::new(TransportConfig::default());
        let crypto = Arc::new(pinned());
        let resume = self.endpoint.resume(self.now, route, crypto, transport, ticket, true);
        resume.expect("a hello can be made")
    }

    /// Opens a stream and sends one message on it.
    pub fn say(&mut self, handle: ConnectionHandle, config: StreamConfig, text: &str) -> StreamId {
        let now = self.now;
        let connection = self.connection(handle);
        let stream = connection.open(now, config).expect("a stream");
        connection.send(now, stream, Message::from(text.to_owned())).expect("room");
        stream
    }

    /// Puts a datagram before it.
    pub fn give(&mut self, from: SocketAddr, bytes: &[u8]) {
        let payload = BytesMut::from(bytes);
        let datagram = Datagram { route: Route::udp(from), ecn: None, payload };
        self.endpoint.handle_datagram(self.now, datagram);
    }

    /// Everything that wants to leave at present: where to, and the bytes.
    pub fn take(&mut self) -> Vec<(SocketAddr, Vec<u8>)> {
        let mut out = Vec::new();
        loop {
            self.events.extend(std::iter::from_fn(|| self.endpoint.poll_event()));
            if !self.endpoint.poll_transmit(self.now, &mut self.batch) {
                break;
            }
            let to = self.batch.route().and_then(|route| route.remote()).expect("plain UDP");
            let segments = self.batch.contents().chunks(self.batch.segment_len());
            out.extend(segments.map(|segment| (to, segment.to_vec())));
            self.batch.clear();
        }
        self.events.extend(std::iter::from_fn(|| self.endpoint.poll_event()));
        out
    }

    /// Lets time pass; everything that leaves meanwhile.
    pub fn pass(&mut self, time: Duration) -> Vec<(SocketAddr, Vec<u8>)> {
        let until = self.now + time;
        let mut out = self.take();
        while let Some((at, _)) = self.endpoint.poll_timeout().filter(|(at, _)| *at <= until) {
            self.now = self.now.max(at);
            self.endpoint.handle_timeout(self.now);
            out.extend(self.take());
        }
        self.now = until;
        out
    }

    /// The next deadline.
    pub fn deadline(&mut self) -> Option<Instant> {
        self.endpoint.poll_timeout().map(|(at, _)| at)
    }

    /// The connection of this handle.
    pub fn connection(&mut self, handle: ConnectionHandle) -> &mut Connection {
        self.endpoint.connection(handle).expect("a connection that is known")
    }

    /// The handle of the latest connection that was established.
    pub fn newest(&self) -> Option<ConnectionHandle> {
        let connected = |(_, event): &&(_, Event)| *event == Event::Connected;
        self.events.iter().rev().find(connected).map(|(handle, _)| *handle)
    }

    /// Why a connection ended, if it did.
    pub fn end_of(&self, handle: ConnectionHandle) -> Option<CloseReason> {
        self.events.iter().find_map(|(of, event)| match event {
            Event::Closed { reason } if *of == handle => Some(reason.clone()),
            _ => None,
        })
    }

    /// Carries datagrams between the victim and a hostile peer until both are silent.
    pub fn talk(&mut self, peer: &mut Peer) {
        loop {
            let from_peer = peer.take();
            from_peer.iter().for_each(|datagram| self.give(peer.addr, datagram));
            let from_us = self.take();
            if from_us.is_empty() && from_peer.is_empty() {
                return;
            }
            for (to, datagram) in from_us {
                if to == peer.addr {
                    peer.read(&datagram);
                }
            }
        }
    }

    /// A hostile client that has completed its handshake with this server.
    pub fn befriend(&mut self, seed: u64) -> (Peer, ConnectionHandle) {
        let mut peer = Peer::client(addr(CLIENT), pinned(), seed);
        self.talk(&mut peer);
        let handle = self.newest().expect("a correct client is accepted");
        assert!(peer.is_complete());
        (peer, handle)
    }

    /// Gives the victim a 1-RTT packet of the peer and lets the peer hear the answers.
    pub fn hit(&mut self, peer: &mut Peer, packet: &[u8]) {
        self.give(peer.addr, packet);
        self.listen(peer);
    }

    /// Lets the peer hear what leaves.
    pub fn listen(&mut self, peer: &mut Peer) {
        for (to, datagram) in self.take() {
            if to == peer.addr {
                peer.read(&datagram);
            }
        }
    }

    /// The code with which the transport closed, if it did.
    pub fn close_code(&self, handle: ConnectionHandle) -> Option<u64> {
        match self.end_of(handle) {
            Some(CloseReason::LocalError(error)) => Some(error.code.0),
            _ => None,
        }
    }
}
