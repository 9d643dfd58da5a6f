//! What goes by which path: the plan, copies by a second path, and what becomes of a path's packets when it
//! fails.

use core::time::Duration;

use jsp_wire::Instant;
use jsp_wire::frame::PathUse;

use super::Connection;
use crate::forecast::AlarmLevel;
use crate::keys::SpaceId;
use crate::packet::Lane;
use crate::path::plural::PathList;
use crate::path::{Duty, Path};
use crate::permit;
use crate::streams::Overdue;
use crate::token::{Fate, Token};

/// A path that carries nothing is asked this often whether it still works, while the connection carries stream
/// data.
const WARM_INTERVAL: Duration = Duration::from_secs(1);

/// And for so long after that.
const WARM_FOR: Duration = Duration::from_secs(3);

/// Share of packets lost, from which on messages that matter go by two paths.
const SHAKY_LOSS: f64 = 0.01;

/// While a path is silent, what has become overdue there is looked for this often.
const CROSSING_INTERVAL: Duration = Duration::from_millis(5);

impl Connection {
    /// What is under way on the path at hand is not waited for any more, if there is another path that it
    /// can take: its owners have it back.
    // spec: PTH-16
    pub(super) fn rescue(&mut self, now: Instant) {
        if self.paths.others.iter().any(|path| !path.is_failing()) {
            self.take_back(now);
        }
    }

    /// The owners of what is under way on the path at hand have it back.
    pub(super) fn take_back(&mut self, now: Instant) {
        let mut fates = core::mem::take(&mut self.scratch.fates);
        self.paths.active.numbers.recovery.surrender(&mut fates);
        self.paths.active.mtud.forget_probe();
        self.settle_fates(now, SpaceId::Data, &mut fates);
        self.scratch.fates = fates;
    }

    /// The path at hand has not answered in time: what is under way there goes once more by another one,
    /// if there is one that works. Nothing is held lost by that.
    // spec: PTH-16
    pub(super) fn doubt_path(&mut self, now: Instant, fates: &mut Vec<(Token, Fate)>) {
        if self.paths.others.iter().all(|path| path.is_failing()) {
            return;
        }
        let mut doubted = core::mem::take(&mut self.scratch.tokens);
        doubted.clear();
        while self.paths.active.numbers.recovery.probe_tokens(&mut doubted) {}
        self.doubt(now, &doubted, fates);
        self.scratch.tokens = doubted;
    }

    /// Decides which path carries what, and in which order they are asked.
    pub(super) fn plan(&mut self) -> PathList {
        if self.lifecycle.is_open() && self.paths.len() > 1 {
            return permit::plan(&mut self.paths);
        }
        core::iter::once(self.paths.active.id).collect()
    }

    /// The corridor goes back to the path that is used first.
    pub(super) fn return_to_first(&mut self) {
        if self.paths.len() == 1 {
            return;
        }
        if let Some(first) = self.plan().first() {
            self.paths.focus(first);
        }
    }

    /// Something that real-time messages wait for, or copies of them.
    pub(super) fn is_urgent(&self) -> bool {
        self.streams.is_urgent()
            || (self.paths.active.duty >= Duty::Copies
                && self.streams.has_doubles(self.paths.active.id))
    }

    /// What the path at hand means for what goes into a packet.
    pub(super) fn lane(&self) -> Lane {
        let here = &self.paths.active;
        let lane = Lane {
            path: here.id,
            is_one_of_many: self.paths.were_many(),
            protects: here.fec.as_ref().is_some_and(|fec| fec.is_protecting()),
            ..Lane::default()
        };
        if self.paths.others.is_empty() {
            return lane;
        }
        let twins = || self.paths.others.iter().filter(|path| path.duty >= Duty::Copies);
        let alarmed = here.forecast.alarm().level >= AlarmLevel::Watch;
        let lossy = here.forecast.loss() >= SHAKY_LOSS;
        let is_shaky = (alarmed && twins().next().is_some())
            || (lossy && twins().any(|path| path.duty == Duty::All));
        Lane { has_twin: twins().next().is_some(), is_shaky, ..lane }
    }

    /// Messages that took another path and are overdue there.
    // spec: PTH-14
    pub(super) fn crossing(&mut self, now: Instant, may_copy: bool) -> Option<Overdue> {
        if self.paths.others.is_empty() || !may_copy || self.paths.active.duty < Duty::Copies {
            return None;
        }
        let held = self.peer_ack_delay_max();
        for place in 0..self.paths.others.len() {
            let Some(path) = self.paths.others.get(place) else { break };
            let Some(after) = path.overdue_after(now, held, true) else { continue };
            let late = path.overdue_after(now, held, false).unwrap_or(Duration::MAX);
            let overdue = Overdue {
                before: now - after,
                eager: true,
                path: path.id,
                crosses: true,
                before_doubled: now - late,
            };
            if self.streams.has_overdue(now, overdue) {
                return Some(overdue);
            }
        }
        None
    }

    /// When something may have become overdue on the path at hand that another one could carry.
    pub(super) fn crossing_at(&self, now: Instant) -> Option<Instant> {
        let held = self.peer_ack_delay_max();
        let here = &self.paths.active;
        let takes = |path: &Path| path.duty >= Duty::Copies;
        if !self.paths.others.iter().any(|path| takes(path)) {
            return None;
        }
        let at = here.overdue_at(held)?;
        if !self.streams.may_cross(now, here.id) {
            return None;
        }
        Some(if at > now { at } else { now + CROSSING_INTERVAL })
    }

    /// When the path at hand owes a sign of life, as every path does that is validated and not down while there are
    /// several.
    // spec: PTH-15
    pub(super) fn warm_at(&self) -> Option<Instant> {
        let path = &self.paths.active;
        let is_kept = path.is_validated && path.usage.effective() != PathUse::Down;
        if self.paths.len() == 1 || !is_kept {
            return None;
        }
        // A connection that carries nothing needs none.
        let until = self.paths.busy_at + WARM_FOR;
        path.warmth.cools_at(WARM_INTERVAL).filter(|at| *at < until)
    }
}
