//! `cargo xtask spec`: every rule of the specification is obeyed by a named line and held by a named test.
//!
//! 1. Sentences with MUST in `docs/spec/*.md` start with an id, `[AREA-n]`, that is used once.
//! 2. Code under `crates/` cites each id (`// spec: AREA-n`), and so does a test (`// spec-test: AREA-n`).
//! 3. A citation names an id that exists.
//! 4. What is not cited stands in `docs/spec/exceptions.md` with its reason, and only as long as it is needed.

mod citations;
mod sentences;

use std::collections::BTreeMap;

use anyhow::{Result, ensure};

use self::citations::{Citations, Kind};
use self::sentences::{Sentences, is_id};
use crate::findings::{self, Finding};
use crate::report::{Output, Row};
use crate::source::Source;
use crate::workspace;

const SPEC: &str = "docs/spec/";
const EXCEPTIONS: &str = "docs/spec/exceptions.md";
const RULES: &[&str] =
    &["unnumbered", "doubled", "citation", "unknown", "uncited-code", "uncited-test", "exception"];

/// Checks the specification against the sources; true when nothing is amiss.
pub(crate) fn run(output: Output) -> Result<bool> {
    let files = workspace::files()?;
    let (mut sentences, mut found) = (Sentences::new(), Vec::new());
    for path in
        files.iter().filter(|p| p.starts_with(SPEC) && p.ends_with(".md") && *p != EXCEPTIONS)
    {
        sentences::read(path, &workspace::read(path)?, &mut sentences, &mut found);
    }
    ensure!(!sentences.is_empty(), "no numbered sentence in {SPEC}: the specification is missing");
    let mut citations = Citations::default();
    for source in cited_sources(&files)? {
        citations.read(&source, &mut found);
    }
    let exceptions = if workspace::has(EXCEPTIONS) {
        read_exceptions(&workspace::read(EXCEPTIONS)?, &mut found)
    } else {
        Exceptions::new()
    };
    found.extend(compare(&sentences, &citations, &exceptions));
    summarise(&sentences, &citations, &exceptions, output);
    Ok(findings::report("spec", RULES, &found, output))
}

/// The sources that may cite: the crates, the fuzz targets and the generators of test vectors.
fn cited_sources(files: &[String]) -> Result<Vec<Source>> {
    let cites = |path: &&String| {
        path.starts_with("crates/")
            || path.starts_with("fuzz/")
            || path.starts_with("xtask/src/vectors/")
    };
    workspace::rust_sources(&files.iter().filter(cites).cloned().collect::<Vec<_>>())
}

/// Ids without a citation, each with the reason.
type Exceptions = BTreeMap<String, String>;

/// Rows `| AREA-n | reason |` of the table of exceptions.
fn read_exceptions(text: &str, found: &mut Vec<Finding>) -> Exceptions {
    let mut exceptions = Exceptions::new();
    for (index, line) in text.lines().enumerate() {
        let cells: Vec<&str> = line.trim().trim_matches('|').split('|').map(str::trim).collect();
        let id = cells[0].trim_matches(['[', ']', '`']);
        if !line.trim_start().starts_with('|') || !is_id(id) {
            continue;
        }
        match cells.get(1) {
            Some(reason) if !reason.is_empty() => {
                exceptions.insert(id.to_owned(), (*reason).to_owned());
            }
            _ => found.push(Finding::at(
                "exception",
                EXCEPTIONS,
                index + 1,
                format!("{id} has no reason"),
            )),
        }
    }
    exceptions
}

fn compare(sentences: &Sentences, citations: &Citations, exceptions: &Exceptions) -> Vec<Finding> {
    let mut found = Vec::new();
    for (id, sentence) in sentences {
        let by_code = !citations.of(Kind::Code, id).is_empty();
        let by_test = !citations.of(Kind::Test, id).is_empty();
        let at = |rule, message| Finding::at(rule, &sentence.path, sentence.line, message);
        if exceptions.contains_key(id) {
            if by_code && by_test {
                found
                    .push(at("exception", format!("[{id}] is cited: take it out of {EXCEPTIONS}")));
            }
            continue;
        }
        if !by_code {
            found.push(at(
                "uncited-code",
                format!("[{id}] needs `// spec: {id}` where the code obeys it"),
            ));
        }
        if !by_test {
            found.push(at(
                "uncited-test",
                format!("[{id}] needs `// spec-test: {id}` at a test of it"),
            ));
        }
    }
    for (id, place) in citations.all().filter(|(id, _)| !sentences.contains_key(*id)) {
        let (path, line) = place.rsplit_once(':').unwrap_or((place, "0"));
        let message = format!("{id} is not in the specification");
        found.push(Finding::at("unknown", path, line.parse().unwrap_or(0), message));
    }
    for id in exceptions.keys().filter(|id| !sentences.contains_key(*id)) {
        found.push(Finding::at(
            "exception",
            EXCEPTIONS,
            0,
            format!("{id} is not in the specification"),
        ));
    }
    found
}

fn summarise(
    sentences: &Sentences,
    citations: &Citations,
    exceptions: &Exceptions,
    output: Output,
) {
    let musts = sentences.values().filter(|sentence| sentence.is_must).count();
    let cited = |kind| sentences.keys().filter(|id| !citations.of(kind, id).is_empty()).count();
    let (code, test) = (cited(Kind::Code), cited(Kind::Test));
    output.say(format!(
        "{} numbered sentences ({musts} with MUST); {code} cited by code, {test} by a test, {} excepted",
        sentences.len(),
        exceptions.len()
    ));
    for (id, reason) in exceptions {
        output.say(format!("  excepted {id}: {reason}"));
    }
    let row = |metric, value: usize| {
        output.row(&Row::new("spec", "sentences", metric, value as u64, "count"))
    };
    row("numbered", sentences.len());
    row("must", musts);
    row("cited_by_code", code);
    row("cited_by_test", test);
    row("excepted", exceptions.len());
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPEC_TEXT: &str = "[W-1] It MUST hold.\n\n[W-2] It MUST hold too.\n";

    fn checked(code: &str, exceptions: &str) -> Vec<&'static str> {
        let (mut sentences, mut found) = (Sentences::new(), Vec::new());
        sentences::read("docs/spec/w.md", SPEC_TEXT, &mut sentences, &mut found);
        let mut citations = Citations::default();
        citations.read(&Source::parse("crates/a/src/lib.rs", code).unwrap(), &mut found);
        let exceptions = read_exceptions(exceptions, &mut found);
        found.extend(compare(&sentences, &citations, &exceptions));
        found.iter().map(|finding| finding.rule).collect()
    }

    #[test]
    fn full_citations_pass() {
        assert!(checked("// spec: W-1, W-2\n// spec-test: W-1, W-2\nfn a() {}\n", "").is_empty());
    }

    #[test]
    fn each_missing_citation_is_named() {
        assert_eq!(
            checked("// spec: W-1\n// spec-test: W-2\nfn a() {}\n", ""),
            ["uncited-test", "uncited-code"]
        );
    }

    #[test]
    fn an_unknown_id_is_named() {
        let code = "// spec: W-1, W-2, W-9\n// spec-test: W-1, W-2\nfn a() {}\n";
        assert_eq!(checked(code, ""), ["unknown"]);
    }

    #[test]
    fn an_exception_excuses_until_it_is_needless() {
        let table = "| id | reason |\n|--|--|\n| W-2 | a rule for people |\n";
        assert!(checked("// spec: W-1\n// spec-test: W-1\nfn a() {}\n", table).is_empty());
        let cited = "// spec: W-1, W-2\n// spec-test: W-1, W-2\nfn a() {}\n";
        assert_eq!(checked(cited, table), ["exception"]);
    }

    #[test]
    fn an_exception_needs_a_reason_and_a_sentence() {
        let code = "// spec: W-1, W-2\n// spec-test: W-1, W-2\nfn a() {}\n";
        assert_eq!(checked(code, "| W-1 | |\n"), ["exception"]);
        assert_eq!(checked(code, "| W-7 | gone |\n"), ["exception"]);
    }
}
