//! The demonstration in a terminal: latency of each stream, loss and rate, as they happen.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use ratatui::crossterm::event::{self, Event, KeyCode, KeyModifiers};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize};
use ratatui::text::Line;
use ratatui::widgets::{Block, Gauge, Paragraph, Row, Sparkline, Table};
use ratatui::{DefaultTerminal, Frame};
use tokio::time::interval;

use super::Stage;
use super::board::{Picture, Track};
use crate::exit::Failure;
use crate::output::{bits_per_second, milliseconds};

/// Pictures a second: 10.
const FRAME_EVERY: Duration = Duration::from_millis(100);
/// Rates that are kept for the file's curve.
const RATES: usize = 200;

/// Gives the terminal back, however the dashboard ends.
struct Screen(DefaultTerminal);

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// Draws until the user presses q, Escape or Ctrl-C.
pub(super) async fn run(stage: &Stage) -> Result<(), Failure> {
    let explain = |error: io::Error| {
        Failure::usage(format!("the terminal cannot be drawn on: {error}; use --plain"))
    };
    let mut screen = Screen(ratatui::try_init().map_err(explain)?);
    let mut ticks = interval(FRAME_EVERY);
    let mut rates: VecDeque<u64> = VecDeque::new();
    let mut bytes_before = 0;
    loop {
        ticks.tick().await;
        while event::poll(Duration::ZERO).map_err(explain)? {
            if let Event::Key(key) = event::read().map_err(explain)? {
                let control_c =
                    key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c');
                if control_c || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc) {
                    return Err(Failure::interrupted());
                }
            }
        }
        let picture = stage.board.picture();
        if rates.len() == RATES {
            rates.pop_front();
        }
        rates.push_back(picture.file.bytes - bytes_before);
        bytes_before = picture.file.bytes;
        screen.0.draw(|frame| draw(frame, stage, &picture, &rates)).map_err(explain)?;
    }
}

fn draw(frame: &mut Frame<'_>, stage: &Stage, picture: &Picture, rates: &VecDeque<u64>) {
    let areas = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(6),
        Constraint::Min(4),
        Constraint::Min(4),
        Constraint::Length(3),
        Constraint::Length(3),
        Constraint::Length(1),
    ])
    .split(frame.area());
    let [title, table, voice, file, link, time, help] = areas[..] else { return };
    let scene = &stage.scene;
    let text = format!(
        "JetStreamProto: one connection, {:.1} % loss, {:.0} ms round trip, {:.1} Mbit/s",
        scene.loss * 100.0,
        milliseconds(scene.rtt),
        scene.bits_per_second as f64 / 1e6
    );
    frame.render_widget(Line::from(text).bold(), title);
    frame.render_widget(streams(stage, picture), table);
    draw_voice(frame, stage, &picture.voice, voice);
    draw_file(frame, rates, file);
    draw_link(frame, stage, link);
    let done = stage.board.elapsed().as_secs_f64() / scene.time.as_secs_f64();
    let gauge = Gauge::default()
        .block(Block::bordered().title("time"))
        .gauge_style(Style::new().fg(Color::Cyan))
        .ratio(done.clamp(0.0, 1.0));
    frame.render_widget(gauge, time);
    frame.render_widget(Line::from("q ends the demonstration").dim(), help);
}

fn streams<'a>(stage: &Stage, picture: &Picture) -> Table<'a> {
    let elapsed = stage.board.elapsed();
    let row = |name: &str, track: &Track, says: String| {
        let recent = |share: f64| {
            let mut sorted: Vec<_> = track.recent.iter().copied().collect();
            sorted.sort_unstable();
            let rank = (share * sorted.len() as f64).ceil() as usize;
            sorted
                .get(rank.saturating_sub(1))
                .map_or("-".into(), |latency| format!("{:.1} ms", milliseconds(*latency)))
        };
        Row::new([
            name.to_owned(),
            track.sent.to_string(),
            track.arrived.to_string(),
            recent(0.5),
            recent(0.99),
            bits_per_second(track.bytes, elapsed),
            says,
        ])
    };
    let lost = picture.voice.sent.saturating_sub(picture.voice.arrived);
    let rows = [
        row("voice", &picture.voice, format!("{lost} missing, never waited for")),
        row("chat", &picture.chat, picture.last_line.clone()),
        row("file", &picture.file, "takes what the others leave".into()),
    ];
    let widths = [
        Constraint::Length(7),
        Constraint::Length(10),
        Constraint::Length(10),
        Constraint::Length(10),
        Constraint::Length(10),
        Constraint::Length(13),
        Constraint::Min(10),
    ];
    Table::new(rows, widths)
        .header(Row::new(["stream", "sent", "arrived", "p50", "p99", "rate", ""]).bold())
        .block(Block::bordered().title("streams (one-way latency of the last 100)"))
}

fn draw_voice(frame: &mut Frame<'_>, stage: &Stage, voice: &Track, area: Rect) {
    // What the link itself takes is left out, so that the waiting shows.
    let base = stage.scene.rtt / 2;
    let tenths: Vec<u64> = voice
        .recent
        .iter()
        .map(|latency| (milliseconds(latency.saturating_sub(base)) * 10.0) as u64)
        .collect();
    let title = "voice: waiting beyond the link's own delay, each frame (full height 50 ms)";
    let curve = Sparkline::default()
        .block(Block::bordered().title(title))
        .style(Style::new().fg(Color::Green))
        .max(500)
        .data(tenths);
    frame.render_widget(curve, area);
}

fn draw_file(frame: &mut Frame<'_>, rates: &VecDeque<u64>, area: Rect) {
    let curve = Sparkline::default()
        .block(Block::bordered().title("file: bytes arriving in each tenth of a second"))
        .style(Style::new().fg(Color::Yellow))
        .data(rates.iter().copied());
    frame.render_widget(curve, area);
}

fn draw_link(frame: &mut Frame<'_>, stage: &Stage, area: Rect) {
    let (link, stats) = (stage.link.stats(), stage.connection.stats());
    let entered = link.outgoing.datagrams.max(1) as f64;
    let text = format!(
        "lost {:.1} %   dropped by the queue {:.1} %   round trip {:.1} ms   window {} KiB   in flight {} KiB",
        link.outgoing.lost as f64 / entered * 100.0,
        link.outgoing.dropped as f64 / entered * 100.0,
        milliseconds(stats.rtt),
        stats.congestion_window >> 10,
        stats.bytes_in_flight >> 10,
    );
    frame.render_widget(Paragraph::new(text).block(Block::bordered().title("link")), area);
}
