//! One-way delay of a path, as far as it can be known with two clocks that were never compared: how
//! much longer packets take than the fastest did, and where that is going.
//!
//! The constant between the clocks falls out of the difference from the minimum; their drift (100
//! ppm is a bad crystal) stays below 3 ms because the minimum is one of the last 20 to 30 s.

use core::time::Duration;

use jsp_wire::Instant;
use jsp_wire::frame::RECEIVE_TIME_UNIT;

use crate::pack::packed;
use crate::recovery::Arrival;

/// Minima are kept for this many slots, so long each.
const SLOTS: usize = 3;
const SLOT: Duration = Duration::from_secs(10);

/// Time over which the level follows the samples, in seconds: a few packets of a thin stream.
const LEVEL_SECONDS: f64 = 0.02;

/// Time over which the trend follows the level, in seconds.
const TREND_SECONDS: f64 = 0.1;

/// Steepest trend believed, in seconds a second: a path that stops altogether delays packets by as
/// much as time passes.
const TREND_MAX: f64 = 1.0;

/// Packets without whose times the minimum means nothing.
const SAMPLES_MIN: u32 = 4;

/// What is known of the one-way delay.
#[derive(Clone, Debug, Default)]
pub(crate) struct Owd {
    /// The latest sample: when it left, and its delay by the two clocks, in microseconds.
    last: Option<(Instant, i64)>,
    /// Least delays of the current slot and those before it.
    minima: [Option<i64>; SLOTS],
    slot_began: Instant,
    samples: u32,
    /// Delay above the minimum, in seconds, smoothed, and its trend, in seconds a second.
    level: f64,
    trend: f64,
}
packed!(Owd { last, minima, slot_began, samples, level, trend });

impl Owd {
    /// Takes the receive time of a packet. Samples of one ACK come in the order of sending.
    // spec: SEN-1
    pub(crate) fn on_arrival(&mut self, now: Instant, arrival: Arrival) {
        let delay = self.unwrap(arrival);
        self.note_minimum(now, delay);
        let above = seconds(delay.saturating_sub(self.minimum().unwrap_or(delay)));
        let (before, first) = match self.last {
            Some((sent_at, _)) => (arrival.sent_at.since(sent_at).as_secs_f64(), false),
            None => (0.0, true),
        };
        if first || before > 1.0 {
            // After a silence what was known is of another time.
            (self.level, self.trend) = (above, 0.0);
        } else {
            let expected = self.level + self.trend * before;
            let error = above - expected;
            self.level = expected + error * (before + 1e-3) / (before + 1e-3 + LEVEL_SECONDS);
            // Packets that left together say nothing about where it is going.
            if before > 0.0 {
                let trend = self.trend + error / (before + TREND_SECONDS);
                self.trend = trend.clamp(-TREND_MAX, TREND_MAX);
            }
        }
        if self.last.is_none_or(|(sent_at, _)| sent_at <= arrival.sent_at) {
            self.last = Some((arrival.sent_at, delay));
        }
        self.samples = self.samples.saturating_add(1);
    }

    /// The delay by the two clocks, in microseconds: of the times that the 16 bits may stand for, the
    /// one that makes it closest to the sample before.
    fn unwrap(&self, arrival: Arrival) -> i64 {
        let unit = i64::try_from(RECEIVE_TIME_UNIT.as_micros()).unwrap_or(1).max(1);
        let sent = micros(arrival.sent_at);
        let stamp = i64::from(arrival.stamp);
        let Some((_, before)) = self.last else {
            return stamp.saturating_mul(unit).saturating_sub(sent);
        };
        let expected = sent.saturating_add(before).div_euclid(unit);
        // The difference modulo 2^16, nearest to zero.
        let distance = (stamp.wrapping_sub(expected) as u16) as i16;
        let received = expected.saturating_add(i64::from(distance));
        received.saturating_mul(unit).saturating_sub(sent)
    }

    fn note_minimum(&mut self, now: Instant, delay: i64) {
        let mut turns = 0;
        while now.since(self.slot_began) >= SLOT && turns < SLOTS {
            self.minima.rotate_right(1);
            self.minima[0] = None;
            self.slot_began = self.slot_began + SLOT;
            turns += 1;
        }
        if now.since(self.slot_began) >= SLOT {
            self.slot_began = now;
        }
        self.minima[0] = Some(self.minima[0].map_or(delay, |least| least.min(delay)));
    }

    /// Nothing waits in queues now: what packets take is the way itself, though it was shorter once.
    // spec: CC-52
    pub(crate) fn on_empty_queue(&mut self, now: Instant) {
        let Some(least) = self.minimum() else { return };
        let above = (self.level * 1e6) as i64;
        self.minima = [Some(least.saturating_add(above.max(0))), None, None];
        self.slot_began = now;
        (self.level, self.trend) = (0.0, 0.0);
    }

    fn minimum(&self) -> Option<i64> {
        self.minima.iter().flatten().min().copied()
    }

    /// True once there is something to compare with.
    pub(crate) fn is_known(&self) -> bool {
        self.samples >= SAMPLES_MIN
    }

    /// How long packets wait in queues, going by those that arrived last.
    pub(crate) fn queue(&self) -> Duration {
        if !self.is_known() {
            return Duration::ZERO;
        }
        duration(self.level)
    }

    /// How long packets that leave `ahead` from now will wait if things go on as they do.
    // spec: SEN-2
    pub(crate) fn queue_in(&self, now: Instant, ahead: Duration) -> Duration {
        let Some((sent_at, _)) = self.last.filter(|_| self.is_known()) else {
            return Duration::ZERO;
        };
        // What is known is of the time when the latest sample left.
        let reach = now.since(sent_at).min(ahead).saturating_add(ahead);
        duration(self.level + self.trend * reach.as_secs_f64())
    }
}

fn micros(at: Instant) -> i64 {
    i64::try_from(at.as_nanos() / 1000).unwrap_or(i64::MAX)
}

fn seconds(micros: i64) -> f64 {
    micros as f64 / 1e6
}

fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    /// A packet that left at `sent` and took `delay`, by a clock that is `skew` ahead, all in
    /// milliseconds.
    fn arrival(sent: u64, delay: f64, skew: f64) -> Arrival {
        let units = (sent as f64 + delay + skew) * 1000.0 / 128.0;
        Arrival { sent_at: at(sent), stamp: units as u64 as u16 }
    }

    fn ms(duration: Duration) -> f64 {
        duration.as_secs_f64() * 1e3
    }

    #[test]
    // spec-test: SEN-1
    fn a_rise_is_seen_whatever_the_clocks_say() {
        for skew in [0.0, 4_000.0, 123_456_789.0] {
            let mut owd = Owd::default();
            for n in 0..100 {
                owd.on_arrival(at(n * 10 + 60), arrival(n * 10, 30.0, skew));
            }
            assert!(ms(owd.queue()) < 0.3, "{:?}", owd.queue());
            for n in 100..150 {
                owd.on_arrival(at(n * 10 + 60), arrival(n * 10, 130.0, skew));
            }
            assert!((ms(owd.queue()) - 100.0).abs() < 5.0, "{:?}", owd.queue());
        }
    }

    #[test]
    // spec-test: SEN-1
    fn clocks_that_drift_apart_make_no_queue() {
        let mut owd = Owd::default();
        for n in 0..60_000u64 {
            // 100 ppm.
            let drift = n as f64 * 10.0 * 1e-4;
            owd.on_arrival(at(n * 10 + 60), arrival(n * 10, 30.0 + drift, 0.0));
            assert!(ms(owd.queue()) < 3.5, "{n}: {:?}", owd.queue());
        }
    }

    #[test]
    // spec-test: SEN-2
    fn a_queue_that_grows_is_foreseen() {
        let mut owd = Owd::default();
        for n in 0..100 {
            owd.on_arrival(at(n * 10), arrival(n * 10, 30.0, 0.0));
        }
        // 0.5 s of queue a second.
        for n in 0..20 {
            owd.on_arrival(at(1000 + n * 10), arrival(1000 + n * 10, 30.0 + n as f64 * 5.0, 0.0));
        }
        let (queue, soon) =
            (ms(owd.queue()), ms(owd.queue_in(at(1190), Duration::from_millis(100))));
        assert!((85.0..=100.0).contains(&queue), "{queue}");
        assert!((130.0..=165.0).contains(&soon), "{soon}");
    }

    #[test]
    // spec-test: CC-52
    fn a_way_that_has_become_longer_is_no_queue_once_that_is_known() {
        let mut owd = Owd::default();
        for n in 0..100 {
            owd.on_arrival(at(n * 10), arrival(n * 10, 30.0, 0.0));
        }
        for n in 100..200 {
            owd.on_arrival(at(n * 10), arrival(n * 10, 60.0, 0.0));
        }
        assert!((ms(owd.queue()) - 30.0).abs() < 0.5, "{:?}", owd.queue());
        owd.on_empty_queue(at(2000));
        assert_eq!(owd.queue(), Duration::ZERO);
        for n in 200..300 {
            let delay = if n < 250 { 60.0 } else { 75.0 };
            owd.on_arrival(at(n * 10), arrival(n * 10, delay, 0.0));
        }
        assert!((ms(owd.queue()) - 15.0).abs() < 0.5, "{:?}", owd.queue());
        // And a way that is shorter after all shows by itself.
        owd.on_arrival(at(3000), arrival(3000, 30.0, 0.0));
        owd.on_arrival(at(3010), arrival(3010, 75.0, 0.0));
        assert!(ms(owd.queue()) > 10.0, "{:?}", owd.queue());
    }

    #[test]
    fn a_long_silence_and_a_wrap_of_the_stamp_do_no_harm() {
        let mut owd = Owd::default();
        for n in 0..10 {
            owd.on_arrival(at(n * 10 + 60), arrival(n * 10, 30.0, 0.0));
        }
        for n in 0..10 {
            let sent = 100_000 + n * 10;
            owd.on_arrival(at(sent + 60), arrival(sent, 30.0, 0.0));
        }
        assert!(ms(owd.queue()) < 0.3);
    }

    #[test]
    fn the_most_hostile_stamps_stay_within_bounds() {
        let mut owd = Owd::default();
        for n in 0..1000u64 {
            let stamp = (n * 40_503) as u16;
            owd.on_arrival(at(n), Arrival { sent_at: at(n), stamp });
            assert!(owd.queue() < Duration::from_secs(3600));
            assert!(owd.queue_in(at(n), Duration::from_millis(300)) < Duration::from_secs(3600));
        }
    }
}
