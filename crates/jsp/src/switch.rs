//! A connection of ours that may use datagrams and streams: to a stream when datagrams fall silent,
//! and back when they pass again.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use jsp_wire::Route;
use tokio::time::timeout;

use crate::carrier::table::Held;
use crate::connect::{self, Way};
use crate::connection::Connection;
use crate::endpoint::{Endpoint, Offers};
use crate::shard::{Key, Phase, Shard};

/// Time between two questions whether datagrams pass again.
// spec: CAR-33
const ASK_AFTER: Duration = Duration::from_secs(4);

/// Time that a way has to answer.
const ANSWER_MAX: Duration = Duration::from_secs(3);

/// Rest after no stream could be opened.
const REST: Duration = Duration::from_secs(1);

/// How long a stream is kept after datagrams pass again, for what is under way in it.
const KEEP: Duration = Duration::from_secs(2);

/// What a connection may change between.
#[derive(Clone)]
pub(crate) struct Choice {
    pub(crate) datagram: Way,
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
    let watch = Watch { shard, key, offers: Arc::clone(&endpoint.offers), choice, place: None };
    tokio::spawn(watch.run());
}

struct Watch {
    shard: Arc<Shard>,
    key: Key,
    offers: Arc<Offers>,
    choice: Choice,
    /// Its place among those that wait.
    place: Option<u64>,
}

/// The connection is over.
struct Over;

/// What there is to know of the connection.
struct View {
    /// That of the path that is used first.
    route: Route,
    /// Those of all paths.
    ways: Vec<Route>,
    is_silent: bool,
    /// The carrier in use is one that this side holds.
    is_held: bool,
    is_open: bool,
}

impl View {
    /// The connection is in a stream.
    fn is_stream(&self) -> bool {
        self.route.is_reliable()
    }
}

/// What came of an attempt to move.
enum Gone {
    /// The connection is there.
    There,
    /// Datagrams have come through in the meantime.
    NotNeeded,
    /// The way does not open, or nobody answers there.
    Nowhere,
}

impl Watch {
    async fn run(mut self) {
        // Ends with the connection.
        while self.step().await.is_ok() {}
    }

    async fn step(&mut self) -> Result<(), Over> {
        let view = self.until(|view| view.is_open && (view.is_stream() || view.is_silent)).await?;
        if view.is_stream() { self.leave_stream().await } else { self.enter_stream().await }
    }

    /// Opens streams in their order, and moves to the first that opens, if datagrams are silent still.
    // spec: CAR-31
    async fn enter_stream(&mut self) -> Result<(), Over> {
        for way in self.choice.streams.clone() {
            match self.go(&way).await? {
                Gone::There | Gone::NotNeeded => return Ok(()),
                Gone::Nowhere => {}
            }
        }
        self.wait(REST).await
    }

    /// Asks in a while whether datagrams pass, or looks for another stream when this one is gone.
    // spec: CAR-33
    async fn leave_stream(&mut self) -> Result<(), Over> {
        let gone = timeout(ASK_AFTER, self.until(|view| !view.is_held || !view.is_stream())).await;
        match gone {
            Ok(Ok(view)) if view.is_stream() => return self.enter_stream().await,
            Ok(view) => return view.map(|_| ()),
            Err(_) => {}
        }
        let datagram = self.choice.datagram.clone();
        if matches!(self.go(&datagram).await?, Gone::There) {
            self.wait(KEEP).await?;
            self.let_go();
        }
        Ok(())
    }

    /// Opens a way and asks the server there.
    async fn go(&mut self, way: &Way) -> Result<Gone, Over> {
        let route = match way {
            Way::Udp(addr) => Route::udp(*addr),
            way => match connect::open(&self.offers, way).await {
                Ok(opened) => self.keep(opened.held)?,
                Err(_) => return Ok(Gone::Nowhere),
            },
        };
        if !self.ask(route)? {
            self.let_go();
            return Ok(Gone::NotNeeded);
        }
        let is_there = |view: &View| view.ways.iter().any(|way| way.same_peer(&route));
        let there = timeout(ANSWER_MAX, self.until(is_there)).await;
        if let Ok(view) = there {
            return view.map(|_| Gone::There);
        }
        self.let_go();
        Ok(Gone::Nowhere)
    }

    /// The connection holds the carrier from here on.
    fn keep(&self, held: Held) -> Result<Route, Over> {
        let route = held.route;
        let mut core = self.shard.lock();
        core.live(self.key).map_err(|_| Over)?;
        if let Route::Tunnel { id } = route {
            let room = self.shard.link.tunnels.room(id);
            core.endpoint.carrier_has_room(id, room);
        }
        core.by_carrier.insert(held.id, self.key);
        core.state(self.key).ok_or(Over)?.carriers.push(held);
        Ok(route)
    }

    /// Sends a challenge; false when there is no use for one any more.
    fn ask(&self, route: Route) -> Result<bool, Over> {
        let now = self.shard.clock.now();
        let mut core = self.shard.lock();
        let to_stream = route.is_reliable();
        let (connection, state) = core.live(self.key).map_err(|_| Over)?;
        // Datagrams came through after all, while the stream was opened.
        let is_needed = !to_stream || state.route.is_reliable() || connection.is_silent();
        let Some(handle) = state.handle.filter(|_| is_needed) else { return Ok(false) };
        let asked = core.endpoint.try_route(now, handle, route);
        self.shard.flush(&mut core, now);
        Ok(asked)
    }

    /// Closes the carriers that are not in use.
    fn let_go(&self) {
        if let Ok((connection, state)) = self.shard.lock().live(self.key) {
            state.carriers.retain(|held| connection.paths().any(|path| path.route == held.route));
        }
    }

    async fn wait(&mut self, time: Duration) -> Result<(), Over> {
        match timeout(time, self.until(|_| false)).await {
            Ok(view) => view.map(|_| ()),
            Err(_) => Ok(()),
        }
    }

    /// Waits until the connection looks so.
    async fn until(&mut self, is_so: impl Fn(&View) -> bool) -> Result<View, Over> {
        poll_fn(|cx| {
            let mut core = self.shard.lock();
            let Ok((connection, state)) = core.live(self.key) else {
                return Poll::Ready(Err(Over));
            };
            let route = connection.route();
            let view = View {
                route,
                ways: connection.paths().map(|path| path.route).collect(),
                is_silent: connection.is_silent(),
                is_held: state.carriers.iter().any(|held| held.route == route),
                is_open: matches!(state.phase, Phase::Open),
            };
            if is_so(&view) {
                return Poll::Ready(Ok(view));
            }
            state.path_waiters.register(&mut self.place, cx.waker());
            Poll::Pending
        })
        .await
    }
}
