//! The receiving folder: files appear in it whole, under a free name, or not at all.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use thiserror::Error;

use super::path::{NameError, PARTIAL_PREFIX, SafePath};
use crate::exit::Failure;

/// Numbers tried for a name that is taken.
const NUMBERS_MAX: u32 = 9999;

/// What happens to a file whose name is taken. None of them overwrites.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// The file is refused.
    Refuse,
    /// The file gets a number.
    Number,
}

/// Why a file was not stored.
#[derive(Debug, Error)]
pub(crate) enum StoreError {
    #[error(transparent)]
    Name(#[from] NameError),
    #[error("a file of this name is there already; move it away, or receive with --rename")]
    Taken,
    #[error("a folder on the way is a symbolic link, which is never followed")]
    Link,
    #[error("a file stands where a folder is needed; move it away")]
    NotFolder,
    #[error("the disk is full; free some space and send the file again")]
    Full(#[source] io::Error),
    #[error("it cannot be stored: {0}")]
    Io(io::Error),
}

impl From<io::Error> for StoreError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full(error),
            io::ErrorKind::AlreadyExists => Self::Taken,
            _ => Self::Io(error),
        }
    }
}

/// A folder that receives.
#[derive(Debug)]
pub(crate) struct Folder {
    root: PathBuf,
    taken: Taken,
    /// Numbers of unfinished files.
    next: AtomicU64,
    /// Folders with names that are not yet on the disk for sure.
    unsynced: Mutex<BTreeSet<PathBuf>>,
}

/// What a file is to be, beside its content.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Look {
    pub(crate) executable: bool,
    /// Seconds since 1970.
    pub(crate) modified: Option<u64>,
}

impl Folder {
    /// Makes the folder if it is missing, and removes what killed receivers have left in it.
    pub(crate) fn open(root: &Path, taken: Taken) -> Result<Self, Failure> {
        let explain = |error: io::Error| {
            let root = root.display();
            Failure::file(format!("{root} cannot receive files: {error}; choose another --dir"))
        };
        fs::create_dir_all(root).map_err(explain)?;
        let root = fs::canonicalize(root).map_err(explain)?;
        let (next, unsynced) = (AtomicU64::new(0), Mutex::default());
        let folder = Self { root, taken, next, unsynced };
        folder.remove_leftovers().map_err(explain)?;
        // Better to say now that nothing can be stored than after two gigabytes.
        drop(folder.begin().map_err(explain)?);
        Ok(folder)
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Unfinished files whose process is gone: a living one holds a lock on each.
    fn remove_leftovers(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.root)? {
            let entry = entry?;
            let is_ours = entry.file_name().to_str().is_some_and(|n| n.starts_with(PARTIAL_PREFIX));
            if !is_ours || !entry.file_type()?.is_file() {
                continue;
            }
            let Ok(file) = OpenOptions::new().write(true).open(entry.path()) else { continue };
            match file.try_lock() {
                Ok(()) => fs::remove_file(entry.path())?,
                Err(TryLockError::WouldBlock | TryLockError::Error(_)) => {}
            }
        }
        Ok(())
    }

    /// A new unfinished file.
    pub(crate) fn begin(&self) -> io::Result<Partial> {
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let name = format!("{PARTIAL_PREFIX}{}-{number}", std::process::id());
            let path = self.root.join(name);
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => {
                    // Where locks do not exist, leftovers stay until somebody removes them.
                    let _ = file.try_lock();
                    return Ok(Partial { file, path });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether a file of this name would be refused, so that its data need not travel.
    pub(crate) fn check(&self, path: &SafePath) -> Result<(), StoreError> {
        let taken = path.below(&self.root).symlink_metadata().is_ok();
        if taken && self.taken == Taken::Refuse { Err(StoreError::Taken) } else { Ok(()) }
    }

    /// Makes a folder, and those that it is in.
    pub(crate) fn make_folder(&self, path: &SafePath) -> Result<(), StoreError> {
        self.make_folders(path.parts())
    }

    fn make_folders<'p>(&self, parts: impl Iterator<Item = &'p str>) -> Result<(), StoreError> {
        let mut place = self.root.clone();
        for part in parts {
            let outer = place.clone();
            place.push(part);
            match fs::create_dir(&place) {
                Ok(()) => self.note_unsynced(outer),
                Err(error) => {
                    let Ok(metadata) = place.symlink_metadata() else { return Err(error.into()) };
                    if metadata.is_symlink() {
                        return Err(StoreError::Link);
                    }
                    if !metadata.is_dir() {
                        return Err(StoreError::NotFolder);
                    }
                }
            }
        }
        Ok(())
    }

    fn note_unsynced(&self, folder: PathBuf) {
        self.unsynced.lock().unwrap_or_else(PoisonError::into_inner).insert(folder);
    }

    /// Gives a finished file its name, once its content is on the disk. Answers the name that it
    /// got. When it fails, nothing of the file is left.
    pub(crate) fn commit(
        &self,
        partial: Partial,
        path: &SafePath,
        look: Look,
    ) -> Result<SafePath, StoreError> {
        partial.apply(look)?;
        partial.file.sync_all()?;
        let depth = path.parts().count();
        self.make_folders(path.parts().take(depth.saturating_sub(1)))?;
        let mut name = path.clone();
        let mut number = 0;
        loop {
            match give_name(&partial.path, &name.below(&self.root)) {
                Ok(()) => break,
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(error.into());
                }
                Err(_) if self.taken == Taken::Number && number < NUMBERS_MAX => {
                    number += 1;
                    name = path.numbered(number)?;
                }
                Err(_) => return Err(StoreError::Taken),
            }
        }
        if let Some(parent) = name.below(&self.root).parent() {
            self.note_unsynced(parent.to_owned());
        }
        Ok(name)
    }

    /// Brings the names given so far to the disk.
    pub(crate) fn sync(&self) -> io::Result<()> {
        let folders =
            std::mem::take(&mut *self.unsynced.lock().unwrap_or_else(PoisonError::into_inner));
        // Windows has no such call for folders, and needs none.
        if cfg!(unix) {
            for folder in folders {
                File::open(folder)?.sync_all()?;
            }
        }
        Ok(())
    }
}

/// Names the file at `from` `to`, unless there is something: a hard link fails where a renaming
/// would overwrite. File systems without hard links get a check and a renaming.
fn give_name(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
        Err(_) if to.symlink_metadata().is_ok() => Err(io::ErrorKind::AlreadyExists.into()),
        Err(_) => fs::rename(from, to),
        // The unfinished name goes when the `Partial` is dropped.
        Ok(()) => Ok(()),
    }
}

/// An unfinished file. Dropping it removes its unfinished name, and with it the content, unless
/// [`Folder::commit`] has given it another.
#[derive(Debug)]
pub(crate) struct Partial {
    pub(crate) file: File,
    path: PathBuf,
}

impl Partial {
    fn apply(&self, look: Look) -> io::Result<()> {
        #[cfg(unix)]
        if look.executable {
            use std::os::unix::fs::PermissionsExt;
            let mode = self.file.metadata()?.permissions().mode();
            // Who may read may also run.
            let mode = mode | ((mode & 0o444) >> 2);
            self.file.set_permissions(fs::Permissions::from_mode(mode))?;
        }
        let modified = look
            .modified
            .and_then(|seconds| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds)));
        if let Some(modified) = modified {
            // A date that the file system cannot hold is no reason to lose the file.
            let _ = self.file.set_modified(modified);
        }
        Ok(())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // It may have been renamed.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transfer::test_folder::TestFolder;
    use std::io::Write;

    fn path(text: &str) -> SafePath {
        SafePath::parse(text).unwrap()
    }

    fn store(folder: &Folder, name: &str, content: &[u8]) -> Result<SafePath, StoreError> {
        let mut partial = folder.begin().unwrap();
        partial.file.write_all(content).unwrap();
        folder.commit(partial, &path(name), Look::default())
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn files_appear_whole_and_nothing_else_is_left() {
        let place = TestFolder::new("whole");
        let folder = Folder::open(&place.0, Taken::Refuse).unwrap();
        store(&folder, "a/b/c.txt", b"content").unwrap();
        folder.make_folder(&path("empty/inner")).unwrap();
        folder.sync().unwrap();
        assert_eq!(fs::read(place.0.join("a/b/c.txt")).unwrap(), b"content");
        assert!(place.0.join("empty/inner").is_dir());
        assert_eq!(names(&place.0), ["a", "empty"]);
    }

    #[test]
    fn nothing_is_overwritten() {
        let place = TestFolder::new("overwrite");
        let folder = Folder::open(&place.0, Taken::Refuse).unwrap();
        store(&folder, "a.txt", b"old").unwrap();
        assert!(matches!(folder.check(&path("a.txt")), Err(StoreError::Taken)));
        assert!(matches!(store(&folder, "a.txt", b"new"), Err(StoreError::Taken)));
        assert!(matches!(store(&folder, "a.txt/b", b"new"), Err(StoreError::NotFolder)));
        assert_eq!(fs::read(place.0.join("a.txt")).unwrap(), b"old");

        let folder = Folder::open(&place.0, Taken::Number).unwrap();
        assert!(folder.check(&path("a.txt")).is_ok());
        assert_eq!(store(&folder, "a.txt", b"1").unwrap(), path("a (1).txt"));
        assert_eq!(store(&folder, "a.txt", b"2").unwrap(), path("a (2).txt"));
        assert_eq!(names(&place.0), ["a (1).txt", "a (2).txt", "a.txt"]);
    }

    #[test]
    fn abandoned_files_vanish_and_those_of_the_dead_are_removed_at_the_start() {
        let place = TestFolder::new("leftover");
        let folder = Folder::open(&place.0, Taken::Refuse).unwrap();
        drop(folder.begin().unwrap());
        assert!(names(&place.0).is_empty());

        let dead = place.0.join(format!("{PARTIAL_PREFIX}1-1"));
        fs::write(&dead, b"half").unwrap();
        fs::write(place.0.join("mine"), b"whole").unwrap();
        let living = folder.begin().unwrap();
        Folder::open(&place.0, Taken::Refuse).unwrap();
        assert!(!dead.exists());
        assert!(living.path.exists(), "a living process holds its lock");
        assert!(place.0.join("mine").exists());
    }

    #[cfg(unix)]
    #[test]
    fn symbolic_links_are_not_followed() {
        let place = TestFolder::new("links");
        let outside = TestFolder::new("links-outside");
        let folder = Folder::open(&place.0, Taken::Refuse).unwrap();
        std::os::unix::fs::symlink(&outside.0, place.0.join("out")).unwrap();
        std::os::unix::fs::symlink(outside.0.join("new"), place.0.join("dangling")).unwrap();
        assert!(matches!(store(&folder, "out/a", b"x"), Err(StoreError::Link)));
        assert!(matches!(folder.make_folder(&path("out/b")), Err(StoreError::Link)));
        assert!(matches!(store(&folder, "dangling", b"x"), Err(StoreError::Taken)));
        assert!(names(&outside.0).is_empty());
    }

    #[cfg(unix)]
    #[test]
    fn programs_stay_programs_and_dates_stay() {
        use std::os::unix::fs::PermissionsExt;
        let place = TestFolder::new("look");
        let folder = Folder::open(&place.0, Taken::Refuse).unwrap();
        let look = Look { executable: true, modified: Some(1_000_000_000) };
        let partial = folder.begin().unwrap();
        folder.commit(partial, &path("run"), look).unwrap();
        let metadata = fs::metadata(place.0.join("run")).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o100, 0o100);
        let expected = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        assert_eq!(metadata.modified().unwrap(), expected);
        assert!(
            folder
                .commit(
                    folder.begin().unwrap(),
                    &path("far"),
                    Look { executable: false, modified: Some(u64::MAX) }
                )
                .is_ok()
        );
    }
}
