//! Figures for people and for machines.

use std::borrow::Cow;

use serde_json::json;

/// One figure, and its bar where there is one.
pub(crate) struct Row {
    pub(crate) case: Cow<'static, str>,
    pub(crate) subject: &'static str,
    pub(crate) metric: &'static str,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    /// The bar in words, and whether it held.
    pub(crate) bar: Option<(&'static str, bool)>,
}

impl Row {
    pub(crate) fn new(
        case: impl Into<Cow<'static, str>>,
        metric: &'static str,
        value: f64,
        unit: &'static str,
    ) -> Self {
        Self { case: case.into(), subject: "jsp", metric, value, unit, bar: None }
    }

    pub(crate) fn of(self, subject: &'static str) -> Self {
        Self { subject, ..self }
    }

    pub(crate) fn bar(self, text: &'static str, pass: bool) -> Self {
        Self { bar: Some((text, pass)), ..self }
    }

    pub(crate) fn holds(&self) -> bool {
        self.bar.is_none_or(|(_, pass)| pass)
    }
}

/// One object a line, or a table.
pub(crate) fn print(rows: &[Row], as_json: bool) {
    for row in rows {
        let Row { case, subject, metric, value, unit, bar } = row;
        if as_json {
            let mut object = json!({ "suite": "lab", "case": case, "subject": subject,
                "metric": metric, "value": value, "unit": unit });
            if let (Some((text, pass)), Some(fields)) = (bar, object.as_object_mut()) {
                fields.insert("bar".to_owned(), json!(text));
                fields.insert("pass".to_owned(), json!(pass));
            }
            println!("{object}");
        } else {
            let verdict = match bar {
                Some((text, true)) => format!("  {text}  held"),
                Some((text, false)) => format!("  {text}  NOT HELD"),
                None => String::new(),
            };
            println!("{case:<16} {subject:<10} {metric:<16} {value:>12.3} {unit}{verdict}");
        }
    }
}
