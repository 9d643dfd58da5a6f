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

#[test]
/// spec-test: PRV-5
fn a_constant_rate_hides_the_application_and_nothing_less_does() {
    let rows = privacy::recognition(2, 1);
    let named = |padding: &str| {
        let case = format!("20 applications, {padding}");
        let rows = rows.iter().map(|row| serde_json::from_str(&row.to_json()).unwrap());
        let mut rows = rows.filter(|row: &serde_json::Value| row["case"] == *case);
        rows.find(|row| row["metric"] == "named_by_neighbours").unwrap()["value"].as_f64().unwrap()
    };
    assert!(named("plain") > 50.0, "the observer can tell: {}", named("plain"));
    assert!(named("constant rate") <= 7.5, "{}", named("constant rate"));
}
