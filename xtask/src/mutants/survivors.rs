//! Mutants that no test can or need notice, each with its reason.

use anyhow::{Result, bail};

use crate::workspace;

/// A line for each: `FILE: MUTANT = REASON`, the mutant as `cargo mutants` names it, without its place.
const FILE: &str = "xtask/mutants-survivors.txt";

/// What is known of survivors.
#[derive(Debug)]
pub(super) struct Survivors {
    lines: Vec<(String, String)>,
}

impl Survivors {
    pub(super) fn read() -> Result<Self> {
        Self::parse(&workspace::read(FILE)?)
    }

    fn parse(text: &str) -> Result<Self> {
        let mut lines = Vec::new();
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            match line.split_once(" = ") {
                Some((mutant, reason)) if !reason.trim().is_empty() => {
                    lines.push((mutant.trim().to_owned(), reason.trim().to_owned()));
                }
                _ => bail!("{FILE}: `{line}` has no reason"),
            }
        }
        Ok(Self { lines })
    }

    /// Why this mutant survives.
    pub(super) fn reason(&self, mutant: &str) -> Option<&str> {
        let name = without_place(mutant);
        self.lines.iter().find(|(known, _)| *known == name).map(|(_, reason)| reason.as_str())
    }
}

/// `src/a.rs:12:3: replace ...` without line and column, which move with every change.
fn without_place(mutant: &str) -> String {
    match mutant.split_once(": ") {
        Some((place, what)) => {
            let file = place.split(':').next().unwrap_or(place);
            format!("{file}: {what}")
        }
        None => mutant.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_survivor_is_known_wherever_it_stands() {
        let text = "# why\n\ncrates/a/src/b.rs: replace < with <= in turn = both hold\n";
        let survivors = Survivors::parse(text).unwrap();
        let reason = |mutant| survivors.reason(mutant);
        assert_eq!(reason("crates/a/src/b.rs:7:3: replace < with <= in turn"), Some("both hold"));
        assert_eq!(reason("crates/a/src/b.rs:7:3: replace < with == in turn"), None);
        assert_eq!(reason("crates/a/src/c.rs:7:3: replace < with <= in turn"), None);
    }

    #[test]
    fn a_line_without_a_reason_is_refused() {
        assert!(Survivors::parse("crates/a/src/b.rs: replace < with <= in turn\n").is_err());
        assert!(Survivors::read().is_ok());
    }
}
