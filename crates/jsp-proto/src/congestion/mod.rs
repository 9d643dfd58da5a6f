//! How many bytes may be in flight on a path, and how fast they may leave. The controllers form a
//! closed set behind one interface.
//!
//! For each ACK the caller reports losses first ([`Congestion::on_loss`]), then what arrived
//! ([`Congestion::on_ack`]): an ACK that starts recovery is already counted by it.

mod bbr;
mod cubic;
mod hystart;
mod prr;

use core::time::Duration;

use jsp_wire::Instant;

pub(crate) use bbr::Bbr;
pub(crate) use cubic::Cubic;

use crate::config::CongestionControl;
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

/// The congestion controller of a path.
#[derive(Clone, Debug)]
pub(crate) enum Congestion {
    /// BBR, bounded by delay.
    Bbr(Box<Bbr>),
    /// CUBIC with HyStart++ and proportional rate reduction.
    Cubic(Box<Cubic>),
}

impl Congestion {
    /// The chosen controller for a path that carries datagrams of `mtu` bytes.
    pub(crate) fn new(control: CongestionControl, mtu: usize) -> Self {
        match control {
            CongestionControl::Bbr => Self::Bbr(Box::new(Bbr::new(mtu))),
            CongestionControl::Cubic => Self::Cubic(Box::new(Cubic::new(mtu))),
        }
    }

    /// `bytes` leave and count against the window; `in_flight` includes them.
    pub(crate) fn on_sent(&mut self, _now: Instant, bytes: u64, in_flight: u64) {
        match self {
            Self::Bbr(_) => {}
            Self::Cubic(cubic) => cubic.on_sent(bytes, in_flight),
        }
    }

    /// Bytes arrived.
    pub(crate) fn on_ack(&mut self, now: Instant, sample: &AckSample, rtt: &Rtt) {
        match self {
            Self::Bbr(bbr) => bbr.on_ack(now, sample, rtt),
            Self::Cubic(cubic) => cubic.on_ack(now, sample, rtt),
        }
    }

    /// Packets are lost.
    pub(crate) fn on_loss(&mut self, now: Instant, sample: &LossSample) {
        match self {
            Self::Bbr(bbr) => bbr.on_loss(now, sample),
            Self::Cubic(cubic) => cubic.on_loss(now, sample),
        }
    }

    /// The network marked a packet that left at `sent_at`, with `prior_in_flight` bytes in flight
    /// before the ACK that says so.
    pub(crate) fn on_ecn_ce(&mut self, now: Instant, sent_at: Instant, prior_in_flight: u64) {
        match self {
            Self::Bbr(bbr) => bbr.on_ecn_ce(now, sent_at),
            Self::Cubic(cubic) => cubic.on_ecn_ce(now, sent_at, prior_in_flight),
        }
    }

    /// So many packets that had been reported lost have arrived.
    pub(crate) fn on_spurious_loss(&mut self, now: Instant, packets: u32) {
        match self {
            Self::Bbr(bbr) => bbr.on_spurious_loss(now, packets),
            Self::Cubic(cubic) => cubic.on_spurious_loss(packets),
        }
    }

    /// Nothing arrived for several probe timeouts.
    pub(crate) fn on_persistent_congestion(&mut self, _now: Instant) {
        match self {
            Self::Bbr(bbr) => bbr.on_persistent_congestion(),
            Self::Cubic(cubic) => cubic.on_persistent_congestion(),
        }
    }

    /// Bytes that may be in flight.
    pub(crate) fn window(&self) -> u64 {
        match self {
            Self::Bbr(bbr) => bbr.window(),
            Self::Cubic(cubic) => cubic.window(),
        }
    }

    /// Bytes a second at which packets may leave.
    pub(crate) fn pacing_rate(&self, rtt: &Rtt) -> u64 {
        match self {
            Self::Bbr(bbr) => bbr.pacing_rate(rtt),
            Self::Cubic(cubic) => cubic.pacing_rate(rtt),
        }
    }

    /// The path carries datagrams of `mtu` bytes now.
    pub(crate) fn set_mtu(&mut self, mtu: usize) {
        match self {
            Self::Bbr(bbr) => bbr.set_mtu(mtu),
            Self::Cubic(cubic) => cubic.set_mtu(mtu),
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

#[cfg(test)]
mod tests;
