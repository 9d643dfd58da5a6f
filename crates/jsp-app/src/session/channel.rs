//! One channel of a session: what was sent and not yet taken, and what has arrived.

use std::collections::VecDeque;

use bytes::Bytes;

use super::ProtocolError;
use super::record::Entry;

/// A channel: two queues and a name.
#[derive(Debug)]
pub(crate) struct Channel {
    pub(crate) label: String,
    pub(crate) outbox: Outbox,
    pub(crate) inbox: Inbox,
    /// The present link has a stream for it.
    pub(crate) is_bound: bool,
    /// The store has it, or there is none: the peer may hear of it.
    pub(crate) is_stored: bool,
}

/// Messages on their way: kept until the peer's application has taken them.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// Number of the front of `queue`.
    first: u64,
    queue: VecDeque<Item>,
    bytes: usize,
    /// Number of the next message for the present link.
    sent: u64,
    /// Messages below are in the store; all, where there is none.
    durable: u64,
    /// The end was confirmed.
    is_ended: bool,
}

/// What has a number in a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A message.
    Message(Bytes),
    /// Nothing follows.
    End,
}

impl Item {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Message(payload) => payload.len(),
            Self::End => 0,
        }
    }
}

/// Messages that have arrived.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    /// The application has done with the messages below.
    taken: u64,
    /// The application was given the messages below.
    handed: u64,
    queue: VecDeque<Bytes>,
    bytes: usize,
    /// What the peer was told of `taken`.
    told: u64,
    /// `taken` as the store has it.
    durable: u64,
    /// Bytes taken since the peer was told.
    untold_bytes: usize,
    /// Where the channel ends.
    end: Option<u64>,
}

impl Channel {
    pub(crate) fn new(label: String, is_stored: bool) -> Self {
        let (outbox, inbox) = (Outbox::default(), Inbox::default());
        Self { label, outbox, inbox, is_bound: false, is_stored }
    }

    /// What the peer is told of the channel by a new connection.
    // spec: SES-5
    pub(crate) fn tell(&mut self, channel: u64) -> Entry {
        let (label, next) = (self.label.clone(), self.inbox.next());
        Entry { channel, label, taken: self.inbox.tell(), next }
    }

    /// Both directions have ended, and each end knows that of what it has sent.
    pub(crate) fn is_over(&self) -> bool {
        self.outbox.is_over() && self.inbox.is_over()
    }
}

impl Outbox {
    /// As a store has it: what has the numbers from `first` on.
    pub(crate) fn restored(first: u64, queue: VecDeque<Item>, is_ended: bool) -> Self {
        let bytes = queue.iter().map(Item::len).sum();
        let durable = first + queue.len() as u64;
        Self { first, queue, bytes, sent: first, durable, is_ended }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    /// The number that comes next.
    fn end(&self) -> u64 {
        self.first + self.queue.len() as u64
    }

    /// Nothing may follow.
    pub(crate) fn is_finished(&self) -> bool {
        self.is_ended || self.queue.back() == Some(&Item::End)
    }

    /// The peer's application knows of the end.
    pub(crate) fn is_over(&self) -> bool {
        self.is_ended
    }

    /// Nothing was ever confirmed: the peer may not know of the channel.
    pub(crate) fn is_untouched(&self) -> bool {
        self.first == 0
    }

    /// What the peer's application has not taken, with its numbers.
    pub(crate) fn unconfirmed(&self) -> impl Iterator<Item = (u64, &Item)> {
        (self.first..).zip(&self.queue)
    }

    pub(crate) fn push(&mut self, item: Item, is_stored: bool) -> u64 {
        let number = self.end();
        self.bytes += item.len();
        self.queue.push_back(item);
        if !is_stored {
            self.durable = self.end();
        }
        number
    }

    pub(crate) fn on_stored(&mut self, number: u64) {
        self.durable = self.durable.max(number.saturating_add(1)).min(self.end());
    }

    /// What is next for the link.
    pub(crate) fn next(&mut self) -> Option<Item> {
        if self.sent >= self.durable {
            return None;
        }
        let at = usize::try_from(self.sent.checked_sub(self.first)?).ok()?;
        let item = self.queue.get(at)?.clone();
        self.sent += 1;
        Some(item)
    }

    /// The peer's application has taken what is below `count`. Answers how many messages that frees.
    // spec: SES-8
    pub(crate) fn on_taken(&mut self, count: u64) -> Result<usize, ProtocolError> {
        if count > self.sent {
            return Err(ProtocolError("word of messages that were not sent"));
        }
        let mut freed = 0;
        while self.first < count
            && let Some(item) = self.queue.pop_front()
        {
            self.bytes = self.bytes.saturating_sub(item.len());
            self.is_ended |= item == Item::End;
            self.first += 1;
            freed += 1;
        }
        Ok(freed)
    }

    /// A new link, on which the peer wants `next` first and has taken what is below `taken`.
    // spec: SES-6
    pub(crate) fn resume(&mut self, taken: u64, next: u64) -> Result<usize, ProtocolError> {
        let known = self.first..=self.end();
        if !known.contains(&next) || taken > next {
            return Err(ProtocolError("a wish for messages that are not here"));
        }
        self.sent = next;
        self.on_taken(taken)
    }
}

impl Inbox {
    pub(crate) fn restored(taken: u64, is_end: bool) -> Self {
        let end = taken.checked_sub(1).filter(|_| is_end);
        Self { taken, handed: taken, told: taken, durable: taken, end, ..Self::default() }
    }

    /// The number of the message that is wanted next.
    fn next(&self) -> u64 {
        self.handed + self.queue.len() as u64
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    /// The peer was told that its end is known.
    pub(crate) fn is_over(&self) -> bool {
        self.end.is_some_and(|end| self.told > end)
    }

    pub(crate) fn push(&mut self, payload: Bytes) -> Result<(), ProtocolError> {
        if self.end.is_some_and(|end| self.next() >= end) {
            return Err(ProtocolError("a message behind the end of its channel"));
        }
        self.bytes += payload.len();
        self.queue.push_back(payload);
        Ok(())
    }

    /// The channel's stream has ended behind what has arrived.
    // spec: SES-9
    pub(crate) fn on_end(&mut self) -> Result<(), ProtocolError> {
        let end = self.end.unwrap_or(self.next());
        self.end = Some(end);
        // The end counts as an item itself, once it is handed out.
        if self.next() == end || self.is_exhausted() {
            Ok(())
        } else {
            Err(ProtocolError("an end where messages are"))
        }
    }

    /// What comes next, and its number. What was handed out before counts as taken.
    pub(crate) fn pop(&mut self) -> Option<(u64, Item)> {
        let item = match self.queue.pop_front() {
            Some(payload) => Item::Message(payload),
            None if self.end == Some(self.handed) => Item::End,
            None => return None,
        };
        self.bytes = self.bytes.saturating_sub(item.len());
        self.untold_bytes = self.untold_bytes.saturating_add(item.len());
        self.handed += 1;
        Some((self.handed - 1, item))
    }

    /// The end was handed out.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.end.is_some_and(|end| self.handed > end)
    }

    /// The application has done with everything that it was given. Answers the new count, if it is
    /// new.
    pub(crate) fn confirm(&mut self, is_stored: bool) -> Option<u64> {
        let is_new = self.taken < self.handed;
        self.taken = self.handed;
        if !is_stored {
            self.durable = self.taken;
        }
        is_new.then_some(self.taken)
    }

    pub(crate) fn on_stored(&mut self, count: u64) {
        self.durable = self.durable.max(count).min(self.taken);
    }

    pub(crate) fn is_untold(&self) -> bool {
        self.told < self.durable
    }

    /// The peer waits for room, or for the end.
    pub(crate) fn is_urgent(&self, messages: u64, bytes: usize) -> bool {
        self.is_untold()
            && (self.durable - self.told >= messages
                || self.untold_bytes >= bytes
                || self.end.is_some_and(|end| self.durable > end))
    }

    /// What the peer is told now.
    pub(crate) fn tell(&mut self) -> u64 {
        (self.told, self.untold_bytes) = (self.durable, 0);
        self.told
    }
}
