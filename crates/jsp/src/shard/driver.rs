//! The task that receives, keeps time, and sends what callers leave to it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use jsp_wire::Instant;
use tokio::time::Sleep;

use super::Shard;
use crate::carrier::table::News;
use crate::link::Datagram;

/// Rounds of receiving and sending before other tasks of the runtime get their turn.
const ROUNDS: usize = 16;

/// Datagrams taken from the link before they are handled.
const INBOX: usize = 256;

/// Batches sent between two looks at what has arrived: acknowledgements must not wait for long.
const BATCHES: usize = 4;

/// The driver of one shard; ends when nobody needs the shard any more.
pub(crate) struct Driver {
    shard: Arc<Shard>,
    inbox: Vec<Datagram>,
    news: Vec<News>,
    sleep: Pin<Box<Sleep>>,
}

/// What is to be done after a round.
enum Next {
    /// Another round: there is more to receive or to send.
    Round,
    /// Nothing before this time, or before something arrives.
    Sleep(Option<Instant>),
    /// Nobody needs the shard any more.
    End,
}

impl Driver {
    pub(crate) fn new(shard: Arc<Shard>) -> Self {
        let sleep = Box::pin(tokio::time::sleep(Duration::ZERO));
        Self { shard, inbox: Vec::new(), news: Vec::new(), sleep }
    }

    /// Moves what has arrived into the inbox. Answers whether there may be more; if not, the task
    /// is woken when there is.
    fn receive(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        while self.inbox.len() < INBOX && self.news.len() < INBOX {
            match self.shard.link.poll_recv(cx, &mut self.inbox, &mut self.news) {
                Poll::Ready(result) => result?,
                Poll::Pending => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Receives, handles and sends. Tasks are woken where the lock is released: before the first
    /// send call, or at the end.
    fn round(&mut self, cx: &mut Context<'_>) -> io::Result<Next> {
        let more_to_receive = self.receive(cx)?;
        let now = self.shard.clock.now();
        let mut core = self.shard.lock();
        core.driver.running = true;
        core.driver.wanted = false;
        core.now = now;
        if !core.driver.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            core.driver.waker = Some(cx.waker().clone());
        }
        for datagram in self.inbox.drain(..) {
            core.endpoint.handle_datagram(now, datagram);
        }
        for news in self.news.drain(..) {
            core.hear(now, news);
        }
        if core.endpoint.poll_timeout().is_some_and(|(at, _)| at <= now) {
            core.endpoint.handle_timeout(now);
        }
        core.dispatch_events(now);
        let mut more_to_send = true;
        for _ in 0..BATCHES {
            let Some(mut outbox) = core.outbox.take() else { break };
            core.endpoint.poll_transmit(now, &mut outbox.batch);
            if outbox.is_empty() {
                core.outbox = Some(outbox);
                more_to_send = false;
                break;
            }
            core.last_flush = now;
            drop(core);
            let sent = outbox.send(&self.shard.link);
            core = self.shard.lock();
            core.outbox = Some(outbox);
            if let Err(error) = sent {
                if error.kind() != io::ErrorKind::WouldBlock {
                    return Err(error);
                }
                more_to_send = self.shard.link.poll_writable(cx)?.is_ready();
                break;
            }
        }
        core.dispatch_events(now);
        core.wake_unready();
        core.part_with_sockets();
        let linger = core.check_lingering(now);
        if core.is_finished() {
            return Ok(Next::End);
        }
        if more_to_receive || more_to_send || core.driver.wanted {
            return Ok(Next::Round);
        }
        let due = core.endpoint.poll_timeout().map(|(at, _)| at);
        let until = [due, linger].into_iter().flatten().min();
        core.driver.armed = until.unwrap_or(Instant::FAR_FUTURE);
        core.driver.running = false;
        Ok(Next::Sleep(until))
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

    fn run(&mut self, cx: &mut Context<'_>) -> io::Result<Poll<()>> {
        for _ in 0..ROUNDS {
            match self.round(cx)? {
                Next::Round => {}
                Next::Sleep(until) if self.sleep(cx, until) => {}
                Next::Sleep(_) => return Ok(Poll::Pending),
                Next::End => return Ok(Poll::Ready(())),
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
