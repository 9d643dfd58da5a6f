//! One direction of a stream, at the end that sends.

use std::rc::Rc;

use jsp_proto::{Connection, Message, SendError};
use jsp_wire::Instant;

use super::media::MediaRate;
use super::pattern::Pattern;
use super::plan::{Ending, MessagePlan, SendPlan, StreamPlan, Traffic};
use crate::flow::Flow;
use crate::observation::Observation;

/// Who takes down what an application does.
pub(super) type Log<'a> = &'a mut dyn FnMut(Observation<'_>);

/// Where a sender stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// It may send when its time comes.
    Ready,
    /// It waits for room in the send buffer.
    Blocked,
    /// Only a reset, at its time, is left to do.
    Drained,
    /// Nothing is left to do.
    Done,
}

/// Follows the plan of one direction of one stream.
pub(super) struct Sender {
    flow: Flow,
    plan: Rc<StreamPlan>,
    is_forth: bool,
    stage: Stage,
    /// Messages or bytes handed over so far.
    sent: u64,
    priorities_set: usize,
    media: MediaRate,
}

impl Sender {
    pub(super) fn new(flow: Flow, plan: Rc<StreamPlan>, is_forth: bool) -> Self {
        let media = MediaRate::default();
        Self { flow, plan, is_forth, stage: Stage::Ready, sent: 0, priorities_set: 0, media }
    }

    pub(super) fn flow(&self) -> Flow {
        self.flow
    }

    pub(super) fn is_done(&self) -> bool {
        self.stage == Stage::Done
    }

    /// Nothing is left but what the plan sets for a later time.
    pub(super) fn has_sent_all(&self) -> bool {
        matches!(self.stage, Stage::Drained | Stage::Done)
    }

    pub(super) fn unblock(&mut self) {
        if self.stage == Stage::Blocked {
            self.stage = Stage::Ready;
        }
    }

    pub(super) fn stop(&mut self) {
        self.stage = Stage::Done;
    }

    /// When there will be something to do without any event.
    pub(super) fn wake(&self) -> Option<Instant> {
        if self.is_done() {
            return None;
        }
        let plan = self.send_plan();
        let reset = match plan.ending {
            Ending::Reset { at, .. } => Some(at),
            Ending::Finish | Ending::StayOpen => None,
        };
        let priority = plan.priorities.get(self.priorities_set).map(|(at, ..)| *at);
        let data = match (&plan.traffic, self.stage) {
            (Traffic::Messages(messages), Stage::Ready) => {
                Some(messages.get(self.sent as usize).map_or(Instant::ZERO, |message| message.at))
            }
            (Traffic::Bytes { start, .. }, Stage::Ready) => Some(*start),
            (Traffic::Media(media), Stage::Ready) => {
                Some(media.moment(self.sent).unwrap_or(media.end))
            }
            _ => None,
        };
        [reset, priority, data].into_iter().flatten().min()
    }

    /// Does what is due.
    pub(super) fn run(&mut self, now: Instant, connection: &mut Connection, log: Log<'_>) {
        let plan = Rc::clone(&self.plan);
        let plan = if self.is_forth { &plan.forth } else { &plan.back };
        self.change_priority(now, plan, connection);
        if let Ending::Reset { at, code } = plan.ending
            && at <= now
            && !self.is_done()
        {
            connection.reset(now, self.flow.stream, code);
            log(Observation::ResetSent { flow: self.flow, code });
            self.stage = Stage::Done;
        }
        while self.stage == Stage::Ready && self.step(now, plan, connection, log) {}
    }

    fn send_plan(&self) -> &SendPlan {
        if self.is_forth { &self.plan.forth } else { &self.plan.back }
    }

    fn change_priority(&mut self, now: Instant, plan: &SendPlan, connection: &mut Connection) {
        while let Some((at, class, weight)) = plan.priorities.get(self.priorities_set) {
            if *at > now || self.is_done() {
                return;
            }
            connection.set_priority(now, self.flow.stream, *class, *weight);
            self.priorities_set += 1;
        }
    }

    /// Sends one thing; true when there may be another.
    fn step(
        &mut self,
        now: Instant,
        plan: &SendPlan,
        connection: &mut Connection,
        log: Log<'_>,
    ) -> bool {
        let result = match &plan.traffic {
            Traffic::Messages(messages) => match messages.get(self.sent as usize) {
                Some(message) if message.at > now => return false,
                Some(message) => self.send_message(now, message, connection, log),
                None => return self.end(now, plan, connection, log),
            },
            Traffic::Media(media) => match media.moment(self.sent) {
                Some(at) if at > now => return false,
                Some(at) => {
                    let bps = self.media.next(media, &connection.capacity(now));
                    let frame = MessagePlan::new(at, media.frame_len(bps));
                    self.send_message(now, &frame, connection, log)
                }
                None => return self.end(now, plan, connection, log),
            },
            Traffic::Bytes { start, .. } if *start > now => return false,
            Traffic::Bytes { total, .. } if self.sent >= *total => {
                return self.end(now, plan, connection, log);
            }
            Traffic::Bytes { total, chunk, .. } => {
                self.write_bytes(now, (*total - self.sent).min(*chunk as u64), connection, log)
            }
        };
        match result {
            Ok(()) => true,
            Err(SendError::WouldBlock) => {
                self.stage = Stage::Blocked;
                false
            }
            Err(error) => self.fail("send", error, log),
        }
    }

    fn send_message(
        &mut self,
        now: Instant,
        plan: &MessagePlan,
        connection: &mut Connection,
        log: Log<'_>,
    ) -> Result<(), SendError> {
        // Messages are numbered in the order of their sending, from 0.
        let content = Pattern::of_message(self.flow, self.sent, plan.attributes.text);
        let message = Message {
            payload: content.bytes(0, plan.len),
            attributes: plan.attributes,
            lifetime: plan.lifetime,
            retransmits: plan.retransmits,
            supersede_key: plan.supersede_key,
            want_fate: plan.want_fate,
        };
        let number = connection.send(now, self.flow.stream, message)?;
        self.sent += 1;
        log(Observation::MessageSent { flow: self.flow, number, plan: *plan });
        Ok(())
    }

    fn write_bytes(
        &mut self,
        now: Instant,
        len: u64,
        connection: &mut Connection,
        log: Log<'_>,
    ) -> Result<(), SendError> {
        let content = Pattern::of_bytes(self.flow).bytes(self.sent, len as usize);
        let taken = connection.write(now, self.flow.stream, content)?;
        self.sent += taken as u64;
        log(Observation::BytesWritten { flow: self.flow, len: taken });
        if taken == 0 { Err(SendError::WouldBlock) } else { Ok(()) }
    }

    fn end(
        &mut self,
        now: Instant,
        plan: &SendPlan,
        connection: &mut Connection,
        log: Log<'_>,
    ) -> bool {
        match plan.ending {
            Ending::StayOpen => self.stage = Stage::Done,
            Ending::Reset { .. } => self.stage = Stage::Drained,
            Ending::Finish => match connection.finish(now, self.flow.stream) {
                Ok(()) => {
                    self.stage = Stage::Done;
                    log(Observation::Finished(self.flow));
                }
                Err(error) => return self.fail("finish", error, log),
            },
        }
        false
    }

    /// A refusal ends the sending: rightly when the peer asked for it, which it then also says in
    /// an event.
    fn fail(&mut self, call: &str, error: SendError, log: Log<'_>) -> bool {
        self.stage = Stage::Done;
        match error {
            SendError::Stopped(code) => log(Observation::SendStopped { flow: self.flow, code }),
            error => {
                let what = format!("{call} on {}: {error}", self.flow);
                log(Observation::CallFailed { end: self.flow.from, what: &what });
            }
        }
        false
    }
}
