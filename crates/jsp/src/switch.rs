//! A connection of ours that may use streams: to a stream when datagrams fall silent or the stream before has ended,
//! and back when datagrams pass again.

use std::future::{Future, poll_fn};
use std::io::ErrorKind;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use jsp_nat::switch::{Step, Switch, View, Which};
use jsp_wire::Route;
use tokio::time::Instant;

use crate::carrier::dial::Opened;
use crate::carrier::table::Held;
use crate::connect::{self, Way};
use crate::connection::Connection;
use crate::endpoint::{Endpoint, Offers};
use crate::error::ConnectError;
use crate::race::STAGGER;
use crate::shard::{Key, Phase, Shard};
use crate::task::task;

/// What a connection may change between.
#[derive(Clone)]
pub(crate) struct Choice {
    /// That of datagrams, where they may be used.
    pub(crate) datagram: Option<Way>,
    pub(crate) streams: Vec<Way>,
}

/// Watches over a connection as long as it lives, without holding it.
pub(crate) fn watch(endpoint: &Endpoint, connection: &Connection, choice: Choice) {
    let shard = Arc::clone(&endpoint.shard);
    let key = connection.inner.key;
    let now = shard.clock.now();
    {
        let mut core = shard.lock();
        if let Ok((connection, _)) = core.live(key) {
            connection.watch_silence(now);
        }
        core.want_driver();
    }
    let machine = match &choice.datagram {
        Some(_) => Switch::new(choice.streams.len()),
        None => Switch::without_datagrams(choice.streams.len()),
    };
    let offers = Arc::clone(&endpoint.offers);
    let mut watch = Watch { shard, key, offers, choice, machine, place: None };
    // Ends with the connection.
    tokio::spawn(task(async move { while watch.step().await.is_ok() {} }));
}

struct Watch {
    shard: Arc<Shard>,
    key: Key,
    offers: Arc<Offers>,
    choice: Choice,
    machine: Switch,
    /// Its place among those that wait.
    place: Option<u64>,
}

/// The connection is over.
struct Over;

impl Watch {
    async fn step(&mut self) -> Result<(), Over> {
        match self.next().await? {
            Step::Open(Which::Datagrams) => self.open_datagrams().await,
            Step::Open(Which::Stream(tried)) => self.open_stream(tried).await,
            Step::Ask(route) => self.ask(route),
            Step::Close => {
                self.let_go();
                Ok(())
            }
        }
    }

    async fn open_datagrams(&mut self) -> Result<(), Over> {
        let route = match &self.choice.datagram {
            None => None,
            Some(Way::Udp(addr)) => Some(self.machine.datagrams_to(Route::udp(*addr))),
            Some(way) => match connect::open(&self.offers, way).await {
                Ok(opened) => self.keep(opened.held)?,
                Err(error) => {
                    if is_unsupported(&error) {
                        self.machine.on_unsupported();
                    }
                    None
                }
            },
        };
        self.machine.on_opened(route);
        Ok(())
    }

    /// Opens one of the streams, after `tried` in which the server did not answer; the last of these stands first.
    async fn open_stream(&mut self, tried: usize) -> Result<(), Over> {
        let streams = &mut self.choice.streams;
        if tried > 0 && !streams.is_empty() {
            streams.rotate_left(1);
        }
        let left = streams.len().saturating_sub(tried);
        let ways = streams.get(..left).unwrap_or_default();
        let route = match first_to_open(&self.offers, ways).await {
            None => None,
            Some((place, opened)) => {
                // It is tried first from here on.
                if let Some(head) = streams.get_mut(..=place) {
                    head.rotate_right(1);
                }
                self.keep(opened.held)?
            }
        };
        self.machine.on_opened(route);
        Ok(())
    }

    /// The connection holds the carrier from here on; `None` when it has ended already, which nobody would be told
    /// any more.
    fn keep(&self, held: Held) -> Result<Option<Route>, Over> {
        let route = held.route;
        let mut core = self.shard.lock();
        core.live(self.key).map_err(|_| Over)?;
        if self.shard.link.tunnels.describe(&route).is_none() {
            return Ok(None);
        }
        if let Route::Tunnel { id } = route {
            let room = self.shard.link.tunnels.room(id);
            core.endpoint.carrier_has_room(id, room);
        }
        core.by_carrier.insert(held.id, self.key);
        core.state(self.key).ok_or(Over)?.carriers.push(held);
        Ok(Some(route))
    }

    /// Sends a challenge.
    fn ask(&mut self, route: Route) -> Result<(), Over> {
        let now = self.shard.clock.now();
        let mut core = self.shard.lock();
        let (_, state) = core.live(self.key).map_err(|_| Over)?;
        let handle = state.handle;
        let asked = handle.is_some_and(|handle| core.endpoint.try_route(now, handle, route));
        self.shard.flush(&mut core, now);
        self.machine.on_asked(now, asked);
        Ok(())
    }

    /// Closes the carriers that are not in use.
    fn let_go(&self) {
        if let Ok((connection, state)) = self.shard.lock().live(self.key) {
            state.carriers.retain(|held| connection.paths().any(|path| path.route == held.route));
        }
    }

    /// Waits for the machine's next step.
    async fn next(&mut self) -> Result<Step, Over> {
        let mut alarm = std::pin::pin!(tokio::time::sleep(Duration::ZERO));
        poll_fn(|cx| {
            let now = self.shard.clock.now();
            let mut core = self.shard.lock();
            let Ok((connection, state)) = core.live(self.key) else {
                return Poll::Ready(Err(Over));
            };
            let route = connection.route();
            let ways: Vec<Route> = connection.paths().map(|path| path.route).collect();
            let holds = |route: Route| state.carriers.iter().any(|held| held.route == route);
            if self.machine.asked().is_some_and(|asked| asked.is_reliable() && !holds(asked)) {
                self.machine.on_ended();
            }
            let view = View {
                route,
                ways: &ways,
                is_silent: connection.is_silent(),
                is_held: holds(route),
                is_open: matches!(state.phase, Phase::Open),
            };
            if let Some(step) = self.machine.poll(now, &view) {
                return Poll::Ready(Ok(step));
            }
            state.path_waiters.get().register(&mut self.place, cx.waker());
            drop(core);
            if let Some(at) = self.machine.poll_timeout() {
                alarm.as_mut().reset(self.shard.clock.to_runtime(at));
                if alarm.as_mut().poll(cx).is_ready() {
                    cx.waker().wake_by_ref();
                }
            }
            Poll::Pending
        })
        .await
    }
}

/// The proxy has no such thing.
// spec: CAR-77
fn is_unsupported(error: &ConnectError) -> bool {
    matches!(error, ConnectError::Carrier { source, .. } if source.kind() == ErrorKind::Unsupported)
}

/// A stream that is being opened.
type Dial<'a> = Pin<Box<dyn Future<Output = Result<Opened, ConnectError>> + Send + 'a>>;

/// Opens streams, the next a while after the last and at once when one fails; answers the first that opens, and its place.
/// The others are given up (in the manner of RFC 8305).
// spec: CAR-76
async fn first_to_open(offers: &Offers, ways: &[Way]) -> Option<(usize, Opened)> {
    let mut waiting = ways.iter().enumerate();
    let mut opening: Vec<(usize, Dial<'_>)> = Vec::new();
    let mut next = std::pin::pin!(tokio::time::sleep(Duration::ZERO));
    poll_fn(|cx| {
        loop {
            let mut index = 0;
            while let Some((place, dial)) = opening.get_mut(index) {
                match dial.as_mut().poll(cx) {
                    Poll::Pending => index += 1,
                    Poll::Ready(Ok(opened)) => return Poll::Ready(Some((*place, opened))),
                    Poll::Ready(Err(_)) => {
                        drop(opening.remove(index));
                        next.as_mut().reset(Instant::now());
                    }
                }
            }
            if waiting.len() == 0 && opening.is_empty() {
                return Poll::Ready(None);
            }
            if waiting.len() == 0 || next.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if let Some((place, way)) = waiting.next() {
                opening.push((place, Box::pin(connect::open(offers, way))));
                next.as_mut().reset(Instant::now() + STAGGER);
            }
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::carrier::Carrier;
    use crate::emulate::pair;
    use crate::identity::Identity;
    use crate::remote::Target;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn a_carrier_that_has_ended_already_is_not_asked() {
        let (near, far) = pair();
        let server = Endpoint::builder().link(Box::new(far)).identity(Identity::generate());
        let server = server.build().unwrap();
        let client = Endpoint::builder().link(Box::new(near)).build().unwrap();
        let trust = server.fingerprint();
        let connection = client.connect(server.local_addr().unwrap(), trust).await.unwrap();
        let watch = Watch {
            shard: Arc::clone(&client.shard),
            key: connection.inner.key,
            offers: Arc::clone(&client.offers),
            choice: Choice { datagram: None, streams: Vec::new() },
            machine: Switch::without_datagrams(0),
            place: None,
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let way = Way::Carrier(Carrier::tcp(), Target::Addr(listener.local_addr().unwrap()));
        for ends_first in [false, true] {
            let opening = connect::open(&client.offers, &way);
            let (opened, accepted) = tokio::join!(opening, listener.accept());
            let held = opened.unwrap().held;
            let kept_open = (!ends_first).then_some(accepted);
            while ends_first && client.shard.link.tunnels.describe(&held.route).is_some() {
                tokio::task::yield_now().await;
            }
            let route = held.route;
            let kept = watch.keep(held).ok().flatten();
            assert_eq!(kept, (!ends_first).then_some(route));
            drop(kept_open);
        }
    }
}
