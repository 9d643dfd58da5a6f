//! What losses and marks have shown to be too much (draft-ietf-ccwg-bbr, sections 5.3.3 and 5.5.10):
//! a bound on the flight that was learned by probing and lasts, and two that hold until the next
//! probe.

use crate::congestion::scale;
use crate::pack::packed;

/// What is left of a bound after congestion, at least (`Beta`).
pub(super) const BETA: f64 = 0.7;

/// Share of the lasting bound that is left to others while not probing (`Headroom`).
const HEADROOM: f64 = 0.15;

/// The lasting bound grows by 1, 2, 4, .. packets a round while a probe fills it; here it ends.
const SLOPE_MAX: u32 = 30;

/// Bounds of the model; none while nothing was ever too much.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bounds {
    /// Bytes in flight (`inflight_longterm`).
    long: Option<u64>,
    /// Bytes in flight (`inflight_shortterm`), and bytes a second (`bw_shortterm`).
    short: Option<u64>,
    rate: Option<u64>,
    /// How steeply the lasting bound grows, and bytes that arrived since it last did.
    slope: u32,
    acked: u64,
}
packed!(Bounds { long, short, rate, slope, acked });

impl Bounds {
    /// Bytes a second that the next probe may change.
    pub(super) fn rate(&self, bandwidth: u64) -> u64 {
        bandwidth.min(self.rate.unwrap_or(u64::MAX))
    }

    /// Congestion while not probing: go down towards what the path delivered last, in bytes a
    /// second and bytes in a round trip.
    // spec: CC-26
    pub(super) fn lower(&mut self, known: (u64, u64), delivered: (u64, u64)) {
        let rate = self.rate.unwrap_or(known.0);
        let flight = self.short.unwrap_or(known.1);
        self.rate = Some(delivered.0.max(scale(rate, BETA)).min(rate));
        self.short = Some(delivered.1.max(scale(flight, BETA)).min(flight));
    }

    /// A probe had `in_flight` bytes under way, and that was too much; `target` is what was meant.
    // spec: CC-24
    pub(super) fn too_high(&mut self, in_flight: u64, target: u64) {
        self.long = Some(in_flight.max(scale(target, BETA)));
    }

    /// Others fill the queue: keep to this many bytes in flight.
    // spec: CC-25
    pub(super) fn share(&mut self, flight: u64) {
        self.long = Some(flight);
    }

    /// A probe begins: what bounds for a short time is forgotten.
    // spec: CC-26
    pub(super) fn reset_short(&mut self) {
        self.short = None;
        self.rate = None;
        self.slope = 0;
        self.acked = 0;
    }

    /// So many bytes were in flight, and nothing was lost.
    pub(super) fn raise(&mut self, in_flight: u64) {
        self.long = self.long.map(|long| long.max(in_flight));
    }

    /// `acked` bytes of a probe arrived, which fills the lasting bound; `rounded` says that a round
    /// trip of it is over.
    // spec: CC-24
    pub(super) fn probe_upward(&mut self, acked: u64, window: u64, mtu: u64, rounded: bool) {
        let Some(long) = &mut self.long else { return };
        if rounded {
            self.slope = self.slope.saturating_add(1).min(SLOPE_MAX);
        }
        self.acked = self.acked.saturating_add(acked);
        let per_packet = (window >> self.slope).max(mtu).max(1);
        *long = long.saturating_add((self.acked / per_packet).saturating_mul(mtu));
        self.acked %= per_packet;
    }

    /// Bytes in flight that may be too much, while a probe explores them.
    pub(super) fn long(&self) -> u64 {
        self.long.unwrap_or(u64::MAX)
    }

    /// The lasting bound less what is left to others.
    pub(super) fn with_headroom(&self, mtu: u64) -> u64 {
        self.long.map_or(u64::MAX, |long| long.saturating_sub(scale(long, HEADROOM).max(mtu)))
    }

    /// Bytes in flight until the next probe.
    pub(super) fn short(&self) -> u64 {
        self.short.unwrap_or(u64::MAX)
    }

    /// What bounded before `self` and turned out wrong: the wider of both holds.
    pub(super) fn widen(&mut self, before: &Self) {
        let wider = |a: Option<u64>, b: Option<u64>| Some(a?.max(b?));
        self.long = wider(self.long, before.long);
        self.short = wider(self.short, before.short);
        self.rate = wider(self.rate, before.rate);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MTU: u64 = 1000;

    #[test]
    /// spec-test: CC-26
    fn congestion_lowers_to_what_was_delivered_but_not_below_beta() {
        let mut bounds = Bounds::default();
        bounds.lower((1000, 500), (900, 100));
        assert_eq!((bounds.rate(5000), bounds.short()), (900, 350));
        bounds.lower((1000, 500), (2000, 2000));
        assert_eq!((bounds.rate(5000), bounds.short()), (900, 350), "it never raises");
        bounds.reset_short();
        assert_eq!((bounds.rate(5000), bounds.short()), (5000, u64::MAX));
    }

    #[test]
    /// spec-test: CC-24
    fn the_lasting_bound_grows_faster_with_each_round_that_fills_it() {
        let mut bounds = Bounds::default();
        bounds.probe_upward(100 * MTU, 100 * MTU, MTU, true);
        assert_eq!(bounds.long(), u64::MAX, "there is none");
        bounds.too_high(50 * MTU, 100 * MTU);
        assert_eq!(bounds.long(), 70 * MTU);
        assert_eq!(bounds.with_headroom(MTU), 59_500);
        bounds.reset_short();
        let mut grown = Vec::new();
        for _ in 0..4 {
            let before = bounds.long();
            bounds.probe_upward(64 * MTU, 64 * MTU, MTU, true);
            grown.push((bounds.long() - before) / MTU);
        }
        assert_eq!(grown, [2, 4, 8, 16]);
        bounds.raise(10 * MTU);
        assert_eq!(bounds.long(), 100 * MTU);
        bounds.raise(120 * MTU);
        assert_eq!(bounds.long(), 120 * MTU);
    }

    #[test]
    /// spec-test: CC-11
    fn an_undone_bound_is_the_wider_one() {
        let mut bounds = Bounds::default();
        let before = bounds;
        bounds.lower((1000, 500), (0, 0));
        bounds.widen(&before);
        assert_eq!((bounds.rate(5000), bounds.short(), bounds.long()), (5000, u64::MAX, u64::MAX));
    }
}
