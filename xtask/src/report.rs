//! Results that a machine can read: one JSON object per line on standard output.

use serde::Serialize;
use serde_json::Number;

/// One measured or checked figure.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    suite: &'static str,
    case: String,
    subject: &'static str,
    metric: &'static str,
    value: Number,
    unit: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    bar: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pass: Option<bool>,
}

impl Row {
    /// A row about this project that has no bar.
    pub(crate) fn new(
        suite: &'static str,
        case: impl Into<String>,
        metric: &'static str,
        value: impl Into<Number>,
        unit: &'static str,
    ) -> Self {
        Self {
            suite,
            case: case.into(),
            subject: "jsp",
            metric,
            value: value.into(),
            unit,
            bar: None,
            pass: None,
        }
    }

    /// The same row about somebody else.
    pub(crate) fn subject(mut self, subject: &'static str) -> Self {
        self.subject = subject;
        self
    }

    /// The same row with its bar, and whether the value held it.
    pub(crate) fn bar(mut self, bar: impl Into<String>, pass: bool) -> Self {
        self.bar = Some(bar.into());
        self.pass = Some(pass);
        self
    }

    /// The row as one line of JSON.
    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a row holds only strings and numbers")
    }
}

/// Seconds with one decimal, as a JSON number.
pub(crate) fn seconds(duration: std::time::Duration) -> Number {
    let tenths = (duration.as_secs_f64() * 10.0).round() / 10.0;
    Number::from_f64(tenths).expect("a duration is finite")
}

/// Where a command's results go: rows for a machine, or text for a person.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    json: bool,
}

impl Output {
    /// Rows on standard output when `json`, otherwise text on standard output.
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether rows are printed.
    pub(crate) fn is_json(self) -> bool {
        self.json
    }

    /// Prints a row in JSON mode, nothing otherwise.
    pub(crate) fn row(self, row: &Row) {
        if self.json {
            println!("{}", row.to_json());
        }
    }

    /// Prints a line for a person: standard output, or standard error in JSON mode.
    pub(crate) fn say(self, line: impl AsRef<str>) {
        if self.json {
            eprintln!("{}", line.as_ref());
        } else {
            println!("{}", line.as_ref());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_without_a_bar_has_neither_bar_nor_pass() {
        let row = Row::new("tidy", "words", "breaches", 0u64, "count");
        assert_eq!(
            row.to_json(),
            r#"{"suite":"tidy","case":"words","subject":"jsp","metric":"breaches","value":0,"unit":"count"}"#
        );
    }

    #[test]
    fn a_bar_brings_its_verdict() {
        let row = Row::new("fuzz", "varint", "findings", 2u64, "count").bar("== 0", false);
        let back: serde_json::Value = serde_json::from_str(&row.to_json()).unwrap();
        assert_eq!(back["bar"], "== 0");
        assert_eq!(back["pass"], false);
        assert_eq!(back["value"], 2);
    }

    #[test]
    fn seconds_keep_one_decimal() {
        assert_eq!(seconds(std::time::Duration::from_millis(1_260)).as_f64(), Some(1.3));
    }
}
