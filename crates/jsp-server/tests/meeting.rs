//! A coordinator and peers over real sockets.

use std::net::SocketAddr;

use jsp::link::Route;
use jsp::rendezvous::{CallError, Peer, Policy, Refusal, RegisterError, Registration};
use jsp::{Connection, Endpoint, Fingerprint, Identity, StreamConfig};
use jsp_nat::stun::{Request, Response};
use jsp_server::{Config, Daemon};

/// A daemon at work.
struct Running {
    daemon: std::sync::Arc<Daemon>,
    address: SocketAddr,
}

impl Running {
    fn start(config: Config) -> Self {
        let config = Config { bind: "127.0.0.1:0".to_owned(), ..config };
        let daemon = Daemon::start_as(&config, Identity::generate()).unwrap();
        let daemon = std::sync::Arc::new(daemon);
        let serving = std::sync::Arc::clone(&daemon);
        tokio::spawn(async move { serving.serve().await });
        let address = daemon.local_addr().unwrap();
        Self { daemon, address }
    }

    async fn peer(&self, policy: Policy) -> (Peer, Registration, Fingerprint) {
        let identity = Identity::generate();
        let fingerprint = identity.fingerprint();
        let peer = Peer::build(Endpoint::builder().identity(identity), policy).unwrap();
        let registration = peer.register(self.address, self.daemon.fingerprint()).await.unwrap();
        (peer, registration, fingerprint)
    }
}

/// Says a number and hears it back, again and again, until it is enough.
async fn talk(caller: &Connection, called: &Connection, mut enough: impl FnMut(u64) -> bool) {
    let here = caller.open(StreamConfig::messages()).await.unwrap();
    here.send(0u64.to_be_bytes().to_vec()).await.unwrap();
    let there = called.accept().await.unwrap();
    for number in 0.. {
        let heard = there.recv().await.unwrap().unwrap();
        assert_eq!(heard.payload[..], u64::to_be_bytes(number));
        there.send(heard.payload).await.unwrap();
        let back = here.recv().await.unwrap().unwrap();
        assert_eq!(back.payload[..], u64::to_be_bytes(number));
        if enough(number) {
            return;
        }
        here.send((number + 1).to_be_bytes().to_vec()).await.unwrap();
    }
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
}
