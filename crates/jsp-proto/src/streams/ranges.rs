//! A set of numbers kept as runs: what was acknowledged, what is lost.

use std::collections::VecDeque;

/// Disjoint runs `start..end` in rising order, never touching each other.
#[derive(Default, Debug)]
pub(super) struct RangeSet {
    runs: VecDeque<(u64, u64)>,
}

impl RangeSet {
    /// Adds `start..end`; says how many of its numbers were new. Appending is the fast case.
    pub(super) fn insert(&mut self, start: u64, end: u64) -> u64 {
        self.insert_measured(start, end, |start, end| end - start)
    }

    /// Adds `start..end`; says how much `measure`, summed over all runs, has grown by that.
    pub(super) fn insert_measured(
        &mut self,
        start: u64,
        end: u64,
        measure: impl Fn(u64, u64) -> u64,
    ) -> u64 {
        if start >= end {
            return 0;
        }
        match self.runs.back_mut() {
            Some(last) if start == last.1 => {
                let known = measure(last.0, last.1);
                last.1 = end;
                measure(last.0, end) - known
            }
            Some(last) if start < last.1 => self.insert_inside(start, end, measure),
            _ => {
                self.runs.push_back((start, end));
                measure(start, end)
            }
        }
    }

    fn insert_inside(&mut self, start: u64, end: u64, measure: impl Fn(u64, u64) -> u64) -> u64 {
        let first = self.runs.partition_point(|run| run.1 < start);
        let (mut low, mut high, mut known, mut after) = (start, end, 0u64, first);
        while let Some(&(run_start, run_end)) = self.runs.get(after) {
            if run_start > end {
                break;
            }
            low = low.min(run_start);
            high = high.max(run_end);
            known += measure(run_start, run_end);
            after += 1;
        }
        if after == first {
            self.runs.insert(first, (low, high));
        } else {
            if let Some(run) = self.runs.get_mut(first) {
                *run = (low, high);
            }
            self.runs.drain(first + 1..after);
        }
        measure(low, high) - known
    }

    /// Takes `start..end` out of the set.
    pub(super) fn remove(&mut self, start: u64, end: u64) {
        let mut at = self.runs.partition_point(|run| run.1 <= start);
        while let Some(&(run_start, run_end)) = self.runs.get(at) {
            if run_start >= end || start >= end {
                break;
            }
            let left = (run_start, start.max(run_start));
            let right = (end.min(run_end), run_end);
            self.runs.remove(at);
            if right.0 < right.1 {
                self.runs.insert(at, right);
            }
            if left.0 < left.1 {
                self.runs.insert(at, left);
                at += 1;
            }
            if right.0 < right.1 {
                break;
            }
        }
    }

    /// The lowest run.
    pub(super) fn first(&self) -> Option<(u64, u64)> {
        self.runs.front().copied()
    }

    /// Takes the lowest run away when it starts at or below `base`; says where it ended.
    pub(super) fn pop_touching(&mut self, base: u64) -> Option<u64> {
        let &(start, end) = self.runs.front()?;
        if start > base {
            return None;
        }
        self.runs.pop_front();
        Some(end)
    }

    /// The first part of `from..end` that is not in the set.
    pub(super) fn first_missing(&self, from: u64, end: u64) -> Option<(u64, u64)> {
        let mut start = from;
        let mut at = self.runs.partition_point(|run| run.1 <= from);
        while let Some(&(run_start, run_end)) = self.runs.get(at) {
            if run_start > start {
                let stop = run_start.min(end);
                return (start < stop).then_some((start, stop));
            }
            start = run_end;
            at += 1;
        }
        (start < end).then_some((start, end))
    }

    /// True when nothing is in the set.
    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.runs.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn agrees_with_a_set_of_numbers(
            steps in prop::collection::vec((any::<bool>(), 0u64..80, 0u64..20), 0..60),
            probe in (0u64..80, 0u64..40),
        ) {
            let (mut runs, mut oracle) = (RangeSet::default(), BTreeSet::new());
            for (add, start, len) in steps {
                if add {
                    let before = oracle.len();
                    oracle.extend(start..start + len);
                    prop_assert_eq!(runs.insert(start, start + len) as usize, oracle.len() - before);
                } else {
                    runs.remove(start, start + len);
                    oracle.retain(|n| *n < start || *n >= start + len);
                }
                let flat: Vec<u64> = runs.runs.iter().flat_map(|run| run.0..run.1).collect();
                prop_assert_eq!(&flat, &oracle.iter().copied().collect::<Vec<_>>());
                let apart = runs.runs.iter().zip(runs.runs.iter().skip(1)).all(|(a, b)| a.1 <= b.0);
                prop_assert!(apart);
            }
            let missing = (probe.0..probe.0 + probe.1).find(|n| !oracle.contains(n));
            prop_assert_eq!(runs.first_missing(probe.0, probe.0 + probe.1).map(|m| m.0), missing);
        }
    }
}
