//! Padding: which sizes of datagrams, and at which times, somebody on the way gets to see.
//!
//! Door 3 asks for the [`Extent`] of the next datagram, and each packet that ends a datagram is filled up to
//! what the extent says. Nothing here knows what is inside.

use core::time::Duration;

use jsp_wire::{Instant, limits};

use crate::pack::packed;

/// Most sizes that may be declared.
const SIZES_MAX: usize = 16;

/// Smallest size that may be declared, in bytes of UDP payload: a packet with a connection id and a little to
/// say fits, under the wrapping too.
const SIZE_MIN: usize = 128;

/// Shortest and longest interval of a constant rate.
const INTERVALS: (Duration, Duration) = (Duration::from_millis(1), Duration::from_secs(1));

/// Least bytes of a hello's datagram under the wrapping, where lengths must differ: two of them still hold a
/// hello, and pay for the server's answer.
// spec: PRV-24
pub(crate) const HELLO_LEN_MIN_WRAPPED: usize = 800;

/// What is done so that sizes and times of datagrams tell less.
///
/// Each end chooses for what it sends. Congestion control, and the limits on what goes to an address that is not
/// proved, hold as ever.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Padding {
    /// Nothing: datagrams are as long as what they hold.
    #[default]
    None,
    /// Every datagram has one of the declared sizes.
    Buckets(Buckets),
    /// Datagrams of one size at a fixed interval, whether there is something to say or not.
    ConstantRate(ConstantRate),
}

/// Sizes of datagrams, in bytes of UDP payload as they are on the wire.
///
/// The base size, 1200 bytes (1216 under the wrapping), always is one of them: the handshake needs it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Buckets {
    /// In rising order; the first `count` count.
    sizes: [u16; SIZES_MAX],
    count: usize,
}
packed!(Buckets { sizes, count });

impl Buckets {
    /// The given sizes, 128 to 65507 bytes each, in any order, at most 15. `None` for anything else.
    pub fn new(sizes: &[usize]) -> Option<Self> {
        let fits = |size: &usize| (SIZE_MIN..=limits::MTU_MAX).contains(size);
        if sizes.is_empty() || sizes.len() >= SIZES_MAX || !sizes.iter().all(fits) {
            return None;
        }
        Some(Self::of(sizes.iter().copied()))
    }

    /// The sizes, sorted, each once; what does not fit the array is left out.
    fn of(given: impl Iterator<Item = usize>) -> Self {
        let mut sizes = [u16::MAX; SIZES_MAX];
        for (slot, size) in sizes.iter_mut().zip(given) {
            *slot = size.min(limits::MTU_MAX) as u16;
        }
        sizes.sort_unstable();
        let mut sorted = [u16::MAX; SIZES_MAX];
        let mut count = 0;
        let mut last = 0;
        for size in sizes.into_iter().filter(|size| *size < u16::MAX) {
            if size > last
                && let Some(slot) = sorted.get_mut(count)
            {
                (*slot, last) = (size, size);
                count = count.saturating_add(1);
            }
        }
        Self { sizes: sorted, count }
    }

    /// The sizes in rising order, in bytes.
    pub fn sizes(&self) -> impl DoubleEndedIterator<Item = usize> + '_ {
        self.sizes.iter().take(self.count).map(|size| usize::from(*size))
    }

    /// The same without the bytes that the wrapping adds, and with the base size.
    fn inside(&self, wrapping: usize) -> Self {
        let own = self.sizes().map(|size| size.saturating_sub(wrapping));
        Self::of(own.chain([limits::MTU_BASE]))
    }

    /// The largest that is at most `room`.
    pub(crate) fn within(&self, room: usize) -> Option<usize> {
        self.sizes().rfind(|size| *size <= room)
    }

    /// The smallest that is at least `len`.
    fn reaching(&self, len: usize) -> Option<usize> {
        self.sizes().find(|size| *size >= len)
    }
}

/// Few sizes that waste little on what connections carry: acknowledgements and voice, small messages, larger
/// ones, and full datagrams at the base size and over Ethernet.
impl Default for Buckets {
    fn default() -> Self {
        Self::of([192, 448, limits::MTU_BASE, 1452].into_iter())
    }
}

/// Datagrams of one size at a fixed interval from the end of the handshake to the end of the connection.
///
/// What waits is sent in them, and a PING where nothing does. What congestion control forbids is left out, not
/// made up for. Such a connection never falls silent, and it is no faster than one datagram an interval.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConstantRate {
    /// Bytes of UDP payload, 128 to 1200 (1216 under the wrapping); other values are moved to the nearest.
    /// Datagrams of the handshake have the base size.
    pub size: usize,
    /// Time from one datagram to the next, 1 ms to 1 s; other values are moved to the nearest. The peer is told
    /// that acknowledgements may wait as long.
    pub interval: Duration,
}

impl ConstantRate {
    pub(crate) fn clamped_interval(&self) -> Duration {
        self.interval.clamp(INTERVALS.0, INTERVALS.1)
    }
}

/// Sizes that a datagram may have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Sizes {
    Any,
    Exactly(usize),
    Declared(Buckets),
}

/// How large a datagram may become, and how large it must be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Extent {
    /// Bytes that it may have.
    pub(crate) room: usize,
    sizes: Sizes,
}

impl Extent {
    /// Up to `room` bytes, as long as what it holds.
    pub(crate) const fn any(room: usize) -> Self {
        Self { room, sizes: Sizes::Any }
    }

    /// True when something may have to be added.
    pub(crate) fn pads(&self) -> bool {
        self.sizes != Sizes::Any
    }

    /// The length that a datagram of `len` bytes must be brought to, at most the room.
    // spec: PRV-1
    pub(crate) fn fit(&self, len: usize) -> usize {
        match self.sizes {
            Sizes::Any => len,
            Sizes::Exactly(size) => size.max(len),
            Sizes::Declared(sizes) => sizes.reaching(len).unwrap_or(len).min(self.room).max(len),
        }
    }
}

/// What a packet must know of the datagram that it is put into, to fill it up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fill {
    /// Bytes of the packets before it.
    pub(crate) before: usize,
    /// Least bytes of the datagram.
    pub(crate) least: usize,
    pub(crate) extent: Extent,
    /// No packet follows.
    pub(crate) is_last: bool,
}

impl Fill {
    /// The only packet of a datagram.
    pub(crate) const fn alone(extent: Extent) -> Self {
        Self { before: 0, least: 0, extent, is_last: true }
    }

    /// Bytes to add to a packet of `len` bytes.
    pub(crate) fn missing(&self, len: usize) -> usize {
        let total = self.before.saturating_add(len);
        if !self.is_last || !self.extent.pads() {
            return 0;
        }
        self.extent.fit(total.max(self.least)).saturating_sub(total)
    }
}

/// The padding of a connection: the policy, and when the next datagram is due.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Padder {
    established: Sizes,
    handshake: Sizes,
    /// Lengths of the handshake's datagrams are drawn at random.
    is_random: bool,
    slots: Option<Slots>,
    wrapping: usize,
}

/// Times of a constant rate.
#[derive(Clone, Copy, Debug)]
struct Slots {
    interval: Duration,
    /// The next one; `None` before the first.
    next: Option<Instant>,
}

impl Padder {
    /// The padding of a policy where each datagram grows by `wrapping` bytes on its way out; 0 for none.
    pub(crate) fn new(policy: &Padding, wrapping: usize) -> Self {
        let base = Sizes::Declared(Buckets::of([limits::MTU_BASE].into_iter()));
        let (established, handshake, slots) = match policy {
            Padding::None => (Sizes::Any, Sizes::Any, None),
            Padding::Buckets(buckets) => {
                let sizes = Sizes::Declared(buckets.inside(wrapping));
                (sizes, sizes, None)
            }
            Padding::ConstantRate(rate) => {
                let size = rate.size.max(SIZE_MIN).saturating_sub(wrapping).min(limits::MTU_BASE);
                let slots = Slots { interval: rate.clamped_interval(), next: None };
                (Sizes::Declared(Buckets::of([size].into_iter())), base, Some(slots))
            }
        };
        let is_random = wrapping > 0 && handshake == Sizes::Any;
        Self { established, handshake, is_random, slots, wrapping }
    }

    /// Bytes that each datagram grows by on its way out.
    pub(crate) fn wrapping(&self) -> usize {
        self.wrapping
    }

    /// The only sizes that datagrams may have, if they are declared.
    pub(crate) fn declared(&self) -> Option<Buckets> {
        match self.established {
            Sizes::Declared(sizes) => Some(sizes),
            Sizes::Any | Sizes::Exactly(_) => None,
        }
    }

    /// True when a datagram of the established connection may have at most `room` bytes.
    pub(crate) fn has_size_within(&self, room: usize) -> bool {
        self.declared().is_none_or(|sizes| sizes.within(room).is_some())
    }

    /// Least room that a datagram needs.
    pub(crate) fn least(&self, in_handshake: bool) -> usize {
        match if in_handshake { self.handshake } else { self.established } {
            Sizes::Declared(sizes) => sizes.sizes().next().unwrap_or(0),
            Sizes::Any | Sizes::Exactly(_) => 0,
        }
    }

    /// The extent of a datagram that may have `room` bytes; its room is 0 when no size fits. `random` is asked
    /// where the length is to be drawn.
    // spec: PRV-1, PRV-24
    pub(crate) fn extent(
        &self,
        room: usize,
        in_handshake: bool,
        random: impl FnOnce() -> u64,
    ) -> Extent {
        if self.is_random && in_handshake {
            let most = room.min(limits::MTU_BASE);
            let least = most.min(HELLO_LEN_MIN_WRAPPED);
            let choices = (most.saturating_sub(least) as u64).saturating_add(1);
            let size = least.saturating_add(random().checked_rem(choices).unwrap_or(0) as usize);
            return Extent { room: size, sizes: Sizes::Exactly(size) };
        }
        let sizes = if in_handshake { self.handshake } else { self.established };
        let room = match sizes {
            Sizes::Declared(sizes) => sizes.within(room).unwrap_or(0),
            Sizes::Any | Sizes::Exactly(_) => room,
        };
        Extent { room, sizes }
    }

    /// True when datagrams have their times.
    pub(crate) fn has_slots(&self) -> bool {
        self.slots.is_some()
    }

    /// Whether datagrams wait for their time: `None` when they do not, else whether it has come.
    // spec: PRV-5
    pub(crate) fn slot_is_due(&self, now: Instant) -> Option<bool> {
        Some(self.slots.as_ref()?.next.is_none_or(|next| next <= now))
    }

    /// The time of the next datagram, where there are such times.
    pub(crate) fn next_slot(&self, now: Instant) -> Option<Instant> {
        Some(self.slots.as_ref()?.next.unwrap_or(now))
    }

    /// The slot is used, or nothing may be sent in it. Those that were missed are not made up for.
    // spec: PRV-5, PRV-6
    pub(crate) fn take_slot(&mut self, now: Instant) {
        let Some(Slots { interval, next }) = &mut self.slots else { return };
        let due = next.unwrap_or(now);
        let missed = now.since(due).as_nanos().checked_div(interval.as_nanos()).unwrap_or(0);
        let steps = u64::try_from(missed).unwrap_or(u64::MAX).saturating_add(1);
        let nanos = u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX).saturating_mul(steps);
        *next = Some(due + Duration::from_nanos(nanos));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_nanos(millis * 1_000_000)
    }

    fn none() -> u64 {
        panic!("no length is to be drawn")
    }

    #[test]
    fn buckets_are_checked_and_sorted() {
        let buckets = Buckets::new(&[700, 128, 1452, 700]).unwrap();
        assert_eq!(buckets.sizes().collect::<Vec<_>>(), [128, 700, 1452]);
        for wrong in [&[][..], &[127], &[65_508], &[500; 16]] {
            assert_eq!(Buckets::new(wrong), None);
        }
        let default: Vec<_> = Buckets::default().sizes().collect();
        assert_eq!(Buckets::new(&default), Some(Buckets::default()));
    }

    #[test]
    /// spec-test: PRV-1
    fn datagrams_are_brought_to_a_declared_size_that_fits() {
        let policy = Padding::Buckets(Buckets::new(&[200, 600, 1452]).unwrap());
        for wrapping in [0, 16] {
            let padder = Padder::new(&policy, wrapping);
            let wire = |size: usize| size - wrapping;
            let extent = padder.extent(1452 - wrapping, false, none);
            assert_eq!(extent.room, wire(1452));
            let fits = [1, wire(200), wire(200) + 1, 1000, 1200, 1201].map(|len| extent.fit(len));
            assert_eq!(fits, [wire(200), wire(200), wire(600), 1200, 1200, wire(1452)]);
            assert_eq!(padder.extent(1300, true, none).room, 1200);
            assert_eq!(padder.extent(150, true, none).room, 0, "nothing fits");
            assert_eq!(padder.least(true), wire(200));
            let fill = Fill { before: 100, least: 0, extent, is_last: true };
            assert_eq!(fill.missing(50), wire(200) - 150);
            assert_eq!(Fill { least: 1200, ..fill }.missing(50), 1050);
            assert_eq!(Fill { is_last: false, ..fill }.missing(50), 0);
        }
    }

    #[test]
    /// spec-test: PRV-24
    fn lengths_of_the_first_datagrams_are_drawn_under_the_wrapping() {
        let padder = Padder::new(&Padding::None, 16);
        let sizes: Vec<_> = [0, 1, 400, 401, u64::MAX]
            .map(|random| padder.extent(1400, true, || random))
            .map(|extent| (extent.room, extent.fit(1)))
            .to_vec();
        assert_eq!(sizes[..4], [(800, 800), (801, 801), (1200, 1200), (800, 800)]);
        assert_eq!(padder.extent(300, true, || 7).room, 300);
        assert_eq!(padder.extent(1400, false, none), Extent::any(1400));
        assert_eq!(Padder::new(&Padding::None, 0).extent(1200, true, none), Extent::any(1200));
    }

    #[test]
    /// spec-test: PRV-5, PRV-6
    fn slots_keep_their_beat_and_are_not_made_up_for() {
        let rate = ConstantRate { size: 300, interval: Duration::from_millis(20) };
        let mut padder = Padder::new(&Padding::ConstantRate(rate), 0);
        assert_eq!(padder.extent(1200, false, none).room, 300);
        assert_eq!(padder.extent(1200, true, none).room, 1200);
        assert_eq!(padder.slot_is_due(at(5)), Some(true));
        padder.take_slot(at(5));
        assert_eq!(
            (padder.slot_is_due(at(24)), padder.next_slot(at(6))),
            (Some(false), Some(at(25)))
        );
        // The timer was late: the beat stays.
        padder.take_slot(at(31));
        assert_eq!(padder.next_slot(at(31)), Some(at(45)));
        padder.take_slot(at(106));
        assert_eq!(padder.next_slot(at(106)), Some(at(125)));
        let mut none = Padder::new(&Padding::None, 0);
        none.take_slot(at(1));
        assert_eq!((none.slot_is_due(at(1)), none.next_slot(at(1))), (None, None));
        let wild = ConstantRate { size: 9000, interval: Duration::ZERO };
        let padder = Padder::new(&Padding::ConstantRate(wild), 0);
        assert_eq!(padder.extent(1200, false, || 0).room, 1200);
    }
}
