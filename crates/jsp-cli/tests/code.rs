//! Transfers by a short code: two processes and a coordinator.
#![allow(missing_docs, unreachable_pub)]

mod support;

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};

use jsp::CarrierKind;

use support::{Coordinator, Finished, Place, begun, names, noise, wait_until_begun};

/// One of the two sides.
struct Side<'a> {
    place: Place,
    coordinator: &'a Coordinator,
}

impl<'a> Side<'a> {
    fn new(name: &str, coordinator: &'a Coordinator) -> Self {
        Self { place: Place::new(name), coordinator }
    }

    fn start(&self, args: &[&str]) -> Child {
        let mut command = self.place.jsp();
        command.args(args).args(["--json", "--timeout", "2"]);
        command.env("JSP_COORDINATOR", &self.coordinator.uri);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    }

    fn run(&self, args: &[&str]) -> Finished {
        Finished::of(self.start(args).wait_with_output().unwrap())
    }

    /// Starts what makes a code: the process, the rest of what it says, and the code.
    fn make(&self, args: &[&str]) -> (Child, BufReader<ChildStdout>, String) {
        let mut child = self.start(args);
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        let event: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(event["event"], "code");
        let code = event["code"].as_str().unwrap().to_owned();
        (child, out, code)
    }
}

/// The end of a process whose output is read elsewhere.
fn end(child: Child) -> Finished {
    Finished::of(child.wait_with_output().unwrap())
}

/// Another code of the same public part.
fn with_another_secret(code: &str) -> String {
    let (consonants, vowels) = ("bdfghjklmnprstvz", "aiou");
    let (head, last) = code.split_at(12);
    let value = last.chars().fold(0_u32, |value, letter| match consonants.find(letter) {
        Some(index) => (value << 4) | index as u32,
        None => (value << 2) | vowels.find(letter).unwrap() as u32,
    });
    // The sum at the end is that of the secret modulo 13.
    let step = 13 << 4;
    let value = if value + step < 1 << 16 { value + step } else { value - step };
    let letter = |letters: &str, shift: u32, bits: u32| {
        let index = (value >> shift) & ((1 << bits) - 1);
        char::from(letters.as_bytes()[index as usize])
    };
    let letters = [(12, 4), (10, 2), (6, 4), (4, 2), (0, 4)];
    let text = letters
        .map(|(shift, bits)| letter(if bits == 4 { consonants } else { vowels }, shift, bits));
    format!("{head}{}", text.iter().collect::<String>())
}

#[test]
fn a_file_goes_by_a_code_that_either_side_has_made() {
    let coordinator = Coordinator::start();
    let (alice, bob) = (Side::new("code-a", &coordinator), Side::new("code-b", &coordinator));
    let data = noise(1, 3_000_000);
    alice.place.write("a.bin", &data);

    let (receiver, _out, code) = bob.make(&["recv", "--dir", "first", "--code"]);
    let typed = code.to_uppercase().replace('-', " ");
    alice.run(&["send", "a.bin", "--code", &typed]).left_with(0);
    end(receiver).left_with(0);
    assert!(fs::read(bob.place.path("first/a.bin")).unwrap() == data);

    let (sender, _out, code) = alice.make(&["send", "a.bin", "--relay-only", "--code"]);
    let relayed = bob.run(&["recv", "--dir", "second", "--code", &code]).left_with(0);
    assert!(
        relayed.out.contains(r#"{"event":"way","direct":false,"way":"relay"}"#),
        "{}",
        relayed.out
    );
    end(sender).left_with(0);
    assert!(fs::read(bob.place.path("second/a.bin")).unwrap() == data);
    assert_eq!(names(&bob.place.path("second")), ["a.bin"]);

    let again = bob.run(&["recv", "--code", &code]).left_with(3);
    assert!(again.err.contains("nobody waits under this code"), "{}", again.err);
}

#[test]
fn where_udp_does_not_pass_a_code_goes_by_streams() {
    // Nobody listens to UDP where the coordinator is reached.
    for (kind, flag) in [(CarrierKind::Tcp, "tcp"), (CarrierKind::WebSocket, "websocket")] {
        let coordinator = Coordinator::start_by(kind);
        let (alice, bob) = (Side::new(flag, &coordinator), Side::new("by-stream", &coordinator));
        let data = noise(5, 2_000_000);
        alice.place.write("a.bin", &data);
        // By itself, and by a way past the coordinator where one is found.
        let (receiver, _out, code) = bob.make(&["recv", "--dir", "first", "--code"]);
        alice.run(&["send", "a.bin", "--code", &code]).left_with(0);
        end(receiver).left_with(0);
        assert!(fs::read(bob.place.path("first/a.bin")).unwrap() == data);
        // Told to use the stream alone, all goes over its relay.
        let alone = ["--carrier", flag, "--no-udp"];
        let (receiver, _out, code) =
            bob.make(&[&["recv", "--dir", "second", "--code"][..], &alone].concat());
        let sent = alice.run(&[&["send", "a.bin", "--code", &code][..], &alone].concat());
        let sent = sent.left_with(0);
        assert!(sent.out.contains(r#""way":"relay""#), "{}", sent.out);
        end(receiver).left_with(0);
        assert!(fs::read(bob.place.path("second/a.bin")).unwrap() == data);
        assert!(coordinator.status().relayed_bytes_total > 2_000_000);
    }
}

/// A proxy that speaks SOCKS5, from the system's packages; ends with the test.
struct Microsocks(Child, SocketAddr);

impl Microsocks {
    fn start() -> Self {
        // A port that is free at this moment.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let child = Command::new("microsocks")
            .args(["-i", "127.0.0.1", "-p", &address.port().to_string()])
            .stderr(Stdio::null())
            .spawn()
            .expect("microsocks does not run: install it");
        let proxy = Self(child, address);
        while TcpStream::connect(address).is_err() {
            std::thread::yield_now();
        }
        proxy
    }

    fn end(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Microsocks {
    fn drop(&mut self) {
        self.end();
    }
}

#[test]
fn a_code_goes_through_a_proxy_and_never_around_it() {
    let coordinator = Coordinator::start_by(CarrierKind::Tcp);
    let mut microsocks = Microsocks::start();
    let (alice, bob) = (Side::new("proxied", &coordinator), Side::new("free", &coordinator));
    let data = noise(7, 200_000);
    alice.place.write("a.bin", &data);
    let proxy = format!("socks5://{}", microsocks.1);
    let proxied = ["--proxy-only", "--proxy", &proxy];
    // Both through it, then one of them.
    for (folder, other) in [("first", &proxied[..]), ("second", &[])] {
        let receive = [&["recv", "--dir", folder][..], other, &["--code"]].concat();
        let (receiver, _out, code) = bob.make(&receive);
        let sent = alice.run(&[&["send", "a.bin", "--code", &code][..], &proxied].concat());
        let sent = sent.left_with(0);
        assert!(sent.out.contains(r#""way":"relay""#), "{}", sent.out);
        end(receiver).left_with(0);
        assert!(fs::read(bob.place.path(folder).join("a.bin")).unwrap() == data);
    }
    microsocks.end();
    // The coordinator can be reached, but not so.
    alice.run(&[&["recv", "--code", "--expires", "0.5"][..], &proxied].concat()).left_with(3);
    let typed = ["send", "a.bin", "--code", "lomus-dohiv-hifuj"];
    let around = alice.run(&[&typed[..], &proxied].concat()).left_with(3);
    assert!(around.err.contains("coordinator"), "{}", around.err);
    // What it cannot be told to do, and what is to be done.
    let without = alice.run(&[&typed[..], &["--proxy-only"]].concat()).left_with(2);
    assert!(without.err.contains("--proxy socks5://HOST:PORT"), "{}", without.err);
    let only = alice.run(&[&typed[..], &proxied[1..]].concat()).left_with(2);
    assert!(only.err.contains("add --proxy-only"), "{}", only.err);
    let turn = ["--turn", "turn://ann:secret@127.0.0.1"];
    let turn = alice.run(&[&typed[..], &proxied, &turn].concat()).left_with(2);
    assert!(turn.err.contains("--turn"), "{}", turn.err);
}

#[test]
fn a_code_allows_one_guess() {
    let coordinator = Coordinator::start();
    let (alice, bob) = (Side::new("guess-a", &coordinator), Side::new("guess-b", &coordinator));
    alice.place.write("secret.txt", b"secret");
    let (sender, _out, code) = alice.make(&["send", "secret.txt", "--code"]);
    let wrong = bob.run(&["recv", "--code", &with_another_secret(&code)]).left_with(4);
    assert!(wrong.err.contains("WRONG CODE"), "{}", wrong.err);
    let sender = end(sender).left_with(4);
    assert!(sender.err.contains("WRONG CODE"), "{}", sender.err);
    bob.run(&["recv", "--code", &code]).left_with(3);
    assert!(!bob.place.path("secret.txt").exists());
}

#[test]
fn mistakes_are_told_and_cost_nothing() {
    let coordinator = Coordinator::start();
    let (alice, bob) = (Side::new("wrong-a", &coordinator), Side::new("wrong-b", &coordinator));
    alice.place.write("a.txt", b"a");
    bob.place.write("b.txt", b"b");
    let (receiver, _out, code) = bob.make(&["recv", "--code"]);
    let same = alice.run(&["recv", "--code", &code]).left_with(2);
    assert!(same.err.contains("both sides want to receive"), "{}", same.err);
    let last = code.chars().last().unwrap();
    let typo = format!("{}{}", &code[..16], if last == 'b' { 'd' } else { 'b' });
    let typo = alice.run(&["send", "a.txt", "--code", &typo]).left_with(2);
    assert!(typo.err.contains("letter wrong"), "{}", typo.err);
    let proxy = ["--proxy", "socks5://127.0.0.1:1"];
    alice.run(&["send", "a.txt", "--code", &code, proxy[0], proxy[1]]).left_with(2);
    alice.run(&["recv", "--code", &code, "--bind", "127.0.0.1:0"]).left_with(2);
    alice.run(&["send", "a.txt", "--code", &code]).left_with(0);
    end(receiver).left_with(0);

    let lonely = alice.place.run(["recv", "--code", &code]).left_with(2);
    assert!(lonely.err.contains("JSP_COORDINATOR"), "{}", lonely.err);
    let alone = alice.place.run(["send", "a.txt"]).left_with(2);
    assert!(alone.err.contains("--code"), "{}", alone.err);
}

#[test]
fn a_code_expires() {
    let coordinator = Coordinator::start();
    let bob = Side::new("expired", &coordinator);
    let late = bob.run(&["recv", "--expires", "0.5", "--code"]).left_with(3);
    assert!(late.err.contains("nobody came within 0.5 seconds"), "{}", late.err);
}

#[cfg(unix)]
#[test]
fn an_interrupt_tells_how_to_go_on() {
    let coordinator = Coordinator::start();
    let bob = Side::new("interrupted", &coordinator);
    let (receiver, _out, code) = bob.make(&["recv", "--code"]);
    let id = receiver.id().to_string();
    let mut kill = Command::new("kill");
    assert!(kill.args(["-INT", &id]).status().unwrap().success());
    let left = end(receiver).left_with(130);
    let command = format!("jsp recv --code {code} --wait");
    assert!(left.err.contains(&command), "{}", left.err);
}

/// Length of the files that are broken off in the middle, and how much of them must be there then.
const LONG: usize = 64 << 20;
const ENOUGH: u64 = 4 << 20;

#[test]
fn either_side_may_be_killed_and_goes_on() {
    let coordinator = Coordinator::start();
    let (alice, bob) = (Side::new("kill-a", &coordinator), Side::new("kill-b", &coordinator));
    let data = noise(2, LONG);
    alice.place.write("long.bin", &data);
    let inbox = bob.place.path("inbox");
    fs::create_dir(&inbox).unwrap();

    let (mut receiver, _out, code) = bob.make(&["recv", "--dir", "inbox", "--code"]);
    let send = ["send", "long.bin", "--code", &code];
    // The sender dies, and is back before the receiver knows.
    let mut sender = alice.start(&send);
    wait_until_begun(&inbox, &mut sender, ENOUGH);
    sender.kill().unwrap();
    sender.wait().unwrap();
    let mut sender = alice.start(&send);
    let mut out = BufReader::new(sender.stdout.take().unwrap());
    let mut line = String::new();
    while begun(&line).is_none() {
        line.clear();
        assert_ne!(out.read_line(&mut line).unwrap(), 0, "the file was not begun anew");
    }
    assert!(begun(&line).unwrap() >= ENOUGH);
    // The receiver, which has made the code, dies as well, and waits under it again.
    receiver.kill().unwrap();
    receiver.wait().unwrap();
    let receiver = bob.start(&["recv", "--dir", "inbox", "--code", &code, "--wait"]);
    let sender = end(sender).left_with(0);
    assert!(sender.err.contains("vanished"), "{}", sender.err);
    end(receiver).left_with(0);
    assert!(fs::read(inbox.join("long.bin")).unwrap() == data);
    assert_eq!(names(&inbox), ["long.bin"]);
}
