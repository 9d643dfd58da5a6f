//! What was received and acknowledged, in few bytes: for a connection that waits.

use core::time::Duration;

use jsp_wire::Instant;
use jsp_wire::frame::EcnCounts;

use super::{AckPolicy, ReceivedRanges};

/// Packets that have arrived and were acknowledged, in few bytes.
pub(crate) struct AllTold {
    ranges: ReceivedRanges,
    counts: EcnCounts,
    largest: (u64, Instant),
    unconfirmed: u32,
}

impl AllTold {
    /// The numbers that have arrived, as ranges from the highest down.
    pub(crate) fn ranges(&self) -> &ReceivedRanges {
        &self.ranges
    }

    /// The policy as it was, for packets of the handshake.
    pub(crate) fn into_policy(self) -> AckPolicy {
        let Self { ranges, counts, largest, unconfirmed } = self;
        let largest = Some(largest);
        AckPolicy { ranges, counts, largest, unconfirmed, ..AckPolicy::new(Duration::ZERO) }
    }
}

impl AckPolicy {
    /// True when all that has arrived was told, and nothing else is known of the peer's packets.
    pub(crate) fn is_told(&self) -> bool {
        let is_due = self.has_news || self.at_once || self.deadline.is_some() || self.unacked > 0;
        let is_plain = self.times.is_none() && self.requested.is_none() && self.recovered.is_none();
        !is_due && is_plain && self.missing.is_none()
    }

    /// What was told, without room for what is to come: see [`AckPolicy::is_told`].
    pub(crate) fn into_told(self) -> Option<AllTold> {
        let Self { ranges, counts, largest, unconfirmed, .. } = self;
        largest.map(|largest| AllTold { ranges, counts, largest, unconfirmed })
    }
}
