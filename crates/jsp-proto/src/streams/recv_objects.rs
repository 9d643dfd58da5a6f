//! Symbols of large messages as they arrive.

use bytes::Bytes;
use jsp_wire::frame::{Attributes, Symbol};
use jsp_wire::{CloseCode, Delivery, Framing, Instant};

use super::Streams;
use super::assembly::Partial;
use super::credit::{MESSAGE_COST, NUMBER_REACH};
use super::input::WRONG_FRAMING;
use super::objects::Symbols;
use super::recv_messages::{COMPLETE, RecvMessages, Taken};
use super::stream::{RecvBody, RecvPhase};
use crate::error::TransportError;

const fn violation(reason: &'static str) -> TransportError {
    TransportError::new(CloseCode::PROTOCOL_VIOLATION, reason)
}

impl Streams {
    /// Bytes of large messages that were worked through in vain since it was asked last: their symbols did not suffice.
    pub(crate) fn take_tried(&mut self) -> u64 {
        core::mem::take(&mut self.tried)
    }

    /// A symbol of a large message.
    // spec: FEC-21
    pub(crate) fn on_symbol(
        &mut self,
        now: Instant,
        symbol: &Symbol<'_>,
    ) -> Result<(), TransportError> {
        let Some(key) = self.enter(symbol.stream, None)? else { return Ok(()) };
        self.check_message_len(symbol.total)?;
        let Some(stream) = self.receiving(key, Framing::Messages)? else { return Ok(()) };
        let keep = stream.recv.phase == RecvPhase::Open;
        let RecvBody::Messages(messages) = &mut stream.recv.body else {
            return Err(WRONG_FRAMING);
        };
        let numbers = messages.seen.len();
        let tried = messages.insert_symbol(symbol, keep)?.tried + messages.leap(numbers);
        self.tried = self.tried.saturating_add(tried);
        self.after_arrival(now, key)
    }
}

impl RecvMessages {
    /// Takes a symbol; `keep` says whether somebody will read its message.
    // spec: FEC-21
    fn insert_symbol(&mut self, symbol: &Symbol<'_>, keep: bool) -> Result<Taken, TransportError> {
        if self.delivery != Delivery::Partial {
            return Err(violation("a symbol on a stream that is not partially reliable"));
        }
        let number = symbol.number;
        if self.end_is_below(number) {
            let reason = "a symbol came after the end of its stream";
            return Err(TransportError::new(CloseCode::FINAL_SIZE, reason));
        }
        // spec: STR-14
        self.symbols_expected = self.symbols_expected.max(number.saturating_add(1));
        let Some(ahead) = number.checked_sub(self.base) else { return Ok(Taken::default()) };
        if ahead >= NUMBER_REACH {
            return Err(violation("a message number runs too far ahead"));
        }
        let index = usize::try_from(ahead).unwrap_or(usize::MAX);
        if self.seen.len() <= index {
            self.seen.resize(index + 1, 0);
        }
        let before = self.seen.get(index).copied().unwrap_or(0);
        if before & COMPLETE != 0 {
            return Ok(Taken::default());
        }
        let blank = || Partial::new(number, symbol.total, Attributes::default());
        let partial = self.partial.entry(number).or_insert_with(blank);
        if !partial.insert_symbol(symbol) {
            return Err(violation("a symbol contradicts what came of its message"));
        }
        // All of the message was sent before: it counts as received, so that what is kept has been paid for.
        let cost = symbol.total.saturating_add(MESSAGE_COST);
        self.received = self.received.saturating_add(cost.saturating_sub(u64::from(before)));
        if let Some(slot) = self.seen.get_mut(index) {
            *slot = u32::try_from(cost).unwrap_or(COMPLETE - 1).min(COMPLETE - 1);
        }
        Ok(self.rebuild(number, keep))
    }

    /// Puts a message together if that can be done.
    // spec: FEC-22
    pub(super) fn rebuild(&mut self, number: u64, keep: bool) -> Taken {
        let Some(partial) = self.partial.get_mut(&number) else { return Taken::default() };
        let payload = match partial.rebuild() {
            Ok(payload) => payload,
            Err(tried) => return Taken { tried, ..Taken::default() },
        };
        let (pieces, attributes) = (partial.pieces(), partial.attributes);
        self.partial.remove(&number);
        self.pieces = self.pieces.saturating_sub(pieces);
        let index = usize::try_from(number.saturating_sub(self.base)).unwrap_or(usize::MAX);
        if let Some(slot) = self.seen.get_mut(index) {
            *slot |= COMPLETE;
        }
        self.complete(number, Bytes::from(payload), attributes, keep)
    }
}

impl Partial {
    /// Takes a symbol; false when it belongs to another message than this.
    fn insert_symbol(&mut self, symbol: &Symbol<'_>) -> bool {
        if self.symbols.is_none() {
            self.symbols = Symbols::of(symbol);
            let Self { symbols: Some(symbols), start, gaps, .. } = self else { return false };
            let pieces = [(0, &start[..])].into_iter().chain(gaps.iter());
            pieces.for_each(|(offset, data)| symbols.insert_piece(offset, data.len() as u64));
        }
        self.total == symbol.total
            && self.symbols.as_mut().is_some_and(|symbols| symbols.insert(symbol))
    }

    /// The message, or the bytes that were worked through in vain.
    fn rebuild(&mut self) -> Result<Vec<u8>, u64> {
        let Self { symbols, start, gaps, .. } = self;
        let pieces = [(0, &start[..])].into_iter().chain(gaps.iter());
        symbols.as_mut().map_or(Err(0), |symbols| symbols.decode(pieces))
    }
}
