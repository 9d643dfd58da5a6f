//! `cargo xtask tidy`: the rules of the house that a compiler does not know.
//!
//! Each rule is a function from sources to findings. Exceptions are written, with a number and
//! a reason, in `xtask/tidy-allow.txt`, which may only shrink.

mod allow;
mod connection;
mod core_names;
mod fuzz_targets;
mod graph;
mod length;
mod manifests;
mod secrets;
mod words;

use anyhow::Result;

use crate::findings::{self, Finding};
use crate::report::Output;
use crate::source::Source;
use crate::workspace;

const RULES: &[&str] = &[
    "function-length",
    "file-length",
    "core-names",
    "connection-fields",
    "connection-name",
    "module-names",
    "words",
    "paths",
    "unsafe",
    "manifests",
    "edges",
    "trees",
    "fuzz-targets",
    "secrets",
    "allow-list",
];

/// Checks every rule; true when nothing is amiss beyond the written exceptions.
pub(crate) fn run(output: Output) -> Result<bool> {
    let files = workspace::files()?;
    let mut found = check_texts(&files);
    let sources = workspace::rust_sources(&files)?;
    for source in &sources {
        found.extend(check_source(source)?);
    }
    let packages = workspace::packages("Cargo.toml")?;
    found.extend(graph::check_edges(&packages));
    found.extend(graph::check_trees(&packages)?);
    if workspace::has("fuzz/Cargo.toml") {
        found.extend(fuzz_targets::check(&files, &workspace::read("fuzz/Cargo.toml")?));
    }
    let left = allow::apply(&workspace::read(allow::PATH)?, found);
    output.say(format!(
        "{} files, {} of them Rust, {} packages, {} rules",
        files.len(),
        sources.len(),
        packages.len(),
        RULES.len()
    ));
    Ok(findings::report("tidy", RULES, &left, output))
}

/// The rules about any text; a file that is not UTF-8 holds no words.
fn check_texts(files: &[String]) -> Vec<Finding> {
    let mut found = Vec::new();
    for path in files {
        found.extend(words::check_name(path));
        let Ok(text) = workspace::read(path) else { continue };
        found.extend(words::check(path, &text));
        found.extend(manifests::check(path, &text));
    }
    found
}

fn check_source(source: &Source) -> Result<Vec<Finding>> {
    let mut found = length::check(source);
    found.extend(core_names::check(source)?);
    found.extend(connection::check(source)?);
    found.extend(secrets::check(source));
    for (name, line) in source.identifiers()? {
        if name == "unsafe" {
            let message = "unsafe code needs a line in the allow-list and a SAFETY comment";
            found.push(Finding::at("unsafe", &source.path, line, message));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsafe_is_found_as_code_and_not_as_a_word() {
        let text = "//! nothing unsafe\nfn a() { unsafe { b() } }\n";
        let source = Source::parse("crates/a/src/lib.rs", text).unwrap();
        let found = check_source(&source).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].rule, found[0].line), ("unsafe", 2));
    }

    #[test]
    fn every_rule_is_listed_once() {
        let mut rules = RULES.to_vec();
        rules.sort_unstable();
        rules.dedup();
        assert_eq!(rules.len(), RULES.len());
    }
}
