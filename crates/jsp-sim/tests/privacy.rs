//! The bars of `cargo xtask privacy`, over fewer flows.

use jsp_sim::privacy;
use jsp_sim::report::Row;

#[test]
/// spec-test: PRV-1, PRV-20, PRV-24
fn observers_see_declared_sizes_and_nothing_fixed_in_wrapped_flights() {
    let missed: Vec<_> = privacy::rows(1_500, 1)
        .into_iter()
        .filter(|row| !row.holds())
        .map(|row| row.to_text())
        .collect();
    assert!(missed.is_empty(), "{}", missed.join("\n"));
    // The bars would notice: they are not of the plain protocol's making.
    assert!(privacy::rows(50, 1).iter().any(|row: &Row| !row.holds()), "50 flows are too few");
}
