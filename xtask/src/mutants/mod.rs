//! `cargo xtask mutants`: which small changes of the code the tests notice, by `cargo mutants`.
//!
//! Mutants are made in a copy of the tracked files below `target/mutants`, which is kept from run to run
//! with what was built in it: only what a mutant changes is compiled again.

mod copy;
mod survivors;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::process;
use crate::report::{Output, Row};
use crate::workspace;
use survivors::Survivors;

/// The version that is built when none is installed.
const CARGO_MUTANTS: &str = "27.1.0";
/// The least part of a module's mutants that its tests must notice, in percent.
const CAUGHT_MIN: f64 = 85.0;
/// A mutant whose tests take longer hangs, in seconds; without a mutant they take a tenth of it.
const TIMEOUT: &str = "60";

/// Files that belong together, and the tests that must notice their mutants.
struct Module {
    name: &'static str,
    parts: &'static [Part],
}

/// Files of one package.
struct Part {
    package: &'static str,
    /// Globs, relative to the root.
    files: &'static [&'static str],
    /// Which of the package's tests are built: those that are about the files, so that it takes seconds.
    targets: &'static [&'static str],
    /// Which tests are run, as for `cargo test`: those whose names hold one of these; all when empty.
    names: &'static [&'static str],
}

const fn part(
    package: &'static str,
    files: &'static [&'static str],
    targets: &'static [&'static str],
    names: &'static [&'static str],
) -> Part {
    Part { package, files, targets, names }
}

const MODULES: &[Module] = &[
    Module {
        name: "crypto",
        parts: &[
            part(
                "jsp-crypto",
                &["crates/jsp-crypto/src/handshake/*.rs"],
                &["--lib"],
                &["handshake"],
            ),
            part("jsp-crypto", &["crates/jsp-crypto/src/identity/*.rs"], &["--lib"], &["identity"]),
            part(
                "jsp-crypto",
                &["crates/jsp-crypto/src/primitives/*.rs"],
                &["--lib"],
                &["primitives"],
            ),
            part(
                "jsp-crypto",
                &[
                    "crates/jsp-crypto/src/cookie.rs",
                    "crates/jsp-crypto/src/known_hosts.rs",
                    "crates/jsp-crypto/src/obfuscation.rs",
                    "crates/jsp-crypto/src/prf.rs",
                    "crates/jsp-crypto/src/renewal.rs",
                    "crates/jsp-crypto/src/retry.rs",
                    "crates/jsp-crypto/src/schedule.rs",
                    "crates/jsp-crypto/src/secret.rs",
                    "crates/jsp-crypto/src/suite.rs",
                ],
                &["--lib"],
                &[],
            ),
        ],
    },
    Module {
        name: "packet",
        parts: &[
            part(
                "jsp-crypto",
                &["crates/jsp-crypto/src/packet.rs", "crates/jsp-crypto/src/packet/*.rs"],
                &["--lib"],
                &["packet"],
            ),
            part(
                "jsp-wire",
                &["crates/jsp-wire/src/header.rs", "crates/jsp-wire/src/pn.rs"],
                &["--tests"],
                &[],
            ),
            part(
                "jsp-proto",
                &["crates/jsp-proto/src/packet.rs", "crates/jsp-proto/src/seal.rs"],
                &[
                    "--lib",
                    "--test",
                    "connection",
                    "--test",
                    "fec",
                    "--test",
                    "paths",
                    "--test",
                    "privacy",
                ],
                &["--", "--skip", "congestion::"],
            ),
        ],
    },
    Module {
        name: "ack",
        parts: &[
            part("jsp-wire", &["crates/jsp-wire/src/frame/ack.rs"], &["--tests"], &[]),
            part(
                "jsp-proto",
                &["crates/jsp-proto/src/ack.rs", "crates/jsp-proto/src/ack/*.rs"],
                &["--lib"],
                &["ack::"],
            ),
        ],
    },
    Module {
        name: "ticket",
        parts: &[
            part(
                "jsp-crypto",
                &["crates/jsp-crypto/src/ticket.rs", "crates/jsp-crypto/src/client_ticket.rs"],
                &["--lib"],
                &["ticket", "resumption"],
            ),
            part("jsp-proto", &["crates/jsp-proto/src/tickets.rs"], &["--lib"], &["tickets"]),
            part(
                "jsp-proto",
                &["crates/jsp-proto/src/endpoint/tickets.rs"],
                &["--lib", "--test", "resume"],
                // Many thousand connections, in code that was built for speed of building.
                &[
                    "tickets",
                    "early_data",
                    "late",
                    "replay",
                    "--",
                    "--skip",
                    "chaos_",
                    "--skip",
                    "ten_thousand_",
                ],
            ),
            part(
                "jsp-proto",
                &["crates/jsp-proto/src/endpoint/time.rs"],
                &["--test", "privacy", "--test", "handshake", "--test", "resume"],
                &["who_has_not", "have_slept", "cookie", "tickets::"],
            ),
        ],
    },
    Module {
        name: "replay",
        parts: &[part("jsp-crypto", &["crates/jsp-crypto/src/replay.rs"], &["--lib"], &["replay"])],
    },
];

/// What to run.
#[derive(Debug)]
pub(crate) struct Selection {
    /// Only these modules; all when empty.
    pub(crate) modules: Vec<String>,
    /// Only files whose paths hold this.
    pub(crate) file: Option<String>,
    /// Every n-th mutant, beginning with the k-th, as `k/n`.
    pub(crate) shard: Option<String>,
}

/// What became of mutants, by name.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    /// Some test failed, or never ended.
    caught: Vec<String>,
    missed: Vec<String>,
    /// They did not compile: nothing to be caught.
    unviable: usize,
}

/// Mutates every selected module; true when each holds the bar and every survivor has its reason.
pub(crate) fn run(selection: &Selection, output: Output) -> Result<bool> {
    let known = |name: &String| MODULES.iter().any(|module| module.name == *name);
    let names: Vec<_> = MODULES.iter().map(|module| module.name).collect();
    ensure!(selection.modules.iter().all(known), "modules are {}", names.join(", "));
    process::ensure_cargo_tool("cargo-mutants", CARGO_MUTANTS, output)?;
    copy::write()?;
    let survivors = Survivors::read()?;
    let chosen = |module: &&Module| {
        selection.modules.is_empty() || selection.modules.iter().any(|name| name == module.name)
    };
    let mut held = true;
    for module in MODULES.iter().filter(chosen) {
        let mut outcome = Outcome::default();
        for (place, part) in module.parts.iter().enumerate() {
            let folder = format!("target/mutants/{}-{place}", module.name);
            if let Some(found) = mutate(&folder, part, selection, output)? {
                outcome.caught.extend(found.caught);
                outcome.missed.extend(found.missed);
                outcome.unviable += found.unviable;
            }
        }
        held &= summarise(module.name, &outcome, &survivors, selection, output);
    }
    Ok(held)
}

/// Runs `cargo mutants` over one part, if it has a file that was asked for.
fn mutate(
    folder: &str,
    part: &Part,
    selection: &Selection,
    output: Output,
) -> Result<Option<Outcome>> {
    let wanted = |file: &&&str| match &selection.file {
        Some(wanted) => file.contains(wanted.as_str()) || file.ends_with("*.rs"),
        None => true,
    };
    let files: Vec<_> = part.files.iter().filter(wanted).collect();
    if files.is_empty() {
        return Ok(None);
    }
    let folder = workspace::root().join(folder);
    // Results of another run would be taken for those of this one.
    let _absent = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let mut cargo = process::cargo();
    cargo.current_dir(copy::folder()).args([
        "mutants",
        "--in-place",
        "--no-times",
        "--colors=never",
    ]);
    cargo.arg("--config").arg(workspace::root().join(".cargo/mutants.toml"));
    cargo.arg("--output").arg(&folder);
    cargo.args(["--package", part.package, "--baseline", "skip", "--timeout", TIMEOUT]);
    cargo.args(["--build-timeout", "600"]);
    for file in files {
        cargo.args(["--file", file]);
    }
    if let Some(wanted) = &selection.file {
        cargo.args(["--re", wanted]);
    }
    if let Some(shard) = &selection.shard {
        cargo.args(["--shard", shard, "--sharding", "round-robin"]);
    }
    if process::version("cargo", &["nextest", "--version"]).is_some() {
        cargo.args(["--test-tool", "nextest"]);
    }
    // These are for building as well as for running, the names for running alone.
    cargo.args(part.targets.iter().map(|target| format!("--cargo-arg={target}")));
    cargo.arg("--").args(part.names);
    cargo.env("CARGO_TARGET_DIR", workspace::root().join("target/mutants/build"));
    // What is built for each mutant is built quickly; the packages below it stay as they are.
    cargo.env("CARGO_PROFILE_DEV_OPT_LEVEL", "0").env("CARGO_PROFILE_DEV_DEBUG", "0");
    let what = process::shown(&cargo);
    // Its status tells of survivors: they are counted below.
    process::stream(cargo, output, |_| {})?;
    Outcome::read(&folder.join("mutants.out")).with_context(|| what).map(Some)
}

impl Outcome {
    /// Reads the lists that `cargo mutants` leaves.
    fn read(folder: &Path) -> Result<Self> {
        let list = |name: &str| -> Result<Vec<String>> {
            let path: PathBuf = folder.join(name);
            let text = std::fs::read_to_string(&path);
            let text = text.with_context(|| format!("could not read {}", path.display()))?;
            Ok(text.lines().map(str::to_owned).collect())
        };
        let mut caught = list("caught.txt")?;
        caught.extend(list("timeout.txt")?);
        Ok(Self { caught, missed: list("missed.txt")?, unviable: list("unviable.txt")?.len() })
    }

    /// The part that was caught, in percent; all of none.
    fn score(&self) -> f64 {
        let all = self.caught.len() + self.missed.len();
        if all == 0 { 100.0 } else { self.caught.len() as f64 * 100.0 / all as f64 }
    }
}

/// Prints the score of a module and its survivors; true when the bar is held.
fn summarise(
    name: &str,
    outcome: &Outcome,
    survivors: &Survivors,
    selection: &Selection,
    output: Output,
) -> bool {
    let (score, all) = (outcome.score(), outcome.caught.len() + outcome.missed.len());
    let sample = selection.shard.as_ref().map_or(String::new(), |shard| format!(", shard {shard}"));
    output.say(format!(
        "\n{name}: {} of {all} mutants caught, {score:.1} %{sample}; {} did not compile",
        outcome.caught.len(),
        outcome.unviable
    ));
    let mut unexplained = 0u64;
    for mutant in &outcome.missed {
        let reason = survivors.reason(mutant);
        unexplained += u64::from(reason.is_none());
        output.say(format!("  {mutant}\n    {}", reason.unwrap_or("NO REASON IS KNOWN")));
    }
    let pass = score >= CAUGHT_MIN;
    let tenths = serde_json::Number::from_f64((score * 10.0).round() / 10.0);
    if let Some(score) = tenths {
        let row = Row::new("mutants", name, "caught", score, "%");
        output.row(&row.bar(format!(">= {CAUGHT_MIN}"), pass));
    }
    output.row(&Row::new("mutants", name, "mutants", all as u64, "count"));
    let row = Row::new("mutants", name, "unexplained", unexplained, "count");
    output.row(&row.bar("== 0", unexplained == 0));
    pass && unexplained == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_has_files() {
        let tracked = workspace::files().unwrap();
        for file in MODULES.iter().flat_map(|module| module.parts).flat_map(|part| part.files) {
            let there = match file.strip_suffix("*.rs") {
                Some(folder) => tracked.iter().any(|path| path.starts_with(folder)),
                None => tracked.iter().any(|path| path == file),
            };
            assert!(there, "{file}");
        }
    }

    #[test]
    fn a_score_counts_what_was_caught_or_missed() {
        let folder = std::env::temp_dir().join(format!("jsp-mutants-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        for (name, text) in
            [("caught.txt", "a\nb\n"), ("timeout.txt", "c\n"), ("missed.txt", "d\n")]
        {
            std::fs::write(folder.join(name), text).unwrap();
        }
        assert!(Outcome::read(&folder).is_err(), "a list is missing");
        std::fs::write(folder.join("unviable.txt"), "e\nf\n").unwrap();
        let outcome = Outcome::read(&folder).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!((outcome.caught.len(), outcome.missed.len(), outcome.unviable), (3, 1, 2));
        assert!((outcome.score() - 75.0).abs() < 1e-9);
        assert!((Outcome::default().score() - 100.0).abs() < 1e-9);
    }
}
