//! Everything reliable arrives, and everything that arrives is what was sent.

use jsp_proto::StreamConfig;
use jsp_wire::Instant;

use super::{Checker, FlowRecord, Ledger, Verdict};
use crate::app::Pattern;
use crate::flow::Flow;
use crate::observation::Observation;

/// Content, numbers, ends and what is told about a stream are right; nothing reliable is missing.
#[derive(Default)]
pub(super) struct Delivery;

impl Checker for Delivery {
    const NAME: &'static str = "delivery";

    fn observe(
        &mut self,
        _now: Instant,
        seen: &Observation<'_>,
        ledger: &Ledger,
        verdict: &mut Verdict<'_>,
    ) {
        match *seen {
            Observation::CallFailed { end, what } => {
                if !ledger.is_over(end.pair) {
                    verdict.breach(format!("{end}: {what}"));
                }
            }
            Observation::Settled { .. } => {
                for what in ledger.outstanding() {
                    verdict.breach(format!("missing: {what}"));
                }
            }
            Observation::Accepted { end, stream, label, content_type, profile } => {
                let flow = Flow { from: end.peer(), stream };
                let told = |config: &StreamConfig| {
                    config.label == label
                        && config.content_type.as_deref() == content_type
                        && config.profile() == profile
                };
                if !ledger.flows.get(&flow).is_some_and(|record| told(&record.config)) {
                    verdict.breach(format!("{flow}: told of it {label:?} {profile:?}"));
                }
            }
            _ => {
                let Some(flow) = seen.flow() else { return };
                match ledger.flows.get(&flow) {
                    Some(record) => check_flow(seen, flow, record, verdict),
                    None => verdict.breach(format!("{flow} does not exist")),
                }
            }
        }
    }
}

fn check_flow(seen: &Observation<'_>, flow: Flow, record: &FlowRecord, verdict: &mut Verdict<'_>) {
    match *seen {
        Observation::MessageSent { number, .. } if number != record.messages.len() as u64 => {
            let expected = record.messages.len();
            verdict.breach(format!("{flow}: message {expected} got the number {number}"));
        }
        Observation::MessageReceived { number, payload, attributes, .. } => {
            let Some(sent) = record.messages.get(number as usize) else {
                return verdict.breach(format!("{flow}: message {number} was never sent"));
            };
            if payload.len() != sent.plan.len || attributes != sent.plan.attributes {
                let (is, was) = (payload.len(), sent.plan.len);
                verdict.breach(format!(
                    "{flow}: message {number} has {is} bytes and {attributes:?}, but was sent with \
                     {was} and {:?}",
                    sent.plan.attributes
                ));
            }
            let content = Pattern::of_message(flow, number, sent.plan.attributes.text);
            if let Some(place) = content.first_difference(0, payload) {
                verdict.breach(format!("{flow}: message {number} is wrong from byte {place}"));
            }
        }
        Observation::BytesRead { offset, data, .. } => {
            if offset + data.len() as u64 > record.written {
                verdict.breach(format!("{flow}: more bytes than the {} written", record.written));
            }
            if let Some(place) = Pattern::of_bytes(flow).first_difference(offset, data) {
                verdict.breach(format!("{flow}: byte {place} is wrong"));
            }
        }
        Observation::Ended(_) => check_end(flow, record, verdict),
        Observation::SendFinished(_) if !record.is_finished => {
            verdict.breach(format!("{flow}: said to have arrived, but is not finished"));
        }
        Observation::ConsumptionTold { below, .. } if below > record.consumed => {
            verdict.breach(format!("{flow}: told consumed below {below}, is {}", record.consumed));
        }
        Observation::ResetSeen { code: 0, .. } if record.may_end_unheard() => {}
        Observation::ResetSeen { code, .. } if record.reset != Some(code) => {
            verdict.breach(format!("{flow}: reset {code} seen, sent was {:?}", record.reset));
        }
        Observation::SendStopped { code, .. } if record.stop != Some(code) => {
            verdict.breach(format!("{flow}: stop {code} seen, sent was {:?}", record.stop));
        }
        _ => {}
    }
}

fn check_end(flow: Flow, record: &FlowRecord, verdict: &mut Verdict<'_>) {
    if !record.is_finished {
        verdict.breach(format!("{flow}: it ended, but its sender has not finished"));
    }
    let messages = record.messages.len() as u64;
    if record.is_reliable() && (record.received < messages || record.read < record.written) {
        verdict.breach(format!(
            "{flow}: ended after {} of {messages} messages, {} of {} bytes",
            record.received, record.read, record.written
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::super::planted::*;
    use super::*;

    #[test]
    fn an_honest_history_passes() {
        let mut history = History::with(&StreamConfig::messages());
        history.send(0, message(10)).send(1, message(20)).receive(0, 10).receive(1, 20);
        history.see(&Observation::Finished(FLOW)).see(&Observation::Ended(FLOW));
        history.see(&Observation::SendFinished(FLOW)).settle();
        assert_eq!(history.found(), [""; 0]);
    }

    #[test]
    fn a_missing_message_is_found() {
        let mut history = History::with(&StreamConfig::messages());
        history.send(0, message(10)).send(1, message(20)).receive(0, 10).settle();
        assert_eq!(history.found(), ["delivery"]);
    }

    #[test]
    fn wrong_content_length_and_numbers_are_found() {
        let config = StreamConfig { ordered: false, ..StreamConfig::messages() };
        let sent = || {
            let mut history = History::with(&config);
            history.send(0, message(10)).send(1, message(10));
            history
        };
        assert_eq!(sent().receive(0, 9).found(), ["delivery"]);
        assert_eq!(sent().receive(7, 10).found(), ["delivery"]);
        let payload = Pattern::of_message(FLOW, 1, false).bytes(0, 10);
        let swapped = Observation::MessageReceived {
            flow: FLOW,
            number: 0,
            payload: &payload,
            attributes: Default::default(),
            prompt: true,
        };
        assert_eq!(sent().see(&swapped).found(), ["delivery"]);
        assert_eq!(sent().send(3, message(1)).found(), ["delivery"]);
    }

    #[test]
    fn bytes_that_were_not_written_and_early_ends_are_found() {
        let written = || {
            let mut history = History::with(&StreamConfig::bytes());
            history.see(&Observation::BytesWritten { flow: FLOW, len: 100 });
            history
        };
        let data = Pattern::of_bytes(FLOW).bytes(0, 101);
        let read = |data| Observation::BytesRead { flow: FLOW, offset: 0, data, prompt: true };
        assert_eq!(written().see(&read(&data[..100])).found(), [""; 0]);
        assert_eq!(written().see(&read(&data)).found(), ["delivery"]);
        assert_eq!(written().see(&read(&data[1..50])).found(), ["delivery"]);
        assert_eq!(written().see(&Observation::Ended(FLOW)).found(), ["delivery"]);
    }

    #[test]
    fn false_codes_and_failed_calls_are_found() {
        let history = || History::with(&StreamConfig::bytes());
        let reset = Observation::ResetSent { flow: FLOW, code: 5 };
        let seen = Observation::ResetSeen { flow: FLOW, code: 6 };
        assert_eq!(history().see(&reset).see(&seen).found(), ["delivery"]);
        let stopped = Observation::SendStopped { flow: FLOW, code: 1 };
        assert_eq!(history().see(&stopped).found(), ["delivery"]);
        let failed = Observation::CallFailed { end: CLIENT, what: "send" };
        assert_eq!(history().see(&failed).found(), ["delivery"]);
    }
}
