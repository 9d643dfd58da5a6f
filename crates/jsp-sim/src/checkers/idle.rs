//! A connection with nothing to do is silent, but for keep-alive.

use std::collections::BTreeMap;

use jsp_wire::{Instant, limits};

use super::{Checker, Ledger, Verdict};
use crate::flow::{End, Pair};
use crate::observation::Observation;

/// Datagrams that are no sign of chatter: a late probe, an acknowledgement that was held back.
const ALLOWED_ANYWAY: f64 = 4.0;

/// A datagram of more bytes than every path must carry asks whether the path carries it. The search
/// is finite, but may still go on; each such datagram may draw a probe and two acknowledgements.
const SEARCHES_MAX: u64 = 24;
/// Datagrams that one datagram of the search may draw, itself counted.
const DRAWN_BY_SEARCH: u64 = 4;

/// Counts what is sent between the end of all work and the close.
#[derive(Default)]
pub(super) struct Idle {
    quiet_since: Option<(Instant, f64)>,
    sent: BTreeMap<End, u64>,
    /// Datagrams of the search for the path's MTU, of both ends.
    searched: BTreeMap<Pair, u64>,
}

impl Checker for Idle {
    const NAME: &'static str = "idle";

    fn observe(
        &mut self,
        now: Instant,
        seen: &Observation<'_>,
        _ledger: &Ledger,
        verdict: &mut Verdict<'_>,
    ) {
        match *seen {
            Observation::Settled { allowed_per_second } => {
                self.quiet_since = Some((now, allowed_per_second));
            }
            Observation::DatagramSent { from, payload, .. } if self.quiet_since.is_some() => {
                *self.sent.entry(from).or_default() += 1;
                let is_search = payload.len() > limits::MTU_BASE;
                *self.searched.entry(from.pair).or_default() += u64::from(is_search);
            }
            Observation::Closing { .. } | Observation::Vanished(_) => {
                let Some((since, per_second)) = self.quiet_since.take() else { return };
                let seconds = now.since(since).as_secs_f64();
                let allowed = ALLOWED_ANYWAY + per_second * seconds;
                for (end, sent) in &self.sent {
                    let searched = self.searched.get(&end.pair).copied().unwrap_or_default();
                    let drawn = searched.min(SEARCHES_MAX) * DRAWN_BY_SEARCH;
                    if *sent as f64 > allowed + drawn as f64 {
                        verdict
                            .breach(format!("{end}: {sent} datagrams in {seconds} quiet seconds"));
                    }
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::planted::*;
    use super::*;

    #[test]
    fn chatter_without_work_is_found() {
        for (count, expected) in [(14, vec![]), (15, vec!["idle"])] {
            let mut history = History::empty();
            let to = "10.0.0.1:1".parse().unwrap();
            let datagram = Observation::DatagramSent { from: CLIENT, to, payload: &[0x40] };
            history.see(&datagram).see(&datagram).settle();
            for _ in 0..count {
                history.see(&datagram);
            }
            history.wait_ms(10_000);
            history.see(&Observation::Closing { end: CLIENT, code: 0, reason: "" });
            assert_eq!(history.found(), expected);
        }
    }
}
