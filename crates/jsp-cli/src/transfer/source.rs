//! The reading side of a transfer: one thread walks, reads and hashes.

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Read as _, Seek as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;

use super::path::SafePath;
use super::record::{
    DATA_MAX, FileHead, FolderHead, From, HASH_LEN, Have, Offer, kind, put_control, put_record,
};
use super::resume::{Namer, Settled};
use crate::exit::Failure;

/// Bytes gathered before they go to the transport.
const CHUNK_LEN: usize = 128 << 10;
/// Items sent but not yet confirmed; more wait.
const UNCONFIRMED_MAX: usize = 8192;
/// How often a wait looks whether the connection is still there.
const PAUSE: Duration = Duration::from_millis(100);

/// A file or folder named on the command line, and the name that it travels under.
#[derive(Clone, Debug)]
struct Root {
    local: PathBuf,
    name: SafePath,
}

/// What is to be sent.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    roots: Vec<Root>,
    offer: Offer,
    namer: Option<Namer>,
    /// What needs no second sending.
    pub(crate) settled: Settled,
}

impl Plan {
    /// Looks at what the user named: counts files and bytes, reads none. Blocks on the disk.
    pub(crate) fn survey(paths: &[PathBuf]) -> Result<Self, Failure> {
        let mut roots = Vec::new();
        let mut offer = Offer { files: 0, bytes: 0 };
        for local in paths {
            let name = name_of(local)?;
            if roots.iter().any(|root: &Root| root.name == name) {
                let name = name.as_str();
                return Err(Failure::usage(format!(
                    "two of the files are called {name}; send them one after the other"
                )));
            }
            count(local, &mut offer);
            roots.push(Root { local: local.clone(), name });
        }
        Ok(Self { roots, offer, namer: None, settled: Settled::default() })
    }

    /// Names the files, so that a transfer that breaks off can go on.
    pub(crate) fn named(self, namer: Namer) -> Self {
        Self { namer: Some(namer), ..self }
    }

    /// Bytes that the survey has seen.
    pub(crate) fn bytes(&self) -> u64 {
        self.offer.bytes
    }
}

/// The last part of the path; of `.` and `..` that of the folder they mean.
fn name_of(local: &Path) -> Result<SafePath, Failure> {
    let unusable = |why: &dyn std::fmt::Display| {
        Failure::file(format!("{} cannot be sent: {why}", local.display()))
    };
    let name = match local.file_name() {
        Some(name) => PathBuf::from(name),
        None => {
            let full = fs::canonicalize(local).map_err(|error| unusable(&error))?;
            full.file_name()
                .map(PathBuf::from)
                .ok_or_else(|| unusable(&"it has no name; name the folders in it"))?
        }
    };
    SafePath::from_local(&name).map_err(|error| unusable(&error))
}

fn count(path: &Path, offer: &mut Offer) {
    let Ok(metadata) = fs::metadata(path) else { return };
    let mut folders = Vec::new();
    if metadata.is_dir() {
        folders.push(path.to_owned());
    } else {
        offer.files += 1;
        offer.bytes += metadata.len();
    }
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(folder) else { continue };
        for entry in entries.flatten() {
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => folders.push(entry.path()),
                Ok(metadata) if metadata.is_file() => {
                    offer.files += 1;
                    offer.bytes += metadata.len();
                }
                _ => {}
            }
        }
    }
}

/// An item that the receiver has not answered yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unconfirmed {
    pub(crate) name: String,
    /// Known once all of the file has been read.
    pub(crate) hash: Option<[u8; HASH_LEN]>,
    pub(crate) is_folder: bool,
    pub(crate) bytes: u64,
    /// What the receiver has said it has.
    have: Option<Have>,
}

/// What was sent and not yet answered: shared by the reading thread and the one that hears answers.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    items: Mutex<HashMap<u64, Unconfirmed>>,
    answered: Condvar,
}

impl Ledger {
    /// Notes an item; waits while too many are unanswered and `alive` says that answers may come.
    fn insert(&self, item: u64, unconfirmed: Unconfirmed, alive: impl Fn() -> bool) {
        let mut items = self.items.lock().unwrap_or_else(PoisonError::into_inner);
        while items.len() >= UNCONFIRMED_MAX && alive() {
            let waited = self.answered.wait_timeout(items, PAUSE);
            items = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        items.insert(item, unconfirmed);
    }

    /// Waits for what the receiver has of an item; `None` when it does not want the item, or is gone.
    fn wait_for_have(&self, item: u64, alive: impl Fn() -> bool) -> Option<Have> {
        let mut items = self.items.lock().unwrap_or_else(PoisonError::into_inner);
        while alive() {
            let unconfirmed = items.get(&item)?;
            if unconfirmed.have.is_some() {
                return unconfirmed.have;
            }
            let waited = self.answered.wait_timeout(items, PAUSE);
            items = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        None
    }

    /// The receiver has said what it has. Answers the item's name, if it is under way.
    pub(crate) fn have(&self, have: Have) -> Option<String> {
        let mut items = self.items.lock().unwrap_or_else(PoisonError::into_inner);
        let unconfirmed = items.get_mut(&have.item)?;
        unconfirmed.have = Some(have);
        self.answered.notify_one();
        Some(unconfirmed.name.clone())
    }

    fn set_hash(&self, item: u64, hash: [u8; HASH_LEN], bytes: u64) {
        let mut items = self.items.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(unconfirmed) = items.get_mut(&item) {
            (unconfirmed.hash, unconfirmed.bytes) = (Some(hash), bytes);
        }
    }

    /// True while the receiver has not refused the item.
    fn is_wanted(&self, item: u64) -> bool {
        self.items.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&item)
    }

    /// The receiver has answered.
    pub(crate) fn answer(&self, item: u64) -> Option<Unconfirmed> {
        let answered = self.items.lock().unwrap_or_else(PoisonError::into_inner).remove(&item);
        self.answered.notify_one();
        answered
    }

    /// Items that were never answered.
    pub(crate) fn unanswered(&self) -> usize {
        self.items.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

/// A file or folder that could not be read: its name and a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unreadable {
    pub(crate) name: String,
    pub(crate) why: String,
}

/// A file that was read to its end.
#[derive(Debug, PartialEq, Eq)]
struct Read {
    hash: [u8; HASH_LEN],
    bytes: u64,
}

/// The connection is gone: nobody takes chunks any more.
struct Gone;

/// Walks the plan and sends records until all is sent or nobody takes them. Blocks: run it in a
/// thread of its own.
pub(crate) fn run(
    plan: &Plan,
    ledger: Arc<Ledger>,
    chunks: mpsc::Sender<Bytes>,
    problems: mpsc::UnboundedSender<Unreadable>,
) {
    let out = BytesMut::with_capacity(CHUNK_LEN + DATA_MAX);
    let scratch = vec![0; DATA_MAX].into_boxed_slice();
    let mut source = Source { plan, ledger, chunks, problems, out, scratch, item: 0 };
    // When the connection is gone, the other tasks know why.
    let _ = source.send_all();
}

struct Source<'p> {
    plan: &'p Plan,
    ledger: Arc<Ledger>,
    chunks: mpsc::Sender<Bytes>,
    problems: mpsc::UnboundedSender<Unreadable>,
    out: BytesMut,
    scratch: Box<[u8]>,
    /// Number of the next item.
    item: u64,
}

impl Source<'_> {
    fn send_all(&mut self) -> Result<(), Gone> {
        put_control(&mut self.out, kind::OFFER, &self.plan.offer);
        for root in &self.plan.roots {
            // What the user names may be a link; inside folders links are not followed.
            match fs::metadata(&root.local) {
                Ok(metadata) => self.tree(root, &metadata)?,
                Err(error) => self.problem(&root.local, &error),
            }
        }
        put_record(&mut self.out, kind::FINISH, &[]);
        self.flush()
    }

    /// Sends a root and, depth first, everything below it.
    fn tree(&mut self, root: &Root, metadata: &Metadata) -> Result<(), Gone> {
        if !metadata.is_dir() {
            return self.file(&root.local, &root.name, metadata);
        }
        self.folder(&root.name)?;
        let mut waiting = Vec::new();
        self.list(&root.local, &root.name, &mut waiting);
        while let Some((local, name)) = waiting.pop() {
            let metadata = match fs::symlink_metadata(&local) {
                Ok(metadata) => metadata,
                Err(error) => {
                    self.problem(&local, &error);
                    continue;
                }
            };
            if metadata.is_dir() {
                self.folder(&name)?;
                self.list(&local, &name, &mut waiting);
            } else {
                self.file(&local, &name, &metadata)?;
            }
        }
        Ok(())
    }

    /// Adds what is in a folder, in reverse order of the names, to what waits.
    fn list(&mut self, local: &Path, name: &SafePath, waiting: &mut Vec<(PathBuf, SafePath)>) {
        let entries = match fs::read_dir(local).and_then(Iterator::collect::<io::Result<Vec<_>>>) {
            Ok(entries) => entries,
            Err(error) => return self.problem(local, &error),
        };
        let first = waiting.len();
        for entry in entries {
            let inner = entry.file_name();
            let named = inner
                .to_str()
                .ok_or(super::path::NameError::NotUnicode)
                .and_then(|inner| SafePath::parse(&format!("{}/{inner}", name.as_str())));
            match named {
                Ok(named) => waiting.push((entry.path(), named)),
                Err(error) => self.problem(&entry.path(), &error),
            }
        }
        if let Some(added) = waiting.get_mut(first..) {
            added.sort_by(|a, b| b.1.as_str().cmp(a.1.as_str()));
        }
    }

    fn problem(&self, path: &Path, why: &dyn std::fmt::Display) {
        let name = path.display().to_string();
        if !self.plan.settled.unreadable.contains(&name) {
            let _ = self.problems.send(Unreadable { name, why: why.to_string() });
        }
    }

    /// Numbers an item. What is gathered goes out before a pause, or its answers would never come.
    fn note(&mut self, name: &SafePath, is_folder: bool) -> Result<u64, Gone> {
        if self.ledger.unanswered() >= UNCONFIRMED_MAX {
            self.flush()?;
        }
        let item = self.item;
        self.item += 1;
        let name = name.as_str().to_owned();
        let chunks = &self.chunks;
        let unconfirmed = Unconfirmed { name, hash: None, is_folder, bytes: 0, have: None };
        self.ledger.insert(item, unconfirmed, || !chunks.is_closed());
        Ok(item)
    }

    fn is_settled(&self, name: &SafePath) -> bool {
        self.plan.settled.answered.contains(name.as_str())
    }

    fn folder(&mut self, name: &SafePath) -> Result<(), Gone> {
        if self.is_settled(name) {
            return Ok(());
        }
        self.note(name, true)?;
        put_control(&mut self.out, kind::FOLDER, &FolderHead { path: name.as_str().to_owned() });
        self.flush_full()
    }

    fn file(&mut self, local: &Path, name: &SafePath, metadata: &Metadata) -> Result<(), Gone> {
        if self.is_settled(name) {
            return Ok(());
        }
        if metadata.is_symlink() {
            self.problem(
                local,
                &"a symbolic link inside a folder is not followed; send its target",
            );
            return Ok(());
        }
        if !metadata.is_file() {
            self.problem(local, &"it is neither a file nor a folder");
            return Ok(());
        }
        let mut file = match File::open(local) {
            Ok(file) => file,
            Err(error) => {
                self.problem(local, &error);
                return Ok(());
            }
        };
        let item = self.note(name, false)?;
        let token =
            self.plan.namer.as_ref().map(|namer| namer.name(name.as_str(), local, metadata));
        let head = FileHead { token, ..head_of(name, metadata) };
        put_control(&mut self.out, kind::FILE, &head);
        let content = match head.resumable() {
            Some(_) => self.resumed(item, &mut file)?,
            None => self.content(item, &mut file, blake3::Hasher::new(), 0)?,
        };
        match content {
            Ok(Some(Read { hash, bytes })) => {
                self.ledger.set_hash(item, hash, bytes);
                put_record(&mut self.out, kind::END, &hash);
            }
            Ok(None) => put_record(&mut self.out, kind::SKIP, &[]),
            Err(error) => {
                self.problem(local, &error);
                self.ledger.answer(item);
                put_record(&mut self.out, kind::SKIP, &[]);
            }
        }
        self.flush_full()
    }

    /// Asks what the receiver has of a file and sends what is missing.
    fn resumed(&mut self, item: u64, file: &mut File) -> Result<io::Result<Option<Read>>, Gone> {
        self.flush()?;
        let Some(have) = self.ledger.wait_for_have(item, || !self.chunks.is_closed()) else {
            return if self.chunks.is_closed() { Err(Gone) } else { Ok(Ok(None)) };
        };
        let (hasher, offset) = match agreed(file, have, &mut self.scratch) {
            Ok(agreed) => agreed,
            Err(error) => return Ok(Err(error)),
        };
        put_control(&mut self.out, kind::FROM, &From { offset });
        self.content(item, file, hasher, offset)
    }

    /// Sends a file's content from `bytes` on, before which `hasher` has taken it; `None` when the
    /// receiver does not want it.
    fn content(
        &mut self,
        item: u64,
        file: &mut File,
        mut hasher: blake3::Hasher,
        mut bytes: u64,
    ) -> Result<io::Result<Option<Read>>, Gone> {
        loop {
            let len = match file.read(&mut self.scratch) {
                Ok(0) => {
                    let hash = *hasher.finalize().as_bytes();
                    return Ok(Ok(Some(Read { hash, bytes })));
                }
                Ok(len) => len,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Ok(Err(error)),
            };
            if !self.ledger.is_wanted(item) {
                return Ok(Ok(None));
            }
            let piece = self.scratch.get(..len).unwrap_or_default();
            hasher.update(piece);
            bytes += piece.len() as u64;
            put_record(&mut self.out, kind::DATA, piece);
            self.flush_full()?;
        }
    }

    fn flush_full(&mut self) -> Result<(), Gone> {
        if self.out.len() >= CHUNK_LEN { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), Gone> {
        let chunk = self.out.split().freeze();
        if chunk.is_empty() {
            return Ok(());
        }
        self.chunks.blocking_send(chunk).map_err(|_| Gone)
    }
}

/// Whether the file begins with what the receiver has. Answers where to go on, with `file` standing
/// there and the hash of what is before: at the start, if it does not.
fn agreed(file: &mut File, have: Have, scratch: &mut [u8]) -> io::Result<(blake3::Hasher, u64)> {
    let mut hasher = blake3::Hasher::new();
    let mut left = have.bytes;
    while left > 0 {
        let len = usize::try_from(left).unwrap_or(usize::MAX).min(scratch.len());
        let piece = scratch.get_mut(..len).unwrap_or_default();
        match file.read(piece) {
            Ok(0) => break,
            Ok(len) => {
                hasher.update(piece.get(..len).unwrap_or_default());
                left = left.saturating_sub(len as u64);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    if left == 0 && *hasher.finalize().as_bytes() == have.hash {
        return Ok((hasher, have.bytes));
    }
    file.rewind()?;
    Ok((blake3::Hasher::new(), 0))
}

fn head_of(name: &SafePath, metadata: &Metadata) -> FileHead {
    let modified = metadata
        .modified()
        .ok()
        .and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok())
        .map(|since| since.as_secs());
    let path = name.as_str().to_owned();
    let executable = is_executable(metadata);
    FileHead { path, size: metadata.len(), executable, modified, token: None }
}

#[cfg(unix)]
fn is_executable(metadata: &Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt;
    metadata.permissions().mode() & 0o100 != 0
}

#[cfg(not(unix))]
fn is_executable(_: &Metadata) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transfer::record::{Parser, Record};
    use crate::transfer::test_folder::TestFolder;

    /// Everything that the source sends for these paths, and its problems.
    fn send(paths: &[PathBuf]) -> (Vec<Record>, Vec<Unreadable>, Arc<Ledger>) {
        send_plan(&Plan::survey(paths).unwrap())
    }

    fn send_plan(plan: &Plan) -> (Vec<Record>, Vec<Unreadable>, Arc<Ledger>) {
        let ledger = Arc::new(Ledger::default());
        let (chunks, mut sent) = mpsc::channel(1 << 12);
        let (problems, mut unreadable) = mpsc::unbounded_channel();
        run(plan, Arc::clone(&ledger), chunks, problems);
        let mut parser = Parser::default();
        while let Ok(chunk) = sent.try_recv() {
            parser.push(chunk);
        }
        let records = std::iter::from_fn(|| parser.next().unwrap()).collect();
        let problems = std::iter::from_fn(|| unreadable.try_recv().ok()).collect();
        (records, problems, ledger)
    }

    #[test]
    fn a_tree_is_sent_in_order_with_hashes() {
        let place = TestFolder::new("source");
        let root = place.0.join("tree");
        fs::create_dir_all(root.join("b/empty")).unwrap();
        fs::write(root.join("a"), b"first").unwrap();
        fs::write(root.join("b/c"), b"").unwrap();
        let (records, problems, ledger) = send(&[root]);
        assert!(problems.is_empty());
        assert_eq!(ledger.unanswered(), 5);
        assert_eq!(ledger.answer(1).unwrap().hash, Some(*blake3::hash(b"first").as_bytes()));
        let offer = records[0].expect::<Offer>(kind::OFFER).unwrap();
        assert_eq!(offer, Offer { files: 2, bytes: 5 });
        let names: Vec<String> = records
            .iter()
            .filter_map(|record| {
                let folder = record.expect::<FolderHead>(kind::FOLDER).map(|f| f.path);
                folder.or_else(|_| record.expect::<FileHead>(kind::FILE).map(|f| f.path)).ok()
            })
            .collect();
        assert_eq!(names, ["tree", "tree/a", "tree/b", "tree/b/c", "tree/b/empty"]);
        assert_eq!(records.last(), Some(&Record::Control(kind::FINISH, Vec::new())));
    }

    #[test]
    fn what_cannot_be_read_is_named_and_the_rest_is_sent() {
        let place = TestFolder::new("source-bad");
        fs::write(place.0.join("good"), b"x").unwrap();
        let (records, problems, ledger) = send(&[place.0.join("missing"), place.0.join("good")]);
        assert_eq!(problems.len(), 1);
        assert!(problems[0].name.ends_with("missing"));
        assert_eq!(ledger.unanswered(), 1);
        assert!(
            records.contains(&Record::Control(kind::END, blake3::hash(b"x").as_bytes().into()))
        );
    }

    #[cfg(unix)]
    #[test]
    fn links_inside_folders_are_told_not_followed() {
        let place = TestFolder::new("source-links");
        let root = place.0.join("tree");
        fs::create_dir(&root).unwrap();
        std::os::unix::fs::symlink("/", root.join("everything")).unwrap();
        let (_, problems, ledger) = send(&[root]);
        assert_eq!(problems.len(), 1);
        assert!(problems[0].why.contains("symbolic link"));
        assert_eq!(ledger.unanswered(), 1);
    }

    #[test]
    fn a_refused_file_is_broken_off() {
        let place = TestFolder::new("source-refused");
        let path = place.0.join("big");
        fs::write(&path, vec![1; 4 * DATA_MAX]).unwrap();
        let ledger = Arc::new(Ledger::default());
        let (chunks, mut sent) = mpsc::channel(1 << 12);
        let (problems, _unreadable) = mpsc::unbounded_channel();
        let out = BytesMut::new();
        let scratch = vec![0; DATA_MAX].into_boxed_slice();
        let plan = Plan::survey(std::slice::from_ref(&path)).unwrap();
        let mut source = Source { plan: &plan, ledger, chunks, problems, out, scratch, item: 7 };
        // Item 7 is in no ledger: as after a refusal.
        let mut file = File::open(&path).unwrap();
        let content = source.content(7, &mut file, blake3::Hasher::new(), 0).ok().unwrap().unwrap();
        assert_eq!(content, None);
        assert!(sent.try_recv().is_err());
    }

    #[test]
    fn only_what_the_receiver_truly_has_is_left_out() {
        let place = TestFolder::new("source-agreed");
        let path = place.0.join("file");
        let content: Vec<u8> = (0..100_000u32).map(|n| (n % 251) as u8).collect();
        fs::write(&path, &content).unwrap();
        let agree = |bytes: usize, hashed: &[u8]| {
            let mut file = File::open(&path).unwrap();
            let hash = *blake3::hash(hashed).as_bytes();
            let have = Have { item: 0, bytes: bytes as u64, hash };
            let (hasher, offset) = agreed(&mut file, have, &mut [0; 1000]).unwrap();
            let before = &content[..usize::try_from(offset).unwrap()];
            assert_eq!(hasher.finalize(), blake3::hash(before));
            assert_eq!(file.stream_position().unwrap(), offset);
            offset
        };
        assert_eq!(agree(12_345, &content[..12_345]), 12_345);
        assert_eq!(agree(100_000, &content), 100_000);
        assert_eq!(agree(0, b""), 0);
        assert_eq!(agree(12_345, &content[..12_344]), 0);
        // More than there is.
        assert_eq!(agree(100_001, &content), 0);
    }

    #[test]
    fn what_is_settled_is_not_sent_again() {
        let place = TestFolder::new("source-settled");
        let root = place.0.join("tree");
        fs::create_dir_all(&root).unwrap();
        fs::write(root.join("a"), b"a").unwrap();
        fs::write(root.join("b"), b"b").unwrap();
        let mut plan = Plan::survey(&[root]).unwrap();
        plan.settled.answered.extend(["tree".to_owned(), "tree/a".to_owned()]);
        let (records, problems, ledger) = send_plan(&plan);
        assert!(problems.is_empty());
        assert_eq!(ledger.unanswered(), 1);
        let heads: Vec<FileHead> =
            records.iter().filter_map(|record| record.expect(kind::FILE).ok()).collect();
        assert_eq!(heads.len(), 1);
        assert_eq!(heads[0].path, "tree/b");
    }

    #[test]
    fn two_files_of_one_name_are_an_error() {
        let paths = [PathBuf::from("a/x"), PathBuf::from("b/x")];
        assert!(Plan::survey(&paths).unwrap_err().sentence.contains("two of the files"));
    }
}
