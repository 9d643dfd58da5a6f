//! The demonstration without a terminal: a line each second.

use std::time::Duration;

use tokio::time::interval;

use super::Stage;
use crate::output::{Output, bits_per_second, milliseconds};

const LINE_EVERY: Duration = Duration::from_secs(1);

/// Prints lines for ever. With `--json` they go to standard error, where progress belongs.
pub(super) async fn run(stage: &Stage, output: Output) {
    let mut ticks = interval(LINE_EVERY);
    ticks.tick().await;
    let mut file_before = 0;
    loop {
        ticks.tick().await;
        let picture = stage.board.picture();
        let stats = stage.connection.stats();
        let link = stage.link.stats();
        let voice = &picture.voice;
        let recent = voice.recent.iter().rev().take(50).max().copied().unwrap_or_default();
        let lost = voice.sent.saturating_sub(voice.arrived);
        let text = format!(
            "{:4.0} s  voice {:5.1} ms worst, {lost} of {} missing | chat {} of {} | file {:>11} | \
             link {} lost, {} dropped, rtt {:.0} ms, window {} KiB",
            stage.board.elapsed().as_secs_f64(),
            milliseconds(recent),
            voice.sent,
            picture.chat.arrived,
            picture.chat.sent,
            bits_per_second(picture.file.bytes - file_before, LINE_EVERY),
            link.outgoing.lost,
            link.outgoing.dropped,
            milliseconds(stats.rtt),
            stats.congestion_window >> 10,
        );
        file_before = picture.file.bytes;
        if output.json { output.remark(text) } else { output.line(text) }
    }
}
