//! A coordinator and peers over real sockets.

mod talk;
mod tapped;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use jsp::link::{Datagram, Link, Route, Transmit, UdpLink};
use jsp::rendezvous::{CallError, Peer, Policy, Refusal, RegisterError, Registration};
use jsp::{
    AddPathError, BindError, Builder, Connection, Endpoint, Fingerprint, Identity, StreamConfig,
    TransportConfig,
};
use jsp_nat::relay::{Class, classify};
use jsp_nat::stun::{Request, Response};
use jsp_server::{Config, Daemon, Status};
use talk::talk;
use tapped::Tapped;

/// A daemon at work.
struct Running {
    daemon: Arc<Daemon>,
    address: SocketAddr,
}

impl Running {
    fn start(config: Config) -> Self {
        let config = Config { bind: "127.0.0.1:0".to_owned(), ..config };
        let daemon = Daemon::start_as(&config, Identity::generate()).unwrap();
        let daemon = Arc::new(daemon);
        let serving = Arc::clone(&daemon);
        tokio::spawn(async move { serving.serve().await });
        let address = daemon.local_addr().unwrap();
        Self { daemon, address }
    }

    async fn peer(&self, policy: Policy) -> (Peer, Registration, Fingerprint) {
        self.peer_by(|builder| Peer::build(builder, policy)).await
    }

    async fn peer_by(
        &self,
        build: impl FnOnce(Builder) -> Result<Peer, BindError>,
    ) -> (Peer, Registration, Fingerprint) {
        let identity = Identity::generate();
        let fingerprint = identity.fingerprint();
        let peer = build(Endpoint::builder().identity(identity)).unwrap();
        let registration = peer.register(self.address, self.daemon.fingerprint()).await.unwrap();
        (peer, registration, fingerprint)
    }
}

/// A host with two addresses: it is at the second once it has moved, and nowhere else. Punches do not
/// pass at the first; at the second none leaves before one has come.
#[derive(Debug)]
struct Moving {
    links: [UdpLink; 2],
    has_moved: Arc<AtomicBool>,
    is_punched: AtomicBool,
}

impl Moving {
    fn new() -> (Self, Arc<AtomicBool>) {
        let has_moved = Arc::new(AtomicBool::new(false));
        let links = [0; 2].map(|port| UdpLink::bind(([127, 0, 0, 1], port).into()).unwrap());
        (Self { links, has_moved: Arc::clone(&has_moved), is_punched: false.into() }, has_moved)
    }

    fn at(&self) -> &UdpLink {
        &self.links[usize::from(self.has_moved.load(Ordering::Relaxed))]
    }
}

impl Link for Moving {
    fn poll_recv(&self, cx: &mut Context<'_>, inbox: &mut Vec<Datagram>) -> Poll<io::Result<()>> {
        let old = inbox.len();
        let has_moved = self.has_moved.load(Ordering::Relaxed);
        for (link, is_here) in self.links.iter().zip([!has_moved, has_moved]) {
            let before = inbox.len();
            while let Poll::Ready(received) = link.poll_recv(cx, inbox) {
                received?;
            }
            let came = inbox.split_off(before).into_iter();
            inbox.extend(came.filter(|datagram| {
                let is_punch = classify(&datagram.payload) == Class::Punch;
                self.is_punched.fetch_or(is_here && has_moved && is_punch, Ordering::Relaxed);
                is_here && (has_moved || !is_punch)
            }));
        }
        if inbox.len() > old { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<usize> {
        let passes = self.is_punched.load(Ordering::Relaxed);
        if classify(transmit.contents) == Class::Punch && !passes {
            return Ok(transmit.contents.len());
        }
        // The transport names the address that it knows; the system takes the one that is there.
        let route = transmit.route.remote().map_or(transmit.route, Route::udp);
        self.at().try_send(&Transmit { route, ..*transmit })
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.at().poll_writable(cx)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.at().local_addr()
    }

    fn segments_max(&self) -> usize {
        self.at().segments_max()
    }
}

/// A host from which every second packet is lost that does not go to the coordinator. Punches pass.
fn halving(coordinator: SocketAddr) -> impl Link {
    let is_next_lost = AtomicBool::new(false);
    Tapped::new(move |transmit| {
        let is_packet = classify(transmit.contents) == Class::Transport
            && transmit.route.remote() != Some(coordinator);
        !(is_packet && is_next_lost.fetch_xor(true, Ordering::Relaxed))
    })
}

fn is_relayed(connection: &Connection) -> bool {
    matches!(connection.route(), Route::Relayed { .. })
}

#[tokio::test(flavor = "multi_thread")]
async fn two_peers_meet_over_the_relay_and_go_past_it() {
    let running = Running::start(Config::default());
    let (_one, registration, _) = running.peer(Policy::Any).await;
    let (two, _stays, fingerprint) = running.peer(Policy::Any).await;
    // The caller talks at once: what it says does not overtake where it can be reached.
    let calling = async {
        let caller = registration.connect(fingerprint).await.unwrap();
        caller.send_one(StreamConfig::messages(), "hello").await.unwrap();
        caller
    };
    let (caller, called) = tokio::join!(calling, two.accept());
    let called = called.unwrap();
    let hello = called.accept().await.unwrap().recv().await.unwrap().unwrap();
    assert_eq!(hello.payload[..], *b"hello");
    assert_eq!(caller.peer_identity().unwrap().fingerprint, fingerprint);
    assert!(running.daemon.status().relayed_datagrams_total > 0);
    talk(&caller, &called, |_| !is_relayed(&called)).await;
    // From here on nothing passes through the relay, once what was under way has come.
    let mut quiet = (u64::MAX, 0);
    talk(&caller, &called, |_| {
        let relayed = running.daemon.status().relayed_datagrams_total;
        quiet = if quiet.0 == relayed { (relayed, quiet.1 + 1) } else { (relayed, 0) };
        quiet.1 > 100
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_use_the_relay_alone_stays_there() {
    let running = Running::start(Config::default());
    let (_one, registration, _) = running.peer(Policy::Any).await;
    let (two, _stays, fingerprint) = running.peer(Policy::RelayOnly).await;
    let (caller, called) = tokio::join!(registration.connect(fingerprint), two.accept());
    let (caller, called) = (caller.unwrap(), called.unwrap());
    talk(&caller, &called, |number| number > 200).await;
    assert!(is_relayed(&caller) && is_relayed(&called));
    let refused = caller.add_path([127, 0, 0, 1].into()).await;
    assert!(matches!(refused, Err(AddPathError::NotPlain)), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
// spec-test: RDV-189
async fn who_may_use_the_relay_alone_answers_nobody_who_suspects_it_somewhere() {
    let running = Running::start(Config::default());
    let (_one, registration, _) = running.peer(Policy::Any).await;
    let (two, _stays, fingerprint) = running.peer(Policy::RelayOnly).await;
    let port = two.endpoint().local_addr().unwrap().port();
    let suspected = SocketAddr::from(([127, 0, 0, 1], port));
    let stranger = Endpoint::client().unwrap();
    // What would be answered without looking into it: a version that nobody speaks, and a connection that is lost.
    let raw = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut other_version = vec![0; 1200];
    other_version[..14].copy_from_slice(&[0xc0, 9, 9, 9, 9, 4, 1, 1, 1, 1, 2, 2, 2, 2]);
    raw.send_to(&other_version, suspected).await.unwrap();
    raw.send_to(&[0x47; 100], suspected).await.unwrap();
    let mut asking = std::pin::pin!(stranger.connect(suspected, fingerprint));
    let poll_once = std::future::poll_fn(|cx| Poll::Ready(asking.as_mut().poll(cx).is_pending()));
    assert!(poll_once.await);
    // It has come before what comes by the relay.
    let talking = async {
        let (caller, called) = tokio::join!(registration.connect(fingerprint), two.accept());
        talk(&caller.unwrap(), &called.unwrap(), |number| number > 300).await;
    };
    tokio::select! {
        biased;
        _ = asking => panic!("it was answered"),
        () = talking => {}
    }
    let answer = raw.try_recv_from(&mut [0; 1500]);
    assert_eq!(answer.unwrap_err().kind(), io::ErrorKind::WouldBlock);
    // Others can be called directly still.
    let (any, _stays, fingerprint) = running.peer(Policy::Any).await;
    let at = SocketAddr::from(([127, 0, 0, 1], any.endpoint().local_addr().unwrap().port()));
    stranger.connect(at, fingerprint).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_there_or_not_allowed_is_told_of() {
    let running = Running::start(Config::default());
    let (_peer, registration, _) = running.peer(Policy::Any).await;
    let nobody = Identity::generate().fingerprint();
    let error = registration.connect(nobody).await.unwrap_err();
    assert!(matches!(error, CallError::Refused { reason: Refusal::Unknown, .. }), "{error}");

    let allow = vec![nobody.to_string()];
    let running = Running::start(Config { allow, ..Config::default() });
    let stranger = Endpoint::builder().identity(Identity::generate());
    let stranger = Peer::build(stranger, Policy::Any).unwrap();
    let error = stranger.register(running.address, running.daemon.fingerprint()).await.unwrap_err();
    assert!(matches!(error, RegisterError::Connect(_) | RegisterError::Closed(_)), "{error}");

    let server = Endpoint::server("127.0.0.1:0", Identity::generate()).unwrap();
    let address = server.local_addr().unwrap();
    let fingerprint = server.fingerprint();
    tokio::spawn(async move {
        let connection = server.accept().await.unwrap();
        let stream = connection.accept().await.unwrap();
        drop(stream);
        connection.closed().await;
    });
    let error = stranger.register(address, fingerprint).await.unwrap_err();
    assert!(matches!(error, RegisterError::NoCoordinator), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
// spec-test: RDV-22
async fn who_moves_is_found_where_its_connection_is() {
    let running = Running::start(Config::default());
    let (_one, registration, _) = running.peer(Policy::RelayOnly).await;
    let (link, has_moved) = Moving::new();
    let build = |builder| Peer::with_link(builder, Policy::RelayOnly, Box::new(link));
    let (two, moves, fingerprint) = running.peer_by(build).await;
    let (caller, called) = tokio::join!(registration.connect(fingerprint), two.accept());
    let (caller, called) = (caller.unwrap(), called.unwrap());
    talk(&caller, &called, |number| number > 20).await;
    has_moved.store(true, Ordering::Relaxed);
    // It says something to the coordinator, and nothing by the relay.
    let nobody = Identity::generate().fingerprint();
    assert!(matches!(moves.connect(nobody).await, Err(CallError::Refused { .. })));
    let heard = async {
        caller.send_one(StreamConfig::messages(), "there?").await.unwrap();
        called.accept().await.unwrap().recv().await.unwrap().unwrap()
    };
    // Long before the coordinator hears of it again by itself.
    let heard = tokio::time::timeout(Duration::from_secs(8), heard).await.unwrap();
    assert_eq!(heard.payload[..], *b"there?");
}

#[tokio::test(flavor = "multi_thread")]
// spec-test: RDV-6
async fn the_same_port_answers_stun() {
    let running = Running::start(Config::default());
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let request = Request { transaction: [7; 12], response_port: None };
    socket.send_to(&request.encode(), running.address).await.unwrap();
    let mut buffer = [0; 600];
    let (len, from) = socket.recv_from(&mut buffer).await.unwrap();
    assert_eq!(from, running.address);
    let response = Response::decode(&buffer[..len]).unwrap();
    assert_eq!(response.mapped, socket.local_addr().unwrap());
}

#[tokio::test(flavor = "multi_thread")]
// spec-test: RDV-36
async fn who_moves_tells_the_other_where_it_may_be_reached_now() {
    let [running, second] = [0; 2].map(|_| Running::start(Config::default()));
    let (_one, registration, _) = running.peer(Policy::Any).await;
    let (link, has_moved) = Moving::new();
    let build = |builder| Peer::with_link(builder, Policy::Any, Box::new(link));
    let (two, moves, fingerprint) = running.peer_by(build).await;
    let (caller, called) = tokio::join!(registration.connect(fingerprint), two.accept());
    let (caller, called) = (caller.unwrap(), called.unwrap());
    talk(&caller, &called, |number| number > 20).await;
    assert!(is_relayed(&called));
    has_moved.store(true, Ordering::Relaxed);
    let nobody = Identity::generate().fingerprint();
    assert!(matches!(moves.connect(nobody).await, Err(CallError::Refused { .. })));
    // Another coordinator sees it at its new address.
    let _sees = two.register(second.address, second.daemon.fingerprint()).await.unwrap();
    talk(&caller, &called, |_| !is_relayed(&called)).await;
}

#[tokio::test(flavor = "multi_thread")]
// spec-test: RDV-36
async fn a_way_on_which_packets_are_lost_now_and_then_is_not_left() {
    let running = Running::start(Config::default());
    let link = Box::new(halving(running.address));
    let build = |builder| Peer::with_link(builder, Policy::Any, link);
    let (one, registration, _) = running.peer_by(build).await;
    let (two, _stays, fingerprint) = running.peer(Policy::Any).await;
    let (caller, called) = tokio::join!(registration.connect(fingerprint), two.accept());
    let (caller, called) = (caller.unwrap(), called.unwrap());
    talk(&caller, &called, |_| one.is_direct(&caller) && two.is_direct(&called)).await;
    // Each takes 25 ms at least, so that they are looked at again and again.
    let timeouts = || [&caller, &called].map(|side| side.stats().traffic.probe_timeouts);
    let before = timeouts();
    talk(&caller, &called, |_| {
        timeouts().iter().zip(before).any(|(now, before)| now - before > 80)
    })
    .await;
    assert!(one.is_direct(&caller) && two.is_direct(&called));
}

#[tokio::test(flavor = "multi_thread")]
// spec-test: RDV-14
async fn ways_end_with_what_went_by_them() {
    let running = Running::start(Config::default());
    let (_one, registration, _) = running.peer(Policy::RelayOnly).await;
    let (two, _stays, fingerprint) = running.peer(Policy::RelayOnly).await;
    // Somebody else asks the coordinator meanwhile, again and again.
    let (_other, asks, _) = running.peer(Policy::RelayOnly).await;
    let nobody = Identity::generate().fingerprint();
    let until = async |is_so: &dyn Fn(Status) -> bool| {
        while !is_so(running.daemon.status()) {
            assert!(asks.connect(nobody).await.is_err());
        }
    };
    // One side drops the connection.
    let (caller, called) = tokio::join!(registration.connect(fingerprint), two.accept());
    let (caller, _called) = (caller.unwrap(), called.unwrap());
    assert_eq!(running.daemon.status().channels, 1);
    drop(caller);
    until(&|status| status.channels == 0).await;
    // The caller gives up before it is answered.
    let opened = running.daemon.status().channels_opened_total;
    {
        let mut calling = std::pin::pin!(registration.connect(fingerprint));
        std::future::poll_fn(|cx| {
            let _ = calling.as_mut().poll(cx);
            Poll::Ready(())
        })
        .await;
    }
    until(&|status| status.channels_opened_total > opened && status.channels == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_learn_of_the_end() {
    let running = Running::start(Config::default());
    let (_peer, registration, _) = running.peer(Policy::Any).await;
    let (closed, ()) = tokio::join!(registration.closed(), running.daemon.shutdown());
    assert!(closed.to_string().contains("going down"), "{closed}");
}

#[test]
fn a_peer_is_built_only_as_it_can_be() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _inside = runtime.enter();
    let identity = || Endpoint::builder().identity(Identity::generate());
    assert!(Peer::build(Endpoint::builder(), Policy::Any).is_err());
    assert!(Peer::build(identity(), Policy::ProxyOnly).is_err());
    let key = Identity::generate().fingerprint();
    assert!(Peer::build(identity().obfuscation(key), Policy::Any).is_err());
    // spec-test: RDV-189
    let mut preferred = TransportConfig::default();
    preferred.preferred.v4 = Some("192.0.2.1:1".parse().unwrap());
    type Where<'a> = &'a dyn Fn() -> Builder;
    let found: [Where<'_>; 3] = [
        &|| identity().preferred_address("127.0.0.1:0"),
        &|| identity().transport(preferred.clone()),
        &|| identity().listen_tcp("127.0.0.1:0"),
    ];
    for builder in found {
        let error = Peer::build(builder(), Policy::RelayOnly).unwrap_err();
        assert!(error.to_string().contains("relays alone"), "{error}");
        assert!(Peer::build(builder(), Policy::Any).is_ok());
    }
}
