//! The copy of the workspace that is mutated.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::workspace;

/// Where the copy lies.
pub(super) fn folder() -> PathBuf {
    workspace::root().join("target/mutants/tree")
}

/// Brings the copy up to date. What has stayed keeps its time, so that little is built anew; a mutant that
/// a stopped run has left behind goes.
pub(super) fn write() -> Result<()> {
    let tracked = workspace::files()?;
    for path in &tracked {
        let (from, to) = (workspace::root().join(path), folder().join(path));
        let wanted = fs::read(&from).with_context(|| format!("could not read {path}"))?;
        if fs::read(&to).is_ok_and(|present| present == wanted) {
            continue;
        }
        fs::create_dir_all(to.parent().context("a file in a folder")?)?;
        fs::write(&to, wanted).with_context(|| format!("could not write {}", to.display()))?;
    }
    let tracked: BTreeSet<PathBuf> = tracked.iter().map(|path| folder().join(path)).collect();
    remove_others(&folder().join("crates"), &tracked)
}

/// Sources that are no more would still be compiled.
fn remove_others(folder: &Path, tracked: &BTreeSet<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            remove_others(&path, tracked)?;
        } else if !tracked.contains(&path) {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}
