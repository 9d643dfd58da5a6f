//! What outlives a client's process.

use std::fmt;
use std::io;

use jsp_app::session::{Change, Saved};

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

#[cfg(feature = "redb")]
pub use embedded::RedbStore;

#[cfg(feature = "redb")]
mod embedded {
    use std::fmt;
    use std::io;
    use std::path::Path;
    use std::time::Duration;

    use bytes::Bytes;
    use jsp_app::session::{Change, ChannelId, Item, Saved, SavedChannel, Token};
    use redb::{Database, ReadableDatabase, ReadableTable, Table, TableDefinition};

    use super::Store;

    /// Identity and token, grace in milliseconds, next numbers of channels.
    const SESSION: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("session");
    /// Channels: label, first unconfirmed, its own end confirmed, taken, the peer's end taken.
    type Row<'a> = (&'a str, u64, bool, u64, bool);
    const CHANNELS: TableDefinition<'_, u64, Row<'_>> = TableDefinition::new("channels");
    /// Unconfirmed items by channel and number; `None` is the end.
    const ITEMS: TableDefinition<'_, (u64, u64), Option<&[u8]>> = TableDefinition::new("items");

    /// A store in one file of the embedded database redb. Another process that opens the file at the
    /// same time gets an error.
    pub struct RedbStore {
        database: Database,
    }

    impl RedbStore {
        /// Opens the file, or makes it. It holds the session's token: keep its folder to its user.
        ///
        /// # Errors
        /// What the disk or the database says.
        pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
            Ok(Self { database: Database::create(path).map_err(io::Error::other)? })
        }

        fn read(&self) -> Result<Option<Saved>, redb::Error> {
            let read = self.database.begin_read()?;
            let session = match read.open_table(SESSION) {
                Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
                table => table?,
            };
            let mut saved = Saved::default();
            let number = |key: &str| -> Result<Option<u64>, redb::Error> {
                let value = session.get(key)?;
                Ok(value.and_then(|value| Some(u64::from_be_bytes(value.value().try_into().ok()?))))
            };
            for (side, next) in saved.next_channels.iter_mut().enumerate() {
                *next = number(NEXT[side.min(1)])?.unwrap_or(0);
            }
            saved.grace = Duration::from_millis(number("grace")?.unwrap_or(0));
            if let (Some(id), Some(token)) = (session.get("id")?, session.get("token")?)
                && let (Ok(id), Ok(token)) = (id.value().try_into(), token.value().try_into())
            {
                saved.granted = Some((id, Token(token)));
            }
            if saved.granted.is_none() && saved.next_channels == [0, 0] {
                return Ok(None);
            }
            let items = read.open_table(ITEMS)?;
            for row in read.open_table(CHANNELS)?.iter()? {
                let (id, row) = row?;
                let (label, first, is_sent, taken, is_received) = row.value();
                let mut channel = SavedChannel {
                    id: ChannelId(id.value()),
                    label: label.to_owned(),
                    first,
                    unconfirmed: Vec::new(),
                    is_sent,
                    taken,
                    is_received,
                };
                for item in items.range((id.value(), 0)..=(id.value(), u64::MAX))? {
                    channel.unconfirmed.push(match item?.1.value() {
                        Some(payload) => Item::Message(Bytes::copy_from_slice(payload)),
                        None => Item::End,
                    });
                }
                saved.channels.push(channel);
            }
            Ok(Some(saved))
        }

        fn write(&self, changes: &[Change]) -> Result<(), redb::Error> {
            let write = self.database.begin_write()?;
            {
                let mut tables = Tables {
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
    }

    /// Keys of the numbers of the next channels: own, and the peer's.
    const NEXT: [&str; 2] = ["next own channel", "next channel of the peer"];

    struct Tables<'t> {
        session: Table<'t, &'static str, &'static [u8]>,
        channels: Table<'t, u64, Row<'static>>,
        items: Table<'t, (u64, u64), Option<&'static [u8]>>,
    }

    impl Tables<'_> {
        fn apply(&mut self, change: &Change) -> Result<(), redb::Error> {
            match change {
                Change::Granted { id, token, grace } => {
                    let grace = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
                    self.session.insert("id", id.as_slice())?;
                    self.session.insert("token", token.0.as_slice())?;
                    self.session.insert("grace", grace.to_be_bytes().as_slice())?;
                }
                Change::Opened { channel: ChannelId(id), label } => {
                    let next = (id + 2).to_be_bytes();
                    let key = if id % 2 == 0 { NEXT[0] } else { NEXT[1] };
                    self.session.insert(key, next.as_slice())?;
                    self.channels.insert(id, (label.as_str(), 0, false, 0, false))?;
                }
                Change::Sent { channel: ChannelId(id), number, item } => {
                    let payload = match item {
                        Item::Message(payload) => Some(payload.as_ref()),
                        Item::End => None,
                    };
                    self.items.insert((*id, *number), payload)?;
                }
                Change::Confirmed { channel: ChannelId(id), count } => {
                    let gone = (*id, 0)..(*id, *count);
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
                    self.channels.remove(id)?;
                    self.items.retain_in((*id, 0)..=(*id, u64::MAX), |_, _| false)?;
                }
                Change::Over => {
                    self.session.retain(|_, _| false)?;
                    self.channels.retain(|_, _| false)?;
                    self.items.retain(|_, _| false)?;
                }
            }
            Ok(())
        }

        fn change(
            &mut self,
            id: u64,
            change: impl FnOnce(&mut Row<'_>),
        ) -> Result<(), redb::Error> {
            let Some(row) = self.channels.get(id)?.map(|row| {
                let (label, first, is_sent, taken, is_received) = row.value();
                (label.to_owned(), first, is_sent, taken, is_received)
            }) else {
                return Ok(());
            };
            let mut changed = (row.0.as_str(), row.1, row.2, row.3, row.4);
            change(&mut changed);
            self.channels.insert(id, changed)?;
            Ok(())
        }
    }

    impl Store for RedbStore {
        fn load(&self) -> io::Result<Option<Saved>> {
            self.read().map_err(io::Error::other)
        }

        fn save(&self, changes: &[Change]) -> io::Result<()> {
            self.write(changes).map_err(io::Error::other)
        }
    }

    impl fmt::Debug for RedbStore {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("RedbStore(..)")
        }
    }
}
