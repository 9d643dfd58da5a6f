//! What waits for its turn: one queue, or two that are coupled, as DualPI2 has them (RFC 9332, appendix A).

use std::collections::VecDeque;
use std::time::Duration;

use jsp_proto::Ecn;
use jsp_wire::Instant;

use super::{Datagram, Queue};
use crate::random::Random;

/// A packet of the short queue that has waited so long is marked, unless it is the only one.
const STEP: Duration = Duration::from_millis(1);
/// How long packets of the long queue should wait.
const TARGET: Duration = Duration::from_millis(15);
/// How often the controller of the long queue looks, and how much it changes its mind for each second that
/// packets wait more than they should, or more than before.
const UPDATE: Duration = Duration::from_millis(16);
const INTEGRAL: f64 = 0.16;
const PROPORTIONAL: f64 = 3.2;
/// A marked share of the short queue, for the root of the long one's.
const COUPLING: f64 = 2.0;
/// So many packets of the short queue go before one of the long one that waits.
const TURNS: u32 = 15;

/// A packet whose turn has come.
pub(super) enum Turn {
    Sent(Datagram),
    Dropped(Datagram),
}

/// Packets that wait.
pub(super) struct Lanes {
    long: VecDeque<Datagram>,
    short: VecDeque<Datagram>,
    /// Packets of the short queue that went while one of the long one waited.
    turns: u32,
    pi: Option<Controller>,
}

impl Lanes {
    pub(super) fn new(queue: &Queue) -> Self {
        let pi = matches!(queue, Queue::DualPi2 { .. }).then(Controller::default);
        Self { long: VecDeque::new(), short: VecDeque::new(), turns: 0, pi }
    }

    pub(super) fn len(&self) -> usize {
        self.long.len() + self.short.len()
    }

    pub(super) fn push(&mut self, datagram: Datagram) {
        let is_short = self.pi.is_some() && matches!(datagram.ecn, Some(Ecn::Ect1 | Ecn::Ce));
        if is_short { self.short.push_back(datagram) } else { self.long.push_back(datagram) }
    }

    /// The packet that goes next, with its mark.
    pub(super) fn pop(&mut self, now: Instant, random: &mut Random) -> Option<Turn> {
        let Some(pi) = &mut self.pi else { return self.long.pop_front().map(Turn::Sent) };
        pi.look(now, self.long.front().map_or(Duration::ZERO, |first| now.since(first.sent)));
        let short_waits = !self.short.is_empty();
        if short_waits && (self.long.is_empty() || self.turns < TURNS) {
            let mut datagram = self.short.pop_front()?;
            self.turns = if self.long.is_empty() { 0 } else { self.turns + 1 };
            let is_late = now.since(datagram.sent) > STEP && !self.short.is_empty();
            if is_late || random.chance((pi.root * COUPLING).min(1.0)) {
                datagram.ecn = Some(Ecn::Ce);
            }
            return Some(Turn::Sent(datagram));
        }
        self.turns = 0;
        let mut datagram = self.long.pop_front()?;
        if !random.chance(pi.root * pi.root) {
            return Some(Turn::Sent(datagram));
        }
        if datagram.ecn.is_none() {
            return Some(Turn::Dropped(datagram));
        }
        datagram.ecn = Some(Ecn::Ce);
        Some(Turn::Sent(datagram))
    }
}

/// The controller of the long queue.
#[derive(Default)]
struct Controller {
    /// Root of the share that is marked.
    root: f64,
    before: Duration,
    next: Instant,
}

impl Controller {
    /// The first packet of the long queue has waited so long.
    fn look(&mut self, now: Instant, wait: Duration) {
        if now < self.next {
            return;
        }
        let missed = now.since(self.next).as_nanos() / UPDATE.as_nanos();
        let times = 1.0 + missed as f64;
        let seconds = |wait: Duration| wait.as_secs_f64();
        let error = seconds(wait) - seconds(TARGET);
        let change = seconds(wait) - seconds(self.before);
        self.root = (self.root + error * INTEGRAL * times + change * PROPORTIONAL).clamp(0.0, 1.0);
        self.before = wait;
        self.next = now + UPDATE;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BytesMut;

    fn at(us: u64) -> Instant {
        Instant::from_nanos(us * 1_000)
    }

    fn datagram(ecn: Option<Ecn>, sent: Instant) -> Datagram {
        let address = "10.0.0.1:1".parse().unwrap();
        let payload = BytesMut::zeroed(1200);
        let beyond = Duration::ZERO;
        Datagram { from: address, to: address, ecn, payload, sent, beyond, intact: true }
    }

    fn lanes() -> (Lanes, Random) {
        (Lanes::new(&Queue::DualPi2 { bytes: u64::MAX }), Random::part(1, "link", 0))
    }

    fn sent(turn: Option<Turn>) -> Option<Option<Ecn>> {
        match turn? {
            Turn::Sent(datagram) => Some(datagram.ecn),
            Turn::Dropped(_) => None,
        }
    }

    #[test]
    fn the_short_queue_goes_first_but_not_always_and_is_marked_after_a_millisecond() {
        let (mut lanes, mut random) = lanes();
        lanes.push(datagram(Some(Ecn::Ect0), at(0)));
        (0..20).for_each(|_| lanes.push(datagram(Some(Ecn::Ect1), at(0))));
        let first: Vec<_> = (0..16).map(|_| sent(lanes.pop(at(1000), &mut random))).collect();
        assert_eq!(first.iter().filter(|ecn| **ecn == Some(Some(Ecn::Ect1))).count(), 15);
        assert_eq!(first[15], Some(Some(Ecn::Ect0)));
        let late: Vec<_> = (0..5).map(|_| sent(lanes.pop(at(1001), &mut random))).collect();
        assert_eq!(late[..4], [Some(Some(Ecn::Ce)); 4]);
        assert_eq!(late[4], Some(Some(Ecn::Ect1)), "the last one finds nothing behind it");
        assert!(lanes.pop(at(1001), &mut random).is_none());
    }

    #[test]
    fn the_long_queue_is_marked_or_dropped_when_packets_wait_and_tells_the_short_one() {
        let (mut lanes, mut random) = lanes();
        let mut marks = (0, 0, 0);
        for n in 0..4000u64 {
            let now = at(n * 1000);
            for ecn in [Some(Ecn::Ect0), None] {
                lanes.push(datagram(
                    ecn,
                    Instant::from_nanos(now.as_nanos().saturating_sub(30_000_000)),
                ));
                match lanes.pop(now, &mut random) {
                    Some(Turn::Sent(datagram)) if datagram.ecn == Some(Ecn::Ce) => marks.0 += 1,
                    Some(Turn::Sent(_)) => {}
                    Some(Turn::Dropped(_)) => marks.1 += 1,
                    None => unreachable!("something waits"),
                }
            }
            lanes.push(datagram(Some(Ecn::Ect1), now));
            marks.2 += u32::from(sent(lanes.pop(now, &mut random)) == Some(Some(Ecn::Ce)));
        }
        let (marked, dropped, told) = marks;
        assert!(marked > 200 && dropped > 200 && marked < 1500, "{marks:?}");
        assert!(told > 2 * marked, "{marks:?}");
    }
}
