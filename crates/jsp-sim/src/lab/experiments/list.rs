//! The experiments.

use std::sync::Arc;
use std::time::Duration;

use jsp_proto::FecPolicy;

use super::{Demand, Pair, Switch, compare, each, forecaster, samples, two_paths};
use crate::lab::case::{Case, Edit, Subject, WARM_UP};
use crate::lab::sample::{Sample, sample};
use crate::lab::statistics::{confidence, mean};
use crate::lab::table;
use crate::report::Row;
use crate::runner;

/// Messages whose acknowledgement is overdue go again into a packet that leaves anyway.
const OVERDUE_BUNDLING: Switch = Switch { set: |on, transport, _| transport.bundling = on };
/// Degradations are seen before any time-out.
const FORECASTER: Switch = Switch { set: |on, transport, _| transport.forecast = on };
/// Both: all that a false alarm can lead to.
const SENSES: Switch =
    Switch { set: |on, transport, _| (transport.forecast, transport.bundling) = (on, on) };

/// The fixed rates of repair that the controller is measured against, in percent.
const FIXED_RATES: [u8; 6] = [0, 10, 20, 33, 50, 100];
/// Bytes that the controller may add on each link, in percent of the payload: the bars' own.
const BUDGETS: [(&str, f64); 7] = [
    ("S1", 35.0),
    ("S1b", 25.0),
    ("S2", 30.0),
    ("S3", 60.0),
    ("S4", 27.0),
    ("S5", 30.0),
    ("S6", 35.0),
];

/// Symbols in advance, in percent.
const FOUNTAIN_RATES: [u8; 5] = [0, 6, 12, 25, 50];

pub(super) fn run(name: &str, seeds: u64) -> Option<Vec<Row>> {
    let first = |case: &str| table::cases(case).map(|mut cases| cases.remove(0));
    let pairs = |pairs: Vec<Pair>| {
        let rows = pairs.iter().filter_map(|pair| Some(compare(pair, &first(pair.case)?, seeds)));
        rows.flatten().collect()
    };
    Some(match name {
        "E1" => forecaster::quality(seeds),
        "E2" => pairs(["S1", "S1b", "S3"].map(bundling).into()),
        "E3" => {
            let mut rows = step(&first("D1")?, seeds);
            rows.extend(pairs(vec![step_pair()]));
            rows
        }
        "E4" => two_paths::late_messages(seeds)?,
        "E5" => {
            let blackouts = [("H3", 65.0), ("H4", 370.0)].map(blackout);
            pairs(blackouts.into_iter().chain([stalled_bulk()]).collect())
        }
        "E6" => pairs(false_alarms()),
        "E7" => forecaster::ablation(seeds),
        "E8" => {
            let each = BUDGETS
                .iter()
                .filter_map(|(case, budget)| Some(controller(&first(case)?, *budget, seeds)));
            each.flatten().collect()
        }
        "E9" => ["OB-3ms", "OB-30ms"]
            .iter()
            .filter_map(|case| first(case))
            .flat_map(|case| fountain(&case, seeds))
            .collect(),
        _ => return None,
    })
}

/// Large messages that go as symbols, so many of a hundred in advance, beside the same that are sent again. Without the
/// feature `raptorq` both are the same.
fn fountain(case: &Case, seeds: u64) -> Vec<Row> {
    let name = format!("E9-{}", case.name);
    let mut rows = Vec::new();
    let policies =
        FOUNTAIN_RATES.map(|rate| (format!("fountain_{rate}"), FecPolicy::Fountain(rate)));
    for (policy, fec) in [("plain".to_owned(), FecPolicy::Off)].into_iter().chain(policies) {
        let (case, samples) = samples(case, Arc::new(move |_, stream| stream.fec = fec), seeds);
        for (metric, unit) in
            [("expired", "%"), ("latency_p50", "ms"), ("wire_per_payload", "ratio")]
        {
            let value = mean(&each(&case, metric, &samples));
            rows.push(Row::new(&name, format!("{policy}_{metric}"), value, unit));
        }
    }
    rows
}

fn bundling(case: &'static str) -> Pair {
    let extra = if case == "S3" { 95.0 } else { 35.0 };
    Pair {
        experiment: "E2",
        case,
        switch: OVERDUE_BUNDLING,
        demands: vec![("latency_p999", Demand::FallsBy(25.0)), ("extra", Demand::IsAtMost(extra))],
    }
}

fn blackout((case, most): (&'static str, f64)) -> Pair {
    let demands = vec![("restore_p95", Demand::IsAtMost(most))];
    Pair { experiment: "E5", case, switch: FORECASTER, demands }
}

/// Bulk waits while a path is silent that urgent data use too.
fn stalled_bulk() -> Pair {
    let demands = vec![
        ("latency_p50", Demand::FallsBy(25.0)),
        ("missing", Demand::FallsBy(25.0)),
        ("goodput", Demand::KeepsWithin(10.0)),
    ];
    Pair { experiment: "E5", case: "FW", switch: FORECASTER, demands }
}

fn step_pair() -> Pair {
    let demands = vec![("queue_above_100ms", Demand::IsAtMost(400.0))];
    Pair { experiment: "E3", case: "D1", switch: FORECASTER, demands }
}

fn false_alarms() -> Vec<Pair> {
    let pair = |case, demands| Pair { experiment: "E6", case, switch: SENSES, demands };
    vec![
        pair("W1", vec![("extra", Demand::RisesAtMost(5.0))]),
        pair("R2", vec![("goodput", Demand::KeepsWithin(2.0))]),
        pair("A2", vec![("goodput", Demand::KeepsWithin(2.0))]),
    ]
}

/// Media at 4 Mbit/s when the link falls from 20 to 2 Mbit/s. The queue is longest when what comes
/// in falls below what goes out.
fn step(case: &Case, seeds: u64) -> Vec<Row> {
    let count = seeds.min(case.seeds_max).max(2);
    let all = runner::each_seed(1, count, |seed| sample(case, Subject::Jsp, seed));
    let step = case.starts() + Duration::from_secs(15);
    let until = step + Duration::from_secs(5);
    let peak = |sample: &Sample| {
        let after = sample.waits.iter().filter(|(at, _)| *at >= step && *at < until);
        let longest = after.max_by_key(|(_, wait)| *wait).copied();
        longest.map_or(0.0, |(at, wait)| at.since(step).saturating_sub(wait).as_secs_f64() * 1e3)
    };
    let peak = mean(&all.iter().map(peak).collect::<Vec<_>>());
    let above = mean(&each(case, "queue_above_100ms", &all));
    let slower_within = case.owd.as_secs_f64() * 4e3 + 100.0;
    debug_assert!(case.starts() == jsp_wire::Instant::ZERO + WARM_UP);
    vec![
        Row::new("E3-D1", "queue_above_100ms", above, "ms").bar("<= 400", above <= 400.0),
        Row::new("E3-D1", "below_capacity_after", peak, "ms")
            .bar(format!("<= {slower_within}"), peak <= slower_within),
    ]
}

/// The controller of error correction against each fixed rate within its budget of bytes.
fn controller(case: &Case, budget: f64, seeds: u64) -> Vec<Row> {
    let name = format!("E8-{}", case.name);
    let with = |policy: FecPolicy| {
        let edit: Edit = Arc::new(move |_, stream| stream.fec = policy);
        samples(case, edit, seeds)
    };
    // A fixed rate repairs where nothing is lost too: what it costs is told by a twin without it.
    let (case, plain) = with(FecPolicy::Off);
    let wire = |samples: &[Sample]| samples.iter().map(|sample| sample.wire).sum::<u64>() as f64;
    let clean: u64 = plain.iter().filter_map(|sample| Some(sample.twin.as_ref()?.wire)).sum();
    let payload: u64 = plain.iter().map(|sample| sample.message_payload).sum();
    let with = |policy: FecPolicy| {
        let (_, samples) = with(policy);
        let extra = (wire(&samples) - clean as f64) / payload.max(1) as f64 * 100.0;
        (each(&case, "latency_p999", &samples), extra)
    };
    let (auto, auto_extra) = with(FecPolicy::Auto);
    let mut rows = vec![
        Row::new(&name, "auto_p999", mean(&auto), "ms"),
        Row::new(&name, "auto_extra", auto_extra, "%"),
    ];
    let mut best: Option<(u8, Vec<f64>)> = None;
    for rate in FIXED_RATES {
        let policy = if rate == 0 { FecPolicy::Off } else { FecPolicy::Fixed(rate) };
        let (fixed, extra) = with(policy);
        rows.push(Row::new(&name, format!("fixed_{rate}_p999"), mean(&fixed), "ms"));
        rows.push(Row::new(&name, format!("fixed_{rate}_extra"), extra, "%"));
        let is_better = best.as_ref().is_none_or(|(_, values)| mean(&fixed) < mean(values));
        if extra <= budget && is_better {
            best = Some((rate, fixed));
        }
    }
    let Some((rate, fixed)) = best else {
        eprintln!("{name}: no fixed rate stays within {budget} %");
        return rows;
    };
    let worse: Vec<_> =
        auto.iter().zip(&fixed).map(|(auto, fixed)| (auto / fixed - 1.0) * 100.0).collect();
    let (worse, half) = confidence(&worse);
    rows.push(Row::new(&name, "best_fixed", f64::from(rate), "%"));
    rows.push(Row::new(&name, "worse_interval", half, "%"));
    rows.push(Row::new(&name, "worse_than_best", worse, "%").bar("<= 10", worse <= 10.0));
    rows
}
