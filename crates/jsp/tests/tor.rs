//! Through a Tor network: a directory authority, relays that are exits, and a client, all of them
//! `tor` as it is installed, on ports of this machine.
#![allow(missing_docs)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use jsp::{CarrierKind, Connection, Endpoint, Fingerprint, Identity, Proxy, StreamConfig};

/// Relays beside the authority, which is one too: three make a circuit, and a client avoids its guard.
const RELAYS: usize = 3;
/// The network agrees about itself every 10 s. On a machine that stands still meanwhile it may never do, and is begun anew.
const READY_WITHIN: Duration = Duration::from_secs(90);
const ATTEMPTS: usize = 3;

/// Processes that end with the value, and their folder.
struct Network {
    folder: PathBuf,
    processes: Vec<Child>,
    socks: SocketAddr,
}

impl Drop for Network {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.kill();
            let _ = process.wait();
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Ports that are free at this moment, all at once.
fn free_ports<const N: usize>() -> [u16; N] {
    let held = [(); N].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    held.map(|listener| listener.local_addr().unwrap().port())
}

fn common(folder: &Path, name: &str) -> String {
    let folder = folder.join(name);
    let folder = folder.to_str().unwrap();
    format!(
        "TestingTorNetwork 1\nDataDirectory {folder}\nNickname {name}\nLog notice stdout\n\
         ShutdownWaitLength 0\nAssumeReachable 1\nAddress 127.0.0.1\nAddressDisableIPv6 1\n"
    )
}

fn relay(port: u16) -> String {
    format!(
        "ORPort 127.0.0.1:{port}\nSocksPort 0\nExitRelay 1\nExitPolicy accept 127.0.0.1:*\n\
         ExitPolicyRejectPrivate 0\nContactInfo nobody@test.invalid\n"
    )
}

fn authority(port: u16) -> String {
    format!(
        "DirPort 127.0.0.1:{port}\nAuthoritativeDirectory 1\nV3AuthoritativeDirectory 1\n\
         TestingV3AuthInitialVotingInterval 5\nTestingV3AuthInitialVoteDelay 2\n\
         TestingV3AuthInitialDistDelay 2\nV3AuthVotingInterval 10\nV3AuthVoteDelay 2\n\
         V3AuthDistDelay 2\nTestingDirAuthVoteExit *\nTestingDirAuthVoteGuard *\n\
         TestingMinExitFlagThreshold 0\n"
    )
}

/// What a program writes, which must succeed.
fn run(program: &str, args: &[&str], input: &str) -> String {
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("{program} is needed, from the package tor: {error}"));
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{program} {args:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Makes the authority's keys; how all others know it.
fn authority_line(folder: &Path, config: &str, or_port: u16, dir_port: u16) -> String {
    let keys = folder.join("authority/keys");
    fs::create_dir_all(&keys).unwrap();
    let key = |name: &str| keys.join(name).to_str().unwrap().to_owned();
    let address = format!("127.0.0.1:{dir_port}");
    let (identity, signing) = (key("authority_identity_key"), key("authority_signing_key"));
    let certificate = key("authority_certificate");
    let args = ["--create-identity-key", "-m", "12", "-a", &address, "-i", &identity];
    let more = ["-s", &signing, "-c", &certificate, "--passphrase-fd", "0"];
    run("tor-gencert", &[&args[..], &more].concat(), "no secret\n");
    let certificate = fs::read_to_string(certificate).unwrap();
    let v3 = certificate.lines().find_map(|line| line.strip_prefix("fingerprint ")).unwrap();
    let line = |own: &str| {
        format!("DirAuthority authority orport={or_port} v3ident={v3} {address} {own}\n")
    };
    // Its fingerprint is asked for by a configuration that has none yet.
    let first = folder.join("first");
    fs::write(&first, format!("{config}{}", line(&"0".repeat(40)))).unwrap();
    let first = first.to_str().unwrap();
    let told = run("tor", &["-f", first, "--list-fingerprint", "--quiet"], "");
    let own: String = told.lines().last().unwrap().split(' ').skip(1).collect();
    line(&own)
}

impl Network {
    /// Starts everything, and waits until the client can build circuits.
    fn start() -> Self {
        let mut attempts = (0..ATTEMPTS).filter_map(|_| Self::attempt());
        attempts.next().expect("a network that agrees about itself")
    }

    fn attempt() -> Option<Self> {
        let folder = std::env::temp_dir().join(format!("jsp-tor-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        let [socks, dir_port, ports @ ..] = free_ports::<{ RELAYS + 3 }>();
        let first = common(&folder, "authority") + &relay(ports[0]) + &authority(dir_port);
        let known = authority_line(&folder, &first, ports[0], dir_port);
        let socks_port = format!("SocksPort 127.0.0.1:{socks} IsolateSOCKSAuth\n");
        let client = "ClientRejectInternalAddresses 0\n".to_owned() + &socks_port;
        let mut configs = vec![("authority".to_owned(), first)];
        for (place, port) in ports.iter().enumerate().skip(1) {
            let name = format!("relay{place}");
            configs.push((name.clone(), common(&folder, &name) + &relay(*port)));
        }
        configs.push(("client".to_owned(), common(&folder, "client") + &client));
        let socks = SocketAddr::from(([127, 0, 0, 1], socks));
        let mut network = Self { folder, processes: Vec::new(), socks };
        for (name, config) in configs {
            let file = network.folder.join(format!("{name}.torrc"));
            fs::write(&file, config + &known).unwrap();
            let is_client = name == "client";
            let child = Command::new("tor")
                .args(["-f", file.to_str().unwrap()])
                .stdin(Stdio::null())
                .stdout(if is_client { Stdio::piped() } else { Stdio::null() })
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            network.processes.push(child);
        }
        let told = network.processes.last_mut().unwrap().stdout.take().unwrap();
        let (ready, is_ready) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut lines = BufReader::new(told).lines().map_while(Result::ok);
            if lines.any(|line| line.contains("Bootstrapped 100%")) {
                let _ = ready.send(());
            }
            // What it says later must be read, too.
            lines.for_each(drop);
        });
        is_ready.recv_timeout(READY_WITHIN).ok().map(|()| network)
    }
}

/// A server over TCP alone.
fn server() -> (Endpoint, SocketAddr) {
    let [port] = free_ports();
    let addr = SocketAddr::from(([127, 0, 0, 1], port));
    let server = Endpoint::builder().bind(addr).listen_tcp(addr).identity(Identity::generate());
    (server.build().unwrap(), addr)
}

/// A connection; a circuit may break before it is one.
async fn connect(client: &Endpoint, addr: SocketAddr, server: Fingerprint) -> Connection {
    for _ in 0..ATTEMPTS {
        match client.connect(addr, server).await {
            Ok(connection) => return connection,
            Err(error) => eprintln!("{error}"),
        }
    }
    panic!("no circuit of {ATTEMPTS} leads to the server");
}

#[tokio::test(flavor = "multi_thread")]
/// spec-test: CAR-24
async fn messages_go_through_three_relays_and_back() {
    let network = tokio::task::spawn_blocking(Network::start).await.unwrap();
    let (server, addr) = server();
    let client = Endpoint::builder().proxy(Proxy::tor(network.socks)).build().unwrap();
    // Each connection by a circuit of its own, one beside the other.
    let mut all = Vec::new();
    for _ in 0..2 {
        let (near, far) =
            tokio::join!(connect(&client, addr, server.fingerprint()), server.accept());
        all.push((near, far.unwrap()));
    }
    for (near, far) in &all {
        assert_eq!(near.capabilities().carrier, CarrierKind::Tcp);
        let stream = near.open(StreamConfig::messages()).await.unwrap();
        for number in 0..20u8 {
            stream.send(vec![number; 10_000]).await.unwrap();
        }
        let heard = far.accept().await.unwrap();
        for number in 0..20u8 {
            let message = heard.recv().await.unwrap().unwrap();
            assert_eq!(message.payload, vec![number; 10_000]);
            heard.send(vec![number; 100]).await.unwrap();
        }
        for number in 0..20u8 {
            assert_eq!(stream.recv().await.unwrap().unwrap().payload, vec![number; 100]);
        }
    }
}
