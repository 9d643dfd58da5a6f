//! Connections over streams: races, switches, deadlines, and peers that misuse them.

mod real;
mod switching;

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

#[tokio::test(start_paused = true)]
async fn a_connection_that_only_loses_packets_stays_where_it_is() {
    let world = World::new(race());
    let (near, far) = world.meet().await;
    // At twice this loss chance alone makes the 500 ms of silence that CAR-30 asks for, once in half an hour.
    let lossy = BadLink { loss: 0.15, one_way_delay: DELAY, ..BadLink::default() };
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
