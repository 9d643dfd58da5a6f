//! What the demonstration has shown: a table for people, rows with bars for programs.

use std::time::Duration;

use super::board::{Picture, Track};
use super::{Scene, Stage, chat, voice};
use crate::exit::Exit;
use crate::output::{Output, Row, Tone, bits_per_second, megabits, milliseconds};

/// What the voice may take beyond the one-way delay of the link, at its 99th percentile: a frame of
/// 20 ms and some waiting behind a datagram that is being sent.
const VOICE_ALLOWANCE: Duration = Duration::from_millis(25);

/// Percent of the link's rate that must have been in use: a voice that is alone on a link proves
/// nothing.
const FILLED_MIN: f64 = 75.0;

/// Rows of one table.
pub(super) struct Report {
    scene: Scene,
    picture: Picture,
    rows: Vec<Row>,
}

fn row(case: &str, metric: &'static str, value: f64, unit: &'static str) -> Row {
    Row::new("demo", case, metric, value, unit)
}

fn quantile(track: &Track, share: f64) -> f64 {
    track.quantile(share).map_or(0.0, milliseconds)
}

/// Frames that were of no use, in percent.
fn missed(track: &Track) -> f64 {
    let missed = track.sent.saturating_sub(track.arrived) + track.late;
    if track.sent == 0 { 0.0 } else { missed as f64 / track.sent as f64 * 100.0 }
}

fn latencies(case: &'static str, track: &Track) -> impl Iterator<Item = Row> {
    let metrics = [("latency_p50", 0.5), ("latency_p95", 0.95), ("latency_max", 1.0)];
    let values = metrics.map(|(metric, share)| (metric, quantile(track, share)));
    values.into_iter().map(move |(metric, value)| row(case, metric, value, "ms"))
}

impl Report {
    pub(super) fn of(stage: &Stage) -> Self {
        let (scene, picture) = (stage.scene, stage.board.picture());
        let mut rows = voice_rows(&scene, &picture.voice);
        rows.extend(chat_rows(&picture));
        rows.extend(file_rows(&picture));
        let (link, stats) = (stage.link.stats(), stage.connection.stats());
        let entered = link.outgoing.datagrams.max(1) as f64;
        let time = picture.hashes.done_after.max(scene.time);
        let filled = megabits(link.outgoing.bytes, time) * 1e6 / scene.bits_per_second as f64;
        rows.extend([
            row("link", "lost", link.outgoing.lost as f64 / entered * 100.0, "%"),
            row("link", "dropped", link.outgoing.dropped as f64 / entered * 100.0, "%"),
            row("link", "filled", filled * 100.0, "%")
                .with_bar(format!(">= {FILLED_MIN}"), filled * 100.0 >= FILLED_MIN),
            row("link", "rtt", milliseconds(stats.rtt), "ms"),
            row("link", "window", stats.congestion_window as f64, "bytes"),
        ]);
        Self { scene, picture, rows }
    }
}

fn voice_rows(scene: &Scene, voice: &Track) -> Vec<Row> {
    let bar = milliseconds(scene.rtt / 2 + VOICE_ALLOWANCE);
    let p99 = quantile(voice, 0.99);
    let held = voice.arrived > 0 && p99 <= bar;
    let mut rows = vec![
        row("voice", "sent", voice.sent as f64, "messages"),
        row("voice", "arrived", voice.arrived as f64, "messages"),
        row("voice", "latency_p99", p99, "ms").with_bar(format!("<= {bar}"), held),
    ];
    rows.extend(latencies("voice", voice));
    rows.push(row("voice", "missed_deadline", missed(voice), "%"));
    rows
}

fn chat_rows(picture: &Picture) -> Vec<Row> {
    let chat = &picture.chat;
    let right = chat.sent > 0 && chat.arrived == chat.sent && picture.chat_wrong == 0;
    let mut rows = vec![
        row("chat", "sent", chat.sent as f64, "messages"),
        row("chat", "arrived", chat.arrived as f64, "messages"),
        row("chat", "complete_in_order", f64::from(u8::from(right)), "").with_bar("== 1", right),
        row("chat", "latency_p99", quantile(chat, 0.99), "ms"),
    ];
    rows.extend(latencies("chat", chat));
    rows.push(row("chat", "missed_deadline", missed(chat), "%"));
    rows
}

fn file_rows(picture: &Picture) -> Vec<Row> {
    let hashes = picture.hashes;
    let right = hashes.sent.is_some() && hashes.sent == hashes.arrived;
    let rate = megabits(picture.file.bytes, hashes.done_after);
    vec![
        row("file", "sent", picture.file.sent as f64, "bytes"),
        row("file", "arrived", picture.file.arrived as f64, "bytes"),
        row("file", "rate", rate, "Mbit/s"),
        row("file", "hash_right", f64::from(u8::from(right)), "").with_bar("== 1", right),
    ]
}

/// Prints the report; the exit code says whether every bar held.
pub(super) fn print(report: &Report, output: Output) -> Exit {
    report.rows.iter().for_each(|row| output.object(row));
    table(report, output);
    let held = report.rows.iter().all(|row| row.pass != Some(false));
    if held { Exit::Success } else { Exit::BarMissed }
}

fn table(report: &Report, output: Output) {
    let Report { scene, picture, rows } = report;
    output.line(format!(
        "\nOne connection over {:.1} % loss each way, {:.0} ms round trip, {:.1} Mbit/s, {} KB queue; seed {}",
        scene.loss * 100.0,
        milliseconds(scene.rtt),
        scene.bits_per_second as f64 / 1e6,
        scene.queue() / 1000,
        scene.seed
    ));
    let head =
        ["stream", "sent", "arrived", "p50 ms", "p95 ms", "p99 ms", "max ms", "missed", "rate"];
    output.line(output.tinted(Tone::Strong, cells(&head.map(str::to_owned))));
    let time = scene.time;
    output.line(cells(&messages("voice", &picture.voice, time)));
    output.line(cells(&messages("chat", &picture.chat, time)));
    let size = |bytes: u64| format!("{:.2} MB", bytes as f64 / 1e6);
    let none = || "-".to_owned();
    let file = &picture.file;
    output.line(cells(&[
        "file".to_owned(),
        size(file.sent),
        size(file.arrived),
        none(),
        none(),
        none(),
        none(),
        none(),
        bits_per_second(file.bytes, picture.hashes.done_after),
    ]));
    output.line(format!(
        "(latency one way, of what arrived; missed: lost, or later than {} ms for voice and {} s for chat)",
        voice::DEADLINE.as_millis(),
        chat::DEADLINE.as_secs()
    ));
    for row in rows.iter().filter(|row| row.case == "link") {
        output.line(format!("link {:8} {:>10} {}", row.metric, row.value, row.unit));
    }
    for row in rows {
        let (Some(bar), Some(pass)) = (&row.bar, row.pass) else { continue };
        let verdict = if pass {
            output.tinted(Tone::Good, "held  ")
        } else {
            output.tinted(Tone::Bad, "MISSED")
        };
        output.line(format!(
            "{verdict} {} {}: {} {} (bar {bar})",
            row.case, row.metric, row.value, row.unit
        ));
    }
}

fn messages(name: &str, track: &Track, time: Duration) -> [String; 9] {
    let ms = |share| format!("{:.1}", quantile(track, share));
    [
        name.to_owned(),
        track.sent.to_string(),
        track.arrived.to_string(),
        ms(0.5),
        ms(0.95),
        ms(0.99),
        ms(1.0),
        format!("{:.1} %", missed(track)),
        format!("{:.1} kbit/s", megabits(track.bytes, time) * 1000.0),
    ]
}

fn cells(cells: &[String; 9]) -> String {
    let [name, rest @ ..] = cells;
    rest.iter().fold(format!("{name:7}"), |line, cell| format!("{line}{cell:>12}"))
}
