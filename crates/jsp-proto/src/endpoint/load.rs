//! Calm or loaded: whether strangers must prove their address first.

use jsp_wire::Instant;

use super::hello_table::HelloTable;
use super::source::Prefix;
use crate::config::RetryPolicy;

/// Initial packets without a cookie in one second, beyond which a server is loaded. About two a
/// hello; answering so many takes a quarter of a core.
const HELLO_PACKETS_PER_SECOND: u32 = 4096;

/// How many Initial packets without a cookie have come, in this second and the one before.
#[derive(Default)]
pub(super) struct HelloRate {
    second: u64,
    present: u32,
    past: u32,
}

impl HelloRate {
    pub(super) fn note(&mut self, now: Instant) {
        let second = now.as_nanos() / 1_000_000_000;
        if second != self.second {
            let follows = second == self.second.saturating_add(1);
            *self = Self { second, present: 0, past: if follows { self.present } else { 0 } };
        }
        self.present = self.present.saturating_add(1);
    }

    fn is_high(&self) -> bool {
        self.present.max(self.past) > HELLO_PACKETS_PER_SECOND
    }
}

/// Whether a hello from `prefix` that brings no cookie is answered by a Retry alone.
// spec: CON-61
pub(super) fn retry_is_due(
    policy: RetryPolicy,
    half_open: usize,
    table: &HelloTable,
    rate: &HelloRate,
    prefix: &Prefix,
) -> bool {
    match policy {
        RetryPolicy::Never => false,
        RetryPolicy::Always => true,
        RetryPolicy::WhenHalfOpen(most) => {
            half_open.saturating_add(table.len()) > most
                || table.is_crowded(prefix)
                || rate.is_high()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_counts_until_a_second_has_passed_without_one() {
        let mut rate = HelloRate::default();
        let at = |millis: u64| Instant::from_nanos(millis * 1_000_000);
        (0..HELLO_PACKETS_PER_SECOND).for_each(|_| rate.note(at(5_100)));
        assert!(!rate.is_high());
        rate.note(at(5_200));
        assert!(rate.is_high());
        rate.note(at(6_900));
        assert!(rate.is_high());
        rate.note(at(7_000));
        assert!(!rate.is_high());
        (0..=HELLO_PACKETS_PER_SECOND).for_each(|_| rate.note(at(7_500)));
        rate.note(at(9_000));
        assert!(!rate.is_high());
    }
}
