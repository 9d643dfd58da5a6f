//! Secrets that leave nothing behind: values whose memory is wiped, and calls whose stack is.
//!
//! Why `unsafe`: the keys of `ring` are plain bytes that the library does not wipe and does not give out, so that
//! nothing but their memory can be wiped.

use alloc::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;

/// What allocators give without being asked for more. What asks for more comes from a part of theirs that is slow, and
/// that leaves holes.
const PLAIN_ALIGN: usize = 16;

/// A value at one place, from its first day to its last: it is not copied as its owner moves, and its bytes are
/// wiped after it is dropped. The place is aligned as `T` is, within a block that need not be.
#[allow(unsafe_code, reason = "see the module")]
pub(crate) struct Wiped<T> {
    block: NonNull<u8>,
    holds: PhantomData<T>,
}

// SAFETY: nobody else has the block, so that it goes where its value may go.
#[allow(unsafe_code, reason = "see the module")]
unsafe impl<T: Send> Send for Wiped<T> {}
// SAFETY: a shared `Wiped` gives out shared references to its value and nothing else.
#[allow(unsafe_code, reason = "see the module")]
unsafe impl<T: Sync> Sync for Wiped<T> {}

#[allow(unsafe_code, reason = "see the module")]
impl<T> Wiped<T> {
    /// Room for a value wherever in it the next aligned place is.
    const BLOCK: Layout = {
        let align = if align_of::<T>() < PLAIN_ALIGN { align_of::<T>() } else { PLAIN_ALIGN };
        // Not too large: an allocation of `T` itself, with its own alignment, would be refused for the same.
        match Layout::from_size_align(size_of::<T>() + (align_of::<T>() - align), align) {
            Ok(layout) if layout.size() > 0 => layout,
            _ => panic!("a value without bytes has nothing to wipe"),
        }
    };

    pub(crate) fn new(value: T) -> Self {
        // SAFETY: the layout is not empty.
        let block = unsafe { alloc(Self::BLOCK) };
        let Some(block) = NonNull::new(block) else { handle_alloc_error(Self::BLOCK) };
        let wiped = Self { block, holds: PhantomData };
        // SAFETY: the place is aligned, within the block, and has nothing in it yet.
        unsafe { wiped.place().write(value) };
        wiped
    }

    /// The first place of the block that is aligned for `T`.
    #[inline]
    fn place(&self) -> NonNull<T> {
        let up = self.block.align_offset(align_of::<T>());
        // SAFETY: the block's address is a multiple of its own alignment, so that this is at most the difference of
        // the two, which the block has besides the size of `T`.
        unsafe { self.block.add(up) }.cast()
    }
}

#[allow(unsafe_code, reason = "see the module")]
impl<T> Deref for Wiped<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the value is there from `new` to `drop`, and lent as `self` is.
        unsafe { self.place().as_ref() }
    }
}

#[allow(unsafe_code, reason = "see the module")]
impl<T> DerefMut for Wiped<T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the value is there from `new` to `drop`, and lent as `self` is.
        unsafe { self.place().as_mut() }
    }
}

impl<T: Clone> Clone for Wiped<T> {
    fn clone(&self) -> Self {
        Self::new(T::clone(self))
    }
}

#[allow(unsafe_code, reason = "see the module")]
impl<T> Drop for Wiped<T> {
    fn drop(&mut self) {
        let value = self.place().as_ptr();
        // SAFETY: the value is dropped once, here, and nobody has a reference to it any more; after that its bytes
        // belong to a block that is freed without a look at them, so that they may hold anything.
        unsafe {
            value.drop_in_place();
            value.write_bytes(0, 1);
        }
        // Nobody may say that these zeros are of no use, for they are freed.
        core::hint::black_box(value);
        // SAFETY: `new` has allocated the block with this layout.
        unsafe { dealloc(self.block.as_ptr(), Self::BLOCK) };
    }
}

/// How much stack a call that handles secrets may use and have wiped, in bytes: a step of the handshake needs less, also in
/// a build that is not optimised.
const STACK: usize = 32 << 10;

/// Calls `work` and wipes the stack that it has used: the copies that a compiler makes of values on their way. What
/// `work` answers stays, so it had better hold its secrets behind a pointer, as [`Wiped`] does.
pub(crate) fn off_the_stack<T>(work: impl FnOnce() -> T) -> T {
    let answer = apart(work);
    wipe_below();
    answer
}

/// In a frame of its own, below the caller's.
#[inline(never)]
fn apart<T>(work: impl FnOnce() -> T) -> T {
    work()
}

/// Where [`apart`] has been, there are zeros now.
#[inline(never)]
fn wipe_below() {
    let mut space = [0u8; STACK];
    // Nobody may say that these zeros are of no use.
    core::hint::black_box(&mut space);
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::rc::Rc;
    use alloc::vec::Vec;

    #[test]
    fn a_value_lies_where_its_type_must_and_is_dropped_once() {
        #[repr(align(64))]
        struct Aligned([u8; 70], #[allow(dead_code, reason = "it is there to be dropped")] Rc<()>);
        let witness = Rc::new(());
        let mut all: Vec<_> =
            (0..20).map(|at| Wiped::new(Aligned([at; 70], Rc::clone(&witness)))).collect();
        for (at, aligned) in (0u8..).zip(&mut all) {
            let place: *const Aligned = &raw const **aligned;
            assert_eq!(place.addr() % 64, 0);
            assert_eq!(aligned.0, [at; 70]);
            aligned.0[69] = 0;
        }
        assert_eq!(Rc::strong_count(&witness), 21);
        drop(all);
        assert_eq!(Rc::strong_count(&witness), 1);
    }
}
