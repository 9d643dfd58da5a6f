//! The bars that our transport must hold, and what could be reached at best.

use super::figures::Figure;

/// A bound on one figure of one scenario.
#[derive(Clone, Copy, Debug)]
pub struct Bar {
    /// Its number in the list of bars.
    pub number: u32,
    /// A case by its name, or all cases that begin so when it ends in a dash.
    pub case: &'static str,
    /// The figure.
    pub metric: &'static str,
    /// The bound.
    pub bound: Bound,
    /// What a genie or the coding bound allows; empty where nothing is known.
    pub limit: &'static str,
}

/// Which side of a value is good.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    /// At most this.
    Most(f64),
    /// At least this.
    Least(f64),
    /// Between these.
    Within(f64, f64),
}

impl Bound {
    /// Whether a value is good.
    pub fn holds(self, value: f64) -> bool {
        match self {
            Self::Most(most) => value <= most,
            Self::Least(least) => value >= least,
            Self::Within(least, most) => least <= value && value <= most,
        }
    }

    /// As text.
    pub fn text(self) -> String {
        match self {
            Self::Most(most) => format!("<= {most}"),
            Self::Least(least) => format!(">= {least}"),
            Self::Within(least, most) => format!("{least}..{most}"),
        }
    }
}

impl Bar {
    fn is_about(&self, case: &str) -> bool {
        match self.case.strip_suffix('-') {
            Some(_) => case.starts_with(self.case),
            None => case == self.case,
        }
    }
}

/// The bars on a figure of a case.
pub fn on<'a>(case: &'a str, figure: &'a Figure) -> impl Iterator<Item = &'static Bar> + use<'a> {
    BARS.iter().filter(move |bar| bar.is_about(case) && bar.metric == figure.metric)
}

const fn most(
    number: u32,
    case: &'static str,
    metric: &'static str,
    value: f64,
    limit: &'static str,
) -> Bar {
    Bar { number, case, metric, bound: Bound::Most(value), limit }
}

const fn least(
    number: u32,
    case: &'static str,
    metric: &'static str,
    value: f64,
    limit: &'static str,
) -> Bar {
    Bar { number, case, metric, bound: Bound::Least(value), limit }
}

const fn share(number: u32, case: &'static str) -> Bar {
    Bar { number, case, metric: "share", bound: Bound::Within(0.4, 0.6), limit: "" }
}

/// What cannot be measured, and why.
pub const UNMEASURED: [(&str, &str); 0] = [];

/// Round-trip times are twice the one-way delay of 30 ms in the scenarios that say milliseconds.
pub const BARS: &[Bar] = &[
    most(1, "S1", "latency_p99_owd", 3.8, "2.6"),
    most(1, "S1", "latency_p999_owd", 6.0, "5.2"),
    most(1, "S1", "extra", 35.0, ""),
    most(2, "S1b", "latency_p99_owd", 3.4, "1.2"),
    most(2, "S1b", "latency_p999_owd", 3.8, "1.4"),
    most(2, "S1b", "extra", 25.0, ""),
    most(3, "S2", "latency_p99_owd", 2.7, "1.15"),
    most(3, "S2", "latency_p999_owd", 3.5, "1.4"),
    most(3, "S2", "extra", 30.0, ""),
    most(4, "S5", "latency_p99_owd", 1.4, "1.03"),
    most(4, "S5", "latency_p999_owd", 1.9, "1.08"),
    most(4, "S5", "extra", 30.0, ""),
    most(5, "S3", "latency_p999_owd", 3.4, "1.85"),
    most(5, "S3", "extra", 60.0, ""),
    most(6, "S4", "latency_p999_owd", 2.3, "1.04"),
    most(6, "S4", "extra", 27.0, ""),
    most(6, "S4-lean", "latency_p999_owd", 3.4, "1.04"),
    most(6, "S4-lean", "extra", 2.0, ""),
    most(7, "MP-both", "latency_p99_owd", 1.05, "1.0"),
    most(7, "MP-both", "latency_p999_owd", 4.0, "1.5"),
    most(7, "MP-both", "extra", 105.0, ""),
    most(7, "MP-one", "latency_p99_owd", 1.05, "1.0"),
    most(7, "MP-one", "latency_p999_owd", 4.0, "1.5"),
    most(7, "MP-one", "extra", 30.0, ""),
    most(17, "MP-standby", "gap_p95", 80.0, "60"),
    most(17, "MP-standby", "missing", 0.0, ""),
    most(17, "MP-standby", "violations", 0.0, ""),
    most(18, "MP-standby-hint", "gap_p95", 80.0, ""),
    most(18, "MP-standby-hint", "missing", 0.0, ""),
    most(8, "S1-150ms", "miss_150ms", 0.35, "0.1"),
    most(9, "C0-thin", "wire_per_payload", 1.27, "1.22"),
    most(9, "C0-thin", "extra", 0.5, ""),
    least(10, "I1", "utilisation", 92.0, "99"),
    most(10, "I1", "queue_p95", 30.0, ""),
    most(10, "I1", "self_loss", 1.0, ""),
    least(10, "I5", "utilisation", 70.0, "95"),
    most(10, "I5", "queue_p95", 30.0, ""),
    most(10, "I5", "self_loss", 1.0, ""),
    least(11, "R1", "utilisation", 90.0, ""),
    most(11, "R1", "spurious", 1.0, ""),
    least(11, "R2", "utilisation", 80.0, ""),
    most(11, "R2", "spurious", 1.0, ""),
    least(12, "B1", "utilisation", 92.0, ""),
    most(12, "B1", "queue_p95", 40.0, ""),
    least(12, "B2", "utilisation", 90.0, ""),
    most(12, "B2", "self_loss", 1.0, ""),
    least(13, "PO", "policed_utilisation", 92.0, ""),
    most(13, "PO", "self_loss_after_5s", 2.0, ""),
    least(14, "L-", "utilisation", 85.0, ""),
    most(14, "L-", "queue_p95", 300.0, ""),
    most(14, "L-", "self_loss", 2.0, ""),
    least(15, "LM-", "message_utilisation", 60.0, ""),
    most(15, "LM-", "queue_p95", 100.0, ""),
    most(15, "LM-", "latency_p99", 250.0, ""),
    least(16, "G1", "utilisation", 70.0, ""),
    most(16, "G1-resume", "object_p95", 4.0, ""),
    most(17, "H3", "restore_p95", 65.0, "30"),
    most(17, "H3", "settle_p95", 3.0, ""),
    most(17, "H3", "missing", 0.0, ""),
    most(17, "H3", "violations", 0.0, ""),
    most(18, "H4", "restore_p95", 370.0, "60"),
    most(18, "H4", "missing", 0.0, ""),
    most(18, "H4-hint", "restore_p95", 120.0, "60"),
    most(18, "H4-hint", "missing", 0.0, ""),
    most(19, "D1", "queue_above_100ms", 400.0, ""),
    most(19, "D1", "probe_timeouts", 0.0, ""),
    share(20, "F1"),
    share(20, "F2"),
    share(20, "F3"),
    least(20, "F4", "share", 0.3, ""),
    least(20, "F5", "jain", 0.95, ""),
    least(20, "F6", "least_share", 0.25, ""),
    least(20, "F7", "jain", 0.95, ""),
    least(21, "A1", "of_symmetric", 90.0, ""),
    most(21, "A1", "ack_bytes", 1.0, ""),
    least(21, "A2", "of_symmetric", 90.0, ""),
    most(21, "A2", "ack_bytes", 1.0, ""),
    most(22, "FV", "latency_p999", 55.0, ""),
    least(22, "FV", "file_of_rest", 85.0, ""),
    least(23, "S1", "speed", 200.0, ""),
    most(24, "FL", "lost", 0.5, ""),
    most(24, "FL", "latency_p99", 55.0, ""),
    most(24, "FL", "latency_p999", 90.0, ""),
    least(24, "FL", "file_of_rest", 70.0, ""),
    most(24, "FL-alone", "lost", 0.5, ""),
    most(24, "FL-few", "lost", 0.5, ""),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::table;

    #[test]
    fn bounds_are_inclusive() {
        assert!(Bound::Most(1.0).holds(1.0) && !Bound::Most(1.0).holds(1.1));
        assert!(Bound::Least(1.0).holds(1.0) && !Bound::Least(1.0).holds(0.9));
        assert!(Bound::Within(0.4, 0.6).holds(0.4) && !Bound::Within(0.4, 0.6).holds(0.7));
        assert_eq!(Bound::Within(0.4, 0.6).text(), "0.4..0.6");
    }

    #[test]
    fn every_bar_is_about_a_case() {
        for bar in BARS {
            let scenario = bar.case.trim_end_matches('-');
            let cases = table::cases(scenario).unwrap_or_default();
            assert!(cases.iter().any(|case| bar.is_about(&case.name)), "{bar:?}");
        }
    }
}
