//! `cargo xtask vectors`: test vectors for every encoding and cryptographic step, as JSON in `vectors/`.
//!
//! The generators lean on the crates that they describe, so they stand behind the feature `vectors`:
//! the other commands work even while those crates do not compile.

#[cfg(feature = "vectors")]
mod wire;

use anyhow::Result;

use crate::report::Output;

/// Writes the vectors, or with `check` compares them; true when nothing differs.
#[cfg(not(feature = "vectors"))]
pub(crate) fn run(check: bool, output: Output) -> Result<bool> {
    use anyhow::Context;

    let mut cargo = crate::process::cargo();
    cargo.args(["run", "--quiet", "--package", "xtask", "--features", "vectors", "--", "vectors"]);
    cargo.args(check.then_some("--check"));
    cargo.args(output.is_json().then_some("--json"));
    let status = cargo.status().context("could not start cargo")?;
    Ok(status.success())
}

/// Writes the vectors, or with `check` compares them; true when nothing differs.
#[cfg(feature = "vectors")]
pub(crate) fn run(check: bool, output: Output) -> Result<bool> {
    generated::run(check, output)
}

#[cfg(feature = "vectors")]
mod generated {
    use std::fs;

    use anyhow::{Context, Result, ensure};

    use crate::report::{Output, Row};
    use crate::workspace;

    /// Where the files stand.
    const DIRECTORY: &str = "vectors";

    /// Every file name with its text, from every generator.
    fn collect() -> Result<Vec<(String, String)>> {
        let mut files = super::wire::all();
        let crypto = jsp_crypto::vectors::files().context("the handshake does not work")?;
        files.extend(crypto.into_iter().map(|(name, text)| (name.to_owned(), text)));
        Ok(files)
    }

    pub(super) fn run(check: bool, output: Output) -> Result<bool> {
        let files = collect()?;
        let mut clean = true;
        for (name, text) in &files {
            let plain = !name.contains(['/', '\\']) && name.ends_with(".json");
            ensure!(plain, "a generator named a file `{name}`: write `something.json`");
            serde_json::from_str::<serde_json::Value>(text)
                .with_context(|| format!("{name} is not JSON"))?;
            let path = workspace::root().join(DIRECTORY).join(name);
            let matches = fs::read_to_string(&path).is_ok_and(|found| found == *text);
            if check {
                clean &= matches;
                let verdict = if matches { "same" } else { "DIFFERS: run `cargo xtask vectors`" };
                output.say(format!("{DIRECTORY}/{name}: {verdict}"));
                let row = Row::new(
                    "vectors",
                    name.as_str(),
                    "differing_files",
                    u64::from(!matches),
                    "count",
                );
                output.row(&row.bar("== 0", matches));
            } else {
                fs::create_dir_all(path.parent().expect("a joined path has a parent"))?;
                fs::write(&path, text)
                    .with_context(|| format!("could not write {}", path.display()))?;
                output.say(format!("{DIRECTORY}/{name}: {} bytes", text.len()));
            }
        }
        Ok(no_strangers(&files, output)? && clean)
    }

    /// A file that no generator writes is left from an older form.
    fn no_strangers(files: &[(String, String)], output: Output) -> Result<bool> {
        let mut clean = true;
        for path in workspace::files()? {
            let Some(name) = path.strip_prefix("vectors/") else { continue };
            if name.ends_with(".json") && !files.iter().any(|(known, _)| known == name) {
                output.say(format!("{path}: no generator writes it, take it out"));
                clean = false;
            }
        }
        Ok(clean)
    }
}
