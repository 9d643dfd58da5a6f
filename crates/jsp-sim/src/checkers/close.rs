//! Closing comes to an end, at both ends, with the right words.

use jsp_proto::CloseReason;
use jsp_wire::Instant;

use super::{Checker, Ledger, Verdict};
use crate::flow::{End, Side};
use crate::observation::Observation;

/// Reasons are true, nothing is said after the end, and every end is gone when the world is.
#[derive(Default)]
pub(super) struct Close;

impl Checker for Close {
    const NAME: &'static str = "close";

    fn observe(
        &mut self,
        _now: Instant,
        seen: &Observation<'_>,
        ledger: &Ledger,
        verdict: &mut Verdict<'_>,
    ) {
        match *seen {
            Observation::Closed { end, reason } => {
                if ledger.end(end).closed.is_some() {
                    verdict.breach(format!("{end}: closed twice"));
                }
                if let Some(why) = objection(end, reason, ledger) {
                    verdict.breach(format!("{end}: closed with {reason:?}, but {why}"));
                }
            }
            Observation::Drained(end) => {
                let record = ledger.end(end);
                if record.closed.is_none() || record.drained.is_some() {
                    verdict.breach(format!("{end}: drained before it closed, or twice"));
                }
            }
            // A server still answers late packets without state; a client has nothing to say.
            Observation::DatagramSent { from, .. }
                if from.side == Side::Client && ledger.end(from).drained.is_some() =>
            {
                verdict.breach(format!("{from}: it sends after it has drained"));
            }
            Observation::Connected(end) => {
                let record = ledger.end(end);
                if record.connected.is_some() || record.closed.is_some() {
                    verdict.breach(format!("{end}: connected twice, or after it closed"));
                }
            }
            _ => {}
        }
    }

    fn finish(&mut self, _now: Instant, ledger: &Ledger, verdict: &mut Verdict<'_>) {
        for (end, record) in &ledger.ends {
            if record.vanished.is_none() && record.drained.is_none() {
                verdict.breach(format!("{end}: it never came to an end: {:?}", record.closed));
            }
        }
    }
}

/// Why the reason cannot be true.
fn objection(end: End, reason: &CloseReason, ledger: &Ledger) -> Option<String> {
    let (own, peer) = (ledger.end(end), ledger.end(end.peer()));
    match reason {
        CloseReason::ByUs { code } => match own.closing {
            Some((_, own, _)) if own == *code => None,
            other => Some(format!("what it said was {other:?}")),
        },
        CloseReason::ByPeer { code, reason } => match peer.closing {
            Some((_, own, words)) if (own, &words) == (*code, reason) => None,
            other => Some(format!("what the peer said was {other:?}")),
        },
        CloseReason::IdleTimeout if peer.closing.is_some() => {
            Some("the peer said that it closes, on a path without faults".to_owned())
        }
        CloseReason::LocalError(_) => Some("the peer is honest".to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::planted::*;
    use super::*;
    use jsp_proto::StreamConfig;

    fn closing(code: u64) -> Observation<'static> {
        Observation::Closing { end: CLIENT, code, reason: "done" }
    }

    #[test]
    fn an_orderly_close_passes() {
        let mut history = History::with(&StreamConfig::chat());
        let by_us = CloseReason::ByUs { code: 7 };
        let by_peer = CloseReason::ByPeer { code: 7, reason: "done".to_owned() };
        history.see(&closing(7)).see(&Observation::Closed { end: CLIENT, reason: &by_us });
        history.see(&Observation::Closed { end: SERVER, reason: &by_peer });
        history.see(&Observation::Drained(SERVER)).see(&Observation::Drained(CLIENT)).finish();
        assert_eq!(history.found(), [""; 0]);
    }

    #[test]
    fn wrong_words_and_ends_that_stay_are_found() {
        let by_peer = CloseReason::ByPeer { code: 8, reason: "done".to_owned() };
        let mut history = History::with(&StreamConfig::chat());
        history.see(&closing(7)).see(&Observation::Closed { end: SERVER, reason: &by_peer });
        assert_eq!(history.found(), ["close"]);
        let mut stays = History::with(&StreamConfig::chat());
        assert_eq!(stays.see(&closing(7)).finish().found(), ["close"]);
    }

    #[test]
    fn talk_after_the_end_is_found() {
        let mut history = History::with(&StreamConfig::chat());
        let by_us = CloseReason::ByUs { code: 7 };
        history.see(&closing(7)).see(&Observation::Closed { end: CLIENT, reason: &by_us });
        history.see(&Observation::Drained(CLIENT));
        let to = "10.0.0.1:1".parse().unwrap();
        history.see(&Observation::DatagramSent { from: CLIENT, to, payload: &[0x40] });
        assert_eq!(history.found(), ["close"]);
    }
}
