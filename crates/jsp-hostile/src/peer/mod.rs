//! One side of a connection that speaks JSH-1 correctly except where told: it seals what it is
//! given, under any number, and keeps whatever it hears.

mod encode;
mod random;
mod seal;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use jsp_crypto::{
    ClientConfig, ClientTicket, DataKeys, DirectionKeys, Fingerprint, Handshake, Keys, Level,
    Output, PacketKey, Role, Security, ServerConfig, ServerIdentity, VERSION_1, hello_id,
    initial_keys,
};
use jsp_wire::frame::{HandshakeFragment, write_ack};
use jsp_wire::header::Protected;
use jsp_wire::{
    ConnectionId, Frame, FrameIter, Header, LongType, Shape, TransportParams, Writer, limits,
};

pub use encode::{encode_params, frame, generous};
pub use random::Random;
pub use seal::{long_packet, open_long, short_packet};

/// Unix time of everything here, in seconds.
pub const UNIX_SECONDS: u64 = 1_800_000_000;

/// Numbers that an ACK frame names.
const ACKNOWLEDGED: usize = 60;

/// Bytes of a message that a full hello datagram holds beside its headers.
const PIECE_LEN: usize = 1100;

/// The payload of a 1-RTT packet that was heard.
#[derive(Clone, Debug)]
pub struct Heard {
    /// Its number.
    pub pn: u64,
    /// Its shape.
    pub shape: Option<Shape>,
    /// Its phase bit.
    pub phase: bool,
    /// What it holds.
    pub payload: Vec<u8>,
}

impl Heard {
    /// The frames of a packet with shape 0.
    pub fn frames(&self) -> impl Iterator<Item = Frame<'_>> {
        let frames = match self.shape {
            Some(Shape::Frames) => &self.payload[..],
            _ => &[],
        };
        FrameIter::new(frames).flatten()
    }
}

/// A message under way to us.
struct Join {
    id: [u8; 8],
    bytes: Vec<u8>,
    have: Vec<bool>,
}

/// 1-RTT keys by generation.
struct Data {
    schedule: DataKeys,
    keys: Keys,
    next: (PacketKey, PacketKey),
    phase: bool,
}

/// The hostile side.
pub struct Peer {
    /// Which side it is.
    pub role: Role,
    /// Where it says that it is.
    pub addr: SocketAddr,
    /// The id in our headers' destination.
    pub remote_id: ConnectionId,
    /// The id that the victim writes to.
    pub local_id: ConnectionId,
    /// The token of our Initial packets.
    pub token: Vec<u8>,
    /// The number of the next 1-RTT packet.
    pub pn: u64,
    /// 1-RTT packets that were opened.
    pub heard: Vec<Heard>,
    /// Codes of CLOSE frames of the transport in packets of the handshake.
    pub closed: Vec<u64>,
    /// Messages that wait to be sent: level and bytes.
    pub outgoing: Vec<(Level, Vec<u8>)>,
    /// The hello of a client, as it was first sent.
    pub hello: Vec<u8>,
    machine: Handshake,
    initial: Keys,
    pin: Option<Fingerprint>,
    /// The id that a Retry gave.
    retry_id: Option<ConnectionId>,
    handshake: Vec<Keys>,
    early: Option<DirectionKeys>,
    data: Option<Data>,
    /// What was negotiated.
    pub security: Option<Security>,
    long_pn: u64,
    highest: u64,
    /// Numbers of 1-RTT packets that were heard.
    numbers: BTreeSet<u64>,
    joins: Vec<Join>,
    /// Randomness of the handshake.
    pub random: Random,
}

impl Peer {
    /// A client with a hello that waits to be sent.
    pub fn client(addr: SocketAddr, config: ClientConfig, seed: u64) -> Self {
        Self::client_with(addr, config, seed, generous(ConnectionId::EMPTY))
    }

    /// A client with a ticket and 0-RTT keys, at this time in milliseconds since 1970 UTC.
    pub fn resuming(addr: SocketAddr, ticket: ClientTicket, seed: u64, now_ms: u64) -> Self {
        let config = ClientConfig::new(ServerIdentity::Pinned(ticket.peer().fingerprint));
        Self::begin(addr, config, seed, generous(ConnectionId::EMPTY), Some((ticket, now_ms)))
    }

    /// The same with parameters of its own.
    pub fn client_with(
        addr: SocketAddr,
        config: ClientConfig,
        seed: u64,
        params: TransportParams,
    ) -> Self {
        Self::begin(addr, config, seed, params, None)
    }

    fn begin(
        addr: SocketAddr,
        config: ClientConfig,
        seed: u64,
        params: TransportParams,
        ticket: Option<(ClientTicket, u64)>,
    ) -> Self {
        let mut random = Random::new(seed);
        let dcid = ConnectionId::new(&random.bytes(8)).expect("8 bytes are an id");
        let initial = initial_keys(Role::Client, VERSION_1, dcid.as_bytes(), config.pin());
        let encoded = encode_params(&params);
        let pin = config.pin().copied();
        let config = Arc::new(config);
        let machine = match ticket {
            Some((ticket, now_ms)) => {
                Handshake::client_resuming(config, ticket, true, &encoded, now_ms, &mut random)
            }
            None => Handshake::client(config, &encoded, &mut random),
        };
        let machine = machine.expect("the configuration makes a hello");
        let local_id = params.initial_source_id;
        let mut peer = Self::new(Role::Client, addr, machine, initial, (local_id, dcid), random);
        peer.pin = pin;
        peer
    }

    /// A server that answers the client whose hello this datagram belongs to.
    pub fn server(
        addr: SocketAddr,
        config: ServerConfig,
        hello: &[u8],
        seed: u64,
        change: impl FnOnce(&mut TransportParams),
    ) -> Self {
        let Ok(Header::Long(header)) = Header::parse(hello) else { panic!("no hello") };
        let (dcid, scid) = (header.dcid, header.scid);
        let mut random = Random::new(seed);
        let local_id = ConnectionId::new(&random.bytes(4)).expect("4 bytes are an id");
        let mut params = generous(local_id);
        params.original_destination_id = Some(dcid);
        change(&mut params);
        let pin = config.fingerprint();
        // Which keys the client uses is tried, as a true server does.
        let initial = [Some(&pin), None]
            .into_iter()
            .map(|pin| initial_keys(Role::Server, VERSION_1, dcid.as_bytes(), pin))
            .find(|keys| open_long(hello, 0, &keys.remote).is_some())
            .expect("the hello is for this server");
        let machine = Handshake::server(Arc::new(config), encode_params(&params));
        Self::new(Role::Server, addr, machine, initial, (local_id, scid), random)
    }

    fn new(
        role: Role,
        addr: SocketAddr,
        machine: Handshake,
        initial: Keys,
        (local_id, remote_id): (ConnectionId, ConnectionId),
        random: Random,
    ) -> Self {
        let mut peer = Self {
            role,
            addr,
            remote_id,
            local_id,
            token: Vec::new(),
            pn: 0,
            heard: Vec::new(),
            closed: Vec::new(),
            outgoing: Vec::new(),
            hello: Vec::new(),
            pin: None,
            retry_id: None,
            machine,
            initial,
            handshake: Vec::new(),
            early: None,
            data: None,
            security: None,
            long_pn: 0,
            highest: 0,
            numbers: BTreeSet::new(),
            joins: Vec::new(),
            random,
        };
        peer.pump();
        if let Some((_, hello)) = peer.outgoing.first() {
            peer.hello = hello.clone();
        }
        peer
    }

    /// Obeys a Retry: the same hello waits to be sent with its token. False when it is none.
    pub fn obey_retry(&mut self, datagram: &[u8]) -> bool {
        let Ok(Header::Retry { scid, token, .. }) = Header::parse(datagram) else { return false };
        self.token = token.to_vec();
        self.remote_id = scid;
        self.retry_id = Some(scid);
        let pin = self.pin.as_ref();
        self.initial = initial_keys(Role::Client, VERSION_1, scid.as_bytes(), pin);
        self.outgoing = vec![(Level::Initial, self.hello.clone())];
        true
    }

    /// Writes to where another client's second hello went, with its token.
    pub fn take_over(&mut self, other: &Self) {
        let retry = other.retry_id.unwrap_or(other.remote_id);
        self.token.clone_from(&other.token);
        self.remote_id = retry;
        self.initial = initial_keys(Role::Client, VERSION_1, retry.as_bytes(), other.pin.as_ref());
    }

    /// An ACK frame of the numbers heard of late, and of those alone.
    pub fn ack(&self) -> Vec<u8> {
        let mut numbers: Vec<u64> = self.numbers.iter().rev().take(ACKNOWLEDGED).copied().collect();
        numbers.dedup();
        let ranges = numbers.into_iter().map(|pn| (pn, pn));
        let ranges = ranges.fold(Vec::<(u64, u64)>::new(), |mut ranges, (pn, _)| {
            match ranges.last_mut() {
                Some((low, _)) if *low == pn + 1 => *low = pn,
                _ => ranges.push((pn, pn)),
            }
            ranges
        });
        let mut buf = [0; 600];
        let mut writer = Writer::new(&mut buf);
        match write_ack(&mut writer, true, 0, ranges.iter().copied(), None, &[], &[]) {
            Ok(()) => writer.written().to_vec(),
            Err(_) => vec![0],
        }
    }

    /// Forgets what was heard, but for what the next [`ack`](Self::ack) tells: so that its own memory does
    /// not grow while that of the victim is measured.
    pub fn forget(&mut self) {
        self.heard.clear();
        while self.numbers.len() > ACKNOWLEDGED {
            self.numbers.pop_first();
        }
    }

    /// True when the handshake is complete on this side.
    pub fn is_complete(&self) -> bool {
        self.machine.is_complete()
    }

    /// Whether 1-RTT keys are there.
    pub fn has_data_keys(&self) -> bool {
        self.data.is_some()
    }

    fn pump(&mut self) {
        while let Some(output) = self.machine.poll() {
            match output {
                Output::Send { level, message } => self.outgoing.push((level, message)),
                Output::HandshakeKeys { keys, .. } => self.handshake.push(keys),
                Output::DataKeys(mut schedule) => {
                    let keys = schedule.take_keys().expect("the first keys");
                    let next = schedule.next();
                    self.data = Some(Data { schedule, keys, next, phase: false });
                }
                Output::EarlyKeys(keys) => self.early = Some(keys),
                Output::Complete(security) => self.security = Some(security),
                Output::Provisional(_) | Output::Committed { .. } | Output::PeerParams(_) => {}
            }
        }
    }

    /// What waits to be sent, as datagrams.
    pub fn take(&mut self) -> Vec<Vec<u8>> {
        let waiting = std::mem::take(&mut self.outgoing);
        waiting.iter().flat_map(|(level, message)| self.datagrams(*level, message)).collect()
    }

    /// A message in datagrams of full size.
    pub fn datagrams(&mut self, level: Level, message: &[u8]) -> Vec<Vec<u8>> {
        let pieces = (0..message.len()).step_by(PIECE_LEN);
        pieces
            .map(|start| {
                let end = (start + PIECE_LEN).min(message.len());
                self.piece(level, message, start..end)
            })
            .collect()
    }

    /// One piece of a message, in a datagram of full size.
    pub fn piece(
        &mut self,
        level: Level,
        message: &[u8],
        range: std::ops::Range<usize>,
    ) -> Vec<u8> {
        let fragment = HandshakeFragment {
            id: hello_id(message),
            offset: range.start as u16,
            total: message.len() as u16,
            data: &message[range],
        };
        self.long(level, &frame(&Frame::Handshake(fragment)))
    }

    /// Seals any payload for a packet of the handshake. Initial datagrams are filled up.
    pub fn long(&mut self, level: Level, payload: &[u8]) -> Vec<u8> {
        let pn = self.long_pn;
        self.long_pn += 1;
        self.long_numbered(level, pn, payload)
    }

    /// The same under a number of choice.
    pub fn long_numbered(&mut self, level: Level, pn: u64, payload: &[u8]) -> Vec<u8> {
        let (kind, keys) = match level {
            Level::Initial => (LongType::Initial, &self.initial.local),
            _ => (LongType::Handshake, &self.handshake[0].local),
        };
        let ids = (self.remote_id, self.local_id);
        let token = if kind == LongType::Initial { &self.token[..] } else { &[] };
        let mut datagram = long_packet(kind, ids, token, pn, payload, keys);
        if kind == LongType::Initial && datagram.len() < limits::MTU_BASE {
            datagram.resize(limits::MTU_BASE, 0);
        }
        datagram
    }

    /// A 0-RTT packet with the next number.
    pub fn early(&mut self, payload: &[u8]) -> Vec<u8> {
        let pn = self.pn;
        self.pn += 1;
        let keys = self.early.as_ref().expect("a ticket that allows early data");
        long_packet(LongType::ZeroRtt, (self.remote_id, self.local_id), &[], pn, payload, keys)
    }

    /// A 1-RTT packet with the next number.
    pub fn short(&mut self, shape: Shape, payload: &[u8]) -> Vec<u8> {
        let pn = self.pn;
        self.pn += 1;
        self.short_numbered(shape, pn, payload)
    }

    /// A 1-RTT packet with frames and the next number.
    pub fn frames(&mut self, payload: &[u8]) -> Vec<u8> {
        self.short(Shape::Frames, payload)
    }

    /// A 1-RTT packet under a number of choice.
    pub fn short_numbered(&self, shape: Shape, pn: u64, payload: &[u8]) -> Vec<u8> {
        let data = self.data.as_ref().expect("1-RTT keys");
        let keys = (&data.keys.local.packet, &data.keys.local.header);
        short_packet(&self.remote_id, shape, data.phase, pn, payload, keys)
    }

    /// Turns to the next generation of 1-RTT keys at once.
    pub fn step_keys(&mut self) {
        let data = self.data.as_mut().expect("1-RTT keys");
        let (local, remote) = std::mem::replace(&mut data.next, data.schedule.next());
        data.keys.local.packet = local;
        data.keys.remote.packet = remote;
        data.phase = !data.phase;
    }

    /// Says the other phase from here on where `flip`, without its keys.
    pub fn flip_phase(&mut self, flip: bool) {
        if let Some(data) = &mut self.data {
            data.phase ^= flip;
        }
    }

    /// The phase bit of our packets.
    pub fn phase(&self) -> bool {
        self.data.as_ref().is_some_and(|data| data.phase)
    }

    /// Takes a datagram of the victim.
    pub fn read(&mut self, datagram: &[u8]) {
        let mut rest = datagram;
        loop {
            match Header::parse(rest) {
                Ok(Header::Long(header)) => {
                    let (packet, tail) = rest.split_at(header.packet_len);
                    if self.role == Role::Client && !self.is_complete() {
                        self.remote_id = header.scid;
                    }
                    self.read_long(header.kind, packet);
                    rest = tail;
                }
                Ok(Header::Short) => return self.read_short(rest),
                _ => return,
            }
        }
    }

    fn read_long(&mut self, kind: LongType, packet: &[u8]) {
        let (level, opened) = match kind {
            LongType::Initial => (Level::Initial, open_long(packet, 0, &self.initial.remote)),
            _ => {
                let opened =
                    self.handshake.iter().find_map(|keys| open_long(packet, 0, &keys.remote));
                (Level::Handshake, opened)
            }
        };
        let Some((_, payload)) = opened else { return };
        for read in FrameIter::new(&payload) {
            match read {
                Ok(Frame::Handshake(fragment)) => self.join(level, &fragment),
                Ok(Frame::Close(close)) => self.closed.push(close.code.0),
                _ => {}
            }
        }
    }

    fn join(&mut self, level: Level, fragment: &HandshakeFragment<'_>) {
        let place = self.joins.iter().position(|join| join.id == fragment.id);
        let place = place.unwrap_or_else(|| {
            let len = usize::from(fragment.total);
            self.joins.push(Join { id: fragment.id, bytes: vec![0; len], have: vec![false; len] });
            self.joins.len() - 1
        });
        let join = &mut self.joins[place];
        let range =
            usize::from(fragment.offset)..usize::from(fragment.offset) + fragment.data.len();
        let was_whole = join.have.iter().all(|have| *have);
        join.bytes[range.clone()].copy_from_slice(fragment.data);
        join.have[range].fill(true);
        if was_whole || !join.have.iter().all(|have| *have) {
            return;
        }
        let message = join.bytes.clone();
        // What does not verify is the attack's affair.
        let _ = self.machine.read(level, &message, UNIX_SECONDS, &mut self.random);
        self.pump();
    }

    fn read_short(&mut self, packet: &[u8]) {
        let Some(data) = &self.data else { return };
        let pn_offset = 1 + self.local_id.len();
        let mut packet = packet.to_vec();
        let Ok(sample) = Protected::sample(&packet, pn_offset) else { return };
        let mask = data.keys.remote.header.mask(&sample);
        let Ok(fields) = Protected::unmask_short(&mut packet, pn_offset, mask) else { return };
        let pn = jsp_wire::pn::expand(fields.truncated_pn, fields.pn_len, self.highest);
        let (head, body) = packet.split_at_mut(pn_offset + fields.pn_len);
        let key =
            if fields.key_phase == data.phase { &data.keys.remote.packet } else { &data.next.1 };
        let Ok(len) = key.open_in_place(pn, head, body) else { return };
        self.highest = self.highest.max(pn + 1);
        self.numbers.insert(pn);
        let payload = body[..len].to_vec();
        if fields.key_phase != data.phase {
            self.step_keys();
        }
        self.heard.push(Heard { pn, shape: fields.shape, phase: fields.key_phase, payload });
    }

    /// The keys of our direction in the handshake, for packets made by hand.
    pub fn initial_keys(&self) -> &DirectionKeys {
        &self.initial.local
    }
}
