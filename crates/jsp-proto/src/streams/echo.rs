//! The last retransmission that can still make a deadline goes twice: by the time that its loss were
//! known, it would be too late for another (Hairpin, NSDI 2024).

use core::time::Duration;

use jsp_wire::Instant;

use super::send_messages::{Lost, SendMessages};

/// The two copies lie this far apart at most: about as long as fades of a radio last.
const APART_MAX: Duration = Duration::from_millis(20);

/// And at least this far: closer, both share their fate.
const APART_MIN: Duration = Duration::from_millis(2);

impl SendMessages {
    /// A retransmission of the message goes out: when it is the last one that can arrive in time, a
    /// second one follows, half-way to the latest moment that is of use.
    // spec: STR-44
    pub(super) fn plan_echo(&mut self, number: u64, now: Instant, rtt: Duration) {
        let Some(record) = self.record_mut(number) else { return };
        let is_bounded = record.expires != Instant::FAR_FUTURE
            && record.retransmits_max > 0
            && record.fountain.is_none();
        // Its loss is known after a round trip at best, and the next one takes half of one.
        let next_arrives = now + rtt + rtt / 2;
        let apart = (record.expires.since(now + rtt / 2) / 2).min(APART_MAX);
        if record.is_echoed || !is_bounded || next_arrives < record.expires || apart < APART_MIN {
            return;
        }
        record.is_echoed = true;
        record.spend_retransmit();
        let at = now + apart;
        self.echoes.push_back((at, number));
        self.expiry = self.expiry.min(at);
    }

    /// Queues the second copies that are due.
    pub(super) fn release_echoes(&mut self, now: Instant) {
        for _ in 0..self.echoes.len() {
            let Some((at, number)) = self.echoes.pop_front() else { return };
            if at > now {
                self.echoes.push_back((at, number));
                continue;
            }
            let waits = self.is_queued(number);
            let Some(record) = self.record(number) else { continue };
            // What was never sent is not repeated: it would arrive without its credit.
            let len = record.sent;
            if record.done || record.superseded || record.expires <= now || waits {
                continue;
            }
            self.queue_again(Lost { number, offset: 0, len });
        }
    }
}
