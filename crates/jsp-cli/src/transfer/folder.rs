//! The receiving folder: files appear in it whole, under a free name, or not at all.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use thiserror::Error;

use super::claim::{Claim, Claims};
use super::path::{NameError, PARTIAL_PREFIX, SafePath};
use super::record::{HASH_LEN, RESUME_MIN, Token};
use crate::exit::Failure;

/// Numbers tried for a name that is taken.
const NUMBERS_MAX: u32 = 9999;
/// How long an unfinished file waits for its sender.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long a transfer that was displaced may take to let go of its file, and how often that is
/// looked for.
const LET_GO: (Duration, Duration) = (Duration::from_secs(3), Duration::from_millis(10));
/// Bytes read at once to hash what is there.
const READ_LEN: usize = 256 << 10;

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
    claims: Claims,
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
        let folder = Self { root, taken, next, claims: Claims::default(), unsynced };
        folder.remove_leftovers().map_err(explain)?;
        // Better to say now that nothing can be stored than after two gigabytes.
        drop(folder.begin().map_err(explain)?);
        Ok(folder)
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Unfinished files whose process is gone, for a living one holds a lock on each; but for those
    /// that a sender may still go on with.
    fn remove_leftovers(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.root)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(rest) = name.to_str().and_then(|name| name.strip_prefix(PARTIAL_PREFIX))
            else {
                continue;
            };
            if !entry.file_type()?.is_file() || (rest.starts_with(KEPT_MARK) && is_wanted(&entry)) {
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
                    return Ok(Partial { file, path, kept: false });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The unfinished file that `token` names, with all that is in it, or a new one; and the hash of
    /// what is in it. Displaces a transfer of the same sender that has it, and waits for it. Where
    /// locks do not exist, or another process has it, an unfinished file that nobody will find again.
    pub(crate) fn resume(&self, token: &Token) -> io::Result<(Partial, blake3::Hasher, u64)> {
        let path = self.root.join(kept_name(token));
        let mut options = OpenOptions::new();
        let mut file = options.read(true).write(true).create(true).truncate(false).open(&path)?;
        let begun = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) if is_at(&file, &path) => break,
                Ok(()) => {}
                Err(TryLockError::WouldBlock) if begun.elapsed() < LET_GO.0 => {
                    std::thread::sleep(LET_GO.1);
                }
                Err(_) => return Ok((self.begin()?, blake3::Hasher::new(), 0)),
            }
            // Whoever had it has given it its name, or removed it.
            file = options.open(&path)?;
        }
        let (hasher, len) = hash(&mut file)?;
        Ok((Partial { file, path, kept: true }, hasher, len))
    }

    /// Takes over the file that `token` names from an earlier transfer of the same sender.
    pub(crate) fn claim(&self, token: Token) -> Claim {
        self.claims.claim(token)
    }

    /// A file that was stored lately, and is still there as it came: its hash and the name that it got. Reads it whole.
    pub(crate) fn stored(&self, token: &Token) -> Option<([u8; HASH_LEN], SafePath)> {
        let (stored, name) = self.claims.stored(token)?;
        let path = name.below(&self.root);
        let is_file = path.symlink_metadata().is_ok_and(|metadata| metadata.is_file());
        let found = is_file.then(|| hash(&mut File::open(&path).ok()?).ok()).flatten();
        found.filter(|(found, _)| *found.finalize().as_bytes() == stored).map(|_| (stored, name))
    }

    /// Remembers that the file of `token` is stored, in case the sender does not hear of it.
    pub(crate) fn note_stored(&self, token: Token, hash: [u8; HASH_LEN], name: SafePath) {
        self.claims.note_stored(token, hash, name);
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
        mut partial: Partial,
        path: &SafePath,
        look: Look,
    ) -> Result<SafePath, StoreError> {
        partial.kept = false;
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

/// What the names of unfinished files have after the prefix when they wait for their sender.
const KEPT_MARK: &str = "kept-";

/// Of the token there is only a hash on the disk: who sees the folder cannot go on in its sender's
/// name.
fn kept_name(token: &Token) -> String {
    let hash = blake3::hash(&token.0).to_hex();
    format!("{PARTIAL_PREFIX}{KEPT_MARK}{}", hash.get(..32).unwrap_or_default())
}

/// Whether the name still leads to this file, and not to none or another.
fn is_at(file: &File, path: &Path) -> bool {
    let (Ok(held), Ok(there)) = (file.metadata(), path.symlink_metadata()) else { return false };
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        (held.dev(), held.ino()) == (there.dev(), there.ino())
    }
    // Elsewhere a file that is open keeps its name.
    #[cfg(not(unix))]
    {
        held.len() == there.len()
    }
}

/// Whether a sender may still go on with what its process has left: not if that is short, or got
/// its name already.
fn is_wanted(entry: &fs::DirEntry) -> bool {
    let Ok(metadata) = entry.metadata() else { return false };
    #[cfg(unix)]
    if std::os::unix::fs::MetadataExt::nlink(&metadata) > 1 {
        return false;
    }
    let age = metadata.modified().ok().and_then(|at| SystemTime::now().duration_since(at).ok());
    metadata.len() >= RESUME_MIN && age.is_none_or(|age| age < KEPT)
}

/// An unfinished file. Dropping it removes its unfinished name, and with it the content, unless
/// [`Folder::commit`] has given it another, or it waits for its sender.
#[derive(Debug)]
pub(crate) struct Partial {
    pub(crate) file: File,
    path: PathBuf,
    /// It stays until its sender goes on.
    kept: bool,
}

impl Partial {
    /// Cuts everything off: the sender's file is another.
    pub(crate) fn clear(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.rewind()
    }

    /// Removes the file even if it could be gone on with.
    pub(crate) fn discard(mut self) {
        self.kept = false;
    }

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
        let worth_keeping =
            || self.file.metadata().is_ok_and(|metadata| metadata.len() >= RESUME_MIN);
        if !(self.kept && worth_keeping()) {
            // It may have been renamed.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The hash of all that is left of a file, and how much that is.
fn hash(file: &mut File) -> io::Result<(blake3::Hasher, u64)> {
    let (mut hasher, mut len) = (blake3::Hasher::new(), 0);
    let mut buffer = vec![0; READ_LEN];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok((hasher, len)),
            Ok(read) => {
                hasher.update(buffer.get(..read).unwrap_or_default());
                len += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
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

    #[test]
    fn an_unfinished_file_waits_for_its_sender() {
        let place = TestFolder::new("resume");
        let folder = Folder::open(&place.0, Taken::Refuse).unwrap();
        let (token, other) = (Token([1; 16]), Token([2; 16]));
        let half = vec![7; usize::try_from(RESUME_MIN).unwrap()];
        let (mut partial, hasher, len) = folder.resume(&token).unwrap();
        assert_eq!((hasher.finalize(), len), (blake3::hash(b""), 0));
        partial.file.write_all(&half).unwrap();
        drop(partial);
        // Short ones are not worth it.
        let (mut short, ..) = folder.resume(&other).unwrap();
        short.file.write_all(b"short").unwrap();
        drop(short);
        assert_eq!(names(&place.0).len(), 1);
        // Another receiver, later.
        let folder = Folder::open(&place.0, Taken::Refuse).unwrap();
        let (mut partial, hasher, len) = folder.resume(&token).unwrap();
        assert_eq!((hasher.finalize(), len), (blake3::hash(&half), RESUME_MIN));
        partial.file.write_all(b"rest").unwrap();
        folder.commit(partial, &path("a"), Look::default()).unwrap();
        assert_eq!(fs::read(place.0.join("a")).unwrap(), [&half[..], b"rest"].concat());
        assert_eq!(names(&place.0), ["a"]);
    }

    #[test]
    fn an_unfinished_file_that_is_another_is_cut_or_removed() {
        let place = TestFolder::new("resume-clear");
        let folder = Folder::open(&place.0, Taken::Refuse).unwrap();
        let half = vec![7; usize::try_from(RESUME_MIN).unwrap()];
        let (mut partial, ..) = folder.resume(&Token([1; 16])).unwrap();
        partial.file.write_all(&half).unwrap();
        partial.clear().unwrap();
        partial.file.write_all(b"new").unwrap();
        folder.commit(partial, &path("a"), Look::default()).unwrap();
        assert_eq!(fs::read(place.0.join("a")).unwrap(), b"new");
        let (mut partial, ..) = folder.resume(&Token([1; 16])).unwrap();
        partial.file.write_all(&half).unwrap();
        partial.discard();
        assert_eq!(names(&place.0), ["a"]);
    }

    #[test]
    fn a_file_that_has_its_name_is_not_gone_on_with() {
        let place = TestFolder::new("resume-named");
        let path = place.0.join("a");
        fs::write(&path, b"first").unwrap();
        let held = File::open(&path).unwrap();
        assert!(is_at(&held, &path));
        fs::rename(&path, place.0.join("named")).unwrap();
        assert!(!is_at(&held, &path));
        fs::write(&path, b"another").unwrap();
        assert!(!is_at(&held, &path));
    }

    #[test]
    fn old_and_short_unfinished_files_go() {
        let place = TestFolder::new("resume-old");
        let file = place.0.join(kept_name(&Token([1; 16])));
        fs::write(&file, b"short").unwrap();
        Folder::open(&place.0, Taken::Refuse).unwrap();
        assert!(!file.exists());
        fs::write(&file, vec![0; usize::try_from(RESUME_MIN).unwrap()]).unwrap();
        Folder::open(&place.0, Taken::Refuse).unwrap();
        assert!(file.exists());
        let old = SystemTime::now() - KEPT - Duration::from_secs(1);
        OpenOptions::new().write(true).open(&file).unwrap().set_modified(old).unwrap();
        Folder::open(&place.0, Taken::Refuse).unwrap();
        assert!(!file.exists());
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
