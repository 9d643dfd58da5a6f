//! Queues whose bound stands in their type: what a peer can make us keep has a number.

use std::collections::VecDeque;

/// A queue of at most `MAX` items. Whoever adds one says what a full queue does: refuse it, or
/// forget the oldest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Bounded<T, const MAX: usize> {
    items: VecDeque<T>,
}

impl<T, const MAX: usize> Default for Bounded<T, MAX> {
    fn default() -> Self {
        Self { items: VecDeque::new() }
    }
}

impl<T, const MAX: usize> Bounded<T, MAX> {
    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.items.len() >= MAX
    }

    /// Adds an item behind the others; false when there is no room, and the item is gone.
    pub(crate) fn push_if_room(&mut self, item: T) -> bool {
        let fits = !self.is_full();
        if fits {
            self.items.push_back(item);
        }
        fits
    }

    /// Adds an item behind the others; a full queue forgets its oldest.
    pub(crate) fn push_evicting(&mut self, item: T) {
        if self.is_full() {
            self.items.pop_front();
        }
        // A queue without room for one item keeps none.
        self.push_if_room(item);
    }

    pub(crate) fn pop_front(&mut self) -> Option<T> {
        self.items.pop_front()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.items.iter()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.items.iter_mut()
    }

    /// Takes the item at this place out; those behind it move up.
    pub(crate) fn remove(&mut self, place: usize) -> Option<T> {
        self.items.remove(place)
    }

    /// Forgets the items that `keep` refuses.
    pub(crate) fn retain(&mut self, keep: impl FnMut(&T) -> bool) {
        self.items.retain(keep);
    }

    /// All items, oldest first; the queue is empty then.
    pub(crate) fn take(&mut self) -> VecDeque<T> {
        core::mem::take(&mut self.items)
    }
}

impl<T: PartialEq, const MAX: usize> Bounded<T, MAX> {
    pub(crate) fn contains(&self, item: &T) -> bool {
        self.items.contains(item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_refuses_or_forgets_the_oldest() {
        let mut queue = Bounded::<u8, 3>::default();
        assert!((1..=3).all(|n| queue.push_if_room(n)));
        assert!(!queue.push_if_room(4));
        assert_eq!(queue.iter().copied().collect::<Vec<_>>(), [1, 2, 3]);
        queue.push_evicting(5);
        assert_eq!(queue.iter().copied().collect::<Vec<_>>(), [2, 3, 5]);
        assert_eq!(queue.remove(1), Some(3));
        assert_eq!(queue.take(), [2, 5]);
        let mut none = Bounded::<u8, 0>::default();
        none.push_evicting(1);
        assert!(none.is_empty() && none.is_full());
    }
}
