//! What somebody on the way sees: entropy and lengths of wrapped first flights, sizes and cost of padding,
//! and which application it is.

mod neighbours;
mod recognition;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use jsp_crypto::{ClientConfig, Identity, ObfuscationKey, ServerConfig, ServerIdentity};
use jsp_proto::{
    Batch, Buckets, ConnectionHandle, Datagram, Endpoint, EndpointConfig, Event, Message, Padding,
    RetryPolicy, ServerSetup, StreamConfig, TransportConfig,
};
use jsp_wire::{Instant, Route};
pub use recognition::rows as recognition;

use crate::random::Random;
use crate::report::Row;

/// Positions of a flow that are looked at.
const POSITIONS: usize = 64;
/// Least entropy of each, in bits: with 10 000 flows, random bytes have 7.98.
const ENTROPY_MIN: f64 = 7.5;
/// Most of the bytes without padding that padding may add, in percent, on average over the loads.
const OVERHEAD_MAX: f64 = 25.0;
/// Time in one direction.
const DELAY: Duration = Duration::from_millis(20);
/// Unix time at the beginning, in seconds.
const UNIX_SECONDS_AT_ZERO: u64 = 1_800_000_000;

/// First flights and sizes, over so many flows.
pub fn rows(flows: u64, seed: u64) -> Vec<Row> {
    let mut rows = Vec::new();
    for is_wrapped in [true, false] {
        rows.extend(first_flights(flows, seed, is_wrapped));
    }
    rows.extend(padded_loads(seed));
    rows
}

/// Two endpoints in virtual time, with an eye on the wire.
struct Wire {
    client: Endpoint,
    server: Endpoint,
    crypto: Arc<ClientConfig>,
    transport: Arc<TransportConfig>,
    now: Instant,
    flying: VecDeque<(Instant, bool, BytesMut)>,
    /// The datagrams of the client, and those of the server.
    seen: [Vec<Sight>; 2],
    events: Vec<(bool, ConnectionHandle, Event)>,
}

/// What shows of a datagram.
struct Sight {
    at: Instant,
    len: usize,
    start: Vec<u8>,
}

fn address(is_server: bool) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1 + u8::from(is_server)], 4433))
}

impl Wire {
    fn new(random: &mut Random, padding: Padding, key: Option<&ObfuscationKey>) -> Self {
        let identity = loop {
            if let Some(identity) = Identity::from_seed(&random.seed_bytes()) {
                break identity;
            }
        };
        let crypto = Arc::new(ServerConfig::new(Arc::new(identity)));
        let pin = ServerIdentity::Pinned(crypto.fingerprint());
        let transport = Arc::new(TransportConfig { padding, ..TransportConfig::default() });
        let setup =
            ServerSetup { crypto, retry: RetryPolicy::Never, connections_max: 10, silent: false };
        let mut endpoint = |server| {
            let endpoint = Endpoint::new(EndpointConfig {
                server,
                transport: transport.clone(),
                seed: random.seed_bytes(),
                unix_seconds_at_zero: UNIX_SECONDS_AT_ZERO,
            });
            match key {
                Some(key) => endpoint.obfuscated(key),
                None => endpoint,
            }
        };
        let (client, server) = (endpoint(None), endpoint(Some(setup)));
        Self {
            client,
            server,
            crypto: Arc::new(ClientConfig::new(pin)),
            transport,
            now: Instant::from_nanos(1_000_000_000),
            flying: VecDeque::new(),
            seen: [Vec::new(), Vec::new()],
            events: Vec::new(),
        }
    }

    fn connect(&mut self) -> ConnectionHandle {
        let (crypto, transport) = (self.crypto.clone(), self.transport.clone());
        let connected = self.client.connect(self.now, Route::udp(address(true)), crypto, transport);
        connected.expect("a fresh endpoint has room for a connection")
    }

    /// The server's name of the connection, once it is there.
    fn accepted(&self) -> Option<ConnectionHandle> {
        let connected = |(is_server, _, event): &&(bool, ConnectionHandle, Event)| {
            *is_server && *event == Event::Connected
        };
        self.events.iter().find(connected).map(|(_, handle, _)| *handle)
    }

    fn flush(&mut self) {
        let mut batch = Batch::new(0, 64);
        for (is_server, endpoint) in [(false, &mut self.client), (true, &mut self.server)] {
            while endpoint.poll_transmit(self.now, &mut batch) {
                for datagram in batch.contents().chunks(batch.segment_len().max(1)) {
                    let start = datagram.iter().take(POSITIONS).copied().collect();
                    let sight = Sight { at: self.now, len: datagram.len(), start };
                    self.seen[usize::from(is_server)].push(sight);
                    let arrival = (self.now + DELAY, !is_server, BytesMut::from(datagram));
                    self.flying.push_back(arrival);
                }
                batch.clear();
            }
            while let Some((handle, event)) = endpoint.poll_event() {
                self.events.push((is_server, handle, event));
            }
        }
    }

    fn run_for(&mut self, time: Duration) {
        let until = self.now + time;
        loop {
            self.flush();
            let timers = [self.client.poll_timeout(), self.server.poll_timeout()];
            let timers = timers.into_iter().flatten().map(|(at, _)| at);
            let next = self.flying.front().map(|(at, ..)| *at).into_iter().chain(timers).min();
            let Some(next) = next.filter(|next| *next <= until) else { break };
            self.now = self.now.max(next);
            while let Some((_, to_server, payload)) =
                self.flying.pop_front_if(|(at, ..)| *at <= self.now)
            {
                let route = Route::udp(address(!to_server));
                let to = if to_server { &mut self.server } else { &mut self.client };
                to.handle_datagram(self.now, Datagram { route, ecn: None, payload });
            }
            self.client.handle_timeout(self.now);
            self.server.handle_timeout(self.now);
        }
        self.now = until;
    }
}

/// Bytes seen at one position.
#[derive(Clone)]
struct Histogram([u64; 256]);

impl Histogram {
    /// Shannon's entropy in bits, of the relative frequencies as they are.
    fn entropy(&self) -> f64 {
        let total = self.0.iter().sum::<u64>().max(1) as f64;
        let shares = self.0.iter().filter(|count| **count > 0).map(|count| *count as f64 / total);
        shares.map(|share| -share * share.log2()).sum()
    }
}

fn first_flights(flows: u64, seed: u64, is_wrapped: bool) -> Vec<Row> {
    let key = ObfuscationKey::from_bytes(Random::part(seed, "obfuscation key", 0).seed_bytes());
    let key = is_wrapped.then_some(&key);
    let mut histograms =
        [vec![Histogram([0; 256]); POSITIONS], vec![Histogram([0; 256]); POSITIONS]];
    let mut lengths = [BTreeMap::new(), BTreeMap::new()];
    for flow in 0..flows {
        let mut wire = Wire::new(&mut Random::part(seed, "flow", flow), Padding::None, key);
        wire.connect();
        // The hello, and the answer to it.
        wire.run_for(DELAY);
        for side in 0..2 {
            let Some(Sight { len, start, .. }) = wire.seen[side].first() else { continue };
            *lengths[side].entry(*len).or_insert(0u64) += 1;
            for (histogram, byte) in histograms[side].iter_mut().zip(start) {
                histogram.0[usize::from(*byte)] += 1;
            }
        }
    }
    let mut rows = Vec::new();
    for (side, name) in ["client", "server"].into_iter().enumerate() {
        let case = format!("{} first flight, {name}", if is_wrapped { "wrapped" } else { "plain" });
        let entropies = histograms[side].iter().map(Histogram::entropy);
        let least = entropies.fold(f64::INFINITY, f64::min);
        let constant = histograms[side].iter().filter(|histogram| histogram.entropy() == 0.0);
        let most = lengths[side].values().copied().max().unwrap_or(0);
        let share = most as f64 / flows.max(1) as f64 * 100.0;
        let figures = [
            Row::new(case.as_str(), "entropy_min", least, "bit/B"),
            Row::new(case.as_str(), "constant_positions", constant.count() as f64, "of 64"),
            Row::new(case.as_str(), "lengths", lengths[side].len() as f64, "count"),
            Row::new(case.as_str(), "commonest_length", share, "%"),
        ];
        let [entropy, constant, lengths, common] = figures;
        // The plain protocol stands beside, without bars: it hides nothing of this.
        rows.extend(if is_wrapped {
            let (varied, unfixed) = (least >= ENTROPY_MIN, share <= 2.0);
            let none = histograms[side].iter().all(|histogram| histogram.entropy() > 0.0);
            [
                entropy.bar(">= 7.5", varied),
                constant.bar("== 0", none),
                lengths,
                common.bar("<= 2", unfixed),
            ]
        } else {
            [entropy, constant, lengths, common]
        });
    }
    rows
}

/// What an application does: bytes of a message and time to the next one.
type Load = (&'static str, StreamConfig, fn(&mut Random) -> (usize, Duration));

fn loads() -> [Load; 4] {
    [
        ("voice", StreamConfig::voice(), |random| {
            (random.between(60, 160) as usize, Duration::from_millis(20))
        }),
        ("chat", StreamConfig::chat(), |random| {
            (random.log_between(5, 400) as usize, Duration::from_millis(random.between(200, 2_000)))
        }),
        ("video", StreamConfig::video(), |random| {
            (random.log_between(1_500, 12_000) as usize, Duration::from_millis(33))
        }),
        ("file", StreamConfig::chat(), |_| (50_000, Duration::from_millis(100))),
    ]
}

fn padded_loads(seed: u64) -> Vec<Row> {
    let buckets = Buckets::default();
    let mut rows = Vec::new();
    let mut overheads = Vec::new();
    for (name, config, next) in loads() {
        let mut random = Random::part(seed, name, 0);
        let mut wire = Wire::new(&mut random, Padding::Buckets(buckets), None);
        let handle = wire.connect();
        wire.run_for(Duration::from_secs(1));
        let open = wire.client.connection(handle).and_then(|c| c.open(wire.now, config).ok());
        let Some(stream) = open else { continue };
        let end = wire.now + Duration::from_secs(10);
        while wire.now < end {
            let (len, gap) = next(&mut random);
            if let Some(connection) = wire.client.connection(handle) {
                // What finds no room is left out: the load is what leaves.
                let _ = connection.send(wire.now, stream, Message::binary(vec![0; len]));
            }
            wire.run_for(gap);
            take_all(&mut wire, stream);
        }
        let traffic = wire.client.connection(handle).map(|c| c.stats().traffic).unwrap_or_default();
        let declared: Vec<_> = buckets.sizes().collect();
        let seen = wire.seen.iter().flatten();
        let outside = seen.filter(|sight| !declared.contains(&sight.len)).count();
        let case = format!("padded {name}");
        let bare = traffic.bytes_sent - traffic.padding_bytes_sent;
        let overhead = traffic.padding_bytes_sent as f64 / bare.max(1) as f64 * 100.0;
        rows.push(
            Row::new(case.as_str(), "outside_buckets", outside as f64, "count")
                .bar("== 0", outside == 0),
        );
        rows.push(Row::new(case.as_str(), "overhead", overhead, "%"));
        overheads.push(overhead);
    }
    let overhead = overheads.iter().sum::<f64>() / overheads.len().max(1) as f64;
    let row = Row::new("padded, mean of loads", "overhead", overhead, "%");
    rows.push(row.bar("<= 25", overhead <= OVERHEAD_MAX));
    rows
}

/// The server's application reads what has come.
fn take_all(wire: &mut Wire, stream: jsp_wire::StreamId) {
    let Some(handle) = wire.accepted() else { return };
    if let Some(connection) = wire.server.connection(handle) {
        while let Ok(Some(_)) = connection.recv(wire.now, stream) {}
    }
}
