//! Nothing travels after its time: a message with a lifetime arrives within lifetime and travelling
//! time, or not at all.

use std::collections::BTreeMap;
use std::time::Duration;

use jsp_wire::Instant;

use super::{Checker, Ledger, Verdict};
use crate::flow::End;
use crate::observation::Observation;

/// A sender that looks at its clock once a datagram may be late by this much.
const SLACK: Duration = Duration::from_millis(1);

/// Compares arrivals with lifetimes, given the longest travelling time seen so far.
///
/// Ordered flows are left out: there a message that came in time waits for those before it. So are
/// messages sent before their receiver was ready: it holds them until it may read them.
#[derive(Default)]
pub(super) struct Deadlines {
    /// Longest travelling time towards each end.
    transit_max: BTreeMap<End, Duration>,
}

impl Checker for Deadlines {
    const NAME: &'static str = "deadlines";

    fn observe(
        &mut self,
        now: Instant,
        seen: &Observation<'_>,
        ledger: &Ledger,
        verdict: &mut Verdict<'_>,
    ) {
        match *seen {
            Observation::DatagramArrived { at, transit, .. } => {
                let longest = self.transit_max.entry(at).or_default();
                *longest = (*longest).max(transit);
            }
            Observation::MessageReceived { flow, number, prompt: true, .. } => {
                let Some(record) = ledger.flows.get(&flow) else { return };
                let Some(sent) = record.messages.get(number as usize) else { return };
                let (false, Some(lifetime)) = (record.config.ordered, record.lifetime(sent)) else {
                    return;
                };
                let ready = ledger.end(flow.from.peer()).ready;
                if ready.is_none_or(|ready| sent.at < ready) {
                    return;
                }
                let transit = self.transit_max.get(&flow.from.peer()).copied().unwrap_or_default();
                let late = now.since(sent.at + lifetime + transit + SLACK);
                if !late.is_zero() {
                    verdict.breach(format!(
                        "{flow}: message {number} arrived {:?} after it was sent, with a lifetime \
                         of {lifetime:?} and at most {transit:?} of travel",
                        now.since(sent.at)
                    ));
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
    use jsp_proto::StreamConfig;

    #[test]
    fn a_late_message_is_found() {
        // Video lives for 150 ms; the datagrams travel for 30 ms.
        for (after_ms, expected) in [(181, vec![]), (182, vec!["deadlines"])] {
            let mut history = History::with(&StreamConfig::video());
            history.wait_ms(1).send(0, message(10)).wait_ms(after_ms);
            history.see(&Observation::DatagramArrived {
                at: SERVER,
                from: "10.0.0.1:1".parse().unwrap(),
                payload: &[0x40],
                unwrapped: &[0x40],
                transit: Duration::from_millis(30),
                intact: true,
            });
            assert_eq!(history.receive(0, 10).found(), expected);
        }
    }
}
