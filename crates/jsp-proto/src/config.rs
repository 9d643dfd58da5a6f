//! Configuration: values with documented defaults, in one place.

use core::net::{SocketAddrV4, SocketAddrV6};
use core::time::Duration;
use std::sync::Arc;

use jsp_crypto::replay::STRIKES_DEFAULT;
use jsp_wire::limits;

use crate::batch::Ecn;
use crate::forecast::Signals;
use crate::padding::Padding;
use crate::path::memory::PathMemory;
use crate::streams::config::StreamLimits;

/// Shortest keep-alive interval: more would be noise.
const KEEP_ALIVE_MIN: Duration = Duration::from_millis(100);

/// Early data of one client, in bytes: what the smallest window of a server holds, so that data that
/// were refused find room whatever its limits have become.
const EARLY_DATA_MAX: u32 = 1 << 14;

/// Addresses of a server's own, where it would rather be reached than where its clients have found it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct PreferredAddresses {
    /// For clients that have come by IPv4.
    pub v4: Option<SocketAddrV4>,
    /// For clients that have come by IPv6.
    pub v6: Option<SocketAddrV6>,
}

impl PreferredAddresses {
    /// True when at least one is given.
    pub fn is_any(&self) -> bool {
        self.v4.is_some() || self.v6.is_some()
    }
}

/// How the transport behaves. One value may serve any number of connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransportConfig {
    /// Silence after which the connection is given up; the smaller of both sides' values holds.
    /// Zero means never. Default 30 s.
    pub idle_timeout: Duration,
    /// How often a quiet connection sends a PING so that middleboxes keep their state; `None` for
    /// never. Default `None`.
    pub keep_alive: Option<Duration>,
    /// How long the handshake may take. Default 10 s.
    pub handshake_timeout: Duration,
    /// Round-trip time assumed before the first sample. Default 333 ms (RFC 9002, section 6.2.2).
    pub rtt_initial: Duration,
    /// Bytes of reliable data that the peer may send on one stream before the application reads,
    /// at first. Default 1 MiB.
    pub stream_window: u64,
    /// The same for all streams together, at first. Default 4 MiB.
    pub connection_window: u64,
    /// What auto-tuning may raise [`TransportConfig::stream_window`] to. Default 16 MiB.
    pub stream_window_max: u64,
    /// What auto-tuning may raise [`TransportConfig::connection_window`] to. Default 32 MiB.
    pub connection_window_max: u64,
    /// Streams that the peer may have open at once. Default 1024.
    pub streams_max: u64,
    /// Largest message that is accepted, in bytes. Default 16 MiB.
    pub message_len_max: u64,
    /// Bytes of unreliable messages kept for a slow reader before the oldest are dropped, a stream.
    /// Default 1 MiB.
    pub unreliable_buffer: usize,
    /// Longest time that an acknowledgement is held back. Default 25 ms.
    pub ack_delay_max: Duration,
    /// How the sending rate follows what the path delivers. Default [`CongestionControl::Bbr`].
    pub congestion: CongestionControl,
    /// Mark packets ECT(1) where the controller is [`CongestionControl::RealTime`], so that networks that have a
    /// low-latency queue (L4S, RFC 9330) let them use it; they are marked ECT(0) once the marks look like those of
    /// an older queue. Other controllers always mark ECT(0). Default true.
    pub l4s: bool,
    /// What an earlier connection over the same path learned of it
    /// ([`Connection::path_memory`](crate::Connection::path_memory)): once the first packets have
    /// arrived and the round-trip time is still about the same, half of that rate is tried
    /// at once (RFC 9959). Default `None`.
    pub initial_path_memory: Option<PathMemory>,
    /// Watch for the path to fail or fill before any time-out tells, and say so in events and in
    /// `Connection::capacity`. Default true.
    pub forecast: bool,
    /// What [`TransportConfig::forecast`] listens to. Default [`Signals::ALL`]; to leave one out shows
    /// what it is worth.
    pub signals: Signals,
    /// Send real-time messages whose acknowledgement is overdue once more, in packets that leave
    /// anyway. Default true.
    pub bundling: bool,
    /// Largest UDP payload that path MTU discovery tries, in bytes, 1200 to 65507. Default 1452:
    /// Ethernet's 1500 less IPv6 and UDP headers. More is found only where this is raised, to 1472
    /// for IPv4 over Ethernet or 8952 for jumbo frames. Every path starts at 1200; probes are packets
    /// of their own that go beside other traffic, so a connection that has nothing to send stays at
    /// the size it has found, but for one new search 600 s after the last.
    pub mtu_ceiling: usize,
    /// Seal this many packets under one key before the keys are updated. Default 2^22.
    pub key_update_packets: u64,
    /// Update the keys at the first packet so long after the last update. Default 10 minutes.
    pub key_update_after: Duration,
    /// A client brings a fresh hybrid secret into the keys so long after the last one, where the
    /// server can. Default 1 hour.
    pub exchange_after: Duration,
    /// And after this many bytes, both ways together. Default 64 GiB.
    pub exchange_bytes: u64,
    /// How long the tickets of a server are valid, at most a day; zero for none. Default 12 hours.
    pub ticket_lifetime: Duration,
    /// Early data that a server accepts from one client, in bytes of 0-RTT packets; zero for none.
    /// At most, and by default, 16 KiB: a first flight.
    pub early_data_max: u32,
    /// Tickets with early data that a server remembers in 20 s, so that copies of them are known; when
    /// there are more, early data wait for the handshake. Default 131,072, which is 6,500 a second and
    /// takes up to 12 MiB.
    pub early_tickets_max: usize,
    /// Offer forward error correction: repair symbols for real-time streams on paths that lose
    /// packets, where the peer offers it too. Default true.
    pub fec: bool,
    /// Offer large messages as symbols ([`FecPolicy::Fountain`](crate::FecPolicy::Fountain)), where they are built in
    /// (cargo feature `raptorq`) and the peer offers them too. Putting one together takes up to 14 ns a byte where the
    /// peer chooses symbols to that end, three times what it takes else; false keeps that from strangers. Default
    /// true.
    pub objects: bool,
    /// Paths that the connection may have at once, at most 4; 1 for one alone. The smaller of both sides'
    /// values holds. Default 4.
    pub paths_max: u64,
    /// Where a server tells clients to go once the handshake is done, as one that is found at an address which
    /// many share: datagrams that come there must reach the same endpoint. Clients try it beside what they have,
    /// and stay where they are when nobody answers (RFC 9000, section 9.6). Default none.
    pub preferred: PreferredAddresses,
    /// A client's server may move: a host that roams, a virtual machine. So that it can be found from a new address of
    /// the server, the client's connection takes ids, which cost 4 bytes in each datagram to it; one whose
    /// endpoint accepts connections too has them anyway. Who can copy packets on the way and carry them on can
    /// lead the client to himself; it goes back once the server answers where it was, or he falls silent. Default
    /// false.
    pub follow_server: bool,
    /// What is done so that sizes and times of datagrams tell less. Default [`Padding::None`].
    pub padding: Padding,
    /// Write qlog events; the endpoint's owner takes them with `Connection::take_qlog`.
    /// Default false.
    pub qlog: bool,
}

impl Default for TransportConfig {
    fn default() -> Self {
        Self {
            idle_timeout: Duration::from_secs(30),
            keep_alive: None,
            handshake_timeout: Duration::from_secs(10),
            rtt_initial: Duration::from_millis(333),
            stream_window: 1 << 20,
            connection_window: 4 << 20,
            stream_window_max: 16 << 20,
            connection_window_max: 32 << 20,
            streams_max: 1024,
            message_len_max: 16 << 20,
            unreliable_buffer: 1 << 20,
            ack_delay_max: Duration::from_millis(25),
            congestion: CongestionControl::default(),
            l4s: true,
            initial_path_memory: None,
            forecast: true,
            signals: Signals::ALL,
            bundling: true,
            mtu_ceiling: 1452,
            key_update_packets: 1 << 22,
            key_update_after: Duration::from_secs(600),
            exchange_after: Duration::from_secs(3600),
            exchange_bytes: 64 << 30,
            ticket_lifetime: Duration::from_secs(12 * 3600),
            early_data_max: EARLY_DATA_MAX,
            early_tickets_max: STRIKES_DEFAULT,
            fec: true,
            objects: true,
            paths_max: limits::PATHS_MAX,
            preferred: PreferredAddresses::default(),
            follow_server: false,
            padding: Padding::None,
            qlog: false,
        }
    }
}

impl TransportConfig {
    /// What concerns the streams. `hash_key` must be unpredictable to the peer.
    pub(crate) fn stream_limits(&self, hash_key: u64) -> StreamLimits {
        StreamLimits {
            data_window: self.connection_window,
            data_window_max: self.connection_window_max,
            stream_window: self.stream_window,
            stream_window_max: self.stream_window_max,
            streams_max: self.streams_max,
            message_len_max: self.message_len_max,
            unreliable_buffer: self.unreliable_buffer as u64,
            objects: self.objects,
            hash_key,
            ..StreamLimits::default()
        }
    }

    /// What packets are marked with until something speaks against it.
    // spec: ECN-3
    pub(crate) fn ecn_mark(&self) -> Ecn {
        let is_scalable = self.l4s && self.congestion == CongestionControl::RealTime;
        if is_scalable { Ecn::Ect1 } else { Ecn::Ect0 }
    }

    /// Hash of what early data rely on: while it is the same, what a client remembers holds.
    // spec: HS-75
    pub(crate) fn early_hash(&self, protocol: Option<&[u8]>) -> [u8; 8] {
        let limits =
            [self.connection_window, self.stream_window, self.streams_max, self.message_len_max];
        let mut text = b"jsp1 early limits".to_vec();
        text.extend(limits.iter().flat_map(|limit| limit.to_be_bytes()));
        text.push(u8::from(protocol.is_some()));
        text.extend_from_slice(protocol.unwrap_or_default());
        jsp_crypto::hello_id(&text)
    }

    /// The configuration with every value inside its range: mostly it is, and connections share it.
    pub(crate) fn clamped_or_same(config: Arc<Self>) -> Arc<Self> {
        let clamped = config.as_ref().clone().clamped();
        if clamped == *config { config } else { Arc::new(clamped) }
    }

    /// The configuration with every value inside its range.
    pub(crate) fn clamped(mut self) -> Self {
        self.mtu_ceiling = self.mtu_ceiling.clamp(limits::MTU_BASE, limits::MTU_MAX);
        self.paths_max = self.paths_max.clamp(1, limits::PATHS_MAX);
        self.streams_max = self.streams_max.clamp(1, limits::STREAMS_OPEN_MAX);
        self.keep_alive = self.keep_alive.map(|interval| interval.max(KEEP_ALIVE_MIN));
        if let Padding::ConstantRate(rate) = &self.padding {
            // An acknowledgement waits for its slot. No datagram is larger than the base size. One
            // timetable serves one path.
            // spec: PRV-5, PRV-7
            self.ack_delay_max = self.ack_delay_max.max(rate.clamped_interval());
            self.mtu_ceiling = limits::MTU_BASE;
            self.paths_max = 1;
        }
        self.ack_delay_max = self.ack_delay_max.min(Duration::from_secs(10));
        self.connection_window_max = self.connection_window_max.max(self.connection_window);
        self.early_data_max = self.early_data_max.min(EARLY_DATA_MAX);
        self.stream_window_max = self.stream_window_max.max(self.stream_window);
        self
    }
}

/// How the sending rate follows what the path delivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum CongestionControl {
    /// A model of the path's rate and delay: fills it with nearly empty queues, and takes losses
    /// for congestion only when packets wait.
    #[default]
    Bbr,
    /// RFC 9438: fills queues until something is lost, like most of the Internet.
    Cubic,
    /// For connections that carry little but live media: keeps what waits in queues to 20 to 40 ms,
    /// gives way within a round trip when the path becomes slower, and tells what an encoder should
    /// aim at ([`Capacity::media_rate`](crate::Capacity::media_rate)). Fills a path
    /// less than [`CongestionControl::Bbr`] does.
    RealTime,
}

/// When a server asks a client to prove its address before it does any work for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryPolicy {
    /// Never.
    Never,
    /// Always; costs each connection one round trip.
    Always,
    /// While more than this many handshakes are unfinished, more than 4096 Initial packets without
    /// a cookie come in a second, the table of incomplete hellos is more than half full, or the
    /// client's network (an IPv4 /24, an IPv6 /56) holds more than 32 places of it.
    WhenHalfOpen(usize),
}

/// What makes an endpoint a server.
#[derive(Clone)]
pub struct ServerSetup {
    /// Identity, client authentication and offers.
    pub crypto: Arc<jsp_crypto::ServerConfig>,
    /// When to ask for a proof of address. A sound choice is `WhenHalfOpen(256)`.
    pub retry: RetryPolicy,
    /// Connections that may exist at once; further hellos are refused. The last quarter is for clients whose
    /// network (an IPv4 /24, an IPv6 /56) has less than a quarter, or less than 16. Memory for hellos that are not
    /// complete yet is taken at the start: 4 KiB for 16 of them for each connection, 64 at least and
    /// 2048 at most.
    pub connections_max: usize,
    /// Answer nobody who does not know our fingerprint: clients that trust on first use get no
    /// connection, and peers no stateless reset after we have lost our memory.
    pub silent: bool,
}

/// What an endpoint is made from.
#[derive(Clone)]
pub struct EndpointConfig {
    /// Present when the endpoint accepts connections.
    pub server: Option<ServerSetup>,
    /// For accepted connections; outgoing ones bring their own.
    pub transport: Arc<TransportConfig>,
    /// All randomness comes from here: must be unpredictable outside of tests. An endpoint wipes its copy.
    pub seed: [u8; 32],
    /// Unix time, in seconds, at `Instant::ZERO`, until [`Endpoint::set_unix_time`](crate::Endpoint::set_unix_time)
    /// tells another: dates in identities are checked against it.
    pub unix_seconds_at_zero: u64,
}
