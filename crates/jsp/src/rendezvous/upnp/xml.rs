//! As much of XML as routers use: tags and what stands in them. Declarations are passed over, so that no entity is but
//! the five that each document has, and nothing grows when it is read.

/// A document without its comments.
pub(super) struct Document(String);

impl Document {
    pub(super) fn new(text: &str) -> Self {
        let mut plain = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("<!--") {
            plain.push_str(before);
            rest = after.split_once("-->").map_or("", |(_, after)| after);
        }
        plain.push_str(rest);
        Self(plain)
    }

    /// Each tag by its name without a prefix, those that close with `/` before it, and the text that follows.
    pub(super) fn tags(&self) -> impl Iterator<Item = (Tag<'_>, &str)> {
        self.0.split('<').skip(1).filter_map(|piece| {
            let (tag, text) = piece.split_once('>')?;
            let (closes, tag) = match tag.strip_prefix('/') {
                Some(tag) => (true, tag),
                None => (false, tag.strip_suffix('/').unwrap_or(tag)),
            };
            let name = tag.split_ascii_whitespace().next()?;
            let name = name.rsplit(':').next().unwrap_or(name);
            Some((if closes { Tag::Close(name) } else { Tag::Open(name) }, text))
        })
    }

    /// What stands in the first element of this name, up to the next tag.
    pub(super) fn value(&self, name: &str) -> Option<String> {
        self.tags().find(|(tag, _)| tag.opens(name)).map(|(_, text)| plain(text))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tag<'a> {
    Open(&'a str),
    Close(&'a str),
}

impl Tag<'_> {
    /// Whether an element of this name begins here.
    pub(super) fn opens(&self, name: &str) -> bool {
        matches!(self, Self::Open(open) if *open == name)
    }
}

/// Text as it is meant.
pub(super) fn plain(text: &str) -> String {
    let entities =
        [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'"), ("&amp;", "&")];
    let mut plain = text.trim().to_owned();
    for (entity, character) in entities {
        if plain.contains(entity) {
            plain = plain.replace(entity, character);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_by_name() {
        let document = Document::new(
            "<?xml version=\"1.0\"?>\n<r xmlns:u=\"x\"><!-- <a>no</a> --><u:a b=\"c\"> y&amp;lt; </u:a><d/></r>",
        );
        assert_eq!(document.value("a").unwrap(), "y&lt;");
        assert_eq!(document.value("d").unwrap(), "");
        let tags: Vec<_> = document.tags().map(|(tag, _)| tag).collect();
        use Tag::{Close, Open};
        let all = [Open("?xml"), Open("r"), Open("a"), Close("a"), Open("d"), Close("r")];
        assert_eq!(tags, all);
    }

    #[test]
    fn what_is_no_document_has_no_values() {
        for text in ["", "<", "<>", "</>", "<!--", "<a", "a>b", "< a>b", "<!---->", "<a:>x"] {
            assert_eq!(Document::new(text).value("b"), None, "{text}");
        }
    }

    #[test]
    fn entities_do_not_grow() {
        let big = "x".repeat(1000);
        let uses = "&big;".repeat(1000);
        let text = format!("<!DOCTYPE r [<!ENTITY big \"{big}\">]><r><a>{uses}</a></r>");
        assert_eq!(Document::new(&text).value("a").unwrap(), uses);
    }
}
