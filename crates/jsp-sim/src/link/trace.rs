//! Links whose rate was recorded, or made up to behave like recorded ones.
//!
//! A trace lists instants at which one packet of full size may leave: the format of the Mahimahi
//! emulator (Netravali et al., USENIX ATC 2015), one integer a line, in milliseconds. Opportunities
//! that nobody uses are lost, and the list begins anew at its end.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::Duration;

use flate2::read::GzDecoder;
use jsp_wire::Instant;

use crate::random::Random;

/// Bytes that leave at one opportunity, headers of IP and UDP included.
pub const OPPORTUNITY_BYTES: u64 = 1_500;
/// Longer silences are artefacts of the recording, and are cut out; in milliseconds.
const GAP_MAX_MS: u64 = 5_000;

/// A sequence of opportunities to send that repeats without end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// Milliseconds since the start, in order.
    opportunities: Vec<u64>,
    period_ms: u64,
}

impl Trace {
    /// The trace of these milliseconds; it ends with the last of them. Silences of more than five
    /// seconds are cut out.
    pub fn new(mut opportunities: Vec<u64>) -> Self {
        opportunities.sort_unstable();
        let (mut cut, mut last) = (0, 0);
        for at in &mut opportunities {
            let gap = *at - last;
            last = *at;
            if gap > GAP_MAX_MS {
                cut += gap - 1;
            }
            *at -= cut;
        }
        if opportunities.is_empty() {
            opportunities.push(1);
        }
        let period_ms = opportunities.last().copied().unwrap_or_default().max(1);
        Self { opportunities, period_ms }
    }

    /// Reads a trace in Mahimahi's format, compressed with gzip when the name ends so.
    ///
    /// # Errors
    /// When the file cannot be read, or a line is no integer.
    pub fn read(path: &Path) -> io::Result<Self> {
        let mut text = String::new();
        let mut file = File::open(path)?;
        if path.extension().is_some_and(|extension| extension == "gz") {
            GzDecoder::new(file).read_to_string(&mut text)?;
        } else {
            file.read_to_string(&mut text)?;
        }
        Self::parse(&text)
    }

    /// Reads the text of a trace.
    ///
    /// # Errors
    /// When a line is no integer.
    pub fn parse(text: &str) -> io::Result<Self> {
        let numbers = text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::parse);
        let numbers: Result<Vec<u64>, _> = numbers.collect();
        numbers
            .map(Self::new)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))
    }

    /// A link like LTE in motion: a rate that wanders on a logarithmic scale around `mean_bps`,
    /// deeper dips that last for a second or so, and outages of 0.1 to 1.5 s every half minute.
    pub fn cellular(seed: u64, mean_bps: u64, lasts: Duration) -> Self {
        /// Milliseconds between changes of the rate.
        const STEP_MS: u64 = 20;
        /// How fast the rate returns to its mean, a step: a time constant of two seconds.
        const RETURN: f64 = 0.01;
        /// How far it strays a step, as a logarithm: a spread of about a factor of two in all.
        const STRAY: f64 = 0.1;
        let mut random = Random::part(seed, "cellular", 0);
        let mut opportunities = Vec::new();
        let (mut level, mut credit) = (0.0_f64, 0.0_f64);
        let (mut dip_until, mut out_until) = (0, 0);
        for start in (0..lasts.as_millis() as u64).step_by(STEP_MS as usize) {
            // The sum of two uniform numbers is near enough to a normal one.
            let shock = random.fraction() + random.fraction() - 1.0;
            level += shock * STRAY * 2.45 - level * RETURN;
            if random.chance(STEP_MS as f64 / 8_000.0) {
                dip_until = start + random.between(300, 2_000);
            }
            if random.chance(STEP_MS as f64 / 30_000.0) {
                out_until = start + random.log_between(100, 1_500);
            }
            if start < out_until {
                continue;
            }
            let dip = if start < dip_until { 0.2 } else { 1.0 };
            let bps = mean_bps as f64 * level.clamp(-2.5, 1.2).exp() * dip;
            for ms in start..start + STEP_MS {
                credit += bps / 1e3 / (OPPORTUNITY_BYTES * 8) as f64;
                while credit >= 1.0 {
                    credit -= 1.0;
                    opportunities.push(ms);
                }
            }
        }
        Self::new(opportunities)
    }

    /// How long the trace lasts before it begins anew.
    pub fn period(&self) -> Duration {
        Duration::from_millis(self.period_ms)
    }

    /// Mean rate in bits per second.
    pub fn mean_bps(&self) -> u64 {
        self.opportunities.len() as u64 * OPPORTUNITY_BYTES * 8 * 1_000 / self.period_ms
    }

    /// The first opportunity at or after an instant; they are counted from 0 on without end.
    pub(super) fn first_from(&self, at: Instant) -> u64 {
        let ms = at.as_nanos().div_ceil(1_000_000);
        let (turns, rest) = (ms / self.period_ms, ms % self.period_ms);
        // The last opportunity of a turn falls on the first millisecond of the next.
        let (turns, rest) =
            if rest == 0 && turns > 0 { (turns - 1, self.period_ms) } else { (turns, rest) };
        let index = self.opportunities.partition_point(|opportunity| *opportunity < rest);
        turns * self.opportunities.len() as u64 + index as u64
    }

    /// When an opportunity is.
    pub(super) fn at(&self, opportunity: u64) -> Instant {
        let count = self.opportunities.len() as u64;
        let within = self.opportunities[(opportunity % count) as usize];
        let ms = (opportunity / count) * self.period_ms + within;
        Instant::from_nanos(ms * 1_000_000)
    }

    /// How long a packet waits that comes at an instant and finds nobody before it.
    pub fn idle_wait(&self, at: Instant) -> Duration {
        self.at(self.first_from(at)).since(at)
    }

    /// Silences longer than `least` that fall into the time between two instants, be it in part: when
    /// each begins and how long it lasts.
    pub fn silences(
        &self,
        from: Instant,
        to: Instant,
        least: Duration,
    ) -> Vec<(Instant, Duration)> {
        let (first, last) = (self.first_from(from), self.first_from(to));
        let gap = |index: u64| (self.at(index), self.at(index + 1).since(self.at(index)));
        (first.saturating_sub(1)..last).map(gap).filter(|(_, length)| *length > least).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    #[test]
    fn opportunities_are_found_and_repeat() {
        let trace = Trace::parse("1\n2\n2\n\n10\n").unwrap();
        let found: Vec<_> = [0, 2, 3, 10, 11, 12].map(|ms| trace.first_from(at(ms))).to_vec();
        assert_eq!(found, [0, 1, 3, 3, 4, 5]);
        let times: Vec<_> = (0..6).map(|index| trace.at(index)).collect();
        assert_eq!(times, [1, 2, 2, 10, 11, 12].map(at));
        let waits = [0, 2, 3, 10, 11].map(|ms| trace.idle_wait(at(ms)).as_millis());
        assert_eq!(waits, [1, 0, 7, 0, 0]);
        assert_eq!(
            trace.silences(at(0), at(12), Duration::from_millis(5)),
            [(at(2), Duration::from_millis(8))]
        );
        assert!(Trace::parse("1\nx\n").is_err());
    }

    #[test]
    fn long_silences_are_cut_out() {
        let trace = Trace::new(vec![1, 2, 90_002, 90_003]);
        assert_eq!(trace.period(), Duration::from_millis(4));
    }

    #[test]
    fn a_made_up_link_has_its_mean_its_dips_and_its_outages() {
        let trace = Trace::cellular(7, 6_000_000, Duration::from_secs(300));
        assert_eq!(trace, Trace::cellular(7, 6_000_000, Duration::from_secs(300)));
        assert_ne!(trace, Trace::cellular(8, 6_000_000, Duration::from_secs(300)));
        let mean = trace.mean_bps();
        assert!((3_000_000..9_000_000).contains(&mean), "{mean}");
        let outages = trace.silences(at(0), at(300_000), Duration::from_millis(100));
        assert!((3..=60).contains(&outages.len()), "{outages:?}");
        assert!(outages.iter().all(|(_, length)| length.as_millis() <= 2_500), "{outages:?}");
    }
}
