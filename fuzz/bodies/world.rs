//! A client, a server, and the wire between them, in virtual time. What the wire does to each
//! datagram is told by a list of bytes; once they are used up, it does nothing bad.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use jsp_proto::{
    Batch, ConnectionHandle, Datagram, Endpoint, EndpointConfig, Event, Instant, RetryPolicy,
    Route, ServerSetup, TransportConfig,
};

use super::parties::{Parties, parties};

/// Which end: an index into everything there is two of.
pub const CLIENT: usize = 0;
pub const SERVER: usize = 1;
/// One way.
const DELAY: Duration = Duration::from_millis(10);
/// Datagrams of one end at one moment: far more than any window lets go.
const BURST_MAX: usize = 20_000;
/// Things that may happen without time going on.
const STANDSTILL_MAX: usize = 20_000;
/// Datagrams that are remembered, to come once more.
const HISTORY_MAX: usize = 64;

struct Flying {
    at: Instant,
    to: usize,
    from: SocketAddr,
    bytes: Vec<u8>,
}

/// Both endpoints, with one connection.
pub struct World {
    pub ends: [Endpoint; 2],
    /// Each end's own name of the connection, once it has one.
    pub handles: [Option<ConnectionHandle>; 2],
    pub addresses: [SocketAddr; 2],
    pub now: Instant,
    /// What happened, for whoever looks.
    pub events: VecDeque<(usize, Event)>,
    /// What the wire does to the datagrams to come.
    pub weather: VecDeque<u8>,
    /// Datagrams that were sent: receiver and bytes.
    pub history: VecDeque<(usize, Vec<u8>)>,
    /// Bytes that the server heard from and told each address of the client.
    traffic: Vec<(SocketAddr, usize, usize)>,
    flying: VecDeque<Flying>,
    /// Ends to which something was done: only they have anything to send or to tell.
    stirred: [bool; 2],
    /// Ends that have heard a datagram since their applications looked.
    heard: [bool; 2],
    /// Kept from one datagram to the next: making one costs more than filling it. Away while it is filled.
    batch: Option<Batch>,
}

impl World {
    /// A client that is about to connect.
    pub fn new(transport: [TransportConfig; 2], retry: RetryPolicy) -> Self {
        let Parties { client, server } = parties();
        let [client_transport, server_transport] = transport.map(Arc::new);
        let config = |server, transport, seed: u8| EndpointConfig {
            server,
            transport,
            seed: [seed; 32],
            unix_seconds_at_zero: 1_800_000_000,
        };
        let setup =
            ServerSetup { crypto: server.clone(), retry, connections_max: 4, silent: false };
        let mut world = Self {
            ends: [
                Endpoint::new(config(None, client_transport.clone(), 1)),
                Endpoint::new(config(Some(setup), server_transport, 2)),
            ],
            handles: [None; 2],
            addresses: [
                SocketAddr::from(([192, 0, 2, 1], 1000)),
                SocketAddr::from(([192, 0, 2, 2], 2000)),
            ],
            now: Instant::from_nanos(1_000_000_000),
            events: VecDeque::new(),
            weather: VecDeque::new(),
            history: VecDeque::new(),
            traffic: Vec::new(),
            flying: VecDeque::new(),
            stirred: [true; 2],
            heard: [true; 2],
            batch: None,
        };
        let route = Route::udp(world.addresses[SERVER]);
        let handle = world.ends[CLIENT].connect(world.now, route, client.clone(), client_transport);
        world.handles[CLIENT] = Some(handle.expect("a client can start"));
        world
    }

    /// The connection of an end, while it has one.
    pub fn connection(&mut self, end: usize) -> Option<&mut jsp_proto::Connection> {
        self.stirred[end] = true;
        self.ends[end].connection(self.handles[end]?)
    }

    /// The connection of an end, to look at.
    pub fn watched(&mut self, end: usize) -> Option<&jsp_proto::Connection> {
        self.ends[end].connection(self.handles[end]?).map(|connection| &*connection)
    }

    /// True when both ends can send.
    pub fn is_established(&mut self) -> bool {
        [CLIENT, SERVER]
            .into_iter()
            .all(|end| self.watched(end).is_some_and(|connection| connection.is_established()))
    }

    /// Whether an end has heard a datagram since this was asked last, so that there may be something to read.
    pub fn has_heard(&mut self, end: usize) -> bool {
        std::mem::take(&mut self.heard[end])
    }

    /// The client's datagrams come from another address from here on.
    pub fn migrate(&mut self) {
        let port = self.addresses[CLIENT].port();
        self.addresses[CLIENT].set_port(1000 + (port + 1) % 8);
    }

    /// Sends all that wants to leave, and notes events. Like a driver, it does not ask an end to which nothing was done
    /// and whose deadline has not come.
    pub fn flush(&mut self) {
        for end in [CLIENT, SERVER] {
            if !std::mem::take(&mut self.stirred[end]) {
                continue;
            }
            self.gather(end);
            let mut batch = self.batch.take().unwrap_or_else(|| Batch::new(0, 64));
            let mut count = 0;
            while self.ends[end].poll_transmit(self.now, &mut batch) {
                assert!(count < BURST_MAX, "an end never stops to send");
                count += self.launch(end, &batch);
                batch.clear();
            }
            self.batch = Some(batch);
            self.gather(end);
        }
    }

    fn gather(&mut self, end: usize) {
        while let Some((handle, event)) = self.ends[end].poll_event() {
            if self.handles[end].is_none() {
                self.handles[end] = Some(handle);
            }
            if self.handles[end] == Some(handle) {
                self.events.push_back((end, event));
            } else if event == Event::Drained {
                // A second connection, of a hello that came twice.
                self.ends[end].forget(self.now, handle);
            }
        }
    }

    fn launch(&mut self, end: usize, batch: &Batch) -> usize {
        let to = batch.route().and_then(|route| route.remote()).expect("plain UDP");
        let mut count = 0;
        for segment in batch.contents().chunks(batch.segment_len()) {
            count += 1;
            if end == SERVER {
                self.account(to, 0, segment.len());
            }
            // What goes elsewhere is lost: whoever got it and gave it to the client would be on the path.
            if end == SERVER && to != self.addresses[CLIENT] {
                continue;
            }
            if self.history.len() >= HISTORY_MAX {
                self.history.pop_front();
            }
            self.history.push_back((1 - end, segment.to_vec()));
            self.send_through(1 - end, segment.to_vec());
        }
        count
    }

    /// A datagram meets the weather.
    fn send_through(&mut self, to: usize, mut bytes: Vec<u8>) {
        let from = self.addresses[1 - to];
        let fate = self.weather.pop_front().unwrap_or(0);
        let late = Duration::from_millis(u64::from(fate & 15) * 8);
        match fate >> 4 {
            0..=6 => self.fly(DELAY, to, from, bytes),
            7 | 8 => {}
            9 => {
                self.fly(DELAY, to, from, bytes.clone());
                self.fly(DELAY + late, to, from, bytes);
            }
            10 | 11 => self.fly(DELAY + late, to, from, bytes),
            12 => self.fly(DELAY + late * 16, to, from, bytes),
            13 => {
                let at = usize::from(fate & 15) * bytes.len() / 16;
                bytes[at] ^= 1 << (fate & 7);
                self.fly(DELAY, to, from, bytes);
            }
            14 => {
                bytes.truncate(bytes.len() * usize::from(fate & 15) / 16);
                self.fly(DELAY, to, from, bytes);
            }
            _ => {
                // Somebody on the way sends a copy from elsewhere, which comes first.
                let elsewhere = SocketAddr::from(([203, 0, 113, 1 + (fate & 3)], 9));
                self.fly(DELAY / 2, to, elsewhere, bytes.clone());
                self.fly(DELAY, to, from, bytes);
            }
        }
    }

    fn fly(&mut self, delay: Duration, to: usize, from: SocketAddr, bytes: Vec<u8>) {
        let at = self.now + delay;
        let place = self.flying.partition_point(|other| other.at <= at);
        self.flying.insert(place, Flying { at, to, from, bytes });
    }

    fn account(&mut self, address: SocketAddr, heard: usize, told: usize) {
        let place = self.traffic.iter().position(|(known, ..)| *known == address);
        let place = place.unwrap_or_else(|| {
            self.traffic.push((address, 0, 0));
            self.traffic.len() - 1
        });
        let entry = &mut self.traffic[place];
        entry.1 += heard;
        entry.2 += told;
    }

    /// A datagram arrives now.
    pub fn deliver(&mut self, to: usize, from: SocketAddr, bytes: &[u8]) {
        if to == SERVER {
            self.account(from, bytes.len(), 0);
        }
        self.stirred[to] = true;
        self.heard[to] = true;
        let datagram =
            Datagram { route: Route::udp(from), ecn: None, payload: BytesMut::from(bytes) };
        self.ends[to].handle_datagram(self.now, datagram);
    }

    /// Addresses that never were the client's have heard no more than three times what they said.
    // Of an address that was the client's, the endpoint may know that it is.
    pub fn check_amplification(&self) {
        for (address, heard, told) in &self.traffic {
            let is_client = address.ip() == self.addresses[CLIENT].ip();
            assert!(is_client || *told <= 3 * heard, "{address}: {told} bytes for {heard}");
        }
    }

    /// Goes on to the next thing that happens; false when nothing will, before `until`.
    fn step(&mut self, until: Instant) -> bool {
        self.flush();
        let arrival = self.flying.front().map(|flying| flying.at);
        let timers = [CLIENT, SERVER].map(|end| self.ends[end].poll_timeout().map(|(at, _)| at));
        let next = timers.into_iter().chain([arrival]).flatten().min();
        let Some(next) = next.filter(|next| *next <= until) else {
            self.now = self.now.max(until);
            return false;
        };
        self.now = self.now.max(next);
        while let Some(flying) = self.flying.pop_front_if(|flying| flying.at <= self.now) {
            self.deliver(flying.to, flying.from, &flying.bytes);
        }
        for (end, at) in timers.into_iter().enumerate() {
            if at.is_some_and(|at| at <= self.now) {
                self.stirred[end] = true;
                self.ends[end].handle_timeout(self.now);
            }
        }
        true
    }

    /// Lets time go on; after each thing that happens `look` may act, and end it by saying true.
    pub fn run(&mut self, time: Duration, mut look: impl FnMut(&mut Self) -> bool) {
        let until = self.now + time;
        let (mut at, mut count) = (self.now, 0);
        while self.step(until) {
            self.flush();
            if look(self) {
                return;
            }
            count = if self.now > at { 0 } else { count + 1 };
            at = self.now;
            assert!(count < STANDSTILL_MAX, "time stands still");
        }
        self.flush();
        look(self);
    }

    /// Both ends close and forget: with time nothing is left of them.
    pub fn end(&mut self) {
        self.weather.clear();
        for end in [CLIENT, SERVER] {
            let now = self.now;
            if let Some(connection) = self.connection(end) {
                connection.close(now, 0, b"");
            }
        }
        self.run(Duration::from_secs(600), |_| false);
        for end in [CLIENT, SERVER] {
            if let Some(handle) = self.handles[end] {
                self.stirred[end] = true;
                self.ends[end].forget(self.now, handle);
            }
        }
        self.run(Duration::from_secs(600), |_| false);
        for end in [CLIENT, SERVER] {
            assert!(self.ends[end].is_at_rest(), "an end is never done");
            assert_eq!(self.ends[end].connection_count(), 0);
        }
    }
}
