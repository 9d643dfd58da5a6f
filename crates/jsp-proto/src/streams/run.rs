//! Door 5, for what most messages are: whole, sent for the first time, on a stream of which nothing else is to be
//! told. They are written one after another, and what concerns their stream is noted once for all of them.

use jsp_wire::frame::{MessageFrame, MessageNumber};
use jsp_wire::{Instant, PathId, StreamId, Writer, varint};

use super::FRAGMENT_MIN;
use super::config::FecPolicy;
use super::credit::{MESSAGE_COST, NUMBER_REACH, SendCredit};
use super::pack::head_len;
use super::send_messages::{MessagePiece, SendMessages};
use super::stream::{SendBody, SendPhase, Stream};
use crate::fec::Protection;
use crate::packet::PacketBuilder;
use crate::token::{StreamPart, StreamToken, Token};

/// Whole messages that stand one after another in a packet, under one token.
#[derive(Default)]
pub(super) struct Run {
    first: u64,
    count: u32,
    len: u32,
}

impl Run {
    pub(super) fn count(&self) -> usize {
        self.count as usize
    }

    pub(super) fn add(
        &mut self,
        piece: MessagePiece,
        token: StreamToken,
        packet: &mut PacketBuilder<'_>,
    ) {
        if self.count > 0 && piece.number != self.first + u64::from(self.count) {
            self.end(token, packet);
        }
        self.grow(piece.number, piece.len);
    }

    fn grow(&mut self, number: u64, len: u32) {
        if self.count == 0 {
            self.first = number;
        }
        self.count += 1;
        self.len += len;
    }

    pub(super) fn end(&mut self, token: StreamToken, packet: &mut PacketBuilder<'_>) {
        let Run { first, count, len } = core::mem::take(self);
        if count > 0 {
            let what = StreamPart::Messages { first, count, len };
            packet.push(Token::Stream(StreamToken { what, ..token }));
        }
    }
}

/// What holds for all messages of a run.
struct Terms {
    now: Instant,
    stream: StreamId,
    path: PathId,
    /// The stream's credit.
    limit: u64,
    /// Bytes of the packet after which it ends.
    allowance: usize,
}

impl Stream {
    /// Writes what goes plainly, until so many bytes of the packet are used. The last message of all, and whatever
    /// might not fit, is left to those who know how to end a stream and how to fill a packet.
    pub(super) fn write_run(
        &mut self,
        now: Instant,
        allowance: usize,
        credit: &mut SendCredit,
        packet: &mut PacketBuilder<'_>,
    ) -> Run {
        if !self.goes_plainly(packet) {
            return Run::default();
        }
        let (stream, path, limit) = (self.id, packet.path(), self.send.limit);
        let terms = Terms { now, stream, path, limit, allowance };
        let SendBody::Messages(messages) = &mut self.send.body else { return Run::default() };
        let (run, expires) = messages.write_run(&terms, credit, packet.writer());
        packet.note_expiry(expires);
        run
    }

    /// No message of the stream says more than itself in this packet: neither how it opened nor what it needs against
    /// losses.
    fn goes_plainly(&self, packet: &PacketBuilder<'_>) -> bool {
        // Others go one to a packet, most often, or are few.
        let has_many = match &self.send.body {
            SendBody::Messages(messages) => messages.is_credited() && messages.has_several(),
            _ => false,
        };
        if !has_many {
            return false;
        }
        let is_told = self.is_known || !self.is_local;
        let is_open = matches!(self.send.phase, SendPhase::Open | SendPhase::Finishing);
        let covered = Protection::of(self.fec, self.class, Instant::FAR_FUTURE).is_some()
            || matches!(self.fec, FecPolicy::Fountain(_))
            || self.duplicate.applies(self.class, packet.lane());
        is_told && is_open && !covered && self.rate.is_none()
    }
}

impl SendMessages {
    /// More than one message waits to be sent for the first time.
    fn has_several(&self) -> bool {
        self.count() > self.cursor + 1
    }

    /// See [`Stream::write_run`]; besides, when the first of them expires. It is what [`Self::next`], [`Self::write`]
    /// and [`Self::sent`] would come to, message by message.
    // spec: STR-11, STR-13, STR-21, STR-23
    fn write_run(
        &mut self,
        terms: &Terms,
        credit: &mut SendCredit,
        writer: &mut Writer<'_>,
    ) -> (Run, Instant) {
        let (mut run, mut expires) = (Run::default(), Instant::FAR_FUTURE);
        if !self.lost.is_empty() {
            return (run, expires);
        }
        let begin = writer.len();
        let end = self.count().saturating_sub(1).min(self.confirmed + NUMBER_REACH);
        let index = usize::try_from(self.cursor.saturating_sub(self.first)).unwrap_or(usize::MAX);
        for (record, number) in self.records.iter_mut().skip(index).zip(self.cursor..end) {
            let len = record.payload.len();
            let cost = MESSAGE_COST + len as u64;
            // What stands alone is written without its length.
            let is_alone = writer.len() == 0 && len > 0 && len as u64 >= self.waiting;
            let own = terms.limit.saturating_sub(self.credited);
            let is_new = !record.started && !record.done;
            let is_allowed = own >= cost && credit.available() >= cost;
            if !is_new || !is_allowed || is_alone || record.expires <= terms.now {
                break;
            }
            let frame = MessageFrame {
                stream: terms.stream,
                open: None,
                number: MessageNumber::Full(number),
                fragment: None,
                attributes: record.attributes,
                fin: false,
                data: &[],
                to_end: false,
            };
            let whole = head_len(&frame) + varint::len(len as u64) + len;
            if whole + FRAGMENT_MIN > writer.remaining() {
                break;
            }
            let written = writer.whole(|writer| {
                frame.write_head(writer, len)?;
                writer.bytes(&record.payload)
            });
            if written.is_err() {
                break;
            }
            record.went_whole(terms.now, terms.path);
            credit.spend(cost);
            self.credited += cost;
            expires = expires.min(record.expires);
            run.grow(number, record.len);
            if writer.len() - begin >= terms.allowance {
                break;
            }
        }
        if run.count > 0 {
            self.cursor = run.first + u64::from(run.count);
            self.sent_next = self.sent_next.max(self.cursor);
            self.in_flight += u64::from(run.count);
            self.waiting = self.waiting.saturating_sub(run.len.into());
        }
        (run, expires)
    }
}
