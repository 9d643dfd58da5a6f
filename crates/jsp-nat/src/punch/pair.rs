//! Ways that are tried, and the one that is open.

use std::time::Duration;

use jsp_wire::Instant;

use crate::candidate::{Candidate, Kind, is_private};
use crate::{Leg, Way};

/// Time between two first punches to one pair, and how it grows.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LAST: Duration = Duration::from_secs(1);
/// Silence on the open way after which it is asked for a sign of life (RFC 7675 asks every 5 s).
const CONSENT_EVERY: Duration = Duration::from_secs(5);
/// Time between such questions once one was not answered, and how long until the way is lost.
const CONSENT_RETRY: Duration = Duration::from_millis(300);
const CONSENT_LOST: Duration = Duration::from_millis(1500);
/// Time after which it is asked whatever comes by it, and after which it is lost without an answer (RFC 7675, section
/// 5.1): packets are not looked into here, and anybody can send what looks like one.
const PROOF_EVERY: Duration = Duration::from_secs(15);
const PROOF_LOST: Duration = Duration::from_secs(30);

/// A way, and what came of it.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) way: Way,
    pub(super) priority: u64,
    /// What we expect back.
    pub(super) number: u64,
    /// What came from there last; 0 for nothing.
    pub(super) heard: u64,
    /// The peer has told of it, or has answered there.
    pub(super) is_known: bool,
    pub(super) is_open: bool,
    /// It was open, and what went by it did not arrive.
    pub(super) is_useless: bool,
    pub(super) sent: u32,
    pub(super) next_at: Instant,
}

impl Pair {
    pub(super) fn is_wanted(&self, floor: u64) -> bool {
        self.is_known && self.priority > floor && !self.is_open && !self.is_useless
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
    heard_at: Instant,
    /// When the peer has answered last.
    proved_at: Instant,
    /// Since when a question is unanswered.
    asked_at: Option<Instant>,
    next_at: Instant,
    /// How many of the probe timeouts in a row there were before.
    pub(super) timeouts_before: Option<u32>,
}

impl Chosen {
    pub(super) fn new(now: Instant, pair: usize) -> Self {
        let next_at = now + CONSENT_EVERY;
        Self { pair, heard_at: now, proved_at: now, asked_at: None, next_at, timeouts_before: None }
    }

    /// Something came by it: a sign of life, for a while.
    // spec: RDV-190
    pub(super) fn on_traffic(&mut self, now: Instant) {
        self.heard_at = now;
        let proof_at = self.proved_at + PROOF_EVERY;
        if now < proof_at {
            self.asked_at = None;
            self.next_at = (now + CONSENT_EVERY).min(proof_at);
        }
    }

    /// The own number has come back. While none is asked for, it is an old one, which anybody may send again.
    pub(super) fn on_answer(&mut self, now: Instant) {
        if self.asked_at.take().is_some() {
            self.proved_at = now;
        }
        self.on_traffic(now);
    }

    pub(super) fn ask_now(&mut self, now: Instant) {
        self.next_at = now;
    }

    /// Whether a question is due, and it is the first since the last answer.
    pub(super) fn poll_question(&mut self, now: Instant) -> Option<bool> {
        if now < self.next_at {
            return None;
        }
        self.next_at = now + CONSENT_RETRY;
        let is_first = self.asked_at.is_none();
        self.asked_at.get_or_insert(now);
        Some(is_first)
    }

    /// When it is lost, if nothing comes before.
    // spec: RDV-190
    fn lost_at(&self) -> Option<Instant> {
        let silent = self.asked_at?.max(self.heard_at) + CONSENT_LOST;
        Some(silent.min(self.proved_at + PROOF_LOST))
    }

    pub(super) fn is_lost(&self, now: Instant) -> bool {
        self.lost_at().is_some_and(|at| now >= at)
    }

    /// When it is to be looked at next.
    pub(super) fn due(&self) -> Instant {
        self.lost_at().map_or(self.next_at, |lost| lost.min(self.next_at))
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
