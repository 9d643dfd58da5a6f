//! Cases measured over many seeds, and reported.

use std::path::PathBuf;

use super::case::{Case, Subject};
use super::figures::{self, Figure};
use super::sample::{Sample, sample};
use super::{bars, plot, statistics};
use crate::report::Row;
use crate::runner;

/// What is measured and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// The first seed.
    pub start: u64,
    /// How many.
    pub seeds: u64,
    /// Measure peers too, where a case has them.
    pub has_peers: bool,
    /// Where plots go, if anywhere.
    pub plots: Option<PathBuf>,
}

/// Figures of one subject on one case.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Whose.
    pub subject: Subject,
    /// The figures.
    pub figures: Vec<Figure>,
}

impl Measured {
    fn value(&self, metric: &str) -> Option<f64> {
        self.figures.iter().find(|figure| figure.metric == metric).map(|figure| figure.value)
    }
}

/// Figures that are printed for people even where no bar is on them.
const HEADLINES: [&str; 21] = [
    "gap_p95",
    "miss_150ms",
    "idle_p95",
    "idle_p99",
    "object_p50",
    "latency_p50",
    "latency_p99",
    "latency_p999",
    "extra",
    "goodput",
    "utilisation",
    "message_utilisation",
    "rivals_utilisation",
    "expired",
    "queue_p95",
    "self_loss",
    "spurious",
    "restore_p95",
    "share",
    "jain",
    "missing",
];

/// Measures a case and answers its rows: of ours with bars, of peers without. A line for people
/// stands on its first row.
///
/// # Errors
/// When a plot cannot be written.
pub fn run(case: &Case, options: &Options) -> std::io::Result<Vec<(Row, Option<String>)>> {
    let count = options.seeds.min(case.seeds_max).max(1);
    let wants_peers = options.has_peers && case.has_peers;
    let subjects = if wants_peers { &Subject::ALL[..] } else { &Subject::ALL[..1] };
    let mut all = Vec::new();
    let mut plotted = Vec::new();
    for subject in subjects {
        let mut samples =
            runner::each_seed(options.start, count, |seed| sample(case, *subject, seed));
        let mut figures = figures::of(case, &samples);
        complain(case, *subject, options.start, &samples);
        if *subject == Subject::Jsp {
            let speeds: Vec<_> = samples.iter().map(|sample| sample.speed).collect();
            let value = statistics::mean(&speeds);
            figures.push(Figure { metric: "speed".to_owned(), value, unit: "virtual s/s" });
        }
        all.push(Measured { subject: *subject, figures });
        if options.plots.is_some() {
            for sample in &mut samples {
                sample.twin = None;
            }
            plotted.push((*subject, samples));
        }
    }
    if let Some(folder) = &options.plots {
        plot::write(folder, case, &plotted)?;
    }
    Ok(rows(case, &all))
}

fn complain(case: &Case, subject: Subject, start: u64, samples: &[Sample]) {
    for (seed, sample) in (start..).zip(samples) {
        for violation in sample.violations.iter().take(1) {
            let (name, whose) = (&case.name, subject.name());
            eprintln!("{name}: {whose}: seed {seed}: {violation}");
            eprintln!("reproduce: cargo xtask sim {name} --seed {seed}");
        }
    }
}

fn rows(case: &Case, all: &[Measured]) -> Vec<(Row, Option<String>)> {
    let Some((ours, peers)) = all.split_first() else { return Vec::new() };
    let mut out = Vec::new();
    for figure in &ours.figures {
        let Figure { metric, value, unit } = figure;
        let of_peers: Vec<_> =
            peers.iter().filter_map(|peer| Some((peer.subject, peer.value(metric)?))).collect();
        let mut row = Row::new(&case.name, metric, *value, unit);
        let mut limit = "";
        let bar = bars::on(&case.name, figure).next();
        if let Some(bar) = bar {
            row = row.bar(bar.bound.text(), bar.bound.holds(*value)).number(bar.number);
            limit = bar.limit;
        } else if metric == "violations" {
            row = row.bar("== 0", *value == 0.0);
        }
        if !limit.is_empty() {
            row = row.limit(limit);
        }
        let is_told = row.has_bar() && (bar.is_some() || *value != 0.0)
            || HEADLINES.contains(&metric.as_str());
        let line = is_told.then(|| line(&row, bar.map(|bar| bar.number), &of_peers, limit));
        out.push((row, line));
        for (subject, value) in of_peers {
            let row = Row::new(&case.name, metric, value, unit).subject(subject.name());
            out.push((row, None));
        }
    }
    out
}

/// A line of the table for people.
fn line(row: &Row, number: Option<u32>, peers: &[(Subject, f64)], limit: &str) -> String {
    let number = number.map(|number| number.to_string()).unwrap_or_default();
    let mut columns = String::new();
    for subject in &Subject::ALL[1..] {
        let value = peers.iter().find(|(peer, _)| peer == subject).map(|(_, value)| *value);
        let text = value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"));
        columns.push_str(&format!("{text:>11}"));
    }
    format!("{number:>3} {}{columns} {limit:>6}  {}", row.to_columns(), row.verdict())
}

/// The heading of the table for people.
pub const HEADING: &str = concat!(
    "bar case                     metric                         jsp unit              quinn  ",
    "quinn-bbr  limit  bar"
);
