//! One direction of a stream, at the end that receives.

use std::rc::Rc;
use std::time::Duration;

use jsp_proto::{Connection, RecvError};
use jsp_wire::{Framing, Instant};

use super::plan::{ReadPlan, StreamPlan};
use super::sender::Log;
use crate::flow::Flow;
use crate::observation::Observation;

/// Bytes asked for in one read of a byte stream.
const READ_LEN: usize = 64 << 10;

/// Where a reader stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// There may be something to read, from this instant on.
    Hungry(Instant),
    /// There was nothing to read: an event will say when there is.
    Waiting,
    /// Nothing more will be read.
    Done,
}

/// Follows the plan of one direction of one stream.
pub(super) struct Reader {
    flow: Flow,
    framing: Framing,
    plan: ReadPlan,
    stage: Stage,
    /// Bytes read so far.
    taken: u64,
    /// Tell the peer what has been consumed.
    consumes: bool,
}

/// What one step of reading gave.
enum Step {
    Got(usize),
    Empty,
    Over,
}

impl Reader {
    pub(super) fn new(now: Instant, flow: Flow, plan: &Rc<StreamPlan>, is_forth: bool) -> Self {
        let read = if is_forth { plan.forth_reader } else { plan.back_reader };
        Self {
            flow,
            framing: plan.config.framing,
            plan: read,
            stage: Stage::Hungry(now),
            taken: 0,
            consumes: plan.config.ordered && flow.stream.index().is_multiple_of(3),
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.stage == Stage::Done
    }

    /// Something arrived.
    pub(super) fn on_readable(&mut self, now: Instant) {
        if self.stage == Stage::Waiting {
            let pause = match self.plan {
                ReadPlan::Slow { every, .. } => every,
                ReadPlan::Prompt | ReadPlan::Stop { .. } => Duration::ZERO,
            };
            self.stage = Stage::Hungry(now + pause);
        }
    }

    /// When there will be something to do without any event.
    pub(super) fn wake(&self) -> Option<Instant> {
        match self.stage {
            Stage::Hungry(at) => Some(at),
            Stage::Waiting | Stage::Done => None,
        }
    }

    /// Reads what is due.
    pub(super) fn run(&mut self, now: Instant, connection: &mut Connection, log: Log<'_>) {
        let Stage::Hungry(at) = self.stage else { return };
        if at > now {
            return;
        }
        let mut budget = match self.plan {
            ReadPlan::Slow { bytes, .. } => bytes,
            ReadPlan::Prompt | ReadPlan::Stop { .. } => usize::MAX,
        };
        while budget > 0 {
            if self.stops(now, connection, log) {
                return;
            }
            match self.step(now, budget, connection, log) {
                Step::Got(len) => budget = budget.saturating_sub(len.max(1)),
                Step::Empty => {
                    self.stage = Stage::Waiting;
                    return;
                }
                Step::Over => {
                    self.stage = Stage::Done;
                    return;
                }
            }
        }
        if let ReadPlan::Slow { every, .. } = self.plan {
            self.stage = Stage::Hungry(now + every);
        }
    }

    fn stops(&mut self, now: Instant, connection: &mut Connection, log: Log<'_>) -> bool {
        let ReadPlan::Stop { after, code } = self.plan else { return false };
        if self.taken < after {
            return false;
        }
        connection.stop(now, self.flow.stream, code);
        log(Observation::StopSent { flow: self.flow, code });
        self.stage = Stage::Done;
        true
    }

    fn step(
        &mut self,
        now: Instant,
        budget: usize,
        connection: &mut Connection,
        log: Log<'_>,
    ) -> Step {
        let stream = self.flow.stream;
        let prompt = !matches!(self.plan, ReadPlan::Slow { .. });
        let result = match self.framing {
            Framing::Messages => connection.recv(now, stream).map(|message| {
                message.map(|message| {
                    log(Observation::MessageReceived {
                        flow: self.flow,
                        number: message.number,
                        payload: &message.payload,
                        attributes: message.attributes,
                        prompt,
                    });
                    if self.consumes {
                        let below = message.number + 1;
                        log(Observation::ConsumptionSaid { flow: self.flow, below });
                        connection.consumed(stream, below);
                    }
                    message.payload.len()
                })
            }),
            Framing::Bytes => connection.read(now, stream, budget.min(READ_LEN)).map(|data| {
                data.map(|data| {
                    let offset = self.taken;
                    log(Observation::BytesRead { flow: self.flow, offset, data: &data, prompt });
                    data.len()
                })
            }),
        };
        match result {
            Ok(Some(len)) => {
                self.taken += len as u64;
                Step::Got(len)
            }
            Ok(None) => Step::Empty,
            Err(RecvError::Closed) => {
                log(Observation::Ended(self.flow));
                Step::Over
            }
            Err(RecvError::Reset(code)) => {
                log(Observation::ResetSeen { flow: self.flow, code });
                Step::Over
            }
            Err(error) => {
                let what = format!("reading {}: {error}", self.flow);
                log(Observation::CallFailed { end: self.flow.from.peer(), what: &what });
                Step::Over
            }
        }
    }
}
