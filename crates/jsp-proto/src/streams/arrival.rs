//! Door 8: what arrived is accounted, told to the application, and ended where it is complete; for messages of one
//! stream that follow each other in a packet once.

use jsp_wire::Instant;

use super::credit::Overhead;
use super::input::OVER_CREDIT;
use super::stream::{RecvPhase, owed};
use super::table::Key;
use super::{StreamEvent, Streams};
use crate::error::TransportError;

impl Streams {
    /// A packet is read to its end, or as far as it is taken: what its messages change for their streams is done once
    /// for those that stand one after another, and credit that it brought is used.
    pub(crate) fn end_of_packet(&mut self, now: Instant) -> Result<(), TransportError> {
        self.settle_arrived(now)?;
        self.use_credit(now);
        Ok(())
    }

    pub(super) fn settle_arrived(&mut self, now: Instant) -> Result<(), TransportError> {
        self.arrived.take().map_or(Ok(()), |key| self.after_arrival(now, key))
    }

    /// Accounts what came, tells the application, and ends what is complete.
    pub(super) fn after_arrival(&mut self, now: Instant, key: Key) -> Result<(), TransportError> {
        self.account(now, key)?;
        if let Some(stream) = self.table.get_mut(key) {
            let recv = &mut stream.recv;
            let news = recv.has_ready() || recv.is_complete();
            if recv.phase == RecvPhase::Open && news && !recv.told_readable {
                recv.told_readable = true;
                self.events.push_back(StreamEvent::Readable(stream.id));
            }
        }
        self.close_if_read(key);
        self.free_if_over(key);
        Ok(())
    }

    /// Brings the connection's sums up to date with one receiving half; checks and grants credit.
    // spec: STR-20, STR-22
    pub(super) fn account(&mut self, now: Instant, key: Key) -> Result<(), TransportError> {
        let Some(stream) = self.table.get_mut(key) else { return Ok(()) };
        let has_messages = stream.has_messages();
        let recv = &mut stream.recv;
        let credited = recv.is_credited();
        let new = recv.figures();
        let old = std::mem::replace(&mut recv.accounted, new);
        let sums = &mut self.received;
        sums.position = shift(sums.position, old.position, new.position);
        sums.consumed = shift(sums.consumed, old.consumed, new.consumed);
        sums.numbers = shift(sums.numbers, old.numbers, new.numbers);
        sums.pieces = shift(sums.pieces, old.pieces, new.pieces);
        if new.position > recv.window.announced() || sums.position > self.window.announced() {
            return Err(OVER_CREDIT);
        }
        if new.numbers > old.numbers || new.pieces > old.pieces {
            Overhead { numbers: sums.numbers, pieces: sums.pieces }.check()?;
        }
        // Credit becomes due by what is consumed, or by the length of a message that is to fit.
        let is_consumed = new.consumed != old.consumed;
        if !credited || (!is_consumed && !has_messages) {
            return Ok(());
        }
        let mut widened = 0;
        if is_consumed {
            if recv.window.note_consumed(now, self.rtt, new.consumed) {
                widened = recv.window.size();
            }
            self.window.note_consumed(now, self.rtt, sums.consumed);
        }
        let wants = recv.phase == RecvPhase::Open
            && !recv.has_end()
            && recv.window.wants(new.consumed, recv.extra());
        // One stream alone must be able to use its window.
        self.window.widen(widened.saturating_add(widened / 2));
        self.owes_max_data |= self.window.wants(sums.consumed, self.limits.message_len_max);
        if wants {
            self.owe(key, owed::MAX_DATA);
        }
        Ok(())
    }

    /// Closes a receiving half of which nothing is left to come or to read.
    pub(super) fn close_if_read(&mut self, key: Key) {
        let Some(stream) = self.table.get_mut(key) else { return };
        let recv = &mut stream.recv;
        let stopped = matches!(recv.phase, RecvPhase::Stopped { .. });
        if (recv.phase == RecvPhase::Open || stopped) && recv.is_complete() && !recv.has_ready() {
            recv.phase = RecvPhase::Closed;
        }
    }

    /// Streams that waited for the connection's credit try again, if a packet that is read now has brought some: once
    /// for all of its frames, of which there may be many.
    fn use_credit(&mut self, now: Instant) {
        if std::mem::take(&mut self.has_new_credit) && !self.blocked.is_empty() {
            self.unblock(now);
        }
    }
}

/// `sum` with one of its parts changed from `old` to `new`.
fn shift(sum: u64, old: u64, new: u64) -> u64 {
    sum.saturating_sub(old).saturating_add(new)
}
