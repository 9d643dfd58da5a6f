//! Which packets are lost: those that left before one that has arrived, and have had their time.

use core::time::Duration;

use jsp_wire::Instant;

use super::sent::{Packet, State};
use super::{LossOutcome, Recovery, Rtt};
use crate::token::{Fate, Token};

/// Persistent congestion is this many probe timeouts of nothing but loss (RFC 9002, section 7.6.1,
/// `kPersistentCongestionThreshold`).
const PERSISTENT_CONGESTION_PTOS: u32 = 3;

impl Recovery {
    /// Declares lost what left before an acknowledged packet and has had its time.
    // spec: REC-5
    pub(super) fn detect_lost(
        &mut self,
        now: Instant,
        rtt: &Rtt,
        ack_delay_max: Duration,
        fates: &mut Vec<(Token, Fate)>,
    ) -> LossOutcome {
        let mut outcome = LossOutcome::default();
        self.loss_at = None;
        let Some(largest) = self.largest_acked else { return outcome };
        let width = self.reorder.width(rtt);
        let persistent = rtt.pto_base(ack_delay_max).saturating_mul(PERSISTENT_CONGESTION_PTOS);
        self.scan_from = self.scan_from.max(self.ledger.first_pn());
        while self.scan_from < largest {
            let Some(packet) = self.ledger.get_mut(self.scan_from) else { break };
            match packet.state {
                State::Acked { .. } => {
                    self.lost_run.interrupt();
                    if let Some(runs) = &mut self.runs {
                        runs.on_arrived();
                    }
                }
                State::Lost { .. } | State::Skipped => {}
                State::Outstanding | State::Recovered => {
                    let due = self.reorder.lost_at(packet.sent_at, width);
                    if due > now {
                        self.loss_at = Some(due);
                        break;
                    }
                    packet.state = State::Lost { at: now };
                    let lost = *packet;
                    outcome.persistent_congestion |=
                        lost.ack_eliciting && self.lost_run.extend(lost.sent_at, rtt, persistent);
                    self.settle_lost(&lost, rtt, &mut outcome, fates);
                }
            }
            self.scan_from = self.scan_from.saturating_add(1);
        }
        self.rtt_min_stale |= outcome.persistent_congestion;
        outcome
    }

    /// Takes the packet `scan_from` out of flight.
    fn settle_lost(
        &mut self,
        lost: &Packet,
        rtt: &Rtt,
        outcome: &mut LossOutcome,
        fates: &mut Vec<(Token, Fate)>,
    ) {
        if let Some(runs) = &mut self.runs {
            runs.on_lost(rtt.adjusted().saturating_sub(rtt.min()));
        }
        if !lost.recovered {
            fates.extend(self.ledger.tokens(lost).map(|token| (token, Fate::Lost)));
        }
        if lost.ack_eliciting {
            self.eliciting = self.eliciting.saturating_sub(1);
        } else {
            self.quiet = self.quiet.saturating_sub(1);
        }
        if !lost.in_flight {
            return;
        }
        let size = u64::from(lost.size);
        self.bytes_in_flight = self.bytes_in_flight.saturating_sub(size);
        if lost.sent_at < self.since {
            return;
        }
        // spec: MTU-4
        if lost.is_mtu_probe {
            outcome.lost_mtu_probe = Some(lost.size);
            return;
        }
        outcome.bytes_lost = outcome.bytes_lost.saturating_add(size);
        outcome.packets = outcome.packets.saturating_add(1);
        outcome.first_lost_sent_at = outcome.first_lost_sent_at.or(Some(lost.sent_at));
        outcome.largest_lost_sent_at = outcome.largest_lost_sent_at.max(Some(lost.sent_at));
        outcome.largest_lost_size = outcome.largest_lost_size.max(lost.size);
        if self.episode_end.is_none_or(|end| self.scan_from >= end) {
            self.episode_end = Some(self.ledger.end());
            self.reorder.on_episode();
        }
    }
}
