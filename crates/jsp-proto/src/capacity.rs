//! What the network carries at the moment, for applications that choose how much to send.

use core::time::Duration;

use jsp_wire::Instant;

use crate::forecast::{Alarm, AlarmLevel};
use crate::pack::packed;
use crate::recovery::RateSample;

/// What a path carries, as far as it can be known.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Capacity {
    /// Highest rate at which the network has delivered within the last two seconds, in bytes a second
    /// of UDP payload. While `app_limited`, the network may carry more.
    pub delivery_rate: u64,
    /// How long packets wait in queues now, beyond what they take on the emptiest path.
    pub queue_delay: Duration,
    /// Lost packets of a million, over the last hundreds of packets.
    pub loss_ppm: u32,
    /// The application, not the network, set the pace when the rate was measured.
    pub app_limited: bool,
    /// How much the rate is worth, in percent: 0 when nothing was measured, 50 when the application
    /// set the pace, 90 when the network did, less when it was long ago.
    pub confidence_percent: u8,
    /// What the forecaster says.
    pub alarm: Alarm,
    /// What a media encoder should send now, in bytes a second of application data and headers
    /// together: a little below what the network delivers, less when queues grow or an alarm sounds,
    /// a quarter more while the application set the pace and nothing speaks against it.
    pub media_rate: u64,
}
packed!(Capacity {
    delivery_rate,
    queue_delay,
    loss_ppm,
    app_limited,
    confidence_percent,
    alarm,
    media_rate
});

/// Time after which a measurement is another second's.
const SLOT: Duration = Duration::from_secs(1);

/// Measurements older than this are worth less.
const STALE_AFTER: Duration = Duration::from_secs(3);

/// Advice never falls below this, in bytes a second: 64 kbit/s, which speech needs.
const MEDIA_RATE_MIN: u64 = 8_000;

/// A queue that media can live with.
const QUEUE_TARGET: Duration = Duration::from_millis(30);

/// Percent of the delivered rate that is advised: what the network is known to carry, less a margin in
/// which a queue drains.
const USUAL_PERCENT: u64 = 95;
/// The same while the application set the pace: so that it may find out what more there is.
const GROWTH_PERCENT: u64 = 125;
const WATCH_PERCENT: u64 = 85;
const DEGRADED_PERCENT: u64 = 60;

/// Advice is told when it falls by this many percent, or rises by so many; and then not again before
/// so long.
const FALL_PERCENT: u64 = 10;
const FALL_INTERVAL: Duration = Duration::from_millis(50);
const RISE_PERCENT: u64 = 15;
const RISE_INTERVAL: Duration = Duration::from_millis(500);

/// Measurements of the delivery rate of one path.
#[derive(Clone, Debug, Default)]
pub(crate) struct CapacityMeter {
    /// Best of this second and of the one before: bytes a second, and whether the application set the
    /// pace.
    best: [Option<(u64, bool)>; 2],
    slot_began: Instant,
    latest: u64,
    latest_at: Instant,
    told: Option<(Instant, Capacity)>,
}
packed!(CapacityMeter { best, slot_began, latest, latest_at, told });

/// What else is known of the path.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Senses {
    pub(crate) queue_delay: Duration,
    pub(crate) loss: f64,
    pub(crate) alarm: Alarm,
    /// What the congestion controller says about media, if it is made for that.
    pub(crate) advice: Option<u64>,
}

impl CapacityMeter {
    /// A sample of the delivery rate.
    pub(crate) fn on_sample(&mut self, now: Instant, sample: &RateSample) {
        if now.since(self.slot_began) >= SLOT {
            let is_next = now.since(self.slot_began) < SLOT * 2;
            self.best = [None, if is_next { self.best[0] } else { None }];
            self.slot_began = now;
        }
        let best = self.best[0].get_or_insert((0, true));
        if sample.rate > best.0 {
            *best = (sample.rate, sample.app_limited);
        }
        let eighths = self.latest.saturating_mul(7).saturating_add(sample.rate) / 8;
        self.latest = if self.latest == 0 { sample.rate } else { eighths };
        self.latest_at = now;
    }

    /// What the path carries.
    pub(crate) fn capacity(&self, now: Instant, senses: &Senses) -> Capacity {
        let best = self.best.iter().flatten().max_by_key(|(rate, _)| *rate);
        let (delivery_rate, app_limited) = best.copied().unwrap_or((0, true));
        let is_stale = now.since(self.latest_at) > STALE_AFTER;
        let confidence_percent = match (best, app_limited, is_stale) {
            (None, ..) => 0,
            (_, _, true) => 25,
            (_, true, _) => 50,
            (_, false, _) => 90,
        };
        Capacity {
            delivery_rate,
            queue_delay: senses.queue_delay,
            loss_ppm: (senses.loss.clamp(0.0, 1.0) * 1e6) as u32,
            app_limited,
            confidence_percent,
            alarm: senses.alarm,
            media_rate: self.media_rate(delivery_rate, app_limited, senses),
        }
    }

    fn media_rate(&self, delivery_rate: u64, app_limited: bool, senses: &Senses) -> u64 {
        if let Some(advice) = senses.advice {
            return advice.max(MEDIA_RATE_MIN);
        }
        let (base, percent) = match senses.alarm.level {
            AlarmLevel::Clear if senses.queue_delay > QUEUE_TARGET => (self.latest, USUAL_PERCENT),
            AlarmLevel::Clear if app_limited => (delivery_rate, GROWTH_PERCENT),
            AlarmLevel::Clear => (delivery_rate, USUAL_PERCENT),
            AlarmLevel::Watch => (self.latest, WATCH_PERCENT),
            AlarmLevel::Degraded => (self.latest, DEGRADED_PERCENT),
        };
        // Less by a quarter for each target that the queue is above it, by half at most: so it drains in a
        // few round trips.
        let queue = u64::try_from(senses.queue_delay.as_micros()).unwrap_or(u64::MAX);
        let target = u64::try_from(QUEUE_TARGET.as_micros()).unwrap_or(1).max(1);
        let over = queue.saturating_sub(target).min(target.saturating_mul(2));
        let percent = percent.saturating_mul(target.saturating_mul(4).saturating_sub(over))
            / target.saturating_mul(4);
        (base.saturating_mul(percent) / 100).max(MEDIA_RATE_MIN)
    }

    /// The capacity, when it is another than the application was told: by 10 percent down, at most
    /// every 50 ms, or by 15 up, at most every 500 ms.
    pub(crate) fn news(&mut self, now: Instant, senses: &Senses) -> Option<Capacity> {
        if self.latest == 0 {
            return None;
        }
        let capacity = self.capacity(now, senses);
        if let Some((told_at, told)) = &self.told {
            let (old, new) = (told.media_rate, capacity.media_rate);
            let waited = now.since(*told_at);
            let falls = new <= part(old, 100 - FALL_PERCENT) && waited >= FALL_INTERVAL;
            let rises = new >= part(old, 100 + RISE_PERCENT) && waited >= RISE_INTERVAL;
            if !falls && !rises {
                return None;
            }
        }
        self.told = Some((now, capacity));
        Some(capacity)
    }
}

fn part(rate: u64, percent: u64) -> u64 {
    rate.saturating_mul(percent) / 100
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forecast::AlarmCause;

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    fn sample(rate: u64, app_limited: bool) -> RateSample {
        RateSample {
            rate,
            delivered: 1000,
            prior_delivered: 0,
            sent_in_flight: 0,
            interval: Duration::from_millis(50),
            app_limited,
        }
    }

    const CALM: Senses = Senses {
        queue_delay: Duration::ZERO,
        loss: 0.01,
        alarm: Alarm { level: AlarmLevel::Clear, cause: None },
        advice: None,
    };

    #[test]
    fn the_rate_is_the_best_of_two_seconds_and_says_who_set_the_pace() {
        let mut meter = CapacityMeter::default();
        assert_eq!(meter.capacity(at(0), &CALM).confidence_percent, 0);
        meter.on_sample(at(10), &sample(100_000, true));
        let first = meter.capacity(at(20), &CALM);
        assert_eq!((first.delivery_rate, first.app_limited), (100_000, true));
        assert_eq!((first.confidence_percent, first.media_rate), (50, 125_000));
        assert_eq!(first.loss_ppm, 10_000);
        meter.on_sample(at(500), &sample(200_000, false));
        let second = meter.capacity(at(500), &CALM);
        assert_eq!((second.delivery_rate, second.media_rate), (200_000, 190_000));
        assert_eq!(second.confidence_percent, 90);
        for ms in (1000..4000).step_by(100) {
            meter.on_sample(at(ms), &sample(50_000, false));
        }
        assert_eq!(meter.capacity(at(4000), &CALM).delivery_rate, 50_000);
        assert_eq!(meter.capacity(at(9000), &CALM).confidence_percent, 25);
    }

    #[test]
    fn alarms_and_queues_lower_the_advice_but_never_to_nothing() {
        let mut meter = CapacityMeter::default();
        meter.on_sample(at(10), &sample(100_000, false));
        let advice = |level, queue_ms| {
            let alarm = Alarm { level, cause: Some(AlarmCause::AckSilence) };
            let queue_delay = Duration::from_millis(queue_ms);
            meter.capacity(at(20), &Senses { queue_delay, alarm, ..CALM }).media_rate
        };
        assert_eq!(advice(AlarmLevel::Clear, 30), 95_000);
        assert_eq!(advice(AlarmLevel::Watch, 30), 85_000);
        assert_eq!(advice(AlarmLevel::Degraded, 30), 60_000);
        assert!(advice(AlarmLevel::Degraded, 500) < 40_000);
        let starved = CapacityMeter::default();
        assert_eq!(starved.capacity(at(0), &CALM).media_rate, MEDIA_RATE_MIN);
    }

    #[test]
    fn small_changes_are_not_told_and_rises_not_often() {
        let mut meter = CapacityMeter::default();
        assert_eq!(meter.news(at(0), &CALM), None);
        meter.on_sample(at(10), &sample(100_000, false));
        assert!(meter.news(at(10), &CALM).is_some());
        meter.on_sample(at(100), &sample(110_000, false));
        assert_eq!(meter.news(at(700), &CALM), None);
        meter.on_sample(at(701), &sample(200_000, false));
        assert!(meter.news(at(701), &CALM).is_some());
        meter.on_sample(at(702), &sample(400_000, false));
        assert_eq!(meter.news(at(1200), &CALM), None);
        assert!(meter.news(at(1201), &CALM).is_some());
        let alarm = Alarm { level: AlarmLevel::Degraded, cause: Some(AlarmCause::AckSilence) };
        let worse = Senses { alarm, ..CALM };
        assert_eq!(meter.news(at(1250), &worse), None);
        assert!(meter.news(at(1251), &worse).is_some());
    }
}
