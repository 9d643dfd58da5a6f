//! The task that receives, keeps time, and sends what callers leave to it.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use jsp_crypto::{Backend, KeyShare, SystemRng};
use jsp_proto::Deferred;
use jsp_wire::Instant;
use tokio::time::Sleep;

use super::{Locked, Shard};
use crate::carrier::table::News;
use crate::link::Datagram;

/// Rounds of receiving and sending before other tasks of the runtime get their turn.
const ROUNDS: usize = 16;

/// Datagrams taken from the link before they are handled.
const INBOX: usize = 256;

/// Batches sent between two looks at what has arrived: acknowledgements must not wait for long.
const BATCHES: usize = 4;

/// Bytes that a batch counts for at least among [`BATCHES`]: a small datagram costs a call, too.
const BATCH_COST_MIN: usize = super::outbox::BATCH_LEN / 4;

/// Datagrams of strangers that wait; more are dropped.
const STRANGERS_MAX: usize = 256;

/// How many are dealt with at a time, before connections have their turn again, and how long: some Retries, or one
/// key exchange.
const STRANGERS_AT_ONCE: usize = 16;
const STRANGERS_TIME: Duration = Duration::from_micros(50);

/// The driver of one shard; ends when nobody needs the shard any more.
pub(crate) struct Driver {
    shard: Arc<Shard>,
    inbox: Vec<Datagram>,
    /// Datagrams of strangers, who wait for those who have a connection.
    strangers: VecDeque<Deferred>,
    /// The link keeps them apart no more.
    strangers_failed: bool,
    news: Vec<News>,
    sleep: Pin<Box<Sleep>>,
    busy: BusyPoll,
}

/// For how long the driver goes on to look at the socket, and gives way to other tasks in between, before it sleeps.
struct BusyPoll {
    span: Duration,
    until: Instant,
    /// The time of the latest round.
    now: Instant,
}

impl BusyPoll {
    fn is_on(&self) -> bool {
        self.until > self.now
    }
}

/// What is to be done after a round.
enum Next {
    /// Another round: there is more to receive or to send.
    Round,
    /// The same, after other tasks of the runtime.
    Yield,
    /// Nothing before this time, or before something arrives.
    Sleep(Option<Instant>),
    /// Nobody needs the shard any more.
    End,
}

impl Driver {
    /// For `shard`; sleeps when nothing has arrived for as long as `busy_poll`.
    pub(crate) fn new(shard: Arc<Shard>, busy_poll: Duration) -> Self {
        let sleep = Box::pin(tokio::time::sleep(Duration::ZERO));
        Self {
            shard,
            inbox: Vec::new(),
            strangers: VecDeque::new(),
            strangers_failed: false,
            news: Vec::new(),
            sleep,
            busy: BusyPoll { span: busy_poll, until: Instant::ZERO, now: Instant::ZERO },
        }
    }

    /// Moves what has arrived into the inbox. Answers whether there may be more; if not, the task
    /// is woken when there is.
    fn receive(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        let mut more = true;
        while more && self.inbox.len() < INBOX && self.news.len() < INBOX {
            match self.shard.link.poll_recv(cx, &mut self.inbox, &mut self.news) {
                Poll::Ready(result) => result?,
                Poll::Pending => more = false,
            }
        }
        if self.inbox.is_empty() && self.busy.is_on() {
            self.shard.link.try_recv(&mut self.inbox)?;
        }
        let more = self.receive_strangers(cx) || more;
        self.shard.siblings.trade(cx, &mut self.inbox, &mut self.news);
        Ok(more)
    }

    /// Takes some strangers who were kept apart, when those before are done with. Answers as above.
    fn receive_strangers(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.strangers.is_empty() {
            // Nobody was asked, so nobody wakes the task.
            return true;
        }
        if self.strangers_failed {
            return false;
        }
        let polled = self.shard.link.poll_strangers(cx, &mut self.inbox);
        // From here on they come by the link itself, which wakes for them.
        self.strangers_failed = matches!(polled, Poll::Ready(Err(_)));
        polled.is_ready()
    }

    /// Receives, handles and sends. Tasks are woken where the lock is released: before the first
    /// send call, or at the end. `is_first` of this turn of the task.
    fn round(&mut self, cx: &mut Context<'_>, is_first: bool) -> io::Result<Next> {
        let more_to_receive = self.receive(cx)?;
        let shard = Arc::clone(&self.shard);
        let now = shard.clock.now();
        self.busy.now = now;
        if !self.inbox.is_empty() {
            self.busy.until = now + self.busy.span;
        }
        let unix_time = is_first.then(|| shard.clock.unix_time(now));
        let mut core = shard.lock();
        core.driver.running = true;
        core.driver.wanted = false;
        core.now = now;
        if let Some(unix_time) = unix_time {
            core.endpoint.set_unix_time(now, unix_time);
        }
        if !core.driver.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            core.driver.waker = Some(cx.waker().clone());
        }
        self.take_inbox(&mut core, now);
        if core.endpoint.poll_timeout().is_some_and(|(at, _)| at <= now) {
            core.endpoint.handle_timeout(now);
        }
        core.dispatch_events(now);
        let wakes = !core.wakes.is_empty();
        let (mut core, mut more_to_send) = send(&shard, core, cx, now)?;
        let has_strangers = !self.strangers.is_empty();
        if has_strangers {
            self.take_strangers(&mut core, now);
            core.dispatch_events(now);
            (core, more_to_send) = send(&shard, core, cx, now)?;
        }
        core.dispatch_events(now);
        core.wake_unready();
        core.part_with_sockets();
        let linger = core.check_lingering(now);
        if core.is_finished() && shard.siblings.are_done() {
            return Ok(Next::End);
        }
        if more_to_receive || more_to_send || core.driver.wanted || !self.strangers.is_empty() {
            // A task that was woken runs on this thread, and no other takes it over: it must not wait until a
            // flood has had all its rounds.
            return Ok(if wakes && has_strangers { Next::Yield } else { Next::Round });
        }
        if core.endpoint.wants_key_share() {
            drop(core);
            self.make_key_share();
            return Ok(Next::Round);
        }
        let due = core.endpoint.poll_timeout().map(|(at, _)| at);
        let until = [due, linger].into_iter().flatten().min();
        core.driver.armed = until.unwrap_or(Instant::FAR_FUTURE);
        core.driver.running = false;
        Ok(Next::Sleep(until))
    }

    /// Hands on what has arrived for connections; strangers are put aside.
    fn take_inbox(&mut self, core: &mut Locked<'_>, now: Instant) {
        for datagram in self.inbox.drain(..) {
            if let Some(deferred) = core.endpoint.handle_or_defer(now, datagram)
                && self.strangers.len() < STRANGERS_MAX
            {
                self.strangers.push_back(deferred);
            }
        }
        for news in self.news.drain(..) {
            core.hear(now, news);
        }
    }

    /// Deals with some of the strangers.
    fn take_strangers(&mut self, core: &mut Locked<'_>, now: Instant) {
        let until = self.shard.clock.now() + STRANGERS_TIME;
        for _ in 0..STRANGERS_AT_ONCE {
            let Some(datagram) = self.strangers.pop_front() else { return };
            core.endpoint.handle_deferred(now, datagram);
            if self.shard.clock.now() >= until {
                return;
            }
        }
    }

    /// There is nothing else to do: the next hello will find its keys made.
    fn make_key_share(&self) {
        // Without them it makes its own, and says so if that fails.
        let share = KeyShare::generate(Backend::preferred(), &mut SystemRng).ok();
        let now = self.shard.clock.now();
        self.shard.lock().endpoint.put_key_share(now, share);
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
        for count in 0..ROUNDS {
            match self.round(cx, count == 0)? {
                Next::Round => {}
                Next::Yield => break,
                Next::Sleep(until) if self.sleep(cx, until) => {}
                Next::Sleep(_) if self.busy.is_on() => break,
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
        self.shard.siblings.leave();
    }
}

/// Sends some of what there is. Answers whether there is more that can be sent at once.
fn send<'a>(
    shard: &'a Shard,
    mut core: Locked<'a>,
    cx: &mut Context<'_>,
    now: Instant,
) -> io::Result<(Locked<'a>, bool)> {
    let mut room = BATCHES * super::outbox::BATCH_LEN;
    while room > 0 {
        let Some(mut outbox) = core.outbox.take() else { break };
        core.endpoint.poll_transmit(now, &mut outbox.batch);
        if outbox.is_empty() {
            core.outbox = Some(outbox);
            return Ok((core, false));
        }
        core.last_flush = now;
        drop(core);
        room = room.saturating_sub(outbox.batch.contents().len().max(BATCH_COST_MIN));
        let sent = outbox.send(&shard.link);
        core = shard.lock();
        core.outbox = Some(outbox);
        if let Err(error) = sent {
            if error.kind() != io::ErrorKind::WouldBlock {
                return Err(error);
            }
            let is_writable = shard.link.poll_writable(cx)?.is_ready();
            return Ok((core, is_writable));
        }
    }
    Ok((core, true))
}
