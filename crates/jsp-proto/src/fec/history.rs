//! How a path has lost packets in the last ten seconds: shares and lengths of bursts by the second.

use core::time::Duration;

use jsp_wire::Instant;

use super::{LossRun, Protection};

/// Seconds that are remembered.
const SLOTS: usize = 10;

/// Longest burst of each bucket, in packets; the last one takes all that is longer.
pub(crate) const BUCKETS: [u32; 13] = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 128];

/// A share of losses is taken of at least this many packets: one loss among few is no share.
const PACKETS_MIN: u32 = 100;

/// One second.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    /// Which second it is, counted from the start of time.
    second: u64,
    arrived: u32,
    lost: u32,
    /// Bursts by their length.
    runs: [u32; BUCKETS.len()],
    /// Queueing delay when bursts were found, summed up over them.
    queued: Duration,
    /// Packets that asked for protection, and those of them with a percentage of their own.
    protected: u32,
    fixed: u32,
}

/// What the last seconds say about losses.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(crate) struct Losses {
    /// Share of packets lost in the worst second, 0 to 1.
    pub(crate) share: f64,
    /// Bursts by their length, see [`BUCKETS`].
    pub(crate) runs: [u32; BUCKETS.len()],
    /// Mean queueing delay when packets were lost.
    pub(crate) queued: Duration,
}

impl Losses {
    /// The length that nine of ten bursts do not exceed, in packets; 0 without bursts.
    pub(crate) fn burst(&self) -> u32 {
        let total: u32 = self.runs.iter().fold(0, |sum, count| sum.saturating_add(*count));
        let mut seen = 0u32;
        for (count, len) in self.runs.iter().zip(BUCKETS) {
            seen = seen.saturating_add(*count);
            if *count > 0 && u64::from(seen) * 10 >= u64::from(total) * 9 {
                return len;
            }
        }
        0
    }
}

/// The history of one path.
#[derive(Debug)]
pub(crate) struct History {
    slots: [Slot; SLOTS],
    /// Something was lost since the last look.
    has_news: bool,
    /// Shortest life of a message in the packet sent last; `None` for those without an end.
    life: Option<Duration>,
    /// One of the messages in it is not sent again.
    once: bool,
}

impl History {
    pub(crate) fn new() -> Self {
        Self { slots: [Slot::default(); SLOTS], has_news: false, life: None, once: false }
    }

    fn slot(&mut self, now: Instant) -> Option<&mut Slot> {
        let second = second_of(now);
        let slot = self.slots.get_mut((second % SLOTS as u64) as usize)?;
        if slot.second != second {
            *slot = Slot { second, ..Slot::default() };
        }
        Some(slot)
    }

    /// A packet left that asks for protection.
    pub(crate) fn on_sent(&mut self, now: Instant, protection: &Protection) {
        let endless = protection.soonest == Instant::FAR_FUTURE;
        self.life = (!endless).then(|| protection.soonest.since(now));
        self.once = protection.once;
        if let Some(slot) = self.slot(now) {
            slot.protected = slot.protected.saturating_add(1);
            slot.fixed = slot.fixed.saturating_add(u32::from(protection.percent > 0));
        }
    }

    /// A burst has ended, or a stretch without one.
    pub(crate) fn on_run(&mut self, now: Instant, run: LossRun) {
        self.has_news |= run.lost > 0;
        let Some(slot) = self.slot(now) else { return };
        slot.arrived = slot.arrived.saturating_add(run.arrived);
        slot.lost = slot.lost.saturating_add(run.lost);
        if run.lost > 0 {
            let bucket = BUCKETS.iter().position(|len| run.lost <= *len);
            if let Some(count) = slot.runs.get_mut(bucket.unwrap_or(BUCKETS.len() - 1)) {
                *count = count.saturating_add(1);
            }
            slot.queued = slot.queued.saturating_add(run.queued);
        }
    }

    /// Whether anything was lost since this was asked last.
    pub(crate) fn take_news(&mut self) -> bool {
        core::mem::take(&mut self.has_news)
    }

    /// The last ten seconds.
    pub(crate) fn losses(&self, now: Instant) -> Losses {
        let mut losses = Losses::default();
        let mut bursts = 0u32;
        for slot in self.recent(now, SLOTS as u64) {
            let packets = slot.arrived.saturating_add(slot.lost).max(PACKETS_MIN);
            losses.share = losses.share.max(f64::from(slot.lost) / f64::from(packets));
            for (sum, count) in losses.runs.iter_mut().zip(slot.runs) {
                *sum = sum.saturating_add(count);
                bursts = bursts.saturating_add(count);
            }
            losses.queued = losses.queued.saturating_add(slot.queued);
        }
        losses.queued = losses.queued.checked_div(bursts).unwrap_or_default();
        losses
    }

    /// Packets a second that ask for protection: the busier of this second and the one before.
    pub(crate) fn rate(&self, now: Instant) -> f64 {
        let most = self.recent(now, 2).map(|slot| slot.protected).max();
        f64::from(most.unwrap_or(0))
    }

    /// Part of all packets that asks for protection, 0 to 1.
    pub(crate) fn part(&self, now: Instant) -> f64 {
        let (mut protected, mut all) = (0u32, 0u32);
        for slot in self.recent(now, SLOTS as u64) {
            protected = protected.saturating_add(slot.protected);
            all = all.saturating_add(slot.arrived).saturating_add(slot.lost);
        }
        if all == 0 { 1.0 } else { (f64::from(protected) / f64::from(all)).min(1.0) }
    }

    /// True when packets of late asked for a percentage of their own.
    pub(crate) fn has_fixed(&self, now: Instant) -> bool {
        self.recent(now, 2).any(|slot| slot.fixed > 0)
    }

    /// How long a message is worth sending, where there is an end to that.
    pub(crate) fn life(&self) -> Option<Duration> {
        self.life
    }

    /// Messages are not sent again when they are lost.
    pub(crate) fn once(&self) -> bool {
        self.once
    }

    fn recent(&self, now: Instant, seconds: u64) -> impl Iterator<Item = &Slot> {
        let second = second_of(now);
        let is_recent = move |slot: &&Slot| second.saturating_sub(slot.second) < seconds;
        self.slots.iter().filter(is_recent)
    }
}

fn second_of(now: Instant) -> u64 {
    now.as_nanos() / 1_000_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    fn run(arrived: u32, lost: u32) -> LossRun {
        LossRun { arrived, lost, queued: Duration::from_millis(u64::from(lost)) }
    }

    #[test]
    fn the_worst_second_counts_and_old_ones_are_forgotten() {
        let mut history = History::new();
        history.on_run(at(1_000), run(190, 10));
        history.on_run(at(2_500), run(999, 1));
        let losses = history.losses(at(3_000));
        assert!((losses.share - 0.05).abs() < 1e-9, "{losses:?}");
        assert_eq!(losses.burst(), 12);
        assert_eq!(losses.queued, Duration::from_micros(5_500));
        assert!(history.take_news() && !history.take_news());
        let later = history.losses(at(11_500));
        assert!((later.share - 0.001).abs() < 1e-9, "{later:?}");
        assert_eq!(later.burst(), 1);
        assert_eq!(history.losses(at(60_000)), Losses::default());
    }

    #[test]
    fn one_loss_among_few_packets_is_no_large_share() {
        let mut history = History::new();
        history.on_run(at(100), run(3, 1));
        assert!((history.losses(at(200)).share - 0.01).abs() < 1e-9);
    }

    #[test]
    fn the_ninth_decile_of_bursts_is_what_counts() {
        let mut history = History::new();
        for _ in 0..9 {
            history.on_run(at(0), run(100, 1));
        }
        history.on_run(at(0), run(100, 200));
        assert_eq!(history.losses(at(0)).burst(), 1);
        history.on_run(at(0), run(100, 3));
        assert_eq!(history.losses(at(0)).burst(), 3);
    }
}
