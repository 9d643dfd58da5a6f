//! `cargo deny` over all workspaces, with a snapshot of the advisories where one lies beside the clone.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::process;
use crate::report::Output;
use crate::workspace;

/// The version that is built when none is installed.
const CARGO_DENY: &str = "0.20.2";
/// The workspaces.
const MANIFESTS: [&str; 6] = [
    "Cargo.toml",
    "bench/Cargo.toml",
    "bench/heavy/Cargo.toml",
    "fuzz/Cargo.toml",
    "formal/states/Cargo.toml",
    "formal/parsers/Cargo.toml",
];
/// Names the snapshot when it lies elsewhere.
const SNAPSHOT_VARIABLE: &str = "JSP_ADVISORY_DB";
/// Where the snapshot of the advisory database is looked for, relative to the root.
const SNAPSHOT: &str = "../shared/advisory-db.tar.gz";
/// The database that cargo-deny asks for unless told otherwise.
const DATABASE: &str = "https://github.com/RustSec/advisory-db";

/// Checks licences, bans, sources and, with a snapshot, advisories; the note says what was left out.
pub(crate) fn run(output: Output) -> Result<Option<String>> {
    process::ensure_cargo_tool("cargo-deny", CARGO_DENY, output)?;
    let snapshot = match snapshot_archive() {
        Some(archive) => Some(unpack(&archive)?),
        None => None,
    };
    for manifest in MANIFESTS {
        if workspace::has(manifest) {
            process::run(check(manifest, snapshot.as_deref()), output)?;
        }
    }
    if snapshot.is_some() {
        return Ok(None);
    }
    let note = "ADVISORIES WERE NOT CHECKED: `cargo deny check advisories` fetches them where the network allows it";
    output.say(note);
    Ok(Some("advisories not checked".to_owned()))
}

fn check(manifest: &str, snapshot: Option<&Path>) -> Command {
    let mut deny = process::cargo();
    deny.args([
        "deny",
        "--manifest-path",
        manifest,
        "--workspace",
        "check",
        "--hide-inclusion-graph",
    ]);
    deny.args(["bans", "licenses", "sources"]);
    if let Some(repository) = snapshot {
        // cargo-deny fetches with git, which finds the snapshot where the database's address leads.
        deny.arg("advisories")
            .env("GIT_CONFIG_COUNT", "1")
            .env("GIT_CONFIG_KEY_0", format!("url.file://{}.insteadOf", repository.display()))
            .env("GIT_CONFIG_VALUE_0", DATABASE);
    }
    deny
}

fn snapshot_archive() -> Option<PathBuf> {
    let named = std::env::var_os(SNAPSHOT_VARIABLE).map(PathBuf::from);
    let archive = named.unwrap_or_else(|| workspace::root().join(SNAPSHOT));
    archive.is_file().then_some(archive)
}

/// Unpacks the archive below `target/` and makes it the git repository that cargo-deny expects.
fn unpack(archive: &Path) -> Result<PathBuf> {
    let repository = workspace::root().join("target/advisory-snapshot");
    if repository.exists() {
        std::fs::remove_dir_all(&repository)
            .with_context(|| format!("could not clear {}", repository.display()))?;
    }
    std::fs::create_dir_all(&repository)
        .with_context(|| format!("could not create {}", repository.display()))?;
    let mut tar = process::command("tar");
    tar.arg("-xzf").arg(archive).arg("-C").arg(&repository);
    process::capture(tar)?;
    let author = ["-c", "user.name=snapshot", "-c", "user.email=snapshot@localhost"];
    for arguments in [
        &["init", "--quiet", "--initial-branch=main"][..],
        &["add", "--all"],
        &["commit", "--quiet", "-m", "Snapshot"],
    ] {
        let mut git = process::command("git");
        git.current_dir(&repository).args(author).args(arguments);
        process::capture(git)?;
    }
    Ok(repository)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advisories_are_checked_only_with_a_snapshot() {
        let shown = |snapshot| process::shown(&check("Cargo.toml", snapshot));
        assert!(!shown(None).contains("advisories"));
        assert!(shown(Some(Path::new("snapshot"))).ends_with("bans licenses sources advisories"));
    }

    #[test]
    fn git_is_led_to_the_snapshot() {
        let command = check("Cargo.toml", Some(Path::new("/snapshot")));
        let key =
            command.get_envs().find(|(name, _)| *name == "GIT_CONFIG_KEY_0").unwrap().1.unwrap();
        assert_eq!(key, "url.file:///snapshot.insteadOf");
    }
}
