//! The store of servers met before: trust on first use.
//!
//! A text file with one line for each host:
//!
//! ```text
//! host fingerprint version post-quantum
//! chat.example.org:4433 jsp1... 4a535001 pq
//! ```
//!
//! `version` (hexadecimal) and `pq` or `-` are the server's [`Floor`]. Empty
//! lines and lines that start with `#` are comments. Lines that cannot be read
//! are reported with their number and kept as they are.
//!
//! Every change locks a file beside the store, reads the store afresh, and
//! replaces it whole, so that several programs may share it.

use crate::atomic_file;
use crate::identity::{Fingerprint, Floor};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// The longest store read, in bytes: room for some hundred thousand hosts.
const MAX_FILE_LEN: u64 = 16 << 20;
/// The longest host name in the store: 253 bytes of name, colon and port.
const MAX_HOST_LEN: usize = 259;

/// What the store knows of a host that shows a fingerprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookup {
    /// The host was never met.
    Unknown,
    /// It is the identity met before.
    Match(Floor),
    /// It is another identity: the server was set up anew, or somebody is in
    /// between. Tell the user, loudly, and do not go on by yourself.
    Changed {
        /// The identity remembered.
        old: Fingerprint,
        /// The identity shown now.
        new: Fingerprint,
    },
}

/// A line that is no entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineProblem {
    /// The line's number, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub why: &'static str,
}

/// Why the store was not read or changed.
#[derive(Debug)]
pub enum KnownHostsError {
    /// The file system refused.
    Io(PathBuf, io::Error),
    /// The host's name is empty, too long, or has spaces or control characters.
    Host,
    /// The host is known under another identity; only [`KnownHosts::replace`] changes it.
    Changed {
        /// The identity remembered.
        old: Fingerprint,
    },
    /// The host is not in the store.
    Unknown,
}

impl fmt::Display for KnownHostsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Host => f.write_str("a host name must be 1 to 259 visible ASCII characters"),
            Self::Changed { old } => {
                write!(f, "this host was {old} before; replace it only if you know why it changed")
            }
            Self::Unknown => f.write_str("this host is not in the store"),
        }
    }
}

impl std::error::Error for KnownHostsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(_, error) => Some(error),
            _ => None,
        }
    }
}

/// A line of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Line {
    Entry(Entry),
    /// A comment, or something that cannot be read, kept as it is.
    Other(Vec<u8>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    host: String,
    fingerprint: Fingerprint,
    floor: Floor,
}

/// The store, as last read.
#[derive(Debug)]
pub struct KnownHosts {
    path: PathBuf,
    lines: Vec<Line>,
    problems: Vec<LineProblem>,
}

impl KnownHosts {
    /// Reads the store; a missing file is an empty store. Blocks on the disk.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, KnownHostsError> {
        let mut store = Self { path: path.into(), lines: Vec::new(), problems: Vec::new() };
        store.reload()?;
        Ok(store)
    }

    /// Reads the store again. Blocks on the disk.
    pub fn reload(&mut self) -> Result<(), KnownHostsError> {
        let bytes =
            read_file(&self.path).map_err(|error| KnownHostsError::Io(self.path.clone(), error))?;
        (self.lines, self.problems) = parse(&bytes);
        Ok(())
    }

    /// Lines that could not be read. Show them: a host on such a line is
    /// unknown to the store.
    pub fn problems(&self) -> &[LineProblem] {
        &self.problems
    }

    /// What the store knows of `host`, which now shows `shown`.
    pub fn lookup(&self, host: &str, shown: &Fingerprint) -> Lookup {
        match self.find(host) {
            None => Lookup::Unknown,
            Some(entry) if entry.fingerprint == *shown => Lookup::Match(entry.floor),
            Some(entry) => Lookup::Changed { old: entry.fingerprint, new: *shown },
        }
    }

    /// The identity and floor remembered for `host`.
    pub fn get(&self, host: &str) -> Option<(Fingerprint, Floor)> {
        self.find(host).map(|entry| (entry.fingerprint, entry.floor))
    }

    /// Every host with its identity and floor, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Fingerprint, Floor)> {
        self.lines.iter().filter_map(|line| match line {
            Line::Entry(entry) => Some((entry.host.as_str(), entry.fingerprint, entry.floor)),
            Line::Other(_) => None,
        })
    }

    /// Remembers a host met for the first time, or raises the floor of one
    /// known under the same identity. Blocks on the disk.
    pub fn remember(
        &mut self,
        host: &str,
        fingerprint: Fingerprint,
        floor: Floor,
    ) -> Result<(), KnownHostsError> {
        let host = normal_host(host)?;
        self.change(|lines| match find_mut(lines, &host) {
            // spec: HS-59
            Some(entry) if entry.fingerprint != fingerprint => {
                Err(KnownHostsError::Changed { old: entry.fingerprint })
            }
            Some(entry) => {
                entry.floor = entry.floor.raised(floor);
                Ok(())
            }
            None => {
                lines.push(Line::Entry(Entry { host: host.clone(), fingerprint, floor }));
                Ok(())
            }
        })
    }

    /// Puts another identity in the place of the known one, because the user
    /// says so. The floor begins anew. Blocks on the disk.
    pub fn replace(
        &mut self,
        host: &str,
        fingerprint: Fingerprint,
        floor: Floor,
    ) -> Result<(), KnownHostsError> {
        let host = normal_host(host)?;
        self.change(|lines| {
            let entry = find_mut(lines, &host).ok_or(KnownHostsError::Unknown)?;
            (entry.fingerprint, entry.floor) = (fingerprint, floor);
            Ok(())
        })
    }

    /// Forgets a host. Blocks on the disk.
    pub fn forget(&mut self, host: &str) -> Result<(), KnownHostsError> {
        let host = normal_host(host)?;
        self.change(|lines| {
            let before = lines.len();
            lines.retain(|line| !matches!(line, Line::Entry(entry) if entry.host == host));
            if lines.len() == before { Err(KnownHostsError::Unknown) } else { Ok(()) }
        })
    }

    fn find(&self, host: &str) -> Option<&Entry> {
        let host = normal_host(host).ok()?;
        self.lines.iter().find_map(|line| match line {
            Line::Entry(entry) if entry.host == host => Some(entry),
            _ => None,
        })
    }

    /// Locks, reads afresh, changes, and replaces the file.
    fn change(
        &mut self,
        edit: impl FnOnce(&mut Vec<Line>) -> Result<(), KnownHostsError>,
    ) -> Result<(), KnownHostsError> {
        let io = |path: &Path, error| KnownHostsError::Io(path.to_owned(), error);
        // Held until the end of the function.
        let _lock = lock(&self.path).map_err(|error| io(&self.path, error))?;
        self.reload()?;
        let mut lines = self.lines.clone();
        edit(&mut lines)?;
        if lines != self.lines {
            atomic_file::replace(&self.path, &write(&lines))
                .map_err(|error| io(&self.path, error))?;
            self.lines = lines;
        }
        Ok(())
    }
}

fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    let read = file.take(MAX_FILE_LEN.saturating_add(1)).read_to_end(&mut bytes)?;
    if u64::try_from(read).unwrap_or(u64::MAX) > MAX_FILE_LEN {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            "the store of known hosts is larger than 16 MiB",
        ));
    }
    Ok(bytes)
}

/// An exclusive lock, released when the file is dropped.
fn lock(path: &Path) -> io::Result<File> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(name)?;
    file.lock()?;
    Ok(file)
}

fn find_mut<'l>(lines: &'l mut [Line], host: &str) -> Option<&'l mut Entry> {
    lines.iter_mut().find_map(|line| match line {
        Line::Entry(entry) if entry.host == host => Some(entry),
        _ => None,
    })
}

/// Lower case; refuses what would break the line form.
fn normal_host(host: &str) -> Result<String, KnownHostsError> {
    let visible = host.bytes().all(|byte| byte.is_ascii_graphic());
    if host.is_empty() || host.len() > MAX_HOST_LEN || !visible || host.starts_with('#') {
        return Err(KnownHostsError::Host);
    }
    Ok(host.to_ascii_lowercase())
}

fn parse(bytes: &[u8]) -> (Vec<Line>, Vec<LineProblem>) {
    let mut lines = Vec::new();
    let mut problems = Vec::new();
    let mut hosts = std::collections::HashSet::new();
    if bytes.is_empty() {
        return (lines, problems);
    }
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    for (number, raw) in (1..).zip(bytes.split(|byte| *byte == b'\n')) {
        let parsed = parse_line(raw).and_then(|entry| match entry {
            Some(entry) if !hosts.insert(entry.host.clone()) => {
                Err("the host has an entry further up, which counts")
            }
            entry => Ok(entry),
        });
        lines.push(match parsed {
            Ok(Some(entry)) => Line::Entry(entry),
            Ok(None) => Line::Other(raw.to_vec()),
            Err(why) => {
                problems.push(LineProblem { line: number, why });
                Line::Other(raw.to_vec())
            }
        });
    }
    (lines, problems)
}

/// `None` for comments and empty lines.
fn parse_line(raw: &[u8]) -> Result<Option<Entry>, &'static str> {
    let text = std::str::from_utf8(raw).map_err(|_| "the line is not text")?.trim();
    if text.is_empty() || text.starts_with('#') {
        return Ok(None);
    }
    let mut fields = text.split_ascii_whitespace();
    let mut field = || fields.next().ok_or("the line has too few fields");
    let host = normal_host(field()?).map_err(|_| "the host name is malformed")?;
    let fingerprint = field()?.parse().map_err(|_| "the fingerprint is malformed")?;
    let version = u32::from_str_radix(field()?, 16).map_err(|_| "the version is malformed")?;
    let post_quantum = match field()? {
        "pq" => true,
        "-" => false,
        _ => return Err("the last field is neither pq nor -"),
    };
    if fields.next().is_some() {
        return Err("the line has too many fields");
    }
    Ok(Some(Entry { host, fingerprint, floor: Floor { version, post_quantum } }))
}

fn write(lines: &[Line]) -> Vec<u8> {
    let mut out = Vec::new();
    for line in lines {
        match line {
            Line::Entry(Entry { host, fingerprint, floor }) => {
                let pq = if floor.post_quantum { "pq" } else { "-" };
                let text = format!("{host} {fingerprint} {:08x} {pq}", floor.version);
                out.extend_from_slice(text.as_bytes());
            }
            Line::Other(raw) => out.extend_from_slice(raw),
        }
        out.push(b'\n');
    }
    out
}

/// For the fuzzer: what a store holds, how many of its lines are bad, and what would be written.
#[cfg(feature = "fuzzing")]
pub(crate) fn parse_and_write(bytes: &[u8]) -> (Vec<(String, Fingerprint)>, usize, Vec<u8>) {
    let (lines, problems) = parse(bytes);
    let entries = lines.iter().filter_map(|line| match line {
        Line::Entry(entry) => Some((entry.host.clone(), entry.fingerprint)),
        Line::Other(_) => None,
    });
    (entries.collect(), problems.len(), write(&lines))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::atomic_file::test_directory::TestDirectory;

    const FLOOR: Floor = Floor { version: 0x4a53_5001, post_quantum: true };

    fn print(byte: u8) -> Fingerprint {
        Fingerprint::from_bytes([byte; 32])
    }

    #[test]
    fn what_the_file_system_said_is_the_source() {
        use std::error::Error as _;
        let error = KnownHostsError::Io(PathBuf::from("hosts"), io::Error::other("full"));
        assert_eq!(error.source().unwrap().to_string(), "full");
        assert!(KnownHostsError::Host.source().is_none());
    }

    // spec-test: HS-59
    #[test]
    fn first_use_match_and_change() {
        let directory = TestDirectory::new("hosts");
        let path = directory.0.join("known_hosts");
        let mut store = KnownHosts::open(&path).unwrap();
        assert_eq!(store.lookup("Host:1", &print(1)), Lookup::Unknown);
        store.remember("Host:1", print(1), Floor::default()).unwrap();
        assert_eq!(store.lookup("hOST:1", &print(1)), Lookup::Match(Floor::default()));
        let changed = Lookup::Changed { old: print(1), new: print(2) };
        assert_eq!(store.lookup("host:1", &print(2)), changed);
        // Others have their own.
        assert_eq!(store.lookup("other:1", &print(1)), Lookup::Unknown);
        store.remember("other:1", print(3), FLOOR).unwrap();
        assert_eq!(store.lookup("other:1", &print(3)), Lookup::Match(FLOOR));
        let refused = store.remember("host:1", print(2), FLOOR);
        assert!(matches!(refused, Err(KnownHostsError::Changed { old }) if old == print(1)));

        store.remember("host:1", print(1), FLOOR).unwrap();
        store.remember("host:1", print(1), Floor::default()).unwrap();
        let read = KnownHosts::open(&path).unwrap();
        assert_eq!(read.get("host:1"), Some((print(1), FLOOR)), "a floor only goes up");

        store.replace("host:1", print(2), Floor::default()).unwrap();
        assert_eq!(store.lookup("host:1", &print(2)), Lookup::Match(Floor::default()));
        store.forget("host:1").unwrap();
        assert!(matches!(store.forget("host:1"), Err(KnownHostsError::Unknown)));
        let left = KnownHosts::open(&path).unwrap();
        assert_eq!((left.iter().count(), left.get("other:1")), (1, Some((print(3), FLOOR))));
    }

    #[test]
    fn a_store_that_is_not_there_is_empty_and_one_that_cannot_be_read_is_not() {
        let directory = TestDirectory::new("unreadable");
        let path = directory.0.join("known_hosts");
        assert!(read_file(&path).unwrap().is_empty());
        std::fs::write(&path, b"").unwrap();
        assert!(read_file(&path.join("beneath a file")).is_err());
    }

    #[test]
    fn damaged_lines_are_reported_and_kept() {
        let directory = TestDirectory::new("damaged");
        let path = directory.0.join("known_hosts");
        let good = format!("a {} 4a535001 pq", print(1));
        let again = format!("A {} 4a535001 -", print(2));
        let long = format!("b {} 1 pq more", print(1));
        let mut bytes = format!("# mine\n\n{good}\nnonsense\n{again}\n{long}\n").into_bytes();
        bytes.extend_from_slice(b"\xff\xfe\n c jsp1aaaa 1 pq");
        std::fs::write(&path, &bytes).unwrap();
        let mut store = KnownHosts::open(&path).unwrap();
        let at: Vec<usize> = store.problems().iter().map(|problem| problem.line).collect();
        assert_eq!(at, [4, 5, 6, 7, 8]);
        assert_eq!(store.get("a"), Some((print(1), FLOOR)));
        store.remember("new", print(3), FLOOR).unwrap();
        let after = std::fs::read(&path).unwrap();
        let mut expected = bytes;
        expected.extend_from_slice(format!("\nnew {} 4a535001 pq\n", print(3)).as_bytes());
        assert_eq!(after, expected);
    }

    #[test]
    fn names_that_would_break_the_file_are_refused() {
        let directory = TestDirectory::new("names");
        let mut store = KnownHosts::open(directory.0.join("known_hosts")).unwrap();
        for name in ["", "a b", "a\nb", "#a", "a\tb", "é", &"a".repeat(260)] {
            let refused = store.remember(name, print(1), FLOOR);
            assert!(matches!(refused, Err(KnownHostsError::Host)), "{name:?}");
            assert_eq!(store.lookup(name, &print(1)), Lookup::Unknown);
        }
        let longest = "a".repeat(259);
        store.remember(&longest, print(1), FLOOR).unwrap();
        assert_eq!(store.lookup(&longest, &print(1)), Lookup::Match(FLOOR));
    }

    #[test]
    fn several_writers_lose_nothing() {
        let directory = TestDirectory::new("writers");
        let path = directory.0.join("known_hosts");
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let path = path.clone();
                std::thread::spawn(move || {
                    let mut store = KnownHosts::open(path).unwrap();
                    for host in 0..5 {
                        store.remember(&format!("{writer}-{host}"), print(1), FLOOR).unwrap();
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.join().unwrap();
        }
        assert_eq!(KnownHosts::open(path).unwrap().iter().count(), 20);
    }

    #[test]
    fn a_store_has_16_mib_at_most() {
        assert_eq!(MAX_FILE_LEN, 16_777_216);
        let folder = TestDirectory::new("large");
        let path = folder.0.join("known_hosts");
        for (len, fits) in [(MAX_FILE_LEN, true), (MAX_FILE_LEN + 1, false)] {
            File::create(&path).unwrap().set_len(len).unwrap();
            assert_eq!(read_file(&path).is_ok(), fits, "{len}");
        }
        assert!(read_file(&folder.0.join("missing")).unwrap().is_empty());
    }
}
