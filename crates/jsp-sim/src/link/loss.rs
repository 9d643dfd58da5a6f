//! Loss on the wire, after the queue: by chance, in bursts of time, or in bursts of packets.

use std::time::Duration;

use jsp_wire::Instant;

use crate::random::Random;

/// How a link loses packets.
#[derive(Clone, Debug, PartialEq, Default)]
pub enum Loss {
    /// It does not.
    #[default]
    None,
    /// Each packet by itself, with this probability.
    Random(f64),
    /// A Gilbert-Elliott chain that runs in time: good and bad states of exponential length. Quiet
    /// senders meet the same fades as busy ones.
    Fading {
        /// Mean length of the good state.
        good: Duration,
        /// Mean length of the bad state.
        bad: Duration,
        /// Probability of loss in the good state.
        loss_good: f64,
        /// Probability of loss in the bad state.
        loss_bad: f64,
    },
    /// A Gilbert-Elliott chain that takes one step a packet. It stands still while the sender is
    /// quiet; kept for comparison with published results.
    PerPacket {
        /// Probability of going from good to bad.
        enter: f64,
        /// Probability of going from bad to good.
        leave: f64,
        /// Probability of loss in the bad state.
        loss_bad: f64,
    },
}

impl Loss {
    /// A chain in time that loses `fraction` of all packets in fades of mean length `bad`, in which
    /// everything is lost.
    pub fn fading(fraction: f64, bad: Duration) -> Self {
        let good = bad.mul_f64((1.0 - fraction) / fraction);
        Self::Fading { good, bad, loss_good: 0.0, loss_bad: 1.0 }
    }
}

/// The state of a loss model.
#[derive(Clone, Debug)]
pub(super) struct LossState {
    model: Loss,
    is_bad: bool,
    /// When the state in time ends; `None` before the first packet.
    until: Option<Instant>,
}

impl LossState {
    pub(super) fn new(model: Loss) -> Self {
        Self { model, is_bad: false, until: None }
    }

    /// Whether the packet that leaves the queue at `now` is lost.
    pub(super) fn strikes(&mut self, now: Instant, random: &mut Random) -> bool {
        match self.model {
            Loss::None => false,
            Loss::Random(probability) => random.chance(probability),
            Loss::Fading { good, bad, loss_good, loss_bad } => {
                self.run_to(now, good, bad, random);
                random.chance(if self.is_bad { loss_bad } else { loss_good })
            }
            Loss::PerPacket { enter, leave, loss_bad } => {
                self.is_bad ^= random.chance(if self.is_bad { leave } else { enter });
                self.is_bad && random.chance(loss_bad)
            }
        }
    }

    fn run_to(&mut self, now: Instant, good: Duration, bad: Duration, random: &mut Random) {
        let mut until = match self.until {
            Some(until) => until,
            None => {
                // The chain has always been running: start in its stationary distribution.
                self.is_bad = random.chance(bad.as_secs_f64() / (good + bad).as_secs_f64());
                now + random.exponential(if self.is_bad { bad } else { good })
            }
        };
        while until <= now {
            self.is_bad = !self.is_bad;
            let length = random.exponential(if self.is_bad { bad } else { good });
            until = until + length.max(Duration::from_nanos(1));
        }
        self.until = Some(until);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fraction lost and mean length of a run of losses, in packets, of a steady flow.
    fn measure(model: Loss, gap: Duration, packets: u64) -> (f64, f64) {
        let mut state = LossState::new(model);
        let mut random = Random::new(11);
        let (mut lost, mut runs, mut was_lost) = (0u64, 0u64, false);
        let mut now = Instant::ZERO;
        for _ in 0..packets {
            let is_lost = state.strikes(now, &mut random);
            lost += u64::from(is_lost);
            runs += u64::from(is_lost && !was_lost);
            was_lost = is_lost;
            now = now + gap;
        }
        (lost as f64 / packets as f64, lost as f64 / runs.max(1) as f64)
    }

    #[test]
    fn random_loss_has_its_rate() {
        let (rate, run) = measure(Loss::Random(0.1), Duration::from_millis(1), 200_000);
        // Three standard deviations of a binomial with n = 200 000, p = 0.1 are 0.002.
        assert!((rate - 0.1).abs() < 0.002, "{rate}");
        assert!((run - 1.0 / 0.9).abs() < 0.02, "{run}");
    }

    #[test]
    fn fading_has_its_rate_and_its_burst_length_at_any_packet_rate() {
        for gap_us in [1_000, 10_000] {
            let bad = Duration::from_millis(30);
            let gap = Duration::from_micros(gap_us);
            let (rate, run) = measure(Loss::fading(0.05, bad), gap, 2_000_000);
            // About 3300 fades at least: the rate's standard deviation is about 2.5 % of it.
            assert!((rate - 0.05).abs() < 0.004, "{gap_us}: {rate}");
            // A fade that hits at all hits 1 / (1 - e^(-gap/bad)) packets on average.
            let expected = 1.0 / (1.0 - (-(gap_us as f64) / 30_000.0).exp());
            assert!((run / expected - 1.0).abs() < 0.08, "{gap_us}: {run} {expected}");
        }
    }

    #[test]
    fn the_chain_by_packets_has_its_rate() {
        let model = Loss::PerPacket { enter: 0.0175, leave: 0.333, loss_bad: 1.0 };
        let (rate, run) = measure(model, Duration::from_millis(10), 500_000);
        assert!((rate - 0.0175 / 0.3505).abs() < 0.002, "{rate}");
        assert!((run - 1.0 / 0.333).abs() < 0.1, "{run}");
    }

    #[test]
    fn no_loss_is_none() {
        assert_eq!(measure(Loss::None, Duration::from_millis(1), 1_000).0, 0.0);
    }
}
