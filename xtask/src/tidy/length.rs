//! Sizes: functions and files stay short enough to be seen whole.

use proc_macro2::Span;
use syn::visit::{self, Visit};

use crate::findings::Finding;
use crate::source::Source;

/// Lines of a function from its signature to its closing brace: about one screen.
const FUNCTION_LINES_MAX: u64 = 70;
/// Lines of a file without its tests: about one concept.
const FILE_LINES_MAX: u64 = 500;

/// Functions of more than 70 lines and files of more than 500, test code left out.
pub(super) fn check(source: &Source) -> Vec<Finding> {
    let mut visitor = Functions { source, owner: Vec::new(), findings: Vec::new() };
    visitor.visit_file(&source.tree);
    let mut findings = visitor.findings;
    let lines = source.lines_without_tests() as u64;
    if lines > FILE_LINES_MAX {
        findings.push(Finding {
            rule: "file-length",
            key: source.path.clone(),
            line: 0,
            weight: lines,
            message: format!(
                "{lines} lines without tests, at most {FILE_LINES_MAX}: one concept, one file"
            ),
        });
    }
    findings
}

struct Functions<'a> {
    source: &'a Source,
    owner: Vec<String>,
    findings: Vec<Finding>,
}

impl Functions<'_> {
    fn measure(&mut self, signature: &syn::Signature, end: Span) {
        let first = signature.fn_token.span.start().line;
        if self.source.is_test_line(first) {
            return;
        }
        let lines = (end.end().line - first + 1) as u64;
        if lines > FUNCTION_LINES_MAX {
            let mut name = self.owner.clone();
            name.push(signature.ident.to_string());
            self.findings.push(Finding {
                rule: "function-length",
                key: format!("{}::{}", self.source.path, name.join("::")),
                line: first,
                weight: lines,
                message: format!("{lines} lines, at most {FUNCTION_LINES_MAX}: split it"),
            });
        }
    }
}

impl<'ast> Visit<'ast> for Functions<'_> {
    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        self.measure(&function.sig, function.block.brace_token.span.close());
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        self.measure(&function.sig, function.block.brace_token.span.close());
        visit::visit_impl_item_fn(self, function);
    }

    fn visit_trait_item_fn(&mut self, function: &'ast syn::TraitItemFn) {
        if let Some(block) = &function.default {
            self.measure(&function.sig, block.brace_token.span.close());
        }
        visit::visit_trait_item_fn(self, function);
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        self.owner.push(type_name(&item.self_ty));
        visit::visit_item_impl(self, item);
        self.owner.pop();
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        self.owner.push(item.ident.to_string());
        visit::visit_item_trait(self, item);
        self.owner.pop();
    }
}

fn type_name(of: &syn::Type) -> String {
    match of {
        syn::Type::Path(path) => {
            path.path.segments.last().map_or_else(String::new, |s| s.ident.to_string())
        }
        syn::Type::Reference(reference) => type_name(&reference.elem),
        _ => "impl".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function(lines: usize) -> String {
        format!("fn long() {{\n{}}}\n", "    step();\n".repeat(lines - 2))
    }

    fn findings(text: &str) -> Vec<Finding> {
        check(&Source::parse("crates/a/src/lib.rs", text).unwrap())
    }

    #[test]
    fn seventy_lines_are_enough() {
        assert_eq!(findings(&function(70)), []);
        let found = findings(&function(71));
        assert_eq!((found[0].rule, found[0].weight), ("function-length", 71));
        assert_eq!(found[0].key, "crates/a/src/lib.rs::long");
    }

    #[test]
    fn methods_carry_their_type_and_docs_do_not_count() {
        let docs = "/// words\n".repeat(100);
        assert_eq!(findings(&format!("{docs}{}", function(70))), []);
        let found = findings(&format!("impl Thing {{\n{}}}\n", function(80)));
        assert_eq!(found[0].key, "crates/a/src/lib.rs::Thing::long");
    }

    #[test]
    fn tests_may_be_long() {
        assert_eq!(findings(&format!("#[cfg(test)]\nmod tests {{\n{}}}\n", function(600))), []);
    }

    #[test]
    fn a_file_counts_without_its_tests() {
        let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", "fn a() {}\n".repeat(300));
        assert_eq!(findings(&format!("{}{tests}", "fn a() {}\n".repeat(500))), []);
        let found = findings(&format!("{}{tests}", "fn a() {}\n".repeat(501)));
        assert_eq!((found[0].rule, found[0].weight), ("file-length", 501));
    }
}
