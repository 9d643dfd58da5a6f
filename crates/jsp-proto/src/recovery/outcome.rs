//! What goes into recovery, and what comes out: plain values.

use core::time::Duration;

use jsp_wire::Instant;
use jsp_wire::frame::EcnCounts;

use super::ecn::Marked;
use super::rate::RateSample;
use super::sent::Packet;
use crate::batch::Ecn;

/// What recovery needs to know of a packet that leaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct SentInfo {
    /// Its number: higher than all before. Numbers between count as skipped.
    pub(crate) pn: u64,
    /// Its bytes as the congestion window counts them.
    pub(crate) size: u16,
    /// The peer must acknowledge it.
    pub(crate) ack_eliciting: bool,
    /// It counts against the congestion window.
    pub(crate) in_flight: bool,
    /// It probes a larger datagram: its loss says nothing of congestion.
    pub(crate) is_mtu_probe: bool,
    /// The ECN mark that it left with.
    pub(crate) ecn: Option<Ecn>,
}

/// Which deadline recovery waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum TimerKind {
    /// The reorder window of a packet ends.
    Loss,
    /// Nothing has been heard of the newest packets: ask.
    Probe,
}

/// Receive times that one ACK can bring.
const ARRIVALS_MAX: usize = 4;

/// When a packet left here, and what the peer's clock said when it came there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Arrival {
    pub(crate) sent_at: Instant,
    /// The receive time as it was told: in its units, modulo 2^16.
    pub(crate) stamp: u16,
}

/// Receive times of newly acknowledged packets, the newest packet first.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Arrivals {
    list: [Arrival; ARRIVALS_MAX],
    len: usize,
}

impl Arrivals {
    pub(super) fn push(&mut self, arrival: Arrival) {
        if let Some(slot) = self.list.get_mut(self.len) {
            *slot = arrival;
            self.len = self.len.saturating_add(1);
        }
    }

    /// From the packet that was sent first to the last.
    pub(crate) fn in_order(&self) -> impl Iterator<Item = Arrival> + '_ {
        self.list.iter().take(self.len).rev().copied()
    }
}

/// What an ACK frame brought.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct AckOutcome {
    /// Something that was not known before.
    pub(crate) newly_acked: bool,
    /// An ack-eliciting packet is among it.
    pub(crate) newly_acked_eliciting: bool,
    /// Packets that left flight because they arrived, and their bytes.
    pub(crate) packets_acked: u32,
    pub(crate) bytes_acked: u64,
    /// Largest size among the acknowledged packets that were in flight, in bytes; probes of the
    /// path MTU are left out.
    pub(crate) largest_acked_size: u16,
    /// When the most recently sent of the newly acknowledged packets left.
    pub(crate) largest_newly_acked_sent_at: Option<Instant>,
    /// The application set the pace when that packet left.
    pub(crate) app_limited: bool,
    /// A sample of the round-trip time; `Rtt` has it already.
    pub(crate) rtt_sample: Option<Duration>,
    /// What is lost now.
    pub(crate) lost: LossOutcome,
    /// Packets that had been held lost and have arrived.
    pub(crate) spurious: u32,
    /// A sample of the delivery rate.
    pub(crate) rate_sample: Option<RateSample>,
    /// The frame's ECN counts, when it raised the largest acknowledged number: only then are they
    /// news.
    pub(crate) ecn: Option<EcnCounts>,
    /// The frame raised the largest acknowledged number.
    pub(crate) advanced: bool,
    /// Newly acknowledged packets that had left with an ECN mark.
    pub(crate) ecn_acked: Marked,
    /// A probe of the path MTU arrived; its size in bytes.
    pub(crate) acked_mtu_probe: Option<u16>,
    /// When packets arrived, by the peer's clock.
    pub(crate) arrivals: Arrivals,
}

impl AckOutcome {
    /// A packet arrived, for the first time as far as is known; `stamp` is when, by the peer's clock. One
    /// that went to another path says nothing of this one but that it was marked.
    pub(super) fn note_arrived(&mut self, packet: &Packet, stamp: Option<u16>, is_of_path: bool) {
        self.ecn_acked.note(packet.ecn);
        if !is_of_path {
            return;
        }
        if let Some(stamp) = stamp {
            self.arrivals.push(Arrival { sent_at: packet.sent_at, stamp });
        }
        if packet.is_mtu_probe {
            self.acked_mtu_probe = Some(packet.size);
        } else if packet.ack_eliciting {
            self.largest_acked_size = self.largest_acked_size.max(packet.size);
        }
    }
}

/// What is held lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct LossOutcome {
    /// Bytes that left flight.
    pub(crate) bytes_lost: u64,
    /// Packets that were in flight; probes of the path MTU are left out here and in all the rest.
    pub(crate) packets: u32,
    /// Nothing arrived for so long that the window must start anew.
    pub(crate) persistent_congestion: bool,
    /// When the first of them left.
    pub(crate) first_lost_sent_at: Option<Instant>,
    /// When the most recently sent of them left.
    pub(crate) largest_lost_sent_at: Option<Instant>,
    /// Largest size among them, in bytes.
    pub(crate) largest_lost_size: u16,
    /// A probe of the path MTU is lost; its size in bytes.
    pub(crate) lost_mtu_probe: Option<u16>,
}

/// What a timeout brought.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct TimeoutOutcome {
    /// What is lost now.
    pub(crate) lost: LossOutcome,
    /// Packets to send at once, whatever the congestion window says.
    pub(crate) probes: u8,
}
