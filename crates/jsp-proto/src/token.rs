//! What was put into a packet, as the sent ledger keeps it: each token comes back to its owner once,
//! with the packet's fate.

use jsp_wire::{PathId, StreamId};

/// What became of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    /// The peer has it.
    Acked,
    /// It is held lost; what still matters must be sent again.
    Lost,
    /// The peer has it after all: it was held lost before.
    Late,
}

/// One thing that a packet carried.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Token {
    /// An ACK frame that named everything up to this packet number of a path.
    Ack { path: PathId, largest: u64 },
    /// Bytes of our handshake message of the packet's space.
    Handshake { offset: u16, len: u16 },
    /// Something of a stream, its data or its state.
    Stream(StreamToken),
    /// Connection-wide credit of streams.
    Credit(CreditToken),
    /// A connection id that we issued.
    NewConnectionId { sequence: u64 },
    /// A connection id of the peer that we gave up.
    RetireConnectionId { sequence: u64 },
    /// A path challenge; lost ones are asked again by the path's own timer.
    PathChallenge,
    /// The server's word that the handshake is done.
    HandshakeDone,
    /// A ticket that we gave.
    Ticket,
    /// Bytes of our message of this in-band exchange.
    Exchange { round: u32, offset: u16, len: u16 },
    /// What we asked of the peer's acknowledgements.
    AckFrequency { sequence: u64 },
    /// The end of a path.
    PathAbandon { path: PathId, code: u64 },
    /// What a path is to be used for.
    PathStatus { path: PathId, sequence: u64 },
    /// A probe of a larger datagram size, in bytes of UDP payload.
    MtuProbe { size: u16 },
}

impl Token {
    /// It would have to go again if it were lost.
    pub(crate) fn may_go_again(&self) -> bool {
        !matches!(self, Self::Ack { .. } | Self::PathChallenge | Self::MtuProbe { .. })
    }
}

/// Something of one stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct StreamToken {
    pub(crate) stream: StreamId,
    pub(crate) what: StreamPart,
    /// The frame carried the stream's opening.
    pub(crate) open: bool,
}

impl StreamToken {
    /// One token for both, where the bytes of one follow those of the other.
    pub(crate) fn join(self, other: Self) -> Option<Self> {
        let (
            StreamPart::Bytes { offset, len, fin },
            StreamPart::Bytes { offset: from, len: more, fin: ends },
        ) = (self.what, other.what)
        else {
            return None;
        };
        let is_before = from.checked_add(more.into()) == Some(offset);
        let is_behind = offset.checked_add(len.into()) == Some(from);
        let alike = self.stream == other.stream && self.open == other.open;
        let len = len.checked_add(more).filter(|_| alike && (is_before || is_behind))?;
        let what = StreamPart::Bytes { offset: offset.min(from), len, fin: fin || ends };
        Some(Self { what, ..self })
    }
}

/// Which part of a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum StreamPart {
    /// Bytes of a byte stream.
    Bytes { offset: u64, len: u32, fin: bool },
    /// Bytes of a message, and which sending of it they belong to.
    Message { number: u64, offset: u32, len: u32, fin: bool, sending: Sending },
    /// Whole messages one after another, for the first time; `len` bytes together.
    Messages { first: u64, count: u32, len: u32 },
    /// A symbol made of all of a message.
    Symbol { number: u64, id: u32 },
    /// Only the opening.
    Open,
    /// The end of the stream.
    Finish,
    /// A reset.
    Reset,
    /// A request to stop.
    Stop,
    /// A credit of this size.
    MaxData { limit: u64 },
    /// A skip up to this floor.
    Skip { floor: u64, credit_below: u64 },
    /// What the application has consumed.
    Consumed { floor: u64 },
    /// A note that credit is missing; informative.
    Blocked,
}

/// Which time something of a message left, the first being 0; all that are beyond the last one told apart are that one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Sending(u8);

impl Sending {
    /// The first.
    pub(crate) const FIRST: Self = Self(0);

    /// The one after this.
    pub(crate) fn next(self) -> Self {
        Self(self.0.saturating_add(1).min(15))
    }

    /// The bit that stands for it in a set of sendings.
    pub(crate) fn bit(self) -> u16 {
        1 << self.0
    }
}

/// Credit that belongs to the connection as a whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum CreditToken {
    /// Bytes of all streams.
    MaxData { limit: u64 },
    /// Streams that the peer may open.
    MaxStreams { limit: u64 },
    /// A note that credit is missing; informative.
    Blocked,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(offset: u64, len: u32, fin: bool) -> StreamToken {
        let what = StreamPart::Bytes { offset, len, fin };
        StreamToken { stream: StreamId(4), what, open: false }
    }

    #[test]
    fn pieces_are_one_where_one_follows_the_other_and_they_are_alike() {
        let whole = Some(piece(100, 50, true));
        assert_eq!(piece(100, 20, false).join(piece(120, 30, true)), whole);
        assert_eq!(piece(120, 30, true).join(piece(100, 20, false)), whole);
        let first = piece(100, 20, false);
        assert_eq!(first.join(piece(121, 30, false)), None, "a gap");
        assert_eq!(first.join(piece(119, 30, false)), None, "an overlap");
        assert_eq!(first.join(StreamToken { open: true, ..piece(120, 30, false) }), None);
        assert_eq!(first.join(StreamToken { stream: StreamId(8), ..piece(120, 30, false) }), None);
        assert_eq!(first.join(StreamToken { what: StreamPart::Finish, ..first }), None);
        assert_eq!(piece(0, u32::MAX, false).join(piece(u64::from(u32::MAX), 1, false)), None);
    }
}
