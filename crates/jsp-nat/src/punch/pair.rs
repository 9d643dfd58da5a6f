//! Ways that are tried, and the one that is open.

use std::time::Duration;

use jsp_wire::Instant;

use super::CONSENT_EVERY;
use crate::candidate::{Candidate, Kind, is_private};
use crate::{Leg, Way};

/// Time between two first punches to one pair, and how it grows.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LAST: Duration = Duration::from_secs(1);

/// A way, and what came of it.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) way: Way,
    pub(super) priority: u64,
    /// What we expect back.
    pub(super) number: u64,
    /// What came from there last; 0 for nothing.
    pub(super) heard: u64,
    pub(super) is_open: bool,
    /// It was open, and what went by it did not arrive.
    pub(super) is_useless: bool,
    pub(super) sent: u32,
    pub(super) next_at: Instant,
}

impl Pair {
    pub(super) fn is_wanted(&self, floor: u64) -> bool {
        self.priority > floor && !self.is_open && !self.is_useless
    }

    pub(super) fn on_tried(&mut self, now: Instant) {
        let factor = 1u32 << self.sent.min(4);
        self.next_at = now + RETRY_FIRST.saturating_mul(factor).min(RETRY_LAST);
        self.sent = self.sent.saturating_add(1);
    }
}

/// The way that is open.
#[derive(Debug)]
pub(super) struct Chosen {
    pub(super) pair: usize,
    pub(super) heard_at: Instant,
    /// Since when a question is unanswered.
    pub(super) asked_at: Option<Instant>,
    pub(super) next_at: Instant,
    /// Since when probe timeouts are counted, and how many there were before.
    pub(super) timeouts: Option<(Instant, u64)>,
}

impl Chosen {
    pub(super) fn new(now: Instant, pair: usize) -> Self {
        let next_at = now + CONSENT_EVERY;
        Self { pair, heard_at: now, asked_at: None, next_at, timeouts: None }
    }
}

/// Whether an address of the peer is tried by a leg: what others have behind their boxes, a TURN server does not
/// reach.
pub(super) fn is_worth_it(leg: Leg, candidate: &Candidate) -> bool {
    leg == Leg::Socket || candidate.kind != Kind::Host || !is_private(&candidate.address)
}

/// RFC 8445, section 6.1.2.3.
pub(super) fn pair_priority(controlling: u32, controlled: u32) -> u64 {
    let (low, high) = (controlling.min(controlled), controlling.max(controlled));
    (u64::from(low) << 32)
        .saturating_add(u64::from(high).saturating_mul(2))
        .saturating_add(u64::from(controlling > controlled))
}
