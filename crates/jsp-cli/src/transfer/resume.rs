//! Transfers that go on where they broke off: how a sender names its files, and what it knows of
//! an earlier attempt.

use std::collections::HashSet;
use std::fs::{self, Metadata};
use std::path::Path;
use std::time::SystemTime;

use jsp::Identity;

use super::record::{TOKEN_LEN, Token};
use crate::exit::{Exit, Failure};
use crate::settings;

/// Length of a receiver's name, in bytes.
pub(crate) const RECEIVER_NAME_LEN: usize = 16;

/// Names files at one receiver so that nobody else can guess the names.
#[derive(Clone)]
pub(crate) struct Namer {
    key: [u8; 32],
}

impl std::fmt::Debug for Namer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Namer(..)")
    }
}

impl Namer {
    /// Of this user, for a receiver, named by its fingerprint or its address. Makes the user's secret at the first use.
    pub(crate) fn open(receiver: &str) -> Result<Self, Failure> {
        Ok(Self::new(&secret()?, receiver))
    }

    fn new(secret: &[u8], receiver: &str) -> Self {
        let root =
            blake3::derive_key("JetStreamProto tools 2026 names of unfinished files", secret);
        Self { key: *blake3::keyed_hash(&root, receiver.as_bytes()).as_bytes() }
    }

    /// The name of a file as it is now: after a change it has another.
    pub(crate) fn name(&self, path: &str, local: &Path, metadata: &Metadata) -> Token {
        let local = fs::canonicalize(local).unwrap_or_else(|_| local.to_owned());
        let since = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).ok();
        let modified = metadata.modified().ok().and_then(since).map_or(0, |since| since.as_nanos());
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        for text in [path.as_bytes(), local.as_os_str().as_encoded_bytes()] {
            hasher.update(&(text.len() as u64).to_be_bytes()).update(text);
        }
        hasher.update(&metadata.len().to_be_bytes()).update(&modified.to_be_bytes());
        let mut token = [0; TOKEN_LEN];
        hasher.finalize_xof().fill(&mut token);
        Token(token)
    }
}

/// This user's secret.
fn secret() -> Result<Vec<u8>, Failure> {
    let path = settings::resume_key_path()?;
    settings::make_parent(&path)?;
    // A key file of its own: made whole, open to its owner alone, and checked for that.
    Identity::load_or_generate(&path)?;
    fs::read(&path).map_err(|error| {
        let sentence = format!("{} cannot be read: {error}; remove it", path.display());
        Failure::new(Exit::Keys, sentence)
    })
}

/// How this user, as a receiver without an identity, is told from others: the same each time.
pub(crate) fn receiver_name() -> Result<[u8; RECEIVER_NAME_LEN], Failure> {
    let context = "JetStreamProto tools 2026 name of a receiver by code";
    let mut name = [0; RECEIVER_NAME_LEN];
    blake3::Hasher::new_derive_key(context).update(&secret()?).finalize_xof().fill(&mut name);
    Ok(name)
}

/// What earlier attempts of the same command have settled: it is neither sent nor told again.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settled {
    /// Paths that the receiver has stored or refused.
    pub(crate) answered: HashSet<String>,
    /// Local names that could not be read.
    pub(crate) unreadable: HashSet<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transfer::test_folder::TestFolder;

    #[test]
    fn a_name_is_of_one_content_place_receiver_and_user() {
        let place = TestFolder::new("namer");
        let (a, b) = (place.0.join("a"), place.0.join("b"));
        fs::write(&a, b"one").unwrap();
        fs::copy(&a, &b).unwrap();
        let namer = Namer::new(b"secret", "host");
        let look = |path: &Path| fs::metadata(path).unwrap();
        let token = namer.name("a", &a, &look(&a));
        assert_eq!(Namer::new(b"secret", "host").name("a", &a, &look(&a)), token);
        let others = [
            Namer::new(b"secret", "elsewhere").name("a", &a, &look(&a)),
            Namer::new(b"another", "host").name("a", &a, &look(&a)),
            namer.name("x", &a, &look(&a)),
            namer.name("a", &b, &look(&b)),
            namer.name("a", &a, &{
                fs::write(&a, b"three").unwrap();
                look(&a)
            }),
        ];
        assert!(others.iter().all(|other| *other != token));
    }
}
