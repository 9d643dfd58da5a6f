//! A copy of the crates under attack in which each mutant waits behind a switch.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::mutants::{self, Mutant};
use crate::workspace;

/// The crates that are copied.
const CRATES: &[&str] =
    &["jsp-wire", "jsp-crypto", "jsp-nat", "jsp-proto", "jsp-app", "jsp-hostile"];

/// The environment variable that names the active mutant.
pub(super) const SWITCH: &str = "JSP_SABOTAGE";

/// The package of the attacks in the copy: another name, so that it builds beside the true one.
pub(super) const PACKAGE: &str = "jsp-hostile-mutated";

const SWITCH_MANIFEST: &str = "[package]
name = \"jsp-sabotage\"
version = \"0.1.0\"
edition = \"2024\"
publish = false
";

const SWITCH_SOURCE: &str = "//! Which check is switched off.

use std::sync::OnceLock;

/// True when the environment names this mutant.
pub fn is(name: &str) -> bool {
    static ACTIVE: OnceLock<Option<String>> = OnceLock::new();
    ACTIVE.get_or_init(|| std::env::var(\"JSP_SABOTAGE\").ok()).as_deref() == Some(name)
}
";

/// Where the copy lies.
pub(super) fn folder() -> PathBuf {
    workspace::root().join("target/hostile/mutated")
}

/// The text of a file with all of its mutants.
pub(super) fn mutated(file: &str, mut text: String) -> Result<String> {
    for mutant in mutants::all().filter(|mutant| mutant.file == file) {
        text = apply(mutant, &text)?;
    }
    Ok(text)
}

fn apply(mutant: &Mutant, text: &str) -> Result<String> {
    let Mutant { name, file, find, replace, .. } = mutant;
    let count = text.matches(find).count();
    ensure!(count == 1, "{name}: what it changes stands {count} times in crates/{file}, not once");
    let switch = format!("jsp_sabotage::is(\"{name}\")");
    Ok(text.replacen(find, &replace.replace("OFF", &switch), 1))
}

/// Brings the copy up to date; files that stay what they are keep their times, so that little is
/// built anew.
pub(super) fn write() -> Result<()> {
    let mut files = BTreeMap::new();
    for name in CRATES {
        // Manifests name examples: they must be there, though nobody builds them.
        for folder in ["src", "examples"].map(|folder| format!("{name}/{folder}")) {
            if workspace::has(&format!("crates/{folder}")) {
                collect(&folder, &mut files)?;
            }
        }
        let manifest = workspace::read(&format!("crates/{name}/Cargo.toml"))?;
        files.insert(format!("crates/{name}/Cargo.toml"), with_switch(name, &manifest));
    }
    files.insert("crates/jsp-sabotage/Cargo.toml".to_owned(), SWITCH_MANIFEST.to_owned());
    files.insert("crates/jsp-sabotage/src/lib.rs".to_owned(), SWITCH_SOURCE.to_owned());
    files.insert("Cargo.toml".to_owned(), root_manifest(&workspace::read("Cargo.toml")?));
    files.insert("Cargo.lock".to_owned(), workspace::read("Cargo.lock")?);
    for (path, text) in files {
        let path = folder().join(path);
        // Cargo completes the lock file: ours is only where it starts.
        let is_lock = path.ends_with("Cargo.lock") && path.exists();
        if is_lock || fs::read_to_string(&path).is_ok_and(|present| present == text) {
            continue;
        }
        let parent = path.parent().context("a file in a folder")?;
        fs::create_dir_all(parent)?;
        fs::write(&path, text).with_context(|| format!("could not write {}", path.display()))?;
    }
    Ok(())
}

/// Every source under `crates/path`.
fn collect(path: &str, files: &mut BTreeMap<String, String>) -> Result<()> {
    let root = workspace::root().join("crates");
    for entry in fs::read_dir(root.join(path))? {
        let entry = entry?.path();
        let relative = relative(&root, &entry)?;
        if entry.is_dir() {
            collect(&relative, files)?;
        } else {
            let text = workspace::read(&format!("crates/{relative}"))?;
            files.insert(format!("crates/{relative}"), mutated(&relative, text)?);
        }
    }
    Ok(())
}

fn relative(root: &Path, path: &Path) -> Result<String> {
    match path.strip_prefix(root)?.to_str() {
        Some(text) => Ok(text.to_owned()),
        None => bail!("{} has no name in Unicode", path.display()),
    }
}

fn with_switch(name: &str, manifest: &str) -> String {
    if *name == *"jsp-hostile" {
        let named = manifest.replace("name = \"jsp-hostile\"", &format!("name = \"{PACKAGE}\""));
        return format!("{named}\n[lib]\nname = \"jsp_hostile\"\npath = \"src/lib.rs\"\n");
    }
    let switch = "[dependencies]\njsp-sabotage = { path = \"../jsp-sabotage\" }";
    if manifest.contains("[dependencies]") {
        manifest.replacen("[dependencies]", switch, 1)
    } else {
        format!("{manifest}\n{switch}\n")
    }
}

fn root_manifest(manifest: &str) -> String {
    manifest
        .replace("members = [\"crates/*\", \"xtask\"]", "members = [\"crates/*\"]")
        .replace("default-members = [\"crates/jsp-cli\"]", "")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_mutant_fits_the_sources() {
        let files: BTreeSet<&str> = mutants::all().map(|mutant| mutant.file).collect();
        for file in files {
            let text = workspace::read(&format!("crates/{file}")).unwrap();
            mutated(file, text).unwrap();
        }
    }

    #[test]
    fn names_are_unique() {
        let names: BTreeSet<&str> = mutants::all().map(|mutant| mutant.name).collect();
        assert_eq!(names.len(), mutants::all().count());
    }
}
