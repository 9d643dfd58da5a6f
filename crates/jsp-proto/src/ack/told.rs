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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Ecn;

    #[test]
    fn what_was_told_in_few_bytes_is_whole_again() {
        let at = Instant::from_nanos(7);
        let mut acks = AckPolicy::new(Duration::ZERO);
        assert!(acks.clone().into_told().is_none(), "nothing has arrived");
        for pn in [3, 5] {
            acks.on_packet(at, pn, true, Some(Ecn::Ect0));
        }
        (acks.missing, acks.unconfirmed) = (Some(4), 2);
        let all = |acks: &AckPolicy| {
            let ranges: Vec<_> = acks.ranges.iter().collect();
            let due = (acks.missing, acks.deadline, acks.unacked, acks.unconfirmed);
            (ranges, acks.counts, acks.largest, due, acks.has_news, acks.at_once)
        };
        let before = all(&acks);
        let told = acks.into_told().unwrap();
        assert_eq!(told.ranges().iter().collect::<Vec<_>>(), [(5, 5), (3, 3)]);
        assert_eq!(all(&told.into_policy()), before);
        assert_eq!(before.3, (Some(4), Some(at), 2, 2));
        assert!(before.4 && before.5);
    }

    #[test]
    fn what_few_bytes_do_not_tell_is_not_left_out() {
        let plain = AckPolicy::new(Duration::ZERO);
        assert!(plain.is_plain());
        let requested = AckPolicy { requested: Some(1), ..plain.clone() };
        let times = AckPolicy { times: Some(Box::default()), ..plain.clone() };
        let recovered = AckPolicy { recovered: Some(Box::default()), ..plain };
        assert!(![requested, times, recovered].iter().any(AckPolicy::is_plain));
    }
}
