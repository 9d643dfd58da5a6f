//! Which connection needs attention, and when: queues of the dirty and the eventful, and a heap of
//! deadlines.

use core::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use jsp_wire::Instant;

use super::handle::{ByHandle, ConnectionHandle};
use crate::connection::Reason;

/// Outdated deadlines that are not worth a tidying.
const OUTDATED_MIN: usize = 64;

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
    entries: ByHandle<Entry>,
    dirty: VecDeque<ConnectionHandle>,
    /// Stands in both queues: it was touched last, and nobody has looked at it since. Datagrams come in rows.
    touched: Option<ConnectionHandle>,
    eventful: VecDeque<ConnectionHandle>,
    /// May hold deadlines that have changed since; the entry knows the true one.
    deadlines: BinaryHeap<Reverse<(Instant, ConnectionHandle)>>,
}

impl Schedule {
    /// Something happened to the connection: it may have datagrams and events.
    pub(super) fn touch(&mut self, handle: ConnectionHandle) {
        if self.touched == Some(handle) {
            return;
        }
        self.touched = Some(handle);
        let entry = self.entries.entry(handle).or_default();
        if !entry.dirty {
            entry.dirty = true;
            self.dirty.push_back(handle);
        }
        if !entry.eventful {
            entry.eventful = true;
            self.eventful.push_back(handle);
        }
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
        self.touched = None;
        if self.dirty.front() == Some(&handle) {
            self.dirty.pop_front();
        }
        let Some(entry) = self.entries.get_mut(&handle) else { return };
        entry.dirty = false;
        let changed = entry.deadline.map(|(at, _)| at) != deadline.map(|(at, _)| at);
        entry.deadline = deadline;
        if let (true, Some((at, _))) = (changed, deadline) {
            self.deadlines.push(Reverse((at, handle)));
            self.compact();
        }
    }

    /// Drops outdated deadlines once they outnumber the true ones: a deadline that moves with each
    /// packet must not leave one behind for each packet.
    fn compact(&mut self) {
        if self.deadlines.len() <= OUTDATED_MIN.saturating_add(self.entries.len().saturating_mul(4))
        {
            return;
        }
        let true_ones = self
            .entries
            .iter()
            .filter_map(|(handle, entry)| entry.deadline.map(|(at, _)| Reverse((at, *handle))));
        self.deadlines.clear();
        self.deadlines.extend(true_ones);
    }

    pub(super) fn next_eventful(&self) -> Option<ConnectionHandle> {
        self.eventful.front().copied()
    }

    /// The front one has no more events.
    pub(super) fn quiet(&mut self, handle: ConnectionHandle) {
        self.touched = None;
        if self.eventful.front() == Some(&handle) {
            self.eventful.pop_front();
        }
        if let Some(entry) = self.entries.get_mut(&handle) {
            entry.eventful = false;
        }
    }

    /// The connection does not exist any more.
    pub(super) fn forget(&mut self, handle: ConnectionHandle) {
        self.touched = None;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_was_looked_at_is_queued_again_when_it_is_touched() {
        let mut schedule = Schedule::default();
        let [a, b] = [0, 1].map(ConnectionHandle::new);
        schedule.touch(a);
        schedule.touch(a);
        schedule.quiet(a);
        schedule.touch(a);
        assert_eq!(schedule.next_eventful(), Some(a));
        schedule.clean(a, None);
        assert_eq!(schedule.next_dirty(), None);
        schedule.touch(a);
        schedule.touch(b);
        schedule.forget(b);
        schedule.touch(b);
        schedule.clean(a, None);
        assert_eq!(schedule.next_dirty(), Some(b));
    }

    #[test]
    fn moving_deadlines_leave_no_heap_behind() {
        let mut schedule = Schedule::default();
        let handles: Vec<_> = (0..3).map(ConnectionHandle::new).collect();
        for step in 0..100_000u64 {
            let handle = handles[(step % 3) as usize];
            schedule.touch(handle);
            // A deadline that moves ahead with each packet.
            let at = Instant::from_nanos(1_000_000_000 + step);
            while schedule.next_dirty() == Some(handle) {
                schedule.clean(handle, Some((at, Reason::Lifecycle)));
            }
        }
        assert!(schedule.deadlines.len() <= 128, "{}", schedule.deadlines.len());
        let earliest = Instant::from_nanos(1_000_000_000 + 99_997);
        assert_eq!(schedule.peek(), Some((earliest, Reason::Lifecycle)));
        let due: Vec<_> =
            core::iter::from_fn(|| schedule.pop_due(Instant::from_nanos(2_000_000_000))).collect();
        assert_eq!(due, [handles[1], handles[2], handles[0]]);
    }
}
