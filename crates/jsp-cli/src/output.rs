//! What is printed: sentences and tables for people, or one JSON object per line for programs.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

/// Where and how a command prints. Results go to standard output, progress and errors to standard
/// error.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    /// One JSON object per line instead of sentences.
    pub(crate) json: bool,
    /// Standard output is a terminal that wants colours.
    pub(crate) coloured: bool,
    /// Progress bars are wanted.
    pub(crate) progress: bool,
    /// Nothing is wanted at all.
    silent: bool,
}

/// A row of a measurement, in the form of every measuring command.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) suite: &'static str,
    pub(crate) case: String,
    pub(crate) subject: &'static str,
    pub(crate) metric: &'static str,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bar: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pass: Option<bool>,
}

impl Row {
    pub(crate) fn new(
        suite: &'static str,
        case: impl Into<String>,
        metric: &'static str,
        value: f64,
        unit: &'static str,
    ) -> Self {
        let value = if value.is_finite() { (value * 1000.0).round() / 1000.0 } else { 0.0 };
        let case = case.into();
        Self { suite, case, subject: "jsp", metric, value, unit, bar: None, pass: None }
    }

    pub(crate) fn with_bar(mut self, bar: impl Into<String>, pass: bool) -> Self {
        (self.bar, self.pass) = (Some(bar.into()), Some(pass));
        self
    }
}

/// Colours that carry meaning.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Tone {
    Good,
    Bad,
    Strong,
    Quiet,
}

impl Output {
    pub(crate) fn new(json: bool, quiet: bool) -> Self {
        Self {
            json,
            coloured: !json && !is_plain() && io::stdout().is_terminal(),
            progress: !json && !quiet && io::stderr().is_terminal(),
            silent: false,
        }
    }

    /// Prints nothing.
    pub(crate) fn silent() -> Self {
        Self { json: false, coloured: false, progress: false, silent: true }
    }

    /// A line of the result, for people only.
    pub(crate) fn line(&self, text: impl AsRef<str>) {
        if !self.json && !self.silent {
            print(text.as_ref());
        }
    }

    /// One JSON object, for programs only.
    pub(crate) fn object(&self, value: &impl Serialize) {
        if self.json
            && let Ok(text) = serde_json::to_string(value)
        {
            print(&text);
        }
    }

    /// A remark on standard error.
    pub(crate) fn remark(&self, text: impl AsRef<str>) {
        if self.silent {
            return;
        }
        let _ = writeln!(io::stderr().lock(), "{}", text.as_ref());
    }

    /// `text` in a colour, where colours are wanted.
    pub(crate) fn tinted(&self, tone: Tone, text: impl Into<String>) -> String {
        let text = text.into();
        if self.coloured { paint(tone, &text) } else { text }
    }

    /// `text` in a colour for standard error.
    pub(crate) fn tinted_error(&self, tone: Tone, text: &str) -> String {
        if io::stderr().is_terminal() && !is_plain() { paint(tone, text) } else { text.to_owned() }
    }
    /// A bar for `total` bytes, with rate and time left; hidden where it is not wanted.
    pub(crate) fn bytes_bar(&self, total: u64) -> ProgressBar {
        let template = "{wide_msg} {bytes}/{total_bytes} {bar:24} {bytes_per_sec} {eta} left";
        self.bar(ProgressBar::new(total), template)
    }

    fn bar(&self, bar: ProgressBar, template: &str) -> ProgressBar {
        let target = if self.progress {
            ProgressDrawTarget::stderr_with_hz(8)
        } else {
            ProgressDrawTarget::hidden()
        };
        bar.set_draw_target(target);
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar
    }
}

/// The user, or the terminal, wants no colours.
fn is_plain() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
        || std::env::var_os("TERM").is_some_and(|term| term == "dumb")
}

fn paint(tone: Tone, text: &str) -> String {
    let code = match tone {
        Tone::Good => 32,
        Tone::Bad => 31,
        Tone::Strong => 1,
        Tone::Quiet => 2,
    };
    format!("\x1b[{code}m{text}\x1b[0m")
}

/// A reader that has gone away, as `head` does, is no error worth a panic.
fn print(text: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// Text of a peer, safe for a terminal: what could steer it is shown as an escape.
pub(crate) fn harmless(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_control() || is_direction_mark(letter) {
            out.extend(letter.escape_unicode());
        } else {
            out.push(letter);
        }
    }
    out
}

/// Marks that reorder what follows, with which a name can be made to look like another.
fn is_direction_mark(letter: char) -> bool {
    matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Bytes as people read them.
pub(crate) fn bytes(count: u64) -> String {
    indicatif::BinaryBytes(count).to_string()
}

/// A rate in bits a second.
pub(crate) fn bits_per_second(bytes: u64, time: Duration) -> String {
    let bits = megabits(bytes, time);
    if bits >= 1000.0 {
        format!("{:.2} Gbit/s", bits / 1000.0)
    } else {
        format!("{bits:.1} Mbit/s")
    }
}

/// A rate in Mbit/s.
pub(crate) fn megabits(bytes: u64, time: Duration) -> f64 {
    let seconds = time.as_secs_f64();
    if seconds > 0.0 { bytes as f64 * 8.0 / seconds / 1e6 } else { 0.0 }
}

/// A time in milliseconds.
pub(crate) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_a_peer_cannot_steer_the_terminal() {
        assert_eq!(harmless("grüße 👋"), "grüße 👋");
        assert_eq!(harmless("a\x1b[2Jb\r\n"), "a\\u{1b}[2Jb\\u{d}\\u{a}");
        assert_eq!(harmless("exe\u{202e}gpj"), "exe\\u{202e}gpj");
    }

    #[test]
    fn rows_have_the_form_of_every_measurement() {
        let row = Row::new("demo", "voice", "latency_p99", 41.25, "ms").with_bar("<= 55", true);
        let text = serde_json::to_string(&row).unwrap();
        let expected = concat!(
            r#"{"suite":"demo","case":"voice","subject":"jsp","metric":"latency_p99","#,
            r#""value":41.25,"unit":"ms","bar":"<= 55","pass":true}"#
        );
        assert_eq!(text, expected);
        let row = Row::new("demo", "voice", "sent", f64::NAN, "messages");
        assert!(serde_json::to_string(&row).unwrap().contains(r#""value":0.0,"unit""#));
    }
}
