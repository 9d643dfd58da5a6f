//! Copies of small messages that wait to be read, so that they do not keep the datagrams that brought
//! them: side by side in blocks that are used again.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// Bytes of a block: what a message that is kept for long keeps at most.
const BLOCK: usize = 4096;

/// Blocks that wait until the last message in them is gone; more are left to the allocator.
const BLOCKS_MAX: usize = 16;

/// The blocks of one stream.
#[derive(Default, Debug)]
pub(super) struct Copies {
    block: Option<BytesMut>,
    /// Full ones, the oldest first.
    full: VecDeque<BytesMut>,
    /// Since all was read: whether anything was copied, and how many blocks were begun.
    used: bool,
    begun: usize,
}

impl Copies {
    /// A copy of `data`, which is shorter than a block.
    pub(super) fn copy(&mut self, data: &[u8]) -> Bytes {
        self.used = true;
        let mut block = self.roomy_block(data.len());
        block.extend_from_slice(data);
        let copy = block.split().freeze();
        self.block = Some(block);
        copy
    }

    /// The present block if it has room, else another.
    fn roomy_block(&mut self, len: usize) -> BytesMut {
        match self.block.take() {
            Some(block) if block.capacity() >= len => return block,
            Some(full) if self.full.len() < BLOCKS_MAX => self.full.push_back(full),
            _ => {}
        }
        self.begun += 1;
        // The oldest full block if its messages are gone.
        if let Some(mut block) = self.full.pop_front() {
            if block.try_reclaim(BLOCK) {
                return block;
            }
            self.full.push_back(block);
        }
        BytesMut::with_capacity(BLOCK)
    }

    /// All has been read: keeps as many blocks as were needed since the last time.
    pub(super) fn on_all_read(&mut self) {
        if self.used {
            self.full.truncate(self.begun.max(1));
            (self.used, self.begun) = (false, 0);
        } else if self.block.is_some() {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_used_again_and_given_back() {
        let mut copies = Copies::default();
        let (mut first, mut comes_back) = (None, false);
        for _ in 0..3 {
            let held: Vec<_> = (0..200u8).map(|n| copies.copy(&[n; 64])).collect();
            assert!(held.iter().zip(0..).all(|(copy, n)| copy[..] == [n; 64]));
            comes_back |= held.iter().any(|copy| Some(copy.as_ptr()) == first);
            first = first.or(Some(held[0].as_ptr()));
            drop(held);
            copies.on_all_read();
            assert!(copies.full.len() <= 4);
        }
        assert!(comes_back);
        copies.on_all_read();
        assert!(copies.full.capacity() == 0 && copies.block.is_none());
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut copies = Copies::default();
        let held: Vec<_> = (0..2000u32).map(|_| copies.copy(&[7; 700])).collect();
        assert_eq!(copies.full.len(), BLOCKS_MAX);
        assert_eq!(held.len(), 2000);
    }
}
