//! The bars that this project's own rows must hold, most of them against a peer's row of
//! the same run.

use crate::report::{Bar, Row};

/// The subject that has to hold the bars.
const OURS: &str = "jsp";
/// Bytes on the wire beyond a paced 64-byte message, reliable.
const RELIABLE_BYTES: f64 = 25.0;
/// The same, unreliable.
const UNRELIABLE_BYTES: f64 = 24.0;
/// Messages on one stream against quinn with a stream per message, both at their defaults.
const MESSAGES_FACTOR: f64 = 3.0;
/// Clients that connect within three tries under the flood, in percent.
const FLOOD_CONNECTED: f64 = 99.0;
/// Memory that a server takes more under the flood, in MiB.
const FLOOD_MEMORY: f64 = 16.0;
/// What the flood does to an open connection's slow round trips.
const FLOOD_DELAY: f64 = 1.2;

/// Sets the bars on our rows; a bar against a peer that was not measured is left out.
pub(crate) fn set(rows: &mut [Row]) {
    let bars: Vec<Option<Bar>> = rows.iter().map(|row| bar(row, rows)).collect();
    for (row, bar) in rows.iter_mut().zip(bars) {
        row.bar = bar;
    }
}

fn bar(row: &Row, rows: &[Row]) -> Option<Bar> {
    // The flavour of the program around a subject is compared with the same flavour.
    let flavour = row.subject.strip_prefix(OURS).filter(|rest| matches!(*rest, "" | "-ct"))?;
    let value = row.summary.median;
    match (row.case.as_str(), row.metric) {
        ("bulk", "throughput") => {
            Some(at_least(value, best(rows, "bulk", "throughput")?, "quinn's best setting"))
        }
        ("messages-64", "rate") => {
            let name = format!("quinn{flavour}");
            let peer = of(rows, &name, "message-per-stream-64", "rate")?;
            let what = format!("3 x {name}'s one stream per message");
            Some(at_least(value, MESSAGES_FACTOR * peer, &what))
        }
        ("pingpong", "p50") => {
            let name = format!("quinn{flavour}");
            Some(at_most(value, of(rows, &name, "pingpong", "p50")?, &name))
        }
        ("flood", "connected_in_3_tries") => Some(at_least(value, FLOOD_CONNECTED, "")),
        ("flood", "memory") => Some(at_most(value, FLOOD_MEMORY, "")),
        ("flood", "p99_against_calm") => Some(at_most(value, FLOOD_DELAY, "")),
        ("overhead-reliable", "beyond_payload") => Some(at_most(value, RELIABLE_BYTES, "")),
        ("overhead-unreliable", "beyond_payload") => Some(at_most(value, UNRELIABLE_BYTES, "")),
        _ => None,
    }
}

/// The figure of one subject.
fn of(rows: &[Row], subject: &str, case: &str, metric: &str) -> Option<f64> {
    let found = |row: &&Row| row.subject == subject && row.case == case && row.metric == metric;
    rows.iter().find(found).map(|row| row.summary.median)
}

/// The best of quinn's settings.
fn best(rows: &[Row], case: &str, metric: &str) -> Option<f64> {
    rows.iter()
        .filter(|row| row.subject.starts_with("quinn") && row.case == case && row.metric == metric)
        .map(|row| row.summary.median)
        .max_by(f64::total_cmp)
}

fn at_least(value: f64, limit: f64, what: &str) -> Bar {
    Bar { text: text(">=", limit, what), pass: value >= limit }
}

fn at_most(value: f64, limit: f64, what: &str) -> Bar {
    Bar { text: text("<=", limit, what), pass: value <= limit }
}

fn text(sign: &str, limit: f64, what: &str) -> String {
    let limit = crate::report::figure(limit);
    if what.is_empty() { format!("{sign} {limit}") } else { format!("{sign} {limit} ({what})") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Summary;

    fn row(case: &str, subject: &str, metric: &'static str, value: f64) -> Row {
        let summary = Summary { median: value, min: value, max: value, runs: 1 };
        let (case, subject) = (case.to_owned(), subject.to_owned());
        Row { case, subject, metric, unit: "", summary, bar: None }
    }

    fn passes(rows: &mut [Row]) -> Vec<Option<bool>> {
        set(rows);
        rows.iter().map(|row| row.bar.as_ref().map(|bar| bar.pass)).collect()
    }

    #[test]
    fn bulk_is_held_against_the_best_setting() {
        let mut rows = [
            row("bulk", "jsp", "throughput", 4.0),
            row("bulk", "quinn", "throughput", 3.0),
            row("bulk", "quinn-tuned-ct", "throughput", 4.1),
        ];
        assert_eq!(passes(&mut rows), [Some(false), None, None]);
        rows[0].summary.median = 4.1;
        assert_eq!(passes(&mut rows)[0], Some(true));
    }

    #[test]
    fn pingpong_is_held_against_the_same_flavour() {
        let mut rows = [
            row("pingpong", "jsp", "p50", 100.0),
            row("pingpong", "jsp-ct", "p50", 50.0),
            row("pingpong", "quinn", "p50", 150.0),
            row("pingpong", "quinn-ct", "p50", 47.0),
        ];
        assert_eq!(passes(&mut rows), [Some(true), Some(false), None, None]);
    }

    #[test]
    fn messages_and_bytes_have_their_bars() {
        let mut rows = [
            row("messages-64", "jsp", "rate", 0.7e6),
            row("message-per-stream-64", "quinn", "rate", 0.2e6),
            row("overhead-reliable", "jsp", "beyond_payload", 25.0),
            row("overhead-unreliable", "jsp", "beyond_payload", 24.5),
            row("overhead-reliable", "quinn", "beyond_payload", 38.0),
        ];
        assert_eq!(passes(&mut rows), [Some(true), None, Some(true), Some(false), None]);
    }
}
