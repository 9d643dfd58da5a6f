//! What filling a batch comes to.

/// What a connection put into a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Filled {
    /// Nothing: there is nothing to send now.
    Nothing,
    /// As much as fits; there may be more.
    Some,
    /// All that it has to send now.
    All,
}

/// What an attempt to add a datagram came to.
pub(super) enum Next {
    Added,
    /// The batch has no room for it, or is for another route.
    NotHere,
    /// There is nothing to send now.
    Nothing,
}

impl Next {
    pub(super) fn added(done: bool) -> Self {
        if done { Self::Added } else { Self::NotHere }
    }
}

/// What one packet came to.
pub(super) struct Sealed {
    pub(super) len: usize,
    pub(super) pn: u64,
    pub(super) ack_eliciting: bool,
}
