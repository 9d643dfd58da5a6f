//! Door 6: a packet under construction. Frames go in, in order; what they were comes out as tokens.

use jsp_wire::{Frame, Instant, PathId, Shape, Writer, limits};

use crate::fec::Protection;
use crate::padding::Fill;
use crate::token::Token;

/// The payload of one packet while its frames are written.
///
/// `compose` hands it to each source of frames in turn. A source writes with [`PacketBuilder::writer`],
/// then says what it wrote with [`PacketBuilder::push`]. A source that writes the only thing in the
/// packet may choose a shape instead of a typed frame.
pub(crate) struct PacketBuilder<'a> {
    writer: Writer<'a>,
    tokens: &'a mut Vec<Token>,
    shape: Shape,
    ack_eliciting: bool,
    shapes_allowed: bool,
    protection: Option<Protection>,
    /// When the first of its messages expires, protected or not.
    expires: Instant,
    /// Where what repairs protect begins and ends.
    content: (usize, Option<usize>),
    lane: Lane,
}

/// The way that a packet takes, as far as what goes in depends on it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Lane {
    pub(crate) path: PathId,
    /// Packets go by several paths, or did: their numbers tell no order.
    pub(crate) is_one_of_many: bool,
    /// There is another path that could take a copy of what leaves.
    pub(crate) has_twin: bool,
    /// And this one loses packets, or looks as if it failed.
    pub(crate) is_shaky: bool,
    /// Packets that ask for it are protected against losses.
    pub(crate) protects: bool,
}

impl<'a> PacketBuilder<'a> {
    /// A packet whose payload may fill `room`. Shapes exist in short-header packets only,
    /// and leave no room behind what they name.
    pub(crate) fn new(
        room: &'a mut [u8],
        tokens: &'a mut Vec<Token>,
        shapes_allowed: bool,
    ) -> Self {
        tokens.clear();
        Self {
            writer: Writer::new(room),
            tokens,
            shape: Shape::Frames,
            ack_eliciting: false,
            shapes_allowed,
            protection: None,
            expires: Instant::FAR_FUTURE,
            content: (0, None),
            lane: Lane::default(),
        }
    }

    /// The packet holds what is protected, and nothing less urgent should be added.
    // spec: FEC-29
    pub(crate) fn is_apart(&self) -> bool {
        self.lane.protects && self.protection.is_some()
    }

    /// The same by this way.
    pub(crate) fn by(mut self, lane: Lane) -> Self {
        self.lane = lane;
        self
    }

    /// The way that the packet takes.
    pub(crate) fn lane(&self) -> Lane {
        self.lane
    }

    /// The path that the packet takes.
    pub(crate) fn path(&self) -> PathId {
        self.lane.path
    }

    /// Where frames are written.
    pub(crate) fn writer(&mut self) -> &mut Writer<'a> {
        &mut self.writer
    }

    /// Bytes of payload that still fit.
    pub(crate) fn remaining(&self) -> usize {
        if self.is_closed() { 0 } else { self.writer.remaining() }
    }

    /// True while nothing has been written: only then may a source choose a shape.
    pub(crate) fn may_shape(&self) -> bool {
        self.shapes_allowed && self.writer.len() == 0
    }

    /// True once a shape says what the packet holds: nothing may follow.
    pub(crate) fn is_closed(&self) -> bool {
        self.shape != Shape::Frames
    }

    /// Says that the payload is exactly what `shape` names.
    pub(crate) fn set_shape(&mut self, shape: Shape) {
        debug_assert!(self.shapes_allowed);
        self.shape = shape;
    }

    /// Notes an ack-eliciting frame that was written.
    pub(crate) fn push(&mut self, token: Token) {
        self.ack_eliciting = true;
        self.tokens.push(token);
    }

    /// Notes a frame that asks for no acknowledgement.
    pub(crate) fn push_quiet(&mut self, token: Token) {
        self.tokens.push(token);
    }

    /// Notes an ack-eliciting frame that nobody needs to hear about again (PING).
    pub(crate) fn elicit_ack(&mut self) {
        self.ack_eliciting = true;
    }

    /// Notes what a message that was written asks for.
    pub(crate) fn protect(&mut self, asked: Protection) {
        self.protection = Some(self.protection.map_or(asked, |other| other.join(asked)));
    }

    /// Notes when a message that was written expires: the packet is not put together again after that.
    // spec: FEC-2
    pub(crate) fn note_expiry(&mut self, expires: Instant) {
        self.expires = self.expires.min(expires);
    }

    /// What was written so far is an acknowledgement, which repairs do not protect.
    // spec: FEC-2
    pub(crate) fn begin_content(&mut self) {
        self.content.0 = self.writer.len();
    }

    /// From `end` on there is a repair, which others do not protect. Without one, padding that follows is
    /// part of what is protected, as the receiver cannot tell.
    // spec: FEC-2
    pub(crate) fn end_content(&mut self, end: usize) {
        self.content.1 = Some(end);
    }

    /// True when a packet with what is written so far must be acknowledged.
    pub(crate) fn is_ack_eliciting(&self) -> bool {
        self.ack_eliciting
    }

    /// Adds the padding that brings the datagram to its size, unless the packet is empty; answers its bytes.
    /// `header_len` are those of the packet's header.
    // spec: PRV-2
    pub(crate) fn fill(&mut self, header_len: usize, fill: &Fill) -> usize {
        if self.writer.len() == 0 || self.is_closed() {
            return 0;
        }
        let len = header_len.saturating_add(self.writer.len()).saturating_add(limits::TAG_LEN);
        let missing = fill.missing(len).min(self.writer.remaining());
        match Frame::Padding(missing).write(&mut self.writer) {
            Ok(()) => missing,
            Err(_) => 0,
        }
    }

    /// What was built: payload length, shape, and what it asks for.
    pub(crate) fn finish(self) -> Built {
        let Self { shape, ack_eliciting, protection, expires, content: (from, to), .. } = self;
        let len = self.writer.len();
        let expires = protection.map_or(expires, |asked| asked.expires.min(expires));
        let protection = protection.map(|asked| Protection { expires, ..asked });
        Built { len, shape, ack_eliciting, protection, content: (from, to.unwrap_or(len)) }
    }
}

/// A payload that is complete.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Built {
    /// Bytes of payload.
    pub(crate) len: usize,
    /// What the payload is.
    pub(crate) shape: Shape,
    /// True when a packet with it must be acknowledged.
    pub(crate) ack_eliciting: bool,
    /// How forward error correction is to protect it.
    pub(crate) protection: Option<Protection>,
    /// Where the part of the payload that this is about begins and ends.
    pub(crate) content: (usize, usize),
}
