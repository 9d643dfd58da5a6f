//! Work gets done: connections come about or fail in order, stay until they are closed, and finish
//! what they were given soon after the faults end.

use jsp_proto::CloseReason;
use jsp_wire::Instant;

use super::{Checker, Ledger, Verdict};
use crate::flow::End;
use crate::observation::Observation;

/// Nothing hangs, nothing spins, nothing breaks off.
#[derive(Default)]
pub(super) struct Liveness;

impl Checker for Liveness {
    const NAME: &'static str = "liveness";

    fn observe(
        &mut self,
        _now: Instant,
        seen: &Observation<'_>,
        ledger: &Ledger,
        verdict: &mut Verdict<'_>,
    ) {
        match *seen {
            Observation::Overdue(unfinished) => {
                let missing: Vec<_> =
                    ledger.outstanding().chain(unfinished.iter().cloned()).collect();
                verdict.breach(format!("not done in time: {}", missing.join("; ")));
            }
            Observation::Spinning { what } => verdict.breach(format!("no progress: {what}")),
            Observation::Closed { end, reason }
                if !ledger.is_over(end.pair) && !is_clean_failure(end, reason, ledger) =>
            {
                verdict.breach(format!("{end}: it ended by itself: {reason}"));
            }
            _ => {}
        }
    }
}

/// A handshake may fail for lack of answers; the end that was quicker then hears of it by itself.
fn is_clean_failure(end: End, reason: &CloseReason, ledger: &Ledger) -> bool {
    let is_silence = matches!(
        reason,
        CloseReason::HandshakeTimeout
            | CloseReason::IdleTimeout
            | CloseReason::PeerError { .. }
            | CloseReason::Reset
    );
    is_silence && !ledger.is_established(end.pair)
}

#[cfg(test)]
mod tests {
    use super::super::planted::*;
    use super::*;
    use jsp_proto::StreamConfig;

    #[test]
    fn work_that_is_not_done_is_found() {
        let mut history = History::with(&StreamConfig::chat());
        history.send(0, message(1)).see(&Observation::Overdue(&[]));
        assert_eq!(history.found(), ["liveness"]);
    }

    #[test]
    fn an_endpoint_that_spins_is_found() {
        let mut history = History::empty();
        history.see(&Observation::Spinning { what: "poll_transmit" });
        assert_eq!(history.found(), ["liveness"]);
    }

    #[test]
    fn a_connection_that_breaks_off_is_found() {
        let closed = |reason| Observation::Closed { end: CLIENT, reason };
        let mut broken = History::with(&StreamConfig::chat());
        broken.see(&closed(&CloseReason::IdleTimeout));
        assert_eq!(broken.found(), ["liveness"]);
        let mut failed = History::empty();
        failed.see(&closed(&CloseReason::HandshakeTimeout));
        assert_eq!(failed.found(), [""; 0]);
    }
}
