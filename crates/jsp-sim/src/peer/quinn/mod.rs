//! QUIC as a peer: quinn-proto, driven in virtual time like our own transport.
//!
//! Messages travel as QUIC applications send them, one unidirectional stream each; byte streams as
//! one stream. The two applications share a table of which stream carries what, so that nothing has
//! to be written into the streams for the measuring.
//!
//! quinn seeds all its chance from the endpoint but for one thing: its BBR draws the phase of its
//! probing from the operating system. Runs with BBR therefore differ a little from each other.

mod actor;
mod tls;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant as StdInstant;

use bytes::BytesMut;
use jsp_proto::Ecn;
use jsp_wire::Instant;
use quinn_proto::congestion::{BbrConfig, CubicConfig};
use quinn_proto::{
    ClientConfig, Connection, ConnectionHandle, DatagramEvent, EcnCodepoint, Endpoint,
    EndpointConfig, Event, IdleTimeout, ServerConfig, Transmit, TransportConfig, VarInt,
};

use crate::flow::{End, Pair, Side};
use crate::link::Datagram;
use crate::node::Surroundings;
use crate::peer::Counters;
use crate::random::Random;
use crate::topology::{Client, SERVER_ADDRESS, pair_of};
use actor::{Actor, Names};

/// How quinn controls congestion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuinnControl {
    /// RFC 9438, its default.
    Cubic,
    /// Its BBR, after the first version.
    Bbr,
}

/// Datagrams in one batch, as quinn's own driver asks for.
const SEGMENTS_MAX: usize = 10;
/// Streams of each kind that may be open: the limit is no part of what is measured.
const STREAMS_MAX: u32 = 100_000;
/// Rounds in one instant; more is a loop without progress.
const ROUNDS_MAX: usize = 100_000;

/// One end of a QUIC connection.
pub(crate) struct Node {
    end: End,
    endpoint: Endpoint,
    connection: Option<(ConnectionHandle, Connection)>,
    transport: Arc<TransportConfig>,
    actor: Actor,
    /// Answers that belong to no connection yet.
    answers: Vec<(SocketAddr, Vec<u8>)>,
    /// What `Instant::ZERO` is on the clock that quinn knows.
    epoch: StdInstant,
}

impl Node {
    /// Both ends of a client's connection: the client's, and the server's.
    pub(crate) fn both(
        seed: u64,
        pair: Pair,
        client: &Client,
        control: QuinnControl,
    ) -> (Self, Self) {
        let names = Rc::new(RefCell::new(Names::default()));
        let epoch = StdInstant::now();
        let new = |side| {
            let mut random = Random::part(seed, "quinn", u64::from(pair) << 1 | side as u64);
            let transport = Arc::new(transport(client, control));
            let mut config = EndpointConfig::default();
            config.rng_seed(Some(random.seed_bytes()));
            let server = (side == Side::Server).then(|| {
                let crypto = Arc::new(tls::server(&random.seed_bytes()));
                let mut server = ServerConfig::with_crypto(crypto);
                server.transport_config(Arc::clone(&transport));
                Arc::new(server)
            });
            let end = End { pair, side };
            Self {
                end,
                endpoint: Endpoint::new(Arc::new(config), server, true, None),
                connection: None,
                transport,
                actor: Actor::new(end, &client.script, Rc::clone(&names)),
                answers: Vec::new(),
                epoch,
            }
        };
        (new(Side::Client), new(Side::Server))
    }

    /// Starts the client's connection.
    pub(crate) fn connect(&mut self, now: Instant) {
        let mut config = ClientConfig::new(Arc::new(tls::client()));
        config.transport_config(Arc::clone(&self.transport));
        let now = self.std(now);
        let made = self.endpoint.connect(now, config, SERVER_ADDRESS, "sim");
        self.connection = Some(made.expect("a fresh endpoint connects to a sound address"));
    }

    /// Takes a datagram from the network.
    pub(crate) fn receive(&mut self, now: Instant, datagram: Datagram) {
        let (std_now, mut buf) = (self.std(now), Vec::new());
        let ecn = datagram.ecn.map(|ecn| match ecn {
            Ecn::Ect0 => EcnCodepoint::Ect0,
            Ecn::Ect1 => EcnCodepoint::Ect1,
            Ecn::Ce => EcnCodepoint::Ce,
        });
        let Datagram { from, payload, .. } = datagram;
        match self.endpoint.handle(std_now, from, None, ecn, payload, &mut buf) {
            Some(DatagramEvent::ConnectionEvent(handle, event)) => {
                if let Some((known, connection)) = &mut self.connection
                    && *known == handle
                {
                    connection.handle_event(event);
                }
            }
            Some(DatagramEvent::NewConnection(incoming)) => {
                if self.connection.is_some() {
                    return self.endpoint.ignore(incoming);
                }
                match self.endpoint.accept(incoming, std_now, &mut buf, None) {
                    Ok(accepted) => self.connection = Some(accepted),
                    Err(error) => {
                        if let Some(transmit) = error.response {
                            self.answer(&transmit, buf);
                        }
                    }
                }
            }
            Some(DatagramEvent::Response(transmit)) => self.answer(&transmit, buf),
            None => {}
        }
    }

    fn answer(&mut self, transmit: &Transmit, mut buf: Vec<u8>) {
        buf.truncate(transmit.size);
        self.answers.push((transmit.destination, buf));
    }

    /// Acts on deadlines.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        let now = self.std(now);
        if let Some((_, connection)) = &mut self.connection
            && connection.poll_timeout().is_some_and(|at| at <= now)
        {
            connection.handle_timeout(now);
        }
    }

    /// When it has something to do by itself.
    pub(crate) fn wake(&mut self) -> Option<Instant> {
        let timeout =
            self.connection.as_mut().and_then(|(_, connection)| connection.poll_timeout());
        let since = timeout.map(|at| at.saturating_duration_since(self.epoch));
        let timeout = since.map(|since| Instant::ZERO + since);
        [timeout, self.actor.wake()].into_iter().flatten().min()
    }

    /// Lets application and transport work until nothing moves.
    pub(crate) fn pump(&mut self, around: &mut Surroundings<'_>) {
        let now = self.std(around.now);
        for (to, payload) in self.answers.drain(..) {
            around.out.push(datagram(around.now, to, None, &payload));
        }
        let Some((handle, connection)) = &mut self.connection else { return };
        let mut buf = Vec::new();
        for _ in 0..ROUNDS_MAX {
            while let Some(event) = connection.poll_endpoint_events() {
                if let Some(event) = self.endpoint.handle_event(*handle, event) {
                    connection.handle_event(event);
                }
            }
            let mut moved = false;
            while let Some(event) = connection.poll() {
                moved = true;
                match event {
                    Event::Connected => self.actor.on_connected(around.log),
                    Event::ConnectionLost { .. } => self.actor.on_closed(),
                    Event::Stream(event) => self.actor.on_event(event, connection, around.log),
                    _ => {}
                }
            }
            moved |= self.actor.run(around.now, connection, around.log);
            while let Some(transmit) = connection.poll_transmit(now, SEGMENTS_MAX, &mut buf) {
                moved = true;
                send(around, &transmit, &buf);
                buf.clear();
            }
            if !moved {
                return;
            }
        }
    }

    /// Whether the application has done what it was to do, or cannot any more.
    pub(crate) fn is_finished(&self) -> bool {
        self.actor.is_finished()
    }

    /// What the transport counted, when the end lives here.
    pub(crate) fn counters(&self, end: End) -> Option<Counters> {
        let (_, connection) = self.connection.as_ref().filter(|_| end == self.end)?;
        let path = connection.stats().path;
        Some(Counters {
            packets_sent: path.sent_packets,
            packets_lost: path.lost_packets,
            probe_timeouts: 0,
            rtt: path.rtt,
            congestion_window: path.cwnd,
            path_memory: None,
        })
    }

    fn std(&self, now: Instant) -> StdInstant {
        self.epoch + now.since(Instant::ZERO)
    }
}

/// The windows are as large as ours: they are no part of what is measured.
fn transport(client: &Client, control: QuinnControl) -> TransportConfig {
    let window = |bytes: u64| VarInt::from_u64(bytes).unwrap_or(VarInt::MAX);
    let idle = IdleTimeout::try_from(client.transport.idle_timeout);
    let mut config = TransportConfig::default();
    config
        .max_concurrent_uni_streams(STREAMS_MAX.into())
        .max_concurrent_bidi_streams(STREAMS_MAX.into())
        .stream_receive_window(window(client.transport.stream_window_max))
        .receive_window(window(client.transport.connection_window_max))
        .send_window(client.transport.connection_window_max)
        .max_idle_timeout(idle.ok())
        .keep_alive_interval(client.transport.keep_alive);
    match control {
        QuinnControl::Cubic => {
            config.congestion_controller_factory(Arc::new(CubicConfig::default()))
        }
        QuinnControl::Bbr => config.congestion_controller_factory(Arc::new(BbrConfig::default())),
    };
    config
}

fn send(around: &mut Surroundings<'_>, transmit: &Transmit, buf: &[u8]) {
    let ecn = transmit.ecn.map(|ecn| match ecn {
        EcnCodepoint::Ect0 => Ecn::Ect0,
        EcnCodepoint::Ect1 => Ecn::Ect1,
        EcnCodepoint::Ce => Ecn::Ce,
    });
    let content = buf.get(..transmit.size).unwrap_or(buf);
    for payload in content.chunks(transmit.segment_size.unwrap_or(transmit.size).max(1)) {
        around.out.push(datagram(around.now, transmit.destination, ecn, payload));
    }
}

fn datagram(now: Instant, to: SocketAddr, ecn: Option<Ecn>, payload: &[u8]) -> Datagram {
    debug_assert!(to == SERVER_ADDRESS || pair_of(to).is_some());
    Datagram {
        // The link's owner knows the address that the other side will see.
        from: SERVER_ADDRESS,
        to,
        ecn,
        payload: BytesMut::from(payload),
        sent: now,
        beyond: std::time::Duration::ZERO,
        intact: true,
    }
}
