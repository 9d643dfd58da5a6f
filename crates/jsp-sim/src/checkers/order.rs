//! Ordered streams deliver in the order of sending.

use jsp_wire::Instant;

use super::{Checker, Ledger, Verdict};
use crate::observation::Observation;

/// Numbers of an ordered flow only grow.
#[derive(Default)]
pub(super) struct Order;

impl Checker for Order {
    const NAME: &'static str = "order";

    fn observe(
        &mut self,
        _now: Instant,
        seen: &Observation<'_>,
        ledger: &Ledger,
        verdict: &mut Verdict<'_>,
    ) {
        let Observation::MessageReceived { flow, number, .. } = *seen else { return };
        let Some(record) = ledger.flows.get(&flow) else { return };
        if !record.config.ordered {
            return;
        }
        if record.highest_received.is_some_and(|highest| number < highest) {
            let highest = record.highest_received;
            verdict.breach(format!("{flow}: message {number} after {highest:?}"));
        }
        let next = record.highest_received.map_or(0, |highest| highest + 1);
        if record.is_reliable() && number > next {
            verdict.breach(format!("{flow}: message {number} before {next}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::planted::*;
    use jsp_proto::StreamConfig;

    #[test]
    fn a_late_message_of_an_ordered_stream_is_found() {
        for (ordered, expected) in [(true, vec!["order"]), (false, vec![])] {
            let config = StreamConfig { ordered, ..StreamConfig::voice() };
            let mut history = History::with(&config);
            history.send(0, message(1)).send(1, message(1)).receive(1, 1).receive(0, 1);
            assert_eq!(history.found(), expected);
        }
    }

    #[test]
    fn a_gap_in_a_reliable_ordered_stream_is_found() {
        let mut history = History::with(&StreamConfig::chat());
        history.send(0, message(1)).send(1, message(1)).receive(1, 1);
        assert_eq!(history.found(), ["order"]);
    }
}
