//! Citations of the specification in source files.
//!
//! Code cites with `// spec: WIRE-12, WIRE-13`, a test with `// spec-test: WIRE-12`.

use std::collections::BTreeMap;

use super::sentences::is_id;
use crate::findings::Finding;
use crate::source::Source;

/// Who cites a sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The line that obeys it.
    Code,
    /// A test that would notice a breach.
    Test,
}

/// Places that cite an id, `path:line`, by kind.
#[derive(Debug, Default)]
pub(crate) struct Citations {
    code: BTreeMap<String, Vec<String>>,
    test: BTreeMap<String, Vec<String>>,
}

impl Citations {
    /// The places of one kind that cite `id`.
    pub(crate) fn of(&self, kind: Kind, id: &str) -> &[String] {
        self.map(kind).get(id).map_or(&[], Vec::as_slice)
    }

    /// Every cited id with one place that cites it.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&str, &str)> {
        let places = self.code.iter().chain(&self.test);
        places
            .flat_map(|(id, places)| places.iter().map(move |place| (id.as_str(), place.as_str())))
    }

    fn map(&self, kind: Kind) -> &BTreeMap<String, Vec<String>> {
        match kind {
            Kind::Code => &self.code,
            Kind::Test => &self.test,
        }
    }

    /// Reads one source file; reports malformed citations and code citations that stand in tests.
    pub(crate) fn read(&mut self, source: &Source, findings: &mut Vec<Finding>) {
        for (index, line) in source.text.lines().enumerate() {
            let number = index + 1;
            let Some((kind, list)) = citation(line) else { continue };
            if kind == Kind::Code && source.is_test_line(number) {
                let message =
                    "a test cites with `spec-test:`, only code that obeys cites with `spec:`";
                findings.push(Finding::at("citation", &source.path, number, message));
                continue;
            }
            for id in list.split(',').map(str::trim) {
                if is_id(id) {
                    let place = format!("{}:{number}", source.path);
                    let map = match kind {
                        Kind::Code => &mut self.code,
                        Kind::Test => &mut self.test,
                    };
                    map.entry(id.to_owned()).or_default().push(place);
                } else {
                    let message =
                        format!("`{id}` is not an id; write `AREA-1, AREA-2` and nothing else");
                    findings.push(Finding::at("citation", &source.path, number, message));
                }
            }
        }
    }
}

/// The list of a citation comment, which stands alone or after code on its line.
fn citation(line: &str) -> Option<(Kind, &str)> {
    let (_, comment) = line.split_once("//")?;
    let comment = comment.trim_start_matches(['/', '!']).trim();
    if let Some(list) = comment.strip_prefix("spec-test:") {
        return Some((Kind::Test, list));
    }
    comment.strip_prefix("spec:").map(|list| (Kind::Code, list))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &str, text: &str) -> (Citations, Vec<Finding>) {
        let (mut citations, mut findings) = (Citations::default(), Vec::new());
        citations.read(&Source::parse(path, text).unwrap(), &mut findings);
        (citations, findings)
    }

    #[test]
    fn both_kinds_are_read_with_their_lists() {
        let text = "\
// spec: WIRE-1, WIRE-2
fn a() {} // spec: WIRE-3
#[cfg(test)]
mod tests {
    /// spec-test: WIRE-1
    #[test]
    fn t() {}
}
";
        let (citations, findings) = read("crates/a/src/lib.rs", text);
        assert_eq!(findings, []);
        assert_eq!(citations.of(Kind::Code, "WIRE-2"), ["crates/a/src/lib.rs:1"]);
        assert_eq!(citations.of(Kind::Code, "WIRE-3"), ["crates/a/src/lib.rs:2"]);
        assert_eq!(citations.of(Kind::Test, "WIRE-1"), ["crates/a/src/lib.rs:5"]);
        assert!(citations.of(Kind::Test, "WIRE-2").is_empty());
    }

    #[test]
    fn a_test_cannot_pass_for_code() {
        let (citations, findings) = read("crates/a/tests/t.rs", "// spec: WIRE-1\nfn a() {}\n");
        assert!(citations.of(Kind::Code, "WIRE-1").is_empty());
        assert_eq!(findings.len(), 1);
    }

    #[test]
    fn a_malformed_id_is_reported() {
        let (_, findings) = read("crates/a/src/lib.rs", "// spec: WIRE1 and more\nfn a() {}\n");
        assert_eq!(findings.len(), 1);
        assert!(findings[0].message.contains("WIRE1"));
    }
}
