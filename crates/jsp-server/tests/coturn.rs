//! STUN and TURN against a server that many run: coturn, from the system's packages.

mod talk;
mod tapped;

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use jsp::link::{Link, Route};
use jsp::rendezvous::{
    Mapping, Passage, Peer, Policy, Registration, TurnError, TurnFailure, TurnServer,
};
use jsp::{Endpoint, Fingerprint, Identity, StreamConfig};
use jsp_nat::relay::{Class, classify};
use jsp_nat::turn::{Client, Login};
use jsp_server::{Config, Daemon};
use talk::talk;
use tapped::Tapped;
use tokio::net::UdpSocket;

/// coturn on loopback, with a user; ends with the test.
struct Coturn {
    child: Child,
    address: SocketAddr,
    log: std::path::PathBuf,
}

const USER: &str = "ann";
const PASSWORD: &str = "p@ss:word";

impl Coturn {
    fn start(more: &[&str]) -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let free = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let log = std::env::temp_dir().join(format!("jsp-coturn-{}-{number}", std::process::id()));
        let child = Command::new("turnserver")
            .args(["-n", "--no-tls", "--no-dtls", "--no-cli", "--no-tcp", "--no-tcp-relay"])
            .args(["--pidfile", "/dev/null", "--verbose"])
            .args(["--listening-ip", "127.0.0.1", "--relay-ip", "127.0.0.1"])
            .args(["--lt-cred-mech", "--realm", "example.test", "--allow-loopback-peers"])
            .arg(format!("--user={USER}:{PASSWORD}"))
            .arg(format!("--listening-port={}", address.port()))
            .args(["--log-file", "stdout"])
            .args(more)
            .stdout(fs::File::create(&log).unwrap())
            .stderr(Stdio::null())
            .spawn()
            .expect("turnserver does not run: install coturn");
        Self { child, address, log }
    }

    fn server(&self) -> TurnServer {
        TurnServer::new(self.address.to_string(), USER, PASSWORD)
    }

    /// How often its log says this.
    fn said(&self, what: &str) -> usize {
        fs::read_to_string(&self.log).unwrap_or_default().matches(what).count()
    }
}

impl Drop for Coturn {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(&self.log);
    }
}

type Sent = Arc<Mutex<Vec<(SocketAddr, Class, usize)>>>;

/// A host that notes whom it sends what to.
fn noted() -> (impl Link, Sent) {
    let sent = Sent::default();
    let notes = Arc::clone(&sent);
    let link = Tapped::new(move |transmit| {
        if let Route::Udp { remote, .. } = transmit.route {
            let what = (remote, classify(transmit.contents), transmit.contents.len());
            notes.lock().unwrap().push(what);
        }
        true
    });
    (link, sent)
}

const HOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

struct Running {
    daemon: Arc<Daemon>,
    address: SocketAddr,
}

impl Running {
    fn start() -> Self {
        let config = Config { bind: "127.0.0.1:0".to_owned(), ..Config::default() };
        let daemon = Arc::new(Daemon::start_as(&config, Identity::generate()).unwrap());
        let serving = Arc::clone(&daemon);
        tokio::spawn(async move { serving.serve().await });
        let address = daemon.local_addr().unwrap();
        Self { daemon, address }
    }

    /// A peer with a place here, and with an address that the server lends, if one is named.
    async fn peer(&self, policy: Policy, turn: Option<&Coturn>) -> Met {
        let identity = Identity::generate();
        let fingerprint = identity.fingerprint();
        let (link, sent) = noted();
        let builder = Endpoint::builder().identity(identity);
        let peer = Peer::with_link(builder, policy, Box::new(link)).unwrap();
        let lent = match turn {
            Some(turn) => Some(peer.use_turn(&turn.server()).await.unwrap()),
            None => None,
        };
        let registration = peer.register(self.address, self.daemon.fingerprint()).await.unwrap();
        Met { peer, registration, fingerprint, lent, sent }
    }
}

/// A peer that is registered.
struct Met {
    peer: Peer,
    registration: Registration,
    fingerprint: Fingerprint,
    lent: Option<SocketAddr>,
    sent: Sent,
}

impl Met {
    /// Hosts and ports that something went to, but for these.
    fn sent_beside(&self, known: &[SocketAddr]) -> Vec<(SocketAddr, Class, usize)> {
        let sent = self.sent.lock().unwrap();
        sent.iter().filter(|(to, ..)| !known.contains(to)).copied().collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn coturn_and_the_coordinator_see_the_same_address() {
    let coturn = Coturn::start(&[]);
    let running = Running::start();
    let peer = Endpoint::builder().identity(Identity::generate());
    let peer = Peer::build(peer, Policy::Any).unwrap();
    // coturn takes a moment to start: a question is asked again until it is answered.
    let servers = [running.address, coturn.address];
    let report = peer.discover(servers).await.unwrap();
    let own = SocketAddr::new(servers[0].ip(), peer.endpoint().local_addr().unwrap().port());
    assert_eq!(report.seen, [Some(own), Some(own)]);
    assert_eq!((report.mapping, report.hairpin), (Some(Mapping::None), None));
}

#[tokio::test(flavor = "multi_thread")]
// spec-test: RDV-30, RDV-40
async fn who_may_use_relays_alone_is_met_through_coturn_and_shows_no_address() {
    let (coturn, running) = (Coturn::start(&[]), Running::start());
    let one = running.peer(Policy::Any, None).await;
    let two = running.peer(Policy::RelayOnly, Some(&coturn)).await;
    let (caller, called) =
        tokio::join!(one.registration.connect(two.fingerprint), two.peer.accept());
    let (caller, called) = (caller.unwrap(), called.unwrap());
    // Both are past the coordinator's relay, and nothing passes through it any more.
    let mut quiet = (u64::MAX, 0);
    talk(&caller, &called, |_| {
        let relayed = running.daemon.status().relayed_datagrams_total;
        quiet = if quiet.0 == relayed { (relayed, quiet.1 + 1) } else { (relayed, 0) };
        let passages = [one.peer.passage(&caller), two.peer.passage(&called)];
        passages == [Passage::Turn; 2] && quiet.1 > 100
    })
    .await;
    // The caller has met nothing but the address that was lent, the other nobody but its two servers.
    let lent = two.lent.unwrap();
    let beside = one.sent_beside(&[running.address, lent]);
    assert!(beside.is_empty(), "{beside:?}");
    let beside = two.sent_beside(&[running.address, coturn.address]);
    assert!(beside.is_empty(), "{beside:?}");
    // Bulk passes as well, on a channel, and whole.
    let stream = caller.open(StreamConfig::messages()).await.unwrap();
    let sent: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    let (sending, came) = tokio::join!(stream.send(sent.clone()), async {
        called.accept().await.unwrap().recv().await.unwrap().unwrap()
    });
    sending.unwrap();
    assert!(came.payload == sent);
    assert_eq!(running.daemon.status().relayed_datagrams_total, quiet.0);
}

#[tokio::test(flavor = "multi_thread")]
// spec-test: RDV-40
async fn two_who_may_use_relays_alone_meet_through_their_servers() {
    let (here, there) = (Coturn::start(&[]), Coturn::start(&[]));
    let running = Running::start();
    let one = running.peer(Policy::RelayOnly, Some(&here)).await;
    let two = running.peer(Policy::RelayOnly, Some(&there)).await;
    let (caller, called) =
        tokio::join!(one.registration.connect(two.fingerprint), two.peer.accept());
    let (caller, called) = (caller.unwrap(), called.unwrap());
    talk(&caller, &called, |_| {
        [one.peer.passage(&caller), two.peer.passage(&called)] == [Passage::Turn; 2]
    })
    .await;
    assert!(one.sent_beside(&[running.address, here.address]).is_empty());
    assert!(two.sent_beside(&[running.address, there.address]).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_direct_way_is_better_than_one_that_is_lent() {
    let (coturn, running) = (Coturn::start(&[]), Running::start());
    let one = running.peer(Policy::Any, Some(&coturn)).await;
    let two = running.peer(Policy::Any, Some(&coturn)).await;
    let (caller, called) =
        tokio::join!(one.registration.connect(two.fingerprint), two.peer.accept());
    let (caller, called) = (caller.unwrap(), called.unwrap());
    talk(&caller, &called, |_| {
        [one.peer.passage(&caller), two.peer.passage(&called)] == [Passage::Direct; 2]
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
// spec-test: RDV-42
async fn a_stale_nonce_and_a_wrong_password() {
    // Every nonce is stale after a second; addresses are asked to live on more often than that.
    let coturn = Coturn::start(&["--stale-nonce=1", "--max-allocate-lifetime=2"]);
    let running = Running::start();
    let peer = running.peer(Policy::RelayOnly, Some(&coturn)).await;
    let lent = peer.lent.unwrap();
    while coturn.said("REFRESH processed, success") < 3 {
        // A round trip to the coordinator, and no wait by the clock.
        let nobody = Identity::generate().fingerprint();
        assert!(peer.registration.connect(nobody).await.is_err());
    }
    assert!(coturn.said("error 438") > 0);
    assert_eq!(lent.ip(), HOST);
    let wrong = TurnServer::new(coturn.address.to_string(), USER, "another");
    let other = running.peer(Policy::RelayOnly, None).await;
    let error = other.peer.use_turn(&wrong).await.unwrap_err();
    assert!(matches!(error, TurnError::Failed(TurnFailure::Unauthorized)), "{error}");
    // The right one takes its place at once.
    other.peer.use_turn(&coturn.server()).await.unwrap();
    // Little goes to who does not answer, or only asks for more.
    let to_coturn = peer.sent.lock().unwrap();
    let to_coturn = to_coturn.iter().filter(|(to, ..)| *to == coturn.address);
    assert!(to_coturn.clone().all(|(_, class, len)| *class == Class::Stun && *len < 200));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_the_same_server_anew_keeps_the_address() {
    let coturn = Coturn::start(&["--user=bob:other", "--max-allocate-lifetime=2"]);
    let running = Running::start();
    let peer = running.peer(Policy::RelayOnly, Some(&coturn)).await;
    let bob = TurnServer::new(coturn.address.to_string(), "bob", "other");
    for server in [&bob, &coturn.server(), &bob] {
        assert_eq!(peer.peer.use_turn(server).await.ok(), peer.lent);
    }
    let before = coturn.said("REFRESH processed, success");
    while coturn.said("REFRESH processed, success") < before + 3 {
        let nobody = Identity::generate().fingerprint();
        assert!(peer.registration.connect(nobody).await.is_err());
    }
    assert_eq!(peer.peer.use_turn(&bob).await.ok(), peer.lent);
    assert_eq!(coturn.said("ALLOCATE processed, success"), 1);
}

/// Has a client of a server talk to it by a socket until an address is lent.
async fn lent_by(socket: &UdpSocket, server: SocketAddr) -> (Client, SocketAddr) {
    let login = Login::new(USER.to_owned(), |realm, message| {
        jsp_crypto::turn::message_integrity(USER, realm, PASSWORD, message)
    });
    let start = tokio::time::Instant::now();
    let now = || jsp_nat::Instant::ZERO + start.elapsed();
    let mut number = 0;
    let mut entropy = move || {
        number += 1;
        number ^ start.elapsed().as_nanos() as u64
    };
    let mut client = Client::new(now(), server, login);
    loop {
        while let Some(out) = client.poll_transmit(now(), &mut entropy) {
            socket.send_to(&out.payload, out.to).await.unwrap();
        }
        if let Some(lent) = client.relayed() {
            return (client, lent);
        }
        assert_eq!(client.failure(), None);
        let due = client.poll_timeout().unwrap().since(now());
        let mut buffer = [0; 1500];
        let came = tokio::time::timeout(due, socket.recv_from(&mut buffer)).await;
        if let Ok(Ok((len, _))) = came {
            client.handle_message(now(), &buffer[..len], &mut entropy);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
// spec-test: RDV-124
async fn coturn_lends_anew_to_who_has_lost_its_address() {
    let coturn = Coturn::start(&[]);
    let socket = UdpSocket::bind((HOST, 0)).await.unwrap();
    let (first, _) = lent_by(&socket, coturn.address).await;
    // Never given back, and asked for again from the same port: the server refuses, and is asked to forget it.
    drop(first);
    let (_second, _) = lent_by(&socket, coturn.address).await;
    assert!(coturn.said("error 437") > 0);
}
