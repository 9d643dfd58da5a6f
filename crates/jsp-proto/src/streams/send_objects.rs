//! Large messages on their way out as symbols: see [`super::objects`].

use jsp_wire::frame::Symbol;
use jsp_wire::params::feature;
use jsp_wire::{Delivery, Instant, StreamId, Writer};

use super::Streams;
use super::config::MessageFate;
use super::objects::{Fountain, IS_PRESENT};
use super::send_bytes::Packed;
use super::send_messages::{MessagePiece, Next, SendMessages, SendScope};
use crate::token::Fate;

impl Streams {
    /// The peer takes symbols of large messages, and we do.
    // spec: FEC-19
    pub(super) fn may_send_symbols(&self) -> bool {
        IS_PRESENT && self.peer.is_some_and(|peer| peer.features & feature::OBJECTS != 0)
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
            record.fountain = Fountain::new(record.len, capacity, percent.min(100));
        }
        if let Some(fountain) = record.fountain.as_ref().filter(|_| !piece.symbol) {
            piece.len = piece.len.min(fountain.piece_len(piece.offset));
        }
        piece
    }

    /// The message goes as symbols.
    pub(super) fn is_divided(&self, number: u64) -> bool {
        self.record(number).is_some_and(|record| record.fountain.is_some())
    }

    /// All of a message was sent once: symbols may follow.
    // spec: FEC-21
    pub(super) fn begin_symbols(&mut self, number: u64) {
        let Some(record) = self.record_mut(number) else { return };
        let Some(fountain) = &mut record.fountain else { return };
        fountain.on_sent();
        if fountain.owes() {
            self.queue_symbols(number);
        }
    }

    fn queue_symbols(&mut self, number: u64) {
        if !self.symbols.contains(&number) {
            self.symbols.push_back(number);
        }
        if let Some(record) = self.record(number) {
            self.expiry = self.expiry.min(record.expires);
        }
    }

    /// Something of a message was lost: a symbol goes in its place. False for messages that go in pieces.
    // spec: FEC-23
    pub(super) fn owe_symbol(&mut self, number: u64) -> bool {
        let Some(record) = self.record_mut(number).filter(|record| !record.done) else {
            return false;
        };
        let is_sent = record.is_sent();
        let Some(fountain) = &mut record.fountain else { return false };
        fountain.owe();
        if is_sent {
            self.queue_symbols(number);
        }
        true
    }

    /// Symbols wait to be sent.
    pub(super) fn owes_symbols(&self) -> bool {
        self.symbols.iter().any(|number| self.record(*number).is_some_and(|record| !record.done))
    }

    /// The symbol that goes next.
    pub(super) fn next_symbol(&mut self, scope: &mut SendScope<'_>) -> Option<Next> {
        while let Some(number) = self.symbols.front().copied() {
            let record = self.record(number).filter(|record| !record.done);
            let owing = record.filter(|r| r.fountain.as_ref().is_some_and(|f| f.owes()));
            let Some(record) = owing else {
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

    /// Writes the next symbol of a message and notes it as sent; nothing when there is no room.
    // spec: FEC-20
    pub(super) fn write_symbol(
        &mut self,
        number: u64,
        stream: StreamId,
        writer: &mut Writer<'_>,
    ) -> Option<Packed> {
        let record = self.record_mut(number)?;
        let (total, fountain) = (u64::from(record.len), record.fountain.as_mut()?);
        let (id, data) = fountain.symbol(&record.payload)?;
        let symbol = Symbol { stream, number, total, id, data: &data };
        jsp_wire::Frame::Symbol(symbol).write(writer).ok()?;
        fountain.on_symbol_sent();
        Some(Packed { len: data.len(), fin: false, shape: None })
    }

    /// A symbol went out.
    pub(super) fn symbol_sent(&mut self, number: u64, now: Instant) {
        self.in_flight += 1;
        if let Some(record) = self.record_mut(number) {
            record.on_sent(now);
        }
    }

    /// The peer has a symbol.
    // spec: FEC-23
    pub(super) fn symbol_acked(&mut self, number: u64, fate: Fate, scope: &mut SendScope<'_>) {
        self.symbol_settled(number, fate);
        let Some(record) = self.record_mut(number).filter(|record| !record.done) else { return };
        if record.fountain.as_mut().is_some_and(|fountain| fountain.on_symbol_arrived()) {
            self.settle(number, MessageFate::Acknowledged, scope);
            self.pop_done();
        }
    }

    /// A symbol was lost: another one goes, while that is of use.
    pub(super) fn symbol_lost(&mut self, number: u64, scope: &mut SendScope<'_>) {
        self.symbol_settled(number, Fate::Lost);
        let Some(record) = self.record_mut(number).filter(|record| !record.done) else { return };
        record.was_lost = true;
        if record.superseded || record.expires <= scope.now {
            let fate =
                if record.superseded { MessageFate::Superseded } else { MessageFate::Expired };
            self.give_up(number, fate, scope);
            self.pop_done();
        } else if record.retransmits_max > 0 {
            self.owe_symbol(number);
        }
    }

    fn symbol_settled(&mut self, number: u64, fate: Fate) {
        if fate == Fate::Late {
            return;
        }
        self.in_flight = self.in_flight.saturating_sub(1);
        if let Some(record) = self.record_mut(number) {
            record.flying = record.flying.saturating_sub(1);
        }
    }

    /// Gives up what expired while its symbols waited; when the next does.
    pub(super) fn expire_symbols(&mut self, scope: &mut SendScope<'_>) -> Instant {
        let mut earliest = Instant::FAR_FUTURE;
        for number in core::mem::take(&mut self.symbols) {
            let open = self.record(number).filter(|record| !record.done);
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
