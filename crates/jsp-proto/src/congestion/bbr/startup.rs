//! Startup, which doubles in each round trip what is sent, and the drain after it.

use core::time::Duration;

use jsp_wire::{Instant, time};

use super::model::Round;
use super::{Bbr, LOSS_PACKETS, LOSS_SHARE, Phase, STARTUP_GAIN, Up};
use crate::congestion::AckSample;
use crate::pack::packed;

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

/// Packets of a train that must arrive before their spacing says how fast the bottleneck is.
const TRAIN_PACKETS: u64 = 5;

/// Packets that leave within this time of each other are a train, if the bottleneck stretches them
/// to more than twice the time: then the spacing is its own.
const TRAIN_TIME: Duration = Duration::from_millis(5);
const TRAIN_STRETCH: u32 = 2;

/// Whether startup has filled the pipe.
#[derive(Clone, Copy, Debug)]
pub(super) struct FullPipe {
    best: u64,
    rounds: u32,
    rounds_without: u8,
    train: Train,
}
packed!(FullPipe { best, rounds, rounds_without, train });

impl FullPipe {
    pub(super) fn new() -> Self {
        Self { best: 0, rounds: 0, rounds_without: 0, train: Train::default() }
    }

    /// A round has ended with this estimate; true when the pipe is full.
    fn on_round(&mut self, bandwidth: u64) -> bool {
        self.rounds = self.rounds.saturating_add(1);
        if bandwidth as f64 >= self.best as f64 * GROWTH {
            self.best = bandwidth;
            self.rounds_without = 0;
            return false;
        }
        self.rounds_without = self.rounds_without.saturating_add(1);
        self.rounds_without >= ROUNDS_WITHOUT_GROWTH
    }

    /// Bytes a second that the bottleneck seems to pass.
    pub(super) fn hint(&self) -> Option<u64> {
        self.train.rate
    }
}

/// The packets of the first flight leave at once; the bottleneck spaces them.
#[derive(Clone, Copy, Debug, Default)]
struct Train {
    /// When it left, and when the first news of it came.
    sent_at: Option<(Instant, Instant)>,
    /// Bytes that were acknowledged since.
    bytes: u64,
    rate: Option<u64>,
}
packed!(Train { sent_at, bytes, rate });

impl Train {
    fn on_ack(&mut self, now: Instant, sample: &AckSample, mtu: u64) {
        match self.sent_at {
            Some((sent_at, news_at)) if sample.largest_sent_at.since(sent_at) < TRAIN_TIME => {
                self.bytes = self.bytes.saturating_add(sample.bytes_acked);
                let length = sample.largest_sent_at.since(sent_at).saturating_mul(TRAIN_STRETCH);
                let arrived = now.since(news_at);
                if self.bytes >= mtu.saturating_mul(TRAIN_PACKETS) && arrived > length {
                    let nanos = u128::from(time::saturating_nanos(arrived)).max(1);
                    let rate = u128::from(self.bytes).saturating_mul(1_000_000_000) / nanos;
                    self.rate = self.rate.max(u64::try_from(rate).ok());
                }
            }
            _ => {
                self.sent_at = Some((sample.largest_sent_at, now));
                self.bytes = 0;
            }
        }
    }
}

impl Bbr {
    // spec: CC-13
    pub(super) fn step_startup(&mut self, now: Instant, sample: &AckSample, ended: Option<&Round>) {
        self.pipe.train.on_ack(now, sample, self.mtu);
        let full = match ended {
            Some(round) if !round.app_limited => self.pipe.on_round(self.model.bandwidth()),
            _ => false,
        };
        if full || self.startup_waits() {
            self.phase = Phase::Drain;
            self.step_drain(now, u64::MAX);
        }
    }

    /// Doubling, until the rate at which the bottleneck spaces packets is reached; from there on
    /// with care, because what is too much is seen a round trip late.
    pub(super) fn startup_gain(&self) -> f64 {
        let bandwidth = self.model.bandwidth().max(1);
        let hint = self.pipe.hint().map_or(f64::INFINITY, |hint| hint as f64 / bandwidth as f64);
        hint.clamp(GROWTH, STARTUP_GAIN)
    }

    /// Packets wait: the bottleneck is slower than what was sent a round trip ago.
    fn startup_waits(&self) -> bool {
        let rtt = self.model.rtt_min().unwrap_or_default();
        let rise = (rtt / RISE_DIVISOR).clamp(RISE_MIN, RISE_MAX);
        let round = self.model.round();
        // The first flight left at once, and waits for itself.
        let paced = self.pipe.rounds > 0;
        let waits = paced && round.samples >= SAMPLES_MIN && self.model.queue_delay() >= rise;
        let loses = self.losses.exceed(round.acked, LOSS_SHARE, LOSS_PACKETS);
        waits || (paced && loses && self.model.queue_delay() >= rise / 2)
    }

    /// Until what is in flight is what the path holds. Whether it holds more is asked at once:
    /// waiting ended startup, and may have ended it early.
    pub(super) fn step_drain(&mut self, now: Instant, in_flight: u64) {
        if in_flight <= self.pipe(1.0) {
            self.model.next_cycle();
            self.phase = Phase::Up(Up::new(now, &self.model, None));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MTU: u64 = 1000;

    fn at(micros: u64) -> Instant {
        Instant::from_nanos(micros * 1000)
    }

    /// Ten packets, sent `gap_out` apart and acknowledged `gap_in` apart, in microseconds.
    fn hint(gap_out: u64, gap_in: u64) -> Option<u64> {
        let mut train = Train::default();
        for n in 0..10 {
            let sample = AckSample {
                bytes_acked: MTU,
                in_flight: 0,
                largest_sent_at: at(n * gap_out),
                has_losses: false,
                has_rtt_sample: true,
                app_limited: false,
                queue_delay: None,
                rate: None,
                packets_acked: 1,
            };
            train.on_ack(at(50_000 + n * gap_in), &sample, MTU);
        }
        train.rate
    }

    #[test]
    /// spec-test: CC-13
    fn a_train_tells_the_rate_of_the_bottleneck() {
        assert_eq!(hint(0, 1000), Some(1_000_000));
        assert_eq!(hint(300, 1000), Some(1_000_000));
    }

    #[test]
    /// spec-test: CC-13
    fn spacing_that_is_the_senders_own_tells_nothing() {
        assert_eq!(hint(1000, 1000), None);
        assert_eq!(hint(6000, 20_000), None);
    }
}
