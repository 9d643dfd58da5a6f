//! The core knows no runtime, no socket and no clock.

use anyhow::Result;
use proc_macro2::{TokenStream, TokenTree};

use crate::findings::Finding;
use crate::source::Source;

/// The crates that run under any driver, under virtual time too.
pub(super) const CORE: &[&str] = &["jsp-wire", "jsp-crypto", "jsp-proto"];

/// Names that no core source may hold, tests included.
const FORBIDDEN: &[&str] = &["tokio", "UdpSocket", "TcpStream", "SystemTime"];

/// Names of sockets and clocks in the sources of the core crates.
pub(super) fn check(source: &Source) -> Result<Vec<Finding>> {
    let in_core = CORE.iter().any(|name| source.path.starts_with(&format!("crates/{name}/")));
    // Examples are programs of their own: the speed of the machine is measured by a clock.
    if !in_core || source.path.contains("/examples/") {
        return Ok(Vec::new());
    }
    let mut findings = Vec::new();
    for (name, line) in source.identifiers()? {
        if FORBIDDEN.contains(&name.as_str()) {
            let message = format!("the core does not name `{name}`: the driver above it does");
            findings.push(Finding::at("core-names", &source.path, line, message));
        }
    }
    for line in clock_lines(source.tokens()?) {
        let message = "time is an argument (`jsp_wire::Instant`), the core reads no clock";
        findings.push(Finding::at("core-names", &source.path, line, message));
    }
    Ok(findings)
}

/// Lines with `Instant::now`, or with `Instant` taken out of `std::time`.
fn clock_lines(tokens: TokenStream) -> Vec<usize> {
    let mut lines = Vec::new();
    let mut path: Vec<String> = Vec::new();
    for token in tokens {
        match &token {
            TokenTree::Punct(punct) if punct.as_char() == ':' => continue,
            TokenTree::Ident(ident) => {
                let name = ident.to_string();
                let before = path.last().map(String::as_str);
                let from_std = path.ends_with(&["std".to_owned(), "time".to_owned()]);
                if (name == "Instant" && from_std) || (name == "now" && before == Some("Instant")) {
                    lines.push(ident.span().start().line);
                }
                path.push(name);
                continue;
            }
            TokenTree::Group(group) => {
                let from_std = path.ends_with(&["std".to_owned(), "time".to_owned()]);
                if from_std {
                    lines.extend(instants(group.stream()));
                }
                lines.extend(clock_lines(group.stream()));
            }
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
        path.clear();
    }
    lines
}

fn instants(tokens: TokenStream) -> Vec<usize> {
    tokens
        .into_iter()
        .filter_map(|token| match token {
            TokenTree::Ident(ident) if ident == "Instant" => Some(ident.span().start().line),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &str, text: &str) -> Vec<usize> {
        let found = check(&Source::parse(path, text).unwrap()).unwrap();
        found.iter().map(|finding| finding.line).collect()
    }

    const CORE_FILE: &str = "crates/jsp-proto/src/lib.rs";

    #[test]
    fn sockets_and_runtimes_are_found_in_code_only() {
        assert_eq!(lines(CORE_FILE, "//! tokio\nuse tokio::net::UdpSocket;\n"), [2, 2]);
        assert!(lines("crates/jsp/src/lib.rs", "use tokio::net::UdpSocket;\n").is_empty());
    }

    #[test]
    fn clocks_are_found_in_every_form() {
        assert_eq!(lines(CORE_FILE, "use std::time::Instant;\n"), [1]);
        assert_eq!(lines(CORE_FILE, "use std::time::{Duration, Instant};\n"), [1]);
        assert_eq!(lines(CORE_FILE, "fn a() {\n let t = Instant::now();\n}\n"), [2]);
        assert_eq!(lines(CORE_FILE, "fn a(t: std::time::Instant) {}\n"), [1]);
    }

    #[test]
    fn our_own_instant_and_durations_pass() {
        let text = "use core::time::Duration;\nuse std::time::Duration as D;\nuse jsp_wire::Instant;\nfn a(now: Instant) {}\n";
        assert!(lines(CORE_FILE, text).is_empty());
    }
}
