//! A Rust file with its syntax tree, and which of its lines are test code.

use std::ops::RangeInclusive;

use anyhow::{Context, Result};
use proc_macro2::{TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

/// A parsed Rust file.
pub(crate) struct Source {
    /// Path relative to the root, with forward slashes.
    pub(crate) path: String,
    /// The text.
    pub(crate) text: String,
    /// The syntax tree.
    pub(crate) tree: syn::File,
    tests: Vec<RangeInclusive<usize>>,
}

impl Source {
    /// Parses `text`; an error names the file and the place.
    pub(crate) fn parse(path: &str, text: &str) -> Result<Self> {
        let tree = syn::parse_file(text).map_err(|error| {
            let at = error.span().start();
            anyhow::anyhow!("{path}:{}:{}: {error}", at.line, at.column + 1)
        })?;
        let mut finder = TestFinder { ranges: Vec::new() };
        finder.visit_file(&tree);
        Ok(Self { path: path.to_owned(), text: text.to_owned(), tree, tests: finder.ranges })
    }

    /// Whether the file as a whole is test code: under `tests/` or `benches/`, or named `tests.rs`.
    pub(crate) fn is_test_file(&self) -> bool {
        let mut parts = self.path.split('/');
        parts.any(|part| matches!(part, "tests" | "benches" | "tests.rs"))
    }

    /// Whether this line (from 1) is test code.
    pub(crate) fn is_test_line(&self, line: usize) -> bool {
        self.is_test_file() || self.tests.iter().any(|range| range.contains(&line))
    }

    /// How many lines are not test code.
    pub(crate) fn lines_without_tests(&self) -> usize {
        (1..=self.text.lines().count()).filter(|line| !self.is_test_line(*line)).count()
    }

    /// The token stream of the file: doc comments are literals in it, other comments are gone.
    pub(crate) fn tokens(&self) -> Result<TokenStream> {
        self.text
            .parse()
            .map_err(|error| anyhow::anyhow!("{error}"))
            .with_context(|| self.path.clone())
    }

    /// Every identifier of the file with its line, macro bodies included.
    pub(crate) fn identifiers(&self) -> Result<Vec<(String, usize)>> {
        let mut found = Vec::new();
        collect_identifiers(self.tokens()?, &mut found);
        Ok(found)
    }
}

fn collect_identifiers(tokens: TokenStream, found: &mut Vec<(String, usize)>) {
    for token in tokens {
        match token {
            TokenTree::Ident(ident) => found.push((ident.to_string(), ident.span().start().line)),
            TokenTree::Group(group) => collect_identifiers(group.stream(), found),
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
}

struct TestFinder {
    ranges: Vec<RangeInclusive<usize>>,
}

impl TestFinder {
    fn note(&mut self, attributes: &[syn::Attribute], item: &impl Spanned) -> bool {
        let test = attributes.iter().any(is_test_attribute);
        if test {
            let span = item.span();
            self.ranges.push(span.start().line..=span.end().line);
        }
        test
    }
}

impl<'ast> Visit<'ast> for TestFinder {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if !self.note(item_attributes(item), item) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        if !self.note(&function.attrs, function) {
            visit::visit_impl_item_fn(self, function);
        }
    }
}

fn item_attributes(item: &syn::Item) -> &[syn::Attribute] {
    match item {
        syn::Item::Const(i) => &i.attrs,
        syn::Item::Enum(i) => &i.attrs,
        syn::Item::Fn(i) => &i.attrs,
        syn::Item::Impl(i) => &i.attrs,
        syn::Item::Macro(i) => &i.attrs,
        syn::Item::Mod(i) => &i.attrs,
        syn::Item::Static(i) => &i.attrs,
        syn::Item::Struct(i) => &i.attrs,
        syn::Item::Trait(i) => &i.attrs,
        syn::Item::Type(i) => &i.attrs,
        syn::Item::Use(i) => &i.attrs,
        _ => &[],
    }
}

/// `#[test]`, or a `#[cfg(..)]` that asks for `test` and does not negate it.
pub(crate) fn is_test_attribute(attribute: &syn::Attribute) -> bool {
    if attribute.path().is_ident("test") {
        return true;
    }
    let syn::Meta::List(list) = &attribute.meta else { return false };
    if !list.path.is_ident("cfg") {
        return false;
    }
    let mut identifiers = Vec::new();
    collect_identifiers(list.tokens.clone(), &mut identifiers);
    let names = |wanted: &str| identifiers.iter().any(|(name, _)| name == wanted);
    names("test") && !names("not") && !names("any")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = "\
fn real() {}

#[cfg(test)]
mod tests {
    #[test]
    fn checks() {}
}
";

    #[test]
    fn test_modules_are_told_apart() {
        let source = Source::parse("crates/a/src/lib.rs", SAMPLE).unwrap();
        assert!(!source.is_test_line(1));
        assert!((3..=7).all(|line| source.is_test_line(line)));
        assert_eq!(source.lines_without_tests(), 2);
    }

    #[test]
    fn code_for_tests_or_something_else_is_not_test_code() {
        let source = Source::parse("a.rs", "#[cfg(not(test))]\nfn a() {}\n").unwrap();
        assert!(!source.is_test_line(2));
        let source =
            Source::parse("a.rs", "#[cfg(any(test, feature = \"x\"))]\nfn a() {}\n").unwrap();
        assert!(!source.is_test_line(2));
    }

    #[test]
    fn files_of_integration_tests_are_tests_throughout() {
        let source = Source::parse("crates/a/tests/wire.rs", "fn helper() {}\n").unwrap();
        assert!(source.is_test_line(1));
        assert_eq!(source.lines_without_tests(), 0);
    }

    #[test]
    fn identifiers_come_from_macros_and_not_from_comments() {
        let source =
            Source::parse("a.rs", "/// tokio\n// tokio\nfn a() { vec![inner] }\n").unwrap();
        let names: Vec<String> =
            source.identifiers().unwrap().into_iter().map(|(n, _)| n).collect();
        assert!(names.contains(&"inner".to_owned()));
        assert!(!names.contains(&"tokio".to_owned()));
    }

    #[test]
    fn a_syntax_error_names_its_place() {
        let error = Source::parse("broken.rs", "fn a( {\n").err().unwrap();
        assert!(error.to_string().starts_with("broken.rs:1:"), "{error}");
    }
}
