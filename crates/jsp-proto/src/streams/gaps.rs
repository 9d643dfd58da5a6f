//! Pieces that arrived before what stands in front of them.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use jsp_wire::CloseCode;

use crate::error::TransportError;

/// Pieces shorter than this are copied, so that a few bytes never keep a whole datagram alive.
/// Two thirds of the smallest path MTU: longer pieces pin at most half as much again.
pub(super) const COPY_BELOW: usize = 800;

/// Pieces beyond gaps that a byte stream or a message may always have, and bytes that each further one must bring on
/// average: records of pieces must not take more room than their bytes, nor the search for their places more time.
pub(super) const PIECES_ALWAYS: u64 = 1024;
pub(super) const PIECE_LEN_MIN: u64 = 512;

/// Capacity of the buffers that small pieces are copied together in, in bytes.
const MERGE_CAPACITY: usize = 4096;

/// Pieces in rising order without overlap, all beyond the contiguous part.
#[derive(Default, Debug)]
pub(super) struct Gaps {
    pieces: VecDeque<Piece>,
    bytes: u64,
}

#[derive(Debug)]
struct Piece {
    start: u64,
    data: Data,
}

#[derive(Debug)]
enum Data {
    Shared(Bytes),
    Copied(BytesMut),
}

impl Piece {
    fn len(&self) -> u64 {
        match &self.data {
            Data::Shared(bytes) => bytes.len() as u64,
            Data::Copied(bytes) => bytes.len() as u64,
        }
    }

    fn end(&self) -> u64 {
        self.start.saturating_add(self.len())
    }

    /// Copies `data` behind a small piece that ends where it starts.
    fn extend(&mut self, start: u64, data: &[u8]) -> bool {
        let touches = self.end() == start;
        match &mut self.data {
            Data::Copied(bytes) if touches && bytes.len() + data.len() <= MERGE_CAPACITY => {
                bytes.extend_from_slice(data);
                true
            }
            _ => false,
        }
    }
}

impl Gaps {
    /// How many pieces wait.
    pub(super) fn len(&self) -> usize {
        self.pieces.len()
    }

    /// Bytes that wait.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// True when none waits.
    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Checks that what waits is not made of crumbs.
    // spec: STR-45
    pub(super) fn check(&self) -> Result<(), TransportError> {
        let most = PIECES_ALWAYS.saturating_add(self.bytes / PIECE_LEN_MIN);
        if self.pieces.len() as u64 > most {
            let reason = "too many small pieces arrived out of order";
            return Err(TransportError::new(CloseCode::EXCESSIVE_LOAD, reason));
        }
        Ok(())
    }

    /// All pieces with their places.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.pieces.iter().map(|piece| match &piece.data {
            Data::Shared(bytes) => (piece.start, &bytes[..]),
            Data::Copied(bytes) => (piece.start, &bytes[..]),
        })
    }

    /// Keeps what of `data` is new; says how many bytes that was.
    pub(super) fn insert(&mut self, mut start: u64, mut data: Bytes) -> u64 {
        let mut new = 0u64;
        let mut at = match self.pieces.back() {
            Some(last) if start < last.end() => self.pieces.partition_point(|p| p.end() <= start),
            _ => self.pieces.len(),
        };
        while !data.is_empty() {
            let (next_start, next_end) =
                self.pieces.get(at).map_or((u64::MAX, u64::MAX), |p| (p.start, p.end()));
            if next_start <= start {
                let known = usize::try_from(next_end - start).unwrap_or(usize::MAX);
                drop(data.split_to(known.min(data.len())));
                start = next_end;
                at += 1;
                continue;
            }
            let room = usize::try_from(next_start - start).unwrap_or(usize::MAX);
            let part = data.split_to(room.min(data.len()));
            let len = part.len() as u64;
            at = self.place(at, start, part);
            start = start.saturating_add(len);
            new = new.saturating_add(len);
        }
        self.bytes = self.bytes.saturating_add(new);
        new
    }

    /// Puts a new piece before the one at `at`; answers where the next one stands now.
    fn place(&mut self, at: usize, start: u64, part: Bytes) -> usize {
        let before = at.checked_sub(1).and_then(|i| self.pieces.get_mut(i));
        if part.len() < COPY_BELOW {
            if before.is_some_and(|piece| piece.extend(start, &part)) {
                return at;
            }
            let data = Data::Copied(BytesMut::from(&part[..]));
            self.pieces.insert(at, Piece { start, data });
        } else {
            self.pieces.insert(at, Piece { start, data: Data::Shared(part) });
        }
        at + 1
    }

    /// The piece that continues a contiguous part ending at `base`, cut to what is new.
    pub(super) fn pop_at(&mut self, base: u64) -> Option<Bytes> {
        while self.pieces.front().is_some_and(|piece| piece.start <= base) {
            let piece = self.pieces.pop_front()?;
            self.bytes = self.bytes.saturating_sub(piece.len());
            let known = usize::try_from(base - piece.start).unwrap_or(usize::MAX);
            let mut bytes = match piece.data {
                Data::Shared(bytes) => bytes,
                Data::Copied(bytes) => bytes.freeze(),
            };
            if known < bytes.len() {
                return Some(bytes.split_off(known));
            }
        }
        None
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.pieces.clear();
        self.bytes = 0;
    }
}
