//! What was received, in few bytes: for a connection that waits.

use core::time::Duration;

use jsp_wire::Instant;
use jsp_wire::frame::EcnCounts;

use super::{AckPolicy, ReceivedRanges};

/// Packets that have arrived, and what is to be said of them, in few bytes.
pub(crate) struct Arrived {
    ranges: ReceivedRanges,
    counts: EcnCounts,
    largest: (u64, Instant),
    missing: Option<u64>,
    deadline: Option<Instant>,
    unacked: u64,
    unconfirmed: u32,
    has_news: bool,
    at_once: bool,
}

impl Arrived {
    /// The numbers that have arrived, as ranges from the highest down.
    pub(crate) fn ranges(&self) -> &ReceivedRanges {
        &self.ranges
    }

    /// The policy as it was, for packets of the handshake.
    pub(crate) fn into_policy(self) -> AckPolicy {
        let Self { ranges, counts, missing, deadline, unacked, .. } = self;
        AckPolicy {
            ranges,
            counts,
            largest: Some(self.largest),
            missing,
            deadline,
            unacked,
            unconfirmed: self.unconfirmed,
            has_news: self.has_news,
            at_once: self.at_once,
            ..AckPolicy::new(Duration::ZERO)
        }
    }
}

impl AckPolicy {
    /// True when it is about packets of the handshake, as they come before the peer's parameters.
    pub(crate) fn is_plain(&self) -> bool {
        self.times.is_none() && self.requested.is_none() && self.recovered.is_none()
    }

    /// What has arrived, without room for what is to come: see [`AckPolicy::is_plain`].
    pub(crate) fn into_told(self) -> Option<Arrived> {
        let Self { mut ranges, counts, missing, deadline, unacked, unconfirmed, .. } = self;
        ranges.shrink();
        let (has_news, at_once) = (self.has_news, self.at_once);
        self.largest.map(|largest| Arrived {
            ranges,
            counts,
            largest,
            missing,
            deadline,
            unacked,
            unconfirmed,
            has_news,
            at_once,
        })
    }
}
