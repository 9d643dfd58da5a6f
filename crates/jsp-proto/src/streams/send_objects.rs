//! Large messages on their way out as symbols: see [`super::objects`].

use jsp_wire::frame::Symbol;
use jsp_wire::{Delivery, Instant, StreamId, Writer};

use super::Streams;
use super::config::MessageFate;
use super::objects::{Fountain, IS_PRESENT, Outlook};
use super::send_bytes::Packed;
use super::send_messages::{Lost, MessagePiece, Next, SendMessages, SendScope};
use super::stream::SendBody;
use crate::token::Fate;

impl Streams {
    /// The peer takes symbols of large messages, and we do.
    // spec: FEC-19
    pub(super) fn may_send_symbols(&self) -> bool {
        let is_offered = IS_PRESENT && self.limits.objects;
        is_offered && self.peer.is_some_and(|peer| peer.takes_symbols)
    }

    /// When the peer takes no symbols, what began to go so, because it was remembered to, goes in pieces.
    // spec: FEC-25
    pub(super) fn forget_symbols(&mut self, now: Instant) {
        if self.may_send_symbols() {
            return;
        }
        for (_, stream) in self.table.iter_mut() {
            let SendBody::Messages(messages) = &mut stream.send.body else { continue };
            let (credit, events) = (&mut self.credit, &mut self.events);
            messages.forget_symbols(&mut SendScope { now, stream: stream.id, credit, events });
        }
    }
}

impl SendMessages {
    /// The piece as it goes over a stream whose large messages are symbols: `capacity` is what a packet holds, and so
    /// many symbols of a hundred go in advance.
    // spec: FEC-23
    pub(super) fn divide(
        &mut self,
        mut piece: MessagePiece,
        capacity: usize,
        percent: u8,
    ) -> MessagePiece {
        let is_partial = self.delivery == Delivery::Partial;
        let Some(record) = self.record_mut(piece.number) else { return piece };
        if !record.started && is_partial && !piece.again {
            let (len, repeats) = (record.len, record.retransmits_max);
            record.fountain = Fountain::new(len, capacity, percent.min(100), repeats);
        }
        if let Some(fountain) = record.fountain.as_ref().filter(|_| !piece.symbol) {
            piece.len = piece.len.min(fountain.piece_len(piece.offset));
        }
        piece
    }

    /// The fountain of a message whose fate is open.
    fn fountain_mut(&mut self, number: u64) -> Option<&mut Fountain> {
        self.record_mut(number).filter(|record| !record.done)?.fountain.as_deref_mut()
    }

    /// The message goes as symbols.
    pub(super) fn is_divided(&self, number: u64) -> bool {
        self.record(number).is_some_and(|record| record.fountain.is_some())
    }

    /// Bytes of each symbol of the message.
    pub(super) fn symbol_len(&self, number: u64) -> usize {
        let fountain = self.record(number).and_then(|record| record.fountain.as_ref());
        fountain.map_or(0, |fountain| fountain.symbol_len())
    }

    /// All of a message was sent once: symbols may follow.
    // spec: FEC-21
    pub(super) fn begin_symbols(&mut self, number: u64) {
        if let Some(fountain) = self.fountain_mut(number) {
            fountain.on_sent();
            self.queue_symbols(number);
        }
    }

    /// Lets symbols of the message go, if it owes any.
    fn queue_symbols(&mut self, number: u64) {
        let Some(record) = self.record(number).filter(|record| record.owes_symbols()) else {
            return;
        };
        self.expiry = self.expiry.min(record.expires);
        if !self.symbols.contains(&number) {
            self.symbols.push_back(number);
        }
    }

    /// Symbols wait to be sent.
    pub(super) fn owes_symbols(&self) -> bool {
        self.symbols.iter().any(|number| self.record(*number).is_some_and(|r| r.owes_symbols()))
    }

    /// The symbol that goes next.
    // spec: STR-33
    pub(super) fn next_symbol(&mut self, scope: &mut SendScope<'_>) -> Option<Next> {
        while let Some(number) = self.symbols.front().copied() {
            let Some(record) = self.record(number).filter(|record| record.owes_symbols()) else {
                self.symbols.pop_front();
                continue;
            };
            if record.expires <= scope.now {
                self.symbols.pop_front();
                self.give_up(number, MessageFate::Expired, scope);
                continue;
            }
            let (due, again, symbol) = (record.due, true, true);
            return Some(Next::Piece(MessagePiece {
                number,
                offset: 0,
                len: 0,
                again,
                symbol,
                due,
            }));
        }
        None
    }

    /// Writes the next symbol of a message and notes it as sent: its id, and what was written. Nothing when there is
    /// no room.
    // spec: FEC-20
    pub(super) fn write_symbol(
        &mut self,
        number: u64,
        stream: StreamId,
        writer: &mut Writer<'_>,
    ) -> Option<(u32, Packed)> {
        let record = self.record_mut(number)?;
        let (total, fountain) = (u64::from(record.len), record.fountain.as_mut()?);
        let (id, data) = fountain.symbol(&record.payload)?;
        let symbol = Symbol { stream, number, total, id, data: &data };
        jsp_wire::Frame::Symbol(symbol).write(writer).ok()?;
        fountain.on_symbol_sent();
        Some((id, Packed { len: data.len(), fin: false, shape: None }))
    }

    /// A symbol went out.
    pub(super) fn symbol_sent(&mut self, number: u64, now: Instant) {
        self.in_flight += 1;
        if let Some(record) = self.record_mut(number) {
            record.on_symbol_sent(now);
        }
    }

    /// A symbol did not fit into a packet without other data, which has so much room. When none will, the message goes
    /// in pieces; answers whether it does.
    pub(super) fn symbol_has_no_room(
        &mut self,
        number: u64,
        capacity: usize,
        scope: &mut SendScope<'_>,
    ) -> bool {
        let is_stuck = self.fountain_mut(number).is_some_and(|f| f.on_no_room(capacity));
        if is_stuck {
            self.go_in_pieces(number, scope);
            self.pop_done();
        }
        is_stuck
    }

    /// A piece arrived of a message that is not complete by that.
    // spec: FEC-23
    pub(super) fn divided_acked(
        &mut self,
        (number, offset, len): (u64, u32, u32),
        fate: Fate,
        scope: &mut SendScope<'_>,
    ) {
        let Some(fountain) = self.fountain_mut(number) else { return };
        if fate != Fate::Late {
            fountain.on_piece_landed();
        }
        fountain.on_piece_arrived(offset, len);
        self.decide(number, scope);
    }

    /// A piece was lost of a message that goes as symbols. False for others.
    // spec: FEC-23, STR-30
    pub(super) fn divided_lost(
        &mut self,
        (number, offset, len): (u64, u32, u32),
        scope: &mut SendScope<'_>,
    ) -> bool {
        let Some(fountain) = self.fountain_mut(number) else { return false };
        fountain.on_piece_landed();
        fountain.on_piece_lost(offset, len);
        let lacks_piece = fountain.lacks_piece();
        let Some(record) = self.record_mut(number) else { return true };
        let is_over = record.superseded || record.expires <= scope.now;
        if lacks_piece && !is_over && !self.is_queued(number) {
            self.repeat(Lost { number, offset, len }, scope);
        }
        self.decide(number, scope);
        true
    }

    /// A piece goes again, if it may.
    // spec: STR-31
    fn repeat(&mut self, piece: Lost, scope: &mut SendScope<'_>) {
        let Some(record) = self.record_mut(piece.number).filter(|record| !record.done) else {
            return;
        };
        let expires = record.expires;
        if !record.may_repeat(piece.offset, piece.len) {
            self.give_up(piece.number, MessageFate::Lost, scope);
            return;
        }
        self.queue_again(piece);
        self.expiry = self.expiry.min(expires);
    }

    /// A probe repeats a piece of a message that goes as symbols: by a symbol, but as long as no piece arrived by the
    /// piece itself. False for other messages.
    pub(super) fn divided_doubt(&mut self, number: u64, offset: u32) -> bool {
        let Some(fountain) = self.fountain_mut(number).filter(|f| !f.is_unheard()) else {
            return false;
        };
        fountain.on_piece_doubt(offset);
        self.queue_symbols(number);
        true
    }

    /// The peer has a symbol.
    // spec: FEC-23
    pub(super) fn symbol_acked(
        &mut self,
        (number, id): (u64, u32),
        fate: Fate,
        scope: &mut SendScope<'_>,
    ) {
        self.symbol_settled(number, fate);
        if let Some(fountain) = self.fountain_mut(number) {
            fountain.on_symbol_arrived(id);
            self.decide(number, scope);
        }
    }

    /// A symbol was lost: another one goes, while that is of use.
    pub(super) fn symbol_lost(&mut self, number: u64, id: u32, scope: &mut SendScope<'_>) {
        self.symbol_settled(number, Fate::Lost);
        if let Some(fountain) = self.fountain_mut(number) {
            fountain.on_symbol_lost(id);
            self.decide(number, scope);
        }
    }

    /// A probe repeats a symbol by another one.
    pub(super) fn symbol_doubted(&mut self, number: u64, id: u32) {
        if let Some(fountain) = self.fountain_mut(number) {
            fountain.on_doubt(id);
            self.queue_symbols(number);
        }
    }

    fn symbol_settled(&mut self, number: u64, fate: Fate) {
        if let Some(record) = self.record_mut(number) {
            record.was_lost |= fate == Fate::Lost;
        }
        if fate != Fate::Late {
            self.in_flight = self.in_flight.saturating_sub(1);
        }
    }

    /// What is to become of a message that goes as symbols, after something of it arrived or was lost.
    // spec: FEC-23, STR-30, STR-33
    fn decide(&mut self, number: u64, scope: &mut SendScope<'_>) {
        let Some(record) = self.record_mut(number).filter(|record| !record.done) else { return };
        let (superseded, is_expired) = (record.superseded, record.expires <= scope.now);
        let may_go = !superseded && !is_expired;
        let Some(fountain) = &mut record.fountain else { return };
        match fountain.outlook(may_go) {
            Outlook::Open => self.queue_symbols(number),
            Outlook::Arrived => self.settle(number, MessageFate::Acknowledged, scope),
            Outlook::Pieces => self.go_in_pieces(number, scope),
            Outlook::Hopeless if superseded => {
                self.give_up(number, MessageFate::Superseded, scope);
            }
            Outlook::Hopeless if is_expired => self.give_up(number, MessageFate::Expired, scope),
            Outlook::Hopeless => self.give_up(number, MessageFate::Lost, scope),
        }
        self.pop_done();
    }

    /// Symbols are of no use, or cannot go: the message goes on as any other, and what symbols were to make up for goes
    /// again.
    // spec: FEC-27
    fn go_in_pieces(&mut self, number: u64, scope: &mut SendScope<'_>) {
        let Some(fountain) = self.record_mut(number).and_then(|record| record.fountain.take())
        else {
            return;
        };
        for (offset, len) in fountain.lost_pieces() {
            let end = offset + len;
            let mut at = offset;
            while let Some((offset, len)) =
                self.record(number).and_then(|record| record.missing(at, end - at))
            {
                at = offset + len;
                if !self.waits(number, offset, len) {
                    self.repeat(Lost { number, offset, len }, scope);
                }
                if at >= end {
                    break;
                }
            }
        }
    }

    fn forget_symbols(&mut self, scope: &mut SendScope<'_>) {
        for number in self.first..self.count() {
            self.go_in_pieces(number, scope);
        }
        self.pop_done();
    }

    /// Gives up what expired while its symbols waited; when the next does.
    pub(super) fn expire_symbols(&mut self, scope: &mut SendScope<'_>) -> Instant {
        let mut earliest = Instant::FAR_FUTURE;
        for number in core::mem::take(&mut self.symbols) {
            let open = self.record(number).filter(|record| record.owes_symbols());
            let Some(expires) = open.map(|record| record.expires) else { continue };
            if expires <= scope.now {
                self.give_up(number, MessageFate::Expired, scope);
            } else {
                earliest = earliest.min(expires);
                self.symbols.push_back(number);
            }
        }
        earliest
    }
}
