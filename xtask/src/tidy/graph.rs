//! Dependency edges: what each crate of the workspace may lean on, and what the core never pulls in.

use anyhow::Result;

use super::core_names::CORE;
use crate::findings::Finding;
use crate::process;
use crate::workspace::Package;

/// Each crate with the crates of the workspace that it may use, `docs/ARCHITECTURE.md` tells why.
const EDGES: &[(&str, &[&str])] = &[
    ("jsp-wire", &[]),
    ("jsp-crypto", &["jsp-wire"]),
    ("jsp-pkcs11", &["jsp-crypto"]),
    ("jsp-nat", &["jsp-wire"]),
    ("jsp-session", &["jsp", "jsp-app"]),
    ("jsp-proto", &["jsp-wire", "jsp-crypto"]),
    ("jsp-app", &["jsp-wire"]),
    ("jsp-e2ee", &["jsp-wire", "jsp-crypto"]),
    ("jsp", &["jsp-wire", "jsp-crypto", "jsp-nat", "jsp-proto", "jsp-app"]),
    ("jsp-server", &["jsp-wire", "jsp-crypto", "jsp-nat", "jsp-proto", "jsp-app", "jsp"]),
    (
        "jsp-cli",
        &[
            "jsp-wire",
            "jsp-crypto",
            "jsp-pkcs11",
            "jsp-nat",
            "jsp-proto",
            "jsp-app",
            "jsp-e2ee",
            "jsp",
        ],
    ),
    ("jsp-ffi", &["jsp-wire", "jsp-crypto", "jsp-nat", "jsp-proto", "jsp-app", "jsp-e2ee", "jsp"]),
    ("jsp-wasm", &["jsp-wire", "jsp-crypto", "jsp-nat", "jsp-proto", "jsp-app", "jsp-e2ee"]),
    ("jsp-sim", &["jsp-wire", "jsp-crypto", "jsp-nat", "jsp-proto", "jsp-app", "jsp-e2ee"]),
    ("jsp-hostile", &["jsp-wire", "jsp-crypto", "jsp-nat", "jsp-proto", "jsp-app"]),
    ("jsp-lab", &["jsp", "jsp-sim", "jsp-wire"]),
    ("xtask", &["jsp-wire", "jsp-crypto"]),
];

/// Beginnings of package names that no core crate pulls in: runtimes, sockets, compression, ICE, other transports.
const FOREIGN_TO_CORE: &[&str] = &[
    "tokio",
    "mio",
    "async-std",
    "smol",
    "socket2",
    "quinn",
    "quiche",
    "zstd",
    "lz4",
    "brotli",
    "flate2",
    "is ",
    "str0m",
    "stun",
    "turn",
    "webrtc",
    "rustls",
    "raptorq",
    "openmls",
];

/// A package whose tree must not hold another one.
const KEPT_APART: &[(&str, &str)] = &[("jsp-server", "jsp-e2ee")];

/// Breaches of the table of edges by the declared dependencies of the workspace.
pub(super) fn check_edges(packages: &[Package]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in packages {
        let manifest = manifest_of(&package.name);
        let Some((_, allowed)) = EDGES.iter().find(|(name, _)| *name == package.name) else {
            let message = format!("{} is new: give it a line in the table of edges", package.name);
            findings.push(Finding::at("edges", &manifest, 0, message));
            continue;
        };
        for dependency in package.dependencies.iter().filter(|d| d.kind.as_deref() != Some("dev")) {
            let Some(other) = packages.iter().find(|p| p.name == dependency.name) else { continue };
            if !allowed.contains(&other.name.as_str()) {
                let message =
                    format!("{} does not use {}: join them above both", package.name, other.name);
                findings.push(Finding::at("edges", &manifest, 0, message));
            }
            if package.is_published() && !other.is_published() {
                let message = format!("{} is published and {} is not", package.name, other.name);
                findings.push(Finding::at("edges", &manifest, 0, message));
            }
        }
        if package.name == "jsp-wire" && package.dependencies.iter().any(|d| d.kind.is_none()) {
            findings.push(Finding::at("edges", &manifest, 0, "jsp-wire has no dependencies"));
        }
    }
    findings
}

fn manifest_of(package: &str) -> String {
    if package == "xtask" {
        "xtask/Cargo.toml".to_owned()
    } else {
        format!("crates/{package}/Cargo.toml")
    }
}

/// Breaches in the resolved trees, all that the ordinary dependencies pull in.
pub(super) fn check_trees(packages: &[Package]) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for package in packages {
        let is_core = CORE.contains(&package.name.as_str());
        let apart: Vec<&str> = KEPT_APART
            .iter()
            .filter(|(name, _)| *name == package.name)
            .map(|(_, other)| *other)
            .collect();
        if is_core || !apart.is_empty() {
            findings.extend(check_tree(&package.name, &tree(&package.name)?, is_core, &apart));
        }
    }
    Ok(findings)
}

/// `cargo tree` of one package, one `name version` a line.
fn tree(package: &str) -> Result<String> {
    let mut cargo = process::cargo();
    cargo.args([
        "tree",
        "--package",
        package,
        "--edges",
        "normal",
        "--prefix",
        "none",
        "--format",
        "{p}",
    ]);
    process::capture(cargo)
}

fn check_tree(package: &str, tree: &str, is_core: bool, apart: &[&str]) -> Vec<Finding> {
    let mut foreign: Vec<&str> = tree
        .lines()
        .skip(1)
        .filter(|line| {
            (is_core && FOREIGN_TO_CORE.iter().any(|start| line.starts_with(start)))
                || apart.iter().any(|other| line.split(' ').next() == Some(other))
        })
        .map(|line| line.split(" (").next().unwrap_or(line))
        .collect();
    foreign.sort_unstable();
    foreign.dedup();
    let message = |name: &str| {
        format!("{name} is in the tree of {package}: see `cargo tree -p {package} -i`")
    };
    foreign
        .into_iter()
        .map(|name| Finding::at("trees", &manifest_of(package), 0, message(name)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, publish: &str, dependencies: &[(&str, &str)]) -> Package {
        let dependencies: Vec<String> = dependencies
            .iter()
            .map(|(name, kind)| format!(r#"{{"name":"{name}","kind":{kind}}}"#))
            .collect();
        let text = format!(
            r#"{{"name":"{name}","publish":{publish},"dependencies":[{}],"targets":[]}}"#,
            dependencies.join(",")
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn the_drawn_edges_pass_and_others_do_not() {
        let wire = package("jsp-wire", "null", &[("proptest", "\"dev\"")]);
        let crypto = package("jsp-crypto", "null", &[("jsp-wire", "null"), ("jsp-sim", "\"dev\"")]);
        let sim = package("jsp-sim", "[]", &[]);
        assert_eq!(check_edges(&[wire.clone(), crypto, sim.clone()]), []);
        let reversed = package("jsp-nat", "null", &[("jsp-sim", "null")]);
        let found = check_edges(&[wire, sim, reversed]);
        assert_eq!(
            found.len(),
            2,
            "a wrong edge, and a published crate on an unpublished one: {found:?}"
        );
    }

    #[test]
    fn a_crate_without_a_line_and_a_wire_with_a_dependency_are_found() {
        assert_eq!(check_edges(&[package("jsp-new", "null", &[])]).len(), 1);
        assert_eq!(check_edges(&[package("jsp-wire", "null", &[("bytes", "null")])]).len(), 1);
    }

    #[test]
    fn the_core_pulls_in_nothing_foreign() {
        let tree = "jsp-proto v0.1.0 (path)\nring v0.17.14\ntokio-util v0.7.1\nis v0.12.0\nisle v1.0.0\ntokio-util v0.7.1 (*)\n";
        let found = check_tree("jsp-proto", tree, true, &[]);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(check_tree("jsp", tree, false, &[]).is_empty());
    }

    #[test]
    fn the_server_opens_no_message() {
        let tree = "jsp-server v0.1.0 (path)\njsp-e2ee v0.1.0 (path)\n";
        assert_eq!(check_tree("jsp-server", tree, false, &["jsp-e2ee"]).len(), 1);
    }
}
