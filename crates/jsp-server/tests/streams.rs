//! A coordinator that is reached by streams, where UDP does not pass.

mod talk;

use std::io;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use jsp::carrier::TlsClient;
use jsp::link::{Datagram, Link, Transmit, UdpLink};
use jsp::rendezvous::{Passage, Peer, Policy, Registration};
use jsp::{
    Builder, Carrier, CarrierKind, CarrierPolicy, Endpoint, Fingerprint, Identity, Proxy,
    StreamConfig, TransportConfig,
};
use jsp_server::{Config, Daemon, StreamsConfig};
use talk::talk;

/// A host's socket, as long as the network lets UDP pass.
#[derive(Debug)]
struct Blockable {
    link: UdpLink,
    passes: Arc<AtomicBool>,
    sent: Arc<AtomicUsize>,
}

impl Link for Blockable {
    fn poll_recv(&self, cx: &mut Context<'_>, inbox: &mut Vec<Datagram>) -> Poll<io::Result<()>> {
        let old = inbox.len();
        let polled = self.link.poll_recv(cx, inbox);
        if !self.passes.load(Ordering::Relaxed) {
            inbox.truncate(old);
        }
        polled
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<usize> {
        self.sent.fetch_add(1, Ordering::Relaxed);
        match self.passes.load(Ordering::Relaxed) {
            true => self.link.try_send(transmit),
            false => Ok(transmit.contents.len()),
        }
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.link.poll_writable(cx)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.link.local_addr()
    }
}

struct Running {
    daemon: Arc<Daemon>,
    /// Where it is reached.
    udp: SocketAddr,
    streams: Vec<(CarrierKind, SocketAddr)>,
}

impl Running {
    fn start() -> Self {
        let any = || vec!["127.0.0.1:0".to_owned()];
        let streams =
            StreamsConfig { tcp: any(), tls: any(), websocket: any(), ..StreamsConfig::default() };
        let bind = "127.0.0.1:0".to_owned();
        let mut config = Config { bind, streams, ..Config::default() };
        config.limits.relay_bytes_per_second = 100_000_000;
        let daemon = Arc::new(Daemon::start_as(&config, Identity::generate()).unwrap());
        let serving = Arc::clone(&daemon);
        tokio::spawn(async move { serving.serve().await });
        let (udp, streams) = (daemon.local_addr().unwrap(), daemon.stream_addrs().to_vec());
        Self { daemon, udp, streams }
    }

    /// The carrier of this kind, at the port where it is listened for.
    fn carrier(&self, kind: CarrierKind) -> Carrier {
        let carrier = match kind {
            CarrierKind::Tls => Carrier::tls(TlsClient::new()),
            CarrierKind::WebSocket => Carrier::websocket("/"),
            _ => Carrier::tcp(),
        };
        carrier.port(self.streams.iter().find(|(is, _)| *is == kind).unwrap().1.port())
    }

    /// A peer that goes by the relay alone.
    async fn peer(&self, carriers: CarrierPolicy) -> Met {
        let (passes, sent) = (Arc::new(AtomicBool::new(true)), Arc::default());
        let link = UdpLink::bind(([127, 0, 0, 1], 0).into()).unwrap();
        let link =
            Blockable { link, passes: Arc::clone(&passes), sent: Arc::<AtomicUsize>::clone(&sent) };
        let identity = Identity::generate();
        let name = identity.fingerprint();
        // One that says nothing does not notice that nothing passes.
        let keep_alive = Some(Duration::from_millis(100));
        let transport = TransportConfig { keep_alive, ..TransportConfig::default() };
        let builder = Endpoint::builder().identity(identity).transport(transport);
        let builder = builder.carriers(carriers);
        let peer = Peer::with_link(builder, Policy::RelayOnly, Box::new(link)).unwrap();
        let registration = peer.register(self.udp, self.daemon.fingerprint()).await.unwrap();
        Met { peer, registration, name, passes, sent }
    }
}

struct Met {
    peer: Peer,
    registration: Registration,
    name: Fingerprint,
    passes: Arc<AtomicBool>,
    sent: Arc<AtomicUsize>,
}

/// A proxy that speaks SOCKS5, from the system's packages; ends with the test.
struct Microsocks(Child, SocketAddr);

impl Microsocks {
    async fn start() -> Self {
        // A port that is free at this moment.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let child = Command::new("microsocks")
            .args(["-i", "127.0.0.1", "-p", &address.port().to_string()])
            .stderr(Stdio::null())
            .spawn()
            .expect("microsocks does not run: install it");
        while tokio::net::TcpStream::connect(address).await.is_err() {
            tokio::task::yield_now().await;
        }
        Self(child, address)
    }
}

impl Drop for Microsocks {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// One calls the other over the relay, and bulk passes whole.
async fn call_and_send(running: &Running, one: &Met, other: &Met) {
    let (caller, called) = tokio::join!(one.registration.connect(other.name), other.peer.accept());
    let (caller, called) = (caller.unwrap(), called.unwrap());
    assert_eq!(one.peer.passage(&caller), Passage::Relay);
    let before = running.daemon.status().relayed_bytes_total;
    let stream = caller.open(StreamConfig::messages()).await.unwrap();
    let sent: Vec<u8> = (0..2_000_000u32).map(|n| (n % 251) as u8).collect();
    let (sending, came) = tokio::join!(stream.send(sent.clone()), async {
        called.accept().await.unwrap().recv().await.unwrap().unwrap()
    });
    sending.unwrap();
    assert!(came.payload == sent);
    assert!(running.daemon.status().relayed_bytes_total > before + 2_000_000);
}

#[tokio::test(flavor = "multi_thread")]
// spec-test: RDV-126
async fn peers_without_udp_meet_and_talk_by_streams_of_each_kind() {
    let running = Running::start();
    let by = |kind| CarrierPolicy::Only(vec![running.carrier(kind)]);
    let mut all = Vec::new();
    for kind in [CarrierKind::Tcp, CarrierKind::Tls, CarrierKind::WebSocket] {
        let met = running.peer(by(kind)).await;
        met.passes.store(false, Ordering::Relaxed);
        assert_eq!(met.registration.observed(), None);
        all.push(met);
    }
    let with_udp = running.peer(CarrierPolicy::UdpOnly).await;
    let [tcp, tls, websocket] = &all[..] else { panic!("three") };
    call_and_send(&running, tcp, websocket).await;
    call_and_send(&running, tls, &with_udp).await;
    call_and_send(&running, &with_udp, tcp).await;
    for met in &all {
        assert_eq!(met.sent.load(Ordering::Relaxed), 0, "a datagram has left");
    }
}

#[tokio::test(flavor = "multi_thread")]
// spec-test: RDV-126
async fn a_relayed_conversation_goes_on_by_a_stream_when_udp_is_blocked_and_comes_back() {
    let running = Running::start();
    let race = CarrierPolicy::Race(vec![running.carrier(CarrierKind::Tcp)]);
    let one = running.peer(race).await;
    let two = running.peer(CarrierPolicy::UdpOnly).await;
    let (caller, called) = tokio::join!(one.registration.connect(two.name), two.peer.accept());
    let (caller, called) = (caller.unwrap(), called.unwrap());
    one.passes.store(false, Ordering::Relaxed);
    // What is heard now comes by the stream.
    talk(&caller, &called, |number| number > 20).await;
    assert_eq!(one.registration.kind(), CarrierKind::Tcp);
    one.passes.store(true, Ordering::Relaxed);
    talk(&caller, &called, |_| one.registration.kind() == CarrierKind::Udp).await;
    talk(&caller, &called, |number| number > 20).await;
}

#[tokio::test(flavor = "multi_thread")]
// spec-test: RDV-30
async fn peers_who_may_use_a_proxy_alone_meet_through_it_and_have_no_socket() {
    let (running, other) = (Running::start(), Running::start());
    let microsocks = Microsocks::start().await;
    let proxied = |identity, carriers| {
        let proxy: Proxy = format!("socks5://{}", microsocks.1).parse().unwrap();
        Endpoint::builder().identity(identity).proxy(proxy).carriers(carriers)
    };
    let only = || CarrierPolicy::Only(vec![running.carrier(CarrierKind::Tcp)]);
    let mut all = Vec::new();
    for _ in 0..2 {
        let identity = Identity::generate();
        let name = identity.fingerprint();
        let peer = Peer::build(proxied(identity, only()), Policy::ProxyOnly).unwrap();
        let registration = peer.register(running.udp, running.daemon.fingerprint()).await.unwrap();
        let (passes, sent) = (Arc::default(), Arc::default());
        all.push(Met { peer, registration, name, passes, sent });
    }
    let with_udp = running.peer(CarrierPolicy::UdpOnly).await;
    call_and_send(&running, &all[0], &all[1]).await;
    call_and_send(&running, &with_udp, &all[0]).await;
    for met in &all {
        // The coordinator sees the proxy, and this host has no port that anything could come to.
        assert_eq!(met.registration.observed(), None);
        assert_eq!(met.peer.endpoint().local_addr().unwrap().port(), 0);
        assert!(met.peer.discover([running.udp, other.udp]).await.is_err());
        assert!(met.peer.keep_alive_interval(running.udp).await.is_err());
        assert!(met.peer.filtering([running.udp, other.udp]).await.is_err());
    }
    let id = Identity::generate;
    let unfit: [(Builder, Policy); 4] = [
        (Endpoint::builder().identity(id()).carriers(only()), Policy::ProxyOnly),
        (proxied(id(), CarrierPolicy::Race(vec![Carrier::tcp()])), Policy::ProxyOnly),
        (proxied(id(), only()).listen_tcp("127.0.0.1:0"), Policy::ProxyOnly),
        (proxied(id(), only()), Policy::Any),
    ];
    for (builder, policy) in unfit {
        assert!(Peer::build(builder, policy).is_err());
    }
    let link = UdpLink::bind(([127, 0, 0, 1], 0).into()).unwrap();
    assert!(Peer::with_link(proxied(id(), only()), Policy::ProxyOnly, Box::new(link)).is_err());
}
