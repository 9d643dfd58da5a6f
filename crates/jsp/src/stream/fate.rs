//! What becomes of a message, as a future.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use jsp_proto::MessageFate;

use super::Shared;
use crate::shard::FateSlot;

/// The fate of one message: resolves once the transport knows it. Dropping it changes nothing for
/// the message.
///
/// A message that the peer's transport has is `Acknowledged`, whether or not the peer's application
/// has read it. When the connection ends first, the fate is `Abandoned`.
pub struct Fate {
    shared: Arc<Shared>,
    number: u64,
}

impl Fate {
    pub(super) fn new(shared: Arc<Shared>, number: u64) -> Self {
        Self { shared, number }
    }

    /// The message's number in its stream.
    pub fn number(&self) -> u64 {
        self.number
    }
}

impl Future for Fate {
    type Output = MessageFate;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<MessageFate> {
        let inner = &self.shared.inner;
        let mut core = inner.shard.lock();
        let key = (self.shared.id, self.number);
        let slot = core.state(inner.key).and_then(|state| state.fates.get_mut(&key));
        match slot {
            Some(FateSlot::Known(fate)) => Poll::Ready(*fate),
            Some(slot) => {
                *slot = FateSlot::Waiting(Some(cx.waker().clone()));
                Poll::Pending
            }
            None => Poll::Ready(MessageFate::Abandoned),
        }
    }
}

impl Drop for Fate {
    fn drop(&mut self) {
        let key = (self.shared.id, self.number);
        self.shared.inner.with_state(|state| {
            state.fates.remove(&key);
        });
    }
}

impl fmt::Debug for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fate(stream {}, message {})", self.shared.id, self.number)
    }
}
