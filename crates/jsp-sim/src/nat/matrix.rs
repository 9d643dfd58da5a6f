//! Every pair of sites: who reaches whom, how soon, and which way.

use std::time::Duration;

use jsp_nat::candidate::Policy;

use super::behaviour::Site;
use super::meeting::{DELAY, Meeting, Outcome};
use super::network::LOCAL_DELAY;
use crate::report::Row;

/// How soon a direct path is to be there, where there can be one.
const DIRECT_BAR: Duration = Duration::from_secs(1);

/// The round trip between two peers through the relay.
fn relay_round_trip(sites: [Site; 2]) -> Duration {
    let boxes = sites.map(|site| match site {
        // The carrier leads past the boxes.
        Site::UdpBlocked => 0,
        other => other.boxes().len() as u32,
    });
    DELAY * 4 + LOCAL_DELAY * 2 * (boxes[0] + boxes[1])
}

/// What came of one pair of sites, over some seeds.
struct Cell {
    sites: [Site; 2],
    outcomes: Vec<Outcome>,
}

impl Cell {
    fn new(sites: [Site; 2], start: u64, seeds: u64) -> Self {
        let talk = |seed| Meeting::new(seed, sites, [Policy::Any; 2]).talk();
        Self { sites, outcomes: (start..start + seeds).map(talk).collect() }
    }

    fn count(&self, holds: impl Fn(&Outcome) -> bool) -> f64 {
        let held = self.outcomes.iter().filter(|outcome| holds(outcome)).count();
        held as f64 / self.outcomes.len().max(1) as f64 * 100.0
    }

    /// The worst of a time, in milliseconds; infinite when it never came.
    fn worst(&self, time: impl Fn(&Outcome) -> Option<Duration>) -> f64 {
        let millis = |outcome| time(outcome).map_or(f64::INFINITY, |t| t.as_secs_f64() * 1e3);
        self.outcomes.iter().map(millis).fold(0.0, f64::max)
    }

    fn rows(&self) -> Vec<Row> {
        let [one, two] = self.sites;
        let case = format!("nat/{}/{}", one.name(), two.name());
        let row = |metric, value, unit| Row::new(case.clone(), metric, value, unit);
        let connected = self.count(|outcome| outcome.is_complete);
        let first = self.worst(|outcome| outcome.first);
        let first_bar = relay_round_trip(self.sites).as_secs_f64() * 2e3;
        let mut rows = vec![
            row("connected", connected, "%").bar("== 100", connected == 100.0),
            row("first_byte", first, "ms").bar(format!("<= {first_bar}"), first <= first_bar),
        ];
        let direct = self.count(|outcome| outcome.direct.is_some());
        if one.meets(two) {
            let time = self.worst(|outcome| outcome.direct);
            let bar = DIRECT_BAR.as_secs_f64() * 1e3;
            rows.push(row("direct", direct, "%").bar("== 100", direct == 100.0));
            rows.push(row("direct_after", time, "ms").bar(format!("<= {bar}"), time <= bar));
        } else {
            rows.push(row("direct", direct, "%").bar("== 0", direct == 0.0));
        }
        rows
    }
}

/// The matrix over some seeds: who calls stands first.
pub fn rows(start: u64, seeds: u64) -> Vec<Row> {
    let mut rows = Vec::new();
    for one in Site::ALL {
        for two in Site::ALL {
            rows.extend(Cell::new([one, two], start, seeds).rows());
        }
    }
    rows
}

/// The matrix as a table for people, from its rows: milliseconds until the path was direct, `relay`
/// where it stays relayed.
pub fn table(start: u64) -> String {
    let mut out = String::from("| caller / called |");
    for site in Site::ALL {
        out.push_str(&format!(" {} |", site.name()));
    }
    out.push_str("\n|---|");
    out.push_str(&"---|".repeat(Site::ALL.len()));
    for one in Site::ALL {
        out.push_str(&format!("\n| {} |", one.name()));
        for two in Site::ALL {
            let outcome = Meeting::new(start, [one, two], [Policy::Any; 2]).talk();
            let text = match outcome.direct {
                _ if !outcome.is_complete => "fails".to_owned(),
                Some(direct) => direct.as_millis().to_string(),
                None => "relay".to_owned(),
            };
            out.push_str(&format!(" {text} |"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_meets_as_theory_has_it() {
        let failed: Vec<_> = rows(1, 1).into_iter().filter(|row| !row.holds()).collect();
        let told: Vec<_> = failed.iter().map(Row::to_text).collect();
        assert!(told.is_empty(), "{told:#?}");
    }
}
