//! Connections over streams: races, switches, deadlines, and peers that misuse them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use jsp::carrier::{Connecting, StreamListener, StreamNetwork};
use jsp::emulate::{BadLink, Control, StreamNet, pair};
use jsp::{
    AddPathError, Carrier, CarrierKind, CarrierPolicy, ConnectError, Connection, Endpoint,
    Identity, Message, MessageFate, StreamConfig,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

const SERVER: &str = "192.0.2.2:2";

/// One way, in the networks of these tests.
const DELAY: Duration = Duration::from_millis(25);

/// Sends in both directions and looks at what arrives.
async fn talk(client: &Connection, server: &Connection) {
    let mut near = client.open(StreamConfig::bytes()).await.unwrap();
    let data: Vec<u8> = (0..300_000u32).map(|n| (n / 7) as u8).collect();
    let expected = data.clone();
    let echo = async {
        let mut far = server.accept().await.unwrap();
        let mut got = vec![0; expected.len()];
        far.read_exact(&mut got).await.unwrap();
        assert!(got == expected);
        far.write_all(&got).await.unwrap();
        far
    };
    let ask = async {
        near.write_all(&data).await.unwrap();
        let mut got = vec![0; data.len()];
        near.read_exact(&mut got).await.unwrap();
        assert!(got == data);
    };
    let (_far, ()) = tokio::join!(echo, ask);
}

async fn meet(client: &Endpoint, server: &Endpoint, addr: SocketAddr) -> (Connection, Connection) {
    let trust = server.fingerprint();
    let (near, far) = tokio::join!(client.connect(addr, trust), server.accept());
    (near.unwrap(), far.unwrap())
}

#[tokio::test]
/// spec-test: CAR-1, CAR-3
async fn everything_goes_over_tcp() {
    let server = Endpoint::builder()
        .identity(Identity::generate())
        .listen_tcp("127.0.0.1:0")
        .build()
        .unwrap();
    let (kind, addr) = server.carrier_addrs()[0];
    assert_eq!((kind, addr), (CarrierKind::Tcp, server.local_addr().unwrap()));
    let policy = CarrierPolicy::Only(vec![Carrier::tcp()]);
    let client = Endpoint::builder().carriers(policy).build().unwrap();
    let (near, far) = meet(&client, &server, addr).await;
    assert_eq!(near.remote_addr(), addr);
    for connection in [&near, &far] {
        let can = connection.capabilities();
        assert_eq!((can.carrier, can.reliable, can.unordered), (CarrierKind::Tcp, true, false));
        assert_eq!(can.datagram_len, 1452);
    }
    talk(&near, &far).await;
    let refused = near.add_path([127, 0, 0, 5].into()).await;
    assert!(matches!(refused, Err(AddPathError::NotPlain)), "{refused:?}");
    near.close(7, b"enough");
    assert!(matches!(far.closed().await, jsp::ConnectionError::ClosedByPeer { code: 7, .. }));
    server.shutdown().await;
}

/// A server and a client that may take UDP, behind an emulated network, and streams.
struct World {
    server: Endpoint,
    client: Endpoint,
    udp: Control,
    streams: StreamNet,
}

impl World {
    fn new(policy: CarrierPolicy) -> Self {
        Self::blocking(0, policy)
    }

    /// One that streams to this port do not pass. The server is at port 443 too.
    fn blocking(port: u16, policy: CarrierPolicy) -> Self {
        let (near, far) = pair();
        let streams = StreamNet::new(DELAY);
        let network = || Arc::new(Blocked(streams.clone(), port)) as Arc<dyn StreamNetwork>;
        let server = Endpoint::builder()
            .link(Box::new(far))
            .identity(Identity::generate())
            .listen_tcp(SERVER)
            .listen_tcp("192.0.2.2:443")
            .stream_network(network())
            .build()
            .unwrap();
        let near = BadLink { one_way_delay: DELAY, ..BadLink::default() }.link(near);
        let udp = near.control();
        let client = Endpoint::builder()
            .link(Box::new(near))
            .carriers(policy)
            .stream_network(network())
            .build()
            .unwrap();
        Self { server, client, udp, streams }
    }

    async fn meet(&self) -> (Connection, Connection) {
        meet(&self.client, &self.server, SERVER.parse().unwrap()).await
    }
}

/// Streams to this port do not open, and nobody says so.
#[derive(Debug)]
struct Blocked(StreamNet, u16);

impl StreamNetwork for Blocked {
    fn connect(&self, remote: SocketAddr) -> Connecting<'_> {
        match remote.port() == self.1 {
            true => Box::pin(std::future::pending()),
            false => self.0.connect(remote),
        }
    }

    fn listen(&self, local: SocketAddr) -> std::io::Result<Box<dyn StreamListener>> {
        self.0.listen(local)
    }
}

fn race() -> CarrierPolicy {
    CarrierPolicy::Race(vec![Carrier::tcp()])
}

#[tokio::test(start_paused = true)]
/// spec-test: CAR-15
async fn udp_is_used_where_it_works() {
    let world = World::new(race());
    let begin = Instant::now();
    let (near, far) = world.meet().await;
    assert!(begin.elapsed() <= 4 * DELAY, "{:?}", begin.elapsed());
    assert_eq!(near.capabilities().carrier, CarrierKind::Udp);
    assert!(!near.capabilities().reliable && near.capabilities().unordered);
    talk(&near, &far).await;
    assert_eq!(world.streams.opened(), 0);
}

#[tokio::test(start_paused = true)]
/// spec-test: CAR-15
async fn without_udp_a_stream_is_there_in_400_ms_and_two_round_trips() {
    let world = World::new(race());
    world.udp.cut();
    let begin = Instant::now();
    let (near, far) = world.meet().await;
    assert!(begin.elapsed() <= Duration::from_millis(400) + 4 * DELAY, "{:?}", begin.elapsed());
    assert_eq!(near.capabilities().carrier, CarrierKind::Tcp);
    talk(&near, &far).await;
}

/// Numbered messages that must all arrive, once and in order, and the time between any two.
async fn call(near: &Connection, far: &Connection, messages: u32) -> Duration {
    let stream = near.open(StreamConfig::chat()).await.unwrap();
    let send = async {
        for n in 0..messages {
            stream.send(n.to_be_bytes().to_vec()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let hear = async {
        let heard = far.accept().await.unwrap();
        let (mut last, mut gap) = (Instant::now(), Duration::ZERO);
        for n in 0..messages {
            let message = heard.recv().await.unwrap().unwrap();
            assert_eq!(message.payload, n.to_be_bytes()[..]);
            gap = gap.max(last.elapsed());
            last = Instant::now();
        }
        gap
    };
    tokio::join!(send, hear).1
}

/// Waits until the connection is carried so.
async fn carried_by(connection: &Connection, kind: CarrierKind) -> Duration {
    let begin = Instant::now();
    while connection.capabilities().carrier != kind {
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert!(begin.elapsed() < Duration::from_secs(60), "never");
    }
    begin.elapsed()
}

#[tokio::test(start_paused = true)]
/// spec-test: CAR-13, CAR-30, CAR-31, CAR-32, CAR-33
async fn a_call_goes_on_in_a_stream_and_comes_back() {
    let world = World::new(race());
    let (near, far) = world.meet().await;
    let limit = Duration::from_millis(1500) + 4 * DELAY;
    let (there, back) = (call(&near, &far, 1500), call(&far, &near, 1500));
    let network = async {
        for round in 1..=2 {
            tokio::time::sleep(Duration::from_secs(3)).await;
            world.udp.cut();
            let took = carried_by(&near, CarrierKind::Tcp).await;
            assert!(took <= limit, "{took:?}");
            assert_eq!(world.streams.opened(), round);
            tokio::time::sleep(Duration::from_secs(2)).await;
            assert_eq!(far.capabilities().carrier, CarrierKind::Tcp);
            world.udp.restore();
            let took = carried_by(&near, CarrierKind::Udp).await;
            assert!(took <= Duration::from_secs(10), "{took:?}");
            tokio::time::sleep(Duration::from_secs(5)).await;
            assert_eq!(far.capabilities().carrier, CarrierKind::Udp);
            assert_eq!(world.streams.closed(), round);
        }
    };
    let (there, back, ()) = tokio::join!(there, back, network);
    for gap in [there, back] {
        assert!(gap <= limit, "{gap:?}");
    }
}

#[tokio::test(start_paused = true)]
/// spec-test: CAR-13
async fn what_was_under_way_arrives_by_the_stream() {
    let world = World::new(race());
    let (near, far) = world.meet().await;
    let bulk = async { talk(&near, &far).await };
    let cut = async {
        tokio::time::sleep(3 * DELAY).await;
        world.udp.cut();
    };
    tokio::join!(bulk, cut);
    assert_eq!(near.capabilities().carrier, CarrierKind::Tcp);
}

#[tokio::test(start_paused = true)]
/// spec-test: CAR-33
async fn who_began_in_a_stream_comes_to_udp_once_that_passes() {
    let world = World::new(race());
    world.udp.cut();
    let (near, far) = world.meet().await;
    assert_eq!(near.capabilities().carrier, CarrierKind::Tcp);
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(near.capabilities().carrier, CarrierKind::Tcp);
    world.udp.restore();
    let took = carried_by(&near, CarrierKind::Udp).await;
    assert!(took <= Duration::from_secs(10), "{took:?}");
    talk(&near, &far).await;
    assert!(near.capabilities().unordered);
}

#[tokio::test(start_paused = true)]
/// spec-test: CAR-33
async fn datagrams_are_asked_for_where_the_server_was_last_and_where_it_was_found() {
    let elsewhere = SocketAddr::from(([198, 51, 100, 7], 4242));
    let (near, far) = pair();
    let (attachment, home) = (far.attachment(), SERVER.parse().unwrap());
    let streams = StreamNet::new(DELAY);
    let network = || Arc::new(streams.clone()) as Arc<dyn StreamNetwork>;
    let server = Endpoint::builder()
        .link(Box::new(far))
        .identity(Identity::generate())
        .network_monitor(attachment.monitor())
        .listen_tcp(SERVER)
        .stream_network(network());
    let near = BadLink { one_way_delay: DELAY, ..BadLink::default() }.link(near);
    let udp = near.control();
    let follow = jsp::TransportConfig { follow_server: true, ..Default::default() };
    let client = Endpoint::builder()
        .link(Box::new(near))
        .transport(follow)
        .carriers(race())
        .stream_network(network());
    let (server, client) = (server.build().unwrap(), client.build().unwrap());
    let (near, far) = meet(&client, &server, home).await;
    talk(&near, &far).await;
    let at = async |addr: SocketAddr| {
        while near.remote_addr() != addr {
            talk(&near, &far).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    attachment.move_to(elsewhere);
    at(elsewhere).await;
    // Nobody is where the server was found.
    let stands_still = async |place: SocketAddr| {
        udp.cut();
        let (carried, ()) = tokio::join!(carried_by(&near, CarrierKind::Tcp), talk(&near, &far));
        assert!(carried < Duration::from_secs(3), "{carried:?}");
        attachment.move_to(place);
        udp.restore();
        carried_by(&near, CarrierKind::Udp).await
    };
    let took = stands_still(elsewhere).await;
    assert!(took <= Duration::from_secs(6), "{took:?}");
    assert_eq!(near.remote_addr(), elsewhere);
    // Nobody is where it was last.
    let took = stands_still(home).await;
    assert!(took <= Duration::from_secs(12), "{took:?}");
    assert_eq!(near.remote_addr(), home);
}

#[tokio::test(start_paused = true)]
/// spec-test: CAR-75, CAR-13
async fn without_datagrams_a_stream_that_is_cut_is_followed_by_another() {
    let world = World::new(CarrierPolicy::Only(vec![Carrier::tcp()]));
    let (near, far) = world.meet().await;
    let network = async {
        for round in 1..=4 {
            tokio::time::sleep(Duration::from_secs(3)).await;
            world.streams.reset();
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!(world.streams.opened(), round + 1);
        }
    };
    let (there, back) = (call(&near, &far, 800), call(&far, &near, 800));
    let (there, back, ()) = tokio::join!(there, back, network);
    for gap in [there, back] {
        assert!(gap <= Duration::from_millis(500), "{gap:?}");
    }
    // Bulk that is under way, and a connection that says nothing.
    let cut = async {
        for _ in 0..2 {
            tokio::time::sleep(3 * DELAY).await;
            world.streams.reset();
        }
    };
    tokio::join!(talk(&near, &far), cut);
    world.streams.reset();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!((world.streams.opened(), world.streams.closed()), (8, 7));
    talk(&far, &near).await;
    assert_eq!(world.udp.stats().outgoing.datagrams, 0);
}

#[tokio::test(start_paused = true)]
/// spec-test: CAR-76
async fn a_stream_that_does_not_open_does_not_hold_up_the_next() {
    let limit = Duration::from_millis(1500) + 4 * DELAY;
    let carriers = || vec![Carrier::tcp(), Carrier::tcp().port(443)];
    let world = World::blocking(2, CarrierPolicy::Race(carriers()));
    let (near, far) = world.meet().await;
    let cut = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        world.udp.cut();
        let took = carried_by(&near, CarrierKind::Tcp).await;
        assert!(took <= limit, "{took:?}");
    };
    let (there, back) = (call(&near, &far, 500), call(&far, &near, 500));
    let (there, back, ()) = tokio::join!(there, back, cut);
    for gap in [there, back] {
        assert!(gap <= limit, "{gap:?}");
    }
    // What has opened is tried first: nothing is waited for.
    let alone = World::blocking(2, CarrierPolicy::Only(carriers()));
    let pairs = [(near, far), alone.meet().await];
    for ((near, far), world) in pairs.iter().zip([&world, &alone]) {
        let cut = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            world.streams.reset();
        };
        let (gap, ()) = tokio::join!(call(near, far, 100), cut);
        assert!(gap <= Duration::from_millis(220), "{gap:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_only_loses_packets_stays_where_it_is() {
    let world = World::new(race());
    let (near, far) = world.meet().await;
    let lossy = BadLink { loss: 0.3, one_way_delay: DELAY, ..BadLink::default() };
    world.udp.set(lossy, BadLink { seed: 9, ..lossy });
    call(&near, &far, 500).await;
    assert_eq!(near.capabilities().carrier, CarrierKind::Udp);
}

#[tokio::test(start_paused = true)]
/// spec-test: CAR-5
async fn a_stream_ends_with_its_connection() {
    let world = World::new(CarrierPolicy::Only(vec![Carrier::tcp()]));
    for round in 1..=3 {
        let (near, far) = world.meet().await;
        assert_eq!(world.streams.opened(), round);
        let (here, there) = if round == 2 { (far, near) } else { (near, far) };
        here.close(5, b"");
        assert!(matches!(there.closed().await, jsp::ConnectionError::ClosedByPeer { code: 5, .. }));
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(world.streams.closed(), round);
    }
}

#[tokio::test(start_paused = true)]
async fn a_policy_is_kept() {
    let world = World::new(CarrierPolicy::Only(vec![Carrier::tcp()]));
    let (near, _far) = world.meet().await;
    assert_eq!(near.capabilities().carrier, CarrierKind::Tcp);
    assert_eq!(world.udp.stats().outgoing.datagrams, 0);

    let world = World::new(CarrierPolicy::UdpOnly);
    world.udp.cut();
    let trust = world.server.fingerprint();
    let error = world.client.connect(SERVER.parse::<SocketAddr>().unwrap(), trust).await;
    assert!(matches!(error, Err(ConnectError::Timeout { .. })), "{error:?}");
    assert_eq!(world.streams.opened(), 0);

    let world = World::new(CarrierPolicy::Only(vec![Carrier::tcp().port(9)]));
    let error = world.client.connect(SERVER.parse::<SocketAddr>().unwrap(), trust).await;
    assert!(matches!(error, Err(ConnectError::Carrier { .. })), "{error:?}");
}

#[tokio::test(start_paused = true)]
/// spec-test: CAR-9, CAR-11, CAR-12
async fn deadlines_hold_while_a_stream_stands_still() {
    let world = World::new(CarrierPolicy::Only(vec![Carrier::tcp()]));
    let (near, far) = world.meet().await;
    let voice = near.open(StreamConfig::voice()).await.unwrap();
    let lifetime = Duration::from_millis(200);
    let frame = |n: u32| {
        let mut bytes = vec![0; 1000];
        bytes[..4].copy_from_slice(&n.to_be_bytes());
        Message::from(bytes).with_lifetime(lifetime)
    };
    voice.send(frame(0)).await.unwrap();
    let heard = far.accept().await.unwrap();
    heard.recv().await.unwrap().unwrap();
    tokio::time::sleep(8 * DELAY).await;
    let before = near.stats().traffic;
    world.streams.cut();
    let mut fates = Vec::new();
    for n in 1..=500 {
        fates.push(voice.send_tracked(frame(n)).await.unwrap());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Nothing went twice, and no probe, although nothing was heard for ten seconds.
    let stats = near.stats();
    assert_eq!(stats.traffic.bytes_retransmitted + stats.traffic.bytes_bundled, 0);
    assert_eq!(stats.traffic.probe_timeouts, before.probe_timeouts);
    assert_eq!(stats.traffic.repairs_sent, 0);
    assert!(stats.buffered < 64 << 10, "{}", stats.buffered);
    world.streams.restore();
    let mut expired = 0;
    for fate in fates {
        expired += usize::from(fate.await == MessageFate::Expired);
    }
    assert!(expired > 300, "{expired}: the rest waited in the stream's buffers");
    // What is sent now is there at once: nothing old is before it.
    voice.send(frame(1000)).await.unwrap();
    let begin = Instant::now();
    loop {
        let message = heard.recv().await.unwrap().unwrap();
        if message.payload[..4] == 1000u32.to_be_bytes() {
            break;
        }
    }
    assert!(begin.elapsed() < 4 * DELAY, "{:?}", begin.elapsed());
}

#[tokio::test(start_paused = true)]
/// spec-test: CAR-7
async fn a_stream_that_shows_nothing_is_closed_after_ten_seconds() {
    let world = World::new(race());
    for bytes in [&b""[..], &[4], &[4, 176, 1, 2, 3]] {
        let begin = Instant::now();
        let mut stream = world.streams.connect(SERVER.parse().unwrap()).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
        let waited = begin.elapsed();
        let limit = Duration::from_secs(10);
        assert!(waited >= limit && waited < limit + 10 * DELAY, "{waited:?}");
    }
}

#[tokio::test(start_paused = true)]
/// spec-test: CAR-4
async fn a_stream_that_holds_something_else_is_closed_at_once() {
    let world = World::new(race());
    let long = [0xff; 1000];
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0, 0], &long] {
        let begin = Instant::now();
        let mut stream = world.streams.connect(SERVER.parse().unwrap()).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
        assert!(begin.elapsed() < 10 * DELAY, "{:?}", begin.elapsed());
    }
}

#[tokio::test]
/// spec-test: CAR-8
async fn idle_streams_of_one_network_leave_room_for_others_connections() {
    let server = Endpoint::builder()
        .identity(Identity::generate())
        .listen_tcp("127.0.0.1:0")
        .build()
        .unwrap();
    let addr = server.local_addr().unwrap();
    let policy = CarrierPolicy::Only(vec![Carrier::tcp()]);
    let client = Endpoint::builder().carriers(policy).build().unwrap();
    let (near, far) = meet(&client, &server, addr).await;
    let mut idle = Vec::new();
    for _ in 0..32 {
        idle.push(TcpStream::connect(addr).await.unwrap());
    }
    // One more is closed without a word.
    let mut more = TcpStream::connect(addr).await.unwrap();
    assert_eq!(more.read(&mut [0; 8]).await.unwrap_or(0), 0);
    talk(&near, &far).await;
    // Those that leave make room.
    drop(idle);
    loop {
        let trust = server.fingerprint();
        match tokio::join!(client.connect(addr, trust), tokio::task::yield_now()).0 {
            Ok(_) => break,
            Err(ConnectError::Ended { .. } | ConnectError::Carrier { .. }) => {}
            Err(other) => panic!("{other}"),
        }
    }
}

#[tokio::test]
/// spec-test: CAR-19
async fn streams_of_established_connections_are_bounded_and_make_room_when_they_end() {
    let server = Endpoint::builder()
        .identity(Identity::generate())
        .bind("127.0.0.1:0")
        .listen_tcp("127.0.0.1:0")
        .carriers_max(1)
        .build()
        .unwrap();
    let addr = server.carrier_addrs()[0].1;
    let policy = CarrierPolicy::Only(vec![Carrier::tcp()]);
    let client = Endpoint::builder().carriers(policy).build().unwrap();
    let (near, far) = meet(&client, &server, addr).await;
    // The client may take it for made before the server has refused it.
    let why = match client.connect(addr, server.fingerprint()).await {
        Ok(connection) => connection.closed().await,
        Err(ConnectError::Ended { error, .. }) => error,
        Err(other) => panic!("{other}"),
    };
    assert!(why.to_string().contains("as many connections by streams"), "{why}");
    talk(&near, &far).await;
    // Datagrams need no place.
    let plain = Endpoint::client().unwrap();
    let (by_udp, at_server) = meet(&plain, &server, server.local_addr().unwrap()).await;
    talk(&by_udp, &at_server).await;

    near.close(0, b"");
    far.closed().await;
    loop {
        if let Ok(connection) = client.connect(addr, server.fingerprint()).await {
            let accepted = tokio::select! {
                _ = connection.closed() => continue,
                accepted = server.accept() => accepted.unwrap(),
            };
            talk(&connection, &accepted).await;
            break;
        }
    }
}

#[cfg(feature = "tls")]
#[tokio::test]
/// spec-test: CAR-16
async fn everything_goes_over_tls() {
    use jsp::carrier::{TlsClient, TlsServer};

    let server = Endpoint::builder()
        .identity(Identity::generate())
        .listen_tls("127.0.0.1:0", TlsServer::self_signed(["example.test"]).unwrap())
        .build()
        .unwrap();
    let tls = TlsClient::new().server_name("example.test");
    let policy = CarrierPolicy::Only(vec![Carrier::tls(tls)]);
    let client = Endpoint::builder().carriers(policy).build().unwrap();
    let (near, far) = meet(&client, &server, server.local_addr().unwrap()).await;
    assert_eq!(near.capabilities().carrier, CarrierKind::Tls);
    talk(&near, &far).await;
}

#[cfg(feature = "websocket")]
#[tokio::test]
/// spec-test: CAR-17, CAR-18
async fn everything_goes_over_websocket() {
    let server = Endpoint::builder()
        .identity(Identity::generate())
        .listen_websocket("127.0.0.1:0")
        .build()
        .unwrap();
    let policy = CarrierPolicy::Only(vec![Carrier::websocket("/a/path")]);
    let client = Endpoint::builder().carriers(policy).build().unwrap();
    let (near, far) = meet(&client, &server, server.local_addr().unwrap()).await;
    assert_eq!(near.capabilities().carrier, CarrierKind::WebSocket);
    talk(&near, &far).await;
}

#[cfg(all(feature = "tls", feature = "websocket"))]
#[tokio::test]
async fn everything_goes_over_websocket_inside_tls() {
    use jsp::carrier::{TlsClient, TlsServer};

    let server = Endpoint::builder()
        .identity(Identity::generate())
        .listen_websocket_tls("127.0.0.1:0", TlsServer::self_signed(["example.test"]).unwrap())
        .build()
        .unwrap();
    let policy = CarrierPolicy::Only(vec![Carrier::websocket_tls(TlsClient::new(), "/")]);
    let client = Endpoint::builder().carriers(policy).build().unwrap();
    let (near, far) = meet(&client, &server, server.local_addr().unwrap()).await;
    talk(&near, &far).await;
}
