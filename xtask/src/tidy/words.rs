//! Words and paths that tracked files do not hold, and names that say nothing.

use crate::findings::Finding;

/// A forbidden text and why. The texts are joined from pieces, so that this list does not find itself.
struct Word {
    text: &'static str,
    any_case: bool,
    why: &'static str,
}

const fn word(text: &'static str, any_case: bool, why: &'static str) -> Word {
    Word { text, any_case, why }
}

const UNFINISHED: &str = "finish it, or leave it out";
const WORDS: &[Word] = &[
    word(concat!("TO", "DO"), false, UNFINISHED),
    word(concat!("FIX", "ME"), false, UNFINISHED),
    word(concat!("XX", "X"), false, UNFINISHED),
    word(concat!("to", "do!("), false, UNFINISHED),
    word(concat!("unimple", "mented!("), false, UNFINISHED),
    word(concat!("#[ig", "nore"), false, "a test that does not run holds nothing"),
    word(concat!("for ", "now"), true, UNFINISHED),
    word(concat!("not imple", "mented"), true, UNFINISHED),
    word(concat!("place", "holder"), true, UNFINISHED),
    word(concat!("st", "ub"), true, UNFINISHED),
];

const ONE_MACHINE: &str = "a path of one machine: make it relative";
const HOSTS: &str = "registries are named by their clients' configuration";
const PATHS: &[Word] = &[
    word(concat!("/wo", "rk/"), false, ONE_MACHINE),
    word(concat!("/fa", "rm/"), false, ONE_MACHINE),
    word(concat!("/tmp/", "bash_jobs"), false, ONE_MACHINE),
    word(concat!("/ro", "ot/"), false, ONE_MACHINE),
    word(concat!("index.", "crates.io"), false, HOSTS),
    word(concat!("static.", "crates.io"), false, HOSTS),
    word(concat!("registry.", "npmjs"), false, HOSTS),
    word(concat!("deb.", "debian.org"), false, HOSTS),
];

/// Endings of the files that people write; only paths are looked for in the others.
const PROSE: &[&str] =
    &[".rs", ".md", ".toml", ".sh", ".yml", ".yaml", ".py", ".ts", ".js", ".lua", ".txt", "/run"];

/// Module names that gather what has no name.
const NAMELESS: &[&str] = &["util", "utils", "common", "misc", "helper", "helpers"];

/// Forbidden words and paths in one file's text.
pub(super) fn check(path: &str, text: &str) -> Vec<Finding> {
    if path.ends_with("Cargo.lock") {
        return Vec::new();
    }
    let is_prose = PROSE.iter().any(|ending| path.ends_with(ending));
    let mut findings = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let lower = line.to_lowercase();
        let words = WORDS.iter().filter(|_| is_prose).map(|word| ("words", word));
        for (rule, word) in words.chain(PATHS.iter().map(|word| ("paths", word))) {
            if (if word.any_case { &lower } else { line }).contains(word.text) {
                let message = format!("\"{}\": {}", word.text, word.why);
                findings.push(Finding::at(rule, path, index + 1, message));
            }
        }
    }
    findings
}

/// A module or directory of sources whose name says nothing.
pub(super) fn check_name(path: &str) -> Option<Finding> {
    let module = path.strip_suffix(".rs")?;
    let part = module.split('/').find(|part| NAMELESS.contains(part))?;
    let message = format!("a module named `{part}` has no concept: name what it holds");
    Some(Finding::at("module-names", path, 0, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<&'static str> {
        check(path, text).iter().map(|finding| finding.rule).collect()
    }

    #[test]
    fn every_word_is_found_in_prose() {
        for word in WORDS {
            assert!(
                found("a.rs", &format!("x {} y", word.text)).contains(&"words"),
                "{}",
                word.text
            );
        }
        for word in PATHS {
            assert!(
                found("vectors/a.json", &format!("x {} y", word.text)).contains(&"paths"),
                "{}",
                word.text
            );
        }
    }

    #[test]
    fn case_matters_only_where_it_tells() {
        let word = concat!("Not Imple", "mented");
        assert_eq!(found("a.md", word), ["words"]);
        assert!(found("a.md", concat!("to", "do list, fix", "me later")).is_empty());
    }

    #[test]
    fn data_and_lock_files_are_not_prose() {
        assert!(found("vectors/a.json", concat!("\"XX", "X\"")).is_empty());
        assert!(found("Cargo.lock", concat!("st", "ub")).is_empty());
    }

    #[test]
    fn nameless_modules_are_named() {
        assert!(check_name("crates/a/src/util.rs").is_some());
        assert!(check_name("crates/a/src/common/mod.rs").is_some());
        assert!(check_name("crates/a/src/commonplace.rs").is_none());
        assert!(check_name("docs/common.md").is_none());
    }
}
