//! The table, for people and for machines.

use serde_json::json;

use crate::row::{Kind, Row};

/// What became of a row.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The figure is as wanted.
    Held(String),
    /// It is not.
    Missed(String),
    /// A test elsewhere decides.
    Elsewhere(String),
    /// It waits for this.
    Pending(String),
}

impl Verdict {
    fn words(&self) -> (&'static str, &str) {
        match self {
            Self::Held(text) => ("held", text),
            Self::Missed(text) => ("missed", text),
            Self::Elsewhere(text) => ("elsewhere", text),
            Self::Pending(text) => ("pending", text),
        }
    }
}

/// A row's line of the table.
pub fn line(row: &Row, verdict: &Verdict) -> String {
    let (word, text) = verdict.words();
    let attack = format!("{:>2}  {}", row.number, row.attack);
    format!("{attack}\n      wanted: {}\n      {word}: {text}", row.wanted)
}

/// The same as one object of JSON.
pub fn object(row: &Row, verdict: &Verdict) -> String {
    let (word, text) = verdict.words();
    let pass = match row.kind {
        Kind::Measured(_) | Kind::Missed(_) => Some(matches!(verdict, Verdict::Held(_))),
        Kind::Elsewhere(_) | Kind::Pending(_) => None,
    };
    json!({
        "suite": "hostile",
        "case": format!("{:02} {}", row.number, row.attack),
        "subject": "jsp",
        "metric": "verdict",
        "value": word,
        "measured": text,
        "bar": row.wanted,
        "pass": pass,
    })
    .to_string()
}
