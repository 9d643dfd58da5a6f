//! One endpoint's machine, its link, and everybody who waits for them.
//!
//! The machine stands behind one lock with short critical sections that never span an `await`. A
//! call that queues something sends it in the caller's own context when nothing else is going on
//! (no task switch before the datagram leaves), and leaves it to the driver when the driver is
//! about to run anyway or the last datagram has only just left (then batching pays).

mod driver;
mod events;
mod hash;
mod incoming;
mod outbox;
mod siblings;
mod state;
#[cfg(test)]
mod tests;
mod waiters;

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use jsp_proto::{Connection, ConnectionHandle, Endpoint};
use jsp_wire::{Instant, StreamId};

use crate::carrier::table::Tunnels;
use crate::clock::Clock;
use crate::error::ConnectionError;
use crate::link::Links;
use crate::monitor::Followed;
pub(crate) use driver::Driver;
use hash::IntegerHash;
#[cfg(test)]
use incoming::ENDED_MAX;
use outbox::Outbox;
pub(crate) use siblings::Siblings;
use state::Sockets;
pub(crate) use state::{
    ConnectionState, FateSlot, LastWords, Phase, Place, Rest, SendEnd, StreamState,
};
pub(crate) use waiters::{Waiters, WakeList};

/// A caller sends in its own context when nothing was sent for this long; calls in closer
/// succession are batched by the driver. About the cost of one send call.
const INLINE_GAP: Duration = Duration::from_micros(10);

/// Batches that a caller sends in its own context at most before the driver takes over.
const INLINE_BATCHES: usize = 2;

/// How long a connection that nobody holds any more may take to deliver what was finished.
const LINGER: Duration = Duration::from_secs(10);

/// The facade's own name for a connection; never used again, unlike the transport's.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Key(u64);

pub(crate) struct Shard {
    core: Mutex<Core>,
    pub(crate) link: Links,
    pub(crate) clock: Clock,
    siblings: Siblings,
}

pub(crate) struct Core {
    pub(crate) endpoint: Endpoint,
    pub(crate) tunnels: Arc<Tunnels>,
    /// Carriers tell this shard first, which then keeps their table.
    hears_carriers: bool,
    /// Out while the driver sends without holding the lock.
    outbox: Option<Outbox>,
    driver: DriverState,
    /// The latest time that anybody looked at the clock.
    now: Instant,
    /// When what there was to send went out last, or was found to have to wait.
    last_flush: Instant,
    /// Each apart: a table has room for more than it holds.
    connections: HashMap<Key, Box<ConnectionState>, IntegerHash>,
    by_handle: HashMap<ConnectionHandle, Key, IntegerHash>,
    /// Connections of ours by the carriers that were opened for them.
    pub(crate) by_carrier: HashMap<u64, Key, IntegerHash>,
    last_key: u64,
    /// Established by peers, not yet accepted.
    pub(crate) incoming: VecDeque<Key>,
    /// Those among them that are over already.
    ended: VecDeque<Key>,
    pub(crate) accepting: Waiters,
    /// Tasks that wait for the last connection's state to be gone.
    pub(crate) draining: Waiters,
    /// No more connections are accepted or made.
    pub(crate) closed: bool,
    /// Handles of the endpoint that the application holds.
    pub(crate) endpoint_handles: usize,
    /// When to close connections that nobody holds.
    lingering: Vec<(Instant, Key)>,
    /// Sockets of connections that are over, until their last words are said.
    parting: Vec<(ConnectionHandle, Sockets)>,
    /// Connections where somebody waits until a path can begin.
    unready: HashSet<Key, IntegerHash>,
    /// Connections that the system's addresses are watched for; `None` where they are not.
    pub(crate) followed: Option<Followed>,
    pub(crate) wakes: WakeList,
}

struct DriverState {
    waker: Option<Waker>,
    /// It runs now and looks at `wanted` before it sleeps.
    running: bool,
    /// There is something to do for it.
    wanted: bool,
    /// When it wakes up by itself.
    armed: Instant,
    /// It has ended; nothing moves any more.
    gone: bool,
}

/// The locked core. Tasks are woken after the lock is released.
pub(crate) struct Locked<'a> {
    // Fields are dropped in this order: first the lock is released.
    core: MutexGuard<'a, Core>,
    woken_after: WakeList,
}

impl Deref for Locked<'_> {
    type Target = Core;

    fn deref(&self) -> &Core {
        &self.core
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut Core {
        &mut self.core
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        if !self.core.wakes.is_empty() {
            self.woken_after = std::mem::take(&mut self.core.wakes);
        }
    }
}

impl Shard {
    pub(crate) fn new(
        endpoint: Endpoint,
        link: Links,
        clock: Clock,
        siblings: Siblings,
    ) -> Arc<Self> {
        let core = Core {
            endpoint,
            tunnels: Arc::clone(&link.tunnels),
            hears_carriers: siblings.hears_carriers(),
            outbox: Some(Outbox::new(&link)),
            driver: DriverState {
                waker: None,
                running: false,
                wanted: true,
                armed: Instant::FAR_FUTURE,
                gone: false,
            },
            now: Instant::ZERO,
            last_flush: Instant::ZERO,
            connections: HashMap::default(),
            by_handle: HashMap::default(),
            by_carrier: HashMap::default(),
            last_key: 0,
            incoming: VecDeque::new(),
            ended: VecDeque::new(),
            accepting: Waiters::default(),
            draining: Waiters::default(),
            closed: false,
            endpoint_handles: 0,
            lingering: Vec::new(),
            parting: Vec::new(),
            unready: HashSet::default(),
            followed: None,
            wakes: WakeList::default(),
        };
        Arc::new(Self { core: Mutex::new(core), link, clock, siblings })
    }

    pub(crate) fn lock(&self) -> Locked<'_> {
        let core = self.core.lock().unwrap_or_else(PoisonError::into_inner);
        Locked { core, woken_after: WakeList::default() }
    }

    /// What a caller has just queued goes out: now when all is quiet, else with the driver.
    pub(crate) fn flush(&self, core: &mut Core, now: Instant) {
        let quiet = now.since(core.last_flush) >= INLINE_GAP;
        if quiet && !core.driver.running && !core.driver.wanted {
            // Also when the window or the pacer lets nothing go: asking again at once is of no use.
            core.last_flush = now;
            core.send_inline(&self.link, now);
        } else {
            core.want_driver();
        }
    }

    /// The application has read, and by that something became due, or did not: most reads bring nothing that the
    /// peer should hear of, and then the driver is left alone.
    pub(crate) fn flush_read(&self, core: &mut Core, is_due: bool) {
        if is_due {
            let now = core.time(&self.clock);
            self.flush(core, now);
        }
    }
}

impl Core {
    /// The time for one call among many. While the driver is about to run anyway, all calls until then share
    /// one look at the clock, which would cost each of them as much as a small message does.
    pub(crate) fn time(&mut self, clock: &Clock) -> Instant {
        if !self.driver.wanted {
            self.now = clock.now().max(self.now);
        }
        self.now
    }

    /// The time for a call that takes what has come: when anybody looked last, which is when it came or later. Only
    /// windows that grow with their readers ask for it, and within a quarter of a window credit becomes due, which
    /// looks anew.
    pub(crate) fn time_of_reader(&self) -> Instant {
        self.now
    }

    /// The driver runs soon.
    pub(crate) fn want_driver(&mut self) {
        if self.driver.wanted {
            return;
        }
        self.driver.wanted = true;
        if !self.driver.running
            && let Some(waker) = &self.driver.waker
        {
            self.wakes.push(waker.clone());
        }
    }

    fn send_inline(&mut self, link: &Links, now: Instant) {
        let Some(mut outbox) = self.outbox.take() else { return self.want_driver() };
        let mut all_sent = false;
        if outbox.is_empty() {
            for _ in 0..INLINE_BATCHES {
                self.endpoint.poll_transmit(now, &mut outbox.batch);
                if outbox.is_empty() {
                    all_sent = true;
                    break;
                }
                self.last_flush = now;
                if outbox.send(link).is_err() {
                    break;
                }
            }
        }
        self.outbox = Some(outbox);
        self.dispatch_events(now);
        let due = self.endpoint.poll_timeout().map(|(at, _)| at);
        if !all_sent || due.is_some_and(|at| at < self.driver.armed) {
            self.want_driver();
        }
    }

    /// A connection that the facade knows under `key` from now on.
    pub(crate) fn insert(&mut self, handle: ConnectionHandle, state: ConnectionState) -> Key {
        self.last_key += 1;
        let key = Key(self.last_key);
        self.connections.insert(key, Box::new(state));
        self.by_handle.insert(handle, key);
        key
    }

    /// The facade's state of a connection; there as long as somebody holds the connection.
    pub(crate) fn state(&mut self, key: Key) -> Option<&mut ConnectionState> {
        self.connections.get_mut(&key).map(Box::as_mut)
    }

    /// The facade's state together with the list of tasks to wake.
    pub(crate) fn state_and_wakes(
        &mut self,
        key: Key,
    ) -> Option<(&mut ConnectionState, &mut WakeList)> {
        Some((self.connections.get_mut(&key)?, &mut self.wakes))
    }

    /// A connection that is alive: the transport's part and the facade's.
    ///
    /// # Errors
    /// Why it is not.
    pub(crate) fn live(
        &mut self,
        key: Key,
    ) -> Result<(&mut Connection, &mut ConnectionState), ConnectionError> {
        let state = self.connections.get_mut(&key).ok_or(ConnectionError::EndpointClosed)?.as_mut();
        if let Some(error) = state.error() {
            return Err(error.clone());
        }
        let connection = state.handle.and_then(|handle| self.endpoint.connection(handle));
        connection.map(|c| (c, state)).ok_or(ConnectionError::EndpointClosed)
    }

    /// Accepts no more connections and makes none.
    pub(crate) fn stop_accepting(&mut self) {
        self.closed = true;
        self.endpoint.stop_accepting();
        self.tunnels.stop_listening();
        self.accepting.wake(&mut self.wakes);
        self.want_driver();
    }

    /// True when every connection that is still held is over.
    pub(crate) fn all_over(&self) -> bool {
        self.connections.values().all(|state| state.error().is_some())
    }

    /// Every connection's key.
    pub(crate) fn keys(&self) -> Vec<Key> {
        self.connections.keys().copied().collect()
    }

    /// True once nothing moves any more.
    pub(crate) fn is_gone(&self) -> bool {
        self.driver.gone
    }

    /// Closes a connection at once, with what is under way lost.
    pub(crate) fn close(&mut self, key: Key, now: Instant, code: u64, reason: &[u8]) {
        self.salvage(key, now);
        let Ok((connection, _)) = self.live(key) else { return };
        connection.close(now, code, reason);
        self.end_connection(key, ConnectionError::ClosedLocally { code }, now);
        self.want_driver();
    }

    /// The connection is over: everybody learns it, and the transport may forget it.
    fn end_connection(&mut self, key: Key, error: ConnectionError, now: Instant) {
        if let Some(followed) = &mut self.followed {
            followed.remove(key);
        }
        if let Some(state) = self.connections.get_mut(&key) {
            state.close(error, &mut self.wakes);
            // spec: CAR-5
            for id in state.used_carriers.drain(..) {
                self.tunnels.retire(id);
            }
            state.carriers.clear();
            if let Some(handle) = state.handle.take() {
                self.by_handle.remove(&handle);
                if let Some(connection) = self.endpoint.connection(handle) {
                    // How it ended is in it.
                    let qlog = connection.take_qlog();
                    if !qlog.is_empty() {
                        state.last.get_or_insert_default().qlog.push_str(&qlog);
                    }
                }
                self.endpoint.forget(now, handle);
                if !state.sockets.is_empty() {
                    self.parting.push((handle, std::mem::take(&mut state.sockets)));
                }
            }
        }
        self.bound_ended(key);
        self.forget_if_over(key);
    }

    /// Finishes all streams of a connection and closes it once everything has arrived.
    pub(crate) fn close_when_delivered(&mut self, key: Key, now: Instant, code: u64) {
        let Ok((connection, state)) = self.live(key) else { return };
        // Early data may be under way.
        if matches!(state.phase, Phase::Handshake) && state.streams.is_empty() {
            return self.close(key, now, code, b"");
        }
        let open: Vec<StreamId> = state
            .streams
            .iter()
            .filter(|(_, stream)| stream.send_held && stream.end == SendEnd::Open)
            .map(|(id, _)| *id)
            .collect();
        let finished: Vec<_> =
            open.into_iter().filter(|id| connection.finish(now, *id).is_ok()).collect();
        state.closing = Some(code);
        for id in finished {
            if let Some((state, wakes)) = self.state_and_wakes(key) {
                state.end_sending(id, SendEnd::Finishing, wakes);
            }
        }
        self.close_if_delivered(key, now);
        self.want_driver();
    }

    /// Carries out a close that waited for the last confirmation.
    pub(crate) fn close_if_delivered(&mut self, key: Key, now: Instant) {
        let Some(state) = self.connections.get(&key).filter(|s| s.is_delivered()) else { return };
        self.close(key, now, state.closing.unwrap_or(0), b"");
    }

    /// The application holds the connection no more.
    pub(crate) fn orphan(&mut self, key: Key, now: Instant) {
        let Some(state) = self.connections.get_mut(&key) else { return };
        state.orphan = true;
        if state.error().is_some() {
            self.forget_if_over(key);
            return;
        }
        let code = state.closing.unwrap_or(0);
        self.lingering.push((now + LINGER, key));
        self.close_when_delivered(key, now, code);
    }

    /// Closes what has lingered for too long; answers when to look again.
    fn check_lingering(&mut self, now: Instant) -> Option<Instant> {
        if self.lingering.is_empty() {
            return None;
        }
        let (due, later) =
            std::mem::take(&mut self.lingering).into_iter().partition(|(at, _)| *at <= now);
        self.lingering = later;
        let due: Vec<(Instant, Key)> = due;
        for (_, key) in due {
            self.close(key, now, 0, b"");
        }
        self.lingering.iter().map(|(at, _)| *at).min()
    }

    /// Whoever waits at [`Place::Paths`] of this connection tries again when something has come: what a path
    /// needs is known by then, or that there will be none.
    pub(crate) fn await_paths(&mut self, key: Key) {
        self.unready.insert(key);
    }

    fn wake_unready(&mut self) {
        for key in std::mem::take(&mut self.unready) {
            if let Some(state) = self.connections.get_mut(&key) {
                state.paths.wake(&mut self.wakes);
            }
        }
    }

    /// Closes the sockets of connections that the transport has forgotten.
    fn part_with_sockets(&mut self) {
        let endpoint = &mut self.endpoint;
        self.parting.retain(|(handle, _)| endpoint.connection(*handle).is_some());
    }

    fn forget_if_over(&mut self, key: Key) {
        let over = self.connections.get(&key).is_some_and(|s| s.orphan && s.error().is_some());
        if over {
            self.connections.remove(&key);
            self.lingering.retain(|(_, lingering)| *lingering != key);
        }
    }

    /// True when nobody needs the driver any more.
    fn is_finished(&self) -> bool {
        self.endpoint_handles == 0 && self.connections.is_empty() && self.endpoint.is_idle()
    }

    /// Nothing moves any more: the driver has ended, by itself, by an error of the link or with
    /// its runtime.
    fn end(&mut self, cause: Option<io::Error>) {
        self.driver.gone = true;
        self.closed = true;
        let error = match cause {
            Some(error) => ConnectionError::Link(error.kind(), error.to_string()),
            None => ConnectionError::EndpointClosed,
        };
        let now = self.now;
        self.keys().into_iter().for_each(|key| self.salvage(key, now));
        for state in self.connections.values_mut() {
            state.close(error.clone(), &mut self.wakes);
            state.handle = None;
            state.sockets.clear();
        }
        self.parting.clear();
        self.drop_incoming();
        self.connections.retain(|_, state| !state.orphan);
        self.by_handle.clear();
        if let Some(followed) = &self.followed {
            followed.end();
        }
        self.accepting.wake(&mut self.wakes);
        self.draining.wake(&mut self.wakes);
    }
}
