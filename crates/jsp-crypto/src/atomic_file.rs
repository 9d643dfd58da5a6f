//! Files that are written whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Makes names of temporary files differ within one process.
static SERIAL: AtomicU64 = AtomicU64::new(0);

/// Writes `contents` beside `path`, readable by the owner alone, flushes it to
/// the disk and renames it over `path`. Blocks on the disk.
///
/// # Errors
/// When the disk refuses; `path` then is as it was.
pub fn replace(path: &Path, contents: &[u8]) -> io::Result<()> {
    let temporary = beside(path, "tmp");
    write_new(&temporary, contents)?;
    let result = fs::rename(&temporary, path);
    if result.is_err() {
        // The first error matters; a left-over file only takes room.
        let _ = fs::remove_file(&temporary);
        return result;
    }
    sync_directory(path);
    Ok(())
}

/// Writes `contents` to a new file at `path`, readable by the owner alone, and
/// flushes it to the disk. Of several that do so at once, one succeeds; who
/// reads the file finds it whole, where the file system has hard links. Blocks
/// on the disk.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`] when something is there already; and when
/// the disk refuses.
pub fn create(path: &Path, contents: &[u8]) -> io::Result<()> {
    let temporary = beside(path, "tmp");
    write_new(&temporary, contents)?;
    let linked = fs::hard_link(&temporary, path);
    let _ = fs::remove_file(&temporary);
    match linked {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(error),
        // Some file systems have no links.
        Err(_) => write_new(path, contents)?,
        Ok(()) => {}
    }
    sync_directory(path);
    Ok(())
}

/// Writes a file that was not there before, or none.
fn write_new(path: &Path, contents: &[u8]) -> io::Result<()> {
    let mut file = create_private(path)?;
    let written = file.write_all(contents).and_then(|()| file.sync_all());
    if written.is_err() {
        let _ = fs::remove_file(path);
    }
    written
}

/// `path` with a suffix that no other writer uses.
fn beside(path: &Path, what: &str) -> PathBuf {
    let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{what}-{}-{serial}", std::process::id()));
    PathBuf::from(name)
}

fn create_private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    options.open(path)
}

/// Makes the rename itself durable where the system allows that; the file is
/// complete either way.
fn sync_directory(path: &Path) {
    #[cfg(unix)]
    if let Some(directory) = path.parent() {
        let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
        if let Ok(directory) = File::open(directory) {
            let _ = directory.sync_all();
        }
    }
    #[cfg(not(unix))]
    let _ = path;
}

#[cfg(test)]
pub(crate) mod test_directory {
    use super::*;

    /// A fresh directory that goes away with the value.
    pub(crate) struct TestDirectory(pub(crate) PathBuf);

    impl TestDirectory {
        pub(crate) fn new(name: &str) -> Self {
            let path = beside(&std::env::temp_dir().join("jsp-crypto"), name);
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for TestDirectory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}
