//! Connections whose machine goes from one network to another, which nobody tells them.

mod peers;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use jsp::emulate::{Attachment, pair};
use jsp::monitor::NetworkMonitor;
use jsp::{
    AlarmCause, Connection, Endpoint, Identity, PathId, PathUse, Stream, StreamConfig,
    TransportConfig,
};
use tokio::time::{Instant, sleep, timeout};

use peers::Peers;

const RTT: Duration = Duration::from_millis(60);

/// In memory, with a round trip of 60 ms, and a client that can move.
async fn mobile(watches: bool) -> (Peers, Attachment) {
    let (near, far) = pair();
    let attachment = near.attachment();
    let server = Endpoint::builder().link(Box::new(far)).identity(Identity::generate());
    let client = match watches {
        true => Endpoint::builder().network_monitor(attachment.monitor()),
        false => Endpoint::builder().without_network_monitor(),
    };
    let client = client.link(Box::new(peers::far().link(near)));
    (peers::join(server.build().unwrap(), client.build().unwrap()).await, attachment)
}

/// The same with a server that can move, and a client that is told to follow it, and may take connections itself.
async fn roaming_server(accepts: bool) -> (Peers, Attachment) {
    let (near, far) = pair();
    let attachment = far.attachment();
    let server = Endpoint::builder()
        .link(Box::new(far))
        .identity(Identity::generate())
        .network_monitor(attachment.monitor());
    let follow = TransportConfig { follow_server: true, ..Default::default() };
    let client = Endpoint::builder().transport(follow);
    let client = if accepts { client.identity(Identity::generate()) } else { client };
    let client = client.link(Box::new(peers::far().link(near)));
    (peers::join(server.build().unwrap(), client.build().unwrap()).await, attachment)
}

#[tokio::test(start_paused = true)]
async fn a_server_that_roams_is_followed() {
    for (accepts, away) in [(true, 0), (false, 0), (true, 2000), (false, 2000)] {
        let (peers, attachment) = roaming_server(accepts).await;
        let (from_server, at_client) = listening(&peers).await;
        attachment.detach();
        from_server.send("missed").await.unwrap();
        sleep(Duration::from_millis(away)).await;
        attachment.move_to(elsewhere());
        let took = wait_for(&at_client, "missed").await;
        // Its challenge, that of the client, the answers, the message; and the pace of looking.
        assert!(took < RTT * 3 + Duration::from_millis(40), "away for {away} ms: {took:?}");
        at_client.send("there").await.unwrap();
        // The message may have come before the answer to the client's challenge.
        assert!(wait_for(&from_server, "there").await <= RTT * 3);
        at_client.send("there").await.unwrap();
        assert_eq!(wait_for(&from_server, "there").await, RTT / 2);
        assert_eq!(peers.at_client.remote_addr(), elsewhere());
    }
}

fn elsewhere() -> SocketAddr {
    SocketAddr::from(([198, 51, 100, 7], 4242))
}

/// A stream on which the client has heard something and the server waits for nothing.
async fn listening(peers: &Peers) -> (Stream, Stream) {
    let from_server = peers.at_server.open(StreamConfig::messages()).await.unwrap();
    from_server.send("here").await.unwrap();
    let at_client = peers.at_client.accept().await.unwrap();
    at_client.recv().await.unwrap();
    sleep(RTT * 4).await;
    (from_server, at_client)
}

/// The time until the next message.
async fn wait_for(stream: &Stream, text: &str) -> Duration {
    let start = Instant::now();
    assert_eq!(&stream.recv().await.unwrap().unwrap().payload[..], text.as_bytes());
    start.elapsed()
}

#[tokio::test(start_paused = true)]
/// spec-test: SEN-11
async fn who_only_receives_is_found_at_the_new_address_at_once() {
    for away in [0, 5, 2000] {
        let (peers, attachment) = mobile(true).await;
        let (from_server, at_client) = listening(&peers).await;
        attachment.detach();
        from_server.send("missed").await.unwrap();
        sleep(Duration::from_millis(away)).await;
        attachment.move_to(elsewhere());
        let took = wait_for(&at_client, "missed").await;
        // To the server, its challenge and the answer, the message; and the pace of looking.
        assert!(took < RTT * 2 + Duration::from_millis(40), "away for {away} ms: {took:?}");
        assert_eq!(peers.at_server.remote_addr(), elsewhere());
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_monitor_a_silent_client_is_not_found() {
    let (peers, attachment) = mobile(false).await;
    let (from_server, at_client) = listening(&peers).await;
    attachment.detach();
    from_server.send("missed").await.unwrap();
    sleep(Duration::from_secs(2)).await;
    attachment.move_to(elsewhere());
    let waited = timeout(Duration::from_secs(5), at_client.recv()).await;
    assert!(waited.is_err(), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn what_waits_leaves_as_soon_as_there_is_a_network() {
    let mut took = Vec::new();
    for watches in [true, false] {
        let (peers, attachment) = mobile(watches).await;
        let stream = peers.at_client.open(StreamConfig::messages()).await.unwrap();
        stream.send("before").await.unwrap();
        let at_server = peers.at_server.accept().await.unwrap();
        wait_for(&at_server, "before").await;
        sleep(RTT * 4).await;
        attachment.detach();
        for _ in 0..5 {
            stream.send("during").await.unwrap();
            sleep(Duration::from_millis(300)).await;
        }
        sleep(Duration::from_millis(2600)).await;
        attachment.move_to(elsewhere());
        let start = Instant::now();
        for _ in 0..5 {
            wait_for(&at_server, "during").await;
        }
        took.push(start.elapsed());
    }
    assert!(took[0] <= RTT / 2 + Duration::from_millis(20), "all of it at once: {took:?}");
    assert!(took[0] * 4 < took[1], "a probe timeout that has grown: {took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_network_that_is_gone_is_an_alarm_at_once() {
    let (peers, attachment) = mobile(true).await;
    let _streams = listening(&peers).await;
    attachment.detach();
    let start = Instant::now();
    // What had changed before is told first.
    while peers.at_client.capacity_changed().await.unwrap().alarm.cause != Some(AlarmCause::Hint) {}
    assert!(start.elapsed() < Duration::from_millis(200), "{:?}", start.elapsed());
    attachment.move_to(elsewhere());
    // An alarm stands for 200 ms after its last sign.
    sleep(Duration::from_millis(300)).await;
    assert_eq!(peers.at_client.capacity().alarm.cause, None);
}

/// What a machine has: its addresses, of which it prefers the first.
#[derive(Clone, Default, Debug)]
struct Machine(Arc<Mutex<Interfaces>>);

#[derive(Default, Debug)]
struct Interfaces {
    addresses: Vec<IpAddr>,
    /// How often somebody asked for them.
    asked: usize,
    have_changed: bool,
    waker: Option<Waker>,
}

impl Machine {
    fn has(&self, addresses: &[IpAddr]) {
        let mut interfaces = self.0.lock().unwrap();
        interfaces.addresses = addresses.to_vec();
        interfaces.have_changed = true;
        if let Some(waker) = interfaces.waker.take() {
            waker.wake();
        }
    }
}

impl NetworkMonitor for Machine {
    fn poll_changed(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut interfaces = self.0.lock().unwrap();
        interfaces.waker = Some(cx.waker().clone());
        let changed = std::mem::take(&mut interfaces.have_changed);
        if changed { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn addresses(&mut self) -> io::Result<Vec<IpAddr>> {
        let mut interfaces = self.0.lock().unwrap();
        interfaces.asked += 1;
        Ok(interfaces.addresses.clone())
    }

    fn source(&mut self, _: SocketAddr) -> Option<IpAddr> {
        self.0.lock().unwrap().addresses.first().copied()
    }
}

fn packets(connection: &Connection) -> u64 {
    connection.stats().traffic.packets_sent
}

#[tokio::test(start_paused = true)]
async fn what_no_path_uses_may_change_and_a_burst_is_one_probe() {
    let (near, far) = pair();
    let [own, bridge]: [IpAddr; 2] = [[192, 0, 2, 1].into(), [172, 17, 0, 1].into()];
    let machine = Machine::default();
    machine.has(&[own]);
    let server = Endpoint::builder().link(Box::new(far)).identity(Identity::generate());
    let client = Endpoint::builder()
        .network_monitor(Box::new(machine.clone()))
        .link(Box::new(peers::far().link(near)));
    let peers = peers::join(server.build().unwrap(), client.build().unwrap()).await;
    let _streams = listening(&peers).await;
    sleep(Duration::from_secs(3)).await;
    let before = packets(&peers.at_client);
    for _ in 0..50 {
        machine.has(&[own, bridge]);
        sleep(Duration::from_millis(3)).await;
        machine.has(&[own]);
        sleep(Duration::from_millis(3)).await;
    }
    sleep(Duration::from_secs(3)).await;
    assert_eq!(packets(&peers.at_client), before, "nothing is sent for a bridge");
    // An address that comes and goes a hundred times in 300 ms.
    for _ in 0..100 {
        machine.has(&[]);
        sleep(Duration::from_millis(2)).await;
        machine.has(&[own]);
        sleep(Duration::from_millis(1)).await;
    }
    sleep(Duration::from_secs(3)).await;
    let sent = packets(&peers.at_client) - before;
    assert!((1..=16).contains(&sent), "one probe in 20 ms at most: {sent}");
}

#[tokio::test(start_paused = true)]
async fn nobody_looks_while_there_is_no_connection_of_ours() {
    let machine = Machine::default();
    let (server, client) = peers::memory_builders();
    let server = server.without_network_monitor().build().unwrap();
    let client = client.network_monitor(Box::new(machine.clone())).build().unwrap();
    let asked = async || {
        machine.has(&[[192, 0, 2, 1].into()]);
        sleep(Duration::from_secs(1)).await;
        std::mem::take(&mut machine.0.lock().unwrap().asked)
    };
    assert_eq!(asked().await, 0);
    let peers = peers::join(server, client).await;
    sleep(Duration::from_secs(1)).await;
    assert!(asked().await > 0);
    peers.at_client.close(0, b"");
    assert_eq!(asked().await, 0);
    // And again for the next one.
    let peers = peers::join(peers.server, peers.client).await;
    assert!(asked().await > 0);
    drop(peers);
}

#[cfg(target_os = "linux")]
#[tokio::test(start_paused = true)]
async fn the_path_whose_address_went_is_down_until_it_is_back() {
    let [first, second]: [IpAddr; 2] = [[127, 0, 0, 1].into(), [127, 0, 0, 2].into()];
    let machine = Machine::default();
    machine.has(&[first, second]);
    let server = Endpoint::builder().bind("127.0.0.1:0").identity(Identity::generate());
    let client = Endpoint::builder().network_monitor(Box::new(machine.clone()));
    let peers = peers::join(server.build().unwrap(), client.build().unwrap()).await;
    let path = peers.at_client.add_path(second).await.unwrap();
    let usage = |path| {
        let paths = peers.at_client.paths();
        paths.iter().find(|info| info.id == path).map(|info| info.usage)
    };
    let comes_to = async |wanted: [PathUse; 2]| {
        while [usage(PathId(0)), usage(path)] != wanted.map(Some) {
            sleep(Duration::from_millis(1)).await;
        }
    };
    let (up, down) = (PathUse::Available, PathUse::Down);
    comes_to([up, up]).await;
    // The task has to have seen the second path.
    sleep(Duration::from_millis(100)).await;
    machine.has(&[first]);
    comes_to([up, down]).await;
    machine.has(&[first, second]);
    comes_to([up, up]).await;
    machine.has(&[second]);
    // The first path is of a socket at no certain address: it leaves from the other one.
    let stream = peers.at_client.open(StreamConfig::messages()).await.unwrap();
    stream.send("on").await.unwrap();
    let accepted = peers.at_server.accept().await.unwrap();
    wait_for(&accepted, "on").await;
    assert_eq!([usage(PathId(0)), usage(path)], [Some(up), Some(up)]);
}

#[cfg(target_os = "linux")]
#[tokio::test]
// spec-test: CAR-35
async fn a_carrier_is_closed_when_its_address_went() {
    use jsp::{Carrier, CarrierPolicy};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    let machine = Machine::default();
    machine.has(&[[127, 0, 0, 1].into()]);
    let server = Endpoint::builder().listen_tcp("127.0.0.1:0").identity(Identity::generate());
    let server = server.build().unwrap();
    let (trust, behind) = (server.fingerprint(), server.carrier_addrs()[0].1);
    // Somebody between both sees the stream end.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let between = listener.local_addr().unwrap();
    let passes_on = tokio::spawn(async move {
        let (near, _) = listener.accept().await.unwrap();
        let far = TcpStream::connect(behind).await.unwrap();
        let ((mut from_near, mut to_near), (mut from_far, mut to_far)) =
            (near.into_split(), far.into_split());
        let back = tokio::spawn(async move {
            let _ = tokio::io::copy(&mut from_far, &mut to_near).await;
        });
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = from_near.read(&mut buffer).await {
            to_far.write_all(&buffer[..read]).await.unwrap();
        }
        back.abort();
    });
    let client = Endpoint::builder()
        .network_monitor(Box::new(machine.clone()))
        .carriers(CarrierPolicy::Only(vec![Carrier::tcp()]))
        .build()
        .unwrap();
    let (near, far) = tokio::join!(client.connect(between, trust), server.accept());
    let (near, far) = (near.unwrap(), far.unwrap());
    let stream = near.open(StreamConfig::messages()).await.unwrap();
    stream.send("on").await.unwrap();
    wait_for(&far.accept().await.unwrap(), "on").await;
    // The address has to have been seen.
    while machine.0.lock().unwrap().asked == 0 {
        tokio::task::yield_now().await;
    }
    assert!(!passes_on.is_finished());
    machine.has(&[]);
    timeout(Duration::from_secs(20), passes_on).await.expect("it ends").unwrap();
}
