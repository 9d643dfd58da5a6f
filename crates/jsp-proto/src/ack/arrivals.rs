//! How many packets may go by between two acknowledgements of a fast stream.

use core::time::Duration;

use jsp_wire::Instant;

use super::{ADAPTIVE_AFTER, AckPolicy, DELAY_MIN};
use crate::pack::packed;

/// The adaptive rule lets at most this many packets go by: about 64 KiB of common size.
const THRESHOLD_ADAPTIVE_MAX: u64 = 44;

/// The bytes of that many packets, for packets that are larger: a sender whose packets have 64 KiB cannot wait for 44.
const BYTES_ADAPTIVE_MAX: u64 = 64 << 10;

/// Over this time the rate of arrival is counted.
const RATE_WINDOW: Duration = Duration::from_millis(10);

/// How fast ack-eliciting packets come in.
#[derive(Clone, Debug)]
pub(super) struct Arrivals {
    pub(super) total: u64,
    counted: u64,
    bytes: u64,
    since: Option<Instant>,
    /// Packets a second, in the last whole window, and bytes of a packet.
    rate: u64,
    len: u64,
    /// Time between two acknowledgements of a fast stream.
    pub(super) interval: Duration,
}
packed!(Arrivals { total, counted, bytes, since, rate, len, interval });

impl Arrivals {
    pub(super) fn new() -> Self {
        Self { total: 0, counted: 0, bytes: 0, since: None, rate: 0, len: 0, interval: DELAY_MIN }
    }

    pub(super) fn on_packet(&mut self, now: Instant) {
        self.total = self.total.saturating_add(1);
        let since = *self.since.get_or_insert(now);
        let elapsed = now.since(since);
        if elapsed >= RATE_WINDOW {
            let nanos = elapsed.as_nanos().max(1);
            let rate = u128::from(self.counted)
                .saturating_mul(1_000_000_000)
                .checked_div(nanos)
                .unwrap_or(0);
            self.rate = u64::try_from(rate).unwrap_or(u64::MAX);
            self.len = self.bytes.checked_div(self.counted).unwrap_or(0);
            (self.counted, self.bytes) = (0, 0);
            self.since = Some(now);
        }
        self.counted = self.counted.saturating_add(1);
    }

    /// Packets that arrive in one interval.
    pub(super) fn threshold(&self) -> u64 {
        if self.total < ADAPTIVE_AFTER {
            return 0;
        }
        let packets = u128::from(self.rate).saturating_mul(self.interval.as_nanos());
        let packets = u64::try_from(packets / 1_000_000_000).unwrap_or(u64::MAX);
        let most = BYTES_ADAPTIVE_MAX.checked_div(self.len).unwrap_or(THRESHOLD_ADAPTIVE_MAX);
        packets.min(THRESHOLD_ADAPTIVE_MAX).min(most)
    }
}

impl AckPolicy {
    /// An ack-eliciting packet that [`AckPolicy::on_packet`] took has so many bytes.
    pub(crate) fn on_bytes(&mut self, bytes: usize) {
        self.arrivals.bytes = self.arrivals.bytes.saturating_add(bytes as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many packets in bursts of five, each burst so long after the one before.
    fn arrive(arrivals: &mut Arrivals, now: &mut Instant, packets: u64, gap: Duration) {
        for number in 0..packets {
            arrivals.on_packet(*now);
            if number % 5 == 4 {
                *now = *now + gap;
            }
        }
    }

    #[test]
    fn as_many_packets_may_go_by_as_arrive_in_an_interval() {
        let mut arrivals = Arrivals { interval: Duration::from_millis(25), ..Arrivals::new() };
        let mut now = Instant::from_nanos(1);
        // A thousand a second.
        arrive(&mut arrivals, &mut now, ADAPTIVE_AFTER - 1, Duration::from_millis(5));
        assert_eq!(arrivals.threshold(), 0, "a new stream's packets are acknowledged as they come");
        arrive(&mut arrivals, &mut now, 1, Duration::from_millis(5));
        assert_eq!(arrivals.threshold(), 25, "the hundredth makes a stream of them");
        arrive(&mut arrivals, &mut now, 100, Duration::from_millis(5));
        assert_eq!(arrivals.threshold(), 25);
        arrivals.interval = Duration::from_millis(10);
        assert_eq!(arrivals.threshold(), 10);
        // Five times as fast: more than may ever go by; then slower than one in an interval.
        arrive(&mut arrivals, &mut now, 100, Duration::from_millis(1));
        assert_eq!((arrivals.threshold(), THRESHOLD_ADAPTIVE_MAX), (44, 44));
        arrive(&mut arrivals, &mut now, 10, Duration::from_secs(1));
        assert_eq!(arrivals.threshold(), 0);
    }

    #[test]
    // spec-test: ACK-13
    fn fewer_packets_may_go_by_when_they_are_large() {
        for (len, most) in [(1_200, 44), (1_489, 44), (8_952, 7), (65_507, 1)] {
            let mut arrivals = Arrivals { interval: Duration::from_millis(25), ..Arrivals::new() };
            let mut now = Instant::from_nanos(1);
            for _ in 0..100 {
                arrive(&mut arrivals, &mut now, 5, Duration::from_micros(500));
                (0..5).for_each(|_| arrivals.bytes += len);
            }
            assert_eq!(arrivals.threshold(), most, "{len}");
        }
    }
}
