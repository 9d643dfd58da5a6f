//! A queue that often holds one item, and then keeps it in place.

use std::collections::VecDeque;

/// The first item alone stands in place; the memory of a ring is asked for with the second. Many a stream carries
/// one message.
#[derive(Debug)]
pub(super) enum Queue<T> {
    One(Option<T>),
    Many(VecDeque<T>),
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self::One(None)
    }
}

impl<T> Queue<T> {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::One(item) => usize::from(item.is_some()),
            Self::Many(items) => items.len(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::One(item) => item.is_none(),
            Self::Many(items) => items.is_empty(),
        }
    }

    pub(super) fn push_back(&mut self, item: T) {
        match self {
            Self::One(place @ None) => *place = Some(item),
            Self::One(place) => {
                *self = Self::Many(place.take().into_iter().chain([item]).collect())
            }
            Self::Many(items) => items.push_back(item),
        }
    }

    pub(super) fn pop_front(&mut self) -> Option<T> {
        match self {
            Self::One(item) => item.take(),
            Self::Many(items) => items.pop_front(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_leave_in_their_order_whether_one_or_many() {
        let (mut queue, mut next, mut due) = (Queue::default(), 0, 0);
        for (pushes, pops) in [(1, 1), (1, 1), (3, 1), (0, 2), (1, 1), (5, 5)] {
            for _ in 0..pushes {
                queue.push_back(next);
                next += 1;
            }
            assert_eq!(queue.len() as u64, next - due);
            for _ in 0..pops {
                assert_eq!(queue.pop_front(), Some(due));
                due += 1;
            }
            assert_eq!(queue.is_empty(), due == next);
        }
        assert_eq!(queue.pop_front(), None);
    }
}
