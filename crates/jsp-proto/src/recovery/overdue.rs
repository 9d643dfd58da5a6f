//! What recovery knows of packets that are late but not lost.

use jsp_wire::Instant;

use super::Recovery;
use super::sent::State;

impl Recovery {
    /// When the oldest ack-eliciting packet without fate left.
    pub(crate) fn oldest_eliciting(&self) -> Option<Instant> {
        if self.eliciting == 0 {
            return None;
        }
        let mut packets = self.ledger.iter_from(self.scan_from);
        packets
            .find(|(_, packet)| packet.state == State::Outstanding && packet.ack_eliciting)
            .map(|(_, packet)| packet.sent_at)
    }

    /// Since when an acknowledgement is waited for and none has come, on the way that the path takes now.
    pub(crate) fn silent_since(&self) -> Option<Instant> {
        Some(self.oldest_eliciting()?.max(self.acked_at).max(self.since))
    }
}
