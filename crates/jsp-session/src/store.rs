//! What outlives a process: a client's session, and those of a server.

use std::fmt;
use std::io;

use jsp_app::session::{Change, GRANT_LEN, Saved};

/// Where a client keeps its session. One store is for one session at a time.
pub trait Store: Send + Sync + fmt::Debug + 'static {
    /// What was stored; `None` when there is no session. Blocks on the disk.
    ///
    /// # Errors
    /// What the disk says. A store that cannot be understood is an error, not an empty one.
    fn load(&self) -> io::Result<Option<Saved>>;

    /// Stores changes, all of them or none, so that they are there after a crash. What each means is
    /// defined by [`Saved::apply`]. Blocks on the disk.
    ///
    /// # Errors
    /// What the disk says; the session is over then.
    fn save(&self, changes: &[Change]) -> io::Result<()>;
}

/// Where a server keeps its sessions. Sessions have names of their own, and do not touch each other.
pub trait SessionsStore: Send + Sync + fmt::Debug + 'static {
    /// All sessions that were granted and are not over. Blocks on the disk.
    ///
    /// # Errors
    /// What the disk says. A store that cannot be understood is an error, not an empty one.
    fn load(&self) -> io::Result<Vec<Saved>>;

    /// Stores changes of one session, all of them or none, so that they are there after a crash. What each
    /// means is defined by [`Saved::apply`]. Blocks on the disk; called from several threads at once.
    ///
    /// # Errors
    /// What the disk says; the session is over then.
    fn save(&self, session: &[u8; GRANT_LEN], changes: &[Change]) -> io::Result<()>;
}

#[cfg(feature = "redb")]
pub use embedded::RedbStore;

#[cfg(feature = "redb")]
mod embedded {
    use std::fmt;
    use std::fs::File;
    use std::io;
    use std::path::Path;
    use std::time::Duration;

    use bytes::Bytes;
    use jsp_app::session::{Change, ChannelId, GRANT_LEN, Item, Saved, SavedChannel, Token};
    use redb::backends::FileBackend;
    use redb::{
        Database, ReadTransaction, ReadableDatabase, ReadableTable, Table, TableDefinition,
    };

    use super::{SessionsStore, Store};

    /// A session's name as a number; that of a client's own is zero.
    type Name = u128;
    const OWN: Name = 0;

    /// Identity and tokens, the client's identity, grace in milliseconds, next numbers of channels.
    const SESSION: TableDefinition<'_, (Name, &str), &[u8]> = TableDefinition::new("session");
    /// Channels: label, first unconfirmed, its own end confirmed, taken, the peer's end taken.
    type Row<'a> = (&'a str, u64, bool, u64, bool);
    const CHANNELS: TableDefinition<'_, (Name, u64), Row<'_>> = TableDefinition::new("channels");
    /// Unconfirmed items by channel and number; `None` is the end.
    const ITEMS: TableDefinition<'_, (Name, u64, u64), Option<&[u8]>> =
        TableDefinition::new("items");

    /// Keys of the numbers of the next channels: the client's, and the server's.
    const NEXT: [&str; 2] = ["next channel of the client", "next channel of the server"];
    /// All keys of a session.
    const KEYS: [&str; 7] = ["id", "token", "before", "owner", "grace", NEXT[0], NEXT[1]];

    /// A store in one file of the embedded database redb: of one session of a client, or of all sessions
    /// of a server. Each save is a transaction that is on the disk (`fsync`) before it counts. Another
    /// process that opens the file at the same time gets an error.
    pub struct RedbStore {
        database: Database,
    }

    impl RedbStore {
        /// Opens the file, or makes it. It holds tokens of sessions: on Unix it is made for its user alone;
        /// elsewhere keep its folder to him.
        ///
        /// # Errors
        /// What the disk or the database says.
        pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
            let mut options = File::options();
            options.read(true).write(true).create(true).truncate(false);
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            let file = FileBackend::new(options.open(path)?).map_err(io::Error::other)?;
            let database = redb::Builder::new().create_with_backend(file);
            Ok(Self { database: database.map_err(io::Error::other)? })
        }

        /// The names of the sessions that were granted, ascending as the table is.
        fn names(&self) -> Result<Vec<Name>, redb::Error> {
            let read = self.database.begin_read()?;
            let session = match read.open_table(SESSION) {
                Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
                table => table?,
            };
            let mut names = Vec::new();
            for row in session.iter()? {
                let (key, _) = row?;
                if let (name, "id") = key.value() {
                    names.push(name);
                }
            }
            Ok(names)
        }

        fn read(&self, name: Name) -> Result<Option<Saved>, redb::Error> {
            let read = self.database.begin_read()?;
            let session = match read.open_table(SESSION) {
                Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
                table => table?,
            };
            let mut saved = Saved::default();
            let number = |key: &str| -> Result<Option<u64>, redb::Error> {
                let value = session.get((name, key))?;
                Ok(value.and_then(|value| Some(u64::from_be_bytes(value.value().try_into().ok()?))))
            };
            for (side, next) in saved.next_channels.iter_mut().enumerate() {
                *next = number(NEXT[side.min(1)])?.unwrap_or(0);
            }
            saved.grace = Duration::from_millis(number("grace")?.unwrap_or(0));
            if let (Some(id), Some(token)) =
                (session.get((name, "id"))?, session.get((name, "token"))?)
                && let (Ok(id), Ok(token)) = (id.value().try_into(), token.value().try_into())
            {
                saved.granted = Some((id, Token(token)));
            }
            if saved.granted.is_none() && saved.next_channels == [0, 0] {
                return Ok(None);
            }
            let before = session.get((name, "before"))?;
            saved.before = before.and_then(|token| token.value().try_into().ok()).map(Token);
            let owner = session.get((name, "owner"))?;
            saved.owner = owner.and_then(|owner| owner.value().try_into().ok());
            saved.channels = channels(&read, name)?;
            Ok(Some(saved))
        }

        fn write(&self, name: Name, changes: &[Change]) -> Result<(), redb::Error> {
            let write = self.database.begin_write()?;
            {
                let mut tables = Tables {
                    name,
                    session: write.open_table(SESSION)?,
                    channels: write.open_table(CHANNELS)?,
                    items: write.open_table(ITEMS)?,
                };
                for change in changes {
                    tables.apply(change)?;
                }
            }
            write.commit()?;
            Ok(())
        }

        /// Drops what belongs to sessions that were never granted. `names` ascend.
        fn tidy(&self, names: &[Name]) -> Result<(), redb::Error> {
            let is_granted = |name: Name| names.binary_search(&name).is_ok();
            let write = self.database.begin_write()?;
            write.open_table(SESSION)?.retain(|(name, _), _| is_granted(name))?;
            write.open_table(CHANNELS)?.retain(|(name, _), _| is_granted(name))?;
            write.open_table(ITEMS)?.retain(|(name, ..), _| is_granted(name))?;
            write.commit()?;
            Ok(())
        }
    }

    fn channels(read: &ReadTransaction, name: Name) -> Result<Vec<SavedChannel>, redb::Error> {
        let items = read.open_table(ITEMS)?;
        let mut channels = Vec::new();
        for row in read.open_table(CHANNELS)?.range((name, 0)..=(name, u64::MAX))? {
            let (key, row) = row?;
            let (_, id) = key.value();
            let (label, first, is_sent, taken, is_received) = row.value();
            let mut channel = SavedChannel {
                id: ChannelId(id),
                label: label.to_owned(),
                first,
                unconfirmed: Vec::new(),
                is_sent,
                taken,
                is_received,
            };
            for item in items.range((name, id, 0)..=(name, id, u64::MAX))? {
                channel.unconfirmed.push(match item?.1.value() {
                    Some(payload) => Item::Message(Bytes::copy_from_slice(payload)),
                    None => Item::End,
                });
            }
            channels.push(channel);
        }
        Ok(channels)
    }

    struct Tables<'t> {
        name: Name,
        session: Table<'t, (Name, &'static str), &'static [u8]>,
        channels: Table<'t, (Name, u64), Row<'static>>,
        items: Table<'t, (Name, u64, u64), Option<&'static [u8]>>,
    }

    impl Tables<'_> {
        fn apply(&mut self, change: &Change) -> Result<(), redb::Error> {
            let name = self.name;
            match change {
                Change::Granted { id, token, grace, before, owner } => {
                    let grace = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX).to_be_bytes();
                    self.note("id", Some(id))?;
                    self.note("token", Some(&token.0))?;
                    self.note("grace", Some(&grace))?;
                    self.note("before", before.as_ref().map(|token| token.0.as_slice()))?;
                    self.note("owner", owner.as_ref().map(|owner| owner.as_slice()))?;
                }
                Change::Kept => self.note("before", None)?,
                Change::Opened { channel: ChannelId(id), label } => {
                    let next = (id + 2).to_be_bytes();
                    let key = if id % 2 == 0 { NEXT[0] } else { NEXT[1] };
                    self.note(key, Some(&next))?;
                    self.channels.insert((name, *id), (label.as_str(), 0, false, 0, false))?;
                }
                Change::Sent { channel: ChannelId(id), number, item } => {
                    let payload = match item {
                        Item::Message(payload) => Some(payload.as_ref()),
                        Item::End => None,
                    };
                    self.items.insert((name, *id, *number), payload)?;
                }
                Change::Confirmed { channel: ChannelId(id), count } => {
                    let gone = (name, *id, 0)..(name, *id, *count);
                    let has_end = self.items.range(gone.clone())?.next_back().transpose()?;
                    let has_end = has_end.is_some_and(|(_, item)| item.value().is_none());
                    self.items.retain_in(gone, |_, _| false)?;
                    self.change(*id, |row| {
                        row.1 = *count;
                        row.2 |= has_end;
                    })?;
                }
                Change::Taken { channel: ChannelId(id), count, is_end } => {
                    self.change(*id, |row| (row.3, row.4) = (*count, *is_end))?;
                }
                Change::Closed { channel: ChannelId(id) } => {
                    self.channels.remove((name, *id))?;
                    let all = (name, *id, 0)..=(name, *id, u64::MAX);
                    self.items.retain_in(all, |_, _| false)?;
                }
                Change::Over => {
                    KEYS.iter().try_for_each(|key| self.note(key, None))?;
                    self.channels.retain_in((name, 0)..=(name, u64::MAX), |_, _| false)?;
                    let all = (name, 0, 0)..=(name, u64::MAX, u64::MAX);
                    self.items.retain_in(all, |_, _| false)?;
                }
            }
            Ok(())
        }

        /// Writes a value of the session's own, or removes it.
        fn note(&mut self, key: &str, value: Option<&[u8]>) -> Result<(), redb::Error> {
            match value {
                Some(value) => drop(self.session.insert((self.name, key), value)?),
                None => drop(self.session.remove((self.name, key))?),
            }
            Ok(())
        }

        fn change(
            &mut self,
            id: u64,
            change: impl FnOnce(&mut Row<'_>),
        ) -> Result<(), redb::Error> {
            let key = (self.name, id);
            let Some(row) = self.channels.get(key)?.map(|row| {
                let (label, first, is_sent, taken, is_received) = row.value();
                (label.to_owned(), first, is_sent, taken, is_received)
            }) else {
                return Ok(());
            };
            let mut changed = (row.0.as_str(), row.1, row.2, row.3, row.4);
            change(&mut changed);
            self.channels.insert(key, changed)?;
            Ok(())
        }
    }

    impl Store for RedbStore {
        fn load(&self) -> io::Result<Option<Saved>> {
            self.read(OWN).map_err(io::Error::other)
        }

        fn save(&self, changes: &[Change]) -> io::Result<()> {
            self.write(OWN, changes).map_err(io::Error::other)
        }
    }

    impl SessionsStore for RedbStore {
        fn load(&self) -> io::Result<Vec<Saved>> {
            let names = self.names().map_err(io::Error::other)?;
            self.tidy(&names).map_err(io::Error::other)?;
            let all = names.into_iter().map(|name| self.read(name).map_err(io::Error::other));
            all.filter_map(Result::transpose).collect()
        }

        fn save(&self, session: &[u8; GRANT_LEN], changes: &[Change]) -> io::Result<()> {
            self.write(Name::from_be_bytes(*session), changes).map_err(io::Error::other)
        }
    }

    impl fmt::Debug for RedbStore {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("RedbStore(..)")
        }
    }
}
