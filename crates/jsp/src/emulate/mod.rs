//! Bad networks on request: loss, delay, jitter, a slow link with a short queue, from a seed.
//!
//! Wrap the link of one endpoint, and everything that it sends and receives passes the bad link:
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use jsp::emulate::BadLink;
//! use jsp::link::UdpLink;
//!
//! let udp = UdpLink::bind("127.0.0.1:0".parse()?)?;
//! let bad = BadLink { loss: 0.05, one_way_delay: Duration::from_millis(30), ..BadLink::default() };
//! let client = jsp::Endpoint::builder().link(Box::new(bad.link(udp))).build()?;
//! # drop(client); Ok(()) }
//! ```
//!
//! [`pair`] makes two ends of an in-memory network: with it and `tokio::time::pause`, a test of an
//! hour on a bad network takes no time.

mod direction;
mod memory;
mod streams;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::BytesMut;
use tokio::time::{Instant, Sleep};

use crate::link::{Datagram, Link, Transmit};
use direction::{Direction, Traffic};
pub use memory::{Attachment, MemoryLink, pair};
pub use streams::StreamNet;

/// Datagrams that one poll takes from the carrier or hands up at most.
const BUDGET: usize = 256;

/// One direction of a bad network. Start from the default, which is perfect, and make it worse.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BadLink {
    /// Share of datagrams lost independently of each other, 0 to 1.
    pub loss: f64,
    /// Loss in bursts, in addition.
    pub bursts: Option<Bursts>,
    /// Delay of every datagram.
    pub one_way_delay: Duration,
    /// A random delay in addition, up to this much; the order of datagrams is kept.
    pub jitter: Duration,
    /// Share of datagrams that overtake others by skipping the queueing order, 0 to 1.
    pub reorder: f64,
    /// Share of datagrams that arrive twice, 0 to 1.
    pub duplicate: f64,
    /// Bits per second; `None` for no limit.
    pub rate: Option<u64>,
    /// Bytes that wait for the rate before further datagrams are dropped.
    pub queue: usize,
    /// Equal seeds and equal traffic lose the same datagrams.
    pub seed: u64,
}

/// Loss in bursts, as on radio links: a good state without loss and a bad one (Gilbert-Elliott).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bursts {
    /// Chance, per datagram, to fall from the good state into the bad one.
    pub enter: f64,
    /// Chance, per datagram, to leave the bad state. 0.25 makes bursts of 4 datagrams.
    pub leave: f64,
    /// Share of datagrams lost in the bad state.
    pub loss: f64,
}

impl Default for BadLink {
    fn default() -> Self {
        Self {
            loss: 0.0,
            bursts: None,
            one_way_delay: Duration::ZERO,
            jitter: Duration::ZERO,
            reorder: 0.0,
            duplicate: 0.0,
            rate: None,
            queue: 256 << 10,
            seed: 1,
        }
    }
}

impl BadLink {
    /// A link that behaves like this in both directions. Must be called inside a tokio runtime.
    pub fn link(self, carrier: impl Link) -> EmulatedLink {
        let incoming = Self { seed: self.seed.wrapping_add(1), ..self };
        EmulatedLink::new(Box::new(carrier), self, incoming)
    }
}

/// A carrier behind a bad network.
pub struct EmulatedLink {
    carrier: Box<dyn Link>,
    state: Arc<Mutex<State>>,
}

/// Changes an [`EmulatedLink`] while it is in use.
#[derive(Clone, Debug)]
pub struct Control {
    state: Arc<Mutex<State>>,
}

/// What an emulated link has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EmulatedStats {
    /// What was sent through it.
    pub outgoing: Traffic,
    /// What was received through it.
    pub incoming: Traffic,
}

struct State {
    outgoing: Direction,
    incoming: Direction,
    sleep: Pin<Box<Sleep>>,
    driver: Option<Waker>,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("outgoing", &self.outgoing)
            .field("incoming", &self.incoming)
            .finish_non_exhaustive()
    }
}

impl EmulatedLink {
    /// Puts `carrier` behind a network that differs by direction. Must be called inside a tokio
    /// runtime.
    pub fn new(carrier: Box<dyn Link>, outgoing: BadLink, incoming: BadLink) -> Self {
        let state = State {
            outgoing: Direction::new(outgoing),
            incoming: Direction::new(incoming),
            sleep: Box::pin(tokio::time::sleep(Duration::ZERO)),
            driver: None,
        };
        Self { carrier, state: Arc::new(Mutex::new(state)) }
    }

    /// A handle that changes the network while the link is in use.
    pub fn control(&self) -> Control {
        Control { state: Arc::clone(&self.state) }
    }
}

impl Control {
    /// From now on the network behaves like this; what is under way arrives as it would have.
    pub fn set(&self, outgoing: BadLink, incoming: BadLink) {
        let mut state = lock(&self.state);
        state.outgoing.reconfigure(outgoing);
        state.incoming.reconfigure(incoming);
    }

    /// Nothing passes any more, in either direction.
    pub fn cut(&self) {
        let mut state = lock(&self.state);
        state.outgoing.cut(true);
        state.incoming.cut(true);
    }

    /// Ends [`Control::cut`].
    pub fn restore(&self) {
        let mut state = lock(&self.state);
        state.outgoing.cut(false);
        state.incoming.cut(false);
    }

    /// What the link has done so far.
    pub fn stats(&self) -> EmulatedStats {
        let state = lock(&self.state);
        EmulatedStats { outgoing: state.outgoing.traffic(), incoming: state.incoming.traffic() }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Link for EmulatedLink {
    fn poll_recv(&self, cx: &mut Context<'_>, inbox: &mut Vec<Datagram>) -> Poll<io::Result<()>> {
        let mut state = lock(&self.state);
        let state = &mut *state;
        if !state.driver.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            state.driver = Some(cx.waker().clone());
        }
        let mut scratch = Vec::new();
        loop {
            let now = Instant::now();
            let carrier_ready = self.carrier.poll_recv(cx, &mut scratch);
            if let Poll::Ready(Err(error)) = carrier_ready {
                return Poll::Ready(Err(error));
            }
            for datagram in scratch.drain(..) {
                state.incoming.push(now, datagram);
            }
            while let Some(datagram) = state.outgoing.pop(now) {
                let segment_len = datagram.payload.len();
                let contents = &datagram.payload[..];
                let Datagram { route, ecn, .. } = datagram;
                // A carrier that is full loses the datagram, as a queue of the network would.
                let _ = self.carrier.try_send(&Transmit { route, ecn, contents, segment_len });
            }
            let before = inbox.len();
            while inbox.len() < before + BUDGET
                && let Some(datagram) = state.incoming.pop(now)
            {
                inbox.push(datagram);
            }
            if inbox.len() > before {
                return Poll::Ready(Ok(()));
            }
            let next = [state.outgoing.next(), state.incoming.next()].into_iter().flatten().min();
            let due = match next {
                Some(next) => {
                    if state.sleep.deadline() != next {
                        state.sleep.as_mut().reset(next);
                    }
                    state.sleep.as_mut().poll(cx).is_ready()
                }
                None => false,
            };
            if !due && carrier_ready.is_pending() {
                return Poll::Pending;
            }
        }
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<usize> {
        let mut state = lock(&self.state);
        let now = Instant::now();
        let before = state.outgoing.next();
        for datagram in transmit.contents.chunks(transmit.segment_len.max(1)) {
            let (route, ecn) = (transmit.route, transmit.ecn);
            state.outgoing.push(now, Datagram { route, ecn, payload: BytesMut::from(datagram) });
        }
        let sooner = match (before, state.outgoing.next()) {
            (Some(before), Some(after)) => after < before,
            (None, after) => after.is_some(),
            (Some(_), None) => false,
        };
        let driver = if sooner { state.driver.clone() } else { None };
        drop(state);
        if let Some(driver) = driver {
            driver.wake();
        }
        Ok(transmit.contents.len())
    }

    fn poll_writable(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.carrier.local_addr()
    }

    fn segments_max(&self) -> usize {
        1
    }
}

impl fmt::Debug for EmulatedLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmulatedLink").field("carrier", &self.carrier).finish_non_exhaustive()
    }
}
