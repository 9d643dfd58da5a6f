//! Spreads packets over time: a token bucket that fills at the path's rate.
//!
//! For bulk the bucket holds ten packets, so that an initial window leaves at once, or five
//! milliseconds of the rate, so that a driver with timers of a millisecond reaches the rate and a batch
//! for segmentation offload fills up; for live media less.

use core::time::Duration;

use jsp_wire::Instant;

use crate::pack::packed;

/// How fast packets may leave, and how many at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Pace {
    /// Bytes a second.
    pub(crate) rate: u64,
    /// The bucket holds so many packets, and the bytes of this time.
    burst_packets: u64,
    burst_time: Duration,
}

impl Pace {
    /// Bulk: the initial window at any rate (RFC 9002, section 7.7). Timers are late by a few
    /// milliseconds on a busy machine, and what they are late must not be lost, because the rate is no
    /// higher than what the path delivers.
    pub(crate) fn bulk(rate: u64) -> Self {
        Self { rate, burst_packets: 10, burst_time: Duration::from_millis(5) }
    }

    /// Live media: frames are spread, so that they make no queue of their own. The rate has some
    /// room for late timers.
    pub(crate) fn media(rate: u64) -> Self {
        Self { rate, burst_packets: 3, burst_time: Duration::from_millis(2) }
    }

    /// Media behind a queue that marks what waits for a millisecond: no burst waits so long for itself.
    // spec: CC-49
    pub(crate) fn smooth(rate: u64) -> Self {
        Self { rate, burst_packets: 2, burst_time: Duration::from_millis(1) }
    }

    /// The same at this rate, if that is higher.
    pub(crate) fn at_least(self, rate: u64) -> Self {
        Self { rate: self.rate.max(rate), ..self }
    }
}

/// When the bucket is empty, wait for the bytes of this time, so that a fast path is served in
/// batches, not packet by packet.
const REFILL_TIME: Duration = Duration::from_millis(1);

/// A wake-up is worth at most this many bytes: one batch of segmentation offload.
const REFILL_MAX: u64 = 64 * 1024;

/// How long a stream sends before another one's turn, where its packets are not longer than that: a hundred streams
/// have had their turn after 5 ms.
const TURN_TIME: Duration = Duration::from_micros(50);

/// The pacer of a path. Bytes of the bucket are counted in billionths, that is, in bytes times
/// nanoseconds a second, so that nothing is lost to rounding.
#[derive(Clone, Debug)]
pub(crate) struct Pacer {
    /// Credit in byte-nanoseconds; negative after a packet that was larger than the bucket.
    credit: i128,
    /// When the credit was brought up to date; `None` before the first packet: the bucket is full.
    updated_at: Option<Instant>,
    /// The rate at that time, in bytes a second; zero before.
    rate: u64,
}
packed!(Pacer { credit, updated_at, rate });

const NANOS: i128 = 1_000_000_000;

impl Pacer {
    /// A full bucket.
    pub(crate) fn new() -> Self {
        Self { credit: 0, updated_at: None, rate: 0 }
    }

    /// Bytes that may leave now, at this pace with packets of `mtu` bytes; zero when not even one
    /// packet may.
    // spec: CC-10
    pub(crate) fn permit(&mut self, now: Instant, pace: Pace, mtu: usize) -> u64 {
        self.refill(now, pace, mtu);
        self.available(mtu)
    }

    /// The same without a look at the time: it tells the truth while the pacer is not [behind](Self::is_behind).
    pub(crate) fn available(&self, mtu: usize) -> u64 {
        let bytes = self.whole_bytes();
        if bytes >= mtu as u64 { bytes } else { 0 }
    }

    /// True when time has passed since the credit was brought up to date.
    pub(crate) fn is_behind(&self, now: Instant) -> bool {
        self.updated_at.is_none_or(|at| at < now)
    }

    /// Bytes that a stream may send before another one's turn, so that a round of many still does not take long.
    pub(crate) fn turn(&self) -> usize {
        usize::try_from(bytes_in(TURN_TIME, self.rate.into())).unwrap_or(usize::MAX)
    }

    /// `bytes` leave.
    pub(crate) fn on_sent(&mut self, bytes: usize) {
        self.credit = self.credit.saturating_sub((bytes as i128).saturating_mul(NANOS));
    }

    /// When the next packets may leave; `None` when they may now.
    pub(crate) fn next_release(&mut self, now: Instant, pace: Pace, mtu: usize) -> Option<Instant> {
        if self.permit(now, pace, mtu) > 0 {
            return None;
        }
        let rate = i128::from(pace.rate.max(1));
        let chunk = bytes_in(REFILL_TIME, rate).min(i128::from(REFILL_MAX)).max(mtu as i128);
        let missing = chunk.saturating_mul(NANOS).saturating_sub(self.credit).max(0);
        let nanos = missing.saturating_add(rate.saturating_sub(1)) / rate;
        Some(now + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
    }

    /// The credit in whole bytes; zero when there is none.
    fn whole_bytes(&self) -> u64 {
        // Division of 64 bits is much the faster, and nearly always enough.
        match u64::try_from(self.credit) {
            Ok(credit) => credit / NANOS as u64,
            Err(_) => u64::try_from(self.credit / NANOS).unwrap_or(0),
        }
    }

    fn refill(&mut self, now: Instant, pace: Pace, mtu: usize) {
        let rate = i128::from(pace.rate.max(1));
        let packets = (mtu as i128).saturating_mul(i128::from(pace.burst_packets));
        let capacity = bytes_in(pace.burst_time, rate).max(packets);
        let capacity = capacity.saturating_mul(NANOS);
        let gained = match self.updated_at {
            None => capacity,
            Some(at) => {
                let nanos = jsp_wire::time::saturating_nanos(now.since(at));
                rate.saturating_mul(i128::from(nanos))
            }
        };
        self.credit = self.credit.saturating_add(gained).min(capacity);
        self.updated_at = Some(now);
        self.rate = pace.rate;
    }
}

fn bytes_in(time: Duration, rate: i128) -> i128 {
    let nanos = jsp_wire::time::saturating_nanos(time);
    let small = u64::try_from(rate).ok().and_then(|rate| rate.checked_mul(nanos));
    match small {
        Some(product) => i128::from(product / NANOS as u64),
        None => rate.saturating_mul(i128::from(nanos)) / NANOS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MTU: usize = 1200;

    #[test]
    fn a_turn_is_fifty_microseconds_of_the_rate() {
        let mut pacer = Pacer::new();
        assert_eq!(pacer.turn(), 0);
        pacer.permit(Instant::ZERO, Pace::bulk(1_000_000_000), MTU);
        assert_eq!(pacer.turn(), 50_000);
        pacer.permit(Instant::ZERO, Pace::bulk(12_500_000), MTU);
        assert_eq!(pacer.turn(), 625);
    }

    /// Sends whatever is permitted for `time`, waking when told to. Answers the bytes, the number
    /// of wake-ups and the largest burst.
    fn run(rate: u64, time: Duration) -> (u64, u32, u64) {
        let mut pacer = Pacer::new();
        let (mut now, end) = (Instant::ZERO, Instant::ZERO + time);
        let (mut total, mut wakes, mut largest) = (0u64, 0u32, 0u64);
        while now < end {
            wakes += 1;
            let mut burst = 0u64;
            while pacer.permit(now, Pace::bulk(rate), MTU) >= MTU as u64 {
                pacer.on_sent(MTU);
                burst += MTU as u64;
            }
            total += burst;
            largest = largest.max(burst);
            now = pacer.next_release(now, Pace::bulk(rate), MTU).expect("the bucket is empty");
        }
        (total, wakes, largest)
    }

    #[test]
    /// spec-test: CC-10
    fn the_rate_is_kept_from_slow_to_fast() {
        for rate in [10_000u64, 1_000_000, 125_000_000, 1_250_000_000] {
            let (total, _, largest) = run(rate, Duration::from_secs(2));
            let burst = (rate / 200).max(10 * MTU as u64);
            let expected = 2 * rate;
            assert!(total >= expected - expected / 100, "{rate}: {total}");
            assert!(total <= expected + burst + MTU as u64 + rate / 1000, "{rate}: {total}");
            assert!(largest <= burst, "{rate}: {largest}");
        }
    }

    #[test]
    fn fast_paths_are_woken_for_batches() {
        let (total, wakes, _) = run(125_000_000, Duration::from_secs(1));
        // 125 MB in batches of at most 64 KiB.
        assert!(u64::from(wakes) <= total / (60 * 1024), "{wakes}");
    }

    #[test]
    fn an_initial_window_leaves_at_once_and_the_next_packet_waits() {
        let mut pacer = Pacer::new();
        for _ in 0..10 {
            assert!(pacer.permit(Instant::ZERO, Pace::bulk(1200), MTU) > 0);
            pacer.on_sent(MTU);
        }
        assert_eq!(pacer.permit(Instant::ZERO, Pace::bulk(1200), MTU), 0);
        let release = pacer.next_release(Instant::ZERO, Pace::bulk(1200), MTU);
        assert_eq!(release, Some(Instant::ZERO + Duration::from_secs(1)));
        let release = release.expect("checked above");
        assert_eq!(pacer.next_release(release, Pace::bulk(1200), MTU), None);
    }

    #[test]
    fn extreme_rates_and_times_do_not_overflow() {
        let mut pacer = Pacer::new();
        assert!(pacer.permit(Instant::ZERO, Pace::bulk(u64::MAX), 65_507) > 0);
        assert!(pacer.permit(Instant::FAR_FUTURE, Pace::bulk(u64::MAX), 65_507) > 0);
        pacer.on_sent(usize::MAX);
        pacer.on_sent(usize::MAX);
        assert_eq!(pacer.permit(Instant::FAR_FUTURE, Pace::bulk(0), MTU), 0);
        assert_eq!(
            pacer.next_release(Instant::FAR_FUTURE, Pace::bulk(0), MTU),
            Some(Instant::FAR_FUTURE)
        );
    }
}
