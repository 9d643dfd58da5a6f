//! Plots of a case as SVG: the distribution of latencies, and the queue over time.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;

use super::case::{Case, Subject};
use super::sample::Sample;
use super::statistics::{percentile, sorted};

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 400.0;
const MARGIN: f64 = 56.0;
/// Colours that people with any colour vision tell apart (Okabe and Ito, 2008), one a subject.
const COLOURS: [&str; 3] = ["#0072b2", "#d55e00", "#009e73"];
/// Points of a line at most.
const POINTS_MAX: usize = 1_500;

/// One line of a plot.
struct Line {
    name: String,
    points: Vec<(f64, f64)>,
}

/// An axis: what stands on it, its range, and its ticks.
struct Axis {
    title: String,
    range: (f64, f64),
    ticks: Vec<(f64, String)>,
}

impl Axis {
    /// Evenly divided from zero to at least `most`.
    fn even(title: &str, most: f64) -> Self {
        let raw = (most / 5.0).max(1e-9);
        let magnitude = 10f64.powf(raw.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0]
            .into_iter()
            .map(|factor| factor * magnitude)
            .find(|step| *step >= raw)
            .unwrap_or(raw);
        let count = (most / step).ceil().max(1.0) as u32;
        let tick = |n: u32| (f64::from(n) * step, format!("{}", f64::from(n) * step));
        let ticks: Vec<_> = (0..=count).map(tick).collect();
        Self { title: title.to_owned(), range: (0.0, f64::from(count) * step), ticks }
    }

    fn place(&self, value: f64) -> f64 {
        (value - self.range.0) / (self.range.1 - self.range.0)
    }
}

/// Writes the plots of a case into a folder, which is made if need be.
///
/// # Errors
/// When the folder or a file cannot be written.
pub fn write(folder: &Path, case: &Case, all: &[(Subject, Vec<Sample>)]) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    if let Some(svg) = latencies(case, all) {
        fs::write(folder.join(format!("{}-latency.svg", case.name)), svg)?;
    }
    if let Some(svg) = queues(case, all) {
        fs::write(folder.join(format!("{}-queue.svg", case.name)), svg)?;
    }
    Ok(())
}

/// Latency at each fraction of messages; the rare ones, which matter, have half of the axis.
fn latencies(case: &Case, all: &[(Subject, Vec<Sample>)]) -> Option<String> {
    let nines = |percent: f64| -(1.0 - percent / 100.0).log10();
    let ticks = [0.0, 90.0, 99.0, 99.9].map(|percent| (nines(percent), format!("{percent} %")));
    let mut lines = Vec::new();
    for (subject, samples) in all {
        let messages = samples.iter().flat_map(|sample| &sample.messages);
        let values = messages.filter(|message| !message.is_excused);
        let values = sorted(values.filter_map(|m| Some(m.latency?.as_secs_f64() * 1e3)));
        if values.is_empty() {
            continue;
        }
        let point = |n: u32| {
            let nine = f64::from(n) / 100.0;
            (nine, percentile(&values, (1.0 - 10f64.powf(-nine)) * 100.0))
        };
        lines
            .push(Line { name: subject.name().to_owned(), points: (0..=330).map(point).collect() });
    }
    let most = lines.iter().flat_map(|line| &line.points).map(|point| point.1).fold(0.0, f64::max);
    let horizontal =
        Axis { title: "share of messages".to_owned(), range: (0.0, 3.3), ticks: ticks.to_vec() };
    let title = format!("{}: latency of messages", case.name);
    (!lines.is_empty()).then(|| draw(&title, &horizontal, &Axis::even("latency, ms", most), &lines))
}

/// What packets waited in the world of the first seed.
fn queues(case: &Case, all: &[(Subject, Vec<Sample>)]) -> Option<String> {
    let mut lines = Vec::new();
    for (subject, samples) in all {
        let Some(waits) = samples.first().map(|sample| &sample.waits) else { continue };
        if waits.is_empty() {
            continue;
        }
        let group = waits.len().div_ceil(POINTS_MAX);
        // The longest wait of each group: peaks must not vanish.
        let points = waits.chunks(group).filter_map(|group| {
            let (at, wait) = group.iter().max_by_key(|(_, wait)| *wait)?;
            Some((at.since(case.starts()).as_secs_f64(), wait.as_secs_f64() * 1e3))
        });
        lines.push(Line { name: subject.name().to_owned(), points: points.collect() });
    }
    let most = lines.iter().flat_map(|line| &line.points).map(|point| point.1).fold(1.0, f64::max);
    let title = format!("{}: wait in the queue, first seed", case.name);
    let horizontal = Axis::even("time, s", case.lasts.as_secs_f64());
    (!lines.is_empty()).then(|| draw(&title, &horizontal, &Axis::even("wait, ms", most), &lines))
}

fn draw(title: &str, across: &Axis, up: &Axis, lines: &[Line]) -> String {
    let x = |value| MARGIN + across.place(value) * (WIDTH - 2.0 * MARGIN);
    let y = |value| HEIGHT - MARGIN - up.place(value) * (HEIGHT - 2.0 * MARGIN);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{MARGIN}\" y=\"24\" font-size=\"15\">{title}</text>\n"
    );
    let (left, right) = (MARGIN, WIDTH - MARGIN);
    let (top, bottom) = (MARGIN, HEIGHT - MARGIN);
    for (value, text) in &across.ticks {
        let at = x(*value);
        let _ = writeln!(
            svg,
            "<path d=\"M{at:.1} {top}V{bottom}\" stroke=\"#ddd\"/>\
             <text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{text}</text>",
            bottom + 16.0
        );
    }
    for (value, text) in &up.ticks {
        let at = y(*value);
        let _ = writeln!(
            svg,
            "<path d=\"M{left} {at:.1}H{right}\" stroke=\"#ddd\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>",
            left - 6.0,
            at + 4.0
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{right}\" y=\"{}\" text-anchor=\"end\">{}</text>\
         <text x=\"{left}\" y=\"{}\">{}</text>",
        HEIGHT - 16.0,
        across.title,
        top - 8.0,
        up.title
    );
    for ((index, line), colour) in lines.iter().enumerate().zip(COLOURS.iter().cycle()) {
        let mut path = String::new();
        for (number, point) in line.points.iter().enumerate() {
            let letter = if number == 0 { 'M' } else { 'L' };
            let _ = write!(path, "{letter}{:.1} {:.1}", x(point.0), y(point.1));
        }
        let at = WIDTH - MARGIN - 100.0 * (lines.len() - index) as f64;
        let _ = writeln!(
            svg,
            "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>\
             <text x=\"{at}\" y=\"{}\" fill=\"{colour}\">{}</text>",
            top - 8.0,
            line.name
        );
    }
    svg.push_str("</svg>\n");
    svg
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::{sample, table};
    use std::time::Duration;

    #[test]
    fn both_plots_of_a_case_have_a_line_for_each_subject() {
        let case = table::cases("FV").unwrap().remove(0).shortened(Duration::from_secs(2));
        let all: Vec<_> = [Subject::ALL[0], Subject::ALL[1]]
            .map(|subject| (subject, vec![sample(&case, subject, 1)]))
            .to_vec();
        for svg in [latencies(&case, &all).unwrap(), queues(&case, &all).unwrap()] {
            assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
            assert!(svg.contains(">jsp</text>") && svg.contains(">quinn</text>"));
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }

    #[test]
    fn axes_have_round_ticks() {
        let axis = Axis::even("x", 37.0);
        let texts: Vec<_> = axis.ticks.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(texts, ["0", "10", "20", "30", "40"]);
    }
}
