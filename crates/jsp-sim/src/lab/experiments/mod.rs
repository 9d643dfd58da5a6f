//! Does a mechanism help? The same worlds with it and without it, seed by seed, and the 95 %
//! confidence interval of the difference.

pub mod alarms;
mod forecaster;
mod list;
mod two_paths;

use std::sync::Arc;

use jsp_proto::{StreamConfig, TransportConfig};

use super::case::{Case, Edit, Subject};
use super::figures;
use super::sample::{Sample, sample};
use super::statistics::{confidence, mean};
use crate::report::Row;
use crate::runner;

/// Something of the transport that can be switched off.
#[derive(Clone, Copy)]
pub struct Switch {
    /// How the configuration says so.
    pub set: fn(bool, &mut TransportConfig, &mut StreamConfig),
}

impl Switch {
    fn edit(self, is_on: bool) -> Edit {
        Arc::new(move |transport, stream| (self.set)(is_on, transport, stream))
    }
}

/// What a pair of runs must show.
#[derive(Clone, Copy, Debug)]
pub(super) enum Demand {
    /// The figure changes by at least this many percent for the better, downwards, and the interval
    /// of the difference does not hold zero.
    FallsBy(f64),
    /// The figure falls by no more than this many percent.
    KeepsWithin(f64),
    /// The figure rises by no more than this.
    RisesAtMost(f64),
    /// The figure with the mechanism is at most this.
    IsAtMost(f64),
}

impl Demand {
    fn text(self) -> String {
        match self {
            Self::FallsBy(percent) => format!("<= -{percent} %, interval without zero"),
            Self::KeepsWithin(percent) => format!(">= -{percent} %"),
            Self::RisesAtMost(most) => format!("rises <= {most}"),
            Self::IsAtMost(most) => format!("with it <= {most}"),
        }
    }

    fn holds(self, off: f64, on: f64, half: f64) -> bool {
        let change = (on - off) / off.abs().max(f64::MIN_POSITIVE) * 100.0;
        match self {
            Self::FallsBy(percent) => change <= -percent && (on - off) + half < 0.0,
            Self::KeepsWithin(percent) => change >= -percent,
            Self::RisesAtMost(most) => on - off <= most,
            Self::IsAtMost(most) => on <= most,
        }
    }
}

/// One figure of one case with a mechanism and without.
pub(super) struct Pair {
    pub(super) experiment: &'static str,
    pub(super) case: &'static str,
    pub(super) switch: Switch,
    pub(super) demands: Vec<(&'static str, Demand)>,
}

/// Names of the experiments.
pub const NAMES: [&str; 9] = ["E1", "E2", "E3", "E4", "E5", "E6", "E7", "E8", "E9"];

/// Runs an experiment; `None` when there is none of that name.
pub fn run(name: &str, seeds: u64) -> Option<Vec<Row>> {
    list::run(name, seeds)
}

/// Values of a figure, one a seed.
fn each(case: &Case, metric: &str, samples: &[Sample]) -> Vec<f64> {
    let value = |sample: &Sample| {
        let figures = figures::of(case, std::slice::from_ref(sample));
        figures.iter().find(|figure| figure.metric == metric).map_or(f64::NAN, |found| found.value)
    };
    samples.iter().map(value).collect()
}

fn samples(case: &Case, edit: Edit, seeds: u64) -> (Case, Vec<Sample>) {
    let case = case.clone().edited(edit);
    let samples = runner::each_seed(1, seeds.min(case.seeds_max).max(2), |seed| {
        sample(&case, Subject::Jsp, seed)
    });
    (case, samples)
}

/// The rows of a pair: both means, the difference and its interval, a verdict on each demand.
fn compare(pair: &Pair, case: &Case, seeds: u64) -> Vec<Row> {
    let name = format!("{}-{}", pair.experiment, case.name);
    let (off, on) = (pair.switch.edit(false), pair.switch.edit(true));
    let (case, without) = samples(case, off, seeds);
    let (_, with) = samples(&case, on, seeds);
    let mut rows = Vec::new();
    for (metric, demand) in &pair.demands {
        let (off, on) = (each(&case, metric, &without), each(&case, metric, &with));
        let differences: Vec<_> = on.iter().zip(&off).map(|(on, off)| on - off).collect();
        let (difference, half) = confidence(&differences);
        let (off, on) = (mean(&off), mean(&on));
        let row = |what: &str, value| Row::new(&name, format!("{metric}_{what}"), value, "");
        rows.push(row("off", off));
        rows.push(row("on", on));
        rows.push(row("interval", half));
        let holds = demand.holds(off, on, half);
        rows.push(row("difference", difference).bar(demand.text(), holds));
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::table;
    use jsp_proto::FecPolicy;
    use std::time::Duration;

    #[test]
    fn demands_look_at_size_and_certainty() {
        assert!(Demand::FallsBy(25.0).holds(100.0, 70.0, 10.0));
        assert!(!Demand::FallsBy(25.0).holds(100.0, 80.0, 10.0), "not enough");
        assert!(!Demand::FallsBy(25.0).holds(100.0, 70.0, 40.0), "not certain");
        assert!(Demand::KeepsWithin(2.0).holds(100.0, 98.5, 1.0));
        assert!(!Demand::KeepsWithin(2.0).holds(100.0, 97.0, 1.0));
        assert!(Demand::RisesAtMost(5.0).holds(3.0, 8.0, 1.0));
        assert!(Demand::IsAtMost(35.0).holds(0.0, 35.0, 1.0));
    }

    #[test]
    fn a_switch_that_changes_nothing_makes_no_difference() {
        let case = table::cases("S1").unwrap().remove(0).shortened(Duration::from_secs(3));
        let switch = Switch { set: |_, _, stream| stream.fec = FecPolicy::Off };
        let demands = vec![("latency_p99", Demand::FallsBy(1.0))];
        let pair = Pair { experiment: "E0", case: "S1", switch, demands };
        let rows = compare(&pair, &case, 2);
        let last = rows.last().unwrap();
        assert!(last.to_json().contains(r#""value":0.0"#), "{}", last.to_json());
        assert!(!last.holds());
    }
}
