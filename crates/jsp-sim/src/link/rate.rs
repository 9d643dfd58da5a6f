//! How fast a link sends, and what waits while it does.

use std::time::Duration;

use jsp_wire::Instant;

/// Bits per second of a link, over time.
#[derive(Clone, Debug, PartialEq, Default)]
pub enum Rate {
    /// Everything leaves at once.
    #[default]
    Unlimited,
    /// Always the same, in bits per second.
    Constant(u64),
    /// From each instant on another, in bits per second; sorted by instant. The first holds from the
    /// start.
    Steps(Vec<(Instant, u64)>),
}

impl Rate {
    /// When `bytes` are out that begin to leave at `start`. A packet keeps the rate it began with.
    pub(super) fn end_of(&self, start: Instant, bytes: u64) -> Instant {
        match self.at(start) {
            None => start,
            Some(bps) => {
                let nanos = u128::from(bytes) * 8_000_000_000 / u128::from(bps.max(1));
                start + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
            }
        }
    }

    /// Bits per second at an instant; `None` when there is no limit.
    pub fn at(&self, now: Instant) -> Option<u64> {
        match self {
            Self::Unlimited => None,
            Self::Constant(bps) => Some(*bps),
            Self::Steps(steps) => {
                let past = steps.iter().take_while(|(from, _)| *from <= now).last();
                past.or(steps.first()).map(|(_, bps)| *bps)
            }
        }
    }
}

/// What happens to packets that come faster than the link sends.
#[derive(Clone, Debug, PartialEq)]
pub enum Queue {
    /// They wait, as long as the queue holds at most this many bytes, headers included.
    DropTail {
        /// Bytes that may wait.
        bytes: u64,
    },
    /// They wait, and those that can say so are marked when they find many before them.
    Marking {
        /// Bytes that may wait.
        bytes: u64,
        /// A packet is marked that finds more than this many bytes before it.
        mark_above: u64,
    },
    /// A token bucket drops what exceeds a rate below the link's own.
    Policer {
        /// Bits per second that the bucket fills with.
        bps: u64,
        /// Bytes that the bucket holds.
        bucket: u64,
        /// Bytes that may wait behind the bucket.
        bytes: u64,
    },
}

impl Default for Queue {
    fn default() -> Self {
        Self::DropTail { bytes: u64::MAX }
    }
}

/// What the queue says to a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Admission {
    Drop,
    Wait,
    WaitMarked,
}

/// The state of a queue's discipline; the packets themselves are the link's.
#[derive(Clone, Debug)]
pub(super) struct Gate {
    queue: Queue,
    tokens: f64,
    filled: Instant,
}

impl Gate {
    pub(super) fn new(queue: Queue) -> Self {
        let tokens = match queue {
            Queue::Policer { bucket, .. } => bucket as f64,
            Queue::DropTail { .. } | Queue::Marking { .. } => 0.0,
        };
        Self { queue, tokens, filled: Instant::ZERO }
    }

    /// Decides on a packet of `size` bytes that finds `backlog` bytes waiting.
    pub(super) fn admit(&mut self, now: Instant, backlog: u64, size: u64) -> Admission {
        let limit = match self.queue {
            Queue::DropTail { bytes } | Queue::Marking { bytes, .. } => bytes,
            Queue::Policer { bps, bucket, bytes } => {
                let filled = now.since(self.filled).as_secs_f64() * bps as f64 / 8.0;
                self.tokens = (self.tokens + filled).min(bucket as f64);
                self.filled = now;
                if self.tokens < size as f64 {
                    return Admission::Drop;
                }
                self.tokens -= size as f64;
                bytes
            }
        };
        // An empty queue takes any packet, so that a small one does not close the link.
        if backlog > 0 && backlog.saturating_add(size) > limit {
            return Admission::Drop;
        }
        match self.queue {
            Queue::Marking { mark_above, .. } if backlog > mark_above => Admission::WaitMarked,
            _ => Admission::Wait,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    #[test]
    fn a_packet_takes_its_time() {
        assert_eq!(Rate::Constant(8_000_000).end_of(at(5), 1_000), at(6));
        assert_eq!(Rate::Unlimited.end_of(at(5), 1_000), at(5));
        let steps = Rate::Steps(vec![(at(0), 8_000_000), (at(10), 800_000)]);
        assert_eq!(steps.end_of(at(9), 1_000), at(10));
        assert_eq!(steps.end_of(at(10), 1_000), at(20));
    }

    #[test]
    fn a_policer_lets_the_bucket_pass_and_then_its_rate() {
        let mut gate =
            Gate::new(Queue::Policer { bps: 8_000_000, bucket: 10_000, bytes: u64::MAX });
        let mut passed = |ms: u64, count: u64| {
            (0..count).filter(|_| gate.admit(at(ms), 0, 1_000) != Admission::Drop).count()
        };
        assert_eq!(passed(0, 20), 10);
        assert_eq!(passed(3, 20), 3);
        assert_eq!(passed(1_000, 20), 10);
    }

    #[test]
    fn a_full_queue_drops_and_a_long_one_marks() {
        let mut gate = Gate::new(Queue::Marking { bytes: 3_000, mark_above: 1_000 });
        assert_eq!(gate.admit(at(0), 1_000, 1_000), Admission::Wait);
        assert_eq!(gate.admit(at(0), 2_000, 1_000), Admission::WaitMarked);
        assert_eq!(gate.admit(at(0), 2_500, 1_000), Admission::Drop);
    }
}
