//! The controllers as a closed set: one of them runs on each path.

use core::time::Duration;

use jsp_wire::Instant;

use super::{AckSample, Bbr, Cubic, LossSample, MarkSample, RealTime};
use crate::config::CongestionControl;
use crate::pacer::Pace;
use crate::pack::{Pack, Packer, Unpacker};
use crate::recovery::Rtt;

/// A congestion controller.
#[derive(Clone, Debug)]
pub(super) enum Control {
    /// BBR, bounded by delay.
    Bbr(Box<Bbr>),
    /// CUBIC with HyStart++ and proportional rate reduction.
    Cubic(Box<Cubic>),
    /// A window that keeps the delay of real-time media short.
    RealTime(Box<RealTime>),
}

/// Only the default one is packed: see [`Control::can_be_packed`].
impl Pack for Control {
    fn pack(&self, to: &mut Packer) {
        debug_assert!(self.can_be_packed());
        if let Self::Bbr(bbr) = self {
            bbr.pack(to);
        }
    }

    fn unpack(from: &mut Unpacker<'_>) -> Self {
        Self::Bbr(Box::new(Bbr::unpack(from)))
    }
}

impl Control {
    /// True for a controller of which nothing is lost by packing it.
    pub(super) fn can_be_packed(&self) -> bool {
        matches!(self, Self::Bbr(_))
    }

    /// The chosen controller for a path that carries datagrams of `mtu` bytes.
    pub(super) fn new(control: CongestionControl, mtu: usize) -> Self {
        match control {
            CongestionControl::Bbr => Self::Bbr(Box::new(Bbr::new(mtu))),
            CongestionControl::Cubic => Self::Cubic(Box::new(Cubic::new(mtu))),
            CongestionControl::RealTime => Self::RealTime(Box::new(RealTime::new(mtu))),
        }
    }

    /// `bytes` leave and count against the window; `in_flight` includes them.
    pub(super) fn on_sent(&mut self, _now: Instant, bytes: u64, in_flight: u64) {
        match self {
            Self::Bbr(_) => {}
            Self::Cubic(cubic) => cubic.on_sent(bytes, in_flight),
            Self::RealTime(realtime) => realtime.on_sent(in_flight),
        }
    }

    /// Bytes arrived.
    pub(super) fn on_ack(&mut self, now: Instant, sample: &AckSample, rtt: &Rtt) {
        match self {
            Self::Bbr(bbr) => bbr.on_ack(now, sample, rtt),
            Self::Cubic(cubic) => cubic.on_ack(now, sample, rtt),
            Self::RealTime(realtime) => realtime.on_ack(now, sample, rtt),
        }
    }

    /// True once after an empty queue was made to see how long the way itself is, one way too.
    pub(super) fn take_new_base(&mut self) -> bool {
        match self {
            Self::Bbr(_) | Self::Cubic(_) => false,
            Self::RealTime(realtime) => realtime.take_new_base(),
        }
    }

    /// Packets are lost.
    pub(super) fn on_loss(&mut self, now: Instant, sample: &LossSample) {
        match self {
            Self::Bbr(bbr) => bbr.on_loss(now, sample),
            Self::Cubic(cubic) => cubic.on_loss(now, sample),
            Self::RealTime(realtime) => realtime.on_loss(now, sample),
        }
    }

    /// The network marked packets; `is_scalable` says that they had left with ECT(1), as only those of the
    /// real-time controller do.
    pub(super) fn on_ecn_ce(&mut self, now: Instant, marks: &MarkSample, is_scalable: bool) {
        match self {
            Self::Bbr(bbr) => bbr.on_ecn_ce(now, marks.sent_at),
            Self::Cubic(cubic) => cubic.on_ecn_ce(now, marks.sent_at, marks.prior_in_flight),
            Self::RealTime(realtime) if is_scalable => realtime.on_scalable_marks(now, marks),
            Self::RealTime(realtime) => realtime.on_ecn_ce(now, marks),
        }
    }

    /// Marks of packets with ECT(1) seem to come from a queue that is not made for them.
    pub(super) fn doubts_scalable_marks(&self) -> bool {
        match self {
            Self::Bbr(_) | Self::Cubic(_) => false,
            Self::RealTime(realtime) => realtime.doubts_scalable_marks(),
        }
    }

    /// So many packets that had been reported lost have arrived.
    pub(super) fn on_spurious_loss(&mut self, now: Instant, packets: u32) {
        match self {
            Self::Bbr(bbr) => bbr.on_spurious_loss(now, packets),
            Self::Cubic(cubic) => cubic.on_spurious_loss(packets),
            Self::RealTime(realtime) => realtime.on_spurious_loss(packets),
        }
    }

    /// Nothing arrived for several probe timeouts.
    pub(super) fn on_persistent_congestion(&mut self, _now: Instant) {
        match self {
            Self::Bbr(bbr) => bbr.on_persistent_congestion(),
            Self::Cubic(cubic) => cubic.on_persistent_congestion(),
            Self::RealTime(realtime) => realtime.on_persistent_congestion(),
        }
    }

    /// Bytes that may be in flight.
    pub(super) fn window(&self) -> u64 {
        match self {
            Self::Bbr(bbr) => bbr.window(),
            Self::Cubic(cubic) => cubic.window(),
            Self::RealTime(realtime) => realtime.window(),
        }
    }

    /// Packets that urgent data may have in flight beyond the window, which bulk has filled up: the
    /// voice of one round trip at the start of a connection. A window that bounds the delay of media
    /// is mostly filled by media.
    // spec: CC-21
    pub(super) fn urgent_packets(&self) -> u64 {
        match self {
            Self::Bbr(_) | Self::Cubic(_) => 4,
            Self::RealTime(_) => 1,
        }
    }

    /// The window is for bulk, and urgent data share it.
    pub(super) fn serves_bulk(&self) -> bool {
        !matches!(self, Self::RealTime(_))
    }

    /// Nothing was too much yet: it grows as fast as it ever does.
    pub(super) fn is_starting(&self) -> bool {
        match self {
            Self::Bbr(bbr) => bbr.is_starting(),
            Self::Cubic(cubic) => cubic.is_starting(),
            Self::RealTime(realtime) => realtime.is_starting(),
        }
    }

    /// How fast packets may leave, when those that leave now are expected to wait in this queue.
    // spec: CC-10
    pub(super) fn pace(&self, rtt: &Rtt, queue: Duration) -> Pace {
        match self {
            Self::Bbr(bbr) => Pace::bulk(bbr.pacing_rate(rtt, queue)),
            Self::Cubic(cubic) => Pace::bulk(cubic.pacing_rate(rtt)),
            Self::RealTime(realtime) => realtime.pace(rtt),
        }
    }

    /// Bytes a second that an encoder should aim at, where the controller is made for that.
    pub(super) fn media_rate(&self, rtt: &Rtt) -> Option<u64> {
        match self {
            Self::Bbr(_) | Self::Cubic(_) => None,
            Self::RealTime(realtime) => Some(realtime.media_rate(rtt)),
        }
    }

    /// The path carries datagrams of `mtu` bytes now.
    pub(super) fn set_mtu(&mut self, mtu: usize) {
        match self {
            Self::Bbr(bbr) => bbr.set_mtu(mtu),
            Self::Cubic(cubic) => cubic.set_mtu(mtu),
            Self::RealTime(realtime) => realtime.set_mtu(mtu),
        }
    }
}
