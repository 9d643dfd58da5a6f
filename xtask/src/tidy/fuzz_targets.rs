//! Every fuzz target is declared, and starts from seeds.

use crate::findings::Finding;
use crate::fuzz::TARGETS;

/// Targets without a `[[bin]]` in the manifest or without a file in their corpus.
pub(super) fn check(files: &[String], manifest: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for path in files {
        let Some(name) = path.strip_prefix(TARGETS).and_then(|rest| rest.strip_suffix(".rs"))
        else {
            continue;
        };
        if !manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")) {
            let message = "give it a `[[bin]]` in fuzz/Cargo.toml";
            findings.push(Finding::at("fuzz-targets", path, 0, message));
        }
        let corpus = format!("fuzz/corpus/{name}/");
        if !files.iter().any(|file| file.starts_with(&corpus)) {
            let message =
                format!("give it seeds in {corpus}: a fuzzer rarely guesses a valid input");
            findings.push(Finding::at("fuzz-targets", path, 0, message));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_needs_a_program_and_seeds() {
        let target = "fuzz/fuzz_targets/varint.rs".to_owned();
        let seed = "fuzz/corpus/varint/one".to_owned();
        let manifest = "[[bin]]\nname = \"varint\"\npath = \"fuzz_targets/varint.rs\"\n";
        assert_eq!(check(&[target.clone(), seed.clone()], manifest), []);
        assert_eq!(check(std::slice::from_ref(&target), manifest).len(), 1);
        assert_eq!(check(&[target, seed], "").len(), 1);
    }
}
