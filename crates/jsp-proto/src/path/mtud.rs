//! Discovery of the largest datagram that a path carries (RFC 8899), by probes that are packets of
//! their own, and the way back when a path stops carrying what it did.

use core::time::Duration;

use jsp_wire::{Instant, Route, limits};

use crate::pack::{Pack, Packer, Unpacker, packed};
use crate::padding::Buckets;

/// Probes of one size that may be lost before the size is held too large
/// (RFC 8899, section 5.1.2, `MAX_PROBES`).
const PROBES_MAX: u8 = 3;

/// The search ends when it is this close, in bytes.
const PRECISION: usize = 16;

/// After a search, the next begins (RFC 8899, section 5.1.1, `PMTU_RAISE_TIMER`).
const RAISE_AFTER: Duration = Duration::from_secs(600);

/// After a black hole the next search begins sooner: often the path was only away for a while.
const RAISE_AFTER_BLACK_HOLE: Duration = Duration::from_secs(60);

/// Times in a row that losses showed only packets above the base size, with smaller ones arriving,
/// or probe timeouts in a row, before the path is held a black hole.
const SUSPICIONS_MAX: u8 = 3;

/// Largest datagram inside a reliable carrier: it takes any, but while a large one leaves, everything
/// else waits.
// spec: CAR-3
const CARRIED_MAX: usize = limits::CARRIER_DATAGRAM_LEN_MAX;

/// Sizes that paths commonly have, tried before halving: Ethernet less a tunnel, Ethernet under
/// IPv6 and under IPv4 (1500 less 48 and 28), jumbo frames under IPv6 and IPv4.
const COMMON: [usize; 5] = [1392, 1452, 1472, 8952, 8972];

/// The datagram size of a path, in bytes of UDP payload.
#[derive(Clone, Debug)]
pub(crate) struct Mtud {
    current: usize,
    /// No more than this is wanted, by us or by the peer.
    ceiling: usize,
    /// Bytes that a datagram grows by on its way out.
    wrapping: usize,
    /// The only sizes that may be tried.
    declared: Option<Buckets>,
    state: State,
    /// Losses of large packets, none of which has arrived since.
    suspicions: u8,
    /// A packet of at most the base size arrived since the first suspicion.
    small_arrived: bool,
    /// The path is a reliable carrier: every size passes, and there is nothing to look for.
    carried: bool,
}
packed!(Mtud { current, ceiling, wrapping, declared, state, suspicions, small_arrived, carried });

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Looking between `current` and `too_large`.
    Searching { too_large: usize, size: usize, lost: u8, in_flight: bool },
    /// Found; look again later.
    Settled { until: Instant },
}

impl Pack for State {
    fn pack(&self, to: &mut Packer) {
        match *self {
            Self::Searching { too_large, size, lost, in_flight } => {
                Some(((too_large, size), (lost, in_flight))).pack(to);
            }
            Self::Settled { until } => {
                None::<((usize, usize), (u8, bool))>.pack(to);
                until.pack(to);
            }
        }
    }

    fn unpack(from: &mut Unpacker<'_>) -> Self {
        match Option::unpack(from) {
            Some(((too_large, size), (lost, in_flight))) => {
                Self::Searching { too_large, size, lost, in_flight }
            }
            None => Self::Settled { until: Instant::unpack(from) },
        }
    }
}

impl Mtud {
    /// Starts at the base size; goes up to `ceiling`, the smaller of what is configured and what
    /// the peer receives.
    // spec: MTU-1, MTU-2
    pub(crate) fn new(ceiling: usize) -> Self {
        let ceiling = ceiling.clamp(limits::MTU_BASE, limits::MTU_MAX);
        let mut discovery = Self {
            current: limits::MTU_BASE,
            ceiling,
            wrapping: 0,
            declared: None,
            state: State::Settled { until: Instant::FAR_FUTURE },
            suspicions: 0,
            small_arrived: false,
            carried: false,
        };
        discovery.search(Instant::ZERO);
        discovery
    }

    /// What suits the route: a search, or for a reliable carrier the ceiling, once the peer's is
    /// known.
    // spec: CAR-3
    pub(crate) fn of(route: &Route, ceiling: usize) -> Self {
        if !route.is_reliable() {
            return Self::new(ceiling);
        }
        let mut discovery = Self::new(ceiling.min(CARRIED_MAX));
        discovery.carried = true;
        discovery.settle();
        discovery
    }

    fn settle(&mut self) {
        self.state = State::Settled { until: Instant::FAR_FUTURE };
    }

    /// Tries only the declared sizes, and none that exceeds the ceiling when it has grown by `wrapping` bytes
    /// on its way out.
    // spec: PRV-3, PRV-23
    pub(crate) fn restrict(&mut self, declared: Option<Buckets>, wrapping: usize) {
        (self.declared, self.wrapping) = (declared, wrapping);
        self.ceiling = self.allowed(self.ceiling.saturating_sub(wrapping));
        self.search(Instant::ZERO);
    }

    /// A path by `route` that nothing is known of, under the same restrictions. `ceiling` regards the
    /// peer's.
    pub(crate) fn anew(&self, route: &Route, ceiling: usize) -> Self {
        let mut mtud = Self::of(route, ceiling);
        mtud.restrict(self.declared, self.wrapping);
        mtud.limit(ceiling);
        mtud
    }

    fn allowed(&self, ceiling: usize) -> usize {
        let largest = match &self.declared {
            Some(sizes) => sizes.within(ceiling).unwrap_or(0),
            None => ceiling,
        };
        largest.max(limits::MTU_BASE)
    }

    /// Bytes of UDP payload that datagrams may have.
    pub(crate) fn current(&self) -> usize {
        self.current
    }

    /// Size of the probe that could be sent now, in bytes of UDP payload.
    pub(crate) fn next_probe_size(&mut self, now: Instant) -> Option<usize> {
        if let State::Settled { until } = self.state
            && until <= now
        {
            self.search(now);
        }
        match self.state {
            State::Searching { size, in_flight: false, .. } => Some(size),
            State::Searching { .. } | State::Settled { .. } => None,
        }
    }

    /// A probe to send now: a datagram of exactly this many bytes. The probe counts as sent.
    // spec: MTU-3
    pub(crate) fn probe(&mut self, now: Instant) -> Option<usize> {
        let probe = self.next_probe_size(now)?;
        if let State::Searching { in_flight, .. } = &mut self.state {
            *in_flight = true;
        }
        Some(probe)
    }

    /// A probe of `size` bytes arrived.
    pub(crate) fn on_probe_acked(&mut self, now: Instant, size: usize) {
        if size <= self.current || size > self.ceiling {
            return;
        }
        self.current = size;
        self.suspicions = 0;
        match self.state {
            State::Searching { too_large, .. } => self.search_below(now, too_large.max(size + 1)),
            State::Settled { .. } => {}
        }
    }

    /// A probe of `size` bytes is lost.
    // spec: MTU-4
    pub(crate) fn on_probe_lost(&mut self, now: Instant, size: usize) {
        let State::Searching { size: probed, lost, in_flight, .. } = &mut self.state else {
            return;
        };
        if size != *probed {
            return;
        }
        *in_flight = false;
        *lost = lost.saturating_add(1);
        if *lost >= PROBES_MAX {
            self.search_below(now, size);
        }
    }

    /// Nobody waits any more for what is under way: the probe goes once more.
    pub(crate) fn forget_probe(&mut self) {
        if let State::Searching { in_flight, .. } = &mut self.state {
            *in_flight = false;
        }
    }

    /// The largest ordinary packet that an ACK settled had `size` bytes.
    pub(crate) fn on_acked(&mut self, size: usize) {
        if size > limits::MTU_BASE {
            self.suspicions = 0;
            self.small_arrived = false;
        } else if self.suspicions > 0 {
            self.small_arrived = true;
        }
    }

    /// Ordinary packets are lost, the largest of `size` bytes. True when the path turns out to be
    /// a black hole for more than the base size: [`Mtud::current`] is the base size then.
    // spec: MTU-5
    pub(crate) fn on_loss(&mut self, now: Instant, size: usize) -> bool {
        if size <= limits::MTU_BASE || self.current <= limits::MTU_BASE || self.carried {
            return false;
        }
        self.suspicions = self.suspicions.saturating_add(1);
        self.suspicions >= SUSPICIONS_MAX && self.small_arrived && self.fall_back(now)
    }

    /// The probe timeout has passed `count` times without an acknowledgement. True when the base
    /// size holds from here: the path may swallow all larger packets, and nothing of it is left to
    /// say so.
    // spec: MTU-6
    pub(crate) fn on_probe_timeout(&mut self, now: Instant, count: u32) -> bool {
        count >= u32::from(SUSPICIONS_MAX) && self.current > limits::MTU_BASE && self.fall_back(now)
    }

    /// When [`Mtud::probe`] has something by itself.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Searching { .. } => None,
            State::Settled { until } => (until < Instant::FAR_FUTURE).then_some(until),
        }
    }

    /// The peer receives at most `ceiling` bytes, as its parameters say.
    // spec: MTU-2
    pub(crate) fn limit(&mut self, ceiling: usize) {
        let ceiling = self.allowed(ceiling);
        if self.carried {
            self.ceiling = self.ceiling.min(ceiling);
            self.current = self.ceiling;
            return;
        }
        if ceiling >= self.ceiling {
            return;
        }
        self.ceiling = ceiling;
        self.current = self.current.min(self.ceiling);
        self.search(Instant::ZERO);
    }

    fn fall_back(&mut self, now: Instant) -> bool {
        self.current = limits::MTU_BASE;
        self.suspicions = 0;
        self.small_arrived = false;
        self.state = State::Settled { until: now + RAISE_AFTER_BLACK_HOLE };
        true
    }

    fn search(&mut self, now: Instant) {
        if self.carried {
            return self.settle();
        }
        self.search_below(now, self.ceiling.saturating_add(1));
    }

    /// Goes on looking above `current` and below `too_large`.
    fn search_below(&mut self, now: Instant, too_large: usize) {
        let next = match &self.declared {
            Some(sizes) => {
                sizes.within(too_large.saturating_sub(1)).filter(|size| *size > self.current)
            }
            None => next_size(self.current, too_large, self.wrapping),
        };
        self.state = match next {
            Some(size) => State::Searching { too_large, size, lost: 0, in_flight: false },
            None if self.ceiling.saturating_sub(self.current) < PRECISION => {
                State::Settled { until: Instant::FAR_FUTURE }
            }
            None => State::Settled { until: now + RAISE_AFTER },
        };
    }
}

/// The size to try between one that works and one that does not: the largest first, if that is
/// near; else the common sizes; else the middle. Common are sizes on the wire.
fn next_size(works: usize, too_large: usize, wrapping: usize) -> Option<usize> {
    let mut common = COMMON.into_iter().map(|size| size.saturating_sub(wrapping));
    let top = too_large.checked_sub(1)?;
    if top <= works {
        return None;
    }
    let is_common_top = common.clone().any(|size| size == top);
    if too_large.saturating_sub(works) <= PRECISION && !is_common_top {
        return None;
    }
    if is_common_top {
        return Some(top);
    }
    let common = common.find(|&size| size > works && size < too_large);
    Some(common.unwrap_or(works + (too_large - works) / 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::from_nanos(seconds * 1_000_000_000)
    }

    /// Runs the search on a path that carries datagrams of at most `limit` bytes; answers how many
    /// probes it took.
    fn search(mtud: &mut Mtud, now: Instant, limit: usize) -> u32 {
        let mut probes = 0;
        while let Some(size) = mtud.probe(now) {
            probes += 1;
            assert!(size > mtud.current());
            assert!(mtud.probe(now).is_none(), "one at a time");
            if size <= limit {
                mtud.on_probe_acked(now, size)
            } else {
                mtud.on_probe_lost(now, size)
            }
            assert!(probes < 100, "the search does not end");
        }
        probes
    }

    #[test]
    /// spec-test: MTU-1, MTU-2
    fn it_starts_at_the_base_and_stays_below_the_ceiling() {
        let mut mtud = Mtud::new(1452);
        assert_eq!(mtud.current(), 1200);
        search(&mut mtud, at(0), 65_507);
        assert_eq!(mtud.current(), 1452);
        assert_eq!(mtud.poll_timeout(), None, "there is nothing above the ceiling");
        mtud.limit(1300);
        assert_eq!(mtud.current(), 1300);
        let mut small = Mtud::new(100);
        assert_eq!((small.current(), small.probe(at(0))), (1200, None));
        small.limit(0);
        assert_eq!(small.current(), 1200);
    }

    #[test]
    fn a_probe_that_nobody_waits_for_goes_once_more() {
        let mut mtud = Mtud::new(1452);
        let size = mtud.probe(at(0)).unwrap();
        mtud.forget_probe();
        assert_eq!(mtud.probe(at(0)), Some(size));
        mtud.on_probe_acked(at(0), size);
        search(&mut mtud, at(0), 1452);
        mtud.forget_probe();
        assert_eq!((mtud.current(), mtud.probe(at(0))), (1452, None));
    }

    #[test]
    /// spec-test: CAR-3
    fn a_reliable_carrier_takes_what_the_peer_receives_at_once() {
        let route = Route::Tunnel { id: 1 };
        for (own, peer, best) in
            [(1452, 65_507, 1452), (65_507, 65_507, 16_384), (9000, 1300, 1300)]
        {
            let mut mtud = Mtud::of(&route, own);
            assert_eq!((mtud.current(), mtud.probe(at(0))), (1200, None));
            mtud.limit(peer);
            assert_eq!((mtud.current(), mtud.probe(at(0))), (best, None));
            assert!(!mtud.on_loss(at(1), best));
            let moved = Mtud::new(own).anew(&route, own.min(peer));
            assert_eq!(moved.current(), best);
            let back = mtud.anew(&Route::udp("192.0.2.1:1".parse().unwrap()), 1452);
            assert_eq!(back.current(), 1200);
        }
    }

    #[test]
    /// spec-test: MTU-3
    fn the_usual_ethernet_takes_one_probe() {
        let mut mtud = Mtud::new(1452);
        assert_eq!(mtud.next_probe_size(at(0)), Some(1452));
        assert_eq!(search(&mut mtud, at(0), 1452), 1);
    }

    #[test]
    /// spec-test: MTU-3
    fn every_limit_is_found_to_the_precision() {
        for ceiling in [1452, 1472, 8972, 65_507] {
            for limit in (1200..9100).step_by(37).chain([1200, 1452, 1472, 8952, 65_507]) {
                let mut mtud = Mtud::new(ceiling);
                let probes = search(&mut mtud, at(0), limit);
                let best = limit.min(ceiling);
                assert!(mtud.current() <= best, "{ceiling} {limit}");
                assert!(mtud.current() + PRECISION > best, "{ceiling} {limit} {}", mtud.current());
                assert!(probes <= 45, "{ceiling} {limit} {probes}");
            }
        }
    }

    #[test]
    /// spec-test: MTU-4
    fn a_size_is_given_up_after_three_losses_only() {
        let mut mtud = Mtud::new(1452);
        for _ in 0..2 {
            assert_eq!(mtud.probe(at(0)), Some(1452));
            mtud.on_probe_lost(at(0), 1452);
        }
        assert_eq!(mtud.probe(at(0)), Some(1452));
        mtud.on_probe_acked(at(0), 1452);
        assert_eq!(mtud.current(), 1452);
        // Reports about other sizes change nothing.
        mtud.on_probe_acked(at(0), 9000);
        mtud.on_probe_lost(at(0), 1300);
        assert_eq!(mtud.current(), 1452);
    }

    #[test]
    fn the_search_begins_again_after_ten_minutes() {
        let mut mtud = Mtud::new(1452);
        search(&mut mtud, at(5), 1300);
        assert_eq!(mtud.poll_timeout(), Some(at(605)));
        assert_eq!(mtud.probe(at(604)), None);
        search(&mut mtud, at(605), 1452);
        assert_eq!(mtud.current(), 1452);
    }

    #[test]
    /// spec-test: MTU-5
    fn large_packets_that_vanish_while_small_ones_arrive_show_a_black_hole() {
        let mut mtud = Mtud::new(1452);
        search(&mut mtud, at(0), 1452);
        assert!(!mtud.on_loss(at(1), 1452));
        mtud.on_acked(200);
        assert!(!mtud.on_loss(at(2), 1400));
        assert!(mtud.on_loss(at(3), 1452));
        assert_eq!(mtud.current(), 1200);
        assert_eq!(mtud.poll_timeout(), Some(at(63)));
        // The path recovers.
        search(&mut mtud, at(63), 1452);
        assert_eq!(mtud.current(), 1452);
    }

    #[test]
    /// spec-test: MTU-5
    fn congestion_is_no_black_hole() {
        let mut mtud = Mtud::new(1452);
        search(&mut mtud, at(0), 1452);
        for n in 0..100 {
            assert!(!mtud.on_loss(at(n), 1452));
            mtud.on_acked(200);
            assert!(!mtud.on_loss(at(n), 1452));
            mtud.on_acked(1452);
        }
        // Nothing at all arrives: that is no sign either.
        for n in 0..100 {
            assert!(!mtud.on_loss(at(n), 1452));
        }
        assert_eq!(mtud.current(), 1452);
        assert!(!mtud.on_loss(at(200), 300));
    }

    #[test]
    /// spec-test: MTU-6
    fn three_probe_timeouts_lead_back_to_the_base() {
        let mut mtud = Mtud::new(1452);
        assert!(!mtud.on_probe_timeout(at(0), 9), "it is there already");
        search(&mut mtud, at(0), 1452);
        assert!(!mtud.on_probe_timeout(at(1), 1));
        assert!(!mtud.on_probe_timeout(at(2), 2));
        assert!(mtud.on_probe_timeout(at(3), 3));
        assert_eq!(mtud.current(), 1200);
    }
}
