//! STUN against a server that many run: coturn, from the system's packages.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use jsp::rendezvous::{Mapping, Peer, Policy};
use jsp::{Endpoint, Identity};
use jsp_server::{Config, Daemon};

/// coturn on loopback; ends with the test.
struct Coturn {
    child: Child,
    address: SocketAddr,
}

impl Coturn {
    fn start() -> Self {
        let free = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let child = Command::new("turnserver")
            .args(["-n", "--stun-only", "--no-tls", "--no-dtls", "--no-cli", "--no-tcp"])
            .args(["--log-file", "stdout", "--pidfile", "/dev/null"])
            .args(["--listening-ip", "127.0.0.1"])
            .arg(format!("--listening-port={}", address.port()))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("turnserver does not run: install coturn");
        Self { child, address }
    }
}

impl Drop for Coturn {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn coturn_and_the_coordinator_see_the_same_address() {
    let coturn = Coturn::start();
    let config = Config { bind: "127.0.0.1:0".to_owned(), ..Config::default() };
    let daemon = Daemon::start_as(&config, Identity::generate()).unwrap();
    let peer = Endpoint::builder().identity(Identity::generate());
    let peer = Peer::build(peer, Policy::Any).unwrap();
    // coturn takes a moment to start: a question is asked again until it is answered.
    let servers = [daemon.local_addr().unwrap(), coturn.address];
    let report = peer.discover(servers).await.unwrap();
    let own = SocketAddr::new(servers[0].ip(), peer.endpoint().local_addr().unwrap().port());
    assert_eq!(report.seen, [Some(own), Some(own)]);
    assert_eq!((report.mapping, report.hairpin), (Some(Mapping::None), None));
}
