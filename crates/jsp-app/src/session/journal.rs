//! What a store keeps, so that a process that is started again goes on.

use core::time::Duration;
use std::collections::VecDeque;

use super::channel::{Channel, Inbox, Outbox};
use super::record::{Credentials, Token};
use super::{ChannelId, GRANT_LEN, Item, Limits, Session, Side};

/// A step of a session that is to be stored. Steps are stored in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The session's name and its token, which replaces the one of before.
    Granted {
        /// Which session.
        id: [u8; GRANT_LEN],
        /// What shows who its client is.
        token: Token,
        /// How long the server keeps the session after its connection is lost.
        grace: Duration,
        /// Servers: the token of before, which is good until [`Change::Kept`].
        before: Option<Token>,
        /// Servers: the client's proved identity.
        owner: Option<[u8; 32]>,
    },
    /// Servers: the client has stored its token; the one of before is void.
    Kept,
    /// A channel is there.
    Opened {
        /// Which.
        channel: ChannelId,
        /// What it is for.
        label: String,
    },
    /// A message, or the end, is to be sent.
    Sent {
        /// Where.
        channel: ChannelId,
        /// Its number there.
        number: u64,
        /// What.
        item: Item,
    },
    /// The peer has taken what is below `count`: it can be forgotten.
    Confirmed {
        /// Where.
        channel: ChannelId,
        /// How many.
        count: u64,
    },
    /// This end's application has taken what is below `count`.
    Taken {
        /// Where.
        channel: ChannelId,
        /// How many.
        count: u64,
        /// The last of them is the end.
        is_end: bool,
    },
    /// A channel is over: all of it can be forgotten, but that its number was used.
    Closed {
        /// Which.
        channel: ChannelId,
    },
    /// The session is over: everything can be forgotten.
    Over,
}

/// One end of a session as a store has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Saved {
    /// The session's name and the last token, once the server has granted them.
    pub granted: Option<([u8; GRANT_LEN], Token)>,
    /// How long the server keeps the session.
    pub grace: Duration,
    /// Servers: the token of before, while it is good.
    pub before: Option<Token>,
    /// Servers: the client's proved identity.
    pub owner: Option<[u8; 32]>,
    /// The numbers that come after the highest that were used, of the client's channels and of the server's.
    pub next_channels: [u64; 2],
    /// Channels that are not closed.
    pub channels: Vec<SavedChannel>,
}

/// A channel as a store has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SavedChannel {
    /// Its name in the session.
    pub id: ChannelId,
    /// What it is for.
    pub label: String,
    /// The number of the first of `unconfirmed`.
    pub first: u64,
    /// What the peer has not taken.
    pub unconfirmed: Vec<Item>,
    /// The peer has taken the end of what this end sends.
    pub is_sent: bool,
    /// What this end has taken.
    pub taken: u64,
    /// The last of that was the end.
    pub is_received: bool,
}

impl Saved {
    /// What is stored after one more change: for stores that keep whole states, and as the
    /// definition of what the changes mean. [`Change::Over`] leaves nothing.
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::Granted { id, token, grace, before, owner } => {
                (self.granted, self.grace) = (Some((*id, *token)), *grace);
                (self.before, self.owner) = (*before, *owner);
            }
            Change::Kept => self.before = None,
            Change::Opened { channel, label } => {
                // A client's own channels are the even ones.
                let side = usize::from(channel.0 % 2 == 1);
                if let Some(next) = self.next_channels.get_mut(side) {
                    *next = channel.0 + 2;
                }
                let (id, label) = (*channel, label.clone());
                self.channels.push(SavedChannel { id, label, ..SavedChannel::default() });
            }
            Change::Sent { channel, item, .. } => {
                if let Some(channel) = self.channel(*channel) {
                    channel.unconfirmed.push(item.clone());
                }
            }
            Change::Confirmed { channel, count } => {
                if let Some(channel) = self.channel(*channel) {
                    let known = usize::try_from(count.saturating_sub(channel.first));
                    let gone = known.unwrap_or(usize::MAX).min(channel.unconfirmed.len());
                    channel.is_sent |=
                        channel.unconfirmed.drain(..gone).any(|item| item == Item::End);
                    channel.first += gone as u64;
                }
            }
            Change::Taken { channel, count, is_end } => {
                if let Some(channel) = self.channel(*channel) {
                    (channel.taken, channel.is_received) = (*count, *is_end);
                }
            }
            Change::Closed { channel } => self.channels.retain(|known| known.id != *channel),
            Change::Over => *self = Self::default(),
        }
    }

    fn channel(&mut self, id: ChannelId) -> Option<&mut SavedChannel> {
        self.channels.iter_mut().find(|channel| channel.id == id)
    }
}

impl Session {
    /// One end of a session as it was stored; it goes on with the next connection.
    #[must_use]
    pub fn restore(side: Side, limits: Limits, saved: Saved) -> Self {
        let mut session = Self::new(side, limits, true);
        let Saved { granted, grace, mut next_channels, channels, .. } = saved;
        if side == Side::Server {
            next_channels.reverse();
        }
        session.credentials = granted.map(|(id, token)| Credentials { id, token });
        session.grace = grace;
        for (next, saved) in session.next.iter_mut().zip(next_channels) {
            *next = saved.max(*next);
        }
        for saved in channels {
            let mut channel = Channel::new(saved.label, true);
            let unconfirmed = VecDeque::from(saved.unconfirmed);
            channel.outbox = Outbox::restored(saved.first, unconfirmed, saved.is_sent);
            channel.inbox = Inbox::restored(saved.taken, saved.is_received);
            session.channels.insert(saved.id, channel);
        }
        session
    }

    /// The next change that is to be stored. Nothing that follows from a change goes out before
    /// [`on_stored`](Self::on_stored).
    pub fn poll_change(&mut self) -> Option<Change> {
        self.journal.as_mut()?.pop_front()
    }

    /// A change is in the store.
    pub fn on_stored(&mut self, change: &Change) {
        match change {
            Change::Sent { channel, number, .. } => {
                if let Some(channel) = self.channels.get_mut(channel) {
                    channel.outbox.on_stored(*number);
                }
            }
            Change::Taken { channel, count, .. } => {
                if let Some(channel) = self.channels.get_mut(channel) {
                    channel.inbox.on_stored(*count);
                }
                self.retire(*channel);
            }
            // One of before may be stored while the next is agreed upon.
            Change::Granted { token, .. } => {
                if self.credentials.is_some_and(|own| own.token == *token) {
                    self.on_credentials_kept();
                }
            }
            Change::Opened { channel, label } => self.on_opened_stored(*channel, label),
            Change::Confirmed { .. } | Change::Closed { .. } | Change::Kept | Change::Over => {}
        }
    }
}
