//! A space of which nothing is known but what was sent, in few bytes: that of a client that has not answered.

use jsp_wire::Instant;

use super::Recovery;
use super::sent::{Ledger, Packet, State};
use crate::token::Token;

/// What was sent, and how often it was asked after.
pub(crate) struct Unheard {
    packets: Box<[Packet]>,
    tokens: Box<[Token]>,
    eliciting_sent_at: Option<Instant>,
    pto_count: u32,
}

/// Packets with which a space is taken for one that was not heard: a flight, and as often again as a client's silence
/// lasts. Who makes us answer more often than that pays for no more than the answers.
const PACKETS_MAX: usize = 32;

impl Recovery {
    /// True when all that is known is what was sent, and that is little.
    pub(crate) fn is_unheard(&self) -> bool {
        if self.eliciting.saturating_add(self.quiet) > PACKETS_MAX {
            return false;
        }
        let is_first = self.ledger.first_pn() == 0 && self.scan_from == 0;
        let is_deaf = self.largest_acked.is_none() && self.loss_at.is_none();
        let is_plain = !self.guard_deadlock && !self.takes_times && self.runs.is_none();
        let all_out = || self.ledger.iter_from(0).all(|(_, sent)| sent.state == State::Outstanding);
        is_first && is_deaf && is_plain && self.since == Instant::ZERO && all_out()
    }

    /// What was sent, without room for what may be heard.
    pub(crate) fn into_unheard(self) -> Unheard {
        let Self { ledger, eliciting_sent_at, pto_count, .. } = self;
        let (packets, tokens) = ledger.into_parts();
        Unheard { packets, tokens, eliciting_sent_at, pto_count }
    }
}

impl Unheard {
    /// The space as it was.
    pub(crate) fn into_recovery(self) -> Recovery {
        let Self { packets, tokens, eliciting_sent_at, pto_count } = self;
        let mut recovery = Recovery { eliciting_sent_at, pto_count, ..Recovery::new() };
        for sent in &packets {
            let size = if sent.in_flight { u64::from(sent.size) } else { 0 };
            recovery.bytes_in_flight = recovery.bytes_in_flight.saturating_add(size);
            let count =
                if sent.ack_eliciting { &mut recovery.eliciting } else { &mut recovery.quiet };
            *count = count.saturating_add(1);
        }
        recovery.ledger = Ledger::of_parts(packets, tokens);
        recovery
    }
}
