//! Receive buffers: filled by the system, handed up without a copy, used again.

use std::collections::VecDeque;
use std::io::IoSliceMut;

use bytes::BytesMut;
use quinn_udp::RecvMeta;

/// Messages that one receive call may return. Each may hold many datagrams joined by the system.
pub(super) const SLOTS: usize = 8;

/// Bytes of one receive buffer: the most that the system joins (Linux UDP GRO: one IP packet).
const SLOT_LEN: usize = 65_536;

/// What arrives in at most this many bytes is copied out: that costs less than the zeros of another buffer, and a
/// small message that the application keeps for long does not keep a whole one.
const COPY_MAX: usize = SLOT_LEN / 4;

/// Buffers that wait for the application to let go of their last slice; older ones are given up to
/// the allocator.
const RETIRED_MAX: usize = 32;

/// The buffers of one socket.
pub(super) struct Buffers {
    slots: [BytesMut; SLOTS],
    pub(super) meta: [RecvMeta; SLOTS],
    retired: VecDeque<BytesMut>,
}

impl Buffers {
    pub(super) fn new() -> Self {
        Self {
            slots: std::array::from_fn(|_| BytesMut::zeroed(SLOT_LEN)),
            meta: [RecvMeta::default(); SLOTS],
            retired: VecDeque::new(),
        }
    }

    /// The buffers as a receive call wants them.
    pub(super) fn split(&mut self) -> ([IoSliceMut<'_>; SLOTS], &mut [RecvMeta; SLOTS]) {
        let mut slots = self.slots.iter_mut();
        let slices = std::array::from_fn(|_| {
            IoSliceMut::new(slots.next().map_or(&mut [], |slot| &mut slot[..]))
        });
        (slices, &mut self.meta)
    }

    /// Takes the first `len` bytes out of slot `index`, which is whole again afterwards.
    pub(super) fn take(&mut self, index: usize, len: usize) -> BytesMut {
        let Some(slot) = self.slots.get_mut(index) else { return BytesMut::new() };
        let len = len.min(slot.len());
        if len <= COPY_MAX {
            return BytesMut::from(slot.get(..len).unwrap_or_default());
        }
        let taken = slot.split_to(len);
        let rest = std::mem::replace(slot, fresh(&mut self.retired));
        if self.retired.len() < RETIRED_MAX {
            self.retired.push_back(rest);
        }
        taken
    }
}

/// A whole buffer: the oldest retired one that nobody uses any more, else a new one.
fn fresh(retired: &mut VecDeque<BytesMut>) -> BytesMut {
    for _ in 0..retired.len().min(4) {
        let Some(mut buffer) = retired.pop_front() else { break };
        buffer.clear();
        if buffer.try_reclaim(SLOT_LEN) {
            buffer.resize(SLOT_LEN, 0);
            return buffer;
        }
        retired.push_back(buffer);
    }
    BytesMut::zeroed(SLOT_LEN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_arrival_is_handed_up_without_a_copy_and_its_buffer_comes_back() {
        let mut buffers = Buffers::new();
        let place = buffers.slots[0].as_ptr();
        let large = buffers.take(0, 60_000);
        assert_eq!((large.as_ptr(), large.len()), (place, 60_000));
        assert_eq!(buffers.slots[0].len(), SLOT_LEN);
        assert_ne!(buffers.slots[0].as_ptr(), place);
        drop(large);
        buffers.take(0, 60_000);
        assert_eq!(buffers.slots[0].as_ptr(), place);
    }

    #[test]
    fn a_small_arrival_is_copied() {
        let mut buffers = Buffers::new();
        let place = buffers.slots[1].as_ptr();
        buffers.slots[1][..3].copy_from_slice(b"abc");
        let small = buffers.take(1, 3);
        assert_eq!(&small[..], b"abc");
        assert_eq!(buffers.slots[1].as_ptr(), place);
        assert!(buffers.retired.is_empty());
    }

    #[test]
    fn buffers_that_are_held_do_not_pile_up() {
        let mut buffers = Buffers::new();
        let held: Vec<_> = (0..100).map(|_| buffers.take(0, SLOT_LEN)).collect();
        assert!(buffers.retired.len() <= RETIRED_MAX);
        assert_eq!(held.len(), 100);
    }
}
