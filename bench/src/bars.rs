//! The bars that this project's own rows must hold, most of them against a peer's row of
//! the same run.

use crate::report::{Bar, Row};

/// The subject that has to hold the bars.
const OURS: &str = "jsp";

/// What a figure is held against.
#[derive(Clone, Copy)]
enum Against {
    /// The best setting of the best QUIC stack, in the same case.
    BestQuic,
    /// The best of all that carries this, the raw limit apart, in the same case.
    BestPeer,
    /// One subject, in the same case; one of the same flavour where it has one.
    Peer(&'static str),
    /// Our own figure of another case.
    OurOwn(&'static str),
    /// A figure.
    Fixed,
}

/// At most this, or at least this, is wanted.
#[derive(Clone, Copy)]
enum Side {
    AtLeast(f64),
    AtMost(f64),
}

use Against::{BestPeer, BestQuic, Fixed, OurOwn, Peer};
use Side::{AtLeast, AtMost};

/// Case, figure, limit, and what it is a multiple of.
type Wanted = (&'static str, &'static str, Side, Against);

/// Every bar.
const BARS: &[Wanted] = &[
    ("bulk", "throughput", AtLeast(2.0), BestQuic),
    ("bulk", "throughput", AtLeast(1.15), Peer("tls")),
    ("bulk", "throughput", AtLeast(0.75), Peer("raw")),
    ("bulk", "both_cpu", AtMost(0.5), BestQuic),
    ("bulk-large", "throughput", AtLeast(1.3), OurOwn("bulk")),
    ("streams-100", "throughput", AtLeast(2.0), BestQuic),
    ("streams-100", "throughput", AtLeast(0.9), OurOwn("bulk")),
    ("messages-64", "rate", AtLeast(2.5), BestPeer),
    ("messages-256", "rate", AtLeast(2.5), BestPeer),
    ("message-per-stream-64", "rate", AtLeast(5.0), BestPeer),
    ("datagrams-1000", "delivered", AtLeast(1.8), BestPeer),
    ("datagrams-1000", "delivered", AtLeast(0.75), Peer("raw")),
    ("pingpong", "p50", AtMost(1.35), Peer("raw")),
    ("pingpong", "p99", AtMost(2.5), Peer("raw")),
    ("pingpong", "p50", AtMost(1.0), BestPeer),
    ("handshake", "connect_p50", AtMost(0.5), Peer("quinn")),
    ("handshake-64", "rate", AtLeast(2.5), Peer("quinn-pq")),
    ("flood", "connected_in_3_tries", AtLeast(99.0), Fixed),
    ("flood", "memory", AtMost(16.0), Fixed),
    ("flood", "p99_against_calm", AtMost(1.2), Fixed),
    ("overhead-reliable", "beyond_payload", AtMost(25.0), Fixed),
    ("overhead-unreliable", "beyond_payload", AtMost(24.0), Fixed),
    ("idle", "client_memory", AtMost(4.0), Fixed),
    ("idle", "server_memory", AtMost(4.0), Fixed),
    // 0.0 % of a core.
    ("idle", "idle_cpu", AtMost(0.5), Fixed),
    ("crowd-1000", "throughput", AtLeast(0.9), OurOwn("bulk")),
    ("crowd-1000", "fairness", AtLeast(0.95), Fixed),
    ("lossy-1%", "both_cpu", AtMost(1.3), OurOwn("lossy-0%")),
];

/// Sets the bars on our rows; a bar against what was not measured is left out.
pub(crate) fn set(rows: &mut [Row]) {
    let bars: Vec<Vec<Bar>> = rows.iter().map(|row| bars(row, rows)).collect();
    for (row, bars) in rows.iter_mut().zip(bars) {
        row.bars = bars;
    }
}

fn bars(row: &Row, rows: &[Row]) -> Vec<Bar> {
    // The flavour of the program around a subject is compared with the same flavour.
    let flavour = row.subject.strip_prefix(OURS).filter(|rest| matches!(*rest, "" | "-ct"));
    let Some(flavour) = flavour else { return Vec::new() };
    let ours = BARS.iter().filter(|(case, metric, ..)| *case == row.case && *metric == row.metric);
    ours.filter_map(|&(case, metric, side, against)| {
        let best = |what: &str, of: &dyn Fn(&str) -> bool| {
            let (name, value) = best(rows, case, metric, side, of)?;
            Some((value, format!("{what}, {name}")))
        };
        let is_of = |name: &str, families: &[&str]| families.iter().any(|of| name.starts_with(of));
        let is_quic = |name: &str| is_of(name, &["quinn", "noq", "s2n", "quiche"]);
        let (unit, what) = match against {
            Fixed => (1.0, String::new()),
            BestQuic => best("the best QUIC stack", &is_quic)?,
            BestPeer => best("the best peer", &|name| !is_of(name, &[OURS, "raw"]))?,
            Peer(name) => {
                let same = format!("{name}{flavour}");
                let name =
                    if of(rows, &same, case, metric).is_some() { same } else { name.to_owned() };
                (of(rows, &name, case, metric)?, name)
            }
            OurOwn(other) => (of(rows, &row.subject, other, metric)?, other.to_owned()),
        };
        Some(held(row.summary.median, side, unit, &what))
    })
    .collect()
}

/// The figure of one subject.
fn of(rows: &[Row], subject: &str, case: &str, metric: &str) -> Option<f64> {
    let found = |row: &&Row| row.subject == subject && row.case == case && row.metric == metric;
    rows.iter().find(found).map(|row| row.summary.median)
}

/// The best of those that `counts`, and its name.
fn best<'a>(
    rows: &'a [Row],
    case: &str,
    metric: &str,
    side: Side,
    counts: &dyn Fn(&str) -> bool,
) -> Option<(&'a str, f64)> {
    let theirs = rows
        .iter()
        .filter(|row| row.case == case && row.metric == metric && counts(&row.subject))
        .map(|row| (row.subject.as_str(), row.summary.median));
    let order = |a: &(&str, f64), b: &(&str, f64)| a.1.total_cmp(&b.1);
    match side {
        AtLeast(_) => theirs.max_by(order),
        AtMost(_) => theirs.min_by(order),
    }
}

fn held(value: f64, side: Side, unit: f64, what: &str) -> Bar {
    let (sign, factor, pass) = match side {
        AtLeast(factor) => (">=", factor, value >= factor * unit),
        AtMost(factor) => ("<=", factor, value <= factor * unit),
    };
    let limit = crate::report::figure(factor * unit);
    let text = if what.is_empty() {
        format!("{sign} {limit}")
    } else {
        format!("{sign} {limit} ({factor} x {what}; measured {:.2} x)", value / unit)
    };
    Bar { text, pass }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Summary;

    fn row(case: &str, subject: &str, metric: &'static str, value: f64) -> Row {
        let summary = Summary { median: value, min: value, max: value, runs: 1 };
        let (case, subject) = (case.to_owned(), subject.to_owned());
        Row { case, subject, metric, unit: "", summary, bars: Vec::new() }
    }

    fn passes(rows: &mut [Row]) -> Vec<Vec<bool>> {
        set(rows);
        rows.iter().map(|row| row.bars.iter().map(|bar| bar.pass).collect()).collect()
    }

    #[test]
    fn bulk_is_held_against_the_best_setting_and_against_tls() {
        let mut rows = [
            row("bulk", "jsp", "throughput", 8.0),
            row("bulk", "quinn", "throughput", 3.0),
            row("bulk", "s2n-tuned", "throughput", 4.1),
            row("bulk", "tls", "throughput", 6.0),
        ];
        assert_eq!(passes(&mut rows)[0], [false, true]);
        assert!(rows[0].bars[0].text.contains("s2n-tuned"));
        rows[0].summary.median = 8.2;
        assert_eq!(passes(&mut rows)[0], [true, true]);
    }

    #[test]
    fn pingpong_is_held_against_the_raw_limit_and_every_peer() {
        let mut rows = [
            row("pingpong", "jsp", "p50", 40.0),
            row("pingpong", "jsp-ct", "p50", 50.0),
            row("pingpong", "quinn", "p50", 150.0),
            row("pingpong", "quinn-ct", "p50", 47.0),
            row("pingpong", "raw", "p50", 30.0),
        ];
        let none: Vec<bool> = Vec::new();
        let wanted = [vec![true, true], vec![false, false], none.clone(), none.clone(), none];
        assert_eq!(passes(&mut rows), wanted);
    }

    #[test]
    fn fixed_bars_and_our_own_figures() {
        let mut rows = [
            row("bulk", "jsp", "throughput", 10.0),
            row("crowd-1000", "jsp", "throughput", 8.9),
            row("overhead-reliable", "jsp", "beyond_payload", 25.0),
            row("overhead-unreliable", "jsp", "beyond_payload", 24.5),
            row("overhead-reliable", "quinn", "beyond_payload", 38.0),
        ];
        assert_eq!(passes(&mut rows), [vec![], vec![false], vec![true], vec![false], vec![]]);
    }
}
