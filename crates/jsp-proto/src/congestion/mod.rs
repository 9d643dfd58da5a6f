//! How many bytes may be in flight on a path, and how fast they may leave. The controllers form a
//! closed set behind one interface.
//!
//! For each ACK the caller reports losses first ([`Congestion::on_loss`]), then what arrived
//! ([`Congestion::on_ack`]): an ACK that starts recovery is already counted by it.

mod bbr;
mod cubic;
mod hystart;
mod losses;
mod prr;
mod realtime;
mod rivals;

use core::time::Duration;

use jsp_wire::Instant;

pub(crate) use bbr::Bbr;
pub(crate) use cubic::Cubic;
pub(crate) use realtime::RealTime;

use crate::config::CongestionControl;
use crate::pacer::Pace;
use crate::recovery::{RateSample, Rtt};

/// Bytes that a path may carry before anything is known about it: ten packets, but not more than
/// 14720 bytes for packets of common size (RFC 9002, section 7.2).
// spec: CC-1
pub(crate) fn window_initial(mtu: usize) -> u64 {
    let mtu = mtu as u64;
    mtu.saturating_mul(10).min(mtu.saturating_mul(2).max(14_720))
}

/// Bytes that a path may always carry (RFC 9002, section 7.2, `kMinimumWindow`).
// spec: CC-2
pub(crate) fn window_min(mtu: usize) -> u64 {
    (mtu as u64).saturating_mul(2)
}

/// What an ACK means for congestion.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct AckSample {
    /// Bytes that left flight because they arrived.
    pub(crate) bytes_acked: u64,
    /// Bytes still in flight, after what the ACK settled and what it showed lost.
    pub(crate) in_flight: u64,
    /// When the most recently sent of the acknowledged packets left.
    pub(crate) largest_sent_at: Instant,
    /// The ACK also showed losses.
    pub(crate) has_losses: bool,
    /// It brought a new sample of the round-trip time.
    pub(crate) has_rtt_sample: bool,
    /// The application set the pace when that packet left.
    pub(crate) app_limited: bool,
    /// How long packets wait in queues on the way to the peer, where receive times tell; else the
    /// round-trip time must.
    pub(crate) queue_delay: Option<Duration>,
    /// It brought a sample of the delivery rate.
    pub(crate) rate: Option<RateSample>,
}

/// What a loss means for congestion.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct LossSample {
    /// Bytes that are lost.
    pub(crate) bytes_lost: u64,
    /// Packets that are lost.
    pub(crate) packets: u32,
    /// When the most recently sent of them left.
    pub(crate) largest_lost_sent_at: Instant,
    /// Bytes that were in flight before they were held lost, and before the ACK that showed it.
    pub(crate) prior_in_flight: u64,
}

/// What marks of the network (CE, RFC 3168) mean for congestion.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct MarkSample {
    /// Packets that were marked.
    pub(crate) packets: u64,
    /// When the most recently sent packet of the ACK that says so left.
    pub(crate) sent_at: Instant,
    /// Bytes that were in flight before that ACK.
    pub(crate) prior_in_flight: u64,
}

/// The congestion controller of a path.
#[derive(Clone, Debug)]
pub(crate) enum Congestion {
    /// BBR, bounded by delay.
    Bbr(Box<Bbr>),
    /// CUBIC with HyStart++ and proportional rate reduction.
    Cubic(Box<Cubic>),
    /// A window that keeps the delay of real-time media short.
    RealTime(Box<RealTime>),
}

impl Congestion {
    /// The chosen controller for a path that carries datagrams of `mtu` bytes.
    pub(crate) fn new(control: CongestionControl, mtu: usize) -> Self {
        match control {
            CongestionControl::Bbr => Self::Bbr(Box::new(Bbr::new(mtu))),
            CongestionControl::Cubic => Self::Cubic(Box::new(Cubic::new(mtu))),
            CongestionControl::RealTime => Self::RealTime(Box::new(RealTime::new(mtu))),
        }
    }

    /// `bytes` leave and count against the window; `in_flight` includes them.
    pub(crate) fn on_sent(&mut self, _now: Instant, bytes: u64, in_flight: u64) {
        match self {
            Self::Bbr(_) => {}
            Self::Cubic(cubic) => cubic.on_sent(bytes, in_flight),
            Self::RealTime(realtime) => realtime.on_sent(in_flight),
        }
    }

    /// Bytes arrived.
    pub(crate) fn on_ack(&mut self, now: Instant, sample: &AckSample, rtt: &Rtt) {
        match self {
            Self::Bbr(bbr) => bbr.on_ack(now, sample, rtt),
            Self::Cubic(cubic) => cubic.on_ack(now, sample, rtt),
            Self::RealTime(realtime) => realtime.on_ack(now, sample, rtt),
        }
    }

    /// Packets are lost.
    pub(crate) fn on_loss(&mut self, now: Instant, sample: &LossSample) {
        match self {
            Self::Bbr(bbr) => bbr.on_loss(now, sample),
            Self::Cubic(cubic) => cubic.on_loss(now, sample),
            Self::RealTime(realtime) => realtime.on_loss(now, sample),
        }
    }

    /// The network marked packets.
    pub(crate) fn on_ecn_ce(&mut self, now: Instant, marks: &MarkSample) {
        match self {
            Self::Bbr(bbr) => bbr.on_ecn_ce(now, marks.sent_at),
            Self::Cubic(cubic) => cubic.on_ecn_ce(now, marks.sent_at, marks.prior_in_flight),
            Self::RealTime(realtime) => realtime.on_ecn_ce(now, marks),
        }
    }

    /// So many packets that had been reported lost have arrived.
    pub(crate) fn on_spurious_loss(&mut self, now: Instant, packets: u32) {
        match self {
            Self::Bbr(bbr) => bbr.on_spurious_loss(now, packets),
            Self::Cubic(cubic) => cubic.on_spurious_loss(packets),
            Self::RealTime(realtime) => realtime.on_spurious_loss(packets),
        }
    }

    /// Nothing arrived for several probe timeouts.
    pub(crate) fn on_persistent_congestion(&mut self, _now: Instant) {
        match self {
            Self::Bbr(bbr) => bbr.on_persistent_congestion(),
            Self::Cubic(cubic) => cubic.on_persistent_congestion(),
            Self::RealTime(realtime) => realtime.on_persistent_congestion(),
        }
    }

    /// Bytes that may be in flight.
    pub(crate) fn window(&self) -> u64 {
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
    pub(crate) fn urgent_packets(&self) -> u64 {
        match self {
            Self::Bbr(_) | Self::Cubic(_) => 4,
            Self::RealTime(_) => 1,
        }
    }

    /// How fast packets may leave.
    // spec: CC-10
    pub(crate) fn pace(&self, rtt: &Rtt) -> Pace {
        match self {
            Self::Bbr(bbr) => Pace::bulk(bbr.pacing_rate(rtt)),
            Self::Cubic(cubic) => Pace::bulk(cubic.pacing_rate(rtt)),
            Self::RealTime(realtime) => Pace::media(realtime.pacing_rate(rtt)),
        }
    }

    /// Bytes a second that an encoder should aim at, where the controller is made for that.
    pub(crate) fn media_rate(&self, rtt: &Rtt) -> Option<u64> {
        match self {
            Self::Bbr(_) | Self::Cubic(_) => None,
            Self::RealTime(realtime) => Some(realtime.media_rate(rtt)),
        }
    }

    /// The path carries datagrams of `mtu` bytes now.
    pub(crate) fn set_mtu(&mut self, mtu: usize) {
        match self {
            Self::Bbr(bbr) => bbr.set_mtu(mtu),
            Self::Cubic(cubic) => cubic.set_mtu(mtu),
            Self::RealTime(realtime) => realtime.set_mtu(mtu),
        }
    }
}

/// `window` bytes in each `rtt`, times `numerator / denominator`, in bytes a second.
fn rate_of(window: u64, rtt: Duration, numerator: u64, denominator: u64) -> u64 {
    let nanos = rtt.as_nanos().max(1);
    let rate =
        u128::from(window).saturating_mul(u128::from(numerator)).saturating_mul(1_000_000_000)
            / nanos.saturating_mul(u128::from(denominator.max(1)));
    u64::try_from(rate).unwrap_or(u64::MAX)
}

/// Bytes that `rate` bytes a second make in `time`.
fn bytes_in(rate: u64, time: Duration) -> u64 {
    let bytes = u128::from(rate).saturating_mul(time.as_nanos()) / 1_000_000_000;
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// `value * gain`, saturated.
fn scale(value: u64, gain: f64) -> u64 {
    (value as f64 * gain) as u64
}

/// What of `rate` media should take.
// spec: CC-36
fn media_share(rate: u64) -> u64 {
    rate / 20 * 17
}

#[cfg(test)]
mod tests;
