//! One stream: its opening, its two halves, and the control frames that it owes the peer.

use core::time::Duration;

use bytes::Bytes;
use jsp_wire::{Class, Framing, Instant, Open, Profile, StreamId};

use super::config::{Duplicate, FecPolicy};
use super::credit::{SendCredit, Window};
use super::event::Events;
use super::rate::RateCap;
use super::recv_bytes::RecvBytes;
use super::recv_messages::RecvMessages;
use super::send_bytes::{BytesPiece, SendBytes};
use super::send_messages::{MessagePiece, Next, SendMessages, SendScope};
use crate::pack::packed;

/// Control frames that a stream owes, one bit each, in the order in which they are written.
pub(super) mod owed {
    pub(in crate::streams) const MAX_DATA: u8 = 1;
    pub(in crate::streams) const STOP: u8 = 1 << 1;
    pub(in crate::streams) const RESET: u8 = 1 << 2;
    pub(in crate::streams) const SKIP: u8 = 1 << 3;
    pub(in crate::streams) const FINISH: u8 = 1 << 4;
    pub(in crate::streams) const CONSUMED: u8 = 1 << 5;
    pub(in crate::streams) const BLOCKED: u8 = 1 << 6;
    pub(in crate::streams) const OPEN: u8 = 1 << 7;
}

/// A stream that is not finished.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) id: StreamId,
    pub(super) profile: Profile,
    /// We opened it; stream 0 belongs to both.
    pub(super) is_local: bool,
    /// The TLV list that it opened with.
    pub(super) opening: Bytes,
    /// What its opener sends may be early data.
    pub(super) is_replay_safe: bool,
    /// The peer knows of it.
    pub(super) is_known: bool,
    /// The application has it, by opening or accepting it.
    pub(super) is_accepted: bool,
    pub(super) class: Class,
    pub(super) weight: u8,
    pub(super) rate: Option<Box<RateCap>>,
    pub(super) lifetime: Option<Duration>,
    pub(super) retransmits: Option<u32>,
    pub(super) fec: FecPolicy,
    pub(super) duplicate: Duplicate,
    pub(super) send_buffer: u64,
    pub(super) send: SendHalf,
    pub(super) recv: RecvHalf,
    /// Bits of [`owed`].
    pub(super) owes: u8,
    /// It stands in the queue of streams that owe control frames.
    pub(super) in_control: bool,
    /// It stands in the queue of streams to be opened.
    pub(super) in_opens: bool,
    /// It stands in the scheduler's line.
    pub(super) in_line: bool,
    /// It waits for the connection's credit.
    pub(super) in_blocked: bool,
    /// Its rate cap holds it back.
    pub(super) in_capped: bool,
    /// It is looked at for overdue messages.
    pub(super) in_watched: bool,
    /// What the real-time class sorts it by.
    pub(super) due: Instant,
    /// The expiry for which a timer is set.
    pub(super) armed: Instant,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum SendPhase {
    /// There is no such half.
    Absent,
    Open,
    /// The application has finished it.
    Finishing,
    /// A reset is on its way.
    Reset {
        code: u64,
        cause: ResetCause,
    },
    Closed,
}

/// Who wants the reset.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ResetCause {
    Application,
    /// The peer asked to stop.
    Peer,
    /// All data was given up before the peer heard of the stream.
    GivenUp,
}

/// How far the end of the sending half has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fin {
    Unsent,
    Sent,
    Acked,
}

#[derive(Debug)]
pub(super) enum SendBody {
    /// Nothing was ever queued.
    Idle,
    Bytes(Box<SendBytes>),
    Messages(Box<SendMessages>),
}

#[derive(Debug)]
pub(super) struct SendHalf {
    pub(super) phase: SendPhase,
    pub(super) body: SendBody,
    /// The peer's credit for the stream.
    pub(super) limit: u64,
    pub(super) fin: Fin,
    /// The application was told to wait for room.
    pub(super) wants_room: bool,
    /// The limit at which the peer was last told that it is too small.
    pub(super) told: Option<u64>,
    /// The peer's application has taken all messages below this.
    pub(super) consumed_below: u64,
    /// The application is to hear when the stream is forgotten.
    pub(super) is_watched: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum RecvPhase {
    /// There is no such half.
    Absent,
    Open,
    /// The application wants no more.
    Stopped {
        code: u64,
    },
    /// The peer reset it; the application has not heard yet.
    Reset {
        code: u64,
    },
    Closed,
}

#[derive(Debug)]
pub(super) enum RecvBody {
    /// Nothing has arrived.
    Idle,
    Bytes(Box<RecvBytes>),
    Messages(Box<RecvMessages>),
}

/// Numbers of a receiving half that the connection's sums contain.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Accounted {
    pub(super) position: u64,
    pub(super) consumed: u64,
    pub(super) numbers: u64,
    pub(super) pieces: u64,
}
packed!(Accounted { position, consumed, numbers, pieces });

#[derive(Debug)]
pub(super) struct RecvHalf {
    pub(super) phase: RecvPhase,
    pub(super) body: RecvBody,
    pub(super) window: Window,
    pub(super) accounted: Accounted,
    /// Messages below this were acknowledged by the application.
    pub(super) consumed_below: u64,
    /// An event says already that there is something to read.
    pub(super) told_readable: bool,
}

/// What a stream may send now.
#[derive(Clone, Copy, Debug)]
pub(super) enum Sendable {
    Bytes(BytesPiece),
    Message(MessagePiece),
    Nothing,
    StreamCredit,
    ConnectionCredit,
    Capped(Instant),
}

impl Stream {
    /// The opening, as long as frames must carry it.
    pub(super) fn open(&self) -> Option<Open<'_>> {
        let carries = self.is_local && !self.is_known;
        carries.then_some(Open { profile: self.profile, params: &self.opening })
    }

    /// What goes next, and why nothing does.
    pub(super) fn sendable(
        &mut self,
        now: Instant,
        credit: &mut SendCredit,
        events: &mut Events,
    ) -> Sendable {
        if !matches!(self.send.phase, SendPhase::Open | SendPhase::Finishing) {
            return Sendable::Nothing;
        }
        let limit = self.send.limit;
        let sendable = match &mut self.send.body {
            SendBody::Idle => Sendable::Nothing,
            SendBody::Bytes(bytes) => {
                let own = limit.saturating_sub(bytes.credited());
                match bytes.piece(own.min(credit.available())) {
                    Some(piece) => Sendable::Bytes(piece),
                    None if bytes.unsent() == 0 => Sendable::Nothing,
                    None if own == 0 => Sendable::StreamCredit,
                    None if credit.available() == 0 => Sendable::ConnectionCredit,
                    // Too much is on its way; an acknowledgement opens it again.
                    None => Sendable::Nothing,
                }
            }
            SendBody::Messages(messages) => {
                let mut scope = SendScope { now, stream: self.id, credit, events };
                match messages.next(limit, &mut scope) {
                    Next::Piece(piece) => Sendable::Message(piece),
                    Next::Nothing => Sendable::Nothing,
                    Next::StreamCredit => Sendable::StreamCredit,
                    Next::ConnectionCredit => Sendable::ConnectionCredit,
                }
            }
        };
        match (&sendable, &mut self.rate) {
            (Sendable::Bytes(_) | Sendable::Message(_), Some(rate)) => {
                rate.wait(now).map_or(sendable, Sendable::Capped)
            }
            _ => sendable,
        }
    }

    /// Nothing waits to be sent, be it new or lost.
    pub(super) fn is_drained(&self) -> bool {
        match &self.send.body {
            SendBody::Idle => true,
            SendBody::Bytes(bytes) => bytes.is_drained(),
            SendBody::Messages(messages) => messages.is_drained() && messages.may_finish(),
        }
    }

    /// All that was sent has its fate.
    pub(super) fn is_settled(&self) -> bool {
        match &self.send.body {
            SendBody::Idle => true,
            SendBody::Bytes(bytes) => bytes.is_settled(),
            SendBody::Messages(messages) => messages.is_settled(),
        }
    }

    /// The peer never heard of the stream, nor will it by what is on its way.
    pub(super) fn is_unheard(&self) -> bool {
        let messages = match &self.send.body {
            SendBody::Messages(messages) => messages,
            _ => return false,
        };
        self.is_local
            && !self.is_known
            && self.profile.unidirectional
            && messages.count() > 0
            && messages.is_unheard()
            && messages.is_drained()
    }

    /// Bytes that wait to be sent.
    pub(super) fn waiting(&self) -> u64 {
        match &self.send.body {
            SendBody::Idle => 0,
            SendBody::Bytes(bytes) => bytes.unsent(),
            SendBody::Messages(messages) => messages.waiting(),
        }
    }

    /// How long the stream is: bytes, or messages.
    pub(super) fn total(&self) -> u64 {
        match &self.send.body {
            SendBody::Idle => 0,
            SendBody::Bytes(bytes) => bytes.end(),
            SendBody::Messages(messages) => messages.count(),
        }
    }

    /// Credit that the sending half has used.
    pub(super) fn credited(&self) -> u64 {
        match &self.send.body {
            SendBody::Idle => 0,
            SendBody::Bytes(bytes) => bytes.credited(),
            SendBody::Messages(messages) => messages.credited(),
        }
    }

    /// Both halves are over.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.send.phase, SendPhase::Absent | SendPhase::Closed)
            && matches!(self.recv.phase, RecvPhase::Absent | RecvPhase::Closed)
            && self.is_accepted
            && self.id != StreamId::SIGNALLING
    }

    /// True when the stream carries messages.
    pub(super) fn has_messages(&self) -> bool {
        self.profile.framing == Framing::Messages
    }
}

impl RecvHalf {
    pub(super) fn position(&self) -> u64 {
        match &self.body {
            RecvBody::Idle => 0,
            RecvBody::Bytes(bytes) => bytes.position(),
            RecvBody::Messages(messages) => messages.position(),
        }
    }

    pub(super) fn consumed(&self) -> u64 {
        match &self.body {
            RecvBody::Idle => 0,
            RecvBody::Bytes(bytes) => bytes.consumed(),
            RecvBody::Messages(messages) => messages.consumed(),
        }
    }

    /// What the connection's sums should contain of it. Unreliable messages are no concern of credit.
    pub(super) fn figures(&self) -> Accounted {
        match &self.body {
            RecvBody::Idle => Accounted::default(),
            RecvBody::Bytes(bytes) => Accounted {
                position: bytes.position(),
                consumed: bytes.consumed(),
                numbers: 0,
                pieces: bytes.pieces() as u64,
            },
            RecvBody::Messages(messages) if messages.is_credited() => {
                let (numbers, pieces) = messages.overhead();
                let (position, consumed) = (messages.position(), messages.consumed());
                Accounted { position, consumed, numbers, pieces }
            }
            RecvBody::Messages(messages) => {
                let (numbers, pieces) = messages.overhead();
                Accounted { numbers, pieces, ..Accounted::default() }
            }
        }
    }

    /// Bytes that have arrived and were not read.
    pub(super) fn unread(&self) -> u64 {
        match &self.body {
            RecvBody::Idle => 0,
            RecvBody::Bytes(bytes) => bytes.unread(),
            RecvBody::Messages(messages) => messages.unread(),
        }
    }

    /// Credit that the lowest incomplete message may need beyond the window.
    pub(super) fn extra(&self) -> u64 {
        match &self.body {
            RecvBody::Messages(messages) => messages.lowest_total(),
            _ => 0,
        }
    }

    pub(super) fn has_ready(&self) -> bool {
        match &self.body {
            RecvBody::Idle => false,
            RecvBody::Bytes(bytes) => bytes.has_ready(),
            RecvBody::Messages(messages) => messages.has_ready(),
        }
    }

    pub(super) fn is_complete(&self) -> bool {
        match &self.body {
            RecvBody::Idle => false,
            RecvBody::Bytes(bytes) => bytes.is_complete(),
            RecvBody::Messages(messages) => messages.is_complete(),
        }
    }

    pub(super) fn has_end(&self) -> bool {
        match &self.body {
            RecvBody::Idle => false,
            RecvBody::Bytes(bytes) => bytes.has_end(),
            RecvBody::Messages(messages) => messages.has_end(),
        }
    }

    /// The connection's and the stream's credit are no concern of unreliable messages.
    pub(super) fn is_credited(&self) -> bool {
        match &self.body {
            RecvBody::Messages(messages) => messages.is_credited(),
            _ => true,
        }
    }
}
