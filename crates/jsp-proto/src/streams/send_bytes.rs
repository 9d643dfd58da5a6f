//! The sending half of a byte stream: what is written, in flight, lost, acknowledged.

use std::collections::VecDeque;

use bytes::Bytes;
use jsp_wire::frame::BytesFrame;
use jsp_wire::{Full, Open, Shape, StreamId, Writer};

use super::ranges::RangeSet;

/// Bytes that one stream keeps for retransmission, at most: 10 Gbit/s at 50 ms round trip. Bounds
/// what a peer can make us keep by acknowledging all but the oldest byte.
const IN_FLIGHT_MAX: u64 = 64 << 20;

/// Writes shorter than this are copied behind the one before, in bytes.
const MERGE_BELOW: usize = 256;

#[derive(Debug)]
struct Chunk {
    start: u64,
    data: Bytes,
}

/// The bytes of a stream between the oldest unacknowledged and the newest written.
#[derive(Default, Debug)]
pub(super) struct SendBytes {
    chunks: VecDeque<Chunk>,
    /// Place of the chunk that was copied from last.
    copied: usize,
    /// Short writes are gathered here; they stand behind all chunks.
    tail: Vec<u8>,
    /// All below is acknowledged.
    base: u64,
    /// The first byte that was never sent.
    next: u64,
    /// The end of what is written.
    end: u64,
    acked: RangeSet,
    lost: RangeSet,
}

/// A piece that may go next.
#[derive(Clone, Copy, Debug)]
pub(super) struct BytesPiece {
    pub(super) offset: u64,
    pub(super) len: u64,
    pub(super) again: bool,
}

/// What the piece is packed into.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packing<'a> {
    pub(super) stream: StreamId,
    pub(super) open: Option<Open<'a>>,
    /// The packet is empty and may take a shape.
    pub(super) may_shape: bool,
    /// Numbers of messages stand in full: the packet's own number does not tell their order.
    // spec: PTH-10
    pub(super) in_full: bool,
    /// Nothing else waits to be sent.
    pub(super) alone: bool,
    /// Room of a packet that holds nothing yet, in bytes.
    pub(super) capacity: usize,
    /// Data of streams stands in the packet already.
    pub(super) has_data: bool,
}

/// What was written into a packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packed {
    pub(super) len: usize,
    pub(super) fin: bool,
    pub(super) shape: Option<Shape>,
}

impl SendBytes {
    /// Bytes that were sent at least once: what counts as credit.
    pub(super) fn credited(&self) -> u64 {
        self.next
    }

    /// Bytes written since the start.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Bytes that were never sent.
    pub(super) fn unsent(&self) -> u64 {
        self.end - self.next
    }

    /// True when the peer has all that is written.
    pub(super) fn is_settled(&self) -> bool {
        self.base == self.end
    }

    /// Nothing waits to be sent, be it new or lost.
    pub(super) fn is_drained(&self) -> bool {
        self.next == self.end && self.lost.is_empty()
    }

    /// Takes bytes behind all others.
    pub(super) fn push(&mut self, data: Bytes) {
        let len = data.len();
        if len < MERGE_BELOW {
            self.tail.extend_from_slice(&data);
            self.end += len as u64;
            if self.tail.len() >= MERGE_BELOW * 16 {
                self.flush_tail();
            }
        } else {
            self.flush_tail();
            self.chunks.push_back(Chunk { start: self.end, data });
            self.end += len as u64;
        }
    }

    fn flush_tail(&mut self) {
        if !self.tail.is_empty() {
            let start = self.end - self.tail.len() as u64;
            let data = Bytes::from(std::mem::take(&mut self.tail));
            self.chunks.push_back(Chunk { start, data });
        }
    }

    /// What goes next, when `credit` bytes may be new.
    pub(super) fn piece(&self, credit: u64) -> Option<BytesPiece> {
        if let Some((start, end)) = self.lost.first() {
            return Some(BytesPiece { offset: start, len: end - start, again: true });
        }
        let kept = IN_FLIGHT_MAX.saturating_sub(self.next - self.base);
        let len = (self.end - self.next).min(credit).min(kept);
        (len > 0).then_some(BytesPiece { offset: self.next, len, again: false })
    }

    /// Writes the start of `piece`; `None` when the room is not worth a frame.
    pub(super) fn write(
        &mut self,
        piece: BytesPiece,
        packing: &Packing<'_>,
        finishing: bool,
        writer: &mut Writer<'_>,
    ) -> Option<Packed> {
        self.flush_tail();
        let wanted = usize::try_from(piece.len).unwrap_or(usize::MAX);
        let room = writer.remaining();
        let mut frame = BytesFrame {
            stream: packing.stream,
            open: packing.open,
            offset: piece.offset,
            fin: false,
            data: &[],
            to_end: true,
        };
        let open_len = packing.open.map_or(0, |open| open.len());
        let head = BytesFrame::head_len(packing.stream, piece.offset, 0) - 1 + open_len;
        let fills = room <= head + wanted;
        let mut len = wanted.min(room.checked_sub(head)?);
        if len < wanted && len < super::FRAGMENT_MIN && packing.has_data {
            return None;
        }
        frame.fin = finishing && piece.offset + len as u64 == self.end;
        if packing.may_shape && frame.fits_shape() && (fills || packing.alone) {
            frame.write_shape_head(writer).ok()?;
            let len = wanted.min(writer.remaining());
            self.copy(piece.offset, writer.reserve(len).ok()?);
            return Some(Packed { len, fin: false, shape: Some(Shape::Bytes) });
        }
        if len + head < room {
            // Something may follow, so the length is told; it takes 2 bytes at most below 16384.
            frame.to_end = false;
            let len_len = jsp_wire::varint::len(len as u64);
            len = len.min(room.checked_sub(head + len_len)?);
            frame.fin = finishing && piece.offset + len as u64 == self.end;
        }
        writer
            .whole(|writer| {
                frame.write_head(writer, len).and_then(|()| {
                    let target = writer.reserve(len)?;
                    self.copy(piece.offset, target);
                    Ok::<(), Full>(())
                })
            })
            .ok()?;
        Some(Packed { len, fin: frame.fin, shape: None })
    }

    /// Notes that the first `len` bytes of `piece` went out.
    pub(super) fn sent(&mut self, piece: BytesPiece, len: usize) {
        let end = piece.offset + len as u64;
        if piece.again {
            self.lost.remove(piece.offset, end);
        } else {
            self.next = self.next.max(end);
        }
    }

    fn copy(&mut self, mut offset: u64, mut target: &mut [u8]) {
        let mut at = self.chunk_at(offset);
        while !target.is_empty() {
            let Some(chunk) = self.chunks.get(at) else { return };
            self.copied = at;
            let skip = usize::try_from(offset - chunk.start).unwrap_or(usize::MAX);
            let source = chunk.data.get(skip..).unwrap_or_default();
            let n = source.len().min(target.len());
            let (now, rest) = target.split_at_mut(n);
            now.copy_from_slice(source.get(..n).unwrap_or_default());
            target = rest;
            offset += n as u64;
            at += 1;
        }
    }

    /// The place of the chunk with the byte at `offset`: most often that of the piece before, or the next.
    fn chunk_at(&self, offset: u64) -> usize {
        let has = |at: usize| {
            let chunk: Option<&Chunk> = self.chunks.get(at);
            chunk.is_some_and(|chunk| {
                let end = chunk.start.saturating_add(chunk.data.len() as u64);
                (chunk.start..end).contains(&offset)
            })
        };
        let at = self.copied;
        if has(at) {
            return at;
        }
        let next = at.saturating_add(1);
        if has(next) {
            return next;
        }
        self.chunks.partition_point(|chunk| chunk.start <= offset).saturating_sub(1)
    }

    /// The peer has these bytes.
    pub(super) fn acked(&mut self, offset: u64, len: u64) {
        let end = (offset + len).min(self.next);
        let start = offset.max(self.base);
        if start >= end {
            return;
        }
        self.lost.remove(start, end);
        if start == self.base && self.acked.is_empty() {
            self.base = end;
        } else {
            self.acked.insert(start, end);
            while let Some(end) = self.acked.pop_touching(self.base) {
                self.base = self.base.max(end);
            }
        }
        while let Some(chunk) = self.chunks.front() {
            if chunk.start + chunk.data.len() as u64 > self.base {
                break;
            }
            self.chunks.pop_front();
            self.copied = self.copied.saturating_sub(1);
        }
    }

    /// These bytes must go again, as far as the peer does not have them.
    pub(super) fn lost(&mut self, offset: u64, len: u64) {
        let end = (offset + len).min(self.next);
        let mut start = offset.max(self.base);
        while let Some((from, to)) = self.acked.first_missing(start, end) {
            self.lost.insert(from, to);
            start = to;
        }
    }

    /// Forgets what waits; the credit that was used stays known.
    pub(super) fn abandon(&mut self) {
        self.chunks.clear();
        self.tail = Vec::new();
        self.acked.clear();
        self.lost.clear();
        self.end = self.next;
        self.base = self.next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gathered_short_writes_keep_their_places() {
        // Long runs of short writes fill the gathered tail again and again, with a long one between.
        let mut send = SendBytes::default();
        let mut written = Vec::new();
        for n in 0..400usize {
            let len = if n % 90 == 89 { MERGE_BELOW + n } else { 1 + n * 7 % 200 };
            let data: Vec<u8> = (0..len).map(|i| (written.len() + i) as u8 ^ n as u8).collect();
            written.extend_from_slice(&data);
            send.push(data.into());
        }
        assert!(written.len() > MERGE_BELOW * 16 * 4);
        assert_eq!(send.end(), written.len() as u64);
        let packing = Packing {
            stream: StreamId(4),
            open: None,
            may_shape: true,
            in_full: false,
            alone: true,
            capacity: 1200,
            has_data: false,
        };
        let mut got = Vec::new();
        while let Some(piece) = send.piece(u64::MAX) {
            let mut buffer = [0; 1200];
            let mut writer = Writer::new(&mut buffer);
            let packed = send.write(piece, &packing, false, &mut writer).unwrap();
            got.extend_from_slice(&writer.written()[writer.len() - packed.len..]);
            send.sent(piece, packed.len);
        }
        assert!(got == written);
    }
}
