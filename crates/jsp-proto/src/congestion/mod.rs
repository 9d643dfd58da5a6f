//! How many bytes may be in flight on a path, and how fast they may leave. The controllers form a
//! closed set behind one interface.
//!
//! For each ACK the caller reports losses first ([`Congestion::on_loss`]), then what arrived
//! ([`Congestion::on_ack`]): an ACK that starts recovery is already counted by it.

mod bbr;
mod careful_resume;
mod control;
mod cubic;
mod hystart;
mod losses;
mod prr;
mod realtime;
mod rivals;

use core::time::Duration;

use jsp_wire::Instant;

use bbr::Bbr;
use careful_resume::{CarefulResume, Limit, View};
use control::Control;
use cubic::Cubic;
use realtime::RealTime;

use crate::config::CongestionControl;
use crate::pacer::Pace;
use crate::pack::packed;
use crate::path::memory::PathMemory;
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

/// Urgent data on an unknown path may send an initial window in each such time: what any sender puts on a
/// path whose round trip is no longer.
const START_INTERVAL: Duration = Duration::from_millis(50);

/// But have no more than so many of them in flight.
const START_WINDOWS_MAX: u32 = 8;

/// What urgent data may do on an unknown path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct UrgentStart {
    /// Bytes that may be in flight.
    pub(crate) window: u64,
    /// Bytes a second that may leave.
    pub(crate) rate: u64,
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
    /// Packets that these bytes were in.
    pub(crate) packets_acked: u32,
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

/// The congestion control of a path: a controller, and at first what is known from an earlier time.
#[derive(Clone, Debug)]
pub(crate) struct Congestion {
    control: Control,
    resume: Option<CarefulResume>,
    mtu: usize,
}
packed!(Congestion { control, resume, mtu });

impl Congestion {
    /// The chosen controller for a path that carries datagrams of `mtu` bytes.
    pub(crate) fn new(control: CongestionControl, mtu: usize) -> Self {
        Self { control: Control::new(control, mtu), resume: None, mtu }
    }

    /// Nothing was sent yet, but the path was known before.
    // spec: CC-43
    pub(crate) fn resume_from(&mut self, memory: PathMemory) {
        self.resume = Some(CarefulResume::new(memory));
    }

    /// `bytes` leave and count against the window; `in_flight` includes them.
    pub(crate) fn on_sent(&mut self, now: Instant, bytes: u64, in_flight: u64) {
        self.control.on_sent(now, bytes, in_flight);
    }

    /// True while something is tried that an earlier connection knew of the path.
    pub(crate) fn is_resuming(&self) -> bool {
        self.resume.is_some()
    }

    /// True where nothing is lost by packing it.
    pub(crate) fn can_be_packed(&self) -> bool {
        self.control.can_be_packed()
    }

    /// Bytes arrived.
    pub(crate) fn on_ack(&mut self, now: Instant, sample: &AckSample, rtt: &Rtt) {
        self.control.on_ack(now, sample, rtt);
        let Some(resume) = &mut self.resume else { return };
        let view = View {
            window: self.control.window(),
            window_initial: window_initial(self.mtu),
            is_starting: self.control.is_starting(),
        };
        resume.on_ack(now, sample, rtt.min(), &view);
        self.forget_resumed();
    }

    /// True once after an empty queue was made to see how long the way itself is, one way too.
    pub(crate) fn take_new_base(&mut self) -> bool {
        self.control.take_new_base()
    }

    /// Packets are lost.
    pub(crate) fn on_loss(&mut self, now: Instant, sample: &LossSample) {
        let (window, starting) = (self.control.window(), self.control.is_starting());
        self.control.on_loss(now, sample);
        let Some(resume) = &mut self.resume else { return };
        let congested = self.control.window() < window || starting != self.control.is_starting();
        resume.on_loss(now, sample, congested);
        self.forget_resumed();
    }

    /// The network marked packets; `is_scalable` says that they had left with ECT(1).
    pub(crate) fn on_ecn_ce(&mut self, now: Instant, marks: &MarkSample, is_scalable: bool) {
        self.control.on_ecn_ce(now, marks, is_scalable);
        if let Some(resume) = &mut self.resume {
            resume.on_congestion(now);
            self.forget_resumed();
        }
    }

    /// Marks of packets with ECT(1) seem to come from a queue that is not made for them.
    pub(crate) fn doubts_scalable_marks(&self) -> bool {
        self.control.doubts_scalable_marks()
    }

    /// So many packets that had been reported lost have arrived.
    pub(crate) fn on_spurious_loss(&mut self, now: Instant, packets: u32) {
        self.control.on_spurious_loss(now, packets);
    }

    /// Nothing arrived for several probe timeouts.
    pub(crate) fn on_persistent_congestion(&mut self, now: Instant) {
        self.control.on_persistent_congestion(now);
        self.resume = None;
    }

    /// Bytes that may be in flight.
    // spec: CC-44, CC-45
    pub(crate) fn window(&self) -> u64 {
        let window = self.control.window();
        match self.resume.as_ref().map(CarefulResume::limit) {
            Some(Limit::AtLeast { window: least, .. }) => window.max(least),
            Some(Limit::AtMost(most)) => window.min(most.max(window_min(self.mtu))),
            Some(Limit::None) | None => window,
        }
    }

    /// Packets that urgent data may have in flight beyond the window.
    // spec: CC-21
    pub(crate) fn urgent_packets(&self) -> u64 {
        self.control.urgent_packets()
    }

    /// What urgent data may have in flight at least, and the rate at which they may leave, while no limit of the
    /// path was found; `None` afterwards, and where the window is made for such data.
    // spec: CC-51
    pub(crate) fn urgent_start(&self, rtt: &Rtt) -> Option<UrgentStart> {
        if !self.control.is_starting() || !rtt.has_sample() || !self.control.serves_bulk() {
            return None;
        }
        let rate = rate_of(window_initial(self.mtu), START_INTERVAL, 1, 1);
        let time = rtt.smoothed().clamp(START_INTERVAL, START_INTERVAL * START_WINDOWS_MAX);
        Some(UrgentStart { window: bytes_in(rate, time), rate })
    }

    /// How fast packets may leave, when those that leave now are expected to wait in this queue.
    // spec: CC-10
    pub(crate) fn pace(&self, rtt: &Rtt, queue: Duration) -> Pace {
        let pace = self.control.pace(rtt, queue);
        match self.resume.as_ref().map(CarefulResume::limit) {
            Some(Limit::AtLeast { rate, .. }) => pace.at_least(rate),
            _ => pace,
        }
    }

    /// Bytes a second that an encoder should aim at, where the controller is made for that.
    pub(crate) fn media_rate(&self, rtt: &Rtt) -> Option<u64> {
        self.control.media_rate(rtt)
    }

    /// The path carries datagrams of `mtu` bytes now.
    pub(crate) fn set_mtu(&mut self, mtu: usize) {
        self.control.set_mtu(mtu);
        self.mtu = mtu;
    }

    fn forget_resumed(&mut self) {
        self.resume.take_if(|resume| resume.is_over());
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
