//! What real-time data may send although the window is full: a little, so that the first packet that can
//! get through again after an outage is on its way when it can. Probes alone are far apart by then.

use core::time::Duration;

use jsp_wire::Instant;

/// Datagrams of a trickle in a round trip: as many as the smallest window holds (CC-2, doubled for BBR).
const PER_ROUND_TRIP: u32 = 4;

/// Time between two of them at least: what a codec frames.
const INTERVAL_MIN: Duration = Duration::from_millis(20);

/// When the last datagram left beyond the window.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Trickle {
    last: Option<Instant>,
}

impl Trickle {
    /// When the next datagram may leave.
    // spec: CC-40
    pub(crate) fn next(self, rtt: Duration) -> Instant {
        let interval = (rtt / PER_ROUND_TRIP).max(INTERVAL_MIN);
        self.last.map_or(Instant::ZERO, |last| last + interval)
    }

    /// One left.
    pub(crate) fn on_sent(&mut self, now: Instant) {
        self.last = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    /// spec-test: CC-40
    fn a_trickle_is_thin() {
        let at = |ms: u64| Instant::ZERO + Duration::from_millis(ms);
        for (rtt_ms, interval) in [(10, 20), (60, 20), (200, 50)] {
            let rtt = Duration::from_millis(rtt_ms);
            let mut trickle = Trickle::default();
            assert!(trickle.next(rtt) <= at(1000));
            trickle.on_sent(at(1000));
            assert_eq!(trickle.next(rtt), at(1000 + interval), "{rtt_ms}");
        }
    }
}
