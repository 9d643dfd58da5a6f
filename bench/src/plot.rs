//! Bar charts as SVG, one for each case: its chief figure, subject by subject.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};

use crate::report::{Row, figure};

/// Pixels.
const WIDTH: f64 = 720.0;
const NAMES_WIDTH: f64 = 130.0;
const VALUES_WIDTH: f64 = 70.0;
const HEAD_HEIGHT: f64 = 40.0;
const LINE_HEIGHT: f64 = 22.0;
const BAR_HEIGHT: f64 = 14.0;

/// Figures of which more is better; of all others less is.
const MORE_IS_BETTER: &[&str] =
    &["throughput", "rate", "delivered", "goodput", "connected_in_3_tries"];

/// Colours that suit light and dark pages.
const STYLE: &str = "text{font:13px sans-serif;fill:#24292f}.title{font-weight:bold}\
    .ours{fill:#1a7f37}.theirs{fill:#6e9fd4}.limit{fill:#9a9a9a}.spread{stroke:#24292f}\
    @media(prefers-color-scheme:dark){text{fill:#e6edf3}.spread{stroke:#e6edf3}}";

/// Writes a chart for each case into `directory`, named after it.
pub(crate) fn write(rows: &[Row], directory: &Path) -> Result<()> {
    std::fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
    for (first, rows) in charts(rows) {
        let path = directory.join(format!("{}.svg", first.case.replace('%', "")));
        std::fs::write(&path, chart(first, rows)).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

/// The chief figure of each case is its first; a case of one subject makes no chart.
fn charts(rows: &[Row]) -> Vec<(&Row, Vec<&Row>)> {
    let mut charts: Vec<(&Row, Vec<&Row>)> = Vec::new();
    for row in rows {
        match charts.iter_mut().find(|(first, _)| first.case == row.case) {
            Some((first, rows)) if first.metric == row.metric => rows.push(row),
            Some(_) => {}
            None => charts.push((row, vec![row])),
        }
    }
    charts.retain(|(_, rows)| rows.len() > 1);
    charts
}

fn chart(first: &Row, mut rows: Vec<&Row>) -> String {
    let more = MORE_IS_BETTER.contains(&first.metric);
    rows.sort_by(|a, b| a.summary.median.total_cmp(&b.summary.median));
    if more {
        rows.reverse();
    }
    let most = rows.iter().map(|row| row.summary.max).fold(f64::MIN_POSITIVE, f64::max);
    let scale = (WIDTH - NAMES_WIDTH - VALUES_WIDTH) / most;
    let height = LINE_HEIGHT.mul_add(rows.len() as f64, HEAD_HEIGHT);
    let better = if more { "more" } else { "less" };
    let title = format!("{}: {}, {} ({better} is better)", first.case, first.metric, first.unit);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
         aria-label=\"{title}\">\n<style>{STYLE}</style>\n\
         <text class=\"title\" x=\"8\" y=\"22\">{title}</text>\n"
    );
    for (index, row) in rows.iter().enumerate() {
        line(&mut svg, row, LINE_HEIGHT.mul_add(index as f64, HEAD_HEIGHT), scale);
    }
    svg.push_str("</svg>\n");
    svg
}

/// A bar to the median, a thin line from the least to the most, and the median in figures.
fn line(svg: &mut String, row: &Row, top: f64, scale: f64) {
    let class = match row.subject.split('-').next() {
        Some("jsp") => "ours",
        Some("raw") => "limit",
        _ => "theirs",
    };
    let place = |value: f64| NAMES_WIDTH + (value * scale).max(0.0);
    let (base, middle) = (top + BAR_HEIGHT - 2.0, top + BAR_HEIGHT / 2.0);
    let (length, end) = (place(row.summary.median) - NAMES_WIDTH, place(row.summary.max));
    let (least, label, subject) = (place(row.summary.min), NAMES_WIDTH - 8.0, &row.subject);
    let (value, after) = (figure(row.summary.median), end + 6.0);
    // Writing to a string does not fail.
    let _ = writeln!(
        svg,
        "<text x=\"{label}\" y=\"{base:.1}\" text-anchor=\"end\">{subject}</text>\
         <rect class=\"{class}\" x=\"{NAMES_WIDTH}\" y=\"{top:.1}\" width=\"{length:.1}\" \
         height=\"{BAR_HEIGHT}\"/>\
         <line class=\"spread\" x1=\"{least:.1}\" x2=\"{end:.1}\" y1=\"{middle:.1}\" \
         y2=\"{middle:.1}\"/>\
         <text x=\"{after:.1}\" y=\"{base:.1}\">{value}</text>"
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Summary;

    fn row(subject: &str, metric: &'static str, value: f64) -> Row {
        let summary = Summary { median: value, min: value * 0.5, max: value * 2.0, runs: 3 };
        let (case, subject) = ("bulk".to_owned(), subject.to_owned());
        Row { case, subject, metric, unit: "Gbit/s", summary, bars: Vec::new() }
    }

    #[test]
    fn a_chart_holds_the_chief_figure_the_best_first() {
        let rows = [
            row("quinn", "throughput", 4.0),
            row("quinn", "client_cpu", 1.0),
            row("jsp", "throughput", 8.0),
        ];
        let all = charts(&rows);
        assert_eq!((all.len(), all[0].1.len()), (1, 2));
        let svg = chart(all[0].0, all[0].1.clone());
        assert!(svg.find(">jsp<").unwrap() < svg.find(">quinn<").unwrap(), "{svg}");
        // The longest line, 16, takes all the room; the bar of 8 half of it.
        assert!(svg.contains("width=\"260.0\""), "{svg}");
        assert!(svg.contains("more is better"));
    }

    #[test]
    fn what_nobody_is_compared_with_has_no_chart() {
        assert!(charts(&[row("jsp", "throughput", 8.0)]).is_empty());
    }
}
