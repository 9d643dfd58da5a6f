//! All cases by name.

mod bulk;
mod cellular;
mod handover;
mod paths;
mod shared;
mod thin;

use super::case::Case;

/// Names of the scenarios about a client on the move, and with two interfaces.
pub const MOBILITY: [&str; 9] = ["H1", "H2", "H3", "H4", "H5", "H6", "H7", "MP", "ML"];

/// Names of the scenarios; some have several cases.
pub const NAMES: [&str; 49] = [
    "C0", "S1", "S1b", "P1", "S2", "S3", "S4", "S5", "S6", "S1-150ms", "W1", "K1", "I1", "I5",
    "G1", "B1", "B2", "E0", "DQ", "PO", "R1", "R2", "D1", "D1-bulk", "A1", "A2", "L", "LM", "H1",
    "H2", "H3", "H4", "H5", "H6", "H7", "F1", "F2", "F3", "F4", "F5", "F6", "F7", "F8", "FV", "OB",
    "FW", "FL", "MP", "ML",
];

/// The cases of a scenario; `None` when there is none of that name. One case of several is found by
/// its own name too.
pub fn cases(name: &str) -> Option<Vec<Case>> {
    if NAMES.contains(&name) {
        return of(name);
    }
    let scenarios = NAMES.iter().filter(|scenario| name.starts_with(*scenario));
    let mut cases = scenarios.filter_map(|scenario| of(scenario)).flatten();
    cases.find(|case| case.name == name).map(|case| vec![case])
}

fn of(name: &str) -> Option<Vec<Case>> {
    let lists =
        [thin::cases, bulk::cases, cellular::cases, handover::cases, shared::cases, paths::cases];
    lists.iter().find_map(|list| list(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::{Subject, sample};
    use std::time::Duration;

    #[test]
    fn every_name_has_cases_and_no_case_two_names() {
        let mut names = std::collections::BTreeSet::new();
        for name in NAMES {
            let cases = cases(name).unwrap_or_default();
            assert!(!cases.is_empty(), "{name}");
            assert!(cases.iter().all(|case| case.name.starts_with(name)), "{name}");
            assert!(cases.iter().all(|case| names.insert(case.name.clone())), "{name}");
        }
        assert!(cases("S9").is_none());
        assert_eq!(cases("C0-10M-60ms").map(|cases| cases.len()), Some(1));
    }

    #[test]
    fn worlds_with_peers_and_rivals_repeat() {
        let twice = |name: &str, subject| {
            let case = cases(name).unwrap().remove(0).shortened(Duration::from_secs(3));
            let [first, second] = [1, 1].map(|seed| sample(&case, subject, seed));
            assert_eq!((&first.messages, &first.bulk), (&second.messages, &second.bulk), "{name}");
            assert_eq!(first.waits, second.waits, "{name}");
            first
        };
        twice("S1", Subject::ALL[1]);
        let rivals = twice("F2", Subject::Jsp);
        assert_eq!(rivals.bulk.len(), 3);
        assert!(rivals.bulk.iter().all(|series| series.last() > Some(&100_000)), "{rivals:?}");
    }

    #[test]
    fn what_comes_to_an_old_address_counts_as_lost() {
        let case = cases("H6").unwrap().remove(0).shortened(Duration::from_secs(7));
        let sample = sample(&case, Subject::Jsp, 1);
        assert!(sample.down.lost > 0 && sample.up.lost == 0, "{sample:?}");
        assert_eq!(sample.restores.len(), 2, "one change, seen from both sides");
        assert!(sample.messages.iter().all(|sent| sent.latency.is_some()));
    }

    #[test]
    fn peers_live_in_the_same_worlds() {
        let case = cases("S4").unwrap().remove(0).shortened(Duration::from_secs(4));
        // In the world of seed 3 quinn's server is the first to use the stream.
        for (subject, seed) in [1, 3].iter().flat_map(|seed| Subject::ALL.map(|s| (s, *seed))) {
            let sample = sample(&case, subject, seed);
            assert_eq!(sample.violations, [""; 0], "{subject:?}");
            assert_eq!(sample.messages.len(), 800, "{subject:?}");
            assert!(sample.messages.iter().all(|sent| sent.latency.is_some()), "{subject:?}");
            let mut latencies: Vec<_> = sample.messages.iter().filter_map(|m| m.latency).collect();
            latencies.sort_unstable();
            assert_eq!(latencies[400].as_millis(), 30, "{subject:?}");
            assert!(sample.client.packets_lost > 0, "{subject:?}");
        }
    }
}
