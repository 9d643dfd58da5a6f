//! HyStart++ (RFC 9406): leave slow start when the round-trip time rises, before anything is lost.

use core::time::Duration;

use jsp_wire::Instant;

/// A rise of the round-trip time counts from here, and from there at the latest
/// (RFC 9406, section 4.3, `MIN_RTT_THRESH`, `MAX_RTT_THRESH`).
const RISE_MIN: Duration = Duration::from_millis(4);
const RISE_MAX: Duration = Duration::from_millis(16);

/// Between the two, a rise of this fraction of the round-trip time counts (`MIN_RTT_DIVISOR`).
const RISE_DIVISOR: u32 = 8;

/// Samples that a round needs (`N_RTT_SAMPLE`).
const SAMPLES_MIN: u32 = 8;

/// Growth is this many times slower in conservative slow start (`CSS_GROWTH_DIVISOR`).
const CONSERVATIVE_DIVISOR: u64 = 4;

/// Rounds of conservative slow start (`CSS_ROUNDS`).
const CONSERVATIVE_ROUNDS: u32 = 5;

/// What slow start should do after an ACK.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Advice {
    /// Grow by this many bytes.
    Grow(u64),
    /// Go over to congestion avoidance.
    Exit,
}

/// The state of one slow start.
#[derive(Clone, Debug)]
pub(super) struct HyStart {
    /// The round ends when a packet sent after this is acknowledged.
    round_began: Option<Instant>,
    samples: u32,
    rtt_min: Duration,
    rtt_min_before: Duration,
    conservative: Option<Conservative>,
}

#[derive(Clone, Copy, Debug)]
struct Conservative {
    /// What the round-trip time had been when it was entered.
    baseline: Duration,
    rounds_left: u32,
}

impl HyStart {
    pub(super) fn new() -> Self {
        Self {
            round_began: None,
            samples: 0,
            rtt_min: Duration::MAX,
            rtt_min_before: Duration::MAX,
            conservative: None,
        }
    }

    /// Takes an ACK of `bytes`, the newest of which left at `sent_at`; `rtt` is a new sample.
    // spec: CC-3, CC-4
    pub(super) fn on_ack(
        &mut self,
        now: Instant,
        bytes: u64,
        sent_at: Instant,
        rtt: Option<Duration>,
    ) -> Advice {
        if self.round_began.is_none_or(|began| sent_at > began) && self.end_round(now) {
            return Advice::Exit;
        }
        if let Some(rtt) = rtt {
            self.samples = self.samples.saturating_add(1);
            self.rtt_min = self.rtt_min.min(rtt);
        }
        if self.samples >= SAMPLES_MIN {
            self.judge();
        }
        match self.conservative {
            None => Advice::Grow(bytes),
            Some(_) => Advice::Grow(bytes / CONSERVATIVE_DIVISOR),
        }
    }

    /// True when conservative slow start has had its rounds.
    fn end_round(&mut self, now: Instant) -> bool {
        self.round_began = Some(now);
        self.samples = 0;
        self.rtt_min_before = self.rtt_min;
        self.rtt_min = Duration::MAX;
        let Some(state) = &mut self.conservative else { return false };
        state.rounds_left = state.rounds_left.saturating_sub(1);
        state.rounds_left == 0
    }

    fn judge(&mut self) {
        match self.conservative {
            None => {
                let before = self.rtt_min_before;
                if before == Duration::MAX {
                    return;
                }
                let rise = (before / RISE_DIVISOR).clamp(RISE_MIN, RISE_MAX);
                if self.rtt_min >= before.saturating_add(rise) {
                    let baseline = self.rtt_min;
                    let rounds_left = CONSERVATIVE_ROUNDS;
                    self.conservative = Some(Conservative { baseline, rounds_left });
                }
            }
            // The rise was a spike: back to full speed.
            Some(state) if self.rtt_min < state.baseline => self.conservative = None,
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    /// One round of ten ACKs with this round-trip time; answers the last advice.
    fn round(hystart: &mut HyStart, start_ms: u64, rtt_ms: u64) -> Advice {
        let mut advice = Advice::Grow(0);
        for n in 0..10 {
            let now = at(start_ms + rtt_ms + n);
            let rtt = Some(Duration::from_millis(rtt_ms));
            advice = hystart.on_ack(now, 4000, at(start_ms + n), rtt);
            if advice == Advice::Exit {
                break;
            }
        }
        advice
    }

    #[test]
    /// spec-test: CC-3
    fn a_level_round_trip_time_keeps_full_speed() {
        let mut hystart = HyStart::new();
        for n in 0..20 {
            assert_eq!(round(&mut hystart, n * 200, 100), Advice::Grow(4000));
        }
    }

    #[test]
    /// spec-test: CC-3
    fn a_rise_slows_growth_and_five_rounds_later_slow_start_ends() {
        let mut hystart = HyStart::new();
        round(&mut hystart, 0, 100);
        assert_eq!(round(&mut hystart, 200, 100), Advice::Grow(4000));
        // 12.5 ms are an eighth of 100 ms, and 14 ms of 112.
        assert_eq!(round(&mut hystart, 400, 112), Advice::Grow(4000));
        assert_eq!(round(&mut hystart, 600, 126), Advice::Grow(1000));
        for n in 0..4 {
            assert_eq!(round(&mut hystart, 800 + n * 200, 130), Advice::Grow(1000), "{n}");
        }
        assert_eq!(round(&mut hystart, 1600, 130), Advice::Exit);
    }

    #[test]
    /// spec-test: CC-4
    fn a_spike_is_forgiven() {
        let mut hystart = HyStart::new();
        round(&mut hystart, 0, 50);
        assert_eq!(round(&mut hystart, 200, 60), Advice::Grow(1000));
        assert_eq!(round(&mut hystart, 400, 50), Advice::Grow(4000));
    }

    #[test]
    /// spec-test: CC-3
    fn small_rises_on_short_paths_do_not_count() {
        let mut hystart = HyStart::new();
        round(&mut hystart, 0, 1);
        assert_eq!(round(&mut hystart, 200, 4), Advice::Grow(4000));
        assert_eq!(round(&mut hystart, 400, 8), Advice::Grow(1000));
    }
}
