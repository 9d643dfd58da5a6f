//! What the workspace holds: its root, its files, its packages and their declared dependencies.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::process;
use crate::source::Source;

/// The directory of the workspace manifest.
pub(crate) fn root() -> &'static Path {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    ROOT.get_or_init(|| {
        // `cargo run` names the manifest of this very run; the compile-time path may be of a moved clone.
        let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        manifest.parent().map_or_else(|| manifest.clone(), Path::to_path_buf)
    })
}

/// Whether a path relative to the root exists.
pub(crate) fn has(path: &str) -> bool {
    root().join(path).exists()
}

/// The text of a file relative to the root.
pub(crate) fn read(path: &str) -> Result<String> {
    std::fs::read_to_string(root().join(path)).with_context(|| format!("could not read {path}"))
}

/// Files that git tracks or would track, relative to the root, with forward slashes.
pub(crate) fn files() -> Result<Vec<String>> {
    let mut git = process::command("git");
    git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let listing = process::capture(git)?;
    let mut files: Vec<String> = listing
        .split('\0')
        .filter(|path| !path.is_empty() && root().join(path).is_file())
        .map(str::to_owned)
        .collect();
    files.sort();
    files.dedup();
    Ok(files)
}

/// Every Rust file of the workspace, parsed.
pub(crate) fn rust_sources(files: &[String]) -> Result<Vec<Source>> {
    files
        .iter()
        .filter(|path| path.ends_with(".rs"))
        .map(|path| Source::parse(path, &read(path)?))
        .collect()
}

/// A package of the workspace as its manifest declares it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Package {
    /// Its name.
    pub(crate) name: String,
    /// The registries that it may go to: an empty list means that it is not published.
    pub(crate) publish: Option<Vec<String>>,
    /// What it depends on, of every kind.
    pub(crate) dependencies: Vec<Dependency>,
}

/// One dependency line of a manifest.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Dependency {
    /// The package's name.
    pub(crate) name: String,
    /// `dev`, `build`, or nothing for an ordinary one.
    pub(crate) kind: Option<String>,
}

impl Package {
    /// Whether the package goes to a registry.
    pub(crate) fn is_published(&self) -> bool {
        self.publish.as_ref().is_none_or(|registries| !registries.is_empty())
    }
}

/// The packages of the workspace that `manifest` (relative to the root) belongs to.
pub(crate) fn packages(manifest: &str) -> Result<Vec<Package>> {
    #[derive(Deserialize)]
    struct Metadata {
        packages: Vec<Package>,
    }
    let mut cargo = process::cargo();
    cargo.args(["metadata", "--format-version", "1", "--no-deps", "--manifest-path", manifest]);
    let text = process::capture(cargo)?;
    let metadata: Metadata =
        serde_json::from_str(&text).context("`cargo metadata` changed form")?;
    Ok(metadata.packages)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_holds_the_workspace_manifest() {
        assert!(read("Cargo.toml").unwrap().contains("[workspace]"));
    }

    #[test]
    fn an_empty_registry_list_means_unpublished() {
        let parse = |publish: &str| -> Package {
            let text = format!(r#"{{"name":"a","publish":{publish},"dependencies":[]}}"#);
            serde_json::from_str(&text).unwrap()
        };
        assert!(parse("null").is_published());
        assert!(!parse("[]").is_published());
    }
}
