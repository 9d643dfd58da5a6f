//! A router that maps ports, in small: what a peer asks of it, and whom it tells.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};

use jsp::link::{Datagram, Link, Transmit, UdpLink};
use jsp::rendezvous::{Peer, Policy, PortMapError, Registration};
use jsp::{Endpoint, Fingerprint, Identity};
use jsp_nat::relay::{Class, classify};
use jsp_server::{Config, Daemon};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

/// The port of both protocols.
const PORT: u16 = 5351;
const NAT_PMP: u8 = 0;
const PCP: u8 = 2;

/// What was asked for: the port, and for how many seconds.
type Asked = (u16, u32);

/// A router on loopback, which maps everything to one address.
struct Router {
    address: Ipv4Addr,
    asked: mpsc::UnboundedReceiver<Asked>,
    /// Where mapped ports lead: what comes from outside arrives here.
    outside: UdpSocket,
}

impl Router {
    /// A router of its own for each test, for the port is the same for all.
    async fn start(last: u8, speaks: u8) -> Self {
        let address = Ipv4Addr::new(127, 0, 53, last);
        let socket = UdpSocket::bind((address, PORT)).await.unwrap();
        let outside = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let outer = outside.local_addr().unwrap().port();
        let (tell, asked) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut buffer = [0; 1100];
            while let Ok((len, from)) = socket.recv_from(&mut buffer).await {
                let answer = answer(speaks, outer, &buffer[..len], &tell);
                socket.send_to(&answer, from).await.unwrap();
            }
        });
        Self { address, asked, outside }
    }
}

/// RFC 6886, section 3, and RFC 6887, section 11.
fn answer(speaks: u8, outer: u16, request: &[u8], tell: &mpsc::UnboundedSender<Asked>) -> Vec<u8> {
    let half = |at: usize| u16::from_be_bytes(request[at..at + 2].try_into().unwrap());
    let word = |at: usize| u32::from_be_bytes(request[at..at + 4].try_into().unwrap());
    let epoch = [0, 0, 0, 9];
    match (request[0], request[1]) {
        (version, op) if version != speaks => [&[speaks, 128 | op, 0, 1][..], &epoch].concat(),
        (NAT_PMP, 0) => [&[0, 128, 0, 0][..], &epoch, &[127, 0, 0, 1]].concat(),
        (NAT_PMP, 1) => {
            let (port, seconds) = (half(4), word(8));
            tell.send((port, seconds)).unwrap();
            let outer = if seconds == 0 { 0 } else { outer };
            let tail = [port.to_be_bytes(), outer.to_be_bytes()].concat();
            [&[0, 129, 0, 0][..], &epoch, &tail, &seconds.to_be_bytes()].concat()
        }
        (PCP, 1) => {
            let (port, seconds) = (half(40), word(4));
            tell.send((port, seconds)).unwrap();
            let mut out = request.to_vec();
            (out[1], out[3]) = (129, 0);
            out[8..12].copy_from_slice(&epoch);
            out[12..24].fill(0);
            out[42..44].copy_from_slice(&outer.to_be_bytes());
            out[44..60].copy_from_slice(&Ipv4Addr::LOCALHOST.to_ipv6_mapped().octets());
            out
        }
        other => panic!("asked for {other:?}"),
    }
}

/// The socket of a host whose router lets nobody in who has not been asked, nor answers: no punch comes.
#[derive(Debug)]
struct Shut(UdpLink);

impl Link for Shut {
    fn poll_recv(&self, cx: &mut Context<'_>, inbox: &mut Vec<Datagram>) -> Poll<io::Result<()>> {
        let old = inbox.len();
        let polled = self.0.poll_recv(cx, inbox);
        let came = inbox.split_off(old);
        inbox.extend(came.into_iter().filter(|came| classify(&came.payload) != Class::Punch));
        polled
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<usize> {
        self.0.try_send(transmit)
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_writable(cx)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

async fn peer(daemon: &Daemon) -> (Peer, Registration, Fingerprint) {
    let identity = Identity::generate();
    let fingerprint = identity.fingerprint();
    let link = Box::new(Shut(UdpLink::bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap()));
    let builder = Endpoint::builder().identity(identity);
    let peer = Peer::with_link(builder, Policy::Any, link).unwrap();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, daemon.local_addr().unwrap().port()));
    let registration = peer.register(address, daemon.fingerprint()).await.unwrap();
    (peer, registration, fingerprint)
}

fn coordinator() -> Arc<Daemon> {
    let config = Config { bind: "127.0.0.1:0".to_owned(), ..Config::default() };
    let daemon = Arc::new(Daemon::start_as(&config, Identity::generate()).unwrap());
    let serving = Arc::clone(&daemon);
    tokio::spawn(async move { serving.serve().await });
    daemon
}

/// A port is mapped, told to who calls and tried by it, and given back.
async fn is_mapped_told_and_given_back(mut router: Router) {
    let daemon = coordinator();
    let (one, _stays, name) = peer(&daemon).await;
    let (_two, calls, _) = peer(&daemon).await;
    let map = one.map_port(Some(router.address)).await.unwrap();
    assert_eq!(map.address(), router.outside.local_addr().unwrap());
    let (port, seconds) = router.asked.recv().await.unwrap();
    assert_eq!(port, one.endpoint().local_addr().unwrap().port());
    assert!(seconds > 60);
    let (caller, called) = tokio::join!(calls.connect(name), one.accept());
    let (_caller, _called) = (caller.unwrap(), called.unwrap());
    let mut buffer = [0; 100];
    let (len, _) = router.outside.recv_from(&mut buffer).await.unwrap();
    assert_eq!(classify(&buffer[..len]), Class::Punch);
    map.release().await;
    assert_eq!(router.asked.recv().await, Some((port, 0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn by_nat_pmp() {
    is_mapped_told_and_given_back(Router::start(1, NAT_PMP).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn by_pcp() {
    is_mapped_told_and_given_back(Router::start(2, PCP).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_it_gives_it_back() {
    let mut router = Router::start(3, NAT_PMP).await;
    let identity = Identity::generate();
    let peer = Peer::build(Endpoint::builder().identity(identity), Policy::Any).unwrap();
    let map = peer.map_port(Some(router.address)).await.unwrap();
    let (port, _) = router.asked.recv().await.unwrap();
    drop(map);
    assert_eq!(router.asked.recv().await, Some((port, 0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_mapping_does_not_take_another_with_it() {
    let daemon = coordinator();
    let (peer, _stays, name) = peer(&daemon).await;
    let (_other, calls, _) = self::peer(&daemon).await;
    let (mut one, mut two) = (Router::start(5, NAT_PMP).await, Router::start(6, PCP).await);
    let first = peer.map_port(Some(one.address)).await.unwrap();
    let second = peer.map_port(Some(two.address)).await.unwrap();
    let error = peer.map_port(Some(two.address)).await.unwrap_err();
    assert!(matches!(error, PortMapError::InUse), "{error}");
    first.release().await;
    // The other router's is told and tried still.
    let (caller, called) = tokio::join!(calls.connect(name), peer.accept());
    let (_caller, _called) = (caller.unwrap(), called.unwrap());
    let mut buffer = [0; 100];
    let (len, _) = two.outside.recv_from(&mut buffer).await.unwrap();
    assert_eq!(classify(&buffer[..len]), Class::Punch);
    second.release().await;
    // Once it is given back the same router may be asked anew.
    let again = peer.map_port(Some(two.address)).await.unwrap();
    again.release().await;
    for (router, times) in [(&mut one, 2), (&mut two, 4)] {
        for n in 0..times {
            assert_eq!(router.asked.recv().await.unwrap().1 == 0, n % 2 == 1);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
// spec-test: RDV-30
async fn who_may_tell_no_address_asks_no_router() {
    let mut router = Router::start(4, NAT_PMP).await;
    let identity = Identity::generate();
    let peer = Peer::build(Endpoint::builder().identity(identity), Policy::RelayOnly).unwrap();
    let error = peer.map_port(Some(router.address)).await.unwrap_err();
    assert!(matches!(error, PortMapError::Forbidden), "{error}");
    assert!(router.asked.try_recv().is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_that_refuses_says_so() {
    let identity = Identity::generate();
    let peer = Peer::build(Endpoint::builder().identity(identity), Policy::Any).unwrap();
    // Nobody listens there, which this host's system says at once.
    let error = peer.map_port(Some(Ipv4Addr::new(127, 0, 53, 99))).await.unwrap_err();
    assert!(matches!(error, PortMapError::Refused(_)), "{error}");
}
