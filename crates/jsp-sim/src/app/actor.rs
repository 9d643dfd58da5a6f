//! The application at one end of one connection: opens, accepts, sends and reads as planned, and
//! acts on events only, so that an event that never comes shows as work that never ends.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use jsp_proto::{Connection, Event, OpenError};
use jsp_wire::{Instant, StreamId};

use super::plan::StreamPlan;
use super::reader::Reader;
use super::sender::{Log, Sender};
use crate::flow::{End, Flow, Side};
use crate::observation::Observation;

/// The plans of a connection's open streams, known to both of its ends.
pub type PlanTable = BTreeMap<StreamId, Rc<StreamPlan>>;

/// An application at work.
pub struct Actor {
    end: End,
    /// Streams to be opened, the next one last.
    to_open: Vec<Rc<StreamPlan>>,
    senders: BTreeMap<StreamId, Sender>,
    readers: BTreeMap<StreamId, Reader>,
    /// Streams that the peer stopped before we took them.
    stopped: BTreeSet<StreamId>,
    is_connected: bool,
    is_closed: bool,
    may_open: bool,
    may_accept: bool,
}

impl Actor {
    /// An application that will open these streams once it is connected.
    pub fn new(end: End, mut to_open: Vec<StreamPlan>) -> Self {
        to_open.sort_by_key(|plan| std::cmp::Reverse(plan.open_at));
        Self {
            end,
            to_open: to_open.into_iter().map(Rc::new).collect(),
            senders: BTreeMap::new(),
            readers: BTreeMap::new(),
            stopped: BTreeSet::new(),
            is_connected: false,
            is_closed: false,
            may_open: true,
            may_accept: false,
        }
    }

    /// The connection takes streams before it is made.
    pub fn begin_early(&mut self) {
        self.is_connected = true;
    }

    /// Which end this is.
    pub fn end(&self) -> End {
        self.end
    }

    /// Whether every stream is opened and everything to be sent is handed over.
    pub fn is_finished(&self) -> bool {
        self.to_open.is_empty() && self.senders.values().all(Sender::has_sent_all)
    }

    /// Whether the connection is over.
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Takes note of an event.
    pub fn on_event(&mut self, now: Instant, event: &Event, table: &PlanTable, log: Log<'_>) {
        match event {
            Event::Connected => self.on_connected(now, table, log),
            Event::StreamOpened { .. } => self.may_accept = true,
            Event::Readable { stream } => {
                if let Some(reader) = self.readers.get_mut(stream) {
                    reader.on_readable(now);
                }
            }
            Event::Writable { stream } => {
                if let Some(sender) = self.senders.get_mut(stream) {
                    sender.unblock();
                }
            }
            Event::StreamsAvailable => self.may_open = true,
            Event::Fate { stream, number, fate } => {
                log(Observation::Fate { flow: self.sends(*stream), number: *number, fate: *fate });
            }
            Event::SendFinished { stream } => log(Observation::SendFinished(self.sends(*stream))),
            Event::SendStopped { stream, code } => {
                match self.senders.get_mut(stream) {
                    Some(sender) => sender.stop(),
                    None => {
                        self.stopped.insert(*stream);
                    }
                }
                log(Observation::SendStopped { flow: self.sends(*stream), code: *code });
            }
            Event::Closed { reason } => {
                self.is_closed = true;
                log(Observation::Closed { end: self.end, reason });
            }
            Event::Drained => {
                self.is_closed = true;
                log(Observation::Drained(self.end));
            }
            Event::Consumed { stream, below } => {
                log(Observation::ConsumptionTold { flow: self.sends(*stream), below: *below });
            }
            Event::StreamForgotten { .. }
            | Event::PathChanged { .. }
            | Event::PathsAvailable
            | Event::PathOpened { .. }
            | Event::PathClosed { .. }
            | Event::Alarm(_)
            | Event::CapacityChanged(_)
            | Event::PathSilent
            | Event::HandshakeConfirmed
            | Event::TicketReceived => {}
        }
    }

    /// Does all that is due.
    pub fn run(
        &mut self,
        now: Instant,
        connection: &mut Connection,
        table: &mut PlanTable,
        log: Log<'_>,
    ) {
        if !self.is_connected || self.is_closed {
            return;
        }
        self.open(now, connection, table, log);
        self.accept(now, connection, table, log);
        for sender in self.senders.values_mut() {
            sender.run(now, connection, log);
        }
        for reader in self.readers.values_mut() {
            reader.run(now, connection, log);
        }
        self.senders.retain(|_, sender| !sender.is_done());
        self.readers.retain(|_, reader| !reader.is_done());
    }

    /// When there will be something to do without any event.
    pub fn wake(&self) -> Option<Instant> {
        if !self.is_connected || self.is_closed {
            return None;
        }
        let open = self.to_open.last().filter(|_| self.may_open).map(|plan| plan.open_at);
        let senders = self.senders.values().filter_map(Sender::wake);
        let readers = self.readers.values().filter_map(Reader::wake);
        let accept = self.may_accept.then_some(Instant::ZERO);
        senders.chain(readers).chain(open).chain(accept).min()
    }

    /// What is still going on, for people.
    pub fn unfinished(&self) -> Vec<String> {
        let mut out = Vec::new();
        if !self.to_open.is_empty() {
            out.push(format!("{}: {} streams to open", self.end, self.to_open.len()));
        }
        let senders = self.senders.values().filter(|sender| !sender.has_sent_all());
        out.extend(senders.map(|sender| format!("sending {}", sender.flow())));
        out
    }

    fn sends(&self, stream: StreamId) -> Flow {
        Flow { from: self.end, stream }
    }

    fn receives(&self, stream: StreamId) -> Flow {
        Flow { from: self.end.peer(), stream }
    }

    fn on_connected(&mut self, now: Instant, table: &PlanTable, log: Log<'_>) {
        self.is_connected = true;
        log(Observation::Connected(self.end));
        if let Some(plan) = table.get(&StreamId::SIGNALLING) {
            let is_forth = self.end.side == Side::Client;
            self.start(now, StreamId::SIGNALLING, &Rc::clone(plan), is_forth);
        }
    }

    /// Begins to send and read on a stream; `is_opener` tells which half of its plan is ours.
    fn start(&mut self, now: Instant, stream: StreamId, plan: &Rc<StreamPlan>, is_opener: bool) {
        let both = !plan.config.unidirectional;
        if (is_opener || both) && !self.stopped.remove(&stream) {
            let sender = Sender::new(self.sends(stream), Rc::clone(plan), is_opener);
            self.senders.insert(stream, sender);
        }
        if !is_opener || both {
            let reader = Reader::new(now, self.receives(stream), plan, !is_opener);
            self.readers.insert(stream, reader);
        }
    }

    fn open(
        &mut self,
        now: Instant,
        connection: &mut Connection,
        table: &mut PlanTable,
        log: Log<'_>,
    ) {
        while self.may_open && self.to_open.last().is_some_and(|plan| plan.open_at <= now) {
            let Some(plan) = self.to_open.last().cloned() else { return };
            match connection.open(now, plan.config.clone()) {
                Ok(stream) => {
                    log(Observation::Opened { end: self.end, stream, config: &plan.config });
                    table.insert(stream, Rc::clone(&plan));
                    self.start(now, stream, &plan, true);
                }
                Err(OpenError::LimitReached) => {
                    self.may_open = false;
                    return;
                }
                Err(error) => {
                    let what = format!("open: {error}");
                    log(Observation::CallFailed { end: self.end, what: &what });
                }
            }
            self.to_open.pop();
        }
    }

    fn accept(
        &mut self,
        now: Instant,
        connection: &mut Connection,
        table: &PlanTable,
        log: Log<'_>,
    ) {
        while self.may_accept {
            let Some(stream) = connection.accept() else {
                self.may_accept = false;
                return;
            };
            let info = connection.stream_info(stream);
            let (Some(info), Some(plan)) = (info, table.get(&stream)) else {
                let what = format!("accept gave stream {stream}, which nobody opened");
                log(Observation::CallFailed { end: self.end, what: &what });
                continue;
            };
            log(Observation::Accepted {
                end: self.end,
                stream,
                label: &info.label,
                content_type: info.content_type.as_deref(),
                profile: info.profile,
            });
            self.start(now, stream, &Rc::clone(plan), false);
        }
    }
}
