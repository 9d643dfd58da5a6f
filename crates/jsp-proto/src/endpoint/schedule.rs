//! Which connection needs attention, and when: queues of the dirty and the eventful, and a heap of
//! deadlines.

use core::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};

use jsp_wire::Instant;

use super::ConnectionHandle;
use crate::connection::Reason;

/// What is queued for one connection.
#[derive(Default)]
struct Entry {
    dirty: bool,
    eventful: bool,
    deadline: Option<(Instant, Reason)>,
}

/// Attention owed to connections. Idle ones cost nothing.
#[derive(Default)]
pub(super) struct Schedule {
    entries: HashMap<ConnectionHandle, Entry>,
    dirty: VecDeque<ConnectionHandle>,
    eventful: VecDeque<ConnectionHandle>,
    /// May hold deadlines that have changed since; the entry knows the true one.
    deadlines: BinaryHeap<Reverse<(Instant, ConnectionHandle)>>,
}

impl Schedule {
    /// Something happened to the connection: it may have datagrams and events.
    pub(super) fn touch(&mut self, handle: ConnectionHandle) {
        let entry = self.entries.entry(handle).or_default();
        if !entry.dirty {
            entry.dirty = true;
            self.dirty.push_back(handle);
        }
        self.touch_events(handle);
    }

    /// It has events.
    pub(super) fn touch_events(&mut self, handle: ConnectionHandle) {
        let entry = self.entries.entry(handle).or_default();
        if !entry.eventful {
            entry.eventful = true;
            self.eventful.push_back(handle);
        }
    }

    pub(super) fn next_dirty(&self) -> Option<ConnectionHandle> {
        self.dirty.front().copied()
    }

    /// The front one has filled a batch: the others get their turn first.
    pub(super) fn rotate(&mut self, handle: ConnectionHandle) {
        if self.dirty.front() == Some(&handle) {
            self.dirty.rotate_left(1);
        }
    }

    /// The front one has nothing more to send until `deadline`.
    pub(super) fn clean(&mut self, handle: ConnectionHandle, deadline: Option<(Instant, Reason)>) {
        if self.dirty.front() == Some(&handle) {
            self.dirty.pop_front();
        }
        let Some(entry) = self.entries.get_mut(&handle) else { return };
        entry.dirty = false;
        let changed = entry.deadline.map(|(at, _)| at) != deadline.map(|(at, _)| at);
        entry.deadline = deadline;
        if let (true, Some((at, _))) = (changed, deadline) {
            self.deadlines.push(Reverse((at, handle)));
        }
    }

    pub(super) fn next_eventful(&self) -> Option<ConnectionHandle> {
        self.eventful.front().copied()
    }

    /// The front one has no more events.
    pub(super) fn quiet(&mut self, handle: ConnectionHandle) {
        if self.eventful.front() == Some(&handle) {
            self.eventful.pop_front();
        }
        if let Some(entry) = self.entries.get_mut(&handle) {
            entry.eventful = false;
        }
    }

    /// The connection does not exist any more.
    pub(super) fn forget(&mut self, handle: ConnectionHandle) {
        self.entries.remove(&handle);
        self.dirty.retain(|other| *other != handle);
        self.eventful.retain(|other| *other != handle);
    }

    /// A connection whose deadline has passed; its deadline is unset until it is clean again.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<ConnectionHandle> {
        let (at, handle) = self.next_deadline()?;
        if at > now {
            return None;
        }
        self.deadlines.pop();
        self.entries.get_mut(&handle)?.deadline = None;
        Some(handle)
    }

    /// The earliest deadline.
    pub(super) fn peek(&mut self) -> Option<(Instant, Reason)> {
        let (_, handle) = self.next_deadline()?;
        self.entries.get(&handle)?.deadline
    }

    /// The earliest true deadline; outdated ones are dropped on the way.
    fn next_deadline(&mut self) -> Option<(Instant, ConnectionHandle)> {
        while let Some(Reverse((at, handle))) = self.deadlines.peek().copied() {
            let true_one = self.entries.get(&handle).and_then(|entry| entry.deadline);
            if true_one.is_some_and(|(own, _)| own == at) {
                return Some((at, handle));
            }
            self.deadlines.pop();
        }
        None
    }
}
