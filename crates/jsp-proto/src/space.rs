//! Door 3: packet numbers of one space. On the way in, each number is taken once; on the way out,
//! each is given once.

use jsp_wire::limits;

use crate::ack::ReceivedRanges;
use crate::pack::packed;

/// Words of the window's bitmap.
const WORDS: usize = 64;

/// Numbers that one word stands for.
const WORD_BITS: u64 = 64;

/// How far below the largest number received a packet is still told apart from a duplicate. The
/// word that the largest number stands in may be nearly empty, hence one word less.
pub(crate) const WINDOW: u64 = (WORDS as u64 - 1) * WORD_BITS;

const _: () = assert!(WINDOW >= 1 << 11 && WORDS.is_power_of_two());

/// Which packet numbers have been received (RFC 4303, section 3.4.3; the ring of RFC 6479).
#[derive(Clone, Debug)]
pub(crate) struct ReplayWindow {
    /// A ring of words: a power of two of them, as many as the largest number needs, [`WORDS`] at most.
    bits: Vec<u64>,
    largest: Option<u64>,
}
packed!(ReplayWindow { bits, largest });

impl ReplayWindow {
    /// Nothing received.
    pub(crate) fn new() -> Self {
        Self { bits: Vec::new(), largest: None }
    }

    /// These numbers received.
    pub(crate) fn of(ranges: &ReceivedRanges) -> Self {
        let mut window = Self::new();
        for (low, high) in ranges.iter() {
            // What is lower is too old anyway.
            for pn in low.max(high.saturating_sub(WINDOW))..=high {
                window.commit(pn);
            }
        }
        window
    }

    /// True when the packet is neither a duplicate nor too old to tell. Asked when it has proved authentic: how
    /// long the answer takes would tell a forger which numbers have come.
    // spec: ACK-2
    pub(crate) fn accept(&self, pn: u64) -> bool {
        let Some(largest) = self.largest.filter(|largest| pn <= *largest) else { return true };
        let (word, bit) = self.place(pn);
        let is_unseen = self.bits.get(word).is_some_and(|word| word & bit == 0);
        largest.saturating_sub(pn) < WINDOW && is_unseen
    }

    /// Takes an authentic packet's number. False when [`ReplayWindow::accept`] would be.
    pub(crate) fn commit(&mut self, pn: u64) -> bool {
        if !self.accept(pn) {
            return false;
        }
        let largest = self.largest.unwrap_or(0);
        self.grow(pn);
        if pn > largest {
            // Words between the old largest number and the new one hold what was a lap ago.
            let fresh =
                (pn / WORD_BITS).saturating_sub(largest / WORD_BITS).min(self.bits.len() as u64);
            for step in 0..fresh {
                let (word, _) = self.place(pn.saturating_sub(step.saturating_mul(WORD_BITS)));
                if let Some(word) = self.bits.get_mut(word) {
                    *word = 0;
                }
            }
        }
        self.largest = Some(largest.max(pn));
        let (word, bit) = self.place(pn);
        if let Some(word) = self.bits.get_mut(word) {
            *word |= bit;
        }
        true
    }

    /// Makes room for the number, where there is not all of the ring yet: no number has come round in it then.
    fn grow(&mut self, pn: u64) {
        let (word, len) = (pn / WORD_BITS, self.bits.len());
        if word >= len as u64 && len < WORDS {
            let words = (word.saturating_add(1).min(WORDS as u64) as usize).next_power_of_two();
            self.bits.reserve_exact(words.saturating_sub(len));
            self.bits.resize(words, 0);
        }
    }

    fn place(&self, pn: u64) -> (usize, u64) {
        // The ring's length is a power of two.
        let mask = (self.bits.len() as u64).wrapping_sub(1);
        (((pn / WORD_BITS) & mask) as usize, 1 << (pn % WORD_BITS))
    }

    /// The number that the next packet in order has: what truncated numbers are expanded against.
    pub(crate) fn expected(&self) -> u64 {
        self.largest.map_or(0, |largest| largest.saturating_add(1))
    }

    /// The largest number received.
    #[cfg(test)]
    fn largest(&self) -> Option<u64> {
        self.largest
    }
}

/// The numbers of packets that are sent.
#[derive(Clone, Debug, Default)]
pub(crate) struct PacketNumbers {
    next: u64,
    skip: Option<Skip>,
}
packed!(PacketNumbers { next, skip });

/// The next number that is left out.
#[derive(Clone, Copy, Debug)]
struct Skip {
    pn: u64,
    /// The choice after this one falls this far ahead, and at most twice as far.
    range: u64,
    /// State of the generator that chooses.
    random: u64,
}
packed!(Skip { pn, range, random });

impl PacketNumbers {
    /// Starts at zero.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Goes on from a number, where none is left out.
    pub(crate) fn from(next: u64) -> Self {
        Self { next, skip: None }
    }

    /// True when no number is to be left out.
    pub(crate) fn is_plain(&self) -> bool {
        self.skip.is_none()
    }

    /// A number that was never given before, or `None` when the space is used up: the connection
    /// must end then, as a number used twice would betray the keys. Recovery sees a number that
    /// was left out from the gap.
    // spec: ACK-3, ACK-4
    pub(crate) fn next_pn(&mut self) -> Option<u64> {
        if let Some(skip) = self.skip
            && skip.pn == self.next
        {
            self.next = self.next.saturating_add(1);
            self.choose_skip(mix(skip.random), skip.range);
        }
        if self.next > limits::PN_MAX {
            return None;
        }
        let pn = self.next;
        self.next = self.next.saturating_add(1);
        Some(pn)
    }

    /// What [`PacketNumbers::next_pn`] will give.
    pub(crate) fn peek(&self) -> u64 {
        let is_skipped = self.skip.is_some_and(|skip| skip.pn == self.next);
        self.next.saturating_add(u64::from(is_skipped))
    }

    /// Begins to leave numbers out: the first one or two windows of `cwnd_packets` packets ahead,
    /// each further one about twice as far as the one before. `random` is any number, uniform and
    /// unpredictable to the peer.
    // spec: ACK-4
    pub(crate) fn plan_skip(&mut self, random: u64, cwnd_packets: u64) {
        self.choose_skip(random, cwnd_packets.max(SKIP_RANGE_MIN));
    }

    fn choose_skip(&mut self, random: u64, range: u64) {
        let range = range.min(SKIP_RANGE_MAX);
        let pn =
            self.next.saturating_add(range).saturating_add(random.checked_rem(range).unwrap_or(0));
        self.skip = Some(Skip { pn, range: range.saturating_mul(2), random });
    }
}

/// A step of SplitMix64 (Steele, Lea and Flood, 2014): what is left out need not be secret against
/// more than a peer that guesses.
pub(crate) fn mix(state: u64) -> u64 {
    let z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Packets between numbers that are left out: at least this many, so that short exchanges lose no
/// round to a needless immediate acknowledgement.
const SKIP_RANGE_MIN: u64 = 64;

/// And about this many at most, so that a long connection is guarded again and again.
const SKIP_RANGE_MAX: u64 = 1 << 16;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    /// spec-test: ACK-2
    fn duplicates_and_the_too_old_are_refused() {
        let mut window = ReplayWindow::new();
        assert_eq!(window.expected(), 0);
        assert!(window.commit(0));
        assert!(!window.commit(0));
        assert!(window.commit(WINDOW));
        // Exactly WINDOW below the largest is too old, one above is not.
        assert!(!window.accept(0));
        assert!(window.accept(1));
        assert!(window.commit(1 << 40));
        assert!(!window.accept(WINDOW));
        assert!(window.accept((1 << 40) - WINDOW + 1));
        assert_eq!(window.expected(), (1 << 40) + 1);
    }

    proptest! {
        #[test]
        /// spec-test: ACK-2
        fn the_window_agrees_with_a_set(
            steps in proptest::collection::vec((-5000i64..5000, any::<bool>()), 1..400),
        ) {
            let mut window = ReplayWindow::new();
            let mut seen = BTreeSet::new();
            let mut at = 10_000i64;
            for (step, back) in steps {
                let pn = (at + step).max(0) as u64;
                at = if back { at } else { pn as i64 };
                let fresh = match seen.last() {
                    Some(&largest) if pn + WINDOW <= largest => false,
                    _ => !seen.contains(&pn),
                };
                prop_assert_eq!(window.accept(pn), fresh);
                prop_assert_eq!(window.commit(pn), fresh);
                if fresh {
                    seen.insert(pn);
                }
                prop_assert_eq!(window.largest(), seen.last().copied());
            }
        }
    }

    #[test]
    /// spec-test: ACK-3
    fn numbers_end_and_never_repeat() {
        let mut numbers = PacketNumbers { next: limits::PN_MAX - 1, skip: None };
        assert_eq!(numbers.next_pn(), Some(limits::PN_MAX - 1));
        assert_eq!(numbers.peek(), limits::PN_MAX);
        assert_eq!(numbers.next_pn(), Some(limits::PN_MAX));
        assert_eq!(numbers.next_pn(), None);
        assert_eq!(numbers.next_pn(), None);
        let mut last = PacketNumbers { next: limits::PN_MAX, skip: None };
        last.skip = Some(Skip { pn: limits::PN_MAX, range: 64, random: 1 });
        assert_eq!(last.next_pn(), None);
    }

    #[test]
    /// spec-test: ACK-4
    fn numbers_are_left_out_at_growing_distances() {
        for random in [0, 1, 77, u64::MAX] {
            let mut numbers = PacketNumbers::new();
            numbers.plan_skip(random, 10);
            let given: Vec<u64> = (0..1_000_000).filter_map(|_| numbers.next_pn()).collect();
            let gaps: Vec<u64> = given
                .windows(2)
                .filter(|pair| pair[1] != pair[0] + 1)
                .map(|pair| pair[0])
                .collect();
            assert!((12..=26).contains(&gaps.len()), "{random}: {gaps:?}");
            let mut range = SKIP_RANGE_MIN;
            let mut start = 0;
            for gap in gaps {
                let distance = gap + 1 - start;
                assert!((range..2 * range).contains(&distance), "{random}: {range} {distance}");
                start = gap + 2;
                range = (range * 2).min(SKIP_RANGE_MAX);
            }
        }
    }
}
