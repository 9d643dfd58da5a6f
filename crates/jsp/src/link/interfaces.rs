//! The link of an endpoint, and further sockets beside it: one for each further address of this machine that
//! connections have paths from, as long as they have.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::task::{Context, Poll, Waker};

use super::outlet::Outlet;
use super::{CarrierSender, Datagram, Link, Route, Transmit, UdpLink};
use crate::error::BindError;

/// Sockets beside the first, at most: a machine has few interfaces.
const FURTHER_MAX: usize = 16;

/// What the names of further sockets begin with: addresses that nothing is ever sent to (RFC 6666).
const DISCARD: u128 = 0x0100 << 112;

/// Everything that carries datagrams of an endpoint.
#[derive(Debug)]
pub(crate) struct Interfaces {
    first: Outlet,
    /// Sockets that are there as long as the endpoint: at addresses where it would rather be reached.
    preferred: Vec<Arc<Further>>,
    /// Where the first one is, when there are such: what came to one is told from what came to another.
    first_at: Option<IpAddr>,
    further: RwLock<Table>,
    /// False while the table is empty.
    has_further: AtomicBool,
    /// The task that receives, and sends what waits for a socket.
    driver: Mutex<Option<Waker>>,
}

/// Further sockets. Each is held by those who use it, and closed when nobody does any more.
#[derive(Debug, Default)]
struct Table {
    sockets: Vec<Weak<Further>>,
    last: u64,
}

/// A socket at a certain address.
#[derive(Debug)]
pub(crate) struct Further {
    local: IpAddr,
    /// Stands for the local address in the routes of this socket. The address itself would not do: the
    /// endpoint's own socket may be reached at the same one, and what came there is answered from there.
    name: IpAddr,
    outlet: Outlet,
}

impl Further {
    /// The way to `remote` by this socket.
    pub(crate) fn route(&self, remote: SocketAddr) -> Route {
        Route::Udp { local: Some(self.name), remote }
    }
}

impl Table {
    fn iter(&self) -> impl Iterator<Item = Arc<Further>> {
        self.sockets.iter().filter_map(Weak::upgrade)
    }

    fn add(&mut self, local: IpAddr, link: Box<dyn Link>) -> Arc<Further> {
        // Names do not come back: what is under way by a socket that is gone goes by no other.
        self.last += 1;
        let name = Ipv6Addr::from(DISCARD | u128::from(self.last)).into();
        let further = Arc::new(Further { local, name, outlet: Outlet::new(link) });
        self.sockets.push(Arc::downgrade(&further));
        further
    }
}

impl Interfaces {
    pub(crate) fn new(first: Box<dyn Link>) -> Self {
        Self {
            first: Outlet::new(first),
            preferred: Vec::new(),
            first_at: None,
            further: RwLock::default(),
            has_further: AtomicBool::new(false),
            driver: Mutex::default(),
        }
    }

    /// A socket at a certain address, there as long as the endpoint. Answers where it is.
    pub(crate) fn prefer(&mut self, addr: SocketAddr) -> Result<SocketAddr, BindError> {
        if addr.ip().is_unspecified() {
            return Err(BindError::Config("a preferred address is a certain one"));
        }
        let link = UdpLink::bind(addr)?;
        let at = link.local_addr()?;
        self.preferred.push(self.further_by(addr.ip(), || Ok(Box::new(link)))?);
        let first = self.first.link.local_addr()?.ip();
        self.first_at = (!first.is_unspecified()).then_some(first);
        Ok(at)
    }

    /// A socket at an address of this machine, bound if nobody uses one there; it is there as long as it is held.
    pub(crate) fn further_at(&self, local: IpAddr) -> Result<Arc<Further>, BindError> {
        self.further_by(local, || Ok(Box::new(UdpLink::bind(SocketAddr::new(local, 0))?)))
    }

    fn further_by(
        &self,
        local: IpAddr,
        bind: impl FnOnce() -> Result<Box<dyn Link>, BindError>,
    ) -> Result<Arc<Further>, BindError> {
        let mut table = self.further.write().unwrap_or_else(PoisonError::into_inner);
        table.sockets.retain(|further| further.strong_count() > 0);
        if let Some(further) = table.iter().find(|further| further.local == local) {
            return Ok(further);
        }
        if table.sockets.len() >= FURTHER_MAX {
            let full = io::Error::other("there are sockets at as many addresses as are kept");
            return Err(BindError::new(SocketAddr::new(local, 0), full));
        }
        let further = table.add(local, bind()?);
        self.has_further.store(true, Ordering::Release);
        Ok(further)
    }

    /// All sockets beside the first.
    fn further(&self) -> Vec<Arc<Further>> {
        if !self.has_further.load(Ordering::Acquire) {
            return Vec::new();
        }
        let table = self.further.read().unwrap_or_else(PoisonError::into_inner);
        let further: Vec<_> = table.iter().collect();
        if further.is_empty() {
            // Nobody adds one meanwhile.
            self.has_further.store(false, Ordering::Release);
        }
        further
    }

    fn by_name(&self, name: IpAddr) -> Option<Arc<Further>> {
        let table = self.further.read().unwrap_or_else(PoisonError::into_inner);
        table.iter().find(|further| further.name == name)
    }

    /// Sends by the endpoint's own link. Where it is alone, the transport waits for it; beside others nobody
    /// waits, as what goes by them must not.
    fn send_first(&self, transmit: &Transmit<'_>) -> io::Result<usize> {
        if self.has_further.load(Ordering::Acquire) || self.first.is_behind() {
            self.send_by(&self.first, transmit)
        } else {
            self.first.link.try_send(transmit)
        }
    }

    fn send_by(&self, outlet: &Outlet, transmit: &Transmit<'_>) -> io::Result<usize> {
        outlet.send(transmit, || {
            let driver = self.driver.lock().unwrap_or_else(PoisonError::into_inner).clone();
            driver.into_iter().for_each(Waker::wake);
        })
    }

    /// What the endpoint's own link has brought came to its address, where others are told apart from that.
    fn note_first(&self, arrivals: &mut [Datagram]) {
        let Some(at) = self.first_at else { return };
        for datagram in arrivals {
            if let Route::Udp { local: local @ None, .. } = &mut datagram.route {
                *local = Some(at);
            }
        }
    }

    fn note_driver(&self, cx: &Context<'_>) {
        let mut driver = self.driver.lock().unwrap_or_else(PoisonError::into_inner);
        if !driver.as_ref().is_some_and(|driver| driver.will_wake(cx.waker())) {
            *driver = Some(cx.waker().clone());
        }
    }

    /// The route as it is outside of the endpoint: with the address of the socket instead of its name.
    pub(crate) fn outward(&self, route: Route) -> Route {
        match further_name(&route) {
            None => route,
            Some((name, remote)) => {
                Route::Udp { local: self.by_name(name).map(|further| further.local), remote }
            }
        }
    }
}

/// The name of the further socket that a route takes, if it takes one.
fn further_name(route: &Route) -> Option<(IpAddr, SocketAddr)> {
    match *route {
        Route::Udp { local: Some(name @ IpAddr::V6(bits)), remote } => {
            let is_name = bits.to_bits() & !u128::from(u64::MAX) == DISCARD;
            is_name.then_some((name, remote))
        }
        _ => None,
    }
}

impl Link for Interfaces {
    fn poll_recv(&self, cx: &mut Context<'_>, inbox: &mut Vec<Datagram>) -> Poll<io::Result<()>> {
        let all_further = self.further();
        if !all_further.is_empty() {
            self.note_driver(cx);
        }
        self.first.flush(cx)?;
        let start = inbox.len();
        let mut polled = self.first.link.poll_recv(cx, inbox);
        self.note_first(inbox.get_mut(start..).unwrap_or_default());
        for further in all_further {
            // One address that is gone must not end the others.
            let _ = further.outlet.flush(cx);
            let start = inbox.len();
            if let Poll::Ready(Ok(())) = further.outlet.link.poll_recv(cx, inbox) {
                polled = Poll::Ready(Ok(()));
            }
            for datagram in inbox.get_mut(start..).unwrap_or_default() {
                if let Route::Udp { local, .. } = &mut datagram.route {
                    *local = Some(further.name);
                }
            }
        }
        polled
    }

    fn try_recv(&self, inbox: &mut Vec<Datagram>) -> io::Result<()> {
        let start = inbox.len();
        self.first.link.try_recv(inbox)?;
        self.note_first(inbox.get_mut(start..).unwrap_or_default());
        Ok(())
    }

    fn poll_strangers(
        &self,
        cx: &mut Context<'_>,
        inbox: &mut Vec<Datagram>,
    ) -> Poll<io::Result<()>> {
        let start = inbox.len();
        let polled = self.first.link.poll_strangers(cx, inbox);
        self.note_first(inbox.get_mut(start..).unwrap_or_default());
        polled
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<usize> {
        let Some((name, remote)) = further_name(&transmit.route) else {
            return self.send_first(transmit);
        };
        // The last words of a path whose socket is gone are lost, and go by no other socket.
        let Some(further) = self.by_name(name) else { return Ok(transmit.contents.len()) };
        let transmit = Transmit { route: Route::udp(remote), ..*transmit };
        // An address that is gone loses what goes there, and must not end the others.
        let sent = self.send_by(&further.outlet, &transmit);
        Ok(sent.unwrap_or(transmit.contents.len()))
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Others never make anybody wait.
        self.first.link.poll_writable(cx)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.first.link.local_addr()
    }

    fn segments_max(&self) -> usize {
        self.first.link.segments_max()
    }

    fn sort_carried(&self, datagram: &mut Datagram) -> bool {
        self.first.link.sort_carried(datagram)
    }

    fn attach(&self, carriers: CarrierSender) {
        self.first.link.attach(carriers);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BytesMut;
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    /// A link that takes something only while it is open, and the task that waits for that.
    #[derive(Debug, Default)]
    struct Gate {
        is_open: AtomicBool,
        sent: Mutex<Vec<u8>>,
        arrives: Mutex<Vec<Datagram>>,
        waits: Mutex<Option<Waker>>,
    }

    impl Gate {
        fn open(&self) {
            self.is_open.store(true, Ordering::Release);
            self.waits.lock().unwrap().take().into_iter().for_each(Waker::wake);
        }

        fn sent(&self) -> Vec<u8> {
            std::mem::take(&mut *self.sent.lock().unwrap())
        }
    }

    impl Link for Arc<Gate> {
        fn poll_recv(
            &self,
            _: &mut Context<'_>,
            inbox: &mut Vec<Datagram>,
        ) -> Poll<io::Result<()>> {
            inbox.append(&mut self.arrives.lock().unwrap());
            if inbox.is_empty() { Poll::Pending } else { Poll::Ready(Ok(())) }
        }

        fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<usize> {
            if !self.is_open.load(Ordering::Acquire) {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.sent.lock().unwrap().extend_from_slice(transmit.contents);
            Ok(transmit.contents.len())
        }

        fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            if self.is_open.load(Ordering::Acquire) {
                return Poll::Ready(Ok(()));
            }
            *self.waits.lock().unwrap() = Some(cx.waker().clone());
            Poll::Pending
        }

        fn local_addr(&self) -> io::Result<SocketAddr> {
            Ok(PEER.parse().unwrap())
        }
    }

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::AcqRel);
        }
    }

    const PEER: &str = "192.0.2.1:1";

    /// A link, and a further one beside it.
    struct Two {
        interfaces: Interfaces,
        gates: [Arc<Gate>; 2],
        routes: [Route; 2],
        further: Arc<Further>,
        wakes: Arc<Wakes>,
    }

    impl Two {
        fn new() -> Self {
            let gates = [Arc::<Gate>::default(), Arc::default()];
            let interfaces = Interfaces::new(Box::new(Arc::clone(&gates[0])));
            let link = Box::new(Arc::clone(&gates[1]));
            let further = interfaces.further_by(local(), || Ok(link)).unwrap();
            let peer = PEER.parse().unwrap();
            let routes = [Route::Udp { local: Some(local()), remote: peer }, further.route(peer)];
            Self { interfaces, gates, routes, further, wakes: Arc::default() }
        }

        fn send(&self, by: usize, contents: &[u8]) -> usize {
            let transmit = Transmit {
                route: self.routes[by],
                ecn: None,
                contents,
                segment_len: contents.len(),
            };
            self.interfaces.try_send(&transmit).unwrap()
        }

        /// The driver's look at the links.
        fn poll(&self) -> Vec<Datagram> {
            let waker = Waker::from(Arc::clone(&self.wakes));
            let mut inbox = Vec::new();
            let _ = self.interfaces.poll_recv(&mut Context::from_waker(&waker), &mut inbox);
            inbox
        }

        fn wakes(&self) -> usize {
            self.wakes.0.swap(0, Ordering::AcqRel)
        }
    }

    fn local() -> IpAddr {
        [192, 0, 2, 9].into()
    }

    #[test]
    fn a_link_that_takes_nothing_holds_up_no_other() {
        for (blocked, other) in [(0, 1), (1, 0)] {
            let two = Two::new();
            two.gates[other].open();
            two.poll();
            assert_eq!(two.send(blocked, b"a"), 1);
            assert_eq!(two.wakes(), 1, "the driver looks when it takes something again");
            two.poll();
            assert_eq!(two.send(blocked, b"b"), 1);
            assert_eq!(two.send(other, b"c"), 1);
            assert_eq!([two.gates[blocked].sent(), two.gates[other].sent()], [&b""[..], b"c"]);
            assert_eq!(two.wakes(), 0);
            two.gates[blocked].open();
            assert_eq!(two.wakes(), 1);
            // What comes meanwhile comes behind.
            two.send(blocked, b"d");
            two.poll();
            two.send(blocked, b"e");
            assert_eq!(two.gates[blocked].sent(), b"abde");
        }
    }

    #[test]
    fn what_waits_for_a_link_is_bounded() {
        let two = Two::new();
        two.poll();
        for _ in 0..100 {
            assert_eq!(two.send(1, &[7; 50_000]), 50_000);
        }
        two.gates[1].open();
        two.poll();
        let sent = two.gates[1].sent().len();
        assert!((200_000..=310_000).contains(&sent), "{sent}");
    }

    #[test]
    fn a_link_that_is_alone_makes_the_transport_wait() {
        let two = Two::new();
        let Two { interfaces, routes, further, .. } = two;
        drop(further);
        let _ = interfaces.further();
        let transmit = Transmit { route: routes[0], ecn: None, contents: b"a", segment_len: 1 };
        let refused = interfaces.try_send(&transmit).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn what_came_to_an_address_is_answered_by_the_link_that_it_came_to() {
        let two = Two::new();
        two.gates.iter().for_each(|gate| gate.open());
        for (gate, route) in two.gates.iter().zip(two.routes) {
            // To the same address, as the system tells it.
            let told = Route::Udp { local: Some(local()), remote: PEER.parse().unwrap() };
            let payload = BytesMut::from(&b"x"[..]);
            gate.arrives.lock().unwrap().push(Datagram { route: told, ecn: None, payload });
            let came = two.poll();
            assert_eq!(came[0].route, route);
            assert_eq!(two.interfaces.outward(route), told);
        }
        two.send(0, b"first");
        two.send(1, b"further");
        assert_eq!([two.gates[0].sent(), two.gates[1].sent()], [&b"first"[..], b"further"]);
    }

    #[test]
    fn nothing_goes_by_another_link_when_its_own_is_gone() {
        let Two { interfaces, gates, routes, further, .. } = Two::new();
        gates.iter().for_each(|gate| gate.open());
        drop(further);
        let again: Box<dyn Link> = Box::new(Arc::clone(&gates[1]));
        let further = interfaces.further_by(local(), || Ok(again)).unwrap();
        let peer = PEER.parse().unwrap();
        assert_ne!(further.route(peer), routes[1]);
        let transmit = Transmit { route: routes[1], ecn: None, contents: b"late", segment_len: 4 };
        assert_eq!(interfaces.try_send(&transmit).unwrap(), 4);
        assert_eq!([gates[0].sent(), gates[1].sent()], [b"", b""]);
        assert_eq!(interfaces.outward(routes[1]), Route::Udp { local: None, remote: peer });
    }
}
