//! The carriers of an endpoint beside its socket.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use jsp_wire::Route;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::CarrierKind;
use super::association::Association;
use super::places::{Place, Places};
use super::tunnel::{self, Patience, Queue, Wire};
use crate::link::{Datagram, Transmit};
use crate::task::task;

/// What carriers have brought and the driver has not taken: when there is more, streams are not read.
const NEWS: usize = 256;

/// Time that a carrier has until it carries an established connection.
// spec: CAR-7
const UNTIL_ADMITTED: Duration = Duration::from_secs(10);

/// Shortest time without a datagram after which an accepted carrier is closed.
const IDLE_MIN: Duration = Duration::from_secs(60);

/// What a carrier tells the driver.
pub(crate) enum News {
    /// A datagram has come.
    Arrived(Datagram),
    /// There is room again, or for the first time.
    Drained(u64),
    /// It is gone.
    Closed(u64),
}

/// All carriers of an endpoint, and what they have brought.
pub(crate) struct Tunnels {
    lanes: Mutex<Lanes>,
    news: Mutex<mpsc::Receiver<News>>,
    sender: mpsc::Sender<News>,
    runtime: Handle,
    patience: Patience,
    admitted: Arc<Places>,
    /// Tasks that accept streams.
    listeners: Mutex<Vec<AbortHandle>>,
}

#[derive(Default)]
struct Lanes {
    by_id: HashMap<u64, Lane>,
    last_id: u64,
}

/// What a stream lies between.
#[derive(Clone, Copy)]
pub(super) struct Ends {
    pub(super) remote: SocketAddr,
    /// The address of this machine that it is bound to, where that is known.
    pub(super) local: Option<IpAddr>,
}

/// One carrier.
struct Lane {
    kind: CarrierKind,
    ends: Ends,
    /// The whole of it: other relays may have the same number for somebody else.
    route: Route,
    carries: Carries,
    task: AbortHandle,
    standing: Standing,
}

/// Whose a carrier is, with its place among those of its kind.
enum Standing {
    /// This side has opened it.
    Ours,
    /// A peer has; it carries no established connection yet.
    Stranger { _place: Place },
    /// It does.
    Admitted { _place: Place },
}

#[derive(Clone)]
enum Carries {
    Stream(Arc<Queue>),
    Datagrams(Arc<Association>),
}

impl Carries {
    fn retire(&self) {
        match self {
            Self::Stream(queue) => queue.retire(),
            Self::Datagrams(association) => association.retire(),
        }
    }

    fn lose(&self) {
        match self {
            Self::Stream(queue) => queue.lose(),
            Self::Datagrams(association) => association.retire(),
        }
    }
}

impl Lanes {
    /// The carrier that a route takes.
    fn by_route(&self, route: &Route) -> Option<&Lane> {
        self.by_id.get(&number_of(route)?).filter(|lane| lane.route == *route)
    }

    fn by_route_mut(&mut self, route: &Route) -> Option<&mut Lane> {
        self.by_id.get_mut(&number_of(route)?).filter(|lane| lane.route == *route)
    }
}

/// A carrier in use by one connection of ours. When it is dropped the carrier ends, after what waits
/// in it.
pub(crate) struct Held {
    tunnels: Arc<Tunnels>,
    pub(crate) id: u64,
    pub(crate) route: Route,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.tunnels.retire(self.id);
    }
}

/// Sends datagrams by the streams of an endpoint, beside the transport: those of a relay.
#[derive(Clone)]
pub struct CarrierSender(Weak<Tunnels>);

impl CarrierSender {
    /// Sends a datagram by the stream of a [`Route::Tunnel`]. False when it is lost: the stream is gone, or its peer
    /// takes so little that 64 KiB wait for it.
    pub fn send(&self, route: &Route, datagram: &[u8]) -> bool {
        self.0.upgrade().is_some_and(|tunnels| tunnels.send_beside(route, datagram))
    }
}

impl fmt::Debug for CarrierSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CarrierSender").finish_non_exhaustive()
    }
}

impl Tunnels {
    /// None yet. `idle` is the idle time-out of connections, zero for none; `admitted_max` is how many may
    /// carry established connections of peers.
    pub(crate) fn new(runtime: Handle, idle: Duration, admitted_max: usize) -> Arc<Self> {
        let (sender, news) = mpsc::channel(NEWS);
        let idle = (!idle.is_zero()).then(|| idle.saturating_mul(2).max(IDLE_MIN));
        let patience = Patience { until_admitted: UNTIL_ADMITTED, idle };
        Arc::new(Self {
            lanes: Mutex::default(),
            news: Mutex::new(news),
            sender,
            runtime,
            patience,
            admitted: Places::for_admitted(admitted_max),
            listeners: Mutex::default(),
        })
    }

    /// Sends by these carriers, for others than the transport.
    pub(crate) fn sender(self: &Arc<Self>) -> CarrierSender {
        CarrierSender(Arc::downgrade(self))
    }

    /// Runs a task that accepts streams.
    pub(crate) fn listen(&self, work: impl Future<Output = ()> + Send + 'static) {
        let task = self.runtime.spawn(task(work)).abort_handle();
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner).push(task);
    }

    /// Accepts no more streams; those that are there go on.
    pub(crate) fn stop_listening(&self) {
        for task in self.listeners.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            task.abort();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Lanes> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A stream that a peer has opened, with its place among strangers.
    pub(super) fn accept(&self, kind: CarrierKind, ends: Ends, wire: Wire, place: Place) {
        self.add_stream(kind, ends, wire, Standing::Stranger { _place: place });
    }

    /// A stream that this side has opened.
    pub(super) fn hold(self: &Arc<Self>, kind: CarrierKind, ends: Ends, wire: Wire) -> Held {
        let id = self.add_stream(kind, ends, wire, Standing::Ours);
        Held { tunnels: Arc::clone(self), id, route: Route::Tunnel { id } }
    }

    fn add_stream(&self, kind: CarrierKind, ends: Ends, wire: Wire, standing: Standing) -> u64 {
        let ours = matches!(standing, Standing::Ours);
        let queue = Arc::<Queue>::default();
        if ours {
            queue.admit();
        }
        let patience = Patience { idle: self.patience.idle.filter(|_| !ours), ..self.patience };
        let mut lanes = self.lock();
        lanes.last_id += 1;
        let id = lanes.last_id;
        let work = tunnel::run(id, wire, Arc::clone(&queue), self.sender.clone(), patience);
        let task = self.runtime.spawn(task(work)).abort_handle();
        let carries = Carries::Stream(queue);
        let route = Route::Tunnel { id };
        lanes.by_id.insert(id, Lane { kind, ends, route, carries, task, standing });
        id
    }

    /// An association at a proxy.
    pub(super) fn hold_association(
        self: &Arc<Self>,
        relay: SocketAddr,
        association: Arc<Association>,
    ) -> Held {
        let mut lanes = self.lock();
        lanes.last_id += 1;
        let id = lanes.last_id;
        let route = Route::Relayed { via: relay, peer: id };
        let (news, running) = (self.sender.clone(), Arc::clone(&association));
        let task = self.runtime.spawn(task(running.run(id, route, news)));
        let lane = Lane {
            kind: CarrierKind::Udp,
            ends: Ends { remote: relay, local: association.local() },
            route,
            carries: Carries::Datagrams(association),
            task: task.abort_handle(),
            standing: Standing::Ours,
        };
        lanes.by_id.insert(id, lane);
        drop(lanes);
        Held { tunnels: Arc::clone(self), id, route }
    }

    /// What has come, at most as much as fits beside `inbox`; `Pending` when nothing has.
    pub(crate) fn poll(&self, cx: &mut Context<'_>, out: &mut Vec<News>) -> Poll<()> {
        let mut news = self.news.lock().unwrap_or_else(PoisonError::into_inner);
        let room = NEWS.saturating_sub(out.len());
        let taken = ready!(news.poll_recv_many(cx, out, room));
        // The sender lives as long as this value: there is no end.
        if taken == 0 { Poll::Pending } else { Poll::Ready(()) }
    }

    /// Sends what goes by a carrier of this table; false for what does not.
    pub(crate) fn send(&self, transmit: &Transmit<'_>) -> bool {
        let carries = self.lock().by_route(&transmit.route).map(|lane| lane.carries.clone());
        match carries {
            Some(Carries::Stream(queue)) => queue.push(transmit.contents, transmit.segment_len),
            Some(Carries::Datagrams(association)) => association.send(transmit),
            None => return false,
        }
        true
    }

    /// Sends a datagram that is not the transport's by a carrier of a stream; false when it is lost.
    fn send_beside(&self, route: &Route, datagram: &[u8]) -> bool {
        let carries = self.lock().by_route(route).map(|lane| lane.carries.clone());
        match carries {
            Some(Carries::Stream(queue)) => queue.push_beside(datagram),
            Some(Carries::Datagrams(_)) | None => false,
        }
    }

    /// Bytes that a carrier of a stream takes now.
    pub(crate) fn room(&self, id: u64) -> usize {
        match self.lock().by_id.get(&id).map(|lane| &lane.carries) {
            Some(Carries::Stream(queue)) => queue.room(),
            Some(Carries::Datagrams(_)) | None => 0,
        }
    }

    /// What kind of carrier a route takes, and where it leads.
    pub(crate) fn describe(&self, route: &Route) -> Option<(CarrierKind, SocketAddr)> {
        self.lock().by_route(route).map(|lane| (lane.kind, lane.ends.remote))
    }

    /// A connection by this route is established. Where a peer's carrier has no place any more it ends, after
    /// what waits in it, and this answers false.
    // spec: CAR-19
    pub(crate) fn admit(&self, route: &Route) -> bool {
        let mut lanes = self.lock();
        let Some(lane) = lanes.by_route_mut(route) else { return true };
        if let Standing::Stranger { .. } = lane.standing {
            let Some(place) = self.admitted.enter(lane.ends.remote) else {
                lane.carries.retire();
                return false;
            };
            lane.standing = Standing::Admitted { _place: place };
        }
        if let Carries::Stream(queue) = &lane.carries {
            queue.admit();
        }
        true
    }

    /// A connection by this route goes another way now: a carrier of a peer does not stay for long without one.
    // spec: CAR-26
    pub(crate) fn leave(&self, route: &Route) {
        let lanes = self.lock();
        let Some(lane) = lanes.by_route(route) else { return };
        if let (Standing::Admitted { .. }, Carries::Stream(queue)) = (&lane.standing, &lane.carries)
            && queue.leave()
        {
            self.runtime.spawn(task(Arc::clone(queue).watch_left()));
        }
    }

    /// The driver has heard that a carrier is gone; answers which way it was.
    pub(crate) fn forget(&self, id: u64) -> Option<Route> {
        self.lock().by_id.remove(&id).map(|lane| lane.route)
    }

    /// These addresses of the machine are gone: what is bound to them brings nothing any more, and is not waited for.
    // spec: CAR-35
    pub(crate) fn lose(&self, gone: &[IpAddr]) {
        for lane in self.lock().by_id.values() {
            if lane.ends.local.is_some_and(|local| gone.contains(&local)) {
                lane.carries.lose();
            }
        }
    }

    /// Ends a carrier after what waits in it.
    pub(crate) fn retire(&self, id: u64) {
        if let Some(lane) = self.lock().by_id.get(&id) {
            lane.carries.retire();
        }
    }
}

impl Drop for Tunnels {
    fn drop(&mut self) {
        self.stop_listening();
        for lane in self.lock().by_id.values() {
            lane.task.abort();
        }
    }
}

/// The number that the carrier of a route has, if it is one of the table.
fn number_of(route: &Route) -> Option<u64> {
    match route {
        Route::Tunnel { id } | Route::Relayed { peer: id, .. } => Some(*id),
        Route::Udp { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, DuplexStream};
    use tokio::time::{Instant, sleep};

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 9));

    /// A carrier of a peer, with the peer's end.
    fn accepted(tunnels: &Tunnels) -> (Route, DuplexStream) {
        let (near, far) = tokio::io::duplex(64);
        let remote = SocketAddr::from(([192, 0, 2, 1], 7));
        let place = Places::for_strangers().enter(remote).unwrap();
        let ends = Ends { remote, local: Some(HERE) };
        tunnels.accept(CarrierKind::Tcp, ends, Wire::Framed(Box::new(near)), place);
        (Route::Tunnel { id: tunnels.lock().last_id }, far)
    }

    #[tokio::test(start_paused = true)]
    /// spec-test: CAR-26
    async fn a_carrier_that_its_connection_has_left_is_closed_unless_it_comes_back() {
        let tunnels = Tunnels::new(Handle::current(), Duration::ZERO, 4);
        let second = Duration::from_secs(1);
        let (route, mut far) = accepted(&tunnels);
        assert!(tunnels.admit(&route));
        let begin = Instant::now();
        for _ in 0..3 {
            tunnels.leave(&route);
            sleep(9 * second).await;
            assert!(tunnels.admit(&route));
            sleep(9 * second).await;
        }
        tunnels.leave(&route);
        assert_eq!(far.read(&mut [0; 8]).await.unwrap(), 0);
        let closed = begin.elapsed();
        assert!(closed >= 64 * second && closed <= 66 * second, "{closed:?}");
    }

    #[tokio::test(start_paused = true)]
    // spec-test: CAR-35
    async fn a_carrier_whose_address_is_gone_ends_at_once() {
        let tunnels = Tunnels::new(Handle::current(), Duration::ZERO, 4);
        let (route, mut far) = accepted(&tunnels);
        assert!(tunnels.admit(&route));
        let begin = Instant::now();
        let mut heard = Vec::new();
        tunnels.lose(&[IpAddr::from([192, 0, 2, 8])]);
        let waited = tokio::time::timeout(Duration::from_secs(5), far.read(&mut [0; 8])).await;
        assert!(waited.is_err(), "another address is no matter");
        tunnels.lose(&[HERE]);
        assert_eq!(far.read(&mut [0; 8]).await.unwrap(), 0);
        let is_closed = |news: &News| matches!(news, News::Closed(_));
        while !heard.iter().any(is_closed) {
            std::future::poll_fn(|cx| tunnels.poll(cx, &mut heard)).await;
        }
        assert_eq!(begin.elapsed(), Duration::from_secs(5));
    }

    #[tokio::test(start_paused = true)]
    /// spec-test: CAR-19
    async fn a_carrier_without_a_place_ends_and_one_that_ends_makes_room() {
        let tunnels = Tunnels::new(Handle::current(), Duration::ZERO, 1);
        let [(first, _far), (second, mut refused)] = [accepted(&tunnels), accepted(&tunnels)];
        // Also for several connections, and again and again.
        assert!(tunnels.admit(&first) && tunnels.admit(&first));
        assert!(!tunnels.admit(&second));
        assert_eq!(refused.read(&mut [0; 8]).await.unwrap(), 0);
        let Route::Tunnel { id } = first else { panic!("a tunnel") };
        assert_eq!(tunnels.forget(id), Some(first));
        let (third, _far) = accepted(&tunnels);
        assert!(tunnels.admit(&third));
    }
    use crate::proxy::UdpRelay;
    use crate::remote::Target;

    #[tokio::test]
    async fn a_number_that_somebody_else_gives_is_no_carrier_of_the_table() {
        let tunnels = Tunnels::new(Handle::current(), Duration::ZERO, 1);
        let target = Target::Name("server.test".to_owned(), 1);
        let mut all = Vec::new();
        for port in [7, 8] {
            let relay = SocketAddr::from(([127, 0, 0, 1], port));
            let control = Box::new(tokio::io::duplex(64).0);
            let association = Association::new(UdpRelay { control, relay }, &target).await.unwrap();
            all.push((relay, tunnels.hold_association(relay, association)));
        }
        for (relay, held) in &all {
            assert_eq!(tunnels.describe(&held.route), Some((CarrierKind::Udp, *relay)));
            let elsewhere = SocketAddr::from(([192, 0, 2, 1], relay.port()));
            let others =
                [Route::Relayed { via: elsewhere, peer: held.id }, Route::Tunnel { id: held.id }];
            for route in others {
                let transmit = Transmit { route, ecn: None, contents: b"x", segment_len: 1 };
                assert!(!tunnels.send(&transmit), "{route} is not {}", held.route);
                assert_eq!(tunnels.describe(&route), None);
            }
        }
        let [(first, held), (second, _)] = &all[..] else { panic!("two") };
        let crossed = Route::Relayed { via: *second, peer: held.id };
        assert!(first != second && tunnels.describe(&crossed).is_none());
    }
}
