//! Secrets are wiped, not printed, and not compared in a time that tells how far they agree.

use proc_macro2::Span;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use crate::findings::Finding;
use crate::source::Source;

/// Crates that hold secrets or what proves their possession.
const CRATES: &[&str] = &["crates/jsp-crypto/src/", "crates/jsp-proto/src/", "crates/jsp/src/"];
/// Last words of names whose values only `constant_time_eq` and the like may compare.
const WORDS: &[&str] =
    &["tag", "mac", "binder", "finished", "token", "secret", "psk", "seed", "cookie", "prk", "okm"];
/// Last words of names of fields that are wiped: bytes of a fixed number in none but a type that does so.
const WIPED: &[&str] = &["secret", "psk", "seed", "prk", "okm", "key"];
/// Fields that are handed over, and wiped by who takes them.
const HANDED_OVER: &[(&str, &str)] = &[("EndpointConfig", "seed")];
/// What a type that wipes itself must not derive.
const FORBIDDEN: &[&str] = &["Debug", "PartialEq", "PartialOrd"];
/// Methods that give the same bytes in another form.
const VIEWS: &[&str] = &["as_bytes", "as_slice", "as_ref", "as_array", "to_vec", "clone", "deref"];

/// Comparisons of secrets, and derived traits of types that are wiped, outside of tests.
pub(super) fn check(source: &Source) -> Vec<Finding> {
    if !CRATES.iter().any(|folder| source.path.starts_with(folder)) {
        return Vec::new();
    }
    let mut finder = Finder { source, found: Vec::new() };
    finder.visit_file(&source.tree);
    finder.found
}

struct Finder<'a> {
    source: &'a Source,
    found: Vec<Finding>,
}

impl Finder<'_> {
    fn note(&mut self, span: Span, message: String) {
        let line = span.start().line;
        if !self.source.is_test_line(line) {
            self.found.push(Finding::at("secrets", &self.source.path, line, message));
        }
    }
}

impl<'ast> Visit<'ast> for Finder<'_> {
    fn visit_expr_binary(&mut self, binary: &'ast syn::ExprBinary) {
        if matches!(binary.op, syn::BinOp::Eq(_) | syn::BinOp::Ne(_)) {
            for side in [&binary.left, &binary.right] {
                if let Some(name) = name_of(side).filter(|name| is_secret(name)) {
                    let message = format!("`{name}` is compared by a function of constant time");
                    self.note(binary.span(), message);
                }
            }
        }
        visit::visit_expr_binary(self, binary);
    }

    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        let derived = derived(&item.attrs);
        if derived.iter().any(|name| name.starts_with("Zeroize")) {
            for name in derived.iter().filter(|name| FORBIDDEN.contains(&name.as_str())) {
                let message = format!("`{}` is wiped, and must not derive {name}", item.ident);
                self.note(item.ident.span(), message);
            }
        } else {
            for name in item.fields.iter().filter_map(bare_secret) {
                if !HANDED_OVER.iter().any(|(of, field)| item.ident == of && name == field) {
                    let message = format!("`{name}` is not wiped: use `Zeroizing`");
                    self.note(name.span(), message);
                }
            }
        }
        visit::visit_item_struct(self, item);
    }
}

/// The name of a field that holds a secret as bytes that nobody wipes.
fn bare_secret(field: &syn::Field) -> Option<&syn::Ident> {
    let name = field.ident.as_ref()?;
    let text = name.to_string();
    let is_secret = WIPED.contains(&text.rsplit('_').next().unwrap_or(&text));
    (is_secret && is_bytes(&field.ty)).then_some(name)
}

/// `[u8; N]`, or that in an `Option`.
fn is_bytes(ty: &syn::Type) -> bool {
    match ty {
        syn::Type::Array(array) => {
            matches!(&*array.elem, syn::Type::Path(of) if of.path.is_ident("u8"))
        }
        syn::Type::Path(path) => path.path.segments.last().is_some_and(|last| {
            let syn::PathArguments::AngleBracketed(inner) = &last.arguments else { return false };
            last.ident == "Option"
                && inner.args.iter().any(
                    |inner| matches!(inner, syn::GenericArgument::Type(inner) if is_bytes(inner)),
                )
        }),
        _ => false,
    }
}

/// The name of what an expression gives: `a.tag`, `&tag[..]`, `tag.as_bytes()`, `*tag`.
fn name_of(expression: &syn::Expr) -> Option<String> {
    match expression {
        syn::Expr::Path(path) => path.path.segments.last().map(|last| last.ident.to_string()),
        syn::Expr::Field(field) => match &field.member {
            syn::Member::Named(name) => Some(name.to_string()),
            syn::Member::Unnamed(_) => name_of(&field.base),
        },
        syn::Expr::Reference(inner) => name_of(&inner.expr),
        syn::Expr::Unary(inner) => name_of(&inner.expr),
        syn::Expr::Paren(inner) => name_of(&inner.expr),
        syn::Expr::Index(inner) => name_of(&inner.expr),
        syn::Expr::MethodCall(call) if VIEWS.contains(&call.method.to_string().as_str()) => {
            name_of(&call.receiver)
        }
        syn::Expr::MethodCall(call) => Some(call.method.to_string()),
        syn::Expr::Call(call) => name_of(&call.func),
        _ => None,
    }
}

/// Constants are no secrets, and names that count something (`tag_len`) end in another word.
fn is_secret(name: &str) -> bool {
    WORDS.contains(&name.rsplit('_').next().unwrap_or(name))
}

/// What the attributes derive.
fn derived(attributes: &[syn::Attribute]) -> Vec<String> {
    let mut names = Vec::new();
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("derive")) {
        let _not_a_list = attribute.parse_nested_meta(|meta| {
            names.extend(meta.path.segments.last().map(|last| last.ident.to_string()));
            Ok(())
        });
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<usize> {
        let source = Source::parse("crates/jsp-crypto/src/a.rs", text).unwrap();
        check(&source).iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn comparisons_of_secrets_are_found_in_every_form() {
        assert_eq!(lines("fn a() -> bool {\n tag == other\n}\n"), [2]);
        assert_eq!(lines("fn a() -> bool { other != self.expected_mac }\n"), [1]);
        assert_eq!(lines("fn a() -> bool { &binder[..] == x }\n"), [1]);
        assert_eq!(lines("fn a() -> bool { psk.as_bytes() == x }\n"), [1]);
        assert_eq!(lines("fn a() -> bool { reset_token(key, id) == *x }\n"), [1]);
    }

    #[test]
    fn lengths_tests_and_other_crates_are_not() {
        assert!(lines("fn a() -> bool { tag.len() == tag_len && code == BAD_TOKEN }\n").is_empty());
        assert!(lines("fn a() -> bool { constant_time_eq(tag, other) }\n").is_empty());
        assert!(lines("#[cfg(test)]\nmod tests {\n fn a() { tag == other; }\n}\n").is_empty());
        let source = Source::parse("crates/jsp-sim/src/a.rs", "fn a() { tag == b; }").unwrap();
        assert!(check(&source).is_empty());
    }

    #[test]
    fn secrets_in_bytes_that_nobody_wipes_are_found() {
        assert_eq!(
            lines("struct A {\n reset_key: [u8; 32],\n seed: Option<[u8; 32]>,\n}\n"),
            [2, 3]
        );
        assert!(lines("struct A { reset_key: Zeroizing<[u8; 32]>, id: [u8; 8] }\n").is_empty());
        assert!(lines("#[derive(Zeroize)]\nstruct A { psk: [u8; 32] }\n").is_empty());
        assert!(lines("struct EndpointConfig { seed: [u8; 32] }\n").is_empty());
    }

    #[test]
    fn what_is_wiped_neither_prints_nor_compares() {
        assert_eq!(lines("#[derive(Clone, Zeroize)]\n#[derive(Debug)]\nstruct A;\n"), [3]);
        assert_eq!(lines("#[derive(zeroize::ZeroizeOnDrop, PartialEq)]\nstruct A;\n"), [2]);
        assert!(lines("#[derive(Clone, Zeroize)]\nstruct A;\n").is_empty());
        assert!(lines("#[derive(Debug, PartialEq)]\nstruct A;\n").is_empty());
    }
}
