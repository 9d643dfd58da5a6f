//! Rows for machines, tables for people.

use std::io::{self, Write};

use serde_json::json;

use crate::stats::Summary;

/// A bar and whether it held.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Bar {
    /// For people, such as `<= 25`.
    pub(crate) text: String,
    /// Whether the median held it.
    pub(crate) pass: bool,
}

/// One figure of one subject over all runs.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// The case.
    pub(crate) case: String,
    /// The subject.
    pub(crate) subject: String,
    /// The figure's name.
    pub(crate) metric: &'static str,
    /// Its unit.
    pub(crate) unit: &'static str,
    /// Its values.
    pub(crate) summary: Summary,
    /// Its bars.
    pub(crate) bars: Vec<Bar>,
}

/// Three or four significant digits, with k and M where they help.
pub(crate) fn figure(value: f64) -> String {
    let size = value.abs();
    if size >= 1e7 {
        format!("{:.1}M", value / 1e6)
    } else if size >= 1e6 {
        format!("{:.2}M", value / 1e6)
    } else if size >= 1e4 {
        format!("{:.1}k", value / 1e3)
    } else if size >= 100.0 {
        format!("{value:.0}")
    } else if size >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

/// Prints every row as one JSON object: the median as `value`, beside it `min`, `max` and
/// `runs`; where there are several bars, all must hold to pass.
pub(crate) fn json(rows: &[Row], out: &mut impl Write) -> io::Result<()> {
    for row in rows {
        let Summary { median, min, max, runs } = row.summary;
        let mut object = json!({
            "suite": "bench",
            "case": row.case,
            "subject": row.subject,
            "metric": row.metric,
            "value": median,
            "unit": row.unit,
            "min": min,
            "max": max,
            "runs": runs,
        });
        if let (false, Some(object)) = (row.bars.is_empty(), object.as_object_mut()) {
            let texts: Vec<&str> = row.bars.iter().map(|bar| bar.text.as_str()).collect();
            object.insert("bar".to_owned(), json!(texts.join(", ")));
            object.insert("pass".to_owned(), json!(row.bars.iter().all(|bar| bar.pass)));
        }
        writeln!(out, "{object}")?;
    }
    Ok(())
}

/// Prints a table per case, subjects as columns: the median and the spread of the runs
/// around it.
pub(crate) fn table(rows: &[Row], out: &mut impl Write) -> io::Result<()> {
    let mut cases: Vec<&str> = Vec::new();
    for row in rows {
        if !cases.contains(&row.case.as_str()) {
            cases.push(&row.case);
        }
    }
    for case in cases {
        let rows: Vec<&Row> = rows.iter().filter(|row| row.case == case).collect();
        writeln!(out, "\n{case}")?;
        write_grid(&grid(&rows), out)?;
        for row in &rows {
            for bar in &row.bars {
                let verdict = if bar.pass { "holds" } else { "MISSED" };
                let (subject, metric) = (&row.subject, row.metric);
                let value = figure(row.summary.median);
                writeln!(out, "  bar {verdict}: {subject} {metric} {value}, {}", bar.text)?;
            }
        }
    }
    Ok(())
}

/// The cells of a case's table; the first line names the subjects.
fn grid(rows: &[&Row]) -> Vec<Vec<String>> {
    let (mut subjects, mut metrics): (Vec<&str>, Vec<(&str, &str)>) = (Vec::new(), Vec::new());
    for row in rows {
        if !subjects.contains(&row.subject.as_str()) {
            subjects.push(&row.subject);
        }
        if !metrics.contains(&(row.metric, row.unit)) {
            metrics.push((row.metric, row.unit));
        }
    }
    let mut head = vec![String::new()];
    head.extend(subjects.iter().map(|&subject| subject.to_owned()));
    let mut grid = vec![head];
    for (metric, unit) in metrics {
        let mut line = vec![format!("{metric}, {unit}")];
        for subject in &subjects {
            let row = rows.iter().find(|row| row.subject == *subject && row.metric == metric);
            line.push(row.map_or_else(
                || "-".to_owned(),
                |row| {
                    let spread = row.summary.spread_percent();
                    format!("{} ~{spread:.0}%", figure(row.summary.median))
                },
            ));
        }
        grid.push(line);
    }
    grid
}

fn write_grid(grid: &[Vec<String>], out: &mut impl Write) -> io::Result<()> {
    let columns = grid.first().map_or(0, Vec::len);
    let width = |column: usize| grid.iter().map(|line| line[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for line in grid {
        for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
            if column == 0 {
                write!(out, "  {cell:<width$}")?;
            } else {
                write!(out, "  {cell:>width$}")?;
            }
        }
        writeln!(out)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(subject: &str, value: f64, bars: Vec<Bar>) -> Row {
        let summary = Summary { median: value, min: value * 0.9, max: value * 1.1, runs: 3 };
        let (case, subject) = ("bulk".to_owned(), subject.to_owned());
        Row { case, subject, metric: "throughput", unit: "Gbit/s", summary, bars }
    }

    #[test]
    fn figures_keep_three_digits() {
        let shown = [0.4, 9.87, 47.12, 151.4, 84_321.0, 2_104_000.0, 19_950_000.0].map(figure);
        assert_eq!(shown, ["0.40", "9.87", "47.1", "151", "84.3k", "2.10M", "19.9M"]);
    }

    #[test]
    fn rows_are_one_object_per_line_with_their_bar() {
        let bar = Bar { text: ">= 4".to_owned(), pass: false };
        let rows = [row("jsp", 2.0, vec![bar]), row("quinn", 4.0, Vec::new())];
        let mut out = Vec::new();
        json(&rows, &mut out).unwrap();
        let lines: Vec<serde_json::Value> = String::from_utf8(out)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0]["suite"], "bench");
        assert_eq!(lines[0]["value"], 2.0);
        assert_eq!(lines[0]["pass"], false);
        assert!(lines[1].get("bar").is_none());
    }

    #[test]
    fn a_table_has_subjects_as_columns() {
        let bar = Bar { text: ">= 4".to_owned(), pass: false };
        let mut out = Vec::new();
        table(&[row("jsp", 2.0, vec![bar]), row("quinn", 4.0, Vec::new())], &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("throughput, Gbit/s  2.00 ~20%  4.00 ~20%"), "{text}");
        assert!(text.contains("bar MISSED: jsp throughput 2.00, >= 4"), "{text}");
    }
}
