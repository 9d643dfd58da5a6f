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
    limit: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    number: Option<u32>,
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
            limit: None,
            number: None,
            bar: None,
            pass: None,
        }
    }

    /// The same figure of somebody else.
    pub fn subject(mut self, subject: &'static str) -> Self {
        self.subject = subject;
        self
    }

    /// The same figure with what could be reached at best.
    pub fn limit(mut self, limit: &'static str) -> Self {
        self.limit = Some(limit);
        self
    }

    /// The same figure with the number of its bar.
    pub fn number(mut self, number: u32) -> Self {
        self.number = Some(number);
        self
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

    /// Whether there is a bar.
    pub fn has_bar(&self) -> bool {
        self.bar.is_some()
    }

    /// The row as one line of JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a row holds only strings and numbers")
    }

    /// The row as a line for people.
    pub fn to_text(&self) -> String {
        format!("{}  {}", self.to_columns(), self.verdict()).trim_end().to_owned()
    }

    /// What was measured, in columns.
    pub fn to_columns(&self) -> String {
        let Self { case, metric, value, unit, .. } = self;
        format!("{case:<24} {metric:<22} {value:>11.3} {unit:<11}")
    }

    /// The bar and whether it held; empty without one.
    pub fn verdict(&self) -> String {
        match (&self.bar, self.pass) {
            (Some(bar), Some(true)) => format!("{bar}  held"),
            (Some(bar), _) => format!("{bar}  NOT HELD"),
            _ => String::new(),
        }
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
        let row = row.bar("== 0", false).limit("1.2").number(7);
        assert!(row.to_json().ends_with(r#""limit":"1.2","number":7,"bar":"== 0","pass":false}"#));
        assert!(!row.holds() && row.has_bar() && row.to_text().ends_with("NOT HELD"));
    }
}
