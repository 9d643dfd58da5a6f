//! Manifests: every crate takes the lints and the package fields of the workspace.

use crate::findings::Finding;

/// Fields that a crate takes from `[workspace.package]`.
const INHERITED: &[&str] = &["version", "edition", "rust-version", "license"];
/// Lints that the workspace must set.
const LINTS: &[&str] = &["missing_docs", "unsafe_code"];

/// One manifest of the workspace, the root's included.
pub(super) fn check(path: &str, text: &str) -> Vec<Finding> {
    if path == "Cargo.toml" {
        return check_root(path, text);
    }
    let is_member = path == "xtask/Cargo.toml"
        || (path.starts_with("crates/") && path.ends_with("/Cargo.toml"));
    if !is_member {
        return Vec::new();
    }
    let mut findings = Vec::new();
    let mut want = |section: &str, line: String| {
        if !section_lines(text, section).any(|found| found == line) {
            let message = format!("needs `{line}` in [{section}]");
            findings.push(Finding::at("manifests", path, 0, message));
        }
    };
    want("lints", "workspace=true".to_owned());
    for field in INHERITED {
        want("package", format!("{field}.workspace=true"));
    }
    if !section_lines(text, "package").any(|line| line.starts_with("description=\"")) {
        findings.push(Finding::at("manifests", path, 0, "needs a one-line `description`"));
    }
    findings
}

fn check_root(path: &str, text: &str) -> Vec<Finding> {
    LINTS
        .iter()
        .filter(|lint| {
            !section_lines(text, "workspace.lints.rust").any(|line| line.starts_with(**lint))
        })
        .map(|lint| {
            Finding::at("manifests", path, 0, format!("needs `{lint}` in [workspace.lints.rust]"))
        })
        .collect()
}

/// The lines of one section without blanks and comments.
fn section_lines<'a>(text: &'a str, section: &'a str) -> impl Iterator<Item = String> + 'a {
    let header = format!("[{section}]");
    text.lines()
        .skip_while(move |line| line.trim() != header)
        .skip(1)
        .take_while(|line| !line.trim_start().starts_with('['))
        .map(|line| line.split('#').next().unwrap_or("").chars().filter(|c| *c != ' ').collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "\
[package]
name = \"a\"
description = \"A crate.\"
version.workspace = true
edition.workspace = true
rust-version.workspace = true
license.workspace = true

[lints]
workspace = true # the rules of all

[dependencies]
";

    #[test]
    fn a_full_manifest_passes() {
        assert_eq!(check("crates/a/Cargo.toml", GOOD), []);
    }

    #[test]
    fn each_missing_line_is_named() {
        for gone in [
            "edition.workspace = true",
            "workspace = true # the rules of all",
            "description = \"A crate.\"",
        ] {
            let found = check("crates/a/Cargo.toml", &GOOD.replace(gone, ""));
            assert_eq!(found.len(), 1, "{gone}");
        }
    }

    #[test]
    fn the_root_sets_the_lints() {
        let root = "[workspace.lints.rust]\nunsafe_code = \"deny\"\n";
        assert_eq!(check("Cargo.toml", root).len(), 1);
        assert!(check("Cargo.toml", &format!("{root}missing_docs = \"warn\"\n")).is_empty());
    }
}
