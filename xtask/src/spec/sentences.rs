//! Numbered normative sentences of the specification.
//!
//! A sentence is numbered when it starts with an id in brackets, as in
//! `[WIRE-12] A receiver MUST ...`. An id inside a sentence is a reference.

use std::collections::BTreeMap;

use crate::findings::Finding;

/// Where an id is defined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sentence {
    /// Path of the document.
    pub(crate) path: String,
    /// Line on which the sentence's paragraph starts.
    pub(crate) line: usize,
    /// Whether the sentence says MUST.
    pub(crate) is_must: bool,
    /// The sentence without its id.
    pub(crate) text: String,
}

/// Every numbered sentence by id.
pub(crate) type Sentences = BTreeMap<String, Sentence>;

/// Reads one document into `sentences`; reports doubled ids and MUST sentences without an id.
pub(crate) fn read(path: &str, text: &str, sentences: &mut Sentences, findings: &mut Vec<Finding>) {
    for (line, block) in blocks(text) {
        for sentence in split(&block) {
            let (id, body) = leading_id(&sentence);
            let is_must = says_must(body);
            match id {
                Some(id) => define(path, line, id, body, is_must, sentences, findings),
                None if is_must => findings.push(Finding::at(
                    "unnumbered",
                    path,
                    line,
                    format!("give this sentence an id, such as [AREA-1]: \"{}\"", shortened(body)),
                )),
                None => {}
            }
        }
    }
}

fn define(
    path: &str,
    line: usize,
    id: &str,
    body: &str,
    is_must: bool,
    sentences: &mut Sentences,
    findings: &mut Vec<Finding>,
) {
    let sentence = Sentence { path: path.to_owned(), line, is_must, text: body.to_owned() };
    if let Some(first) = sentences.get(id) {
        let message = format!("[{id}] is already defined in {}:{}", first.path, first.line);
        findings.push(Finding::at("doubled", path, line, message));
    } else {
        sentences.insert(id.to_owned(), sentence);
    }
}

/// Paragraphs, list items, table rows and headings with the line on which each starts; code blocks are left out.
fn blocks(text: &str) -> Vec<(usize, String)> {
    let mut blocks: Vec<(usize, String)> = Vec::new();
    let mut open = false;
    let mut fence: Option<&str> = None;
    for (index, raw) in text.lines().enumerate() {
        let line = raw.trim();
        if let Some(mark) = fence {
            if line.starts_with(mark) {
                fence = None;
            }
            continue;
        }
        if let Some(mark) = ["```", "~~~"].into_iter().find(|mark| line.starts_with(mark)) {
            fence = Some(mark);
            open = false;
            continue;
        }
        if line.is_empty() {
            open = false;
            continue;
        }
        let starts = line.starts_with(['#', '|', '>']) || is_list_item(line);
        match blocks.last_mut() {
            Some((_, block)) if open && !starts => {
                block.push(' ');
                block.push_str(line);
            }
            _ => blocks.push((index + 1, without_marker(line).to_owned())),
        }
        open = !line.starts_with(['#', '|']);
    }
    blocks
}

fn is_list_item(line: &str) -> bool {
    without_marker(line).len() < line.len()
}

/// The line without its list, quote, heading or table mark.
fn without_marker(line: &str) -> &str {
    let number = line.trim_start_matches(|c: char| c.is_ascii_digit());
    if number.len() < line.len() && (number.starts_with(". ") || number.starts_with(") ")) {
        return number[2..].trim_start();
    }
    for mark in ["- ", "* ", "+ ", "> ", "| ", "|"] {
        if let Some(rest) = line.strip_prefix(mark) {
            return rest.trim_start();
        }
    }
    if line.starts_with('#') { line.trim_start_matches('#').trim_start() } else { line }
}

/// Splits a block at the ends of sentences and at the cells of a table.
fn split(block: &str) -> Vec<String> {
    let mut sentences = Vec::new();
    let mut current = String::new();
    let characters: Vec<char> = block.chars().collect();
    for (index, character) in characters.iter().enumerate() {
        let next = characters.get(index + 1).copied().unwrap_or(' ');
        if *character == '|' && next.is_whitespace() {
            sentences.push(std::mem::take(&mut current));
            continue;
        }
        current.push(*character);
        let after = characters[index + 1..].iter().find(|c| !c.is_whitespace()).copied();
        if next.is_whitespace() && ends_sentence(&current) && after.is_none_or(starts_sentence) {
            sentences.push(std::mem::take(&mut current));
        }
    }
    sentences.push(current);
    sentences.into_iter().map(|s| s.trim().to_owned()).filter(|s| !s.is_empty()).collect()
}

fn ends_sentence(text: &str) -> bool {
    let bare = text.trim_end_matches([')', '*', '_', '"', '`']);
    let abbreviation = ["e.g.", "i.e.", "cf.", "vs.", "etc.", "Sec.", "No."];
    bare.ends_with(['.', '!', '?']) && !abbreviation.iter().any(|short| bare.ends_with(short))
}

fn starts_sentence(character: char) -> bool {
    character.is_uppercase() || character.is_ascii_digit() || "[`*_(\"|".contains(character)
}

/// The id at the start of a sentence, and the rest of it.
fn leading_id(sentence: &str) -> (Option<&str>, &str) {
    let start = sentence.trim_start_matches(['*', '_', '`', ' ']);
    let Some((id, rest)) = start.strip_prefix('[').and_then(|inner| inner.split_once(']')) else {
        return (None, sentence);
    };
    if is_id(id) {
        (Some(id), rest.trim_start_matches(['*', '_', '`', ' ', ':']))
    } else {
        (None, sentence)
    }
}

/// `AREA-12`: capitals and digits, a dash, a number.
pub(crate) fn is_id(text: &str) -> bool {
    let Some((area, number)) = text.rsplit_once('-') else { return false };
    let capitals = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit();
    area.starts_with(|c: char| c.is_ascii_uppercase())
        && area.chars().all(capitals)
        && !number.is_empty()
        && number.chars().all(|c| c.is_ascii_digit())
}

/// Whether the sentence itself says MUST: the word in quotes or code style is only spoken of.
fn says_must(sentence: &str) -> bool {
    let mut rest = sentence;
    while let Some(at) = rest.find("MUST") {
        let before = rest[..at].chars().next_back();
        let after = &rest[at + 4..];
        let next = after.strip_prefix(" NOT").unwrap_or(after).chars().next();
        let word =
            !before.is_some_and(char::is_alphanumeric) && !next.is_some_and(char::is_alphanumeric);
        let spoken_of = before.is_some_and(|c| "\"`".contains(c));
        if word && !spoken_of {
            return true;
        }
        rest = after;
    }
    false
}

/// At most 80 characters of a sentence.
fn shortened(sentence: &str) -> String {
    match sentence.char_indices().nth(80) {
        Some((at, _)) => format!("{}...", &sentence[..at]),
        None => sentence.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(text: &str) -> (Sentences, Vec<Finding>) {
        let (mut sentences, mut findings) = (Sentences::new(), Vec::new());
        read("docs/spec/wire.md", text, &mut sentences, &mut findings);
        (sentences, findings)
    }

    #[test]
    fn numbered_sentences_are_found_in_paragraphs_lists_and_tables() {
        let text = "\
# Wire

[WIRE-1] A sender MUST do this,
on two lines. **[WIRE-2]** It SHOULD also do that.

- [WIRE-3] An item MUST NOT be long.
1. [WIRE-4] A numbered one MUST hold.

| id | rule |
|----|------|
| [WIRE-5] A cell MUST count. | x |
";
        let (sentences, findings) = read_all(text);
        assert_eq!(findings, []);
        let ids: Vec<&str> = sentences.keys().map(String::as_str).collect();
        assert_eq!(ids, ["WIRE-1", "WIRE-2", "WIRE-3", "WIRE-4", "WIRE-5"]);
        assert_eq!(sentences["WIRE-1"].text, "A sender MUST do this, on two lines.");
        assert_eq!(sentences["WIRE-1"].line, 3);
        assert!(sentences["WIRE-1"].is_must && !sentences["WIRE-2"].is_must);
    }

    #[test]
    fn a_must_without_an_id_is_reported_even_after_a_numbered_one() {
        let (_, findings) = read_all("[WIRE-1] This MUST hold. That MUST hold too.\n");
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].rule, "unnumbered");
        assert!(findings[0].message.contains("That MUST hold too."));
    }

    #[test]
    fn a_doubled_id_is_reported_with_its_first_place() {
        let (_, findings) = read_all("[WIRE-1] It MUST.\n\n[WIRE-1] It MUST again.\n");
        assert_eq!(findings.len(), 1);
        assert!(findings[0].message.contains("docs/spec/wire.md:1"));
    }

    #[test]
    fn words_spoken_of_code_and_references_are_not_rules() {
        let text = "\
The words \"MUST\" and `MUST NOT` are as in RFC 2119.

```text
a MUST in code
```

This follows from [WIRE-9], e.g. Retry packets. MUSTARD is a plant.
";
        let (sentences, findings) = read_all(text);
        assert!(sentences.is_empty());
        assert_eq!(findings, []);
    }

    #[test]
    fn ids_have_one_form() {
        assert!(is_id("WIRE-1") && is_id("H2-30"));
        assert!(
            !is_id("wire-1") && !is_id("WIRE-") && !is_id("WIRE1") && !is_id("-1") && !is_id("2-1")
        );
    }
}
