//! What media gains where the network has a queue for low latency, and what it does where there is none.

use std::time::Duration;

use jsp_sim::lab::{Subject, figures, sample, table};

/// How long each world lasts.
const LASTS: Duration = Duration::from_secs(12);

fn measure(name: &str) -> impl Fn(&str) -> f64 {
    let case = table::cases(name).expect("a case").remove(0).shortened(LASTS);
    let samples: Vec<_> = (1..=2).map(|seed| sample(&case, Subject::Jsp, seed)).collect();
    let figures = figures::of(&case, &samples);
    move |metric| {
        let figure = figures.iter().find(|figure| figure.metric == metric);
        figure.map_or(f64::NAN, |figure| figure.value)
    }
}

#[test]
fn a_low_latency_queue_shortens_waits_by_an_order_of_magnitude_for_some_of_the_rate() {
    let (marked, unmarked) = (measure("DQ"), measure("DQ-ect0"));
    let queue = |of: &dyn Fn(&str) -> f64| of("queue_p95");
    assert!(queue(&marked) <= 3.0, "{} ms", queue(&marked));
    assert!(queue(&marked) * 8.0 <= queue(&unmarked), "{} {}", queue(&marked), queue(&unmarked));
    let late = |of: &dyn Fn(&str) -> f64| of("latency_p99");
    assert!(late(&marked) + 20.0 <= late(&unmarked), "{} {}", late(&marked), late(&unmarked));
    let used = |of: &dyn Fn(&str) -> f64| of("message_utilisation");
    assert!(used(&marked) >= used(&unmarked) * 0.8, "{} {}", used(&marked), used(&unmarked));
}
