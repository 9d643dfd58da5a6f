//! Where a server keeps, over a restart, which tickets have brought early data.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use jsp_crypto::{Rng, SystemRng, atomic_file};

/// Longest register that is read, in bytes: twice a million tickets.
const LEN_MAX: u64 = 32 << 20;
/// How a file begins that says that a server runs.
const RUNNING: &[u8] = b"JSPRUN1\0";

/// Where a server that shares tickets ([`Builder::share_tickets`](crate::Builder::share_tickets)) keeps
/// the register of early data, so that it need not refuse them for 21 s after it has been ended and
/// started in order.
///
/// What is kept may be read by others, but must not come back: a register that serves twice lets early
/// data be replayed that were taken between. It is authenticated, of use with the same tickets and shard
/// only, and for 21 s. A store that fails keeps nothing, and answers `None`.
pub trait RegisterStore: Send + Sync {
    /// Takes out what was put last. It must be gone for good, even if the machine fails now; and what a
    /// server puts that took out earlier than this must be refused from now on. May block.
    fn take(&self) -> Option<Vec<u8>>;

    /// Keeps a register in place of what was there. May block.
    fn put(&self, register: Vec<u8>);
}

/// A register in a file, for one server at a time.
///
/// While the server runs the file names this process's own mark. A server that finds another's mark in
/// its place when it ends keeps nothing: somebody has begun meanwhile whose early data it does not know.
pub struct RegisterFile {
    path: PathBuf,
    mark: Vec<u8>,
}

impl RegisterFile {
    /// The register at `path`; nothing is touched before it is taken.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let mut own = [0; 16];
        SystemRng.fill(&mut own);
        Self { path: path.into(), mark: [RUNNING, &own].concat() }
    }

    fn is_ours(&self) -> bool {
        read(&self.path).is_ok_and(|found| found == self.mark)
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(LEN_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

impl RegisterStore for RegisterFile {
    fn take(&self) -> Option<Vec<u8>> {
        let found = read(&self.path).ok();
        if atomic_file::replace(&self.path, &self.mark).is_err() {
            // What cannot be marked must not be used, nor serve another.
            let _gone = fs::remove_file(&self.path);
            return None;
        }
        found.filter(|found| !found.starts_with(RUNNING))
    }

    fn put(&self, register: Vec<u8>) {
        if self.is_ours() {
            // Without it the next server is careful for a while: no reason to fail.
            let _kept = atomic_file::replace(&self.path, &register);
        }
    }
}

impl fmt::Debug for RegisterFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegisterFile").field("path", &self.path).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A path in a folder of its own, which goes away with the value.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let folder =
                std::env::temp_dir().join(format!("jsp-register-{name}-{}", std::process::id()));
            fs::create_dir_all(&folder).unwrap();
            Self(folder)
        }

        fn file(&self) -> PathBuf {
            self.0.join("register")
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn what_is_put_is_taken_once() {
        let folder = Folder::new("once");
        let first = RegisterFile::new(folder.file());
        assert_eq!(first.take(), None, "there is no file yet");
        first.put(b"what was taken".to_vec());
        let second = RegisterFile::new(folder.file());
        assert_eq!(second.take().as_deref(), Some(&b"what was taken"[..]));
        // The second one fails without a word: the third finds nothing.
        assert_eq!(RegisterFile::new(folder.file()).take(), None);
    }

    #[test]
    fn who_was_overtaken_keeps_nothing() {
        let folder = Folder::new("overtaken");
        let (first, second) = (RegisterFile::new(folder.file()), RegisterFile::new(folder.file()));
        assert_eq!((first.take(), second.take()), (None, None));
        first.put(b"old".to_vec());
        assert_eq!(read(&folder.file()).unwrap(), second.mark);
        second.put(b"new".to_vec());
        // It has ended, and may not take that back.
        second.put(b"newer".to_vec());
        assert_eq!(RegisterFile::new(folder.file()).take().as_deref(), Some(&b"new"[..]));
    }

    #[test]
    fn a_place_that_cannot_be_written_gives_nothing() {
        let folder = Folder::new("missing");
        let file = RegisterFile::new(folder.0.join("no such folder/register"));
        assert_eq!(file.take(), None);
        file.put(b"lost".to_vec());
        assert_eq!(file.take(), None);
    }
}
