//! What is known about the path: how fast it delivers, how long it takes when nothing waits, how
//! long things wait at the moment, and how uneven acknowledgements come.

use core::time::Duration;

use jsp_wire::Instant;

use super::super::losses::Seen;
use super::super::{AckSample, bytes_in};
use crate::pack::packed;

/// Samples of the round-trip time from which the waiting time is judged: the least of them counts,
/// so that a single late packet is no queue.
const RECENT_SAMPLES: usize = 4;

/// Rounds for which the unevenness of acknowledgements is remembered, in two halves
/// (draft-ietf-ccwg-bbr, `ExtraAckedFilterLen`: 10).
const EXTRA_ACKED_ROUNDS: u64 = 5;

/// A round-trip time within this fraction of the minimum confirms the minimum; or, on short paths,
/// within the time by which hosts alone make it vary.
const CONFIRM_DIVISOR: u32 = 16;
const CONFIRM_MIN: Duration = Duration::from_micros(500);

/// The model of a path.
#[derive(Clone, Debug)]
pub(super) struct Model {
    /// Bytes a second: the most that was delivered since the last probe for more, and between the
    /// one before and that.
    rates: [u64; 2],
    /// Bytes a second that are taken for the most, whatever is seen.
    ceiling: Option<u64>,
    /// Bytes a second of the latest sample.
    rate_latest: u64,
    /// Bytes in flight when the packet of that sample left, and delivered since.
    in_flight: u64,
    delivered_latest: u64,
    rtt_min: Option<Duration>,
    /// When a sample last confirmed the minimum.
    rtt_confirmed_at: Instant,
    /// The longest round-trip times of the last rounds, in two halves.
    rtt_max: [Duration; 2],
    /// The latest samples of the round-trip time, in a ring.
    recent: [Duration; RECENT_SAMPLES],
    recent_at: usize,
    extra: ExtraAcked,
    round: Round,
    rounds: u64,
}
packed!(Model {
    rates,
    ceiling,
    rate_latest,
    in_flight,
    delivered_latest,
    rtt_min,
    rtt_confirmed_at,
    rtt_max,
    recent,
    recent_at,
    extra,
    round,
    rounds
});

/// What was seen in a round trip: from one packet's sending to its acknowledgement.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Round {
    /// The round ends when a packet sent after this is acknowledged.
    began: Option<Instant>,
    /// Least round-trip time, and of how many samples.
    pub(super) rtt_min: Option<Duration>,
    pub(super) samples: u32,
    /// Highest delivery rate, in bytes a second.
    pub(super) rate_max: u64,
    /// Bytes acknowledged.
    pub(super) acked: u64,
    /// The application set the pace at some time.
    pub(super) app_limited: bool,
}
packed!(Round { began, rtt_min, samples, rate_max, acked, app_limited });

impl Round {
    /// When it began; packets that are acknowledged in it left after the beginning of the one
    /// before.
    pub(super) fn began(&self) -> Option<Instant> {
        self.began
    }

    /// What losses are judged by.
    pub(super) fn seen(&self) -> Seen {
        Seen { acked: self.acked, rate_max: self.rate_max, app_limited: self.app_limited }
    }
}

/// How much more than the delivery rate explains arrives at once: networks and receivers collect
/// acknowledgements.
#[derive(Clone, Copy, Debug, Default)]
struct ExtraAcked {
    began: Option<Instant>,
    acked: u64,
    most: [u64; 2],
    rotated_at_round: u64,
}
packed!(ExtraAcked { began, acked, most, rotated_at_round });

impl Model {
    pub(super) fn new() -> Self {
        Self {
            rates: [0; 2],
            ceiling: None,
            rate_latest: 0,
            in_flight: 0,
            delivered_latest: 0,
            rtt_min: None,
            rtt_confirmed_at: Instant::ZERO,
            rtt_max: [Duration::ZERO; 2],
            recent: [Duration::ZERO; RECENT_SAMPLES],
            recent_at: 0,
            extra: ExtraAcked::default(),
            round: Round::default(),
            rounds: 0,
        }
    }

    /// Takes what an ACK says; answers the round that it ends, if it ends one.
    pub(super) fn on_ack(
        &mut self,
        now: Instant,
        sample: &AckSample,
        rtt: Duration,
    ) -> Option<Round> {
        let ended = self.take_round(now, sample.largest_sent_at);
        if sample.has_rtt_sample {
            self.on_rtt(now, rtt);
        }
        self.round.acked = self.round.acked.saturating_add(sample.bytes_acked);
        self.round.app_limited |= sample.app_limited;
        if let Some(rate) = sample.rate {
            self.rate_latest = rate.rate;
            self.in_flight = rate.sent_in_flight;
            self.delivered_latest = rate.delivered;
            self.round.rate_max = self.round.rate_max.max(rate.rate);
            // A quiet application does not make the path slower, but a fast sample is one.
            // spec: CC-15
            if !rate.app_limited || rate.rate > self.bandwidth() {
                let [current, _] = &mut self.rates;
                *current = (*current).max(rate.rate);
            }
        }
        self.on_aggregation(now, sample.bytes_acked);
        ended
    }

    fn take_round(&mut self, now: Instant, sent_at: Instant) -> Option<Round> {
        match self.round.began {
            Some(began) if sent_at <= began => None,
            began => {
                self.rounds = self.rounds.saturating_add(1);
                let fresh = Round { began: Some(now), ..Round::default() };
                let ended = core::mem::replace(&mut self.round, fresh);
                began.map(|_| ended)
            }
        }
    }

    /// The next round begins now: what ends it left after this.
    pub(super) fn restart_round(&mut self, now: Instant) {
        self.round.began = Some(now);
    }

    fn on_rtt(&mut self, now: Instant, rtt: Duration) {
        self.round.samples = self.round.samples.saturating_add(1);
        self.round.rtt_min = Some(self.round.rtt_min.map_or(rtt, |least| least.min(rtt)));
        let least = match self.rtt_min {
            Some(least) => least.min(rtt),
            None => {
                self.recent = [rtt; RECENT_SAMPLES];
                rtt
            }
        };
        if rtt <= least.saturating_add((least / CONFIRM_DIVISOR).max(CONFIRM_MIN)) {
            self.rtt_confirmed_at = now;
        }
        self.rtt_min = Some(least);
        let [longest, _] = &mut self.rtt_max;
        *longest = (*longest).max(rtt);
        if let Some(slot) = self.recent.get_mut(self.recent_at) {
            *slot = rtt;
        }
        self.recent_at = (self.recent_at + 1) % RECENT_SAMPLES;
    }

    fn on_aggregation(&mut self, now: Instant, acked: u64) {
        let expected = |began: Instant| bytes_in(self.bandwidth(), now.since(began));
        let fresh = self.extra.began.is_none_or(|began| self.extra.acked <= expected(began));
        if fresh {
            self.extra.began = Some(now);
            self.extra.acked = 0;
        }
        let due = self.extra.began.map_or(0, |began| bytes_in(self.bandwidth(), now.since(began)));
        self.extra.acked = self.extra.acked.saturating_add(acked);
        if self.rounds >= self.extra.rotated_at_round.saturating_add(EXTRA_ACKED_ROUNDS) {
            self.extra.rotated_at_round = self.rounds;
            let [current, _] = self.extra.most;
            self.extra.most = [0, current];
            let [current, _] = self.rtt_max;
            self.rtt_max = [Duration::ZERO, current];
        }
        let surplus = self.extra.acked.saturating_sub(due);
        let [current, _] = &mut self.extra.most;
        *current = (*current).max(surplus);
    }

    /// Bytes a second that the path delivers.
    pub(super) fn bandwidth(&self) -> u64 {
        let [current, before] = self.rates;
        current.max(before).min(self.ceiling.unwrap_or(u64::MAX))
    }

    /// Bytes a second of the latest sample.
    pub(super) fn rate_latest(&self) -> u64 {
        self.rate_latest
    }

    /// Bytes that were in flight when the packet of the latest sample left.
    pub(super) fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// Bytes that were delivered in the time of the latest sample: about a round trip.
    pub(super) fn delivered_latest(&self) -> u64 {
        self.delivered_latest
    }

    /// The path delivers `rate` bytes a second, whatever was seen before.
    pub(super) fn set_bandwidth(&mut self, rate: u64) {
        self.rates = [rate, 0];
    }

    /// The path delivers no more than this, whatever is seen; or that is no longer so.
    pub(super) fn set_ceiling(&mut self, ceiling: Option<u64>) {
        self.ceiling = ceiling;
    }

    /// The ceiling was chosen low: the path delivers `gain` times as much, and nothing beyond.
    pub(super) fn raise_ceiling(&mut self, gain: f64) {
        if let Some(ceiling) = self.ceiling {
            let ceiling = (ceiling as f64 * gain) as u64;
            self.ceiling = Some(ceiling);
            self.rates = [ceiling, 0];
        }
    }

    /// A probe for more has ended: what was seen before the last one is forgotten, unless nothing
    /// was seen since.
    pub(super) fn next_cycle(&mut self) {
        let [current, _] = self.rates;
        if current > 0 {
            self.rates = [0, current];
        }
    }

    /// The round-trip time when nothing waits; `None` before the first sample.
    pub(super) fn rtt_min(&self) -> Option<Duration> {
        self.rtt_min
    }

    /// The longest round-trip time of the last five to ten rounds.
    pub(super) fn rtt_max(&self) -> Duration {
        let [current, before] = self.rtt_max;
        current.max(before)
    }

    /// How long ago the minimum was seen, or nearly seen, last.
    pub(super) fn rtt_min_age(&self, now: Instant) -> Duration {
        now.since(self.rtt_confirmed_at)
    }

    /// The round-trip time when nothing waits is this, whatever was seen before.
    pub(super) fn set_rtt_min(&mut self, now: Instant, rtt: Duration) {
        self.rtt_min = Some(rtt);
        self.rtt_confirmed_at = now;
    }

    /// How long packets wait in queues at the moment.
    pub(super) fn queue_delay(&self) -> Duration {
        let least = self.recent.iter().min().copied().unwrap_or_default();
        least.saturating_sub(self.rtt_min.unwrap_or(least))
    }

    /// How long each packet of a round waited in queues.
    pub(super) fn standing_delay(&self, round: &Round) -> Duration {
        match (round.rtt_min, self.rtt_min) {
            (Some(least), Some(empty)) => least.saturating_sub(empty),
            _ => Duration::ZERO,
        }
    }

    /// Bytes that come beyond what the delivery rate explains.
    pub(super) fn extra_acked(&self) -> u64 {
        let [current, before] = self.extra.most;
        current.max(before)
    }

    /// Bytes in flight when the path is full and nothing waits.
    pub(super) fn bdp(&self) -> u64 {
        bytes_in(self.bandwidth(), self.rtt_min.unwrap_or_default())
    }

    /// Rounds so far.
    pub(super) fn rounds(&self) -> u64 {
        self.rounds
    }

    /// The round that goes on.
    pub(super) fn round(&self) -> &Round {
        &self.round
    }
}

/// Time that `bytes` take at `rate` bytes a second.
pub(super) fn time_of(bytes: u64, rate: u64) -> Duration {
    let nanos = u128::from(bytes).saturating_mul(1_000_000_000) / u128::from(rate.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}
