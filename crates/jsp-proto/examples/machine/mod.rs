//! Two endpoints in one thread: no socket, no delay, no loss. What the machine costs, and nothing else.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use jsp_crypto::{ClientConfig, ClientTicket, Fingerprint, Identity, ServerConfig, ServerIdentity};
use jsp_proto::{
    Batch, Connection, ConnectionHandle, Datagram, Endpoint, EndpointConfig, Event, Instant,
    RetryPolicy, Route, ServerSetup, StreamConfig, StreamId, TransportConfig,
};

/// Random bytes that are the same each time, for the server's identity.
pub struct FixedRng(pub u64);

impl jsp_crypto::Rng for FixedRng {
    fn fill(&mut self, out: &mut [u8]) {
        for byte in out {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *byte = (self.0 >> 56) as u8;
        }
    }
}

fn config(transport: &Arc<TransportConfig>, server: Option<ServerSetup>) -> EndpointConfig {
    EndpointConfig {
        seed: [if server.is_some() { 2 } else { 1 }; 32],
        server,
        transport: transport.clone(),
        unix_seconds_at_zero: 1_800_000_000,
    }
}

/// A server, and its identity's fingerprint.
fn server(transport: &Arc<TransportConfig>, retry: RetryPolicy) -> (Endpoint, Fingerprint) {
    let identity = Arc::new(Identity::generate(&mut FixedRng(7)));
    let crypto = Arc::new(ServerConfig::new(identity));
    let pin = crypto.fingerprint();
    let setup = ServerSetup { crypto, retry, connections_max: 1000, silent: false };
    (Endpoint::new(config(transport, Some(setup))), pin)
}

/// A client, end 0, connected to a server, end 1.
pub struct Machine {
    pub ends: [Endpoint; 2],
    pub handles: [ConnectionHandle; 2],
    pub now: Instant,
    batch: Batch,
    addrs: [SocketAddr; 2],
    client: Arc<ClientConfig>,
    transport: Arc<TransportConfig>,
}

impl Machine {
    /// Connects the ends, and lets a second pass, so that nothing of the handshake is left.
    pub fn new() -> Self {
        Self::with(TransportConfig::default())
    }

    /// The same with this configuration of both ends.
    pub fn with(transport: TransportConfig) -> Self {
        let transport = Arc::new(transport);
        let (server, pin) = server(&transport, RetryPolicy::Never);
        let mut ends = [Endpoint::new(config(&transport, None)), server];
        let addrs: [SocketAddr; 2] =
            [SocketAddr::from(([192, 0, 2, 1], 1)), SocketAddr::from(([192, 0, 2, 2], 2))];
        let now = Instant::from_nanos(1_000_000_000);
        let client = Arc::new(ClientConfig::new(ServerIdentity::Pinned(pin)));
        let route = Route::udp(addrs[1]);
        let handle = ends[0].connect(now, route, client.clone(), transport.clone()).unwrap();
        let (batch, handles) = (Batch::new(65_507, 44), [handle, handle]);
        let mut machine = Self { ends, addrs, now, batch, handles, client, transport };
        while machine.round() > 0 {}
        machine.now = machine.now + Duration::from_secs(1);
        while machine.round() > 0 {}
        while let Some((handle, event)) = machine.ends[1].poll_event() {
            if event == Event::Connected {
                machine.handles[1] = handle;
            }
        }
        machine.drop_events();
        machine
    }

    /// The connection as this end has it.
    pub fn connection(&mut self, end: usize) -> &mut Connection {
        self.ends[end].connection(self.handles[end]).unwrap()
    }

    /// The client connects once more.
    pub fn connect(&mut self) -> ConnectionHandle {
        let (route, client) = (Route::udp(self.addrs[1]), self.client.clone());
        self.ends[0].connect(self.now, route, client, self.transport.clone()).unwrap()
    }

    /// The same with a ticket.
    pub fn resume(&mut self, ticket: ClientTicket) -> ConnectionHandle {
        let (route, client) = (Route::udp(self.addrs[1]), self.client.clone());
        let transport = self.transport.clone();
        self.ends[0].resume(self.now, route, client, transport, ticket, false).unwrap()
    }

    /// The client's application, and the server's with it, has no more use for a connection.
    pub fn forget(&mut self, client: Option<ConnectionHandle>) {
        let own = self.handles[1];
        while let Some((server, event)) = self.ends[1].poll_event() {
            if event == Event::Connected && server != own {
                self.ends[1].forget(self.now, server);
            }
        }
        if let Some(client) = client {
            self.ends[0].forget(self.now, client);
        }
        for _ in 0..2 {
            while self.round() > 0 {}
            self.now = self.now + Duration::from_secs(10);
        }
        while self.round() > 0 {}
        self.drop_events();
    }

    /// From now on end 1 asks every client for a proof of its address. Connections that were are not its any more.
    pub fn ask_for_proof(&mut self) {
        self.ends[1] = server(&self.transport, RetryPolicy::Always).0;
    }

    /// The client opens a stream.
    pub fn open(&mut self, config: StreamConfig) -> StreamId {
        let now = self.now;
        self.connection(0).open(now, config).unwrap()
    }

    /// Carries everything that both ends want to send; answers how many datagrams that were.
    pub fn round(&mut self) -> usize {
        let mut count = 0;
        for from in [0, 1] {
            self.tick();
            while self.transmit(from) {
                for datagram in self.arrivals().0 {
                    count += 1;
                    self.deliver(1 - from, datagram);
                }
            }
        }
        count
    }

    /// The client's hello arrives; what the server answers does not.
    pub fn hello(&mut self) {
        for from in [0, 1] {
            self.tick();
            while self.transmit(from) {
                for datagram in self.arrivals().0 {
                    if from == 0 {
                        self.deliver(1, datagram);
                    }
                }
            }
        }
    }

    /// Time passes.
    pub fn tick(&mut self) {
        self.now = self.now + Duration::from_micros(10);
    }

    /// Fills the batch with what this end wants to send; answers whether it holds any.
    pub fn transmit(&mut self, from: usize) -> bool {
        self.ends[from].handle_timeout(self.now);
        self.ends[from].poll_transmit(self.now, &mut self.batch)
    }

    /// What the batch holds, as the system hands it to a receiver: one buffer for all, cut into
    /// datagrams, and an empty rest that keeps it. The batch is empty then.
    pub fn arrivals(&mut self) -> (Vec<BytesMut>, BytesMut) {
        let mut bytes = BytesMut::from(self.batch.contents());
        let mut datagrams = Vec::with_capacity(self.batch.segments());
        while !bytes.is_empty() {
            datagrams.push(bytes.split_to(self.batch.segment_len().min(bytes.len())));
        }
        self.batch.clear();
        (datagrams, bytes)
    }

    /// A datagram of the other end arrives.
    pub fn deliver(&mut self, to: usize, payload: BytesMut) {
        let route = Route::udp(self.addrs[1 - to]);
        self.ends[to].handle_datagram(self.now, Datagram { route, ecn: None, payload });
    }

    /// Nobody wants to know what happened.
    pub fn drop_events(&mut self) {
        for end in &mut self.ends {
            while end.poll_event().is_some() {}
        }
    }
}
