//! The task that receives, keeps time, and sends what callers leave to it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use jsp_wire::Instant;
use tokio::time::Sleep;

use super::Shard;
use crate::link::Datagram;

/// Rounds of receiving and sending before other tasks of the runtime get their turn.
const ROUNDS: usize = 16;

/// Batches sent between two looks at what has arrived: acknowledgements must not wait for long.
const BATCHES: usize = 4;

/// The driver of one shard; ends when nobody needs the shard any more.
pub(crate) struct Driver {
    shard: Arc<Shard>,
    inbox: Vec<Datagram>,
    sleep: Pin<Box<Sleep>>,
}

/// What a round of sending left.
#[derive(PartialEq, Eq)]
enum Left {
    Nothing,
    More,
}

impl Driver {
    pub(crate) fn new(shard: Arc<Shard>) -> Self {
        Self { shard, inbox: Vec::new(), sleep: Box::pin(tokio::time::sleep(Duration::ZERO)) }
    }

    /// Takes what has arrived and what time has brought. Answers whether something arrived.
    fn receive(&mut self, cx: &mut Context<'_>) -> std::io::Result<bool> {
        let received = match self.shard.link.poll_recv(cx, &mut self.inbox) {
            Poll::Ready(result) => result.map(|()| true)?,
            Poll::Pending => false,
        };
        let now = self.shard.clock.now();
        let mut core = self.shard.lock();
        core.driver.running = true;
        core.driver.wanted = false;
        if !core.driver.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            core.driver.waker = Some(cx.waker().clone());
        }
        for datagram in self.inbox.drain(..) {
            core.endpoint.handle_datagram(now, datagram);
        }
        if core.endpoint.poll_timeout().is_some_and(|(at, _)| at <= now) {
            core.endpoint.handle_timeout(now);
        }
        core.dispatch_events(now);
        Ok(received)
    }

    /// Sends what there is, the lock released during each send call.
    fn send(&mut self, cx: &mut Context<'_>) -> std::io::Result<Left> {
        let now = self.shard.clock.now();
        let mut core = self.shard.lock();
        for _ in 0..BATCHES {
            let Some(mut outbox) = core.outbox.take() else { return Ok(Left::Nothing) };
            core.endpoint.poll_transmit(now, &mut outbox.batch);
            if outbox.is_empty() {
                core.outbox = Some(outbox);
                core.dispatch_events(now);
                return Ok(Left::Nothing);
            }
            core.last_sent = now;
            drop(core);
            let sent = outbox.send(&*self.shard.link);
            core = self.shard.lock();
            core.outbox = Some(outbox);
            match sent {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    core.dispatch_events(now);
                    let writable = self.shard.link.poll_writable(cx)?.is_ready();
                    return Ok(if writable { Left::More } else { Left::Nothing });
                }
                Err(error) => return Err(error),
            }
        }
        core.dispatch_events(now);
        Ok(Left::More)
    }

    /// Sets the alarm. Answers whether it has gone off already.
    fn sleep(&mut self, cx: &mut Context<'_>, until: Option<Instant>) -> bool {
        let Some(until) = until else { return false };
        let wanted = self.shard.clock.to_runtime(until);
        // An earlier alarm stays: it goes off, and the time is looked at again. So the alarm moves
        // seldom, although the deadline moves with each datagram.
        if self.sleep.is_elapsed() || self.sleep.deadline() > wanted {
            self.sleep.as_mut().reset(wanted);
        }
        self.sleep.as_mut().poll(cx).is_ready()
    }

    fn run(&mut self, cx: &mut Context<'_>) -> std::io::Result<Poll<()>> {
        for _ in 0..ROUNDS {
            let received = self.receive(cx)?;
            let left = self.send(cx)?;
            let now = self.shard.clock.now();
            let until = {
                let mut core = self.shard.lock();
                let linger = core.check_lingering(now);
                if core.is_finished() {
                    return Ok(Poll::Ready(()));
                }
                if received || left == Left::More || core.driver.wanted {
                    continue;
                }
                let due = core.endpoint.poll_timeout().map(|(at, _)| at);
                let until = [due, linger].into_iter().flatten().min();
                core.driver.armed = until.unwrap_or(Instant::FAR_FUTURE);
                core.driver.running = false;
                until
            };
            if !self.sleep(cx, until) {
                return Ok(Poll::Pending);
            }
        }
        self.shard.lock().driver.running = false;
        cx.waker().wake_by_ref();
        Ok(Poll::Pending)
    }
}

impl Future for Driver {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        match this.run(cx) {
            Ok(poll) => poll,
            Err(error) => {
                this.shard.lock().end(Some(error));
                Poll::Ready(())
            }
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.shard.lock().end(None);
    }
}
