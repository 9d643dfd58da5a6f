//! What real-time data may send although the window is full: a little, so that the first packet that can
//! get through again after an outage is on its way when it can. Probes alone are far apart by then.

use core::time::Duration;

use jsp_wire::Instant;

use crate::pack::packed;

/// Datagrams of a trickle in a round trip: as many as the smallest window holds (CC-2, doubled for BBR).
const PER_ROUND_TRIP: u32 = 4;

/// Time between two of them at least: what a codec frames.
const INTERVAL_MIN: Duration = Duration::from_millis(20);

/// Datagrams of a trickle in a row without a word of the peer about any packet: a minute of outage at
/// least. Each is kept until its fate is known, and a peer that never tells must not make that endless.
const UNHEARD_MAX: u32 = 4096;

/// When the last datagram left beyond the window.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Trickle {
    last: Option<Instant>,
    unheard: u32,
}
packed!(Trickle { last, unheard });

impl Trickle {
    /// When the next datagram may leave; `None` when none may until an acknowledgement comes.
    // spec: CC-40
    pub(crate) fn next(self, rtt: Duration) -> Option<Instant> {
        let interval = (rtt / PER_ROUND_TRIP).max(INTERVAL_MIN);
        let next = self.last.map_or(Instant::ZERO, |last| last + interval);
        (self.unheard < UNHEARD_MAX).then_some(next)
    }

    /// One left.
    pub(crate) fn on_sent(&mut self, now: Instant) {
        self.last = Some(now);
        self.unheard = self.unheard.saturating_add(1);
    }

    /// The peer acknowledges something that was not acknowledged before.
    pub(crate) fn on_acked(&mut self) {
        self.unheard = 0;
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
            assert!(trickle.next(rtt).unwrap() <= at(1000));
            trickle.on_sent(at(1000));
            assert_eq!(trickle.next(rtt), Some(at(1000 + interval)), "{rtt_ms}");
        }
    }

    #[test]
    /// spec-test: CC-40
    fn a_trickle_ends_where_nothing_is_heard() {
        let rtt = Duration::from_millis(50);
        let mut trickle = Trickle::default();
        for _ in 0..UNHEARD_MAX {
            assert!(trickle.next(rtt).is_some());
            trickle.on_sent(Instant::ZERO);
        }
        assert_eq!(trickle.next(rtt), None);
        trickle.on_acked();
        assert!(trickle.next(rtt).is_some());
    }
}
