//! Names from the network: only those that stay inside the receiving folder, on every system.

use std::path::{Component, Path, PathBuf};

use thiserror::Error;

/// Longest relative path, in bytes; `PATH_MAX` of Linux.
pub(crate) const PATH_LEN_MAX: usize = 4096;
/// Longest name of a file or folder, in bytes; `NAME_MAX` of most file systems.
const NAME_LEN_MAX: usize = 255;
/// Deepest nesting of folders.
const DEPTH_MAX: usize = 64;
/// What the names of unfinished files start with; no sent file may be called so.
pub(crate) const PARTIAL_PREFIX: &str = ".jsp-partial-";

/// Names of devices under Windows, with or without an extension ("Naming Files, Paths, and
/// Namespaces", Microsoft). `COM` and `LPT` with a digit are checked apart.
const DEVICES: [&str; 6] = ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"];

/// Why a name is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum NameError {
    #[error("the name is empty")]
    Empty,
    #[error("the name is too long, or its folders are nested too deep; send a shorter path")]
    TooLong,
    #[error("the name is absolute or leads out of the folder")]
    Escapes,
    #[error("the name contains a control character or a backslash; rename it")]
    Characters,
    #[error("the name means a device under Windows; rename it")]
    Device,
    #[error("the name starts with .jsp-partial-, which is kept for unfinished files; rename it")]
    Partial,
    #[error("the name cannot be used on this system; rename it")]
    System,
    #[error("the name is not Unicode; rename it")]
    NotUnicode,
}

/// A relative path with `/` between its parts, checked: every part is an ordinary name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SafePath(String);

impl SafePath {
    /// Checks a path that the peer sent.
    pub(crate) fn parse(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > PATH_LEN_MAX || text.split('/').count() > DEPTH_MAX {
            return Err(NameError::TooLong);
        }
        if text.starts_with('/') {
            return Err(NameError::Escapes);
        }
        text.split('/').try_for_each(check_part)?;
        Ok(Self(text.to_owned()))
    }

    /// The path of a local file under the name that it is sent as.
    pub(crate) fn from_local(path: &Path) -> Result<Self, NameError> {
        let mut text = String::new();
        for component in path.components() {
            let Component::Normal(part) = component else { return Err(NameError::Escapes) };
            if !text.is_empty() {
                text.push('/');
            }
            text.push_str(part.to_str().ok_or(NameError::NotUnicode)?);
        }
        Self::parse(&text)
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The parts, from the outermost folder to the name.
    pub(crate) fn parts(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }

    /// The path below `folder`.
    pub(crate) fn below(&self, folder: &Path) -> PathBuf {
        self.parts().fold(folder.to_owned(), |path, part| path.join(part))
    }

    /// The same path with ` (number)` before the extension.
    pub(crate) fn numbered(&self, number: u32) -> Result<Self, NameError> {
        let (folder, name) = match self.0.rsplit_once('/') {
            Some((folder, name)) => (Some(folder), name),
            None => (None, self.0.as_str()),
        };
        let name = match name.rsplit_once('.') {
            Some((stem, extension)) if !stem.is_empty() => format!("{stem} ({number}).{extension}"),
            _ => format!("{name} ({number})"),
        };
        Self::parse(&folder.map_or_else(|| name.clone(), |folder| format!("{folder}/{name}")))
    }
}

fn check_part(part: &str) -> Result<(), NameError> {
    if part.is_empty() {
        return Err(NameError::Empty);
    }
    if part.len() > NAME_LEN_MAX {
        return Err(NameError::TooLong);
    }
    if part == "." || part == ".." {
        return Err(NameError::Escapes);
    }
    if part.chars().any(|letter| letter.is_control() || letter == '\\') {
        return Err(NameError::Characters);
    }
    if part.get(..PARTIAL_PREFIX.len()).is_some_and(|s| s.eq_ignore_ascii_case(PARTIAL_PREFIX)) {
        return Err(NameError::Partial);
    }
    if is_device(part) {
        return Err(NameError::Device);
    }
    if cfg!(windows) && !is_windows_name(part) {
        return Err(NameError::System);
    }
    Ok(())
}

/// `nul`, `NUL.txt`, `com1`, `LPT² .x`: devices wherever they stand.
fn is_device(part: &str) -> bool {
    let stem = part.split(['.', ':']).next().unwrap_or(part).trim_end_matches(' ');
    let stem = stem.to_uppercase();
    if DEVICES.contains(&stem.as_str()) {
        return true;
    }
    let Some(rest) = stem.strip_prefix("COM").or_else(|| stem.strip_prefix("LPT")) else {
        return false;
    };
    let mut letters = rest.chars();
    let numbered = matches!(letters.next(), Some('0'..='9' | '¹' | '²' | '³'));
    numbered && letters.next().is_none()
}

/// No stream of a file, no wildcard, and no end that Windows drops.
fn is_windows_name(part: &str) -> bool {
    !part.contains([':', '<', '>', '"', '|', '?', '*']) && !part.ends_with([' ', '.'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_names_pass() {
        for name in
            ["a", "a/b/c.txt", "...", "a b", ".hidden", "grüße/日本", "console", "com10", "nul_"]
        {
            assert_eq!(SafePath::parse(name).map(|path| path.0), Ok(name.to_owned()));
        }
    }

    #[test]
    fn names_that_lead_out_are_refused() {
        for name in ["/etc/passwd", "..", "../a", "a/../../b", "a/..", "./a", "a/./b"] {
            assert_eq!(SafePath::parse(name), Err(NameError::Escapes), "{name}");
        }
        for name in ["", "a//b", "a/"] {
            assert_eq!(SafePath::parse(name), Err(NameError::Empty), "{name}");
        }
        for name in ["a\\b", "..\\..\\a", "a\0b", "a\nb", "\x1b[2J", "\u{85}"] {
            assert_eq!(SafePath::parse(name), Err(NameError::Characters), "{name:?}");
        }
    }

    #[test]
    fn devices_and_unfinished_files_are_refused() {
        for name in
            ["nul", "NUL.txt", "a/Con", "com1", "LPT9.log", "COM³", "aux .x", "CONIN$", "prn:x"]
        {
            assert_eq!(SafePath::parse(name), Err(NameError::Device), "{name}");
        }
        for name in [".jsp-partial-1", "a/.JSP-partial-9"] {
            assert_eq!(SafePath::parse(name), Err(NameError::Partial), "{name}");
        }
    }

    #[test]
    fn long_and_deep_names_are_refused() {
        assert!(SafePath::parse(&"a".repeat(255)).is_ok());
        assert_eq!(SafePath::parse(&"a".repeat(256)), Err(NameError::TooLong));
        let deep = vec!["a"; DEPTH_MAX + 1].join("/");
        assert_eq!(SafePath::parse(&deep), Err(NameError::TooLong));
    }

    #[test]
    fn numbers_go_before_the_extension() {
        let numbered = |name: &str| SafePath::parse(name).unwrap().numbered(2).unwrap().0;
        assert_eq!(numbered("a.txt"), "a (2).txt");
        assert_eq!(numbered("x.y/a"), "x.y/a (2)");
        assert_eq!(numbered(".profile"), ".profile (2)");
    }

    #[test]
    fn local_paths_become_names() {
        let name = |path: &str| SafePath::from_local(Path::new(path)).map(|path| path.0);
        assert_eq!(name("a/b"), Ok("a/b".to_owned()));
        assert_eq!(name("../b"), Err(NameError::Escapes));
        assert_eq!(name("/b"), Err(NameError::Escapes));
    }
}
