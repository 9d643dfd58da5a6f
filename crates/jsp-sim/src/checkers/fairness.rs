//! Nobody starves: once the faults are over, a flow of bytes that was read since, and has more to come, gets on
//! while others of its end do.

use std::collections::BTreeMap;
use std::time::Duration;

use jsp_wire::{Class, Instant};

use super::{Checker, Ledger, Verdict};
use crate::flow::Flow;
use crate::observation::Observation;

/// A loss, and the loss of what made it good, hold bytes up for less.
const PATIENCE: Duration = Duration::from_secs(3);

/// What others get meanwhile. Of that, the floor of a class is 25 KiB (STR-42).
const OTHERS_MIN: u64 = 512 << 10;

/// Streams of less weight may be owed less than a packet by then.
const WEIGHT_MIN: u8 = 32;

/// What a flow went without.
#[derive(Clone, Copy)]
struct Hunger {
    since: Instant,
    /// Bytes that others got meanwhile which had no better claim.
    others: u64,
}

/// Watches flows of bytes, whose progress tells of the scheduler; messages may expire.
#[derive(Default)]
pub(super) struct Fairness {
    hungry: BTreeMap<Flow, Hunger>,
}

impl Checker for Fairness {
    const NAME: &'static str = "fairness";

    fn observe(
        &mut self,
        now: Instant,
        seen: &Observation<'_>,
        ledger: &Ledger,
        verdict: &mut Verdict<'_>,
    ) {
        let Observation::BytesRead { flow: fed, data, prompt, .. } = *seen else { return };
        if ledger.faults_ended.is_none() {
            return;
        }
        let Some(class) = ledger.flows.get(&fed).map(|flow| flow.config.class) else { return };
        self.hungry.remove(&fed);
        // Only of readers that were prompt before is it known that they do not hold their flow up.
        if prompt && has_claim(fed, ledger) {
            self.hungry.insert(fed, Hunger { since: now, others: 0 });
        }
        self.hungry.retain(|flow, _| has_claim(*flow, ledger));
        for (flow, hunger) in &mut self.hungry {
            let claim = ledger.flows.get(flow).map_or(Class::Control, |flow| flow.config.class);
            let is_rival = flow.from == fed.from && *flow != fed && competes(claim, class);
            if !is_rival {
                continue;
            }
            hunger.others += data.len() as u64;
            if hunger.others >= OTHERS_MIN && now >= hunger.since + PATIENCE {
                let gone = now.since(hunger.since);
                verdict.breach(format!(
                    "{flow} got nothing for {gone:?}, while others got {} bytes",
                    hunger.others
                ));
                *hunger = Hunger { since: now, others: 0 };
            }
        }
    }
}

/// Bytes were written that did not arrive, and nothing but the scheduler may hold them back.
fn has_claim(flow: Flow, ledger: &Ledger) -> bool {
    ledger.flows.get(&flow).is_some_and(|record| {
        record.written > record.read
            && record.config.rate_cap.is_none()
            && record.config.weight >= WEIGHT_MIN
            && record.reset.is_none()
            && record.stop.is_none()
    })
}

/// What is not more urgent competes; and the two classes with a floor do, with each other.
fn competes(claim: Class, fed: Class) -> bool {
    fed >= claim || (claim == Class::Scavenger && fed == Class::Interactive)
}

#[cfg(test)]
mod tests {
    use super::super::planted::*;
    use super::*;
    use crate::app::Pattern;
    use jsp_proto::StreamConfig;
    use jsp_wire::StreamId;

    const OTHER: Flow = Flow { from: CLIENT, stream: StreamId(6) };

    /// Two flows of bytes; what was read of each.
    struct Table {
        history: History,
        read: [u64; 2],
    }

    impl Table {
        fn lay(classes: [Class; 2]) -> Self {
            let mut history = History::empty();
            history.see(&Observation::Connected(CLIENT)).see(&Observation::Connected(SERVER));
            for (flow, class) in [FLOW, OTHER].into_iter().zip(classes) {
                let config = StreamConfig { class, weight: 100, ..StreamConfig::bytes() };
                let opened =
                    Observation::Opened { end: CLIENT, stream: flow.stream, config: &config };
                history.see(&opened).see(&Observation::BytesWritten { flow, len: 4 << 20 });
            }
            history.see(&Observation::FaultsEnded);
            Self { history, read: [0; 2] }
        }

        fn feed(&mut self, which: usize, prompt: bool) -> &mut Self {
            let flow = [FLOW, OTHER][which];
            let data = Pattern::of_bytes(flow).bytes(self.read[which], 100 << 10);
            let offset = self.read[which];
            self.history.see(&Observation::BytesRead { flow, offset, data: &data, prompt });
            self.read[which] += data.len() as u64;
            self
        }

        /// The second gets six helpings in four seconds.
        fn feed_other(&mut self) -> Vec<&'static str> {
            for _ in 0..6 {
                self.history.wait_ms(700);
                self.feed(1, true);
            }
            self.history.found()
        }
    }

    #[test]
    fn a_flow_that_starves_is_found() {
        let both = |class| [class, class];
        for classes in [
            both(Class::Interactive),
            both(Class::RealTime),
            [Class::RealTime, Class::Scavenger],
            [Class::Scavenger, Class::Interactive],
        ] {
            assert_eq!(Table::lay(classes).feed(0, true).feed_other(), ["fairness"], "{classes:?}");
        }
    }

    #[test]
    fn what_is_more_urgent_or_read_slowly_is_no_rival() {
        let classes = [Class::Interactive, Class::RealTime];
        assert_eq!(Table::lay(classes).feed(0, true).feed_other(), [""; 0]);
        let classes = [Class::Interactive; 2];
        assert_eq!(Table::lay(classes).feed(0, false).feed_other(), [""; 0]);
        assert_eq!(Table::lay(classes).feed_other(), [""; 0]);
    }

    #[test]
    fn a_flow_that_gets_its_turn_does_not_starve() {
        let mut table = Table::lay([Class::Interactive; 2]);
        for _ in 0..10 {
            table.history.wait_ms(700);
            table.feed(0, true).feed(1, true).feed(1, true);
        }
        assert_eq!(table.history.found(), [""; 0]);
    }
}
