//! Startup, which doubles in each round trip what is sent, and the drain after it.

use core::time::Duration;

use jsp_wire::Instant;

use super::model::Round;
use super::{Bbr, LOSS_PACKETS, LOSS_SHARE, Phase, Up};

/// A round that delivers this much more than the best before has not found the end
/// (draft-ietf-ccwg-bbr, `BBRCheckStartupFullBandwidth`).
const GROWTH: f64 = 1.25;

/// Rounds without such growth after which the pipe is full.
const ROUNDS_WITHOUT_GROWTH: u8 = 3;

/// A rise of the round-trip time counts from here (RFC 9406, section 4.3, `MIN_RTT_THRESH`), and in
/// longer round trips from this fraction of it (`MIN_RTT_DIVISOR`).
const RISE_MIN: Duration = Duration::from_millis(4);
const RISE_DIVISOR: u32 = 8;

/// And from there at the latest (`MAX_RTT_THRESH`).
const RISE_MAX: Duration = Duration::from_millis(16);

/// Round-trip samples before which a rise says nothing.
const SAMPLES_MIN: u32 = 4;

/// Whether startup has filled the pipe.
#[derive(Clone, Copy, Debug)]
pub(super) struct FullPipe {
    best: u64,
    rounds_without: u8,
}

impl FullPipe {
    pub(super) fn new() -> Self {
        Self { best: 0, rounds_without: 0 }
    }

    /// A round has ended with this estimate; true when the pipe is full.
    fn on_round(&mut self, bandwidth: u64) -> bool {
        if bandwidth as f64 >= self.best as f64 * GROWTH {
            self.best = bandwidth;
            self.rounds_without = 0;
            return false;
        }
        self.rounds_without = self.rounds_without.saturating_add(1);
        self.rounds_without >= ROUNDS_WITHOUT_GROWTH
    }
}

impl Bbr {
    // spec: CC-13
    pub(super) fn step_startup(&mut self, now: Instant, ended: Option<&Round>) {
        let full = match ended {
            Some(round) if !round.app_limited => self.pipe.on_round(self.model.bandwidth()),
            _ => false,
        };
        if full || self.startup_waits() {
            self.phase = Phase::Drain;
            self.step_drain(now, u64::MAX);
        }
    }

    /// Packets wait: the bottleneck is slower than what was sent a round trip ago.
    fn startup_waits(&self) -> bool {
        let rtt = self.model.rtt_min().unwrap_or_default();
        let rise = (rtt / RISE_DIVISOR).clamp(RISE_MIN, RISE_MAX);
        let round = self.model.round();
        let waits = round.samples >= SAMPLES_MIN && self.model.queue_delay() >= rise;
        let loses = self.losses.exceed(round.acked, LOSS_SHARE, LOSS_PACKETS);
        waits || (loses && self.model.queue_delay() >= rise / 2)
    }

    /// Until what is in flight is what the path holds. Whether it holds more is asked at once:
    /// waiting ended startup, and may have ended it early.
    pub(super) fn step_drain(&mut self, now: Instant, in_flight: u64) {
        if in_flight <= self.model.bdp() {
            self.model.next_cycle();
            self.phase = Phase::Up(Up::new(now, &self.model));
        }
    }
}
