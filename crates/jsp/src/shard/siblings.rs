//! Several shards of one endpoint: what the system, or a carrier, has brought to one of them and is for another is
//! handed over.
//!
//! Where the system brings datagrams by their ids ([`crate::link`]), little is: what came before it could be told to, and
//! what came by carriers, which the first shard listens to.

use std::cell::Cell;
use std::collections::VecDeque;
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

use crate::carrier::table::News;
use crate::link::Datagram;

/// Datagrams that wait for a shard at most; what comes beyond is lost, as in a full socket.
const WAITING_MAX: usize = 1024;

/// First packets of clients find room only as long as fewer wait: a flood of them leaves some to connections.
// spec: CON-80
const FIRST_MAX: usize = WAITING_MAX / 4;

/// A shard's place among those of its endpoint.
pub(crate) struct Siblings {
    doors: Arc<[Door]>,
    own: usize,
}

/// Where a shard finds what others have for it.
#[derive(Default)]
struct Door {
    waiting: Mutex<Waiting>,
    /// The shard's driver has nothing left to do, ever.
    is_done: AtomicBool,
}

#[derive(Default)]
struct Waiting {
    datagrams: VecDeque<Datagram>,
    /// Of carriers, in order.
    news: VecDeque<News>,
    waker: Option<Waker>,
    /// The shard's driver has ended: nobody takes anything from here any more.
    is_left: bool,
}

impl Door {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was put behind it is looked at.
    fn shut(mut waiting: MutexGuard<'_, Waiting>) {
        let waker = waiting.waker.take();
        drop(waiting);
        waker.into_iter().for_each(Waker::wake);
    }
}

/// Keeps one door open for as long as all is for it: what has come is mostly of few connections.
struct Courier<'d> {
    doors: &'d [Door],
    at: Option<(usize, MutexGuard<'d, Waiting>)>,
}

impl Courier<'_> {
    fn put(&mut self, index: usize, put: impl FnOnce(&mut Waiting)) {
        if self.at.as_ref().is_none_or(|(at, _)| *at != index) {
            self.leave();
            self.at = self.doors.get(index).map(|door| (index, door.lock()));
        }
        if let Some((_, waiting)) = &mut self.at
            && !waiting.is_left
        {
            put(waiting);
        }
    }

    fn leave(&mut self) {
        self.at.take().into_iter().for_each(|(_, waiting)| Door::shut(waiting));
    }
}

impl Drop for Courier<'_> {
    fn drop(&mut self) {
        self.leave();
    }
}

impl Waiting {
    fn has_room(&self, datagram: &Datagram) -> bool {
        let is_first = datagram.payload.first().is_some_and(|first| first & 0xe0 == 0xc0);
        let most = if is_first { FIRST_MAX } else { WAITING_MAX };
        self.datagrams.len() + self.news.len() < most
    }
}

impl Siblings {
    /// The places of `count` shards.
    pub(crate) fn places(count: usize) -> impl Iterator<Item = Self> {
        let doors: Arc<[Door]> = (0..count).map(|_| Door::default()).collect();
        (0..count).map(move |own| Self { doors: Arc::clone(&doors), own })
    }

    /// Carriers are for all; one shard listens to them.
    pub(crate) fn hears_carriers(&self) -> bool {
        self.own == 0
    }

    // spec: CON-120
    fn target(&self, datagram: &Datagram) -> usize {
        jsp_proto::Shard::of(&datagram.payload, self.doors.len())
    }

    /// Hands over what is for other shards, and takes what they have for this one; the task of `cx` is woken when
    /// they have more.
    pub(super) fn trade(&self, cx: &Context<'_>, inbox: &mut Vec<Datagram>, news: &mut Vec<News>) {
        if self.doors.len() == 1 {
            return;
        }
        self.hand_over(inbox, news);
        let Some(door) = self.doors.get(self.own) else { return };
        let mut waiting = door.lock();
        inbox.extend(waiting.datagrams.drain(..));
        news.extend(waiting.news.drain(..));
        waiting.waker.get_or_insert_with(|| cx.waker().clone()).clone_from(cx.waker());
    }

    /// What has come goes to its shard, and what carriers tell of themselves to all, in this order.
    fn hand_over(&self, inbox: &mut Vec<Datagram>, news: &mut Vec<News>) {
        let mut courier = Courier { doors: &self.doors, at: None };
        let target = Cell::new(self.own);
        let is_for_another = |datagram: &Datagram| {
            target.set(self.target(datagram));
            target.get() != self.own
        };
        for datagram in inbox.extract_if(.., |datagram| is_for_another(datagram)) {
            courier.put(target.get(), |waiting| {
                if waiting.has_room(&datagram) {
                    waiting.datagrams.push_back(datagram);
                }
            });
        }
        let others = || (0..self.doors.len()).filter(|index| *index != self.own);
        for told in mem::take(news) {
            match told {
                News::Arrived(datagram) if is_for_another(&datagram) => {
                    courier.put(target.get(), |waiting| {
                        if waiting.has_room(&datagram) {
                            waiting.news.push_back(News::Arrived(datagram));
                        }
                    });
                    continue;
                }
                News::Arrived(_) => {}
                News::Drained(id) => others()
                    .for_each(|at| courier.put(at, |it| it.news.push_back(News::Drained(id)))),
                News::Closed(id) => others()
                    .for_each(|at| courier.put(at, |it| it.news.push_back(News::Closed(id)))),
            }
            news.push(told);
        }
    }

    /// This shard's driver has ended, with its runtime or by an error of its link.
    pub(super) fn leave(&self) {
        if let Some(own) = self.doors.get(self.own) {
            *own.lock() = Waiting { is_left: true, ..Waiting::default() };
        }
        self.are_done();
    }

    /// This shard has nothing left to do. True when no other has, either; else its driver goes on, as what comes to
    /// it may be for them.
    pub(super) fn are_done(&self) -> bool {
        let Some(own) = self.doors.get(self.own) else { return true };
        let was_done = own.is_done.swap(true, Ordering::AcqRel);
        let all = self.doors.iter().all(|door| door.is_done.load(Ordering::Acquire));
        if all && !was_done {
            self.doors.iter().for_each(|door| Door::shut(door.lock()));
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::Route;

    /// A short packet to an id that begins with this byte.
    fn datagram(first: u8) -> Datagram {
        let route = Route::udp("127.0.0.1:1".parse().unwrap());
        Datagram { route, ecn: None, payload: [0x40, first, 0, 0, 0][..].into() }
    }

    fn firsts(inbox: &[Datagram]) -> Vec<u8> {
        inbox.iter().map(|datagram| datagram.payload[1]).collect()
    }

    #[test]
    // spec-test: CON-120, CON-80
    fn what_is_for_another_shard_is_handed_over() {
        let places: Vec<_> = Siblings::places(2).collect();
        let cx = Context::from_waker(Waker::noop());
        let (mut inbox, mut news) = ([4, 5, 6, 7].map(datagram).to_vec(), Vec::new());
        places[0].trade(&cx, &mut inbox, &mut news);
        assert_eq!(firsts(&inbox), [4, 6]);
        inbox.clear();
        places[1].trade(&cx, &mut inbox, &mut news);
        assert_eq!(firsts(&inbox), [5, 7]);
        inbox.extend((0..=255).cycle().take(4 * WAITING_MAX).map(datagram));
        places[1].trade(&cx, &mut inbox, &mut news);
        inbox.clear();
        places[0].trade(&cx, &mut inbox, &mut news);
        assert_eq!(inbox.len(), WAITING_MAX, "memory has a bound");
        let hello = || {
            let mut hello = datagram(0);
            hello.payload = [0xc0, 0, 0, 0, 1, 8, 2][..].into();
            hello
        };
        inbox = (0..WAITING_MAX).map(|_| hello()).chain([datagram(2)]).collect();
        places[1].trade(&cx, &mut inbox, &mut news);
        inbox.clear();
        places[0].trade(&cx, &mut inbox, &mut news);
        assert_eq!(inbox.len(), FIRST_MAX + 1);
        assert_eq!(inbox.last().map(|last| last.payload.len()), Some(5), "behind a flood");
    }

    #[test]
    // spec-test: CON-120
    fn carriers_bring_a_shard_its_own_and_all_what_they_tell_of_themselves() {
        let places: Vec<_> = Siblings::places(3).collect();
        let cx = Context::from_waker(Waker::noop());
        let mut news = vec![News::Drained(1), News::Arrived(datagram(1)), News::Closed(1)];
        places[0].trade(&cx, &mut Vec::new(), &mut news);
        assert!(matches!(news[..], [News::Drained(1), News::Closed(1)]));
        for (place, arrives) in places[1..].iter().zip([true, false]) {
            let mut news = Vec::new();
            place.trade(&cx, &mut Vec::new(), &mut news);
            match &news[..] {
                [News::Drained(1), News::Arrived(_), News::Closed(1)] => assert!(arrives),
                [News::Drained(1), News::Closed(1)] => assert!(!arrives),
                _ => panic!("in order, and nothing else"),
            }
        }
    }

    #[test]
    fn nothing_is_kept_for_a_shard_whose_driver_has_ended() {
        let places: Vec<_> = Siblings::places(3).collect();
        let cx = Context::from_waker(Waker::noop());
        let waiting = |index: usize| {
            let door = places[0].doors[index].lock();
            door.datagrams.len() + door.news.len()
        };
        let bring = || {
            let mut news = vec![News::Drained(1), News::Arrived(datagram(1)), News::Closed(1)];
            places[0].trade(&cx, &mut vec![datagram(1), datagram(2)], &mut news);
            [1, 2].map(waiting)
        };
        assert_eq!(bring(), [4, 3]);
        places[1].leave();
        assert_eq!(bring(), [0, 6]);
    }

    #[test]
    fn drivers_end_together() {
        let places: Vec<_> = Siblings::places(3).collect();
        assert!(!places[2].are_done() && !places[0].are_done() && !places[2].are_done());
        assert!(places[1].are_done() && places[0].are_done() && places[2].are_done());
        assert!(Siblings::places(1).all(|alone| alone.are_done()));
    }
}
