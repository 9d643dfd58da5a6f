//! What large messages with a deadline gain where they go as symbols.
//! `cargo test -p jsp-sim --features raptorq --test objects`.
#![cfg(feature = "raptorq")]

use std::sync::Arc;
use std::time::Duration;

use jsp_proto::FecPolicy;
use jsp_sim::lab::{Subject, figures, sample, table};

/// How long each world lasts.
const LASTS: Duration = Duration::from_secs(8);

fn measure(name: &str, fec: FecPolicy) -> impl Fn(&str) -> f64 {
    let case = table::cases(name).expect("a case").remove(0).shortened(LASTS);
    let case = case.edited(Arc::new(move |_, stream| stream.fec = fec));
    let samples: Vec<_> = (1..=16).map(|seed| sample(&case, Subject::Jsp, seed)).collect();
    let figures = figures::of(&case, &samples);
    move |metric| {
        let figure = figures.iter().find(|figure| figure.metric == metric);
        figure.map_or(f64::NAN, |figure| figure.value)
    }
}

#[test]
/// spec-test: FEC-23
fn symbols_in_advance_keep_deadlines_through_short_fades() {
    let plain = measure("OB-3ms", FecPolicy::Off);
    let symbols = measure("OB-3ms", FecPolicy::Fountain(12));
    for of in [&plain as &dyn Fn(&str) -> f64, &symbols] {
        println!("{} {} {}", of("expired"), of("latency_p50"), of("wire_per_payload"));
        assert_eq!(of("violations"), 0.0);
    }
    assert!(symbols("expired") * 2.0 <= plain("expired"));
    assert!(symbols("latency_p50") + 10.0 <= plain("latency_p50"));
    assert!(symbols("wire_per_payload") <= plain("wire_per_payload") + 0.2);
}
