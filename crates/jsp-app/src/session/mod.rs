//! Sessions: channels of messages that outlive connections.
//!
//! A [`Session`] keeps each message until the application at the other end has taken it. When the
//! connection is lost, both ends remember; with the next connection, to the same server, the client
//! shows its credentials, each end says what it has, and both go on: nothing is lost, nothing comes
//! twice, and the keys are those of the new connection. `docs/spec/14-sessions.md` is the protocol.
//!
//! This is one end's state, for one driver: [`attach`](Session::attach) and
//! [`detach`](Session::detach) say that a connection is there or gone; records and messages go in by
//! [`handle_record`](Session::handle_record), [`handle_bind`](Session::handle_bind) and
//! [`handle_item`](Session::handle_item), and out by [`poll_record`](Session::poll_record),
//! [`poll_bind`](Session::poll_bind) and [`poll_item`](Session::poll_item). All counts are bounded, by
//! [`Limits`] and [`CHANNELS_MAX`].

mod channel;
mod journal;
mod link;
mod record;
mod registry;
#[cfg(test)]
mod tests;

#[cfg(test)]
#[path = "../../../../fuzz/bodies/session.rs"]
#[allow(unreachable_pub, reason = "shared with the fuzz target")]
mod fuzz_body;
#[cfg(test)]
#[path = "../../../../fuzz/bodies/replay.rs"]
#[allow(unreachable_pub, reason = "shared by the tests that replay corpora")]
mod replay;

#[cfg(test)]
mod corpus {
    /// The corpus of the fuzz target, replayed.
    #[test]
    fn session_records() {
        let taken = super::replay::replay("session_records", super::fuzz_body::records);
        assert!(taken >= 10, "true records are taken");
    }
}

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use thiserror::Error;

pub use self::channel::Item;
pub use self::journal::{Change, Saved, SavedChannel};
pub use self::link::Binding;
pub use self::record::{RECORD_MAX, Token};
pub use self::registry::{Arrival, Client, Grant, Registry};

use self::channel::{Channel, Outbox};
use self::link::Link;
use self::record::Credentials;

/// Bytes of a session's name, and of its token.
pub const GRANT_LEN: usize = 16;
/// Longest label of a channel, in bytes of UTF-8.
pub const LABEL_MAX: usize = 64;
/// Channels that each end may have opened at once.
pub const CHANNELS_MAX: usize = 64;
/// The label of the stream that carries records.
pub const CONTROL_LABEL: &str = "jsp-session/1";
/// The label of streams that carry a channel.
pub const CHANNEL_LABEL: &str = "jsp-session/1/channel";

/// Names a channel in its session. Even numbers are opened by the client, odd ones by the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelId(pub u64);

/// Which end this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// It connects, and shows the credentials.
    Client,
    /// It is connected to.
    Server,
}

/// How much an end keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of messages of a channel that the peer has not taken; `send` refuses more. It is also
    /// the longest message.
    pub unconfirmed_bytes: usize,
    /// The same in messages.
    pub unconfirmed_messages: usize,
    /// Bytes of a channel that have arrived and wait for the application; more stay in the
    /// transport, whose flow control holds the peer back.
    pub waiting_bytes: usize,
    /// How long the peer waits at most to hear that messages were taken, while others follow.
    pub confirm_delay: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            unconfirmed_bytes: 1 << 20,
            unconfirmed_messages: 8192,
            waiting_bytes: 256 << 10,
            confirm_delay: Duration::from_millis(20),
        }
    }
}

/// What the driver tells the application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The first connection is in use.
    Started,
    /// The connection is gone; the session waits for the next.
    Suspended,
    /// The next connection is in use, and everything goes on.
    Resumed,
    /// The peer has opened a channel.
    Opened(ChannelId),
    /// The peer does not know the session any more: what was not confirmed may not have arrived.
    Forgotten,
    /// The peer has ended the session, with its application's code.
    Ended(u64),
}

/// The peer breaks the protocol: the connection is to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the peer of the session sent {0}")]
pub struct ProtocolError(pub &'static str);

/// Why a message is not taken for sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SendError {
    /// The peer has not taken what was sent before.
    #[error("too much is unconfirmed; wait until the peer has taken some")]
    Full,
    /// The message is longer than everything that may be unconfirmed.
    #[error("the message is longer than Limits::unconfirmed_bytes; send it in pieces")]
    TooLong,
    /// The channel was finished, or is not there.
    #[error("the channel has ended")]
    Ended,
    /// The session is over.
    #[error("the session is over")]
    Over,
}

/// Why a channel cannot be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum OpenError {
    /// [`CHANNELS_MAX`] channels of this end exist.
    #[error("64 channels are open; finish one on both sides first")]
    TooMany,
    /// The label is longer than [`LABEL_MAX`].
    #[error("a label has at most 64 bytes")]
    LabelTooLong,
    /// The session is over.
    #[error("the session is over")]
    Over,
}

/// One end of a session.
#[derive(Debug)]
pub struct Session {
    side: Side,
    limits: Limits,
    /// Absent until the server has granted the session.
    credentials: Option<Credentials>,
    grace: Duration,
    channels: BTreeMap<ChannelId, Channel>,
    /// Numbers of the next channels: own, and the peer's.
    next: [u64; 2],
    link: Link,
    events: VecDeque<Event>,
    /// What is to be stored; absent where nothing is.
    journal: Option<VecDeque<Change>>,
    end: Option<Event>,
}

impl Session {
    /// The client's end of a session that is still to be granted. With `is_stored` each change is to
    /// be stored before anybody hears of it: see [`poll_change`](Self::poll_change).
    #[must_use]
    pub fn client(limits: Limits, is_stored: bool) -> Self {
        Self::new(Side::Client, limits, is_stored)
    }

    /// The server's end of a session; a [`Grant`] gives it its name. `is_stored` as for a client.
    #[must_use]
    pub fn server(limits: Limits, is_stored: bool) -> Self {
        Self::new(Side::Server, limits, is_stored)
    }

    fn new(side: Side, limits: Limits, is_stored: bool) -> Self {
        let own = if side == Side::Client { 0 } else { 1 };
        Self {
            side,
            limits,
            credentials: None,
            grace: Duration::ZERO,
            channels: BTreeMap::new(),
            next: [own, 1 - own],
            link: Link::default(),
            events: VecDeque::new(),
            journal: is_stored.then(VecDeque::new),
            end: None,
        }
    }

    /// The session's name: zero until it is granted.
    #[must_use]
    pub fn id(&self) -> [u8; GRANT_LEN] {
        self.credentials.map_or([0; GRANT_LEN], |credentials| credentials.id)
    }

    /// How long the server keeps the session after its connection is lost. Zero until it is granted.
    #[must_use]
    pub fn grace(&self) -> Duration {
        self.grace
    }

    /// How much this end keeps.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The longest message that is taken, in bytes.
    #[must_use]
    pub fn longest(&self) -> usize {
        self.limits.unconfirmed_bytes
    }

    /// Why the session is over: [`Event::Forgotten`] or [`Event::Ended`].
    #[must_use]
    pub fn end(&self) -> Option<&Event> {
        self.end.as_ref()
    }

    /// A connection is there and both ends have agreed where to go on.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.link.is_running()
    }

    /// Opens a channel. The peer hears of it as soon as a connection allows.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(&mut self, label: &str) -> Result<ChannelId, OpenError> {
        if self.end.is_some() {
            return Err(OpenError::Over);
        }
        if label.len() > LABEL_MAX {
            return Err(OpenError::LabelTooLong);
        }
        if self.channels.keys().filter(|id| self.is_own(**id)).count() >= CHANNELS_MAX {
            return Err(OpenError::TooMany);
        }
        let id = ChannelId(self.next[0]);
        self.next[0] += 2;
        self.channels.insert(id, Channel::new(label.to_owned(), false));
        if self.journal.is_none() {
            self.on_opened_stored(id, label);
        }
        self.note(Change::Opened { channel: id, label: label.to_owned() });
        Ok(id)
    }

    /// Channels that are open, with their labels; the client's own first that has the label is what a
    /// program looks for that was started again.
    pub fn channels(&self) -> impl Iterator<Item = (ChannelId, &str)> {
        self.channels.iter().map(|(id, channel)| (*id, channel.label.as_str()))
    }

    /// True of channels that this end has opened.
    #[must_use]
    pub fn is_own(&self, channel: ChannelId) -> bool {
        channel.0 % 2 == u64::from(self.side == Side::Server)
    }

    /// Takes a message for sending. Answers its number in the channel.
    ///
    /// # Errors
    /// [`SendError`]; the message is not taken.
    pub fn send(&mut self, channel: ChannelId, payload: Bytes) -> Result<u64, SendError> {
        if payload.len() > self.limits.unconfirmed_bytes {
            return Err(SendError::TooLong);
        }
        self.push(channel, Item::Message(payload))
    }

    /// Says that no message follows.
    ///
    /// # Errors
    /// [`SendError::Ended`] and [`SendError::Over`].
    pub fn finish(&mut self, channel: ChannelId) -> Result<(), SendError> {
        self.push(channel, Item::End).map(drop)
    }

    fn push(&mut self, id: ChannelId, item: Item) -> Result<u64, SendError> {
        if self.end.is_some() {
            return Err(SendError::Over);
        }
        let is_stored = self.journal.is_some();
        let limits = self.limits;
        let channel = self.channels.get_mut(&id).ok_or(SendError::Ended)?;
        let outbox = &mut channel.outbox;
        if outbox.is_finished() {
            return Err(SendError::Ended);
        }
        if let Item::Message(payload) = &item
            && !room(outbox, &limits, payload.len())
        {
            return Err(SendError::Full);
        }
        let number = outbox.push(item.clone(), is_stored);
        self.note(Change::Sent { channel: id, number, item });
        Ok(number)
    }

    /// Messages that the peer's application has not taken.
    #[must_use]
    pub fn unconfirmed(&self, channel: ChannelId) -> Vec<(u64, Item)> {
        let items = self.channels.get(&channel).map(|channel| channel.outbox.unconfirmed());
        items.into_iter().flatten().map(|(number, item)| (number, item.clone())).collect()
    }

    /// Whether the peer's application has taken everything that was sent.
    #[must_use]
    pub fn is_confirmed(&self, channel: ChannelId) -> bool {
        self.channels.get(&channel).is_none_or(|channel| channel.outbox.len() == 0)
    }

    /// What comes next in a channel, with its number. What it gave before counts as taken: the peer
    /// forgets it, and so does a store.
    pub fn recv(&mut self, id: ChannelId) -> Option<(u64, Item)> {
        self.confirm(id);
        let channel = self.channels.get_mut(&id)?;
        channel.inbox.pop()
    }

    /// The application has done with what it was given.
    pub fn confirm(&mut self, id: ChannelId) {
        let is_stored = self.journal.is_some();
        let Some(channel) = self.channels.get_mut(&id) else { return };
        if let Some(count) = channel.inbox.confirm(is_stored) {
            let is_end = channel.inbox.is_exhausted();
            self.note(Change::Taken { channel: id, count, is_end });
        }
    }

    /// True when nothing more will come in a channel, ever.
    #[must_use]
    pub fn is_exhausted(&self, channel: ChannelId) -> bool {
        self.channels.get(&channel).is_none_or(|channel| channel.inbox.is_exhausted())
    }

    /// Whether the channel takes more from its stream now; if not, the transport holds it back.
    #[must_use]
    pub fn wants(&self, channel: ChannelId) -> bool {
        let limits = &self.limits;
        self.channels.get(&channel).is_some_and(|channel| {
            let inbox = &channel.inbox;
            inbox.bytes() < limits.waiting_bytes && inbox.len() < limits.unconfirmed_messages
        })
    }

    /// Ends the session for both sides, with a code of the application's. What is unconfirmed is lost.
    pub fn end_with(&mut self, code: u64) {
        if self.end.is_none() {
            self.link.end(code);
            self.finish_session(Event::Ended(code));
        }
    }

    /// The client did not come back in time.
    pub fn forget(&mut self) {
        self.detach();
        self.finish_session(Event::Forgotten);
    }

    fn finish_session(&mut self, why: Event) {
        if self.end.is_none() {
            self.end = Some(why.clone());
            self.events.push_back(why);
            self.note(Change::Over);
        }
    }

    /// News for the application.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn note(&mut self, change: Change) {
        if let Some(journal) = &mut self.journal {
            journal.push_back(change);
        }
    }
}

fn room(outbox: &Outbox, limits: &Limits, len: usize) -> bool {
    outbox.len() < limits.unconfirmed_messages
        && (outbox.len() == 0 || outbox.bytes().saturating_add(len) <= limits.unconfirmed_bytes)
}
