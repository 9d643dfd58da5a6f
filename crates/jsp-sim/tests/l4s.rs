//! What media gains where the network has a queue for low latency, and what it does where there is none.

use std::time::Duration;

use jsp_sim::lab::{Case, Sample, Subject, figures, sample, table};

/// How long each world lasts.
const LASTS: Duration = Duration::from_secs(12);

fn samples(name: &str) -> (Case, Vec<Sample>) {
    let case = table::cases(name).expect("a case").remove(0).shortened(LASTS);
    let samples = (1..=2).map(|seed| sample(&case, Subject::Jsp, seed)).collect();
    (case, samples)
}

fn measure(name: &str) -> impl Fn(&str) -> f64 {
    let (case, samples) = samples(name);
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

#[test]
/// spec-test: ECN-5
fn an_older_queue_is_found_out_and_marks_are_those_of_others_from_then_on() {
    let share = |name| {
        let (_, samples) = samples(name);
        let of = |sample: &Sample| sample.up.ect1 as f64 / sample.up.packets as f64;
        samples.iter().map(of).collect::<Vec<_>>()
    };
    let (new, old) = (share("DQ"), share("DQ-classic"));
    println!("{new:?} {old:?}");
    assert!(new.iter().all(|share| *share >= 0.98), "{new:?}");
    assert!(old.iter().all(|share| *share <= 0.5), "{old:?}");
}

#[test]
/// spec-test: CC-48
fn media_in_the_low_latency_queue_leaves_a_byte_stream_in_the_other_its_share() {
    let (beside, same) = (measure("DQ-cubic"), measure("DQ-cubic-ect0"));
    for of in [&beside as &dyn Fn(&str) -> f64, &same] {
        println!(
            "{} {} {}",
            of("rivals_utilisation"),
            of("message_utilisation"),
            of("latency_p99")
        );
    }
    assert!(beside("rivals_utilisation") >= 40.0);
}
