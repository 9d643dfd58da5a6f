//! No message is delivered twice, in any mode.

use jsp_wire::Instant;

use super::{Checker, Ledger, Verdict};
use crate::observation::Observation;

/// Each number is received at most once.
#[derive(Default)]
pub(super) struct Doubles;

impl Checker for Doubles {
    const NAME: &'static str = "doubles";

    fn observe(
        &mut self,
        _now: Instant,
        seen: &Observation<'_>,
        ledger: &Ledger,
        verdict: &mut Verdict<'_>,
    ) {
        let Observation::MessageReceived { flow, number, .. } = *seen else { return };
        let message = ledger.flows.get(&flow).and_then(|flow| flow.messages.get(number as usize));
        if message.is_some_and(|message| message.received.is_some()) {
            verdict.breach(format!("{flow}: message {number} was delivered before"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::planted::*;
    use jsp_proto::StreamConfig;

    #[test]
    fn a_double_is_found_in_every_mode() {
        let unordered = StreamConfig { ordered: false, ..StreamConfig::messages() };
        for config in [unordered, StreamConfig::voice(), StreamConfig::video()] {
            let mut history = History::with(&config);
            history.send(0, message(10)).receive(0, 10);
            assert_eq!(history.found(), [""; 0]);
            assert_eq!(history.receive(0, 10).found(), ["doubles"]);
        }
    }
}
