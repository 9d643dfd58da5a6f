//! What must hold of a server that gets hellos with tickets and early data, from a client that speaks
//! correctly except where told: a ticket's early data are taken by one connection at most, no application
//! hears twice what a true client says, early or after the handshake, an address that has proved nothing gets three times its bytes at most,
//! and all is forgotten.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arbitrary::{Result, Unstructured};
use jsp_crypto::{
    ClientTicket, DirectionKeys, Handshake, Output, Role, TicketKeys, hello_id, initial_keys,
};
use jsp_proto::{
    ConnectionHandle, Endpoint, Event, Instant, Message, RetryPolicy, Route, StreamConfig,
    StreamId, TransportConfig,
};
use jsp_wire::frame::{BytesFrame, Close, HandshakeFragment};
use jsp_wire::stream::open_id;
use jsp_wire::{
    CloseCode, ConnectionId, Frame, Header, LongType, Open, TransportParams, VERSION_1, Writer, tlv,
};

use super::frames::{self, Speech};
use super::host::{self, BEGIN, CONNECTIONS_MAX, Host, address};
use super::packet::sealed;
use super::parties::{Seeded, parties};

/// Unix time when clocks here begin, in seconds.
const UNIX_SECONDS: u64 = 1_800_000_000;
/// Steps of one input, and first flights among them.
const STEPS_MAX: usize = 40;
const FLIGHTS_MAX: usize = 4;
/// Longer than a register is blind that was not there before.
const BLIND: Duration = Duration::from_secs(22);
/// What a client says early.
const WORDS: &[u8] = b"early";
/// What the true one says.
const TRUTH: &str = "once";

/// A server that shares its tickets with all others here.
fn server(now: Instant, retry: RetryPolicy) -> Endpoint {
    let mut endpoint = host::endpoint(Some(host::setup(retry)), 5, UNIX_SECONDS);
    endpoint.share_tickets(now, [7; 32], TicketKeys::epoch_at(UNIX_SECONDS), 0, None);
    endpoint
}

/// The stored form of a ticket that such a server gave, and when it was given.
fn ticket() -> &'static (Vec<u8>, Instant) {
    static TICKET: OnceLock<(Vec<u8>, Instant)> = OnceLock::new();
    TICKET.get_or_init(|| {
        let mut now = BEGIN;
        let mut theirs = server(now, RetryPolicy::Never);
        let mut ours = host::endpoint(None, 6, UNIX_SECONDS);
        let transport = Arc::new(TransportConfig::default());
        let route = Route::udp(address(1));
        let handle = ours.connect(now, route, parties().client.clone(), transport);
        let handle = handle.expect("a client can start");
        for _ in 0..200 {
            for (_, datagram) in host::drain(&mut ours, now) {
                host::deliver(&mut theirs, now, address(0), &datagram);
            }
            for (_, datagram) in host::drain(&mut theirs, now) {
                host::deliver(&mut ours, now, address(1), &datagram);
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
    host: Host,
    /// Connections that something happened to, and those among them whose early data were taken.
    known: BTreeSet<ConnectionHandle>,
    early: BTreeSet<ConnectionHandle>,
    streams: Vec<(ConnectionHandle, StreamId)>,
    heard: usize,
    /// The true client, if it has begun, and how often it was heard.
    true_client: Option<Endpoint>,
    truths: usize,
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
        host: Host::new(server(*given, retry), *given + BLIND),
        known: BTreeSet::new(),
        early: BTreeSet::new(),
        streams: Vec::new(),
        heard: 0,
        true_client: None,
        truths: 0,
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
            self.flights.push(flight(u, self.host.now)?);
        }
        let at = u.choose_index(self.flights.len())?;
        match u.int_in_range(0..=9u8)? {
            0 if self.flights.len() < FLIGHTS_MAX => self.flights.push(flight(u, self.host.now)?),
            0..=3 => self.send_hello(u, at)?,
            4 | 5 => self.send_words(u, at)?,
            6 => self.send_frames(u, at)?,
            7 => self.speak_truly(u)?,
            8 if !self.history.is_empty() => {
                let copy = u.choose(&self.history)?.clone();
                self.deliver(address(u.arbitrary()?), &copy);
            }
            _ => {
                let scale = *u.choose(&[1, 10, 100, 1000, 10_000])?;
                self.host.now =
                    self.host.now + Duration::from_millis(scale * u64::from(u.arbitrary::<u8>()?));
                self.host.endpoint.handle_timeout(self.host.now);
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
            let pin = parties().server.fingerprint();
            let flight = &mut self.flights[at];
            let keys = initial_keys(Role::Client, VERSION_1, flight.dcid.as_bytes(), Some(&pin));
            flight.pn += 1;
            let mut datagram =
                sealed(LongType::Initial, flight.dcid, (flight.pn, 2), &payload, &keys.local);
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
        let datagram = sealed(LongType::ZeroRtt, flight.dcid, (flight.pn, 2), payload, keys);
        self.deliver(from, &datagram);
        Ok(())
    }

    /// The true client, by a clock that may be ahead, says one message early and holds on to it until it
    /// is heard; somebody may hold back what it sends, or tell it that its ticket is refused.
    fn speak_truly(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let (client, server) = (address(0), address(1));
        let now = self.host.now;
        let mut ours = match self.true_client.take() {
            Some(ours) => ours,
            None => true_client(now, *u.choose(&[0, 5, 15, 60])?),
        };
        for _ in 0..u.int_in_range(1..=4u8)? {
            let (is_held, is_lied_to) = (u.ratio(1u8, 4)?, u.ratio(1u8, 4)?);
            ours.handle_timeout(now);
            for (_, datagram) in host::drain(&mut ours, now) {
                if let Some(lie) = refusal(&datagram).filter(|_| is_lied_to) {
                    host::deliver(&mut ours, now, server, &lie);
                }
                if is_held {
                    self.history.push(datagram);
                } else {
                    self.deliver(client, &datagram);
                }
            }
            self.listen();
            for (to, datagram) in self.host.drain() {
                if to == client {
                    host::deliver(&mut ours, now, server, &datagram);
                }
            }
            while ours.poll_event().is_some() {}
        }
        self.true_client = Some(ours);
        Ok(())
    }

    fn deliver(&mut self, from: SocketAddr, bytes: &[u8]) {
        self.host.deliver(from, bytes);
        self.history.push(bytes.to_vec());
    }

    fn flush(&mut self) {
        self.listen();
        self.host.drain();
        self.listen();
        assert!(self.host.endpoint.connection_count() <= CONNECTIONS_MAX);
        assert!(self.early.len() <= 1, "early data of one ticket were taken twice");
        assert!(self.truths <= 1, "the true client is heard twice");
    }

    /// The application reads whatever there is, and forgets connections that are over.
    fn listen(&mut self) {
        while let Some((handle, event)) = self.host.endpoint.poll_event() {
            self.known.insert(handle);
            if event == Event::Drained {
                self.known.remove(&handle);
                self.streams.retain(|(of, _)| *of != handle);
                self.host.endpoint.forget(self.host.now, handle);
            }
        }
        for handle in self.known.clone() {
            let Some(connection) = self.host.endpoint.connection(handle) else { continue };
            if connection.security().is_some_and(|security| security.early_data) {
                self.early.insert(handle);
            }
            self.streams.extend(std::iter::from_fn(|| connection.accept()).map(|id| (handle, id)));
        }
        for (handle, stream) in &self.streams {
            let Some(connection) = self.host.endpoint.connection(*handle) else { continue };
            while let Ok(Some(data)) = connection.read(self.host.now, *stream, 4096) {
                self.heard += data.len();
            }
            while let Ok(Some(message)) = connection.recv(self.host.now, *stream) {
                self.heard += message.payload.len();
                self.truths += usize::from(message.text() == Some(TRUTH));
            }
        }
        let said = self.history.iter().map(Vec::len).sum::<usize>();
        assert!(self.heard <= said, "more is heard than was said");
    }

    /// With time, everything that strangers began is forgotten.
    fn end(&mut self) {
        for _ in 0..10_000 {
            self.flush();
            if !self.host.next_timer(None) {
                break;
            }
        }
        // What was forgotten last goes with the next look at it.
        self.flush();
        self.host.check_over();
    }
}

/// A client with the ticket, whose clock is so many seconds ahead, and what it has to say.
fn true_client(now: Instant, ahead: u64) -> Endpoint {
    let mut ours = host::endpoint(None, 8, UNIX_SECONDS + ahead);
    let ticket = ClientTicket::from_bytes(&ticket().0).expect("a ticket that was stored");
    let (route, config) = (Route::udp(address(1)), parties().client.clone());
    let transport = Arc::new(TransportConfig::default());
    if let Ok(handle) = ours.resume(now, route, config, transport, ticket, true) {
        let connection = ours.connection(handle).expect("a connection");
        let stream = connection.open(now, StreamConfig::messages().replay_safe());
        let said = connection.send(now, stream.expect("a stream"), Message::from(TRUTH));
        said.expect("room");
    }
    ours
}

/// Somebody who has seen this hello says that its ticket is refused.
fn refusal(hello: &[u8]) -> Option<Vec<u8>> {
    let Ok(Header::Long(header)) = Header::parse(hello) else { return None };
    let pin = parties().server.fingerprint();
    let keys = initial_keys(Role::Server, VERSION_1, header.dcid.as_bytes(), Some(&pin));
    let close = Close { by_application: false, code: CloseCode::TICKET_REFUSED, reason: &[] };
    Some(sealed(LongType::Initial, header.scid, (0, 2), &frame(&Frame::Close(close)), &keys.local))
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
    let config = parties().client.clone();
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
