//! Secrets that leave nothing behind: values whose memory is wiped, and calls whose stack is.
//!
//! Why `unsafe`: the keys of `ring` are plain bytes that the library does not wipe and does not give out, so that
//! nothing but their memory can be wiped.

use alloc::boxed::Box;
use core::mem::ManuallyDrop;
use core::ops::{Deref, DerefMut};

/// A value at one place, from its first day to its last: it is not copied as its owner moves, and its bytes are
/// wiped after it is dropped.
pub(crate) struct Wiped<T>(Box<ManuallyDrop<T>>);

impl<T> Wiped<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Box::new(ManuallyDrop::new(value)))
    }
}

impl<T> Deref for Wiped<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Wiped<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
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
        let value: *mut T = &raw mut **self.0;
        // SAFETY: the value is dropped once, here, and nobody has a reference to it any more; after that its bytes
        // belong to a box that frees them without looking, so that they may hold anything.
        unsafe {
            value.drop_in_place();
            value.write_bytes(0, 1);
        }
        // Nobody may say that these zeros are of no use, for they are freed.
        core::hint::black_box(value);
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
