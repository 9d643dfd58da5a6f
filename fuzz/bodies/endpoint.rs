//! What must hold of a server that gets any datagrams at any time: no panic, nothing without bound,
//! and no more than three times the bytes back to an address that has proved nothing.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::BytesMut;
use jsp_crypto::{Fingerprint, Identity, Rng, Role, ServerConfig, initial_keys};
use jsp_proto::{
    Batch, Datagram, Endpoint, EndpointConfig, Event, Instant, RetryPolicy, Route, ServerSetup,
    TransportConfig,
};
use jsp_wire::header::{LongFields, Protected, patch_length};
use jsp_wire::{ConnectionId, LongType, VERSION_1, Writer};

/// Random bytes that are the same each time.
struct Seeded(u64);

impl Rng for Seeded {
    fn fill(&mut self, out: &mut [u8]) {
        for byte in out {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            *byte = self.0 as u8;
        }
    }
}

/// Connections that the server may hold.
const CONNECTIONS_MAX: usize = 4;
/// Bytes of a server's largest datagram.
const DATAGRAM_LEN_MAX: usize = 1500;

fn crypto() -> Arc<ServerConfig> {
    static CRYPTO: OnceLock<Arc<ServerConfig>> = OnceLock::new();
    let make = || {
        let identity = Arc::new(Identity::generate(&mut Seeded(0x1234_5678_9abc_def1)));
        Arc::new(ServerConfig::new(identity))
    };
    CRYPTO.get_or_init(make).clone()
}

/// A server, and what it got from and gave to each address.
struct World {
    endpoint: Endpoint,
    now: Instant,
    got: HashMap<SocketAddr, usize>,
    gave: HashMap<SocketAddr, usize>,
    pin: Fingerprint,
    opened: usize,
}

/// The input is a list of steps: `kind 1 | length 1 | bytes`.
///
/// Kind 0 is a datagram, 1 the payload of an Initial packet that is sealed as a client would, 2 the
/// same from a client without the pin, 3 a datagram padded to 1200 bytes, 4 lets time pass. Bits 4
/// and 5 of the kind name the sender. Answers how many connections came about.
pub fn datagrams(data: &[u8]) -> usize {
    let crypto = crypto();
    let pin = crypto.fingerprint();
    let retry = match data.first().map(|first| first & 1) {
        Some(1) => RetryPolicy::Always,
        _ => RetryPolicy::Never,
    };
    let config = EndpointConfig {
        server: Some(ServerSetup {
            crypto,
            retry,
            connections_max: CONNECTIONS_MAX,
            silent: false,
        }),
        transport: Arc::new(TransportConfig::default()),
        seed: [5; 32],
        unix_seconds_at_zero: 1_800_000_000,
    };
    let mut world = World {
        endpoint: Endpoint::new(config),
        now: Instant::from_nanos(1_000_000_000),
        got: HashMap::new(),
        gave: HashMap::new(),
        pin,
        opened: 0,
    };
    let mut rest = data.get(1..).unwrap_or_default();
    while let [kind, len, tail @ ..] = rest {
        let (bytes, next) = tail.split_at(usize::from(*len).min(tail.len()));
        world.step(*kind, bytes);
        rest = next;
    }
    world.end();
    world.opened
}

impl World {
    fn step(&mut self, kind: u8, bytes: &[u8]) {
        let from = SocketAddr::from(([192, 0, 2, 1 + (kind >> 4 & 3)], 1000));
        match kind & 7 {
            0 => self.deliver(from, bytes.to_vec()),
            1 => self.deliver(from, initial(kind, bytes, Some(&self.pin))),
            2 => self.deliver(from, initial(kind, bytes, None)),
            3 => {
                let mut padded = bytes.to_vec();
                padded.resize(1200, 0);
                self.deliver(from, padded);
            }
            _ => {
                let ticks = bytes.iter().fold(1u64, |sum, byte| sum + u64::from(*byte));
                self.now = self.now + Duration::from_millis(ticks);
                self.endpoint.handle_timeout(self.now);
            }
        }
        self.flush();
        assert!(self.endpoint.connection_count() <= CONNECTIONS_MAX);
    }

    fn deliver(&mut self, from: SocketAddr, bytes: Vec<u8>) {
        *self.got.entry(from).or_default() += bytes.len();
        let payload = BytesMut::from(&bytes[..]);
        let datagram = Datagram { route: Route::udp(from), ecn: None, payload };
        self.endpoint.handle_datagram(self.now, datagram);
    }

    fn flush(&mut self) {
        let mut batch = Batch::new(0, 64);
        self.read_events();
        while self.endpoint.poll_transmit(self.now, &mut batch) {
            let to = batch.route().and_then(|route| route.remote()).expect("plain UDP");
            assert!(batch.segment_len() <= DATAGRAM_LEN_MAX);
            *self.gave.entry(to).or_default() += batch.contents().len();
            batch.clear();
        }
        self.read_events();
        for (to, gave) in &self.gave {
            let got = self.got.get(to).copied().unwrap_or(0);
            assert!(*gave <= 3 * got, "{gave} bytes for {got}");
        }
    }

    /// Forgets connections that are over, as an application does.
    fn read_events(&mut self) {
        while let Some((handle, event)) = self.endpoint.poll_event() {
            if event == Event::Drained {
                self.opened += 1;
                self.endpoint.forget(self.now, handle);
            }
        }
    }

    /// With time, everything that strangers began is forgotten.
    fn end(&mut self) {
        for _ in 0..10_000 {
            let Some((at, _)) = self.endpoint.poll_timeout() else { break };
            self.now = self.now.max(at);
            self.endpoint.handle_timeout(self.now);
            self.flush();
        }
        // What was forgotten last goes with the next look at it.
        self.flush();
        assert_eq!(self.endpoint.connection_count(), 0);
        assert!(self.endpoint.poll_timeout().is_none(), "timers never end");
    }
}

/// An Initial packet with this payload, sealed by the sender that `kind` names, in a full datagram.
fn initial(kind: u8, payload: &[u8], pin: Option<&Fingerprint>) -> Vec<u8> {
    let dcid = ConnectionId::new(&[kind >> 4; 8]).expect("a short id");
    let keys = initial_keys(Role::Client, VERSION_1, dcid.as_bytes(), pin);
    let pn = payload.iter().fold(0u64, |sum, byte| (sum * 31 + u64::from(*byte)) % 100);
    let scid = ConnectionId::EMPTY;
    let fields = LongFields { kind: LongType::Initial, dcid, scid, token: &[], pn, pn_len: 1 };
    let mut packet = vec![0; 1500];
    let layout = fields.write(&mut Writer::new(&mut packet)).expect("there is room");
    let start = layout.pn_offset + 1;
    packet[start..start + payload.len()].copy_from_slice(payload);
    let len = payload.len().max(4) + 16;
    packet.truncate(start + len);
    patch_length(&mut packet, layout, 1 + len).expect("the length fits");
    let (head, body) = packet.split_at_mut(start);
    keys.local.packet.seal_in_place(pn, head, body).expect("the first packets of a key");
    let sample = Protected::sample(&packet, layout.pn_offset).expect("a whole packet");
    let mask = keys.local.header.mask(&sample);
    Protected::mask(&mut packet, layout.pn_offset, mask).expect("a whole packet");
    packet.resize(1200, 0);
    packet
}
