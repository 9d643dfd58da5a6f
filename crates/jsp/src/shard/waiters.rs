//! Tasks that wait for something, and the list of those to be woken once the lock is released.

use std::task::Waker;

/// The tasks that wait at one place. One waiter, the normal case, costs no allocation.
#[derive(Default)]
pub(crate) struct Waiters {
    first: Option<(u64, Waker)>,
    more: Vec<(u64, Waker)>,
    last_key: u64,
}

impl Waiters {
    /// Notes that the task of `waker` waits; `key` keeps the place between calls.
    pub(crate) fn register(&mut self, key: &mut Option<u64>, waker: &Waker) {
        let own = match *key {
            Some(own) => own,
            None => {
                self.last_key += 1;
                *key.insert(self.last_key)
            }
        };
        let mut entries = self.first.iter_mut().chain(&mut self.more);
        if let Some((_, known)) = entries.find(|(entry, _)| *entry == own) {
            known.clone_from(waker);
        } else if self.first.is_none() {
            self.first = Some((own, waker.clone()));
        } else {
            self.more.push((own, waker.clone()));
        }
    }

    /// Forgets a waiter that gave up or is served.
    pub(crate) fn remove(&mut self, key: u64) {
        if self.first.as_ref().is_some_and(|(entry, _)| *entry == key) {
            self.first = None;
        } else {
            self.more.retain(|(entry, _)| *entry != key);
        }
    }

    /// Hands all waiters over to be woken.
    pub(crate) fn wake(&mut self, wakes: &mut WakeList) {
        if let Some((_, waker)) = self.first.take() {
            wakes.push(waker);
        }
        for (_, waker) in self.more.drain(..) {
            wakes.push(waker);
        }
    }
}

/// A place where mostly nobody waits: it costs nothing until somebody does.
#[derive(Default)]
pub(crate) struct Seldom(Option<Box<Waiters>>);

impl Seldom {
    pub(crate) fn get(&mut self) -> &mut Waiters {
        self.0.get_or_insert_default()
    }

    /// Forgets a waiter that gave up or is served.
    pub(crate) fn remove(&mut self, key: u64) {
        if let Some(waiters) = &mut self.0 {
            waiters.remove(key);
        }
    }

    /// Hands all waiters over to be woken.
    pub(crate) fn wake(&mut self, wakes: &mut WakeList) {
        if let Some(waiters) = &mut self.0 {
            waiters.wake(wakes);
        }
    }

    /// The same, and nobody will wait here again: what was waited for has come for good.
    pub(crate) fn wake_for_good(&mut self, wakes: &mut WakeList) {
        self.wake(wakes);
        self.0 = None;
    }
}

/// Tasks to be woken; woken when it is dropped.
#[derive(Default)]
pub(crate) struct WakeList {
    first: Option<Waker>,
    more: Vec<Waker>,
}

impl WakeList {
    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    pub(crate) fn push(&mut self, waker: Waker) {
        match &self.first {
            None => self.first = Some(waker),
            Some(first) if first.will_wake(&waker) => {}
            Some(_) => self.more.push(waker),
        }
    }
}

impl Drop for WakeList {
    fn drop(&mut self) {
        // Others come after a first one only.
        if let Some(waker) = self.first.take() {
            waker.wake();
            for waker in self.more.drain(..) {
                waker.wake();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn each_waiter_is_woken_once_and_the_removed_one_not() {
        let counts: [Arc<Count>; 3] = Default::default();
        let mut waiters = Waiters::default();
        let mut keys = [None; 3];
        for (count, key) in counts.iter().zip(&mut keys) {
            waiters.register(key, &Waker::from(Arc::clone(count)));
            waiters.register(key, &Waker::from(Arc::clone(count)));
        }
        waiters.remove(keys[0].unwrap());
        let mut wakes = WakeList::default();
        waiters.wake(&mut wakes);
        waiters.wake(&mut wakes);
        drop(wakes);
        let woken = counts.map(|count| count.0.load(Ordering::Relaxed));
        assert_eq!(woken, [0, 1, 1]);
    }
}
