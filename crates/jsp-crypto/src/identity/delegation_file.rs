//! Delegations in files. They hold no secret.

use super::{Delegation, DelegationError, base32};
use crate::atomic_file;
use alloc::string::String;
use core::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// The first line of a delegation file.
const HEADER: &str = "JetStreamProto delegation 1";
/// The longest file read, in bytes; ours have about 500, or 15 000 with keys of ML-DSA-65.
const MAX_FILE_LEN: u64 = 1 << 16;

/// Why a delegation file was not read or written.
#[derive(Debug)]
pub enum DelegationFileError {
    /// The file system refused.
    Io(PathBuf, io::Error),
    /// The file is no delegation, or is damaged.
    Format(PathBuf, DelegationError),
}

impl fmt::Display for DelegationFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Format(path, why) => write!(f, "{}: {why}", path.display()),
        }
    }
}

impl std::error::Error for DelegationFileError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(_, error) => Some(error),
            Self::Format(_, error) => Some(error),
        }
    }
}

impl Delegation {
    /// The text form of a delegation file. Only its last line counts; the others are for people.
    pub fn to_text(&self) -> String {
        let (from, until) = self.period();
        alloc::format!(
            "{HEADER}\nidentity {}\nonline {}\nfrom {from}\nuntil {until}\nserial {}\n\
             delegation {}\n",
            self.identity().fingerprint(),
            self.online(),
            self.serial(),
            base32::encode(&self.to_bytes())
        )
    }

    /// Reads the text form. Signature and dates are checked by [`Delegation::verify`].
    ///
    /// # Errors
    /// [`DelegationError::Malformed`].
    pub fn from_text(text: &str) -> Result<Self, DelegationError> {
        let mut lines = text.lines();
        if lines.next() != Some(HEADER) {
            return Err(DelegationError::Malformed);
        }
        let bytes = lines
            .find_map(|line| line.strip_prefix("delegation "))
            .and_then(base32::decode)
            .ok_or(DelegationError::Malformed)?;
        Self::from_bytes(&bytes)
    }

    /// Reads a delegation file. Blocks on the disk.
    ///
    /// # Errors
    /// See [`DelegationFileError`].
    pub fn load(path: &Path) -> Result<Self, DelegationFileError> {
        let io = |error| DelegationFileError::Io(path.to_owned(), error);
        let mut text = String::new();
        let file = File::open(path).map_err(io)?;
        file.take(MAX_FILE_LEN).read_to_string(&mut text).map_err(io)?;
        Self::from_text(&text).map_err(|why| DelegationFileError::Format(path.to_owned(), why))
    }

    /// Writes a delegation file, in place of the one before it; it appears whole or not at all.
    /// Blocks on the disk.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn save(&self, path: &Path) -> Result<(), DelegationFileError> {
        atomic_file::replace(path, self.to_text().as_bytes())
            .map_err(|error| DelegationFileError::Io(path.to_owned(), error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::atomic_file::test_directory::TestDirectory;
    use crate::identity::Identity;

    #[test]
    fn a_saved_delegation_loads_and_gives_way_to_the_next() {
        let directory = TestDirectory::new("delegation");
        let path = directory.0.join("online.delegation");
        let identity = Identity::from_seed(&[1; 32]).unwrap();
        let online = Identity::from_seed(&[2; 32]).unwrap().public();
        for serial in 1..3 {
            let issued = Delegation::issue(&identity, online.clone(), 1000, 2000, serial).unwrap();
            issued.save(&path).unwrap();
            assert_eq!(Delegation::load(&path).unwrap(), issued);
        }
        std::fs::write(&path, "JetStreamProto delegation 1\ndelegation abc\n").unwrap();
        assert!(matches!(Delegation::load(&path), Err(DelegationFileError::Format(..))));
        let missing = Delegation::load(&directory.0.join("none"));
        assert!(matches!(missing, Err(DelegationFileError::Io(..))));
        let cause = std::error::Error::source(missing.as_ref().unwrap_err()).unwrap();
        assert_eq!(cause.downcast_ref::<io::Error>().unwrap().kind(), io::ErrorKind::NotFound);
    }
}
