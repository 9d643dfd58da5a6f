//! Streams and messages: all streams of a connection (doors 1, 2, 4, 8 and 9 of the corridor).
//!
//! | file | concept |
//! |------|---------|
//! | `alarms` | when messages that wait expire |
//! | `application` | what the application calls |
//! | `output`, `turn`, `run` | frames into a packet, in the order of the policy; one stream's turn; messages that need no more than to be written |
//! | `overdue` | messages that go once more before they are lost |
//! | `doubles` | messages that go by two paths at once |
//! | `early` | what may go before the handshake is complete |
//! | `echo` | the last retransmission before a deadline |
//! | `fate` | what became of them |
//! | `input`, `arrival` | frames of the peer; what they change |
//! | `table`, `stream` | which streams exist; one stream |
//! | `send_bytes`, `send_messages`, `send_fate`, `record`, `pack` | sending halves |
//! | `recv_bytes`, `recv_messages`, `recv_unreliable`, `assembly`, `gaps`, `copies` | receiving halves |
//! | `queue` | messages in their order, of which there is often one |
//! | `scheduler`, `rate` | whose bytes next |
//! | `credit` | flow control |
//! | `opening`, `config`, `event` | what is said and heard about streams |
//!
//! The normative text is `docs/spec/03-streams.md`; code cites its sentences as `spec: STR-n`.

mod alarms;
mod application;
mod arrival;
mod assembly;
pub(crate) mod config;
mod copies;
mod credit;
pub(crate) mod doubles;
mod early;
mod echo;
mod event;
mod fate;
mod gaps;
mod input;
mod objects;
mod opening;
mod output;
mod overdue;
mod pack;
mod peer;
mod queue;
mod ranges;
mod rate;
mod record;
mod recv_bytes;
mod recv_messages;
mod recv_objects;
mod recv_unreliable;
mod rest;
mod run;
mod scheduler;
mod send_bytes;
mod send_fate;
mod send_messages;
mod send_objects;
mod stream;
mod table;
#[cfg(test)]
mod tests;
mod turn;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use core::time::Duration;

use bytes::Bytes;
use jsp_wire::{Class, Instant, Profile, StreamId, TransportParams, limits};

use self::config::{FecPolicy, StreamLimits};
use self::credit::{MESSAGE_LEN_ALWAYS, MESSAGE_LEN_CEILING, SendCredit, Told, WINDOW_MIN, Window};
use self::doubles::{Doubles, Duplicate};
use self::event::Events;
use self::overdue::Repeats;
use self::scheduler::Scheduler;
use self::send_messages::SendScope;
use self::stream::{
    Accounted, Fin, RecvBody, RecvHalf, RecvPhase, ResetCause, SendBody, SendHalf, SendPhase,
    Sendable, Stream, owed,
};
use self::table::{Key, LocalStreams, PeerStreams, Table};

pub(crate) use self::event::StreamEvent;
pub(crate) use self::objects::IS_PRESENT as OBJECTS_PRESENT;
pub(crate) use self::overdue::Overdue;
pub(crate) use self::rest::RestingStreams;

/// A piece shorter than this is not cut off to fill the rest of a packet, in bytes: its frame head
/// and the handling would outweigh it.
const FRAGMENT_MIN: usize = 64;

/// Bytes of a real-time stream are due so long after they came to the head of their stream.
const BYTES_DUE: Duration = Duration::from_millis(100);

/// Which side of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Side {
    /// The side that connected.
    Client,
    /// The side that was connected to.
    Server,
}

/// All streams of a connection.
#[derive(Debug)]
pub(crate) struct Streams {
    side: Side,
    limits: StreamLimits,
    /// What the peer told; before that nothing is sent.
    peer: Option<Told>,
    rtt: Duration,
    table: Table,
    scheduler: Scheduler,
    credit: SendCredit,
    window: Window,
    /// Sums over all receiving halves.
    received: Accounted,
    local_streams: LocalStreams,
    peer_streams: PeerStreams,
    /// Connection-wide frames that are owed.
    owes_max_data: bool,
    owes_max_streams: bool,
    owes_blocked: bool,
    /// The peer has granted some to the connection, and nobody has tried to use it.
    has_new_credit: bool,
    control: VecDeque<Key>,
    opens: VecDeque<Key>,
    blocked: VecDeque<Key>,
    expiries: BinaryHeap<Reverse<(Instant, Key)>>,
    /// When there are more, those that were set anew since are let go of.
    expiries_max: usize,
    accept: VecDeque<StreamId>,
    /// The stream that the last message of the packet at hand is for, while it may not be accounted for.
    arrived: Option<Key>,
    events: Events,
    /// Real-time streams whose messages may become overdue.
    watched: VecDeque<Key>,
    doubles: Doubles,
    copies: overdue::Allowance,
    repeats: Repeats,
    early: early::Phase,
    /// Bytes of large messages, and of tables of numbers, that were worked through in vain.
    tried: u64,
    is_closed: bool,
}

impl Streams {
    /// No streams yet but stream 0.
    pub(crate) fn new(side: Side, limits: &StreamLimits) -> Self {
        let mut limits = limits.clone();
        limits.message_len_max =
            limits.message_len_max.clamp(MESSAGE_LEN_ALWAYS, MESSAGE_LEN_CEILING);
        limits.streams_max = limits.streams_max.min(limits::STREAMS_OPEN_MAX);
        limits.stream_window = limits.stream_window.max(WINDOW_MIN);
        limits.data_window = limits.data_window.max(WINDOW_MIN);
        let extra = limits.message_len_max;
        let window = Window::new(limits.data_window, limits.data_window_max)
            .announcing(limits.data_window.saturating_add(extra));
        let mut streams = Self {
            side,
            peer: None,
            rtt: Duration::from_millis(100),
            table: Table::new(limits.hash_key),
            scheduler: Scheduler::default(),
            credit: SendCredit::default(),
            window,
            received: Accounted::default(),
            local_streams: LocalStreams::default(),
            peer_streams: PeerStreams::new(limits.streams_max),
            owes_max_data: false,
            owes_max_streams: false,
            owes_blocked: false,
            has_new_credit: false,
            control: VecDeque::new(),
            opens: VecDeque::new(),
            blocked: VecDeque::new(),
            expiries: BinaryHeap::new(),
            expiries_max: alarms::ALARMS_ALWAYS,
            accept: VecDeque::new(),
            arrived: None,
            events: Events::new(),
            watched: VecDeque::new(),
            doubles: Doubles::default(),
            copies: overdue::Allowance::default(),
            repeats: Repeats::default(),
            early: early::Phase::default(),
            tried: 0,
            is_closed: false,
            limits,
        };
        // spec: STR-4
        let signalling =
            streams.blank(StreamId::SIGNALLING, Profile::SIGNALLING, false, Bytes::new());
        streams.table.insert(signalling);
        streams
    }

    /// The peer's parameters: from here on frames may go.
    pub(crate) fn set_peer_params(&mut self, now: Instant, params: &TransportParams) {
        self.peer = Some(Told::from(params));
        self.early = early::Phase::Over;
        self.forget_symbols(now);
        self.credit.raise(params.data_max);
        self.local_streams.limit = self.local_streams.limit.max(params.streams_max);
        self.note_streams_available();
        for (_, stream) in self.table.iter_mut() {
            stream.send.limit = stream.send.limit.max(params.stream_data_max);
        }
        self.release_held(now);
    }

    /// The round-trip time, for the windows.
    pub(crate) fn on_rtt(&mut self, rtt: Duration) {
        self.rtt = rtt;
    }

    /// Something for the application.
    pub(crate) fn poll_event(&mut self) -> Option<StreamEvent> {
        self.events.pop_front()
    }

    /// When [`Streams::handle_timeout`] has something to do: an expiry, or a rate cap that opens.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let expiry = self.expiries.peek().map(|Reverse((at, _))| *at);
        [expiry, self.scheduler.next_release()].into_iter().flatten().min()
    }

    /// Gives up what expired while it could not be sent; lets rate-capped streams go on.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        while let Some(Reverse((at, key))) = self.expiries.peek().copied() {
            if at > now {
                break;
            }
            self.expiries.pop();
            let Some(stream) = self.table.get_mut(key).filter(|stream| stream.armed == at) else {
                // It was armed anew since, for a time of which it stands here, too.
                continue;
            };
            stream.armed = Instant::FAR_FUTURE;
            if let SendBody::Messages(messages) = &mut stream.send.body {
                let (credit, events) = (&mut self.credit, &mut self.events);
                messages.expire(&mut SendScope { now, stream: stream.id, credit, events });
            }
            self.refresh(now, key);
        }
        self.release_capped(now);
        // A message that was given up has let go of the connection's credit.
        self.unblock(now);
    }

    /// The connection ended: what has no fate is abandoned.
    pub(crate) fn on_close(&mut self) {
        self.is_closed = true;
        for (_, stream) in self.table.iter_mut() {
            if let SendBody::Messages(messages) = &mut stream.send.body {
                let (credit, events) = (&mut self.credit, &mut self.events);
                let now = Instant::ZERO;
                messages.abandon(&mut SendScope { now, stream: stream.id, credit, events });
            }
        }
        self.scheduler.clear();
        self.control.clear();
        self.opens.clear();
        self.blocked.clear();
        self.watched.clear();
        self.expiries.clear();
    }

    /// A stream with nothing in it.
    fn blank(&self, id: StreamId, profile: Profile, is_local: bool, opening: Bytes) -> Stream {
        let is_shared = id == StreamId::SIGNALLING;
        let sends = is_local || is_shared || !profile.unidirectional;
        let receives = !is_local || is_shared || !profile.unidirectional;
        Stream {
            id,
            profile,
            is_local,
            opening,
            is_replay_safe: false,
            is_known: !is_local,
            is_accepted: true,
            class: profile.class,
            weight: opening::WEIGHT_DEFAULT,
            rate: None,
            lifetime: None,
            retransmits: None,
            fec: FecPolicy::Auto,
            duplicate: Duplicate::Auto,
            send_buffer: self.limits.send_buffer as u64,
            send: SendHalf {
                phase: if sends { SendPhase::Open } else { SendPhase::Absent },
                body: SendBody::Idle,
                limit: self.peer.map_or(0, |peer| peer.stream_data_max),
                fin: Fin::Unsent,
                wants_room: false,
                told: None,
                consumed_below: 0,
                is_watched: false,
            },
            recv: RecvHalf {
                phase: if receives { RecvPhase::Open } else { RecvPhase::Absent },
                body: RecvBody::Idle,
                window: Window::new(self.limits.stream_window, self.limits.stream_window_max),
                accounted: Accounted::default(),
                consumed_below: 0,
                told_readable: false,
            },
            owes: 0,
            in_control: false,
            in_opens: false,
            in_line: false,
            in_blocked: false,
            in_capped: false,
            in_watched: false,
            due: Instant::FAR_FUTURE,
            armed: Instant::FAR_FUTURE,
        }
    }

    /// Notes that a stream owes the peer a control frame.
    fn owe(&mut self, key: Key, what: u8) {
        let is_held = self.is_held(key);
        let Some(stream) = self.table.get_mut(key) else { return };
        stream.owes |= what;
        if is_held {
            return;
        }
        if stream.owes & !owed::OPEN != 0 && !stream.in_control {
            stream.in_control = true;
            self.control.push_back(key);
        }
        if stream.owes & owed::OPEN != 0 && !stream.in_opens {
            stream.in_opens = true;
            self.opens.push_back(key);
        }
    }

    /// Brings everything that depends on a sending half up to date after a change. Its place in line comes first: who
    /// looks for what can be sent lets go of what has expired or arrived, which may leave a SKIP or the end to be told.
    fn refresh(&mut self, now: Instant, key: Key) {
        self.line_up(now, key);
        self.refresh_quietly(key);
    }

    /// Sends the end of a finished half once all before it is sent; closes it once all has arrived.
    // spec: STR-5, STR-28, STR-37
    fn refresh_end(&mut self, key: Key) {
        let Some(stream) = self.table.get_mut(key) else { return };
        if stream.send.phase != SendPhase::Finishing {
            return;
        }
        if stream.send.fin == Fin::Acked && stream.is_settled() {
            stream.send.phase = SendPhase::Closed;
            self.events.push_back(StreamEvent::SendFinished(stream.id));
        } else if stream.send.fin == Fin::Unsent && stream.is_drained() {
            if stream.is_unheard() {
                stream.send.phase = SendPhase::Reset { code: 0, cause: ResetCause::GivenUp };
                stream.owes &= !(owed::OPEN | owed::SKIP);
                self.owe(key, owed::RESET);
            } else {
                self.owe(key, owed::FINISH);
            }
        }
    }

    fn refresh_room(&mut self, key: Key) {
        let Some(stream) = self.table.get_mut(key) else { return };
        if stream.send.wants_room && stream.waiting() <= stream.send_buffer / 2 {
            let full = match &stream.send.body {
                SendBody::Messages(messages) => messages.is_full(),
                _ => false,
            };
            if !full {
                stream.send.wants_room = false;
                self.events.push_back(StreamEvent::Writable(stream.id));
            }
        }
    }

    /// Puts a stream in line if it has something that may go; notes what it waits for otherwise.
    fn line_up(&mut self, now: Instant, key: Key) {
        if self.peer.is_none() || self.is_closed || self.is_held(key) {
            return;
        }
        let Some(stream) = self.table.get_mut(key) else { return };
        if stream.in_line && stream.class != Class::RealTime {
            return;
        }
        if stream.is_settled() && stream.is_drained() {
            return;
        }
        let sendable = stream.sendable(now, &mut self.credit, &mut self.events);
        self.place(key, now, sendable);
    }

    fn place(&mut self, key: Key, now: Instant, sendable: Sendable) {
        let Some(stream) = self.table.get_mut(key) else { return };
        let due = match sendable {
            Sendable::Message(piece) => piece.due,
            Sendable::Bytes(_) if stream.in_line => stream.due,
            Sendable::Bytes(_) => now + BYTES_DUE,
            Sendable::Nothing => return,
            Sendable::StreamCredit => {
                if stream.send.told != Some(stream.send.limit) {
                    stream.send.told = Some(stream.send.limit);
                    self.owe(key, owed::BLOCKED);
                }
                return;
            }
            Sendable::ConnectionCredit => {
                if !stream.in_blocked {
                    stream.in_blocked = true;
                    self.blocked.push_back(key);
                }
                self.owes_blocked |= self.credit.tell_blocked();
                return;
            }
            Sendable::Capped(until) => {
                if !stream.in_capped {
                    stream.in_capped = true;
                    self.scheduler.hold(until, key);
                }
                return;
            }
        };
        if stream.in_line && due >= stream.due {
            return;
        }
        stream.in_line = true;
        stream.due = due;
        self.scheduler.push(stream.class, key, stream.weight, due);
    }

    fn release_capped(&mut self, now: Instant) {
        while let Some(key) = self.scheduler.release(now) {
            if let Some(stream) = self.table.get_mut(key) {
                stream.in_capped = false;
                self.refresh(now, key);
            }
        }
    }

    fn note_streams_available(&mut self) {
        if self.local_streams.refused && self.local_streams.next < self.local_streams.limit {
            self.local_streams.refused = false;
            self.events.push_back(StreamEvent::StreamsAvailable);
        }
    }

    fn free_if_over(&mut self, key: Key) {
        let Some(stream) = self.table.get(key).filter(|stream| stream.is_over()) else { return };
        let (is_local, accounted) = (stream.is_local, stream.recv.accounted);
        if stream.send.is_watched {
            self.events.push_back(StreamEvent::Forgotten(stream.id));
        }
        self.table.remove(key);
        self.received.numbers = self.received.numbers.saturating_sub(accounted.numbers);
        self.received.pieces = self.received.pieces.saturating_sub(accounted.pieces);
        if !is_local {
            self.peer_streams.mark_finished();
            self.owes_max_streams |= self.peer_streams.wants();
        }
    }

    /// The ordinal of an id, which counts the streams of its opener without stream 0.
    // spec: STR-1
    fn ordinal(id: StreamId) -> u64 {
        if id.by_server() { id.index() } else { id.index().saturating_sub(1) }
    }

    fn local_id(&self, ordinal: u64) -> StreamId {
        match self.side {
            Side::Client => StreamId::new(ordinal + 1, false),
            Side::Server => StreamId::new(ordinal, true),
        }
    }

    fn is_local(&self, id: StreamId) -> bool {
        id.by_server() == (self.side == Side::Server)
    }
}
