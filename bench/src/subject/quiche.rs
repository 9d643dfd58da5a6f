//! quiche: QUIC with BoringSSL, large windows, packets of the same size as for everybody.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result};
use boring::pkey::PKey;
use boring::ssl::{SslContextBuilder, SslMethod, SslVerifyMode};
use boring::x509::X509;
use bytes::{BufMut, BytesMut};
use quiche::{Config, ConnectionId, Error, RecvInfo};

use super::sans_io::{Got, Machine, Maker, State};
use super::{Profile, sans_io, tls_config};

/// Flow-control windows; more than any path of the bench holds.
const WINDOW_BYTES: u64 = 32 << 20;
/// Streams that the peer may have open at once.
const STREAMS: u64 = 10_000;
/// Datagrams that may wait on either side.
const DATAGRAMS: usize = 4096;
/// UDP payload of a full packet on a path with an MTU of 1500 and IPv6 headers.
const FULL_PACKET: usize = 1452;
/// No connection of the bench is to end by itself; milliseconds.
const IDLE_LIMIT_MS: u64 = 600_000;
/// Bytes read at a time.
const READ_BYTES: usize = 64 << 10;
/// Ids of streams count up by this much, for each side and direction.
const ID_STEP: u64 = 4;
/// What the first byte of an Initial packet is like.
const INITIAL: u8 = 0xc0;
const INITIAL_MASK: u8 = 0xf0;
/// The bit of an id that unidirectional streams have.
const UNIDIRECTIONAL: u64 = 2;

fn config(profile: Profile, mut tls: SslContextBuilder) -> Result<Config> {
    tls.set_curves_list(match profile {
        Profile::PostQuantum => "X25519MLKEM768",
        _ => "X25519",
    })?;
    let mut config = Config::with_boring_ssl_ctx_builder(quiche::PROTOCOL_VERSION, tls)?;
    config.set_application_protos(&[tls_config::ALPN])?;
    config.set_max_idle_timeout(IDLE_LIMIT_MS);
    config.set_max_recv_udp_payload_size(1 << 16);
    config.set_max_send_udp_payload_size(FULL_PACKET);
    config.set_initial_max_data(WINDOW_BYTES);
    config.set_initial_max_stream_data_bidi_local(WINDOW_BYTES);
    config.set_initial_max_stream_data_bidi_remote(WINDOW_BYTES);
    config.set_initial_max_stream_data_uni(WINDOW_BYTES);
    config.set_max_connection_window(WINDOW_BYTES);
    config.set_max_stream_window(WINDOW_BYTES);
    config.set_initial_max_streams_bidi(STREAMS);
    config.set_initial_max_streams_uni(STREAMS);
    config.enable_dgram(true, DATAGRAMS, DATAGRAMS);
    if profile == Profile::Bbr {
        config.set_cc_algorithm(quiche::CongestionControlAlgorithm::Bbr2Gcongestion);
    }
    Ok(config)
}

/// A listening endpoint on a loopback port, its address, and the certificate in hex.
pub(crate) fn listen(profile: Profile) -> Result<(Endpoint, SocketAddr, String)> {
    let (certificate, key, trust) = tls_config::identity()?;
    let mut tls = SslContextBuilder::new(SslMethod::tls())?;
    tls.set_certificate(X509::from_der(&certificate)?.as_ref())?;
    tls.set_private_key(PKey::private_key_from_der(&key)?.as_ref())?;
    let (endpoint, address) = Endpoint::listen(Setting::new(config(profile, tls)?))?;
    Ok((endpoint, address, trust))
}

/// An endpoint that trusts the certificate `trust`.
pub(crate) fn dialler(profile: Profile, trust: &str) -> Result<Endpoint> {
    let mut tls = SslContextBuilder::new(SslMethod::tls())?;
    tls.cert_store_mut().add_cert(X509::from_der(&tls_config::from_hex(trust)?)?)?;
    tls.set_verify(SslVerifyMode::PEER);
    Ok(Endpoint::dialler(Setting::new(config(profile, tls)?)))
}

/// An endpoint of quiche.
pub(crate) type Endpoint = sans_io::Endpoint<Setting>;

/// All that is set, and the next connection id.
#[derive(Clone)]
pub(crate) struct Setting {
    config: Arc<Mutex<Config>>,
    ids: Arc<AtomicU64>,
}

impl Setting {
    fn new(config: Config) -> Self {
        Self { config: Arc::new(Mutex::new(config)), ids: Arc::default() }
    }

    /// Ids tell nobody anything here: both sides go by addresses.
    fn next_id(&self) -> ConnectionId<'static> {
        let number = self.ids.fetch_add(1, Ordering::Relaxed);
        let mut id = vec![0x6a; 8];
        id.extend(number.to_be_bytes());
        ConnectionId::from_vec(id)
    }
}

impl Maker for Setting {
    type Machine = Connection;

    fn accept(
        &self,
        local: SocketAddr,
        client: SocketAddr,
        datagram: &[u8],
    ) -> Result<Option<Connection>> {
        if datagram.first().is_none_or(|first| first & INITIAL_MASK != INITIAL) {
            return Ok(None);
        }
        let mut config = self.config.lock().unwrap_or_else(PoisonError::into_inner);
        let inner = quiche::accept(&self.next_id(), None, local, client, &mut config)?;
        Ok(Some(Connection::new(inner, RecvInfo { from: client, to: local })))
    }

    fn connect(&self, local: SocketAddr, server: SocketAddr) -> Result<Connection> {
        let mut config = self.config.lock().unwrap_or_else(PoisonError::into_inner);
        let name = Some(tls_config::SERVER_NAME);
        let inner = quiche::connect(name, &self.next_id(), local, server, &mut config)?;
        Ok(Connection::new(inner, RecvInfo { from: server, to: local }))
    }
}

/// A connection, and what its events said about streams.
pub(crate) struct Connection {
    inner: quiche::Connection,
    way: RecvInfo,
    next_bidi: u64,
    next_uni: u64,
    /// Bytes that the next unidirectional stream has taken of its message.
    sent_uni: usize,
    /// The first bidirectional stream of the peer that was not seen yet.
    unseen_bidi: u64,
    accepted: VecDeque<u64>,
    unis: VecDeque<u64>,
    /// Bytes so far of messages that came in parts.
    parts: HashMap<u64, usize>,
    /// Streams whose end came with their last bytes, which is said with the next read.
    ended: HashSet<u64>,
    buffer: BytesMut,
}

impl Connection {
    fn new(inner: quiche::Connection, way: RecvInfo) -> Self {
        let (own, theirs) = if inner.is_server() { (1, 0) } else { (0, 1) };
        Self {
            inner,
            way,
            next_bidi: own,
            next_uni: own | UNIDIRECTIONAL,
            sent_uni: 0,
            unseen_bidi: theirs,
            accepted: VecDeque::new(),
            unis: VecDeque::new(),
            parts: HashMap::new(),
            ended: HashSet::new(),
            buffer: BytesMut::new(),
        }
    }
}

impl Machine for Connection {
    const HAS_MESSAGES: bool = false;

    fn receive(&mut self, datagram: &mut [u8]) {
        // What does not open is dropped; an error of the connection shows in its state.
        let _ = self.inner.recv(datagram, self.way);
    }

    fn transmit(&mut self, into: &mut [u8]) -> Option<usize> {
        self.inner.send(into).ok().map(|(length, _)| length)
    }

    fn deadline(&mut self) -> Option<Instant> {
        self.inner.timeout_instant()
    }

    fn expire(&mut self) {
        self.inner.on_timeout();
    }

    fn state(&mut self) -> State {
        if self.inner.is_closed() || self.inner.is_draining() {
            State::Closed
        } else if self.inner.is_established() {
            State::Open
        } else {
            State::Connecting
        }
    }

    fn close(&mut self) {
        // It may be over already.
        let _ = self.inner.close(true, 0, b"");
    }

    fn ready(&mut self, each: &mut dyn FnMut(u64)) {
        while let Some(id) = self.inner.stream_readable_next() {
            if id & UNIDIRECTIONAL != 0 {
                self.unis.push_back(id);
                continue;
            }
            while id % ID_STEP == self.unseen_bidi % ID_STEP && id >= self.unseen_bidi {
                self.accepted.push_back(self.unseen_bidi);
                self.unseen_bidi += ID_STEP;
            }
            each(id);
        }
        self.inner.writable().for_each(each);
    }

    fn open(&mut self) -> Result<Option<u64>> {
        let id = self.next_bidi;
        if self.inner.peer_streams_left_bidi() == 0 {
            return Ok(None);
        }
        self.next_bidi += ID_STEP;
        Ok(Some(id))
    }

    fn accept(&mut self) -> Option<u64> {
        self.accepted.pop_front()
    }

    fn write(&mut self, stream: u64, piece: &[u8]) -> Result<usize> {
        match self.inner.stream_send(stream, piece, false) {
            Ok(taken) => Ok(taken),
            Err(Error::Done) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    fn read(&mut self, stream: u64) -> Result<Got> {
        if self.ended.remove(&stream) {
            return Ok(Got::End);
        }
        self.buffer.reserve(READ_BYTES);
        match self.inner.stream_recv_buf(stream, (&mut self.buffer).limit(READ_BYTES)) {
            Ok((0, true)) => Ok(Got::End),
            // A stream that has not begun is not known.
            Ok((0, false)) | Err(Error::Done | Error::InvalidStreamState(_)) => Ok(Got::Nothing),
            Ok((_, is_end)) => {
                if is_end {
                    self.ended.insert(stream);
                }
                Ok(Got::Piece(self.buffer.split().freeze()))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn finish(&mut self, stream: u64) -> Result<bool> {
        match self.inner.stream_send(stream, &[], true) {
            Ok(_) => Ok(true),
            Err(Error::Done) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn send_alone(&mut self, message: &[u8]) -> Result<bool> {
        if self.sent_uni == 0 && self.inner.peer_streams_left_uni() == 0 {
            return Ok(false);
        }
        match self.inner.stream_send(self.next_uni, &message[self.sent_uni..], true) {
            Ok(taken) if self.sent_uni + taken == message.len() => {
                (self.next_uni, self.sent_uni) = (self.next_uni + ID_STEP, 0);
                Ok(true)
            }
            Ok(taken) => {
                self.sent_uni += taken;
                Ok(false)
            }
            Err(Error::Done | Error::StreamLimit) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn recv_alone(&mut self) -> Result<Option<usize>> {
        while let Some(id) = self.unis.pop_front() {
            loop {
                self.buffer.clear();
                self.buffer.reserve(READ_BYTES);
                let into = (&mut self.buffer).limit(READ_BYTES);
                let Ok((length, is_end)) = self.inner.stream_recv_buf(id, into) else { break };
                let part = self.parts.remove(&id).unwrap_or(0) + length;
                if is_end {
                    return Ok(Some(part));
                }
                self.parts.insert(id, part);
            }
        }
        Ok(None)
    }

    fn send_datagram(&mut self, datagram: &[u8]) -> Result<bool> {
        match self.inner.dgram_send(datagram) {
            Ok(()) => Ok(true),
            Err(Error::Done) => Ok(false),
            Err(error) => Err(error).context("send a datagram"),
        }
    }

    fn recv_datagram(&mut self) -> Result<Option<usize>> {
        self.buffer.resize(READ_BYTES, 0);
        let length = self.inner.dgram_recv(&mut self.buffer).ok();
        self.buffer.clear();
        Ok(length)
    }
}
