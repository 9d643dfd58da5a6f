//! Models of Verifpal with their mutants beside them.
//!
//! Lines of the head: `//! expect: CODE`, `//! sessions: N`, and for each changed model
//! `//! mutant NAME: CODE` (it must break what the design holds) or `//! variant NAME: CODE`; `@N` behind
//! the name sets the sessions. A line `//~ NAME: TEXT` takes the place of the line above it in the
//! model of that name; `\n` in it begins another line. Codes are those of Verifpal: a letter for each
//! query and 0 (no attack found) or 1 (attack), spaces between are for the eye.

use anyhow::{Context, Result, bail, ensure};

/// A design with what is expected of it and of its changed forms.
#[derive(Debug)]
pub(super) struct Model {
    /// The design first, then the others in their order.
    pub(super) variants: Vec<Variant>,
}

/// One text for Verifpal.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Variant {
    /// Empty for the design.
    pub(super) name: String,
    pub(super) expected: String,
    pub(super) sessions: u32,
    pub(super) text: String,
}

/// A line of the head about a changed model.
struct Change {
    name: String,
    code: String,
    sessions: Option<u32>,
    must_break: bool,
}

/// Reads a model's file.
pub(super) fn parse(source: &str) -> Result<Model> {
    let head =
        |key: &str| source.lines().find_map(|line| line.strip_prefix("//! ")?.strip_prefix(key));
    let expected = code(head("expect:").context("no line `//! expect: CODE`")?)?;
    let sessions: u32 = head("sessions:")
        .context("no line `//! sessions: N`")?
        .trim()
        .parse()
        .context("sessions")?;
    let changes = changes(source)?;
    for name in source.lines().filter_map(|line| Some(marker(line)?.0)) {
        ensure!(changes.iter().any(|c| c.name == name), "no line of the head tells of `{name}`");
    }
    let mut variants = vec![Variant {
        name: String::new(),
        expected: expected.clone(),
        sessions,
        text: text_of(source, ""),
    }];
    for change in changes {
        let text = text_of(source, &change.name);
        ensure!(text != variants[0].text, "`{}` changes nothing", change.name);
        if change.must_break && !breaks_more(&expected, &change.code) {
            bail!("the mutant `{}` breaks nothing that the design holds", change.name);
        }
        let sessions = change.sessions.unwrap_or(sessions);
        variants.push(Variant { name: change.name, expected: change.code, sessions, text });
    }
    ensure!(variants.len() > 1, "no mutant: that the design holds would say nothing");
    Ok(Model { variants })
}

fn changes(source: &str) -> Result<Vec<Change>> {
    let mut changes = Vec::new();
    for line in source.lines().filter_map(|line| line.strip_prefix("//! ")) {
        let (must_break, rest) = match (line.strip_prefix("mutant "), line.strip_prefix("variant "))
        {
            (Some(rest), _) => (true, rest),
            (None, Some(rest)) => (false, rest),
            (None, None) => continue,
        };
        let (head, result) =
            rest.split_once(':').with_context(|| format!("no code in `{line}`"))?;
        let (name, sessions) = match head.split_once('@') {
            Some((name, number)) => (name, Some(number.trim().parse().context("sessions")?)),
            None => (head, None),
        };
        let (name, code) = (name.trim().to_owned(), code(result)?);
        changes.push(Change { name, code, sessions, must_break });
    }
    Ok(changes)
}

/// A code without the spaces.
fn code(text: &str) -> Result<String> {
    let code: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    let letters = code.chars().step_by(2).all(|c| "cafue".contains(c));
    let digits = code.chars().skip(1).step_by(2).all(|c| "01".contains(c));
    ensure!(
        !code.is_empty() && code.len().is_multiple_of(2) && letters && digits,
        "`{text}` is no code"
    );
    Ok(code)
}

/// Whether a query that the design holds is broken by the mutant.
fn breaks_more(design: &str, mutant: &str) -> bool {
    design.len() == mutant.len()
        && design.chars().zip(mutant.chars()).any(|pair| pair == ('0', '1'))
}

fn marker(line: &str) -> Option<(&str, &str)> {
    let (name, text) = line.trim_start().strip_prefix("//~ ")?.split_once(':')?;
    Some((name.trim(), text.trim()))
}

/// The model with the lines of `name` in their places, without heads and markers.
fn text_of(source: &str, name: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for line in source.lines() {
        if line.starts_with("//!") {
            continue;
        }
        match marker(line) {
            Some((marked, text)) => {
                if marked == name
                    && let Some(last) = lines.last_mut()
                {
                    *last = text.replace("\\n", "\n");
                }
            }
            None => lines.push(line.to_owned()),
        }
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODEL: &str = "\
//! A message.
//! expect: c0 a1
//! sessions: 2
//! mutant clear @1: c1 a1
attacker[active]
\tc = ENC(k, m)
\t//~ clear: c = CONCAT(m, nil)\\nleaks m
\td = c
";

    #[test]
    fn a_mutant_stands_beside_its_line() {
        let model = parse(MODEL).unwrap();
        let [design, mutant] = &model.variants[..] else { panic!("{model:?}") };
        assert_eq!(design.text, "attacker[active]\n\tc = ENC(k, m)\n\td = c\n");
        assert_eq!((design.expected.as_str(), design.sessions), ("c0a1", 2));
        assert_eq!(mutant.text, "attacker[active]\nc = CONCAT(m, nil)\nleaks m\n\td = c\n");
        assert_eq!((mutant.name.as_str(), mutant.sessions), ("clear", 1));
    }

    #[test]
    fn a_mutant_that_tests_nothing_is_refused() {
        let error = |text: &str| parse(text).unwrap_err().to_string();
        assert!(error(&MODEL.replace("@1: c1 a1", "@1: c0 a1")).contains("breaks nothing"));
        assert!(error(&MODEL.replace("//~ clear", "//~ other")).contains("`other`"));
        let unmarked = MODEL.replace("\t//~ clear: c = CONCAT(m, nil)\\nleaks m\n", "");
        assert!(error(&unmarked).contains("changes nothing"));
        assert!(error(&unmarked.replace("//! mutant clear @1: c1 a1\n", "")).contains("no mutant"));
        assert!(error(&MODEL.replace("c0 a1", "c0 a")).contains("no code"));
    }

    #[test]
    fn a_variant_may_hold_as_much() {
        let text = MODEL.replace("mutant clear @1: c1 a1", "variant clear: c0 a0");
        assert_eq!(parse(&text).unwrap().variants[1].expected, "c0a0");
    }
}
