//! The application at one end of a QUIC connection: follows the same plans as ours, and is observed
//! in the same way.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use bytes::Bytes;
use jsp_proto::{Delivery, StreamConfig};
use jsp_wire::{Class, Instant, StreamId};
use quinn_proto::{Connection, Dir, StreamEvent, StreamId as QuicStream, WriteError};

use crate::app::{MessagePlan, Pattern, Script, SendPlan, StreamPlan, Traffic};
use crate::flow::{End, Flow, Side};
use crate::observation::Observation;

type Log<'a> = &'a mut dyn FnMut(Observation<'_>);

/// What the streams carry, known to both ends.
#[derive(Default)]
pub(super) struct Names {
    carried: BTreeMap<(Side, u64), Carried>,
    /// Streams of the plan that one end or the other has begun to use.
    opened: BTreeSet<StreamId>,
}

/// What one stream carries: one message of a flow, or its bytes.
#[derive(Clone, Copy)]
struct Carried {
    flow: Flow,
    message: Option<u64>,
}

/// An application at work.
pub(super) struct Actor {
    end: End,
    names: Rc<RefCell<Names>>,
    /// Streams that this end opens by the plan, the next one last.
    to_open: Vec<(StreamId, Rc<StreamPlan>)>,
    senders: Vec<Sender>,
    /// Pieces of what has begun to arrive.
    arriving: BTreeMap<QuicStream, Arriving>,
    is_connected: bool,
    is_closed: bool,
    /// Something may be written that could not be before.
    is_unblocked: bool,
}

#[derive(Default)]
struct Arriving {
    taken: u64,
    message: Vec<u8>,
}

impl Actor {
    /// The application of an end; it will send its halves of the script's streams.
    pub(super) fn new(end: End, script: &Script, names: Rc<RefCell<Names>>) -> Self {
        let (client, server) = (script.client.iter(), script.server.iter());
        let client = (1..).zip(client).map(|(index, plan)| (StreamId::new(index, false), plan));
        let server = (1..).zip(server).map(|(index, plan)| (StreamId::new(index, true), plan));
        let all = client.chain(server).map(|(stream, plan)| (stream, Rc::new(plan.clone())));
        let mut to_open: Vec<_> = all.collect();
        to_open.sort_by_key(|(_, plan)| std::cmp::Reverse(plan.open_at));
        Self {
            end,
            names,
            to_open,
            senders: Vec::new(),
            arriving: BTreeMap::new(),
            is_connected: false,
            is_closed: false,
            is_unblocked: false,
        }
    }

    pub(super) fn on_connected(&mut self, log: Log<'_>) {
        self.is_connected = true;
        log(Observation::Connected(self.end));
    }

    /// A peer that breaks off has failed; what is missing then is missing in its figures.
    pub(super) fn on_closed(&mut self) {
        self.is_closed = true;
    }

    pub(super) fn is_finished(&self) -> bool {
        self.is_closed || (self.to_open.is_empty() && self.senders.is_empty())
    }

    pub(super) fn wake(&self) -> Option<Instant> {
        if !self.is_connected || self.is_closed {
            return None;
        }
        let open = self.to_open.last().map(|(_, plan)| plan.open_at);
        let unblocked = self.is_unblocked.then_some(Instant::ZERO);
        self.senders.iter().filter_map(Sender::wake).chain(open).chain(unblocked).min()
    }

    pub(super) fn on_event(
        &mut self,
        event: StreamEvent,
        connection: &mut Connection,
        log: Log<'_>,
    ) {
        match event {
            StreamEvent::Opened { dir } => {
                while let Some(id) = connection.streams().accept(dir) {
                    self.read(id, connection, log);
                }
            }
            StreamEvent::Readable { id } => self.read(id, connection, log),
            StreamEvent::Writable { .. } | StreamEvent::Available { .. } => {
                self.is_unblocked = true;
            }
            StreamEvent::Finished { .. } | StreamEvent::Stopped { .. } => {}
        }
    }

    /// Does all that is due; true when anything was.
    pub(super) fn run(&mut self, now: Instant, connection: &mut Connection, log: Log<'_>) -> bool {
        if self.wake().is_none_or(|at| at > now) {
            return false;
        }
        self.is_unblocked = false;
        while self.to_open.last().is_some_and(|(_, plan)| plan.open_at <= now) {
            let Some((stream, plan)) = self.to_open.pop() else { break };
            self.open(stream, plan, log);
        }
        for sender in &mut self.senders {
            sender.is_blocked = false;
            sender.run(now, connection, &self.names, log);
        }
        self.senders.retain(|sender| !sender.is_done());
        true
    }

    fn open(&mut self, stream: StreamId, plan: Rc<StreamPlan>, log: Log<'_>) {
        let opener = if stream.by_server() { Side::Server } else { Side::Client };
        let is_forth = self.end.side == opener;
        // Either end may be the first at the instant that the plan tells.
        if self.names.borrow_mut().opened.insert(stream) {
            // QUIC delivers all it is given, each stream in its own order.
            let delivery = Delivery::Reliable;
            let config = StreamConfig { delivery, ordered: false, ..plan.config.clone() };
            let end = End { side: opener, ..self.end };
            log(Observation::Opened { end, stream, config: &config });
        }
        if is_forth || !plan.config.unidirectional {
            self.senders.push(Sender::new(Flow { from: self.end, stream }, plan, is_forth));
            // Streams share one send window: what is urgent asks for room first.
            self.senders.sort_by_key(|sender| urgency(sender.plan.config.class));
        }
    }

    fn read(&mut self, id: QuicStream, connection: &mut Connection, log: Log<'_>) {
        let carried = self.names.borrow().carried.get(&(self.end.side.other(), id.into())).copied();
        let Some(Carried { flow, message }) = carried else { return };
        let arriving = self.arriving.entry(id).or_default();
        let mut stream = connection.recv_stream(id);
        let Ok(mut chunks) = stream.read(true) else { return };
        let mut is_over = false;
        loop {
            match chunks.next(usize::MAX) {
                Ok(Some(chunk)) if message.is_some() => {
                    arriving.message.extend_from_slice(&chunk.bytes);
                }
                Ok(Some(chunk)) => {
                    let (offset, data) = (arriving.taken, &chunk.bytes);
                    log(Observation::BytesRead { flow, offset, data, prompt: true });
                    arriving.taken += data.len() as u64;
                }
                Ok(None) => {
                    is_over = true;
                    break;
                }
                Err(_) => break,
            }
        }
        let _ = chunks.finalize();
        if !is_over {
            return;
        }
        if let (Some(arrived), Some(number)) = (self.arriving.remove(&id), message) {
            log(Observation::MessageReceived {
                flow,
                number,
                payload: &arrived.message,
                attributes: jsp_wire::frame::Attributes::default(),
                prompt: true,
            });
        }
    }
}

/// Small is urgent.
fn urgency(class: Class) -> i32 {
    match class {
        Class::Control => 0,
        Class::RealTime => 1,
        Class::Interactive => 2,
        Class::Scavenger => 3,
    }
}

/// Follows one direction of one plan.
struct Sender {
    flow: Flow,
    plan: Rc<StreamPlan>,
    is_forth: bool,
    /// Messages or bytes handed over so far.
    sent: u64,
    /// Messages that have begun to be written.
    unfinished: VecDeque<(QuicStream, Bytes)>,
    bytes_stream: Option<QuicStream>,
    is_blocked: bool,
}

impl Sender {
    fn new(flow: Flow, plan: Rc<StreamPlan>, is_forth: bool) -> Self {
        Self {
            flow,
            plan,
            is_forth,
            sent: 0,
            unfinished: VecDeque::new(),
            bytes_stream: None,
            is_blocked: false,
        }
    }

    fn half(&self) -> &SendPlan {
        if self.is_forth { &self.plan.forth } else { &self.plan.back }
    }

    /// The message that comes next.
    fn next_message(&self) -> Option<MessagePlan> {
        match &self.half().traffic {
            Traffic::Messages(messages) => messages.get(self.sent as usize).copied(),
            Traffic::Media(media) => {
                // It knows nothing that it could adapt to.
                let at = media.moment(self.sent)?;
                Some(MessagePlan::new(at, media.frame_len(media.ceiling_bps)))
            }
            Traffic::Bytes { .. } => None,
        }
    }

    fn is_done(&self) -> bool {
        match &self.half().traffic {
            Traffic::Bytes { total, .. } => self.sent >= *total,
            _ => self.unfinished.is_empty() && self.next_message().is_none(),
        }
    }

    fn wake(&self) -> Option<Instant> {
        if self.is_blocked {
            return None;
        }
        match &self.half().traffic {
            Traffic::Bytes { start, .. } => Some(*start),
            _ if !self.unfinished.is_empty() => Some(Instant::ZERO),
            _ => self.next_message().map(|message| message.at),
        }
    }

    fn run(
        &mut self,
        now: Instant,
        connection: &mut Connection,
        names: &RefCell<Names>,
        log: Log<'_>,
    ) {
        let plan = Rc::clone(&self.plan);
        let half = if self.is_forth { &plan.forth } else { &plan.back };
        match half.traffic {
            Traffic::Bytes { start, total, chunk } if start <= now => {
                self.write_bytes(total, chunk, connection, names, log);
            }
            Traffic::Bytes { .. } => {}
            Traffic::Messages(_) | Traffic::Media(_) => {
                self.write_messages(now, connection, names, log);
            }
        }
    }

    fn write_messages(
        &mut self,
        now: Instant,
        connection: &mut Connection,
        names: &RefCell<Names>,
        log: Log<'_>,
    ) {
        while let Some(plan) = self.next_message().filter(|plan| plan.at <= now) {
            let number = self.sent;
            let Some(id) = self.open(Some(number), connection, names) else { break };
            let payload = Pattern::of_message(self.flow, number, false).bytes(0, plan.len);
            self.unfinished.push_back((id, payload));
            self.sent += 1;
            log(Observation::MessageSent { flow: self.flow, number, plan });
        }
        while let Some((id, mut rest)) = self.unfinished.pop_front() {
            while !rest.is_empty() {
                match connection.send_stream(id).write_chunks(std::slice::from_mut(&mut rest)) {
                    Ok(_) => {}
                    Err(WriteError::Blocked) => {
                        self.unfinished.push_front((id, rest));
                        self.is_blocked = true;
                        return;
                    }
                    Err(_) => break,
                }
            }
            let _ = connection.send_stream(id).finish();
        }
    }

    fn write_bytes(
        &mut self,
        total: u64,
        chunk: usize,
        connection: &mut Connection,
        names: &RefCell<Names>,
        log: Log<'_>,
    ) {
        let Some(id) = self.bytes_stream.or_else(|| self.open(None, connection, names)) else {
            return;
        };
        self.bytes_stream = Some(id);
        while self.sent < total {
            let len = (total - self.sent).min(chunk as u64) as usize;
            let mut data = Pattern::of_bytes(self.flow).bytes(self.sent, len);
            let written = connection.send_stream(id).write_chunks(std::slice::from_mut(&mut data));
            let Ok(written) = written else {
                self.is_blocked = true;
                return;
            };
            self.sent += written.bytes as u64;
            log(Observation::BytesWritten { flow: self.flow, len: written.bytes });
        }
        let _ = connection.send_stream(id).finish();
    }

    /// Opens a stream and tells the other end what it carries; `None` when the limit is reached.
    fn open(
        &mut self,
        message: Option<u64>,
        connection: &mut Connection,
        names: &RefCell<Names>,
    ) -> Option<QuicStream> {
        let Some(id) = connection.streams().open(Dir::Uni) else {
            self.is_blocked = true;
            return None;
        };
        let _ = connection.send_stream(id).set_priority(-urgency(self.plan.config.class));
        let carried = Carried { flow: self.flow, message };
        names.borrow_mut().carried.insert((self.flow.from.side, id.into()), carried);
        Some(id)
    }
}
