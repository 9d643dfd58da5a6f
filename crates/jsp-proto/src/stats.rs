//! Counters and measurements that the application can read.

use core::time::Duration;

use jsp_wire::frame::PathUse;
use jsp_wire::{PathId, Route};

use crate::forecast::Alarm;
use crate::pack::packed;

/// Traffic of a connection since its start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Traffic {
    /// Datagrams sent.
    pub datagrams_sent: u64,
    /// Bytes of UDP payload sent.
    pub bytes_sent: u64,
    /// Datagrams received.
    pub datagrams_received: u64,
    /// Bytes of UDP payload received.
    pub bytes_received: u64,
    /// Packets sent.
    pub packets_sent: u64,
    /// Packets held lost.
    pub packets_lost: u64,
    /// Application bytes sent again because they were held lost, or with a probe.
    pub bytes_retransmitted: u64,
    /// Application bytes of messages sent once more because their acknowledgement was overdue.
    pub bytes_bundled: u64,
    /// Application bytes of messages sent by a second path too.
    pub bytes_doubled: u64,
    /// Repair symbols sent, in packets of their own or with data.
    pub repairs_sent: u64,
    /// Bytes of these packets, and of the frames in the others.
    pub repair_bytes_sent: u64,
    /// Probe timeouts of packets after the handshake.
    pub probe_timeouts: u64,
    /// Bytes sent that serve only to tell observers less: padding, and what the wrapping adds. Hellos that are filled to the base size are not counted.
    pub padding_bytes_sent: u64,
    /// Packets of the peer that were put together from repair symbols.
    pub packets_recovered: u64,
}
packed!(Traffic {
    datagrams_sent,
    bytes_sent,
    datagrams_received,
    bytes_received,
    packets_sent,
    packets_lost,
    bytes_retransmitted,
    bytes_bundled,
    bytes_doubled,
    repairs_sent,
    repair_bytes_sent,
    probe_timeouts,
    padding_bytes_sent,
    packets_recovered
});

/// A snapshot of one path.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct PathInfo {
    /// Which.
    pub id: PathId,
    /// The way that its datagrams take.
    pub route: Route,
    /// The peer has answered there.
    pub is_validated: bool,
    /// What it is used for, as both sides want it.
    pub usage: PathUse,
    /// Smoothed round-trip time.
    pub rtt: Duration,
    /// Share of packets that are lost, 0 to 1, over the last hundreds of them.
    pub loss: f64,
    /// What the forecaster says of it.
    pub alarm: Alarm,
    /// Bytes that may be in flight on it.
    pub congestion_window: u64,
    /// Bytes that are in flight on it.
    pub bytes_in_flight: u64,
    /// Largest datagram, in bytes of UDP payload.
    pub datagram_len: usize,
}

/// A snapshot of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ConnectionStats {
    /// Counters.
    pub traffic: Traffic,
    /// Smoothed round-trip time.
    pub rtt: Duration,
    /// Smallest round-trip time seen.
    pub rtt_min: Duration,
    /// Bytes that may be in flight.
    pub congestion_window: u64,
    /// Bytes that are in flight.
    pub bytes_in_flight: u64,
    /// Largest datagram, in bytes of UDP payload.
    pub datagram_len: usize,
    /// Bytes of application data held in buffers, both directions.
    pub buffered: u64,
    /// In-band exchanges that are done: fresh hybrid secrets since the handshake.
    pub exchanges: u32,
}
