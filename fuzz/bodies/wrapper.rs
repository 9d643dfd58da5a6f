//! What must hold of a server behind the obfuscating wrapper: what was not wrapped with its key does not
//! exist, a hello that comes again does not either, and all that it says is wrapped.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arbitrary::{Result, Unstructured};
use bytes::BytesMut;
use jsp_crypto::{
    ClientConfig, Identity, OBFUSCATION_LEN, ObfuscationKey, Obfuscator, Rng, ServerConfig,
    ServerIdentity,
};
use jsp_proto::{
    Batch, Datagram, Endpoint, EndpointConfig, Event, Instant, RetryPolicy, Route, ServerSetup,
    TransportConfig,
};
use jsp_wire::Header;

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

/// Unix time when clocks here begin, in seconds: the middle of an hour.
const UNIX_SECONDS: u64 = 1_800_001_800;
/// Connections that the server may hold, and steps of one input.
const CONNECTIONS_MAX: usize = 4;
const STEPS_MAX: usize = 48;
/// Clocks that differ by less than this hear each other, in seconds.
const SKEW_MAX: u64 = 1800;

fn key() -> ObfuscationKey {
    ObfuscationKey::from_bytes([7; 32])
}

fn crypto() -> Arc<ServerConfig> {
    static CRYPTO: OnceLock<Arc<ServerConfig>> = OnceLock::new();
    let make = || {
        let identity = Arc::new(Identity::generate(&mut Seeded(0x1234_5678_9abc_def1)));
        Arc::new(ServerConfig::new(identity))
    };
    CRYPTO.get_or_init(make).clone()
}

fn endpoint(server: Option<ServerSetup>) -> Endpoint {
    let config = EndpointConfig {
        server,
        transport: Arc::new(TransportConfig::default()),
        seed: [5; 32],
        unix_seconds_at_zero: UNIX_SECONDS,
    };
    Endpoint::new(config).obfuscated(&key())
}

fn drain(endpoint: &mut Endpoint, now: Instant) -> Vec<(SocketAddr, Vec<u8>)> {
    let (mut batch, mut out) = (Batch::new(0, 64), Vec::new());
    while endpoint.poll_transmit(now, &mut batch) {
        let to = batch.route().and_then(|route| route.remote()).expect("plain UDP");
        let segments = batch.contents().chunks(batch.segment_len());
        out.extend(segments.map(|segment| (to, segment.to_vec())));
        batch.clear();
    }
    out
}

/// The first flight of a true client, as it is under the wrapping.
fn hello() -> &'static [Vec<u8>] {
    static HELLO: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    HELLO.get_or_init(|| {
        let (mut client, now) = (endpoint(None), Instant::from_nanos(1_000_000_000));
        let config = Arc::new(ClientConfig::new(ServerIdentity::Pinned(crypto().fingerprint())));
        let route = Route::udp(address(0));
        let transport = Arc::new(TransportConfig::default());
        client.connect(now, route, config, transport).expect("a client can start");
        let flight = drain(&mut client, now).into_iter().map(|(_, mut datagram)| {
            let tag = Obfuscator::new(&key()).unwrap(UNIX_SECONDS, &mut datagram);
            assert!(tag.is_some(), "all that leaves is wrapped");
            datagram.split_off(OBFUSCATION_LEN)
        });
        flight.collect()
    })
}

fn address(n: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1 + n % 4], 1000))
}

struct World {
    endpoint: Endpoint,
    obfuscator: Obfuscator,
    now: Instant,
    got: HashMap<SocketAddr, usize>,
    gave: HashMap<SocketAddr, usize>,
    /// Wrapped datagrams that were sent.
    history: Vec<Vec<u8>>,
    answered: usize,
}

/// The input is a list of steps. Answers how many datagrams were answered.
pub fn datagrams(data: &[u8]) -> usize {
    let mut u = Unstructured::new(data);
    let retry = match u.int_in_range(0..=3u8) {
        Ok(3) => RetryPolicy::Always,
        _ => RetryPolicy::Never,
    };
    let crypto = crypto();
    let setup = ServerSetup { crypto, retry, connections_max: CONNECTIONS_MAX, silent: false };
    let mut world = World {
        endpoint: endpoint(Some(setup)),
        obfuscator: Obfuscator::new(&key()),
        now: Instant::from_nanos(1_000_000_000),
        got: HashMap::new(),
        gave: HashMap::new(),
        history: Vec::new(),
        answered: 0,
    };
    for _ in 0..STEPS_MAX {
        if u.is_empty() || world.step(&mut u).is_err() {
            break;
        }
    }
    world.end();
    world.answered
}

impl World {
    fn step(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let from = address(u.arbitrary()?);
        match u.int_in_range(0..=7u8)? {
            // Bytes of nobody who has the key.
            0 => {
                let len = u.int_in_range(0..=64usize)?.min(u.len());
                let mut bytes = u.bytes(len)?.to_vec();
                if u.ratio(1u8, 3)? {
                    bytes.extend_from_slice(&hello()[0]);
                }
                let sent = self.deliver(from, &bytes);
                assert_eq!(sent, 0, "an answer to whoever has not the key");
            }
            1..=3 => {
                let text = self.text(u)?;
                self.send(u, from, &text)?;
            }
            4 | 5 if !self.history.is_empty() => self.send_again(u, from)?,
            6 if !self.history.is_empty() => {
                let mut damaged = u.choose(&self.history)?.clone();
                let place = u.choose_index(damaged.len())?;
                damaged[place] ^= u.int_in_range(1..=255u8)?;
                let sent = self.deliver(from, &damaged);
                assert_eq!(sent, 0, "an answer to what was changed");
            }
            _ => {
                let scale = *u.choose(&[1, 100, 10_000, 1_000_000])?;
                self.pass(Duration::from_millis(scale * u64::from(u.arbitrary::<u8>()?)));
            }
        }
        Ok(())
    }

    /// Something to wrap: zero bytes, and a piece of a hello, true or changed, or any bytes.
    fn text(&self, u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
        let mut text = vec![0; u.int_in_range(0..=40usize)?];
        if u.ratio(2u8, 3)? {
            text.extend_from_slice(u.choose(hello())?);
            if u.ratio(1u8, 4)? {
                let place = u.choose_index(text.len())?;
                text[place] ^= u.arbitrary::<u8>()?;
            }
        } else {
            let len = u.int_in_range(0..=200usize)?.min(u.len());
            text.extend_from_slice(u.bytes(len)?);
        }
        Ok(text)
    }

    /// Wraps it by a clock that may be wrong.
    fn send(&mut self, u: &mut Unstructured<'_>, from: SocketAddr, text: &[u8]) -> Result<()> {
        let skew = if u.ratio(1u8, 3)? { i64::from(u.int_in_range(-9000..=9000i16)?) } else { 0 };
        let time = self.unix_seconds().saturating_add_signed(skew);
        let mut wrapped = [&[0; OBFUSCATION_LEN], text].concat();
        assert_eq!(self.obfuscator.wrap(time, &mut wrapped), !text.is_empty());
        if text.is_empty() {
            return Ok(());
        }
        let mut opened = wrapped.clone();
        let opens = self.obfuscator.unwrap(self.unix_seconds(), &mut opened).is_some();
        assert!(opens || skew.unsigned_abs() >= SKEW_MAX, "clocks are near enough");
        assert!(!opens || opened[OBFUSCATION_LEN..] == *text);
        let sent = self.deliver(from, &wrapped);
        assert!(opens || sent == 0, "an answer to what does not unwrap");
        self.answered += usize::from(sent > 0);
        self.history.push(wrapped);
        Ok(())
    }

    /// What was sent comes once more, and once more at once: the second time nobody is there.
    fn send_again(&mut self, u: &mut Unstructured<'_>, from: SocketAddr) -> Result<()> {
        let copy = u.choose(&self.history)?.clone();
        self.deliver(from, &copy);
        let mut opened = copy.clone();
        let opens = self.obfuscator.unwrap(self.unix_seconds(), &mut opened).is_some();
        let text = &opened[OBFUSCATION_LEN..];
        let zeros = text.iter().take_while(|byte| **byte == 0).count();
        let is_short = matches!(Header::parse(&text[zeros..]), Ok(Header::Short));
        let sent = self.deliver(from, &copy);
        assert!(sent == 0 || (opens && is_short), "an answer to a copy");
        Ok(())
    }

    fn unix_seconds(&self) -> u64 {
        UNIX_SECONDS + self.now.as_nanos() / 1_000_000_000
    }

    /// Gives it a datagram; how many leave.
    fn deliver(&mut self, from: SocketAddr, bytes: &[u8]) -> usize {
        *self.got.entry(from).or_default() += bytes.len();
        let payload = BytesMut::from(bytes);
        let datagram = Datagram { route: Route::udp(from), ecn: None, payload };
        self.endpoint.handle_datagram(self.now, datagram);
        self.flush()
    }

    fn flush(&mut self) -> usize {
        self.read_events();
        let sent = drain(&mut self.endpoint, self.now);
        for (to, datagram) in &sent {
            *self.gave.entry(*to).or_default() += datagram.len();
            let mut opened = datagram.clone();
            let tag = self.obfuscator.unwrap(self.unix_seconds(), &mut opened);
            assert!(tag.is_some(), "a datagram that is not wrapped");
        }
        for (to, gave) in &self.gave {
            let got = self.got.get(to).copied().unwrap_or(0);
            assert!(*gave <= 3 * got, "{gave} bytes for {got}");
        }
        self.read_events();
        assert!(self.endpoint.connection_count() <= CONNECTIONS_MAX);
        sent.len()
    }

    fn read_events(&mut self) {
        while let Some((handle, event)) = self.endpoint.poll_event() {
            if event == Event::Drained {
                self.endpoint.forget(self.now, handle);
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some((at, _)) = self.endpoint.poll_timeout().filter(|(at, _)| *at <= until) {
            self.now = self.now.max(at);
            self.endpoint.handle_timeout(self.now);
            self.flush();
        }
        self.now = until;
        self.endpoint.handle_timeout(self.now);
        self.flush();
    }

    /// With time, everything that strangers began is forgotten.
    fn end(&mut self) {
        self.pass(Duration::from_secs(3600));
        assert_eq!(self.endpoint.connection_count(), 0);
        assert!(self.endpoint.poll_timeout().is_none(), "timers never end");
    }
}
