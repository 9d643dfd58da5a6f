//! Door 7: what became of the frames that the streams wrote.
//!
//! Data that was lost goes again as its stream's delivery says. A control frame stands for a value:
//! when one is lost, the newest value is told, if it still matters.

use jsp_wire::Instant;

use super::Streams;
use super::send_bytes::SendBytes;
use super::send_messages::{SendMessages, SendScope};
use super::stream::{Fin, RecvPhase, ResetCause, SendBody, SendPhase, Stream, owed};
use super::table::Key;
use crate::token::{CreditToken, Fate, StreamPart, StreamToken};

impl Streams {
    /// A frame of a stream arrived or was lost.
    pub(crate) fn on_fate(&mut self, now: Instant, token: StreamToken, fate: Fate) {
        if self.is_closed {
            return;
        }
        let Some((key, stream)) = self.table.find(token.stream) else { return };
        if token.open {
            match fate {
                Fate::Acked | Fate::Late => {
                    stream.is_known = true;
                    stream.owes &= !owed::OPEN;
                }
                Fate::Lost => self.reopen(key),
            }
        }
        match fate {
            Fate::Acked | Fate::Late => self.on_part_acked(now, key, token.what, fate),
            Fate::Lost => self.on_part_lost(now, key, token.what),
        }
        self.refresh(now, key);
    }

    /// A frame may have been lost: a probe carries what it said once more. Its fate is still open,
    /// so nothing is given up, and unreliable messages stay where they are.
    pub(crate) fn on_doubt(&mut self, now: Instant, token: StreamToken) {
        if self.is_closed {
            return;
        }
        let Some((key, stream)) = self.table.find(token.stream) else { return };
        match token.what {
            StreamPart::Message { number, offset, len, fin, sending } => {
                if let Some(messages) = messages_of(stream)
                    && messages.doubt(now, (number, offset, len), sending)
                {
                    unsend_fin(stream, fin);
                }
            }
            StreamPart::Messages { first, count, .. } => {
                if let Some(messages) = messages_of(stream) {
                    messages.doubt_run(now, first, count);
                }
            }
            StreamPart::Symbol { number, id: symbol } => {
                if let Some(messages) = messages_of(stream) {
                    messages.symbol_doubted(number, symbol);
                }
            }
            what => self.on_part_lost(now, key, what),
        }
        if token.open {
            self.reopen(key);
        }
        self.refresh(now, key);
    }

    /// The opening was lost with the frame that carried it. Unless something else carries it, or a
    /// bare reset will name the stream, it goes by itself.
    fn reopen(&mut self, key: Key) {
        let Some(stream) = self.table.get_mut(key) else { return };
        let unneeded = stream.is_known || matches!(stream.send.phase, SendPhase::Reset { .. });
        let one_shot = stream.profile.unidirectional && stream.send.phase == SendPhase::Finishing;
        if !unneeded && !one_shot {
            self.owe(key, owed::OPEN);
        }
    }

    fn on_part_acked(&mut self, now: Instant, key: Key, part: StreamPart, fate: Fate) {
        let Some(stream) = self.table.get_mut(key) else { return };
        match part {
            StreamPart::Bytes { offset, len, fin } => {
                if let Some(bytes) = bytes_of(stream) {
                    bytes.acked(offset, len.into());
                }
                if fin {
                    stream.send.fin = Fin::Acked;
                }
            }
            StreamPart::Message { number, offset, len, fin, sending } => {
                let id = stream.id;
                if fin {
                    stream.send.fin = Fin::Acked;
                }
                if let Some(messages) = messages_of(stream) {
                    let (credit, events) = (&mut self.credit, &mut self.events);
                    let mut scope = SendScope { now, stream: id, credit, events };
                    messages.acked((number, offset, len), (sending, fate), &mut scope);
                }
            }
            StreamPart::Messages { first, count, .. } => {
                let id = stream.id;
                if let Some(messages) = messages_of(stream) {
                    let (credit, events) = (&mut self.credit, &mut self.events);
                    let mut scope = SendScope { now, stream: id, credit, events };
                    messages.run_acked(first, count, fate, &mut scope);
                }
            }
            StreamPart::Symbol { number, id: symbol } => {
                let id = stream.id;
                if let Some(messages) = messages_of(stream) {
                    let (credit, events) = (&mut self.credit, &mut self.events);
                    let mut scope = SendScope { now, stream: id, credit, events };
                    messages.symbol_acked((number, symbol), fate, &mut scope);
                }
            }
            StreamPart::Finish => stream.send.fin = Fin::Acked,
            StreamPart::Reset => {
                if let SendPhase::Reset { cause, .. } = stream.send.phase {
                    stream.send.phase = SendPhase::Closed;
                    if cause == ResetCause::GivenUp {
                        self.events.push_back(super::StreamEvent::SendFinished(stream.id));
                    }
                }
            }
            StreamPart::Skip { floor, .. } => {
                if let Some(messages) = messages_of(stream) {
                    messages.skip_acked(floor);
                }
            }
            StreamPart::Open
            | StreamPart::Stop
            | StreamPart::MaxData { .. }
            | StreamPart::Consumed { .. }
            | StreamPart::Blocked => {}
        }
    }

    fn on_part_lost(&mut self, now: Instant, key: Key, part: StreamPart) {
        let Some(stream) = self.table.get_mut(key) else { return };
        let mut owes = 0;
        match part {
            StreamPart::Bytes { offset, len, fin } => {
                unsend_fin(stream, fin);
                if let Some(bytes) = bytes_of(stream) {
                    bytes.lost(offset, len.into());
                }
            }
            StreamPart::Message { number, offset, len, fin, sending } => {
                unsend_fin(stream, fin);
                let id = stream.id;
                if let Some(messages) = messages_of(stream) {
                    let (credit, events) = (&mut self.credit, &mut self.events);
                    let mut scope = SendScope { now, stream: id, credit, events };
                    messages.lost((number, offset, len), sending, &mut scope);
                }
            }
            StreamPart::Messages { first, count, .. } => {
                let id = stream.id;
                if let Some(messages) = messages_of(stream) {
                    let (credit, events) = (&mut self.credit, &mut self.events);
                    let mut scope = SendScope { now, stream: id, credit, events };
                    messages.run_lost(first, count, &mut scope);
                }
            }
            StreamPart::Symbol { number, id: symbol } => {
                let id = stream.id;
                if let Some(messages) = messages_of(stream) {
                    let (credit, events) = (&mut self.credit, &mut self.events);
                    let mut scope = SendScope { now, stream: id, credit, events };
                    messages.symbol_lost(number, symbol, &mut scope);
                }
            }
            StreamPart::Finish => unsend_fin(stream, true),
            StreamPart::Reset => owes = owed::RESET,
            StreamPart::Stop => owes = owed::STOP,
            StreamPart::MaxData { limit } if limit == stream.recv.window.announced() => {
                owes = owed::MAX_DATA;
            }
            StreamPart::Skip { floor, .. } => {
                if let Some(messages) = messages_of(stream) {
                    messages.skip_lost(floor);
                }
            }
            StreamPart::Consumed { floor } if floor == stream.recv.consumed_below => {
                owes = owed::CONSUMED;
            }
            StreamPart::Open
            | StreamPart::MaxData { .. }
            | StreamPart::Consumed { .. }
            | StreamPart::Blocked => {}
        }
        let matters = match owes {
            owed::RESET => matches!(stream.send.phase, SendPhase::Reset { .. }),
            owed::STOP => matches!(stream.recv.phase, RecvPhase::Stopped { .. }),
            _ => owes != 0,
        };
        if matters {
            self.owe(key, owes);
        }
        // A message that was given up may have let go of the connection's credit.
        if !self.blocked.is_empty() {
            self.unblock(now);
        }
    }

    /// Lets streams that waited for the connection's credit try again.
    pub(super) fn unblock(&mut self, now: Instant) {
        if !self.credit.is_open() {
            return;
        }
        for key in std::mem::take(&mut self.blocked) {
            if let Some(stream) = self.table.get_mut(key) {
                stream.in_blocked = false;
                self.refresh(now, key);
            }
        }
    }

    /// A frame of the connection's credit arrived or was lost.
    pub(crate) fn on_credit_fate(&mut self, token: CreditToken, fate: Fate) {
        if fate != Fate::Lost {
            return;
        }
        match token {
            CreditToken::MaxData { limit } if limit == self.window.announced() => {
                self.owes_max_data = true;
            }
            CreditToken::MaxStreams { limit } if limit == self.peer_streams.announced() => {
                self.owes_max_streams = true;
            }
            _ => {}
        }
    }
}

fn unsend_fin(stream: &mut Stream, fin: bool) {
    if fin && stream.send.fin == Fin::Sent {
        stream.send.fin = Fin::Unsent;
    }
}

fn bytes_of(stream: &mut Stream) -> Option<&mut SendBytes> {
    match &mut stream.send.body {
        SendBody::Bytes(bytes) => Some(bytes),
        _ => None,
    }
}

fn messages_of(stream: &mut Stream) -> Option<&mut SendMessages> {
    match &mut stream.send.body {
        SendBody::Messages(messages) => Some(messages),
        _ => None,
    }
}
