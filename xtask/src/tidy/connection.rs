//! How `Connection` stays small: few fields, all of them concepts, and a name that does not travel.

use anyhow::Result;
use syn::visit::{self, Visit};

use crate::findings::Finding;
use crate::source::Source;

/// Most fields that the struct may have.
const FIELDS_MAX: usize = 16;
const PROTO: &str = "crates/jsp-proto/src/";
const SCALARS: &[&str] = &[
    "bool", "char", "u8", "u16", "u32", "u64", "u128", "usize", "i8", "i16", "i32", "i64", "i128",
    "isize", "f32", "f64",
];

/// The rules about `Connection` in one source of the protocol crate.
pub(super) fn check(source: &Source) -> Result<Vec<Finding>> {
    let Some(inner) = source.path.strip_prefix(PROTO) else { return Ok(Vec::new()) };
    let mut visitor = Structs { path: &source.path, findings: Vec::new() };
    visitor.visit_file(&source.tree);
    let mut findings = visitor.findings;
    let may_name =
        inner == "lib.rs" || inner.starts_with("connection") || inner.starts_with("endpoint");
    if !may_name {
        for (name, line) in source.identifiers()? {
            if name == "Connection" && !source.is_test_line(line) {
                let message = "only `connection/` and the endpoint name `Connection`: take the concept instead";
                findings.push(Finding::at("connection-name", &source.path, line, message));
            }
        }
    }
    Ok(findings)
}

struct Structs<'a> {
    path: &'a str,
    findings: Vec<Finding>,
}

impl<'ast> Visit<'ast> for Structs<'_> {
    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        if item.ident == "Connection" {
            let line = item.ident.span().start().line;
            let count = item.fields.len();
            if count > FIELDS_MAX {
                let message =
                    format!("{count} fields, at most {FIELDS_MAX}: join what belongs together");
                self.findings.push(Finding::at("connection-fields", self.path, line, message));
            }
            for field in item.fields.iter().filter(|field| is_nameless(&field.ty)) {
                let name =
                    field.ident.as_ref().map_or_else(|| "field".to_owned(), ToString::to_string);
                let line = field.ident.as_ref().map_or(line, |ident| ident.span().start().line);
                let message = format!("`{name}` is a scalar: a concept that has no name yet");
                self.findings.push(Finding::at("connection-fields", self.path, line, message));
            }
        }
        visit::visit_item_struct(self, item);
    }
}

/// A bare scalar, an optional scalar, or an optional instant.
fn is_nameless(of: &syn::Type) -> bool {
    let Some(segment) = last_segment(of) else { return false };
    if SCALARS.contains(&segment.ident.to_string().as_str()) {
        return true;
    }
    if segment.ident != "Option" {
        return false;
    }
    let syn::PathArguments::AngleBracketed(arguments) = &segment.arguments else { return false };
    arguments.args.iter().any(|argument| match argument {
        syn::GenericArgument::Type(inner) => {
            is_nameless(inner) || last_segment(inner).is_some_and(|last| last.ident == "Instant")
        }
        _ => false,
    })
}

fn last_segment(of: &syn::Type) -> Option<&syn::PathSegment> {
    match of {
        syn::Type::Path(path) => path.path.segments.last(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(path: &str, text: &str) -> Vec<&'static str> {
        let found = check(&Source::parse(path, text).unwrap()).unwrap();
        found.iter().map(|finding| finding.rule).collect()
    }

    const HOME: &str = "crates/jsp-proto/src/connection/mod.rs";

    #[test]
    fn sixteen_concepts_pass_and_seventeen_do_not() {
        let fields = |n: usize| (0..n).map(|i| format!("f{i}: Streams,")).collect::<String>();
        assert!(rules(HOME, &format!("struct Connection {{ {} }}", fields(16))).is_empty());
        assert_eq!(
            rules(HOME, &format!("struct Connection {{ {} }}", fields(17))),
            ["connection-fields"]
        );
    }

    #[test]
    fn scalars_have_no_name() {
        for field in
            ["bool", "u64", "Option<Instant>", "Option<u16>", "Option<jsp_wire::Instant>", "usize"]
        {
            let text = format!("struct Connection {{ a: {field}, b: Streams }}");
            assert_eq!(rules(HOME, &text), ["connection-fields"], "{field}");
        }
        assert!(
            rules(HOME, "struct Connection { a: Option<Box<Handshake>>, b: [Space; 2] }")
                .is_empty()
        );
        assert!(rules(HOME, "struct Other { a: bool }").is_empty());
    }

    #[test]
    fn the_name_stays_at_home() {
        let text = "use crate::connection::Connection;\n#[cfg(test)]\nmod tests {\n    use super::Connection;\n}\n";
        assert_eq!(rules("crates/jsp-proto/src/loss.rs", text), ["connection-name"]);
        assert!(rules("crates/jsp-proto/src/endpoint/table.rs", text).is_empty());
        assert!(rules("crates/jsp-proto/src/lib.rs", text).is_empty());
        assert!(rules("crates/jsp/src/connection.rs", text).is_empty());
    }
}
