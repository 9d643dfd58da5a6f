//! Losses in the order of packet numbers: how many in a row, and how many arrived between.

use core::time::Duration;
use std::collections::VecDeque;

use super::Recovery;
use crate::fec::LossRun;

/// Runs that wait to be asked for; the oldest go first.
const WAITING_MAX: usize = 64;

/// Counts runs as packets settle in the order in which they were sent.
#[derive(Debug, Default)]
pub(super) struct LossRuns {
    open: LossRun,
    ended: VecDeque<LossRun>,
}

impl LossRuns {
    /// The next packet arrived.
    pub(super) fn on_arrived(&mut self) {
        if self.open.lost > 0 {
            self.end();
        }
        self.open.arrived = self.open.arrived.saturating_add(1);
    }

    /// The next packet was lost while packets waited in queues for `queued`.
    pub(super) fn on_lost(&mut self, queued: Duration) {
        self.open.lost = self.open.lost.saturating_add(1);
        self.open.queued = self.open.queued.max(queued);
    }

    fn end(&mut self) {
        if self.ended.len() >= WAITING_MAX {
            self.ended.pop_front();
        }
        self.ended.push_back(core::mem::take(&mut self.open));
    }

    /// Runs that have ended, and what has arrived since. One that may go on is kept.
    pub(super) fn take(&mut self) -> impl Iterator<Item = LossRun> + '_ {
        if self.open.lost == 0 && self.open.arrived > 0 {
            self.end();
        }
        self.ended.drain(..)
    }
}

impl Recovery {
    /// How packets were lost since this was asked last, in the order of sending. They are counted from
    /// the first call on.
    pub(crate) fn loss_runs(&mut self) -> impl Iterator<Item = LossRun> + '_ {
        self.runs.get_or_insert_default().take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_ends_with_the_next_arrival() {
        let mut runs = LossRuns::default();
        runs.on_arrived();
        runs.on_arrived();
        runs.on_lost(Duration::from_millis(1));
        assert_eq!(runs.take().count(), 0);
        runs.on_lost(Duration::from_millis(3));
        runs.on_arrived();
        let taken: Vec<_> = runs.take().collect();
        let first = LossRun { arrived: 2, lost: 2, queued: Duration::from_millis(3) };
        assert_eq!(taken, [first, LossRun { arrived: 1, lost: 0, queued: Duration::ZERO }]);
        assert_eq!(runs.take().count(), 0);
    }

    #[test]
    fn nobody_asking_costs_a_constant() {
        let mut runs = LossRuns::default();
        for _ in 0..10_000 {
            runs.on_lost(Duration::ZERO);
            runs.on_arrived();
        }
        assert!(runs.take().count() <= WAITING_MAX + 1);
    }
}
