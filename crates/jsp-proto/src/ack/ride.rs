//! Acknowledgements that ride along in packets of one's own, and when the next one may wait for a later
//! packet.
//!
//! In a thin flow both ways every packet could take one along; there it costs a tenth of a small message,
//! and tells what the next one tells as well. Where packets are missing each is worth its bytes: it
//! says soon what need not be sent once more.

use core::time::Duration;

use jsp_wire::Instant;

use crate::pack::packed;

/// Share of missing packets from which each acknowledgement rides along as soon as it can.
const LOSSY: f64 = 0.02;

/// Packets that leave at shorter gaps than this take along enough of them in any case.
const THIN_GAP: Duration = Duration::from_micros(2_500);

/// Packets over which the share is averaged.
const SHARE_PACKETS: u32 = 400;

/// What is known of one's own packets, and of the peer's.
#[derive(Clone, Debug, Default)]
pub(super) struct Ride {
    /// Packets of the peer so far, up to [`SHARE_PACKETS`], and the share of them that is missing.
    seen: u32,
    missing: f64,
    /// When a packet last left, and the longer of the two gaps before.
    left_at: Option<Instant>,
    gaps: [Option<Duration>; 2],
}
packed!(Ride { seen, missing, left_at, gaps });

impl Ride {
    /// A packet arrived, and so many before it are missing.
    pub(super) fn on_packet(&mut self, missing: u64) {
        let missing = u32::try_from(missing).unwrap_or(SHARE_PACKETS).min(SHARE_PACKETS);
        let packets = missing.saturating_add(1);
        self.seen = self.seen.saturating_add(packets).min(SHARE_PACKETS);
        if missing == 0 && self.missing == 0.0 {
            return;
        }
        let weight = f64::from(packets) / f64::from(self.seen.max(packets));
        self.missing += (f64::from(missing) / f64::from(packets) - self.missing) * weight;
    }

    /// A packet leaves that could take an acknowledgement along.
    pub(super) fn on_leaving(&mut self, now: Instant) {
        if let Some(before) = self.left_at.replace(now) {
            self.gaps = [Some(now.since(before)), self.gaps[0]];
        }
    }

    /// When the next packet should leave, if packets leave regularly and acknowledgements may wait for it:
    /// few of the peer's packets are missing, or packets leave fast.
    pub(super) fn next(&self, now: Instant) -> Option<Instant> {
        let gap = self.gaps[0]?.max(self.gaps[1]?);
        let next = self.left_at? + gap.saturating_add(gap.checked_div(8).unwrap_or_default());
        let may_wait = self.missing < LOSSY || gap < THIN_GAP;
        (may_wait && next >= now).then_some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    #[test]
    fn packets_are_expected_when_they_leave_regularly_and_no_losses_call_for_haste() {
        let mut ride = Ride::default();
        (0..200).for_each(|_| ride.on_packet(0));
        for n in 0..3 {
            assert_eq!(ride.next(at(n * 16)), None);
            ride.on_leaving(at(n * 16));
        }
        assert_eq!(ride.next(at(40)), Some(at(50)));
        assert_eq!(ride.next(at(51)), None, "none left when it should have");
        // A number that is left out is no loss yet, a fade is.
        ride.on_packet(1);
        assert!(ride.next(at(40)).is_some());
        ride.on_packet(8);
        assert_eq!(ride.next(at(40)), None);
        let mut fast = ride.clone();
        (33..36).for_each(|n| fast.on_leaving(at(n)));
        assert!(fast.next(at(36)).is_some());
        for (gap_us, may_wait) in [(2_499, true), (2_500, false)] {
            let mut thin = ride.clone();
            let later = |n: u64| at(100) + Duration::from_micros(n * gap_us);
            (0..3).for_each(|n| thin.on_leaving(later(n)));
            assert_eq!(thin.next(later(2)).is_some(), may_wait, "{gap_us}");
        }
        (0..400).for_each(|_| ride.on_packet(0));
        assert!(ride.next(at(40)).is_some());
    }
}
