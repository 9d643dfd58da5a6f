//! How fast a link sends, and what waits while it does.

use std::sync::Arc;
use std::time::Duration;

use jsp_wire::Instant;

use super::trace::{OPPORTUNITY_BYTES, Trace};

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
    /// The opportunities of a recorded or generated link, which repeat without end.
    Trace {
        /// The link.
        trace: Arc<Trace>,
        /// Where in the trace the world begins.
        offset: Duration,
    },
}

impl Rate {
    /// Bits per second at an instant, of a trace its mean; `None` when there is no limit.
    pub fn at(&self, now: Instant) -> Option<u64> {
        match self {
            Self::Unlimited => None,
            Self::Constant(bps) => Some(*bps),
            Self::Steps(steps) => {
                let past = steps.iter().take_while(|(from, _)| *from <= now).last();
                past.or(steps.first()).map(|(_, bps)| *bps)
            }
            Self::Trace { trace, .. } => Some(trace.mean_bps()),
        }
    }

    /// Bits that may leave between two instants, headers of IP and UDP included; `None` when there
    /// is no limit.
    pub fn capacity(&self, from: Instant, to: Instant) -> Option<f64> {
        match self {
            Self::Unlimited => None,
            Self::Constant(bps) => Some(*bps as f64 * to.since(from).as_secs_f64()),
            Self::Steps(steps) => {
                let later = steps.iter().map(|(at, _)| *at).filter(|at| from < *at && *at < to);
                let mut cuts: Vec<_> = [from].into_iter().chain(later).collect();
                cuts.push(to);
                let piece = |pair: &[Instant]| {
                    self.at(pair[0]).unwrap_or(0) as f64 * pair[1].since(pair[0]).as_secs_f64()
                };
                Some(cuts.windows(2).map(piece).sum())
            }
            Self::Trace { trace, offset } => {
                let first = trace.first_from(from + *offset);
                let count = trace.first_from(to + *offset) - first;
                Some((count * OPPORTUNITY_BYTES * 8) as f64)
            }
        }
    }
}

/// The sending end of a link: when packets are out.
#[derive(Clone, Debug)]
pub(super) struct Outlet {
    rate: Rate,
    /// The opportunity of the trace that is being used, and how many of its bytes are left.
    opportunity: u64,
    left: u64,
}

impl Outlet {
    pub(super) fn new(rate: Rate) -> Self {
        Self { rate, opportunity: 0, left: OPPORTUNITY_BYTES }
    }

    /// When `bytes` are out that begin to leave at `start`. Behind a rate in numbers a packet keeps
    /// the one it began with; behind a trace it takes as many opportunities as it needs, and what is
    /// left of the last is there for a packet that waits already.
    pub(super) fn end_of(&mut self, start: Instant, bytes: u64) -> Instant {
        if let Rate::Trace { trace, offset } = &self.rate {
            let (trace, offset) = (Arc::clone(trace), *offset);
            return self.end_in_trace(&trace, offset, start, bytes);
        }
        match self.rate.at(start) {
            None => start,
            Some(bps) => {
                let nanos = u128::from(bytes) * 8_000_000_000 / u128::from(bps.max(1));
                start + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
            }
        }
    }

    fn end_in_trace(
        &mut self,
        trace: &Trace,
        offset: Duration,
        start: Instant,
        bytes: u64,
    ) -> Instant {
        let first = trace.first_from(start + offset);
        if self.opportunity < first {
            self.opportunity = first;
            self.left = OPPORTUNITY_BYTES;
        }
        let mut rest = bytes;
        while rest > self.left {
            rest -= self.left;
            self.opportunity += 1;
            self.left = OPPORTUNITY_BYTES;
        }
        self.left -= rest;
        let out = trace.at(self.opportunity);
        Instant::from_nanos(out.as_nanos().saturating_sub(offset.as_nanos() as u64)).max(start)
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
    /// They wait, as long as the queue holds at most this many, whatever their size.
    DropTailPackets {
        /// Packets that may wait.
        packets: usize,
    },
    /// They wait, and those that can say so are marked when they find many before them.
    Marking {
        /// Bytes that may wait.
        bytes: u64,
        /// A packet is marked that finds more than this many bytes before it.
        mark_above: u64,
    },
    /// Two queues that share the link and know of each other (DualPI2, RFC 9332): packets with ECT(1) or a mark go
    /// first and are marked when they have waited for a millisecond; others are marked, or dropped where they
    /// cannot say so, by a controller that aims at 15 ms.
    DualPi2 {
        /// Bytes that may wait in both.
        bytes: u64,
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
            Queue::DropTail { .. }
            | Queue::DropTailPackets { .. }
            | Queue::Marking { .. }
            | Queue::DualPi2 { .. } => 0.0,
        };
        Self { queue, tokens, filled: Instant::ZERO }
    }

    /// Decides on a packet of `size` bytes that finds `backlog` bytes in `waiting` packets.
    pub(super) fn admit(
        &mut self,
        now: Instant,
        waiting: usize,
        backlog: u64,
        size: u64,
    ) -> Admission {
        let limit = match self.queue {
            Queue::DropTailPackets { packets } if waiting >= packets.max(1) => {
                return Admission::Drop;
            }
            Queue::DropTailPackets { .. } => u64::MAX,
            Queue::DropTail { bytes } | Queue::Marking { bytes, .. } | Queue::DualPi2 { bytes } => {
                bytes
            }
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
        let end_of = |rate: &Rate, start| Outlet::new(rate.clone()).end_of(start, 1_000);
        assert_eq!(end_of(&Rate::Constant(8_000_000), at(5)), at(6));
        assert_eq!(end_of(&Rate::Unlimited, at(5)), at(5));
        let steps = Rate::Steps(vec![(at(0), 8_000_000), (at(10), 800_000)]);
        assert_eq!(end_of(&steps, at(9)), at(10));
        assert_eq!(end_of(&steps, at(10)), at(20));
        // 5 ms of 8 Mbit/s and 5 ms of 800 kbit/s.
        assert_eq!(steps.capacity(at(5), at(15)), Some(44_000.0));
    }

    #[test]
    fn packets_use_the_opportunities_of_a_trace_and_lose_those_they_miss() {
        let trace = Arc::new(Trace::new(vec![1, 2, 2, 5, 10]));
        let rate = Rate::Trace { trace: Arc::clone(&trace), offset: Duration::ZERO };
        let mut outlet = Outlet::new(rate.clone());
        assert_eq!(outlet.end_of(at(0), 700), at(1));
        assert_eq!(outlet.end_of(at(1), 700), at(1), "the rest of the same opportunity");
        assert_eq!(outlet.end_of(at(1), 1_500), at(2), "100 bytes of one, 1400 of the next");
        assert_eq!(outlet.end_of(at(3), 1_500), at(5), "what was unused at 2 ms is gone");
        assert_eq!(outlet.end_of(at(5), 3_000), at(11), "the trace begins anew");
        assert_eq!(rate.capacity(at(0), at(20)), Some(9.0 * 12_000.0), "up to but not at 20 ms");
        assert_eq!(rate.at(at(0)), Some(6_000_000));
        let offset = Duration::from_millis(4);
        let mut outlet = Outlet::new(Rate::Trace { trace, offset });
        assert_eq!(outlet.end_of(at(0), 1_500), at(1));
    }

    #[test]
    fn a_queue_by_packets_counts_them() {
        let mut gate = Gate::new(Queue::DropTailPackets { packets: 2 });
        assert_eq!(gate.admit(at(0), 1, 90_000, 1_000), Admission::Wait);
        assert_eq!(gate.admit(at(0), 2, 200, 100), Admission::Drop);
    }

    #[test]
    fn a_policer_lets_the_bucket_pass_and_then_its_rate() {
        let mut gate =
            Gate::new(Queue::Policer { bps: 8_000_000, bucket: 10_000, bytes: u64::MAX });
        let mut passed = |ms: u64, count: u64| {
            (0..count).filter(|_| gate.admit(at(ms), 0, 0, 1_000) != Admission::Drop).count()
        };
        assert_eq!(passed(0, 20), 10);
        assert_eq!(passed(3, 20), 3);
        assert_eq!(passed(1_000, 20), 10);
    }

    #[test]
    fn a_full_queue_drops_and_a_long_one_marks() {
        let mut gate = Gate::new(Queue::Marking { bytes: 3_000, mark_above: 1_000 });
        assert_eq!(gate.admit(at(0), 1, 1_000, 1_000), Admission::Wait);
        assert_eq!(gate.admit(at(0), 2, 2_000, 1_000), Admission::WaitMarked);
        assert_eq!(gate.admit(at(0), 3, 2_500, 1_000), Admission::Drop);
    }
}
