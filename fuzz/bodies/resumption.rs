//! What must hold of a server that gets hellos with tickets and early data, from a client that speaks
//! correctly except where told: a ticket's early data are taken by one connection at most, no application
//! hears the same message twice, an address that has proved nothing gets three times its bytes at most,
//! and all is forgotten.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arbitrary::{Result, Unstructured};
use bytes::BytesMut;
use jsp_crypto::{
    ClientConfig, ClientTicket, DirectionKeys, Handshake, Identity, Output, Rng, Role,
    ServerConfig, ServerIdentity, TicketKeys, hello_id, initial_keys,
};
use jsp_proto::{
    Batch, ConnectionHandle, Datagram, Endpoint, EndpointConfig, Event, Instant, RetryPolicy,
    Route, ServerSetup, StreamConfig, StreamId, TransportConfig,
};
use jsp_wire::frame::{BytesFrame, HandshakeFragment};
use jsp_wire::header::{LongFields, Protected, patch_length};
use jsp_wire::stream::open_id;
use jsp_wire::{ConnectionId, Frame, LongType, Open, TransportParams, VERSION_1, Writer, tlv};

use super::frames::{self, Speech};

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

/// Unix time when clocks here begin, in seconds.
const UNIX_SECONDS: u64 = 1_800_000_000;
/// Connections that the server may hold.
const CONNECTIONS_MAX: usize = 4;
/// Steps of one input, and first flights among them.
const STEPS_MAX: usize = 40;
const FLIGHTS_MAX: usize = 4;
/// Longer than a register is blind that was not there before.
const BLIND: Duration = Duration::from_secs(22);
/// What a true client says early.
const WORDS: &[u8] = b"early";

struct Sides {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

fn sides() -> &'static Sides {
    static SIDES: OnceLock<Sides> = OnceLock::new();
    SIDES.get_or_init(|| {
        let identity = Arc::new(Identity::generate(&mut Seeded(0x1234_5678_9abc_def1)));
        let server = Arc::new(ServerConfig::new(identity));
        let client = Arc::new(ClientConfig::new(ServerIdentity::Pinned(server.fingerprint())));
        Sides { server, client }
    })
}

/// A server that shares its tickets with all others here.
fn server(now: Instant, retry: RetryPolicy) -> Endpoint {
    let crypto = sides().server.clone();
    let setup = ServerSetup { crypto, retry, connections_max: CONNECTIONS_MAX, silent: false };
    let mut endpoint = endpoint(Some(setup), 5);
    endpoint.share_tickets(now, [7; 32], TicketKeys::epoch_at(UNIX_SECONDS), 0, None);
    endpoint
}

fn endpoint(server: Option<ServerSetup>, seed: u8) -> Endpoint {
    Endpoint::new(EndpointConfig {
        server,
        transport: Arc::new(TransportConfig::default()),
        seed: [seed; 32],
        unix_seconds_at_zero: UNIX_SECONDS,
    })
}

fn address(n: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1 + n % 4], 1000))
}

/// Everything that an endpoint wants sent now: where to, and the bytes.
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

fn deliver(endpoint: &mut Endpoint, now: Instant, from: SocketAddr, bytes: &[u8]) {
    let payload = BytesMut::from(bytes);
    endpoint.handle_datagram(now, Datagram { route: Route::udp(from), ecn: None, payload });
}

/// The stored form of a ticket that such a server gave, and when it was given.
fn ticket() -> &'static (Vec<u8>, Instant) {
    static TICKET: OnceLock<(Vec<u8>, Instant)> = OnceLock::new();
    TICKET.get_or_init(|| {
        let mut now = Instant::from_nanos(1_000_000_000);
        let (mut theirs, mut ours) = (server(now, RetryPolicy::Never), endpoint(None, 6));
        let transport = Arc::new(TransportConfig::default());
        let route = Route::udp(address(1));
        let handle = ours.connect(now, route, sides().client.clone(), transport);
        let handle = handle.expect("a client can start");
        for _ in 0..200 {
            for (_, datagram) in drain(&mut ours, now) {
                deliver(&mut theirs, now, address(0), &datagram);
            }
            for (_, datagram) in drain(&mut theirs, now) {
                deliver(&mut ours, now, address(1), &datagram);
            }
            let connection = ours.connection(handle).expect("a connection");
            if let Some(ticket) = connection.take_ticket() {
                return (ticket.to_bytes().to_vec(), now);
            }
            now = now + Duration::from_millis(20);
            ours.handle_timeout(now);
            theirs.handle_timeout(now);
        }
        panic!("a server gives tickets");
    })
}

/// A hello that was made, and what seals more packets of its client.
struct Flight {
    hello: Vec<u8>,
    dcid: ConnectionId,
    early: Option<DirectionKeys>,
    pn: u64,
}

struct World {
    endpoint: Endpoint,
    now: Instant,
    got: HashMap<SocketAddr, usize>,
    gave: HashMap<SocketAddr, usize>,
    /// Connections that something happened to, and those among them whose early data were taken.
    known: BTreeSet<ConnectionHandle>,
    early: BTreeSet<ConnectionHandle>,
    streams: Vec<(ConnectionHandle, StreamId)>,
    heard: usize,
    flights: Vec<Flight>,
    /// Datagrams that were sent.
    history: Vec<Vec<u8>>,
}

/// The input is a list of steps of clients that hold one ticket. Answers how many connections took early
/// data.
pub fn flights(data: &[u8]) -> usize {
    let mut u = Unstructured::new(data);
    let (_, given) = ticket();
    let retry = match u.int_in_range(0..=7u8) {
        Ok(7) => RetryPolicy::Always,
        _ => RetryPolicy::Never,
    };
    let mut world = World {
        endpoint: server(*given, retry),
        now: *given + BLIND,
        got: HashMap::new(),
        gave: HashMap::new(),
        known: BTreeSet::new(),
        early: BTreeSet::new(),
        streams: Vec::new(),
        heard: 0,
        flights: Vec::new(),
        history: Vec::new(),
    };
    for _ in 0..STEPS_MAX {
        if u.is_empty() || world.step(&mut u).is_err() {
            break;
        }
        world.flush();
    }
    world.end();
    world.early.len()
}

impl World {
    fn step(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        if self.flights.is_empty() {
            self.flights.push(flight(u, self.now)?);
        }
        let at = u.choose_index(self.flights.len())?;
        match u.int_in_range(0..=9u8)? {
            0 if self.flights.len() < FLIGHTS_MAX => self.flights.push(flight(u, self.now)?),
            0..=3 => self.send_hello(u, at)?,
            4 | 5 => self.send_words(u, at)?,
            6 | 7 => self.send_frames(u, at)?,
            8 if !self.history.is_empty() => {
                let copy = u.choose(&self.history)?.clone();
                self.deliver(address(u.arbitrary()?), &copy);
            }
            _ => {
                let scale = *u.choose(&[1, 10, 100, 1000, 10_000])?;
                self.now =
                    self.now + Duration::from_millis(scale * u64::from(u.arbitrary::<u8>()?));
                self.endpoint.handle_timeout(self.now);
            }
        }
        Ok(())
    }

    /// The hello in pieces, or some of it, or changed.
    fn send_hello(&mut self, u: &mut Unstructured<'_>, at: usize) -> Result<()> {
        let mut hello = self.flights[at].hello.clone();
        if u.ratio(1u8, 4)? {
            let place = u.choose_index(hello.len())?;
            hello[place] ^= u.arbitrary::<u8>()?;
        }
        let from = address(u.int_in_range(0..=3u8)? / 2);
        // One piece, or two that may overlap or leave a gap.
        let middle = if u.ratio(1u8, 2)? { hello.len() } else { u.int_in_range(1..=hello.len())? };
        let next = middle.saturating_add_signed(u.int_in_range(-2..=2isize)?).min(hello.len());
        for range in [0..middle, next..hello.len()] {
            if range.is_empty() {
                continue;
            }
            let fragment = HandshakeFragment {
                id: hello_id(&hello),
                offset: range.start as u16,
                total: hello.len() as u16,
                data: &hello[range.start..range.end.min(range.start + 1100)],
            };
            let payload = frame(&Frame::Handshake(fragment));
            let pin = sides().server.fingerprint();
            let flight = &mut self.flights[at];
            let keys = initial_keys(Role::Client, VERSION_1, flight.dcid.as_bytes(), Some(&pin));
            flight.pn += 1;
            let mut datagram =
                sealed(LongType::Initial, flight.dcid, flight.pn, &payload, &keys.local);
            datagram.resize(datagram.len().max(1200), 0);
            self.deliver(from, &datagram);
        }
        Ok(())
    }

    /// The same words at the beginning of the same stream each time.
    fn send_words(&mut self, u: &mut Unstructured<'_>, at: usize) -> Result<()> {
        let mut room = [0; 8];
        let mut writer = Writer::new(&mut room);
        tlv::write(&mut writer, open_id::REPLAY_SAFE, &[]).expect("room");
        let profile = StreamConfig::bytes().profile();
        let open = Some(Open { profile, params: writer.written() });
        let stream = StreamId::new(1, false);
        let words = BytesFrame { stream, offset: 0, data: WORDS, fin: false, open, to_end: false };
        self.send_early(u, at, &frame(&Frame::Bytes(words)))
    }

    fn send_frames(&mut self, u: &mut Unstructured<'_>, at: usize) -> Result<()> {
        let speech = Speech { near: &[1000], heard: 0, by_server: false, tame: u.ratio(3u8, 4)? };
        let (_, payload) = frames::payload(u, &speech)?;
        self.send_early(u, at, &payload)
    }

    fn send_early(&mut self, u: &mut Unstructured<'_>, at: usize, payload: &[u8]) -> Result<()> {
        let from = address(u.int_in_range(0..=3u8)? / 2);
        let flight = &mut self.flights[at];
        flight.pn += 1;
        let Some(keys) = &flight.early else { return Ok(()) };
        let datagram = sealed(LongType::ZeroRtt, flight.dcid, flight.pn, payload, keys);
        self.deliver(from, &datagram);
        Ok(())
    }

    fn deliver(&mut self, from: SocketAddr, bytes: &[u8]) {
        *self.got.entry(from).or_default() += bytes.len();
        deliver(&mut self.endpoint, self.now, from, bytes);
        self.history.push(bytes.to_vec());
    }

    fn flush(&mut self) {
        self.listen();
        for (to, datagram) in drain(&mut self.endpoint, self.now) {
            *self.gave.entry(to).or_default() += datagram.len();
        }
        self.listen();
        for (to, gave) in &self.gave {
            let got = self.got.get(to).copied().unwrap_or(0);
            assert!(*gave <= 3 * got, "{gave} bytes for {got}");
        }
        assert!(self.endpoint.connection_count() <= CONNECTIONS_MAX);
        assert!(self.early.len() <= 1, "early data of one ticket were taken twice");
    }

    /// The application reads whatever there is, and forgets connections that are over.
    fn listen(&mut self) {
        while let Some((handle, event)) = self.endpoint.poll_event() {
            self.known.insert(handle);
            if event == Event::Drained {
                self.known.remove(&handle);
                self.streams.retain(|(of, _)| *of != handle);
                self.endpoint.forget(self.now, handle);
            }
        }
        for handle in self.known.clone() {
            let Some(connection) = self.endpoint.connection(handle) else { continue };
            if connection.security().is_some_and(|security| security.early_data) {
                self.early.insert(handle);
            }
            self.streams.extend(std::iter::from_fn(|| connection.accept()).map(|id| (handle, id)));
        }
        for (handle, stream) in &self.streams {
            let Some(connection) = self.endpoint.connection(*handle) else { continue };
            while let Ok(Some(data)) = connection.read(self.now, *stream, 4096) {
                self.heard += data.len();
            }
            while let Ok(Some(message)) = connection.recv(self.now, *stream) {
                self.heard += message.payload.len();
            }
        }
        let said = self.history.iter().map(Vec::len).sum::<usize>();
        assert!(self.heard <= said, "more is heard than was said");
    }

    /// With time, everything that strangers began is forgotten.
    fn end(&mut self) {
        for _ in 0..10_000 {
            self.flush();
            let Some((at, _)) = self.endpoint.poll_timeout() else { break };
            self.now = self.now.max(at);
            self.endpoint.handle_timeout(self.now);
        }
        // What was forgotten last goes with the next look at it.
        self.flush();
        assert_eq!(self.endpoint.connection_count(), 0);
        assert!(self.endpoint.poll_timeout().is_none(), "timers never end");
    }
}

/// A hello with the ticket, true or changed where it is stored, by a clock that may be wrong.
fn flight(u: &mut Unstructured<'_>, now: Instant) -> Result<Flight> {
    let (stored, _) = ticket();
    let mut bytes = stored.clone();
    if u.ratio(1u8, 4)? {
        let place = u.choose_index(bytes.len())?;
        bytes[place] ^= u.arbitrary::<u8>()?;
    }
    let ticket = ClientTicket::from_bytes(&bytes)
        .unwrap_or_else(|| ClientTicket::from_bytes(stored).expect("a ticket that was stored"));
    let skew_ms = if u.ratio(1u8, 4)? { i64::from(u.arbitrary::<i16>()?) } else { 0 };
    let now_ms = UNIX_SECONDS * 1000 + now.as_nanos() / 1_000_000;
    let seed = 1 + u64::from(u.arbitrary::<u8>()?);
    let early = u.ratio(7u8, 8)?;
    let params = TransportParams {
        data_max: 1 << 30,
        stream_data_max: 1 << 30,
        streams_max: 100,
        message_len_max: 1 << 20,
        ..TransportParams::default()
    };
    let mut buffer = [0; 512];
    let mut writer = Writer::new(&mut buffer);
    params.write(&mut writer, 7).expect("512 bytes hold all parameters");
    let config = sides().client.clone();
    let now_ms = now_ms.saturating_add_signed(skew_ms);
    let rng = &mut Seeded(seed);
    let machine = Handshake::client_resuming(config, ticket, early, writer.written(), now_ms, rng);
    let mut machine = machine.expect("a client starts");
    let (mut hello, mut early) = (Vec::new(), None);
    while let Some(output) = machine.poll() {
        match output {
            Output::Send { message, .. } => hello = message,
            Output::EarlyKeys(keys) => early = Some(keys),
            _ => {}
        }
    }
    let dcid = ConnectionId::new(&[seed as u8; 8]).expect("a short id");
    Ok(Flight { hello, dcid, early, pn: 0 })
}

fn frame(frame: &Frame<'_>) -> Vec<u8> {
    let mut buffer = vec![0; 1500];
    let mut writer = Writer::new(&mut buffer);
    frame.write(&mut writer).expect("a frame of one packet");
    writer.written().to_vec()
}

/// A packet with a long header, sealed as a client would.
fn sealed(
    kind: LongType,
    dcid: ConnectionId,
    pn: u64,
    payload: &[u8],
    keys: &DirectionKeys,
) -> Vec<u8> {
    let mut packet = vec![0; 200 + payload.len()];
    let scid = ConnectionId::EMPTY;
    let fields = LongFields { kind, dcid, scid, token: &[], pn, pn_len: 2 };
    let layout = fields.write(&mut Writer::new(&mut packet)).expect("room for a header");
    let start = layout.pn_offset + 2;
    packet[start..start + payload.len()].copy_from_slice(payload);
    let len = payload.len().max(4) + 16;
    packet.truncate(start + len);
    patch_length(&mut packet, layout, 2 + len).expect("the length fits");
    let (head, body) = packet.split_at_mut(start);
    keys.packet.seal_in_place(pn, head, body).expect("the first packets of a key");
    let sample = Protected::sample(&packet, layout.pn_offset).expect("a whole packet");
    Protected::mask(&mut packet, layout.pn_offset, keys.header.mask(&sample))
        .expect("a whole packet");
    packet
}
