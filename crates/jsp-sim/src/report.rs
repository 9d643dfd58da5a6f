//! Results that a machine can read: one JSON object per line on standard output.

use serde::Serialize;

/// One measured or checked figure.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    suite: &'static str,
    case: String,
    subject: &'static str,
    metric: String,
    value: f64,
    unit: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    bar: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pass: Option<bool>,
}

impl Row {
    /// A figure of this project without a bar.
    pub fn new(
        case: impl Into<String>,
        metric: impl Into<String>,
        value: f64,
        unit: &'static str,
    ) -> Self {
        Self {
            suite: "sim",
            case: case.into(),
            subject: "jsp",
            metric: metric.into(),
            value,
            unit,
            bar: None,
            pass: None,
        }
    }

    /// The same figure with its bar, and whether it held.
    pub fn bar(mut self, bar: impl Into<String>, pass: bool) -> Self {
        self.bar = Some(bar.into());
        self.pass = Some(pass);
        self
    }

    /// Whether the bar held, if there is one.
    pub fn holds(&self) -> bool {
        self.pass != Some(false)
    }

    /// The row as one line of JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a row holds only strings and finite numbers")
    }

    /// The row as a line for people.
    pub fn to_text(&self) -> String {
        let verdict = match (&self.bar, self.pass) {
            (Some(bar), Some(true)) => format!("  {bar}  held"),
            (Some(bar), _) => format!("  {bar}  NOT HELD"),
            _ => String::new(),
        };
        let Self { case, metric, value, unit, .. } = self;
        format!("{case:<18} {metric:<24} {value:>14.3} {unit}{verdict}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_one_object_and_shows_its_bar_only_when_it_has_one() {
        let row = Row::new("worlds", "violations", 0.0, "count");
        assert_eq!(
            row.to_json(),
            r#"{"suite":"sim","case":"worlds","subject":"jsp","metric":"violations","value":0.0,"unit":"count"}"#
        );
        let row = row.bar("== 0", false);
        assert!(row.to_json().ends_with(r#""bar":"== 0","pass":false}"#) && !row.holds());
    }
}
