//! What marks say of packets that left with ECT(1): queues that are made for them mark as soon as packets wait, so
//! that the share of marked packets, and not their being there, says how much is too much (RFC 9331; the response of
//! DCTCP, RFC 8257, and of draft-briscoe-iccrg-prague-congestion-control).

use core::time::Duration;

use jsp_wire::Instant;

use super::super::MarkSample;
use super::RealTime;

/// What the share of marked packets of the latest round counts in their average (RFC 8257, section 3.3).
const GAIN: f64 = 1.0 / 16.0;

/// A queue that is made for them has marked within this time.
const MARKED_WITHIN: Duration = Duration::from_secs(5);

/// Where marks begin although all packets of the round waited so long, and longer than so many packets take to
/// leave, the queue is of the older kind: a queue for ECT(1) marks at about 1 ms (RFC 9332, section 2.5.1.1).
const CLASSIC_WAIT: Duration = Duration::from_millis(4);
const CLASSIC_PACKETS: u32 = 3;

/// Marks that go on count as a beginning once in so many rounds: a queue that a slower link has made is gone by then.
const ROUNDS_AGAIN: u32 = 8;

/// So many such beginnings, less those of the newer kind, are believed.
const DOUBTS_MAX: u32 = 4;

/// What is known of the marks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scalable {
    /// Average share of packets that are marked. What comes first is answered as a loss by others would be.
    share: f64,
    /// Packets of this round.
    acked: u64,
    marked: u64,
    /// When a mark was seen last.
    at: Option<Instant>,
    /// Rounds in a row with marks.
    rounds: u32,
    doubts: u32,
}

impl Default for Scalable {
    fn default() -> Self {
        Self { share: 1.0, acked: 0, marked: 0, at: None, rounds: 0, doubts: 0 }
    }
}

impl Scalable {
    /// So many packets arrived.
    pub(super) fn on_ack(&mut self, packets: u32) {
        self.acked = self.acked.saturating_add(u64::from(packets));
    }

    /// So many of them were marked.
    pub(super) fn on_marks(&mut self, now: Instant, packets: u64) {
        self.marked = self.marked.saturating_add(packets);
        self.at = Some(now);
    }

    /// A round has ended, in which no packet waited less than `waited`; `packet` is the time in which a packet leaves
    /// the bottleneck.
    // spec: CC-48, ECN-5
    pub(super) fn on_round(&mut self, now: Instant, waited: Option<Duration>, packet: Duration) {
        let (acked, marked) = (core::mem::take(&mut self.acked), core::mem::take(&mut self.marked));
        if self.at.is_some() && acked > 0 {
            let share = marked.min(acked) as f64 / acked as f64;
            self.share += (share - self.share) * GAIN;
        }
        self.at = self.at.filter(|at| now.since(*at) < MARKED_WITHIN);
        self.rounds = if marked > 0 { self.rounds.saturating_add(1) } else { 0 };
        // Later in a row the queue may be on its way down already.
        let begins = self.rounds % ROUNDS_AGAIN == 1;
        let Some(waited) = waited.filter(|_| begins) else { return };
        let late = CLASSIC_WAIT.max(packet.saturating_mul(CLASSIC_PACKETS));
        self.doubts = if waited >= late {
            self.doubts.saturating_add(1)
        } else {
            self.doubts.saturating_sub(1)
        };
    }

    /// What a round with marks leaves of the window.
    // spec: CC-48
    pub(super) fn left(&self) -> f64 {
        1.0 - self.share / 2.0
    }

    /// A queue that is made for ECT(1) keeps waits short.
    pub(super) fn is_active(&self) -> bool {
        self.at.is_some() && !self.is_doubtful()
    }

    /// Marks seem to come from an older queue.
    // spec: ECN-5
    pub(super) fn is_doubtful(&self) -> bool {
        self.doubts >= DOUBTS_MAX
    }
}

impl RealTime {
    /// Marks of packets with ECT(1).
    // spec: ECN-4, CC-48
    pub(in crate::congestion) fn on_scalable_marks(&mut self, now: Instant, marks: &MarkSample) {
        self.scalable.on_marks(now, marks.packets);
        if !self.is_answered(marks.sent_at) {
            let left = self.scalable.left();
            self.lower(now, left);
            self.answer_left = left;
            self.undo = None;
        }
    }

    /// Marks of packets with ECT(1) seem to come from an older queue; what was learned of them is forgotten then.
    // spec: ECN-5
    pub(in crate::congestion) fn doubts_scalable_marks(&self) -> bool {
        self.scalable.is_doubtful()
    }
}
