//! The storing side of a transfer: one thread writes and hashes, a few bring files to the disk.

use std::io::Write;
use std::mem;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::folder::{Folder, Look, Partial, StoreError};
use super::path::SafePath;
use super::record::{FileHead, HASH_LEN, Refused, Stored};

/// Threads that wait for the disk to confirm small files.
const COMMITTERS: usize = 4;
/// Finished files that wait for them; each holds an open file.
const COMMITS_WAITING: usize = 64;
/// Bytes gathered before they are hashed and written: BLAKE3 is fastest on long pieces.
const BUFFER_LEN: usize = 256 << 10;

/// What the stream says, in its order.
#[derive(Debug)]
pub(crate) enum Order {
    File(FileHead),
    Folder(String),
    Data(Vec<Bytes>),
    End([u8; HASH_LEN]),
    /// The sender could not read the file to its end.
    Skip,
    /// All has been said.
    Finish,
}

/// What became of an item.
#[derive(Debug)]
pub(crate) enum Reply {
    Stored {
        stored: Stored,
        path: String,
        bytes: u64,
    },
    Refused {
        refused: Refused,
        path: String,
    },
    /// Everything is on the disk.
    Complete,
}

/// Runs until the orders end. Without [`Order::Finish`] the file under way is dropped and nothing
/// is confirmed beyond what was. Blocks: run it in a thread of its own.
pub(crate) fn run(
    folder: Arc<Folder>,
    mut orders: mpsc::Receiver<Order>,
    replies: mpsc::Sender<Reply>,
) {
    let (jobs, waiting) = sync_channel(COMMITS_WAITING);
    let waiting = Arc::new(Mutex::new(waiting));
    let committers: Vec<JoinHandle<()>> = (0..COMMITTERS)
        .map(|_| {
            let (folder, waiting, replies) = (folder.clone(), waiting.clone(), replies.clone());
            thread::spawn(move || commit_all(&folder, &waiting, &replies))
        })
        .collect();
    let buffer = Vec::with_capacity(BUFFER_LEN);
    let mut sink = Sink { folder, jobs, replies, item: 0, current: None, buffer };
    let mut finished = false;
    while let Some(order) = orders.blocking_recv() {
        if matches!(order, Order::Finish) {
            finished = true;
            break;
        }
        sink.obey(order);
    }
    let Sink { folder, jobs, replies, .. } = sink;
    drop(jobs);
    for committer in committers {
        let _ = committer.join();
    }
    if finished {
        // Names that the disk did not confirm are not confirmed to the sender: it hears nothing.
        if folder.sync().is_ok() {
            let _ = replies.blocking_send(Reply::Complete);
        }
    }
}

/// A file with all its content, to be brought to the disk and named.
struct Job {
    item: u64,
    partial: Partial,
    path: SafePath,
    look: Look,
    hash: [u8; HASH_LEN],
    bytes: u64,
}

fn commit_all(folder: &Folder, waiting: &Mutex<Receiver<Job>>, replies: &mpsc::Sender<Reply>) {
    loop {
        let job = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        let Job { item, partial, path, look, hash, bytes } = job;
        let reply = match folder.commit(partial, &path, look) {
            Ok(name) => {
                let renamed = (name != path).then(|| name.as_str().to_owned());
                let stored = Stored { item, hash: Some(hash), renamed };
                Reply::Stored { stored, path: name.as_str().to_owned(), bytes }
            }
            Err(error) => refusal(item, path.as_str().to_owned(), &error.to_string()),
        };
        // Nobody listens any more when the connection is gone; the file is stored all the same.
        let _ = replies.blocking_send(reply);
    }
}

fn refusal(item: u64, path: String, why: &str) -> Reply {
    Reply::Refused { refused: Refused { item, why: why.to_owned() }, path }
}

/// The file under way.
struct Current {
    item: u64,
    path: SafePath,
    look: Look,
    partial: Partial,
    hasher: blake3::Hasher,
    bytes: u64,
}

struct Sink {
    folder: Arc<Folder>,
    jobs: SyncSender<Job>,
    replies: mpsc::Sender<Reply>,
    /// Number of the next item.
    item: u64,
    /// `None` between files, and while the data of a refused one passes by.
    current: Option<Current>,
    buffer: Vec<u8>,
}

impl Sink {
    fn obey(&mut self, order: Order) {
        match order {
            Order::File(head) => self.begin(head),
            Order::Folder(path) => self.folder(path),
            Order::Data(pieces) => {
                for piece in pieces {
                    if self.buffer.len() + piece.len() > BUFFER_LEN {
                        self.write_buffer();
                    }
                    self.buffer.extend_from_slice(&piece);
                }
            }
            Order::End(hash) => self.end(hash),
            Order::Skip => {
                self.buffer.clear();
                if let Some(current) = self.current.take() {
                    let path = current.path.as_str().to_owned();
                    self.refuse(current.item, path, "the sender could not read it to its end");
                }
            }
            Order::Finish => {}
        }
    }

    fn next_item(&mut self) -> u64 {
        let item = self.item;
        self.item += 1;
        item
    }

    fn refuse(&self, item: u64, path: String, why: &str) {
        let _ = self.replies.blocking_send(refusal(item, path, why));
    }

    fn folder(&mut self, path: String) {
        let item = self.next_item();
        let made = SafePath::parse(&path)
            .map_err(StoreError::from)
            .and_then(|path| self.folder.make_folder(&path));
        match made {
            Ok(()) => {
                let stored = Stored { item, hash: None, renamed: None };
                let _ = self.replies.blocking_send(Reply::Stored { stored, path, bytes: 0 });
            }
            Err(error) => self.refuse(item, path, &error.to_string()),
        }
    }

    fn begin(&mut self, head: FileHead) {
        let item = self.next_item();
        self.buffer.clear();
        let begun = SafePath::parse(&head.path).map_err(StoreError::from).and_then(|path| {
            self.folder.check(&path)?;
            Ok((path, self.folder.begin()?))
        });
        match begun {
            Ok((path, partial)) => {
                let look = Look { executable: head.executable, modified: head.modified };
                let hasher = blake3::Hasher::new();
                self.current = Some(Current { item, path, look, partial, hasher, bytes: 0 });
            }
            Err(error) => self.refuse(item, head.path, &error.to_string()),
        }
    }

    /// Hashes and writes what was gathered. A file that cannot be written is given up at once, so
    /// that it takes no space.
    fn write_buffer(&mut self) {
        let mut buffer = mem::take(&mut self.buffer);
        let result = match &mut self.current {
            Some(current) => {
                current.hasher.update(&buffer);
                current.bytes += buffer.len() as u64;
                current.partial.file.write_all(&buffer)
            }
            None => Ok(()),
        };
        buffer.clear();
        self.buffer = buffer;
        if let Err(error) = result
            && let Some(current) = self.current.take()
        {
            let path = current.path.as_str().to_owned();
            self.refuse(current.item, path, &StoreError::from(error).to_string());
        }
    }

    fn end(&mut self, hash: [u8; HASH_LEN]) {
        self.write_buffer();
        let Some(current) = self.current.take() else { return };
        let Current { item, path, look, partial, hasher, bytes } = current;
        if *hasher.finalize().as_bytes() != hash {
            drop(partial);
            let why = "its hash is not what the sender has; send the file again";
            self.refuse(item, path.as_str().to_owned(), why);
            return;
        }
        // The committers live as long as this sender of jobs.
        let _ = self.jobs.send(Job { item, partial, path, look, hash, bytes });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transfer::folder::Taken;
    use crate::transfer::test_folder::TestFolder;

    fn head(path: &str) -> Order {
        let path = path.to_owned();
        Order::File(FileHead { path, size: 0, executable: false, modified: None })
    }

    fn data(content: &'static [u8]) -> Order {
        Order::Data(vec![Bytes::from_static(content)])
    }

    fn end(content: &[u8]) -> Order {
        Order::End(*blake3::hash(content).as_bytes())
    }

    /// Runs the orders; the answers as `item: text`, in the order of the items.
    fn obey(place: &TestFolder, orders: Vec<Order>) -> Vec<String> {
        let folder = Arc::new(Folder::open(&place.0, Taken::Refuse).unwrap());
        let (orders_in, orders_out) = mpsc::channel(orders.len().max(1));
        let (replies_in, mut replies_out) = mpsc::channel(1024);
        for order in orders {
            orders_in.try_send(order).unwrap();
        }
        drop(orders_in);
        run(folder, orders_out, replies_in);
        let mut answers = Vec::new();
        while let Ok(reply) = replies_out.try_recv() {
            answers.push(match reply {
                Reply::Stored { stored, path, .. } => format!("{}: {path}", stored.item),
                Reply::Refused { refused, .. } => format!("{}: {}", refused.item, refused.why),
                Reply::Complete => "complete".to_owned(),
            });
        }
        answers.sort();
        answers
    }

    #[test]
    fn files_are_checked_stored_and_confirmed() {
        let place = TestFolder::new("sink");
        let orders = vec![
            Order::Folder("d".into()),
            head("d/a"),
            data(b"one"),
            data(b"two"),
            end(b"onetwo"),
            head("empty"),
            end(b""),
            Order::Finish,
        ];
        assert_eq!(obey(&place, orders), ["0: d", "1: d/a", "2: empty", "complete"]);
        assert_eq!(std::fs::read(place.0.join("d/a")).unwrap(), b"onetwo");
        assert_eq!(std::fs::read(place.0.join("empty")).unwrap(), b"");
    }

    #[test]
    fn bad_items_are_refused_and_the_others_go_on() {
        let place = TestFolder::new("sink-bad");
        let orders = vec![
            head("../x"),
            data(b"evil"),
            end(b"evil"),
            head("wrong"),
            data(b"changed"),
            end(b"content"),
            head("short"),
            data(b"sh"),
            Order::Skip,
            head("good"),
            data(b"good"),
            end(b"good"),
            head("good"),
            data(b"again"),
            end(b"again"),
            Order::Finish,
        ];
        let answers = obey(&place, orders);
        assert!(answers[0].starts_with("0: ") && answers[0].contains("leads out"), "{answers:?}");
        assert!(answers[1].contains("hash"), "{answers:?}");
        assert!(answers[2].contains("could not read"), "{answers:?}");
        // Two of one name are finished side by side: either may win, and only one does.
        let (won, lost, content) = match answers[3].as_str() {
            "3: good" => (&answers[3], &answers[4], &b"good"[..]),
            _ => (&answers[4], &answers[3], &b"again"[..]),
        };
        assert!(won.ends_with(": good"), "{answers:?}");
        assert!(lost.contains("there already"), "{answers:?}");
        assert_eq!(std::fs::read(place.0.join("good")).unwrap(), content);
        assert_eq!(std::fs::read_dir(&place.0).unwrap().count(), 1);
    }

    #[test]
    fn a_stream_that_breaks_off_leaves_nothing_behind() {
        let place = TestFolder::new("sink-broken");
        assert!(obey(&place, vec![head("a"), data(b"half")]).is_empty());
        assert_eq!(std::fs::read_dir(&place.0).unwrap().count(), 0);
    }

    #[test]
    fn stray_orders_are_harmless() {
        let place = TestFolder::new("sink-stray");
        let orders = vec![data(b"x"), end(b"x"), Order::Skip, head("a"), head("b"), end(b"")];
        assert_eq!(obey(&place, orders), ["1: b"]);
    }
}
