//! What must hold in every world. Each checker watches the observations, knows the ledger as it
//! stood before, and says what is wrong; one invariant, one file.

mod amplification;
mod close;
mod deadlines;
mod delivery;
mod doubles;
mod fairness;
mod fates;
mod idle;
mod ledger;
mod liveness;
mod memory;
mod order;

use std::fmt;

use jsp_wire::Instant;

pub use ledger::{EndRecord, FlowRecord, Ledger};

use crate::observation::Observation;

/// Something that must not happen, and did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which checker saw it.
    pub checker: &'static str,
    /// When.
    pub at: Instant,
    /// What.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.at.as_nanos() as f64 / 1e9;
        write!(f, "{} at {seconds:.6} s: {}", self.checker, self.what)
    }
}

/// Where a checker writes what it finds.
pub(crate) struct Verdict<'a> {
    checker: &'static str,
    at: Instant,
    out: &'a mut Vec<Violation>,
}

impl Verdict<'_> {
    fn breach(&mut self, what: String) {
        self.out.push(Violation { checker: self.checker, at: self.at, what });
    }
}

/// One invariant.
pub(crate) trait Checker {
    /// Its name in reports.
    const NAME: &'static str;

    /// Looks at one thing that happens now, in the light of what happened before.
    fn observe(
        &mut self,
        now: Instant,
        seen: &Observation<'_>,
        ledger: &Ledger,
        verdict: &mut Verdict<'_>,
    );

    /// Looks back when the world has ended.
    fn finish(&mut self, _now: Instant, _ledger: &Ledger, _verdict: &mut Verdict<'_>) {}

    /// Shows the checker what happens, or that nothing more will.
    fn ask(
        &mut self,
        now: Instant,
        ledger: &Ledger,
        out: &mut Vec<Violation>,
        seen: Option<&Observation<'_>>,
    ) {
        let mut verdict = Verdict { checker: Self::NAME, at: now, out };
        match seen {
            Some(seen) => self.observe(now, seen, ledger, &mut verdict),
            None => self.finish(now, ledger, &mut verdict),
        }
    }
}

/// All checkers of a world, and the ledger that they share.
#[derive(Default)]
pub struct Checkers {
    ledger: Ledger,
    violations: Vec<Violation>,
    amplification: amplification::Amplification,
    close: close::Close,
    deadlines: deadlines::Deadlines,
    delivery: delivery::Delivery,
    doubles: doubles::Doubles,
    fairness: fairness::Fairness,
    fates: fates::Fates,
    idle: idle::Idle,
    liveness: liveness::Liveness,
    memory: memory::Memory,
    order: order::Order,
}

/// Does the same with each checker in turn.
macro_rules! for_each_checker {
    ($all:expr, $now:expr, $ask:expr) => {
        for_each_checker!($all, $now, $ask, amplification close deadlines delivery doubles fairness
            fates idle liveness memory order)
    };
    ($all:expr, $now:expr, $ask:expr, $($name:ident)*) => {
        $($all.$name.ask($now, &$all.ledger, &mut $all.violations, $ask);)*
    };
}

impl Checkers {
    /// Checkers of a world that has not begun.
    pub fn new() -> Self {
        Self::default()
    }

    /// Shows them what happens now.
    pub fn observe(&mut self, now: Instant, seen: &Observation<'_>) {
        for_each_checker!(self, now, Some(seen));
        self.ledger.apply(now, seen);
    }

    /// Tells them that the world has ended.
    pub fn finish(&mut self, now: Instant) {
        for_each_checker!(self, now, None);
    }

    /// What happened so far.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// What must not have happened.
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }
}

#[cfg(test)]
mod planted {
    //! Small histories in which tests of checkers plant a violation.

    use std::time::Duration;

    use jsp_proto::StreamConfig;
    use jsp_wire::StreamId;

    use super::*;
    use crate::app::{MessagePlan, Pattern};
    use crate::flow::{End, Flow, Side};

    pub(super) const CLIENT: End = End { pair: 0, side: Side::Client };
    pub(super) const SERVER: End = End { pair: 0, side: Side::Server };
    pub(super) const STREAM: StreamId = StreamId(2);
    pub(super) const FLOW: Flow = Flow { from: CLIENT, stream: STREAM };

    /// A history under way.
    pub(super) struct History {
        checkers: Checkers,
        now: Instant,
    }

    impl History {
        /// Both ends are connected, and the client has opened stream 2 like this.
        pub(super) fn with(config: &StreamConfig) -> Self {
            let mut history = Self::empty();
            history.see(&Observation::Connected(CLIENT)).see(&Observation::Connected(SERVER));
            history.see(&Observation::Ready(CLIENT)).see(&Observation::Ready(SERVER));
            history.see(&Observation::Opened { end: CLIENT, stream: STREAM, config });
            history
        }

        /// Nothing has happened.
        pub(super) fn empty() -> Self {
            Self { checkers: Checkers::new(), now: Instant::ZERO }
        }

        pub(super) fn see(&mut self, seen: &Observation<'_>) -> &mut Self {
            self.checkers.observe(self.now, seen);
            self
        }

        pub(super) fn wait_ms(&mut self, ms: u64) -> &mut Self {
            self.now = self.now + Duration::from_millis(ms);
            self
        }

        /// The client sends this message.
        pub(super) fn send(&mut self, number: u64, plan: MessagePlan) -> &mut Self {
            self.see(&Observation::MessageSent { flow: FLOW, number, plan })
        }

        /// The server gets message `number` with the right content of `len` bytes.
        pub(super) fn receive(&mut self, number: u64, len: usize) -> &mut Self {
            let payload = Pattern::of_message(FLOW, number, false).bytes(0, len);
            self.see(&Observation::MessageReceived {
                flow: FLOW,
                number,
                payload: &payload,
                attributes: Default::default(),
                prompt: true,
            })
        }

        pub(super) fn settle(&mut self) -> &mut Self {
            self.see(&Observation::Settled { allowed_per_second: 1.0 })
        }

        pub(super) fn finish(&mut self) -> &mut Self {
            self.checkers.finish(self.now);
            self
        }

        /// Names of the checkers that found something, each once.
        pub(super) fn found(&self) -> Vec<&'static str> {
            let mut names: Vec<_> =
                self.checkers.violations().iter().map(|violation| violation.checker).collect();
            names.dedup();
            names
        }
    }

    pub(super) fn message(len: usize) -> MessagePlan {
        MessagePlan::new(Instant::ZERO, len)
    }
}
