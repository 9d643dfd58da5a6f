//! What a sender is told of its messages is true, and is told once.

use std::time::Duration;

use jsp_proto::{Delivery, MessageFate};
use jsp_wire::Instant;

use super::ledger::SentMessage;
use super::{Checker, FlowRecord, Ledger, Verdict};
use crate::flow::Flow;
use crate::observation::Observation;

/// A message of this many bytes at most is never in pieces: it fits into the smallest datagram.
const ONE_PACKET: usize = 1_000;

/// Messages sent so shortly before the end of their flow may come after it: a detour's length.
const OVERTAKEN_WITHIN: Duration = Duration::from_millis(500);

/// One fate a message where it was asked for, possible in the flow's mode; an acknowledged message
/// really arrived.
#[derive(Default)]
pub(super) struct Fates {
    /// Flows whose reader is slow: its transport may drop unreliable messages that it has.
    slow: std::collections::BTreeSet<Flow>,
}

impl Checker for Fates {
    const NAME: &'static str = "fates";

    fn observe(
        &mut self,
        now: Instant,
        seen: &Observation<'_>,
        ledger: &Ledger,
        verdict: &mut Verdict<'_>,
    ) {
        match *seen {
            Observation::MessageReceived { flow, prompt: false, .. } => {
                self.slow.insert(flow);
            }
            Observation::Fate { flow, number, fate } => {
                let Some(record) = ledger.flows.get(&flow) else { return };
                let Some(message) = record.messages.get(number as usize) else {
                    return verdict.breach(format!("{flow}: fate of {number}, never sent"));
                };
                if let Some(why) = objection(now, record, number, message, fate, ledger, flow) {
                    verdict.breach(format!("{flow}: message {number} is {fate:?}, but {why}"));
                }
            }
            Observation::Settled { .. } => {
                for (flow, record) in &ledger.flows {
                    if !ledger.is_over(flow.from.pair) && !self.slow.contains(flow) {
                        check_arrivals(*flow, record, verdict);
                    }
                }
            }
            _ => {}
        }
    }
}

/// Why the fate cannot be true.
fn objection(
    now: Instant,
    record: &FlowRecord,
    number: u64,
    message: &SentMessage,
    fate: MessageFate,
    ledger: &Ledger,
    flow: Flow,
) -> Option<&'static str> {
    if !message.plan.want_fate {
        return Some("nobody asked");
    }
    if message.fate.is_some() {
        return Some("its fate was told before");
    }
    let is_limited = message.plan.retransmits.is_some()
        || matches!(record.config.delivery, Delivery::Partial { retransmits: Some(_), .. });
    let is_given_up =
        record.reset.is_some() || record.stop.is_some() || ledger.is_over(flow.from.pair);
    let is_renewed = message.plan.supersede_key.is_some_and(|key| {
        let newer = record.messages.iter().skip(number as usize + 1);
        newer.into_iter().any(|other| other.plan.supersede_key == Some(key))
    });
    match fate {
        MessageFate::Acknowledged => None,
        MessageFate::Abandoned => (!is_given_up).then_some("nobody gave it up"),
        MessageFate::Superseded => (!is_renewed).then_some("no newer message has its key"),
        MessageFate::Expired => match record.lifetime(message) {
            None => Some("it has no lifetime"),
            Some(lifetime) => (now < message.at + lifetime).then_some("its lifetime is not over"),
        },
        MessageFate::Lost => match record.config.delivery {
            Delivery::Reliable => Some("its stream is reliable"),
            Delivery::Partial { .. } => (!is_limited).then_some("it may be sent again"),
            Delivery::Unreliable => None,
        },
    }
}

/// Everything acknowledged has been received, except where an ordered unreliable flow went on
/// without it.
fn check_arrivals(flow: Flow, record: &FlowRecord, verdict: &mut Verdict<'_>) {
    if record.reset.is_some() || record.stop.is_some() {
        return;
    }
    let is_unreliable = record.config.delivery == Delivery::Unreliable;
    let may_be_passed_over = record.config.ordered && is_unreliable;
    for (number, message) in record.messages.iter().enumerate() {
        let is_missing =
            message.fate == Some(MessageFate::Acknowledged) && message.received.is_none();
        let is_passed = may_be_passed_over
            && record.highest_received.is_some_and(|highest| highest > number as u64);
        // A receiver lets go of the pieces of unreliable messages when it has too many of them.
        let is_evicted = is_unreliable && message.plan.len > ONE_PACKET;
        // The end of an unreliable flow may overtake a packet that was held lost.
        let is_overtaken = is_unreliable
            && record.finished_at.is_some_and(|end| end.since(message.at) < OVERTAKEN_WITHIN);
        if is_missing && !is_passed && !is_evicted && !is_overtaken {
            verdict.breach(format!("{flow}: message {number} is acknowledged, but never came"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::planted::*;
    use super::*;
    use crate::app::MessagePlan;
    use jsp_proto::StreamConfig;

    fn asked() -> MessagePlan {
        MessagePlan { want_fate: true, ..message(10) }
    }

    fn told(fate: MessageFate) -> Observation<'static> {
        Observation::Fate { flow: FLOW, number: 0, fate }
    }

    #[test]
    fn a_true_fate_passes_and_a_second_one_does_not() {
        let mut history = History::with(&StreamConfig::video());
        history.send(0, asked()).receive(0, 10).see(&told(MessageFate::Acknowledged));
        assert_eq!(history.found(), [""; 0]);
        history.see(&told(MessageFate::Expired));
        assert_eq!(history.found(), ["fates"]);
    }

    #[test]
    fn impossible_fates_are_found() {
        use MessageFate::{Abandoned, Expired, Lost, Superseded};
        for fate in [Abandoned, Expired, Lost, Superseded] {
            let mut history = History::with(&StreamConfig::chat());
            assert_eq!(history.send(0, asked()).see(&told(fate)).found(), ["fates"], "{fate:?}");
        }
        let mut early = History::with(&StreamConfig::video());
        early.send(0, asked()).wait_ms(149).see(&told(Expired));
        assert_eq!(early.found(), ["fates"]);
        let mut in_time = History::with(&StreamConfig::video());
        in_time.send(0, asked()).wait_ms(150).see(&told(Expired));
        assert_eq!(in_time.found(), [""; 0]);
        let mut unasked = History::with(&StreamConfig::voice());
        unasked.send(0, message(1)).see(&told(Lost));
        assert_eq!(unasked.found(), ["fates"]);
    }

    #[test]
    fn an_acknowledged_message_that_never_came_is_found() {
        let mut history = History::with(&StreamConfig::voice());
        history.send(0, asked()).see(&told(MessageFate::Acknowledged)).settle();
        assert_eq!(history.found(), ["fates"]);
        let ordered = StreamConfig { ordered: true, ..StreamConfig::voice() };
        let mut passed = History::with(&ordered);
        passed.send(0, asked()).send(1, message(10)).receive(1, 10);
        passed.see(&told(MessageFate::Acknowledged)).settle();
        assert_eq!(passed.found(), [""; 0]);
    }
}
