//! A part of the laboratory's table, short and with few seeds, as it stood when last looked at.
//!
//! Worlds repeat byte for byte, so that any change of the transport that shows on a network shows
//! here. When it is meant, write the table anew and look at the difference:
//! `JSP_WRITE_TABLE=1 cargo test -p jsp-sim --test table`.

use std::time::Duration;

use jsp_sim::lab::{Subject, figures, sample, table};
use jsp_sim::runner;

/// The table as it is tracked.
const TABLE: &str = include_str!("table.txt");
/// Seeds of each case.
const SEEDS: u64 = 2;
/// How long each case lasts.
const LASTS: Duration = Duration::from_secs(6);
/// One of each kind.
const CASES: [&str; 15] = [
    "C0-thin", "S1", "S1b", "P1", "S4", "S1-150ms", "W1", "I5", "B1", "E0", "PO", "R2", "A2", "H3",
    "FV",
];

#[test]
fn the_table_is_as_it_was() {
    let mut now = String::new();
    for name in CASES {
        let case = table::cases(name).expect("a case").remove(0).shortened(LASTS);
        let samples = runner::each_seed(1, SEEDS, |seed| sample(&case, Subject::Jsp, seed));
        for figure in figures::of(&case, &samples) {
            let figures::Figure { metric, value, unit } = figure;
            now.push_str(&format!("{name:<9} {metric:<20} {value:>12.3} {unit}\n"));
        }
    }
    if std::env::var_os("JSP_WRITE_TABLE").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/table.txt");
        std::fs::write(path, &now).expect("the table can be written");
        return;
    }
    let differences: Vec<_> = TABLE
        .lines()
        .zip(now.lines())
        .filter(|(was, is)| was != is)
        .map(|(was, is)| format!("was {was}\nis  {is}"))
        .collect();
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    assert_eq!(TABLE.lines().count(), now.lines().count());
}
