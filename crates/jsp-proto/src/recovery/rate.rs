//! Delivery rate of a path (draft-cheng-iccrg-delivery-rate-estimation): how fast the network took
//! what we gave it, and whether that says something about the network or only about us.

use core::time::Duration;

use jsp_wire::Instant;

use crate::pack::packed;

/// The running count of a path. One for all packet number spaces of the path.
#[derive(Clone, Debug, Default)]
pub(crate) struct DeliveryRate {
    /// Bytes delivered since the start.
    delivered: u64,
    /// When the newest of them was acknowledged.
    delivered_at: Instant,
    /// When the flight of packets began that the next sample measures.
    first_sent_at: Instant,
    /// While this many bytes are not delivered, samples are bounded by the application.
    app_limited_until: Option<u64>,
}
packed!(DeliveryRate { delivered, delivered_at, first_sent_at, app_limited_until });

/// What a sent packet remembers of its path's count.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct RateMark {
    delivered: u64,
    delivered_at: Instant,
    first_sent_at: Instant,
    app_limited: bool,
    in_flight: u64,
}

/// What one ACK says about the delivery rate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct RateSample {
    /// Bytes a second.
    pub(crate) rate: u64,
    /// Bytes delivered in the interval.
    pub(crate) delivered: u64,
    /// Bytes that had been delivered when the packet left: a round ends when this passes the count
    /// at its beginning.
    pub(crate) prior_delivered: u64,
    /// Bytes that were in flight when the packet left.
    pub(crate) sent_in_flight: u64,
    /// How long the delivery took.
    pub(crate) interval: Duration,
    /// The application sent less than it might have: the network may be faster than the sample.
    pub(crate) app_limited: bool,
}

impl DeliveryRate {
    /// Marks a packet that leaves at `now`, with `in_flight` bytes before it.
    // spec: REC-17
    pub(crate) fn on_sent(&mut self, now: Instant, in_flight: u64, app_limited: bool) -> RateMark {
        if in_flight == 0 {
            self.first_sent_at = now;
            self.delivered_at = now;
        }
        RateMark {
            delivered: self.delivered,
            delivered_at: self.delivered_at,
            first_sent_at: self.first_sent_at,
            app_limited: app_limited || self.app_limited(),
            in_flight,
        }
    }

    /// The application has nothing more to send while `in_flight` bytes are on their way.
    pub(crate) fn mark_app_limited(&mut self, in_flight: u64) {
        self.app_limited_until = Some(self.delivered.saturating_add(in_flight));
    }

    /// Packets that leave now leave because the application has so little, not because the network
    /// takes so little.
    pub(crate) fn app_limited(&self) -> bool {
        self.app_limited_until.is_some()
    }

    /// Takes `bytes` that were acknowledged at `now`. `newest` is the most recently sent packet
    /// among them: when it left, and its mark. Samples shorter than `rtt_min` say nothing.
    // spec: REC-17
    pub(crate) fn on_ack(
        &mut self,
        now: Instant,
        bytes: u64,
        newest: (Instant, RateMark),
        rtt_min: Duration,
    ) -> Option<RateSample> {
        let (sent_at, mark) = newest;
        self.delivered = self.delivered.saturating_add(bytes);
        self.delivered_at = now;
        self.first_sent_at = sent_at;
        if self.app_limited_until.is_some_and(|until| self.delivered > until) {
            self.app_limited_until = None;
        }
        let send_elapsed = sent_at.since(mark.first_sent_at);
        let ack_elapsed = now.since(mark.delivered_at);
        let interval = send_elapsed.max(ack_elapsed);
        if interval.is_zero() || interval < rtt_min {
            return None;
        }
        let delivered = self.delivered.saturating_sub(mark.delivered);
        let nanos = u128::from(jsp_wire::time::saturating_nanos(interval));
        let rate = u128::from(delivered).saturating_mul(1_000_000_000) / nanos;
        Some(RateSample {
            rate: u64::try_from(rate).unwrap_or(u64::MAX),
            delivered,
            prior_delivered: mark.delivered,
            sent_in_flight: mark.in_flight,
            interval,
            app_limited: mark.app_limited,
        })
    }

    /// Bytes delivered since the start.
    #[cfg(test)]
    fn delivered(&self) -> u64 {
        self.delivered
    }
}

impl RateMark {
    /// When the flight began, the bytes before the packet, and whether there was no more to send, of a packet that
    /// left before anything was delivered: all that its mark says.
    pub(super) fn of_first_flight(&self) -> Option<(Instant, u64, bool)> {
        let is_first = self.delivered == 0 && self.delivered_at == self.first_sent_at;
        is_first.then_some((self.first_sent_at, self.in_flight, self.app_limited))
    }

    /// The mark that says so.
    pub(super) fn in_first_flight(began: Instant, in_flight: u64, app_limited: bool) -> Self {
        let (delivered_at, first_sent_at) = (began, began);
        Self { delivered: 0, delivered_at, first_sent_at, app_limited, in_flight }
    }
    /// The packet left while the application had nothing more to send.
    pub(crate) fn app_limited(&self) -> bool {
        self.app_limited
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    const RTT: Duration = Duration::from_millis(50);

    #[test]
    /// spec-test: REC-17
    fn a_steady_flight_measures_the_bottleneck() {
        // 1000 bytes each millisecond through a pipe of 50 ms: 1 MB/s.
        let mut rate = DeliveryRate::default();
        let mut marks = Vec::new();
        let mut last = None;
        for ms in 0..300u64 {
            let in_flight = 1000 * ms.min(50);
            marks.push(rate.on_sent(at(ms), in_flight, false));
            if ms >= 50 {
                let sent = ms - 50;
                let mark = marks[sent as usize];
                last = rate.on_ack(at(ms), 1000, (at(sent), mark), RTT);
            }
        }
        let sample = last.expect("a sample");
        assert!((980_000..=1_020_000).contains(&sample.rate), "{sample:?}");
        assert!(!sample.app_limited);
    }

    #[test]
    /// spec-test: REC-17
    fn acknowledgements_in_a_burst_do_not_exceed_the_rate_of_sending() {
        let mut rate = DeliveryRate::default();
        let marks: Vec<_> = (0..50).map(|ms| rate.on_sent(at(ms), ms * 1000, false)).collect();
        // Everything is acknowledged at one instant, 100 ms after the start.
        let newest = (at(49), marks[49]);
        let sample = rate.on_ack(at(100), 50_000, newest, RTT).expect("a sample");
        assert_eq!(sample.rate, 500_000);
    }

    #[test]
    fn samples_of_a_quiet_application_are_marked_until_they_are_delivered() {
        let mut rate = DeliveryRate::default();
        let first = rate.on_sent(at(0), 0, false);
        assert!(!first.app_limited());
        rate.mark_app_limited(1000);
        let second = rate.on_sent(at(10), 1000, false);
        assert!(second.app_limited());
        rate.on_ack(at(50), 1000, (at(0), first), RTT);
        let sample = rate.on_ack(at(60), 1000, (at(10), second), RTT).expect("a sample");
        assert!(sample.app_limited);
        assert_eq!(rate.delivered(), 2000);
        assert!(!rate.on_sent(at(61), 0, false).app_limited());
    }

    #[test]
    fn intervals_below_the_round_trip_say_nothing() {
        let mut rate = DeliveryRate::default();
        let mark = rate.on_sent(at(0), 0, false);
        assert_eq!(rate.on_ack(at(10), 1000, (at(0), mark), RTT), None);
    }
}
