//! Where keys and known hosts live.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use crate::exit::{Exit, Failure};

/// The directory of keys and known hosts: `JSP_CONFIG_DIR`, or the platform's place for
/// configuration.
pub(crate) fn directory() -> Result<PathBuf, Failure> {
    choose(|name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from))
        .ok_or_else(|| {
            let sentence = "no home directory is known; set JSP_CONFIG_DIR to a directory for keys";
            Failure::new(Exit::Keys, sentence)
        })
}

fn choose(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    if let Some(chosen) = variable("JSP_CONFIG_DIR") {
        return Some(chosen);
    }
    let base = if cfg!(windows) {
        variable("APPDATA")
    } else if cfg!(target_os = "macos") {
        variable("HOME").map(|home| home.join("Library/Application Support"))
    } else {
        // Relative paths are to be ignored (XDG Base Directory Specification 0.8).
        variable("XDG_CONFIG_HOME")
            .filter(|path| path.is_absolute())
            .or_else(|| variable("HOME").map(|home| home.join(".config")))
    };
    base.map(|base| base.join("jsp"))
}

/// The identity file of this user.
pub(crate) fn identity_path() -> Result<PathBuf, Failure> {
    Ok(directory()?.join("identity.key"))
}

/// The store of hosts met before. Makes its directory, because the first meeting writes it.
pub(crate) fn known_hosts_path() -> Result<PathBuf, Failure> {
    let path = directory()?.join("known_hosts");
    make_parent(&path)?;
    Ok(path)
}

/// The secret from which this user's names of unfinished files come.
pub(crate) fn resume_key_path() -> Result<PathBuf, Failure> {
    Ok(directory()?.join("resume.key"))
}

/// Makes the directory that `path` is in, open to its owner alone.
pub(crate) fn make_parent(path: &Path) -> Result<(), Failure> {
    let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) else {
        return Ok(());
    };
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt;
        builder.mode(0o700);
    }
    builder.create(parent).map_err(|error| {
        let sentence = format!(
            "{} cannot be made: {error}; set JSP_CONFIG_DIR to a directory that can be written",
            parent.display()
        );
        Failure::new(Exit::Keys, sentence)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_place_that_is_known_is_taken() {
        let known = |pairs: &'static [(&str, &str)]| {
            choose(|name| {
                pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| PathBuf::from(value))
            })
        };
        let own = known(&[("JSP_CONFIG_DIR", "/own"), ("HOME", "/home/a")]);
        assert_eq!(own, Some(PathBuf::from("/own")));
        assert_eq!(known(&[]), None);
        if cfg!(target_os = "linux") {
            let xdg = known(&[("XDG_CONFIG_HOME", "/x"), ("HOME", "/home/a")]);
            assert_eq!(xdg, Some(PathBuf::from("/x/jsp")));
            let relative = known(&[("XDG_CONFIG_HOME", "x"), ("HOME", "/home/a")]);
            assert_eq!(relative, Some(PathBuf::from("/home/a/.config/jsp")));
        }
    }
}
