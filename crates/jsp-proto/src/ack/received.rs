//! Which packet numbers have arrived.

use std::collections::VecDeque;

use crate::pack::packed;

/// Ranges of received packets that are remembered; the lowest go first.
pub(super) const RANGES_MAX: usize = 256;

/// Packet numbers received, as ranges from the highest down, which neither overlap nor touch.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReceivedRanges {
    /// Each as (lowest, highest).
    ranges: VecDeque<(u64, u64)>,
}
packed!(ReceivedRanges { ranges });

impl ReceivedRanges {
    /// Keeps no more room than it needs.
    pub(super) fn shrink(&mut self) {
        self.ranges.shrink_to_fit();
    }

    /// Adds a number. Answers true when it was not there. Of more than [`RANGES_MAX`] ranges the
    /// lowest is forgotten.
    // spec: ACK-5
    pub(crate) fn insert(&mut self, pn: u64) -> bool {
        // In order, which is nearly always, this ends at the first range.
        let mut at = 0;
        while let Some(&(low, high)) = self.ranges.get(at) {
            if pn > high.saturating_add(1) {
                break;
            }
            if pn >= low {
                return pn > high && self.extend_up(at, pn);
            }
            if pn.saturating_add(1) == low {
                return self.extend_down(at, pn);
            }
            at = at.saturating_add(1);
        }
        if self.ranges.len() >= RANGES_MAX {
            if at >= self.ranges.len() {
                return false;
            }
            self.ranges.pop_back();
        }
        self.ranges.insert(at, (pn, pn));
        true
    }

    /// `pn` is the number above range `at`; the range above that is known not to touch it.
    fn extend_up(&mut self, at: usize, pn: u64) -> bool {
        if let Some(range) = self.ranges.get_mut(at) {
            range.1 = pn;
        }
        true
    }

    /// `pn` is the number below range `at`.
    fn extend_down(&mut self, at: usize, pn: u64) -> bool {
        let mut low = pn;
        if let Some(&(below_low, below_high)) = self.ranges.get(at.saturating_add(1))
            && below_high.saturating_add(1) == pn
        {
            low = below_low;
            self.ranges.remove(at.saturating_add(1));
        }
        if let Some(range) = self.ranges.get_mut(at) {
            range.0 = low;
        }
        true
    }

    /// Forgets everything up to and including `pn`.
    pub(crate) fn forget_through(&mut self, pn: u64) {
        while let Some(range) = self.ranges.back_mut() {
            if range.0 > pn {
                return;
            }
            if range.1 > pn {
                range.0 = pn.saturating_add(1);
                return;
            }
            self.ranges.pop_back();
        }
    }

    /// The highest number.
    #[cfg(test)]
    pub(super) fn largest(&self) -> Option<u64> {
        self.ranges.front().map(|range| range.1)
    }

    /// Number of ranges.
    pub(crate) fn len(&self) -> usize {
        self.ranges.len()
    }

    /// From the highest down, each as (lowest, highest).
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, u64)> + Clone + '_ {
        self.ranges.iter().copied()
    }
}
