//! Identity keys in files that only their owner can read.

use super::{Identity, SignatureScheme, base32};
use crate::atomic_file;
use crate::primitives::HashAlg;
use alloc::string::String;
use core::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// The first line of a key file.
const HEADER: &str = "JetStreamProto identity 1";
/// The longest key file read, in bytes; ours have about 170.
const MAX_FILE_LEN: u64 = 4096;
/// Checksum bytes after the seed.
const CHECKSUM_LEN: usize = 4;

/// Why a key file was not read or written.
#[derive(Debug)]
pub enum IdentityFileError {
    /// The file system refused.
    Io(PathBuf, io::Error),
    /// Others than the owner may read or write the file.
    Permissions(PathBuf, u32),
    /// The file is no key file, or is damaged.
    Format(PathBuf, &'static str),
    /// A file is there already and was not to be replaced.
    Exists(PathBuf),
}

impl fmt::Display for IdentityFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Permissions(path, mode) => write!(
                f,
                "{}: others may use this secret key (mode {mode:04o}); run `chmod 600` on it, \
                 and make a new identity if somebody may have read it",
                path.display()
            ),
            Self::Format(path, why) => write!(f, "{}: {why}", path.display()),
            Self::Exists(path) => write!(
                f,
                "{}: there is a file already; move it away first, as an identity cannot be \
                 made again",
                path.display()
            ),
        }
    }
}

impl std::error::Error for IdentityFileError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(_, error) => Some(error),
            _ => None,
        }
    }
}

impl Identity {
    /// The text form of a key file. It holds the secret: keep it from others.
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new([0u8; 36]);
        let checksum = checksum(&self.seed);
        for (to, from) in bytes.iter_mut().zip(self.seed.iter().chain(&checksum)) {
            *to = *from;
        }
        let secret = Zeroizing::new(base32::encode(bytes.as_slice()));
        let fingerprint = self.fingerprint();
        Zeroizing::new(alloc::format!(
            "{HEADER}\nfingerprint {fingerprint}\n{} {}\n",
            label(self.scheme()),
            secret.as_str()
        ))
    }

    /// Reads the text form. The error says what is wrong with it.
    pub fn from_text(text: &str) -> Result<Self, &'static str> {
        let mut lines = text.lines();
        if lines.next() != Some(HEADER) {
            return Err("this is no JetStreamProto identity of format 1");
        }
        let fingerprint = lines
            .next()
            .and_then(|line| line.strip_prefix("fingerprint "))
            .and_then(|text| text.parse().ok())
            .ok_or("the fingerprint line is missing or damaged")?;
        let damaged = "the secret line is missing or damaged";
        let (name, secret) = lines.next().and_then(|line| line.split_once(' ')).ok_or(damaged)?;
        let scheme = SignatureScheme::ALL
            .into_iter()
            .find(|scheme| label(*scheme) == name)
            .ok_or(damaged)?;
        let secret = base32::decode(secret).map(Zeroizing::new).ok_or(damaged)?;
        let (seed, sum) = secret.split_first_chunk::<32>().ok_or("the secret is too short")?;
        if *sum != checksum(seed) {
            return Err("the secret is damaged: its checksum does not match");
        }
        let identity = Self::from_seed_with(scheme, seed).ok_or("the secret is not usable")?;
        if identity.fingerprint() != fingerprint {
            return Err("the fingerprint does not belong to the secret");
        }
        Ok(identity)
    }

    /// Reads a key file. On Unix it refuses files that others than the owner
    /// may read or write. Blocks on the disk.
    pub fn load(path: &Path) -> Result<Self, IdentityFileError> {
        let io = |error| IdentityFileError::Io(path.to_owned(), error);
        let file = File::open(path).map_err(io)?;
        check_permissions(path, &file)?;
        let mut text = Zeroizing::new(String::new());
        file.take(MAX_FILE_LEN).read_to_string(&mut text).map_err(io)?;
        Self::from_text(&text).map_err(|why| IdentityFileError::Format(path.to_owned(), why))
    }

    /// Writes a new key file, readable by the owner alone; it appears whole or
    /// not at all. Refuses to replace a file. Blocks on the disk.
    pub fn save(&self, path: &Path) -> Result<(), IdentityFileError> {
        atomic_file::create(path, self.to_text().as_bytes()).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => IdentityFileError::Exists(path.to_owned()),
            _ => IdentityFileError::Io(path.to_owned(), error),
        })
    }
}

/// What the line of the secret begins with.
fn label(scheme: SignatureScheme) -> &'static str {
    match scheme {
        SignatureScheme::Ed25519 => "secret",
        SignatureScheme::MlDsa65 => "secret-ml-dsa-65",
    }
}

fn checksum(seed: &[u8; 32]) -> [u8; CHECKSUM_LEN] {
    HashAlg::Sha256.hash(&[b"jsp1 identity file", seed]).prefix()
}

/// Looks at the opened file, not at the path, which may change in between.
fn check_permissions(path: &Path, file: &File) -> Result<(), IdentityFileError> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let metadata =
            file.metadata().map_err(|error| IdentityFileError::Io(path.to_owned(), error))?;
        let mode = metadata.permissions().mode() & 0o7777;
        // spec: HS-62
        if mode & 0o077 != 0 {
            return Err(IdentityFileError::Permissions(path.to_owned(), mode));
        }
    }
    #[cfg(not(unix))]
    let _ = (path, file);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::atomic_file::test_directory::TestDirectory;
    use alloc::vec::Vec;

    fn identity() -> Identity {
        Identity::from_seed(&[5; 32]).unwrap()
    }

    #[test]
    fn what_the_file_system_said_is_the_source() {
        use std::error::Error as _;
        let error = IdentityFileError::Io(PathBuf::from("key"), io::Error::other("full"));
        assert_eq!(error.source().unwrap().to_string(), "full");
        assert!(IdentityFileError::Exists(PathBuf::from("key")).source().is_none());
    }

    #[test]
    fn text_round_trips_and_damage_is_noticed() {
        // SHA-256 of the text and 32 bytes of 5: files of other versions stay readable.
        let known = [0x9d, 0xc0, 0x76, 0x74];
        assert_eq!(checksum(&[5; 32])[..4], known);
        assert_eq!(identity().seed(), &[5; 32]);
        let text = identity().to_text();
        assert!(text.lines().any(|line| line.starts_with("secret ")));
        let back = Identity::from_text(&text).unwrap();
        assert_eq!(back.seed(), identity().seed());
        for at in 0..text.len() {
            let mut damaged = text.as_bytes().to_vec();
            damaged[at] = if damaged[at] == b'x' { b'y' } else { b'x' };
            let damaged = String::from_utf8(damaged).unwrap();
            assert!(Identity::from_text(&damaged).is_err(), "byte {at}");
        }
        for end in 0..text.len() - 1 {
            assert!(Identity::from_text(&text[..end]).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn a_saved_file_loads_and_is_not_replaced() {
        let directory = TestDirectory::new("identity");
        let path = directory.0.join("id");
        identity().save(&path).unwrap();
        assert_eq!(Identity::load(&path).unwrap().public(), identity().public());
        let again = Identity::from_seed(&[6; 32]).unwrap().save(&path);
        assert!(matches!(again, Err(IdentityFileError::Exists(_))));
        assert_eq!(std::fs::read_dir(&directory.0).unwrap().count(), 1);
        let missing = Identity::load(&directory.0.join("none"));
        assert!(matches!(missing, Err(IdentityFileError::Io(..))));
    }

    #[test]
    fn of_many_that_save_at_once_one_does() {
        let directory = TestDirectory::new("race");
        for round in 0..20 {
            let path = directory.0.join(alloc::format!("id {round}"));
            let start = std::sync::Barrier::new(4);
            let saved = std::thread::scope(|scope| {
                let save = |number: u8| {
                    let (path, start) = (&path, &start);
                    scope.spawn(move || {
                        let identity = Identity::from_seed(&[number; 32]).unwrap();
                        start.wait();
                        identity.save(path).is_ok().then_some(identity.public())
                    })
                };
                let threads: Vec<_> = (1..5).map(save).collect();
                threads.into_iter().filter_map(|t| t.join().unwrap()).collect::<Vec<_>>()
            });
            assert_eq!(saved, [Identity::load(&path).unwrap().public()]);
        }
        assert_eq!(std::fs::read_dir(&directory.0).unwrap().count(), 20, "nothing is left over");
    }

    // spec-test: HS-62
    #[cfg(unix)]
    #[test]
    fn files_open_to_others_are_refused() {
        use std::os::unix::fs::PermissionsExt;
        let directory = TestDirectory::new("modes");
        let path = directory.0.join("id");
        identity().save(&path).unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(&path), 0o600);
        for open in [0o640, 0o604, 0o620, 0o602, 0o610, 0o777] {
            std::fs::set_permissions(&path, PermissionsExt::from_mode(open)).unwrap();
            let Err(error) = Identity::load(&path) else { panic!("mode {open:o} passed") };
            assert!(matches!(error, IdentityFileError::Permissions(_, mode) if mode == open));
            assert!(alloc::format!("{error}").contains("chmod 600"));
        }
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o400)).unwrap();
        assert!(Identity::load(&path).is_ok());
    }
}
