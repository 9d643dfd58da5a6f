//! Secrets that leave nothing behind: values whose memory is wiped, and calls whose stack is.
//!
//! Why `unsafe`: the keys of `ring` are plain bytes that the library does not wipe and does not give out, so that
//! nothing but their memory can be wiped. And a value is put at an aligned place of a plain block, which no box of the
//! standard library does.

use alloc::boxed::Box;
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::ops::{Deref, DerefMut};
use core::ptr::{self, NonNull};

/// A value at one place, from its first day to its last: it is not copied as its owner moves, and its bytes are
/// wiped after it is dropped.
///
/// The place is aligned as `T` is, within a block that need not be: what asks an allocator for more alignment than it gives
/// anyway comes from a part of it that is slow, and that leaves holes.
pub(crate) struct Wiped<T> {
    /// The first of [`Wiped::BYTES`], out of a leaked box.
    block: NonNull<MaybeUninit<u8>>,
    holds: PhantomData<T>,
}

// SAFETY: nobody else has the block, so that it goes where its value may go.
#[allow(unsafe_code, reason = "see the module")]
unsafe impl<T: Send> Send for Wiped<T> {}
// SAFETY: a shared `Wiped` gives out shared references to its value and nothing else.
#[allow(unsafe_code, reason = "see the module")]
unsafe impl<T: Sync> Sync for Wiped<T> {}

impl<T> Wiped<T> {
    /// Bytes in which there is room for the value, wherever the first aligned place is.
    const BYTES: usize = size_of::<T>().saturating_add(align_of::<T>().saturating_sub(1));

    #[allow(unsafe_code, reason = "see the module")]
    pub(crate) fn new(value: T) -> Self {
        let bytes: &mut [MaybeUninit<u8>] = Box::leak(Box::new_uninit_slice(Self::BYTES));
        let wiped = Self { block: NonNull::from(bytes).cast(), holds: PhantomData };
        // SAFETY: the place is aligned and has room (see `place`), and has nothing in it yet.
        unsafe { wiped.place().write(value) };
        wiped
    }

    /// The first place of the block that is aligned for `T`: less than that alignment from its start, which the block
    /// has besides the size of `T`.
    #[inline]
    fn place(&self) -> *mut T {
        self.block.as_ptr().map_addr(|block| block.next_multiple_of(align_of::<T>())).cast()
    }
}

#[allow(unsafe_code, reason = "see the module")]
impl<T> Deref for Wiped<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the value is at its place from `new` to `drop`, and lent as `self` is.
        unsafe { &*self.place() }
    }
}

#[allow(unsafe_code, reason = "see the module")]
impl<T> DerefMut for Wiped<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the value is at its place from `new` to `drop`, and lent as `self` is.
        unsafe { &mut *self.place() }
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
        let value = self.place();
        let bytes = ptr::slice_from_raw_parts_mut(self.block.as_ptr(), Self::BYTES);
        // SAFETY: the value is dropped once, here, and nobody has a reference to it any more; after that its bytes
        // may be anything, and go back into the box that they came from.
        unsafe {
            value.drop_in_place();
            value.write_bytes(0, 1);
            // Nobody may say that these zeros are of no use, for they are freed.
            core::hint::black_box(value);
            drop(Box::from_raw(bytes));
        }
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
            let (start, end) = (aligned.block.addr().get(), place.addr() + size_of::<Aligned>());
            assert!(start <= place.addr() && end <= start + Wiped::<Aligned>::BYTES);
            assert_eq!(aligned.0, [at; 70]);
            aligned.0[69] = 0;
        }
        assert_eq!(Rc::strong_count(&witness), 21);
        drop(all);
        assert_eq!(Rc::strong_count(&witness), 1);
    }
}
