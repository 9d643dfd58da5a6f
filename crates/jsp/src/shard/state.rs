//! What the facade knows about a connection beside the transport's own state: who waits, which
//! handles live, and what arrived before the end.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::task::Waker;

use bytes::Bytes;
use jsp_proto::{
    Capacity, ConnectionHandle, ConnectionStats, MessageFate, PathId, PathMemory, Received,
    StreamInfo, TicketStore,
};
use jsp_wire::{Route, StreamId};

use super::hash::IntegerHash;
use super::waiters::{Seldom, Waiters, WakeList};
use crate::carrier::table::Held;
use crate::error::ConnectionError;
use crate::identity::Outcome;
use crate::link::Further;
use crate::security::Security;

/// A connection in the eyes of the facade.
pub(crate) struct ConnectionState {
    /// The transport's name for it, until the transport has forgotten it.
    pub(crate) handle: Option<ConnectionHandle>,
    pub(crate) phase: Phase,
    pub(crate) route: Route,
    pub(crate) security: Option<Arc<Security>>,
    /// What was known as the connection ended.
    pub(crate) last: Option<Box<LastWords>>,
    pub(crate) streams: HashMap<StreamId, StreamState, IntegerHash>,
    pub(crate) fates: HashMap<(StreamId, u64), FateSlot, IntegerHash>,
    /// Streams that the peer opened and that nobody had accepted when the connection ended.
    pub(crate) unaccepted: VecDeque<(StreamId, StreamInfo)>,
    /// Finished streams and signals whose arrival is not confirmed yet.
    pub(crate) unconfirmed: usize,
    /// Close with this code as soon as nothing is unconfirmed.
    pub(crate) closing: Option<u64>,
    /// Nobody holds the connection any more.
    pub(crate) orphan: bool,
    /// A peer has made it, and nobody has accepted it yet.
    pub(crate) is_incoming: bool,
    pub(crate) connected: Seldom,
    pub(crate) closed: Seldom,
    pub(crate) opening: Seldom,
    pub(crate) accepting: Seldom,
    pub(crate) capacity: CapacityTold,
    pub(crate) capacity_waiters: Seldom,
    /// Who wants to know when the path changes or falls silent.
    pub(crate) path_waiters: Seldom,
    /// Carriers that this side has opened for the connection.
    pub(crate) carriers: Vec<Held>,
    /// Numbers of the carriers of streams that paths go by, whoever has opened them.
    pub(crate) used_carriers: Vec<u64>,
    /// Sockets that paths of the connection go by.
    pub(crate) sockets: Sockets,
    pub(crate) paths: Seldom,
    /// Where tickets of the server are kept, and under which name.
    pub(crate) tickets: Option<(Arc<dyn TicketStore>, Box<str>)>,
    /// What is to be remembered of the server once it is proved.
    pub(crate) unremembered: Option<Box<Outcome>>,
}

/// Sockets that are held for paths.
pub(crate) type Sockets = Vec<(PathId, Arc<Further>)>;

/// What is known of a connection that the transport has forgotten.
#[derive(Default)]
pub(crate) struct LastWords {
    pub(crate) stats: ConnectionStats,
    /// What the path carried.
    pub(crate) memory: Option<PathMemory>,
    /// What was not taken of it.
    pub(crate) qlog: String,
}

/// What the transport has told of the network.
#[derive(Default)]
pub(crate) struct CapacityTold {
    /// How often.
    pub(crate) changes: u64,
    /// How often it had when the application was told last.
    pub(crate) answered: u64,
    pub(crate) latest: Option<Box<Capacity>>,
}

/// How far a connection is.
pub(crate) enum Phase {
    Handshake,
    Open,
    Closed(Box<ConnectionError>),
}

/// A place where tasks wait.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    Connected,
    Closed,
    Opening,
    Accepting,
    Capacity,
    Paths,
    Route,
    Readable(StreamId),
    Writable(StreamId),
    Ended(StreamId),
}

impl Place {
    /// Whoever waits here takes what has come.
    pub(crate) fn is_of_reader(self) -> bool {
        matches!(self, Self::Accepting | Self::Readable(_))
    }
}

/// A stream in the eyes of the facade.
#[derive(Default)]
pub(crate) struct StreamState {
    pub(crate) readable: Waiters,
    pub(crate) writable: Seldom,
    pub(crate) ended: Seldom,
    pub(crate) end: SendEnd,
    /// The peer's application has taken all messages below this number.
    pub(crate) consumed_below: u64,
    pub(crate) send_held: bool,
    pub(crate) recv_held: bool,
    /// What had arrived when the connection ended.
    pub(crate) rest: VecDeque<Rest>,
}

/// How far the sending side of a stream is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum SendEnd {
    #[default]
    Open,
    /// Finished; not all has arrived.
    Finishing,
    /// All has arrived.
    Finished,
    /// The peer wants no more.
    Stopped(u64),
    /// We reset it.
    Reset,
}

/// Something that had arrived when the connection ended.
pub(crate) enum Rest {
    Message(Received),
    Bytes(Bytes),
    /// The stream's end, or a reset, in place of an end by the connection's.
    End(Option<u64>),
}

/// A message whose fate is awaited.
pub(crate) enum FateSlot {
    Waiting(Option<Waker>),
    Known(MessageFate),
}

impl StreamState {
    /// How the sending side ended is known.
    pub(crate) fn has_ended(&self) -> bool {
        !matches!(self.end, SendEnd::Open | SendEnd::Finishing)
    }

    /// Nobody holds the stream, and nothing is expected of it.
    fn is_idle(&self) -> bool {
        !self.send_held && !self.recv_held && self.end != SendEnd::Finishing
    }
}

impl ConnectionState {
    pub(crate) fn new(handle: ConnectionHandle, phase: Phase, route: Route) -> Self {
        Self {
            handle: Some(handle),
            phase,
            route,
            security: None,
            last: None,
            streams: HashMap::default(),
            fates: HashMap::default(),
            unaccepted: VecDeque::new(),
            unconfirmed: 0,
            closing: None,
            orphan: false,
            is_incoming: false,
            connected: Seldom::default(),
            closed: Seldom::default(),
            opening: Seldom::default(),
            accepting: Seldom::default(),
            capacity: CapacityTold::default(),
            capacity_waiters: Seldom::default(),
            path_waiters: Seldom::default(),
            carriers: Vec::new(),
            used_carriers: Vec::new(),
            sockets: Vec::new(),
            paths: Seldom::default(),
            tickets: None,
            unremembered: None,
        }
    }

    /// A path goes by this route: a carrier is kept in mind until none does.
    pub(crate) fn note_carrier(&mut self, route: &Route) {
        if let Route::Tunnel { id } = route
            && !self.used_carriers.contains(id)
        {
            self.used_carriers.push(*id);
        }
    }

    pub(crate) fn error(&self) -> Option<&ConnectionError> {
        match &self.phase {
            Phase::Closed(error) => Some(error),
            Phase::Handshake | Phase::Open => None,
        }
    }

    /// Who waits at this place; `None` where there is no such place any more.
    pub(crate) fn waiters(&mut self, place: Place) -> Option<&mut Waiters> {
        match place {
            Place::Readable(stream) => Some(&mut self.streams.get_mut(&stream)?.readable),
            _ => self.seldom(place).map(Seldom::get),
        }
    }

    /// Forgets a waiter that gave up or is served.
    pub(crate) fn forget_waiter(&mut self, place: Place, key: u64) {
        match place {
            Place::Readable(stream) => {
                if let Some(stream) = self.streams.get_mut(&stream) {
                    stream.readable.remove(key);
                }
            }
            _ => self.seldom(place).into_iter().for_each(|waiters| waiters.remove(key)),
        }
    }

    fn seldom(&mut self, place: Place) -> Option<&mut Seldom> {
        Some(match place {
            Place::Connected => &mut self.connected,
            Place::Closed => &mut self.closed,
            Place::Opening => &mut self.opening,
            Place::Accepting => &mut self.accepting,
            Place::Capacity => &mut self.capacity_waiters,
            Place::Route => &mut self.path_waiters,
            Place::Paths => &mut self.paths,
            Place::Readable(_) => return None,
            Place::Writable(stream) => &mut self.streams.get_mut(&stream)?.writable,
            Place::Ended(stream) => &mut self.streams.get_mut(&stream)?.ended,
        })
    }

    /// A stream of ours whose sending side was finished as it began.
    pub(crate) fn add_finishing(&mut self, id: StreamId, recv_held: bool) {
        let (send_held, end) = (true, SendEnd::Finishing);
        self.streams.insert(id, StreamState { send_held, recv_held, end, ..Default::default() });
        self.unconfirmed += 1;
    }

    /// The sending side of a stream has come to `end`. Answers whether nothing is unconfirmed now.
    pub(crate) fn end_sending(&mut self, id: StreamId, end: SendEnd, wakes: &mut WakeList) {
        let Entry::Occupied(mut entry) = self.streams.entry(id) else { return };
        let stream = entry.get_mut();
        let was_finishing = stream.end == SendEnd::Finishing;
        let is_finishing = end == SendEnd::Finishing;
        stream.end = end;
        match (was_finishing, is_finishing) {
            (false, true) => self.unconfirmed += 1,
            (true, false) => self.unconfirmed = self.unconfirmed.saturating_sub(1),
            _ => {}
        }
        // Whoever waits for room finds that nothing more is taken.
        stream.writable.wake(wakes);
        if !is_finishing {
            stream.ended.wake(wakes);
        }
        if was_finishing && stream.is_idle() {
            entry.remove();
        }
    }

    /// The transport tells nothing of a stream any more.
    pub(crate) fn wake_ended(&mut self, id: StreamId, wakes: &mut WakeList) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.ended.wake(wakes);
        }
    }

    /// Nobody holds the sending half any more. Answers whether it was never finished nor reset: then it is to be
    /// finished, before the state is dropped.
    pub(crate) fn let_go_of_send(&mut self, id: StreamId) -> bool {
        let Entry::Occupied(mut entry) = self.streams.entry(id) else { return false };
        entry.get_mut().send_held = false;
        let is_open = entry.get().end == SendEnd::Open;
        if !is_open && entry.get().is_idle() {
            entry.remove();
        }
        is_open
    }

    /// Nobody holds the receiving half any more.
    pub(crate) fn let_go_of_recv(&mut self, id: StreamId) {
        let Entry::Occupied(mut entry) = self.streams.entry(id) else { return };
        entry.get_mut().recv_held = false;
        entry.get_mut().rest.clear();
        if entry.get().is_idle() {
            entry.remove();
        }
    }

    /// Drops the state of a stream that nobody holds and nothing is expected of.
    pub(crate) fn forget_unheld(&mut self, id: StreamId) {
        if self.streams.get(&id).is_some_and(StreamState::is_idle) {
            self.streams.remove(&id);
        }
    }

    /// The connection is to be closed, and nothing is unconfirmed any more.
    pub(crate) fn is_delivered(&self) -> bool {
        self.closing.is_some() && self.unconfirmed == 0
    }

    pub(crate) fn set_fate(
        &mut self,
        key: (StreamId, u64),
        fate: MessageFate,
        wakes: &mut WakeList,
    ) {
        match self.fates.get_mut(&key) {
            Some(slot) => {
                let known = FateSlot::Known(fate);
                if let FateSlot::Waiting(Some(waker)) = std::mem::replace(slot, known) {
                    wakes.push(waker);
                }
            }
            None if key.0 == StreamId::SIGNALLING => {
                self.unconfirmed = self.unconfirmed.saturating_sub(1);
            }
            None => {}
        }
    }

    /// The connection is over: everybody who waits learns it.
    pub(crate) fn close(&mut self, error: ConnectionError, wakes: &mut WakeList) {
        if self.error().is_some() {
            return;
        }
        self.phase = Phase::Closed(Box::new(error));
        self.unconfirmed = 0;
        for slot in self.fates.values_mut() {
            if let FateSlot::Waiting(waker) = slot {
                if let Some(waker) = waker.take() {
                    wakes.push(waker);
                }
                *slot = FateSlot::Known(MessageFate::Abandoned);
            }
        }
        for stream in self.streams.values_mut() {
            stream.readable.wake(wakes);
            stream.writable.wake(wakes);
            stream.ended.wake(wakes);
        }
        self.connected.wake(wakes);
        self.closed.wake(wakes);
        self.opening.wake(wakes);
        self.accepting.wake(wakes);
        self.capacity_waiters.wake(wakes);
        self.paths.wake(wakes);
        self.path_waiters.wake(wakes);
    }
}
