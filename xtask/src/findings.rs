//! Breaches of a rule, and how a checking command reports them.

use std::fmt;

use crate::report::{Output, Row};

/// One breach of one rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// The rule's name, as the allow-list and the JSON rows write it.
    pub(crate) rule: &'static str,
    /// What an exception names: a path, or `path::function`.
    pub(crate) key: String,
    /// The line in the file, from 1; 0 when the breach has no line.
    pub(crate) line: usize,
    /// What an exception limits: a size for rules about sizes, 1 for each occurrence otherwise.
    pub(crate) weight: u64,
    /// What is wrong and what to do.
    pub(crate) message: String,
}

impl Finding {
    /// One occurrence at a line of a file.
    pub(crate) fn at(
        rule: &'static str,
        path: &str,
        line: usize,
        message: impl Into<String>,
    ) -> Self {
        Self { rule, key: path.to_owned(), line, weight: 1, message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 {
            write!(f, "{}: {}: {}", self.key, self.rule, self.message)
        } else {
            write!(f, "{}:{}: {}: {}", self.key, self.line, self.rule, self.message)
        }
    }
}

/// Prints the findings and one row for each rule; true when there is no finding.
pub(crate) fn report(
    suite: &'static str,
    rules: &[&'static str],
    findings: &[Finding],
    output: Output,
) -> bool {
    for finding in findings {
        output.say(finding.to_string());
    }
    for rule in rules {
        let breaches = findings.iter().filter(|finding| finding.rule == *rule).count();
        let row = Row::new(suite, *rule, "breaches", breaches as u64, "count");
        output.row(&row.bar("== 0", breaches == 0));
    }
    findings.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_reads_like_a_compiler_message() {
        let finding = Finding::at("words", "README.md", 4, "remove it");
        assert_eq!(finding.to_string(), "README.md:4: words: remove it");
        let whole = Finding { line: 0, ..finding };
        assert_eq!(whole.to_string(), "README.md: words: remove it");
    }

    #[test]
    fn only_a_clean_run_passes() {
        let output = Output::new(false);
        assert!(report("tidy", &["words"], &[], output));
        assert!(!report("tidy", &["words"], &[Finding::at("words", "a", 1, "x")], output));
    }
}
