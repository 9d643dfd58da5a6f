//! One socket among several: when it takes nothing, what is for it waits beside it and holds up no other.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;

use super::{Ecn, Link, Route, Transmit};

/// Bytes that wait for a socket at most, beside the batch that comes last: about four batches. What comes
/// beyond is lost, as it would be on the way, so that the paths by this socket slow down.
const WAITING_MAX: usize = 256 << 10;

/// A link, and what it has not taken yet.
#[derive(Debug)]
pub(super) struct Outlet {
    pub(super) link: Box<dyn Link>,
    waiting: Mutex<Waiting>,
    /// Something waits.
    is_behind: AtomicBool,
}

#[derive(Debug, Default)]
struct Waiting {
    batches: VecDeque<Batch>,
    bytes: usize,
}

/// Datagrams for one route.
#[derive(Debug)]
struct Batch {
    route: Route,
    ecn: Option<Ecn>,
    segment_len: usize,
    contents: Bytes,
}

impl Outlet {
    pub(super) fn new(link: Box<dyn Link>) -> Self {
        Self { link, waiting: Mutex::default(), is_behind: AtomicBool::new(false) }
    }

    pub(super) fn is_behind(&self) -> bool {
        self.is_behind.load(Ordering::Acquire)
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends, behind what waits already; what the link does not take waits too. Answers how many bytes are
    /// taken so: never none, and never [`io::ErrorKind::WouldBlock`]. Calls `begins` when these are the first
    /// that wait: somebody has to [flush](Self::flush) then.
    pub(super) fn send(&self, transmit: &Transmit<'_>, begins: impl FnOnce()) -> io::Result<usize> {
        let mut waiting = self.lock();
        let is_first = waiting.batches.is_empty();
        if is_first {
            match self.link.try_send(transmit) {
                Ok(0) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                sent => return sent,
            }
        }
        if waiting.bytes < WAITING_MAX {
            let contents = Bytes::copy_from_slice(transmit.contents);
            let Transmit { route, ecn, segment_len, .. } = *transmit;
            waiting.bytes += contents.len();
            waiting.batches.push_back(Batch { route, ecn, segment_len, contents });
            self.is_behind.store(true, Ordering::Release);
        }
        drop(waiting);
        if is_first {
            begins();
        }
        Ok(transmit.contents.len())
    }

    /// Sends what waits, as far as the link takes it; if not all, the task of `cx` is woken when it takes more.
    ///
    /// # Errors
    /// Those of the link; nothing waits any more then.
    pub(super) fn flush(&self, cx: &mut Context<'_>) -> io::Result<()> {
        if !self.is_behind() {
            return Ok(());
        }
        let mut waiting = self.lock();
        let flushed = self.flush_all(cx, &mut waiting);
        if flushed.is_err() {
            *waiting = Waiting::default();
        }
        self.is_behind.store(!waiting.batches.is_empty(), Ordering::Release);
        flushed
    }

    fn flush_all(&self, cx: &mut Context<'_>, waiting: &mut Waiting) -> io::Result<()> {
        let mut refused = false;
        while let Some(batch) = waiting.batches.front_mut() {
            match self.link.poll_writable(cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Err(error)) => return Err(error),
                // Says that it takes something, and does not: others get their turn before it is asked again.
                Poll::Ready(Ok(())) if refused => {
                    cx.waker().wake_by_ref();
                    return Ok(());
                }
                Poll::Ready(Ok(())) => {}
            }
            let Batch { route, ecn, segment_len, ref contents } = *batch;
            let sent = match self.link.try_send(&Transmit { route, ecn, contents, segment_len }) {
                Ok(sent) => sent.min(contents.len()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                Err(error) => return Err(error),
            };
            refused = sent == 0;
            let _ = batch.contents.split_to(sent);
            if batch.contents.is_empty() {
                waiting.batches.pop_front();
            }
            waiting.bytes = waiting.bytes.saturating_sub(sent);
        }
        Ok(())
    }
}
