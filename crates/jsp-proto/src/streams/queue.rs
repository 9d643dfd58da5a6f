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

    pub(super) fn front(&self) -> Option<&T> {
        match self {
            Self::One(item) => item.as_ref(),
            Self::Many(items) => items.front(),
        }
    }

    pub(super) fn get(&self, index: usize) -> Option<&T> {
        match self {
            Self::One(item) => item.as_ref().filter(|_| index == 0),
            Self::Many(items) => items.get(index),
        }
    }

    pub(super) fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        match self {
            Self::One(item) => item.as_mut().filter(|_| index == 0),
            Self::Many(items) => items.get_mut(index),
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

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        let (one, many) = match self {
            Self::One(item) => (item.as_ref(), None),
            Self::Many(items) => (None, Some(items)),
        };
        one.into_iter().chain(many.into_iter().flatten())
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
            assert_eq!(queue.iter().copied().collect::<Vec<_>>(), (due..next).collect::<Vec<_>>());
            assert_eq!(queue.len() as u64, next - due);
            for (index, item) in (due..next).enumerate() {
                assert_eq!(queue.get(index), Some(&item));
                assert_eq!(queue.get_mut(index).copied(), Some(item));
            }
            assert_eq!(queue.get(queue.len()), None);
            for _ in 0..pops {
                assert_eq!(queue.front(), Some(&due));
                assert_eq!(queue.pop_front(), Some(due));
                due += 1;
            }
            assert_eq!(queue.is_empty(), due == next);
        }
        assert_eq!(queue.pop_front(), None);
    }
}
