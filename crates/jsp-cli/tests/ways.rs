//! Addresses that TURN servers lend and ports that routers map: coturn, and a small router.
#![allow(missing_docs, unreachable_pub)]

mod support;

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use jsp_server::TurnConfig;
use support::{Coordinator, Finished, Place, noise};

/// coturn on loopback; ends with the test.
struct Coturn {
    child: Child,
    address: SocketAddr,
}

impl Coturn {
    /// `auth` is how it knows its users.
    fn start(auth: &[&str]) -> Self {
        let free = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let child = Command::new("turnserver")
            .args(["-n", "--no-tls", "--no-dtls", "--no-cli", "--no-tcp", "--no-tcp-relay"])
            .args(["--pidfile", "/dev/null", "--log-file", "stdout"])
            .args(["--listening-ip", "127.0.0.1", "--relay-ip", "127.0.0.1"])
            .args(["--realm", "example.test", "--allow-loopback-peers"])
            .args(auth)
            .arg(format!("--listening-port={}", address.port()))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("turnserver does not run: install coturn");
        wait_for_stun(address);
        Self { child, address }
    }

    fn with_user() -> Self {
        Self::start(&["--lt-cred-mech", "--user=ann:secret"])
    }

    fn uri(&self, password: &str) -> String {
        format!("turn://ann:{password}@{}", self.address)
    }
}

impl Drop for Coturn {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks with a Binding request (RFC 8489, section 6) until the server answers one.
fn wait_for_stun(server: SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(server).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let mut request = [0; 20];
    request[..8].copy_from_slice(&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42]);
    let mut answer = [0; 1500];
    // A port that nobody has bound yet says so at once.
    let answered = || socket.send(&request).and_then(|_sent| socket.recv(&mut answer)).is_ok();
    assert!(std::iter::repeat_with(answered).take(1_000_000).any(|answered| answered));
}

/// Long enough for another way than the slow relay to be found while it is sent.
const LEN: usize = 8_000_000;

/// Sends a file by a code; each side with these flags. Answers what the sender says.
fn send(name: &str, coordinator: &Coordinator, sender: &[&str], receiver: &[&str]) -> Finished {
    let place = Place::new(name);
    let data = noise(8, LEN);
    place.write("a.bin", &data);
    let command = |args: &[&str], more: &[&str]| {
        let mut command = place.jsp();
        command.args(args).args(more).arg("--json");
        command.env("JSP_COORDINATOR", &coordinator.uri);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    let mut receiving = command(&["recv", "--dir", "inbox", "--code"], receiver).spawn().unwrap();
    let mut out = BufReader::new(receiving.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    let event: serde_json::Value = serde_json::from_str(&line).unwrap();
    let code = event["code"].as_str().unwrap();
    let sent = command(&["send", "a.bin", "--code", code], sender).output().unwrap();
    let sent = Finished::of(sent).left_with(0);
    Finished::of(receiving.wait_with_output().unwrap()).left_with(0);
    assert!(fs::read(place.path("inbox/a.bin")).unwrap() == data);
    sent
}

#[test]
fn netcheck_says_whether_a_turn_server_lends() {
    let (coturn, coordinator) = (Coturn::with_user(), Coordinator::start());
    let place = Place::new("netcheck-turn");
    let run = |password: &str, more: &[&str]| {
        let turn = coturn.uri(password);
        let args = ["netcheck", "--timeout", "5", "--coordinator", &coordinator.uri, "--turn"];
        place.run(args.iter().chain([&&turn[..]]).chain(more)).left_with(0)
    };
    let told = run("secret", &["--json"]).out;
    let told: serde_json::Value = serde_json::from_str(told.trim()).unwrap();
    assert_eq!(told["turn"]["result"], "works", "{told}");
    assert_eq!(told["turn"]["server"], coturn.address.to_string());
    let lent: SocketAddr = told["turn"]["address"].as_str().unwrap().parse().unwrap();
    assert_eq!(lent.ip(), coturn.address.ip());
    let told = run("secret", &[]).out;
    assert!(told.contains("TURN") && told.contains("lends"), "{told}");
    let told = run("wrong", &["--json"]).out;
    assert!(told.contains("does not take the user or the password"), "{told}");
    assert!(!told.contains("wrong"), "{told}");
}

#[test]
fn a_turn_server_takes_the_relays_place() {
    let (coturn, coordinator) = (Coturn::with_user(), Coordinator::start_with_turn(None));
    let flags = ["--relay-only", "--turn", &coturn.uri("secret")];
    let sent = send("by-turn", &coordinator, &flags, &[]);
    assert!(sent.out.contains(r#""way":"turn""#), "{}", sent.out);
    // A server that does not do it costs a remark.
    let flags = ["--turn", &coturn.uri("wrong")];
    let sent = send("no-turn", &coordinator, &flags, &[]);
    assert!(sent.err.contains("going on without"), "{}", sent.err);
    assert!(!sent.err.contains("wrong"), "{}", sent.err);
}

#[test]
// spec-test: RDV-129
fn a_coordinator_has_its_clients_use_a_turn_server() {
    let coturn = Coturn::start(&["--use-auth-secret", "--static-auth-secret=north"]);
    let server = coturn.address.to_string();
    let turn = TurnConfig { server, secret: Some("north".to_owned()), ..TurnConfig::default() };
    let coordinator = Coordinator::start_with_turn(Some(turn));
    let sent = send("granted", &coordinator, &["--relay-only"], &["--relay-only"]);
    assert!(sent.out.contains(r#""way":"turn""#), "{}", sent.out);
    // The same as one user of all.
    let coturn = Coturn::with_user();
    let [server, user, password] =
        [&coturn.address.to_string(), "ann", "secret"].map(str::to_owned);
    let turn = TurnConfig { server, user, password, ..TurnConfig::default() };
    let coordinator = Coordinator::start_with_turn(Some(turn));
    let sent = send("granted-user", &coordinator, &["--relay-only"], &[]);
    assert!(sent.out.contains(r#""way":"turn""#), "{}", sent.out);
}

/// A router at this address that knows NAT-PMP (RFC 6886) and maps every port to itself; tells for how many seconds.
fn router(address: &str) -> Receiver<(u16, u32)> {
    let socket = UdpSocket::bind((address, 5351)).unwrap();
    let (tell, told) = channel();
    std::thread::spawn(move || {
        let mut request = [0; 1100];
        while let Ok((len, from)) = socket.recv_from(&mut request) {
            let epoch = [0, 0, 0, 9];
            let answer = match &request[..len] {
                [0, 0] => [&[0, 128, 0, 0][..], &epoch, &[127, 0, 0, 1]].concat(),
                [0, 1, _, _, high, low, _, _, seconds @ ..] => {
                    let seconds: [u8; 4] = seconds.try_into().unwrap();
                    let said = (u16::from_be_bytes([*high, *low]), u32::from_be_bytes(seconds));
                    if tell.send(said).is_err() {
                        return;
                    }
                    let ports = [*high, *low, *high, *low];
                    [&[0, 129, 0, 0][..], &epoch, &ports, &seconds].concat()
                }
                _ => [&[0, 128, 0, 1][..], &epoch].concat(),
            };
            socket.send_to(&answer, from).unwrap();
        }
    });
    told
}

#[test]
fn a_port_is_mapped_for_a_transfer_and_given_back() {
    let coordinator = Coordinator::start();
    let told = router("127.0.53.77");
    let sent = send("mapped", &coordinator, &["--map-port=127.0.53.77"], &[]);
    assert!(!sent.err.contains("going on without"), "{}", sent.err);
    let (port, seconds) = told.recv().unwrap();
    assert!(port > 0 && seconds > 60);
    assert_eq!(told.recv().unwrap(), (port, 0));
    // No router there: it is said, and goes on.
    let sent = send("unmapped", &coordinator, &["--map-port=127.0.53.78"], &[]);
    assert!(sent.err.contains("going on without"), "{}", sent.err);
}
