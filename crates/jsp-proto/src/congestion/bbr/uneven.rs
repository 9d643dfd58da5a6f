//! Whether the rate of the path is uneven by itself, as that of a mobile radio is: it stops for a tenth
//! of a second, then delivers several times what it did before. A queue that comes and goes there says
//! nothing of what we send, and a sender that keeps queues empty leaves each rise unused until it has
//! asked for it. On such a path the sender keeps what arrives in a *cushion* of time waiting: what
//! arrives is then always what the path delivers, and the window follows from it (the law of FAST TCP,
//! Wei et al., IEEE/ACM ToN 2006, with a cushion in time instead of packets).

use core::time::Duration;

use jsp_wire::Instant;

use super::model::Round;
use super::{Bbr, Bounds, Phase};
use crate::pack::packed;

/// Queues that came and went by themselves, and the time in which they did, that show it.
const EPISODES: usize = 3;
const EPISODES_WITHIN: Duration = Duration::from_secs(8);

/// Such a queue is there from one round to the next: one that flows build up grows by less.
const JUMP: Duration = Duration::from_millis(15);

/// One that stays longer is not of this kind.
const EPISODE_MAX: Duration = Duration::from_secs(2);

/// Time over which arrivals are averaged: pauses must not count as a rate.
const MEMORY: Duration = Duration::from_millis(400);

/// What is kept waiting: longer than most pauses of a radio, and no more than a call can bear.
const CUSHION_MAX: Duration = Duration::from_millis(100);
const CUSHION_MIN: Duration = Duration::from_millis(15);

/// What is left of the cushion after packets were lost while others waited, and by how much it grows
/// back in each round.
const CUSHION_LEFT: f64 = 0.7;
const CUSHION_GROWTH: Duration = Duration::from_micros(500);

/// The path is even again when waits have differed by less than this for so long.
const EVEN_SPREAD: Duration = Duration::from_millis(25);
const EVEN_FOR: Duration = Duration::from_secs(5);

/// Others fill the queue when nothing has waited less than this many cushions for so long.
const FOREIGN_CUSHIONS: u32 = 2;

/// What is known of the path's evenness.
#[derive(Clone, Copy, Debug)]
pub(super) struct Uneven {
    is_active: bool,
    /// When a queue began to stand.
    began: Option<Instant>,
    /// How long the packets of the round before had waited.
    wait_before: Duration,
    /// When the latest ones had gone.
    gone: [Option<Instant>; EPISODES],
    next: usize,
    /// Bytes a second that arrive, averaged.
    rate: f64,
    rate_at: Option<Instant>,
    cushion: Duration,
    /// Least and longest wait since then.
    spread: Option<(Duration, Duration)>,
    spread_since: Instant,
}
packed!(Uneven {
    is_active,
    began,
    wait_before,
    gone,
    next,
    rate,
    rate_at,
    cushion,
    spread,
    spread_since
});

/// What a look at the path came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Finding {
    Nothing,
    /// It is uneven.
    Uneven,
    /// It is even again.
    Even,
    /// Others fill the queue.
    Rivals,
}

impl Uneven {
    pub(super) fn new() -> Self {
        Self {
            is_active: false,
            began: None,
            wait_before: Duration::ZERO,
            gone: [None; EPISODES],
            next: 0,
            rate: 0.0,
            rate_at: None,
            cushion: CUSHION_MAX,
            spread: None,
            spread_since: Instant::ZERO,
        }
    }

    /// The path is uneven.
    pub(super) fn is_active(&self) -> bool {
        self.is_active
    }

    /// Bytes have arrived.
    pub(super) fn on_ack(&mut self, now: Instant, bytes: u64) {
        let passed = now.since(self.rate_at.unwrap_or(now));
        let kept = (-passed.as_secs_f64() / MEMORY.as_secs_f64()).exp();
        self.rate = self.rate * kept + bytes as f64 / MEMORY.as_secs_f64();
        self.rate_at = Some(now);
    }

    /// Packets were lost while others waited: the queue holds less than the cushion.
    pub(super) fn on_loss(&mut self) {
        self.cushion = self.cushion.mul_f64(CUSHION_LEFT).max(CUSHION_MIN);
    }

    /// A round has ended, of which every packet waited this long at least; `stands` says that this was
    /// longer than tolerated, `asks` that we sent more than the path was known to deliver.
    // spec: CC-41
    pub(super) fn on_round(
        &mut self,
        now: Instant,
        wait: Duration,
        stands: bool,
        asks: bool,
    ) -> Finding {
        if self.is_active {
            return self.watch(now, wait);
        }
        let jumped = wait >= self.wait_before.saturating_add(JUMP);
        self.wait_before = wait;
        if asks {
            self.began = None;
        } else if stands {
            self.began = self.began.or(jumped.then_some(now));
        } else if let Some(began) = self.began.take()
            && now.since(began) <= EPISODE_MAX
        {
            if let Some(slot) = self.gone.get_mut(self.next) {
                *slot = Some(now);
            }
            self.next = (self.next + 1) % EPISODES;
            let recent =
                |at: &Option<Instant>| at.is_some_and(|at| now.since(at) <= EPISODES_WITHIN);
            if self.gone.iter().all(recent) {
                self.is_active = true;
                self.cushion = CUSHION_MAX;
                self.forget_spread(now);
                return Finding::Uneven;
            }
        }
        Finding::Nothing
    }

    /// Whether it goes on to be uneven.
    fn watch(&mut self, now: Instant, wait: Duration) -> Finding {
        self.cushion = (self.cushion + CUSHION_GROWTH).min(CUSHION_MAX);
        let (least, longest) = self.spread.unwrap_or((wait, wait));
        let (least, longest) = (least.min(wait), longest.max(wait));
        self.spread = Some((least, longest));
        if now.since(self.spread_since) < EVEN_FOR {
            return Finding::Nothing;
        }
        self.forget_spread(now);
        if least > CUSHION_MAX.saturating_mul(FOREIGN_CUSHIONS) {
            self.end();
            return Finding::Rivals;
        }
        if longest.saturating_sub(least) < EVEN_SPREAD {
            self.end();
            return Finding::Even;
        }
        Finding::Nothing
    }

    fn forget_spread(&mut self, now: Instant) {
        self.spread = None;
        self.spread_since = now;
    }

    fn end(&mut self) {
        *self = Self { rate: self.rate, rate_at: self.rate_at, ..Self::new() };
    }

    /// Bytes in flight that keep the cushion full.
    // spec: CC-42
    pub(super) fn window(&self, rtt_min: Duration) -> u64 {
        (self.rate * (rtt_min + self.cushion).as_secs_f64()) as u64
    }
}

/// The minimum of the round-trip time is looked for when it was not confirmed for so long: a cushion
/// hides it, but for the times when the path is faster than before.
const RTT_MIN_AGE: Duration = Duration::from_secs(10);

impl Bbr {
    /// The window follows from what arrives, and from nothing else.
    pub(super) fn has_cushion(&self) -> bool {
        self.uneven.is_active() && !matches!(self.phase, Phase::Startup | Phase::ProbeRtt(_))
    }

    /// A round has ended that may tell of unevenness.
    // spec: CC-41
    pub(super) fn look_for_unevenness(&mut self, now: Instant, wait: Duration, stands: bool) {
        let asks = self.rivals.present() || !matches!(self.phase, Phase::Cruise(_));
        match self.uneven.on_round(now, wait, stands, asks) {
            Finding::Nothing => return,
            Finding::Uneven => {}
            Finding::Even => self.model.set_bandwidth(self.uneven.rate as u64),
            Finding::Rivals => self.rivals.come(now),
        }
        self.bounds = Bounds::default();
        self.undo = None;
        self.cruise(now);
    }

    /// There is nothing to probe for: what arrives is what the path delivers.
    pub(super) fn step_cushioned(&mut self, now: Instant, ended: Option<&Round>) {
        if ended.is_some() && self.model.rtt_min_age(now) > RTT_MIN_AGE {
            self.enter_probe_rtt(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn at(ms: u32) -> Instant {
        Instant::ZERO + MS * ms
    }

    /// Waits of 100 ms rounds, from `start` on; answers what was found in the last.
    fn rounds(uneven: &mut Uneven, start: u32, waits_ms: &[u32]) -> Finding {
        let mut found = Finding::Nothing;
        for (n, wait) in waits_ms.iter().enumerate() {
            let now = at(start + 100 * (n as u32 + 1));
            found = uneven.on_round(now, MS * *wait, *wait > 10, false);
        }
        found
    }

    #[test]
    /// spec-test: CC-41
    fn queues_that_come_and_go_are_the_paths_own() {
        let mut uneven = Uneven::new();
        let hiccup = [0, 80, 30, 0, 0];
        for start in [0, 1000] {
            assert_eq!(rounds(&mut uneven, start, &hiccup), Finding::Nothing);
        }
        assert_eq!(rounds(&mut uneven, 2000, &hiccup[..4]), Finding::Uneven);
        assert!(uneven.is_active());
        // Even for five seconds.
        assert_eq!(rounds(&mut uneven, 2400, &[95; 50]), Finding::Even);
        assert!(!uneven.is_active());
    }

    #[test]
    /// spec-test: CC-41
    fn a_queue_that_stays_or_comes_seldom_or_is_our_own_is_not() {
        let mut uneven = Uneven::new();
        rounds(&mut uneven, 0, &[50; 100]);
        assert_eq!(rounds(&mut uneven, 10_000, &[0]), Finding::Nothing, "it stayed");
        for n in 0..20 {
            assert_eq!(rounds(&mut uneven, 20_000 + n * 5000, &[50, 0]), Finding::Nothing, "{n}");
        }
        for n in 0..20 {
            let slow = rounds(&mut uneven, 200_000 + n * 1000, &[12, 24, 36, 48, 20, 0]);
            assert_eq!(slow, Finding::Nothing, "{n}");
        }
        for n in 0..20u32 {
            let start = 300_000 + n * 500;
            uneven.on_round(at(start), MS * 50, true, true);
            assert_eq!(uneven.on_round(at(start + 100), MS, false, true), Finding::Nothing);
        }
    }

    #[test]
    /// spec-test: CC-42
    fn the_window_is_what_arrives_in_a_round_trip_and_the_cushion() {
        let mut uneven = Uneven::new();
        for ms in 1..5000 {
            uneven.on_ack(at(ms), 1000);
        }
        let window = uneven.window(40 * MS);
        assert!((138_000..142_000).contains(&window), "{window}");
        for _ in 0..20 {
            uneven.on_loss();
        }
        let window = uneven.window(40 * MS);
        assert!((54_000..56_500).contains(&window), "{window}");
    }
}
