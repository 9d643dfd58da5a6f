//! What happened so far, as all checkers share it.

use std::collections::BTreeMap;
use std::time::Duration;

use jsp_proto::{Alarm, CloseReason, Delivery, Event, MessageFate, StreamConfig};
use jsp_wire::{Class, Instant, StreamId};

use crate::app::MessagePlan;
use crate::flow::{End, Flow, Pair, Side};
use crate::observation::Observation;

/// A message that was sent.
#[derive(Clone, Debug)]
pub struct SentMessage {
    /// When.
    pub at: Instant,
    /// What it is.
    pub plan: MessagePlan,
    /// What its sender was told of it.
    pub fate: Option<MessageFate>,
    /// When it was received.
    pub received: Option<Instant>,
}

/// One direction of one stream.
#[derive(Clone, Debug)]
pub struct FlowRecord {
    /// How the stream was opened.
    pub config: StreamConfig,
    /// Messages by number.
    pub messages: Vec<SentMessage>,
    /// Bytes of the largest message.
    pub largest_message: u64,
    /// How many were received, doubles not counted.
    pub received: u64,
    /// The highest number received.
    pub highest_received: Option<u64>,
    /// Messages whose sender asked for their fate and does not know it yet.
    pub fates_open: u64,
    /// The receiver said that it has taken all messages below this number.
    pub consumed: u64,
    /// The side that did not open the stream took it.
    pub is_accepted: bool,
    /// Bytes written.
    pub written: u64,
    /// Bytes read.
    pub read: u64,
    /// The sender finished.
    pub is_finished: bool,
    /// When it did.
    pub finished_at: Option<Instant>,
    /// The sender was told that everything arrived.
    pub is_send_finished: bool,
    /// The receiver read the end.
    pub is_ended: bool,
    /// The sender reset, with this code.
    pub reset: Option<u64>,
    /// The receiver saw the reset.
    pub is_reset_seen: bool,
    /// The receiver asked to stop, with this code.
    pub stop: Option<u64>,
    /// The sender was told to stop.
    pub is_stop_seen: bool,
}

impl FlowRecord {
    fn new(config: StreamConfig) -> Self {
        Self {
            config,
            messages: Vec::new(),
            largest_message: 0,
            received: 0,
            highest_received: None,
            fates_open: 0,
            consumed: 0,
            is_accepted: false,
            written: 0,
            read: 0,
            is_finished: false,
            finished_at: None,
            is_send_finished: false,
            is_ended: false,
            reset: None,
            is_reset_seen: false,
            stop: None,
            is_stop_seen: false,
        }
    }

    /// Whether everything must arrive.
    pub fn is_reliable(&self) -> bool {
        self.config.delivery == Delivery::Reliable
    }

    /// How long a message is worth sending.
    pub fn lifetime(&self, message: &SentMessage) -> Option<Duration> {
        match self.config.delivery {
            Delivery::Reliable => None,
            Delivery::Partial { lifetime, .. } => message.plan.lifetime.or(lifetime),
            Delivery::Unreliable => message.plan.lifetime,
        }
    }

    /// What is still to come, in a word; `None` when nothing is.
    pub fn outstanding(&self) -> Option<String> {
        if self.fates_open > 0 {
            return Some(format!("{} fates", self.fates_open));
        }
        if self.stop.is_some() {
            let is_heard = self.is_stop_seen || self.is_finished || self.reset.is_some();
            return (!is_heard).then(|| "the word to stop".to_owned());
        }
        if self.reset.is_some() {
            // A peer never hears of a stream that was given up before it knew of it.
            return (!self.is_reset_seen && self.is_accepted).then(|| "the reset".to_owned());
        }
        if self.is_reliable() {
            let messages = (self.messages.len() as u64).saturating_sub(self.received);
            if messages > 0 {
                let first = self.messages.iter().position(|message| message.received.is_none());
                return Some(format!("{messages} messages, the first is {first:?}"));
            }
            if self.written > self.read {
                return Some(format!("bytes {} to {}", self.read, self.written));
            }
            if self.is_finished && !self.is_send_finished {
                return Some("the sender's word that all arrived".to_owned());
            }
        }
        let is_over = self.is_ended || (self.may_end_unheard() && self.is_reset_seen);
        let is_unheard = self.may_end_unheard() && !self.is_accepted && self.is_send_finished;
        (self.is_finished && !is_over && !is_unheard).then(|| "the end".to_owned())
    }

    /// Whether the peer may never hear of the stream, or only of a reset with code 0: all that it
    /// carried was given up before the peer knew of it.
    pub fn may_end_unheard(&self) -> bool {
        !self.is_reliable() && self.config.unidirectional && self.is_finished
    }
}

/// One end of one connection.
#[derive(Clone, Debug, Default)]
pub struct EndRecord {
    /// When the handshake was complete.
    pub connected: Option<Instant>,
    /// When the application closed, and with which code and reason.
    pub closing: Option<(Instant, u64, String)>,
    /// When it could read everything.
    pub ready: Option<Instant>,
    /// When it disappeared.
    pub vanished: Option<Instant>,
    /// When and why it was over.
    pub closed: Option<(Instant, CloseReason)>,
    /// When its state was gone.
    pub drained: Option<Instant>,
    /// What it was told of its path: each change.
    pub alarms: Vec<(Instant, Alarm)>,
}

/// The history of a world.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// All directions of all streams.
    pub flows: BTreeMap<Flow, FlowRecord>,
    /// All ends of all connections.
    pub ends: BTreeMap<End, EndRecord>,
    /// When the faults ended.
    pub faults_ended: Option<Instant>,
    /// When all was done.
    pub settled: Option<Instant>,
}

impl Ledger {
    /// The record of an end; an empty one when nothing happened there.
    pub fn end(&self, end: End) -> EndRecord {
        self.ends.get(&end).cloned().unwrap_or_default()
    }

    /// Whether the handshake was completed at both ends.
    pub fn is_established(&self, pair: Pair) -> bool {
        Side::BOTH.iter().all(|side| {
            self.ends.get(&End { pair, side: *side }).is_some_and(|end| end.connected.is_some())
        })
    }

    /// Whether the connection is over at one end at least.
    pub fn is_over(&self, pair: Pair) -> bool {
        Side::BOTH.iter().any(|side| {
            self.ends.get(&End { pair, side: *side }).is_some_and(|end| {
                end.closed.is_some() || end.closing.is_some() || end.vanished.is_some()
            })
        })
    }

    /// Everything that is still to come on connections that are not over.
    pub fn outstanding(&self) -> impl Iterator<Item = String> {
        self.flows
            .iter()
            .filter(|(flow, _)| !self.is_over(flow.from.pair))
            .filter_map(|(flow, record)| Some(format!("{flow}: {}", record.outstanding()?)))
    }

    /// Takes down what happens now.
    pub(super) fn apply(&mut self, now: Instant, seen: &Observation<'_>) {
        match *seen {
            Observation::Connected(end) => self.connect(now, end),
            Observation::Ready(end) => self.ends.entry(end).or_default().ready = Some(now),
            Observation::Closing { end, code, reason } => {
                self.ends.entry(end).or_default().closing = Some((now, code, reason.to_owned()));
            }
            Observation::Vanished(end) => {
                self.ends.entry(end).or_default().vanished = Some(now);
            }
            Observation::Closed { end, reason } => {
                self.ends.entry(end).or_default().closed = Some((now, reason.clone()));
            }
            Observation::Event { end, event: Event::Alarm(alarm) } => {
                self.ends.entry(end).or_default().alarms.push((now, *alarm));
            }
            Observation::Drained(end) => self.ends.entry(end).or_default().drained = Some(now),
            Observation::Opened { end, stream, config } => self.open(end, stream, config),
            Observation::Accepted { end, stream, .. } => {
                for from in [end, end.peer()] {
                    if let Some(record) = self.flows.get_mut(&Flow { from, stream }) {
                        record.is_accepted = true;
                    }
                }
            }
            Observation::FaultsEnded => self.faults_ended = Some(now),
            Observation::Settled { .. } => self.settled = Some(now),
            _ => self.apply_to_flow(now, seen),
        }
    }

    fn connect(&mut self, now: Instant, end: End) {
        self.ends.entry(end).or_default().connected = Some(now);
        let config = StreamConfig { class: Class::Control, ..StreamConfig::messages() };
        let flow = Flow { from: end, stream: StreamId::SIGNALLING };
        self.flows.insert(flow, FlowRecord::new(config));
    }

    fn open(&mut self, end: End, stream: StreamId, config: &StreamConfig) {
        self.flows.insert(Flow { from: end, stream }, FlowRecord::new(config.clone()));
        if !config.unidirectional {
            self.flows.insert(Flow { from: end.peer(), stream }, FlowRecord::new(config.clone()));
        }
    }

    fn apply_to_flow(&mut self, now: Instant, seen: &Observation<'_>) {
        let Some(flow) = seen.flow() else { return };
        let Some(record) = self.flows.get_mut(&flow) else { return };
        match *seen {
            Observation::MessageSent { plan, .. } => {
                record.fates_open += u64::from(plan.want_fate);
                record.largest_message = record.largest_message.max(plan.len as u64);
                record.messages.push(SentMessage { at: now, plan, fate: None, received: None });
            }
            Observation::MessageReceived { number, .. } => {
                if let Some(message) = record.messages.get_mut(number as usize)
                    && message.received.is_none()
                {
                    message.received = Some(now);
                    record.received += 1;
                    record.highest_received = record.highest_received.max(Some(number));
                }
            }
            Observation::Fate { number, fate, .. } => {
                if let Some(message) = record.messages.get_mut(number as usize)
                    && message.plan.want_fate
                    && message.fate.is_none()
                {
                    message.fate = Some(fate);
                    record.fates_open -= 1;
                }
            }
            Observation::ConsumptionSaid { below, .. } => record.consumed = below,
            Observation::BytesWritten { len, .. } => record.written += len as u64,
            Observation::BytesRead { data, .. } => record.read += data.len() as u64,
            Observation::Finished(_) => {
                record.is_finished = true;
                record.finished_at = Some(now);
            }
            Observation::Ended(_) => record.is_ended = true,
            Observation::SendFinished(_) => record.is_send_finished = true,
            Observation::ResetSent { code, .. } => record.reset = Some(code),
            Observation::ResetSeen { .. } => record.is_reset_seen = true,
            Observation::StopSent { code, .. } => record.stop = Some(code),
            Observation::SendStopped { .. } => record.is_stop_seen = true,
            _ => {}
        }
    }
}
