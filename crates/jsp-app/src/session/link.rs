//! A session on a connection: greeting, records, binding of channels to streams.

use core::time::Duration;
use std::collections::VecDeque;

use bytes::Bytes;

use super::record::{Bind, Credentials, Entry, Record, decode, encode};
use super::registry::Grant;
use super::{
    CHANNELS_MAX, Change, Channel, ChannelId, Event, Item, LABEL_MAX, ProtocolError, Session, Side,
};

/// The peer hears that messages were taken after so many, or after an eighth of what may be unconfirmed.
const CONFIRM_MESSAGES: u64 = 64;
const CONFIRM_SHARE: usize = 8;
/// Records that wait for the control stream before word of taken messages is held back.
const RECORDS_WAITING: usize = 1024;

/// The present connection.
#[derive(Debug, Default)]
pub(crate) struct Link {
    state: State,
    records: VecDeque<Record>,
    /// The session has run before: the next connection resumes it.
    has_run: bool,
    kept: Kept,
    /// The present connection has begun the session.
    is_new: bool,
}

/// Whether the client has kept the present credentials.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Kept {
    #[default]
    Unknown,
    /// It has said so.
    Said,
    /// The registry knows.
    Told,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Absent,
    /// The client has spoken, and the server is to answer.
    Greeting,
    /// The server has answered, and the credentials are to be stored before anything leaves.
    Keeping,
    Running,
}

impl Link {
    pub(crate) fn is_running(&self) -> bool {
        self.state == State::Running
    }

    pub(crate) fn end(&mut self, code: u64) {
        if self.state != State::Absent {
            self.records.push_back(Record::End(code));
        }
    }

    /// A channel of this end's may be told of. Without a connection, the next greeting does.
    fn on_opened(&mut self, side: Side, id: ChannelId, label: &str) {
        // The answer of a server comes first, and tells of it.
        let waits = side == Side::Server && self.state == State::Keeping;
        if self.is_agreed() && !waits {
            self.records.push_back(Record::Opened(id.0, label.to_owned()));
        }
    }

    fn is_agreed(&self) -> bool {
        matches!(self.state, State::Keeping | State::Running)
    }
}

impl Session {
    /// The client has a connection to the server: the greeting is the first record.
    // spec: SES-1
    pub fn attach(&mut self) {
        self.detach();
        if self.end.is_some() {
            return;
        }
        self.link.state = State::Greeting;
        let greeting = match self.credentials {
            None => Record::Open,
            Some(credentials) => {
                let entries = self.entries();
                Record::Resume(credentials, entries)
            }
        };
        self.link.records.push_back(greeting);
    }

    /// The connection is gone. What was on its way goes again with the next.
    pub fn detach(&mut self) {
        if self.link.is_running() && self.end.is_none() {
            self.events.push_back(Event::Suspended);
        }
        self.link.state = State::Absent;
        self.link.kept = Kept::Unknown;
        self.link.records.clear();
        for channel in self.channels.values_mut() {
            channel.is_bound = false;
        }
    }

    /// What this end tells of its channels. It counts as told: a greeting or answer that is lost takes
    /// its connection with it.
    fn entries(&mut self) -> Vec<Entry> {
        let known = self.channels.iter_mut().filter(|(_, channel)| channel.is_stored);
        known.map(|(id, channel)| channel.tell(id.0)).collect()
    }

    pub(crate) fn on_opened_stored(&mut self, id: ChannelId, label: &str) {
        let is_own = self.is_own(id);
        if let Some(channel) = self.channels.get_mut(&id).filter(|channel| !channel.is_stored) {
            channel.is_stored = true;
            if is_own {
                self.link.on_opened(self.side, id, label);
            }
        }
    }

    fn retire_all(&mut self) {
        let ids: Vec<ChannelId> = self.channels.keys().copied().collect();
        ids.into_iter().for_each(|id| self.retire(id));
    }

    /// The server's end begins, or goes on: its answer is the first record, once the store has what
    /// the client will show next.
    ///
    /// # Errors
    /// [`ProtocolError`] when the client's account cannot be true: close the connection.
    // spec: SES-12
    pub fn grant(&mut self, grant: &Grant) -> Result<(), ProtocolError> {
        self.detach();
        let Grant { credentials, grace, entries, before, owner } = grant;
        (self.credentials, self.grace) = (Some(*credentials), *grace);
        self.link.state = State::Keeping;
        self.link.is_new = entries.is_none();
        if let Some(entries) = entries {
            self.link.has_run = true;
            // The client's new channels are in the list: they will not be bound anew.
            self.agree(entries)?;
        }
        let Credentials { id, token } = *credentials;
        let (before, owner, grace) = (*before, *owner, *grace);
        self.note(Change::Granted { id, token, grace, before, owner });
        if self.journal.is_none() {
            self.on_credentials_kept();
        }
        Ok(())
    }

    /// The server's first record on a connection.
    fn answer(&mut self) {
        let Some(credentials) = self.credentials else { return };
        let grace = u64::try_from(self.grace.as_millis()).unwrap_or(u64::MAX);
        if self.link.is_new {
            self.link.records.push_back(Record::Granted(credentials, grace));
            // Channels that the application has opened since it has the session.
            let own: Vec<_> = self.entries();
            for Entry { channel, label, .. } in own {
                self.link.records.push_back(Record::Opened(channel, label));
            }
        } else {
            let entries = self.entries();
            self.link.records.push_back(Record::Resumed(credentials, grace, entries));
        }
        self.retire_all();
        self.run();
    }

    fn run(&mut self) {
        self.link.state = State::Running;
        let is_first = !core::mem::replace(&mut self.link.has_run, true);
        self.events.push_back(if is_first { Event::Started } else { Event::Resumed });
    }

    /// Takes over what the peer says of its channels.
    // spec: SES-5, SES-6, SES-7
    fn agree(&mut self, entries: &[Entry]) -> Result<(), ProtocolError> {
        for entry in entries {
            let id = ChannelId(entry.channel);
            if !self.channels.contains_key(&id) {
                if self.was_used(id) {
                    // It is over here: the peer sees that it is not in our list.
                    continue;
                }
                self.accept(id, &entry.label)?;
            }
            let Some(channel) = self.channels.get_mut(&id) else { continue };
            if channel.outbox.resume(entry.taken, entry.next)? > 0 {
                self.note(Change::Confirmed { channel: id, count: entry.taken });
            }
        }
        let listed = |id: &ChannelId| entries.iter().any(|entry| entry.channel == id.0);
        let missing: Vec<ChannelId> =
            self.channels.keys().filter(|id| !listed(id)).copied().collect();
        for id in missing {
            self.unlisted(id)?;
        }
        Ok(())
    }

    /// A channel that the peer does not list: it is over there, or the peer has never heard of it.
    fn unlisted(&mut self, id: ChannelId) -> Result<(), ProtocolError> {
        let is_own = self.is_own(id);
        let Some(channel) = self.channels.get_mut(&id) else { return Ok(()) };
        if channel.inbox.is_over() {
            self.channels.remove(&id);
            self.note(Change::Closed { channel: id });
            return Ok(());
        }
        if is_own && channel.outbox.is_untouched() {
            // A server's list follows; a client has opened it while its greeting was on its way.
            if self.side == Side::Client && channel.is_stored {
                self.link.records.push_back(Record::Opened(id.0, channel.label.clone()));
            }
            return channel.outbox.resume(0, 0).map(drop);
        }
        Err(ProtocolError("a list of channels without one that is open"))
    }

    /// A number that the channel's opener has given away already.
    fn was_used(&self, id: ChannelId) -> bool {
        let next = self.next[usize::from(!self.is_own(id))];
        id.0 < next
    }

    /// The peer opens a channel.
    fn accept(&mut self, id: ChannelId, label: &str) -> Result<(), ProtocolError> {
        if self.is_own(id) {
            return Err(ProtocolError("a channel that this end would have to open"));
        }
        if label.len() > LABEL_MAX {
            return Err(ProtocolError("a label that is too long"));
        }
        if self.channels.keys().filter(|id| !self.is_own(**id)).count() >= CHANNELS_MAX {
            return Err(ProtocolError("more channels than are allowed"));
        }
        if id.0 != self.next[1] {
            return Err(ProtocolError("a channel with a number out of the order"));
        }
        self.next[1] = id.0.saturating_add(2);
        self.channels.insert(id, Channel::new(label.to_owned(), true));
        self.note(Change::Opened { channel: id, label: label.to_owned() });
        self.events.push_back(Event::Opened(id));
        Ok(())
    }

    /// A record from the control stream.
    ///
    /// # Errors
    /// [`ProtocolError`]: close the connection; the session goes on with the next.
    pub fn handle_record(&mut self, bytes: &[u8]) -> Result<(), ProtocolError> {
        match decode(bytes)? {
            Record::Granted(credentials, grace)
                if self.link.state == State::Greeting && self.credentials.is_none() =>
            {
                self.keep(credentials, grace);
                self.agree(&[])
            }
            Record::Resumed(credentials, grace, entries)
                if self.link.state == State::Greeting
                    && self.credentials.is_some_and(|own| own.id == credentials.id) =>
            {
                self.link.has_run = true;
                self.keep(credentials, grace);
                self.agree(&entries)?;
                self.retire_all();
                Ok(())
            }
            Record::Unknown if self.link.state == State::Greeting => {
                self.detach();
                self.finish_session(Event::Forgotten);
                Ok(())
            }
            record if self.link.is_agreed() => self.handle_running(record),
            _ => Err(ProtocolError("a record at the wrong time")),
        }
    }

    fn handle_running(&mut self, record: Record) -> Result<(), ProtocolError> {
        match record {
            Record::Taken(channel, count) => self.taken(ChannelId(channel), count),
            Record::Opened(channel, label) => self.accept(ChannelId(channel), &label),
            Record::Kept if self.side == Side::Server => {
                // Said again, it is no news: a client could fill the store with it.
                if self.link.kept == Kept::Unknown {
                    self.link.kept = Kept::Said;
                    self.note(Change::Kept);
                }
                Ok(())
            }
            Record::End(code) => {
                self.detach();
                self.finish_session(Event::Ended(code));
                Ok(())
            }
            _ => Err(ProtocolError("a record at the wrong time")),
        }
    }

    /// Takes the credentials over. A store must have them before anything leaves: who does not know
    /// the session after a crash would send everything again in another.
    fn keep(&mut self, credentials: Credentials, grace: u64) {
        self.grace = Duration::from_millis(grace);
        self.credentials = Some(credentials);
        let Credentials { id, token } = credentials;
        self.link.state = State::Keeping;
        let grace = self.grace;
        self.note(Change::Granted { id, token, grace, before: None, owner: None });
        if self.journal.is_none() {
            self.on_credentials_kept();
        }
    }

    pub(crate) fn on_credentials_kept(&mut self) {
        match (self.link.state, self.side) {
            (State::Keeping, Side::Client) => {
                self.link.records.push_back(Record::Kept);
                self.run();
            }
            (State::Keeping, Side::Server) => self.answer(),
            _ => {}
        }
    }

    fn taken(&mut self, id: ChannelId, count: u64) -> Result<(), ProtocolError> {
        // Of a channel that is over, word may come late.
        let Some(channel) = self.channels.get_mut(&id) else {
            return if self.was_used(id) {
                Ok(())
            } else {
                Err(ProtocolError("an unknown channel"))
            };
        };
        if channel.outbox.on_taken(count)? > 0 {
            self.note(Change::Confirmed { channel: id, count });
        }
        self.retire(id);
        Ok(())
    }

    /// Forgets a channel that is over.
    pub(crate) fn retire(&mut self, id: ChannelId) {
        if self.channels.get(&id).is_some_and(Channel::is_over) {
            self.channels.remove(&id);
            self.note(Change::Closed { channel: id });
        }
    }

    /// The client has said that it has kept its credentials: true once after it did. The registry
    /// then voids those of before.
    pub fn poll_kept(&mut self) -> bool {
        let is_news = self.link.kept == Kept::Said;
        if is_news {
            self.link.kept = Kept::Told;
        }
        is_news
    }

    /// The next record for the control stream.
    pub fn poll_record(&mut self) -> Option<Bytes> {
        let record = self.link.records.pop_front()?;
        Some(encode(&record).into())
    }

    /// Puts into the queue of records what is due of taken messages: all of it when `is_late`, which
    /// is [`Limits::confirm_delay`](super::Limits::confirm_delay) after [`owes`](Self::owes) became
    /// true; else only what the peer waits for.
    pub fn confirm_taken(&mut self, is_late: bool) {
        if !self.link.is_running() || self.link.records.len() >= RECORDS_WAITING {
            return;
        }
        let bytes = self.limits.unconfirmed_bytes / CONFIRM_SHARE;
        let mut over = Vec::new();
        for (id, channel) in &mut self.channels {
            let inbox = &mut channel.inbox;
            if inbox.is_urgent(CONFIRM_MESSAGES, bytes) || (is_late && inbox.is_untold()) {
                self.link.records.push_back(Record::Taken(id.0, inbox.tell()));
                over.push(*id);
            }
        }
        over.into_iter().for_each(|id| self.retire(id));
    }

    /// Messages were taken of which the peer has not heard.
    #[must_use]
    pub fn owes(&self) -> bool {
        self.link.is_running() && self.channels.values().any(|channel| channel.inbox.is_untold())
    }

    /// A channel of this end's that needs a stream on this connection, and the first message of that
    /// stream. Asking binds it.
    pub fn poll_bind(&mut self) -> Option<(ChannelId, Bytes)> {
        if !self.link.is_running() {
            return None;
        }
        let side = u64::from(self.side == Side::Server);
        let (id, channel) =
            self.channels.iter_mut().find(|(id, channel)| id.0 % 2 == side && !channel.is_bound)?;
        channel.is_bound = true;
        Some((*id, encode(&Bind { channel: id.0 }).into()))
    }

    /// The first message of a stream that the peer has opened for a channel of its own.
    ///
    /// # Errors
    /// [`ProtocolError`]: close the connection; the session goes on with the next.
    // spec: SES-4
    pub fn handle_bind(&mut self, bytes: &[u8]) -> Result<Binding, ProtocolError> {
        let Bind { channel } = decode(bytes)?;
        let id = ChannelId(channel);
        if self.is_own(id) {
            return Err(ProtocolError("a stream for a channel of this end"));
        }
        let is_early = !self.link.is_running() || !self.was_used(id);
        match self.channels.get_mut(&id) {
            _ if is_early => Ok(Binding::Early),
            None => Ok(Binding::Over),
            Some(channel) if !channel.is_bound => {
                channel.is_bound = true;
                Ok(Binding::Bound(id))
            }
            Some(_) => Err(ProtocolError("a second stream for a channel")),
        }
    }

    /// What came from a channel's stream: a message, or its end.
    ///
    /// # Errors
    /// [`ProtocolError`]: close the connection; the session goes on with the next.
    pub fn handle_item(&mut self, id: ChannelId, item: Item) -> Result<(), ProtocolError> {
        match (self.channels.get_mut(&id), item) {
            (Some(channel), Item::Message(payload)) => channel.inbox.push(payload),
            (Some(channel), Item::End) => channel.inbox.on_end(),
            (None, _) => Ok(()),
        }
    }

    /// What is next for a channel's stream: a message, or that the stream is to be finished.
    pub fn poll_item(&mut self, id: ChannelId) -> Option<Item> {
        if !self.link.is_running() {
            return None;
        }
        let channel = self.channels.get_mut(&id).filter(|channel| channel.is_bound)?;
        channel.outbox.next()
    }
}

/// Whether a stream has found its channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    /// It carries this channel.
    Bound(ChannelId),
    /// The record that opens the channel is still on its way: try again when a record has come.
    Early,
    /// The channel is over: the stream is of no use.
    Over,
}

/// What a client says first.
#[derive(Debug)]
pub(crate) enum Greeting {
    Open,
    Resume(Credentials, Vec<Entry>),
}

impl Greeting {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, ProtocolError> {
        match decode(bytes)? {
            Record::Open => Ok(Self::Open),
            Record::Resume(credentials, entries) => Ok(Self::Resume(credentials, entries)),
            _ => Err(ProtocolError("something else than a greeting")),
        }
    }
}

/// What a server says of a session that it does not have.
pub(crate) fn unknown() -> Bytes {
    encode(&Record::Unknown).into()
}
