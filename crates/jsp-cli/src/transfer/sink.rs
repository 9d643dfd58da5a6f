//! The storing side of a transfer: one thread writes and hashes, a few bring files to the disk.

use std::io::{self, Write};
use std::mem;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::folder::{Folder, Look, Partial, StoreError};
use super::path::SafePath;
use super::record::{FileHead, HASH_LEN, Have, Refused, Stored, Token};

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
    /// The data go on at this place.
    From(u64),
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
    /// What is here of an item already.
    Have(Have),
    /// Everything is on the disk.
    Complete,
}

/// Runs until the orders end. Without [`Order::Finish`] the file under way is dropped, or kept for
/// its sender, and nothing is confirmed beyond what was. Blocks: run it in a thread of its own.
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
    sink.write_buffer();
    let Sink { folder, jobs, replies, current, .. } = sink;
    drop((jobs, current));
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
    token: Option<Token>,
}

fn commit_all(folder: &Folder, waiting: &Mutex<Receiver<Job>>, replies: &mpsc::Sender<Reply>) {
    loop {
        let job = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        let Job { item, partial, path, look, hash, bytes, token } = job;
        let reply = match folder.commit(partial, &path, look) {
            Ok(name) => {
                if let Some(token) = token {
                    folder.note_stored(token, hash, name.clone());
                }
                confirmation(item, &path, &name, hash, bytes)
            }
            Err(error) => refusal(item, path.as_str().to_owned(), &error.to_string()),
        };
        // Nobody listens any more when the connection is gone; the file is stored all the same.
        let _ = replies.blocking_send(reply);
    }
}

fn confirmation(
    item: u64,
    path: &SafePath,
    name: &SafePath,
    hash: [u8; HASH_LEN],
    bytes: u64,
) -> Reply {
    let renamed = (name != path).then(|| name.as_str().to_owned());
    let stored = Stored { item, hash: Some(hash), renamed };
    Reply::Stored { stored, path: name.as_str().to_owned(), bytes }
}

fn refusal(item: u64, path: String, why: &str) -> Reply {
    Reply::Refused { refused: Refused { item, why: why.to_owned() }, path }
}

/// The file under way.
struct Current {
    item: u64,
    path: SafePath,
    look: Look,
    token: Option<Token>,
    place: Place,
    hasher: blake3::Hasher,
    bytes: u64,
}

/// Where its content goes.
enum Place {
    New(Partial),
    /// It was stored lately, with this hash under this name, and the sender has not heard of it.
    Stored([u8; HASH_LEN], SafePath),
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
            Order::From(offset) => self.from(offset),
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
                self.give_up("the sender could not read it to its end");
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
        match self.open(item, &head) {
            Ok(current) => self.current = Some(current),
            Err(error) => self.refuse(item, head.path, &error.to_string()),
        }
    }

    /// A place for a file; tells the sender what is there of it where it waits for that.
    fn open(&self, item: u64, head: &FileHead) -> Result<Current, StoreError> {
        let path = SafePath::parse(&head.path)?;
        let look = Look { executable: head.executable, modified: head.modified };
        let token = head.token;
        let stored = token.and_then(|token| self.folder.stored(&token));
        let (place, hasher, bytes, hash) = match (stored, head.resumable()) {
            (Some((hash, name)), _) => {
                (Place::Stored(hash, name), blake3::Hasher::new(), head.size, hash)
            }
            (None, Some(token)) => {
                self.folder.check(&path)?;
                let (partial, hasher, bytes) = self.folder.resume(&token)?;
                let hash = *hasher.finalize().as_bytes();
                (Place::New(partial), hasher, bytes, hash)
            }
            (None, None) => {
                self.folder.check(&path)?;
                let partial = self.folder.begin()?;
                (Place::New(partial), blake3::Hasher::new(), 0, [0; HASH_LEN])
            }
        };
        if head.resumable().is_some() {
            let _ = self.replies.blocking_send(Reply::Have(Have { item, bytes, hash }));
        }
        Ok(Current { item, path, look, token, place, hasher, bytes })
    }

    /// The sender goes on at what is there, or begins anew.
    fn from(&mut self, offset: u64) {
        let Some(current) = &mut self.current else { return };
        if offset == current.bytes {
            return;
        }
        let Place::New(partial) = &mut current.place else { return };
        let result = match offset {
            0 => partial.clear(),
            _ => Err(io::Error::other("the sender goes on where nothing is")),
        };
        (current.hasher, current.bytes) = (blake3::Hasher::new(), 0);
        if let Err(error) = result {
            self.give_up(&StoreError::from(error).to_string());
        }
    }

    /// The file under way is not to be had: nothing of it stays.
    fn give_up(&mut self, why: &str) {
        let Some(Current { item, path, place, .. }) = self.current.take() else { return };
        if let Place::New(partial) = place {
            partial.discard();
        }
        self.refuse(item, path.as_str().to_owned(), why);
    }

    /// Hashes and writes what was gathered. A file that cannot be written is given up at once, so
    /// that it takes no space.
    fn write_buffer(&mut self) {
        let mut buffer = mem::take(&mut self.buffer);
        let result = match &mut self.current {
            Some(Current { place: Place::New(partial), hasher, bytes, .. }) => {
                hasher.update(&buffer);
                *bytes += buffer.len() as u64;
                partial.file.write_all(&buffer)
            }
            _ => Ok(()),
        };
        buffer.clear();
        self.buffer = buffer;
        if let Err(error) = result {
            self.give_up(&StoreError::from(error).to_string());
        }
    }

    fn end(&mut self, hash: [u8; HASH_LEN]) {
        self.write_buffer();
        let Some(current) = self.current.take() else { return };
        let Current { item, path, look, token, place, hasher, bytes } = current;
        match place {
            Place::New(partial) if *hasher.finalize().as_bytes() == hash => {
                // The committers live as long as this sender of jobs.
                let _ = self.jobs.send(Job { item, partial, path, look, hash, bytes, token });
            }
            Place::Stored(stored, name) if stored == hash => {
                let reply = confirmation(item, &path, &name, hash, bytes);
                let _ = self.replies.blocking_send(reply);
            }
            place => {
                if let Place::New(partial) = place {
                    partial.discard();
                }
                let why = "its hash is not what the sender has; send the file again";
                self.refuse(item, path.as_str().to_owned(), why);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transfer::folder::Taken;
    use crate::transfer::test_folder::TestFolder;

    fn head(path: &str) -> Order {
        let path = path.to_owned();
        Order::File(FileHead { path, size: 0, executable: false, modified: None, token: None })
    }

    /// A file that its sender can go on with.
    fn resumable(path: &str, size: usize) -> Order {
        Order::File(FileHead {
            path: path.to_owned(),
            size: size as u64,
            executable: false,
            modified: None,
            token: Some(Token([5; 16])),
        })
    }

    fn data(content: &'static [u8]) -> Order {
        Order::Data(vec![Bytes::from_static(content)])
    }

    fn end(content: &[u8]) -> Order {
        Order::End(*blake3::hash(content).as_bytes())
    }

    /// Runs the orders; the answers as `item: text`, in the order of the items.
    fn obey(place: &TestFolder, orders: Vec<Order>) -> Vec<String> {
        obey_in(&Arc::new(Folder::open(&place.0, Taken::Refuse).unwrap()), orders)
    }

    fn obey_in(folder: &Arc<Folder>, orders: Vec<Order>) -> Vec<String> {
        let (orders_in, orders_out) = mpsc::channel(orders.len().max(1));
        let (replies_in, mut replies_out) = mpsc::channel(1024);
        for order in orders {
            orders_in.try_send(order).unwrap();
        }
        drop(orders_in);
        run(Arc::clone(folder), orders_out, replies_in);
        let mut answers = Vec::new();
        while let Ok(reply) = replies_out.try_recv() {
            answers.push(match reply {
                Reply::Stored { stored, path, .. } => format!("{}: {path}", stored.item),
                Reply::Refused { refused, .. } => format!("{}: {}", refused.item, refused.why),
                Reply::Have(have) => format!("{}: {} bytes are here", have.item, have.bytes),
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
    fn a_transfer_goes_on_where_it_broke_off() {
        let place = TestFolder::new("sink-resume");
        let content: &'static [u8] = vec![1; 3 << 20].leak();
        let (first, rest) = content.split_at(2 << 20);
        let begin = || resumable("a", content.len());
        assert_eq!(obey(&place, vec![begin(), data(first)]), ["0: 0 bytes are here"]);
        let on = vec![begin(), Order::From(2 << 20), data(rest), end(content), Order::Finish];
        let expected = ["0: 2097152 bytes are here", "0: a", "complete"];
        assert_eq!(obey(&place, on), expected);
        assert_eq!(std::fs::read(place.0.join("a")).unwrap(), content);
        assert_eq!(std::fs::read_dir(&place.0).unwrap().count(), 1);
    }

    #[test]
    fn a_transfer_of_another_content_begins_anew() {
        let place = TestFolder::new("sink-anew");
        let old: &'static [u8] = vec![1; 2 << 20].leak();
        let new: &'static [u8] = vec![2; 2 << 20].leak();
        obey(&place, vec![resumable("a", old.len()), data(old)]);
        let anew = [resumable("a", new.len()), Order::From(0), data(new), end(new)];
        assert_eq!(obey(&place, anew.into()), ["0: 2097152 bytes are here", "0: a"]);
        assert_eq!(std::fs::read(place.0.join("a")).unwrap(), new);
        // A place where nothing is.
        let nowhere = [resumable("b", new.len()), Order::From(7), data(new), end(new)];
        let answers = obey(&place, nowhere.into());
        assert!(answers[1].contains("where nothing is"), "{answers:?}");
        assert_eq!(std::fs::read_dir(&place.0).unwrap().count(), 1);
    }

    #[test]
    fn a_file_whose_confirmation_was_not_heard_is_confirmed_again() {
        let place = TestFolder::new("sink-again");
        let content: &'static [u8] = vec![1; 1 << 20].leak();
        let folder = Arc::new(Folder::open(&place.0, Taken::Number).unwrap());
        let send = |orders| obey_in(&folder, orders);
        let begin = || resumable("a", content.len());
        send(vec![begin(), Order::From(0), data(content), end(content)]);
        let again = send(vec![begin(), Order::From(1 << 20), end(content)]);
        assert_eq!(again, ["0: 1048576 bytes are here", "0: a"]);
        let wrong = send(vec![begin(), Order::From(0), data(b"x"), end(b"x")]);
        assert!(wrong[1].contains("hash"), "{wrong:?}");
        assert_eq!(std::fs::read_dir(&place.0).unwrap().count(), 1);
        // What is not there any more, or not as it came, comes once more.
        std::fs::rename(place.0.join("a"), place.0.join("elsewhere")).unwrap();
        let anew = || send(vec![begin(), Order::From(0), data(content), end(content)]);
        assert_eq!(anew(), ["0: 0 bytes are here", "0: a"]);
        std::fs::write(place.0.join("a"), vec![2; 1 << 20]).unwrap();
        assert_eq!(anew(), ["0: 0 bytes are here", "0: a (1)"]);
        assert_eq!(std::fs::read(place.0.join("a (1)")).unwrap(), content);
    }

    #[test]
    fn stray_orders_are_harmless() {
        let place = TestFolder::new("sink-stray");
        let orders = vec![data(b"x"), end(b"x"), Order::Skip, head("a"), head("b"), end(b"")];
        assert_eq!(obey(&place, orders), ["1: b"]);
    }
}
