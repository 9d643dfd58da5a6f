//! What outlives a process.

use std::collections::VecDeque;
use std::time::Duration;

use jsp_app::session::{Change, Saved, Session};
use jsp_wire::Instant;

/// A store, and what is on its way there.
#[derive(Default)]
pub(super) struct Disk {
    pub(super) saved: Saved,
    writing: VecDeque<(Instant, Change)>,
}

impl Disk {
    /// What a process finds that is started again: what was on its way is lost.
    pub(super) fn with(saved: Saved) -> Self {
        Self { saved, writing: VecDeque::new() }
    }

    /// When the next change is there.
    pub(super) fn wake(&self) -> Option<Instant> {
        self.writing.front().map(|(at, _)| *at)
    }

    /// Carries a session's changes to the store, each of which takes so long.
    pub(super) fn store(&mut self, now: Instant, lag: Duration, session: &mut Session) {
        while let Some(change) = session.poll_change() {
            self.writing.push_back((now + lag, change));
        }
        while self.writing.front().is_some_and(|(at, _)| *at <= now)
            && let Some((_, change)) = self.writing.pop_front()
        {
            self.saved.apply(&change);
            session.on_stored(&change);
        }
    }
}
