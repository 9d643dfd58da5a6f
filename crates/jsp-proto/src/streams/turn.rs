//! Door 5: one stream's turn to write into a packet: a piece of bytes, or messages one after another.

use jsp_wire::{Delivery, Instant, Open, StreamId};

use super::Streams;
use super::config::FecPolicy;
use super::doubles::Double;
use super::output::write_opening;
use super::send_bytes::{BytesPiece, Packed, Packing};
use super::send_messages::{MessagePiece, SendScope};
use super::stream::{Fin, SendBody, SendPhase, Sendable, Stream, owed};
use super::table::Key;
use crate::fec::Protection;
use crate::packet::PacketBuilder;
use crate::token::{Sending, StreamPart, StreamToken, Token};

/// What a turn of a stream came to.
pub(super) enum Turn {
    /// So many bytes went into the packet, for which the stream is charged. What the stream may send next, where the turn found out.
    Wrote { bytes: usize, next: Option<Sendable> },
    /// The next piece does not fit into what is left of the packet.
    NoRoom,
    /// A symbol does not, which cannot be cut: others may have the rest.
    Aside,
    /// It has nothing that may go now.
    Over(Sendable),
}

/// What surrounds a turn.
#[derive(Clone, Copy)]
struct Place {
    /// Other streams wait, or control frames do.
    others: bool,
    /// Data stand in the packet already.
    has_data: bool,
    /// Bytes after which the turn ends.
    allowance: usize,
}

impl Streams {
    /// One stream writes until its share of the packet is used, or it has nothing more.
    pub(super) fn turn(
        &mut self,
        now: Instant,
        key: Key,
        packet: &mut PacketBuilder<'_>,
        has_data: bool,
    ) -> Turn {
        let others = self.scheduler.has_others() || !self.control.is_empty();
        let allowance = if others { self.scheduler.head_share() } else { usize::MAX };
        let place = Place { others, has_data, allowance };
        match self.table.get_mut(key).map(|stream| &stream.send.body) {
            Some(SendBody::Bytes(_)) => self.bytes_turn(now, key, packet, place),
            Some(SendBody::Messages(_)) => self.messages_turn(now, key, packet, place),
            Some(SendBody::Idle) | None => Turn::Over(Sendable::Nothing),
        }
    }

    fn bytes_turn(
        &mut self,
        now: Instant,
        key: Key,
        packet: &mut PacketBuilder<'_>,
        place: Place,
    ) -> Turn {
        let Some(stream) = self.table.get_mut(key) else { return Turn::Over(Sendable::Nothing) };
        let sendable = stream.sendable(now, &mut self.credit, &mut self.events);
        let Sendable::Bytes(piece) = sendable else { return Turn::Over(sendable) };
        let alone = !place.others && piece.len >= stream.waiting();
        let finishing = stream.send.phase == SendPhase::Finishing;
        let carries = stream.is_local && !stream.is_known;
        let open = carries.then_some(Open { profile: stream.profile, params: &stream.opening });
        let packing = packing(stream.id, open, packet, place.has_data, alone);
        let SendBody::Bytes(bytes) = &mut stream.send.body else {
            return Turn::Over(Sendable::Nothing);
        };
        let Some(packed) = bytes.write(piece, &packing, finishing, packet.writer()) else {
            return Turn::NoRoom;
        };
        bytes.sent(piece, packed.len);
        if !piece.again {
            self.credit.spend(packed.len as u64);
        }
        let what = bytes_part(piece, &packed);
        let token = StreamToken { stream: stream.id, what, open: carries };
        self.repeats.note(piece.again, packed.len);
        stream.note_packed(&packed, packet);
        packet.push(Token::Stream(token));
        Turn::Wrote { bytes: packed.len, next: None }
    }

    fn messages_turn(
        &mut self,
        now: Instant,
        key: Key,
        packet: &mut PacketBuilder<'_>,
        place: Place,
    ) -> Turn {
        let may_symbols = self.may_send_symbols();
        let Some(stream) = self.table.get_mut(key) else { return Turn::Over(Sendable::Nothing) };
        let finishing = stream.send.phase == SendPhase::Finishing;
        let carries = stream.is_local && !stream.is_known;
        let token = StreamToken { stream: stream.id, what: StreamPart::Open, open: carries };
        let begin = packet.writer().len();
        let mut run = stream.write_run(now, place.allowance, &mut self.credit, packet);
        let (mut pieces, mut next) = (run.count(), None);
        // With heads: an empty message takes room, too.
        let mut wrote = packet.writer().len() - begin;
        loop {
            let is_bound = stream.rate.is_some() || packet.remaining() == 0;
            if pieces > 0 && (wrote >= place.allowance || is_bound) {
                break;
            }
            let sendable = stream.sendable(now, &mut self.credit, &mut self.events);
            next = Some(sendable);
            let Sendable::Message(piece) = sendable else { break };
            let piece = if may_symbols { stream.divide(piece, packet) } else { piece };
            let alone = !place.others && u64::from(piece.len) >= stream.waiting();
            let open = carries.then_some(Open { profile: stream.profile, params: &stream.opening });
            let packing = packing(stream.id, open, packet, place.has_data || pieces > 0, alone);
            let SendBody::Messages(messages) = &mut stream.send.body else { break };
            let (mut symbol_id, mut packed) = (0, None);
            if !piece.symbol {
                packed = messages.write(piece, &packing, finishing, packet.writer());
            } else if let Some((id, written)) = stream.write_symbol(piece.number, packet) {
                (symbol_id, packed) = (id, Some(written));
            }
            let Some(packed) = packed else {
                if pieces == 0 {
                    return self.no_room(now, key, piece, packet, place);
                }
                break;
            };
            next = None;
            let goes_twice = stream.cover(now, piece.number, packet);
            let SendBody::Messages(messages) = &mut stream.send.body else { break };
            let (credit, events) = (&mut self.credit, &mut self.events);
            let mut scope = SendScope { now, stream: stream.id, credit, events };
            let is_whole = messages.sent(piece, packed.len, self.rtt, &mut scope);
            let sending = messages.went_by(piece.number, packet.path());
            pieces += 1;
            wrote = packet.writer().len() - begin;
            self.repeats.note(piece.again, packed.len);
            stream.note_packed(&packed, packet);
            if is_whole && goes_twice {
                self.doubles.push_evicting(Double::new(key, piece.number, packet.path()));
            }
            if is_whole && !packed.fin {
                run.add(piece, token, packet);
            } else {
                run.end(token, packet);
                let what = message_part(piece, symbol_id, &packed, sending);
                packet.push(Token::Stream(StreamToken { what, ..token }));
            }
        }
        run.end(token, packet);
        match next {
            Some(why) if pieces == 0 => Turn::Over(why),
            next => Turn::Wrote { bytes: wrote, next },
        }
    }

    /// The piece does not fit into what is left of the packet. A message whose symbols will not fit into any goes in
    /// pieces from now on.
    fn no_room(
        &mut self,
        now: Instant,
        key: Key,
        piece: MessagePiece,
        packet: &mut PacketBuilder<'_>,
        place: Place,
    ) -> Turn {
        if !piece.symbol {
            return Turn::NoRoom;
        }
        let capacity = packet.writer().len() + packet.remaining();
        let Some(stream) = self.table.get_mut(key) else { return Turn::NoRoom };
        let SendBody::Messages(messages) = &mut stream.send.body else { return Turn::NoRoom };
        let (credit, events) = (&mut self.credit, &mut self.events);
        let mut scope = SendScope { now, stream: stream.id, credit, events };
        if !place.has_data && messages.symbol_has_no_room(piece.number, capacity, &mut scope) {
            return Turn::Over(Sendable::Message(piece));
        }
        Turn::Aside
    }
}

impl Stream {
    /// Asks for what a message in this packet needs against losses; answers whether it goes by another path too.
    fn cover(&self, now: Instant, number: u64, packet: &mut PacketBuilder<'_>) -> bool {
        let SendBody::Messages(messages) = &self.send.body else { return false };
        let record = messages.record(number);
        let expires = record.map_or(now, |record| record.expires);
        let once = record.is_some_and(|record| record.retransmits_max == 0);
        let goes_twice = self.duplicate.applies(self.class, packet.lane());
        // What goes by two paths needs no repair, and symbols are repair.
        let is_covered = goes_twice || messages.is_divided(number);
        let asked = Protection::of(self.fec, self.class, expires);
        let asked = asked.map(|asked| asked.going(once));
        // What the next message takes the place of would be put together in vain.
        // spec: FEC-30
        let yields = self.profile.ordered && self.profile.delivery == Delivery::Unreliable;
        if let Some(asked) = asked.filter(|asked| !(is_covered || yields && asked.auto)) {
            packet.protect(asked);
        }
        packet.note_expiry(expires);
        goes_twice
    }

    /// The piece as it goes where large messages are symbols.
    fn divide(&mut self, piece: MessagePiece, packet: &mut PacketBuilder<'_>) -> MessagePiece {
        let (SendBody::Messages(messages), FecPolicy::Fountain(percent)) =
            (&mut self.send.body, self.fec)
        else {
            return piece;
        };
        messages.divide(piece, packet.writer().len() + packet.remaining(), percent)
    }

    /// Writes a symbol of a message, behind the opening of the stream if the peer may not know that.
    fn write_symbol(
        &mut self,
        number: u64,
        packet: &mut PacketBuilder<'_>,
    ) -> Option<(u32, Packed)> {
        let SendBody::Messages(messages) = &mut self.send.body else { return None };
        if packet.remaining() < messages.symbol_len(number) {
            return None;
        }
        write_opening(self, packet).ok()?;
        let SendBody::Messages(messages) = &mut self.send.body else { return None };
        messages.write_symbol(number, self.id, packet.writer())
    }

    /// What a piece in the packet changes beside the data themselves.
    fn note_packed(&mut self, packed: &Packed, packet: &mut PacketBuilder<'_>) {
        if packed.fin {
            self.send.fin = Fin::Sent;
            self.owes &= !owed::FINISH;
        }
        if self.is_local && !self.is_known {
            self.owes &= !owed::OPEN;
        }
        if let Some(rate) = &mut self.rate {
            rate.spend(packed.len);
        }
        if let Some(shape) = packed.shape {
            packet.set_shape(shape);
        }
    }
}

fn packing<'a>(
    stream: StreamId,
    open: Option<Open<'a>>,
    packet: &mut PacketBuilder<'_>,
    has_data: bool,
    alone: bool,
) -> Packing<'a> {
    let capacity = packet.writer().len() + packet.remaining();
    let (may_shape, in_full) = (packet.may_shape(), packet.lane().is_one_of_many);
    Packing { stream, open, may_shape, in_full, alone, capacity, has_data }
}

fn bytes_part(piece: BytesPiece, packed: &Packed) -> StreamPart {
    // A packet holds less than 2^32 bytes.
    StreamPart::Bytes { offset: piece.offset, len: packed.len as u32, fin: packed.fin }
}

fn message_part(
    piece: MessagePiece,
    symbol_id: u32,
    packed: &Packed,
    sending: Sending,
) -> StreamPart {
    if piece.symbol {
        return StreamPart::Symbol { number: piece.number, id: symbol_id };
    }
    let (number, offset) = (piece.number, piece.offset);
    StreamPart::Message { number, offset, len: packed.len as u32, fin: packed.fin, sending }
}
