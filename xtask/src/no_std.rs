//! `jsp-wire` builds where there is no standard library.

use anyhow::{Result, bail};
use syn::visit::{self, Visit};

use crate::process;
use crate::report::Output;
use crate::source::Source;
use crate::workspace;

/// A target without a standard library.
const BARE_TARGET: &str = "thumbv7em-none-eabi";
const CRATE: &str = "jsp-wire";
const SOURCES: &str = "crates/jsp-wire/src/";

/// Builds for a bare target where it is installed, otherwise reads the sources; the note says which.
pub(crate) fn run(output: Output) -> Result<Option<String>> {
    if is_installed() {
        let mut cargo = process::cargo();
        cargo.args(["build", "--package", CRATE, "--no-default-features", "--target", BARE_TARGET]);
        process::run(cargo, output)?;
        return Ok(None);
    }
    output.say(format!(
        "{BARE_TARGET} IS NOT INSTALLED (`rustup target add {BARE_TARGET}`): {CRATE} was read for `std`, not built without it"
    ));
    let files: Vec<String> =
        workspace::files()?.into_iter().filter(|path| path.starts_with(SOURCES)).collect();
    let breaches = breaches(&workspace::rust_sources(&files)?);
    if !breaches.is_empty() {
        bail!("{CRATE} is not free of the standard library:\n{}", breaches.join("\n"));
    }
    Ok(Some(format!("read, not built: {BARE_TARGET} is not installed")))
}

fn is_installed() -> bool {
    let mut rustc = process::command("rustc");
    rustc.args(["--print", "target-libdir", "--target", BARE_TARGET]);
    process::capture(rustc).is_ok_and(|path| std::path::Path::new(path.trim()).is_dir())
}

/// Without the standard library in scope, only `extern crate std` brings it back, so its absence is proof
/// enough for a crate without dependencies.
fn breaches(sources: &[Source]) -> Vec<String> {
    let mut breaches = Vec::new();
    let root = sources.iter().find(|source| source.path.ends_with("src/lib.rs"));
    if !root.is_some_and(declares_no_std) {
        breaches.push(format!(
            "{SOURCES}lib.rs: needs `#![no_std]` or `#![cfg_attr(not(test), no_std)]`"
        ));
    }
    for source in sources {
        let mut finder = ExternStd { source, lines: Vec::new() };
        finder.visit_file(&source.tree);
        breaches.extend(
            finder.lines.iter().map(|line| format!("{}:{line}: `extern crate std`", source.path)),
        );
    }
    breaches
}

fn declares_no_std(source: &Source) -> bool {
    source.tree.attrs.iter().any(|attribute| match &attribute.meta {
        syn::Meta::Path(path) => path.is_ident("no_std"),
        syn::Meta::List(list) if list.path.is_ident("cfg_attr") => {
            let text: String =
                list.tokens.to_string().chars().filter(|c| !c.is_whitespace()).collect();
            text == "not(test),no_std"
        }
        _ => false,
    })
}

struct ExternStd<'a> {
    source: &'a Source,
    lines: Vec<usize>,
}

impl<'ast> Visit<'ast> for ExternStd<'_> {
    fn visit_item_extern_crate(&mut self, item: &'ast syn::ItemExternCrate) {
        let line = item.ident.span().start().line;
        let only_tests = item.attrs.iter().any(crate::source::is_test_attribute);
        if item.ident == "std" && !only_tests && !self.source.is_test_line(line) {
            self.lines.push(line);
        }
        visit::visit_item_extern_crate(self, item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(text: &str) -> usize {
        breaches(&[Source::parse("crates/jsp-wire/src/lib.rs", text).unwrap()]).len()
    }

    #[test]
    fn both_forms_of_the_attribute_pass() {
        assert_eq!(count("#![no_std]\n"), 0);
        assert_eq!(count("#![cfg_attr(not(test), no_std)]\n"), 0);
        assert_eq!(count("//! #![no_std]\n"), 1);
    }

    #[test]
    fn the_standard_library_may_come_back_for_tests_only() {
        assert_eq!(count("#![no_std]\nextern crate std;\n"), 1);
        assert_eq!(count("#![no_std]\n#[cfg(test)]\nextern crate std;\n"), 0);
        assert_eq!(count("#![no_std]\n#[cfg(test)]\nmod tests { extern crate std; }\n"), 0);
        assert_eq!(count("#![no_std]\nextern crate alloc;\n"), 0);
    }
}
